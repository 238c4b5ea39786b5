#!/usr/bin/env python3
"""Writes the tiny random checkpoints of this folder whose layers are more than dense attention and MLP.

    python3 tests/golden/make_tiny_experts.py [CASE ...]        # all cases without an argument

Mixtures of experts, latent attention, YaRN, sinks; in the same form as those of make_tiny_llamas.py. 40 tokens, so that a
prefill of 8 and 32 decode steps fit. `chatglm` is `glm` under ChatGLM's names; `gpt_oss_mxfp4` has experts that are
stored as published, in blocks of 32 with a shared exponent.
"""

import json
import os
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import (DeepseekV2Config, DeepseekV3Config, Glm4Config, GlmConfig, GptOssConfig, LlamaConfig, MixtralConfig, Qwen2MoeConfig,
                          Qwen3MoeConfig)

import make_tiny_llamas as base
from make_tiny_llamas import Case, llama

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
SMALL = dict(hidden_size=32, intermediate_size=32)


def latent(**options):
    return llama(4, 4, **{**SMALL, **dict(intermediate_size=48, moe_intermediate_size=16, n_shared_experts=2, n_routed_experts=6, num_experts_per_tok=2,
                                          first_k_dense_replace=1, kv_lora_rank=16, q_lora_rank=None, qk_nope_head_dim=12, qk_rope_head_dim=8,
                                          v_head_dim=10, rms_norm_eps=1e-6, head_dim=8), **options})


GPT_OSS = dict(num_local_experts=5, num_experts_per_tok=2, head_dim=8, sliding_window=8, num_hidden_layers=2, rms_norm_eps=1e-5,
               layer_types=["sliding_attention", "full_attention"])
GPT_OSS_ROPE = {**YARN, "truncate": False, "beta_fast": 32.0, "beta_slow": 1.0}

CASES = {
    "mixtral": Case(MixtralConfig, llama(4, 2, **SMALL, num_local_experts=5, num_experts_per_tok=2), tokens=40),
    "qwen2_moe": Case(Qwen2MoeConfig, llama(4, 2, **SMALL, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=16,
                                            shared_expert_intermediate_size=48, norm_topk_prob=False, use_sliding_window=False), tokens=40),
    "qwen3_moe": Case(Qwen3MoeConfig, llama(4, 2, **SMALL, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=16, norm_topk_prob=True,
                                            head_dim=16), tokens=40),
    "qwen3_moe_dense_layers": Case(Qwen3MoeConfig, llama(4, 2, **SMALL, num_experts=3, num_experts_per_tok=2, moe_intermediate_size=16,
                                                         norm_topk_prob=False, head_dim=8, num_hidden_layers=4, decoder_sparse_step=2,
                                                         mlp_only_layers=[3]), tokens=40),
    "deepseek_v2": Case(DeepseekV2Config, latent(topk_method="greedy", routed_scaling_factor=1.0), tokens=40,
                        rope={**YARN, "mscale": 0.7, "mscale_all_dim": 0.9, "beta_fast": 32, "beta_slow": 1}),
    "deepseek_v2_groups": Case(DeepseekV2Config, latent(topk_method="group_limited_greedy", n_group=3, topk_group=2, routed_scaling_factor=2.5,
                                                        q_lora_rank=20), tokens=40),
    "deepseek_v3": Case(DeepseekV3Config, latent(n_routed_experts=8, n_group=4, topk_group=2, num_experts_per_tok=3, routed_scaling_factor=2.5,
                                                 norm_topk_prob=True, q_lora_rank=20), tokens=40,
                        rope={**YARN, "mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 32, "beta_slow": 1}),
    "gpt_oss": Case(GptOssConfig, llama(4, 2, **SMALL, **GPT_OSS), tokens=40, rope=GPT_OSS_ROPE),
    "gpt_oss_mxfp4": Case(GptOssConfig, llama(4, 2, **SMALL, **GPT_OSS), tokens=40, rope=GPT_OSS_ROPE),
    "glm4": Case(Glm4Config, llama(4, 2, hidden_size=32, head_dim=16, attention_bias=True, partial_rotary_factor=0.5), tokens=40,
                 edit={"partial_rotary_factor": 0.5}),
    "chatglm": Case(GlmConfig, llama(4, 2, hidden_size=32, head_dim=16, attention_bias=True, partial_rotary_factor=0.5, rms_norm_eps=1.5625e-7),
                    tokens=40, rope={"rope_type": "default", "rope_theta": 50000.0}, edit={"partial_rotary_factor": 0.5}),
    "llama_rope_yarn": Case(LlamaConfig, llama(4, 2, hidden_size=32, head_dim=16), tokens=80, rope=YARN),
}

FP4 = torch.tensor([0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6])


def make_weights(model, seed, tied, unit_offset):
    """As make_tiny_llamas.make_weights, with routers that are decided and experts that differ."""
    generator = base_make_weights(model, seed, tied, unit_offset)
    for name, weight in list(model.named_parameters()) + list(model.named_buffers()):
        noise = torch.randn(weight.shape, generator=generator)
        if "e_score_correction_bias" in name:
            weight.data = 0.3 * noise
        elif "sinks" in name:
            weight.data = noise
        elif "experts" in name and name.endswith("bias"):
            weight.data = 0.3 * noise
        elif ".experts." in name and weight.dim() == 3:
            inputs = weight.shape[1] if "gptoss" in type(model).__name__.lower() else weight.shape[2]
            gain = 4.0 if "GptOss" in type(model).__name__ and "gate_up" in name else 1.5  # clamped
            weight.data = gain * noise / inputs ** 0.5
            if model.config.to_dict().get("_mxfp4"):
                weight.data = from_mxfp4(*to_mxfp4(weight.data.transpose(1, 2))).transpose(1, 2).contiguous()
        elif name.endswith(("mlp.gate.weight", "router.weight")):
            weight.data = 3 * noise / weight.shape[1] ** 0.5
        elif "kv_a_proj" in name or "q_a_proj" in name or "kv_b_proj" in name:
            weight.data = 1.5 * noise / weight.shape[1] ** 0.5
    return generator


def to_mxfp4(weight):
    """[..., n] -> indices into FP4 [..., n / 32, 32] and exponents [..., n / 32]; OCP microscaling 1.0, rounded to the nearest."""
    blocks = weight.unflatten(-1, (-1, 32))
    exponents = torch.floor(torch.log2(blocks.abs().amax(-1).clamp(min=1e-30))) - 2
    scaled = blocks / torch.exp2(exponents)[..., None]
    return (scaled[..., None] - FP4).abs().argmin(-1), exponents


def from_mxfp4(indices, exponents):
    return (FP4[indices] * torch.exp2(exponents)[..., None]).flatten(-2)


def pack_mxfp4(path):
    """Experts as openai/gpt-oss-20b has them: NAME_blocks [experts, out, in / 32, 16] and NAME_scales."""
    tensors = load_file(path)
    for name in [n for n in tensors if n.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        weight = tensors.pop(name).transpose(1, 2)  # [experts, out, in]
        indices, exponents = to_mxfp4(weight)
        assert torch.equal(from_mxfp4(indices, exponents), weight)
        tensors[name + "_blocks"] = (indices[..., ::2] | indices[..., 1::2] << 4).to(torch.uint8).contiguous()
        tensors[name + "_scales"] = (exponents + 127).to(torch.uint8).contiguous()
    save_file(tensors, path, metadata={"format": "pt"})


CHATGLM = [("model.embed_tokens", "transformer.embedding.word_embeddings"), ("model.layers.", "transformer.encoder.layers."),
           ("model.norm", "transformer.encoder.final_layernorm"), ("lm_head", "transformer.output_layer"),
           ("self_attn.o_proj", "self_attention.dense"), ("mlp.gate_up_proj", "mlp.dense_h_to_4h"), ("mlp.down_proj", "mlp.dense_4h_to_h")]


def rename_to_chatglm(folder):
    path = os.path.join(folder, "model.safetensors")
    tensors = load_file(path)
    for kind in ("weight", "bias"):
        for layer in range(2):
            prefix = f"model.layers.{layer}.self_attn."
            parts = [tensors.pop(f"{prefix}{p}_proj.{kind}") for p in "qkv"]
            tensors[f"transformer.encoder.layers.{layer}.self_attention.query_key_value.{kind}"] = torch.cat(parts)
    renamed = {}
    for name, tensor in tensors.items():
        for old, new in CHATGLM:
            name = name.replace(old, new)
        renamed[name] = tensor
    save_file(renamed, path, metadata={"format": "pt"})
    with open(os.path.join(folder, "config.json")) as f:
        hf = json.load(f)
    config = dict(model_type="chatglm", architectures=["ChatGLMModel"], num_layers=hf["num_hidden_layers"], hidden_size=hf["hidden_size"],
                  ffn_hidden_size=hf["intermediate_size"], padded_vocab_size=hf["vocab_size"], seq_length=hf["max_position_embeddings"],
                  kv_channels=hf["head_dim"], layernorm_epsilon=hf["rms_norm_eps"], multi_query_attention=True,
                  multi_query_group_num=hf["num_key_value_heads"], num_attention_heads=hf["num_attention_heads"], add_qkv_bias=True,
                  add_bias_linear=False, rmsnorm=True, rope_ratio=5, original_rope=True, tie_word_embeddings=False, torch_dtype="float32")
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=2, sort_keys=True)
        f.write("\n")


base_make_weights = base.make_weights
base_make_config = base.make_config


def make_config(case):
    config = base_make_config(case)
    if case is CASES["gpt_oss_mxfp4"]:
        config._mxfp4 = True
    return config


def main():
    torch.set_num_threads(1)
    base.transformers.logging.set_verbosity_error()
    base.GREEDY = 32
    base.make_weights = make_weights
    base.make_config = make_config
    for name in sys.argv[1:] or CASES:
        base.write_case(name, CASES[name])
        folder = os.path.join(base.FOLDER, name)
        if name == "gpt_oss_mxfp4":
            pack_mxfp4(os.path.join(folder, "model.safetensors"))
            with open(os.path.join(folder, "config.json")) as f:
                config = json.load(f)
            config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
            with open(os.path.join(folder, "config.json"), "w") as f:
                json.dump(config, f, indent=2, sort_keys=True)
                f.write("\n")
        if name == "chatglm":
            rename_to_chatglm(folder)
        for f in os.listdir(folder):
            os.chmod(os.path.join(folder, f), 0o644)


if __name__ == "__main__":
    main()
