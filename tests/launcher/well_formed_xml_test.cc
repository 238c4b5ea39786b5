#include "tests/launcher/well_formed_xml.h"

#include "gtest/gtest.h"

namespace tprun {
namespace {

TEST(XmlFault, IsEmptyForWellFormedText) {
  EXPECT_EQ(XmlFault("<?xml version=\"1.0\"?><a x=\"1\" y='2'><b/>&lt;&#8212;<c>t</c></a>\n"), "");
}

TEST(XmlFault, FindsFaults) {
  for (const char* text : {"", "text", "<a>", "<a></b>", "<a x=1/>", "<a x=\"1\" x=\"2\"/>",
                           "<a>&</a>", "<a>& b;</a>", "<a/><b/>", "<a", "<a b/>", "<>", "<1/>"}) {
    EXPECT_NE(XmlFault(text), "") << text;
  }
}

}  // namespace
}  // namespace tprun
