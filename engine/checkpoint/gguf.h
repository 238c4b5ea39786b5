#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/json.h"
#include "engine/checkpoint/checkpoint.h"

namespace tprun {

// Opens a GGUF file, and with the first file of a split set (model-00001-of-00003.gguf) the others.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGguf(const std::string& path);

// The metadata of a GGUF file under the names of a Hugging Face config.json, so that an
// architecture reads one kind of config only. {a} is general.architecture:
//
//   model_type               general.architecture        _name   general.name
//   num_hidden_layers        {a}.block_count
//   hidden_size              {a}.embedding_length
//   intermediate_size        {a}.feed_forward_length
//   num_attention_heads      {a}.attention.head_count
//   num_key_value_heads      {a}.attention.head_count_kv, else the heads
//   head_dim                 {a}.attention.key_length
//   rms_norm_eps             {a}.attention.layer_norm_rms_epsilon
//   rope_theta               {a}.rope.freq_base
//   rope_scaling             {a}.rope.scaling.*: rope_type, factor, ...
//   max_position_embeddings  {a}.context_length
//   vocab_size               {a}.vocab_size, else rows of token_embd, else count of tokens
//   tie_word_embeddings      there is no output.weight
//
// and what the table in gguf_config.cc adds; "_gguf" is true, "architectures" absent. A value that
// a file gives per layer stays an array. InvalidArgument when a value is not a number.
absl::StatusOr<Json> GgufConfig(const Checkpoint& checkpoint);

}  // namespace tprun
