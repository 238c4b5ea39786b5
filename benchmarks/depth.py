#!/usr/bin/env python3
"""What the depth of the KV cache costs, end to end: `tprun bench` with short and long prompts.

    benchmarks/depth.py --types bf16,q8_0 --depths 2048,8192

Decode is a step at that depth; prefill all tokens of a prompt of that length (half as deep on
average), per token. Ratios are to a prompt of 64 tokens in decode, of 512 in prefill. Layers are all
alike, so a few of them with as large a part of the vocabulary have the ratios of the whole model
in less time (--layers, 0 for all).
"""
import argparse
import json
import os
import subprocess
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def geometry(path, layers, context):
    with open(path) as file:
        config = json.load(file)
    config["max_position_embeddings"] = context
    if layers:
        whole = config["num_hidden_layers"]
        config["vocab_size"] = max(config["vocab_size"] * layers // whole // 64 * 64, 64)
        config["num_hidden_layers"] = layers
    return config


def bench(args, config, weights, prompt, repeats):
    command = [args.tprun, "bench", config, f"--weights={weights}", f"--prompt_tokens={prompt}",
               f"--tokens={args.tokens}", f"--repeats={repeats}", "--devices=cpu",
               f"--threads={args.threads}", f"--activations={args.activations}",
               f"--kv_type={args.kv_type}", f"--context={prompt + args.tokens}", "--format=json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    found = json.loads(done.stdout)
    return found["decode_step_seconds"], 1 / found["prefill_tokens_per_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--types", default="bf16,q8_0,q4_0")
    parser.add_argument("--depths", default="2048,8192")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--activations", default="int16")
    parser.add_argument("--kv_type", default="f16")
    parser.add_argument("--geometry",
                        default=os.path.join(ROOT, "tools/geometries/tinyllama-1.1b.json"))
    parser.add_argument("--tprun", default=os.path.join(ROOT, "build/tprun"))
    args = parser.parse_args()
    depths = [int(depth) for depth in args.depths.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "config.json")
        with open(config, "w") as file:
            json.dump(geometry(args.geometry, args.layers, max(depths) + args.tokens), file)
        print("| weights | depth | decode, ms | to depth 0 | prefill, ms a token | to 512 |")
        print("|---|---|---|---|---|---|")
        for weights in args.types.split(","):
            step, _ = bench(args, config, weights, 64, 3)
            _, token = bench(args, config, weights, 512, 3)
            print(f"| {weights} | 0 | {1e3 * step:.2f} | | {1e3 * token:.3f} | |", flush=True)
            for depth in depths:
                deep_step, deep_token = bench(args, config, weights, depth, 1)
                print(f"| {weights} | {depth} | {1e3 * deep_step:.2f} | {deep_step / step:.2f} | "
                      f"{1e3 * deep_token:.3f} | {deep_token / token:.2f} |", flush=True)


if __name__ == "__main__":
    main()
