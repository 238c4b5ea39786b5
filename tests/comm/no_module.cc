// A shared library that is not the CUDA module.
extern "C" __attribute__((visibility("default"))) int TprunNothing() { return 0; }
