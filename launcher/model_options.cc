#include "launcher/model_options.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/format/planned_formats.h"
#include "engine/runtime/memory_layout.h"

namespace tprun {

namespace {

// "cpu,cuda:0". CLI11's own lists drop empty entries and take the arguments that follow.
void ReadDevices(const std::string& text, std::vector<std::string>& devices) {
  devices = absl::StrSplit(text, ',');
  for (const std::string& device : devices) {
    if (!device.empty()) continue;
    throw CLI::ValidationError(
        absl::StrCat("--devices: wanted names such as cpu,cuda:0, found \"", text, "\""));
  }
}

// Beyond it everything is too large.
constexpr int64_t kMostPositions = int64_t{1} << 40;

std::string WeightsHelp() {
  std::vector<absl::string_view> load, mixtures;
  for (const WeightFormat* format : AllWeightFormats()) {
    if (format->quantize != nullptr) load.push_back(format->name);
  }
  for (const WeightFormat& format : PlannedFormats()) {
    if (IsMixture(format)) mixtures.push_back(format.name);
  }
  return absl::StrCat(
      "Type to load the matrices of a float checkpoint as, or to take those of a bare config.json "
      "for [the checkpoint's or config's]: ",
      absl::StrJoin(load, ", "), ", mixtures ", absl::StrJoin(mixtures, ", "),
      "; to plan also types that cannot be made");
}

std::string KvTypeHelp() {
  std::vector<std::string> run;
  std::vector<std::string> plan;
  for (const std::string& name : AllKvTypes()) {
    EngineOptions options;
    if (!SetKvType(name, options).ok()) continue;
    (CheckRunnable(options).ok() ? run : plan).push_back(name);
  }
  return absl::StrCat("Type of the KV cache: ", absl::StrJoin(run, ", "),
                      plan.empty() ? "" : "; to plan also ", absl::StrJoin(plan, ", "));
}

void AddShapeOptions(CLI::App& command, ModelOptions& options) {
  options.plan_options.insert(
      options.plan_options.end(),
      {command
           .add_option("--context", options.context,
                       absl::StrCat("Positions per sequence [the model's, at most ",
                                    options.default_context, "; of Moshi a day's frames]"))
           ->check(CLI::Range(int64_t{1}, kMostPositions)),
       command
           .add_option("--batch", options.batch,
                       "Sequences at once (more than one: plan and bench)")
           ->check(CLI::Range(1, 1 << 16))
           ->capture_default_str(),
       command.add_option("--kv_type", options.kv_type, KvTypeHelp())->capture_default_str(),
       command
           .add_option("--prefill_chunk", options.prefill_chunk,
                       "Tokens of a prompt that go through the model at once")
           ->check(CLI::Range(1, 1 << 20))
           ->capture_default_str()});
}

void AddPlacementOptions(CLI::App& command, ModelOptions& options) {
  options.plan_options.insert(
      options.plan_options.end(),
      {command.add_option_function<std::string>(
           "--devices", [&](const std::string& text) { ReadDevices(text, options.devices); },
           "One rank on each of these, in order: cpu, cuda:0, ...; one device may come "
           "several times (cpu,cpu) [plan: those that are best]"),
       command
           .add_option("--topology", options.topology,
                       "Plan for the machine in this file instead of this one")
           ->check(NotEmpty()),
       command
           .add_option("--objective", options.objective,
                       "latency (the soonest next token), throughput (most tokens of all sequences "
                       "together) or context (most positions in the KV cache)")
           ->capture_default_str(),
       command
           .add_option("--split", options.split,
                       "auto: as is best; tensor: every block over all ranks; layer: each layer on "
                       "one rank")
           ->capture_default_str(),
       command
           .add_option("--shares", options.shares,
                       "Proportions of the ranks, as 5:2:1 [the planner's choice]")
           ->check(NotEmpty())});
}

void AddLimitOptions(CLI::App& command, ModelOptions& options) {
  options.plan_options.insert(
      options.plan_options.end(),
      {command
           .add_option(
               "--reserve", options.reserve,
               "Memory to leave free on every device, as 1GiB [0; 256MiB on a GPU that others "
               "use too, such as a display]")
           ->check(NotEmpty()),
       command
           .add_option("--utilization", options.utilization,
                       "Part of a device's total memory that may be in use, others' use included")
           ->check(CLI::Range(0.01, 1.0))
           ->capture_default_str(),
       command
           .add_option("--limit", options.limits,
                       "Most to use of one device, as cuda:1=10GiB; may be given several times")
           ->allow_extra_args(false)
           ->check(NotEmpty()),
       command
           .add_option("--depth", options.depth,
                       "Positions in the cache that speeds are told for, below the context [512 at "
                       "most; of Moshi all that its window sees]")
           ->check(CLI::Range(int64_t{0}, kMostPositions)),
       command
           .add_option("--min_speed", options.min_speed,
                       "Tokens per second that each sequence needs [of speech models: real time]")
           ->check(CLI::Range(1e-6, 1e9)),
       command
           .add_option("--sidecars", options.sidecars,
                       "Where a speech model's codec, vocoder and the like run: auto (the GPU with "
                       "most room) or cpu")
           ->check(CLI::IsMember({"auto", "cpu"}))
           ->capture_default_str(),
       command
           .add_option("--calibration", options.calibration,
                       "Efficiencies measured or fitted, in a file (see docs/planning.md)")
           ->check(NotEmpty())});
}

// Under a heading of their own in `--help`, those that `command` has got since it had `before`.
void Group(const char* heading, size_t before, CLI::App& command) {
  const std::vector<CLI::Option*> options = command.get_options();
  for (size_t i = before; i < options.size(); ++i) {
    if (!options[i]->get_positional()) options[i]->group(heading);
  }
}

}  // namespace

CLI::Validator NotEmpty() {
  return CLI::Validator(
      [](const std::string& text) {
        return std::string(text.empty() ? "wanted a value, found nothing" : "");
      },
      "");
}

void AddPlanOptions(CLI::App& command, ModelOptions& options) {
  const size_t before = command.get_options().size();
  command
      .add_option("MODEL", options.model,
                  "A Hugging Face folder, a .gguf file, or a bare config.json")
      ->check(NotEmpty())
      ->required();
  AddPlacementOptions(command, options);
  AddShapeOptions(command, options);
  AddLimitOptions(command, options);
  command.add_option("--weights", options.weights, WeightsHelp())->check(NotEmpty());
  Group("Options of the plan", before, command);
}

void AddRunOptions(CLI::App& command, ModelOptions& options) {
  const size_t before = command.get_options().size();
  command
      .add_option("--plan", options.plan,
                  "Carry out this plan.json (of `tprun plan --format=json`)")
      ->check(NotEmpty());
  command
      .add_option("--backend", options.backend,
                  "How several ranks run: mpi (processes; starts mpirun itself), local (threads), "
                  "auto (mpi where there is one)")
      ->check(CLI::IsMember({"auto", "mpi", "local"}))
      ->capture_default_str();
  command
      .add_option("--exchange", options.exchange,
                  "How GPUs exchange: nccl, ipc (straight into each other's memory), host (through "
                  "host memory), auto (the best that a trial shows to work)")
      ->check(CLI::IsMember({"auto", "nccl", "ipc", "host"}))
      ->capture_default_str();
  command.add_flag("--no_graph", options.no_graph,
                   "GPUs: give every decode step kernel by kernel instead of as one CUDA graph");
  command.add_option("--threads", options.threads, "Threads per rank [cores / ranks of the host]")
      ->check(CLI::Range(0, 4096));
  command
      .add_option(
          "--kernels", options.kernels,
          "Of CPU ranks: cpu (vectorised) or reference (plain loops, one thread, for comparison)")
      ->check(CLI::IsMember({"cpu", "reference"}))
      ->capture_default_str();
  command
      .add_option(
          "--activations", options.activations,
          "In products with quantised weights. CPU ranks: int16 (rounded, a scale per "
          "block; as good as f32), int8 (about 1 % off, prefill twice as fast; bf16 weights "
          "then meet activations of bf16) or f32. GPU ranks that have fp8 products (compute "
          "capability 8.9 and newer) round activations to fp8 beside fp8 weights with int8, and "
          "with int16 where the checkpoint declares it; never with f32")
      ->check(CLI::IsMember({"int16", "int8", "f32"}))
      ->capture_default_str();
  command
      .add_option("--timeout", options.timeout_s,
                  "Seconds that a rank waits for another before the job ends")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  Group("Options of the ranks", before, command);
}

}  // namespace tprun
