"""Writes engine/format/iq_grid_values.h: the code books of ggml's iq1, iq2 and iq3 formats, out of the Python
library gguf 0.19.0 (pip install gguf==0.19.0 numpy). Run from the root of the repository."""

import numpy as np
from gguf import quants

TABLES = [("kIq2XxsGrid", quants.IQ2_XXS, 2), ("kIq2XsGrid", quants.IQ2_XS, 2), ("kIq2SGrid", quants.IQ2_S, 2),
          ("kIq1Grid", quants.IQ1_S, 2), ("kIq3XxsGrid", quants.IQ3_XXS, 3), ("kIq3SGrid", quants.IQ3_S, 3)]

lines = ["#pragma once", "", "// Made by tools/make_iq_grids.py.", "", "#include <cstdint>", "", "namespace tprun {", "",
         "// clang-format off"]
for name, cls, bits in TABLES:
    cls.init_grid()
    grid = cls.grid.reshape(cls.grid_shape)
    levels = np.array(cls.grid_map, dtype=np.float32)
    index = np.argmin(np.abs(grid[..., None] - levels), axis=-1)
    assert (levels[index] == grid).all()
    words = (index << (bits * np.arange(grid.shape[1]))).sum(axis=-1)
    assert words.max() < 65536
    lines += ["", f"inline constexpr uint16_t {name}[{len(words)}] = {{"]
    for i in range(0, len(words), 16):
        lines.append("  " + ", ".join(str(w) for w in words[i:i + 16]) + ",")
    lines.append("};")
lines += ["", "// clang-format on", "", "}  // namespace tprun", ""]
open("engine/format/iq_grid_values.h", "w").write("\n".join(lines))
