#include "launcher/progress.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/units.h"
#include "launcher/terminal.h"

namespace tprun {
namespace {
constexpr int kWidth = 30;
}

ProgressBar::ProgressBar(std::string what)
    : what_(std::move(what)),
      enabled_(StderrIsTerminal()),
      start_(absl::Now()),
      last_(absl::InfinitePast()) {}

void ProgressBar::Update(int64_t done, int64_t total) {
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start_);
  UpdateWith(done, total,
             absl::StrCat(FormatBytes(done), " of ", FormatBytes(total), "  ",
                          seconds > 0 ? FormatBandwidth(static_cast<double>(done) / seconds) : ""));
}

void ProgressBar::UpdateWith(int64_t done, int64_t total, const std::string& note) {
  const absl::Time now = absl::Now();
  if (!enabled_ || total == 0 || (done < total && now - last_ < absl::Milliseconds(100))) return;
  last_ = now;
  drawn_ = true;
  const double fraction = static_cast<double>(done) / static_cast<double>(total);
  const int filled = static_cast<int>(kWidth * fraction);
  const std::string line =
      absl::StrFormat("\r%s [%s%s] %3.0f %%  %s\033[K", what_, std::string(filled, '#'),
                      std::string(kWidth - filled, '.'), 100 * fraction, note);
  WriteLogText(line);
}

void ProgressBar::Finish() {
  if (drawn_) WriteLogText("\r\033[K");
  drawn_ = false;
}

}  // namespace tprun
