#include <algorithm>
#include <mutex>
#include <string>
#include <vector>

#include <nanobind/ndarray.h>

#include "bindings.h"
#include "crop_decoder.h"
#include "kernels.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace millstream {

namespace {

template <class Value>
using Pairs = nb::ndarray<const Value, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;
using Flags = nb::ndarray<const bool, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Images = nb::ndarray<uint8_t, nb::shape<-1, -1, -1, 3>, nb::c_contig, nb::device::cpu>;

// The bytes of Python objects, held as long as this lives.
class Buffers {
 public:
  explicit Buffers(nb::sequence objects) : Buffers() {  // whole from here on, so that a throw frees
    views_.reserve(nb::len(objects));
    for (nb::handle object : objects) {
      Py_buffer view;
      if (PyObject_GetBuffer(object.ptr(), &view, PyBUF_SIMPLE) != 0) throw nb::python_error();
      views_.push_back(view);
      if (view.itemsize != 1) throw nb::type_error("data: each item must be of bytes (uint8)");
    }
  }
  ~Buffers() {
    for (Py_buffer& view : views_) PyBuffer_Release(&view);
  }
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  size_t size() const { return views_.size(); }
  const uint8_t* data(int i) const { return static_cast<const uint8_t*>(views_[i].buf); }
  size_t length(int i) const { return static_cast<size_t>(views_[i].len); }

 private:
  Buffers() = default;

  std::vector<Py_buffer> views_;
};

struct Failure {
  int position;
  Verdict verdict;
  std::string reason;
};

[[noreturn]] void refuse(size_t image, const std::string& what) {
  throw nb::value_error(("image " + std::to_string(image) + " of the batch: " + what).c_str());
}

bool is_interval(float start, float end, int size) {  // also false for NaN
  const auto within = [&](float at) { return at >= 0.0f && at <= static_cast<float>(size); };
  return within(start) && within(end) && start != end;
}

void check(size_t image, const Crop& crop) {
  const Rectangle& part = crop.part;
  const bool is_inside = part.top >= 0 && part.left >= 0 && part.height >= 1 && part.width >= 1 &&
                         part.top <= crop.listed.height - part.height &&
                         part.left <= crop.listed.width - part.width;
  if (!is_inside) refuse(image, "the part to decode is empty or not within the listed size");
  if (!is_interval(crop.start[0], crop.end[0], part.height) ||
      !is_interval(crop.start[1], crop.end[1], part.width)) {
    refuse(image, "the region is empty or not within the part to decode");
  }
}

std::vector<Crop> read_crops(Pairs<int> sizes, Pairs<int> anchor, Pairs<int> shape,
                             Pairs<float> start, Pairs<float> end, Flags bicubic) {
  std::vector<Crop> crops(sizes.shape(0));
  for (size_t i = 0; i < crops.size(); ++i) {
    crops[i] = {{sizes(i, 0), sizes(i, 1)},
                {anchor(i, 0), anchor(i, 1), shape(i, 0), shape(i, 1)},
                {start(i, 0), start(i, 1)},
                {end(i, 0), end(i, 1)},
                bicubic(i) ? Filter::kBicubic : Filter::kBilinear};
    check(i, crops[i]);
  }
  return crops;
}

void check_lengths(size_t batch, std::initializer_list<size_t> lengths) {
  for (size_t length : lengths) {
    if (length != batch) throw nb::value_error("the arguments are of different numbers of images");
  }
}

nb::list to_list(std::vector<Failure> failures) {
  std::sort(failures.begin(), failures.end(),
            [](const Failure& a, const Failure& b) { return a.position < b.position; });
  nb::list list;
  for (const Failure& failure : failures) {
    const bool is_damaged = failure.verdict == Verdict::kDamaged;
    list.append(nb::make_tuple(failure.position, is_damaged ? "damaged" : "unsupported",
                               nb::str(failure.reason.c_str())));
  }
  return list;
}

nb::list decode_crops(Pool& pool, nb::sequence data, Pairs<int> sizes, Pairs<int> anchor,
                      Pairs<int> shape, Pairs<float> start, Pairs<float> end, Flags bicubic,
                      Images out) {
  const Buffers buffers(data);
  check_lengths(buffers.size(), {sizes.shape(0), anchor.shape(0), shape.shape(0), start.shape(0),
                                 end.shape(0), bicubic.shape(0), out.shape(0)});
  const std::vector<Crop> crops = read_crops(sizes, anchor, shape, start, end, bicubic);
  const Size size{static_cast<int>(out.shape(1)), static_cast<int>(out.shape(2))};
  if (size.height < 1 || size.width < 1) throw nb::value_error("out: images without pixels");
  const size_t image_bytes = size_t{3} * size.height * size.width;

  std::mutex mutex;
  std::vector<Failure> failures;
  run_unlocked(pool, static_cast<int>(crops.size()), [&](int i) {
    static thread_local CropDecoder decoder;
    const Verdict verdict = decoder.decode(buffers.data(i), buffers.length(i), crops[i], size,
                                           out.data() + image_bytes * i);
    if (verdict == Verdict::kGood) return;
    std::lock_guard lock(mutex);
    failures.push_back({i, verdict, decoder.reason()});
  });
  return to_list(std::move(failures));
}

}  // namespace

void bind_decode(nb::module_& module) {
  module.def("decode_crops", &decode_crops, "pool"_a, "data"_a, "sizes"_a.noconvert(),
             "anchor"_a.noconvert(), "shape"_a.noconvert(), "start"_a.noconvert(),
             "end"_a.noconvert(), "bicubic"_a.noconvert(), "out"_a.noconvert());
  module.def("use_portable_kernels", &use_portable_kernels, "is_portable"_a);
}

}  // namespace millstream
