#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "partition/cost_model.h"

namespace tprun {

// Bytes and seconds of one kind of block by share, from LayOutMemory and WorkOf themselves, so that
// the search works with the numbers that the plan will have.
struct ShareTable {
  int64_t units = 0;
  bool by_offset = false;                    // a share's bytes depend on the units before it
  std::vector<int64_t> bytes;                // weights, KV cache and what else comes once per layer
  std::vector<int64_t> workspace;            // once per rank: the widest of its layers
  std::vector<std::vector<double>> seconds;  // [device][cell], without exchange

  size_t Cell(int64_t offset, int64_t share) const {
    return static_cast<size_t>(by_offset ? offset * (units + 1) + share : share);
  }
};

// A model's layers as the planner sees them: classes of layers that cost the same.
class LayerTables {
 public:
  // All arguments outlive it. Formats of all tensors must be set.
  LayerTables(const ModelSpec& spec, const EngineOptions& options, const Pass& pass,
              const Coefficients& coefficients, const std::vector<DeviceRates>& devices);

  int num_layers() const { return static_cast<int>(class_of_layer_.size()); }
  int num_classes() const { return static_cast<int>(models_.size()); }
  int ClassOf(int layer) const { return class_of_layer_[layer]; }

  // Made when first asked for; `kind` is kAttention or kMlp, replication 1 for the latter.
  const ShareTable& Table(BlockKind kind, int layer_class, int replication = 1) const;
  // Replications of KV heads that are possible in every class, from 1 up.
  const std::vector<int>& replications() const { return replications_; }

  // What a rank needs that has any block, beside its blocks' own.
  int64_t base_workspace() const { return base_workspace_; }

  // Bytes of embedding and head (either may be nullptr: elsewhere) on `rank`; the plan's first rank
  // also receives the logits.
  int64_t EndsBytes(const Placement* embed, const Placement* head, int rank, bool is_first) const;
  double EmbedSeconds(int device, const Placement& placement, int index) const;
  double HeadSeconds(int device, const Placement& placement, int index) const;
  int64_t EndUnits(BlockKind kind) const;
  // Seconds of a share of the head by device and share.
  const std::vector<std::vector<double>>& HeadTable() const;
  // Runs of a layer per pass (LayerSpec::steps).
  int Steps(int layer_class) const { return models_[layer_class].layers[0].steps; }

  const ModelSpec& spec() const { return spec_; }
  const EngineOptions& options() const { return options_; }
  const Pass& pass() const { return pass_; }
  // Of the activations that blocks exchange in the pass.
  int64_t exchange_bytes() const { return pass_.tokens * spec_.dim * int64_t{sizeof(float)}; }
  // Of the logits that the head's ranks exchange and rank 0 receives.
  int64_t logit_message_bytes() const;

 private:
  ShareTable MakeTable(BlockKind kind, int layer_class, int replication) const;
  void FillCell(const ModelSpec& model, int block, int64_t offset, int64_t share, int replication,
                ShareTable& table) const;
  double Seconds(const ModelSpec& model, int block, int device, const Placement& placement,
                 int index) const;

  const ModelSpec& spec_;
  const EngineOptions& options_;
  const Pass pass_;
  std::vector<Coefficients> coefficients_;  // by device
  const std::vector<DeviceRates>& devices_;
  std::vector<size_t> like_;  // by device, the first that is as fast
  std::vector<int> class_of_layer_;
  std::vector<ModelSpec> models_;  // per class: the model with only one layer of it
  std::vector<int> replications_;
  int64_t base_workspace_ = 0;
  mutable std::map<std::tuple<BlockKind, int, int>, ShareTable> tables_;
  mutable std::vector<std::vector<double>> head_;
};

}  // namespace tprun
