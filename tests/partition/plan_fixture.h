#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/units.h"
#include "engine/arch/architecture.h"
#include "partition/planner.h"

namespace tprun {

// A Llama-like model of 8 layers, 32 query heads on 8 KV heads, bf16.
inline ModelSpec PlanModel(int heads = 32, int kv_heads = 8, int layers = 8) {
  const Json config = {{"model_type", "llama"},
                       {"_name", "test model"},
                       {"hidden_size", heads * 64},
                       {"num_hidden_layers", layers},
                       {"intermediate_size", 5632},
                       {"vocab_size", 32000},
                       {"num_attention_heads", heads},
                       {"num_key_value_heads", kv_heads},
                       {"head_dim", 64},
                       {"max_position_embeddings", 8192}};
  ModelSpec spec = *(*FindArchitecture(config))->build(config, Naming::kHuggingFace);
  for (TensorSpec& tensor : spec.tensors) tensor.format = &kBF16Format;
  return spec;
}

// GPUs of one host: GiB free and GB/s each.
inline Topology GpuTopology(const std::vector<std::pair<double, double>>& gpus) {
  Topology topology;
  topology.hosts.push_back({.name = "box"});
  for (size_t i = 0; i < gpus.size(); ++i) {
    DeviceInfo device;
    device.id = "cuda:" + std::to_string(i);
    device.kind = DeviceKind::kGpu;
    device.name = "card " + std::to_string(i);
    device.available_bytes = static_cast<int64_t>(gpus[i].first * kGiB);
    device.memory_bytes = device.available_bytes;
    device.memory_bandwidth_bytes_per_s = gpus[i].second * 1e9;
    device.measured.memory_bandwidth_bytes_per_s = device.memory_bandwidth_bytes_per_s;
    topology.devices.push_back(device);
  }
  return topology;
}

inline PlanRequest RequestFor(const ModelSpec& spec, const Topology& topology) {
  PlanRequest request;
  request.spec = &spec;
  request.topology = &topology;
  for (const DeviceInfo& device : topology.devices) request.devices.push_back(device.id);
  request.options.context = 2048;
  return request;
}

}  // namespace tprun
