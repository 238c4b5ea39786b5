#!/bin/sh
# Packs what a machine with a GPU needs to run a build that was made elsewhere: the program, the CUDA
# module, the tests labelled cuda and the shared libraries of theirs that such a machine may lack.
# Those of the system, the driver, cuBLASLt and NCCL are left to that machine.
#
#   tools/pack_cuda.sh BUILD FOLDER         then there: tools/gpu_check --build=FOLDER
set -eu
cd "$(dirname "$0")/.."

if [ $# -ne 2 ]; then
  echo "usage: tools/pack_cuda.sh BUILD FOLDER" >&2
  exit 2
fi
build=$1
out=$2
most_mib=60
for file in tprun libtprun_cuda.so; do
  if [ ! -f "$build/$file" ]; then
    echo "pack_cuda: no $file in $build; wanted a build with CUDA: sh tools/build.sh $build all" >&2
    exit 2
  fi
done
rm -rf "$out"
mkdir -p "$out/tests" "$out/lib"

ctest --test-dir "$build" -L '^cuda$' --show-only=json-v1 >"$out/ctest.json"
cp "$build/tprun" "$build/libtprun_cuda.so" "$out/"
python3 - "$out" <<'END'
import json, os, shutil, sys
out = sys.argv[1]
tests = []
for test in json.load(open(f"{out}/ctest.json"))["tests"]:
    properties = {p["name"]: p["value"] for p in test.get("properties", [])}
    program = test.get("command", [""])[0]  # ctest tells none of what is not built
    if not os.path.exists(program):
        print(f"not built, left out: {test['name']}", file=sys.stderr)
        continue
    shutil.copy(program, f"{out}/tests/")
    tests.append({"name": test["name"], "program": os.path.basename(program),
                  "arguments": test["command"][1:], "timeout": properties.get("TIMEOUT", 120),
                  "environment": properties.get("ENVIRONMENT", [])})
json.dump({"source_dir": os.getcwd(), "tests": tests}, open(f"{out}/tests.json", "w"), indent=1)
os.remove(f"{out}/ctest.json")
END

# With what the libraries need in turn, which ldd follows.
for file in "$out"/tprun "$out"/*.so "$out"/tests/*; do ldd "$file"; done |
  awk '$2 == "=>" && $3 ~ "^/" { print $3 }' | sort -u |
  grep -Ev '/(ld-linux|libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|libcuda|libcublas|libcublasLt|libnccl|libnvrtc)[.-][^/]*$' |
  while read -r library; do cp -L "$library" "$out/lib/"; done
find "$out" -type f ! -name '*.json' -exec strip --strip-unneeded {} +

size=$(du -sm "$out" | cut -f1)
echo "$out: $size MiB"
if [ "$size" -gt "$most_mib" ]; then
  echo "more than $most_mib MiB" >&2
  exit 1
fi
