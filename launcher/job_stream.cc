#include "launcher/job_stream.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "launcher/spawn.h"
#include "launcher/supervise.h"

namespace tprun {
namespace {

constexpr char kMark = '\x10';  // ASCII's "data link escape"
constexpr char kText = 'T';     // what stands behind it says what follows
constexpr char kLog = 'L';
constexpr char kInterruptsOn = 'I';
constexpr char kInterruptsOff = 'i';

std::string Mark(char what) { return {kMark, what}; }

}  // namespace

std::string StreamText(absl::string_view text) {
  return absl::StrReplaceAll(text, {{Mark(kMark).substr(0, 1), Mark(kMark)}});
}

std::string StreamLog(absl::string_view text) {
  return absl::StrCat(Mark(kLog), StreamText(text), Mark(kText));
}

std::string StreamTakesInterrupts(bool takes) {
  return Mark(takes ? kInterruptsOn : kInterruptsOff);
}

bool WritesJobStream() {
  static const bool writes = StartedByLauncher() && IsFirstRank();
  return writes;
}

void JobStreamReader::Read(absl::string_view bytes, const Sink& text, const Sink& log) {
  const auto give = [&](absl::string_view part) {
    if (!part.empty()) (in_log_ ? log : text)(part);
  };
  while (!bytes.empty()) {
    if (in_mark_) {
      const absl::string_view what = bytes.substr(0, 1);
      bytes.remove_prefix(1);
      in_mark_ = false;
      if (what[0] == kMark) give(what);
      if (what[0] == kText || what[0] == kLog) in_log_ = what[0] == kLog;
      if (what[0] == kInterruptsOn) takes_interrupts_ = true;
      if (what[0] == kInterruptsOff) takes_interrupts_ = false;
      continue;
    }
    const size_t mark = bytes.find(kMark);
    give(bytes.substr(0, mark));
    in_mark_ = mark != absl::string_view::npos;
    bytes.remove_prefix(in_mark_ ? mark + 1 : bytes.size());
  }
}

}  // namespace tprun
