#pragma once

#include <memory>
#include <string>
#include <vector>

// SentencePiece's own encoder behind types of the standard library: its header declares an
// absl::string_view that is not Abseil's, so the two cannot be included together.

namespace tprun {

class SentencePieceLibrary {
 public:
  // nullptr, and `error`, when the library refuses the model.
  static std::unique_ptr<SentencePieceLibrary> Load(const char* data, size_t size,
                                                    std::string* error);
  virtual ~SentencePieceLibrary() = default;
  virtual bool Encode(const char* text, size_t size, std::vector<int>* ids,
                      std::string* error) const = 0;
};

}  // namespace tprun
