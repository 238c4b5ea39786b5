// The part of the suite in which a rank fails.
#include <chrono>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "tests/comm/conformance_suite.h"

namespace tprun {
namespace {

using Operation = std::function<absl::Status(Communicator&)>;

// The clock that all processes of a host share.
std::chrono::nanoseconds Now() { return std::chrono::steady_clock::now().time_since_epoch(); }

// Runs `operation` until it fails: all ranks but the last come to it. That one aborts at
// `abort_at`.
absl::Status WaitInVain(Communicator& comm, const Operation& operation,
                        std::chrono::nanoseconds abort_at) {
  const absl::Status status = operation(comm);
  const auto heard_after = absl::Nanoseconds((Now() - abort_at).count());
  const int failing = comm.size() - 1;
  const absl::Status wanted =
      absl::AbortedError(absl::StrCat("rank ", failing, " failed: no disk"));
  if (status != wanted) {
    return absl::InternalError(
        absl::StrCat("wanted ", wanted.ToString(), ", found ", status.ToString()));
  }
  if (heard_after > absl::Seconds(1.5)) {
    return absl::InternalError(
        absl::StrCat("heard of it after ", absl::FormatDuration(heard_after)));
  }
  // Nothing works any more, and all says why.
  return comm.Barrier() == wanted ? absl::OkStatus() : absl::InternalError("barrier: another end");
}

// The last rank aborts `lead` after all have begun; by then the others wait.
ConformanceCheck AbortCheck(const std::string& name, const Operation& operation,
                            std::chrono::milliseconds lead = std::chrono::milliseconds(100)) {
  return {absl::StrCat("AbortDuring", name), [operation, lead](Communicator& comm) -> absl::Status {
            RETURN_IF_ERROR(comm.Barrier());
            const int failing = comm.size() - 1;
            int64_t abort_at = (Now() + lead).count();
            RETURN_IF_ERROR(comm.Broadcast(&abort_at, sizeof(abort_at), failing));
            const std::chrono::nanoseconds at(abort_at);
            if (comm.rank() != failing) return WaitInVain(comm, operation, at);
            std::this_thread::sleep_for(at - Now());
            // From another thread, as a watchdog would.
            std::thread([&] { comm.Abort("no disk"); }).join();
            return WaitInVain(
                comm, [](Communicator& c) { return c.Barrier(); }, at);
          }};
}

// Each in another group: rank 0 with the failing rank, the others in groups without it.
absl::Status WaitInGroup(Communicator& comm) {
  if (comm.rank() == 0) {
    return comm.Split({0, comm.size() - 1}).status();
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> alone, comm.Split({comm.rank()}));
  char byte;
  return alone->Receive(&byte, 1, 0);  // from itself, which never sends
}

// In the meeting of a sum in place, or for those who read the last one.
ConformanceCheck AbortOfSumInPlace(const std::string& name, bool all_met) {
  return {absl::StrCat("AbortDuring", name), [name, all_met](Communicator& comm) -> absl::Status {
            ASSIGN_OR_RETURN(const std::unique_ptr<SharedParts> parts, comm.ShareParts(1));
            if (parts != nullptr && all_met) RETURN_IF_ERROR(parts->Meet(1));
            const auto wait = [&](Communicator& c) {
              if (parts == nullptr) return c.Barrier();
              if (all_met) parts->Leave();
              return all_met ? parts->AwaitReaders() : parts->Meet(1);
            };
            return AbortCheck(name, wait).run(comm);
          }};
}

// Rank 0 in a sum in place, where there are any.
absl::Status WaitPastDeadline(Communicator& comm) {
  ASSIGN_OR_RETURN(const std::unique_ptr<SharedParts> parts, comm.ShareParts(1));
  RETURN_IF_ERROR(comm.Barrier());
  const absl::Time start = absl::Now();
  if (comm.rank() == comm.size() - 1) {
    absl::SleepFor(comm.timeout() * 2);
    return absl::OkStatus();
  }
  float value = 0;
  const absl::Status status = parts != nullptr && comm.rank() == 0
                                  ? parts->Meet(1)
                                  : comm.AllReduceSum(&value, &value, 1, DType::kF32);
  const absl::Duration took = absl::Now() - start;
  if (!absl::IsDeadlineExceeded(status) && !absl::IsAborted(status)) {
    return absl::InternalError(absl::StrCat(
        "wanted DeadlineExceeded (or Aborted after another rank's), found ", status.ToString()));
  }
  if (took < comm.timeout() * 0.9 || took > comm.timeout() * 1.8) {
    return absl::InternalError(absl::StrCat("came back after ", absl::FormatDuration(took),
                                            ", the timeout is ",
                                            absl::FormatDuration(comm.timeout())));
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<ConformanceCheck> AbortChecks() {
  const auto all_gather = [](Communicator& comm) {
    std::vector<float> values(comm.size());
    const std::vector<int64_t> counts(comm.size(), 1);
    return comm.AllGather(&values[comm.rank()], values.data(), counts, DType::kF32);
  };
  return {
      AbortCheck("AllReduceSum",
                 [](Communicator& comm) {
                   float value = 0;
                   return comm.AllReduceSum(&value, &value, 1, DType::kF32);
                 }),
      AbortCheck("AllGather", all_gather),
      AbortCheck("Broadcast",
                 [](Communicator& comm) {
                   float value = 0;
                   return comm.Broadcast(&value, 4, comm.size() - 1);
                 }),
      AbortCheck("Receive",
                 [](Communicator& comm) {
                   float value = 0;
                   return comm.Receive(&value, 4, comm.size() - 1);
                 }),
      // Takes a while until no more is buffered.
      AbortCheck(
          "Send",
          [](Communicator& comm) {
            const std::string block(size_t{20} << 20, 'x');
            absl::Status status;
            while (status.ok()) {
              status = comm.Send(block.data(), block.size(), comm.size() - 1);
            }
            return status;
          },
          std::chrono::seconds(1)),
      AbortCheck("Barrier", [](Communicator& comm) { return comm.Barrier(); }),
      AbortCheck("SplitAndInGroups", WaitInGroup),
      AbortCheck("Agreement",
                 [](Communicator& comm) { return AgreeOnStatus(comm, absl::OkStatus()); }),
      AbortOfSumInPlace("SumInPlace", /*all_met=*/false),
      AbortOfSumInPlace("ReadingOfASumInPlace", /*all_met=*/true),
  };
}

ConformanceCheck DeadlineCheck() { return {"Deadline", WaitPastDeadline}; }

}  // namespace tprun
