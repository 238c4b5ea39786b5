#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "base/units.h"
#include "partition/plan.h"

// The blocks over the ranks: one row per rank, one column per layer (attention above, MLP below),
// embedding and head at the ends; how full a cell is shows the rank's share.

namespace tprun {
namespace {

constexpr double kLeft = 230;
constexpr double kTop = 64;
constexpr double kRowHeight = 58;
constexpr double kGap = 14;
constexpr double kChart = 900;
constexpr double kMemoryWidth = 260;

std::string Escape(absl::string_view text) {
  return absl::StrReplaceAll(text,
                             {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::string Text(double x, double y, int size, absl::string_view color, absl::string_view text) {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\" fill=\"%s\">%s</text>\n", x,
                         y, size, color, Escape(text));
}

std::string Box(double x, double y, double width, double height, absl::string_view fill,
                absl::string_view title) {
  return absl::StrFormat(
      "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\"><title>%s</title>"
      "</rect>\n",
      x, y, width, height, fill, Escape(title));
}

absl::string_view ColorOf(BlockKind kind) {
  switch (kind) {
    case BlockKind::kEmbed:
      return "#8e6bbf";
    case BlockKind::kAttention:
      return "#2f7fc1";
    case BlockKind::kMlp:
      return "#e08a2e";
    case BlockKind::kHead:
      return "#3f9c6d";
  }
  return "#000";
}

double Fraction(const Placement& placement, int rank) {
  const int index = IndexInGroup(placement, rank);
  if (index < 0) return 0;
  int64_t total = 0;
  for (int64_t share : placement.shares) total += share;
  return static_cast<double>(placement.shares[index]) / static_cast<double>(total);
}

std::string BlockCells(const Plan& plan, const ModelSpec& spec, int rank, double y) {
  const double column = kChart / (spec.num_layers() + 2);
  std::string svg;
  for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
    const Block& what = spec.blocks[block];
    const double fraction = Fraction(plan.placements[block], rank);
    const bool layer = what.kind == BlockKind::kAttention || what.kind == BlockKind::kMlp;
    const double x = kLeft + column * (what.kind == BlockKind::kEmbed  ? 0
                                       : what.kind == BlockKind::kHead ? spec.num_layers() + 1
                                                                       : what.layer + 1);
    const double height = layer ? kRowHeight / 2 : kRowHeight;
    const double top = what.kind == BlockKind::kMlp ? y + kRowHeight / 2 : y;
    const double inner = std::max(0.5, column - 1);
    const std::string title =
        absl::StrFormat("%s: %.1f %%", BlockName(spec, block), 100 * fraction);
    svg += Box(x, top, inner, height - 1, "#eceff3", title);
    if (fraction > 0) {
      const double filled = (height - 1) * fraction;
      svg += Box(x, top + height - 1 - filled, inner, filled, ColorOf(what.kind), title);
    }
  }
  return svg;
}

std::string MemoryBar(const RankPlan& rank, double y) {
  const double x = kLeft + kChart + 24;
  const double scale = kMemoryWidth / static_cast<double>(std::max<int64_t>(
                                          1, std::max(rank.available_bytes, rank.total_bytes())));
  const std::vector<std::pair<int64_t, const char*>> parts = {
      {rank.weight_bytes, "#4a5a6a"},
      {rank.kv_bytes, "#2f7fc1"},
      {rank.workspace_bytes, "#e0b72e"},
      {rank.overhead_bytes + rank.sidecar_bytes, "#a9b4c0"}};
  std::string svg = Box(x, y, rank.available_bytes * scale, 22, "#eceff3",
                        "available " + FormatBytes(rank.available_bytes));
  double at = x;
  for (const auto& [bytes, color] : parts) {
    svg += Box(at, y, bytes * scale, 22, color, FormatBytes(bytes));
    at += bytes * scale;
  }
  const bool fits = rank.short_bytes() <= 0;
  return svg + Text(x, y + 42, 13, fits ? "#333" : "#c0262d",
                    absl::StrCat(
                        FormatBytes(rank.total_bytes()), " of ", FormatBytes(rank.available_bytes),
                        fits ? "" : absl::StrCat(", short ", FormatBytes(rank.short_bytes()))));
}

std::string Legend(double y) {
  std::string svg;
  double x = kLeft;
  const std::pair<const char*, const char*> entries[] = {
      {"#8e6bbf", "embedding"}, {"#2f7fc1", "attention / KV cache"},
      {"#e08a2e", "MLP"},       {"#3f9c6d", "head"},
      {"#4a5a6a", "weights"},   {"#e0b72e", "buffers"},
      {"#a9b4c0", "other"}};
  for (const auto& [color, name] : entries) {
    svg += Box(x, y - 11, 13, 13, color, name) + Text(x + 19, y, 13, "#333", name);
    x += 40 + 8.0 * static_cast<double>(absl::string_view(name).size());
  }
  return svg;
}

}  // namespace

std::string PlanSvg(const Plan& plan, const ModelSpec& spec) {
  const double height = kTop + plan.world_size() * (kRowHeight + kGap) + 36;
  const double width = kLeft + kChart + kMemoryWidth + 60;
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
      "viewBox=\"0 0 %.0f %.0f\" font-family=\"Helvetica, Arial, sans-serif\">\n",
      width, height, width, height);
  svg += Box(0, 0, width, height, "#ffffff", plan.model_name);
  svg += Text(16, 28, 20, "#111",
              absl::StrCat(plan.model_name, " over ", plan.world_size(),
                           plan.world_size() == 1 ? " rank" : " ranks"));
  svg += Text(16, 48, 13, "#555",
              absl::StrCat(FormatCount(plan.parameters), " parameters, context ",
                           plan.options.context, ", KV cache ", KvTypeName(plan.options)));
  for (int rank = 0; rank < plan.world_size(); ++rank) {
    const double y = kTop + rank * (kRowHeight + kGap);
    svg += Text(16, y + 20, 15, "#111", absl::StrCat("rank ", rank, "  ", plan.ranks[rank].device));
    svg += Text(16, y + 40, 12, "#555", plan.ranks[rank].device_name.substr(0, 32));
    svg += BlockCells(plan, spec, rank, y) + MemoryBar(plan.ranks[rank], y);
  }
  return svg + Legend(height - 14) + "</svg>\n";
}

}  // namespace tprun
