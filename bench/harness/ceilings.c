#include "bench/harness/ceilings.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/threads.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAVE_AVX2_BODY 1
#else
#define HAVE_AVX2_BODY 0
#endif

enum {
	MAX_THREADS = 4096,
	CACHE_LINE = 64,
	FMA_ITERATIONS = 1000000, /* 2 ms or more, so that the time to wake a thread is small beside it */
	/* An FMA takes 4 cycles and two start in each, so 8 sums must be open; 12 leave room for a slower machine. */
	N_SUMS = 12,
	LANES = 8,
};

/* Storing a result keeps the compiler from dropping the work. Each thread writes to its own cache line. */
struct sink {
	float value;
	char padding[CACHE_LINE - sizeof(float)];
};

struct tt_ceilings {
	struct tt_threads *threads;
	uint32_t n_threads;
	size_t n_floats;        /* for each thread and buffer */
	float *source, *target; // [n_threads][n_floats]
	struct sink *sinks;     // [n_threads]
	bool avx2, avx512;
};

/* ---- One thread's part ---- */

/* Without AVX2 the product and the sum round separately, as in the portable kernels. */
static float fma_portable(float start)
{
	float sums[N_SUMS * LANES], total = 0;
	for (int i = 0; i < N_SUMS * LANES; i++)
		sums[i] = start + (float)i;
	for (int n = 0; n < FMA_ITERATIONS; n++)
		for (int i = 0; i < N_SUMS * LANES; i++)
			sums[i] = sums[i] * 0.999f + 0.001f;
	for (int i = 0; i < N_SUMS * LANES; i++)
		total += sums[i];
	return total;
}

static float sum_portable(const float *x, size_t n)
{
	float sums[N_SUMS * LANES] = {0}, total = 0;
	for (size_t i = 0; i + N_SUMS * LANES <= n; i += N_SUMS * LANES)
		for (int j = 0; j < N_SUMS * LANES; j++)
			sums[j] += x[i + j];
	for (int j = 0; j < N_SUMS * LANES; j++)
		total += sums[j];
	return total;
}

#if HAVE_AVX2_BODY
/* The sums must stay in registers: in an array that is not unrolled, gcc -O2 measured 32 GFLOP/s where 116 are
 * possible. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

__attribute__((target("avx2,fma"))) static float fma_avx2(float start)
{
	__m256 sums[N_SUMS], factor = _mm256_set1_ps(0.999f), term = _mm256_set1_ps(0.001f);
	for (int i = 0; i < N_SUMS; i++)
		sums[i] = _mm256_set1_ps(start + (float)i);
	for (int n = 0; n < FMA_ITERATIONS; n++) {
		UNROLL
		for (int i = 0; i < N_SUMS; i++)
			sums[i] = _mm256_fmadd_ps(sums[i], factor, term);
	}
	for (int i = 1; i < N_SUMS; i++)
		sums[0] = _mm256_add_ps(sums[0], sums[i]);
	return _mm256_cvtss_f32(sums[0]);
}

/* The same number of multiply-adds, with twice as many in one instruction. */
__attribute__((target("avx512f"))) static float fma_avx512(float start)
{
	__m512 sums[N_SUMS], factor = _mm512_set1_ps(0.999f), term = _mm512_set1_ps(0.001f);
	for (int i = 0; i < N_SUMS; i++)
		sums[i] = _mm512_set1_ps(start + (float)i);
	for (int n = 0; n < FMA_ITERATIONS / 2; n++) {
		UNROLL
		for (int i = 0; i < N_SUMS; i++)
			sums[i] = _mm512_fmadd_ps(sums[i], factor, term);
	}
	for (int i = 1; i < N_SUMS; i++)
		sums[0] = _mm512_add_ps(sums[0], sums[i]);
	return _mm512_cvtss_f32(sums[0]);
}

__attribute__((target("avx2"))) static float sum_avx2(const float *x, size_t n)
{
	__m256 sums[8] = {0};
	for (size_t i = 0; i + 64 <= n; i += 64) {
		UNROLL
		for (int j = 0; j < 8; j++)
			sums[j] = _mm256_add_ps(sums[j], _mm256_loadu_ps(x + i + 8 * j));
	}
	for (int j = 1; j < 8; j++)
		sums[0] = _mm256_add_ps(sums[0], sums[j]);
	return _mm256_cvtss_f32(sums[0]);
}
#endif

/* ---- On all threads: one job each; job t works on its own part of the buffers ---- */

static void fma_job(void *context, uint32_t t, uint32_t thread)
{
	struct tt_ceilings *c = context;
	(void)thread;
#if HAVE_AVX2_BODY
	c->sinks[t].value = c->avx512 ? fma_avx512((float)t) : c->avx2 ? fma_avx2((float)t) : fma_portable((float)t);
#else
	c->sinks[t].value = fma_portable((float)t);
#endif
}

static void copy_job(void *context, uint32_t t, uint32_t thread)
{
	struct tt_ceilings *c = context;
	(void)thread;
	memcpy(c->target + t * c->n_floats, c->source + t * c->n_floats, c->n_floats * sizeof(float));
}

static void read_job(void *context, uint32_t t, uint32_t thread)
{
	struct tt_ceilings *c = context;
	const float *x = c->source + t * c->n_floats;
	(void)thread;
#if HAVE_AVX2_BODY
	c->sinks[t].value = c->avx2 ? sum_avx2(x, c->n_floats) : sum_portable(x, c->n_floats);
#else
	c->sinks[t].value = sum_portable(x, c->n_floats);
#endif
}

static int run_job(struct tt_ceilings *c, tt_thread_job *job)
{
	tt_threads_run(c->threads, c->n_threads, job, c);
	return TT_OK;
}

static int run_fma(void *context, struct tt_error *err)
{
	(void)err;
	return run_job(context, fma_job);
}

static int run_copy(void *context, struct tt_error *err)
{
	(void)err;
	return run_job(context, copy_job);
}

static int run_read(void *context, struct tt_error *err)
{
	(void)err;
	return run_job(context, read_job);
}

/* ---- Open and close ---- */

static int allocate(struct tt_ceilings *c, struct tt_error *err)
{
	size_t n;
	if (!tt_mul_size(c->n_threads, c->n_floats, &n))
		return tt_fail(err, TT_ERR_MEMORY, "the ceilings' buffers are too large");
	TT_TRY(tt_threads_open(&c->threads, c->n_threads, err));
	TT_TRY(tt_alloc_aligned(&c->sinks, c->n_threads, sizeof *c->sinks, err));
	TT_TRY(tt_alloc_aligned(&c->source, n, sizeof(float), err));
	TT_TRY(tt_alloc_aligned(&c->target, n, sizeof(float), err));
	/* Written once: pages of zeros that were never written may all be the same page. */
	for (size_t i = 0; i < n; i++)
		c->source[i] = (float)(i % 7);
	return TT_OK;
}

int tt_ceilings_open(struct tt_ceilings **out, uint32_t n_threads, size_t n_bytes, struct tt_error *err)
{
	struct tt_ceilings *c = NULL;
	if (n_threads < 1 || n_threads > MAX_THREADS)
		return tt_fail(err, TT_ERR_ARGUMENT, "threads must be 1 to %d", MAX_THREADS);
	TT_TRY(tt_alloc(&c, 1, sizeof *c, err));
	c->n_threads = n_threads;
	/* Whole steps of both loops: 192 floats are two steps of 96 and three of 64. */
	c->n_floats = (n_bytes / 2 / sizeof(float) / n_threads / 192 + 1) * 192;
#if HAVE_AVX2_BODY
	c->avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	c->avx512 = c->avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		    __builtin_cpu_supports("avx512dq") &&
		    __builtin_cpu_supports("avx512vl"); /* the same test as the engine's */
#endif
	int status = allocate(c, err);
	if (status != TT_OK) {
		tt_ceilings_close(c);
		return status;
	}
	*out = c;
	return TT_OK;
}

void tt_ceilings_close(struct tt_ceilings *c)
{
	if (!c)
		return;
	tt_threads_close(c->threads);
	free(c->source);
	free(c->target);
	free(c->sinks);
	free(c);
}

int tt_ceilings_add(
	struct tt_ceilings *c, struct tt_bench *bench, const char *group, unsigned which, struct tt_error *err)
{
	double floats = (double)c->n_threads * (double)c->n_floats;
	double flops = 2.0 * N_SUMS * LANES * FMA_ITERATIONS * c->n_threads;
	const char *vectors = c->avx2 ? "AVX2" : "portable C";
	const struct tt_bench_case cases[] = {
		{.name = "fma",
			.note = c->avx512 ? "AVX-512" : vectors,
			.run = run_fma,
			.work = {{"flops", flops, NULL}}},
		{.name = "copy", .note = "memcpy", .run = run_copy, .work = {{"bytes", 8 * floats, NULL}}},
		{.name = "read", .note = vectors, .run = run_read, .work = {{"bytes", 4 * floats, NULL}}},
	};
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_bench_case one = cases[i];
		one.group = group;
		one.context = c;
		if (which >> i & 1)
			TT_TRY(tt_bench_add(bench, &one, err));
	}
	return TT_OK;
}

double tt_ceilings_mul_adds(struct tt_ceilings *c)
{
	double best = 0;
	for (int i = 0; i < 10; i++) {
		double start = tt_now();
		(void)run_fma(c, NULL);
		double rate = (double)N_SUMS * LANES * FMA_ITERATIONS * c->n_threads / (tt_now() - start);
		best = rate > best ? rate : best;
	}
	return best;
}
