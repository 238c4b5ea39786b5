#!/usr/bin/env python3
"""Makes the bundled model models/stories: texts -> tokenizer -> training -> Hugging Face folder. Run once, by hand.

    nice -n 19 python3 tools/train_stories.py --minutes=42 --rows=8 --output=models/stories --work=/tmp/stories

Needs torch, transformers, tokenizers, safetensors; nothing is downloaded (the texts come from tools/write_stories.py).
The folder is written at every evaluation, so a run that is stopped leaves a usable model.
"""

import argparse
import json
import math
import os
import time

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from write_stories import write_stories

SEED = 20261120
BOS, END = "<|begin_of_text|>", "<|end_of_text|>"
# The splitting rule of Llama 3's tokenizer: contractions, words with one leading mark, up to three digits, marks, spaces.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def make_tokenizer(texts, vocabulary):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[BOS, END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, bos)])])
    return tokenizer


def make_model(args, vocabulary):
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=args.dim, intermediate_size=args.ffn, num_hidden_layers=args.layers,
        num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=512, rms_norm_eps=1e-5,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, initializer_range=0.04,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    model = LlamaForCausalLM(config)
    for name, weight in model.named_parameters():  # GPT-2's smaller start for what is added to the residual stream
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.data /= math.sqrt(2 * args.layers)
    return model


def make_batches(tokenizer, seed, count, rows, length):
    """Texts of about the same length share a batch (less padding): yields ids [rows, <= length], padded with -1."""
    ids = [e.ids + [1] for e in tokenizer.encode_batch(write_stories(seed, count))]
    ids.sort(key=len)
    groups = [ids[i:i + rows] for i in range(0, len(ids), rows)]
    generator = torch.Generator().manual_seed(seed)
    for g in torch.randperm(len(groups), generator=generator).tolist():
        width = min(length, max(map(len, groups[g])))
        yield torch.tensor([(x + [-1] * width)[:width] for x in groups[g]])


def loss_of(model, batch):
    """Mean cross-entropy of the next token; padding counts for nothing (it stands at the end, so no mask is needed)."""
    logits = model(input_ids=batch.clamp(min=0)[:, :-1], use_cache=False).logits
    target = batch[:, 1:].masked_fill(batch[:, 1:] < 0, -100)
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), target.reshape(-1), ignore_index=-100)


def evaluate(model, held_out):
    model.eval()
    with torch.no_grad():
        total = sum(loss_of(model, b).item() * (b[:, 1:] >= 0).sum().item() for b in held_out)
    model.train()
    return total / sum((b[:, 1:] >= 0).sum().item() for b in held_out)


def edit_config(path):
    """Says rope_theta and torch_dtype where older readers look for them as well."""
    with open(path) as f:
        config = json.load(f)
    rope = config.pop("rope_parameters", None) or {}
    config["rope_theta"], config["rope_scaling"] = rope.get("rope_theta", 10000.0), None
    config["torch_dtype"] = config.pop("dtype", "bfloat16")
    with open(path, "w") as f:
        json.dump(config, f, indent=2, sort_keys=True)
        f.write("\n")


def export(model, tokenizer, folder):
    """Writes the folder in bfloat16, each file in one step, so that a reader never sees half of one."""
    os.makedirs(folder, exist_ok=True)
    part = os.path.join(folder, ".part")
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy = copy.to(torch.bfloat16)
    copy.config.dtype = "bfloat16"
    copy.generation_config.update(do_sample=True, temperature=0.7, top_p=0.9, bos_token_id=0, eos_token_id=1)
    copy.save_pretrained(part)
    tokenizer.save(os.path.join(part, "tokenizer.json"))
    with open(os.path.join(part, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": END, "model_max_length": 512,
                   "clean_up_tokenization_spaces": False}, f, indent=2)
        f.write("\n")
    edit_config(os.path.join(part, "config.json"))
    for name in os.listdir(part):
        os.chmod(os.path.join(part, name), 0o644)
        os.replace(os.path.join(part, name), os.path.join(folder, name))
    os.rmdir(part)


def sample(model, tokenizer, prompt):
    model.eval()
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    with torch.no_grad():
        out = model.generate(ids, max_new_tokens=160, do_sample=True, temperature=0.7, top_p=0.9, pad_token_id=1, eos_token_id=1)
    model.train()
    return tokenizer.decode(out[0].tolist())


def learning_rate(progress, peak):
    """Warm-up over the first 2 %, then cosine down to a fiftieth."""
    if progress < 0.02:
        return peak * (progress + 1e-3) / 0.021
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def train(args):
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer(write_stories(SEED, 20000), args.vocabulary)
    vocabulary = tokenizer.get_vocab_size()
    model = make_model(args, vocabulary)
    if args.resume:
        model.load_state_dict(torch.load(args.resume))
    weights = sum(p.numel() for p in model.parameters())
    print(f"vocabulary {vocabulary}, {weights} weights", flush=True)
    held_out = list(make_batches(tokenizer, SEED + 1, 256, args.rows, args.length))
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
                                  lr=args.lr, betas=(0.9, 0.98), fused=True)
    start, step, tokens, epoch, next_look = time.time(), 0, 0, 0, args.look
    progress = 0.0
    while progress < 1:
        epoch += 1
        for batch in make_batches(tokenizer, SEED + 100 + args.first_epoch + epoch, 4096, args.rows, args.length):
            progress = max(step / args.steps, (time.time() - start) / (60 * args.minutes))
            if progress >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(progress, args.lr)
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                loss = loss_of(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step, tokens = step + 1, tokens + int((batch >= 0).sum())
            if step % 50 == 0:
                used = time.time() - start
                print(f"step {step} loss {loss.item():.4f} tokens {tokens} seconds {used:.0f} tokens/s {tokens / used:.0f} progress {progress:.3f}", flush=True)
            if time.time() - start > next_look:
                next_look += args.look
                print(f"held-out loss {evaluate(model, held_out):.4f} at step {step}", flush=True)
                print(sample(model, tokenizer, "Once upon a time, there was a little"), flush=True)
                export(model, tokenizer, args.output)
    final = evaluate(model, held_out)
    export(model, tokenizer, args.output)
    os.makedirs(args.work, exist_ok=True)
    torch.save(model.state_dict(), os.path.join(args.work, "float32.pt"))
    record = {"seed": SEED, "weights": weights, "vocabulary": vocabulary, "steps": step, "tokens": tokens, "texts": step * args.rows,
              "rows": args.rows, "peak_learning_rate": args.lr, "seconds": round(time.time() - start), "held_out_loss": round(final, 4)}
    print(json.dumps(record))
    with open(os.path.join(args.work, "record.json"), "w") as f:
        json.dump(record, f, indent=2)
    for prompt in ("Once upon a time, there was a", "One sunny morning,", "What colour is grass?"):
        print(sample(model, tokenizer, prompt))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="models/stories")
    parser.add_argument("--work", default="/tmp/stories")
    parser.add_argument("--minutes", type=float, default=42, help="the end of the schedule in wall time, if --steps is not reached first")
    parser.add_argument("--resume", default="", help="float32.pt of an earlier run, to train it further")
    parser.add_argument("--first_epoch", type=int, default=0, help="with --resume: skips the texts of the earlier run")
    parser.add_argument("--steps", type=int, default=100000)
    parser.add_argument("--look", type=float, default=240, help="seconds between evaluations, each of which writes the folder")
    parser.add_argument("--rows", type=int, default=8, help="texts per step")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--ffn", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--bf16", action="store_true", help="matrix products in bfloat16 (needs a CPU with AMX to pay)")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
