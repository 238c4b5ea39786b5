#!/bin/sh
# Configures a build folder and builds targets in it, with what the machine has.
#
#   tools/build.sh FOLDER TARGET [CMAKE_ARGUMENT...]      tools/build.sh build tprun
#
# Ninja is taken where there is one (a folder keeps the generator it began with). The output of the
# configuration is shown when it is new or failed.
set -eu
cd "$(dirname "$0")/.."

folder=$1
target=$2
shift 2
# A surrounding `make -j` would hand its job slots to the build, which has its own.
unset MAKEFLAGS MFLAGS MAKELEVEL

# As many jobs as there are processors, but no more than memory can bear: 1.5 GB for each.
jobs() {
  cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
  if command -v nproc >/dev/null 2>&1; then cores=$(nproc); fi
  by_memory=$(awk '/^MemAvailable:/ { print int($2 / 1500000) }' /proc/meminfo 2>/dev/null || true)
  if [ "${by_memory:-$cores}" -lt "$cores" ]; then cores=$by_memory; fi
  if [ "$cores" -lt 1 ]; then cores=1; fi
  echo "$cores"
}

cached() { sed -n "s/^$1:[A-Z]*=//p" "$folder/CMakeCache.txt"; }

# A cache made for another place (the checkout was moved or copied) or with a build tool that has
# gone since only leads to errors.
forget_stale_cache() {
  [ -f "$folder/CMakeCache.txt" ] || return 0
  if [ "$(cached CMAKE_HOME_DIRECTORY)" != "$(pwd -P)" ] ||
    ! [ -x "$(cached CMAKE_MAKE_PROGRAM)" ]; then
    rm -rf "$folder/CMakeCache.txt" "$folder/CMakeFiles"
  fi
}

configure() {
  mkdir -p "$folder"
  forget_stale_cache
  log=$folder/configure.log
  if [ ! -f "$folder/CMakeCache.txt" ] && command -v ninja >/dev/null 2>&1; then
    set -- -G Ninja "$@"
  fi
  if ! cmake -S . -B "$folder" "$@" >"$log.new" 2>&1; then
    cat "$log.new" >&2
    rm -f "$log.new"
    return 1
  fi
  # What was found, without the progress lines around it.
  sed -n -e '/^--   Found /d' -e '/^-- tprun /p' -e '/^--   /p' "$log.new" >"$log.table"
  cmp -s "$log.table" "$log" || cat "$log.new"
  mv "$log.table" "$log"
  rm -f "$log.new"
}

configure "$@"
cmake --build "$folder" --target "$target" --parallel "${JOBS:-$(jobs)}"
