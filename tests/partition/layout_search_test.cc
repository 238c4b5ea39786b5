// The search against a brute force that knows nothing of it: every layout is written out as
// placements and judged by LayOutMemory and SpeedModel.
#include "partition/layout_search.h"

#include <cstdlib>
#include <random>

#include "gtest/gtest.h"
#include "partition/fastest_shares.h"
#include "partition/predict.h"
#include "tests/partition/plan_fixture.h"

namespace tprun {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

ModelSpec TinyModel(int kv_heads, int query_per_kv, int mlp_units, int layers, bool tied,
                    const WeightFormat& format, int experts = 0) {
  const int heads = kv_heads * query_per_kv;
  const Json config = {{"model_type", experts > 0 ? "mixtral" : "llama"},
                       {"_name", "tiny"},
                       {"hidden_size", heads * 32},
                       {"num_hidden_layers", layers},
                       {"intermediate_size", 32 * mlp_units},
                       {"vocab_size", 256},
                       {"num_attention_heads", heads},
                       {"num_key_value_heads", kv_heads},
                       {"head_dim", 32},
                       {"tie_word_embeddings", tied},
                       {"num_local_experts", experts},
                       {"num_experts_per_tok", experts > 0 ? 2 : 0},
                       {"max_position_embeddings", 4096}};
  ModelSpec spec = *(*FindArchitecture(config))->build(config, Naming::kHuggingFace);
  for (TensorSpec& tensor : spec.tensors) tensor.format = &format;
  return spec;
}

// Every pair of devices has its own speed; a group exchanges at that of its slowest pair.
class RandomExchanges : public Exchanges {
 public:
  RandomExchanges(int devices, std::mt19937& random) {
    latency_.assign(devices, std::vector<double>(devices));
    bandwidth_ = latency_;
    for (int a = 0; a < devices; ++a) {
      for (int b = 0; b < a; ++b) {
        latency_[a][b] = latency_[b][a] = 1e-6 * static_cast<double>(random() % 20);
        bandwidth_[a][b] = bandwidth_[b][a] = 1e9 * static_cast<double>(1 + random() % 30);
      }
    }
  }
  double AllReduce(const std::vector<int>& group, int64_t bytes) const override {
    double slowest = 0;
    for (int a : group) {
      for (int b : group) {
        if (a != b) slowest = std::max(slowest, Send(a, b, bytes));
      }
    }
    return slowest * static_cast<double>(group.size());
  }
  double Send(int from, int to, int64_t bytes) const override {
    return from == to ? 0 : latency_[from][to] + static_cast<double>(bytes) / bandwidth_[from][to];
  }

 private:
  std::vector<std::vector<double>> latency_;
  std::vector<std::vector<double>> bandwidth_;
};

// The same for ranks that are numbered otherwise.
class Renumbered : public Exchanges {
 public:
  Renumbered(const Exchanges& exchanges, std::vector<int> devices)
      : exchanges_(exchanges), devices_(std::move(devices)) {}
  double AllReduce(const std::vector<int>& group, int64_t bytes) const override {
    std::vector<int> devices;
    for (int rank : group) devices.push_back(devices_[rank]);
    return exchanges_.AllReduce(devices, bytes);
  }
  double Send(int from, int to, int64_t bytes) const override {
    return exchanges_.Send(devices_[from], devices_[to], bytes);
  }

 private:
  const Exchanges& exchanges_;
  std::vector<int> devices_;
};

enum class Layers {
  kDense,
  kExperts,
  kUnlike,  // some are run twice, as a depth transformer's are, or have a sliding window
};

struct Case {
  explicit Case(int seed, Layers kind = Layers::kDense) : random(seed) {
    const int mlp_units = 1 + random() % 3;
    const int layers = 1 + random() % 3;
    spec = TinyModel(1 + random() % 2, 1 + random() % 2, mlp_units, layers, random() % 4 == 0,
                     random() % 2 == 0 ? kBF16Format : kQ8_0Format,
                     kind == Layers::kExperts ? 2 + static_cast<int>(random() % 3) : 0);
    for (LayerSpec& layer : spec.layers) {
      if (kind != Layers::kUnlike) continue;
      layer.steps = 1 + static_cast<int>(random() % 2);
      layer.attention.window = random() % 2 == 0 ? 16 : 0;
    }
    options.context = seed % 3 == 0 ? 4096 : 64;  // much cache, of which little is read
    options.prefill_chunk = 16;
    options.batch = 1 + random() % 2;
    const int count = 1 + random() % 3;
    const int64_t model_bytes = ModelBytes();
    infos.resize(count);
    // Half of the machines have CPUs only, whose overhead is the same in every layout; on the
    // others free memory is near what one role of the GPUs leaves.
    const bool all_cpu = random() % 2 == 0;
    const bool one_cpu = random() % 2 == 0;
    const RankRole roles[] = {{0, 0}, {1, 0}, {0, 2}, {1, 2}, {2, 0}};
    const RankRole role = roles[random() % 5];
    for (int i = 0; i < count; ++i) {
      DeviceInfo& info = infos[i];
      info.kind = all_cpu || (i == 0 && one_cpu) ? DeviceKind::kCpu : DeviceKind::kGpu;
      info.name = "device";
      info.memory_bandwidth_bytes_per_s = 1e8 * static_cast<double>(1 + random() % 20);
      info.cores = 4;
      SearchDevice device;
      device.info = &info;
      const double part = static_cast<double>(20 + random() % 100) / 100;
      device.usable_bytes =
          OverheadBytes(info, role) + static_cast<int64_t>(part * static_cast<double>(model_bytes));
      devices.push_back(device);
      rates.push_back(RatesOf(info));
      classes.push_back(i);
    }
    exchanges = std::make_unique<RandomExchanges>(count, random);
    pass = {options.batch, options.batch, 32};
    coefficients = DefaultCoefficients();
    coefficients.step_seconds = 0;
  }

  int64_t ModelBytes() const {
    std::vector<Placement> placements;
    for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
      placements.push_back({.ranks = {0}, .shares = {UnitsOf(spec, block).count}});
    }
    return LayOutMemory(spec, placements, 0, options).total_bytes();
  }

  std::mt19937 random;
  ModelSpec spec;
  EngineOptions options;
  std::vector<DeviceInfo> infos;
  std::vector<SearchDevice> devices;
  std::vector<DeviceRates> rates;
  std::vector<int> classes;
  std::unique_ptr<RandomExchanges> exchanges;
  Pass pass;
  Coefficients coefficients;
};

class BruteForce {
 public:
  explicit BruteForce(const Case& c) : BruteForce(c, *c.exchanges) {}
  BruteForce(const Case& c, const Exchanges& exchanges)
      : case_(c),
        exchanges_(exchanges),
        tables_(c.spec, c.options, c.pass, c.coefficients, c.rates) {
    placements_.resize(c.spec.blocks.size());
  }

  double Best() {
    used_.assign(case_.devices.size(), false);
    Stages(0);
    return best_;
  }
  int64_t judged() const { return judged_; }

  // Seconds of placements whose ranks are devices; kNever where they do not fit.
  double Judge(const std::vector<Placement>& placements) {
    ++judged_;
    std::vector<int> devices;  // by rank; one that has the head comes first
    std::vector<int> rank_of(case_.devices.size(), -1);
    const auto add = [&](int device) {
      if (rank_of[device] >= 0) return;
      rank_of[device] = static_cast<int>(devices.size());
      devices.push_back(device);
    };
    add(placements.back().ranks[0]);
    for (const Placement& placement : placements) {
      for (int device : placement.ranks) add(device);
    }
    std::vector<Placement> by_rank = placements;
    for (Placement& placement : by_rank) {
      for (int& rank : placement.ranks) rank = rank_of[rank];
    }
    std::vector<DeviceRates> rates;
    std::vector<bool> is_gpu;
    for (int device : devices) is_gpu.push_back(!is_cpu(device));
    for (size_t rank = 0; rank < devices.size(); ++rank) {
      const SearchDevice& device = case_.devices[devices[rank]];
      const int number = static_cast<int>(rank);
      const int64_t bytes = LayOutMemory(case_.spec, by_rank, number, case_.options).total_bytes() +
                            OverheadBytes(*device.info, RoleOf(by_rank, number, is_gpu));
      if (bytes > device.usable_bytes) return kNever;
      rates.push_back(case_.rates[devices[rank]]);
    }
    const Renumbered exchanges(exchanges_, devices);
    return SpeedModel(case_.spec, by_rank, case_.options, case_.coefficients, rates, exchanges)
        .PassSeconds(case_.pass);
  }

 private:
  int count() const { return static_cast<int>(case_.devices.size()); }
  bool is_cpu(int device) const { return case_.devices[device].info->kind == DeviceKind::kCpu; }

  void Stages(int first_layer) {
    if (first_layer == case_.spec.num_layers()) {
      best_ = std::min(best_, Judge(placements_));
      return;
    }
    for (int mask = 1; mask < 1 << count(); ++mask) {
      std::vector<int> group;
      bool possible = true;
      for (int i = 0; i < count(); ++i) {
        if ((mask >> i & 1) == 0) continue;
        group.push_back(i);
        possible = possible && !used_[i] && is_cpu(i) == is_cpu(group[0]);
      }
      if (!possible) continue;
      for (int device : group) used_[device] = true;
      for (int end = first_layer + 1; end <= case_.spec.num_layers(); ++end) {
        Replications(group, first_layer, end);
      }
      for (int device : group) used_[device] = false;
    }
  }

  void Replications(const std::vector<int>& group, int first, int end) {
    const int block = case_.spec.attention_block(first);
    for (int replication = 1; replication <= 2; ++replication) {
      if (replication > 1 && !CanReplicateKv(case_.spec, block, replication)) continue;
      const int64_t units = UnitsOf(case_.spec, block, replication).count;
      ForEachShares(units, group, [&](const std::vector<int64_t>& shares) {
        for (int layer = first; layer < end; ++layer) {
          placements_[case_.spec.attention_block(layer)] = {group, shares, replication};
        }
        Mlps(group, first, end);
      });
    }
  }

  // A CPU that is no stage of its own may have the MLPs of the first layers of GPU stages.
  void Mlps(const std::vector<int>& group, int first, int end) {
    const bool last = end == case_.spec.num_layers();
    const bool cpu_free = is_cpu(0) && !used_[0];
    int most = cpu_free || server_users_ > 0 ? end - first - (last ? 0 : 1) : 0;
    if (!is_cpu(0) || is_cpu(group[0])) most = 0;
    for (int offloaded = 0; offloaded <= most; ++offloaded) {
      const bool took = used_[0];
      if (offloaded > 0) {
        used_[0] = true;
        ++server_users_;
      }
      const int64_t units = UnitsOf(case_.spec, case_.spec.mlp_block(first)).count;
      ForEachShares(units, group, [&](const std::vector<int64_t>& shares) {
        for (int layer = first; layer < end; ++layer) {
          placements_[case_.spec.mlp_block(layer)] =
              layer < first + offloaded ? Placement{{0}, {units}} : Placement{group, shares};
        }
        if (first == 0) {
          ForEachEnd(group, [&](const Placement& embed) {
            placements_[0] = embed;
            Head(group, end);
          });
        } else {
          Head(group, end);
        }
      });
      if (offloaded > 0) {
        used_[0] = took;
        --server_users_;
      }
    }
  }

  void Head(const std::vector<int>& group, int end) {
    if (end < case_.spec.num_layers()) return Stages(end);
    ForEachEnd(group, [&](const Placement& head) {
      placements_.back() = head;
      Stages(end);
    });
  }

  template <typename Visit>
  void ForEachShares(int64_t units, const std::vector<int>& group, const Visit& visit) {
    std::vector<int64_t> shares(group.size(), 0);
    const std::function<void(size_t, int64_t)> fill = [&](size_t member, int64_t left) {
      if (member + 1 == group.size()) {
        shares[member] = left;
        visit(std::vector<int64_t>(shares));
        return;
      }
      for (int64_t share = 0; share <= left; ++share) {
        shares[member] = share;
        fill(member + 1, left - share);
      }
    };
    fill(0, units);
  }

  // Embedding or head: whole on a member, or cut as is fastest for a head.
  template <typename Visit>
  void ForEachEnd(const std::vector<int>& group, const Visit& visit) {
    const int64_t units = UnitsOf(case_.spec, 0).count;
    for (int device : group) visit(Placement{{device}, {units}});
    if (group.size() == 1) return;
    const auto seconds = [&](int i, int64_t share) {
      return tables_.HeadSeconds(group[i], {{group[i], -1}, {share, units - share}}, 0);
    };
    visit(Placement{group, FastestShares(units, static_cast<int>(group.size()), seconds)});
  }

  const Case& case_;
  const Exchanges& exchanges_;
  LayerTables tables_;
  std::vector<Placement> placements_;
  std::vector<bool> used_;
  int server_users_ = 0;
  double best_ = kNever;
  int64_t judged_ = 0;
};

// Placements of a layout, ranks being devices.
std::vector<Placement> PlacementsOf(const ModelSpec& spec, const Layout& layout) {
  std::vector<Placement> placements(spec.blocks.size());
  placements.front() = layout.stages.front().plan.embed;
  placements.back() = layout.stages.back().plan.head;
  for (const LayoutStage& stage : layout.stages) {
    for (int layer = stage.request.first_layer; layer < stage.request.end_layer; ++layer) {
      const int layer_class = layout.layer_classes[layer];
      placements[spec.attention_block(layer)] = {
          stage.request.group, stage.plan.attention.at(layer_class), stage.plan.replication};
      const bool offloaded = layer < stage.request.first_layer + stage.plan.offloaded;
      const int block = spec.mlp_block(layer);
      placements[block] = offloaded
                              ? Placement{{stage.request.server}, {UnitsOf(spec, block).count}}
                              : Placement{stage.request.group, stage.plan.mlp.at(layer_class)};
    }
  }
  return placements;
}

// TPRUN_SEARCH_ROUNDS=5000 looks at more machines than there is time for in every test run.
int Rounds() {
  const char* rounds = std::getenv("TPRUN_SEARCH_ROUNDS");
  return rounds == nullptr ? 400 : std::atoi(rounds);
}

class EqualsBruteForce : public testing::TestWithParam<Layers> {};

INSTANTIATE_TEST_SUITE_P(LayoutSearch, EqualsBruteForce,
                         testing::Values(Layers::kDense, Layers::kExperts, Layers::kUnlike));

TEST_P(EqualsBruteForce, OnRandomMachines) {
  int found = 0;
  int several_stages = 0;
  int groups = 0;
  int offloads = 0;
  for (int seed = 1; seed <= Rounds(); ++seed) {
    const Case c(seed, GetParam());
    BruteForce brute_force(c);
    const double best = brute_force.Best();
    const LayerTables tables(c.spec, c.options, c.pass, c.coefficients, c.rates);
    LayoutSearch search(tables, c.devices, c.classes, *c.exchanges, {});
    const auto layout = search.Best();
    ASSERT_EQ(layout.has_value(), best < kNever) << "seed " << seed;
    if (!layout) continue;
    ++found;
    ASSERT_NEAR(layout->seconds, best, 1e-9 * best) << "seed " << seed;
    // The layout is what it says: it fits and takes as long.
    ASSERT_NEAR(brute_force.Judge(PlacementsOf(c.spec, *layout)), best, 1e-9 * best)
        << "seed " << seed;
    several_stages += layout->stages.size() > 1 ? 1 : 0;
    for (const LayoutStage& stage : layout->stages) {
      groups += stage.request.group.size() > 1 ? 1 : 0;
      offloads += stage.plan.offloaded > 0 ? 1 : 0;
    }
  }
  // The cases are of all kinds.
  EXPECT_GT(found, Rounds() / 4);
  EXPECT_GT(several_stages, Rounds() / 40);
  EXPECT_GT(groups, Rounds() / 40);
  EXPECT_GT(offloads, 0);
  RecordProperty("found", found);
  std::printf("%d of %d fit; %d of several stages, %d groups, %d with MLPs on the CPU\n", found,
              Rounds(), several_stages, groups, offloads);
}

// A search that is ended early tells what no layout can undercut.
TEST_P(EqualsBruteForce, OrIsBoundedWhereItEndsEarly) {
  int unproven = 0;
  int near = 0;
  for (int seed = 1; seed <= Rounds(); ++seed) {
    const Case c(seed, GetParam());
    const LayerTables tables(c.spec, c.options, c.pass, c.coefficients, c.rates);
    SearchSpace space;
    space.bounded = true;
    space.most_work = 200 + seed % 7 * 200;
    const auto layout = LayoutSearch(tables, c.devices, c.classes, *c.exchanges, space).Best();
    if (!layout) continue;
    const double best = BruteForce(c).Best();
    ASSERT_GE(layout->seconds, best * (1 - 1e-9)) << "seed " << seed;
    if (layout->proven) {
      ASSERT_NEAR(layout->seconds, best, 2e-9 * best) << "seed " << seed;
      continue;
    }
    ++unproven;
    ASSERT_GT(layout->least_seconds, 0) << "seed " << seed;
    ASSERT_LE(layout->least_seconds, best * (1 + 1e-9)) << "seed " << seed;
    near += layout->least_seconds > 0.5 * best;
  }
  EXPECT_GT(unproven, Rounds() / 40);
  EXPECT_GT(near, unproven / 4);
  std::printf("%d ended early, the bound of %d above half of the best\n", unproven, near);
}

// Two cards one after the other, both of which would have more MLPs on a fast CPU than it holds.
class SharedServer : public Exchanges {
 public:
  double AllReduce(const std::vector<int>& group, int64_t) const override {
    return group.size() > 1 ? 1 : 0;
  }
  double Send(int from, int to, int64_t) const override { return from == to ? 0 : 1e-9; }
};

// Of a rank that has so many MLPs and nothing else.
int64_t ServerBytes(const Case& c, int mlps) {
  std::vector<Placement> placements;
  for (int block = 0; block < static_cast<int>(c.spec.blocks.size()); ++block) {
    const bool served = c.spec.blocks[block].kind == BlockKind::kMlp && mlps-- > 0;
    placements.push_back({.ranks = {served ? 0 : 1}, .shares = {UnitsOf(c.spec, block).count}});
  }
  return LayOutMemory(c.spec, placements, 0, c.options).total_bytes();
}

TEST(LayoutSearch, StagesShareAServer) {
  int shared = 0;
  for (int seed = 1; seed <= Rounds() / 2; ++seed) {
    std::mt19937 random(seed);
    Case c(1);
    // A cache of which little is read, longer than what one card saves by having no peers.
    c.options.context = 1 << 23;
    c.spec = TinyModel(1, 1, 2 + random() % 8, 4, false, kBF16Format);
    c.options.batch = 1;
    c.pass = {1, 1, 32};
    c.infos.assign(3, {});
    c.devices.assign(3, {});
    c.rates.clear();
    c.classes = {0, 1, 2};
    const int64_t model_bytes = c.ModelBytes();
    for (int i = 0; i < 3; ++i) {
      DeviceInfo& info = c.infos[i];
      info.kind = i == 0 ? DeviceKind::kCpu : DeviceKind::kGpu;
      info.cores = 4;
      info.memory_bandwidth_bytes_per_s =
          i == 0 ? 2e9 : 1e8 * static_cast<double>(1 + random() % 4);
      c.devices[i].info = &info;
      const int64_t bytes =
          i == 0 ? ServerBytes(c, 1 + random() % 3) : (51 + random() % 28) * model_bytes / 100;
      c.devices[i].usable_bytes = OverheadBytes(info, {0, i == 0 ? 0 : 2}) + bytes;
      c.rates.push_back(RatesOf(info));
    }
    c.coefficients.cpu_block_seconds = c.coefficients.gpu_block_seconds = 0;
    const SharedServer exchanges;
    BruteForce brute_force(c, exchanges);
    const double best = brute_force.Best();
    const LayerTables tables(c.spec, c.options, c.pass, c.coefficients, c.rates);
    const auto layout = LayoutSearch(tables, c.devices, c.classes, exchanges, {}).Best();
    ASSERT_EQ(layout.has_value(), best < kNever) << "seed " << seed;
    if (!layout) continue;
    EXPECT_NEAR(layout->seconds, best, 1e-9 * best) << "seed " << seed;
    EXPECT_NEAR(brute_force.Judge(PlacementsOf(c.spec, *layout)), layout->seconds, 1e-9 * best)
        << "seed " << seed;
    int users = 0;
    for (const LayoutStage& stage : layout->stages) users += stage.plan.offloaded > 0;
    shared += users > 1;
  }
  EXPECT_GT(shared, 0);
  std::printf("%d with two stages on one CPU\n", shared);
}

// To look at thousands of MLPs on the server is work, also where no number of them fits.
TEST(StageSolver, GivesUpWhereNothingFits) {
  Case c(1);
  c.spec = TinyModel(1, 1, 2, 64, false, kBF16Format);
  c.infos.assign(2, {});
  c.devices.assign(2, {});
  c.rates.clear();
  for (int i = 0; i < 2; ++i) {
    c.infos[i].kind = i == 0 ? DeviceKind::kCpu : DeviceKind::kGpu;
    c.infos[i].cores = 4;
    c.infos[i].memory_bandwidth_bytes_per_s = 1e9;
    c.devices[i].info = &c.infos[i];
    c.devices[i].usable_bytes = i == 0 ? kGiB : 0;
    c.rates.push_back(RatesOf(c.infos[i]));
  }
  const SharedServer exchanges;
  const LayerTables tables(c.spec, c.options, c.pass, c.coefficients, c.rates);
  StageRequest request;
  request.group = {1};
  request.end_layer = 64;
  request.has_embed = request.has_head = true;
  request.server = 0;
  StageSolver solver(tables, c.devices, exchanges);
  EXPECT_FALSE(solver.Solve(request).has_value());
  const int64_t all = solver.work();
  EXPECT_GT(all, 64);
  solver.set_most_work(all + all / 2);
  EXPECT_FALSE(solver.Solve(request).has_value());
  EXPECT_TRUE(solver.tired());
  EXPECT_LT(solver.work(), 2 * all);
}

}  // namespace
}  // namespace tprun
