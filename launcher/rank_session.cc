#include "launcher/rank_session.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "comm/device_communicator.h"
#include "engine/arch/assume_formats.h"
#include "engine/kernels/make_kernels.h"
#include "launcher/numa_binding.h"
#include "launcher/progress.h"
#include "launcher/report.h"
#include "launcher/terminal.h"
#include "topology/topology.h"

namespace tprun {
namespace {

// Tells hosts and the cores that they let a process use apart.
uint64_t CoresDigest() {
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  sched_getaffinity(0, sizeof(cpus), &cpus);
  const absl::string_view mask(reinterpret_cast<const char*>(&cpus), sizeof(cpus));
  uint64_t digest = 0xcbf29ce484222325;  // FNV-1a: the same in every process
  for (char c : absl::StrCat(host, "/", mask)) {
    digest = (digest ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return digest;
}

int UsableThreads() {
  const absl::StatusOr<Topology> topology = DetectTopology();
  if (topology.ok() && !topology->devices.empty()) return topology->devices[0].threads;
  return static_cast<int>(std::thread::hardware_concurrency());
}

// What a rank takes of the processors that it shares with others: those of a host, or of a part of
// it where mpirun or a container has bound them.
struct ProcessorShare {
  int threads;
  int index = 0;  // among the CPU ranks that share
  int cpu_ranks = 0;
};

absl::StatusOr<ProcessorShare> ShareProcessors(const ModelOptions& options, const Plan& plan,
                                               Communicator& world) {
  const uint64_t own = CoresDigest();
  std::vector<uint64_t> digests(world.size());
  // As pairs of 32-bit elements, which every back end moves unchanged.
  const std::vector<int64_t> counts(world.size(), 2);
  RETURN_IF_ERROR(world.AllGather(&own, digests.data(), counts, DType::kF32));
  const auto sharing = static_cast<int>(std::count(digests.begin(), digests.end(), own));
  ProcessorShare share{options.threads > 0 ? options.threads
                                           : std::max(1, UsableThreads() / sharing)};
  for (int rank = 0; rank < world.size(); ++rank) {
    if (digests[rank] != own || !IsCpu(plan.ranks[rank].device)) continue;
    ++share.cpu_ranks;
    if (rank < world.rank()) ++share.index;
  }
  return share;
}

// Of a GPU, as the system tells without opening it; 0 if it does not, and for the CPU.
int64_t FreeMemoryOf(const std::string& name) {
  if (name == "cpu") return 0;
  const absl::StatusOr<Topology> topology = DetectTopology();
  if (!topology.ok()) return 0;
  for (const DeviceInfo& device : topology->devices) {
    if (device.id == name) return device.available_bytes;
  }
  return 0;
}

absl::Status CheckWorld(const Plan& plan, int world_size) {
  if (plan.world_size() == world_size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the plan is for ", plan.world_size(), plan.world_size() == 1 ? " rank" : " ranks", ", but ",
      world_size, world_size == 1 ? " was" : " were", " started: use mpirun -n ", plan.world_size(),
      " or another plan"));
}

}  // namespace

std::string LocalName(const std::string& device) {
  return device.substr(device.find('/') + 1);  // npos + 1 == 0
}

bool IsCpu(const std::string& device) { return LocalName(device) == "cpu"; }

absl::StatusOr<std::unique_ptr<RankSession>> RankSession::Start(
    const ModelOptions& options, Communicator& world, absl::StatusOr<PreparedModel> model_of_rank_0,
    bool* agreed) {
  bool ignored;
  if (agreed == nullptr) agreed = &ignored;
  auto session = std::unique_ptr<RankSession>(new RankSession(world));
  RETURN_IF_ERROR(session->SharePlan(options, std::move(model_of_rank_0), agreed));
  RETURN_IF_ERROR(AgreeOnStatus(world, session->OpenRankDevice(options), agreed));
  RETURN_IF_ERROR(AgreeOnStatus(world, session->MakeExchange(options), agreed));
  RETURN_IF_ERROR(AgreeOnStatus(world, session->MakeEngine(options), agreed));
  RETURN_IF_ERROR(AgreeOnStatus(world, session->Load(), agreed));
  return session;
}

absl::Status RankSession::SharePlan(const ModelOptions& options,
                                    absl::StatusOr<PreparedModel> model, bool* agreed) {
  *agreed = false;
  absl::Status status;
  std::string json;
  if (first_rank()) {
    status = model.status();
    if (status.ok()) status = CheckRunnable(model->spec);
    if (status.ok()) status = CheckRunnable(model->plan.options);
    if (status.ok()) status = CheckFits(model->plan);
    if (status.ok()) status = CheckWorld(model->plan, world_.size());
    if (status.ok()) {
      model_ = *std::move(model);
      json = PlanToJson(model_.plan, model_.spec);
    }
  }
  // Sent apart from AgreeOnStatus, which would name a rank for an error that is nobody's in
  // particular.
  const std::string code = absl::StrCat(static_cast<int>(status.code()));
  ASSIGN_OR_RETURN(const std::string shared_code, BroadcastString(world_, code, 0));
  ASSIGN_OR_RETURN(const std::string message,
                   BroadcastString(world_, std::string(status.message()), 0));
  if (shared_code != "0") {
    *agreed = true;
    return absl::Status(static_cast<absl::StatusCode>(std::stoi(shared_code)), message);
  }
  ASSIGN_OR_RETURN(json, BroadcastString(world_, std::move(json), 0));
  status = absl::OkStatus();
  if (!first_rank()) {
    absl::StatusOr<PreparedModel> opened = PrepareForPlan(options, json);
    status = opened.status();
    if (status.ok()) model_ = *std::move(opened);
  }
  return AgreeOnStatus(world_, status, agreed);
}

absl::Status RankSession::OpenRankDevice(const ModelOptions& options) {
  ASSIGN_OR_RETURN(const ProcessorShare share, ShareProcessors(options, model_.plan, world_));
  const std::string name = LocalName(model_.plan.ranks[world_.rank()].device);
  free_at_start_ = FreeMemoryOf(name);
  RETURN_IF_ERROR(world_.Barrier());  // others may open the same GPU
  ASSIGN_OR_RETURN(device_, OpenDevice(name));
  const int cores =
      static_cast<int>(AllowedCpus().size()) / std::max(share.cpu_ranks, 1);  // of this rank
  if (device_->host_accessible()) {
    // Before the rank's threads start and its memory is touched.
    const NumaShare nodes = ShareNumaNodes(AllowedCpus(), share.index, share.cpu_ranks);
    const absl::Status bound = BindToShare(nodes);
    if (!bound.ok()) {
      WriteLog(absl::StrCat("tprun: ", absl::string_view(bound.message())));
    } else if (!nodes.cpus.empty()) {
      WriteLog(absl::StrCat("rank ", world_.rank(), ": ", DescribeShare(nodes)));
    }
  }
  pool_ = std::make_unique<ThreadPool>(share.threads, std::max(cores, 1));
  if (options.kernels == "reference" && device_->host_accessible()) {
    kernels_ = MakeReferenceKernels();
    return Profile(options, Activations::kF32);
  }
  const Activations activations = options.activations == "f32"    ? Activations::kF32
                                  : options.activations == "int8" ? Activations::kInt8
                                                                  : Activations::kInt16;
  ASSIGN_OR_RETURN(kernels_, MakeKernelsFor(*device_, pool_.get(), activations,
                                            DeclaresFp8Activations(model_.checkpoint->config())));
  return Profile(options, activations);
}

absl::Status RankSession::Profile(const ModelOptions& options, Activations activations) {
  if (!options.profile) return absl::OkStatus();
  if (!device_->host_accessible()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--profile times the ops of CPU ranks, and rank ", world_.rank(), " runs on ",
                     device_->name(), ": for GPUs use Nsight Systems (nsys profile tprun ...)"));
  }
  profile_ = std::make_unique<OpProfile>();
  kernels_ = ProfileKernels(std::move(kernels_), activations, profile_.get());
  profiled_world_ = ProfileCommunicator(&world_, profile_.get());
  return absl::OkStatus();
}

absl::Status RankSession::MakeExchange(const ModelOptions& options) {
  const std::vector<RankPlan>& ranks = model_.plan.ranks;
  const bool all_cpus = std::all_of(ranks.begin(), ranks.end(),
                                    [](const RankPlan& rank) { return IsCpu(rank.device); });
  if (all_cpus) return absl::OkStatus();
  DeviceCommunicatorOptions wanted;
  wanted.backend = options.exchange;
  absl::StatusOr<std::unique_ptr<Communicator>> made =
      MakeDeviceCommunicator(world_, *device_, wanted);
  if (!made.ok()) return Annotate(made.status(), "--exchange");
  exchange_ = *std::move(made);
  return absl::OkStatus();
}

absl::Status RankSession::MakeEngine(const ModelOptions& options) {
  const EngineParts parts = {.world = profiled_world_ != nullptr ? profiled_world_.get() : &world_,
                             .device = device_.get(),
                             .kernels = kernels_.get(),
                             .pool = pool_.get(),
                             .exchange = exchange_.get(),
                             .record_decode = !options.no_graph,
                             .load_threads = model_.plan.ranks[world_.rank()].load_threads};
  ASSIGN_OR_RETURN(engine_,
                   Engine::Create(model_.spec, model_.plan.placements, model_.plan.options, parts));
  return absl::OkStatus();
}

int64_t RankSession::MemoryInUse() const {
  if (device_->host_accessible()) return ResidentBytes();
  if (free_at_start_ == 0) return 0;
  return free_at_start_ - FreeMemoryOf(device_->name());
}

absl::Status RankSession::Load() {
  const absl::Time start = absl::Now();
  LoadCounters counters;
  const auto load = [&] {
    return engine_->ReadWeights(*model_.checkpoint, [&](int64_t done, int64_t total) {
      counters.done_bytes = done;
      counters.total_bytes = total;
    });
  };
  std::future<absl::Status> loading;
  try {
    loading = std::async(std::launch::async, load);
  } catch (const std::system_error&) {  // the system gives no thread
    loading = std::async(std::launch::deferred, load);
    loading.wait();
  }
  const absl::Status together = AwaitLoading(loading, counters);
  absl::Status status = loading.get();
  status.Update(together);
  if (status.ok()) status = engine_->ArrangeWeights();
  load_seconds_ = absl::ToDoubleSeconds(absl::Now() - start);
  return status;
}

// Ranks load for different times, which are no reason to give a slow one up: they meet again and
// again, so that only one that has stopped answering is late.
absl::Status RankSession::AwaitLoading(const std::future<absl::Status>& loading,
                                       const LoadCounters& counters) {
  constexpr std::chrono::milliseconds kInterval(200);  // below the shortest --timeout
  ProgressBar bar("loading");
  int64_t loaded = 0;
  while (loaded < world_.size()) {
    const bool ended = loading.wait_for(kInterval) == std::future_status::ready;
    const std::array<int64_t, 3> own = {ended ? 1 : 0, counters.done_bytes, counters.total_bytes};
    std::vector<std::array<int64_t, 3>> all(world_.size());
    const std::vector<int64_t> counts(world_.size(), sizeof(own) / sizeof(float));
    RETURN_IF_ERROR(world_.AllGather(own.data(), all.data(), counts, DType::kF32));
    std::array<int64_t, 3> sum = {};
    for (const auto& rank : all) {
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += rank[i];
    }
    loaded = sum[0];
    if (first_rank()) bar.Update(sum[1], sum[2]);
  }
  bar.Finish();
  return absl::OkStatus();
}

}  // namespace tprun
