#include "base/json.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

std::string Repeat(absl::string_view text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) absl::StrAppend(&result, text);
  return result;
}

TEST(ParseJsonTest, KeepsValuesAndOrder) {
  const std::string text =
      R"({"z":[1,-2,2.5,true,null,"\u00e9\n"],"a":{},"m":{"x":[[],{}]},"big":18446744073709551615})";
  const auto json = ParseJson(text);
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(json->dump(-1, ' ', true), text);
  EXPECT_EQ(json->begin().key(), "z");
  EXPECT_TRUE((*json)["z"][0].is_number_integer());
  EXPECT_TRUE((*json)["z"][2].is_number_float());
}

TEST(ParseJsonTest, Scalars) {
  EXPECT_EQ(*ParseJson(" 7 "), Json(7));
  EXPECT_EQ(*ParseJson("\"x\""), Json("x"));
  EXPECT_EQ(*ParseJson("\xEF\xBB\xBF{}"), Json::object()) << "a byte order mark is skipped";
}

TEST(ParseJsonTest, ErrorsTellThePosition) {
  EXPECT_THAT(ErrorOf(ParseJson("{\n \"a\": 1,\n \"b\": }").status()),
              HasSubstr("line 3, column 7"));
  for (const char* text : {"", " ", "{", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "{1:2}", "[1] 2", "nul",
                           "NaN", "01", "1e999", "\"a", "'a'", "[1 2]", "\"\\ud800\"", "\"\\x\""}) {
    EXPECT_FALSE(ParseJson(text).ok()) << text;
  }
}

TEST(ParseJsonTest, InvalidUtf8IsAnError) {
  for (const char* text :
       {"\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xe2\x82\"", "\xff"}) {
    const std::string error = ErrorOf(ParseJson(text).status());
    for (char c : error) EXPECT_TRUE(c >= ' ' && c <= '~') << error;
  }
  EXPECT_FALSE(ParseJson(absl::string_view("\"a\0b\"", 5)).ok());
}

TEST(ParseJsonTest, DepthIsLimited) {
  EXPECT_TRUE(ParseJson(Repeat("[", 256) + Repeat("]", 256)).ok());
  EXPECT_THAT(ErrorOf(ParseJson(Repeat("[", 257) + Repeat("]", 257)).status()),
              HasSubstr("deeper than 256"));
  EXPECT_FALSE(ParseJson(Repeat("[", 5'000'000)).ok());
  EXPECT_FALSE(ParseJson(Repeat("{\"a\":", 1'000'000)).ok());
}

TEST(ParseJsonTest, ALaterDuplicateReplacesTheEarlier) {
  EXPECT_EQ(ParseJson(R"({"a":1,"b":2,"a":{"c":3}})")->dump(), R"({"a":{"c":3},"b":2})");
  std::string many = "{";
  for (int i = 0; i < 100; ++i) absl::StrAppend(&many, "\"k", i % 50, "\":", i, ",");
  const auto json = ParseJson(many + "\"end\":0}");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json->size(), 51u);
  EXPECT_EQ(*GetInt(*json, "k7"), 57);
}

TEST(ParseJsonTest, AMessageQuotesLittle) {
  EXPECT_LT(ErrorOf(ParseJson("\"" + Repeat("x", 1'000'000)).status()).size(), 400u);
}

// A vocabulary: an object that looks for duplicates at each insertion takes minutes here.
TEST(ParseJsonTest, LargeObjectsAreReadInLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i)
    absl::StrAppend(&text, i == 0 ? "" : ",", "\"token", i, "\":", i);
  const auto start = std::chrono::steady_clock::now();
  const auto json = ParseJson(text + "}");
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json->size(), 200'000u);
  EXPECT_LT(took.count(), 10.0);
}

class MemberTest : public ::testing::Test {
 protected:
  const Json json_ = *ParseJson(R"({"int":4096,"whole":1e6,"real":2.5,"text":"4096","yes":true,
                                    "none":null,"list":[1,2],"huge":18446744073709551615})");
};

TEST_F(MemberTest, TypedValues) {
  EXPECT_EQ(*GetInt(json_, "int"), 4096);
  EXPECT_EQ(*GetInt(json_, "whole"), 1'000'000);
  EXPECT_EQ(*GetDouble(json_, "int"), 4096.0);
  EXPECT_EQ(*GetDouble(json_, "real"), 2.5);
  EXPECT_EQ(*GetBool(json_, "yes"), true);
  EXPECT_EQ(*GetString(json_, "text"), "4096");
}

TEST_F(MemberTest, ErrorsNameKeyWantedAndFound) {
  EXPECT_EQ(ErrorOf(GetInt(json_, "text").status()),
            "\"text\": wanted an integer, found \"4096\" (string)");
  EXPECT_EQ(ErrorOf(GetInt(json_, "real").status()),
            "\"real\": wanted an integer, found 2.5 (number)");
  EXPECT_THAT(ErrorOf(GetInt(json_, "huge").status()), HasSubstr("18446744073709551615"));
  EXPECT_THAT(ErrorOf(GetString(json_, "list").status()), HasSubstr("array of 2"));
  EXPECT_THAT(ErrorOf(GetBool(json_, "int").status()), HasSubstr("wanted true or false"));
  EXPECT_THAT(ErrorOf(GetDouble(json_, "yes").status()), HasSubstr("wanted a number"));
  EXPECT_THAT(ErrorOf(GetInt(json_, "absent").status()), HasSubstr("no such key"));
  EXPECT_THAT(ErrorOf(GetInt(json_, "none").status()), HasSubstr("found null"));
  EXPECT_THAT(ErrorOf(GetInt(Json::array(), "int").status()), HasSubstr("array of 0"));
}

TEST_F(MemberTest, DefaultsForAbsentAndNullOnly) {
  EXPECT_EQ(*GetIntOr(json_, "absent", 3), 3);
  EXPECT_EQ(*GetIntOr(json_, "none", 3), 3);
  EXPECT_EQ(*GetIntOr(json_, "int", 3), 4096);
  EXPECT_EQ(*GetDoubleOr(json_, "none", 0.5), 0.5);
  EXPECT_EQ(*GetBoolOr(json_, "yes", false), true);
  EXPECT_EQ(*GetStringOr(json_, "absent", "x"), "x");
  EXPECT_FALSE(GetIntOr(json_, "text", 3).ok());
  EXPECT_FALSE(GetDoubleOr(json_, "text", 3).ok());
  EXPECT_FALSE(GetBoolOr(json_, "text", true).ok());
  EXPECT_FALSE(GetStringOr(json_, "int", "x").ok());
}

TEST_F(MemberTest, FindMember) {
  ASSERT_NE(FindMember(json_, "list"), nullptr);
  EXPECT_EQ(FindMember(json_, "list")->size(), 2u);
  EXPECT_EQ(FindMember(json_, "none"), nullptr);
  EXPECT_EQ(FindMember(json_, "absent"), nullptr);
  EXPECT_EQ(FindMember(Json(3), "int"), nullptr);
}

TEST(ReadJsonFileTest, ErrorsNameTheFile) {
  const std::string path =
      absl::StrCat(::testing::TempDir(), "tprun_json_test_", getpid(), ".json");
  ASSERT_TRUE(WriteFile(path, "{\"a\": [1, 2]}").ok());
  EXPECT_EQ((*ReadJsonFile(path))["a"].size(), 2u);
  ASSERT_TRUE(WriteFile(path, "{\"a\": ").ok());
  EXPECT_THAT(ErrorOf(ReadJsonFile(path).status()), HasSubstr(path));
  unlink(path.c_str());
  EXPECT_EQ(ReadJsonFile(path).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace tprun
