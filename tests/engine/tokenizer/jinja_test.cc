#include "engine/tokenizer/jinja.h"

#include <sys/resource.h>

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

JinjaValue ValueOf(const Json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<int64_t>();
  if (json.is_number()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  if (json.is_array()) {
    JinjaList list;
    for (const Json& element : json) list.push_back(ValueOf(element));
    return list;
  }
  if (json.is_object()) {
    JinjaDict dict;
    for (const auto& [key, value] : json.items()) dict.Put(key, ValueOf(value));
    return dict;
  }
  return JinjaValue::None{};
}

// tests/engine/tokenizer/golden/make_jinja_golden.py
TEST(Jinja, GivesWhatJinjaGives) {
  const auto golden = ReadJsonFile(SourcePath("tests/engine/tokenizer/golden/jinja_golden.json"));
  ASSERT_TRUE(golden.ok()) << golden.status();
  const JinjaValue variables = ValueOf((*golden)["variables"]);
  EXPECT_GE((*golden)["cases"].size(), 290);
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

// Texts are held once, however many lists have them; lists that are too long are not made. In front
// of what takes more memory, as a process keeps its peak.
TEST(Jinja, MemoryIsBounded) {
  const auto peak_kib = [] {
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  std::string lists = "{% set l = ['x' * 1000000] %}";
  for (int i = 0; i < 11; ++i) lists += "{% set l = l + l %}";
  const int64_t before = peak_kib();
  EXPECT_EQ(Render(lists + "{{ l|length }}").value_or(""), "2048");
  EXPECT_EQ(Render("{% set x = {}['x' * 1000000] %}{{ ([x] * 2048)|length }}").value_or(""),
            "2048");
  const std::string text = "{% set x = 'a,' * 2000000 %}";
  for (const char* use : {"{{ x|list|length }}", "{{ x.split(',')|length }}",
                          "{% for c in x %}{% endfor %}", "{{ x|map('upper')|list|length }}"}) {
    EXPECT_THAT(ErrorOf(text + use), HasSubstr("more than 5000000 steps")) << use;
  }
  EXPECT_LT(peak_kib() - before, 200'000);
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
  const std::string million = "{% set x = 'a' * 1000000 %}";
  const std::string long_list = "{% set l = (range(100000)|list) * 10 %}";
  std::string doubled = "{% set a = [1] %}{% set b = [1] %}", keys, names, parameters;
  for (int i = 0; i < 28; ++i) doubled += "{% set a = [a, a] %}{% set b = [b, b] %}";
  for (int i = 0; i < 50000; ++i) {
    absl::StrAppend(&keys, i, ":1,");
    absl::StrAppend(&names, "a", i, "=1,");
    absl::StrAppend(&parameters, "a", i, ",");
  }
  names.pop_back();
  parameters.pop_back();
  for (const std::string& source : std::vector<std::string>{
           "{{ " + deep, "{{ " + std::string(100000, '-') + "1 }}", chain + " }}",
           "{{ a" + absl::StrCat(std::string(50000, '.'), " }}"),
           loops + loops + "{{ i }}{% endfor %}{% endfor %}", "{{ 'x' * 1000000000000 }}",
           "{{ [1] * 1000000000000 }}", "{{ range(1000000000) }}",
           "{% set ns = namespace(x='ab') %}" + loops +
               "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
           "{% set ns = namespace(x='ab') %}" + loops +
               "{% set ns.x = ns.x|replace('a', ns.x) %}{% endfor %}{{ ns.x }}",
           "{% set ns = namespace(x=[]) %}" + loops + "{% set ns.x = [ns.x] %}{% endfor %}",
           "{% set ns = namespace(x=[1]) %}{% for i in range(30) %}{% set ns.x = [ns.x, ns.x] %}"
           "{% endfor %}{{ ns.x }}",
           "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
           "{% macro m() %}{{ " + nested + " }}{% endmacro %}{{ m() }}",
           long_text + loops + "{% set y = x ~ '' %}{% endfor %}",
           "{% set x = 'ab' * 1000000 %}" + loops + "{% set y = x.strip(x) %}{% endfor %}",
           loops + "{% set y = range(100000)|sort %}{% endfor %}", "{{ 9223372036854775807 + 1 }}",
           "{% set ns = namespace() %}{% set ns.me = ns %}",
           // Comparing lists that have the same lists within over and over.
           doubled + "{{ a == b }}", doubled + "{{ a < b }}",
           doubled + "{{ [a, b]|unique|length }}", doubled + "{{ a in [b] }}",
           doubled + "{{ [a].index(b) }}", doubled + "{{ {1: a} == {1: b} }}",
           // Going over a list or text that is there already.
           long_list + loops + "{% if -1 in l %}{% endif %}{% endfor %}",
           long_list + loops + "{{ l.count(-1) }}{% endfor %}",
           long_list + loops + "{{ l|sum }}{% endfor %}",
           long_text + "{% set l = [x] * 100000 %}{{ l|map('length')|list }}",
           long_text + "{% set l = [x] * 100000 %}{{ l|select('upper')|list }}",
           long_text + "{% set l = [x] * 100000 %}{{ l|unique|length }}",
           million + "{{ (x ~ 'a').startswith([x ~ 'b'] * 100000) }}",
           million + "{{ (x ~ 'a') in [x ~ 'b'] * 100000 }}",
           million + "{{ ([x] * 10000)|sort(case_sensitive=true)|length }}",
           million + "{{ ([x] * 16)|sum(start='')|length }}",
           "{{ ([[1] * 1000] * 1000)|sum(start=[])|length }}",
           long_list + "{% set k = l + [] %}" + loops + "{{ l < k }}{% endfor %}",
           long_text + "{% set l = [1] * 100000 %}{{ l|map(attribute=x)|list }}",
           million + "{{ x in x ~ x }}", million + "{{ (x ~ x).rfind('b' ~ x) }}",
           million + "{{ (x ~ x).split('b' ~ x)|length }}",
           million + "{{ (x ~ x)|replace('b' ~ x, '')|length }}",
           // Dicts and arguments by name are searched from the front.
           "{{ {" + keys + "}|length }}", "{{ dict(" + names + ") }}",
           "{% macro m(" + parameters + ") %}{% endmacro %}{{ m(" + names + ") }}",
           "{{ ('{a49999}' * 20000).format(" + names + ")|length }}",
           // Lists whose elements would take far more memory than the text.
           long_text + "{{ x|list|length }}", long_text + "{{ x.split('a')|length }}",
           long_text + "{% for c in x %}{% endfor %}", long_text + "{{ x|map('upper')|first }}",
           long_text + "{{ (x|replace('a', '\n')).splitlines()|length }}"}) {
    EXPECT_EQ(Render(source).status().code(), absl::StatusCode::kInvalidArgument)
        << source.substr(0, 80) << " ... " << source.substr(source.size() - 80);
  }
}

// The bound grows with what is given: a conversation of 12 MB is walked by any template.
TEST(Jinja, LongConversationsMayBeWalkedManyTimes) {
  JinjaList messages;
  for (int i = 0; i < 12; ++i) messages.push_back(std::string(1'000'000, 'a'));
  std::string source = "{% for m in messages %}";
  for (int i = 0; i < 7; ++i) source += "{% if m|trim == '' or m.strip() == '' %}x{% endif %}";
  source += "{% endfor %}{{ messages|length }}";
  const auto parsed = JinjaTemplate::Parse(source);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  JinjaDict variables;
  variables.Put("messages", std::move(messages));
  const auto text = parsed->Render(variables, absl::Now());
  EXPECT_EQ(text.value_or(""), "12") << text.status();
}

// What names a value goes over none of it.
TEST(Jinja, LongListsAreAtHand) {
  const auto text = Render(
      "{% set l = range(100000)|list %}{% for i in range(50000) %}{% if l[i] + l|length + l|first "
      "< 0 "
      "or (l|last) < 0 %}{% endif %}{% endfor %}{{ l[-1] }}");
  EXPECT_EQ(text.value_or(""), "99999") << text.status();
}

TEST(Jinja, ErrorsDoNotSteerTheTerminal) {
  EXPECT_THAT(ErrorOf("{{ raise_exception('\x1b[31mRED\x07 ä\xc2\x9b\n') }}"),
              HasSubstr(R"(: \x1b[31mRED\x07 ä\xc2\x9b\x0a)"));
  EXPECT_THAT(ErrorOf("{{ {}['\x1b'].y }}"), HasSubstr(R"('\x1b' is undefined)"));
}

}  // namespace
}  // namespace tprun
