#include "partition/stage.h"

#include <algorithm>
#include <numeric>

#include "partition/fastest_shares.h"
#include "partition/memory_model.h"
#include "partition/share_solver.h"

namespace tprun {
namespace {

// Of all ranks outside its groups a rank exchanges with the stage before and the one after.
constexpr int kNeighbours = 2;

// An all-gather moves half of what a ring all-reduce does.
constexpr double kGatherPart = 0.5;

// What it takes to see that a number of MLPs on the server is of no use.
constexpr int64_t kStepsToLook = 200;

// Sums of times in different orders differ by less than this part.
constexpr double kRounding = 1e-12;

// Sums and products of bytes that stop at kMostBytes, as LayOutMemory's do.
int64_t Plus(int64_t a, int64_t b) { return std::min(kMostBytes, a + b); }
int64_t Times(int64_t count, int64_t bytes) {
  return count > 0 && bytes > kMostBytes / count ? kMostBytes : count * bytes;
}

}  // namespace

StageSolver::StageSolver(const LayerTables& tables, const std::vector<SearchDevice>& devices,
                         const Exchanges& exchanges)
    : tables_(tables),
      devices_(devices),
      exchanges_(exchanges),
      fixed_(devices.size(), std::vector<int64_t>(2 * devices.size(), -1)),
      seconds_per_byte_(devices.size(), -1) {}

int64_t StageSolver::FixedBytes(int device, int group_size, bool has_others) const {
  int64_t& bytes = fixed_[device][2 * (group_size - 1) + (has_others ? 1 : 0)];
  if (bytes < 0) {
    const RankRole role = {group_size - 1, has_others ? kNeighbours : 0};
    bytes = OverheadBytes(*devices_[device].info, role) + tables_.base_workspace();
  }
  return bytes;
}

std::vector<int64_t> StageSolver::FastestOf(const ShareTable& table,
                                            const std::vector<int>& group) const {
  return FastestShares(table.units, static_cast<int>(group.size()), [&](int i, int64_t share) {
    return table.seconds[group[i]][table.Cell(0, share)];
  });
}

double StageSolver::FastestSeconds(BlockKind kind, const std::vector<int>& group, int layer_class,
                                   int replication) const {
  const auto [entry, added] =
      fastest_.try_emplace(std::make_tuple(kind, group, layer_class, replication), 0);
  if (!added) return entry->second;
  const ShareTable& table = tables_.Table(kind, layer_class, replication);
  const std::vector<int64_t> shares = FastestOf(table, group);
  double slowest = 0;
  for (size_t i = 0; i < group.size(); ++i) {
    slowest = std::max(slowest, table.seconds[group[i]][table.Cell(0, shares[i])]);
  }
  return entry->second = slowest;
}

double StageSolver::AttentionFloor(const std::vector<int>& group, int layer_class) const {
  double attention = std::numeric_limits<double>::infinity();
  for (int replication : tables_.replications()) {
    attention =
        std::min(attention, FastestSeconds(BlockKind::kAttention, group, layer_class, replication));
  }
  return attention +
         tables_.Steps(layer_class) * exchanges_.AllReduce(group, tables_.exchange_bytes());
}

double StageSolver::ServedLayerFloor(const std::vector<int>& group, int layer_class,
                                     int server) const {
  return AttentionFloor(group, layer_class) +
         FastestSeconds(BlockKind::kMlp, {server}, layer_class, 1) +
         HopSeconds(exchanges_, group, {server}, tables_.exchange_bytes());
}

// No layer of the stage gets faster by having its MLP on the server.
bool StageSolver::ServerIsSlower(const StageRequest& request, const Counts& counts) const {
  for (int c = 0; c < tables_.num_classes(); ++c) {
    if (counts.all[c] == 0) continue;
    const double served = ServedLayerFloor(request.group, c, request.server);
    if (served < LayerFloor(request.group, c, -1)) return false;
  }
  return true;
}

double StageSolver::LayerFloor(const std::vector<int>& group, int layer_class, int server) const {
  const double exchange =
      tables_.Steps(layer_class) * exchanges_.AllReduce(group, tables_.exchange_bytes());
  const double floor = AttentionFloor(group, layer_class) +
                       FastestSeconds(BlockKind::kMlp, group, layer_class, 1) + exchange;
  if (server < 0) return floor;
  return std::min(floor, ServedLayerFloor(group, layer_class, server));
}

StageSolver::Counts StageSolver::CountLayers(const StageRequest& request) const {
  Counts counts;
  counts.all.assign(tables_.num_classes(), 0);
  for (int layer = request.first_layer; layer < request.end_layer; ++layer) {
    ++counts.all[tables_.ClassOf(layer)];
  }
  counts.on_group = counts.all;
  return counts;
}

double StageSolver::ExchangeSeconds(const StageRequest& request, const Counts& counts) const {
  const double once = exchanges_.AllReduce(request.group, tables_.exchange_bytes());
  double seconds = 0;
  for (int c = 0; c < tables_.num_classes(); ++c) {
    seconds += tables_.Steps(c) * (counts.all[c] + counts.on_group[c]) * once;
  }
  return seconds;
}

double StageSolver::ServerSeconds(const StageRequest& request, const Counts& counts) const {
  double seconds = 0;
  for (int c = 0; c < tables_.num_classes(); ++c) {
    const int layers = counts.all[c] - counts.on_group[c];
    if (layers == 0) continue;
    const ShareTable& table = tables_.Table(BlockKind::kMlp, c);
    const int64_t bytes = tables_.exchange_bytes();
    seconds += layers * (table.seconds[request.server][table.Cell(0, table.units)] +
                         HopSeconds(exchanges_, request.group, {request.server}, bytes) +
                         HopSeconds(exchanges_, {request.server}, request.group, bytes));
  }
  return seconds;
}

std::pair<int64_t, int64_t> StageSolver::ServerBytes(const StageRequest& request,
                                                     const Counts& counts) const {
  int64_t bytes = 0;
  int64_t workspace = 0;
  for (int c = 0; c < tables_.num_classes(); ++c) {
    const int layers = counts.all[c] - counts.on_group[c];
    if (layers == 0) continue;
    const ShareTable& table = tables_.Table(BlockKind::kMlp, c);
    bytes = Plus(bytes, Times(layers, table.bytes[table.Cell(0, table.units)]));
    workspace = std::max(workspace, table.workspace[table.Cell(0, table.units)]);
  }
  if (bytes == 0) return {0, 0};
  const int64_t shared = Plus(workspace, FixedBytes(request.server, 1, true));
  return {Plus(bytes, shared), shared};
}

double StageSolver::EndSeconds(const StageRequest& request, const Ends& ends) const {
  double seconds = 0;
  if (request.has_embed) {
    double slowest = 0;
    for (size_t i = 0; i < ends.embed.ranks.size(); ++i) {
      slowest = std::max(
          slowest, tables_.EmbedSeconds(ends.embed.ranks[i], ends.embed, static_cast<int>(i)));
    }
    seconds += slowest;
    seconds +=
        ends.embed.ranks.size() > 1
            ? exchanges_.AllReduce(request.group, tables_.exchange_bytes())
            : HopSeconds(exchanges_, ends.embed.ranks, request.group, tables_.exchange_bytes());
  }
  if (request.has_head) {
    double slowest = 0;
    for (size_t i = 0; i < ends.head.ranks.size(); ++i) {
      slowest = std::max(slowest,
                         tables_.HeadSeconds(ends.head.ranks[i], ends.head, static_cast<int>(i)));
    }
    seconds += slowest;
    const int64_t bytes = tables_.logit_message_bytes();
    if (ends.head.ranks.size() > 1) {
      seconds += kGatherPart * exchanges_.AllReduce(request.group, bytes);
    }
    if (request.first_rank >= 0) {
      seconds += HopSeconds(exchanges_, ends.head.ranks, {request.first_rank}, bytes);
    }
  }
  return seconds;
}

// Whole on one member, or cut over all. Both are cut as is best for the head, so that a tied head
// shares the embedding's rows.
std::vector<Placement> StageSolver::EndPlacements(BlockKind kind,
                                                  const std::vector<int>& group) const {
  const int64_t units = tables_.EndUnits(kind);
  std::vector<Placement> placements;
  for (int device : group) placements.push_back({.ranks = {device}, .shares = {units}});
  if (group.size() == 1) return placements;
  const std::vector<std::vector<double>>& seconds = tables_.HeadTable();
  placements.push_back(
      {.ranks = group,
       .shares = FastestShares(units, static_cast<int>(group.size()),
                               [&](int i, int64_t share) { return seconds[group[i]][share]; })});
  return placements;
}

const std::vector<StageSolver::Ends>& StageSolver::EndOptions(const StageRequest& request) const {
  const auto [entry, added] =
      ends_.try_emplace(std::make_tuple(request.group, request.has_embed, request.has_head));
  std::vector<Ends>& all = entry->second;
  if (!added) return all;
  const std::vector<Placement> none = {Placement{}};
  for (const Placement& embed :
       request.has_embed ? EndPlacements(BlockKind::kEmbed, request.group) : none) {
    for (const Placement& head :
         request.has_head ? EndPlacements(BlockKind::kHead, request.group) : none) {
      Ends ends = {0, embed, head};
      ends.seconds = EndSeconds(request, ends);
      all.push_back(std::move(ends));
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Ends& a, const Ends& b) { return a.seconds < b.seconds; });
  return all;
}

double StageSolver::LeastSecondsPerByte(int device) const {
  double& least = seconds_per_byte_[device];
  if (least >= 0) return least;
  // Of either kind by itself: a device may have much of one and little of the other, and a long
  // cache takes memory but, read for a shallow depth only, hardly any time.
  least = std::numeric_limits<double>::infinity();
  for (int c = 0; c < tables_.num_classes(); ++c) {
    const auto look = [&](const ShareTable& table) {
      for (size_t cell = 0; cell < table.bytes.size(); ++cell) {
        if (table.bytes[cell] <= 0) continue;
        least =
            std::min(least, table.seconds[device][cell] / static_cast<double>(table.bytes[cell]));
      }
    };
    look(tables_.Table(BlockKind::kMlp, c));
    for (int replication : tables_.replications()) {
      look(tables_.Table(BlockKind::kAttention, c, replication));
    }
  }
  return least;
}

double StageSolver::HeadFloor(const std::vector<int>& group, int first_rank) const {
  StageRequest request;
  request.group = group;
  request.has_head = true;
  request.first_rank = first_rank;
  return EndOptions(request).front().seconds;
}

// Adds `count` times the tables of a class to `combined`.
void StageSolver::Accumulate(const ShareTable& table, const std::vector<int>& group, int count,
                             Combined& combined) {
  if (combined.bytes.empty()) {
    combined.units = table.units;
    combined.by_offset = table.by_offset;
    combined.bytes.assign(table.bytes.size(), 0);
    combined.workspace.assign(table.bytes.size(), 0);
    combined.seconds.assign(group.size(), std::vector<double>(table.bytes.size(), 0));
  }
  for (size_t cell = 0; cell < table.bytes.size(); ++cell) {
    combined.bytes[cell] = Plus(combined.bytes[cell], Times(count, table.bytes[cell]));
    combined.workspace[cell] = std::max(combined.workspace[cell], table.workspace[cell]);
  }
  for (size_t i = 0; i < group.size(); ++i) {
    const std::vector<double>& seconds = table.seconds[group[i]];
    for (size_t cell = 0; cell < seconds.size(); ++cell) {
      combined.seconds[i][cell] += count * seconds[cell];
    }
  }
}

// One unit that costs nothing: there are no such blocks in the stage.
StageSolver::Combined StageSolver::Nothing(size_t members) {
  Combined combined;
  combined.seconds.assign(members, {0});
  combined.bytes = {0};
  combined.workspace = {0};
  return combined;
}

void StageSolver::Combine(BlockKind kind, const StageRequest& request,
                          const std::vector<int>& layers, int replication, Prepared& prepared,
                          Combined& combined, std::map<int, std::vector<int64_t>>& shares) const {
  const int members = static_cast<int>(request.group.size());
  const auto table_of = [&](int c) -> const ShareTable& {
    return tables_.Table(kind, c, kind == BlockKind::kAttention ? replication : 1);
  };
  std::map<int64_t, int64_t> weight;  // bytes of all layers by their number of units
  for (int c = 0; c < tables_.num_classes(); ++c) {
    if (layers[c] == 0) continue;
    const ShareTable& table = table_of(c);
    int64_t& bytes = weight[table.units];
    bytes = Plus(bytes, Times(layers[c], table.bytes[table.Cell(0, table.units)]));
  }
  int64_t main_units = -1;
  for (const auto& [units, bytes] : weight) {
    if (main_units < 0 || bytes >= weight[main_units]) main_units = units;
  }
  combined.is_main.assign(tables_.num_classes(), false);
  for (int c = 0; c < tables_.num_classes(); ++c) {
    if (layers[c] == 0) continue;
    const ShareTable& table = table_of(c);
    if (table.units == main_units) {
      Accumulate(table, request.group, layers[c], combined);
      combined.is_main[c] = true;
      continue;
    }
    const std::vector<int64_t> own = FastestOf(table, request.group);
    double slowest = 0;
    int64_t offset = 0;
    for (int i = 0; i < members; ++i) {
      const size_t cell = table.Cell(offset, own[i]);
      prepared.fixed[i] = Plus(prepared.fixed[i], Times(layers[c], table.bytes[cell]));
      slowest = std::max(slowest, table.seconds[request.group[i]][cell]);
      offset += own[i];
    }
    prepared.seconds += layers[c] * slowest;
    shares[c] = own;
  }
  if (combined.bytes.empty()) {
    std::vector<bool> is_main = combined.is_main;
    combined = Nothing(request.group.size());
    combined.is_main = is_main;
  }
  for (size_t cell = 0; cell < combined.bytes.size(); ++cell) {
    combined.bytes[cell] = Plus(combined.bytes[cell], combined.workspace[cell]);
  }
}

StageSolver::Prepared StageSolver::Prepare(const StageRequest& request, const Counts& counts,
                                           int replication) const {
  const int members = static_cast<int>(request.group.size());
  Prepared prepared;
  prepared.plan.replication = replication;
  for (int device : request.group) {
    prepared.fixed.push_back(FixedBytes(device, members, request.has_others));
  }
  Combined attention;
  Combined mlp;
  Combine(BlockKind::kAttention, request, counts.all, replication, prepared, attention,
          prepared.plan.attention);
  Combine(BlockKind::kMlp, request, counts.on_group, 1, prepared, mlp, prepared.plan.mlp);
  ShareProblem& problem = prepared.problem;
  problem.first_units = attention.units;
  problem.second_units = mlp.units;
  problem.by_offset = attention.by_offset;
  problem.first_seconds = std::move(attention.seconds);
  problem.first_bytes = std::move(attention.bytes);
  problem.second_seconds = std::move(mlp.seconds);
  problem.second_bytes = std::move(mlp.bytes);
  prepared.attention_is_main = std::move(attention.is_main);
  prepared.mlp_is_main = std::move(mlp.is_main);
  return prepared;
}

absl::optional<StagePlan> StageSolver::SolveOne(const StageRequest& request, const Counts& counts,
                                                const Ends& ends, Prepared& prepared,
                                                double limit) const {
  // Copies and sorts of the tables count too.
  work_ += static_cast<int64_t>(request.group.size() * prepared.problem.first_bytes.size());
  StagePlan plan = prepared.plan;
  plan.embed = ends.embed;
  plan.head = ends.head;
  ShareProblem& problem = prepared.problem;
  problem.capacity.clear();
  for (size_t i = 0; i < request.group.size(); ++i) {
    const int device = request.group[i];
    const int64_t end_bytes = tables_.EndsBytes(request.has_embed ? &ends.embed : nullptr,
                                                request.has_head ? &ends.head : nullptr, device,
                                                device == request.first_rank);
    problem.capacity.push_back(devices_[device].usable_bytes - prepared.fixed[i] - end_bytes);
  }
  plan.seconds = ends.seconds + prepared.seconds + ExchangeSeconds(request, counts) +
                 ServerSeconds(request, counts);
  if (std::all_of(counts.on_group.begin(), counts.on_group.end(), [](int n) { return n == 0; })) {
    // From the last MLP it goes right to the head's ranks.
    const int64_t bytes = tables_.exchange_bytes();
    plan.seconds += HopSeconds(exchanges_, {request.server}, ends.head.ranks, bytes) -
                    HopSeconds(exchanges_, {request.server}, request.group, bytes);
  }
  const absl::optional<ShareSolution> solution = SolveShares(problem, limit - plan.seconds, &work_);
  if (!solution) return absl::nullopt;
  plan.seconds += solution->seconds;
  for (int c = 0; c < tables_.num_classes(); ++c) {
    if (prepared.attention_is_main[c]) plan.attention[c] = solution->first;
    if (prepared.mlp_is_main[c]) plan.mlp[c] = solution->second;
  }
  return plan;
}

int64_t StageSolver::LayerBytes(int layer_class) const {
  const ShareTable& attention = tables_.Table(BlockKind::kAttention, layer_class);
  const ShareTable& mlp = tables_.Table(BlockKind::kMlp, layer_class);
  return Plus(attention.bytes[attention.units], mlp.bytes[mlp.units]);
}

int64_t StageSolver::AttentionBytes(int layer_class) const {
  const ShareTable& attention = tables_.Table(BlockKind::kAttention, layer_class);
  return attention.bytes[attention.units];
}

bool StageSolver::MayFit(const StageRequest& request, const Counts& counts) const {
  int64_t room = 0;
  for (int device : request.group) {
    if (room > kMostBytes) break;
    room += devices_[device].usable_bytes -
            FixedBytes(device, static_cast<int>(request.group.size()), request.has_others);
  }
  for (int c = 0; c < tables_.num_classes() && room >= 0; ++c) {
    const ShareTable& attention = tables_.Table(BlockKind::kAttention, c);
    const ShareTable& mlp = tables_.Table(BlockKind::kMlp, c);
    room -= Times(counts.all[c], attention.bytes[attention.units]);
    if (room >= 0) room -= Times(counts.on_group[c], mlp.bytes[mlp.units]);
  }
  return room >= 0;
}

double StageSolver::FloorOf(const std::vector<int>& group, const Counts& counts, int replication,
                            ClassFloors& floors) const {
  if (floors.attention.empty()) {
    floors.attention.assign(tables_.num_classes(), 0);
    floors.mlp.assign(tables_.num_classes(), 0);
    for (int c = 0; c < tables_.num_classes(); ++c) {
      if (counts.all[c] == 0) continue;
      floors.attention[c] = FastestSeconds(BlockKind::kAttention, group, c, replication);
      floors.mlp[c] = FastestSeconds(BlockKind::kMlp, group, c, 1);
    }
  }
  double seconds = 0;
  for (int c = 0; c < tables_.num_classes(); ++c) {
    seconds += counts.all[c] * floors.attention[c] + counts.on_group[c] * floors.mlp[c];
  }
  return seconds;
}

absl::optional<StagePlan> StageSolver::Solve(const StageRequest& request, double limit,
                                             bool any) const {
  absl::optional<StagePlan> best;
  const std::vector<Ends>& options = EndOptions(request);
  const int layers = request.end_layer - request.first_layer;
  // Only the last stage may have all its MLPs on the server: its attention blocks end it otherwise.
  const int most_offloaded = request.server < 0 ? 0 : request.has_head ? layers : layers - 1;
  Counts counts = CountLayers(request);
  std::map<int, ClassFloors> floors;  // by replication
  for (int offloaded = 0; offloaded <= most_offloaded; ++offloaded) {
    if (offloaded > 0) {
      --counts.on_group[tables_.ClassOf(request.first_layer + offloaded - 1)];
      work_ += kStepsToLook;
      if (tired()) return best;
    }
    std::pair<int64_t, int64_t> server_bytes;  // and those that stages share
    if (offloaded > 0) {
      server_bytes = ServerBytes(request, counts);
      const int64_t usable = devices_[request.server].usable_bytes;
      if (server_bytes.first > std::min(usable, request.server_bytes)) break;
    }
    const double exchange =
        ExchangeSeconds(request, counts) + ServerSeconds(request, counts) -
        (offloaded == layers
             ? HopSeconds(exchanges_, {request.server}, request.group, tables_.exchange_bytes())
             : 0);
    if (!MayFit(request, counts)) continue;
    bool tried = false;
    for (int replication : tables_.replications()) {
      if (replication > 1 && request.group.size() == 1) break;
      const double floor =
          exchange + FloorOf(request.group, counts, replication, floors[replication]);
      absl::optional<Prepared> prepared;
      for (const Ends& ends : options) {
        if (!(floor * (1 - kRounding) + ends.seconds < limit)) break;
        if (tired()) return best;
        tried = true;
        if (!prepared) prepared = Prepare(request, counts, replication);
        // What is better by rounding alone is not better.
        absl::optional<StagePlan> plan =
            SolveOne(request, counts, ends, *prepared, best ? limit * (1 - kRounding) : limit);
        if (!plan) continue;
        limit = plan->seconds;
        plan->offloaded = offloaded;
        plan->server_bytes = server_bytes.first;
        plan->server_shared_bytes = server_bytes.second;
        best = std::move(plan);
        if (any) return best;
      }
    }
    // With more MLPs on the server it only gets slower.
    if (!tried && request.server >= 0 && ServerIsSlower(request, counts)) break;
  }
  return best;
}

}  // namespace tprun
