#include "launcher/user_state.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/file.h"
#include "base/file_error.h"
#include "base/json.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

constexpr char kResiduals[] = "residuals.jsonl";
constexpr char kCalibration[] = "calibration.json";
constexpr int64_t kMostResidualBytes = 1 << 20;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Json ToJson(const Residual& residual) {
  return {{"time", absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone())},
          {"command", residual.command},
          {"model", residual.model},
          {"fingerprint", residual.fingerprint},
          {"devices", residual.devices},
          {"predicted_decode_tokens_per_s", residual.predicted_decode},
          {"measured_decode_tokens_per_s", residual.measured_decode},
          {"predicted_prefill_tokens_per_s", residual.predicted_prefill},
          {"measured_prefill_tokens_per_s", residual.measured_prefill},
          {"predicted_bytes", residual.predicted_bytes},
          {"measured_bytes", residual.measured_bytes}};
}

absl::StatusOr<Residual> FromJson(absl::string_view line) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(std::string(line)));
  if (!json.is_object()) return absl::InvalidArgumentError("not an object");
  Residual residual;
  ASSIGN_OR_RETURN(residual.command, GetStringOr(json, "command", ""));
  ASSIGN_OR_RETURN(residual.model, GetStringOr(json, "model", ""));
  // Lines of before have none: they may be of runs with fewer threads or timed one op at a time.
  ASSIGN_OR_RETURN(residual.fingerprint, GetString(json, "fingerprint"));
  const Json* devices = FindMember(json, "devices");
  if (devices == nullptr || !devices->is_array()) return absl::InvalidArgumentError("no devices");
  for (const Json& device : *devices) {
    if (!device.is_string()) return absl::InvalidArgumentError("a device that is no text");
    residual.devices.push_back(device.get<std::string>());
  }
  ASSIGN_OR_RETURN(residual.predicted_decode, GetDouble(json, "predicted_decode_tokens_per_s"));
  ASSIGN_OR_RETURN(residual.measured_decode, GetDouble(json, "measured_decode_tokens_per_s"));
  ASSIGN_OR_RETURN(residual.predicted_prefill, GetDouble(json, "predicted_prefill_tokens_per_s"));
  ASSIGN_OR_RETURN(residual.measured_prefill, GetDouble(json, "measured_prefill_tokens_per_s"));
  ASSIGN_OR_RETURN(residual.predicted_bytes, GetIntOr(json, "predicted_bytes", 0));
  ASSIGN_OR_RETURN(residual.measured_bytes, GetIntOr(json, "measured_bytes", 0));
  return residual;
}

std::vector<std::string> Sorted(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  return names;
}

// "decode measured at 0.92 of what was predicted (median of 7 runs, 0.85 to 1.01)".
void Describe(absl::string_view what, std::vector<double> ratios, std::string& text) {
  if (ratios.empty()) return;
  std::sort(ratios.begin(), ratios.end());
  absl::StrAppend(&text, text.empty() ? "" : "; ", what);
  absl::StrAppendFormat(&text, " measured at %.2f of what was predicted (",
                        ratios[ratios.size() / 2]);
  if (ratios.size() == 1) {
    absl::StrAppend(&text, "1 run)");
  } else {
    // Of many runs the outermost tell of a busy machine.
    const size_t outer = ratios.size() / 4;
    absl::StrAppendFormat(&text, "median of %d runs, %s%.2f to %.2f)", ratios.size(),
                          outer == 0 ? "" : "half of them ", ratios[outer],
                          ratios[ratios.size() - 1 - outer]);
  }
}

}  // namespace

std::string StateDirectory() {
  if (const std::string state = Variable("XDG_STATE_HOME"); !state.empty()) {
    return JoinPath(state, "tprun");
  }
  const std::string home = Variable("HOME");
  return home.empty() ? "" : JoinPath(home, ".local/state/tprun");
}

std::string DefaultCalibrationFile() {
  const std::string directory = StateDirectory();
  if (directory.empty()) return "";
  const std::string path = JoinPath(directory, kCalibration);
  return FileExists(path) ? path : "";
}

namespace {

// A file opened to append to; others that open it so wait, but no longer than a second: one that
// has stopped is not worth more.
class LockedFile {
 public:
  explicit LockedFile(const std::string& path)
      : fd_(open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
    for (int i = 0; i < 100 && fd_ >= 0 && flock(fd_, LOCK_EX | LOCK_NB) != 0; ++i) {
      absl::SleepFor(absl::Milliseconds(10));
    }
  }
  ~LockedFile() {
    if (fd_ >= 0) close(fd_);  // and unlocks
  }
  LockedFile(const LockedFile&) = delete;
  LockedFile& operator=(const LockedFile&) = delete;

  int fd() const { return fd_; }  // -1: it cannot be opened

 private:
  int fd_;
};

// In one call, so that what others append is not mixed in.
absl::Status Append(const std::string& path, int fd, absl::string_view text) {
  const ssize_t written = write(fd, text.data(), text.size());
  if (written == static_cast<ssize_t>(text.size())) return absl::OkStatus();
  return FileError("write", path, written < 0 ? errno : ENOSPC);
}

// The path of a file of the state directory, which is made if need be.
absl::StatusOr<std::string> StateFile(const std::string& name) {
  const std::string directory = StateDirectory();
  if (directory.empty()) {
    return absl::FailedPreconditionError(
        "there is no folder to keep it in: neither XDG_STATE_HOME nor HOME is set");
  }
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return absl::FailedPreconditionError(absl::StrCat(directory, ": ", error.message()));
  return JoinPath(directory, name);
}

// The oldest half of a file that has grown large goes. It stays the same file, which others may
// have opened to append to it.
absl::Status Shorten(const std::string& path, int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0 || info.st_size <= kMostResidualBytes) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  text.erase(0, text.find('\n', text.size() / 2) + 1);
  if (ftruncate(fd, 0) != 0) return FileError("shorten", path, errno);
  return Append(path, fd, text);
}

}  // namespace

absl::StatusOr<std::string> WriteStateFile(const std::string& name, const std::string& text) {
  ASSIGN_OR_RETURN(const std::string path, StateFile(name));
  RETURN_IF_ERROR(WriteFile(path, text));
  return path;
}

absl::Status AppendResidual(const Residual& residual) {
  ASSIGN_OR_RETURN(const std::string path, StateFile(kResiduals));
  const std::string line =
      absl::StrCat(ToJson(residual).dump(-1, ' ', false, Json::error_handler_t::replace), "\n");
  const LockedFile file(path);
  if (file.fd() < 0) return FileError("write", path, errno);
  RETURN_IF_ERROR(Shorten(path, file.fd()));
  return Append(path, file.fd(), line);
}

std::vector<Residual> ReadResiduals() {
  std::vector<Residual> residuals;
  const std::string directory = StateDirectory();
  if (directory.empty()) return residuals;
  const absl::StatusOr<std::string> text =
      ReadFile(JoinPath(directory, kResiduals), 2 * kMostResidualBytes);
  if (!text.ok()) return residuals;
  for (absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    absl::StatusOr<Residual> residual = FromJson(line);
    if (residual.ok()) residuals.push_back(*std::move(residual));
  }
  return residuals;
}

namespace {

// "decode measured at ...; prefill ...; memory ..." of those that `like` picks.
template <typename Like>
std::string DescribeRuns(const std::vector<Residual>& residuals, const Like& like) {
  std::vector<double> decode, prefill, memory;
  const auto add = [](double measured, double predicted, std::vector<double>& ratios) {
    if (measured > 0 && predicted > 0) ratios.push_back(measured / predicted);
  };
  for (const Residual& residual : residuals) {
    if (!like(residual)) continue;
    add(residual.measured_decode, residual.predicted_decode, decode);
    add(residual.measured_prefill, residual.predicted_prefill, prefill);
    add(static_cast<double>(residual.measured_bytes), static_cast<double>(residual.predicted_bytes),
        memory);
  }
  std::string text;
  Describe("decode", decode, text);
  Describe("prefill", prefill, text);
  Describe("memory", memory, text);
  return text;
}

}  // namespace

std::string HowPlansWere(const std::vector<Residual>& residuals, const Plan& plan) {
  std::vector<std::string> names;
  for (const RankPlan& rank : plan.ranks) names.push_back(rank.device_name);
  const std::vector<std::string> devices = Sorted(std::move(names));
  const std::string same = DescribeRuns(residuals, [&](const Residual& residual) {
    return residual.fingerprint == plan.fingerprint && Sorted(residual.devices) == devices;
  });
  if (!same.empty()) return absl::StrCat("runs of this model on these devices so far: ", same);
  constexpr double kComparable = 4;
  const std::string others = DescribeRuns(residuals, [&](const Residual& residual) {
    return residual.predicted_decode < plan.decode.expected * kComparable &&
           residual.predicted_decode > plan.decode.expected / kComparable &&
           Sorted(residual.devices) == devices;
  });
  if (others.empty()) return "";
  return absl::StrCat("runs of other models about as fast, on these devices so far: ", others);
}

}  // namespace tprun
