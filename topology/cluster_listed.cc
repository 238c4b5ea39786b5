#include "topology/cluster_listed.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tprun {
namespace {

constexpr size_t kNotThere = absl::string_view::npos;

size_t Indent(absl::string_view line) {
  const size_t first = line.find_first_not_of(' ');
  return first == kNotThere ? line.size() : first;
}

// Nothing but blanks or a comment.
bool SaysNothing(absl::string_view line) {
  line = absl::StripAsciiWhitespace(line);
  return line.empty() || line[0] == '#';
}

// The text up to and with the next end of line, which is taken from `rest`.
absl::string_view TakeLine(absl::string_view& rest) {
  const size_t end = rest.find('\n');
  const absl::string_view line = rest.substr(0, end == kNotThere ? end : end + 1);
  rest.remove_prefix(line.size());
  return line;
}

// An element of "hosts": its text, cut around the name in its first line.
struct Item {
  absl::string_view before, name, after;
};

// "  - name: n17" or "  - {name: n17, ...". The name is empty where there is none, or it is one
// that YAML may read as something else than a text.
Item ReadItem(absl::string_view text) {
  absl::string_view rest = text;
  const auto skip_blanks = [&rest] {
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  };
  skip_blanks();
  if (!absl::ConsumePrefix(&rest, "- ")) return {text, {}, {}};
  skip_blanks();
  const bool braces = absl::ConsumePrefix(&rest, "{");
  skip_blanks();
  if (!absl::ConsumePrefix(&rest, "name: ")) return {text, {}, {}};
  skip_blanks();
  const size_t size =
      std::find_if(
          rest.begin(), rest.end(),
          [](char c) { return !absl::ascii_isalnum(c) && c != '-' && c != '_' && c != '.'; }) -
      rest.begin();
  const absl::string_view name = rest.substr(0, size);
  const absl::string_view after = rest.substr(size);
  const bool ends = braces ? absl::StartsWith(after, ",") : absl::StartsWith(after, "\n");
  const bool is_text = std::any_of(name.begin(), name.end(), absl::ascii_isalpha) &&
                       std::any_of(name.begin(), name.end(), absl::ascii_isdigit) &&
                       absl::ascii_isalpha(name[0]);
  if (!ends || !is_text) return {text, {}, {}};
  return {text.substr(0, name.data() - text.data()), name, after};
}

// Whether an item stands for itself alone: nothing that it opens is left open.
bool IsClosed(absl::string_view text) {
  const auto count = [&](char c) { return std::count(text.begin(), text.end(), c); };
  return count('[') == count(']') && count('{') == count('}') && count('"') % 2 == 0 &&
         count('\'') % 2 == 0;
}

// The elements of the list that `block` begins with; `block` keeps what follows the list. Empty
// where it is no list of the usual form.
std::vector<absl::string_view> TakeItems(absl::string_view& block) {
  std::vector<absl::string_view> items;
  size_t indent = kNotThere;
  while (!block.empty()) {
    absl::string_view rest = block;
    const absl::string_view line = TakeLine(rest);
    if (!SaysNothing(line)) {
      const size_t own = Indent(line);
      const bool begins = absl::StartsWith(line.substr(own), "- ");
      if (indent == kNotThere && begins) indent = own;
      if (indent == kNotThere) return {};
      if (own < indent || (own == indent && !begins)) break;  // the next key
      if (own == indent) items.push_back(line.substr(0, 0));
      // Lines that say nothing belong to no item, but where it goes on behind them.
      const char* begin = items.back().data();
      items.back() = {begin, static_cast<size_t>(line.data() + line.size() - begin)};
    }
    block = rest;
  }
  return items;
}

}  // namespace

std::optional<ListedHosts> JoinListedHosts(absl::string_view text) {
  if (!text.empty() && text.back() != '\n') return JoinListedHosts(absl::StrCat(text, "\n"));
  // Anchors may join what looks apart; tabs, other line ends and several documents are not usual.
  constexpr absl::string_view kStart = "\nhosts:\n";
  const bool first = absl::StartsWith(text, kStart.substr(1));
  const size_t key = first ? 0 : text.find(kStart);
  if (key == kNotThere || text.find_first_of("&*\t\r%!|>") != kNotThere) return std::nullopt;
  const size_t begin = key + kStart.size() - (first ? 1 : 0);
  absl::string_view rest = text.substr(begin);
  if (absl::StrContains(rest, kStart) || absl::StrContains(text, "\n---")) return std::nullopt;
  ListedHosts joined;
  joined.text = std::string(text.substr(0, begin));
  Item last;
  bool any = false;
  for (absl::string_view item_text : TakeItems(rest)) {
    if (!IsClosed(item_text)) return std::nullopt;
    const Item item = ReadItem(item_text);
    if (!item.name.empty() && !last.name.empty() && item.before == last.before &&
        item.after == last.after) {
      if (joined.names.back().empty()) joined.names.back().emplace_back(last.name);
      joined.names.back().emplace_back(item.name);
      any = true;
      continue;
    }
    absl::StrAppend(&joined.text, item_text);
    joined.names.emplace_back();
    last = item;
  }
  if (!any) return std::nullopt;
  absl::StrAppend(&joined.text, rest);
  return joined;
}

}  // namespace tprun
