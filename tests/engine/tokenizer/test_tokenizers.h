#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "gtest/gtest.h"

namespace tprun {

using Ids = std::vector<int32_t>;

// A file of its own for one test, removed by the next run's overwrite.
std::string WriteTestFile(const std::string& name, const std::string& contents);

// Loads or fails the test.
std::unique_ptr<Tokenizer> MustLoad(const std::string& path);
// The ids, without BOS; fails the test on an error.
Ids MustEncode(const Tokenizer& tokenizer, absl::string_view text, bool parse_special);

// A byte-level tokenizer.json with all 256 bytes as tokens 0 to 255 in order of the bytes, and the
// given merges (which must name tokens) and members put in by the caller.
std::string ByteLevelJson(const std::vector<std::pair<std::string, std::string>>& merges,
                          const std::string& more_members);

}  // namespace tprun
