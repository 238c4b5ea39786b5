#!/bin/sh
# Checks the sources with the clang-format they are pinned to; another version would ask for
# other line breaks.
#
#   tools/check_format.sh          lists what differs; exit 1 if anything does
#   tools/check_format.sh --fix    formats in place
#   tools/check_format.sh --required   as without, but exit 2 when that clang-format is missing
set -eu
cd "$(dirname "$0")/.."
major=14

find_clang_format() {
  for name in "clang-format-$major" clang-format; do
    if command -v "$name" >/dev/null 2>&1 && "$name" --version | grep -q "version $major\."; then
      echo "$name"
      return
    fi
  done
}

sources() {
  find base topology comm engine partition launcher tests -type f \
    \( -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \) -print0
}

clang_format=$(find_clang_format)
if [ -z "$clang_format" ]; then
  found=$(clang-format --version 2>/dev/null || echo none)
  echo "format: not checked: wanted clang-format $major, found $found (tools/setup.sh format)" >&2
  [ -n "${1:-}" ] && exit 2
  exit 0
fi
if [ "${1:-}" = --fix ]; then
  sources | xargs -0 "$clang_format" -i
else
  echo "format: checking with $("$clang_format" --version)" >&2
  sources | xargs -0 "$clang_format" --dry-run --Werror
fi
