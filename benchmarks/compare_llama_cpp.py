#!/usr/bin/env python3
"""tprun against llama.cpp on the same file, cores and minute: tokens per second, paired.

    benchmarks/compare_llama_cpp.py --types bf16,q8_0,q4_0,q4_k --threads 2
    benchmarks/compare_llama_cpp.py --model some.gguf

Each round runs one after the other, in an order that turns, and a ratio is the median of the
rounds' ratios, so that what else the machine does falls on both. Without --model, files of the
geometry with random weights are made (needs numpy and gguf) and removed. llama.cpp is the
llama-cpp-python of this Python: `pip install --no-binary :all: llama-cpp-python` builds the current
release for this CPU. Without it the script says so and ends with exit code 77.
"""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def run_llama(model, threads, prompt, tokens):
    """In a process of its own: prefill and decode rates."""
    import llama_cpp  # pylint: disable=import-outside-toplevel
    llama = llama_cpp.Llama(model, n_ctx=prompt + tokens + 8, n_batch=512, n_ubatch=512,
                            n_threads=threads, n_threads_batch=threads, verbose=False)
    ids = [3 + i * 7919 % 1000 for i in range(prompt)]
    llama.eval(ids[:64])  # reads the file and warms up
    llama.reset()
    start = time.perf_counter()
    llama.eval(ids)
    prefill = prompt / (time.perf_counter() - start)
    steps = []
    for i in range(tokens):
        start = time.perf_counter()
        llama.eval([ids[i]])
        steps.append(time.perf_counter() - start)
    print(json.dumps({"prefill": prefill, "decode": 1 / statistics.median(steps)}))


def measure_llama(args, model):
    result = subprocess.run(
        [sys.executable, __file__, "--run_llama", model, "--threads", str(args.threads),
         "--prompt_tokens", str(args.prompt_tokens), "--tokens", str(args.tokens)],
        check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(result.stdout.splitlines()[-1])


def measure_tprun(args, model):
    result = subprocess.run(
        [args.tprun, "bench", model, "--devices=" + args.devices, f"--threads={args.threads_per_rank}",
         f"--prompt_tokens={args.prompt_tokens}", f"--tokens={args.tokens}", "--repeats=1",
         f"--activations={args.activations}", "--format=json"],
        check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    json_result = json.loads(result.stdout)
    return {"prefill": json_result["prefill_tokens_per_s"],
            "decode": json_result["decode_tokens_per_s"],
            "bandwidth": json_result["fraction_of_bandwidth"]}


def compare(args, model):
    rounds = []
    for i in range(args.rounds):
        sides = [("tprun", measure_tprun), ("llama", measure_llama)]
        if i % 2:
            sides.reverse()
        rounds.append({name: measure(args, model) for name, measure in sides})

    def median(side, what):
        return statistics.median(r[side][what] for r in rounds)

    def ratio(what):
        return statistics.median(r["tprun"][what] / r["llama"][what] for r in rounds)

    return {"file": os.path.basename(model),
            **{f"{side}_{what}": median(side, what)
               for side in ("tprun", "llama") for what in ("prefill", "decode")},
            "bandwidth_fraction": median("tprun", "bandwidth"),
            "prefill_ratio": ratio("prefill"), "decode_ratio": ratio("decode")}


def print_row(row):
    print(f"| {row['file']} | {row['llama_prefill']:.1f} / {row['llama_decode']:.2f} "
          f"| {row['tprun_prefill']:.1f} / {row['tprun_decode']:.2f} "
          f"| {row['prefill_ratio']:.2f} / {row['decode_ratio']:.2f} "
          f"| {100 * row['bandwidth_fraction']:.0f} % |", flush=True)


def models(args, folder):
    if args.model:
        yield args.model
        return
    for kind in args.types.split(","):
        path = os.path.join(folder, f"{kind}.gguf")
        subprocess.run([sys.executable, os.path.join(HERE, "make_random_gguf.py"), args.geometry,
                        kind, path], check=True)
        yield path
        os.remove(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a GGUF file, in place of --types")
    parser.add_argument("--types", default="bf16,q8_0,q4_0,q4_k,q6_k,q2_k")
    parser.add_argument("--geometry", default=os.path.join(ROOT, "tools/geometries/tinyllama-1.1b.json"))
    parser.add_argument("--tprun", default=os.path.join(ROOT, "build/tprun"))
    parser.add_argument("--devices", default="cpu", help="tprun's ranks, which share the threads")
    parser.add_argument("--activations", default="int16", choices=["int16", "int8", "f32"])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each side")
    parser.add_argument("--prompt_tokens", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the rows to this file, too")
    parser.add_argument("--run_llama", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run_llama:
        run_llama(args.run_llama, args.threads, args.prompt_tokens, args.tokens)
        return 0
    if importlib.util.find_spec("llama_cpp") is None:
        print("skipped: this Python has no llama_cpp; build it for this CPU with\n"
              f"  {sys.executable} -m pip install --no-binary :all: llama-cpp-python",
              file=sys.stderr)
        return 77
    args.threads_per_rank = max(1, args.threads // (args.devices.count(",") + 1))
    print("| file | llama.cpp prefill / decode | tprun | ratio | of measured bandwidth |")
    print("|---|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models(args, folder):
            rows.append(compare(args, model))
            print_row(rows[-1])
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
