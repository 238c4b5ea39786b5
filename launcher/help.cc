#include "launcher/help.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tprun {
namespace {

constexpr size_t kNameColumn = 30;
constexpr size_t kTextColumns = 70;

// Broken at blanks into lines of at most kTextColumns, as far as words allow.
std::string Wrapped(absl::string_view text) {
  std::string wrapped;
  size_t column = 0;
  for (absl::string_view word : absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty())) {
    const bool fits = column == 0 || column + 1 + word.size() <= kTextColumns;
    if (column > 0) absl::StrAppend(&wrapped, fits ? " " : "\n");
    absl::StrAppend(&wrapped, word);
    column = fits && column > 0 ? column + 1 + word.size() : word.size();
  }
  return wrapped;
}

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(kNameColumn); }

  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_expected_max() == 0) return "";  // a flag
    // CLI11 adds what it checks: "INT:INT in [1 - 4096]", "TEXT:{auto,mpi,local}".
    const std::string type = option->get_type_name();
    const std::string check = type.substr(std::min(type.size(), type.find(':') + 1));
    const bool number = absl::StartsWith(type, "INT") || absl::StartsWith(type, "UINT");
    if (option->get_positional() && option->get_lnames().empty()) return "";
    return absl::StartsWith(check, "{")      ? " " + check
           : number                          ? " N"
           : absl::StartsWith(type, "FLOAT") ? " X"
                                             : " TEXT";
  }

  std::string make_option_desc(const CLI::Option* option) const override {
    std::string text = option->get_description();
    if (option->get_required() && !option->get_positional()) absl::StrAppend(&text, " (needed)");
    const std::string value = option->get_default_str();
    if (!value.empty()) absl::StrAppend(&text, " [", value, "]");
    return Wrapped(text);
  }

  // In the list of commands the first sentence is enough.
  std::string make_subcommand(const CLI::App* command) const override {
    const std::string about = command->get_description();
    std::stringstream out;
    CLI::detail::format_help(out, command->get_name(), Wrapped(about.substr(0, about.find(". "))),
                             kNameColumn / 2);
    return out.str();
  }
};

constexpr char kExitCodes[] =
    "\n\nExit codes: 0 done, 1 failed while running, 2 bad arguments or bad input file,\n"
    "3 the plan does not fit, 4 a rank was lost, 130 interrupted.";

constexpr std::pair<absl::string_view, absl::string_view> kExamples[] = {
    {"topo",
     "  tprun topo                                  this machine\n"
     "  tprun topo --measure --output=box.yaml      capture it, with measured figures; elsewhere:\n"
     "  tprun plan MODEL --topology=box.yaml        plans as on the box\n"
     "  nvidia-smi topo -m | tprun topo --from=-    what a dump tells\n"
     "  tprun topo --from=matrix.txt --from=query.csv --format=svg --output=box.svg\n"
     "  tprun topo --from=\"2x[4xrtx3090 nvlink-pairs] ib:100\"\n"
     "\n"
     "--from takes cluster files (clusters/README.md), captures, outputs of nvidia-smi (topo -m,\n"
     "-q, --query-gpu as CSV, -L, nvlink -s, topo -p2p, mig -lgi, the plain table), NCCL's and\n"
     "hwloc's XML; which it is, is told by the content. Or a line (docs/topology.md)."},
    {"doctor",
     "  tprun doctor                     this machine\n"
     "  tprun doctor --from=box.yaml     what a capture or dump of another one can answer\n"
     "\n"
     "Exit code: 0 when nothing is a problem (warnings are none), 1 when something is, 2 for bad\n"
     "arguments or a bad file. A machine without GPU is no problem. docs/doctor.md has the "
     "checks."},
    {"plan",
     "  tprun plan config.json --devices=cuda:0,cuda:1 --context=8192\n"
     "  tprun plan MODEL --topology=clusters/rtx3090-rtx3060.yaml --weights=q4_k_m\n"
     "  tprun plan MODEL --format=json --output=plan.json     for tprun run MODEL "
     "--plan=plan.json"},
    {"run",
     "  tprun run MODEL --prompt=\"Once upon a time\"\n"
     "  tprun run MODEL --devices=cpu,cpu,cpu --shares=5:2:1 --prompt=- < prompt.txt\n"
     "  tprun run MODEL --chat --system=\"Be brief.\" --temperature=0.7 --top_p=0.9\n"
     "  mpirun -n 2 tprun run MODEL --plan=plan.json          with your own mpirun\n"
     "\n"
     "Ctrl-C ends the text with what there is (of a conversation: the answer); twice, the "
     "program."},
    {"perplexity",
     "  tprun perplexity MODEL --file=text.txt\n"
     "  tprun perplexity MODEL --file=text.txt --weights=q4_k_m     the same, quantised"},
    {"bench",
     "  tprun bench config.json --devices=cpu,cpu --weights=q8_0     random weights\n"
     "  tprun bench --calibrate                                      once, for later plans"},
    {"convert", "  tprun convert MODEL --weights=q4_k_m --output=model.gguf"},
};

}  // namespace

std::shared_ptr<CLI::Formatter> MakeHelpFormatter() { return std::make_shared<HelpFormatter>(); }

void AddExamples(CLI::App& app) {
  for (const auto& [name, lines] : kExamples) {
    const bool runs = name != "topo" && name != "doctor";
    app.get_subcommand(std::string(name))
        ->footer(absl::StrCat("\nExamples:\n", lines, runs ? kExitCodes : ""));
  }
}

}  // namespace tprun
