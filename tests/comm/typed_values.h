#pragma once

#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/dtype.h"

namespace tprun {

// An array of elements of a dtype chosen at run time.
class TypedValues {
 public:
  TypedValues(int64_t count, DType dtype)
      : dtype_(dtype), bytes_(count * SizeOf(dtype) + 1) {}  // one more: data() is never null

  void* data() { return bytes_.data(); }

  void Set(int64_t i, float value) {
    switch (dtype_) {
      case DType::kF32:
        return Put(i, value);
      case DType::kF16:
        return Put(i, ToFloat16(value));
      case DType::kBF16:
        return Put(i, ToBFloat16(value));
    }
  }

  float Get(int64_t i) const {
    switch (dtype_) {
      case DType::kF32:
        return Take<float>(i);
      case DType::kF16:
        return ToFloat(Take<Float16>(i));
      case DType::kBF16:
        return ToFloat(Take<BFloat16>(i));
    }
    return 0;
  }

  absl::Status Check(int64_t i, float wanted) const {
    if (Get(i) == wanted) return absl::OkStatus();
    return absl::InternalError(
        absl::StrCat("element ", i, ": wanted ", wanted, ", found ", Get(i)));
  }

 private:
  template <typename T>
  void Put(int64_t i, T value) {
    std::memcpy(&bytes_[i * sizeof(T)], &value, sizeof(T));
  }
  template <typename T>
  T Take(int64_t i) const {
    T value;
    std::memcpy(&value, &bytes_[i * sizeof(T)], sizeof(T));
    return value;
  }

  DType dtype_;
  std::vector<char> bytes_;
};

}  // namespace tprun
