#include "topology/yaml_map.h"

#include <array>
#include <cmath>
#include <exception>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/units.h"

namespace tprun {
namespace {

constexpr int64_t kMaxYamlBytes = 4 * kMiB;

// How a node reads in an error: a scalar in quotes, else its kind.
std::string Describe(const YAML::Node& node) {
  if (!node.IsDefined() || node.IsNull()) return "nothing";
  if (node.IsMap()) return "a mapping";
  if (node.IsSequence()) return "a list";
  constexpr size_t kShown = 80;
  const std::string text = node.Scalar();
  return absl::StrCat("\"", text.substr(0, kShown), text.size() > kShown ? "..." : "", "\"");
}

// Splits "12.5 GB/s" into 12.5 and "GB/s". False if there is no plain number in front.
bool SplitNumber(absl::string_view text, double& number, absl::string_view& unit) {
  text = absl::StripAsciiWhitespace(text);
  size_t end = 0;
  while (end < text.size() && (absl::ascii_isdigit(text[end]) || text[end] == '.')) ++end;
  unit = absl::StripLeadingAsciiWhitespace(text.substr(end));
  return end > 0 && absl::SimpleAtod(text.substr(0, end), &number) && std::isfinite(number);
}

template <size_t kCount>
double UnitFactor(const std::array<std::pair<absl::string_view, double>, kCount>& units,
                  absl::string_view unit) {
  for (const auto& [name, factor] : units) {
    if (name == unit) return factor;
  }
  return 0;
}

}  // namespace

absl::StatusOr<double> ParseBandwidth(absl::string_view text) {
  // "Gb/s" is bits and "GB/s" bytes, so case counts here.
  static constexpr std::array<std::pair<absl::string_view, double>, 13> kUnits = {{
      {"B/s", 1},
      {"MB/s", 1e6},
      {"GB/s", 1e9},
      {"TB/s", 1e12},
      {"MiB/s", 1048576.0},
      {"GiB/s", 1073741824.0},
      {"TiB/s", 1099511627776.0},
      {"Mbit/s", 1e6 / 8},
      {"Gbit/s", 1e9 / 8},
      {"Tbit/s", 1e12 / 8},
      {"Mb/s", 1e6 / 8},
      {"Gb/s", 1e9 / 8},
      {"Gbps", 1e9 / 8},
  }};
  double number;
  absl::string_view unit;
  const bool split = SplitNumber(text, number, unit);
  const double factor = split ? UnitFactor(kUnits, unit) : 0;
  // 1e18 B/s is beyond anything built; it catches typing errors.
  if (factor == 0 || number * factor > 1e18) {
    return absl::InvalidArgumentError(absl::StrCat(
        "wanted a bandwidth such as 936GB/s (10^9 bytes) or 100Gbit/s, found \"", text, "\""));
  }
  return number * factor;
}

absl::StatusOr<double> ParseLatency(absl::string_view text) {
  static constexpr std::array<std::pair<absl::string_view, double>, 4> kUnits = {
      {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}}};
  double number;
  absl::string_view unit;
  const bool split = SplitNumber(text, number, unit);
  const double factor = split ? UnitFactor(kUnits, unit) : 0;
  if (factor == 0 || number * factor > 60) {
    return absl::InvalidArgumentError(
        absl::StrCat("wanted a time such as 5us or 800ns, found \"", text, "\""));
  }
  return number * factor;
}

absl::Status YamlError(const std::string& path, const YAML::Node& node, absl::string_view message) {
  const YAML::Mark mark = node.Mark();
  if (mark.is_null()) return absl::InvalidArgumentError(absl::StrCat(path, ": ", message));
  return absl::InvalidArgumentError(absl::StrCat(path, ":", mark.line + 1, ": ", message));
}

absl::StatusOr<YAML::Node> ParseYaml(const std::string& text, const std::string& path) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() == 1) return documents[0];
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": wanted one YAML document, found ", documents.size()));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ":", error.mark.line + 1, ": no valid YAML: ", error.msg));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no valid YAML: ", error.what()));
  }
}

absl::StatusOr<YAML::Node> LoadYaml(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxYamlBytes));
  return ParseYaml(text, path);
}

absl::StatusOr<std::vector<YAML::Node>> YamlList(const std::string& path, const YAML::Node& node,
                                                 absl::string_view what, size_t max) {
  if (!node.IsSequence()) {
    return YamlError(path, node, absl::StrCat(what, ": wanted a list, found ", Describe(node)));
  }
  if (node.size() > max) {
    return YamlError(
        path, node, absl::StrCat(what, ": wanted at most ", max, " elements, found ", node.size()));
  }
  return std::vector<YAML::Node>(node.begin(), node.end());
}

absl::StatusOr<YamlMap> YamlMap::Open(const std::string& path, const YAML::Node& node,
                                      absl::string_view what,
                                      std::initializer_list<absl::string_view> known) {
  const std::string keys = absl::StrJoin(known, ", ");
  if (!node.IsMap()) {
    return YamlError(
        path, node,
        absl::StrCat(what, ": wanted a mapping with some of ", keys, ", found ", Describe(node)));
  }
  std::set<std::string> seen;
  for (const auto& member : node) {
    const std::string key = member.first.IsScalar() ? member.first.Scalar() : "";
    bool found = false;
    for (absl::string_view name : known) found = found || name == key;
    if (!found) {
      return YamlError(path, member.first,
                       absl::StrCat(what, ": unknown key ", Describe(member.first),
                                    "; the known keys are: ", keys));
    }
    if (!seen.insert(key).second) {
      return YamlError(path, member.first,
                       absl::StrCat(what, ": the key \"", key, "\" is there twice"));
    }
  }
  return YamlMap(path, node, std::string(what));
}

bool YamlMap::Has(absl::string_view key) const {
  const YAML::Node member = Get(key);
  return member.IsDefined() && !member.IsNull();
}

YAML::Node YamlMap::Get(absl::string_view key) const { return node_[std::string(key)]; }

absl::Status YamlMap::Error(absl::string_view key, absl::string_view message) const {
  const YAML::Node member = Get(key);
  return YamlError(path_, member.IsDefined() ? member : node_,
                   absl::StrCat(what_, ": ", key, ": ", message));
}

absl::StatusOr<std::string> YamlMap::Scalar(absl::string_view key, absl::string_view wanted) const {
  const YAML::Node member = Get(key);
  if (!member.IsDefined()) return Error(key, absl::StrCat("wanted ", wanted, ", found nothing"));
  if (!member.IsScalar() || member.Scalar().empty()) {
    return Error(key, absl::StrCat("wanted ", wanted, ", found ", Describe(member)));
  }
  return member.Scalar();
}

absl::StatusOr<std::string> YamlMap::String(absl::string_view key) const {
  ASSIGN_OR_RETURN(std::string text, Scalar(key, "a text"));
  if (text.size() > 200) return Error(key, "wanted at most 200 characters");
  for (const char c : text) {
    if (absl::ascii_iscntrl(c)) return Error(key, "wanted a text without control characters");
  }
  return text;
}

absl::StatusOr<int64_t> YamlMap::Int(absl::string_view key, int64_t min, int64_t max) const {
  const std::string wanted = absl::StrCat("a whole number from ", min, " to ", max);
  ASSIGN_OR_RETURN(const std::string text, Scalar(key, wanted));
  int64_t value;
  if (!absl::SimpleAtoi(text, &value) || value < min || value > max) {
    return Error(key, absl::StrCat("wanted ", wanted, ", found \"", text, "\""));
  }
  return value;
}

absl::StatusOr<int64_t> YamlMap::Bytes(absl::string_view key) const {
  ASSIGN_OR_RETURN(const std::string text, Scalar(key, "a size such as 24GiB"));
  const absl::StatusOr<int64_t> bytes = ParseBytes(text);
  if (!bytes.ok()) return Error(key, bytes.status().message());
  // "24" means 24 GiB in the mind of who wrote it, and 24 bytes to ParseBytes.
  const bool has_unit = !absl::ascii_isdigit(text.back());
  if (!has_unit && *bytes != 0 && *bytes < kMiB) {
    return Error(key, absl::StrCat("\"", text, "\" is less than 1 MiB; give a unit, as in 24GiB"));
  }
  if (*bytes > int64_t{1} << 50) return Error(key, "wanted at most 1 PiB");
  return *bytes;
}

absl::StatusOr<double> YamlMap::Bandwidth(absl::string_view key) const {
  ASSIGN_OR_RETURN(const std::string text, Scalar(key, "a bandwidth such as 936GB/s"));
  const absl::StatusOr<double> value = ParseBandwidth(text);
  if (!value.ok()) return Error(key, value.status().message());
  return *value;
}

absl::StatusOr<double> YamlMap::Latency(absl::string_view key) const {
  ASSIGN_OR_RETURN(const std::string text, Scalar(key, "a time such as 5us"));
  const absl::StatusOr<double> value = ParseLatency(text);
  if (!value.ok()) return Error(key, value.status().message());
  return *value;
}

absl::StatusOr<std::string> YamlMap::StringOr(absl::string_view key,
                                              absl::string_view otherwise) const {
  return Get(key).IsDefined() ? String(key) : std::string(otherwise);
}

absl::StatusOr<int64_t> YamlMap::IntOr(absl::string_view key, int64_t min, int64_t max,
                                       int64_t otherwise) const {
  if (!Get(key).IsDefined()) return otherwise;
  return Int(key, min, max);
}

absl::StatusOr<int64_t> YamlMap::BytesOr(absl::string_view key, int64_t otherwise) const {
  if (!Get(key).IsDefined()) return otherwise;
  return Bytes(key);
}

absl::StatusOr<double> YamlMap::BandwidthOr(absl::string_view key, double otherwise) const {
  if (!Get(key).IsDefined()) return otherwise;
  return Bandwidth(key);
}

absl::StatusOr<double> YamlMap::LatencyOr(absl::string_view key, double otherwise) const {
  if (!Get(key).IsDefined()) return otherwise;
  return Latency(key);
}

absl::StatusOr<bool> YamlMap::BoolOr(absl::string_view key, bool otherwise) const {
  if (!Get(key).IsDefined()) return otherwise;
  ASSIGN_OR_RETURN(const std::string text, Scalar(key, "true or false"));
  if (text == "true") return true;
  if (text == "false") return false;
  return Error(key, absl::StrCat("wanted true or false, found \"", text, "\""));
}

}  // namespace tprun
