"""Compares `tprun perplexity` with llama.cpp's on what `tprun convert` writes: models/stories in every type that it encodes,
llama-cpp-python 0.3.36, f32 KV cache, windows of 128 tokens. Not a test of the suite, as it needs llama.cpp.

    python compare_perplexity.py build/tprun [TYPE ...]

The text is what the model itself tells, so that tokens are the model's own. Measured 2026-11-30: f32 equal to 3e-8, f16 2e-5, the others
0.02 to 0.17 % apart, q5_k 0.24 %, q3_k 0.31 %, q4_k_m 0.55 %: llama.cpp rounds activations to 8 bits, to bf16 and to f16.
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from llama_cpp import Llama

MODEL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "models", "stories")
WINDOW = 128
TYPES = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k_m", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "mxfp4"]
TOLERANCE = {"f32": 1e-6, "f16": 1e-4}


def tell(tprun, seed):
    command = [tprun, "run", MODEL, "--devices=cpu", "--prompt=Once upon a time", "--max_tokens=200", "--temperature=0.8", "--quiet"]
    return subprocess.run(command + [f"--seed={seed}"], check=True, capture_output=True, text=True).stdout


def theirs(path, text):
    llama = Llama(model_path=path, n_ctx=WINDOW, n_batch=WINDOW, n_ubatch=WINDOW, logits_all=True, verbose=False, type_k=0, type_v=0)
    ids = llama.tokenize(text.encode(), add_bos=True, special=False)
    total, count = 0.0, 0
    for begin in range(0, len(ids) - WINDOW + 1, WINDOW):
        window = [llama.token_bos()] + ids[begin + 1:begin + WINDOW]
        llama.reset()
        llama.eval(window)
        for position in range(WINDOW // 2, WINDOW - 1):
            row = np.array(llama.scores[position], dtype=np.float64)
            total += np.log(np.exp(row - row.max()).sum()) + row.max() - row[window[position + 1]]
            count += 1
    return float(np.exp(total / count)), count


def ours(tprun, path, text_file):
    command = [tprun, "perplexity", path, "--file=" + text_file, f"--context={WINDOW}", "--kv_type=f32", "--devices=cpu", "--format=json", "--quiet"]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result["perplexity"], result["tokens"]


def main():
    tprun = sys.argv[1]
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        text = "\n".join(tell(tprun, seed) for seed in range(1, 11))
        text_file = os.path.join(folder, "text.txt")
        with open(text_file, "w") as file:
            file.write(text)
        for name in sys.argv[2:] or TYPES:
            path = os.path.join(folder, name + ".gguf")
            subprocess.run([tprun, "convert", MODEL, "--weights=" + name, "--output=" + path, "--quiet"], check=True)
            (mine, scored), (other, count) = ours(tprun, path, text_file), theirs(path, text)
            good = scored == count and abs(mine / other - 1) < TOLERANCE.get(name, 1e-2)
            failed |= not good
            print(f"{name}: tprun {mine:.4f}, llama.cpp {other:.4f}, {mine / other - 1:+.1e} {'' if good else 'TOO MUCH'}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
