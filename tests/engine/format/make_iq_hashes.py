"""Prints the table of quantiser_formats_test.cc: FNV-1a hashes of what the Python library gguf 0.19.0 (numpy 2.4.6) decodes out of 64
blocks of pseudo-random bytes per format. pip install gguf==0.19.0"""
import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

# Offset of the high byte of the half that scales a block.
HIGH_BYTE = {"IQ1_S": 1, "IQ1_M": 55, "IQ2_XXS": 1, "IQ2_XS": 1, "IQ2_S": 1, "IQ3_XXS": 1, "IQ3_S": 1, "TQ1_0": 53, "TQ2_0": 65}
MASK = 2**64 - 1

for name, high in HIGH_BYTE.items():
    size = GGML_QUANT_SIZES[T[name]][1]
    state, data = 42, bytearray()
    for i in range(64 * size):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        byte = state >> 56
        data.append(byte & 0xBF if i % size == high else byte)  # finite scales below 2
    values = quants.dequantize(np.frombuffer(bytes(data), dtype=np.uint8).reshape(64, size), T[name])
    value = 0xCBF29CE484222325
    for byte in values.astype("<f4").tobytes():
        value = (value ^ byte) * 0x100000001B3 & MASK
    assert np.isfinite(values).all()
    print('    {"%s", %d, 0x%016xu},' % (name.lower(), high, value))
