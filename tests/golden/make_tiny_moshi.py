#!/usr/bin/env python3
"""Writes the tiny random checkpoint `moshi` of this folder, under the names of kyutai-labs/moshi, and what Hugging Face
transformers computes with the same weights.

    python3 tests/golden/make_tiny_moshi.py

`heard` [frame][stream], what the model is given of the streams that it does not make; `generated` [frame][stream], the text and
audio tokens that it makes of it, greedy; `generated_margin`, the least lead of a chosen logit over the next.
expected.json: `streams` [frame][stream], the text token and the audio tokens of each frame (-1: none); `text_logits`, after
each frame; `depth_tokens` [frame][step], what the depth transformer is given; `depth_logits` [frame][step], of `depth_frames`.
Float32, eager attention, no cache.
"""

import json
import os
import shutil

import torch
import transformers
from safetensors.torch import save_file
from transformers import MoshiConfig
from transformers.models.moshi.modeling_moshi import MoshiDepthDecoder, MoshiForCausalLM

import make_tiny_llamas as base

FRAMES, N_Q, DEP_Q = 40, 4, 2
DIM, HEADS, LAYERS, FFN, TEXT, AUDIO, WINDOW = 32, 4, 2, 44, 61, 24, 16
DELAYS = [0, 0, 1, 0, 1]
DEPTH_DIM, DEPTH_HEADS, DEPTH_LAYERS, DEPTH_FFN = 16, 2, 2, 20


def make_models():
    config = MoshiConfig(vocab_size=TEXT, hidden_size=DIM, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
                         head_dim=DIM // HEADS, ffn_dim=2 * FFN, audio_vocab_size=AUDIO, num_codebooks=N_Q // 2, max_position_embeddings=128,
                         sliding_window=WINDOW, rms_norm_eps=1e-8,
                         depth_decoder_config=dict(vocab_size=TEXT, hidden_size=DEPTH_DIM, input_size=DIM, num_hidden_layers=DEPTH_LAYERS,
                                                   num_attention_heads=DEPTH_HEADS, num_key_value_heads=DEPTH_HEADS, head_dim=DEPTH_DIM // DEPTH_HEADS,
                                                   ffn_dim=2 * DEPTH_FFN, audio_vocab_size=AUDIO, num_codebooks=DEP_Q, max_position_embeddings=DEP_Q + 1,
                                                   sliding_window=DEP_Q, rms_norm_eps=1e-8))
    config._attn_implementation = config.depth_decoder_config._attn_implementation = "eager"
    return MoshiForCausalLM(config).eval(), MoshiDepthDecoder(config.depth_decoder_config).eval()


def fill(model, generator):
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name:
            weight.data = 1 + 0.2 * noise
        elif "embed" in name:
            weight.data = 0.6 * noise
        else:
            weight.data = (0.5 if "lm_heads" in name else 2.0 if "lm_head" in name else 1.5) * noise / weight.shape[-1] ** 0.5


def interleaved(weight):
    """Rows of a query or key projection from rotate_half's order of pairs to adjacent ones."""
    return weight.view(HEADS, 2, DIM // HEADS // 2, DIM).transpose(1, 2).reshape(DIM, DIM)


def kyutai(temporal, depth, audio):
    t, d = temporal.state_dict(), depth.state_dict()
    out = {"text_emb.weight": t["model.embed_tokens.weight"], "out_norm.alpha": t["model.norm.weight"][None, None],
           "text_linear.weight": t["lm_head.weight"], "depformer_text_emb.weight": d["text_embed_tokens.weight"]}
    for q, weight in enumerate(audio):
        out[f"emb.{q}.weight"] = weight
    for i in range(LAYERS):
        old, new = f"model.layers.{i}.", f"transformer.layers.{i}."
        query, key, value = (t[f"{old}self_attn.{p}_proj.linear.weight"] for p in "qkv")
        out[new + "self_attn.in_proj_weight"] = torch.cat([interleaved(query), interleaved(key), value])
        out[new + "self_attn.out_proj.weight"] = t[old + "self_attn.o_proj.linear.weight"]
        out[new + "norm1.alpha"] = t[old + "input_layernorm.weight"][None, None]
        out[new + "norm2.alpha"] = t[old + "post_attention_layernorm.weight"][None, None]
        out[new + "gating.linear_in.weight"] = t[old + "mlp.fc1.weight"]
        out[new + "gating.linear_out.weight"] = t[old + "mlp.fc2.weight"]
    for i in range(DEPTH_LAYERS):
        old, new = f"layers.{i}.", f"depformer.layers.{i}."
        qkv = torch.cat([d[f"{old}self_attn.{p}_proj.linear.weight"] for p in "qkv"], dim=1)  # [steps, 3 dim, dim]
        out[new + "self_attn.in_proj_weight"] = qkv.flatten(0, 1)
        out[new + "self_attn.out_proj.weight"] = d[old + "self_attn.o_proj.linear.weight"].flatten(0, 1)
        out[new + "norm1.alpha"] = d[old + "input_layernorm.weight"][None, None]
        out[new + "norm2.alpha"] = d[old + "post_attention_layernorm.weight"][None, None]
        for k in range(DEP_Q):
            out[f"{new}gating.{k}.linear_in.weight"] = d[old + "mlp.fc1.weight"][k]
            out[f"{new}gating.{k}.linear_out.weight"] = d[old + "mlp.fc2.weight"][k]
    for k in range(DEP_Q):
        out[f"depformer_in.{k}.weight"] = d["input_projections.weight"][k]
        out[f"linears.{k}.weight"] = d["lm_heads.weight"][k]
        if k > 0:
            out[f"depformer_emb.{k - 1}.weight"] = d[f"embed_tokens.{k - 1}.weight"]
    return {name: weight.contiguous().clone() for name, weight in out.items()}


@torch.no_grad()
def generate(temporal, depth, audio, delays, heard):
    """Greedy, every step anew and without a cache; frame f of stream k is made at step f + delays[k] and goes in one step later."""
    tables = [temporal.model.embed_tokens.weight, *audio]
    initial = [TEXT] + [AUDIO] * N_Q
    made, margin, frames = {}, 9.0, len(heard)
    steps = frames + max(delays[:1 + DEP_Q])

    def token(stream, frame):
        if frame < 0:
            return initial[stream]
        if stream <= DEP_Q:
            return made[stream, frame]
        return heard[frame][stream - 1 - DEP_Q] if frame < frames else -1

    embedded = []
    for step in range(steps):
        ids = [token(k, step - 1 - delays[k]) for k in range(1 + N_Q)]
        embedded.append(sum(tables[k][i] for k, i in enumerate(ids) if i >= 0))
        age = torch.arange(step + 1)[:, None] - torch.arange(step + 1)
        mask = torch.where((age >= 0) & (age < WINDOW), 0.0, torch.finfo(torch.float32).min)[None, None]
        hidden = temporal.model(inputs_embeds=torch.stack(embedded)[None], attention_mask=mask, use_cache=False).last_hidden_state[0, -1]
        previous, logits = [], temporal.lm_head(hidden)
        for k in range(1 + DEP_Q):
            frame = step - delays[k]
            if frame < 0:
                previous.append(initial[k])
            else:
                best = logits.topk(2)
                margin = min(margin, float(best.values[0] - best.values[1]))
                made[k, frame] = int(best.indices[0])
                previous.append(made[k, frame])
            if k < DEP_Q:
                fill = previous + [0] * (DEP_Q - len(previous))
                logits = depth(input_ids=torch.tensor([fill]), last_hidden_state=hidden.expand(1, DEP_Q, DIM), use_cache=False,
                               attention_mask=torch.ones(1, DEP_Q)).logits[0, k]
    return [[made[k, f] for k in range(1 + DEP_Q)] for f in range(frames)], margin


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    generator = torch.Generator().manual_seed(5)
    temporal, depth = make_models()
    fill(temporal, generator)
    fill(depth, generator)
    audio = [0.6 * torch.randn(AUDIO + 1, DIM, generator=generator) for _ in range(N_Q)]
    streams = torch.cat([torch.randint(0, TEXT + 1, (FRAMES, 1), generator=generator),
                         torch.randint(0, AUDIO + 1, (FRAMES, N_Q), generator=generator)], dim=1)
    streams[3, 2] = streams[7, 0] = -1
    embedded = torch.zeros(FRAMES, DIM)
    for stream, table in enumerate([temporal.model.embed_tokens.weight, *audio]):
        ids = streams[:, stream]
        embedded += torch.where((ids >= 0)[:, None], table[ids.clamp(min=0)], 0.0)
    depth_tokens = torch.cat([torch.randint(0, TEXT, (FRAMES, 1), generator=generator),
                              torch.randint(0, AUDIO, (FRAMES, DEP_Q - 1), generator=generator)], dim=1)
    depth_frames = list(range(0, FRAMES, 3))
    # transformers cuts the context off through its cache only: here the mask of kyutai-labs/moshi, 0 <= query - key < context.
    age = torch.arange(FRAMES)[:, None] - torch.arange(FRAMES)
    mask = torch.where((age >= 0) & (age < WINDOW), 0.0, torch.finfo(torch.float32).min)[None, None]
    with torch.no_grad():
        hidden = temporal.model(inputs_embeds=embedded[None], attention_mask=mask, use_cache=False).last_hidden_state[0]
        text = temporal.lm_head(hidden)
        audio_logits = [depth(input_ids=depth_tokens[f:f + 1], last_hidden_state=hidden[f].expand(1, DEP_Q, DIM), use_cache=False,
                              attention_mask=torch.ones(1, DEP_Q)).logits[0] for f in depth_frames]
    heard = torch.randint(0, AUDIO, (24, N_Q - DEP_Q), generator=generator).tolist()
    heard[5][1] = -1
    generated, margin = generate(temporal, depth, audio, DELAYS, heard)
    digits = lambda x: [float(f"{v:.7g}") for v in x.tolist()]
    expected = {"transformers": transformers.__version__, "streams": streams.tolist(), "text_logits": [digits(x) for x in text],
                "depth_tokens": depth_tokens.tolist(), "depth_frames": depth_frames,
                "depth_logits": [[digits(x) for x in frame] for frame in audio_logits], "heard": heard,
                "generated": generated, "generated_margin": round(margin, 5)}
    folder = os.path.join(base.FOLDER, "moshi")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    save_file(kyutai(temporal, depth, audio), os.path.join(folder, "model.safetensors"))
    config = dict(dim=DIM, text_card=TEXT, existing_text_padding_id=3, n_q=N_Q, dep_q=DEP_Q, card=AUDIO, num_heads=HEADS, num_layers=LAYERS,
                  hidden_scale=FFN * 3 / 2 / DIM, causal=True, layer_scale=None, context=WINDOW, max_period=10000, gating="silu",
                  norm="rms_norm_f32", positional_embedding="rope", depformer_dim=DEPTH_DIM, depformer_dim_feedforward=DEPTH_FFN * 3 // 2,
                  depformer_num_heads=DEPTH_HEADS, depformer_num_layers=DEPTH_LAYERS, depformer_multi_linear=True, depformer_gating="silu",
                  depformer_pos_emb="none", depformer_weights_per_step=True, delays=DELAYS)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=2, sort_keys=True)
        f.write("\n")
    with open(os.path.join(folder, "expected.json"), "w") as f:
        f.write("{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in expected.items()) + "\n}\n")
    for f in os.listdir(folder):
        os.chmod(os.path.join(folder, f), 0o644)
    print(f"spread {text.std():.2f} and {torch.cat(audio_logits).std():.2f}", sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder)))


if __name__ == "__main__":
    main()
