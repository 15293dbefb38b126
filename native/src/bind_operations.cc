#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include "bindings.h"
#include "operations.h"
#include "operations_simd.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace millstream {

namespace {

using operations::Operation;

// Offsets within an image, its edges repeated, must fit into 32 bits.
constexpr int64_t kLargestSide = 16384;

template <typename Array>
std::string describe(const Array& array) {
  const nb::dlpack::dtype dtype = array.dtype();
  const char* kind = "type ";
  if (dtype.code == static_cast<uint8_t>(nb::dlpack::dtype_code::UInt)) kind = "uint";
  if (dtype.code == static_cast<uint8_t>(nb::dlpack::dtype_code::Int)) kind = "int";
  if (dtype.code == static_cast<uint8_t>(nb::dlpack::dtype_code::Float)) kind = "float";
  std::string text = kind + std::to_string(dtype.bits) + " (";
  for (size_t axis = 0; axis < array.ndim(); ++axis) {
    text += (axis == 0 ? "" : ", ") + std::to_string(array.shape(axis));
  }
  return text + ")";
}

template <typename Array>
bool is_contiguous(const Array& array) {
  int64_t stride = 1;
  for (size_t axis = array.ndim(); axis-- > 0;) {
    if (array.size() > 0 && array.shape(axis) != 1 && array.stride(axis) != stride) return false;
    stride *= static_cast<int64_t>(array.shape(axis));
  }
  return true;
}

// Refuses what is not an array of numbers of type `Number`, of this shape (-1: of any size), in C
// order and in the memory of the CPU.
template <typename Number, typename Array>
void expect(const Array& array, const char* name, const char* wanted,
            std::initializer_list<int64_t> shape) {
  bool is_right = array.dtype() == nb::dtype<Number>() && array.ndim() == shape.size() &&
                  array.device_type() == nb::device::cpu::value;
  size_t axis = 0;
  for (const int64_t size : shape) {
    if (!is_right) break;
    is_right = size < 0 || size == static_cast<int64_t>(array.shape(axis));
    ++axis;
  }
  if (!is_right || !is_contiguous(array)) {
    const std::string order = is_right ? ", not in C order" : "";
    const std::string message =
        std::string(name) + " must be " + wanted + " in C order, got " + describe(array) + order;
    throw nb::value_error(message.c_str());
  }
}

using Input = nb::ndarray<nb::ro>;

struct Arrays {
  const nb::ndarray<>& images;
  const Input& codes;
  const Input& args;
  const Input& filters;
  const Input& fill;
};

void check(const Arrays& arrays) {
  expect<uint8_t>(arrays.images, "images", "uint8 (B, H, W, 3)", {-1, -1, -1, 3});
  const auto num_images = static_cast<int64_t>(arrays.images.shape(0));
  expect<uint8_t>(arrays.codes, "codes", "uint8 (B, K) for the same B images", {num_images, -1});
  const auto num_steps = static_cast<int64_t>(arrays.codes.shape(1));
  expect<double>(arrays.args, "args", "float64 (B, K, 6) for codes' B and K",
                 {num_images, num_steps, operations::kNumArgs});
  expect<uint8_t>(arrays.filters, "filters", "uint8 (B, K) for codes' B and K",
                  {num_images, num_steps});
  expect<uint8_t>(arrays.fill, "fill", "uint8 (3,)", {3});
  const auto height = static_cast<int64_t>(arrays.images.shape(1));
  const auto width = static_cast<int64_t>(arrays.images.shape(2));
  if (std::min(height, width) < 1 || std::max(height, width) > kLargestSide) {
    const std::string message = "images must be of 1 to " + std::to_string(kLargestSide) +
                                " pixels in height and width, got " + std::to_string(height) +
                                " x " + std::to_string(width);
    throw nb::value_error(message.c_str());
  }
}

operations::Image image_of(const Arrays& arrays, size_t index) {
  operations::Image image{static_cast<uint8_t*>(arrays.images.data()),
                          static_cast<int>(arrays.images.shape(1)),
                          static_cast<int>(arrays.images.shape(2))};
  image.pixels += index * image.bytes();
  return image;
}

operations::Chain chain_of(const Arrays& arrays, size_t index) {
  const size_t num_steps = arrays.codes.shape(1), first_step = index * num_steps;
  return {static_cast<const uint8_t*>(arrays.codes.data()) + first_step,
          static_cast<const double*>(arrays.args.data()) + first_step * operations::kNumArgs,
          static_cast<const uint8_t*>(arrays.filters.data()) + first_step,
          static_cast<int>(num_steps)};
}

void apply_operations(Pool& pool, const nb::ndarray<>& images, const Input& codes,
                      const Input& args, const Input& filters, const Input& fill) {
  const Arrays arrays{images, codes, args, filters, fill};
  check(arrays);
  const size_t num_images = images.shape(0);
  for (size_t i = 0; i < num_images; ++i) {
    const std::string fault = find_fault(chain_of(arrays, i));
    if (!fault.empty()) {
      throw nb::value_error(("image " + std::to_string(i) + ", " + fault).c_str());
    }
  }
  run_unlocked(pool, static_cast<int>(num_images), [&](int i) {
    const auto index = static_cast<size_t>(i);
    operations::apply_chain(image_of(arrays, index), chain_of(arrays, index),
                            static_cast<const uint8_t*>(fill.data()));
  });
}

}  // namespace

void bind_operations(nb::module_& module) {
  nb::enum_<Operation>(module, "Operation", nb::is_arithmetic())
      .value("NOTHING", Operation::kNothing)
      .value("AUTO_CONTRAST", Operation::kAutoContrast)
      .value("EQUALIZE", Operation::kEqualize)
      .value("INVERT", Operation::kInvert)
      .value("POSTERIZE", Operation::kPosterize)
      .value("SOLARIZE", Operation::kSolarize)
      .value("SOLARIZE_ADD", Operation::kSolarizeAdd)
      .value("BRIGHTNESS", Operation::kBrightness)
      .value("CONTRAST", Operation::kContrast)
      .value("COLOR", Operation::kColor)
      .value("SHARPNESS", Operation::kSharpness)
      .value("AFFINE", Operation::kAffine)
      .value("GRAYSCALE", Operation::kGrayscale)
      .value("GAUSSIAN_BLUR", Operation::kGaussianBlur)
      .value("HUE", Operation::kHue);
  module.def("apply_operations", &apply_operations, "pool"_a, "images"_a, "codes"_a, "args"_a,
             "filters"_a, "fill"_a);
  module.def("use_portable_operations", &operations::use_portable_code, "is_portable"_a);
}

}  // namespace millstream
