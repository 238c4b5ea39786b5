#include "comm/device_ladder.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "absl/strings/str_cat.h"
#include "comm/ipc_protocol.h"

namespace tprun {
namespace {

bool SameGpu(const PeerIdentity& a, const PeerIdentity& b) {
  return a.host == b.host && std::memcmp(a.gpu, b.gpu, sizeof(a.gpu)) == 0;
}

// What the ranks of a group have in common.
struct GroupFacts {
  explicit GroupFacts(absl::Span<const PeerIdentity> ranks) {
    for (const PeerIdentity& rank : ranks) {
      gpus += rank.is_gpu != 0;
      nccl_everywhere &= rank.has_nccl != 0;
      one_host &= rank.host == ranks[0].host;
      one_process &= rank.host == ranks[0].host && rank.process == ranks[0].process;
    }
    for (size_t a = 0; a < ranks.size(); ++a) {
      for (size_t b = 0; b < a; ++b) {
        shared_gpu |= ranks[a].is_gpu && ranks[b].is_gpu && SameGpu(ranks[a], ranks[b]);
      }
    }
  }

  int gpus = 0;
  bool nccl_everywhere = true;
  bool one_host = true;
  bool one_process = true;
  bool shared_gpu = false;
};

// Why a back end cannot be taken; empty when it can.
std::string WhyNoNccl(const GroupFacts& facts, int ranks) {
  if (facts.gpus < ranks) return "a rank of the group has no GPU";
  if (facts.shared_gpu) return "two ranks share a GPU, which NCCL refuses";
  if (!facts.nccl_everywhere) return "the NCCL library (libnccl.so.2) was not found on every rank";
  return "";
}

std::string WhyNoIpc(const GroupFacts& facts, int ranks) {
  if (facts.gpus < ranks) return "a rank of the group has no GPU";
  if (!facts.one_host) return "the ranks are on several hosts";
  if (ranks > kMostIpcRanks) return absl::StrCat("more than ", kMostIpcRanks, " ranks");
  return "";
}

std::string Describe(const GroupFacts& facts, int ranks) {
  if (facts.gpus == 0) return "no GPU in the group";
  if (facts.gpus < ranks) return "CPU and GPU ranks in one group";
  return absl::StrCat(facts.shared_gpu ? "ranks share a GPU" : "each rank its GPU", ", ",
                      facts.one_process ? "one process"
                      : facts.one_host  ? "one host"
                                        : "several hosts");
}

LadderChoice ChooseAuto(const GroupFacts& facts, int ranks) {
  LadderChoice choice;
  choice.reason = Describe(facts, ranks);
  choice.nccl = WhyNoNccl(facts, ranks).empty();
  choice.ipc = WhyNoIpc(facts, ranks).empty();
  if (choice.ipc && facts.shared_gpu && !facts.one_process) {
    // Processes take turns on a GPU by the millisecond, and a kernel that waits for another
    // process's wastes its turn.
    choice.ipc = false;
    absl::StrAppend(&choice.reason, "; processes that share a GPU take turns, so no ipc");
  }
  if (!facts.nccl_everywhere && !facts.shared_gpu && facts.gpus == ranks) {
    absl::StrAppend(&choice.reason, "; ", WhyNoNccl(facts, ranks));
  }
  return choice;
}

}  // namespace

absl::StatusOr<LadderChoice> ChooseLadder(absl::Span<const PeerIdentity> ranks,
                                          absl::string_view backend) {
  const GroupFacts facts(ranks);
  const int count = static_cast<int>(ranks.size());
  if (backend != "auto" && backend != "nccl" && backend != "ipc" && backend != "host") {
    return absl::InvalidArgumentError(
        absl::StrCat("back end \"", backend, "\": wanted auto, nccl, ipc or host"));
  }
  LadderChoice choice;
  choice.direct = facts.gpus == 0;
  // Groups that have nothing to choose take what there is, also when a back end was asked for.
  if (choice.direct || count == 1) {
    choice.reason = count == 1 ? "one rank" : Describe(facts, count);
    return choice;
  }
  if (backend == "auto") return ChooseAuto(facts, count);
  choice.reason = absl::StrCat("asked for; ", Describe(facts, count));
  std::string obstacle;
  if (backend == "nccl") obstacle = WhyNoNccl(facts, count);
  if (backend == "ipc") obstacle = WhyNoIpc(facts, count);
  if (!obstacle.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "back end \"", backend, "\" is not possible: ", obstacle, "; use auto or host"));
  }
  choice.nccl = backend == "nccl";
  choice.ipc = backend == "ipc";
  return choice;
}

}  // namespace tprun
