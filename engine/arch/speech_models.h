#pragma once

#include "engine/model/model_spec.h"

namespace tprun {

// Some speech models are ordinary language models whose vocabulary has sounds in it. Fills in their
// sidecars (codec, vocoder) and the speed at which they have to speak; leaves others alone.
void AddSpeechFacts(ModelSpec& spec);

}  // namespace tprun
