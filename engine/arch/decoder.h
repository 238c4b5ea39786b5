#pragma once

#include <string>

#include "engine/arch/architecture.h"
#include "engine/model/model_spec.h"

namespace tprun {

// The names of a decoder's tensors in a checkpoint; {i} stands for the layer. Roles that share a
// name are fused in the checkpoint, one below the other in this order: query, key, value; gate, up.
struct DecoderNames {
  std::string embedding, final_norm, head;
  std::string attention_norm, attention_post_norm;
  std::string query, key, value, attention_out;
  std::string query_norm, key_norm;
  std::string mlp_norm, mlp_post_norm;
  std::string gate, up, down;
  // Latent attention; key_up and value_up (transposed per head) stand for kv_up where they are not
  // empty.
  std::string query_down, query_down_norm, query_up, kv_down, kv_down_norm, kv_up;
  std::string key_up, value_up;
  // Mixtures of experts; {e} stands for the expert.
  // interleaved_experts: rows of a fused gate and up come in turns; transposed_experts: they are
  // [in, out]. Without names of their own biases are called as in other blocks.
  std::string router, choice_bias, expert_gate, expert_up, expert_down;
  std::string expert_gate_up_bias, expert_down_bias;
  bool interleaved_experts = false, transposed_experts = false;
  std::string shared_gate, shared_up, shared_down, shared_router;
  std::string sinks;
};

// As Llama and most others call them, in Hugging Face and GGUF checkpoints.
DecoderNames StandardNames(Naming naming);

// Gate or up of experts becomes a part of a tensor that holds both, `rows` rows each.
void FuseExperts(bool interleaved, bool is_up, int64_t rows, TensorSpec& tensor);

// Adds the tensors of all of spec.layers, of embedding and head. Biases take their weight's name
// with ".bias" for ".weight".
void AddDecoderTensors(const DecoderNames& names, ModelSpec& spec);

}  // namespace tprun
