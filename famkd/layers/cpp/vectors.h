// Vectors of neighbouring channels of one pixel, in maps (B, H, W, C) of float32.
//
// Each image is computed by one thread, and nothing is summed over images, so results do not depend on the number of
// threads.

#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int ints __attribute__((vector_size(4 * LANES)));

static inline int lanes_at(int c, int channels) { return channels - c < LANES ? channels - c : LANES; }

static inline int blocks(int channels) { return (channels + LANES - 1) / LANES; }

// The last channels of a pixel may not fill a vector.
__attribute__((noinline)) static vec load_some(const float* from, int lanes) {
    vec value = {};
    std::memcpy(&value, from, 4 * lanes);
    return value;
}

__attribute__((noinline)) static void store_some(float* to, vec value, int lanes) {
    std::memcpy(to, &value, 4 * lanes);
}

static inline vec load(const float* from, int lanes) {
    if (__builtin_expect(lanes != LANES, 0)) return load_some(from, lanes);
    vec value;
    std::memcpy(&value, from, sizeof(vec));
    return value;
}

static inline void store(float* to, vec value, int lanes) {
    if (__builtin_expect(lanes != LANES, 0)) return store_some(to, value, lanes);
    std::memcpy(to, &value, sizeof(vec));
}

static inline void add_to(float* to, vec value, int lanes) { store(to, load(to, lanes) + value, lanes); }
