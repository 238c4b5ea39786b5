#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "comm/all_reduce_benchmark.h"
#include "launcher/bench_profile.h"
#include "launcher/rank_session.h"
#include "partition/cost_model.h"

namespace tprun {

// How much `tprun bench` runs.
struct BenchSizes {
  int64_t prompt_tokens = 512;  // per sequence
  int64_t tokens = 64;          // per sequence
  int repeats = 5;
  int batch = 1;  // sequences
};

struct BenchResult {
  // Bytes/s that all ranks together read from memory, before and after the decode: on a host that
  // others share it may be twice as much at one time as at another.
  double bandwidth_before = 0, bandwidth_after = 0;
  double bandwidth() const { return (bandwidth_before + bandwidth_after) / 2; }
  double prefill_seconds = 0;  // of the prompts of all sequences, median
  double step_seconds = 0;     // of one decode step, a token per sequence, median
  double fastest_step_seconds = 0;
  int64_t weight_bytes_per_step = 0;  // of all ranks
  int64_t kv_bytes_per_step = 0;      // at the middle of the measured positions
  AllReduceTimings all_reduce;        // of one step's activations
  double load_seconds = 0;
  int64_t loaded_bytes = 0;        // weights of all ranks
  double first_token_seconds = 0;  // since the process of rank 0 began: loaded, one token in
  std::optional<BenchProfile> profile;
};

std::string BenchText(RankSession& session, const BenchSizes& sizes, const BenchResult& result);
// What was measured, and where plans find it.
std::string CalibrationText(const Coefficients& coefficients, const std::string& path,
                            bool used_by_default);
std::string BenchJson(RankSession& session, const BenchSizes& sizes, const BenchResult& result);

}  // namespace tprun
