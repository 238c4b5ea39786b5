#include "partition/changes.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/units.h"

namespace tprun {
namespace {

Change Extended(const Change& base, const std::string& text) {
  Change change = base;
  change.text = base.text.empty() ? text : absl::StrCat(base.text, " and ", text);
  return change;
}

constexpr double kPercent = 100;

std::vector<Change> Reserve(const Change& base) {
  const std::vector<DeviceInfo>& devices = base.request.topology->devices;
  const bool any = std::any_of(devices.begin(), devices.end(), [&](const DeviceInfo& device) {
    return ReserveOf(device, base.request.limits) > 0;
  });
  if (!any) return {};
  Change change = Extended(base, "--reserve=0B");
  change.request.limits.reserve_bytes = 0;
  return {change};
}

std::vector<Change> Limits(const Change& base) {
  if (base.request.limits.limit_bytes.empty()) return {};
  Change change = Extended(base, "no --limit");
  change.request.limits.limit_bytes.clear();
  return {change};
}

std::vector<Change> Sidecars(const Change& base) {
  const std::vector<Sidecar>& sidecars = base.request.spec->sidecars;
  const bool movable = std::any_of(sidecars.begin(), sidecars.end(),
                                   [](const Sidecar& sidecar) { return sidecar.may_run_on_cpu; });
  if (!movable || base.request.sidecars_on_cpu) return {};
  Change change = Extended(base, "--sidecars=cpu");
  change.request.sidecars_on_cpu = true;
  return {change};
}

std::vector<Change> KvTypes(const Change& base) {
  constexpr int64_t kElements = 1 << 12;  // whole blocks of every type
  std::vector<Change> changes;
  int64_t bytes = KvRowBytes(base.request.options, kElements);
  for (const char* type : {"f16", "q8_0", "fp8_e4m3", "q4_0"}) {
    Change change = Extended(base, absl::StrCat("--kv_type=", type));
    EngineOptions& options = change.request.options;
    if (!SetKvType(type, options).ok() || !CheckKvType(*change.request.spec, options).ok())
      continue;
    const int64_t now = KvRowBytes(options, kElements);
    if (now >= bytes) continue;
    bytes = now;
    changes.push_back(std::move(change));
  }
  return changes;
}

std::vector<Change> Weights(const Change& base) {
  std::vector<Change> changes;
  if (base.spec != nullptr || !base.request.smaller_models) return changes;
  for (SmallerModel& model : base.request.smaller_models()) {
    Change change = Extended(base, model.text);
    change.spec = std::make_shared<const ModelSpec>(std::move(model.spec));
    change.request.spec = change.spec.get();
    changes.push_back(std::move(change));
  }
  return changes;
}

std::vector<Change> AllDevices(const Change& base) {
  if (base.request.devices.empty()) return {};
  Change change = Extended(base, "no --devices");
  change.request.devices.clear();
  change.request.shares.clear();
  change.request.split = SplitMode::kAuto;
  return {change};
}

// The GPU of one host that a user would add to or replace: the first that the request may use; -1.
int CardToChange(const PlanRequest& request) {
  if (request.topology->hosts.size() != 1 || request.topology->hosts[0].count != 1) return -1;
  for (int i = 0; i < static_cast<int>(request.topology->devices.size()); ++i) {
    const DeviceInfo& device = request.topology->devices[i];
    const bool named = request.devices.empty() ||
                       std::count(request.devices.begin(), request.devices.end(), device.id) > 0;
    if (device.kind == DeviceKind::kGpu && named) return i;
  }
  return -1;
}

// Nobody adds cards to these.
bool IsBuiltIn(const PlanRequest& request, const DeviceInfo& device) {
  if (request.catalogue == nullptr) return false;
  const GpuFacts* facts = request.catalogue->Find(device.name, device.memory_bytes);
  return facts != nullptr && (facts->device_class == "mobile" || facts->device_class == "jetson");
}

std::vector<Change> SecondCard(const Change& base) {
  const int card = CardToChange(base.request);
  if (card < 0 || !base.request.shares.empty()) return {};
  auto topology = std::make_shared<Topology>(*base.request.topology);
  DeviceInfo added = topology->devices[card];
  if (IsBuiltIn(base.request, added)) return {};
  int number = 0;
  for (const DeviceInfo& device : topology->devices) number += device.kind == DeviceKind::kGpu;
  added.id = absl::StrCat("cuda:", number);
  added.available_bytes = added.memory_bytes;
  added.pci_bus_id.clear();
  added.processes.clear();
  Change change = Extended(base, absl::StrCat("one more ", added.name));
  if (!base.request.devices.empty()) change.request.devices.push_back(added.id);
  topology->devices.push_back(std::move(added));
  change.topology = topology;
  change.request.topology = topology.get();
  return {change};
}

DeviceInfo Replaced(DeviceInfo device, const GpuFacts& facts) {
  device.name = facts.name;
  device.memory_bytes = device.available_bytes = facts.memory_bytes;
  device.compute_capability = facts.compute_capability;
  device.memory_bandwidth_bytes_per_s = facts.memory_bandwidth_bytes_per_s;
  device.peak_ops_per_s = facts.peak_ops_per_s;
  device.measured = {};
  device.processes.clear();
  return device;
}

// One card of each size above `least_bytes`: of those of the wanted classes the fastest, so that
// where it is not enough none of its size is.
std::vector<const GpuFacts*> FastestBySize(const GpuCatalogue& catalogue, int64_t least_bytes,
                                           const std::vector<std::string>& classes) {
  const auto whole_gib = [](int64_t bytes) { return (bytes + kGiB / 2) / kGiB; };
  std::map<int64_t, const GpuFacts*> by_size;
  for (const GpuFacts& facts : catalogue.gpus()) {
    const bool wanted = std::count(classes.begin(), classes.end(), facts.device_class) > 0;
    const int64_t size = whole_gib(facts.memory_bytes);
    if (!wanted || facts.unified_memory || size <= whole_gib(least_bytes)) continue;
    const GpuFacts*& best = by_size[size];
    if (best == nullptr ||
        facts.memory_bandwidth_bytes_per_s > best->memory_bandwidth_bytes_per_s) {
      best = &facts;
    }
  }
  std::vector<const GpuFacts*> cards;
  for (const auto& [size, facts] : by_size) cards.push_back(facts);
  return cards;
}

// Larger cards of the present one's class, then those of the others that are larger still.
std::vector<const GpuFacts*> LargerCards(const GpuCatalogue& catalogue, const DeviceInfo& device) {
  const GpuFacts* present = catalogue.Find(device.name, device.memory_bytes);
  const std::string own = present != nullptr ? present->device_class : "geforce";
  std::vector<const GpuFacts*> cards = FastestBySize(catalogue, device.memory_bytes, {own});
  const int64_t largest = cards.empty() ? device.memory_bytes : cards.back()->memory_bytes;
  const std::vector<const GpuFacts*> others =
      FastestBySize(catalogue, largest, {"workstation", "datacenter"});
  cards.insert(cards.end(), others.begin(), others.end());
  return cards;
}

std::vector<Change> OtherCards(const Change& base) {
  const int card = CardToChange(base.request);
  if (card < 0 || base.request.catalogue == nullptr || !base.request.shares.empty()) return {};
  const DeviceInfo& device = base.request.topology->devices[card];
  if (IsBuiltIn(base.request, device)) return {};
  std::vector<Change> changes;
  for (const GpuFacts* facts : LargerCards(*base.request.catalogue, device)) {
    auto topology = std::make_shared<Topology>(*base.request.topology);
    topology->devices[card] = Replaced(topology->devices[card], *facts);
    Change change =
        Extended(base, absl::StrCat("a ", facts->name, " (", FormatBytes(facts->memory_bytes),
                                    ") in place of ", device.id));
    change.topology = topology;
    change.request.topology = topology.get();
    changes.push_back(std::move(change));
  }
  return changes;
}

}  // namespace

bool IsNumber(ChangeKind kind) {
  return kind == ChangeKind::kUtilization || kind == ChangeKind::kContext ||
         kind == ChangeKind::kBatch;
}

std::vector<Change> ChangesOf(ChangeKind kind, const Change& base) {
  switch (kind) {
    case ChangeKind::kReserve:
      return Reserve(base);
    case ChangeKind::kLimits:
      return Limits(base);
    case ChangeKind::kSidecars:
      return Sidecars(base);
    case ChangeKind::kKvType:
      return KvTypes(base);
    case ChangeKind::kWeights:
      return Weights(base);
    case ChangeKind::kAllDevices:
      return AllDevices(base);
    case ChangeKind::kSecondCard:
      return SecondCard(base);
    case ChangeKind::kOtherCard:
      return OtherCards(base);
    default:
      return {};
  }
}

// Of the utilization the least is wanted: numbers count what is left unused.
Change WithNumber(ChangeKind kind, const Change& base, int64_t number) {
  if (kind == ChangeKind::kContext) {
    Change change = Extended(base, absl::StrCat("--context=", number));
    change.request.options.context = number;
    return change;
  }
  if (kind == ChangeKind::kBatch) {
    Change change = Extended(base, absl::StrCat("--batch=", number));
    change.request.options.batch = static_cast<int>(number);
    change.request.choose_batch = false;
    return change;
  }
  const double utilization = (kPercent - static_cast<double>(number)) / kPercent;
  Change change = Extended(base, absl::StrFormat("--utilization=%.2f", utilization));
  change.request.limits.utilization = utilization;
  return change;
}

NumberRange NumbersOf(ChangeKind kind, const PlanRequest& request) {
  switch (kind) {
    case ChangeKind::kContext:
      return {1, request.options.context};
    case ChangeKind::kBatch:
      return {1, request.options.batch};
    case ChangeKind::kUtilization:
      return {0,
              static_cast<int64_t>(std::ceil(kPercent * (1 - request.limits.utilization) - 1e-9))};
    default:
      return {};
  }
}

}  // namespace tprun
