#!/usr/bin/env python3
"""Writes tests/golden/stories/expected.json: what Hugging Face transformers does with the bundled model models/stories.

    python3 tests/golden/make_stories_expected.py

`cases`: prompt, its ids, and 64 greedy new tokens in float32 (eager attention, no cache; stops early after the end token).
Where two logits nearly tie, another order of sums may choose the other: `safe` says how many of the new ids stand before
the first step whose first leads its second by less than 0.02. `encodings`: texts and their ids, for the tokenizer.
"""

import json
import os

import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

FOLDER = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(FOLDER, "..", "..", "models", "stories")
NEW, END, LEAST_MARGIN = 64, 1, 0.02
PROMPTS = ["Once upon a time, there was a", "One sunny day, Tom", "Lily has a red ball. Max has a blue kite. Who has the ball?", "What colour is grass?",
           "It was a windy day.", "There once was a brave rabbit named Pip. Pip"]
TEXTS = ["", "Hello", " two  spaces", "It's Ben's ball; isn't it?", "12345 coins, 7 apples!", "line\nbreak\n\n  and more\n", "caf\u00e9 na\u00efve",
         "\u4f60\u597d \U0001f600", "tab\there", "<|begin_of_text|>Once<|end_of_text|>", "UPPER lower MiXeD", "trailing   "]


def greedy(model, ids):
    """The new ids, and how many of them stand before the first near tie."""
    sequence, safe = list(ids), None
    with torch.no_grad():
        for step in range(NEW):
            logits = model(input_ids=torch.tensor([sequence]), use_cache=False).logits[0, -1]
            first, second = logits.topk(2).values.tolist()
            if safe is None and first - second < LEAST_MARGIN:
                safe = step
            sequence.append(int(logits.argmax()))
            if sequence[-1] == END:
                break
    new = sequence[len(ids):]
    return new, len(new) if safe is None else safe


def main():
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(os.path.join(MODEL, "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        new, safe = greedy(model, ids)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        top = logits.topk(8)
        cases.append({"prompt": prompt, "prompt_ids": ids, "greedy_ids": new, "safe": safe, "text": tokenizer.decode(new),
                      "last_top8": [[i, float(f"{v:.7g}")] for i, v in zip(top.indices.tolist(), top.values.tolist())],
                      "last_logsumexp": float(f"{torch.logsumexp(logits.double(), 0).item():.7g}")})
        print(f"{prompt} | {cases[-1]['text']} | {safe} of {len(new)} safe")
    encodings = [{"text": t, "ids": tokenizer.encode(t).ids, "ids_without_special": tokenizer.encode(t, add_special_tokens=False).ids,
                  "decoded": tokenizer.decode(tokenizer.encode(t).ids)} for t in TEXTS]
    os.makedirs(os.path.join(FOLDER, "stories"), exist_ok=True)
    with open(os.path.join(FOLDER, "stories", "expected.json"), "w") as f:
        rows = lambda items: "[\n    " + ",\n    ".join(json.dumps(i) for i in items) + "\n  ]"
        f.write(f'{{\n  "model": "models/stories",\n  "transformers": "{transformers.__version__}",\n  "cases": {rows(cases)},\n  "encodings": {rows(encodings)}\n}}\n')


if __name__ == "__main__":
    main()
