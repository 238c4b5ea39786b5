"""Tiny Llama checkpoints in the layouts of quantisers, and what their libraries make of them.

Made with torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, bitsandbytes 0.50.2 and compressed-tensors 0.20.0 on a CPU:
bitsandbytes and compressed-tensors pack and dequantise themselves; GPTQ and AWQ (AutoGPTQ 0.7.1, AutoAWQ 0.2, which want a
GPU to be installed) by their documented formulas, executed in torch. Run in this folder; writes KIND/{config.json,
model.safetensors,expected.json}. expected.json: last_logits of transformers in float32 with the dequantised weights; per
quantised matrix the 64-bit FNV-1a hash of the library's dequantised values, in the type that the library gives them in.
"""
import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

HIDDEN, FFN, HEADS, KV, VOCAB = 128, 256, 2, 1, 48
IDS = [3, 17, 44, 5, 5, 29, 0, 31]
SHAPES = {"self_attn.q_proj": (128, 128), "self_attn.k_proj": (64, 128), "self_attn.v_proj": (64, 128),
          "self_attn.o_proj": (128, 128), "mlp.gate_proj": (FFN, 128), "mlp.up_proj": (FFN, 128), "mlp.down_proj": (128, FFN)}


def fnv(tensor):
    tensor = tensor.contiguous()
    value = 0xCBF29CE484222325
    for byte in tensor.view(torch.uint8).flatten().tolist():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return "%016x" % value


def pack(values, bits, dim):
    """Words of 32 / bits values along `dim`, the first lowest."""
    n = 32 // bits
    values = values.to(torch.int64).movedim(dim, -1)
    words = (values.reshape(*values.shape[:-1], -1, n) << (bits * torch.arange(n))).sum(-1)
    words = torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
    return words.movedim(-1, dim).contiguous()


def integers(w, group, most):
    """Quants, zeros [out, groups] and f16 scales of w, asymmetric."""
    g = w.reshape(w.shape[0], -1, group)
    low, high = g.amin(-1).clamp(max=0), g.amax(-1).clamp(min=0)
    scale = ((high - low) / most).to(torch.float16)
    zero = (-low / scale.float()).round().clamp(0, most)
    q = (g / scale.float()[..., None] + zero[..., None]).round().clamp(0, most)
    return q.reshape(w.shape).to(torch.int64), zero.to(torch.int64), scale


def gptq(w, bits=4, group=32, order=None, v2=False):
    most = 2**bits - 1
    out, inner = w.shape
    index = torch.arange(inner) // group if order is None else order
    places = torch.argsort(index, stable=True)
    q, zero, scale = integers(w[:, places], group, most)
    q = q[:, torch.argsort(places)]
    if not v2:
        zero = zero.clamp(min=1)  # what it is stored as is one less
    # AutoGPTQ 0.7.1, nn_modules/qlinear/qlinear_cuda.py: scales[g_idx] * (weight - zeros[g_idx]), in the type of scales.
    value = scale[:, index] * (q - zero[:, index]).to(scale.dtype)
    # Act-order is loaded as what AutoGPTQ multiplies with, see engine/checkpoint/gptq.cc.
    exact = scale[:, index].float() * (q - zero[:, index]).float() if order is None else value.float()
    stored = zero if v2 else zero - 1
    tensors = {"qweight": pack(q.t(), bits, 0), "qzeros": pack(stored.t(), bits, 1), "scales": scale.t().contiguous(),
               "g_idx": index.to(torch.int32)}
    return tensors, value, exact


def awq(w, group):
    q, zero, scale = integers(w, group, 15)
    index = torch.arange(w.shape[1]) // group
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # AutoAWQ 0.2, awq/utils/packing_utils.py
    interleave = lambda t: pack(t.t().reshape(t.shape[1], -1, 8)[:, :, order].reshape(t.shape[1], -1), 4, 1)
    # awq/modules/linear/gemm.py, dequantize_gemm: (iweight - izeros) * scales, in f16.
    value = (q - zero[:, index]).to(torch.float16) * scale[:, index]
    exact = (q - zero[:, index]).float() * scale[:, index].float()
    return {"qweight": interleave(q), "qzeros": interleave(zero), "scales": scale.t().contiguous()}, value, exact


def fp8(w, kind):
    """DeepSeek's weight_scale_inv in f32 for "block", compressed-tensors' bf16 weight_scale else."""
    if kind == "block":
        scale = w.reshape(-1, min(128, w.shape[0]), w.shape[1] // 128, 128).abs().amax((1, 3)) / 448
        wide = scale.repeat_interleave(128, 0)[:w.shape[0]].repeat_interleave(128, 1)
    else:
        scale = (w.abs().amax() if kind == "tensor" else w.abs().amax(1, keepdim=True)) / 448
        wide = scale = scale.to(torch.bfloat16)
    q = (w / wide.float()).clamp(-448, 448).to(torch.float8_e4m3fn)
    exact = q.float() * wide.float()
    if kind == "block":
        return {"weight": q, "weight_scale_inv": scale}, exact, exact
    # compressed_tensors.quantization.lifecycle.forward.dequantize
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    args = QuantizationArgs(num_bits=8, type="float", strategy=kind, symmetric=True)
    value = dequantize(q, scale if kind == "channel" else scale.reshape(1), args=args)
    return {"weight": q, "weight_scale": scale.reshape(-1, 1) if kind == "channel" else scale.reshape(1)}, value, exact


def modelopt(w):
    """NVIDIA's Model Optimizer: one F32 scale per matrix; input_scale is of activations and not read."""
    scale = w.abs().amax() / 448
    q = (w / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
    value = q.float() * scale
    return {"weight": q, "weight_scale": scale, "input_scale": torch.tensor(0.01)}, value, value


def compressed(w, group, symmetric, bits=4):
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
    half = 2**(bits - 1)
    if symmetric:
        g = w.reshape(w.shape[0], -1, group)
        scale = (g.abs().amax(-1) / (half - 0.5)).to(torch.bfloat16)
        q = (g / scale.float()[..., None]).round().clamp(-half, half - 1).reshape(w.shape).to(torch.int8)
        zero = torch.zeros_like(scale, dtype=torch.int8)
    else:
        q, zero, scale = integers(w, group, 2 * half - 1)
        scale = scale.to(torch.bfloat16)
        q, zero = (q - half).to(torch.int8), (zero - half).to(torch.int8)
    index = torch.arange(w.shape[1]) // group
    difference = q.to(torch.int16) - zero[:, index].to(torch.int16)
    tensors = {"weight_packed": pack_to_int32(q, bits), "weight_scale": scale, "weight_shape": torch.tensor(w.shape)}
    if not symmetric:
        tensors["weight_zero_point"] = pack_to_int32(zero, bits, packed_dim=0)
    return tensors, difference.to(scale.dtype) * scale[:, index], difference.float() * scale[:, index].float()


def bytes8(w, symmetric):
    """compressed-tensors' int-quantized: a scale per output channel."""
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    if symmetric:
        scale = (w.abs().amax(1, keepdim=True) / 127.5).to(torch.bfloat16)
        zero = torch.zeros_like(scale, dtype=torch.int8)
    else:
        low, high = w.amin(1, keepdim=True).clamp(max=0), w.amax(1, keepdim=True).clamp(min=0)
        scale = ((high - low) / 255).to(torch.bfloat16)
        zero = (-128 - (low / scale.float()).round()).clamp(-128, 127).to(torch.int8)
    q = (w / scale.float() + zero).round().clamp(-128, 127).to(torch.int8)
    args = QuantizationArgs(num_bits=8, type="int", strategy="channel", symmetric=symmetric)
    value = dequantize(q, scale, zero, args=args)
    tensors = {"weight": q, "weight_scale": scale}
    if not symmetric:
        tensors["weight_zero_point"] = zero
    return tensors, value, (q.float() - zero.float()) * scale.float()


def mixed(w):
    """The groups of layers of ct_mixed: down_proj has 8 bits per row, the others 4 by 64."""
    return compressed(w, w.shape[1], True, bits=8) if w.shape[1] == FFN else compressed(w, 64, True)


def bnb4(w, kind, double):
    import bitsandbytes.functional as F
    q, state = F.quantize_4bit(w, blocksize=64, quant_type=kind, compress_statistics=double)
    value = F.dequantize_4bit(q, state)
    tensors = {"weight": q}
    tensors.update({"weight." + key: t for key, t in state.as_dict(packed=True).items()})
    return tensors, value, value


def bnb8(w):
    import bitsandbytes.functional as F
    q, scb, _ = F.int8_vectorwise_quant(w.to(torch.float16))
    value = F.int8_vectorwise_dequant(q, scb)
    return {"weight": q, "SCB": scb, "weight_format": torch.tensor(0, dtype=torch.uint8)}, value, value


def scattered(inner, group):
    return (torch.randperm(inner, generator=torch.Generator().manual_seed(7)) // group).to(torch.int64)


def ct(**weights):
    return {"quant_method": "compressed-tensors", "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}


GPTQ = {"quant_method": "gptq", "bits": 4, "desc_act": False}
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True}
KINDS = {
    "fp8_tensor": (lambda w: fp8(w, "tensor"), ct(num_bits=8, type="float", strategy="tensor")),
    "fp8_channel": (lambda w: fp8(w, "channel"), ct(num_bits=8, type="float", strategy="channel")),
    "fp8_block": (lambda w: fp8(w, "block"), {"quant_method": "fp8", "weight_block_size": [128, 128]}),
    "gptq_g32": (lambda w: gptq(w, group=32), {**GPTQ, "group_size": 32}),
    "gptq_g128_v2": (lambda w: gptq(w, group=128, v2=True), {**GPTQ, "group_size": 128, "checkpoint_format": "gptq_v2"}),
    "gptq_int8_row": (lambda w: gptq(w, bits=8, group=w.shape[1]), {**GPTQ, "bits": 8, "group_size": -1}),
    "gptq_act_order": (lambda w: gptq(w, group=64, order=scattered(w.shape[1], 64)),
                       {**GPTQ, "group_size": 64, "desc_act": True}),
    "awq_g64": (lambda w: awq(w, 64), {"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm", "zero_point": True}),
    "ct_int4_sym": (lambda w: compressed(w, 128, True), ct(num_bits=4, type="int", group_size=128, strategy="group", symmetric=True)),
    "ct_int4_asym": (lambda w: compressed(w, 32, False), ct(num_bits=4, type="int", group_size=32, strategy="group", symmetric=False)),
    "ct_int8_sym": (lambda w: bytes8(w, True), ct(num_bits=8, type="int", strategy="channel", symmetric=True)),
    "ct_int8_asym": (lambda w: bytes8(w, False), ct(num_bits=8, type="int", strategy="channel", symmetric=False)),
    "ct_mixed": (mixed, {**ct(), "config_groups": {
        "group_0": {"targets": ["re:.*down_proj"], "weights": dict(num_bits=8, type="int", strategy="channel", symmetric=True)},
        "group_1": {"targets": ["Linear"], "weights": dict(num_bits=4, type="int", group_size=64, strategy="group", symmetric=True)}}}),
    "modelopt_fp8": (lambda w: modelopt(w), {"quant_method": "modelopt", "quant_algo": "FP8"}),
    "bnb_nf4": (lambda w: bnb4(w, "nf4", False), {**BNB, "bnb_4bit_quant_type": "nf4"}),
    "bnb_nf4_double": (lambda w: bnb4(w, "nf4", True), {**BNB, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}),
    "bnb_fp4": (lambda w: bnb4(w, "fp4", False), {**BNB, "bnb_4bit_quant_type": "fp4"}),
    "bnb_int8": (bnb8, {"quant_method": "bitsandbytes", "load_in_8bit": True}),
}


def make(kind):
    quantize, quantization = KINDS[kind]
    generator = torch.Generator().manual_seed(11)
    draw = lambda *shape: (torch.randn(*shape, generator=generator) * 0.12).to(torch.float16)
    tensors, weights, hashes = {}, {}, {}
    for name in ("model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"):
        tensors[name + ".weight"] = (1 + draw(HIDDEN)).to(torch.float16)
    tensors["model.embed_tokens.weight"] = draw(VOCAB, HIDDEN)
    weights.update({name: t.float() for name, t in tensors.items()})
    for name, shape in SHAPES.items():
        module = "model.layers.0." + name
        packed, value, exact = quantize(draw(*shape).float())
        tensors.update({module + "." + key: t.contiguous() for key, t in packed.items()})
        weights[module + ".weight"] = exact.float()
        hashes[module + ".weight"] = {"dtype": str(value.dtype).split(".")[1], "fnv1a": fnv(value)}
    config = LlamaConfig(hidden_size=HIDDEN, intermediate_size=FFN, num_hidden_layers=1, num_attention_heads=HEADS,
                         num_key_value_heads=KV, vocab_size=VOCAB, max_position_embeddings=64, tie_word_embeddings=True)
    model = LlamaForCausalLM(config).float().eval()
    missing = model.load_state_dict(weights, strict=False)
    assert missing.missing_keys == ["lm_head.weight"] and not missing.unexpected_keys, missing
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0, -1]
    os.makedirs(kind, exist_ok=True)
    save_file(tensors, kind + "/model.safetensors")
    fields = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": FFN,
              "num_hidden_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": KV, "vocab_size": VOCAB,
              "max_position_embeddings": 64, "rms_norm_eps": config.rms_norm_eps, "rope_theta": 10000.0, "hidden_act": "silu",
              "tie_word_embeddings": True, "torch_dtype": "float16" if not kind.startswith(("fp8", "ct")) else "bfloat16",
              "quantization_config": quantization}
    json.dump(fields, open(kind + "/config.json", "w"), indent=1)
    json.dump({"input_ids": IDS, "last_logits": [float(x) for x in logits], "matrices": hashes},
              open(kind + "/expected.json", "w"), indent=1)


for kind in sys.argv[1:] or KINDS:
    make(kind)
    print(kind, os.path.getsize(kind + "/model.safetensors"))
