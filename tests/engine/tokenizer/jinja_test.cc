#include "engine/tokenizer/jinja.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "base/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromCivil(absl::CivilDay(2026, 11, 20), absl::LocalTimeZone());

absl::StatusOr<std::string> Render(const std::string& source, const JinjaDict& variables = {}) {
  const absl::StatusOr<JinjaTemplate> parsed = JinjaTemplate::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return parsed->Render(variables, kNow);
}

std::string ErrorOf(const std::string& source) {
  const absl::StatusOr<std::string> text = Render(source);
  EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << source;
  return std::string(text.status().message());
}

// tests/engine/tokenizer/golden/make_jinja_golden.py
TEST(Jinja, GivesWhatJinjaGives) {
  const auto golden = ReadJsonFile(SourcePath("tests/engine/tokenizer/golden/jinja_golden.json"));
  ASSERT_TRUE(golden.ok()) << golden.status();
  const JinjaValue variables = JinjaValue::Of((*golden)["variables"]);
  EXPECT_GE((*golden)["cases"].size(), 260);
  for (const Json& golden_case : (*golden)["cases"]) {
    const auto source = golden_case["source"].get<std::string>();
    const absl::StatusOr<std::string> text = Render(source, variables.dict());
    EXPECT_EQ(text.ok(), golden_case.contains("text")) << source << "\n" << text.status();
    if (text.ok() && golden_case.contains("text")) {
      EXPECT_EQ(*text, golden_case["text"].get<std::string>()) << source;
    }
  }
}

TEST(Jinja, WhatALoopWithoutElementsSetsIsItsOwn) {
  const auto text = Render("{% for a in [] %}{% else %}{% set x = 1 %}{{ x }}{% endfor %}{{ x }}");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(*text, "1");
}

TEST(Jinja, ErrorsTellThePlaceAndWhatIsWrong) {
  EXPECT_THAT(ErrorOf("a\n  {{ x.y }}"), AllOf(HasSubstr("line 2, column 7"), HasSubstr("'x'")));
  EXPECT_THAT(ErrorOf("ä{{ 1 | nonsense }}"),
              AllOf(HasSubstr("line 1, column 7"), HasSubstr("\"nonsense\" is not supported"),
                    HasSubstr("tojson")));
  EXPECT_THAT(ErrorOf("{% include 'x' %}"), AllOf(HasSubstr("column 4"), HasSubstr("include")));
  EXPECT_THAT(ErrorOf("{% if true %}\n{{ 1 }}"), HasSubstr("line 1, column 1"));
  EXPECT_THAT(ErrorOf("{{ 1 + }}"), HasSubstr("wanted an expression, found the end of the tag"));
  EXPECT_THAT(ErrorOf("{{ 'a'.frobnicate() }}"), HasSubstr("no method \"frobnicate\""));
  EXPECT_THAT(ErrorOf("{{ raise_exception('roles must alternate') }}"),
              HasSubstr("it refuses this conversation: roles must alternate"));
}

// What would take forever, or all memory, or the whole stack, ends with an error.
TEST(Jinja, WorkIsBounded) {
  std::string deep, chain = "{{ 1";
  for (int i = 0; i < 100000; ++i) {
    deep += "(";
    chain += "+1";
  }
  std::string nested = "m()";  // by the parser's bounds, times the calls within each other
  for (int i = 0; i < 60; ++i) nested = "0 or 1 and 1 == 1 + 1 ~ 1 * 1 ** (" + nested + ")";
  const std::string loops = "{% for i in range(100000) %}";
  const std::string long_text = "{% set x = 'a' * 16000000 %}";
  for (const std::string& source : std::vector<std::string>{
           "{{ " + deep,
           "{{ " + std::string(100000, '-') + "1 }}",
           chain + " }}",
           "{{ a" + absl::StrCat(std::string(50000, '.'), " }}"),
           loops + loops + "{{ i }}{% endfor %}{% endfor %}",
           "{{ 'x' * 1000000000000 }}",
           "{{ [1] * 1000000000000 }}",
           "{{ range(1000000000) }}",
           "{% set ns = namespace(x='ab') %}" + loops +
               "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
           "{% set ns = namespace(x='ab') %}" + loops +
               "{% set ns.x = ns.x|replace('a', ns.x) %}{% endfor %}{{ ns.x }}",
           "{% set ns = namespace(x=[]) %}" + loops + "{% set ns.x = [ns.x] %}{% endfor %}",
           "{% set ns = namespace(x=[1]) %}{% for i in range(30) %}{% set ns.x = [ns.x, ns.x] %}"
           "{% endfor %}{{ ns.x }}",
           "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
           "{% macro m() %}{{ " + nested + " }}{% endmacro %}{{ m() }}",
           long_text + "{% set y = [x] * 1000 %}",
           long_text + loops + "{% set y = x ~ '' %}{% endfor %}",
           "{% set x = 'ab' * 1000000 %}" + loops + "{% set y = x.strip(x) %}{% endfor %}",
           loops + "{% set y = range(100000)|sort %}{% endfor %}",
           "{{ 9223372036854775807 + 1 }}",
           "{% set ns = namespace() %}{% set ns.me = ns %}"}) {
    EXPECT_EQ(Render(source).status().code(), absl::StatusCode::kInvalidArgument)
        << source.substr(0, 80);
  }
}

}  // namespace
}  // namespace tprun
