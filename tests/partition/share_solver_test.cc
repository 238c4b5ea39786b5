#include "partition/share_solver.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "gtest/gtest.h"
#include "partition/fastest_shares.h"

namespace tprun {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// Calls `visit` with every way to write `total` as a sum of `parts` whole numbers.
template <typename Visit>
void ForEachSum(int64_t total, int parts, std::vector<int64_t>& shares, const Visit& visit) {
  if (parts == 1) {
    shares.push_back(total);
    visit(shares);
    shares.pop_back();
    return;
  }
  for (int64_t share = 0; share <= total; ++share) {
    shares.push_back(share);
    ForEachSum(total - share, parts - 1, shares, visit);
    shares.pop_back();
  }
}

struct Cost {
  double seconds = 0;
  bool fits = true;
};

Cost CostOf(const ShareProblem& problem, const std::vector<int64_t>& first,
            const std::vector<int64_t>& second) {
  double slowest_first = 0;
  double slowest_second = 0;
  Cost cost;
  int64_t offset = 0;
  for (size_t i = 0; i < first.size(); ++i) {
    const size_t cell =
        problem.by_offset ? offset * (problem.first_units + 1) + first[i] : first[i];
    slowest_first = std::max(slowest_first, problem.first_seconds[i][cell]);
    slowest_second = std::max(slowest_second, problem.second_seconds[i][second[i]]);
    cost.fits = cost.fits &&
                problem.first_bytes[cell] + problem.second_bytes[second[i]] <= problem.capacity[i];
    offset += first[i];
  }
  cost.seconds = slowest_first + slowest_second;
  return cost;
}

double BruteForce(const ShareProblem& problem) {
  double best = kNever;
  const int members = static_cast<int>(problem.capacity.size());
  std::vector<int64_t> first;
  std::vector<int64_t> second;
  ForEachSum(problem.first_units, members, first, [&](const std::vector<int64_t>& a) {
    ForEachSum(problem.second_units, members, second, [&](const std::vector<int64_t>& m) {
      const Cost cost = CostOf(problem, a, m);
      if (cost.fits) best = std::min(best, cost.seconds);
    });
  });
  return best;
}

class RandomProblems {
 public:
  explicit RandomProblems(int seed) : random_(seed) {}

  ShareProblem Next() {
    ShareProblem problem;
    const int members = 1 + random_() % 4;
    problem.first_units = 1 + random_() % 5;
    problem.second_units = 1 + random_() % 5;
    problem.by_offset = random_() % 3 == 0;
    const int64_t offsets = problem.by_offset ? problem.first_units + 1 : 1;
    const int heads = 1 + random_() % 3;  // units that share what comes once, by offset
    const int64_t unit_bytes = 1 + random_() % 9;
    for (int64_t offset = 0; offset < offsets; ++offset) {
      for (int64_t share = 0; share <= problem.first_units; ++share) {
        const int64_t touched = share == 0 ? 0 : (offset + share - 1) / heads - offset / heads + 1;
        problem.first_bytes.push_back(share * unit_bytes + (problem.by_offset ? touched * 4 : 0));
      }
    }
    for (int64_t share = 0; share <= problem.second_units; ++share) {
      problem.second_bytes.push_back(share == 0 ? 0 : problem.second_bytes.back() + random_() % 5);
    }
    for (int i = 0; i < members; ++i) {
      const double rate = 1 + random_() % 4;
      problem.first_seconds.emplace_back();
      for (int64_t bytes : problem.first_bytes)
        problem.first_seconds.back().push_back(bytes / rate);
      problem.second_seconds.push_back({0});
      for (int64_t share = 1; share <= problem.second_units; ++share) {
        problem.second_seconds.back().push_back(problem.second_seconds.back().back() +
                                                static_cast<double>(random_() % 4) / rate);
      }
      problem.capacity.push_back(random_() % 40);
    }
    return problem;
  }

 private:
  std::mt19937 random_;
};

TEST(ShareSolver, EqualsBruteForce) {
  RandomProblems problems(1);
  int solved = 0;
  for (int round = 0; round < 5000; ++round) {
    const ShareProblem problem = problems.Next();
    const double best = BruteForce(problem);
    const auto solution = SolveShares(problem);
    ASSERT_EQ(solution.has_value(), best < kNever) << "round " << round;
    if (!solution) continue;
    ++solved;
    ASSERT_NEAR(solution->seconds, best, 1e-9 * best) << "round " << round;
    const Cost cost = CostOf(problem, solution->first, solution->second);
    ASSERT_TRUE(cost.fits) << "round " << round;
    ASSERT_NEAR(cost.seconds, best, 1e-9 * best) << "round " << round;
    ASSERT_EQ(std::accumulate(solution->first.begin(), solution->first.end(), int64_t{0}),
              problem.first_units);
    ASSERT_EQ(std::accumulate(solution->second.begin(), solution->second.end(), int64_t{0}),
              problem.second_units);
    // A limit is kept, and does not hide a solution below it.
    EXPECT_FALSE(SolveShares(problem, best).has_value()) << "round " << round;
    EXPECT_TRUE(SolveShares(problem, best * 1.001 + 1e-9).has_value()) << "round " << round;
  }
  EXPECT_GT(solved, 1000);
}

TEST(FastestShares, EqualsBruteForce) {
  std::mt19937 random(2);
  for (int round = 0; round < 2000; ++round) {
    const int members = 1 + random() % 4;
    const int64_t units = 1 + random() % 8;
    std::vector<double> rates(members);
    std::vector<double> fixed(members);
    for (int i = 0; i < members; ++i) {
      rates[i] = 1 + random() % 5;
      fixed[i] = random() % 3;
    }
    const auto seconds = [&](int i, int64_t share) {
      return share == 0 ? 0 : fixed[i] + static_cast<double>(share) / rates[i];
    };
    const auto slowest = [&](const std::vector<int64_t>& shares) {
      double result = 0;
      for (int i = 0; i < members; ++i) result = std::max(result, seconds(i, shares[i]));
      return result;
    };
    double best = kNever;
    std::vector<int64_t> shares;
    ForEachSum(units, members, shares,
               [&](const std::vector<int64_t>& s) { best = std::min(best, slowest(s)); });
    const std::vector<int64_t> found = FastestShares(units, members, seconds);
    EXPECT_EQ(std::accumulate(found.begin(), found.end(), int64_t{0}), units);
    EXPECT_NEAR(slowest(found), best, 1e-9 * best) << "round " << round;
  }
}

}  // namespace
}  // namespace tprun
