#include "launcher/codec_plan.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "engine/arch/codec_size.h"
#include "launcher/prepare.h"
#include "partition/memory_model.h"

namespace tprun {
namespace {

std::vector<std::string> FilesOf(const std::string& model) {
  if (!IsDirectory(model)) return {model};
  std::vector<std::string> files;
  std::error_code error;
  std::filesystem::directory_iterator it(model, error);
  for (; !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    if (absl::EndsWith(it->path().filename().string(), "config.json")) {
      files.push_back(it->path().string());
    }
  }
  return files;
}

std::string NameOf(const std::string& model) {
  std::error_code ignored;
  std::filesystem::path path = std::filesystem::weakly_canonical(model, ignored);
  if (!IsDirectory(model)) path = path.parent_path();
  return path.filename().string();
}

struct Place {
  std::string id;
  int64_t needed = 0;
  int64_t available = 0;
};

// What a codec has nothing to do with.
absl::Status CheckOptions(const ModelOptions& options) {
  if (!options.weights.empty()) {
    return absl::InvalidArgumentError("--weights: a codec is planned in f32 alone");
  }
  for (const CLI::Option* option : options.plan_options) {
    const std::string name = option->get_name();
    const bool applies = name == "--devices" || name == "--topology" || name == "--reserve" ||
                         name == "--utilization" || name == "--limit";
    if (applies || option->count() == 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", options.model, " is a codec, which has nothing to choose there"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Place>> PlacesFor(const CodecSize& size, const ModelOptions& options) {
  ASSIGN_OR_RETURN(const Topology topology, TopologyFor(options));
  ASSIGN_OR_RETURN(const MemoryLimits limits, ReadLimits(options));
  ASSIGN_OR_RETURN(const std::vector<DeviceRef> refs,
                   PlannedDevices(options, topology, limits, options.devices));
  std::vector<Place> places;
  for (const DeviceRef& ref : refs) {
    const DeviceInfo& device = topology.devices[ref.device];
    const std::string id = DeviceId(topology, ref);
    places.push_back({id, size.weight_bytes + size.state_bytes + OverheadBytes(device, {}),
                      UsableBytes(device, id, limits)});
  }
  return places;
}

}  // namespace

absl::optional<Json> FindCodecConfig(const std::string& model) {
  absl::optional<Json> found;
  // A language model may have its codec's config beside it.
  const std::string own = JoinPath(model, "config.json");
  if (IsDirectory(model) && FileExists(own)) {
    const absl::StatusOr<Json> json = ReadJsonFile(own);
    if (!json.ok() || !IsCodecConfig(*json)) return absl::nullopt;
    return *json;
  }
  for (const std::string& file : FilesOf(model)) {
    if (!absl::EndsWith(file, ".json")) continue;
    absl::StatusOr<Json> json = ReadJsonFile(file);
    if (!json.ok() || !IsCodecConfig(*json)) continue;
    if (found) return absl::nullopt;
    found = *std::move(json);
  }
  return found;
}

absl::StatusOr<CodecPlan> PlanCodec(const Json& config, const ModelOptions& options) {
  absl::StatusOr<CodecSize> size = CodecSizeOf(config);
  if (!size.ok()) return Annotate(size.status(), options.model);
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(const std::vector<Place> places, PlacesFor(*size, options));
  CodecPlan plan;
  const std::string name = NameOf(options.model);
  absl::StrAppendFormat(&plan.text,
                        "%s  %s, %d parameters, f32; %d samples/s, %.4g codes/s of the finest of "
                        "%d codebooks\n\n",
                        name, size->kind, size->parameters, size->sample_rate, size->frames_per_s,
                        size->codebooks);
  absl::StrAppend(&plan.text, "  weights ", FormatBytes(size->weight_bytes), " (",
                  size->weight_bytes, " bytes), kept from frame to frame ",
                  FormatBytes(size->state_bytes), "\n");
  const Place* roomiest = nullptr;
  for (const Place& place : places) {
    const int64_t left = place.available - place.needed;
    absl::StrAppend(&plan.text, "  ", place.id, ": needs ", FormatBytes(place.needed), " of ",
                    FormatBytes(place.available), ", ",
                    left >= 0 ? absl::StrCat("fits with ", FormatBytes(left), " left")
                              : absl::StrCat("short by ", FormatBytes(-left)),
                    "\n");
    if (roomiest == nullptr || left > roomiest->available - roomiest->needed) {
      roomiest = &place;
    }
  }
  absl::StrAppend(&plan.text,
                  "  note: a codec can be planned and not run; beside its language model it is "
                  "planned as a sidecar (`tprun plan` of Moshi, Orpheus)\n");
  if (roomiest != nullptr && roomiest->available < roomiest->needed) {
    plan.fits = absl::ResourceExhaustedError(
        absl::StrCat(name, " does not fit: it needs ", FormatBytes(roomiest->needed), " on ",
                     roomiest->id, ", which has ", FormatBytes(roomiest->available), " for it"));
  }
  return plan;
}

}  // namespace tprun
