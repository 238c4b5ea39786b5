#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "yaml-cpp/yaml.h"

namespace tprun {

// One YAML document. All errors of yaml-cpp (which throws) come back as InvalidArgument
// "path:line: ...". At most 16 MiB.
absl::StatusOr<YAML::Node> LoadYaml(const std::string& path);
absl::StatusOr<YAML::Node> ParseYaml(const std::string& text, const std::string& path);

// "path:line: message", InvalidArgument. The line is that of `node`.
absl::Status YamlError(const std::string& path, const YAML::Node& node, absl::string_view message);

// A list of at most `max` elements, "path:line" in the error if it is none.
absl::StatusOr<std::vector<YAML::Node>> YamlList(const std::string& path, const YAML::Node& node,
                                                 absl::string_view what, size_t max);

// A mapping whose keys are all known. Every getter's error has the line and says what was expected.
//
//   ASSIGN_OR_RETURN(YamlMap cpu, YamlMap::Open(path, node, "cpu", {"cores", "memory"}));
//   ASSIGN_OR_RETURN(int64_t cores, cpu.Int("cores", 1, 4096));
class YamlMap {
 public:
  // Unknown and repeated keys are errors; the message lists the known ones.
  static absl::StatusOr<YamlMap> Open(const std::string& path, const YAML::Node& node,
                                      absl::string_view what,
                                      std::initializer_list<absl::string_view> known);

  bool Has(absl::string_view key) const;
  YAML::Node Get(absl::string_view key) const;
  const YAML::Node& node() const { return node_; }
  const std::string& path() const { return path_; }

  // Required members.
  absl::StatusOr<std::string> String(absl::string_view key) const;
  absl::StatusOr<int64_t> Int(absl::string_view key, int64_t min, int64_t max) const;
  absl::StatusOr<int64_t> Bytes(absl::string_view key) const;     // "24GiB"
  absl::StatusOr<double> Bandwidth(absl::string_view key) const;  // "936GB/s", "100Gbit/s"
  absl::StatusOr<double> Latency(absl::string_view key) const;    // "5us"

  // With a value for an absent member.
  absl::StatusOr<std::string> StringOr(absl::string_view key, absl::string_view otherwise) const;
  absl::StatusOr<int64_t> IntOr(absl::string_view key, int64_t min, int64_t max,
                                int64_t otherwise) const;
  absl::StatusOr<int64_t> BytesOr(absl::string_view key, int64_t otherwise) const;
  absl::StatusOr<double> BandwidthOr(absl::string_view key, double otherwise) const;
  absl::StatusOr<double> LatencyOr(absl::string_view key, double otherwise) const;
  absl::StatusOr<bool> BoolOr(absl::string_view key, bool otherwise) const;
  absl::StatusOr<double> NumberOr(absl::string_view key, double min, double max,
                                  double otherwise) const;
  // A list of at most `max` texts; absent is empty.
  absl::StatusOr<std::vector<std::string>> Texts(absl::string_view key, size_t max) const;
  // A mapping of texts; absent is empty.
  absl::StatusOr<std::map<std::string, std::string>> TextMap(absl::string_view key) const;
  // {bf16: 990TFLOPS, int8: 1980TOPS} in operations per second; absent is empty.
  absl::StatusOr<std::map<std::string, double>> OpsByType(absl::string_view key) const;

  // "path:line: what: message" at the member, or at the map when the member is absent.
  absl::Status Error(absl::string_view key, absl::string_view message) const;

 private:
  YamlMap(std::string path, YAML::Node node, std::string what)
      : path_(std::move(path)), node_(std::move(node)), what_(std::move(what)) {}
  const YAML::Node* Find(absl::string_view key) const;  // nullptr: absent
  absl::StatusOr<std::string> Scalar(absl::string_view key, absl::string_view wanted) const;

  std::string path_;
  YAML::Node node_;
  std::vector<std::pair<std::string, YAML::Node>> members_;  // yaml-cpp's own look-up is slow
  std::string what_;
};

// "936GB/s", "12.5 GB/s", "450 MB/s", "25GiB/s", "100Gbit/s", "10Gb/s", "512B/s" in bytes per
// second. The unit is required. InvalidArgument names the forms.
absl::StatusOr<double> ParseBandwidth(absl::string_view text);

// "800ns", "5us", "1.5 ms", "0.1s" in seconds.
absl::StatusOr<double> ParseLatency(absl::string_view text);

// "990TFLOPS", "1.98PFLOPS", "284 TOPS", "12GFLOPS" in operations per second.
absl::StatusOr<double> ParseOps(absl::string_view text);

}  // namespace tprun
