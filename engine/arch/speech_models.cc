#include "engine/arch/speech_models.h"

namespace tprun {
namespace {

// Orpheus (canopyai/Orpheus-TTS): Llama 3.2 with 7 * 4096 sounds and ten marks. Seven tokens give
// 2048 samples at 24 kHz. SNAC has 19,842,914 parameters (hubertsiuzdak/snac), kept in f32.
constexpr int64_t kOrpheusVocabulary = 156940;
constexpr int64_t kSnacBytes = 19'842'914 * 4;

// GLM-4-Voice (zai-org/GLM-4-Voice): 12.5 sounds per second, 13 text tokens to 26 of sound. Speech
// tokenizer (Whisper encoder with a quantiser) and flow decoder with vocoder, both f32.
constexpr int64_t kGlmVoiceVocabulary = 168960;
constexpr int64_t kGlmVoiceTokenizerBytes = 1'370'000'000;
constexpr int64_t kGlmVoiceDecoderBytes = 530'000'000;

}  // namespace

void AddSpeechFacts(ModelSpec& spec) {
  if (spec.architecture == "llama" && spec.vocab == kOrpheusVocabulary) {
    spec.sidecars.push_back({"SNAC 24 kHz codec, f32", kSnacBytes, true});
    spec.tokens_per_second_needed = 7 * 24000.0 / 2048;
  }
  if (spec.architecture == "chatglm" && spec.vocab == kGlmVoiceVocabulary) {
    spec.sidecars.push_back({"speech tokenizer, f32", kGlmVoiceTokenizerBytes, true});
    spec.sidecars.push_back({"flow decoder and vocoder, f32", kGlmVoiceDecoderBytes, true});
    spec.tokens_per_second_needed = 12.5 * 39 / 26;
  }
}

}  // namespace tprun
