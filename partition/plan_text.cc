#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "partition/plan.h"

namespace tprun {
namespace {

constexpr absl::string_view kBold = "\033[1m";
constexpr absl::string_view kRed = "\033[31m";
constexpr absl::string_view kDim = "\033[2m";
constexpr absl::string_view kReset = "\033[0m";

std::string Styled(absl::string_view text, absl::string_view style, bool color) {
  return color ? absl::StrCat(style, text, kReset) : std::string(text);
}

// Rows of cells under a header; the first two columns are left-aligned, numbers right-aligned.
class Table {
 public:
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  std::string Text(bool color) const {
    std::vector<size_t> widths(rows_[0].size(), 0);
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string text;
    for (size_t r = 0; r < rows_.size(); ++r) {
      std::string line;
      for (size_t i = 0; i < rows_[r].size(); ++i) {
        const std::string padding(widths[i] - rows_[r][i].size(), ' ');
        const bool left = i < 2;
        absl::StrAppend(&line, i == 0 ? "  " : "  ", left ? rows_[r][i] : padding,
                        left ? padding : rows_[r][i]);
      }
      absl::StrAppend(&text, r == 0 ? Styled(line, kDim, color) : line, "\n");
    }
    return text;
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

// What part of its layers' heads and columns a rank holds: "8/32 heads" if it is the same in all
// layers, else a range.
// What a rank holds of the blocks of a kind that are cut alike.
struct HeldShares {
  std::set<int64_t> shares;
  int held = 0;  // blocks
};

std::string HeldText(const HeldShares& held, int64_t whole, absl::string_view unit, bool layered) {
  if (held.held == 0) return "";
  std::string text = absl::StrCat(*held.shares.begin());
  if (held.shares.size() > 1) absl::StrAppend(&text, "-", *held.shares.rbegin());
  absl::StrAppend(&text, "/", whole, unit);
  if (layered) absl::StrAppend(&text, " x ", held.held, held.held == 1 ? " layer" : " layers");
  return text;
}

// Dense layers and layers of experts are told apart.
std::string ShareOf(const ModelSpec& spec, const Plan& plan, int rank, BlockKind kind) {
  std::map<std::pair<bool, int64_t>, HeldShares> kinds;  // by experts or not, and the whole
  int blocks = 0;
  for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
    if (spec.blocks[block].kind != kind) continue;
    const bool layered = kind == BlockKind::kAttention || kind == BlockKind::kMlp;
    const LayerSpec* layer = layered ? &spec.layers[spec.blocks[block].layer] : nullptr;
    if (layered && !layer->stack.empty()) continue;
    ++blocks;
    const Placement& placement = plan.placements[block];
    const BlockUnits units = UnitsOf(spec, block, placement.kv_replication);
    const bool experts = kind == BlockKind::kMlp && layer->mlp.experts.count > 0;
    HeldShares& held = kinds[{experts, units.count * units.elements}];
    const int index = IndexInGroup(placement, rank);
    if (index < 0 || placement.shares[index] == 0) continue;
    ++held.held;
    held.shares.insert(placement.shares[index] * units.elements);
  }
  std::vector<std::string> texts;
  for (const auto& [key, held] : kinds) {
    std::string text = HeldText(held, key.second, key.first ? " experts" : "", blocks > 1);
    if (!text.empty()) texts.push_back(std::move(text));
  }
  return texts.empty() ? "-" : absl::StrJoin(texts, ", ");
}

std::string FormatSummary(const ModelSpec& spec) {
  std::map<absl::string_view, int64_t> elements;
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.shape.size() > 1) elements[tensor.format->name] += ElementCount(tensor);
  }
  std::vector<std::string> parts;
  for (const auto& [name, count] : elements) parts.push_back(std::string(name));
  return absl::StrJoin(parts, " + ");
}

std::string MemoryTable(const Plan& plan, bool color) {
  bool sidecars = false;
  for (const RankPlan& rank : plan.ranks) sidecars = sidecars || rank.sidecar_bytes > 0;
  std::vector<std::string> header = {"rank",  "device", "weights",   "KV cache", "buffers",
                                     "other", "total",  "available", "left"};
  if (sidecars) header.insert(header.begin() + 6, "sidecars");
  Table table(header);
  for (int i = 0; i < plan.world_size(); ++i) {
    const RankPlan& rank = plan.ranks[i];
    const int64_t left = -rank.short_bytes();
    std::vector<std::string> row = {
        absl::StrCat(i),
        rank.device,
        FormatBytes(rank.weight_bytes),
        FormatBytes(rank.kv_bytes),
        FormatBytes(rank.workspace_bytes),
        FormatBytes(rank.overhead_bytes),
        FormatBytes(rank.total_bytes()),
        FormatBytes(rank.available_bytes),
        left >= 0 ? FormatBytes(left) : absl::StrCat("short ", FormatBytes(-left))};
    if (sidecars) row.insert(row.begin() + 6, FormatBytes(rank.sidecar_bytes));
    table.Add(std::move(row));
  }
  return table.Text(color);
}

std::string ShareTable(const Plan& plan, const ModelSpec& spec, bool color) {
  Table table({"rank", "device", "query heads", "FFN columns", "embedding rows", "head rows"});
  for (int i = 0; i < plan.world_size(); ++i) {
    table.Add({absl::StrCat(i), plan.ranks[i].device, ShareOf(spec, plan, i, BlockKind::kAttention),
               ShareOf(spec, plan, i, BlockKind::kMlp), ShareOf(spec, plan, i, BlockKind::kEmbed),
               ShareOf(spec, plan, i, BlockKind::kHead)});
  }
  return table.Text(color);
}

// Layers in a row whose blocks of `kind` lie alike: "layers 0-15: cuda:0 6/8, cuda:1 2/8".
std::string Runs(const Plan& plan, const ModelSpec& spec, BlockKind kind) {
  std::string text;
  for (int first = 0; first < spec.num_layers();) {
    const auto block = [&](int layer) {
      return kind == BlockKind::kAttention ? spec.attention_block(layer) : spec.mlp_block(layer);
    };
    const Placement& placement = plan.placements[block(first)];
    int end = first + 1;
    while (end < spec.num_layers() && plan.placements[block(end)] == placement) ++end;
    const int64_t units = UnitsOf(spec, block(first), placement.kv_replication).count;
    std::vector<std::string> parts;
    for (size_t i = 0; i < placement.ranks.size(); ++i) {
      parts.push_back(
          absl::StrCat("rank ", placement.ranks[i], " ", placement.shares[i], "/", units));
    }
    absl::StrAppend(&text, "  layers ", first, "-", end - 1,
                    kind == BlockKind::kAttention ? " attention: " : " MLP: ",
                    absl::StrJoin(parts, ", "), "\n");
    first = end;
  }
  return text;
}

// "rank 3: ", "ranks 0-3, 6: ".
std::string RanksText(const std::vector<int>& ranks) {
  if (ranks.empty()) return "";
  std::vector<std::string> runs;
  for (size_t first = 0, end = 0; first < ranks.size(); first = end) {
    for (end = first + 1; end < ranks.size() && ranks[end] == ranks[end - 1] + 1;) ++end;
    runs.push_back(absl::StrCat(ranks[first]));
    if (end - first > 1) absl::StrAppend(&runs.back(), "-", ranks[end - 1]);
  }
  return absl::StrCat(ranks.size() > 1 ? "ranks " : "rank ", absl::StrJoin(runs, ", "), ": ");
}

std::string SpeedLines(const Plan& plan) {
  if (plan.decode.expected <= 0) return "";
  std::string text = absl::StrFormat(
      "  decode: %.1f tokens/s expected (%.1f to %.1f) with %d positions in the cache\n",
      plan.decode.expected, plan.decode.low, plan.decode.high, plan.depth);
  if (plan.prefill.expected <= 0) return text;
  absl::StrAppendFormat(&text,
                        "  prefill: %.0f tokens/s expected (%.0f to %.0f) for a prompt of %d\n",
                        plan.prefill.expected, plan.prefill.low, plan.prefill.high, plan.prompt);
  return text;
}

std::string Comparison(const Plan& plan) {
  std::string text;
  if (!plan.why.empty()) absl::StrAppend(&text, "  why: ", plan.why, "\n");
  for (const Alternative& other : plan.rejected) {
    absl::StrAppend(&text, "  not taken: ", other.layout, ": ");
    if (other.tokens_per_s > 0) absl::StrAppendFormat(&text, "%.1f tokens/s, ", other.tokens_per_s);
    absl::StrAppend(&text, other.reason, "\n");
  }
  return text;
}

}  // namespace

std::string PlanText(const Plan& plan, const ModelSpec& spec, bool color, bool explain) {
  std::string text =
      absl::StrCat(Styled(plan.model_name, kBold, color), "  ", plan.architecture, ", ",
                   FormatCount(plan.parameters), " parameters, ", FormatSummary(spec), "; context ",
                   plan.options.context, ", batch ", plan.options.batch, ", KV cache ",
                   KvTypeName(plan.options), "\n\n");
  absl::StrAppend(&text, ShareTable(plan, spec, color), "\n", MemoryTable(plan, color), "\n",
                  SpeedLines(plan), Comparison(plan));
  for (const std::string& note : plan.notes) absl::StrAppend(&text, "  note: ", note, "\n");
  if (!plan.fits()) absl::StrAppend(&text, Styled("  It does not fit.", kRed, color), "\n");
  for (const std::string& remedy : plan.remedies) {
    absl::StrAppend(&text, "  would help: ", remedy, "\n");
  }
  if (!explain) return text;
  absl::StrAppend(&text, "\n", Runs(plan, spec, BlockKind::kAttention),
                  Runs(plan, spec, BlockKind::kMlp));
  for (const Basis& basis : plan.basis) {
    absl::StrAppend(&text, "  ", RanksText(basis.ranks), basis.text, "\n");
  }
  return text;
}

}  // namespace tprun
