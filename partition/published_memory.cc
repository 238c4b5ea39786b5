#include "partition/published_memory.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "engine/model/model_spec.h"
#include "partition/published_models.h"

namespace tprun {
namespace {

constexpr double kMib = 1 << 20;
constexpr double kGib = 1 << 30;

// Bytes per position and layer of one sequence's cache.
struct CacheWidth {
  int layers = 0;
  int64_t key = 0, value = 0;  // elements
};

std::optional<double> Number(const Json& object, absl::string_view key) {
  const Json* value = FindMember(object, key);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  return value->get<double>();
}

int64_t Count(const Json& object, absl::string_view key, int64_t otherwise = 0) {
  return static_cast<int64_t>(Number(object, key).value_or(static_cast<double>(otherwise)));
}

std::string Text(const Json& object, absl::string_view key) {
  const Json* value = FindMember(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

// From the dimensions that the engine printed. With latent attention (mla_attn) the latent vector
// of 512 elements and the rotated part of the key are kept, nothing else.
std::optional<CacheWidth> WidthOf(const Json& record) {
  const Json* dims = FindMember(record, "arch_dims");
  if (dims == nullptr || !Number(*dims, "n_layer")) return std::nullopt;
  constexpr int64_t kLatentRank = 512;  // DeepSeek-V2 and V3
  CacheWidth width;
  width.layers = static_cast<int>(Count(*dims, "n_layer"));
  if (Text(record, "arch") == "deepseek2") {
    width.key = kLatentRank + Count(*dims, "n_rot");
    return width;
  }
  const int64_t kv_heads = Count(*dims, "n_head_kv", Count(*dims, "n_head"));
  const int64_t head = Count(*dims, "n_embd_head_k");
  width.key = kv_heads * head;
  width.value = kv_heads * Count(*dims, "n_embd_head_v", head);
  if (width.key == 0) return std::nullopt;
  return width;
}

const WeightFormat* CacheFormat(absl::string_view name) {
  if (name == "fp16") return &kF16Format;
  return FindWeightFormat(name);
}

// Keys and values may have types of their own: "q8_0/f16".
std::optional<double> BytesPerToken(const CacheWidth& width, const std::string& types) {
  const std::vector<std::string> names = absl::StrSplit(types, '/');
  const WeightFormat* key = CacheFormat(names.front());
  const WeightFormat* value = CacheFormat(names.back());
  if (key == nullptr || value == nullptr) return std::nullopt;
  return static_cast<double>(width.layers) *
         static_cast<double>(key->Bytes(width.key) + value->Bytes(width.value));
}

class Comparer {
 public:
  absl::Status Add(const Json& record) {
    record_ = &record;
    if (!record.is_object() || FindMember(record, "reported") == nullptr) {
      return absl::InvalidArgumentError("a record without \"reported\"");
    }
    reported_ = FindMember(record, "reported");
    engine_ = Text(record, "engine");
    AddKv();
    AddWeights();
    AddAllocated();
    return absl::OkStatus();
  }

  std::vector<MemoryComparison> Take() { return std::move(result_); }

 private:
  void Add(absl::string_view what, double predicted, double reported, double step,
           bool rule_known = true) {
    if (!(reported > 0)) return;
    result_.push_back(
        {Text(*record_, "id"), engine_, std::string(what), predicted, reported, step, rule_known});
  }

  // llama.cpp and its kin: every position of the context in every layer, windows or not; vLLM and
  // pegainfer: whole blocks of tokens; both told as a sum or per GPU.
  void AddKv() {
    const std::optional<CacheWidth> width = WidthOf(*record_);
    if (!width) return;
    const std::optional<double> per_token = BytesPerToken(*width, Text(*record_, "kv_dtype"));
    if (!per_token) return;
    // The room for the cache is cut into blocks of 16 tokens; what is left over is less than one.
    const double block = 16 * *per_token;
    const double tensor_parallel = static_cast<double>(std::max<int64_t>(1, Count(*record_, "tp")));
    if (const auto tokens = Number(*reported_, "kv_tokens")) {
      const double all = *tokens * *per_token;
      if (const auto gib = Number(*reported_, "kv_gib")) {
        Add("KV cache", all, *gib * kGib, 0.01 * kGib + block);
      }
      if (const auto gib = Number(*reported_, "kv_gib_per_gpu")) {
        Add("KV cache", all / tensor_parallel, *gib * kGib, 0.01 * kGib + block);
      }
      if (const auto mib = Number(*reported_, "kv_mib")) {
        Add("KV cache", all, *mib * kMib, kMib + block);
      }
      return;
    }
    const Json* devices = FindMember(*reported_, "kv_mib");
    if (devices == nullptr || !devices->is_object() || !Number(*record_, "ctx")) return;
    double sum = 0;
    for (const Json& device : *devices) sum += device.is_number() ? device.get<double>() : 0;
    // ik_llama.cpp adds some 50 KB per device to quantised caches.
    Add("KV cache", *Number(*record_, "ctx") * *per_token, sum * kMib,
        0.06 * kMib * static_cast<double>(devices->size()));
  }

  std::optional<double> WeightBytes(bool with_shared_copy) const {
    absl::StatusOr<ModelSpec> spec = PublishedModel(Text(*record_, "model"));
    if (!spec.ok() || !SetPublishedFormats(Text(*record_, "quant"), *spec).ok())
      return std::nullopt;
    double bytes = 0;
    for (const TensorSpec& tensor : spec->tensors) {
      if (tensor.role == TensorRole::kHead && spec->tied_head && !with_shared_copy) continue;
      const WeightFormat& format = tensor.shape.size() == 1 ? VectorFormat() : *tensor.format;
      bytes += static_cast<double>(format.Bytes(ElementCount(tensor)));
    }
    return bytes;
  }

  // Norms and biases: GGUF keeps them as f32, the others in the model's 16 bits.
  const WeightFormat& VectorFormat() const {
    return absl::StrContains(engine_, "llama.cpp") ? kF32Format : kF16Format;
  }

  void AddWeights() {
    const std::optional<double> bytes = WeightBytes(/*with_shared_copy=*/false);
    if (!bytes) return;
    if (const auto gib = Number(*reported_, "weights_gib")) {
      Add("weights", *bytes, *gib * kGib, 0.01 * kGib);
    }
    if (const auto gib = Number(*reported_, "weights_gib_per_gpu")) {
      Add("weights", *bytes / static_cast<double>(std::max<int64_t>(1, Count(*record_, "tp"))),
          *gib * kGib, 0.01 * kGib);
    }
    // "232.769 GiB (8.505 BPW)" is the file's tensors, "235.094 B" its parameters.
    const std::string size = Text(*record_, "model_size");
    double gib = 0;
    if (!size.empty() && absl::SimpleAtod(size.substr(0, size.find(' ')), &gib)) {
      Add("weights", *bytes, gib * kGib, 0.01 * kGib);
    }
  }

  // What torch said it had allocated at its peak: weights, KV cache, and activations that are small
  // beside them when the prompt is one token.
  void AddAllocated() {
    const bool one_token = Count(*reported_, "prompt_len") == 1;
    const auto peak = Number(*reported_, "torch_peak_gb");
    if (!one_token || !peak) return;
    const absl::StatusOr<ModelSpec> spec = PublishedModel(Text(*record_, "model"));
    const std::optional<double> weights = WeightBytes(/*with_shared_copy=*/false);
    if (!spec.ok() || !weights) return;
    double kv = 0;
    for (const LayerSpec& layer : spec->layers) {
      kv +=
          2.0 * static_cast<double>(layer.attention.kv_heads * layer.attention.cache_per_kv_head() +
                                    layer.attention.latent_cache());
    }
    Add("weights and KV cache", *weights + kv * static_cast<double>(Count(*record_, "ctx")),
        *peak * kGib, 0.01 * kGib, /*rule_known=*/false);
  }

  const Json* record_ = nullptr;
  const Json* reported_ = nullptr;
  std::string engine_;
  std::vector<MemoryComparison> result_;
};

}  // namespace

bool MemoryComparison::exact() const {
  return std::fabs(predicted_bytes - reported_bytes) <= reported_step;
}

absl::StatusOr<std::vector<MemoryComparison>> ComparePublishedMemory(const std::string& path) {
  ASSIGN_OR_RETURN(const Json file, ReadJsonFile(path));
  const Json* records = FindMember(file, "records");
  if (records == nullptr || !records->is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": wanted a list of \"records\""));
  }
  Comparer comparer;
  for (const Json& record : *records) RETURN_IF_ERROR(Annotate(comparer.Add(record), path));
  return comparer.Take();
}

}  // namespace tprun
