#!/bin/bash
# How long `tprun plan` takes: the median of three runs of the program, user time (what other programs
# do on the machine changes it least), with all advice.
#   tools/planning_times.sh [TPRUN [CONFIGS]]     a build's tprun; a folder of Hugging Face configs
set -u
tprun=${1:-build/tprun}
configs=${2:-${TPRUN_TEST_DATA:-.}/models/configs}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/config.json" << 'END'
{"model_type": "llama", "hidden_size": 8192, "num_hidden_layers": 100, "intermediate_size": 28672,
 "vocab_size": 128256, "num_attention_heads": 64, "num_key_value_heads": 8,
 "max_position_embeddings": 131072, "torch_dtype": "bfloat16"}
END
cat > "$work/thousand.yaml" << 'END'
network: {bandwidth: 400Gbit/s, latency: 5us}
hosts:
  - count: 600
    cpu: {cores: 64, memory: 1TiB, bandwidth: 300GB/s}
    gpus:
      - {name: NVIDIA H200, count: 8}
    nvlink:
      - gpus: all
  - count: 400
    name: old
    cpu: {cores: 32, memory: 512GiB, bandwidth: 150GB/s}
    gpus:
      - {name: NVIDIA RTX A6000, count: 4}
END
{
  echo "hosts:"
  for i in $(seq 10000); do
    echo "  - {name: rack$((i / 40))-$((i % 40))-$i, cpu: {cores: 64, memory: 512GiB}, gpus: [{name: h100, count: 8}]}"
  done
  echo "network: {bandwidth: 400Gbit/s}"
} > "$work/listed.yaml"
unlike="rtx3060+rtx3090+rtx4090+rtx4080+rtx3080+rtx3070+rtxa6000+rtx4060ti cpu:16c,256GiB,60GB/s"

# measure NAME ARGUMENTS...
measure() {
  local name=$1 times=() code=0
  shift
  for _ in 1 2 3; do
    times+=("$({ TIMEFORMAT=%U; time timeout 60 "$tprun" plan "$@" > /dev/null 2> "$work/err"; } 2>&1)")
  done
  timeout 60 "$tprun" plan "$@" > /dev/null 2> "$work/err"; code=$?
  printf '%-66s %s s, exit code %s\n' "$name" "$(printf '%s\n' "${times[@]}" | sort -n | sed -n 2p)" "$code"
}

measure "100 layers on 8 unlike cards, q4_k_m" "$work" --topology="$unlike" --weights=q4_k_m
measure "100 layers on 8 unlike cards, bf16" "$work" --topology="$unlike"
measure "100 layers on 8 unlike cards, f32" "$work" --topology="$unlike" --weights=f32
measure "100 layers on 8 unlike cards, q8_0, context" "$work" --topology="$unlike" --weights=q8_0 --objective=context
measure "100 layers on 8 unlike cards, q4_k_m, throughput" "$work" --topology="$unlike" --weights=q4_k_m --objective=throughput
measure "100 layers on 10,000 listed hosts of eight cards" "$work" --topology="$work/listed.yaml"
[ -d "$configs/DeepSeek-V3" ] || exit 0
measure "DeepSeek-V3 on 1,000 hosts" "$configs/DeepSeek-V3" --topology="$work/thousand.yaml"
measure "DeepSeek-V3 on 8 H100" "$configs/DeepSeek-V3" --topology=8xh100
measure "DeepSeek-V3 on 8 H100, context" "$configs/DeepSeek-V3" --topology=8xh100 --objective=context
measure "DeepSeek-V3 bf16 on 8 H100" "$configs/DeepSeek-V3" --topology=8xh100 --weights=bf16
measure "Llama-2-70b f16 on 24+24+12 GB: does not fit" "$configs/Llama-2-70b-chat-hf" --topology="2xrtx3090+rtx3060 cpu:12c,64GiB,40GB/s"
measure "Llama-2-70b f32 on 2 RTX 5090 and 3 RTX 4090 and a CPU" "$configs/Llama-2-70b-chat-hf" --weights=f32 --topology="2xrtx5090+3xrtx4090 cpu:16c,256GiB,80GB/s"
