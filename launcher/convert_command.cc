#include <csignal>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/file.h"
#include "base/output_file.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "engine/arch/assume_formats.h"
#include "engine/arch/gguf_description.h"
#include "engine/arch/read_model_spec.h"
#include "engine/runtime/convert_gguf.h"
#include "engine/tokenizer/to_gguf.h"
#include "launcher/commands.h"
#include "launcher/exit_code.h"
#include "launcher/model_options.h"
#include "launcher/progress.h"
#include "launcher/terminal.h"

namespace tprun {
namespace {

struct ConvertOptions {
  std::string model;
  std::string weights;
  std::string output;
  bool force = false;
  bool quiet = false;
  int threads = 0;
};

volatile std::sig_atomic_t g_interrupted = 0;  // signal handlers reach nothing else

// Ends a conversion in order while it lives: the temporary file goes, the signal is told.
class InterruptGuard {
 public:
  InterruptGuard() {
    struct sigaction action = {};
    action.sa_handler = [](int) { g_interrupted = 1; };
    sigaction(SIGINT, &action, &old_int_);
    sigaction(SIGTERM, &action, &old_term_);
    sigaction(SIGHUP, &action, &old_hup_);
  }
  ~InterruptGuard() {
    sigaction(SIGINT, &old_int_, nullptr);
    sigaction(SIGTERM, &old_term_, nullptr);
    sigaction(SIGHUP, &old_hup_, nullptr);
  }

 private:
  struct sigaction old_int_ = {};
  struct sigaction old_term_ = {};
  struct sigaction old_hup_ = {};
};

// general.file_type, which only informs (llama.cpp: enum llama_ftype of include/llama.h).
constexpr std::pair<absl::string_view, int> kFileTypes[] = {
    {"f32", 0},     {"f16", 1},   {"bf16", 32},   {"q8_0", 7},    {"q4_0", 2},    {"q4_1", 3},
    {"q5_0", 8},    {"q5_1", 9},  {"q2_k", 10},   {"q3_k", 11},   {"q3_k_s", 11}, {"q3_k_m", 12},
    {"q3_k_l", 13}, {"q4_k", 14}, {"q4_k_s", 14}, {"q4_k_m", 15}, {"q5_k", 16},   {"q5_k_s", 16},
    {"q5_k_m", 17}, {"q6_k", 18}, {"iq4_nl", 25}, {"iq4_xs", 30}, {"mxfp4", 38}};

int FileType(absl::string_view format) {
  for (const auto& [name, type] : kFileTypes) {
    if (name == format) return type;
  }
  return -1;
}

// What --weights names. InvalidArgument lists what a GGUF file can be written in.
absl::StatusOr<const WeightFormat*> WantedFormat(const std::string& name) {
  const std::string lower = absl::AsciiStrToLower(name);
  if (FileType(lower) >= 0) return ParseWeightFormat(lower);
  std::vector<absl::string_view> names;
  for (const auto& [known, type] : kFileTypes) names.push_back(known);
  return absl::InvalidArgumentError(
      absl::StrCat("--weights: wanted a type that GGUF has and that can be made (",
                   absl::StrJoin(names, ", "), "), found \"", name, "\""));
}

// The format that most of the model's elements have.
std::string MainFormat(const ModelSpec& spec) {
  std::map<std::string, int64_t> elements;
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.shape.size() > 1) elements[std::string(tensor.format->name)] += ElementCount(tensor);
  }
  std::string most;
  for (const auto& [name, count] : elements) {
    if (most.empty() || count > elements[most]) most = name;
  }
  return most;
}

void PutGeneral(const ConvertOptions& options, const ModelSpec& spec, Json& metadata) {
  const int type =
      FileType(options.weights.empty() ? MainFormat(spec) : absl::AsciiStrToLower(options.weights));
  metadata.erase("general.file_type");
  if (type >= 0) metadata["general.file_type"] = type;
  metadata["general.quantization_version"] = 2;
}

// What a conversion needs to know of its source.
struct Source {
  std::unique_ptr<Checkpoint> checkpoint;
  ModelSpec spec;
  GgufDescription description;  // of a Hugging Face folder
  GgufConversion conversion;
  std::string note;
};

absl::Status PlanFolder(const ConvertOptions& options, Source& source) {
  ASSIGN_OR_RETURN(source.description, DescribeAsGguf(source.spec));
  Json metadata = source.description.metadata;
  PutGeneral(options, source.spec, metadata);
  ASSIGN_OR_RETURN(const Json tokenizer,
                   GgufTokenizerMetadata(*source.checkpoint, source.spec.vocab));
  for (const auto& [key, value] : tokenizer.items()) metadata[key] = value;
  if (tokenizer.empty()) {
    source.note = "the folder has no tokenizer, so the file has none either";
    metadata["tokenizer.ggml.model"] = "no_vocab";  // llama.cpp wants to be told
  }
  if (!source.description.note.empty()) source.note = source.description.note;
  ASSIGN_OR_RETURN(source.conversion,
                   PlanGgufOfFolder(source.spec, source.description.spec, metadata));
  return absl::OkStatus();
}

absl::Status PlanGguf(const ConvertOptions& options, Source& source) {
  Json metadata = source.checkpoint->metadata();
  for (const char* key : {"split.no", "split.count", "split.tensors.count"}) metadata.erase(key);
  PutGeneral(options, source.spec, metadata);
  ASSIGN_OR_RETURN(source.conversion, PlanGgufOfGguf(*source.checkpoint, source.spec, metadata));
  return absl::OkStatus();
}

absl::StatusOr<Source> Open(const ConvertOptions& options) {
  Source source;
  const WeightFormat* wanted = nullptr;
  if (!options.weights.empty()) {
    ASSIGN_OR_RETURN(wanted, WantedFormat(options.weights));
  }
  ASSIGN_OR_RETURN(source.checkpoint, Checkpoint::Open(options.model));
  if (source.checkpoint->kind() == CheckpointKind::kConfigOnly) {
    return absl::InvalidArgumentError(absl::StrCat(options.model, " has no weights to convert"));
  }
  ASSIGN_OR_RETURN(source.spec, ReadModelSpec(*source.checkpoint, wanted));
  const bool gguf = source.checkpoint->kind() == CheckpointKind::kGguf;
  if (!gguf && !source.spec.not_runnable.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.model, " cannot be converted: ", source.spec.not_runnable));
  }
  RETURN_IF_ERROR(gguf ? PlanGguf(options, source) : PlanFolder(options, source));
  if (wanted != nullptr && source.note.empty()) source.note = FallbackNote(*wanted, source.spec);
  return source;
}

absl::Status CheckOutput(const ConvertOptions& options, const Checkpoint& checkpoint) {
  if (IsDirectory(options.output)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--output: ", options.output, " is a folder, wanted a file's name"));
  }
  std::error_code ignored;
  const std::filesystem::file_status there = std::filesystem::status(options.output, ignored);
  if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--output: ", options.output, " is no plain file, which would be replaced"));
  }
  for (const auto& file : checkpoint.files()) {
    if (BaseName(file->path()) != BaseName(options.output)) continue;
    char* a = realpath(file->path().c_str(), nullptr);
    char* b = realpath(options.output.c_str(), nullptr);
    const bool same = a != nullptr && b != nullptr && std::string(a) == b;
    free(a);
    free(b);
    if (same) {
      return absl::InvalidArgumentError(
          absl::StrCat("--output: ", options.output, " is the model itself; name another file"));
    }
  }
  if (!FileExists(options.output) || options.force) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--output: ", options.output, " is there already; name another file or say --force"));
}

// What was written reads as the same model, before it gets its name.
absl::Status CheckWritten(const Source& source, const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> written, Checkpoint::Open(path));
  if (source.checkpoint->kind() == CheckpointKind::kGguf) return absl::OkStatus();
  ASSIGN_OR_RETURN(const ModelSpec spec, ReadModelSpec(*written));
  const std::string difference = DifferenceOf(source.description.spec, spec);
  if (!difference.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("this model's GGUF form would differ in: ", difference));
  }
  const auto original = LoadTokenizer(*source.checkpoint);
  if (absl::IsNotFound(original.status())) return absl::OkStatus();
  RETURN_IF_ERROR(original.status());
  ASSIGN_OR_RETURN(const auto converted, LoadTokenizer(*written));
  return CompareTokenizers(**original, *converted);
}

absl::Status RunConvert(const ConvertOptions& options) {
  ASSIGN_OR_RETURN(const Source source, Open(options));
  RETURN_IF_ERROR(CheckOutput(options, *source.checkpoint));
  if (!source.note.empty() && !options.quiet) WriteLog(source.note);
  const InterruptGuard guard;
  absl::StatusOr<std::unique_ptr<OutputFile>> created = OutputFile::Create(options.output);
  if (!created.ok()) return Annotate(created.status(), "--output");
  const std::unique_ptr<OutputFile> file = *std::move(created);
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  ThreadPool pool(options.threads > 0 ? options.threads : static_cast<int>(cores));
  ProgressBar bar("converting");
  const auto progress = [&](int64_t done, int64_t total) {
    if (!options.quiet) bar.Update(done, total);
    return g_interrupted == 0;
  };
  const absl::Status status =
      WriteGguf(*source.checkpoint, source.conversion, pool, progress, *file);
  bar.Finish();
  RETURN_IF_ERROR(status);
  RETURN_IF_ERROR(Annotate(CheckWritten(source, file->temporary_path()), options.output));
  if (g_interrupted != 0) return absl::CancelledError("interrupted; nothing was written");
  RETURN_IF_ERROR(file->Commit());
  if (!options.quiet) {
    WriteLog(absl::StrCat("wrote ", options.output, ": ", source.conversion.layout.tensors.size(),
                          " tensors, ", FormatBytes(source.conversion.layout.file_bytes)));
  }
  return absl::OkStatus();
}

}  // namespace

Command MakeConvertCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "convert", "Write a model as a GGUF file, its matrices in another type if asked for");
  auto options = std::make_shared<ConvertOptions>();
  command->add_option("MODEL", options->model, "A Hugging Face folder or a .gguf file")->required();
  command
      ->add_option("--weights", options->weights,
                   "Type of the matrices: f32, f16, bf16, q8_0, q4_k_m, ... [as they are]")
      ->check(NotEmpty());
  command->add_option("--output", options->output, "The .gguf file to write")
      ->required()
      ->check(NotEmpty());
  command->add_flag("--force", options->force, "Replace the file if it is there already");
  command->add_flag("--quiet", options->quiet, "Nothing on standard error but errors");
  command->add_option("--threads", options->threads, "Threads [cores]")->check(CLI::Range(0, 4096));
  return {command, [options] { return ReportStatus(RunConvert(*options)); }};
}

}  // namespace tprun
