#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "topology/gpu_catalogue.h"
#include "topology/topology.h"

namespace tprun {

// One line that describes machines (docs/topology.md has the grammar by example):
//
//   rtx3090+rtx3060                           a box with two cards
//   3xrtx3090 nvlink-pairs cpu:24c,256GiB     a bridge joins the first two
//   8xh200 nvswitch numa:2
//   2x[4xrtx3090 nvlink-pairs] ib:100         two boxes on 100 Gbit/s
//   cpu:32c,256GiB,200GB/s                    no GPU
//
// Whether a text is meant as one; cheap.
bool LooksSynthetic(absl::string_view text);

// InvalidArgument tells the part that is wrong and the grammar. What the line leaves open is
// assumed, with a note.
absl::StatusOr<Topology> ParseSynthetic(const std::string& text, const GpuCatalogue& catalogue);

// The same as a cluster file.
absl::StatusOr<std::string> SyntheticYaml(absl::string_view text, const GpuCatalogue& catalogue);

}  // namespace tprun
