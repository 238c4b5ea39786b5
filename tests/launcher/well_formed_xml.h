#pragma once

#include <string>

namespace tprun {

// What is wrong with the text as XML, "" if nothing is: tags nest, attributes are quoted and
// unique in their tag, "&" only begins an entity.
std::string XmlFault(const std::string& text);

}  // namespace tprun
