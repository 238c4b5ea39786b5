# A front for tools/ and CMake; `make help` lists the targets. Everything is named relative to this
# folder, so that a path with spaces in it does no harm.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := build
.PHONY: build run test bench asan tsan format check-format clean help setup

# Arguments for CMake: make CMAKE_ARGS=-DTPRUN_WITH_MPI=OFF
CMAKE_ARGS ?=

build: setup ## build/tprun (the default)
	@sh tools/build.sh build tprun $(CMAKE_ARGS)

run: build ## build, then: this machine, a plan for it, and text from the bundled model
	@sh tools/demo.sh

test: setup ## build and run all tests (TPRUN_TEST_DATA=FOLDER adds those on real models)
	@sh tools/build.sh build all $(CMAKE_ARGS)
	@sh tools/test.sh build

bench: build ## speed of the bundled model on this machine
	@build/tprun bench models/stories --devices=cpu

asan: setup ## the fast tests with the address and undefined behaviour sanitizers
	@sh tools/build.sh build-asan all --preset asan
	@sh tools/test.sh build-asan -L fast

tsan: setup ## the fast tests with the thread sanitizer
	@sh tools/build.sh build-tsan all --preset tsan
	@sh tools/test.sh build-tsan -L fast

format: ## format all sources
	@sh tools/setup.sh format
	@sh tools/check_format.sh --fix

check-format: ## check that all sources are formatted
	@sh tools/check_format.sh

setup: ## install what is missing, or say what to install
	@sh tools/setup.sh

clean: ## remove the build folders
	@rm -rf build build-cpu build-cuda build-asan build-tsan build-release

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22
