#!/bin/sh
# Runs the tests of a build folder: tools/test.sh FOLDER [CTEST_ARGUMENT...]
set -eu
cd "$(dirname "$0")/.."

folder=$1
shift
unset MAKEFLAGS MFLAGS MAKELEVEL
# A relative name would be looked up from each test's own folder.
if [ -n "${TPRUN_TEST_DATA:-}" ]; then
  TPRUN_TEST_DATA=$(cd "$TPRUN_TEST_DATA" && pwd)
  export TPRUN_TEST_DATA
else
  echo "TPRUN_TEST_DATA is not set: the tests on real models and machine dumps are skipped" >&2
fi
jobs=$(nproc 2>/dev/null || echo 2)
if [ "$jobs" -gt 8 ]; then jobs=8; fi  # many tests run several ranks themselves
exec ctest --test-dir "$folder" --output-on-failure --no-tests=error -j "$jobs" "$@"
