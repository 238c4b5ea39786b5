#include "engine/arch/codec_size.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

constexpr int64_t kF32 = 4;
// Of any width, and of what multiplies widths: no sum or product here leaves 64 bits with them.
constexpr int64_t kMost = 65536;
constexpr int64_t kMostRepeats = 1024;
constexpr int64_t kMostRate = 1 << 20;  // samples per second

absl::StatusOr<int64_t> Number(const Json& json, absl::string_view key, int64_t most = kMost) {
  ASSIGN_OR_RETURN(const int64_t value, GetInt(json, key));
  if (value >= 1 && value <= most) return value;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", key, "\": wanted 1 to ", most, ", found ", value));
}

// Each rate halves or doubles the channels, and multiplies the samples of a code.
absl::Status CheckRates(absl::string_view key, int64_t channels, int64_t samples = 1) {
  if (channels >= 1 && channels <= kMost && samples <= kMostRate) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", key, "\": wanted fewer or smaller ones, which leave 1 to ", kMost,
                   " channels and at most ", kMostRate, " samples, found ", channels,
                   " channels and ", samples));
}

absl::StatusOr<std::vector<int64_t>> Numbers(const Json& json, absl::string_view key) {
  const Json* list = FindMember(json, key);
  std::vector<int64_t> numbers;
  const bool sound = list != nullptr && list->is_array() && !list->empty() && list->size() <= 16;
  for (size_t i = 0; sound && i < list->size(); ++i) {
    const Json& item = (*list)[i];
    if (!item.is_number_integer() || item < 1 || item > 1024) break;
    numbers.push_back(item.get<int64_t>());
  }
  if (sound && numbers.size() == list->size()) return numbers;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", key, "\": wanted a list of 1 to 16 numbers from 1 to 1024"));
}

absl::StatusOr<const Json*> Part(const Json& json, absl::string_view key) {
  const Json* part = FindMember(json, key);
  if (part != nullptr && part->is_object()) return part;
  return absl::InvalidArgumentError(absl::StrCat("\"", key, "\": wanted an object"));
}

int64_t Convolution(int64_t in, int64_t out, int64_t kernel) { return in * out * kernel + out; }

// Mimi: SEANet encoder and decoder, each with a transformer, resamplers, split residual quantiser.
struct SeaNet {
  int64_t parameters = 0;
  int64_t state = 0;  // inputs and outputs that convolutions keep
};

absl::StatusOr<SeaNet> CountSeaNet(const Json& config) {
  ASSIGN_OR_RETURN(const int64_t filters, Number(config, "n_filters"));
  ASSIGN_OR_RETURN(const int64_t dim, Number(config, "dimension"));
  ASSIGN_OR_RETURN(const int64_t kernel, Number(config, "kernel_size", kMostRepeats));
  ASSIGN_OR_RETURN(const int64_t residual_kernel,
                   Number(config, "residual_kernel_size", kMostRepeats));
  ASSIGN_OR_RETURN(const int64_t last_kernel, Number(config, "last_kernel_size", kMostRepeats));
  ASSIGN_OR_RETURN(const int64_t residuals, Number(config, "n_residual_layers", kMostRepeats));
  ASSIGN_OR_RETURN(const int64_t compress, Number(config, "compress", filters));
  ASSIGN_OR_RETURN(const std::vector<int64_t> ratios, Numbers(config, "ratios"));
  SeaNet net;
  const auto add = [&](int64_t in, int64_t out, int64_t size) {
    net.parameters += Convolution(in, out, size);
    net.state += in * (size - 1);
  };
  add(1, filters, kernel);
  add(filters, 1, last_kernel);
  int64_t channels = filters;
  for (auto ratio = ratios.rbegin(); ratio != ratios.rend(); ++ratio) {
    RETURN_IF_ERROR(CheckRates("ratios", channels));
    for (int64_t side = 0; side < 2 * residuals; ++side) {  // of encoder and decoder
      add(channels, channels / compress, residual_kernel);
      add(channels / compress, channels, 1);
    }
    add(channels, 2 * channels, 2 * *ratio);                            // down
    net.parameters += Convolution(2 * channels, channels, 2 * *ratio);  // up
    net.state += channels * *ratio;
    channels *= 2;
  }
  add(channels, dim, last_kernel);
  add(dim, channels, kernel);
  return net;
}

absl::StatusOr<CodecSize> MimiSize(const Json& config) {
  ASSIGN_OR_RETURN(const Json* seanet, Part(config, "seanet"));
  ASSIGN_OR_RETURN(const Json* transformer, Part(config, "transformer"));
  ASSIGN_OR_RETURN(const Json* quantizer, Part(config, "quantizer"));
  ASSIGN_OR_RETURN(const SeaNet net, CountSeaNet(*seanet));
  ASSIGN_OR_RETURN(const int64_t dim, Number(*transformer, "d_model"));
  ASSIGN_OR_RETURN(const int64_t layers, Number(*transformer, "num_layers", kMostRepeats));
  ASSIGN_OR_RETURN(const int64_t ffn, Number(*transformer, "dim_feedforward"));
  ASSIGN_OR_RETURN(const int64_t context, Number(*transformer, "context"));
  ASSIGN_OR_RETURN(const int64_t books, Number(*quantizer, "n_q", kMostRepeats));
  ASSIGN_OR_RETURN(const int64_t bins, Number(*quantizer, "bins"));
  ASSIGN_OR_RETURN(const int64_t code, Number(*quantizer, "dimension"));
  CodecSize size;
  size.kind = "Mimi codec";
  ASSIGN_OR_RETURN(size.sample_rate, Number(config, "sample_rate", kMostRate));
  ASSIGN_OR_RETURN(size.frames_per_s, GetDouble(config, "frame_rate"));
  if (!(size.frames_per_s > 0 && size.frames_per_s <= static_cast<double>(size.sample_rate))) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"frame_rate\": wanted more than 0 and at most ", size.sample_rate,
                     " (\"sample_rate\"), found ", size.frames_per_s));
  }
  size.codebooks = static_cast<int>(books);
  // Two norms with bias and two layer scales per layer.
  const int64_t per_layer = 4 * dim * dim + 2 * dim * ffn + 6 * dim;
  const int64_t resamplers = dim * dim * 4 + dim * 4;
  // The first codebook stands apart from the rest: each part has projections in and out.
  const int64_t parts = books > 1 ? 2 : 1;
  const int64_t codes = parts * 2 * code * dim + books * (bins * code + bins + 1);
  size.parameters = net.parameters + 2 * layers * per_layer + resamplers + codes;
  size.weight_bytes = kF32 * size.parameters;
  size.state_bytes = kF32 * (net.state + 2 * layers * 2 * context * dim + 3 * dim * 2);
  return size;
}

// SNAC: convolutions with weight norm, which has a length per output (transposed: input) channel.
int64_t Normed(int64_t in, int64_t out, int64_t kernel, int64_t groups = 1) {
  return in * out / groups * kernel + 2 * out;
}

// Two Snakes, a depthwise convolution, one of width 1.
int64_t ResidualUnit(int64_t channels) {
  constexpr int64_t kKernel = 7;
  return 2 * channels + Normed(channels, channels, kKernel, channels) +
         Normed(channels, channels, 1);
}

absl::StatusOr<CodecSize> SnacSize(const Json& config) {
  constexpr int64_t kKernel = 7;
  constexpr int64_t kUnits = 3;  // residual units of a block
  ASSIGN_OR_RETURN(const int64_t encoder, Number(config, "encoder_dim"));
  ASSIGN_OR_RETURN(const int64_t decoder, Number(config, "decoder_dim"));
  ASSIGN_OR_RETURN(const std::vector<int64_t> down, Numbers(config, "encoder_rates"));
  ASSIGN_OR_RETURN(const std::vector<int64_t> up, Numbers(config, "decoder_rates"));
  ASSIGN_OR_RETURN(const std::vector<int64_t> strides, Numbers(config, "vq_strides"));
  ASSIGN_OR_RETURN(const int64_t bins, Number(config, "codebook_size"));
  ASSIGN_OR_RETURN(const int64_t code, Number(config, "codebook_dim"));
  ASSIGN_OR_RETURN(const bool depthwise, GetBoolOr(config, "depthwise", true));
  ASSIGN_OR_RETURN(const bool noise, GetBoolOr(config, "noise", true));
  const Json* window = FindMember(config, "attn_window_size");
  if (!depthwise || (window != nullptr && !window->is_null())) {
    return absl::InvalidArgumentError(
        "of SNAC only models with \"depthwise\" and without \"attn_window_size\" are known");
  }
  CodecSize size;
  size.kind = "SNAC codec";
  int64_t channels = encoder;
  int64_t samples = 1;  // of one code of the finest level
  int64_t count = Normed(1, channels, kKernel);
  for (int64_t rate : down) {
    RETURN_IF_ERROR(CheckRates("encoder_rates", channels, samples));
    count += kUnits * ResidualUnit(channels) + channels + Normed(channels, 2 * channels, 2 * rate);
    channels *= 2;
    samples *= rate;
  }
  RETURN_IF_ERROR(CheckRates("encoder_rates", channels, samples));
  const int64_t latent = channels;
  count += Normed(latent, latent, kKernel, latent);  // the encoder's last
  count += Normed(latent, latent, kKernel, latent) + Normed(latent, decoder, 1);
  channels = decoder;
  for (int64_t rate : up) {
    const int64_t out = channels / 2;
    RETURN_IF_ERROR(CheckRates("decoder_rates", out));
    count += channels + channels * out * 2 * rate + channels + out + kUnits * ResidualUnit(out);
    if (noise) count += out * out + out;
    channels = out;
  }
  count += channels + Normed(channels, 1, kKernel);
  count += static_cast<int64_t>(strides.size()) *
           (Normed(latent, code, 1) + Normed(code, latent, 1) + bins * code);
  size.parameters = count;
  size.weight_bytes = kF32 * count;
  size.codebooks = static_cast<int>(strides.size());
  ASSIGN_OR_RETURN(size.sample_rate, Number(config, "sampling_rate", kMostRate));
  size.frames_per_s =
      static_cast<double>(size.sample_rate) / static_cast<double>(samples * strides.back());
  return size;
}

}  // namespace

bool IsCodecConfig(const Json& config) {
  if (!config.is_object() || FindMember(config, "model_type") != nullptr) return false;
  const bool mimi =
      FindMember(config, "seanet") != nullptr && FindMember(config, "quantizer") != nullptr;
  return mimi || (FindMember(config, "vq_strides") != nullptr &&
                  FindMember(config, "decoder_rates") != nullptr);
}

absl::StatusOr<CodecSize> CodecSizeOf(const Json& config) {
  return FindMember(config, "seanet") != nullptr ? MimiSize(config) : SnacSize(config);
}

}  // namespace tprun
