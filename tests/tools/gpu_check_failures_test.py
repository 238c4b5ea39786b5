#!/usr/bin/env python3
"""tools/gpu_check where programs fail, hang, say nonsense or run out of time; all are canned."""
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PASSES = 'echo "[       OK ] A.B (1 ms)"'
SKIPS = 'echo "[  SKIPPED ] A.B (0 ms)"'
# Says what it was called with, then is what it was given, as compute-sanitizer is.
SANITIZER = '''echo "$LD_LIBRARY_PATH|$@" >> {calls}
while [ "$1" != env ]; do shift; done
"$@"; code=$?
echo "========= ERROR SUMMARY: 0 errors"; exit $code'''
BENCH = json.dumps({"decode_tokens_per_s": 1.0, "prefill_tokens_per_s": 2.0,
                    "fraction_of_bandwidth": 0.5, "decode_read_bytes_per_s": 1e9,
                    "first_token_seconds": 0.1, "loaded_bytes": 1e9, "load_seconds": 1})


class GpuCheckFailuresTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.calls = self.path("calls")
        self.tests = []
        self.script("bin/nvidia-smi", 'echo "NVIDIA Canned, 1.0, 1 MiB, 9.0"')
        self.script("bin/compute-sanitizer", SANITIZER.format(calls=self.calls))
        self.script("bin/baseline", "exit 3")
        self.script("build/tprun", f"case $1 in run) echo text;; bench) echo '{BENCH}';; esac")

    def path(self, name):
        return os.path.join(self.folder, name)

    def script(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w") as file:
            file.write("#!/bin/sh\n" + text + "\n")
        os.chmod(self.path(name), stat.S_IRWXU)

    def add_test(self, name, text, timeout=60.0):
        self.script(f"build/tests/{name}", text)
        self.tests.append({"name": name, "program": name, "arguments": [], "timeout": timeout,
                           "environment": []})

    def check(self, only, *more):
        """Exit code and what it keeps of the step."""
        with open(self.path("build/tests.json"), "w") as file:
            json.dump({"source_dir": ROOT, "tests": self.tests}, file)
        environment = {**os.environ, "PATH": self.path("bin") + ":" + os.environ["PATH"],
                       "LD_LIBRARY_PATH": "/the-machines-own"}
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, "tools/gpu_check"), "--build=" + self.path("build"),
             "--out=" + self.path("out"), "--python=" + self.path("bin/baseline"),
             "--only=" + only, *more], env=environment, capture_output=True, text=True)
        self.assertIn("summary", done.stdout, done.stderr)
        kept = self.path("out/canned.json")
        if not os.path.exists(kept):
            return done.returncode, {}
        with open(kept) as file:
            return done.returncode, json.load(file).get(only, {})

    def test_tells_what_passed_skipped_and_failed(self):
        self.add_test("good", PASSES)
        self.add_test("idle", SKIPS)
        self.add_test("bad", 'echo "[  FAILED  ] A.B (1 ms)"; exit 1')
        code, rows = self.check("tests")
        self.assertEqual(code, 1)
        self.assertTrue(rows["good"]["ok"])
        self.assertTrue(rows["idle"]["skipped"])
        self.assertEqual(rows["bad"]["failed"], ["A.B"])

    def test_what_the_time_of_the_check_ended_is_not_kept(self):
        self.add_test("first", PASSES + "; sleep 4")
        self.add_test("second", f"test -e {self.path('fast')} || sleep 60; " + PASSES)
        code, rows = self.check("tests", "--time=11")
        self.assertEqual((code, list(rows)), (0, ["first"]))
        open(self.path("fast"), "w").close()
        code, rows = self.check("tests", "--time=60", "--resume")
        self.assertEqual(code, 0)
        self.assertTrue(rows["second"]["ok"])

    def test_what_needs_more_than_a_whole_call_fails(self):
        self.add_test("endless", "sleep 60")
        code, rows = self.check("tests", "--time=10")
        self.assertEqual(code, 1)
        self.assertIsNone(rows["endless"]["exit"])

    def test_no_time_at_all(self):
        self.add_test("good", PASSES)
        self.assertEqual(self.check("tests", "--time=1"), (0, {}))

    def test_long_tests_run_in_shards(self):
        self.add_test("long", f'echo "[       OK ] $GTEST_SHARD_INDEX/$GTEST_TOTAL_SHARDS" >> '
                              f'{self.calls}; ' + PASSES, timeout=900.0)
        code, rows = self.check("tests")
        self.assertEqual((code, len(rows)), (0, 8))
        self.assertIn("long 8 of 8", rows)
        with open(self.calls) as file:
            self.assertEqual(len(set(file)), 8)

    def test_layouts_after_a_first_one_that_failed(self):
        self.script("build/tprun", 'case "$*" in *--devices=cpu) exit 1;; esac; echo text')
        self.assertEqual(self.check("layouts")[0], 1)
        path = self.path("out/canned.json")
        with open(path) as file:
            kept = json.load(file)
        kept["layouts"] = {"--devices=cpu": kept["layouts"]["--devices=cpu"]}
        with open(path, "w") as file:
            json.dump(kept, file)
        code, rows = self.check("layouts", "--resume")
        self.assertEqual([n for n, r in rows.items() if not r["ok"]], ["--devices=cpu"])

    def test_sanitizer(self):
        self.add_test("kernels_good", f'echo "test|$LD_LIBRARY_PATH" >> {self.calls}; ' + PASSES)
        self.add_test("kernels_idle", SKIPS)
        self.add_test("kernels_mute", "true")
        self.add_test("kernels_old", 'echo "========= Error: Device not supported."; exit 1')
        for tool in ("racecheck", "memcheck"):
            code, rows = self.check(tool)
            self.assertEqual(code, 1)
            self.assertTrue(rows["kernels_good"]["ok"])
            self.assertTrue(rows["kernels_idle"]["skipped"])
            self.assertTrue(rows["kernels_old"]["skipped"])
            mute = rows["kernels_mute"]
            self.assertFalse(mute["ok"] or mute["skipped"])
        with open(self.calls) as file:
            calls = file.read().splitlines()
        self.assertTrue(calls[0].startswith("/the-machines-own|--tool racecheck"), calls[0])
        self.assertTrue(calls[1].startswith("test|" + self.path("build/lib")), calls[1])
        memcheck = [call for call in calls if "--tool memcheck" in call]
        self.assertIn("--report-api-errors no", memcheck[0])

    def test_a_program_that_says_nonsense_fails_alone(self):
        self.script("build/tprun",
                    f"""case "$*" in *--batch=8*) echo '{{}}';; *=q8_0*) echo nonsense;;
                        *) echo '{BENCH}';; esac""")
        code, rows = self.check("bench")
        self.assertEqual(code, 1)
        self.assertIn("KeyError", rows["llama-3-8b bf16 --batch=8"]["told"])
        self.assertIn("JSONDecodeError", rows["llama-3-8b q8_0"]["told"])
        self.assertTrue(rows["llama-3.2-1b bf16"]["ok"])

    def test_baseline(self):
        self.script("bin/baseline", 'test "$LD_LIBRARY_PATH" = /the-machines-own && exit 3')
        code, rows = self.check("torch")
        self.assertEqual(code, 0, rows)
        self.script("bin/baseline", "echo first >&2; echo 'out of memory' >&2; exit 1")
        code, rows = self.check("torch")
        self.assertEqual((code, rows["llama-3-8b"]["told"]), (1, "exit 1: out of memory"))


if __name__ == "__main__":
    unittest.main()
