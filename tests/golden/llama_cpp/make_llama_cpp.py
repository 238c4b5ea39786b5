"""Logits that llama.cpp gives for every type of GGUF tensor: llama-cpp-python 0.3.36 on a CPU, f32 KV cache, one token at a time,
for the tiny GGUF files of the shared test data. Argument: its folder models/tiny. Writes expected.json beside this script."""
import json
import os
import sys

import numpy as np
from llama_cpp import Llama

IDS = [1, 403, 407, 261, 378, 31, 90, 500, 17, 222, 311, 44]
result = {"input_ids": IDS, "files": {}}
for model in ("stories260K", "random-llama-256"):
    folder = os.path.join(sys.argv[1], model, "gguf")
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".gguf"):
            continue
        try:
            llama = Llama(model_path=os.path.join(folder, name), n_ctx=64, logits_all=True, verbose=False, n_threads=1, n_batch=1,
                          n_ubatch=1, type_k=0, type_v=0)
            llama.eval(IDS)
        except Exception as error:
            print(name, error)
            continue
        logits = np.array(llama.scores[:len(IDS)])[-1]
        result["files"][model + "/gguf/" + name] = [round(float(x), 5) for x in logits]
        print(name, logits[:3])
json.dump(result, open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "expected.json"), "w"), indent=0)
