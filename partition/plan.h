#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/json.h"
#include "engine/model/model_spec.h"
#include "engine/model/placement.h"
#include "engine/runtime/memory_layout.h"

namespace tprun {

// What the plan says of one rank.
struct RankPlan {
  std::string device;       // "cpu", "cuda:1", "node1/cuda:0"
  std::string device_name;  // "NVIDIA GeForce RTX 3090"
  int64_t weight_bytes = 0;
  int64_t kv_bytes = 0;
  int64_t workspace_bytes = 0;
  int64_t overhead_bytes = 0;   // what others allocate: driver context, communication, process
  int64_t sidecar_bytes = 0;    // codecs and the like that run on the same device
  int64_t available_bytes = 0;  // what the rank may use of its device when the plan was made
  double bandwidth_bytes_per_s = 0;
  int64_t load_bytes = 0;  // of its host's memory, for a moment, while weights are read
  int load_threads = 0;    // that read them, where there is no room for what all take; 0: all
  bool on_host = false;    // the device's memory is the host's

  int64_t total_bytes() const {
    return weight_bytes + kv_bytes + workspace_bytes + overhead_bytes + sidecar_bytes;
  }
  // Of its device at any time. A GPU gives all of it before weights are read; of a host memory is
  // taken when it is first written, which KV cache and workspaces are only after loading.
  int64_t most_bytes() const {
    const int64_t loading = weight_bytes + overhead_bytes + sidecar_bytes + load_bytes;
    return on_host ? std::max(total_bytes(), loading) : total_bytes();
  }
  int64_t short_bytes() const {  // positive: it does not fit
    return most_bytes() - available_bytes;
  }
};

// An expected speed and the range in which a measurement is expected; tokens per second.
struct SpeedRange {
  double expected = 0;  // 0: unknown
  double low = 0;
  double high = 0;
};

// A layout that was looked at and not taken.
struct Alternative {
  std::string layout;       // "cuda:0 alone"
  double tokens_per_s = 0;  // at decode; 0: does not fit
  std::string reason;       // "short by 3.1 GiB on cuda:0", "slower"
};

// What a figure of some ranks rests on.
struct Basis {
  std::vector<int> ranks;  // none: it is the plan's
  std::string text;
};

// Who holds what: every choice of a run, made once and written down. Ranks carry it out and decide
// nothing.
struct Plan {
  std::string model_name;
  std::string architecture;
  std::string fingerprint;  // of the model's tensors, see ModelFingerprint
  int64_t parameters = 0;
  EngineOptions options;
  std::string objective;  // "latency", "throughput", "context"
  std::vector<RankPlan> ranks;
  std::vector<Placement> placements;  // per block of the model
  int64_t depth = 0;                  // positions in the cache that the decode speed is for
  int64_t prompt = 0;                 // tokens of the prompt that the prefill speed is for
  SpeedRange decode;                  // of all sequences together
  SpeedRange prefill;                 // of one prompt
  std::string why;                    // why this layout
  std::vector<Alternative> rejected;
  std::vector<std::string> notes;     // what a reader should know: repeated KV heads, estimates
  std::vector<std::string> remedies;  // when it does not fit: what would help, cheapest first
  std::string host_shortage;          // of memory of a GPU rank's host; "": none
  std::vector<Basis> basis;           // what the figures rest on; not in plan.json

  bool fits() const;
  int world_size() const { return static_cast<int>(ranks.size()); }
};

// Changes with any tensor's name, shape or format: "7f3a..." (64 bits, FNV-1a).
std::string ModelFingerprint(const ModelSpec& spec);

// The plan is for this model and its placements are sound. InvalidArgument says what differs.
absl::Status CheckPlanFor(const Plan& plan, const ModelSpec& spec);

// What holds of several ranks is kept once.
void AddBasis(int rank, const std::string& text, Plan& plan);

// Sets the bytes of weights, KV cache and workspace of every rank, as the layout has them.
void SetRankBytes(const ModelSpec& spec, Plan& plan);

// plan.json out and in. Reading checks types and presence of every member, InvalidArgument names
// the wrong one; unknown members are errors too.
std::string PlanToJson(const Plan& plan, const ModelSpec& spec);
absl::StatusOr<Plan> PlanFromJson(absl::string_view text, const ModelSpec& spec);

// For people; with `explain` also which layers each rank has and what the figures rest on.
std::string PlanText(const Plan& plan, const ModelSpec& spec, bool color, bool explain = false);
std::string PlanSvg(const Plan& plan, const ModelSpec& spec);

// Hugging Face's device_map, {"model.layers.0": 0, ...}: GPUs by number, "cpu". InvalidArgument
// when a block is split over several ranks, which a device map cannot say.
absl::StatusOr<std::string> PlanDeviceMap(const Plan& plan, const ModelSpec& spec);

}  // namespace tprun
