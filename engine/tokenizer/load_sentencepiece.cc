#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/tokenizer/loaders.h"
#include "engine/tokenizer/sentencepiece_library.h"
#include "engine/tokenizer/sentencepiece_proto.h"

namespace tprun {
namespace {

constexpr char kMetaspace[] = "\xE2\x96\x81";
using Type = SentencePieceModel::Type;

class LibraryEncoder : public SegmentEncoder {
 public:
  explicit LibraryEncoder(std::unique_ptr<SentencePieceLibrary> library)
      : library_(std::move(library)) {}
  absl::Status Encode(absl::string_view segment, bool, const EncodeOptions& options,
                      std::vector<int32_t>* ids) const override {
    std::vector<int> found;
    std::string error, kept;
    segment = WithoutMark(segment, options.mark, &kept);
    if (!library_->Encode(segment.data(), segment.size(), &found, &error)) {
      return absl::InvalidArgumentError(absl::StrCat("SentencePiece: ", error));
    }
    ids->insert(ids->end(), found.begin(), found.end());
    return absl::OkStatus();
  }

 private:
  std::unique_ptr<SentencePieceLibrary> library_;
};

absl::StatusOr<std::unique_ptr<SegmentEncoder>> MakeLibraryEncoder(absl::string_view bytes) {
  std::string error;
  auto library = SentencePieceLibrary::Load(bytes.data(), bytes.size(), &error);
  if (library == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("SentencePiece refuses the model: ", error));
  }
  return std::unique_ptr<SegmentEncoder>(new LibraryEncoder(std::move(library)));
}

std::unique_ptr<SegmentEncoder> MakeBpeEncoder(const SentencePieceModel& model,
                                               const TokenizerParts& parts) {
  Normalizer normalizer;
  if (model.remove_extra_whitespaces) normalizer.AddCollapseSpaces();
  if (model.add_dummy_prefix) normalizer.AddPrepend(" ");
  normalizer.AddReplace(" ", kMetaspace);
  std::vector<double> priorities;
  std::vector<AddedToken> user_defined;
  BpeOptions options;
  options.byte_fallback = model.byte_fallback;
  options.fuse_unknown = true;
  for (int32_t id = 0; id < static_cast<int32_t>(model.pieces.size()); ++id) {
    const auto& piece = model.pieces[id];
    priorities.push_back(-static_cast<double>(piece.score));
    if (piece.kind == TokenKind::kUnknown) options.unknown_id = id;
    if (piece.kind == TokenKind::kUserDefined) user_defined.push_back({piece.text, id});
  }
  priorities.resize(parts.vocabulary->size(), 0);
  auto merges = std::make_unique<PieceMerges>(parts.vocabulary, std::move(priorities));
  return std::make_unique<BpeSegmentEncoder>(std::move(normalizer),
                                             AddedTokens(std::move(user_defined)), PreTokenizer(),
                                             Bpe(parts.vocabulary, std::move(merges), options));
}

// The tokens that ChatGLM's own tokenizer puts behind the pieces, and its prefix (THUDM/ChatGLM3:
// tokenization_chatglm.py).
absl::Status AddChatGlmTokens(const SideFiles& side, TokenizerParts* parts) {
  ASSIGN_OR_RETURN(const std::string tokenizer_class,
                   GetStringOr(side.tokenizer_config, "tokenizer_class", ""));
  if (tokenizer_class != "ChatGLMTokenizer") return absl::OkStatus();
  std::vector<AddedToken> tokens;
  for (const char* text : {"[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>",
                           "<|assistant|>", "<|observation|>"}) {
    const int32_t id = parts->vocabulary->size() + static_cast<int32_t>(tokens.size());
    tokens.push_back({text, id, /*special=*/true});
  }
  RETURN_IF_ERROR(AddTokens(tokens, parts));
  parts->prefix_ids = {tokens[1].id, tokens[3].id};
  parts->end_ids.push_back(tokens[6].id);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerParts> LoadSentencePiece(absl::string_view bytes, const SideFiles& side) {
  ASSIGN_OR_RETURN(const SentencePieceModel model, ParseSentencePieceModel(bytes));
  if (model.type != Type::kBpe && model.type != Type::kUnigram) {
    return absl::InvalidArgumentError(
        "SentencePiece model of words or characters; supported are BPE and unigram");
  }
  TokenizerParts parts;
  parts.vocabulary = std::make_shared<Vocabulary>();
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    RETURN_IF_ERROR(parts.vocabulary->Add(id, piece.text, piece.kind));
    if (piece.kind != TokenKind::kControl) continue;
    parts.added_tokens.push_back({piece.text, static_cast<int32_t>(id), /*special=*/true});
  }
  if (parts.vocabulary->Contains(model.bos_id)) {
    parts.bos_id = model.bos_id;
    parts.prefix_ids = {model.bos_id};
  }
  if (parts.vocabulary->Contains(model.eos_id)) parts.end_ids.push_back(model.eos_id);
  RETURN_IF_ERROR(AddChatGlmTokens(side, &parts));
  ASSIGN_OR_RETURN(std::vector<AddedToken> added, AddedTokensOf(side));
  for (AddedToken& token : added) token.normalized = false;
  RETURN_IF_ERROR(AddTokens(added, &parts));
  SetMetaspaceBytes(parts.vocabulary.get());
  parts.strip_leading_space = model.add_dummy_prefix;
  const bool own =
      model.type == Type::kBpe && !model.has_charsmap && !model.treat_whitespace_as_suffix;
  if (own) {
    parts.encoder = MakeBpeEncoder(model, parts);
  } else {
    ASSIGN_OR_RETURN(parts.encoder, MakeLibraryEncoder(bytes));
  }
  return parts;
}

}  // namespace tprun
