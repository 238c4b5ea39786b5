#include "tests/comm/conformance_suite.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tests/comm/typed_values.h"

namespace tprun {
namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

// What rank `rank` gives as element i: whole numbers, so that sums over 5 ranks are exact in bf16.
int Given(int rank, int64_t i) { return static_cast<int>((i * 7 + rank * 3) % 11) - 5; }

absl::Status Expect(bool held, const std::string& wanted) {
  return held ? absl::OkStatus() : absl::InternalError(absl::StrCat("wanted ", wanted));
}

absl::Status AllReduceOnce(Communicator& comm, int64_t count, DType dtype, bool in_place) {
  TypedValues values(count, dtype);
  TypedValues sums(count, dtype);
  for (int64_t i = 0; i < count; ++i) values.Set(i, Given(comm.rank(), i));
  void* const to = in_place ? values.data() : sums.data();
  RETURN_IF_ERROR(comm.AllReduceSum(values.data(), to, count, dtype));
  const TypedValues& result = in_place ? values : sums;
  for (int64_t i = 0; i < count; ++i) {
    int wanted = 0;
    for (int r = 0; r < comm.size(); ++r) wanted += Given(r, i);
    RETURN_IF_ERROR(result.Check(i, wanted));
    if (!in_place) RETURN_IF_ERROR(values.Check(i, Given(comm.rank(), i)));
  }
  return absl::OkStatus();
}

absl::Status AllReduce(Communicator& comm, int64_t count) {
  for (DType dtype : kDTypes) {
    for (bool in_place : {false, true}) {
      RETURN_IF_ERROR(Annotate(AllReduceOnce(comm, count, dtype, in_place),
                               absl::StrCat(DTypeName(dtype), in_place ? " in place" : "")));
    }
  }
  return absl::OkStatus();
}

// Inexact sums: whatever the order of summation, it is the same for all ranks.
absl::Status SameBitsEverywhere(Communicator& comm) {
  constexpr int64_t kCount = 4099;
  for (DType dtype : kDTypes) {
    TypedValues values(kCount, dtype);
    uint32_t random = 12345 + comm.rank();
    for (int64_t i = 0; i < kCount; ++i) {
      random = random * 1664525 + 1013904223;
      values.Set(i, static_cast<float>(random) * 1e-9f);
    }
    RETURN_IF_ERROR(comm.AllReduceSum(values.data(), values.data(), kCount, dtype));
    std::string first(static_cast<const char*>(values.data()), kCount * SizeOf(dtype));
    ASSIGN_OR_RETURN(first, BroadcastString(comm, std::move(first), 0));
    RETURN_IF_ERROR(Expect(std::memcmp(first.data(), values.data(), first.size()) == 0,
                           absl::StrCat("the sums of rank 0 in ", DTypeName(dtype))));
  }
  return absl::OkStatus();
}

absl::Status AllGatherOnce(Communicator& comm, const std::vector<int64_t>& counts, DType dtype,
                           bool in_place) {
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  const int64_t begin = std::accumulate(counts.begin(), counts.begin() + comm.rank(), int64_t{0});
  const int64_t own = counts[comm.rank()];
  TypedValues gathered(total, dtype);
  TypedValues separate(own, dtype);
  for (int64_t i = 0; i < total; ++i) gathered.Set(i, 77);
  for (int64_t i = 0; i < own; ++i) {
    separate.Set(i, Given(comm.rank(), i));
    if (in_place) gathered.Set(begin + i, Given(comm.rank(), i));
  }
  char* const place = static_cast<char*>(gathered.data()) + begin * SizeOf(dtype);
  RETURN_IF_ERROR(
      comm.AllGather(in_place ? place : separate.data(), gathered.data(), counts, dtype));
  int64_t at = 0;
  for (int r = 0; r < comm.size(); ++r) {
    for (int64_t i = 0; i < counts[r]; ++i) RETURN_IF_ERROR(gathered.Check(at++, Given(r, i)));
  }
  return absl::OkStatus();
}

absl::Status AllGather(Communicator& comm) {
  const int n = comm.size();
  std::vector<std::vector<int64_t>> lists = {std::vector<int64_t>(n, 0), std::vector<int64_t>(n, 1),
                                             std::vector<int64_t>(n, 33)};
  lists.resize(6, std::vector<int64_t>(n));
  for (int r = 0; r < n; ++r) {
    lists[3][r] = r * 5;                   // rank 0 gives nothing
    lists[4][r] = r == n - 1 ? 0 : 7 + r;  // the last gives nothing
    lists[5][r] = r % 2 == 0 ? 100003 : 3;
  }
  for (const std::vector<int64_t>& counts : lists) {
    for (DType dtype : kDTypes) {
      for (bool in_place : {false, true}) {
        RETURN_IF_ERROR(Annotate(AllGatherOnce(comm, counts, dtype, in_place),
                                 absl::StrCat("counts ", counts[0], ", ... ", counts.back(), " ",
                                              DTypeName(dtype), in_place ? " in place" : "")));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status BroadcastFromEach(Communicator& comm) {
  for (int root = 0; root < comm.size(); ++root) {
    for (int64_t bytes : {0, 1, 3, 4096, 1000003}) {
      std::string wanted(bytes, '?');
      for (int64_t i = 0; i < bytes; ++i) wanted[i] = static_cast<char>('a' + (i + root) % 26);
      std::string data = comm.rank() == root ? wanted : std::string(bytes, '?');
      RETURN_IF_ERROR(comm.Broadcast(data.data(), bytes, root));
      RETURN_IF_ERROR(Expect(data == wanted, absl::StrCat("the ", bytes, " bytes of rank ", root)));
    }
    const std::string wanted = absl::StrCat("from ", root);
    ASSIGN_OR_RETURN(
        const std::string text,
        BroadcastString(comm, comm.rank() == root ? wanted : "a longer text of another", root));
    RETURN_IF_ERROR(Expect(text == wanted, absl::StrCat(wanted, ", found ", text)));
  }
  return absl::OkStatus();
}

// All send before any receives, if messages of moderate size are buffered; else rank 0 receives
// first.
absl::Status Ring(Communicator& comm) {
  const int n = comm.size();
  const int next = (comm.rank() + 1) % n;
  const int last = (comm.rank() + n - 1) % n;
  for (int64_t count : {0, 1, 1000, 100003}) {
    std::vector<int> sent(count), received(count, -1);
    for (int64_t i = 0; i < count; ++i) sent[i] = Given(comm.rank(), i);
    const bool receive_first = !comm.buffers_sends() && comm.rank() == 0 && n > 1;
    if (receive_first) RETURN_IF_ERROR(comm.Receive(received.data(), count * 4, last));
    RETURN_IF_ERROR(comm.Send(sent.data(), count * 4, next));
    std::fill(sent.begin(), sent.end(), -2);  // the message is a copy
    if (!receive_first) RETURN_IF_ERROR(comm.Receive(received.data(), count * 4, last));
    for (int64_t i = 0; i < count; ++i) {
      RETURN_IF_ERROR(Expect(received[i] == Given(last, i),
                             absl::StrCat(Given(last, i), " at ", i, ", found ", received[i])));
    }
  }
  return absl::OkStatus();
}

// 100 numbered messages of changing length from one rank to another, of which this is one.
absl::Status SendNumbered(Communicator& comm, int to) {
  for (int m = 0; m < 100; ++m) {
    const std::vector<int> message(1 + m * 37 % 3000, m * 100 + comm.rank());
    RETURN_IF_ERROR(comm.Send(message.data(), message.size() * 4, to));
  }
  return absl::OkStatus();
}

absl::Status ReceiveNumbered(Communicator& comm, int from) {
  for (int m = 0; m < 100; ++m) {
    std::vector<int> message(1 + m * 37 % 3000, -1);
    RETURN_IF_ERROR(comm.Receive(message.data(), message.size() * 4, from));
    RETURN_IF_ERROR(Expect(message[0] == m * 100 + from && message.back() == message[0],
                           absl::StrCat("message ", m, " of rank ", from, ", found ", message[0])));
  }
  return absl::OkStatus();
}

// Every rank sends to every other: all before they receive, or pair after pair.
absl::Status MessagesKeepOrder(Communicator& comm) {
  for (int from = 0; from < comm.size(); ++from) {
    for (int to = 0; to < comm.size(); ++to) {
      if (from == to) continue;
      if (from == comm.rank()) RETURN_IF_ERROR(SendNumbered(comm, to));
      if (to == comm.rank() && !comm.buffers_sends()) RETURN_IF_ERROR(ReceiveNumbered(comm, from));
    }
  }
  for (int from = 0; from < comm.size() && comm.buffers_sends(); ++from) {
    if (from != comm.rank()) RETURN_IF_ERROR(ReceiveNumbered(comm, from));
  }
  return absl::OkStatus();
}

// More than a back end buffers: the sender waits for the receiver.
absl::Status LargeMessages(Communicator& comm) {
  if (comm.size() < 2 || comm.rank() > 1) return absl::OkStatus();
  constexpr int64_t kCount = int64_t{10} << 20;  // 40 MiB
  std::vector<int> data(kCount);
  for (int m = 0; m < 3; ++m) {
    std::fill(data.begin(), data.end(), comm.rank() == 0 ? m : -1);
    RETURN_IF_ERROR(comm.rank() == 0 ? comm.Send(data.data(), kCount * 4, 1)
                                     : comm.Receive(data.data(), kCount * 4, 0));
    RETURN_IF_ERROR(Expect(data[0] == m && data[kCount - 1] == m, absl::StrCat("message ", m)));
  }
  return absl::OkStatus();
}

absl::Status WrongArguments(Communicator& comm) {
  float value = 0;
  const int n = comm.size();
  const std::vector<int64_t> short_counts(n - 1, 1);
  const std::vector<int64_t> negative(n, -1);
  const std::vector<absl::Status> statuses = {
      comm.AllReduceSum(&value, &value, -1, DType::kF32),
      comm.AllReduceSum(nullptr, &value, 1, DType::kF32),
      comm.AllGather(&value, &value, short_counts, DType::kF32),
      comm.AllGather(&value, &value, negative, DType::kF32),
      comm.Broadcast(&value, 4, n),
      comm.Broadcast(nullptr, 4, 0),
      comm.Send(&value, 4, -1),
      comm.Receive(&value, 4, n),
      comm.Split({}).status(),
      comm.Split({comm.rank(), comm.rank()}).status(),
      comm.Split({comm.rank(), n}).status(),
      comm.Split({(comm.rank() + 1) % (n + 1)}).status(),
  };
  for (size_t i = 0; i < statuses.size(); ++i) {
    RETURN_IF_ERROR(
        Expect(absl::IsInvalidArgument(statuses[i]),
               absl::StrCat("InvalidArgument of call ", i, ", found ", statuses[i].ToString())));
  }
  return absl::OkStatus();
}

// A sum over the group tells that it has the right members, and a broadcast that of their order.
absl::Status CheckGroup(Communicator& comm, const std::vector<int>& ranks) {
  const auto own = std::find(ranks.begin(), ranks.end(), comm.rank());
  if (own == ranks.end()) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group, comm.Split(ranks));
  RETURN_IF_ERROR(Expect(group->size() == ranks.size() && group->rank() == own - ranks.begin(),
                         absl::StrCat("rank ", own - ranks.begin(), " of ", ranks.size(),
                                      ", found ", group->rank(), " of ", group->size())));
  float sum = 0, wanted = 0;
  for (int r : ranks) wanted += static_cast<float>(1 << r);
  const float value = static_cast<float>(1 << comm.rank());
  RETURN_IF_ERROR(group->AllReduceSum(&value, &sum, 1, DType::kF32));
  RETURN_IF_ERROR(Expect(sum == wanted, absl::StrCat("a sum of ", wanted, ", found ", sum)));
  int last = comm.rank();
  RETURN_IF_ERROR(group->Broadcast(&last, sizeof(last), group->size() - 1));
  RETURN_IF_ERROR(Expect(last == ranks.back(), absl::StrCat("the number of rank ", ranks.back())));
  return group->Barrier();
}

absl::Status Subgroups(Communicator& comm) {
  const int n = comm.size();
  std::vector<int> all(n);
  std::iota(all.begin(), all.end(), 0);
  std::vector<std::vector<int>> groups = {all, {all.rbegin(), all.rend()}, all};
  for (int r = 0; r < n; ++r) groups.push_back({r});
  for (int r = 0; r + 1 < n; ++r) groups.push_back({r, r + 1});  // overlapping
  for (int r = 0; r + 1 < n; ++r) groups.push_back({r + 1, r});
  if (n >= 3) groups.insert(groups.end(), {{2, 0}, {2, 0, 1}, {1, 2}});
  for (const std::vector<int>& group : groups) RETURN_IF_ERROR(CheckGroup(comm, group));
  // Groups of a group, alive at the same time as their parent.
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> reversed, comm.Split(groups[1]));
  for (const std::vector<int>& group : groups) RETURN_IF_ERROR(CheckGroup(*reversed, group));
  return comm.Barrier();
}

absl::Status Agreement(Communicator& comm) {
  RETURN_IF_ERROR(AgreeOnStatus(comm, absl::OkStatus()));
  for (int failing = 0; failing < comm.size(); ++failing) {
    // All ranks from `failing` on fail, each in its own way.
    absl::Status own;
    if (comm.rank() == failing) own = absl::NotFoundError("model.gguf");
    if (comm.rank() > failing) own = absl::DataLossError("later");
    const absl::Status wanted = absl::NotFoundError(absl::StrCat("rank ", failing, ": model.gguf"));
    const absl::Status agreed = AgreeOnStatus(comm, own);
    RETURN_IF_ERROR(
        Expect(agreed == wanted, absl::StrCat(wanted.ToString(), ", found ", agreed.ToString())));
  }
  return AgreeOnStatus(comm, absl::OkStatus());
}

// Rank r is done when it is asked for the r-th time; one fails, or none, while others still wait.
absl::Status AwaitedOnAllRanks(Communicator& comm) {
  const absl::Status late = absl::DeadlineExceededError("late");
  for (int failing = -1; failing < comm.size(); ++failing) {
    int asked = 0;
    const absl::Status found = AwaitOnAllRanks(comm, late, [&]() -> absl::StatusOr<bool> {
      if (comm.rank() == failing) return absl::NotFoundError("no network");
      return asked++ == comm.rank() && (failing < 0 || comm.rank() == 0);
    });
    absl::Status wanted;
    if (failing >= 0) wanted = absl::NotFoundError(absl::StrCat("rank ", failing, ": no network"));
    RETURN_IF_ERROR(
        Expect(found == wanted, absl::StrCat(wanted.ToString(), ", found ", found.ToString())));
  }
  return absl::OkStatus();
}

// Many operations in a row, without a pause between.
absl::Status InARow(Communicator& comm) {
  for (int round = 0; round < 300; ++round) {
    std::vector<float> values(round % 70, static_cast<float>(round));
    RETURN_IF_ERROR(comm.AllReduceSum(values.data(), values.data(), values.size(), DType::kF32));
    for (float value : values) {
      RETURN_IF_ERROR(Expect(value == static_cast<float>(round * comm.size()),
                             absl::StrCat(round * comm.size(), ", found ", value)));
    }
    if (round % 3 == 0) RETURN_IF_ERROR(comm.Barrier());
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<ConformanceCheck> ConformanceChecks() {
  std::vector<ConformanceCheck> checks;
  for (int64_t count : {0, 1, 7, 100003, 1 << 20}) {
    checks.push_back({absl::StrCat("AllReduce", count),
                      [count](Communicator& comm) { return AllReduce(comm, count); }});
  }
  const std::vector<ConformanceCheck> others = {
      {"SameBitsEverywhere", SameBitsEverywhere},
      {"AllGather", AllGather},
      {"BroadcastFromEach", BroadcastFromEach},
      {"Ring", Ring},
      {"MessagesKeepOrder", MessagesKeepOrder},
      {"LargeMessages", LargeMessages},
      {"WrongArguments", WrongArguments},
      {"Subgroups", Subgroups},
      {"Agreement", Agreement},
      {"AwaitedOnAllRanks", AwaitedOnAllRanks},
      {"InARow", InARow},
  };
  checks.insert(checks.end(), others.begin(), others.end());
  const std::vector<ConformanceCheck> in_place = SumInPlaceChecks();
  checks.insert(checks.end(), in_place.begin(), in_place.end());
  return checks;
}

}  // namespace tprun
