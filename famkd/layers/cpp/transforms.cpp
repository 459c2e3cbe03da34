// Fourier transforms of maps: sums over one axis, then over the other.

#include "vectors.h"

// out[i] = sum_k matrix[i][k] in[k] for pairs of vectors.
static void product(const float* matrix, int rows, int terms, const vec* in, vec* out) {
    int i = 0;
    for (; i + 4 <= rows; i += 4) {
        const float* m = matrix + (size_t)i * terms;
        vec sums[8] = {};
        for (int k = 0; k < terms; k++) {
            for (int j = 0; j < 4; j++) {
                sums[2 * j] += m[j * terms + k] * in[2 * k];
                sums[2 * j + 1] += m[j * terms + k] * in[2 * k + 1];
            }
        }
        for (int j = 0; j < 8; j++) out[2 * i + j] = sums[j];
    }
    for (; i < rows; i++) {
        vec first = {}, second = {};
        for (int k = 0; k < terms; k++) {
            first += matrix[(size_t)i * terms + k] * in[2 * k];
            second += matrix[(size_t)i * terms + k] * in[2 * k + 1];
        }
        out[2 * i] = first;
        out[2 * i + 1] = second;
    }
}

// Cosines and sines of an axis of n points, both (n / 2 + 1, n / 2 + 1).
struct Axis {
    int n, half;
    const float *cosines, *sines;
    std::vector<vec> even, odd, by_cosine, by_sine;

    Axis(int n, const float* tables)
        : n(n), half(n / 2 + 1), cosines(tables), sines(tables + half * half), even(2 * half), odd(2 * half),
          by_cosine(2 * half), by_sine(2 * half) {}

    // Sums of a pair of series times the cosines and times the sines. The terms k and n - k are added up first.
    void transform(const vec* pairs) {
        for (int k = 0; k < half; k++) {
            const int mirror = (n - k) % n;
            for (int j = 0; j < 2; j++) {
                const vec one = pairs[2 * k + j], other = pairs[2 * mirror + j];
                even[2 * k + j] = mirror == k ? one : one + other;
                odd[2 * k + j] = one - other;
            }
        }
        product(cosines, half, half, even.data(), by_cosine.data());
        product(sines, half, half, odd.data(), by_sine.data());
    }

    // The complex transform of a series of (re, im), in place; sign -1 is the DFT, +1 its inverse.
    void turn(vec* series, float sign) {
        transform(series);
        for (int u = 0; u < half; u++) {
            const int mirror = (n - u) % n;
            const vec re = by_cosine[2 * u], im = by_cosine[2 * u + 1];
            const vec cross_re = sign * by_sine[2 * u + 1], cross_im = sign * by_sine[2 * u];
            series[2 * u] = re - cross_re;
            series[2 * u + 1] = im + cross_im;
            if (mirror == u) continue;
            series[2 * mirror] = re + cross_re;
            series[2 * mirror + 1] = im - cross_im;
        }
    }

    // Write two lines of a map from the sums of their waves: the differences forwards, the sums mirrored.
    void store_both_ways(float* image, int y, int next, int channels, int lanes) const {
        for (int i = 0; i < half; i++) {
            const int mirror = (n - i) % n;
            for (int j = 0; j <= next - y; j++) {
                float* line = image + (size_t)(y + j) * n * channels;
                const vec sum = by_cosine[2 * i + j], cross = by_sine[2 * i + j];
                store(line + (size_t)i * channels, sum - cross, lanes);
                if (mirror != i) store(line + (size_t)mirror * channels, sum + cross, lanes);
            }
        }
    }
};

struct Shape {
    int batch, height, width, channels;
};

// Where a frequency of an image begins in (F, B, 2, C), or in (F, B, 2, 2, C), the products of both parts.
static inline size_t place(const Shape& s, int f, int b, int products) {
    return ((size_t)f * s.batch + b) * (products ? 4 : 2) * s.channels;
}

// The half spectrum of maps x (B, H, W, C) times `scale` (F). `products` writes what the four products of a complex
// multiplication receive as gradient.
extern "C" void spectrum(const float* x, const float* scale, const float* tables, float* out, int batch, int height,
                         int width, int channels, int products, int threads) {
    const Shape shape = {batch, height, width, channels};
    const int columns = width / 2 + 1, rows = height / 2 + 1;
#pragma omp parallel num_threads(threads)
    {
        Axis down(height, tables), across(width, tables + 2 * rows * rows);
        std::vector<vec> row(2 * width), half((size_t)blocks(channels) * columns * height * 2);
#pragma omp for
        for (int b = 0; b < batch; b++) {
            const float* image = x + (size_t)b * height * width * channels;
            for (int y = 0; y < height; y += 2) {
                const int next = y + 1 < height ? y + 1 : y;
                for (int c = 0; c < channels; c += LANES) {
                    const int lanes = lanes_at(c, channels);
                    for (int i = 0; i < width; i++) {
                        row[2 * i] = load(image + ((size_t)y * width + i) * channels + c, lanes);
                        row[2 * i + 1] = load(image + ((size_t)next * width + i) * channels + c, lanes);
                    }
                    across.transform(row.data());
                    for (int v = 0; v < columns; v++) {
                        vec* column = half.data() + (size_t)(c / LANES * columns + v) * height * 2;
                        for (int j = 0; j <= next - y; j++) {
                            column[2 * (y + j)] = across.by_cosine[2 * v + j];
                            column[2 * (y + j) + 1] = -across.by_sine[2 * v + j];
                        }
                    }
                }
            }
            for (int v = 0; v < columns; v++) {
                for (int c = 0; c < channels; c += LANES) {
                    const int lanes = lanes_at(c, channels);
                    vec* column = half.data() + (size_t)(c / LANES * columns + v) * height * 2;
                    down.turn(column, -1.0f);
                    for (int u = 0; u < height; u++) {
                        const int f = u * columns + v;
                        const vec re = column[2 * u] * scale[f], im = column[2 * u + 1] * scale[f];
                        float* to = out + place(shape, f, b, products) + c;
                        store(to, re, lanes);
                        store(to + channels, im, lanes);
                        if (!products) continue;
                        store(to + 2 * channels, im, lanes);
                        store(to + 3 * channels, -re, lanes);
                    }
                }
            }
        }
    }
}

// Maps (B, H, W, C) as the sum of the waves of a half spectrum times `scale` (F): the transpose of `spectrum`.
extern "C" void waves(const float* in, const float* scale, const float* tables, float* out, int batch, int height,
                      int width, int channels, int products, int threads) {
    const Shape shape = {batch, height, width, channels};
    const int columns = width / 2 + 1, rows = height / 2 + 1;
#pragma omp parallel num_threads(threads)
    {
        Axis down(height, tables), across(width, tables + 2 * rows * rows);
        std::vector<vec> column(2 * height), lines((size_t)blocks(channels) * (height + 1) * columns * 2);
        std::vector<vec> real(2 * columns), imaginary(2 * columns);
#pragma omp for
        for (int b = 0; b < batch; b++) {
            for (int v = 0; v < columns; v++) {
                for (int c = 0; c < channels; c += LANES) {
                    const int lanes = lanes_at(c, channels);
                    for (int u = 0; u < height; u++) {
                        const int f = u * columns + v;
                        const float* from = in + place(shape, f, b, products) + c;
                        vec re = load(from, lanes), im = load(from + channels, lanes);
                        if (products) {
                            re -= load(from + 3 * channels, lanes);
                            im += load(from + 2 * channels, lanes);
                        }
                        column[2 * u] = re * scale[f];
                        column[2 * u + 1] = im * scale[f];
                    }
                    down.turn(column.data(), 1.0f);
                    for (int y = 0; y < height; y++) {
                        vec* line = lines.data() + ((size_t)(c / LANES * height + y) * columns + v) * 2;
                        line[0] = column[2 * y];
                        line[1] = column[2 * y + 1];
                    }
                }
            }
            for (int y = 0; y < height; y += 2) {
                const int next = y + 1 < height ? y + 1 : y;
                for (int c = 0; c < channels; c += LANES) {
                    const vec* one = lines.data() + (size_t)(c / LANES * height + y) * columns * 2;
                    const vec* other = one + (size_t)(next - y) * columns * 2;
                    for (int v = 0; v < columns; v++) {
                        real[2 * v] = one[2 * v];
                        real[2 * v + 1] = other[2 * v];
                        imaginary[2 * v] = one[2 * v + 1];
                        imaginary[2 * v + 1] = other[2 * v + 1];
                    }
                    product(across.cosines, columns, columns, real.data(), across.by_cosine.data());
                    product(across.sines, columns, columns, imaginary.data(), across.by_sine.data());
                    float* image = out + (size_t)b * height * width * channels + c;
                    across.store_both_ways(image, y, next, channels, lanes_at(c, channels));
                }
            }
        }
    }
}
