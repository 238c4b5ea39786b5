#include "partition/share_solver.h"

#include <algorithm>

#include "partition/fastest_shares.h"

namespace tprun {
namespace {

class Solver {
 public:
  explicit Solver(const ShareProblem& problem)
      : problem_(problem), members_(static_cast<int>(problem.capacity.size())) {}

  absl::optional<ShareSolution> Solve(double limit) {
    limit_ = limit;
    if (members_ == 1) return Alone();
    MakeRoom();
    const double first_floor = FirstFloor();
    const double second_floor = SecondFloor();
    if (!(first_floor + second_floor < limit_)) return absl::nullopt;
    // Most problems have no solution below the limit: that is found out first.
    const double first_most = limit_ - second_floor;
    const double second_most = limit_ - first_floor;
    if (!Feasible(first_most, second_most)) return absl::nullopt;
    if (Feasible(first_floor, second_floor)) return Recover(first_floor, second_floor);
    const std::vector<double> firsts =
        ValuesWithin(first_floor, first_most, problem_.first_seconds);
    seconds_ = ValuesWithin(second_floor, second_most, problem_.second_seconds);
    for (size_t i = LeastFeasible(firsts, second_most); i < firsts.size(); ++i) {
      if (!(firsts[i] + second_floor < limit_)) break;
      TryFirst(firsts[i]);
    }
    if (!found_) return absl::nullopt;
    return Recover(best_first_, best_second_);
  }
  int64_t work() const { return work_; }

 private:
  size_t Cell(int64_t offset, int64_t share) const {
    return problem_.by_offset ? offset * (problem_.first_units + 1) + share : share;
  }
  size_t RoomCell(int64_t offset, int64_t share) const {
    return offset * (problem_.first_units + 1) + share;
  }

  // One member has everything.
  absl::optional<ShareSolution> Alone() const {
    const size_t cell = Cell(0, problem_.first_units);
    const int64_t units = problem_.second_units;
    if (problem_.first_bytes[cell] + problem_.second_bytes[units] > problem_.capacity[0]) {
      return absl::nullopt;
    }
    const double seconds = problem_.first_seconds[0][cell] + problem_.second_seconds[0][units];
    if (!(seconds < limit_)) return absl::nullopt;
    return ShareSolution{seconds, {problem_.first_units}, {units}};
  }

  // The most second units beside each first share, -1 where the share alone is too much.
  void MakeRoom() {
    const std::vector<int64_t>& bytes = problem_.second_bytes;
    const int64_t units = problem_.first_units;
    room_.assign(members_, std::vector<int64_t>(problem_.first_bytes.size(), -1));
    for (int i = 0; i < members_; ++i) {
      for (size_t cell = 0; cell < problem_.first_bytes.size(); ++cell) {
        const int64_t left = problem_.capacity[i] - problem_.first_bytes[cell];
        if (left < bytes[0]) continue;
        room_[i][cell] = std::upper_bound(bytes.begin(), bytes.end(), left) - bytes.begin() - 1;
      }
    }
    best_.resize(units + 1);
  }

  // Least times of each kind were memory without end.
  double FirstFloor() const {
    if (!problem_.by_offset) {
      return Slowest(problem_.first_seconds,
                     FastestShares(problem_.first_units, members_, [&](int i, int64_t share) {
                       return problem_.first_seconds[i][share];
                     }));
    }
    double low = 0;
    double high = 0;
    for (int i = 0; i < members_; ++i) {
      for (double value : problem_.first_seconds[i]) high = std::max(high, value);
    }
    for (int step = 0; step < kHalvings; ++step) {
      const double middle = (low + high) / 2;
      (Reaches(middle) ? high : low) = middle;
    }
    return high;
  }

  // Members can take all first units within `first` seconds each.
  bool Reaches(double first) const {
    int64_t offset = 0;
    for (int i = 0; i < members_; ++i) {
      int64_t share = 0;
      while (offset + share < problem_.first_units &&
             problem_.first_seconds[i][Cell(offset, share + 1)] <= first) {
        ++share;
      }
      offset += share;
    }
    return offset == problem_.first_units;
  }

  double SecondFloor() const {
    return Slowest(problem_.second_seconds,
                   FastestShares(problem_.second_units, members_, [&](int i, int64_t share) {
                     return problem_.second_seconds[i][share];
                   }));
  }

  static double Slowest(const std::vector<std::vector<double>>& seconds,
                        const std::vector<int64_t>& shares) {
    double slowest = 0;
    for (size_t i = 0; i < shares.size(); ++i) {
      slowest = std::max(slowest, seconds[i][shares[i]]);
    }
    return slowest;
  }

  // The values of a table from `least` to `most`, and `least` itself, in order.
  static std::vector<double> ValuesWithin(double least, double most,
                                          const std::vector<std::vector<double>>& table) {
    std::vector<double> values = {least};
    for (size_t row = 0; row < table.size(); ++row) {
      if (row > 0 && table[row] == table[row - 1]) continue;  // equal devices stand together
      for (double value : table[row]) {
        if (value > least && value <= most) values.push_back(value);
      }
    }
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    return values;
  }

  // The first of `firsts` beside which the second kind can keep its bound; some of them does.
  size_t LeastFeasible(const std::vector<double>& firsts, double second_most) {
    size_t low = 0;
    size_t high = firsts.size() - 1;
    while (low < high) {
      const size_t middle = low + (high - low) / 2;
      if (Feasible(firsts[middle], second_most)) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  // The most second units that member i may take within `second` seconds.
  int64_t MostSecond(int i, double second) const {
    const std::vector<double>& row = problem_.second_seconds[i];
    return std::upper_bound(row.begin(), row.end(), second) - row.begin() - 1;
  }

  // After member i, best_[o] is the most second units placed with o first units placed, -1: none.
  // `taken` gets the first share of the best way there.
  bool Run(double first, double second, std::vector<std::vector<int64_t>>* taken) {
    const int64_t units = problem_.first_units;
    work_ += members_ * (units + 1) * (units + 2) / 2;
    std::fill(best_.begin(), best_.end(), -1);
    best_[0] = 0;
    std::vector<int64_t> next(units + 1);
    for (int i = 0; i < members_; ++i) {
      const int64_t most = MostSecond(i, second);
      if (taken != nullptr) taken->emplace_back(units + 1, 0);
      std::fill(next.begin(), next.end(), -1);
      if (most < 0) return false;
      for (int64_t offset = 0; offset <= units; ++offset) {
        if (best_[offset] < 0) continue;
        for (int64_t share = 0; offset + share <= units; ++share) {
          const size_t cell = Cell(offset, share);
          if (problem_.first_seconds[i][cell] > first || room_[i][cell] < 0) break;
          const int64_t placed = best_[offset] + std::min(most, room_[i][cell]);
          if (placed <= next[offset + share]) continue;
          next[offset + share] = placed;
          if (taken != nullptr) taken->back()[offset + share] = share;
        }
      }
      best_.swap(next);
    }
    return best_[units] >= problem_.second_units;
  }
  bool Feasible(double first, double second) {
    return EnoughSecond(second) && Run(first, second, nullptr);
  }

  // All second units can be placed were there no first ones: what most bounds fail by.
  bool EnoughSecond(double second) const {
    int64_t placed = 0;
    for (int i = 0; i < members_; ++i) {
      placed += std::max<int64_t>(0, std::min(MostSecond(i, second), room_[i][0]));
    }
    return placed >= problem_.second_units;
  }

  // The least time of the second kind beside `first`, if both together are below the limit. It
  // never grows with `first`, so that of the last one bounds it.
  void TryFirst(double first) {
    size_t high = std::min(best_index_, seconds_.size() - 1);
    while (!(first + seconds_[high] < limit_)) {
      if (high == 0) return;
      --high;
    }
    if (!Feasible(first, seconds_[high])) return;
    size_t low = 0;
    while (low < high) {
      const size_t middle = low + (high - low) / 2;
      if (Feasible(first, seconds_[middle])) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    found_ = true;
    best_index_ = high;
    best_first_ = first;
    best_second_ = seconds_[high];
    limit_ = first + best_second_;
  }

  ShareSolution Recover(double first, double second) {
    std::vector<std::vector<int64_t>> taken;
    Run(first, second, &taken);
    ShareSolution solution;
    solution.first.resize(members_);
    solution.second.resize(members_);
    int64_t end = problem_.first_units;
    int64_t surplus = -problem_.second_units;
    double slowest = 0;
    for (int i = members_ - 1; i >= 0; --i) {
      solution.first[i] = taken[i][end];
      end -= solution.first[i];
      const size_t cell = Cell(end, solution.first[i]);
      solution.second[i] = std::min(MostSecond(i, second), room_[i][cell]);
      surplus += solution.second[i];
      slowest = std::max(slowest, problem_.first_seconds[i][cell]);
    }
    for (; surplus > 0; --surplus) --solution.second[SlowestSecond(solution.second)];
    solution.seconds = slowest + Slowest(problem_.second_seconds, solution.second);
    return solution;
  }

  int SlowestSecond(const std::vector<int64_t>& shares) const {
    int slowest = -1;
    for (int i = 0; i < members_; ++i) {
      if (shares[i] == 0) continue;
      if (slowest < 0 || problem_.second_seconds[i][shares[i]] >=
                             problem_.second_seconds[slowest][shares[slowest]]) {
        slowest = i;
      }
    }
    return slowest;
  }

  static constexpr int kHalvings = 64;  // beyond the precision of a double

  const ShareProblem& problem_;
  int members_;
  int64_t work_ = 0;
  double limit_ = 0;
  bool found_ = false;
  double best_first_ = 0;
  double best_second_ = 0;
  size_t best_index_ = static_cast<size_t>(-1);
  std::vector<double> seconds_;             // what the second kind's bound can be, in order
  std::vector<std::vector<int64_t>> room_;  // [member][cell]
  std::vector<int64_t> best_;
};

}  // namespace

absl::optional<ShareSolution> SolveShares(const ShareProblem& problem, double limit,
                                          int64_t* work) {
  Solver solver(problem);
  absl::optional<ShareSolution> solution = solver.Solve(limit);
  if (work != nullptr) *work += solver.work();
  return solution;
}

}  // namespace tprun
