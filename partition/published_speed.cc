#include "partition/published_speed.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "partition/published_models.h"

namespace tprun {
namespace {

constexpr int64_t kChunk = 512;  // llama.cpp's physical batch

std::string Text(const Json& row, absl::string_view key) {
  const Json* value = FindMember(row, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

double Number(const Json& row, absl::string_view key, double otherwise = 0) {
  const Json* value = FindMember(row, key);
  return value != nullptr && value->is_number() ? value->get<double>() : otherwise;
}

// "RTX 3090 24GB" and "A100 80GB (330 W)" are the catalogue's names with something behind.
const GpuFacts* FindGpu(const GpuCatalogue& catalogue, std::string name) {
  if (name == "A100 80GB" || name == "A100 SXM 80GB" || name == "A100 80GB (DGX)") {
    name = "A100 SXM4 80GB";
  }
  if (name == "A100 80GB PCIe") name = "A100 PCIe 80GB";
  while (!name.empty()) {
    if (const GpuFacts* facts = catalogue.Find(name)) return facts;
    const size_t space = name.rfind(' ');
    if (space == std::string::npos) break;
    name.resize(space);
  }
  return nullptr;
}

enum class Layout { kWhole, kTensor, kLayers };

class RowReader {
 public:
  explicit RowReader(const GpuCatalogue& catalogue) : catalogue_(catalogue) {}

  // Adds what the row says of decode and of prefill.
  void Read(const Json& row, std::vector<SpeedRow>& rows) {
    row_ = &row;
    if (!ReadSetting()) return;
    if (const double rate = Number(row, "decode_tok_s"); rate > 0) AddDecode(rate, rows);
    if (const double rate = Number(row, "prefill_tok_s"); rate > 0) AddPrefill(rate, rows);
  }

 private:
  bool ReadSetting() {
    const std::string note = Text(*row_, "note");
    const std::string parallelism = Text(*row_, "parallelism");
    if (absl::StrContains(note, "faulty") || absl::StrContains(parallelism, "CPU")) return false;
    if (Number(*row_, "batch", 1) != 1) return false;
    gpus_ = static_cast<int>(Number(*row_, "n_gpus", 1));
    layout_ =
        gpus_ == 1                            ? Layout::kWhole
        : absl::StartsWith(parallelism, "TP") ? Layout::kTensor
        : absl::StrContains(parallelism, "layer") || absl::StrContains(parallelism, "device_map")
            ? Layout::kLayers
            : Layout::kWhole;
    if (gpus_ > 1 && layout_ == Layout::kWhole) return false;  // rows split: not modelled
    const GpuFacts* facts = FindGpu(catalogue_, Text(*row_, "gpu"));
    if (facts == nullptr || !(facts->memory_bandwidth_bytes_per_s > 0)) return false;
    device_ = {DeviceKind::kGpu, facts->name, facts->compute_capability,
               facts->memory_bandwidth_bytes_per_s, PowerLimitedOps(*facts)};
    absl::StatusOr<ModelSpec> spec = PublishedModel(Text(*row_, "model"));
    if (!spec.ok() || !SetPublishedFormats(Text(*row_, "quant"), *spec).ok()) return false;
    spec_ = *std::move(spec);
    return true;
  }

  SpeedRow Start(bool prefill) const {
    SpeedRow row;
    row.engine = Text(*row_, "engine");
    row.gpu = device_.name;
    row.prefill = prefill;
    row.gpus = gpus_;
    row.layer_split = layout_ == Layout::kLayers;
    row.observation.name =
        absl::StrCat(Text(*row_, "id"), " ", gpus_, "x ", device_.name, " ", spec_.name, " ",
                     Text(*row_, "quant"), prefill ? " prefill" : " decode");
    return row;
  }

  // All blocks of one pass, `count` times.
  void AddPass(const Pass& pass, double count, Observation& observation) const {
    const int parts = layout_ == Layout::kTensor ? gpus_ : 1;
    std::vector<int> ranks(parts);
    std::iota(ranks.begin(), ranks.end(), 0);
    for (int block = 0; block < static_cast<int>(spec_.blocks.size()); ++block) {
      Placement placement = {.ranks = ranks};
      if (spec_.blocks[block].kind == BlockKind::kAttention && parts > 1) {
        const AttentionSpec& attention = spec_.layers[spec_.blocks[block].layer].attention;
        placement.kv_replication = std::max(1, parts / attention.kv_heads);
      }
      const int64_t units = UnitsOf(spec_, block, placement.kv_replication).count;
      for (int i = 0; i < parts; ++i) placement.shares.push_back((units + parts - 1 - i) / parts);
      const BlockWork work = WorkOf(spec_, block, placement, 0, kF16Format, pass);
      AddPart(device_, work, count, observation);
    }
    observation.passes += count;
    if (layout_ == Layout::kTensor) observation.exchanges += count * 2 * spec_.num_layers();
    if (layout_ == Layout::kLayers) observation.exchanges += count * (gpus_ - 1);
  }

  // A whole prompt from an empty cache, in chunks.
  void AddPrompt(double tokens, int64_t chunk, double count, Observation& observation) const {
    const auto size = static_cast<int64_t>(std::min<double>(tokens, static_cast<double>(chunk)));
    const double chunks = tokens / static_cast<double>(size);
    const auto depth = static_cast<int64_t>((tokens - static_cast<double>(size)) / 2);
    AddPass({size, 1, depth}, count * chunks, observation);
  }

  void AddDecode(double rate, std::vector<SpeedRow>& rows) const {
    const double generated = Number(*row_, "gen_len", 128);
    const double prompt = Number(*row_, "prompt_len");
    const std::string metric = Text(*row_, "metric");
    const bool llama_bench = absl::StrContains(metric, "llama-bench");
    const bool with_prefill = absl::StrContains(metric, "prefill time probably inside");
    double depth = Number(*row_, "context_depth", generated / 2);
    if (!llama_bench && FindMember(*row_, "context_depth") == nullptr) depth += prompt;
    SpeedRow row = Start(/*prefill=*/false);
    row.observation.passes = 0;
    AddPass({1, 1, static_cast<int64_t>(depth)}, 1, row.observation);
    if (with_prefill && prompt > 1 && generated > 0) {
      AddPrompt(prompt, int64_t{1} << 20, 1 / generated, row.observation);
    }
    row.observation.seconds = 1 / rate;
    rows.push_back(std::move(row));
  }

  void AddPrefill(double rate, std::vector<SpeedRow>& rows) const {
    const double prompt = Number(*row_, "prompt_len");
    if (prompt < 1) return;
    SpeedRow row = Start(/*prefill=*/true);
    row.observation.passes = 0;
    const bool chunked = absl::StrContains(row.engine, "llama.cpp");
    const auto depth = static_cast<int64_t>(Number(*row_, "context_depth"));
    if (absl::StrContains(Text(*row_, "metric"), "sweep-bench")) {
      AddPass({static_cast<int64_t>(prompt), 1, depth}, 1, row.observation);
    } else {
      AddPrompt(prompt, chunked ? kChunk : int64_t{1} << 20, 1, row.observation);
    }
    row.observation.seconds = prompt / rate;
    rows.push_back(std::move(row));
  }

  const GpuCatalogue& catalogue_;
  const Json* row_ = nullptr;
  int gpus_ = 1;
  Layout layout_ = Layout::kWhole;
  DeviceRates device_;
  ModelSpec spec_;
};

}  // namespace

double PowerLimitedOps(const GpuFacts& facts) {
  constexpr double kOpsPerWatt = 1e12;
  double peak = 0;
  for (const char* type : {"fp16_fp16acc", "fp16", "bf16"}) {
    const auto it = facts.peak_ops_per_s.find(type);
    if (it != facts.peak_ops_per_s.end()) peak = std::max(peak, it->second);
  }
  return std::sqrt(peak * facts.tdp_w * kOpsPerWatt);
}

absl::StatusOr<std::vector<SpeedRow>> ReadPublishedSpeed(const std::string& path,
                                                         const GpuCatalogue& catalogue) {
  ASSIGN_OR_RETURN(const Json file, ReadJsonFile(path));
  const Json* list = FindMember(file, "rows");
  if (list == nullptr || !list->is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": wanted a list of \"rows\""));
  }
  std::vector<SpeedRow> rows;
  RowReader reader(catalogue);
  for (const Json& row : *list) {
    if (row.is_object()) reader.Read(row, rows);
  }
  return rows;
}

SpeedSplit SplitRows(absl::Span<const SpeedRow* const> rows) {
  std::map<std::string, int> count;           // of each type
  std::map<std::string, std::string> chosen;  // of each compute capability
  for (const SpeedRow* row : rows) ++count[row->gpu];
  for (const SpeedRow* row : rows) {
    std::string& best = chosen[row->observation.parts[0].device.compute_capability];
    if (best.empty() || count[row->gpu] > count[best]) best = row->gpu;
  }
  std::vector<const SpeedRow*> candidates;
  SpeedSplit split;
  for (const SpeedRow* row : rows) {
    const bool fit = chosen[row->observation.parts[0].device.compute_capability] == row->gpu;
    (fit ? candidates : split.other_types).push_back(row);
  }
  const size_t wanted = std::min(candidates.size(), (rows.size() + 2) / 3);
  for (size_t i = 0; i < candidates.size(); ++i) {
    const bool take = (i + 1) * wanted / candidates.size() > i * wanted / candidates.size();
    (take ? split.fitted : split.same_types).push_back(candidates[i]);
  }
  return split;
}

}  // namespace tprun
