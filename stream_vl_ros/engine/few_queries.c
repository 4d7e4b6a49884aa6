// Attention of few queries over many keys, float32: reads keys and values once, as fast as memory gives them.
//
// The kernel is compiled for two generations of processors; few_queries_lanes tells which one is for this one. Of others,
// ARM for one, nobody knows whether it would be faster, so there is none for them.

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define BUILT 1
#endif

#define MAX_QUERIES 64
#define MAX_DIM 128

typedef struct {
    const float *query;   // (heads, queries, dim), times the scale
    const float *key;     // (heads, tokens, dim), `key_stride` floats from head to head
    const float *value;   // likewise
    float *out;           // (heads, splits, queries, dim)
    float *lse;           // (heads, splits, queries)
    int64_t heads, queries, tokens, dim, key_stride, value_stride;
    int64_t splits;       // pieces of the tokens, each with a softmax of its own
    int64_t next;         // piece that nobody has taken yet; 0 at first
} few_queries_job;

typedef float eight_floats __attribute__((vector_size(32)));
typedef float four_floats __attribute__((vector_size(16)));

#ifdef BUILT
#define INLINE static inline __attribute__((always_inline))
#define GLUED(a, b) a##b
#define GLUE(a, b) GLUED(a, b)
#define NAME(name) GLUE(name, LANES)

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")
#define LANES 16
#include "few_queries_kernel.h"
#undef LANES
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define LANES 8
#include "few_queries_kernel.h"
#pragma GCC pop_options

static int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#endif

// Floats in a register of this processor: 16 or 8; 0 if there is no kernel for it.
int few_queries_lanes(void) {
#ifdef BUILT
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return has_avx512() ? 16 : 8;
#endif
    return 0;
}

// Once all pieces are done: joins those of each head by their log-sum-exps, into the first of them.
void few_queries_join(const few_queries_job *job) {
    const int64_t size = job->queries * job->dim;
    for (int64_t head = 0; head < job->heads; head++)
        for (int64_t g = 0; g < job->queries; g++) {
            float *out = job->out + head * job->splits * size + g * job->dim;
            float *lse = job->lse + head * job->splits * job->queries + g;
            float highest = -INFINITY, total = 0;
            for (int64_t s = 0; s < job->splits; s++)
                highest = fmaxf(highest, lse[s * job->queries]);
            for (int64_t s = 0; s < job->splits; s++)
                total += expf(lse[s * job->queries] - highest);
            const float joined = highest + logf(total);
            for (int64_t s = 0; s < job->splits; s++) {
                const float weight = expf(lse[s * job->queries] - joined);
                for (int64_t d = 0; d < job->dim; d++)
                    out[d] = (s ? out[d] : 0) + weight * out[s * size + d];
            }
            lse[0] = joined;
        }
}
