// The part of the suite for sums in place.
#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tests/comm/conformance_suite.h"

namespace tprun {
namespace {

constexpr int64_t kFloats = 100003;

// Small whole numbers: exact in any order.
float Given(int rank, int64_t i, int round) {
  return static_cast<float>((i * 7 + rank * 3 + round) % 11 - 5);
}

absl::Status CheckSum(int ranks, int64_t i, int round, float found) {
  float wanted = 0;
  for (int r = 0; r < ranks; ++r) wanted += Given(r, i, round);
  if (found == wanted) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("wanted ", wanted, " as element ", i, " of round ", round, ", found ", found));
}

// One sum: read by every rank where it was written, or first added up by each for its share.
absl::Status SumOnce(SharedParts& parts, int64_t count, int round, bool shared_out) {
  const auto ranks = static_cast<int>(parts.all().size());
  RETURN_IF_ERROR(parts.AwaitReaders());
  for (int64_t i = 0; i < count; ++i) parts.own()[i] = Given(parts.rank(), i, round);
  RETURN_IF_ERROR(parts.Meet(count));
  const auto sum_of = [&](int64_t i) {
    float sum = 0;
    for (const float* part : parts.all()) sum += part[i];
    return sum;
  };
  const auto begin = [&](int rank) { return count * rank / ranks; };
  if (shared_out) {
    for (int64_t i = begin(parts.rank()); i < begin(parts.rank() + 1); ++i) {
      parts.own()[i] = sum_of(i);
    }
    RETURN_IF_ERROR(parts.Meet(count));
  }
  for (int r = 0; r < ranks; ++r) {
    for (int64_t i = begin(r); i < begin(r + 1); ++i) {
      RETURN_IF_ERROR(CheckSum(ranks, i, round, shared_out ? parts.all()[r][i] : sum_of(i)));
    }
  }
  parts.Leave();
  return absl::OkStatus();
}

// Ranks of changing speed, so that each at times waits, sleeps and runs ahead.
absl::Status SumsInPlace(Communicator& comm) {
  ASSIGN_OR_RETURN(const std::unique_ptr<SharedParts> parts, comm.ShareParts(kFloats));
  const bool expected = comm.size() > 1 && (comm.backend() == "local" || comm.backend() == "mpi");
  if ((parts != nullptr) != expected) {
    return absl::InternalError(absl::StrCat("wanted ", expected ? "shared parts" : "none", " of ",
                                            comm.size(), " ranks over ", comm.backend()));
  }
  if (parts == nullptr) return absl::OkStatus();
  if (parts->all().size() != comm.size() || parts->rank() != comm.rank() ||
      parts->own() != parts->all()[comm.rank()]) {
    return absl::InternalError("parts of other ranks than those of the group");
  }
  std::mt19937 random(comm.rank()), sizes(99);
  for (int round = 0; round < 300; ++round) {
    const int64_t count = round % 50 == 0 ? kFloats : sizes() % 3000;
    if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 900));
    RETURN_IF_ERROR(SumOnce(*parts, count, round, /*shared_out=*/round % 3 == 0));
  }
  return comm.Barrier();
}

// Two groups that have a rank in common, and the parts of one after the group has gone.
absl::Status SumsInPlaceOfGroups(Communicator& comm) {
  const int last = comm.size() - 1;
  if (comm.size() < 3 || (comm.rank() != 0 && comm.rank() != last)) return comm.Barrier();
  std::unique_ptr<SharedParts> parts, reversed;
  {
    ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> ends, comm.Split({0, last}));
    ASSIGN_OR_RETURN(parts, ends->ShareParts(10));
    ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> back, ends->Split({1, 0}));
    ASSIGN_OR_RETURN(reversed, back->ShareParts(20));
  }
  for (int round = 0; parts != nullptr && reversed != nullptr && round < 20; ++round) {
    RETURN_IF_ERROR(SumOnce(*parts, 10, round, round % 2 == 0));
    RETURN_IF_ERROR(SumOnce(*reversed, 20, round, round % 2 == 1));
  }
  return comm.Barrier();
}

// Last, as the parts are of no use afterwards.
absl::Status UnequalSumsInPlace(Communicator& comm) {
  ASSIGN_OR_RETURN(const std::unique_ptr<SharedParts> parts, comm.ShareParts(10));
  if (parts == nullptr) return absl::OkStatus();
  const absl::Status status = parts->Meet(comm.rank() == 0 ? 9 : 10);
  if (comm.rank() < 2 && !absl::IsInternal(status)) {
    return absl::InternalError(absl::StrCat("wanted Internal, found ", status.ToString()));
  }
  return comm.Barrier();
}

}  // namespace

std::vector<ConformanceCheck> SumInPlaceChecks() {
  return {{"SumsInPlace", SumsInPlace},
          {"SumsInPlaceOfGroups", SumsInPlaceOfGroups},
          {"UnequalSumsInPlace", UnequalSumsInPlace}};
}

}  // namespace tprun
