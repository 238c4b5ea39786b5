"""Logits that llama.cpp gives for every type of GGUF tensor: llama-cpp-python 0.3.36 on a CPU, f32 KV cache, one token at a time,
for the tiny GGUF files of the shared test data; "direct" of the files as they are, "widened" of the same once the Python
library gguf 0.19.0 has decoded their tensors to f32; and the perplexity of a text as llama.cpp's tools/perplexity measures it (windows
without overlap, the first token of each replaced by BOS, its second half scored), in double from llama.cpp's logits.
Argument: the folder models/tiny. Writes expected.json beside it."""
import json
import os
import sys
import tempfile

import gguf
import numpy as np
from llama_cpp import Llama

WINDOW, BOS = 64, 1
TEXT = """Once upon a time there was a little girl who lived near a big forest. Every day she went out to play with her dog. One day the dog
saw a red bird and ran after it. The girl was scared and called him, but he did not come back. She asked her mom to help. They looked under the
trees and behind the house. Then they heard a bark. The dog sat by the pond with the bird on his head. The girl laughed and gave him a big hug. They
all went home and ate some cake. Mom said that it is good to share with a new friend, and the bird came back to sing for them every day."""
IDS = [1, 403, 407, 261, 378, 31, 90, 500, 17, 222, 311, 44]


def logits(path):
    llama = Llama(model_path=path, n_ctx=64, logits_all=True, verbose=False, n_threads=1, n_batch=1, n_ubatch=1, type_k=0, type_v=0)
    llama.eval(IDS)
    return [round(float(x), 5) for x in np.array(llama.scores[:len(IDS)])[-1]]


def text_ids(path):
    llama = Llama(model_path=path, vocab_only=True, verbose=False)
    return llama.tokenize(TEXT.replace("\n", " ").encode(), add_bos=True, special=False)


def perplexity(path, ids):
    llama = Llama(model_path=path, n_ctx=WINDOW, n_batch=WINDOW, n_ubatch=WINDOW, logits_all=True, verbose=False, n_threads=1, type_k=0, type_v=0)
    total, count = 0.0, 0
    for begin in range(0, len(ids) - WINDOW + 1, WINDOW):
        window = [BOS] + ids[begin + 1:begin + WINDOW]
        llama.reset()
        llama.eval(window)
        logits = np.array(llama.scores[:WINDOW], dtype=np.float64)
        for position in range(WINDOW // 2, WINDOW - 1):
            row = logits[position]
            total += np.log(np.exp(row - row.max()).sum()) + row.max() - row[window[position + 1]]
            count += 1
    return float(f"{np.exp(total / count):.8g}")


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


ids = text_ids(os.path.join(sys.argv[1], "stories260K", "gguf", "stories260K-f32.gguf"))
result = {"input_ids": IDS, "direct": {}, "widened": {}, "text_ids": ids, "window": WINDOW, "bos": BOS, "perplexity": {"direct": {}, "widened": {}}}
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
            result["perplexity"]["widened"][model + "/gguf/" + name] = perplexity(wide, ids)
        result["direct"][model + "/gguf/" + name] = logits(path)
        result["perplexity"]["direct"][model + "/gguf/" + name] = perplexity(path, ids)
        print(name)
json.dump(result, open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "expected.json"), "w"))
