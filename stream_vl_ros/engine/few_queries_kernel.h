// The kernel of few_queries.c for registers of LANES floats: the online softmax of FlashAttention (arXiv 2205.14135),
// block by block of keys.

#define BLOCK 64                // keys at a time: they and their values stay in the first-level cache for all queries
#define NARROW(dim) ((dim) / 8) // up to so many queries are taken two by two
#define KEYS_AT 8               // scores of so many keys at a time; divides BLOCK
#define QUERIES_AT 4            // values are added up for so many queries,
#define PARTS_AT 4              // and for so many registers of a row, at a time

typedef float NAME(lanes_) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define lanes NAME(lanes_)

INLINE float NAME(sum_of_)(lanes x) {
    eight_floats low;
    memcpy(&low, &x, sizeof low);
#if LANES == 16
    eight_floats high;
    memcpy(&high, (const char *)&x + sizeof low, sizeof high);
    low += high;
#endif
    four_floats first, second;
    memcpy(&first, &low, sizeof first);
    memcpy(&second, (const char *)&low + sizeof first, sizeof second);
    first += second;
    return (first[0] + first[2]) + (first[1] + first[3]);
}

// Two queries share each load of a key; an odd one is its own partner.
INLINE void NAME(scores_)(const float *query, const float *key, float *restrict scores, int tokens, int dim,
                          int queries) {
    for (int g = 0; g < queries; g += 2) {
        const int partner = g + 1 < queries ? g + 1 : g;
        lanes a[MAX_DIM / LANES], b[MAX_DIM / LANES];
        for (int p = 0; p < dim / LANES; p++) {
            a[p] = *(const lanes *)(query + g * dim + LANES * p);
            b[p] = *(const lanes *)(query + partner * dim + LANES * p);
        }
        for (int j = 0; j < tokens; j++) {
            const float *row = key + (int64_t)j * dim;
            lanes s = {0}, t = {0};
            for (int p = 0; p < dim / LANES; p++) {
                const lanes x = *(const lanes *)(row + LANES * p);
                s += a[p] * x;
                t += b[p] * x;
            }
            scores[g * BLOCK + j] = NAME(sum_of_)(s);
            scores[partner * BLOCK + j] = NAME(sum_of_)(t);
        }
    }
}

// Sums of a block begin at 0: over thousands of keys they would lose digits.
INLINE void NAME(add_values_)(const float *weights, const float *value, float *restrict out, int tokens, int dim,
                              int queries) {
    for (int g = 0; g < queries; g += 2) {
        const int partner = g + 1 < queries ? g + 1 : g;
        lanes a[MAX_DIM / LANES], b[MAX_DIM / LANES];
        for (int p = 0; p < dim / LANES; p++)
            a[p] = b[p] = (lanes){0};
        for (int j = 0; j < tokens; j++) {
            const float *row = value + (int64_t)j * dim;
            const float s = weights[g * BLOCK + j], t = weights[partner * BLOCK + j];
            for (int p = 0; p < dim / LANES; p++) {
                const lanes x = *(const lanes *)(row + LANES * p);
                a[p] += s * x;
                b[p] += t * x;
            }
        }
        for (int p = 0; p < dim / LANES; p++) {
            *(lanes *)(out + g * dim + LANES * p) += a[p];
            if (partner != g)
                *(lanes *)(out + partner * dim + LANES * p) += b[p];
        }
    }
}

// exp for what is not above 0, as in Cephes (S. Moshier): 2^n times a polynomial, relative error below 2e-7. What is
// below exp(-87) counts as that.
INLINE float NAME(weight_)(float x) {
    x = x < -87.f ? -87.f : x;
    const float n = (x * 1.44269504f + 12582912.f) - 12582912.f; // rounded to a whole number
    const float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    float power;
    const int32_t bits = ((int32_t)n + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    return (p * r * r + r + 1.f) * power;
}

// A query has met a higher score: what was summed up before counts less.
INLINE void NAME(raise_)(float *restrict out, float *top, float *total, float highest, int dim) {
    if (highest > *top) {
        const float shrink = expf(*top - highest);
        for (int d = 0; d < dim; d++)
            out[d] *= shrink;
        *total *= shrink;
        *top = highest;
    }
}

// Few queries: memory is what takes time.
INLINE void NAME(narrow_)(const float *query, const float *key, const float *value, float *restrict out,
                          float *restrict lse, int64_t tokens, int dim, int queries) {
    float scores[NARROW(MAX_DIM) * BLOCK], top[NARROW(MAX_DIM)], total[NARROW(MAX_DIM)];
    for (int g = 0; g < queries; g++) {
        top[g] = -INFINITY;
        total[g] = 0;
    }
    memset(out, 0, sizeof(float) * queries * dim);
    for (int64_t first = 0; first < tokens; first += BLOCK) {
        const int count = tokens - first < BLOCK ? (int)(tokens - first) : BLOCK;
        NAME(scores_)(query, key + first * dim, scores, count, dim, queries);
        for (int g = 0; g < queries; g++) {
            float *row = scores + g * BLOCK, highest = top[g], sum = 0;
#pragma omp simd reduction(max : highest)
            for (int j = 0; j < count; j++)
                highest = row[j] > highest ? row[j] : highest;
            NAME(raise_)(out + g * dim, top + g, total + g, highest, dim);
#pragma omp simd reduction(+ : sum)
            for (int j = 0; j < count; j++) {
                row[j] = NAME(weight_)(row[j] - highest);
                sum += row[j];
            }
            total[g] += sum;
        }
        NAME(add_values_)(scores, value + first * dim, out, count, dim, queries);
    }
    for (int g = 0; g < queries; g++) {
        for (int d = 0; d < dim; d++)
            out[g * dim + d] /= total[g];
        lse[g] = top[g] + logf(total[g]);
    }
}

// More of them: LANES queries lie side by side, so that no sum goes across a register. With registers of 8 floats PyTorch
// is as fast.
#if LANES == 16
INLINE void NAME(scores_of_tile_)(const float *tile, const float *key, float *restrict scores, int tokens, int dim) {
    for (int j = 0; j < tokens; j += KEYS_AT) {
        lanes sums[KEYS_AT];
        const float *rows[KEYS_AT];
        for (int i = 0; i < KEYS_AT; i++) {
            sums[i] = (lanes){0};
            rows[i] = key + (int64_t)(j + i < tokens ? j + i : tokens - 1) * dim;
        }
        for (int d = 0; d < dim; d++) {
            const lanes x = *(const lanes *)(tile + d * LANES);
            for (int i = 0; i < KEYS_AT; i++)
                sums[i] += x * rows[i][d];
        }
        for (int i = 0; i < KEYS_AT; i++)
            *(lanes *)(scores + (j + i) * LANES) = sums[i];
    }
}

INLINE void NAME(add_values_of_tile_)(const float *weights, const float *value, float *restrict out, int tokens,
                                      int dim) {
    for (int g = 0; g < LANES; g += QUERIES_AT)
        for (int d = 0; d < dim; d += PARTS_AT * LANES) {
            lanes sums[QUERIES_AT][PARTS_AT];
            for (int i = 0; i < QUERIES_AT; i++)
                for (int p = 0; p < PARTS_AT; p++)
                    sums[i][p] = (lanes){0};
            for (int j = 0; j < tokens; j++) {
                const float *row = value + (int64_t)j * dim + d, *w = weights + j * LANES + g;
                for (int p = 0; p < PARTS_AT; p++) {
                    const lanes x = *(const lanes *)(row + LANES * p);
                    for (int i = 0; i < QUERIES_AT; i++)
                        sums[i][p] += w[i] * x;
                }
            }
            for (int i = 0; i < QUERIES_AT; i++)
                for (int p = 0; p < PARTS_AT; p++)
                    *(lanes *)(out + (g + i) * dim + d + LANES * p) += sums[i][p];
        }
}

INLINE void NAME(wide_)(const float *query, const float *key, const float *value, float *restrict out,
                        float *restrict lse, int64_t tokens, int dim, int queries) {
    const int tiles = (queries + LANES - 1) / LANES;
    float turned[MAX_QUERIES * MAX_DIM], mixed[MAX_QUERIES * MAX_DIM];
    float scores[BLOCK * LANES], top[MAX_QUERIES], total[MAX_QUERIES];
    for (int g = 0; g < tiles * LANES; g++) {
        top[g] = -INFINITY;
        total[g] = 0;
        for (int d = 0; d < dim; d++) {
            turned[(g / LANES * dim + d) * LANES + g % LANES] = g < queries ? query[g * dim + d] : 0;
            mixed[g * dim + d] = 0;
        }
    }
    for (int64_t first = 0; first < tokens; first += BLOCK) {
        const int count = tokens - first < BLOCK ? (int)(tokens - first) : BLOCK;
        for (int t = 0; t < tiles; t++) {
            float highest[LANES], sums[LANES] = {0}, *tile_out = mixed + t * LANES * dim;
            NAME(scores_of_tile_)(turned + t * LANES * dim, key + first * dim, scores, count, dim);
            memcpy(highest, top + t * LANES, sizeof highest);
            for (int j = 0; j < count; j++)
#pragma omp simd
                for (int l = 0; l < LANES; l++) {
                    const float x = scores[j * LANES + l];
                    highest[l] = x > highest[l] ? x : highest[l];
                }
            for (int l = 0; l < LANES; l++)
                NAME(raise_)(tile_out + l * dim, top + t * LANES + l, total + t * LANES + l, highest[l], dim);
            for (int j = 0; j < count; j++)
#pragma omp simd
                for (int l = 0; l < LANES; l++) {
                    const float x = NAME(weight_)(scores[j * LANES + l] - highest[l]);
                    scores[j * LANES + l] = x;
                    sums[l] += x;
                }
            for (int l = 0; l < LANES; l++)
                total[t * LANES + l] += sums[l];
            NAME(add_values_of_tile_)(scores, value + first * dim, tile_out, count, dim);
        }
    }
    for (int g = 0; g < queries; g++) {
        for (int d = 0; d < dim; d++)
            out[g * dim + d] = mixed[g * dim + d] / total[g];
        lse[g] = top[g] + logf(total[g]);
    }
}

#endif

INLINE void NAME(attend_)(const float *query, const float *key, const float *value, float *out, float *lse,
                          int64_t tokens, int dim, int queries) {
#if LANES == 16
    if (queries > NARROW(dim)) {
        NAME(wide_)(query, key, value, out, lse, tokens, dim, queries);
        return;
    }
#endif
    NAME(narrow_)(query, key, value, out, lse, tokens, dim, queries);
}

// Takes pieces of a job until there are none left. Any number of threads may call it.
void NAME(few_queries_attend_)(few_queries_job *job) {
    const int64_t share = (job->tokens + job->splits - 1) / job->splits, units = job->heads * job->splits;
    for (int64_t unit; (unit = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < units;) {
        const int64_t head = unit / job->splits, first = unit % job->splits * share;
        const int64_t last = first + share < job->tokens ? first + share : job->tokens;
        const float *query = job->query + head * job->queries * job->dim;
        const float *key = job->key + head * job->key_stride + first * job->dim;
        const float *value = job->value + head * job->value_stride + first * job->dim;
        float *out = job->out + unit * job->queries * job->dim, *lse = job->lse + unit * job->queries;
        // Loops of known length are unrolled.
        if (job->dim == 64)
            NAME(attend_)(query, key, value, out, lse, last - first, 64, (int)job->queries);
        else
            NAME(attend_)(query, key, value, out, lse, last - first, 128, (int)job->queries);
    }
}

#undef lanes
#undef BLOCK
#undef NARROW
#undef QUERIES_AT
#undef KEYS_AT
#undef PARTS_AT
