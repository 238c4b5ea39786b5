#!/usr/bin/env python3
"""tprun against llama.cpp on the same files, cores and minutes: tokens per second, paired.

    benchmarks/compare_llama_cpp.py --output table.md
    benchmarks/compare_llama_cpp.py --types bf16,q4_k_m --sides llama,2x1 --rounds 3
    benchmarks/compare_llama_cpp.py --model some.gguf

Each round runs every side once, in an order that turns, and a ratio is the median of the rounds'
ratios, so that what else the machine does falls on all. What a shared host gives of its memory may
double from one minute to the next: ratios of decode are of the rounds in which a read before and after
had the same rate for both (in brackets how many, where not all). Sides are `llama` and tprun's `RxT`, R ranks
of T threads, with `:int8` for activations rounded as llama.cpp rounds them (see docs/performance.md).
Without --model, files of the geometry with random weights are made (needs numpy and gguf) and
removed. llama.cpp is the llama-cpp-python of --python: `CMAKE_ARGS=-DGGML_NATIVE=ON pip install
--no-binary llama-cpp-python llama-cpp-python` builds the current release for this CPU. Without it the
script says so and ends with exit code 77.
"""
import argparse
import json
import os
import shlex
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
    prefills = []
    for length in (64, prompt, prompt):  # the first one reads the file and warms up
        llama.reset()
        start = time.perf_counter()
        llama.eval(ids[:length])
        prefills.append(length / (time.perf_counter() - start))
    steps = []
    for i in range(tokens):
        start = time.perf_counter()
        llama.eval([ids[i]])
        steps.append(time.perf_counter() - start)
    print(json.dumps({"prefill": max(prefills[1:]), "decode": 1 / statistics.median(steps)}))


def read_bandwidth(args, model):
    """Bytes per second that --threads threads read from memory now."""
    command = [args.tprun, "bench", model, "--devices=cpu", f"--threads={args.threads}",
               "--prompt_tokens=1", "--tokens=1", "--repeats=1", "--format=json"]
    result = subprocess.run(shlex.split(args.prefix) + command, check=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(result.stdout)["memory_bandwidth_bytes_per_s"]


def measure_llama(args, model):
    command = [args.python, __file__, "--run_llama", model, "--threads", str(args.threads),
               "--prompt_tokens", str(args.prompt_tokens), "--tokens", str(args.tokens)]
    result = subprocess.run(shlex.split(args.prefix) + command, check=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(result.stdout.splitlines()[-1])


def measure_tprun(args, model, side):
    layout, _, activations = side.partition(":")
    ranks, threads = layout.split("x")
    command = [args.tprun, "bench", model, "--devices=" + ",".join(["cpu"] * int(ranks)),
               f"--threads={threads}", f"--prompt_tokens={args.prompt_tokens}",
               f"--tokens={args.tokens}", "--repeats=2",
               f"--activations={activations or 'int16'}", "--format=json"]
    result = subprocess.run(shlex.split(args.prefix) + command, check=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    figures = json.loads(result.stdout)
    return {"prefill": figures["prefill_tokens_per_s"],
            "decode": figures["decode_tokens_per_s"],
            "bandwidth": figures["fraction_of_bandwidth"]}


def measure(args, model, side):
    before = read_bandwidth(args, model)
    result = measure_llama(args, model) if side == "llama" else measure_tprun(args, model, side)
    return {**result, "read": [before, read_bandwidth(args, model)]}


def alike(*measured):
    """Whether memory was as fast for all, before and after."""
    reads = [read for one in measured for read in one["read"]]
    return max(reads) < 1.2 * min(reads)


def compare(args, model):
    rounds = []
    for i in range(args.rounds):
        order = args.sides[i % len(args.sides):] + args.sides[:i % len(args.sides)]
        rounds.append({side: measure(args, model, side) for side in order})
    row = {"file": os.path.splitext(os.path.basename(model))[0], "rounds": rounds}
    for side in args.sides:
        row[side] = {what: statistics.median(r[side][what] for r in rounds)
                     for what in ("prefill", "decode", "bandwidth") if what in rounds[0][side]}
    return row


def ratio(row, side, to, what):
    """The median, of decode over the rounds in which memory was as fast for both, and how many."""
    rounds = row["rounds"]
    if what == "decode":
        rounds = [r for r in rounds if alike(r[side], r[to])]
    if not rounds:
        return "-"
    value = statistics.median(r[side][what] / r[to][what] for r in rounds)
    return f"{value:.2f}" + (f" ({len(rounds)})" if len(rounds) < len(row["rounds"]) else "")


def cells(args, row):
    """One line of the table: the first side's rates, then each other side's with its ratios."""
    base = args.sides[0]
    texts = [row["file"], f"{row[base]['prefill']:.1f} / {row[base]['decode']:.2f}"]
    for side in args.sides[1:]:
        texts.append(f"{row[side]['prefill']:.1f} / {row[side]['decode']:.2f}")
        texts.append(f"{ratio(row, side, base, 'prefill')} / {ratio(row, side, base, 'decode')}")
    for side in args.sides:
        if "bandwidth" in row[side]:
            texts.append(f"{100 * row[side]['bandwidth']:.0f} %")
            break
    if "2x1" in args.sides and "1x1" in args.sides:
        texts.append(f"{ratio(row, '2x1', '1x1', 'prefill')} / {ratio(row, '2x1', '1x1', 'decode')}")
    return texts


def header(args):
    texts = ["file", f"{args.sides[0]}, prefill / decode"]
    for side in args.sides[1:]:
        texts += [side, f"to {args.sides[0]}"]
    of_tprun = [side for side in args.sides if side != "llama"]
    if of_tprun:
        texts.append(f"bandwidth in decode, {of_tprun[0]}")
    if "2x1" in args.sides and "1x1" in args.sides:
        texts.append("2x1 to 1x1")
    return texts


def line(texts):
    return "| " + " | ".join(texts) + " |"


def models(args, folder):
    if args.model:
        yield args.model
        return
    for kind in args.types.split(","):
        path = os.path.join(folder, f"{kind}.gguf")
        subprocess.run([args.python, os.path.join(HERE, "make_random_gguf.py"), args.geometry,
                        kind, path], check=True)
        yield path
        os.remove(path)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a GGUF file, in place of --types")
    parser.add_argument("--types", default="bf16,f16,q8_0,q4_0,q4_k_m,q6_k,q2_k")
    parser.add_argument("--geometry", default=os.path.join(ROOT, "tools/geometries/tinyllama-1.1b.json"))
    parser.add_argument("--tprun", default=os.path.join(ROOT, "build/tprun"))
    parser.add_argument("--python", default=sys.executable, help="one that has llama_cpp, gguf, numpy")
    parser.add_argument("--sides", default="llama,1x2,1x2:int8,2x1,1x1",
                        type=lambda text: text.split(","))
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of llama.cpp")
    parser.add_argument("--prompt_tokens", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prefix", default="", help="put before each measuring command")
    parser.add_argument("--output", help="write the table to this Markdown file, too")
    parser.add_argument("--json", help="write all rounds to this file, too")
    parser.add_argument("--run_llama", help=argparse.SUPPRESS)
    return parser.parse_args()


def has_llama(args):
    found = subprocess.run([args.python, "-c", "import llama_cpp"], check=False,
                           stderr=subprocess.DEVNULL)
    return found.returncode == 0


def main():
    args = parse()
    if args.run_llama:
        run_llama(args.run_llama, args.threads, args.prompt_tokens, args.tokens)
        return 0
    if "llama" in args.sides and not has_llama(args):
        print(f"skipped: {args.python} has no llama_cpp; build it for this CPU with\n"
              f"  CMAKE_ARGS=-DGGML_NATIVE=ON {args.python} -m pip install --no-binary "
              "llama-cpp-python llama-cpp-python", file=sys.stderr)
        return 77
    table = [line(header(args)), line(["---"] * len(header(args)))]
    print("\n".join(table), flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models(args, folder):
            rows.append(compare(args, model))
            table.append(line(cells(args, rows[-1])))
            print(table[-1], flush=True)
    if args.output:
        with open(args.output, "w") as file:
            file.write("\n".join(table) + "\n")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
