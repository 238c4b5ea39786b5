"""tools/gpu_check with programs that print what those of a GPU would: its steps, files and errors."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPU_CHECK = os.path.join(ROOT, "tools/gpu_check")

SMI = "#!/bin/sh\necho 'NVIDIA H200, 570.1, 143771 MiB, 9.0'\n"
BENCH = {"prefill_tokens_per_s": 20000.4, "decode_tokens_per_s": 250.25, "first_token_seconds": 0.102,
         "decode_read_bytes_per_s": 4e12, "fraction_of_bandwidth": 0.875, "loaded_bytes": 16e9,
         "load_seconds": 2}
# `run` says another text on the host's exchange; fp8 fails; the bf16 line uses 2 GiB too much.
TPRUN = """#!/usr/bin/env python3
import json, sys
words = sys.argv[1:]
if words[0] == "run":
    print("a story" if "--exchange=host" not in words else "another story")
elif words[0] == "bench":
    if "--weights=fp8" in words:
        sys.exit("tprun: no fp8 today")
    used = 18.2 if "--weights=bf16" in words else 16.3
    print(f"rank 0 on cuda:0: predicted 16.2 GiB, in use {used} GiB", file=sys.stderr)
    print(json.dumps(%r))
else:
    print("one GPU")
""" % BENCH
GTEST = """#!/bin/sh
echo '[       OK ] Suite.Passes (3 ms)'
if [ "$1" = fail ]; then echo '[  FAILED  ] Suite.Fails (1 ms)'; exit 1; fi
if [ "$1" = skip ]; then exit 0; fi
echo 'all-reduce 8 KiB: 5.1 us'
"""
TORCH = "#!/bin/sh\nexit 3\n"


class GpuCheckTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.out = os.path.join(self.folder, "out")
        for name, text in [("bin/nvidia-smi", SMI), ("bin/torch", TORCH), ("build/tprun", TPRUN),
                           ("build/tests/gtest", GTEST)]:
            path = os.path.join(self.folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, 0o755)
        self.pack([{"name": "kernels_a_cuda_test", "arguments": ["pass"]},
                   {"name": "cuda_device_test", "arguments": ["fail"]}])

    def pack(self, tests):
        for test in tests:
            test.update(program="gtest", timeout=20, environment=[])
        with open(os.path.join(self.folder, "build/tests.json"), "w") as file:
            json.dump({"source_dir": ROOT, "tests": tests}, file)

    def run_check(self, *more, path=None):
        environment = {**os.environ,
                       "PATH": path or os.path.join(self.folder, "bin") + ":/usr/bin:/bin"}
        process = subprocess.run(
            [sys.executable, GPU_CHECK, "--build=" + os.path.join(self.folder, "build"),
             "--out=" + self.out, "--python=" + os.path.join(self.folder, "bin/torch"), *more],
            capture_output=True, text=True, env=environment, timeout=200)
        return process.returncode, process.stdout, process.stderr

    def results(self):
        with open(os.path.join(self.out, "h200.json")) as file:
            return json.load(file)

    def table(self):
        with open(os.path.join(self.out, "h200.md")) as file:
            return file.read()

    def test_keeps_what_passed_and_what_failed(self):
        code, said, _ = self.run_check("--only=machine,tests,layouts,bench,torch")
        self.assertEqual(code, 1, said)
        results = self.results()
        self.assertEqual(list(results)[2:], ["machine", "tests", "layouts", "bench", "torch"])
        self.assertEqual(results["gpu"], "NVIDIA H200")
        self.assertTrue(results["tests"]["kernels_a_cuda_test"]["ok"])
        failed = results["tests"]["cuda_device_test"]
        self.assertEqual((failed["ok"], failed["failed"]), (False, ["Suite.Fails"]))
        layouts = results["layouts"]
        self.assertTrue(layouts["--devices=cuda:0,cuda:0"]["ok"])
        other = layouts["--devices=cuda:0,cuda:0 --exchange=host"]
        self.assertEqual((other["ok"], other["told"]), (False, "another text: another story"))
        bench = results["bench"]
        self.assertEqual(bench["llama-3-8b q8_0"]["decode_tokens_per_s"], 250.25)
        self.assertTrue(bench["llama-3-8b q8_0"]["memory_as_predicted"])
        self.assertFalse(bench["llama-3-8b bf16"]["memory_as_predicted"])
        self.assertIn("memory is not as predicted", bench["llama-3-8b bf16"]["told"])
        self.assertEqual(bench["llama-3-8b fp8"]["told"], "exit 1: tprun: no fp8 today")
        self.assertTrue(results["torch"]["llama-3-8b"]["skipped"])
        self.assertIn("FAIL cuda_device_test", said)
        table = self.table()
        self.assertIn("| llama-3-8b q8_0 | 20000 | 102 | 250.2 | 4000 | 87.5 | 8.0 |", table)
        self.assertIn("all-reduce 8 KiB: 5.1 us", table)
        self.assertIn("predicted 16.2 GiB, in use 18.2 GiB", table)
        self.assertNotIn("fp8", table)

    def test_goes_on_where_it_stopped(self):
        code, said, _ = self.run_check("--only=tests,bench", "--time=4")
        self.assertEqual(code, 0, said)
        self.assertIn("the time is up", said)
        self.run_check("--only=bench", "--resume")
        first = self.results()["bench"]
        self.pack([{"name": "kernels_a_cuda_test", "arguments": ["pass"]}])
        first["llama-3-8b q8_0"]["told"] = "kept"
        with open(os.path.join(self.out, "h200.json"), "w") as file:
            json.dump({"bench": first}, file)
        code, said, _ = self.run_check("--only=tests,bench", "--resume")
        self.assertEqual(self.results()["bench"]["llama-3-8b q8_0"]["told"], "kept")
        self.assertIn("kernels_a_cuda_test", self.results()["tests"])

    def test_all_passed_or_skipped(self):
        self.pack([{"name": "kernels_a_cuda_test", "arguments": ["pass"]}])
        code, said, _ = self.run_check("--only=machine,tests,torch")
        self.assertEqual(code, 0, said)

    def test_without_a_gpu(self):
        empty = os.path.join(self.folder, "empty")
        os.makedirs(empty)
        code, _, error = self.run_check(path=empty)
        self.assertEqual((code, error), (2, "gpu_check: nvidia-smi shows no GPU\n"))

    def test_help_names_every_step_and_unknown_ones_are_refused(self):
        code, said, _ = self.run_check("--help")
        self.assertEqual(code, 0)
        code, _, error = self.run_check("--only=tests,nothing")
        self.assertEqual(code, 2)
        self.assertIn("unknown step nothing: wanted machine, tests,", error)
        for step in error.split("wanted ")[1].split():
            self.assertIn(step.strip(","), said)


if __name__ == "__main__":
    unittest.main()
