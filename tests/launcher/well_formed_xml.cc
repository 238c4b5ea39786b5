#include "tests/launcher/well_formed_xml.h"

#include <regex>
#include <set>
#include <vector>

namespace tprun {
namespace {

std::string AttributesFault(std::string rest) {
  static const std::regex kAttribute(R"re(^\s+([\w:.-]+)\s*=\s*("[^"<]*"|'[^'<]*'))re");
  std::set<std::string> seen;
  std::smatch match;
  while (std::regex_search(rest, match, kAttribute)) {
    if (!seen.insert(match[1]).second) return "attribute twice: " + match[1].str();
    rest = match.suffix();
  }
  return rest.find_first_not_of(" \n\t") == std::string::npos ? "" : "not an attribute: " + rest;
}

// One tag without its angle brackets; `open`: the names of the elements it stands in.
std::string TagFault(std::string tag, std::vector<std::string>& open) {
  if (tag[0] == '/') {
    if (open.empty() || open.back() != tag.substr(1)) return "closes what is not open: " + tag;
    open.pop_back();
    return "";
  }
  const bool closed = tag.back() == '/';
  if (closed) tag.pop_back();
  const size_t end = tag.find_first_of(" \n\t");
  const std::string name = tag.substr(0, end);
  if (name.empty() || !std::isalpha(static_cast<unsigned char>(name[0]))) return "no name: " + tag;
  if (!closed) open.push_back(name);
  return end == std::string::npos ? "" : AttributesFault(tag.substr(end));
}

std::string EntityFault(const std::string& text) {
  static const std::regex kEntity(R"(^&(#[0-9]+|#x[0-9a-fA-F]+|lt|gt|amp|quot|apos);)");
  for (size_t at = text.find('&'); at != std::string::npos; at = text.find('&', at + 1)) {
    if (!std::regex_search(text.substr(at, 12), kEntity))
      return "no entity: " + text.substr(at, 12);
  }
  return "";
}

}  // namespace

std::string XmlFault(const std::string& text) {
  std::vector<std::string> open;
  int elements = 0;
  size_t at = 0;
  while ((at = text.find('<', at)) != std::string::npos) {
    const size_t end = text.find('>', at);
    if (end == std::string::npos || end == at + 1) return "a tag without an end";
    const std::string tag = text.substr(at + 1, end - at - 1);
    if (tag[0] != '?' && tag[0] != '!') {
      if (open.empty() && elements > 0) return "a second root: " + tag;
      const std::string fault = TagFault(tag, open);
      if (!fault.empty()) return fault;
      ++elements;
    }
    at = end;
  }
  if (elements == 0) return "no element";
  if (!open.empty()) return "never closed: " + open.back();
  return EntityFault(text);
}

}  // namespace tprun
