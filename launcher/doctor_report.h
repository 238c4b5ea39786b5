#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "topology/doctor.h"

namespace tprun {

// The findings as aligned lines, the worst last, and how many there are of each kind. Lines are
// broken at `width` columns, 0: never. `color`: with terminal escape codes.
std::string FindingsText(const std::vector<Finding>& findings, int width, bool color);

// {"tprun_doctor": 1, "worst": "warning", "findings": [...]}; keys in a fixed order.
Json FindingsJson(const std::vector<Finding>& findings);

}  // namespace tprun
