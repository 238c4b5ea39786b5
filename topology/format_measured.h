#pragma once

#include <string>

#include "topology/text_view.h"

namespace tprun {

// Table of the devices that somebody measured: copies, matrix products, ranks. "" if there are
// none.
std::string MeasuredText(const TextView& view);

}  // namespace tprun
