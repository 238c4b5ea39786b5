#!/usr/bin/env python3
"""Speed of Hugging Face transformers on a geometry, for comparison with `tprun bench`.

    python3 benchmarks/transformers_peer.py tools/geometries/llama-3-8b.json --prefill=2048 --batch=1,8

Random weights, static KV cache, one decode step compiled with CUDA graphs (torch.compile, mode
"reduce-overhead") where the device is a GPU. Prints one JSON object: medians, tokens/s, and the
device's copy bandwidth measured in the same run. Needs torch and transformers; tprun does not.
"""

import argparse
import json
import statistics
import sys
import time

import torch
import transformers


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(function, device, repeats, warmups):
    """The median time of a call, each one waited for."""
    for _ in range(warmups):
        function()
    times = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def copy_bandwidth(device, count):
    """Bytes read and written per second by a large device-to-device copy."""
    source = torch.empty(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / seconds(lambda: target.copy_(source), device, 10, 3)


def matmul_rate(device, dtype, size):
    """Operations per second of a square product of random matrices."""
    a = torch.randn(size, size, device=device, dtype=torch.float32).to(dtype)
    b = torch.randn(size, size, device=device, dtype=torch.float32).to(dtype)
    return 2 * size**3 / seconds(lambda: a @ b, device, 10, 3)


def make_model(geometry, dtype, device):
    config = {k: v for k, v in geometry.items() if not k.startswith("_") and k != "torch_dtype"}
    config = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    config._attn_implementation = "sdpa"
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = transformers.AutoModelForCausalLM.from_config(config)
    finally:
        torch.set_default_dtype(previous)
    generator = torch.Generator(device=device).manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02, generator=generator)
    return model.to(device=device, dtype=dtype).eval()


class Decoder:
    """One decode step of `batch` sequences at a fixed depth."""

    def __init__(self, model, batch, depth, length, device):
        self.model = model
        self.cache = transformers.StaticCache(config=model.config, max_cache_len=length)
        self.token = torch.ones((batch, 1), dtype=torch.long, device=device)
        self.position = torch.full((1,), depth, dtype=torch.long, device=device)
        prompt = torch.ones((batch, depth), dtype=torch.long, device=device)
        with torch.no_grad():
            model(prompt, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.forward = model.forward
        if device.type == "cuda":
            self.forward = torch.compile(model.forward, mode="reduce-overhead", fullgraph=False)

    def step(self):
        with torch.no_grad():
            position_ids = self.position.expand(self.token.shape[0], 1)
            result = self.forward(
                self.token, past_key_values=self.cache, use_cache=True, position_ids=position_ids,
                cache_position=self.position)
            return result.logits[:, -1].argmax(-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("geometry")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--prefill", type=int, default=2048, help="tokens of the prompt")
    parser.add_argument("--depth", type=int, default=512, help="tokens in the cache when decoding")
    parser.add_argument("--batch", default="1", help="sequences per decode step, as in 1,8")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    device = torch.device(options.device)
    dtype = getattr(torch, options.dtype)
    with open(options.geometry, encoding="utf-8") as file:
        geometry = json.load(file)
    gpu = device.type == "cuda"
    result = {
        "peer": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "model": geometry.get("_name", options.geometry),
        "dtype": options.dtype,
        "copy_bytes_per_s": copy_bandwidth(device, 1 << (32 if gpu else 27)),
        "matmul_ops_per_s": matmul_rate(device, dtype, 8192 if gpu else 512),
    }
    model = make_model(geometry, dtype, device)
    prompt = torch.ones((1, options.prefill), dtype=torch.long, device=device)

    def prefill():
        with torch.no_grad():
            return model(prompt, use_cache=True, logits_to_keep=1)

    result["prefill_tokens"] = options.prefill
    result["prefill_tokens_per_s"] = options.prefill / seconds(prefill, device, 5, 2)
    result["decode"] = []
    for batch in (int(text) for text in options.batch.split(",")):
        decoder = Decoder(model, batch, options.depth, options.depth + 64, device)
        step = seconds(decoder.step, device, options.repeats, 5)
        result["decode"].append({"batch": batch, "step_s": step, "tokens_per_s": batch / step})
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
