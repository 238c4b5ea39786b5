#!/bin/sh
# Installs what tprun is built from, or says in one line how. Quick when nothing is missing.
#
#   tools/setup.sh            the build's packages
#   tools/setup.sh format     and clang-format, at the version the sources are formatted with
#
# Exit: 0 everything needed is there; 2 something needed is missing and could not be installed.
set -u
cd "$(dirname "$0")/.." || exit 1

needed="g++ cmake make pkg-config libabsl-dev libgtest-dev libgmock-dev nlohmann-json3-dev
        libyaml-cpp-dev libcli11-dev libhwloc-dev libexpat1-dev libpcre2-dev libhwy-dev
        libsentencepiece-dev libutf8proc-dev"
optional="ccache ninja-build libbenchmark-dev"

say() { printf 'setup: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# Any MPI will do: Open MPI is asked for only where there is none, so that MPICH stays as it is.
if ! have mpicxx && ! have mpicxx.mpich; then
  optional="$optional libopenmpi-dev openmpi-bin"
fi

# Whether a header can be included, with the options of a pkg-config module where there is one.
has_header() {
  printf '#include <%s>\n' "$1" |
    "${CXX:-c++}" -std=c++20 -fsyntax-only -x c++ $(pkg-config --cflags "${2:-none}" 2>/dev/null) - \
      >/dev/null 2>&1
}

cmake_is_recent() {
  have cmake && cmake --version | awk 'NR == 1 {
    split($3, v, "."); exit !(v[1] > 3 || (v[1] == 3 && v[2] >= 22)) }'
}

# Whether something other than the package (a newer CMake, another compiler, a library below
# /usr/local, another distribution's package) already does its work.
provided_otherwise() {
  case "$1" in
    g++) has_header span ;;
    cmake) cmake_is_recent ;;
    make | ccache) have "$1" ;;
    pkg-config) have pkg-config ;;
    ninja-build) have ninja ;;
    libabsl-dev) has_header absl/status/statusor.h absl_statusor ;;
    libgtest-dev) has_header gtest/gtest.h gtest ;;
    libgmock-dev) has_header gmock/gmock.h gmock ;;
    nlohmann-json3-dev) has_header nlohmann/json.hpp nlohmann_json ;;
    libyaml-cpp-dev) has_header yaml-cpp/yaml.h yaml-cpp ;;
    libcli11-dev) has_header CLI/CLI.hpp CLI11 ;;
    libhwloc-dev) pkg-config --exists hwloc ;;
    libexpat1-dev) pkg-config --exists expat ;;
    libpcre2-dev) pkg-config --exists libpcre2-8 ;;
    libhwy-dev) pkg-config --exists libhwy ;;
    libsentencepiece-dev) has_header sentencepiece_processor.h ;;
    libutf8proc-dev) pkg-config --exists libutf8proc ;;
    libbenchmark-dev) pkg-config --exists benchmark ;;
    libopenmpi-dev | openmpi-bin) have mpicxx && have mpiexec ;;
    clang-format-14) have clang-format-14 || clang-format --version | grep -q 'version 14\.' ;;
    *) return 1 ;;
  esac 2>/dev/null
}

# Of the packages given, those that are not there.
missing_of() {
  installed=" "
  if have dpkg-query; then
    installed=" $(dpkg-query -W -f '${db:Status-Status}:${Package} ' "$@" 2>/dev/null)"
  fi
  for package in "$@"; do
    case "$installed" in
      *" installed:$package "*) ;;
      *) provided_otherwise "$package" || printf '%s ' "$package" ;;
    esac
  done
}

# How to become root: nothing, sudo without a question, or not at all.
root_prefix() {
  if [ "$(id -u)" = 0 ]; then
    printf 'env'
  elif have sudo && sudo -n true 2>/dev/null; then
    printf 'sudo -n env'
  else
    return 1
  fi
}

apt() { $as_root DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" >&2; }
apt_install() { apt install -y --no-install-recommends "$@"; }
# Optional packages that this system does not offer, so that they are asked for only once.
unavailable=build/setup-unavailable
give_up_on() {
  say "cannot install $1; going on without it"
  mkdir -p build && printf '%s\n' "$1" >>"$unavailable"
}
without_unavailable() {
  for package in "$@"; do
    grep -qsx "$package" "$unavailable" || printf '%s ' "$package"
  done
}

has_package_lists() { ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1; }

# All at once; after an update if the lists are missing or old; else the needed ones alone and then
# each optional one by itself, as none of those may stop the build.
install() {
  say "installing: $*"
  if has_package_lists && apt_install "$@"; then return; fi
  apt update
  apt_install "$@" && return
  if [ -n "$missing" ]; then apt_install $missing; fi
  for package in $missing_optional; do
    apt_install "$package" || give_up_on "$package"
  done
}

if [ "${1:-}" = format ]; then
  optional="$optional clang-format-14"
fi

missing=$(missing_of $needed)
missing_optional=$(without_unavailable $(missing_of $optional))
[ -n "$missing$missing_optional" ] || exit 0

if have apt-get; then
  if as_root=$(root_prefix); then
    install $missing $missing_optional
    missing=$(missing_of $needed)
    [ -n "$missing" ] || exit 0
    say "still missing: $missing"
    exit 2
  fi
  sudo=$(have sudo && echo "sudo ")
  how="install with:"
  [ -n "$sudo" ] || how="install as root with:"
  command="${sudo}apt-get update && ${sudo}apt-get install -y $missing$missing_optional"
else
  how="install with:"
  command="your package manager, under the names it has for these Debian packages"
fi

if [ -n "$missing" ]; then
  say "missing: $missing"
  [ -z "$missing_optional" ] || say "useful, not needed: $missing_optional"
  say "$how"
  printf '%s\n' "$command" >&2
  exit 2
fi
say "useful, not needed, not there: $missing_optional"
