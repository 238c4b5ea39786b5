#!/usr/bin/env bash
# Compiles every CUDA source of the engine and the communicators for every supported compute
# capability and holds the compiler's report against budgets of registers, spills and static shared
# memory.
#
#   tools/check_cuda_build.sh [SOURCE.cu...] [compute capability...]     default: all, 75 to 120
#
# Reports are kept in build/cuda_reports (TPRUN_CUDA_REPORTS): a source is compiled again only if it, a
# header that it includes, the compiler or its options changed. An interrupted run goes on where it was.
set -euo pipefail

cd "$(dirname "$0")/.."
architectures=()
sources=()
for argument in "$@"; do
  case $argument in
    *.cu) sources+=("$argument") ;;
    *[!0-9]*)
      sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
      exit 2
      ;;
    *) architectures+=("$argument") ;;
  esac
done
((${#architectures[@]} > 0)) || architectures=(75 80 86 89 90 100 120)
((${#sources[@]} > 0)) || sources=(engine/kernels/cuda/*.cu comm/*.cu)
nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if [[ ! -x $nvcc ]]; then
  echo "check_cuda_build: no nvcc; set CUDACXX or put it into PATH" >&2
  exit 1
fi
reports=${TPRUN_CUDA_REPORTS:-build/cuda_reports}
options=(-std=c++20 -O3 --expt-relaxed-constexpr -I.)

# The most registers a kernel may use, and the most bytes it may spill: those that have a call in
# them (the slow path of sincos) save registers around it. Compute capability 7.5 has no tiles of
# bf16; their stand-in may spill.
budget() {
  case $1 in
    *WidePrefillKernel*) echo 168 64 ;;  # 32 rows of 576 elements, and q, are most of all registers
    *PrefillKernel*Li256E*) echo 255 256 ;;  # 64 rows of 256 elements are half of all registers
    *RopeStoreKvKernel* | *RopeKernel*) echo 255 64 ;;
    *RowMatVecKernel*) echo 255 64 ;;  # between its two products: what every format can, slowly
    *MatVecKernel*Q4_K*Li1ELb1*) (($2 == 75)) && echo 255 4096 || echo 128 16 ;;  # outside the loop
    *MatVecKernel*Li1ELb1*) (($2 == 75)) && echo 255 4096 || echo 128 0 ;;
    *ExpertTileKernel*) (($2 == 75)) && echo 255 4096 || echo 255 0 ;;
    *MatVecKernel*) (($2 == 75)) && echo 255 4096 || echo 255 0 ;;
    *) echo 255 0 ;;
  esac
}

# A hash of all that a source's report depends on, but for the compute capability.
inputs_of() {
  "$nvcc" "${options[@]}" -M "$1" | tr -d '\\' | tr -s ' ' '\n' |
    grep -E '^(engine|comm|base|topology)/|^\./' | sort -u | xargs sha256sum "$1"
}
hash_of() { { "$nvcc" --version; echo "${options[*]}"; inputs_of "$1"; } | sha256sum | cut -c1-24; }

# The most bytes of static shared memory: kUnaskedSharedBytes (engine/kernels/cuda/launch.h) leaves
# room for 1 KiB. These have no dynamic memory beside theirs.
static_budget() {
  case $1 in
    *SampleKernel* | *TransposedHeads* | *Ipc*) echo 49152 ;;
    *) echo 1024 ;;
  esac
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$reports"
failures=0
compiled=0

# Leaves the report of source $1, whose inputs are $3, for capability $2 in $report.
make_report() {
  report=$reports/$(basename "$1" .cu).$2.$3
  [[ ! -f $report ]] || return 0
  compiled=$((compiled + 1))
  if ! "$nvcc" "${options[@]}" -Xptxas -v -gencode "arch=compute_$2,code=sm_$2" \
    -cubin -o "$work/cubin" "$1" >"$work/report" 2>&1; then
    grep -v "ptxas info" "$work/report" | head -20
    return 1
  fi
  rm -f "$reports/$(basename "$1" .cu).$2".*  # of earlier inputs
  mv "$work/report" "$report"
}

for source in "${sources[@]}"; do
  inputs=$(hash_of "$source")
  for architecture in "${architectures[@]}"; do
    if ! make_report "$source" "$architecture" "$inputs"; then
      echo "FAILED: $source does not compile for compute capability $architecture"
      failures=$((failures + 1))
      continue
    fi
    while read -r kernel registers spilled shared; do
      read -r most most_spilled < <(budget "$kernel" "$architecture")
      most_shared=$(static_budget "$kernel")
      if ((shared > most_shared)); then
        echo "FAILED: $source, sm_$architecture: $kernel has $shared bytes of static shared memory" \
          "(at most $most_shared)"
        failures=$((failures + 1))
      fi
      if ((spilled > most_spilled || registers > most)); then
        echo "FAILED: $source, sm_$architecture: $kernel uses $registers registers (at most $most)" \
          "and spills $spilled bytes (at most $most_spilled)"
        failures=$((failures + 1))
      fi
    done < <(awk '/Compiling entry function/ { split($0, part, "\x27"); kernel = part[2] }
                  /bytes spill stores/ { for (i = 1; i < NF; ++i)
                                           if ($(i + 1) == "bytes" && $(i + 2) == "spill" &&
                                               $(i + 3) ~ /^stores/) spilled = $i }
                  /Used [0-9]+ registers/ { shared = 0
                                            for (i = 1; i < NF; ++i) {
                                              if ($i == "Used") registers = $(i + 1)
                                              if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/)
                                                shared = $i
                                            }
                                            print kernel, registers, spilled, shared }' "$report")
  done
  echo "$source"
done
if ((failures > 0)); then
  echo "$failures failures"
  exit 1
fi
echo "all within budget for: ${architectures[*]} ($compiled compiled, the rest as kept in $reports)"
