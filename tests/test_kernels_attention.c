/* Attention over pages against a reference in double, and its bits. */
#include "kernels/cpu/kv_rows.h"
#include "test_kernels.h"

/* Scores of up to 20 units, so that their own rounding is 1e-6 of a weight; random values cancel in the mean. 1.1e-6
 * seen. */
#define TOLERANCE 3e-6

struct world {
	struct tt_config config;
	struct tt_kv_pages kv;
	uint32_t n_seqs, max_pages;
	int32_t *pages; // [n_seqs][max_pages], shuffled
};

static struct world make_world(uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim, uint32_t window,
	enum tt_kv_type type, uint32_t n_seqs, uint32_t max_pages)
{
	struct world w = {.n_seqs = n_seqs, .max_pages = max_pages};
	uint32_t n_pages = n_seqs * max_pages;
	uint64_t random = 99;
	w.config = (struct tt_config){.n_layers = 2,
		.n_heads = n_heads,
		.n_kv_heads = n_kv_heads,
		.head_dim = head_dim,
		.sliding_window = window};
	w.kv = (struct tt_kv_pages){.type = type, .n_pages = n_pages};
	size_t n = (size_t)2 * n_pages * 2 * n_kv_heads * TT_PAGE_TOKENS * head_dim;
	float *data = random_floats(n, 2, 17);
	w.kv.data = data;
	if (type != TT_KV_F32) {
		w.kv.data = must_alloc(n, 2);
		w.kv.scales = must_alloc(n / head_dim, sizeof *w.kv.scales);
		for (size_t at = 0; at < n; at += head_dim)
			tt_cpu_kv_write(tt_cpu_body_portable(), &w.kv, at, data + at, head_dim);
		free(data);
	}
	w.pages = must_alloc(n_pages, sizeof *w.pages);
	for (uint32_t i = 0; i < n_pages; i++)
		w.pages[i] = (int32_t)i;
	for (uint32_t i = n_pages; i-- > 1;) {
		uint32_t j = random_bits(&random) % (i + 1);
		int32_t swap = w.pages[i];
		w.pages[i] = w.pages[j];
		w.pages[j] = swap;
	}
	return w;
}

static void free_world(struct world *w)
{
	free(w->kv.data);
	free(w->kv.scales);
	free(w->pages);
}

static size_t kv_index(const struct world *w, uint32_t seq, uint32_t position, uint32_t which, uint32_t head)
{
	const struct tt_config *c = &w->config;
	size_t page = (size_t)w->pages[seq * w->max_pages + position / 16], layer = 1;
	return (((layer * w->kv.n_pages + page) * 2 + which) * c->n_kv_heads + head) * 16 * c->head_dim +
	       (position % 16) * c->head_dim;
}

static void reference(
	const struct world *w, const float *q, uint32_t seq, uint32_t position, uint32_t head, double *out)
{
	const struct tt_config *c = &w->config;
	uint32_t kv_head = head / (c->n_heads / c->n_kv_heads), hd = c->head_dim;
	uint32_t window = c->full_layers[0] ? 0 : c->sliding_window;
	uint32_t low = window && position + 1 > window ? position + 1 - window : 0;
	double max = -INFINITY, sum = 0, *scores = must_alloc(position + 1, sizeof *scores);
	for (uint32_t k = low; k <= position; k++) {
		size_t at = kv_index(w, seq, k, 0, kv_head);
		for (uint32_t i = 0; i < hd; i++)
			scores[k] += (double)q[i] * (double)kv_number(&w->kv, at + i, hd);
		scores[k] /= sqrt(c->query_scale ? (double)c->query_scale : hd);
		if (c->attention_soft_cap)
			scores[k] = (double)c->attention_soft_cap * tanh(scores[k] / (double)c->attention_soft_cap);
		max = fmax(max, scores[k]);
	}
	memset(out, 0, hd * sizeof *out);
	for (uint32_t k = low; k <= position; k++) {
		size_t at = kv_index(w, seq, k, 1, kv_head);
		double p = exp(scores[k] - max);
		sum += p;
		for (uint32_t i = 0; i < hd; i++)
			out[i] += p * (double)kv_number(&w->kv, at + i, hd);
	}
	for (uint32_t i = 0; i < hd; i++)
		out[i] /= sum;
	free(scores);
}

/* n tokens of each sequence from position first on; q and out are [n_seqs * n][n_heads * head_dim]. */
static void run(
	const struct world *w, struct tt_backend *backend, uint32_t first, uint32_t n, const float *q, float *out)
{
	struct tt_step_plan *step = make_step(
		(struct tt_step_plan){.n_tokens = w->n_seqs * n, .n_seqs = w->n_seqs, .max_pages = w->max_pages});
	memcpy(tt_step_pages(step), w->pages, w->n_seqs * w->max_pages * sizeof(int32_t));
	for (uint32_t t = 0; t < w->n_seqs * n; t++) {
		tt_step_seqs(step)[t] = (int32_t)(t / n);
		tt_step_positions(step)[t] = (int32_t)(first + t % n);
	}
	struct tt_attention_args args = {&w->config, step, 1, q, out, &w->kv};
	ASSERT_OK(backend->attention(backend, &args, &ok_error));
	free(step);
}

static void check(const struct world *w, uint32_t first, uint32_t n, uint32_t threads, enum tt_cpu_body_choice choice)
{
	const struct tt_config *c = &w->config;
	size_t row = (size_t)c->n_heads * c->head_dim, total = (size_t)w->n_seqs * n * row;
	float *q = random_floats(total, 2, first + n), *out = must_alloc(total, sizeof *out);
	double *want = must_alloc(c->head_dim, sizeof *want);
	struct tt_backend *backend = open_cpu(threads, choice);
	run(w, backend, first, n, q, out);
	backend->close(backend);
	for (uint32_t t = 0; t < w->n_seqs * n; t++)
		for (uint32_t head = 0; head < c->n_heads; head++) {
			size_t at = t * row + (size_t)head * c->head_dim;
			reference(w, q + at, t / n, first + t % n, head, want);
			ASSERT_CLOSE(out + at, want, c->head_dim, TOLERANCE,
				"position %u, head %u, head_dim %u, window %u", first + t % n, head, c->head_dim,
				c->sliding_window);
		}
	free(q);
	free(out);
	free(want);
}

static const struct {
	uint32_t n_heads, n_kv_heads, head_dim, window;
	enum tt_kv_type type;
	float cap, query_scale;
	bool full; /* the layer sees all keys in spite of the model's window */
} CASES[] = {
	{9, 3, 64, 0, TT_KV_F32, 0, 0, false},
	{9, 3, 64, 0, TT_KV_F16, 0, 0, false},
	{4, 4, 16, 0, TT_KV_F32, 0, 0, false},
	{8, 2, 20, 0, TT_KV_F32, 0, 0, false},
	{3, 1, 6, 0, TT_KV_F16, 0, 0, false},
	{5, 1, 40, 100, TT_KV_F32, 0, 0, false},
	{7, 1, 40, 100, TT_KV_F16, 0, 0,
		false}, /* f16 that is used as it lies, in rows that are no whole wide vectors */
	{4, 2, 16, 5, TT_KV_F32, 0, 0, false},
	{26, 1, 8, 300, TT_KV_F32, 0, 0, false}, /* a group larger than a block of queries */
	{4, 2, 16, 37, TT_KV_F32, 3, 24, false},
	{4, 2, 16, 37, TT_KV_F32, 0, 0, true},
	{9, 3, 64, 0, TT_KV_Q8, 0, 0, false},
	{4, 1, 32, 100, TT_KV_Q8, 0, 0, false},
	{9, 3, 64, 0, TT_KV_FP8, 0, 0, false},
	{8, 2, 20, 0, TT_KV_FP8, 0, 0, false},
};
enum { N_CASES = sizeof CASES / sizeof *CASES };

static struct world make_case(int i, enum tt_kv_type type, uint32_t n_seqs, uint32_t max_pages)
{
	struct world w = make_world(
		CASES[i].n_heads, CASES[i].n_kv_heads, CASES[i].head_dim, CASES[i].window, type, n_seqs, max_pages);
	w.config.attention_soft_cap = CASES[i].cap;
	w.config.query_scale = CASES[i].query_scale;
	w.config.full_layers[0] = CASES[i].full ? 2 : 0; /* layer 1, which runs */
	return w;
}

Test(kernels_attention, equals_the_reference_across_pages_and_splits)
{
	static const uint32_t firsts[] = {0, 15, 16, 255, 256, 505};
	for (int i = 0; i < N_CASES; i++) {
		struct world w = make_case(i, CASES[i].type, 2, 40);
		for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++) {
			check(&w, firsts[f], 1, 2, TT_CPU_BODY_BEST);
			check(&w, firsts[f], 19, f % 3 + 1, f % 2 ? TT_CPU_BODY_BEST : TT_CPU_BODY_PORTABLE);
		}
		free_world(&w);
	}
}

/* Slots after a query's hold whatever was there before, NaN included: it must not see them. */
Test(kernels_attention, does_not_touch_keys_outside_its_range)
{
	for (int i = 0; i < N_CASES; i++) {
		struct world w = make_case(i, TT_KV_F32, 1, 40);
		const struct tt_config *c = &w.config;
		uint32_t low = c->sliding_window && !CASES[i].full ? 401 - c->sliding_window : 0;
		for (uint32_t position = 0; position < 640; position++)
			for (uint32_t head = 0; head < c->n_kv_heads && (position < low || position > 404); head++)
				for (uint32_t k = 0; k < 2 * c->head_dim; k++)
					((float *)w.kv.data)[kv_index(&w, 0, position, k & 1, head) + k / 2] = NAN;
		check(&w, 400, 5, 2, TT_CPU_BODY_BEST);
		free_world(&w);
	}
}

/* What is no number stays none, in every type that can hold it and every body. */
Test(kernels_attention, a_nan_among_the_values_shows)
{
	static const enum tt_kv_type types[] = {TT_KV_F32, TT_KV_F16, TT_KV_Q8, TT_KV_FP8};
	for (int t = 0; t < 4; t++)
		for (int body = TT_CPU_BODY_AVX512; body <= TT_CPU_BODY_PORTABLE; body++) {
			float row[64] = {0}, q[64] = {0}, out[64];
			if (!machine_has((enum tt_cpu_body_choice)body))
				continue;
			struct world w = make_world(2, 2, 32, 0, types[t], 1, 2);
			row[40] = NAN;
			for (uint32_t i = 0; i < 2; i++)
				tt_cpu_kv_write(
					tt_cpu_body_portable(), &w.kv, kv_index(&w, 0, 3 + i, 1, 0), row + i * 32, 32);
			struct tt_backend *backend = open_cpu(1, (enum tt_cpu_body_choice)body);
			run(&w, backend, 5, 1, q, out);
			cr_expect(isnan(out[8]), "type %d, body %d", types[t], body);
			cr_expect(types[t] == TT_KV_Q8 || types[t] == TT_KV_FP8 ? isnan(out[0]) : isfinite(out[0]),
				"type %d", types[t]);
			cr_expect(isfinite(out[32]), "the other head");
			backend->close(backend);
			free_world(&w);
		}
}

/* One pass over positions 450 to 749, which see two and three splits, then in chunks, over threads and bodies. */
Test(kernels_attention, bits_do_not_depend_on_chunks_threads_or_body)
{
	enum { FIRST = 450, N = 300 };
	static const uint32_t chunks[] = {1, 7, 8, 13, 64, 300};
	for (int i = 0; i < N_CASES; i++) {
		struct world w = make_case(i, CASES[i].type, 1, 47);
		size_t row = (size_t)w.config.n_heads * w.config.head_dim;
		float *q = random_floats(N * row, 2, 5), *want = must_alloc(N * row, sizeof *want),
		      *got = must_alloc(N * row, sizeof *got);
		struct tt_backend *first = open_cpu(1, TT_CPU_BODY_PORTABLE);
		run(&w, first, FIRST, N, q, want);
		first->close(first);
		for (uint32_t threads = 0; threads <= 3; threads++) {
			if (threads == 0 && !machine_has(TT_CPU_BODY_AVX2))
				continue;
			struct tt_backend *backend =
				threads ? open_cpu(threads, TT_CPU_BODY_BEST) : open_cpu(1, TT_CPU_BODY_AVX2);
			/* on several threads the first and the last: how a chunk is cut is the same code on each */
			const size_t n_chunks = sizeof chunks / sizeof *chunks, next = threads > 1 ? n_chunks - 1 : 1;
			for (size_t c = 0; c < n_chunks; c += next) {
				for (uint32_t at = 0; at < N; at += chunks[c])
					run(&w, backend, FIRST + at, N - at < chunks[c] ? N - at : chunks[c],
						q + at * row, got + at * row);
				ASSERT_SAME_BITS(
					got, want, N * row, "case %d, chunks of %u, %u threads", i, chunks[c], threads);
			}
			backend->close(backend);
		}
		free(q);
		free(want);
		free(got);
		free_world(&w);
	}
}

/* The exponential against libm's in double, through exp_sum, and the same bits from the fastest body. */
Test(kernels_attention, exponential_is_within_two_units)
{
	enum { N = 200000 + 13 }; /* no whole vectors at the end */
	float *x = must_alloc(N, sizeof *x), *fast = must_alloc(N, sizeof *fast), *plain = must_alloc(N, sizeof *plain);
	double worst = 0;
	for (int i = 0; i < N; i++)
		x[i] = -110.0f + 200.0f * (float)i / N;
	x[0] = -INFINITY;
	x[1] = INFINITY;
	x[2] = 0;
	tt_cpu_body_portable()->exp_sum(x, 0, 1, N, plain);
	struct tt_backend *backend = open_cpu(1, TT_CPU_BODY_BEST);
	((struct tt_cpu *)backend)->body->exp_sum(x, 0, 1, N, fast);
	ASSERT_SAME_BITS(fast, plain, N, "exp");
	for (size_t n = 1; n < 600; n += 7) { /* one sum's bits, whole blocks of 256 and not */
		double sums[2] = {((struct tt_cpu *)backend)->body->exp_sum(x + 2, 3, 0.5f, n, fast),
			tt_cpu_body_portable()->exp_sum(x + 2, 3, 0.5f, n, fast)};
		ASSERT_SAME_BITS(&sums[0], &sums[1], 1, "the sum of %zu", n);
	}
	backend->close(backend);
	for (int i = 0; i < N; i++) {
		float want = (float)exp((double)x[i]);
		double unit = (double)(nextafterf(want, INFINITY) - want);
		if (want == plain[i])
			continue;
		worst = fmax(worst, fabs((double)plain[i] - exp((double)x[i])) / unit);
	}
	cr_assert(worst <= 2, "%g units in the last place", worst);
	cr_assert_eq(plain[2], 1);
	cr_assert_eq(plain[0], 0);
	cr_assert(isinf(plain[1]));
	free(x);
	free(fast);
	free(plain);
}

/* cap * tanh(x / cap), from 1e-6 to where it is the cap, and the same bits from both bodies. */
Test(kernels_attention, soft_cap_is_within_seven_units)
{
	enum { N = 200000 + 5 };
	const float cap = 50;
	float *x = must_alloc(N, sizeof *x), *fast = must_alloc(N, sizeof *fast), *plain = must_alloc(N, sizeof *plain);
	double worst = 0;
	for (int i = 0; i < N; i++)
		x[i] = (i % 2 ? 1 : -1) * 1e-6f * powf(1e9f, (float)i / N);
	x[0] = INFINITY;
	x[1] = -INFINITY;
	x[2] = NAN;
	x[3] = 0;
	memcpy(plain, x, N * sizeof *x);
	tt_cpu_body_portable()->soft_cap(plain, N, cap);
	if (tt_cpu_body_avx2()) {
		struct tt_backend *backend = open_cpu(1, TT_CPU_BODY_AVX2);
		memcpy(fast, x, N * sizeof *x);
		((struct tt_cpu *)backend)->body->soft_cap(fast, N, cap);
		plain[2] = fast[2] = isnan(plain[2]) && isnan(fast[2]) ? 0 : NAN;
		ASSERT_SAME_BITS(fast, plain, N, "soft cap");
		backend->close(backend);
	}
	for (int i = 3; i < N; i++) {
		double want = (double)cap * tanh((double)x[i] / (double)cap);
		float unit = nextafterf((float)fabs(want), INFINITY) - (float)fabs(want);
		worst = fmax(worst, fabs((double)plain[i] - want) / (double)unit);
	}
	cr_assert(worst <= 7, "%g units in the last place", worst);
	cr_assert_float_eq((double)plain[0], 50, 1e-5);
	cr_assert_float_eq((double)plain[1], -50, 1e-5);
	cr_assert(plain[2] == 0 || !tt_cpu_body_avx2());
	free(x);
	free(fast);
	free(plain);
}
