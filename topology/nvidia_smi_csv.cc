#include "topology/nvidia_smi_csv.h"

#include <algorithm>
#include <array>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/bus_id.h"
#include "topology/nvidia_smi_text.h"
#include "topology/source.h"
#include "topology/stated_facts.h"

namespace tprun {
namespace {

constexpr absl::string_view kName = "nvidia-smi --query-gpu";
constexpr int64_t kMaxIndex = 100000;
constexpr int64_t kMaxLinkNumber = 1024;  // generations and lanes

std::vector<std::string> ValuesOf(absl::string_view line) {
  std::vector<std::string> values;
  for (absl::string_view value : absl::StrSplit(line, ',')) {
    values.emplace_back(absl::StripAsciiWhitespace(value));
  }
  return values;
}

// "memory.total [MiB]" without its unit.
absl::string_view FieldName(absl::string_view column) {
  return absl::StripAsciiWhitespace(column.substr(0, column.find(" [")));
}

// A header has only names of properties, and one at least that every list of GPUs may have.
bool IsHeader(const std::vector<std::string>& columns) {
  static constexpr std::array<absl::string_view, 12> kCommon = {
      "index",      "name",         "gpu_name",    "uuid",        "gpu_uuid",    "pci.bus_id",
      "gpu_bus_id", "memory.total", "memory.free", "memory.used", "compute_cap", "driver_version"};
  bool has_common = false;
  for (const std::string& column : columns) {
    const absl::string_view field = FieldName(column);
    const bool is_name = std::all_of(field.begin(), field.end(), [](char c) {
      return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '.' || c == '_';
    });
    // A list of processes (--query-compute-apps) is something else.
    if (field.empty() || !is_name || field == "pid") return false;
    has_common |= std::find(kCommon.begin(), kCommon.end(), field) != kCommon.end();
  }
  return has_common;
}

// A row that lost its header: several values, one of them a GPU's name or an amount of memory.
bool LooksLikeRow(absl::string_view line) {
  return absl::StrContains(line, ", ") && !absl::StrContains(line, '|') &&
         (absl::StrContains(line, "NVIDIA ") || absl::StrContains(line, "Tesla ") ||
          absl::StrContains(line, "GeForce ") || absl::EndsWith(line, " MiB") ||
          absl::StrContains(line, " MiB,"));
}

// False for a reason in place of a value, of which drivers have many: "[GPU is lost]".
bool IsValue(absl::string_view value) {
  return IsStated(value) && !(absl::StartsWith(value, "[") && absl::EndsWith(value, "]"));
}

bool IsNumberBelow(const std::string& value, int64_t limit) {
  const std::optional<int64_t> number = ParseQuantity(value, "");
  return number.has_value() && *number < limit;
}

// What a column wants in place of a value that cannot be read; "" where the value can be.
absl::string_view WantedFor(absl::string_view field, const std::string& value) {
  if (field == "memory.total" || field == "memory.free" || field == "memory.used") {
    return ParseQuantity(value, "MiB").has_value() ? "" : "\"23034 MiB\"";
  }
  if (field == "index") return IsNumberBelow(value, kMaxIndex) ? "" : "\"0\"";
  if (absl::StartsWith(field, "pcie.link.")) {
    return IsNumberBelow(value, kMaxLinkNumber) ? "" : "\"4\" or \"16\"";
  }
  if (field == "pci.bus_id" || field == "gpu_bus_id") {
    return NormalBusId(value).empty() ? "\"00000000:3B:00.0\"" : "";
  }
  return "";
}

absl::Status CheckRow(const NvidiaSmiCsv& table, size_t row, const std::string& path) {
  for (size_t i = 0; i < table.columns.size(); ++i) {
    const std::string& value = table.rows[row][i];
    const absl::string_view field = FieldName(table.columns[i]);
    const absl::string_view wanted = IsValue(value) ? WantedFor(field, value) : "";
    if (wanted.empty()) continue;
    return LineError(path, table.lines[row],
                     absl::StrCat("wanted ", field, " such as ", wanted, ", found \"",
                                  value.substr(0, 40), "\""));
  }
  return absl::OkStatus();
}

void StateMemory(const std::string& value, absl::string_view key, int64_t& member,
                 DeviceInfo& gpu) {
  const std::optional<int64_t> mib = ParseQuantity(value, "MiB");
  if (mib.has_value()) State(member, *mib * kMiB, key, kName, gpu.sources);
}

void StateNumber(const std::string& value, absl::string_view key, int& member, DeviceInfo& gpu) {
  const std::optional<int64_t> number = ParseQuantity(value, "");
  if (number.has_value() && *number > 0 && *number < kMaxLinkNumber) {
    State(member, static_cast<int>(*number), key, kName, gpu.sources);
  }
}

void StateText(std::string value, absl::string_view key, std::string& member, DeviceInfo& gpu) {
  if (!value.empty()) State(member, std::move(value), key, kName, gpu.sources);
}

// What the columns say of the link, of which the current generation alone may be an idle card's.
struct LinkColumns {
  int generation = 0;
  bool is_busy = false;
};

void StateField(absl::string_view field, const std::string& value, LinkColumns& link,
                DeviceInfo& gpu) {
  if (field == "name" || field == "gpu_name") StateText(value, "name", gpu.name, gpu);
  if (field == "uuid" || field == "gpu_uuid") StateText(value, "uuid", gpu.uuid, gpu);
  if (field == "pci.bus_id" || field == "gpu_bus_id") {
    StateText(NormalBusId(value), "pci_bus_id", gpu.pci_bus_id, gpu);
  }
  if (field == "pci.device_id") StateText(PciIdOf(value), "pci_id", gpu.pci_id, gpu);
  if (field == "compute_cap") {
    StateText(value, "compute_capability", gpu.compute_capability, gpu);
  }
  if (field == "mig.mode.current") StateText(MigMode(value), "mig", gpu.mig, gpu);
  if (field == "memory.total") StateMemory(value, "memory_bytes", gpu.memory_bytes, gpu);
  if (field == "memory.free") StateMemory(value, "available_bytes", gpu.available_bytes, gpu);
  if (field == "pcie.link.gen.max") {
    StateNumber(value, "pcie_max_generation", gpu.pcie_max_generation, gpu);
  }
  if (field == "pcie.link.gen.current" || field == "pcie.link.gen.gpucurrent") {
    link.generation = static_cast<int>(ParseQuantity(value, "").value_or(0));
  }
  if (field == "pcie.link.width.max") StateNumber(value, "pcie_max_width", gpu.pcie_max_width, gpu);
  if (field == "pcie.link.width.current") StateNumber(value, "pcie_width", gpu.pcie_width, gpu);
  if (field == "pstate") link.is_busy = value == "P0";
}

// Of an idle card the most that card and slot allow tells more than the generation now.
void StateGeneration(const LinkColumns& link, DeviceInfo& gpu) {
  const int generation =
      link.is_busy && link.generation > 0 ? link.generation : gpu.pcie_max_generation;
  if (generation > 0 && generation < 16) {
    State(gpu.pcie_generation, generation, "pcie_generation", kName, gpu.sources);
  }
}

DeviceInfo GpuOf(const NvidiaSmiCsv& table, size_t row, Host& host) {
  DeviceInfo gpu = NumberedGpu(static_cast<int>(row), kName);
  gpu.sources.erase("id");
  LinkColumns link;
  std::optional<int64_t> used;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    const std::string& value = table.rows[row][i];
    if (!IsValue(value)) continue;
    const absl::string_view field = FieldName(table.columns[i]);
    const std::optional<int64_t> number = ParseQuantity(value, "MiB");
    if (field == "index" && number.has_value() && *number < kMaxIndex) {
      State(gpu.id, absl::StrCat("cuda:", *number), "id", kName, gpu.sources);
    }
    if (field == "driver_version") host.software["driver"] = value;
    if (field == "memory.used") used = number;
    StateField(field, value, link, gpu);
  }
  StateGeneration(link, gpu);
  const int64_t total_mib = gpu.memory_bytes / kMiB;
  if (used.has_value() && gpu.available_bytes == 0 && *used < total_mib) {
    State(gpu.available_bytes, (total_mib - *used) * kMiB, "available_bytes", kName, gpu.sources);
  }
  return gpu;
}

class NvidiaSmiCsvFormat : public TopologyFormat {
 public:
  absl::string_view name() const override { return kName; }

  bool Matches(absl::string_view text) const override {
    bool is_all_rows = true;
    for (const TextLine& line : CleanLines(text)) {
      if (IsHeader(ValuesOf(line.text))) return true;
      is_all_rows &= line.text.empty() || LooksLikeRow(line.text);
    }
    // Then Parse says what is missing.
    return is_all_rows && absl::StrContains(text, ", ");
  }

  absl::StatusOr<Topology> Parse(const std::string& text, const std::string& path) const override {
    ASSIGN_OR_RETURN(const NvidiaSmiCsv table, ParseNvidiaSmiCsv(text, path));
    Topology topology = EmptyDump(path);
    for (size_t row = 0; row < table.rows.size(); ++row) {
      RETURN_IF_ERROR(CheckRow(table, row, path));
      topology.devices.push_back(GpuOf(table, row, topology.hosts[0]));
    }
    return topology;
  }
};

}  // namespace

absl::StatusOr<NvidiaSmiCsv> ParseNvidiaSmiCsv(const std::string& text, const std::string& path) {
  NvidiaSmiCsv table;
  int nameless_row = 0;
  for (const TextLine& line : CleanLines(text)) {
    std::vector<std::string> values = ValuesOf(line.text);
    if (table.columns.empty()) {
      if (IsHeader(values)) {
        table.columns = std::move(values);
      } else if (nameless_row == 0 && LooksLikeRow(line.text)) {
        nameless_row = line.number;
      }
      continue;
    }
    const bool is_row = values.size() == table.columns.size() && !values[0].empty();
    if (!is_row && values.size() > 1 && LooksLikeRow(line.text)) {
      return LineError(
          path, line.number,
          absl::StrCat("wanted ", table.columns.size(), " values, found ", values.size()));
    }
    if (!is_row || IsHeader(values)) break;
    if (table.rows.size() == kMaxGpus) return LineError(path, line.number, "over 256 GPUs");
    table.rows.push_back(std::move(values));
    table.lines.push_back(line.number);
  }
  if (table.rows.empty() && nameless_row > 0) {
    return LineError(path, nameless_row,
                     "values without the line that names the columns; run nvidia-smi with "
                     "--format=csv and not with noheader");
  }
  if (table.rows.empty()) {
    return LineError(path, 1, "wanted what `nvidia-smi --query-gpu=... --format=csv` prints");
  }
  return table;
}

std::unique_ptr<TopologyFormat> MakeNvidiaSmiCsvFormat() {
  return std::make_unique<NvidiaSmiCsvFormat>();
}

}  // namespace tprun
