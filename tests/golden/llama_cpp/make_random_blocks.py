"""Logits and perplexity that llama.cpp gives for types of tensor that no file of the shared test data has: the matrices of the layers of
random-llama-256 as pseudo-random blocks, everything else decoded to f32. llama-cpp-python 0.3.36 and gguf 0.19.0, as make_llama_cpp.py.
Argument: the folder models/tiny. Writes random_blocks.json beside it; llama_cpp_logits_test makes the same files."""
import json
import os
import sys
import tempfile

import gguf
import numpy as np

import make_llama_cpp as base

TYPES = gguf.GGMLQuantizationType
# What keeps the scales of blocks small, and with them the weights below one: (offset, bits that stay, bits that are set).
FIXES = {"IQ1_S": [(1, 0x03, 0x20)], "IQ1_M": [(53, 0x3F, 0x00), (55, 0x0F, 0x20)], "IQ2_XXS": [(1, 0x03, 0x10)], "IQ2_XS": [(1, 0x03, 0x10)],
         "IQ2_S": [(1, 0x03, 0x10)], "IQ3_XXS": [(1, 0x03, 0x10)], "IQ3_S": [(1, 0x03, 0x10)], "TQ1_0": [(53, 0x03, 0x20)],
         "TQ2_0": [(65, 0x03, 0x20)]}


def blocks(name, count, state):
    """`count` blocks, and the generator's next state."""
    size = gguf.GGML_QUANT_SIZES[TYPES[name]][1]
    data = bytearray()
    for _ in range(count * size):
        state = (state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        data.append(state >> 56)
    for offset, stay, put in FIXES[name]:
        data[offset::size] = bytes(b & stay | put for b in data[offset::size])
    return np.frombuffer(bytes(data), dtype=np.uint8), state


def write(source, out, name, widened):
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, "llama")
    base.copy_fields(reader, writer)
    state = 42
    for tensor in sorted(reader.tensors, key=lambda t: t.name):
        shape = [int(n) for n in reversed(tensor.shape)]
        if tensor.name.startswith("blk.") and len(shape) == 2:
            data, state = blocks(name, shape[0] * shape[1] // 256, state)
            data = data.reshape(shape[0], -1)
            if not widened:
                writer.add_tensor(tensor.name, data, raw_dtype=TYPES[name])
                continue
            values = gguf.quants.dequantize(data, TYPES[name])
        else:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(np.float32).reshape(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    source = os.path.join(sys.argv[1], "random-llama-256", "gguf", "random-llama-256-q4_k.gguf")
    ids = base.text_ids(os.path.join(sys.argv[1], "stories260K", "gguf", "stories260K-f32.gguf"))
    result = {"types": {}}
    for name in FIXES:
        entry = {"fixes": FIXES[name]}
        for kind in ("direct", "widened"):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "model.gguf")
                write(source, path, name, kind == "widened")
                entry[kind] = {"logits": base.logits(path), "perplexity": base.perplexity(path, ids)}
        result["types"][name.lower()] = entry
        print(name, entry["direct"]["perplexity"], entry["widened"]["perplexity"], flush=True)
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "random_blocks.json"), "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
