#!/usr/bin/env python3
"""What PyTorch does on the same GPU, to stand beside tprun's figures; one line of JSON.

    tools/torch_baseline.py machine                  copy bandwidth and bf16 matrix rate
    tools/torch_baseline.py llama-3-8b [--batch=8]   a geometry in bf16 with random weights through
                                                     transformers: static cache, compiled decode

Exit code 3: PyTorch with CUDA, or transformers, is not there.
"""
import json
import os
import sys
import time

try:
    import torch
    assert torch.cuda.is_available()
except (ImportError, AssertionError):
    sys.exit(3)

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "geometries")
PROMPT, TOKENS = 2048, 64


def seconds(work, rounds):
    """Median of some rounds, by the device's clock."""
    times = []
    for i in range(rounds + 3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        if i >= 3:
            times.append(begin.elapsed_time(end) / 1e3)
    return sorted(times)[len(times) // 2]


def machine():
    source = torch.empty(2 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy = seconds(lambda: target.copy_(source), 10)
    a = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
    product = seconds(lambda: a @ a, 10)
    return {"copy_gb_per_s": 2 * source.numel() / copy / 1e9,
            "matmul_tflops": 2 * 8192**3 / product / 1e12}


def model(name, batch):
    try:
        from transformers import LlamaConfig, LlamaForCausalLM, StaticCache
    except ImportError:
        sys.exit(3)
    with open(os.path.join(FOLDER, name + ".json")) as file:
        config = LlamaConfig(**{k: v for k, v in json.load(file).items()
                                if not k.startswith("_") and k != "torch_dtype"})
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        net = LlamaForCausalLM(config).eval()
    torch.set_grad_enabled(False)
    prompt = PROMPT if batch == 1 else 512
    ids = torch.randint(config.vocab_size, (batch, prompt), device="cuda")
    prefill = seconds(lambda: net(ids, use_cache=False, logits_to_keep=1), 3)
    cache = StaticCache(config=config, max_batch_size=batch, max_cache_len=4096, device="cuda",
                        dtype=torch.bfloat16)
    net(ids, past_key_values=cache, cache_position=torch.arange(prompt, device="cuda"),
        logits_to_keep=1)
    step = torch.compile(net.forward, mode="reduce-overhead", fullgraph=True)
    token = ids[:, :1].clone()
    position = torch.tensor([prompt], device="cuda")

    def decode():
        step(token, past_key_values=cache, cache_position=position)
    for _ in range(3):
        decode()
    torch.cuda.synchronize()
    begin = time.monotonic()
    for _ in range(TOKENS):
        decode()
    torch.cuda.synchronize()
    took = (time.monotonic() - begin) / TOKENS
    read = sum(p.numel() * p.element_size() for n, p in net.named_parameters()
               if "embed_tokens" not in n or config.tie_word_embeddings)
    return {"version": torch.__version__, "how": "transformers, bf16, torch.compile with CUDA graphs",
            "prefill_tokens_per_s": batch * prompt / prefill, "decode_tokens_per_s": batch / took,
            "decode_read_gb_per_s": read / took / 1e9}


def main():
    batch = next((int(a.split("=")[1]) for a in sys.argv[2:] if a.startswith("--batch=")), 1)
    print(json.dumps(machine() if sys.argv[1] == "machine" else model(sys.argv[1], batch)))


if __name__ == "__main__":
    main()
