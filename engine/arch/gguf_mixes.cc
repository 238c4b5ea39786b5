#include "absl/strings/strip.h"
#include "engine/arch/assume_formats.h"

// llama.cpp's rules for its mixtures of types (llama_tensor_get_type of src/llama-quant.cpp).

namespace tprun {
namespace {

// Models of eight experts are small in attention: it gets more bits.
constexpr int kFewExperts = 8;

bool UseMoreBits(int layer, int layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

bool IsDown(TensorRole role) {
  return role == TensorRole::kDown || role == TensorRole::kExpertDown ||
         role == TensorRole::kSharedDown;
}

bool IsValue(const TensorSpec& tensor) {
  // Latent attention's projections of keys and values are one tensor there.
  return tensor.role == TensorRole::kValue || tensor.role == TensorRole::kValueUp ||
         tensor.role == TensorRole::kKeyUp || tensor.role == TensorRole::kKeyUpTransposed;
}

// 'S', 'M' or 'L' of "q4_k_m", '\0' of any other.
char SizeOfMix(absl::string_view* name) {
  for (const char size : {'s', 'm', 'l'}) {
    const std::string suffix = {'_', 'k', '_', size};
    if (absl::ConsumeSuffix(name, suffix)) return static_cast<char>(size - 'a' + 'A');
  }
  return '\0';
}

struct Place {
  int layer;
  int layers;
  int experts;
  bool wide_queries;  // eight query heads per KV head, as in Llama 2 and 3 70B
};

// With `bits` 3, 4 or 5 per weight as the rule.
int BitsOfValue(int bits, char size, const Place& at) {
  if (at.experts == kFewExperts) return 8;
  const bool more = UseMoreBits(at.layer, at.layers);
  if (bits == 3 && size != 'S') return size == 'L' || at.layer < 2 ? 5 : at.wide_queries ? 5 : 4;
  if (size == 'M' && more) return 6;
  if (bits == 4 && size == 'S' && at.layer < 4) return 5;
  return bits == 4 && at.wide_queries ? 5 : bits;
}

int BitsOfDown(int bits, char size, const Place& at) {
  if (bits == 3 && size == 'M') return at.layer < at.layers / 16 ? 5 : 4;
  if (bits == 3) return size == 'L' ? 5 : 3;
  if (size == 'M' && UseMoreBits(at.layer, at.layers)) return 6;
  if (bits == 4 && size == 'S' && at.layer < at.layers / 8) return 5;
  return bits;
}

const WeightFormat* KQuant(int bits) {
  switch (bits) {
    case 3:
      return FindWeightFormat("q3_k");
    case 4:
      return FindWeightFormat("q4_k");
    case 5:
      return FindWeightFormat("q5_k");
    case 6:
      return FindWeightFormat("q6_k");
  }
  return &kQ8_0Format;
}

Place PlaceOf(const ModelSpec& spec, int layer) {
  const AttentionSpec& attention = spec.layers[layer].attention;
  // Only the 70B models of the Llama family are treated so.
  const bool wide = spec.num_layers() == 80 && attention.heads == 8 * attention.kv_heads;
  return {layer, spec.num_layers(), spec.layers.back().mlp.experts.count, wide};
}

}  // namespace

const WeightFormat* FormatInMix(const WeightFormat* mix, const ModelSpec& spec,
                                const TensorSpec& tensor) {
  if (tensor.role == TensorRole::kRouter || tensor.role == TensorRole::kSharedRouter) {
    return mix->block_elements > 1 ? &kF32Format : mix;
  }
  absl::string_view name = mix->name;
  const char size = SizeOfMix(&name);
  if (size == '\0') return mix;
  const int bits = name == "q3" ? 3 : name == "q4" ? 4 : 5;
  const bool head =
      tensor.role == TensorRole::kHead || (tensor.role == TensorRole::kEmbedding && spec.tied_head);
  if (head) return KQuant(6);
  if (tensor.role == TensorRole::kEmbedding) return KQuant(bits);
  const Place at = PlaceOf(spec, spec.blocks[tensor.block].layer);
  if (IsValue(tensor)) return KQuant(BitsOfValue(bits, size, at));
  if (IsDown(tensor.role)) return KQuant(BitsOfDown(bits, size, at));
  if (tensor.role == TensorRole::kKey && at.experts == kFewExperts) return KQuant(8);
  if (tensor.role == TensorRole::kAttentionOut) {
    if (at.experts == kFewExperts) return KQuant(5);
    if (bits == 3 && size != 'S') return KQuant(size == 'L' ? 5 : 4);
  }
  return KQuant(bits);
}

}  // namespace tprun
