#!/bin/sh
# What tprun is about, on the machine it runs on: sees it, plans a model for it, runs the plan.
set -eu
cd "$(dirname "$0")/.."

model=models/stories
devices=cpu,cpu  # two ranks on one processor: the same path as two devices

step() {
  printf '\n$'
  for word in "$@"; do
    case "$word" in
      *' '*) printf ' "%s"' "$word" ;;
      *) printf ' %s' "$word" ;;
    esac
  done
  printf '\n'
  "$@"
}

step build/tprun topo
step build/tprun plan "$model" --devices="$devices"
step build/tprun run "$model" --devices="$devices" --prompt="Once upon a time" --max_tokens=120
