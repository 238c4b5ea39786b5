#!/bin/sh
# Runs every fuzz target for a while, from the real dumps, headers and configs of $TPRUN_TEST_DATA and
# our own cluster files and test models. Build them first: cmake --preset fuzz && cmake --build build-fuzz --target fuzzers
#
#   tools/fuzz.sh [SECONDS [FOLDER [TARGET...]]]     60 s each, build-fuzz, all targets
#
# What a target has learnt stays in FOLDER/corpus/TARGET, inputs that fail in FOLDER/failures; keep
# a small one of each in tests/fuzz/regressions, which the ordinary tests feed to all readers.
# $FUZZ_TIMEOUT: seconds an input may take (10; more on a busy machine, where little CPU is left for it).
# Exit: 0 nothing found; 1 a target failed; 2 nothing is built.
set -u
cd "$(dirname "$0")/.." || exit 2

seconds=${1:-60}
folder=${2:-build-fuzz}
[ $# -ge 2 ] && shift 2 || shift $#
[ -n "$(ls "$folder"/fuzzers/*_fuzzer 2>/dev/null)" ] || {
  echo "fuzz: no fuzzers in $folder; cmake --preset fuzz, cmake --build build-fuzz --target fuzzers" >&2
  exit 2
}
[ $# -gt 0 ] || set -- $(cd "$folder/fuzzers" && ls)

# cut_seeds TARGET PATTERN BYTES: the first bytes of the models' files, as headers are all that is read.
cut_seeds() {
  rm -rf "$folder/seeds/$1" && mkdir -p "$folder/seeds/$1"
  find tests/golden ${TPRUN_TEST_DATA:+"$TPRUN_TEST_DATA/models"} -type f -name "$2" |
    while read -r file; do
      head -c "$3" "$file" >"$folder/seeds/$1/$(echo "$file" | tr / _)"
    done
  echo "$folder/seeds/$1"
}

# The seeds of a target: the files of its kind.
seeds() {
  data=${TPRUN_TEST_DATA:+$TPRUN_TEST_DATA/topology}
  case "$1" in
    model_safetensors_*) cut_seeds "$1" '*.safetensors' 24000 && return ;;
    model_gguf_*) cut_seeds "$1" '*.gguf' 48000 && return ;;
    model_config_*) cut_seeds "$1" '*config*.json' 100000 && return ;;
    model_tokenizer_json_*) cut_seeds "$1" tokenizer.json 48000 && return ;;
    model_sentencepiece_*) cut_seeds "$1" tokenizer.model 24000 && return ;;
    model_tiktoken_*) cut_seeds "$1" tokenizer.model 12000 && return ;;
    model_jinja_*) cut_seeds "$1" '*.jinja' 24000 && return ;;
    model_tokenizer_config_*) cut_seeds "$1" tokenizer_config.json 100000 && return ;;
    nvidia_smi_*) subfolder=nvidia-smi ;;
    nccl_*) subfolder=nccl-xml ;;
    hwloc_*) subfolder=hwloc-xml ;;
    topology_any_*) echo clusters ${data:+"$data/nvidia-smi" "$data/nccl-xml" "$data/hwloc-xml"} && return ;;
    *) echo clusters && return ;;
  esac
  if [ -n "$data" ]; then echo "$data/$subfolder"; fi
}

status=0
mkdir -p "$folder/failures"
for target in "$@"; do
  mkdir -p "$folder/corpus/$target"
  echo "fuzz: $target, $seconds s" >&2
  "$folder/fuzzers/$target" -max_total_time="$seconds" -timeout="${FUZZ_TIMEOUT:-10}" -rss_limit_mb=2048 -malloc_limit_mb=512 \
    -max_len=100000 -print_final_stats=1 -print_funcs=0 -verbosity=0 -artifact_prefix="$folder/failures/$target-" \
    "$folder/corpus/$target" tests/fuzz/regressions $(seeds "$target") || status=1
done
exit $status
