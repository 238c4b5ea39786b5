#pragma once

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/test_data.h"

namespace tprun {

// A row of the index of the shared topology dumps.
struct DumpRow {
  std::string file, kind, machine;
  nlohmann::json expected;

  std::string path() const { return TestDataDirectory() + "/topology/" + file; }
  std::string Text() const {
    const auto text = ReadFile(path());
    EXPECT_TRUE(text.ok()) << text.status();
    return text.ok() ? *text : "";
  }
};

// All rows; none without the shared test data.
inline std::vector<DumpRow> DumpIndex() {
  std::vector<DumpRow> rows;
  const auto text = ReadFile(TestDataDirectory() + "/topology/index.tsv");
  if (!text.ok()) return rows;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::vector<std::string> columns = absl::StrSplit(line, '\t');
    if (columns.size() < 6 || columns[0] == "file") continue;
    rows.push_back({columns[0], columns[1], columns[2], nlohmann::json::parse(columns[5])});
  }
  return rows;
}

// The rows of one kind.
inline std::vector<DumpRow> DumpsOf(const std::string& kind) {
  std::vector<DumpRow> rows;
  for (DumpRow& row : DumpIndex()) {
    if (row.kind == kind) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace tprun
