#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/kernels/kernel_checks.h"
#include "engine/kernels/kernels.h"

// Mixtures of experts over the other ops: each chosen expert is visited once for all its tokens.

namespace tprun {
namespace {

void Scores(const float* logits, const ExpertsSpec& experts, std::vector<double>* scores) {
  if (experts.score == RouterScore::kSigmoid) {
    for (int e = 0; e < experts.count; ++e) (*scores)[e] = 1 / (1 + std::exp(-double{logits[e]}));
    return;
  }
  const double max = *std::max_element(logits, logits + experts.count);
  double sum = 0;
  for (int e = 0; e < experts.count; ++e) sum += (*scores)[e] = std::exp(logits[e] - max);
  for (double& score : *scores) score /= sum;
}

// The ids of the `count` largest values, largest first, the lower id among equals.
std::vector<int> Largest(const std::vector<double>& values, int count) {
  std::vector<int> ids(values.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::partial_sort(ids.begin(), ids.begin() + count, ids.end(), [&](int a, int b) {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  });
  ids.resize(count);
  return ids;
}

// Experts outside the best groups become -infinity.
void KeepBestGroups(const ExpertsSpec& experts, bool two_best, std::vector<double>* choice) {
  const int size = experts.count / experts.groups;
  std::vector<double> of_group(experts.groups);
  for (int g = 0; g < experts.groups; ++g) {
    std::vector<double> group(choice->begin() + g * size, choice->begin() + (g + 1) * size);
    const std::vector<int> best = Largest(group, two_best ? std::min(2, size) : 1);
    for (int i : best) of_group[g] += group[i];
    if (std::isnan(of_group[g])) of_group[g] = -INFINITY;  // of infinities of either sign
  }
  std::vector<bool> kept(experts.groups);
  for (int g : Largest(of_group, experts.groups_per_token)) kept[g] = true;
  for (int e = 0; e < experts.count; ++e) {
    if (!kept[e / size]) (*choice)[e] = -INFINITY;
  }
}

// One expert's part of a stack.
WeightMatrix Slice(const ExpertMatrices& matrices, int expert) {
  const int64_t row_bytes = matrices.all.format->Bytes(matrices.all.columns);
  return {static_cast<const char*>(matrices.all.data) + expert * matrices.rows * row_bytes,
          matrices.all.format, matrices.rows, matrices.all.columns};
}

const float* BiasOf(const ExpertMatrices& matrices, int expert) {
  return matrices.bias == nullptr ? nullptr : matrices.bias + expert * matrices.rows;
}

absl::Status CheckExperts(const ExpertMatrices& matrices, const ExpertChoice& choice) {
  RETURN_IF_ERROR(CheckWeights(matrices.all));
  if (matrices.all.rows == matrices.rows * choice.experts) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(choice.experts, " experts of ", matrices.rows,
                                                 " rows in a matrix of ", matrices.all.rows));
}

// A choice that is here.
struct Visit {
  int64_t token;
  int64_t slot;  // token * slots + its slot
  float weight;
};

// The visits of each of this rank's experts.
absl::StatusOr<std::vector<std::vector<Visit>>> ByExpert(const ExpertChoice& choice) {
  std::vector<std::vector<Visit>> visits(choice.experts);
  for (int64_t t = 0; t < choice.tokens; ++t) {
    int64_t slot = t * choice.slots();
    for (int k = 0; k < choice.per_token; ++k) {
      const int expert = choice.ids[t * choice.per_token + k] - choice.first_expert;
      if (expert < 0 || expert >= choice.experts) continue;
      if (slot == (t + 1) * choice.slots()) {
        return absl::InvalidArgumentError("a token chose one expert twice");
      }
      visits[expert].push_back({t, slot++, choice.weights[t * choice.per_token + k]});
    }
  }
  return visits;
}

// Rows of `width` floats at `from` for the visits, by token or by slot, one after another; where
// they lie if it is only one.
const float* Gather(const float* from, const std::vector<Visit>& visits, int64_t width,
                    bool by_slot, std::vector<float>* copy) {
  const auto row = [&](const Visit& visit) {
    return from + (by_slot ? visit.slot : visit.token) * width;
  };
  if (visits.size() == 1) return row(visits[0]);
  copy->resize(visits.size() * width);
  for (size_t i = 0; i < visits.size(); ++i) {
    std::copy_n(row(visits[i]), width, copy->data() + i * width);
  }
  return copy->data();
}

}  // namespace

absl::Status Kernels::RouteExperts(const float* logits, const float* choice_bias, int64_t tokens,
                                   const ExpertsSpec& experts, int32_t* ids, float* weights) {
  RETURN_IF_ERROR(CheckRouter(experts));
  std::vector<double> scores(experts.count), choice;
  for (int64_t t = 0; t < tokens; ++t, ids += experts.per_token, weights += experts.per_token) {
    Scores(logits + t * experts.count, experts, &scores);
    choice = scores;
    for (int e = 0; choice_bias != nullptr && e < experts.count; ++e) choice[e] += choice_bias[e];
    // A NaN, which a damaged model gives, has no place in an order.
    for (double& value : choice) value = std::isnan(value) ? -INFINITY : value;
    if (experts.groups_per_token < experts.groups) {
      KeepBestGroups(experts, choice_bias != nullptr, &choice);
    }
    const std::vector<int> best = Largest(choice, experts.per_token);
    double sum = 0;
    for (int e : best) sum += scores[e];
    const double scale = experts.scale / (experts.normalize ? sum + 1e-20 : 1);
    for (int k = 0; k < experts.per_token; ++k) {
      ids[k] = best[k];
      weights[k] = static_cast<float>(scores[best[k]] * scale);
    }
  }
  return absl::OkStatus();
}

absl::Status Kernels::ExpertGatedMatMul(const float* x, const ExpertMatrices& gate,
                                        const ExpertMatrices& up, Activation activation,
                                        const ExpertChoice& choice, float* out, float* up_out) {
  RETURN_IF_ERROR(CheckExperts(gate, choice));
  RETURN_IF_ERROR(CheckExperts(up, choice));
  ASSIGN_OR_RETURN(const auto visits, ByExpert(choice));
  const int64_t width = gate.rows;
  std::vector<float> rows, gates, ups;
  for (int e = 0; e < choice.experts; ++e) {
    const auto count = static_cast<int64_t>(visits[e].size());
    if (count == 0) continue;
    const float* in = Gather(x, visits[e], gate.all.columns, false, &rows);
    float* to = out + visits[e][0].slot * width;
    float* up_to = up_out + visits[e][0].slot * width;
    if (count > 1) {
      gates.resize(count * width);
      ups.resize(count * width);
      to = gates.data();
      up_to = ups.data();
    }
    if (gate.bias == nullptr && up.bias == nullptr) {
      RETURN_IF_ERROR(GatedMatMul(in, Slice(gate, e), Slice(up, e), activation, count, to, up_to));
    } else {
      RETURN_IF_ERROR(MatMuls(in,
                              {{Slice(gate, e), BiasOf(gate, e), to, width},
                               {Slice(up, e), BiasOf(up, e), up_to, width}},
                              count));
      RETURN_IF_ERROR(GatedActivation(activation, to, up_to, count * width));
    }
    for (int64_t i = 0; count > 1 && i < count; ++i) {
      std::copy_n(to + i * width, width, out + visits[e][i].slot * width);
    }
  }
  return absl::OkStatus();
}

absl::Status Kernels::ExpertSum(const float* h, const ExpertMatrices& down,
                                const ExpertChoice& choice, float* out) {
  RETURN_IF_ERROR(CheckExperts(down, choice));
  ASSIGN_OR_RETURN(const auto visits, ByExpert(choice));
  std::vector<float> rows, outputs;
  for (int e = 0; e < choice.experts; ++e) {
    const auto count = static_cast<int64_t>(visits[e].size());
    if (count == 0) continue;
    const float* in = Gather(h, visits[e], down.all.columns, true, &rows);
    outputs.resize(count * down.rows);
    RETURN_IF_ERROR(MatMul(in, Slice(down, e), BiasOf(down, e), count, outputs.data(), down.rows));
    for (int64_t i = 0; i < count; ++i) {
      float* to = out + visits[e][i].token * down.rows;
      const float* from = outputs.data() + i * down.rows;
      const float weight = visits[e][i].weight;
      for (int64_t r = 0; r < down.rows; ++r) to[r] += weight * from[r];
    }
  }
  return absl::OkStatus();
}

absl::Status Kernels::SigmoidScale(float* x, const float* gate, int64_t tokens, int64_t columns) {
  for (int64_t t = 0; t < tokens; ++t, x += columns) {
    const auto factor = static_cast<float>(1 / (1 + std::exp(-double{gate[t]})));
    for (int64_t i = 0; i < columns; ++i) x[i] *= factor;
  }
  return absl::OkStatus();
}

}  // namespace tprun
