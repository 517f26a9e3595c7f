// What the files of the seam to Python share.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <optional>
#include <utility>
#include <vector>

namespace tidegate {

template <class T, int Dimensions>
using In = nanobind::ndarray<const T, nanobind::ndim<Dimensions>, nanobind::c_contig,
                             nanobind::device::cpu>;
template <class T, int Dimensions>
using Out =
    nanobind::ndarray<T, nanobind::ndim<Dimensions>, nanobind::c_contig, nanobind::device::cpu>;
template <class T, int Dimensions>
using MaybeIn = std::optional<In<T, Dimensions>>;
template <class T, int Dimensions>
using MaybeOut = std::optional<Out<T, Dimensions>>;

template <class Array>
auto data_or_null(const Array& array) {
  return array ? array->data() : nullptr;
}

// A NumPy array that owns the values.
template <class T>
nanobind::object to_numpy(std::vector<T>&& values) {
  namespace nb = nanobind;
  auto* owned = new std::vector<T>(std::move(values));
  nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<1>>(owned->data(), {owned->size()}, owner));
}

}  // namespace tidegate
