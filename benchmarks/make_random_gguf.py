#!/usr/bin/env python3
"""Writes a GGUF file of a real geometry with random weights, to measure speed with.

    make_random_gguf.py tools/geometries/tinyllama-1.1b.json q4_0 /tmp/tiny-q4_0.gguf

Needs numpy and gguf. Speed does not depend on the values, but they must be finite: block formats
get random bits and a small scale.
"""
import argparse
import json

import gguf
import numpy as np

TYPES = {name.lower(): kind for name, kind in gguf.GGMLQuantizationType.__members__.items()}
# Where the f16 scales of a block lie.
SCALES = {"q8_0": [0], "q4_0": [0], "q4_1": [0, 2], "q5_0": [0], "q5_1": [0, 2], "iq4_nl": [0],
          "q2_k": [80, 82], "q3_k": [108], "q4_k": [0, 2], "q5_k": [0, 2], "q6_k": [208]}


def random_matrix(rows, columns, name, random):
    """[rows, bytes of a row]; 16 distinct rows, repeated."""
    if name in ("f32", "f16", "bf16"):
        values = random.standard_normal((16, columns), np.float32) / np.float32(columns) ** 0.5
        if name == "bf16":
            data = (values.view(np.uint32) >> 16).astype(np.uint16)
        else:
            data = values.astype(np.float16 if name == "f16" else np.float32)
        data = data.view(np.uint8)
    else:
        elements, size = gguf.GGML_QUANT_SIZES[TYPES[name]]
        data = random.integers(0, 256, (16, columns // elements, size), np.uint8)
        scale = np.frombuffer(np.float16(1 / (16 * columns**0.5)).tobytes(), np.uint8)
        for at in SCALES[name]:
            data[:, :, at:at + 2] = scale
        data = data.reshape(16, -1)
    return np.tile(data, (-(-rows // 16), 1))[:rows]


def type_of(mix, name, layer, layers):
    """The type of a matrix: q4_k_m is q4_k with some in q6_k, as llama.cpp mixes them."""
    if mix != "q4_k_m":
        return mix
    more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    if name == "output.weight" or more and name.endswith(("attn_v.weight", "ffn_down.weight")):
        return "q6_k"
    return "q4_k"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="a config.json of a llama")
    parser.add_argument("type", help="f32, f16, bf16, q4_k_m or one of " + ", ".join(SCALES))
    parser.add_argument("output")
    args = parser.parse_args()
    with open(args.config) as file:
        config = json.load(file)
    dim, ffn = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim", dim // heads)
    random = np.random.default_rng(1)
    out = gguf.GGUFWriter(args.output, "llama")
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(dim)
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(ffn)
    out.add_head_count(heads)
    out.add_head_count_kv(kv_heads)
    out.add_rope_dimension_count(head_dim)
    out.add_rope_freq_base(config.get("rope_theta", 10000.0))
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_vocab_size(config["vocab_size"])
    out.add_tokenizer_model("llama")
    bytes_of = [f"<0x{i:02X}>" for i in range(256)]
    tokens = ["<unk>", "<s>", "</s>"] + bytes_of
    tokens += [f"t{i}" for i in range(config["vocab_size"] - len(tokens))]
    out.add_token_list(tokens)
    out.add_token_scores([0.0] * len(tokens))
    out.add_token_types([2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259))
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)

    def matrix(name, rows, columns, layer=0):
        kind = type_of(args.type, name, layer, config["num_hidden_layers"])
        data = random_matrix(rows, columns, kind, random)
        if kind == "f32":
            out.add_tensor(name, data.view(np.float32))
        else:
            out.add_tensor(name, data, raw_dtype=TYPES[kind])

    def norm(name):
        out.add_tensor(name, np.ones(dim, np.float32))

    matrix("token_embd.weight", config["vocab_size"], dim)
    for i in range(config["num_hidden_layers"]):
        block = f"blk.{i}."
        norm(block + "attn_norm.weight")
        matrix(block + "attn_q.weight", heads * head_dim, dim, i)
        matrix(block + "attn_k.weight", kv_heads * head_dim, dim, i)
        matrix(block + "attn_v.weight", kv_heads * head_dim, dim, i)
        matrix(block + "attn_output.weight", dim, heads * head_dim, i)
        norm(block + "ffn_norm.weight")
        matrix(block + "ffn_gate.weight", ffn, dim, i)
        matrix(block + "ffn_up.weight", ffn, dim, i)
        matrix(block + "ffn_down.weight", dim, ffn, i)
    norm("output_norm.weight")
    matrix("output.weight", config["vocab_size"], dim)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    main()
