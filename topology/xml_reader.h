#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// An element of an XML document, with where it stands.
struct XmlElement {
  std::string name;
  std::vector<std::pair<std::string, std::string>> attributes;
  std::string text;  // the character data directly inside
  int line = 0;
  int parent = -1;            // index into XmlDocument::elements
  std::vector<int> children;  // likewise, in document order

  // The value of an attribute, "" where it is absent.
  absl::string_view Get(absl::string_view attribute) const;
  bool Has(absl::string_view attribute) const;
};

struct XmlDocument {
  std::vector<XmlElement> elements;  // in document order; the root is the first
  const XmlElement& root() const { return elements.front(); }
};

// Reads a small document through Expat: at most 64 levels and 200,000 elements. Nothing outside the
// text is ever read, and entities that the document declares are refused. InvalidArgument gives
// `path`, line and reason.
absl::StatusOr<XmlDocument> ParseXml(absl::string_view text, const std::string& path);

// The name of the first element ("" if the text does not begin as XML does). Cheap.
absl::string_view XmlRootName(absl::string_view text);

}  // namespace tprun
