#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"

namespace tprun {

// What every command that takes a MODEL has in common, as the user gave it; empty or 0: not given.
struct ModelOptions {
  std::string model;
  std::string topology;
  std::vector<std::string> devices;
  int64_t context = 0;
  int64_t default_context = 4096;  // if the model has as much
  int batch = 1;
  std::string kv_type = "f16";
  std::string weights;
  std::string sidecars = "auto";
  std::string objective = "latency";
  std::string split = "auto";
  std::string shares;
  std::string reserve;
  double utilization = 1;
  std::vector<std::string> limits;
  int64_t depth = -1;
  double min_speed = 0;
  std::string calibration;
  bool allow_long_context = false;  // longer than the model's
  bool choose_batch = false;        // throughput: with as many sequences as are worth it
  int64_t prefill_chunk = 512;
  int64_t logit_rows = 0;  // of the command, not the user
  bool profile = false;    // likewise: ops are timed one by one
  // Not of `plan`:
  std::string plan;
  std::string backend = "auto";
  std::string exchange = "auto";  // see DeviceCommunicatorOptions
  std::string kernels = "cpu";
  std::string activations = "int16";
  bool no_graph = false;
  int threads = 0;
  int timeout_s = 300;
  // Those that choose a plan; to see which were given.
  std::vector<const CLI::Option*> plan_options;
};

// Refuses an empty value: an option left out means something else.
CLI::Validator NotEmpty();

// The options that choose a plan.
void AddPlanOptions(CLI::App& command, ModelOptions& options);
// The options that run one: --plan, --backend, --threads, ...
void AddRunOptions(CLI::App& command, ModelOptions& options);

}  // namespace tprun
