#!/usr/bin/env bash
# Compiles every CUDA source of the engine and the communicators for every supported compute
# capability and holds the compiler's report against budgets of registers and spills.
#
#   tools/check_cuda_build.sh [compute capabilities...]       default: 75 80 86 89 90 100 120
set -euo pipefail

cd "$(dirname "$0")/.."
architectures=("${@:-75 80 86 89 90 100 120}")
read -ra architectures <<<"${architectures[*]}"
nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if [[ ! -x $nvcc ]]; then
  echo "check_cuda_build: no nvcc; set CUDACXX or put it into PATH" >&2
  exit 1
fi

# The most registers a kernel may use, and the most bytes it may spill: those that have a call in
# them (the slow path of sincos) save registers around it. Compute capability 7.5 has no tiles of
# bf16; their stand-in may spill.
budget() {
  case $1 in
    *WidePrefillKernel*) echo 168 96 ;;  # 32 rows of 576 elements, and q, are most of all; 68 on 12.0
    *PrefillKernel*Li256E*) echo 255 256 ;;  # 64 rows of 256 elements are half of all registers
    *RopeStoreKvKernel* | *RopeKernel*) echo 255 64 ;;
    *RowMatVecKernel*) echo 255 64 ;;  # between its two products: what every format can, slowly
    *MatVecKernel*Q4_K*Li1ELb1*) (($2 == 75)) && echo 255 4096 || echo 128 16 ;;  # outside the loop
    *MatVecKernel*Li1ELb1*) (($2 == 75)) && echo 255 4096 || echo 128 0 ;;
    *MatVecKernel*) (($2 == 75)) && echo 255 4096 || echo 255 0 ;;
    *) echo 255 0 ;;
  esac
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
for source in engine/kernels/cuda/*.cu comm/*.cu; do
  for architecture in "${architectures[@]}"; do
    report=$work/report
    if ! "$nvcc" -std=c++20 -O3 --expt-relaxed-constexpr -I. -Xptxas -v \
        -gencode "arch=compute_$architecture,code=sm_$architecture" \
        -cubin -o "$work/cubin" "$source" >"$report" 2>&1; then
      grep -v "ptxas info" "$report" | head -20
      echo "FAILED: $source does not compile for compute capability $architecture"
      failures=$((failures + 1))
      continue
    fi
    while read -r kernel registers spilled; do
      read -r most most_spilled < <(budget "$kernel" "$architecture")
      if ((spilled > most_spilled || registers > most)); then
        echo "FAILED: $source, sm_$architecture: $kernel uses $registers registers (at most $most)" \
          "and spills $spilled bytes (at most $most_spilled)"
        failures=$((failures + 1))
      fi
    done < <(awk '/Compiling entry function/ { split($0, part, "\x27"); kernel = part[2] }
                  /bytes spill stores/ { for (i = 1; i < NF; ++i)
                                           if ($(i + 1) == "bytes" && $(i + 2) == "spill" &&
                                               $(i + 3) ~ /^stores/) spilled = $i }
                  /Used [0-9]+ registers/ { for (i = 1; i < NF; ++i)
                                              if ($i == "Used") registers = $(i + 1)
                                            print kernel, registers, spilled }' "$report")
  done
  echo "$source"
done
if ((failures > 0)); then
  echo "$failures failures"
  exit 1
fi
echo "all within budget for: ${architectures[*]}"
