#include <algorithm>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "partition/plan.h"

// plan.json. One line per rank and per block, so that people can read and edit it.

namespace tprun {
namespace {

constexpr int kPlanVersion = 2;
constexpr int kMaxRanks = 65536;
constexpr int kMaxThreads = 65536;
constexpr int64_t kMaxBytes = int64_t{1} << 60;

Json RankToJson(const RankPlan& rank) {
  return {{"device", rank.device},
          {"name", rank.device_name},
          {"weight_bytes", rank.weight_bytes},
          {"kv_bytes", rank.kv_bytes},
          {"workspace_bytes", rank.workspace_bytes},
          {"overhead_bytes", rank.overhead_bytes},
          {"sidecar_bytes", rank.sidecar_bytes},
          {"load_bytes", rank.load_bytes},
          {"load_threads", rank.load_threads},
          {"available_bytes", rank.available_bytes},
          {"bandwidth_bytes_per_s", rank.bandwidth_bytes_per_s}};
}

Json SpeedToJson(const SpeedRange& range) {
  return {{"expected", range.expected}, {"low", range.low}, {"high", range.high}};
}

Json BlockToJson(const ModelSpec& spec, int block, const Placement& placement) {
  Json json = {
      {"block", BlockName(spec, block)}, {"ranks", placement.ranks}, {"shares", placement.shares}};
  if (placement.kv_replication != 1) json["kv_replication"] = placement.kv_replication;
  return json;
}

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string Lines(const std::vector<Json>& items) {
  std::vector<std::string> lines;
  for (const Json& item : items) lines.push_back("    " + Dump(item));
  return absl::StrCat("[\n", absl::StrJoin(lines, ",\n"), "\n  ]");
}

absl::Status CheckMembers(const Json& object, const std::set<std::string>& known,
                          absl::string_view where) {
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": wanted an object"));
  }
  for (const auto& [key, value] : object.items()) {
    if (known.count(key) > 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": unknown member \"", key, "\"; known: ", absl::StrJoin(known, ", ")));
  }
  return absl::OkStatus();
}

absl::StatusOr<const Json*> GetArray(const Json& object, absl::string_view key) {
  const Json* array = FindMember(object, key);
  if (array != nullptr && array->is_array()) return array;
  return absl::InvalidArgumentError(absl::StrCat("\"", key, "\": wanted an array"));
}

template <typename T>
absl::StatusOr<std::vector<T>> GetIntegers(const Json& object, absl::string_view key) {
  ASSIGN_OR_RETURN(const Json* array, GetArray(object, key));
  std::vector<T> values;
  for (const Json& item : *array) {
    const bool fits = item.is_number_integer() &&
                      item.get<int64_t>() >= std::numeric_limits<T>::min() &&
                      item.get<int64_t>() <= std::numeric_limits<T>::max();
    if (!fits) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", key, "\": wanted integers, found ", Dump(item)));
    }
    values.push_back(item.get<T>());
  }
  return values;
}

absl::StatusOr<std::vector<std::string>> GetStrings(const Json& object, absl::string_view key) {
  std::vector<std::string> values;
  if (FindMember(object, key) == nullptr) return values;
  ASSIGN_OR_RETURN(const Json* array, GetArray(object, key));
  for (const Json& item : *array) {
    if (!item.is_string()) {
      return absl::InvalidArgumentError(absl::StrCat("\"", key, "\": wanted strings"));
    }
    values.push_back(item.get<std::string>());
  }
  return values;
}

// An integer that has to lie in [low, high].
absl::StatusOr<int64_t> GetBounded(const Json& json, absl::string_view key, int64_t low,
                                   int64_t high) {
  ASSIGN_OR_RETURN(const int64_t value, GetInt(json, key));
  if (value >= low && value <= high) return value;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", key, "\": wanted ", low, " to ", high, ", found ", value));
}

absl::StatusOr<RankPlan> RankFromJson(const Json& json) {
  RETURN_IF_ERROR(CheckMembers(
      json,
      {"device", "name", "weight_bytes", "kv_bytes", "workspace_bytes", "overhead_bytes",
       "sidecar_bytes", "load_bytes", "load_threads", "available_bytes", "bandwidth_bytes_per_s"},
      "ranks"));
  RankPlan rank;
  ASSIGN_OR_RETURN(rank.device, GetString(json, "device"));
  rank.on_host = rank.device == "cpu" || absl::EndsWith(rank.device, "/cpu");
  ASSIGN_OR_RETURN(rank.device_name, GetStringOr(json, "name", ""));
  // The bytes of our own follow from the placements; see PredictPlan.
  ASSIGN_OR_RETURN(rank.overhead_bytes, GetBounded(json, "overhead_bytes", 0, kMaxBytes));
  if (FindMember(json, "sidecar_bytes") != nullptr) {
    ASSIGN_OR_RETURN(rank.sidecar_bytes, GetBounded(json, "sidecar_bytes", 0, kMaxBytes));
  }
  if (FindMember(json, "load_bytes") != nullptr) {
    ASSIGN_OR_RETURN(rank.load_bytes, GetBounded(json, "load_bytes", 0, kMaxBytes));
  }
  if (FindMember(json, "load_threads") != nullptr) {
    ASSIGN_OR_RETURN(const int64_t threads, GetBounded(json, "load_threads", 0, kMaxThreads));
    rank.load_threads = static_cast<int>(threads);
  }
  ASSIGN_OR_RETURN(rank.available_bytes, GetBounded(json, "available_bytes", 0, kMaxBytes));
  ASSIGN_OR_RETURN(rank.bandwidth_bytes_per_s, GetDoubleOr(json, "bandwidth_bytes_per_s", 0));
  return rank;
}

absl::StatusOr<Placement> PlacementFromJson(const Json& json, absl::string_view expected_block) {
  RETURN_IF_ERROR(CheckMembers(json, {"block", "ranks", "shares", "kv_replication"}, "blocks"));
  ASSIGN_OR_RETURN(const std::string block, GetString(json, "block"));
  if (block != expected_block) {
    return absl::InvalidArgumentError(
        absl::StrCat("blocks: wanted \"", expected_block, "\" here, found \"", block, "\""));
  }
  Placement placement;
  ASSIGN_OR_RETURN(placement.ranks, GetIntegers<int>(json, "ranks"));
  ASSIGN_OR_RETURN(placement.shares, GetIntegers<int64_t>(json, "shares"));
  ASSIGN_OR_RETURN(const int64_t replication, GetIntOr(json, "kv_replication", 1));
  if (replication < 1 || replication > kMaxRanks) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"kv_replication\": wanted 1 to ", kMaxRanks, ", found ", replication));
  }
  placement.kv_replication = static_cast<int>(replication);
  return placement;
}

absl::StatusOr<EngineOptions> OptionsFromJson(const Json& json) {
  EngineOptions options;
  ASSIGN_OR_RETURN(options.context, GetBounded(json, "context", 1, int64_t{1} << 30));
  ASSIGN_OR_RETURN(options.batch, GetBounded(json, "batch", 1, 1 << 16));
  ASSIGN_OR_RETURN(options.prefill_chunk, GetBounded(json, "prefill_chunk", 1, 1 << 20));
  if (FindMember(json, "logit_rows") != nullptr) {
    ASSIGN_OR_RETURN(options.logit_rows, GetBounded(json, "logit_rows", 0, 1 << 20));
  }
  ASSIGN_OR_RETURN(const std::string kv_type, GetString(json, "kv_type"));
  RETURN_IF_ERROR(Annotate(SetKvType(kv_type, options), "\"kv_type\""));
  return options;
}

absl::Status ReadBlocks(const Json& json, const ModelSpec& spec, Plan& plan) {
  ASSIGN_OR_RETURN(const Json* blocks, GetArray(json, "blocks"));
  if (blocks->size() != spec.blocks.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("blocks: the model has ", spec.blocks.size(), ", the plan ", blocks->size()));
  }
  for (size_t block = 0; block < blocks->size(); ++block) {
    ASSIGN_OR_RETURN(Placement placement,
                     PlacementFromJson((*blocks)[block], BlockName(spec, static_cast<int>(block))));
    plan.placements.push_back(std::move(placement));
  }
  return absl::OkStatus();
}

absl::StatusOr<SpeedRange> SpeedFromJson(const Json& json, absl::string_view key) {
  SpeedRange range;
  const Json* member = FindMember(json, key);
  if (member == nullptr) return range;
  RETURN_IF_ERROR(CheckMembers(*member, {"expected", "low", "high"}, key));
  ASSIGN_OR_RETURN(range.expected, GetDoubleOr(*member, "expected", 0));
  ASSIGN_OR_RETURN(range.low, GetDoubleOr(*member, "low", 0));
  ASSIGN_OR_RETURN(range.high, GetDoubleOr(*member, "high", 0));
  return range;
}

absl::Status ReadRejected(const Json& json, Plan& plan) {
  if (FindMember(json, "rejected") == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Json* rejected, GetArray(json, "rejected"));
  for (const Json& item : *rejected) {
    RETURN_IF_ERROR(CheckMembers(item, {"layout", "tokens_per_s", "reason"}, "rejected"));
    Alternative alternative;
    ASSIGN_OR_RETURN(alternative.layout, GetString(item, "layout"));
    ASSIGN_OR_RETURN(alternative.tokens_per_s, GetDoubleOr(item, "tokens_per_s", 0));
    ASSIGN_OR_RETURN(alternative.reason, GetStringOr(item, "reason", ""));
    plan.rejected.push_back(std::move(alternative));
  }
  return absl::OkStatus();
}

absl::StatusOr<Plan> ReadPlan(const Json& json, const ModelSpec& spec) {
  RETURN_IF_ERROR(CheckMembers(json,
                               {"tprun_plan",
                                "model",
                                "architecture",
                                "fingerprint",
                                "parameters",
                                "context",
                                "batch",
                                "kv_type",
                                "prefill_chunk",
                                "logit_rows",
                                "objective",
                                "depth",
                                "prompt",
                                "decode_tokens_per_s",
                                "prefill_tokens_per_s",
                                "why",
                                "fits",
                                "ranks",
                                "blocks",
                                "rejected",
                                "notes",
                                "remedies"},
                               "plan"));
  ASSIGN_OR_RETURN(const int64_t version, GetInt(json, "tprun_plan"));
  if (version != kPlanVersion) {
    return absl::InvalidArgumentError(absl::StrCat("\"tprun_plan\": this program reads version ",
                                                   kPlanVersion, ", found ", version));
  }
  Plan plan;
  ASSIGN_OR_RETURN(plan.model_name, GetString(json, "model"));
  ASSIGN_OR_RETURN(plan.architecture, GetString(json, "architecture"));
  ASSIGN_OR_RETURN(plan.fingerprint, GetString(json, "fingerprint"));
  ASSIGN_OR_RETURN(plan.parameters, GetIntOr(json, "parameters", 0));
  ASSIGN_OR_RETURN(plan.options, OptionsFromJson(json));
  ASSIGN_OR_RETURN(plan.objective, GetStringOr(json, "objective", "latency"));
  ASSIGN_OR_RETURN(plan.depth, GetIntOr(json, "depth", 0));
  ASSIGN_OR_RETURN(plan.prompt, GetIntOr(json, "prompt", 0));
  ASSIGN_OR_RETURN(plan.decode, SpeedFromJson(json, "decode_tokens_per_s"));
  ASSIGN_OR_RETURN(plan.prefill, SpeedFromJson(json, "prefill_tokens_per_s"));
  ASSIGN_OR_RETURN(plan.why, GetStringOr(json, "why", ""));
  RETURN_IF_ERROR(ReadRejected(json, plan));
  ASSIGN_OR_RETURN(plan.notes, GetStrings(json, "notes"));
  ASSIGN_OR_RETURN(plan.remedies, GetStrings(json, "remedies"));
  ASSIGN_OR_RETURN(const Json* ranks, GetArray(json, "ranks"));
  if (ranks->empty() || ranks->size() > kMaxRanks) {
    return absl::InvalidArgumentError(
        absl::StrCat("ranks: wanted 1 to ", kMaxRanks, ", found ", ranks->size()));
  }
  for (const Json& item : *ranks) {
    ASSIGN_OR_RETURN(RankPlan rank, RankFromJson(item));
    plan.ranks.push_back(std::move(rank));
  }
  // Before the blocks, so that a plan of another model is told as that.
  if (plan.fingerprint == ModelFingerprint(spec)) RETURN_IF_ERROR(ReadBlocks(json, spec, plan));
  RETURN_IF_ERROR(CheckPlanFor(plan, spec));
  RETURN_IF_ERROR(Annotate(CheckKvType(spec, plan.options), "\"kv_type\""));
  SetRankBytes(spec, plan);
  return plan;
}

}  // namespace

std::string PlanToJson(const Plan& plan, const ModelSpec& spec) {
  std::vector<Json> rejected;
  for (const Alternative& alternative : plan.rejected) {
    rejected.push_back({{"layout", alternative.layout},
                        {"tokens_per_s", alternative.tokens_per_s},
                        {"reason", alternative.reason}});
  }
  std::vector<Json> ranks;
  for (const RankPlan& rank : plan.ranks) ranks.push_back(RankToJson(rank));
  std::vector<Json> blocks;
  for (int block = 0; block < static_cast<int>(plan.placements.size()); ++block) {
    blocks.push_back(BlockToJson(spec, block, plan.placements[block]));
  }
  const std::vector<std::pair<std::string, std::string>> members = {
      {"tprun_plan", absl::StrCat(kPlanVersion)},
      {"model", Dump(plan.model_name)},
      {"architecture", Dump(plan.architecture)},
      {"fingerprint", Dump(plan.fingerprint)},
      {"parameters", absl::StrCat(plan.parameters)},
      {"context", absl::StrCat(plan.options.context)},
      {"batch", absl::StrCat(plan.options.batch)},
      {"kv_type", Dump(std::string(KvTypeName(plan.options)))},
      {"prefill_chunk", absl::StrCat(plan.options.prefill_chunk)},
      {"logit_rows", absl::StrCat(plan.options.logit_rows)},
      {"objective", Dump(plan.objective)},
      {"depth", absl::StrCat(plan.depth)},
      {"prompt", absl::StrCat(plan.prompt)},
      {"decode_tokens_per_s", Dump(SpeedToJson(plan.decode))},
      {"prefill_tokens_per_s", Dump(SpeedToJson(plan.prefill))},
      {"why", Dump(plan.why)},
      {"fits", plan.fits() ? "true" : "false"},
      {"ranks", Lines(ranks)},
      {"blocks", Lines(blocks)},
      {"rejected", rejected.empty() ? "[]" : Lines(rejected)},
      {"notes", Dump(plan.notes)},
      {"remedies", Dump(plan.remedies)}};
  std::vector<std::string> lines;
  for (const auto& [key, value] : members)
    lines.push_back(absl::StrCat("  \"", key, "\": ", value));
  return absl::StrCat("{\n", absl::StrJoin(lines, ",\n"), "\n}\n");
}

absl::StatusOr<Plan> PlanFromJson(absl::string_view text, const ModelSpec& spec) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text));
  return ReadPlan(json, spec);
}

}  // namespace tprun
