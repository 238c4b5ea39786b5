"""Checks that llama.cpp loads what `tprun convert` writes and gives the logits of Hugging Face transformers: llama-cpp-python 0.3.36,
f32 KV cache. Not a test of the suite, as it needs llama.cpp.

    python check_converted.py build/tprun [CASE ...]

Left out are cases that llama.cpp cannot compute: its chatglm wants heads x head_dim to be the hidden size (glm, chatglm), and it rounds the
context up to 256, beyond phi3_short_rope's original one. Measured 2026-11-30: 4e-6 or less, long rope and gpt-oss 1.4e-5, GELU 1.4e-3.
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from llama_cpp import Llama

GOLDEN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOLERANCE = 1e-4
# GELU goes through a table of f16; activations are rounded to the type of 16-bit weights, and to 8 bits for mxfp4.
WIDER = {"gemma": 5e-3, "llama_gqa": 5e-2, "llama_f16": 5e-3, "llama_bf16": 5e-2, "gpt_oss_mxfp4": 3e-1}
CASES = ["llama_gqa", "llama_mha", "llama_mqa", "llama_tied", "llama_attention_bias", "llama_rope_llama3", "llama_rope_linear", "llama_rope_yarn",
         "llama_f16", "llama_bf16", "qwen2", "qwen3", "gemma", "phi3", "phi3_long_rope", "glm4", "mixtral", "qwen2_moe", "qwen3_moe",
         "deepseek_v2_groups", "deepseek_v3", "gpt_oss", "gpt_oss_mxfp4"]


def difference(tprun, case, folder):
    path = os.path.join(folder, case + ".gguf")
    subprocess.run([tprun, "convert", os.path.join(GOLDEN, case), "--output=" + path, "--quiet"], check=True)
    with open(os.path.join(GOLDEN, case, "expected.json")) as file:
        expected = json.load(file)
    llama = Llama(model_path=path, n_ctx=128, logits_all=True, verbose=False, n_threads=1, n_batch=1, n_ubatch=1, type_k=0, type_v=0)
    llama.eval(expected["input_ids"])
    logits = np.array(llama.scores[:len(expected["input_ids"])])[-1]
    return float(np.abs(logits - np.array(expected["last_logits"])).max())


def main():
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for case in sys.argv[2:] or CASES:
            try:
                error = difference(sys.argv[1], case, folder)
            except (ValueError, subprocess.CalledProcessError, AssertionError) as problem:
                error = float("nan")
                print(problem)
            good = error < WIDER.get(case, TOLERANCE)
            failed |= not good
            print(f"{case}: {error:.2e} {'' if good else 'TOO MUCH'}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
