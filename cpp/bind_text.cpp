// The seam to Python for text: strings are borrowed as UTF-8, the interpreter lock is released.
#include "bind_text.h"

#include <nanobind/stl/string_view.h>

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "bind.h"
#include "linear.h"
#include "text.h"

namespace nb = nanobind;

namespace tidegate {
namespace {

using Texts = nb::typed<nb::list, nb::str>;

// UTF-8 of texts, borrowed where that copies nothing: of ASCII it is the str's own memory.
class Utf8 {
 public:
  std::string_view operator()(nb::handle text) {
    Py_ssize_t size = 0;
    if (const char* data = PyUnicode_AsUTF8AndSize(text.ptr(), &size))
      return {data, static_cast<size_t>(size)};
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) throw nb::python_error();
    PyErr_Clear();  // it has a lone surrogate, which Python's UTF-8 refuses unless told otherwise
    PyObject* encoded = PyUnicode_AsEncodedString(text.ptr(), "utf-8", "surrogatepass");
    if (encoded == nullptr) throw nb::python_error();
    encoded_.push_back(nb::steal<nb::bytes>(encoded));
    return {encoded_.back().c_str(), encoded_.back().size()};
  }

  std::vector<std::string_view> all(const Texts& texts) {
    std::vector<std::string_view> views;
    views.reserve(texts.size());
    for (const nb::handle text : texts) views.push_back((*this)(text));
    return views;
  }

 private:
  std::vector<nb::bytes> encoded_;
};

nb::tuple encode(const WordIds& words, const Texts& texts, int64_t max_length) {
  Utf8 utf8;
  const std::vector<std::string_view> views = utf8.all(texts);
  WordIds::Rows rows;
  {
    nb::gil_scoped_release unlocked;
    rows = words.encode(views, max_length);
  }
  return nb::make_tuple(to_numpy(std::move(rows.ids)), to_numpy(std::move(rows.lengths)));
}

void add(WordCounts& counts, const Texts& texts) {
  Utf8 utf8;
  const std::vector<std::string_view> views = utf8.all(texts);
  nb::gil_scoped_release unlocked;
  counts.add(views);
}

Texts most_frequent(WordCounts& counts, size_t limit) {
  std::vector<std::string_view> words;
  {
    nb::gil_scoped_release unlocked;
    words = counts.most_frequent(limit);
  }
  Texts listed;
  for (const std::string_view word : words) {
    PyObject* text = PyUnicode_DecodeUTF8(word.data(), static_cast<Py_ssize_t>(word.size()),
                                          "surrogatepass");
    if (text == nullptr) throw nb::python_error();
    listed.append(nb::steal(text));
  }
  return listed;
}

nb::tuple ngrams(int rules, const Texts& texts, int longest, int bits) {
  Utf8 utf8;
  const std::vector<std::string_view> views = utf8.all(texts);
  NgramRows rows;
  {
    nb::gil_scoped_release unlocked;
    rows = hash_ngrams(static_cast<Rules>(rules), views, longest, bits);
  }
  return nb::make_tuple(to_numpy(std::move(rows.buckets)), to_numpy(std::move(rows.offsets)));
}

BucketRows rows_of(const In<int32_t, 1>& buckets, const In<int64_t, 1>& offsets) {
  return {static_cast<long>(offsets.shape(0)) - 1, buckets.data(), offsets.data()};
}

void fit(In<int32_t, 1> buckets, In<int64_t, 1> offsets, In<int32_t, 1> classes,
         MaybeIn<double, 1> counts, double cost, int rounds, double tolerance,
         uint64_t seed, bool goes_on, Out<float, 2> weights, Out<float, 1> bias) {
  nb::gil_scoped_release unlocked;
  fit_linear(ThreadPool::instance(),
             {rows_of(buckets, offsets), classes.data(), data_or_null(counts),
              static_cast<int>(weights.shape(1)), static_cast<long>(weights.shape(0)), cost, rounds, tolerance, seed, goes_on,
              weights.data(), bias.data()});
}

void score(In<int32_t, 1> buckets, In<int64_t, 1> offsets, In<float, 2> weights,
           In<float, 1> bias, Out<float, 2> scores) {
  nb::gil_scoped_release unlocked;
  score_linear(ThreadPool::instance(), rows_of(buckets, offsets), weights.data(), bias.data(),
               static_cast<int>(weights.shape(1)), scores.data());
}

}  // namespace

void bind_text(nb::module_& module) {
  const auto array = [](const char* name) { return nb::arg(name).noconvert(); };
  module.def("hash_ngrams", &ngrams, nb::arg("rules"), nb::arg("texts"), nb::arg("longest"),
             nb::arg("bits"));
  module.def("fit_linear", &fit, array("buckets"), array("offsets"), array("classes"),
             array("counts").none(), nb::arg("cost"), nb::arg("rounds"), nb::arg("tolerance"), nb::arg("seed"),
             nb::arg("goes_on"), array("weights"), array("bias"));
  module.def("score_linear", &score, array("buckets"), array("offsets"), array("weights"),
             array("bias"), array("scores"));
  nb::class_<WordIds>(module, "WordIds")
      .def(
          "__init__",
          [](WordIds* self, int rules, nb::bytes lines, int start, int unknown, int first) {
            new (self) WordIds(static_cast<Rules>(rules), {lines.c_str(), lines.size()}, start,
                               unknown, first);
          },
          nb::arg("rules"), nb::arg("lines"), nb::arg("start"), nb::arg("unknown"), nb::arg("first"))
      .def("id_of", [](const WordIds& words, nb::str word) { return words.id_of(Utf8()(word)); },
           nb::arg("word"))
      .def("encode", &encode, nb::arg("texts"), nb::arg("max_length"));
  nb::class_<WordCounts>(module, "WordCounts")
      .def("__init__",
           [](WordCounts* self, int rules) { new (self) WordCounts(static_cast<Rules>(rules)); },
           nb::arg("rules"))
      .def("add", &add, nb::arg("texts"))
      .def("most_frequent", &most_frequent, nb::arg("limit"));
}

}  // namespace tidegate
