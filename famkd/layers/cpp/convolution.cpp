// 3x3 convolutions of stride 1 by Winograd's algorithm F(4x4, 3x3): Lavin and Gray, Fast Algorithms for Convolutional
// Neural Networks, CVPR 2016.
//
// A tile of 6 x 6 pixels and a filter are each transformed to 36 points. Their products at a point, summed over
// channels, are transformed back to 4 x 4 pixels of the output. That is 36 products in place of 144.

#include <algorithm>

#include "vectors.h"

constexpr int POINTS = 36;
constexpr int BLOCK = 48;  // tiles that are in the cache together
constexpr int PANEL = 16;  // channels that lie together: an array of rows is stored as panels (row, 16)
constexpr int VECTORS = PANEL / LANES;
constexpr int ROWS = VECTORS == 1 ? 8 : 4;  // of a product that are summed in registers

struct Maps {
    int batch, height, width, channels;

    int across() const { return (width + 3) / 4; }
    int tiles_of_image() const { return (height + 3) / 4 * across(); }
    int tiles() const { return batch * tiles_of_image(); }
    // From point to point. The sixteen keep the points from meeting in one set of the cache.
    size_t point() const { return (size_t)BLOCK * channels + 16; }
};

// Six pixels of the input to six points
struct FromInput {
    static constexpr int from = 6, to = 6, margin = 1;
    static inline void line(const vec* x, vec* p) {
        const vec a = x[4] - 4.0f * x[2], b = x[3] - 4.0f * x[1], c = x[4] - x[2], d = 2.0f * (x[3] - x[1]);
        p[0] = 4.0f * x[0] - 5.0f * x[2] + x[4];
        p[1] = a + b;
        p[2] = a - b;
        p[3] = c + d;
        p[4] = c - d;
        p[5] = 4.0f * x[1] - 5.0f * x[3] + x[5];
    }
};

// Six points to four pixels of the output
struct ToOutput {
    static constexpr int from = 6, to = 4;
    static inline void line(const vec* p, vec* y) {
        const vec a = p[1] + p[2], b = p[1] - p[2], c = p[3] + p[4], d = p[3] - p[4];
        y[0] = p[0] + a + c;
        y[1] = b + 2.0f * d;
        y[2] = a + 4.0f * c;
        y[3] = b + 8.0f * d + p[5];
    }
};

// The transpose of ToOutput, for the gradient of the output
struct FromOutput {
    static constexpr int from = 4, to = 6, margin = 0;
    static inline void line(const vec* y, vec* p) {
        const vec a = y[0] + y[2], b = y[1] + y[3], c = y[0] + 4.0f * y[2], d = 2.0f * (y[1] + 4.0f * y[3]);
        p[0] = y[0];
        p[1] = a + b;
        p[2] = a - b;
        p[3] = c + d;
        p[4] = c - d;
        p[5] = y[3];
    }
};

// Both axes of a tile. `at(y, x)` gives a value of it, and `put(y, x, value)` takes one of the result.
template <class Line, class At, class Put>
__attribute__((always_inline)) static inline void transform(At at, Put put) {
    vec half[Line::to][Line::from];
#pragma GCC unroll 6
    for (int x = 0; x < Line::from; x++) {
        vec from[Line::from], to[Line::to];
#pragma GCC unroll 6
        for (int y = 0; y < Line::from; y++) from[y] = at(y, x);
        Line::line(from, to);
#pragma GCC unroll 6
        for (int y = 0; y < Line::to; y++) half[y][x] = to[y];
    }
#pragma GCC unroll 6
    for (int y = 0; y < Line::to; y++) {
        vec to[Line::to];
        Line::line(half[y], to);
#pragma GCC unroll 6
        for (int x = 0; x < Line::to; x++) put(y, x, to[x]);
    }
}

struct Tile {
    const Maps& maps;
    int image, top, left;

    Tile(const Maps& maps, int tile) : maps(maps) {
        const int place = tile % maps.tiles_of_image();
        image = tile / maps.tiles_of_image();
        top = 4 * (place / maps.across());
        left = 4 * (place % maps.across());
    }
    bool holds(int y, int x) const { return y >= 0 && y < maps.height && x >= 0 && x < maps.width; }
    bool holds_all(int margin) const {
        return holds(top - margin, left - margin) && holds(top + 3 + margin, left + 3 + margin);
    }
    ptrdiff_t pixel(int y, int x) const {
        return (((ptrdiff_t)image * maps.height + y) * maps.width + x) * maps.channels;
    }
};

// The points of one tile, as row `row` of the panels of each point. Pixels outside of the map are zero.
template <class Line>
static void enter(const Maps& maps, const float* from, int tile, int row, const float* zeros, float* points) {
    const Tile here(maps, tile);
    const int top = here.top - Line::margin, left = here.left - Line::margin;
    const bool inside = here.holds_all(Line::margin);
    const float* pixels[Line::from][Line::from];
    for (int y = 0; y < Line::from && !inside; y++) {
        for (int x = 0; x < Line::from; x++)
            pixels[y][x] = here.holds(top + y, left + x) ? from + here.pixel(top + y, left + x) : zeros;
    }
    const float* first = from + here.pixel(top, left);
    const int down = maps.width * maps.channels;
    for (int c = 0; c < maps.channels; c += LANES) {
        float* to = points + ((size_t)(c / PANEL) * BLOCK + row) * PANEL + c % PANEL;
        const auto put = [&](int y, int x, vec value) { store(to + (6 * y + x) * maps.point(), value, LANES); };
        if (inside)
            transform<Line>([&](int y, int x) { return load(first + y * down + x * maps.channels + c, LANES); }, put);
        else
            transform<Line>([&](int y, int x) { return load(pixels[y][x] + c, LANES); }, put);
    }
}

static void leave(const Maps& maps, const float* points, int tile, int row, const float* bias, float* to) {
    const Tile here(maps, tile);
    const bool inside = here.holds_all(0);
    float* first = to + here.pixel(here.top, here.left);
    const int down = maps.width * maps.channels;
    for (int c = 0; c < maps.channels; c += LANES) {
        const float* from = points + ((size_t)(c / PANEL) * BLOCK + row) * PANEL + c % PANEL;
        const vec added = load(bias + c, LANES);
        transform<ToOutput>([&](int y, int x) { return load(from + (6 * y + x) * maps.point(), LANES); },
                            [&](int y, int x, vec value) {
                                if (inside || here.holds(here.top + y, here.left + x))
                                    store(first + y * down + x * maps.channels + c, value + added, LANES);
                            });
    }
}

// ROWS rows of a product, sum over d of left(row, d) right(d, panel). `left` has `parts` parts of `depth` columns.
struct Left {
    int row, column, part;  // steps
    int depth, parts;
};

static inline void product(const float* left, const Left& step, const float* right, float* out, bool add) {
    vec sum[ROWS][VECTORS] = {};
    for (int part = 0; part < step.parts; part++) {
        const float* from = left + (size_t)part * step.part;
        for (int d = 0; d < step.depth; d++, right += PANEL) {
            vec panel[VECTORS];
            for (int v = 0; v < VECTORS; v++) panel[v] = load(right + v * LANES, LANES);
            for (int r = 0; r < ROWS; r++) {
                const float factor = from[r * step.row + d * step.column];
                for (int v = 0; v < VECTORS; v++) sum[r][v] += factor * panel[v];
            }
        }
    }
    for (int r = 0; r < ROWS; r++) {
        for (int v = 0; v < VECTORS; v++) {
            float* to = out + r * PANEL + v * LANES;
            store(to, add ? sum[r][v] + load(to, LANES) : sum[r][v], LANES);
        }
    }
}

// Maps (B, H, W, C) to (B, H, W, K) with padding 1. The weight is at its points: (36, K / 16, C, 16).
extern "C" void convolve(const float* in, const float* weight, const float* bias, float* out, int batch, int height,
                         int width, int channels, int outputs, int threads) {
    const Maps from = {batch, height, width, channels}, to = {batch, height, width, outputs};
    const Left step = {PANEL, 1, BLOCK * PANEL, PANEL, channels / PANEL};
    const std::vector<float> zeros(channels);
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> entered(POINTS * from.point()), summed(POINTS * to.point());
#pragma omp for
        for (int first = 0; first < from.tiles(); first += BLOCK) {
            const int tiles = std::min(BLOCK, from.tiles() - first);
            for (int t = 0; t < tiles; t++)
                enter<FromInput>(from, in, first + t, t, zeros.data(), entered.data());
            for (int p = 0; p < POINTS; p++) {
                for (int k = 0; k < outputs; k += PANEL) {
                    const float* panel = weight + ((size_t)p * outputs + k) * channels;
                    for (int t = 0; t < tiles; t += ROWS)
                        product(entered.data() + p * from.point() + t * PANEL, step, panel,
                                summed.data() + p * to.point() + (size_t)k * BLOCK + t * PANEL, false);
                }
            }
            for (int t = 0; t < tiles; t++) leave(to, summed.data(), first + t, t, bias, out);
        }
    }
}

// The gradient of the weight at its points, from the input and the gradient of the output. Threads share the points, so
// that each sum is taken in one order.
extern "C" void convolve_weight(const float* in, const float* grad, float* d_weight, int batch, int height, int width,
                                int channels, int outputs, int threads) {
    const Maps from = {batch, height, width, channels}, to = {batch, height, width, outputs};
    const std::vector<float> zeros(std::max(channels, outputs));
    std::vector<float> entered(POINTS * from.point()), entered_grad(POINTS * to.point());
#pragma omp parallel num_threads(threads)
    for (int first = 0; first < from.tiles(); first += BLOCK) {
        const int tiles = std::min(BLOCK, from.tiles() - first);
        const Left step = {1, PANEL, 0, tiles, 1};
#pragma omp for
        for (int t = 0; t < tiles; t++) {
            enter<FromInput>(from, in, first + t, t, zeros.data(), entered.data());
            enter<FromOutput>(to, grad, first + t, t, zeros.data(), entered_grad.data());
        }
#pragma omp for
        for (int p = 0; p < POINTS; p++) {
            for (int k = 0; k < outputs; k += PANEL) {
                const float* panel = entered_grad.data() + p * to.point() + (size_t)k * BLOCK;
                float* sums = d_weight + ((size_t)p * outputs + k) * channels;
                for (int c = 0; c < channels; c += ROWS)
                    product(entered.data() + p * from.point() + (size_t)(c - c % PANEL) * BLOCK + c % PANEL, step, panel,
                            sums + c * PANEL, first > 0);
            }
        }
    }
}
