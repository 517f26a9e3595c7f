// The lecture's network on oneDNN's recurrent primitives. onednn_scoring.py builds and calls it.
//
// A user would write it like this: rows of the embedding are gathered into the primitive's input,
// step by step; the primitive runs all steps of a batch; its last state meets the output layer.
// Weights are laid out once, as the primitive asks for. There is one primitive for each batch size.

#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace {

using dnnl::memory;
using tag = memory::format_tag;
using type = memory::data_type;

enum Cell { gru_after, gru_before, lstm, rnn };

constexpr auto inference = dnnl::prop_kind::forward_inference;
constexpr auto direction = dnnl::rnn_direction::unidirectional_left2right;

// A primitive for batches of one size, and the memory that it works on.
struct Batch {
    dnnl::primitive primitive;
    std::unordered_map<int, memory> arguments;
    std::string implementation;
};

class Network {
public:
    Network(Cell cell, bool bfloat16, int threads, int length, int vocabulary, int embedding,
            int hidden, const float* table, const float* kernel, const float* recurrent_kernel,
            const float* bias, const float* output, float output_bias)
        : cell_(cell),
          type_(bfloat16 ? type::bf16 : type::f32),
          threads_(threads),
          length_(length),
          embedding_(embedding),
          hidden_(hidden),
          output_(output, output + hidden),
          output_bias_(output_bias),
          engine_(dnnl::engine::kind::cpu, 0),
          stream_(engine_) {
        kernel_ = filled({{1, 1, embedding, gates(), hidden}, type::f32, tag::ldigo}, kernel);
        recurrent_kernel_ =
            filled({{1, 1, hidden, gates(), hidden}, type::f32, tag::ldigo}, recurrent_kernel);
        bias_ = filled({{1, 1, biases(), hidden}, type::f32, tag::ldgo}, bias);
        table_ = converted(filled({{vocabulary, embedding}, type::f32, tag::ab}, table),
                           {{vocabulary, embedding}, type_, tag::ab});
    }

    const Batch& batch(int texts) {
        auto& found = batches_[texts];
        if (!found) found = std::make_unique<Batch>(make(texts));
        return *found;
    }

    // ids: [texts][length]. logits: [texts].
    void score(const int64_t* ids, int texts, float* logits) {
        const Batch& found = batch(texts);
        gather(ids, texts, static_cast<char*>(handle(found, DNNL_ARG_SRC_LAYER)));
        found.primitive.execute(stream_, found.arguments);
        stream_.wait();
        const char* last = static_cast<const char*>(handle(found, DNNL_ARG_DST_ITER));
        for (int row = 0; row < texts; ++row) {
            float sum = output_bias_;
            for (int unit = 0; unit < hidden_; ++unit)
                sum += number(last, static_cast<size_t>(row) * hidden_ + unit) * output_[unit];
            logits[row] = sum;
        }
    }

private:
    int gates() const { return cell_ == rnn ? 1 : cell_ == lstm ? 4 : 3; }
    int biases() const { return cell_ == gru_after ? 4 : gates(); }
    size_t width() const { return type_ == type::bf16 ? 2 : 4; }

    static void* handle(const Batch& batch, int argument) {
        return batch.arguments.at(argument).get_data_handle();
    }

    float number(const char* values, size_t i) const {
        if (type_ == type::f32) return reinterpret_cast<const float*>(values)[i];
        const uint32_t bits = static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(values)[i])
                              << 16;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }

    memory filled(const memory::desc& description, const float* values) {
        memory made(description, engine_);
        std::memcpy(made.get_data_handle(), values, description.get_size());
        return made;
    }

    memory converted(memory from, const memory::desc& description) {
        memory made(description, engine_);
        dnnl::reorder(from, made).execute(stream_, from, made);
        stream_.wait();
        return made;
    }

    // Rows of the table, [length][texts][embedding]; on all threads if there is much to do.
    void gather(const int64_t* ids, int texts, char* to) const {
        const size_t bytes = embedding_ * width();
        const char* table = static_cast<const char*>(table_.get_data_handle());
        auto steps = [=, this](int begin, int end) {
            for (int step = begin; step < end; ++step)
                for (int row = 0; row < texts; ++row)
                    std::memcpy(to + (static_cast<size_t>(step) * texts + row) * bytes,
                                table + ids[static_cast<size_t>(row) * length_ + step] * bytes,
                                bytes);
        };
        const int parts = texts < 16 ? 1 : threads_;
        std::vector<std::thread> others;
        for (int part = 1; part < parts; ++part)
            others.emplace_back(steps, length_ * part / parts, length_ * (part + 1) / parts);
        steps(0, length_ / parts);
        for (auto& other : others) other.join();
    }

    template <class Description>
    void take(const Description& description, Batch& batch) {
        batch.implementation = description.impl_info_str();
        auto& arguments = batch.arguments;
        arguments[DNNL_ARG_SRC_LAYER] = memory(description.src_layer_desc(), engine_);
        arguments[DNNL_ARG_WEIGHTS_LAYER] = converted(kernel_, description.weights_layer_desc());
        arguments[DNNL_ARG_WEIGHTS_ITER] =
            converted(recurrent_kernel_, description.weights_iter_desc());
        arguments[DNNL_ARG_BIAS] = bias_;
        arguments[DNNL_ARG_DST_LAYER] = memory(description.dst_layer_desc(), engine_);
        arguments[DNNL_ARG_DST_ITER] = memory(description.dst_iter_desc(), engine_);
    }

    Batch make(int texts) {
        const memory::desc source({length_, texts, embedding_}, type_, tag::tnc);
        const memory::desc kernel({1, 1, embedding_, gates(), hidden_}, type_, tag::any);
        const memory::desc recurrent_kernel({1, 1, hidden_, gates(), hidden_}, type_, tag::any);
        const memory::desc states({length_, texts, hidden_}, type_, tag::tnc);
        const memory::desc last({1, 1, texts, hidden_}, type_, tag::ldnc);
        const memory::desc last_cell({1, 1, texts, hidden_}, type::f32, tag::ldnc);
        const memory::desc bias = bias_.get_desc(), zeros;
        Batch made;
        if (cell_ == gru_after) {
            const dnnl::lbr_gru_forward::primitive_desc description(
                engine_, inference, direction, source, zeros, kernel, recurrent_kernel, bias,
                states, last);
            take(description, made);
            made.primitive = dnnl::lbr_gru_forward(description);
        } else if (cell_ == gru_before) {
            const dnnl::gru_forward::primitive_desc description(
                engine_, inference, direction, source, zeros, kernel, recurrent_kernel, bias,
                states, last);
            take(description, made);
            made.primitive = dnnl::gru_forward(description);
        } else if (cell_ == lstm) {
            const dnnl::lstm_forward::primitive_desc description(
                engine_, inference, direction, source, zeros, zeros, kernel, recurrent_kernel,
                bias, states, last, last_cell);
            take(description, made);
            made.arguments[DNNL_ARG_DST_ITER_C] = memory(last_cell, engine_);
            made.primitive = dnnl::lstm_forward(description);
        } else {
            const dnnl::vanilla_rnn_forward::primitive_desc description(
                engine_, inference, dnnl::algorithm::eltwise_tanh, direction, source, zeros,
                kernel, recurrent_kernel, bias, states, last);
            take(description, made);
            made.primitive = dnnl::vanilla_rnn_forward(description);
        }
        return made;
    }

    Cell cell_;
    type type_;
    int threads_, length_, embedding_, hidden_;
    std::vector<float> output_;
    float output_bias_;
    dnnl::engine engine_;
    dnnl::stream stream_;
    memory table_, kernel_, recurrent_kernel_, bias_;
    std::map<int, std::unique_ptr<Batch>> batches_;
};

thread_local std::string message;

template <class Work>
int guarded(Work work) {
    try {
        work();
        return 0;
    } catch (const std::exception& error) {
        message = error.what();
        return 1;
    }
}

}  // namespace

// Each returns 0, or 1 and leaves what went wrong in scorer_error().
extern "C" {

const char* scorer_error() { return message.c_str(); }

void scorer_version(char* text, int size) {
    const dnnl_version_t* found = dnnl_version();
    std::snprintf(text, size, "%d.%d.%d", found->major, found->minor, found->patch);
}

// Denormals are flushed in this thread and in those that it starts from now on.
void scorer_flush_denormals() {
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
}

int scorer_make(void** made, int cell, int bfloat16, int threads, int length, int vocabulary,
                int embedding, int hidden, const float* table, const float* kernel,
                const float* recurrent_kernel, const float* bias, const float* output,
                float output_bias) {
    return guarded([&] {
        *made = new Network(static_cast<Cell>(cell), bfloat16 != 0, threads, length, vocabulary,
                            embedding, hidden, table, kernel, recurrent_kernel, bias, output,
                            output_bias);
    });
}

int scorer_prepare(void* made, int texts, char* implementation, int size) {
    return guarded([&] {
        const Batch& batch = static_cast<Network*>(made)->batch(texts);
        std::snprintf(implementation, size, "%s", batch.implementation.c_str());
    });
}

int scorer_score(void* made, const int64_t* ids, int texts, float* logits) {
    return guarded([&] { static_cast<Network*>(made)->score(ids, texts, logits); });
}

}  // extern "C"
