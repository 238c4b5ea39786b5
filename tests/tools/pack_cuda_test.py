"""tools/pack_cuda.sh with a build of programs that do nothing, and a ctest that lists them."""
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = shutil.which("true")


class PackCuda(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        for name in ("build/tprun", "build/libtprun_cuda.so", "build/tests/good_test"):
            os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
            shutil.copy(PROGRAM, self.path(name))
        properties = [{"name": "TIMEOUT", "value": 900.0}]
        listed = {"tests": [
            {"name": "good_test", "command": [self.path("build/tests/good_test"), "-v"],
             "properties": properties},
            {"name": "never_built_test", "properties": properties}]}
        with open(self.path("listed.json"), "w") as file:
            json.dump(listed, file)
        os.makedirs(self.path("bin"))
        with open(self.path("bin/ctest"), "w") as file:
            file.write(f"#!/bin/sh\ncat {self.path('listed.json')}\n")
        os.chmod(self.path("bin/ctest"), stat.S_IRWXU)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def run_tool(self, tool, *arguments):
        environment = {**os.environ, "PATH": self.path("bin") + ":" + os.environ["PATH"]}
        return subprocess.run([*tool, *arguments], capture_output=True, text=True, cwd=ROOT,
                              env=environment, timeout=100)

    def pack(self, *arguments):
        return self.run_tool(["sh", "tools/pack_cuda.sh"], *arguments)

    def test_packs_what_is_built_for_gpu_check(self):
        done = self.pack(self.path("build"), self.path("packed"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("not built, left out: never_built_test", done.stderr)
        with open(self.path("packed/tests.json")) as file:
            packed = json.load(file)
        self.assertEqual([(t["name"], t["program"], t["arguments"], t["timeout"])
                          for t in packed["tests"]], [("good_test", "good_test", ["-v"], 900.0)])
        for name in ("tprun", "libtprun_cuda.so", "tests/good_test"):
            self.assertTrue(os.path.exists(self.path("packed/" + name)), name)
        # Its tests are found there: 8 parts of one, each of which ran no test.
        checked = self.run_tool([sys.executable, "tools/gpu_check"], "--build=" + self.path("packed"),
                                "--rehearse", "--only=tests", "--out=" + self.path("out"))
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertIn("skip tests: good_test 8 of 8", checked.stdout)

    def test_tells_what_it_wants(self):
        self.assertEqual(self.pack().returncode, 2)
        os.remove(self.path("build/libtprun_cuda.so"))
        done = self.pack(self.path("build"), self.path("packed"))
        self.assertEqual(done.returncode, 2)
        self.assertIn("no libtprun_cuda.so in", done.stderr)


if __name__ == "__main__":
    unittest.main()
