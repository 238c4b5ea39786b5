#include "launcher/prepare.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "engine/arch/assume_formats.h"
#include "engine/arch/read_model_spec.h"
#include "engine/runtime/load_weights.h"
#include "launcher/model_choices.h"
#include "launcher/user_state.h"
#include "partition/calibration.h"
#include "partition/planner.h"
#include "topology/topology.h"

namespace tprun {
namespace {

absl::StatusOr<std::vector<double>> ParseShares(const std::string& text) {
  std::vector<double> shares;
  if (text.empty()) return shares;
  for (absl::string_view part : absl::StrSplit(text, absl::ByAnyChar(":,"))) {
    double value = 0;
    if (!absl::SimpleAtod(part, &value)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--shares: wanted numbers such as 5:2:1, found \"", text, "\""));
    }
    shares.push_back(value);
  }
  return shares;
}

absl::StatusOr<PreparedModel> OpenModel(const ModelOptions& options) {
  PreparedModel model;
  const WeightFormat* assumed = nullptr;
  if (!options.weights.empty()) {
    absl::StatusOr<const WeightFormat*> format = ParseWeightFormat(options.weights);
    if (!format.ok()) return Annotate(format.status(), "--weights");
    assumed = *format;
  }
  ASSIGN_OR_RETURN(const std::string path, ModelPath(options.model));
  ASSIGN_OR_RETURN(model.checkpoint, Checkpoint::Open(path));
  absl::StatusOr<ModelSpec> spec = ReadModelSpec(*model.checkpoint, assumed);
  if (!spec.ok() && assumed != nullptr && ReadModelSpec(*model.checkpoint).ok()) {
    return Annotate(spec.status(), "--weights");
  }
  ASSIGN_OR_RETURN(model.spec, std::move(spec));
  if (assumed != nullptr) {
    const std::string note = FallbackNote(*assumed, model.spec);
    if (!note.empty()) model.note = absl::StrCat("--weights: ", note);
  }
  return model;
}

absl::StatusOr<EngineOptions> ReadEngineOptions(const ModelOptions& options,
                                                const ModelSpec& spec) {
  EngineOptions result;
  // Frames come one by one, and the cache keeps no more of them than a window sees.
  const bool frames = spec.streams > 1;
  const int64_t usual =
      frames ? spec.context_length : std::min(spec.context_length, options.default_context);
  result.context = options.context != 0 ? options.context : usual;
  result.batch = options.batch;
  result.prefill_chunk = frames ? 1 : options.prefill_chunk;
  result.logit_rows = options.logit_rows;
  RETURN_IF_ERROR(Annotate(SetKvType(options.kv_type, result), "--kv_type"));
  RETURN_IF_ERROR(Annotate(CheckKvType(spec, result), "--kv_type"));
  return result;
}

absl::StatusOr<Coefficients> ReadCoefficients(const std::string& path) {
  ASSIGN_OR_RETURN(const Json json, ReadJsonFile(path));
  absl::StatusOr<Coefficients> coefficients = CoefficientsFromJson(json);
  if (!coefficients.ok()) return Annotate(coefficients.status(), path);
  return coefficients;
}

// All that the options say of a plan; topology and devices are to be filled in.
absl::StatusOr<PlanRequest> ReadRequest(const ModelOptions& options, const ModelSpec& spec) {
  PlanRequest request;
  request.spec = &spec;
  ASSIGN_OR_RETURN(request.options, ReadEngineOptions(options, spec));
  ASSIGN_OR_RETURN(request.objective, ParseObjective(options.objective));
  ASSIGN_OR_RETURN(request.split, ParseSplitMode(options.split));
  ASSIGN_OR_RETURN(request.shares, ParseShares(options.shares));
  ASSIGN_OR_RETURN(request.limits, ReadLimits(options));
  request.depth = options.depth;
  request.min_tokens_per_s = options.min_speed;
  request.choose_batch = options.choose_batch;
  request.allow_long_context = options.allow_long_context;
  request.sidecars_on_cpu = options.sidecars == "cpu";
  if (options.depth >= request.options.context) {
    return absl::InvalidArgumentError(absl::StrCat("--depth: wanted less than the context of ",
                                                   request.options.context, ", found ",
                                                   options.depth));
  }
  const std::string calibration =
      options.calibration.empty() ? DefaultCalibrationFile() : options.calibration;
  if (calibration.empty()) return request;
  absl::StatusOr<Coefficients> coefficients = ReadCoefficients(calibration);
  const absl::string_view option =
      options.calibration.empty() ? "the calibration kept here" : "--calibration";
  if (!coefficients.ok()) return Annotate(coefficients.status(), option);
  request.coefficients = *std::move(coefficients);
  return request;
}

LoadBuffers BuffersFor(const Checkpoint& checkpoint) {
  return
      [&checkpoint](const ModelSpec& spec, const MemoryLayout& layout, int threads, bool staged) {
        return LoadBufferBytes(checkpoint, spec, layout, threads, staged);
      };
}

// What is free on this machine now counts, not what the file says was. A plan over several hosts
// stays as it is: only the ranks there can tell.
absl::Status LookAgain(const ModelOptions& options, PreparedModel& model) {
  for (const RankPlan& rank : model.plan.ranks) {
    if (absl::StrContains(rank.device, '/')) return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const Topology topology, DetectTopology());
  RETURN_IF_ERROR(DescribeDevices(topology, model.plan));
  return DescribeLoading(topology, model.spec, BuffersFor(*model.checkpoint), options.threads, {},
                         model.plan);
}

absl::Status CheckOnlyPlan(const ModelOptions& options) {
  for (const CLI::Option* option : options.plan_options) {
    if (option->count() == 0) continue;
    return absl::InvalidArgumentError(absl::StrCat("the plan of --plan already says what ",
                                                   option->get_name(),
                                                   " would: leave one of them out"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<DeviceRef>> PlannedDevices(const ModelOptions& options,
                                                      const Topology& topology,
                                                      const MemoryLimits& limits,
                                                      absl::Span<const std::string> devices) {
  for (const auto& [id, bytes] : limits.limit_bytes) {
    RETURN_IF_ERROR(Annotate(LocateDevice(topology, id).status(), "--limit"));
  }
  std::vector<DeviceRef> refs;
  for (const std::string& id : devices) {
    const absl::StatusOr<DeviceRef> ref = LocateDevice(topology, id);
    if (!ref.ok()) return Annotate(ref.status(), "--devices");
    refs.push_back(*ref);
  }
  if (refs.empty()) refs = AllDeviceRefs(topology);
  for (const DeviceRef& ref : refs) {
    if (topology.devices[ref.device].memory_bytes > 0) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        options.topology.empty() ? topology.source : options.topology, ": how much memory ",
        DeviceId(topology, ref),
        " has is not stated; merge it with an output that tells it (`nvidia-smi -q` or the plain "
        "table): tprun topo --from=THIS --from=THAT --output=box.yaml, then --topology=box.yaml"));
  }
  return refs;
}

absl::StatusOr<MemoryLimits> ReadLimits(const ModelOptions& options) {
  MemoryLimits limits;
  limits.utilization = options.utilization;
  if (!options.reserve.empty()) {
    const absl::StatusOr<int64_t> bytes = ParseBytes(options.reserve);
    if (!bytes.ok()) return Annotate(bytes.status(), "--reserve");
    limits.reserve_bytes = *bytes;
  }
  for (const std::string& text : options.limits) {
    ASSIGN_OR_RETURN(const auto limit, ParseLimit(text));
    limits.limit_bytes[limit.first] = limit.second;
  }
  return limits;
}

absl::StatusOr<Topology> TopologyFor(const ModelOptions& options) {
  if (options.topology.empty()) return DetectTopology();
  absl::StatusOr<Topology> topology = ReadTopologyFile(options.topology);
  if (!topology.ok()) return Annotate(topology.status(), "--topology");
  return topology;
}

std::vector<std::string> AllDevices(const Topology& topology) {
  std::vector<std::string> gpus;
  std::vector<std::string> cpus;
  for (const DeviceRef& ref : AllDeviceRefs(topology)) {
    const bool is_gpu = topology.devices[ref.device].kind == DeviceKind::kGpu;
    (is_gpu ? gpus : cpus).push_back(DeviceId(topology, ref));
  }
  return gpus.empty() ? cpus : gpus;
}

absl::StatusOr<PreparedModel> PrepareForPlan(const ModelOptions& options,
                                             const std::string& plan_json) {
  ASSIGN_OR_RETURN(PreparedModel model, OpenModel(options));
  ASSIGN_OR_RETURN(model.plan, PlanFromJson(plan_json, model.spec));
  return model;
}

absl::StatusOr<PreparedModel> PrepareModel(const ModelOptions& options,
                                           const std::vector<std::string>& default_devices) {
  if (!options.plan.empty()) {
    RETURN_IF_ERROR(CheckOnlyPlan(options));
    const absl::StatusOr<std::string> json = ReadFile(options.plan);
    if (!json.ok()) return Annotate(json.status(), "--plan");
    absl::StatusOr<PreparedModel> model = PrepareForPlan(options, *json);
    if (!model.ok()) return Annotate(model.status(), options.plan);
    RETURN_IF_ERROR(Annotate(LookAgain(options, *model), options.plan));
    return model;
  }
  ASSIGN_OR_RETURN(PreparedModel model, OpenModel(options));
  ASSIGN_OR_RETURN(Topology topology, TopologyFor(options));
  ASSIGN_OR_RETURN(PlanRequest request, ReadRequest(options, model.spec));
  UseBandwidths(request.coefficients, topology);
  request.topology = &topology;
  request.devices = !options.devices.empty() ? options.devices : default_devices;
  RETURN_IF_ERROR(
      PlannedDevices(options, *request.topology, request.limits, request.devices).status());
  request.load_buffers = BuffersFor(*model.checkpoint);
  request.threads = options.threads;
  request.smaller_models = [&] { return SmallerModels(*model.checkpoint, model.spec); };
  const absl::StatusOr<GpuCatalogue> catalogue = GpuCatalogue::ReadDefault();
  if (catalogue.ok()) request.catalogue = &*catalogue;
  ASSIGN_OR_RETURN(model.plan, MakePlanner()->MakePlan(request));
  if (!model.spec.not_runnable.empty()) {
    model.plan.notes.push_back(
        absl::StrCat("it can be planned but not run: ", model.spec.not_runnable));
  }
  std::string before = HowPlansWere(ReadResiduals(), model.plan);
  if (!before.empty()) model.plan.notes.push_back(std::move(before));
  return model;
}

absl::Status CheckOneSequence(const Plan& plan) {
  if (plan.options.batch == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("one sequence is generated at a time, but the batch is ", plan.options.batch,
                   ": --batch is for plan and bench"));
}

absl::Status CheckFits(const Plan& plan) {
  if (plan.fits()) return absl::OkStatus();
  int worst = 0;
  for (int rank = 1; rank < plan.world_size(); ++rank) {
    if (plan.ranks[rank].short_bytes() > plan.ranks[worst].short_bytes()) worst = rank;
  }
  const RankPlan& rank = plan.ranks[worst];
  if (rank.short_bytes() <= 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat(plan.model_name, " does not fit: ", plan.host_shortage));
  }
  std::string message = absl::StrCat(
      plan.model_name, " does not fit: rank ", worst, " needs ", FormatBytes(rank.most_bytes()),
      " on ", rank.device, rank.most_bytes() > rank.total_bytes() ? " while it loads" : "",
      ", which has ", FormatBytes(rank.available_bytes), " for it (short by ",
      FormatBytes(rank.short_bytes()), ")");
  if (!plan.remedies.empty()) absl::StrAppend(&message, "; try ", plan.remedies[0]);
  return absl::ResourceExhaustedError(message);
}

}  // namespace tprun
