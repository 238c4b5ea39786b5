#include "launcher/doctor_report.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "topology/text_table.h"

namespace tprun {
namespace {

constexpr size_t kSeverityWidth = 9;  // "warning" and two blanks

absl::string_view ColorOf(Severity severity) {
  static constexpr std::array<absl::string_view, 3> kColors = {kGreen, kYellow, kRed};
  return kColors[static_cast<int>(severity)];
}

std::string Padded(absl::string_view text, size_t width) {
  return absl::StrCat(text, std::string(width - std::min(width, text.size()), ' '));
}

// Breaks at blanks so that lines of at most `columns` result; words longer than that stay whole.
std::vector<std::string> Wrap(absl::string_view text, size_t columns) {
  std::vector<std::string> lines(1);
  for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > columns) {
      lines.emplace_back();
    }
    absl::StrAppend(&lines.back(), lines.back().empty() ? "" : " ", word);
  }
  return lines;
}

std::string FindingText(const Finding& finding, size_t check_width, int width, bool color) {
  const size_t indent = kSeverityWidth + check_width + 2;
  const size_t columns =
      width > 0 ? std::max<size_t>(30, static_cast<size_t>(width) - std::min<size_t>(width, indent))
                : std::string::npos;
  const std::string margin = absl::StrCat("\n", std::string(indent, ' '));
  const auto paragraph = [&](absl::string_view text, absl::string_view style) {
    std::vector<std::string> lines = Wrap(text, columns);
    for (std::string& line : lines) line = style.empty() ? line : Styled(line, style, color);
    return absl::StrJoin(lines, margin);
  };
  std::string text =
      absl::StrCat(Styled(Padded(SeverityName(finding.severity), kSeverityWidth),
                          ColorOf(finding.severity), color),
                   Padded(finding.check, check_width + 2),
                   paragraph(absl::StrCat(finding.subject, ": ", finding.found), ""));
  if (!finding.remedy.empty()) {
    absl::StrAppend(&text, margin, paragraph(absl::StrCat("-> ", finding.remedy), kBold));
  }
  return absl::StrCat(text, "\n");
}

std::string Summary(const std::vector<Finding>& findings, bool color) {
  std::array<int, 3> counts = {};
  for (const Finding& finding : findings) ++counts[static_cast<int>(finding.severity)];
  const std::string text =
      absl::StrCat(counts[2], counts[2] == 1 ? " problem, " : " problems, ", counts[1],
                   counts[1] == 1 ? " warning, " : " warnings, ", counts[0], " ok");
  return Styled(text, counts[2] > 0 ? ColorOf(Severity::kProblem) : kDim, color);
}

}  // namespace

std::string FindingsText(const std::vector<Finding>& findings, int width, bool color) {
  std::vector<Finding> sorted = findings;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Finding& a, const Finding& b) { return a.severity < b.severity; });
  size_t check_width = 0;
  for (const Finding& finding : sorted) check_width = std::max(check_width, finding.check.size());
  std::string text;
  for (const Finding& finding : sorted) {
    absl::StrAppend(&text, FindingText(finding, check_width, width, color));
  }
  return absl::StrCat(text, text.empty() ? "" : "\n", Summary(sorted, color), "\n");
}

Json FindingsJson(const std::vector<Finding>& findings) {
  Json list = Json::array();
  for (const Finding& finding : findings) {
    list.push_back({{"check", finding.check},
                    {"subject", finding.subject},
                    {"severity", std::string(SeverityName(finding.severity))},
                    {"found", finding.found},
                    {"remedy", finding.remedy}});
  }
  return {{"tprun_doctor", 1},
          {"worst", std::string(SeverityName(WorstOf(findings)))},
          {"findings", std::move(list)}};
}

}  // namespace tprun
