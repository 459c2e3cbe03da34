// Cross attention: every channel of a pixel attends to its nine neighbours.

#include "vectors.h"

constexpr float LOG2_E = 1.44269504f;
// Of 2^r, from the constant up. Its largest relative error is 7.5e-8.
constexpr float POLYNOMIAL[6] = {1.00000007f,   0.693146967f,   0.240221197f,
                                 0.0555071327f, 0.00967554146f, 0.00132764721f};

static inline vec larger(vec a, vec b) { return a > b ? a : b; }

// 2^x for x up to 0: 2^n 2^r with |r| <= 1/2, and a minimax polynomial of 2^r, to about one unit in the last place.
static inline vec power_of_two(vec x) {
    x = larger(vec{} - 125.0f, x);  // NaN stays NaN
    const vec shifted = x + 12582912.0f;  // 1.5 * 2^23: the sum is rounded to a whole number
    const vec r = x - (shifted - 12582912.0f);
    vec p = r * POLYNOMIAL[5] + POLYNOMIAL[4];
    for (int k = 3; k >= 0; k--) p = p * r + POLYNOMIAL[k];
    return (vec)((ints)p + ((ints)shifted << 23));  // the low bits of `shifted` are n
}

struct Map {
    int height, width, channels, high, wide;  // a query stands for high x wide pixels
};

// The scores of a pixel's nine neighbours become weights, which are not divided by their sum yet.
struct Neighbours {
    const float* at[9];  // keys; values lie `channels` behind them. Outside of the map: zeros
    vec key[9], weight[9], inverse_sum;
    const float *zeros, *row[3];
    int step[3];  // from pixel to pixel; 0 for a row outside of the map

    void enter_row(const float* image, const Map& map, int y, int c) {
        for (int i = 0; i < 3; i++) {
            const int from = y + i - 1;
            const bool inside = from >= 0 && from < map.height;
            step[i] = inside ? 2 * map.channels : 0;
            row[i] = inside ? image + (size_t)from * map.width * step[i] + c : zeros;
        }
    }

    void find(const Map& map, int x) {
        for (int i = 0; i < 3; i++) {
            const float* middle = row[i] + (ptrdiff_t)x * step[i];
            at[3 * i] = x > 0 ? middle - step[i] : zeros;
            at[3 * i + 1] = middle;
            at[3 * i + 2] = x + 1 < map.width ? middle + step[i] : zeros;
        }
    }

    void weigh(vec q, const float* term, int channels, int lanes) {
        q *= LOG2_E;
        vec peak = {};
        for (int d = 0; d < 9; d++) {
            key[d] = load(at[d], lanes) + load(term + d * channels, lanes);
            weight[d] = q * key[d];
            peak = d ? larger(peak, weight[d]) : weight[d];
        }
        vec sum = {};
        for (int d = 0; d < 9; d++) {
            weight[d] = power_of_two(weight[d] - peak);
            sum += weight[d];
        }
        inverse_sum = 1.0f / sum;
    }
};

// q (B, H / high, W / wide, C), keys and values (B, H, W, 2 C), term (9, C), out (B, H, W, C).
extern "C" void attend(const float* q, const float* pairs, const float* term, float* out, int batch, int height,
                       int width, int channels, int high, int wide, int threads) {
    const Map map = {height, width, channels, high, wide};
    const size_t pixels = (size_t)height * width, queries = pixels / (high * wide);
    const std::vector<float> zeros(2 * channels + LANES);
#pragma omp parallel for num_threads(threads)
    for (int b = 0; b < batch; b++) {
        Neighbours near;
        near.zeros = zeros.data();
        for (int y = 0; y < height; y++) {
            for (int c = 0; c < channels; c += LANES) {
                const int lanes = lanes_at(c, channels);
                near.enter_row(pairs + b * pixels * 2 * channels, map, y, c);
                for (int x = 0; x < width; x++) {
                    const size_t query = b * queries + (size_t)(y / high) * (width / wide) + x / wide;
                    near.find(map, x);
                    near.weigh(load(q + query * channels + c, lanes), term + c, channels, lanes);
                    vec sum = {};
                    for (int d = 0; d < 9; d++) sum += near.weight[d] * load(near.at[d] + channels, lanes);
                    store(out + (b * pixels + (size_t)y * width + x) * channels + c, sum * near.inverse_sum, lanes);
                }
            }
        }
    }
}

// Gradients of q, of pairs and, for each image, of the term, (B, 9, C).
extern "C" void attend_backward(const float* grad, const float* q, const float* pairs, const float* term, float* d_q,
                                float* d_pairs, float* d_term, int batch, int height, int width, int channels,
                                int high, int wide, int threads) {
    const Map map = {height, width, channels, high, wide};
    const size_t pixels = (size_t)height * width, queries = pixels / (high * wide);
    const std::vector<float> zeros(2 * channels + LANES);
#pragma omp parallel for num_threads(threads)
    for (int b = 0; b < batch; b++) {
        const float* image = pairs + b * pixels * 2 * channels;
        float* d_image = d_pairs + b * pixels * 2 * channels;
        float* d_term_here = d_term + (size_t)b * 9 * channels;
        std::memset(d_image, 0, 4 * pixels * 2 * channels);
        std::memset(d_q + b * queries * channels, 0, 4 * queries * channels);
        std::memset(d_term_here, 0, 4 * 9 * channels);
        Neighbours near;
        near.zeros = zeros.data();
        for (int y = 0; y < height; y++) {
            for (int c = 0; c < channels; c += LANES) {
                const int lanes = lanes_at(c, channels);
                near.enter_row(image, map, y, c);
                vec of_term[9] = {};
                for (int x = 0; x < width; x++) {
                    const size_t query = b * queries + (size_t)(y / high) * (width / wide) + x / wide;
                    const vec from = load(q + query * channels + c, lanes);
                    near.find(map, x);
                    near.weigh(from, term + c, channels, lanes);
                    const vec g = load(grad + (b * pixels + (size_t)y * width + x) * channels + c, lanes);
                    const vec scaled = g * near.inverse_sum;
                    vec slope[9], mean = {}, d_from = {};
                    for (int d = 0; d < 9; d++) {
                        slope[d] = g * load(near.at[d] + channels, lanes);
                        mean += near.weight[d] * slope[d];
                    }
                    mean *= near.inverse_sum;
                    for (int d = 0; d < 9; d++) {
                        const vec d_score = near.weight[d] * near.inverse_sum * (slope[d] - mean);
                        const vec d_key = d_score * from;
                        d_from += d_score * near.key[d];
                        of_term[d] += d_key;
                        if (near.at[d] == zeros.data()) continue;
                        float* to = d_image + (near.at[d] - image);
                        add_to(to, d_key, lanes);
                        add_to(to + channels, near.weight[d] * scaled, lanes);
                    }
                    add_to(d_q + query * channels + c, d_from, lanes);
                }
                for (int d = 0; d < 9; d++) add_to(d_term_here + d * channels + c, of_term[d], lanes);
            }
        }
    }
}
