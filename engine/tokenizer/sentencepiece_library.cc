#include "engine/tokenizer/sentencepiece_library.h"

#include <sentencepiece_processor.h>

#include <exception>

namespace tprun {
namespace {

class Library : public SentencePieceLibrary {
 public:
  bool Load(const char* data, size_t size, std::string* error) {
    const auto status = processor_.LoadFromSerializedProto({data, size});
    if (!status.ok()) *error = status.ToString();
    return status.ok();
  }

  bool Encode(const char* text, size_t size, std::vector<int>* ids,
              std::string* error) const override {
    const auto status = processor_.Encode({text, size}, ids);
    if (!status.ok()) *error = status.ToString();
    return status.ok();
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace

std::unique_ptr<SentencePieceLibrary> SentencePieceLibrary::Load(const char* data, size_t size,
                                                                 std::string* error) {
  try {
    auto library = std::make_unique<Library>();
    if (library->Load(data, size, error)) return library;
  } catch (const std::exception& e) {
    *error = e.what();
  }
  return nullptr;
}

}  // namespace tprun
