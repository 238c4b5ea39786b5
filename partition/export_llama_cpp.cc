#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/dtype.h"
#include "base/status_macros.h"
#include "partition/export.h"
#include "partition/export_layers.h"

// Flags as in ggml-org/llama.cpp common/arg.cpp; layers over devices as in src/llama-model.cpp
// (2026): of -ngl N the last N layers go to GPUs, the output with the 33rd of 32; -ts cuts them in
// order, the KV cache of a layer is where its layer is: what -ot moves leaves it behind, so that
// GPUs that are used in another order are named in theirs (-dev).

namespace tprun {
namespace {

constexpr char kProgram[] = "llama.cpp";

// What -ctk and -ctv take.
constexpr absl::string_view kCacheTypes[] = {"f32",  "f16",    "bf16", "q8_0", "q4_0",
                                             "q4_1", "iq4_nl", "q5_0", "q5_1"};

class Arguments {
 public:
  Arguments(const Plan& plan, const ModelSpec& spec) : plan_(plan), spec_(spec) {}

  absl::StatusOr<std::string> Make(absl::string_view model) {
    RETURN_IF_ERROR(ReadDevices());
    const int layers = spec_.num_layers();
    int on_cpu = 0;
    while (on_cpu < layers && attention_[on_cpu] < 0 && mlp_[on_cpu] < 0) ++on_cpu;
    const bool head_on_gpu = on_cpu < layers && head_ >= 0;
    const int offloaded = layers - on_cpu;
    std::vector<std::string> flags = {absl::StrCat("-m ", model),
                                      absl::StrCat("-ngl ", offloaded + (head_on_gpu ? 1 : 0))};
    if (row_split_) {
      flags.push_back("-sm row");
      flags.push_back("-ts " + RowShares());
    } else if (gpus_.size() > 1) {
      OrderGpus(on_cpu);
      if (!std::is_sorted(order_.begin(), order_.end()) ||
          order_.back() >= static_cast<int>(order_.size())) {
        flags.push_back(absl::StrCat("-dev CUDA", absl::StrJoin(order_, ",CUDA")));
      }
      flags.push_back("-sm layer");
      flags.push_back("-ts " + LayerCounts(on_cpu, head_on_gpu));
    } else {
      flags.push_back("-sm none");
      if (gpus_.size() == 1 && *gpus_.begin() > 0) {
        flags.push_back(absl::StrCat("-mg ", *gpus_.begin()));
      }
    }
    AddOverrides(on_cpu, flags);
    RETURN_IF_ERROR(AddOptions(flags));
    return absl::StrJoin(flags, " ");
  }

 private:
  absl::StatusOr<int> DeviceOf(int block) {
    const std::vector<int> ranks = HoldingRanks(plan_.placements[block]);
    int device = -1;
    for (int rank : ranks) {
      ASSIGN_OR_RETURN(device, GpuNumber(plan_, rank, kProgram));
      if (device >= 0) gpus_.insert(device);
      if (ranks.size() > 1 && device < 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("llama.cpp does not split a block over GPU and CPU, as ",
                         BlockName(spec_, block), " is"));
      }
    }
    if (ranks.size() > 1) row_split_ = true;
    return ranks.size() > 1 ? *gpus_.begin() : device;
  }

  absl::Status ReadDevices() {
    for (int layer = 0; layer < spec_.num_layers(); ++layer) {
      ASSIGN_OR_RETURN(const int attention, DeviceOf(spec_.attention_block(layer)));
      ASSIGN_OR_RETURN(const int mlp, DeviceOf(spec_.mlp_block(layer)));
      attention_.push_back(attention);
      mlp_.push_back(mlp);
    }
    ASSIGN_OR_RETURN(head_, DeviceOf(spec_.head_block()));
    return absl::OkStatus();
  }

  // Percent of the weights per GPU, up to the highest number.
  std::string RowShares() const {
    std::vector<int64_t> bytes(*gpus_.rbegin() + 1, 0);
    int64_t total = 0;
    for (int rank = 0; rank < plan_.world_size(); ++rank) {
      const absl::StatusOr<int> device = GpuNumber(plan_, rank, kProgram);
      if (!device.ok() || *device < 0 || gpus_.count(*device) == 0) continue;
      bytes[*device] += plan_.ranks[rank].weight_bytes;
      total += plan_.ranks[rank].weight_bytes;
    }
    return absl::StrJoin(bytes, ",", [total](std::string* out, int64_t part) {
      absl::StrAppend(out, std::llround(100.0 * static_cast<double>(part) /
                                        static_cast<double>(std::max<int64_t>(1, total))));
    });
  }

  int HomeOf(int layer) const { return attention_[layer] >= 0 ? attention_[layer] : mlp_[layer]; }

  // GPUs as layers come to them; those that have none last.
  void OrderGpus(int on_cpu) {
    std::set<int> left = gpus_;
    for (int layer = on_cpu; layer < spec_.num_layers(); ++layer) {
      if (left.erase(HomeOf(layer)) > 0) order_.push_back(HomeOf(layer));
    }
    order_.insert(order_.end(), left.begin(), left.end());
  }

  // Layers (and the output) per GPU, by where their attention is; what lies on the CPU in between
  // counts to the GPU before it and is then moved by -ot, as is what comes back to a GPU.
  std::string LayerCounts(int on_cpu, bool head_on_gpu) {
    std::vector<int64_t> counts(order_.size(), 0);
    size_t last = 0;
    for (int layer = on_cpu; layer < spec_.num_layers(); ++layer) {
      const size_t at = std::find(order_.begin(), order_.end(), HomeOf(layer)) - order_.begin();
      if (at < order_.size()) last = std::max(last, at);
      ++counts[last];
      cut_.push_back(order_[last]);
    }
    if (head_on_gpu) ++counts[last];
    return absl::StrJoin(counts, ",");
  }

  static std::string Target(int device) {
    return device < 0 ? "CPU" : absl::StrCat("CUDA", device);
  }

  // Blocks that lie elsewhere than their layer as -ngl and -ts put it: one -ot, of which the first
  // pattern found anywhere in a tensor's name counts (of several -ot only the last would).
  void AddOverrides(int on_cpu, std::vector<std::string>& flags) const {
    std::map<std::pair<std::string, int>, std::vector<int>> moved;  // (tensors, device) -> layers
    for (int layer = on_cpu; layer < spec_.num_layers(); ++layer) {
      const int home = cut_.empty() ? (gpus_.empty() ? -1 : *gpus_.begin()) : cut_[layer - on_cpu];
      if (row_split_) {  // every GPU has its rows; only what is on the CPU lies elsewhere
        if (attention_[layer] < 0) moved[{"attn.*", -1}].push_back(layer);
        if (mlp_[layer] < 0) moved[{"ffn.*", -1}].push_back(layer);
        continue;
      }
      if (attention_[layer] != home) moved[{"attn.*", attention_[layer]}].push_back(layer);
      if (mlp_[layer] != home) moved[{"ffn.*", mlp_[layer]}].push_back(layer);
    }
    std::vector<std::string> patterns;
    for (const auto& [what, layers] : moved) {
      patterns.push_back(absl::StrCat("blk\\.(", absl::StrJoin(layers, "|"), ")\\.", what.first,
                                      "=", Target(what.second)));
    }
    const int last = cut_.empty() ? (gpus_.empty() ? -1 : *gpus_.begin()) : cut_.back();
    if (on_cpu < spec_.num_layers() && head_ >= 0 && head_ != last && !row_split_) {
      patterns.push_back(absl::StrCat("^output.*=", Target(head_)));
    }
    if (!patterns.empty())
      flags.push_back(absl::StrCat("-ot \"", absl::StrJoin(patterns, ","), "\""));
  }

  absl::Status AddOptions(std::vector<std::string>& flags) const {
    const EngineOptions& options = plan_.options;
    flags.push_back(absl::StrCat("-c ", options.context * options.batch));
    if (options.batch > 1) flags.push_back(absl::StrCat("-np ", options.batch));
    flags.push_back(absl::StrCat("-ub ", options.prefill_chunk));
    const absl::string_view type = KvTypeName(options);
    if (!absl::c_linear_search(kCacheTypes, type)) {
      return absl::InvalidArgumentError(absl::StrCat("llama.cpp has no KV cache of type ", type,
                                                     ", but ", absl::StrJoin(kCacheTypes, ", "),
                                                     ": plan with one of them"));
    }
    flags.push_back(absl::StrCat("-ctk ", type, " -ctv ", type));
    return absl::OkStatus();
  }

  const Plan& plan_;
  const ModelSpec& spec_;
  std::vector<int> attention_, mlp_;  // device of each layer's blocks, -1: CPU
  int head_ = -1;
  std::set<int> gpus_;
  std::vector<int> order_;  // of them, as -ts counts
  std::vector<int> cut_;    // device that -ts gives each offloaded layer
  bool row_split_ = false;
};

}  // namespace

absl::StatusOr<std::string> PlanLlamaCppArguments(const Plan& plan, const ModelSpec& spec,
                                                  absl::string_view model) {
  ASSIGN_OR_RETURN(const std::string line, Arguments(plan, spec).Make(model));
  return line + "\n";
}

}  // namespace tprun
