"""Logits that llama.cpp gives for every type of GGUF tensor: llama-cpp-python 0.3.36 on a CPU, f32 KV cache, one token at a time,
for the tiny GGUF files of the shared test data; "direct" of the files as they are, "widened" of the same once the Python
library gguf 0.19.0 has decoded their tensors to f32. Argument: the folder models/tiny. Writes expected.json beside it."""
import json
import os
import sys
import tempfile

import gguf
import numpy as np
from llama_cpp import Llama

IDS = [1, 403, 407, 261, 378, 31, 90, 500, 17, 222, 311, 44]


def logits(path):
    llama = Llama(model_path=path, n_ctx=64, logits_all=True, verbose=False, n_threads=1, n_batch=1, n_ubatch=1, type_k=0, type_v=0)
    llama.eval(IDS)
    return [round(float(x), 5) for x in np.array(llama.scores[:len(IDS)])[-1]]


def widen(path, out):
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(out, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.alignment"):
            continue
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(field.name, field.contents())
        else:
            writer.add_key_value(field.name, field.contents(), field.types[0])
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, values.reshape([int(n) for n in reversed(tensor.shape)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


result = {"input_ids": IDS, "direct": {}, "widened": {}}
for model in ("stories260K", "random-llama-256"):
    folder = os.path.join(sys.argv[1], model, "gguf")
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".gguf"):
            continue
        path = os.path.join(folder, name)
        with tempfile.TemporaryDirectory() as temporary:
            wide = os.path.join(temporary, "wide.gguf")
            widen(path, wide)
            result["widened"][model + "/gguf/" + name] = logits(wide)
        result["direct"][model + "/gguf/" + name] = logits(path)
        print(name)
json.dump(result, open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "expected.json"), "w"))
