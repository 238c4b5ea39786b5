#include "topology/yaml_map.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <exception>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/parser.h"

namespace tprun {
namespace {

constexpr int64_t kMaxYamlBytes = 16 * kMiB;

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

absl::StatusOr<double> ParseOps(absl::string_view text) {
  static constexpr std::array<std::pair<absl::string_view, double>, 7> kUnits = {{
      {"OPS", 1},
      {"GFLOPS", 1e9},
      {"TFLOPS", 1e12},
      {"PFLOPS", 1e15},
      {"GOPS", 1e9},
      {"TOPS", 1e12},
      {"POPS", 1e15},
  }};
  double number;
  absl::string_view unit;
  const bool split = SplitNumber(text, number, unit);
  const double factor = split ? UnitFactor(kUnits, unit) : 0;
  if (factor == 0 || number * factor > 1e21) {
    return absl::InvalidArgumentError(
        absl::StrCat("wanted a rate such as 990TFLOPS or 284TOPS, found \"", text, "\""));
  }
  return number * factor;
}

absl::Status YamlError(const std::string& path, const YAML::Node& node, absl::string_view message) {
  const YAML::Mark mark = node.Mark();
  if (mark.is_null()) return absl::InvalidArgumentError(absl::StrCat(path, ": ", message));
  return absl::InvalidArgumentError(absl::StrCat(path, ":", mark.line + 1, ": ", message));
}

namespace {

class IgnoreEvents : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// Whether a large text is one document for certain: each line starts like a block mapping's or a
// comment. Then it need not be gone through twice.
bool IsOneBlock(absl::string_view text) {
  constexpr size_t kLarge = 64 * kKiB;
  if (text.size() < kLarge) return false;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line.empty()) continue;
    const bool is_item = line[0] == '-' && line.size() > 1 && line[1] == ' ';
    if (!absl::ascii_isalpha(line[0]) && line[0] != ' ' && line[0] != '#' && !is_item) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<YAML::Node> ParseYaml(const std::string& text, const std::string& path) {
  try {
    if (IsOneBlock(text)) return YAML::Load(text);
    // Not YAML::LoadAll: it never ends on a stray comma ("{a: b},").
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    IgnoreEvents ignore;
    int documents = 0;
    while (documents < 2 && parser.HandleNextDocument(ignore)) ++documents;
    if (documents == 1) return YAML::Load(text);
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": wanted one YAML document, found ", documents == 0 ? "none" : "more"));
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
  if (!node.IsMap()) {
    return YamlError(path, node,
                     absl::StrCat(what, ": wanted a mapping with some of ",
                                  absl::StrJoin(known, ", "), ", found ", Describe(node)));
  }
  YamlMap map(path, node, std::string(what));
  for (const auto& member : node) {
    const std::string key = member.first.IsScalar() ? member.first.Scalar() : "";
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return YamlError(path, member.first,
                       absl::StrCat(what, ": unknown key ", Describe(member.first),
                                    "; the known keys are: ", absl::StrJoin(known, ", ")));
    }
    for (const auto& [earlier, value] : map.members_) {
      if (earlier != key) continue;
      return YamlError(path, member.first,
                       absl::StrCat(what, ": the key \"", key, "\" is there twice"));
    }
    map.members_.emplace_back(key, member.second);
  }
  return map;
}

bool YamlMap::Has(absl::string_view key) const {
  const YAML::Node* member = Find(key);
  return member != nullptr && !member->IsNull();
}

const YAML::Node* YamlMap::Find(absl::string_view key) const {
  for (const auto& [name, value] : members_) {
    if (name == key) return &value;
  }
  return nullptr;
}

YAML::Node YamlMap::Get(absl::string_view key) const {
  const YAML::Node* member = Find(key);
  return member != nullptr ? *member : YAML::Node(YAML::NodeType::Undefined);
}

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
  // "" in quotes is a text too; nothing behind the colon is none.
  const YAML::Node member = Get(key);
  if (member.IsDefined() && member.IsScalar() && member.Scalar().empty() && member.Tag() == "!") {
    return std::string();
  }
  ASSIGN_OR_RETURN(std::string text, Scalar(key, "a text"));
  if (text.size() > 1000) return Error(key, "wanted at most 1000 characters");
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
  return Find(key) != nullptr ? String(key) : std::string(otherwise);
}

absl::StatusOr<int64_t> YamlMap::IntOr(absl::string_view key, int64_t min, int64_t max,
                                       int64_t otherwise) const {
  if (Find(key) == nullptr) return otherwise;
  return Int(key, min, max);
}

absl::StatusOr<int64_t> YamlMap::BytesOr(absl::string_view key, int64_t otherwise) const {
  if (Find(key) == nullptr) return otherwise;
  return Bytes(key);
}

absl::StatusOr<double> YamlMap::BandwidthOr(absl::string_view key, double otherwise) const {
  if (Find(key) == nullptr) return otherwise;
  return Bandwidth(key);
}

absl::StatusOr<double> YamlMap::LatencyOr(absl::string_view key, double otherwise) const {
  if (Find(key) == nullptr) return otherwise;
  return Latency(key);
}

absl::StatusOr<bool> YamlMap::BoolOr(absl::string_view key, bool otherwise) const {
  if (Find(key) == nullptr) return otherwise;
  ASSIGN_OR_RETURN(const std::string text, Scalar(key, "true or false"));
  if (text == "true") return true;
  if (text == "false") return false;
  return Error(key, absl::StrCat("wanted true or false, found \"", text, "\""));
}

absl::StatusOr<double> YamlMap::NumberOr(absl::string_view key, double min, double max,
                                         double otherwise) const {
  if (Find(key) == nullptr) return otherwise;
  ASSIGN_OR_RETURN(const std::string text, Scalar(key, "a number"));
  double value;
  if (absl::SimpleAtod(text, &value) && value >= min && value <= max) return value;
  return Error(key,
               absl::StrCat("wanted a number from ", min, " to ", max, ", found \"", text, "\""));
}

absl::StatusOr<std::vector<std::string>> YamlMap::Texts(absl::string_view key, size_t max) const {
  std::vector<std::string> texts;
  if (!Has(key)) return texts;
  ASSIGN_OR_RETURN(const auto nodes, YamlList(path_, Get(key), key, max));
  for (const YAML::Node& node : nodes) {
    if (!node.IsScalar()) return YamlError(path_, node, absl::StrCat(key, ": wanted texts"));
    texts.push_back(node.Scalar());
  }
  return texts;
}

absl::StatusOr<std::map<std::string, std::string>> YamlMap::TextMap(absl::string_view key) const {
  std::map<std::string, std::string> texts;
  if (!Has(key)) return texts;
  const YAML::Node node = Get(key);
  if (!node.IsMap()) return Error(key, "wanted a mapping of texts");
  for (const auto& member : node) {
    if (!member.first.IsScalar() || !member.second.IsScalar()) {
      return YamlError(path_, member.first, absl::StrCat(key, ": wanted a mapping of texts"));
    }
    if (!texts.emplace(member.first.Scalar(), member.second.Scalar()).second) {
      return YamlError(path_, member.first,
                       absl::StrCat(key, ": \"", member.first.Scalar(), "\" is there twice"));
    }
  }
  return texts;
}

absl::StatusOr<std::map<std::string, double>> YamlMap::OpsByType(absl::string_view key) const {
  ASSIGN_OR_RETURN(const auto texts, TextMap(key));
  std::map<std::string, double> rates;
  for (const auto& [type, text] : texts) {
    const absl::StatusOr<double> rate = ParseOps(text);
    if (!rate.ok()) return Error(key, absl::StrCat(type, ": ", rate.status().message()));
    rates[type] = *rate;
  }
  return rates;
}

}  // namespace tprun
