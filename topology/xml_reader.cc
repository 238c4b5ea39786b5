#include "topology/xml_reader.h"

#include <expat.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tprun {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxElements = 200000;
constexpr size_t kMaxBytes = size_t{64} << 20;

// What the callbacks of Expat work on.
struct Builder {
  XML_Parser parser = nullptr;
  XmlDocument document;
  int open = -1;  // the innermost element that has not ended
  int depth = 0;
  std::string refusal;
};

void Refuse(Builder& builder, absl::string_view why) {
  if (!builder.refusal.empty()) return;
  builder.refusal = std::string(why);
  XML_StopParser(builder.parser, XML_FALSE);
}

void StartElement(void* data, const XML_Char* name, const XML_Char** attributes) {
  Builder& builder = *static_cast<Builder*>(data);
  std::vector<XmlElement>& elements = builder.document.elements;
  if (++builder.depth > kMaxDepth) return Refuse(builder, "elements are nested deeper than 64");
  if (elements.size() == kMaxElements) return Refuse(builder, "there are over 200000 elements");
  XmlElement element;
  element.name = name;
  element.line = static_cast<int>(XML_GetCurrentLineNumber(builder.parser));
  element.parent = builder.open;
  for (; *attributes != nullptr; attributes += 2) {
    element.attributes.emplace_back(attributes[0], attributes[1]);
  }
  const int index = static_cast<int>(elements.size());
  if (builder.open >= 0) elements[builder.open].children.push_back(index);
  elements.push_back(std::move(element));
  builder.open = index;
}

void EndElement(void* data, const XML_Char*) {
  Builder& builder = *static_cast<Builder*>(data);
  --builder.depth;
  if (builder.open >= 0) builder.open = builder.document.elements[builder.open].parent;
}

void CharacterData(void* data, const XML_Char* text, int length) {
  Builder& builder = *static_cast<Builder*>(data);
  if (builder.open < 0) return;
  builder.document.elements[builder.open].text.append(text, length);
}

// Entities are a way to make a small file huge, and no dump has any.
void EntityDeclaration(void* data, const XML_Char*, int, const XML_Char*, int, const XML_Char*,
                       const XML_Char*, const XML_Char*, const XML_Char*) {
  Refuse(*static_cast<Builder*>(data), "it declares entities, which are not read");
}

void SkippedEntity(void* data, const XML_Char*, int) {
  Refuse(*static_cast<Builder*>(data), "it uses an entity that is not known");
}

absl::Status Failed(const Builder& builder, const std::string& path) {
  const std::string why =
      builder.refusal.empty() ? XML_ErrorString(XML_GetErrorCode(builder.parser)) : builder.refusal;
  return absl::InvalidArgumentError(absl::StrCat(
      path, ":", XML_GetCurrentLineNumber(builder.parser), ": wanted well-formed XML: ", why));
}

}  // namespace

absl::string_view XmlElement::Get(absl::string_view attribute) const {
  for (const auto& [name, value] : attributes) {
    if (name == attribute) return value;
  }
  return "";
}

bool XmlElement::Has(absl::string_view attribute) const {
  for (const auto& [name, value] : attributes) {
    if (name == attribute) return true;
  }
  return false;
}

absl::StatusOr<XmlDocument> ParseXml(absl::string_view text, const std::string& path) {
  if (text.size() > kMaxBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": an XML file of over 64 MiB"));
  }
  // A comment or blank line in front of the XML declaration is a mistake that people make.
  text = absl::StripLeadingAsciiWhitespace(text);
  const std::unique_ptr<XML_ParserStruct, decltype(&XML_ParserFree)> parser(
      XML_ParserCreate(nullptr), &XML_ParserFree);
  if (parser == nullptr) return absl::ResourceExhaustedError("no memory for an XML parser");
  Builder builder;
  builder.parser = parser.get();
  XML_SetUserData(parser.get(), &builder);
  XML_SetElementHandler(parser.get(), &StartElement, &EndElement);
  XML_SetCharacterDataHandler(parser.get(), &CharacterData);
  XML_SetEntityDeclHandler(parser.get(), &EntityDeclaration);
  XML_SetSkippedEntityHandler(parser.get(), &SkippedEntity);
  const XML_Status status =
      XML_Parse(parser.get(), text.data(), static_cast<int>(text.size()), XML_TRUE);
  if (status != XML_STATUS_OK) return Failed(builder, path);
  return std::move(builder.document);
}

absl::string_view XmlRootName(absl::string_view text) {
  if (absl::StartsWith(text, "\xEF\xBB\xBF")) text.remove_prefix(3);
  while (true) {
    text = absl::StripLeadingAsciiWhitespace(text);
    if (!absl::StartsWith(text, "<")) return "";
    const bool comment = absl::StartsWith(text, "<!--");
    if (!comment && !absl::StartsWith(text, "<?") && !absl::StartsWith(text, "<!")) break;
    const size_t end = text.find(comment ? "-->" : ">");
    if (end == absl::string_view::npos) return "";
    text.remove_prefix(end + (comment ? 3 : 1));
  }
  text.remove_prefix(1);
  return text.substr(0, text.find_first_of(" \t\r\n/>"));
}

}  // namespace tprun
