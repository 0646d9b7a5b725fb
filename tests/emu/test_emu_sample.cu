/* Sampling on the emulator: against the definition by a full sort in double, and against the CPU twin. */
#include "kernels/cuda/ptx/ptx.cuh"
#include "tests/emu/op_case.h"

enum { ROWS = 60, KINDS = 10 };

/* Kinds of rows of logits. */
static void fill_row(float *x, uint32_t vocab, uint32_t kind, uint64_t *state)
{
	for (uint32_t i = 0; i < vocab; i++) {
		float r = 4 * op_random_float(state);
		switch (kind) {
		case 1: /* peaked */
			x[i] = i % 97 == 5 ? 9 + r : 3 * r;
			break;
		case 2: /* flat */
			x[i] = 2;
			break;
		case 3: /* many ties */
			x[i] = floorf(r);
			break;
		case 4:
			x[i] = i % 3 ? r : NAN;
			break;
		case 5:
			x[i] = i % 5 ? -INFINITY : r;
			break;
		case 6:
			x[i] = NAN;
			break;
		case 7:
			x[i] = i % 2 ? -INFINITY : NAN;
			break;
		case 8:
			x[i] = i == vocab / 2 ? INFINITY : r;
			break;
		case 9: /* zeros of both signs among what is less */
			x[i] = i % 4 ? -fabsf(r) : i % 8 ? 0.0f : -0.0f;
			break;
		default:
			x[i] = r;
		}
	}
}

static struct tt_sample_plan make_plan(uint32_t i, uint32_t vocab)
{
	static const float temperatures[] = {0, 0.7f, 1, 1, 2.5f, 1e-42f, 0.7f};
	static const uint32_t top_ks[] = {0, 5, 0, 40, 1, 0, 1000000, 3};
	static const float top_ps[] = {1, 1, 0.9f, 0.5f, 0.95f, 0, 1, 1, 1, 0.999f, 1};
	static const float min_ps[] = {0, 0, 0.1f, 0, 1, 0.02f, 0, 2, 0};
	struct tt_sample_plan plan = {};
	plan.target = i % 4 == 0 ? (int32_t)(i * 31 % vocab) : i % 4 == 1 ? (int32_t)vocab : -1;
	plan.sampling.temperature = temperatures[i % 7];
	plan.sampling.top_k = top_ks[i % 8];
	plan.sampling.top_p = top_ps[i % 11];
	plan.sampling.min_p = min_ps[i / 3 % 9];
	plan.n_top = i % 3 == 0 ? i % 23 : 0;
	plan.sampling.seed = 0x123456789abcdefull * (i + 1);
	plan.counter = i * 0x100000001ull;
	return plan;
}

struct rows {
	uint32_t vocab, n;
	float *logits; // [n][vocab]
	struct tt_step_plan *step;
};

static struct tt_step_plan *make_samples(uint32_t n)
{
	struct tt_step_plan counts = {};
	counts.n_tokens = counts.n_seqs = counts.n_samples = n;
	return op_step(counts);
}

static struct rows make_rows(uint32_t vocab, uint32_t n, uint32_t first)
{
	struct rows r = {vocab, n, (float *)calloc((size_t)n * vocab, sizeof(float)), make_samples(n)};
	uint64_t state = vocab + first;
	for (uint32_t i = 0; i < n; i++) {
		fill_row(r.logits + (size_t)i * vocab, vocab, (first + i) % KINDS, &state);
		tt_step_samples(r.step)[i] = make_plan(first + i, vocab);
	}
	return r;
}

static void on_emulator(const struct rows *r, uint32_t grid, struct tt_sample_result *out)
{
	struct tt_config config = {};
	config.vocab_size = r->vocab;
	uint64_t launches = op_cuda.counters.launches;
	op_begin(r->step, grid, grid);
	struct tt_sample_args args = {&config, r->step, op_upload(r->logits, (size_t)r->n * r->vocab),
		op_device<struct tt_sample_result>(r->n)};
	OP_OK(tt_cuda_sample(&op_cuda.base, &args, &op_error));
	op_download(out, args.results, r->n);
	cr_assert_leq(op_cuda.counters.launches, launches + 3);
}

static void on_cpu(const struct rows *r, struct tt_sample_result *out)
{
	struct tt_config config = {};
	struct tt_backend *cpu;
	config.vocab_size = r->vocab;
	struct tt_sample_args args = {&config, r->step, r->logits, out};
	OP_OK(tt_cpu_open(&cpu, 1, &op_error));
	OP_OK(cpu->sample(cpu, &args, &op_error));
	cpu->close(cpu);
}

static bool same_f32(float a, float b, float relative)
{
	return (isnan(a) && isnan(b)) || a == b || fabsf(a - b) <= relative * fabsf(b);
}

/* Tokens exactly; log-probabilities within one unit, since the sum over chunks has another order in double. */
static void compare(const struct rows *r, const struct tt_sample_result *got, const struct tt_sample_result *want)
{
	for (uint32_t i = 0; i < r->n; i++) {
		const struct tt_sample_result *a = &got[i], *b = &want[i];
		cr_assert_eq(a->token, b->token, "vocab %u, row %u: %d, not %d", r->vocab, i, a->token, b->token);
		cr_assert(same_f32(a->logprob, b->logprob, 1.2e-7f), "row %u: %g, not %g", i, a->logprob, b->logprob);
		cr_assert(same_f32(a->target_logprob, b->target_logprob, 1.2e-7f), "row %u: target", i);
		cr_assert_eq(a->n_top, b->n_top, "vocab %u, row %u: %u of %u", r->vocab, i, a->n_top, b->n_top);
		for (uint32_t k = 0; k < TT_MAX_TOP; k++) {
			cr_assert_eq(a->top_tokens[k], b->top_tokens[k], "vocab %u, row %u, %u: %d, not %d", r->vocab,
				i, k, a->top_tokens[k], b->top_tokens[k]);
			cr_assert(same_f32(a->top_logprobs[k], b->top_logprobs[k], 1.2e-7f), "row %u: alternative %u",
				i, k);
		}
	}
}

/* Rows of every kind under plans of every kind, as many segments as one, some and a last one that is partial. */
static void like_the_twin(uint32_t vocab, uint32_t n, uint32_t first, enum tt_emu_order order)
{
	struct rows r = make_rows(vocab, n, first);
	struct tt_sample_result *got = (struct tt_sample_result *)malloc(2 * n * sizeof *got), *want = got + n;
	op_open(order, 7, 1 << 22);
	on_cpu(&r, want);
	on_emulator(&r, n + 3, got);
	compare(&r, got, want);
	free(got);
	free(r.logits);
	free(r.step);
}

Test(emu_sample, every_plan_as_the_cpu_twin)
{
	like_the_twin(700, ROWS, 0, TT_EMU_FORWARD);
	like_the_twin(256, KINDS * 2, 3, TT_EMU_BACKWARD);
	like_the_twin(5003, 30, 14, TT_EMU_RANDOM);
	like_the_twin(1, 14, 0, TT_EMU_RANDOM);
	like_the_twin(9, 40, 60, TT_EMU_FORWARD);
	like_the_twin(16645, 12, 5, TT_EMU_BACKWARD); /* more segments than groups of lanes */
}

/* A device of 99 KB adds up half of a digit's values at a time. */
static void with_half_of_the_bins(uint32_t vocab, uint32_t n, uint32_t first)
{
	struct rows r = make_rows(vocab, n, first);
	struct tt_sample_result *got = (struct tt_sample_result *)calloc(2 * n, sizeof *got);
	op_open(TT_EMU_RANDOM, 9, 1 << 22);
	on_emulator(&r, n, got);
	op_cuda.prepared = (struct tt_cuda_prepared){};
	op_cuda.prepared.most_shared = TT_CUDA_LEAST_SHARED;
	on_emulator(&r, n, got + n);
	cr_assert_arr_eq(got + n, got, n * sizeof *got, "a vocabulary of %u", vocab);
	free(got);
	free(r.logits);
	free(r.step);
}

Test(emu_sample, less_shared_memory_changes_no_bit)
{
	with_half_of_the_bins(700, 30, 0);
	with_half_of_the_bins(5003, 14, 1);
	with_half_of_the_bins(16645, 4, 5);
}

/* A vocabulary whose segments hold two chunks. */
Test(emu_sample, large_vocabulary)
{
	like_the_twin(262144 + 300, 2, 2, TT_EMU_FORWARD);
}

/* -- The definition, by a full sort in double -- */

struct weighted {
	double weight;
	uint32_t id;
};

static int likelier(const void *a, const void *b)
{
	const struct weighted *l = (const struct weighted *)a, *r = (const struct weighted *)b;
	if (l->weight != r->weight)
		return l->weight > r->weight ? -1 : 1;
	return l->id < r->id ? -1 : 1;
}

/* How often each id should come, for logits without NaN; likeliest first or, without top-k and top-p, by id. */
static void reference_shares(const float *x, uint32_t n, const struct tt_sample_plan *plan, double *shares)
{
	struct weighted *w = (struct weighted *)calloc(n, sizeof *w);
	double max = -INFINITY, sum = 0, held = 0;
	for (uint32_t i = 0; i < n; i++)
		max = fmax(max, (double)x[i]);
	for (uint32_t i = 0; i < n; i++)
		w[i] = (struct weighted){exp(((double)x[i] - max) / (double)plan->sampling.temperature), i};
	qsort(w, n, sizeof *w, likelier);
	uint32_t count = plan->sampling.top_k && plan->sampling.top_k < n ? plan->sampling.top_k : n, kept = 0;
	for (uint32_t i = 0; i < count; i++)
		sum += w[i].weight;
	while (kept < count && (kept == 0 || held < (double)plan->sampling.top_p * sum))
		held += w[kept++].weight;
	while (kept > 1 && w[kept - 1].weight < (double)plan->sampling.min_p)
		kept--;
	sum = 0;
	for (uint32_t i = 0; i < kept; i++)
		sum += w[i].weight;
	for (uint32_t i = 0; i < n; i++)
		shares[w[i].id] = i < kept ? w[i].weight / sum : 0;
	free(w);
}

/* Draws of one distribution: never an id that was cut, and each as often as its share says within 5 standard
 * deviations, which 1 in 10^6 draws of seeds would miss. */
static void shares_hold(struct tt_sample_plan plan)
{
	enum { VOCAB = 300, DRAWS = 32 };
	struct rows r = {VOCAB, DRAWS, (float *)calloc(DRAWS * VOCAB, sizeof(float)), make_samples(DRAWS)};
	struct tt_sample_result got[DRAWS];
	double shares[VOCAB];
	uint32_t counts[VOCAB] = {0};
	uint64_t state = 77;
	fill_row(r.logits, VOCAB, 1, &state);
	for (uint32_t i = 0; i < DRAWS; i++) {
		memcpy(r.logits + i * VOCAB, r.logits, VOCAB * sizeof(float));
		plan.counter = i;
		tt_step_samples(r.step)[i] = plan;
	}
	op_open(TT_EMU_FORWARD, 1, 1 << 20);
	on_emulator(&r, DRAWS, got);
	reference_shares(r.logits, VOCAB, &plan, shares);
	for (uint32_t i = 0; i < DRAWS; i++)
		counts[got[i].token]++;
	for (uint32_t i = 0; i < VOCAB; i++) {
		double slack = 5 * sqrt(DRAWS * shares[i] * (1 - shares[i])) + (shares[i] > 0 ? 1 : 0);
		cr_assert_leq(
			fabs(counts[i] - DRAWS * shares[i]), slack, "id %u: %u of %g", i, counts[i], DRAWS * shares[i]);
	}
	free(r.logits);
	free(r.step);
}

Test(emu_sample, draws_have_their_shares)
{
	struct tt_sample_plan plan = {};
	plan.target = -1;
	plan.sampling.temperature = 3;
	plan.sampling.top_p = 1;
	plan.sampling.seed = 11;
	shares_hold(plan);
	plan.sampling.min_p = 0.05f;
	shares_hold(plan);
	plan.sampling.top_k = 4;
	shares_hold(plan);
	plan.sampling.top_p = 0.7f;
	shares_hold(plan);
	plan.sampling.top_k = 0;
	plan.sampling.min_p = 0;
	shares_hold(plan);
}

/* -- Cuts on their very border -- */

/* Three tokens tie at a weight of 1 and two at 1/2, so that shares are exact. The seed is one that shows each of them
 * in few draws. */
enum { BORDER_VOCAB = 700, BORDER_DRAWS = 16, BORDER_TOKENS = 5, BORDER_SEED = 5 };
static const int32_t border_ids[BORDER_TOKENS] = {5, 256, 699, 0, 512}; /* by rank */

/* A logit below 0 whose weight is exactly 1/2. */
static float half_logit(void)
{
	float x = -0.6931472f;
	for (int i = 0; i < 8 && tt_exp(x) != 0.5f; i++)
		x = nextafterf(x, tt_exp(x) > 0.5f ? -1.0f : 0.0f);
	cr_assert_eq(tt_exp(x), 0.5f);
	return x;
}

/* How many tokens come: the first of border_ids, and no others. The CPU twin draws the same. */
static uint32_t border_count(struct tt_sample_plan plan)
{
	struct rows r = {BORDER_VOCAB, BORDER_DRAWS, (float *)calloc(BORDER_DRAWS * BORDER_VOCAB, sizeof(float)),
		make_samples(BORDER_DRAWS)};
	struct tt_sample_result got[BORDER_DRAWS], want[BORDER_DRAWS];
	uint32_t seen = 0, count = 0;
	const float half = half_logit();
	plan.target = -1;
	plan.sampling.temperature = 1;
	plan.sampling.seed = BORDER_SEED;
	for (uint32_t i = 0; i < BORDER_DRAWS; i++) {
		float *x = r.logits + (size_t)i * BORDER_VOCAB;
		for (uint32_t k = 0; k < BORDER_VOCAB; k++)
			x[k] = -INFINITY;
		for (uint32_t k = 0; k < BORDER_TOKENS; k++)
			x[border_ids[k]] = k < 3 ? 0 : half;
		plan.counter = i;
		tt_step_samples(r.step)[i] = plan;
	}
	op_open(TT_EMU_FORWARD, 1, 1 << 22);
	on_emulator(&r, BORDER_DRAWS, got);
	on_cpu(&r, want);
	compare(&r, got, want);
	for (uint32_t i = 0; i < BORDER_DRAWS; i++)
		for (uint32_t k = 0; k < BORDER_TOKENS; k++)
			seen |= got[i].token == border_ids[k] ? 1u << k : 0;
	while (seen >> count & 1)
		count++;
	cr_expect_eq(seen, (1u << count) - 1, "tokens %x were drawn: a rank is left out", seen);
	free(r.logits);
	free(r.step);
	return count;
}

/* A token that meets a rank, a share or a floor exactly is kept, and nothing after it: by id among equals. */
Test(emu_sample, cuts_on_their_very_border)
{
	const float above = nextafterf(0.5f, 1);
	const struct {
		uint32_t top_k;
		float top_p, min_p;
		uint32_t want;
	} cases[] = {
		{2, 1, 0, 2},
		{4, 1, 0, 4},
		{2, 0.5f, 0, 1},
		{2, 0.5000001f, 0, 2},
		{0, 0.75f, 0, 3},
		{0, 0.7500001f, 0, 4},
		{0, 0.875f, 0, 4},
		{0, 1, 0.5f, 5},
		{0, 1, above, 3},
		{0, 1, 1, 3},
		{4, 1, 0.5f, 4},
		{4, 1, above, 3},
		{0, 0.999999f, 0.5f, 5},
		{2, 1, 1, 2},
	};
	for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_sample_plan plan = {};
		plan.sampling.top_k = cases[i].top_k;
		plan.sampling.top_p = cases[i].top_p;
		plan.sampling.min_p = cases[i].min_p;
		uint32_t count = border_count(plan);
		cr_expect_eq(count, cases[i].want, "case %u: %u tokens, not %u", i, count, cases[i].want);
	}
}

/* A row's bits alone, among others, in a wider grid and in every order. */
Test(emu_sample, bits_do_not_depend_on_batch_mates)
{
	enum { N = 64 };
	static const uint32_t batches[] = {1, 7, 8, 9, 64};
	struct rows all = make_rows(700, N, 0);
	struct tt_sample_result whole[N], part[N];
	op_open(TT_EMU_RANDOM, 3, 1 << 20);
	on_emulator(&all, N, whole);
	for (uint32_t b = 0; b < 5; b++) {
		struct rows some = {
			700, batches[b], all.logits + (size_t)(N - batches[b]) * 700, make_samples(batches[b])};
		memcpy(tt_step_samples(some.step), tt_step_samples(all.step) + N - batches[b],
			batches[b] * sizeof(struct tt_sample_plan));
		op_open((enum tt_emu_order)(b % TT_EMU_ORDERS), b, 1 << 20);
		on_emulator(&some, batches[b] + b, part);
		cr_assert_eq(
			memcmp(part, whole + N - batches[b], batches[b] * sizeof *part), 0, "batch %u", batches[b]);
		free(some.step);
	}
	free(all.logits);
	free(all.step);
}

Test(emu_sample, refuses_what_it_cannot_do)
{
	struct tt_config config = {};
	struct tt_step_plan *step = make_samples(1);
	struct tt_sample_args args = {&config, step, NULL, NULL};
	op_open(TT_EMU_FORWARD, 1, 64);
	op_begin(step, 1, 1);
	cr_assert_eq(tt_cuda_sample(&op_cuda.base, &args, &op_error), TT_ERR_UNSUPPORTED);
	op_cuda.grid_samples = 0;
	OP_OK(tt_cuda_sample(&op_cuda.base, &args, &op_error));
	cr_assert_eq(op_cuda.counters.launches, 0);
	free(step);
}
