/* Sampling: Philox against its published vectors, cuts against a brute-force reference, draws against exact shares. */
#include "test_kernels.h"

/* The known answers that Philox's authors publish for 4x32, ten rounds. */
Test(kernels_sample, philox_gives_the_known_answers)
{
	static const struct {
		uint32_t counter[4], key[2], want[4];
	} cases[] = {
		{{0}, {0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff},
			{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
			{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint32_t out[4];
		tt_cpu_philox(cases[i].counter, cases[i].key, out);
		ASSERT_SAME_BITS(out, cases[i].want, 4, "vector %zu", i);
	}
}

static void sample(const float *logits, uint32_t vocab, uint32_t n, const struct tt_sample_plan *plans,
	struct tt_sample_result *results, uint32_t threads, enum tt_cpu_body_choice choice)
{
	struct tt_config config = {.vocab_size = vocab};
	struct tt_step_plan *step = make_step((struct tt_step_plan){.n_samples = n});
	struct tt_backend *backend = open_cpu(threads, choice);
	memcpy(tt_step_samples(step), plans, n * sizeof *plans);
	struct tt_sample_args args = {&config, step, logits, results};
	ASSERT_OK(backend->sample(backend, &args, &ok_error));
	backend->close(backend);
	free(step);
}

static const struct tt_sample_plan GREEDY = {.target = -1, .sampling.top_p = 1};

static struct tt_sample_result sample_one(const float *logits, uint32_t vocab, struct tt_sample_plan plan)
{
	struct tt_sample_result result;
	sample(logits, vocab, 1, &plan, &result, 1, TT_CPU_BODY_BEST);
	return result;
}

Test(kernels_sample, greedy_takes_the_lowest_id_among_equals_and_never_nan)
{
	float ties[9] = {0, 5, -1, 5, 5, 2, 5, 0, 1}, nans[9], nothing[9];
	for (int i = 0; i < 9; i++) {
		nans[i] = i == 6 ? -3 : NAN;
		nothing[i] = NAN;
	}
	cr_assert_eq(sample_one(ties, 9, GREEDY).token, 1);
	cr_assert_eq(sample_one(nans, 9, GREEDY).token, 6);
	cr_assert_eq(sample_one(nothing, 9, GREEDY).token, 0);
	cr_assert(isnan(sample_one(nothing, 9, GREEDY).logprob));
	struct tt_sample_plan cold = GREEDY;
	cold.sampling.temperature = 1e-42f; /* its inverse is infinite */
	cr_assert_eq(sample_one(ties, 9, cold).token, 1);
	cold.sampling.temperature = 1e-30f;
	cold.sampling.top_k = 1;
	cr_assert_eq(sample_one(ties, 9, cold).token, 1);
}

/* The plain loop, over lengths about the blocks that a body goes by; few values, so that most are equal. */
static void check_largest(const struct tt_cpu_body *body)
{
	enum { MOST = 1024 };
	static const uint32_t lengths[] = {1, 255, 256, 257, 511, 768, 1000, MOST};
	float x[MOST];
	uint64_t seed = 5;
	for (int round = 0; round < 200; round++) {
		uint32_t n = lengths[random_bits(&seed) % (sizeof lengths / sizeof *lengths)], want = 0;
		uint32_t n_values = 1 + random_bits(&seed) % 2000, one_in = 1 + random_bits(&seed) % 4;
		float most = -INFINITY;
		for (uint32_t i = 0; i < n; i++) {
			uint32_t draw = random_bits(&seed) % n_values;
			x[i] = draw == 0 ? -INFINITY : random_bits(&seed) % one_in ? NAN : -(float)draw;
			if (x[i] > most) {
				most = x[i];
				want = i;
			}
		}
		cr_assert_eq(body->largest(x, n), want, "%s: %u numbers, %u and not %u", body->name, n,
			body->largest(x, n), want);
	}
}

Test(kernels_sample, every_body_finds_the_first_of_the_largest)
{
	for (int choice = TT_CPU_BODY_AVX512; choice <= TT_CPU_BODY_PORTABLE; choice++) {
		if (!machine_has((enum tt_cpu_body_choice)choice))
			continue;
		struct tt_backend *backend = open_cpu(1, (enum tt_cpu_body_choice)choice);
		check_largest(((struct tt_cpu *)backend)->body);
		backend->close(backend);
	}
}

/* Log-probabilities of the raw logits whatever the cuts, over a vocabulary of SmolLM2's size. */
Test(kernels_sample, logprobs_are_those_of_the_raw_logits)
{
	enum { VOCAB = 49152 };
	float *logits = random_floats(VOCAB, 12, 3);
	double max = -INFINITY, sum = 0;
	logits[777] = logits[40000] = 14; /* equal: the lower id first */
	for (int i = 0; i < VOCAB; i++)
		max = fmax(max, (double)logits[i]);
	for (int i = 0; i < VOCAB; i++)
		sum += exp((double)logits[i] - max);
	struct tt_sample_plan plans[3] = {GREEDY, GREEDY, GREEDY};
	struct tt_sample_result results[2][3];
	plans[0].target = 123;
	plans[0].n_top = TT_MAX_TOP;
	plans[1] = (struct tt_sample_plan){
		.target = VOCAB - 1, .sampling = {.temperature = 0.7f, .top_k = 40, .top_p = 0.9f, .seed = 3}};
	plans[2].n_top = 1;
	float *all = must_alloc(3 * (size_t)VOCAB, sizeof *all);
	for (int i = 0; i < 3; i++)
		memcpy(all + (size_t)i * VOCAB, logits, VOCAB * sizeof *logits);
	sample(all, VOCAB, 3, plans, results[0], 1, TT_CPU_BODY_PORTABLE);
	sample(all, VOCAB, 3, plans, results[1], 3, TT_CPU_BODY_BEST);
	ASSERT_SAME_BITS(results[0], results[1], 3, "over bodies and threads");
	for (int i = 0; i < 3; i++) {
		const struct tt_sample_result *r = &results[0][i];
		/* Rounding to f32 is 5e-7 at these sizes; the sum adds 1e-7. */
		cr_assert_float_eq((double)r->logprob, (double)logits[r->token] - max - log(sum), 1e-6);
		if (plans[i].target >= 0)
			cr_assert_float_eq(
				(double)r->target_logprob, (double)logits[plans[i].target] - max - log(sum), 2e-6);
		cr_assert_eq(r->n_top, plans[i].n_top);
	}
	const struct tt_sample_result *r = &results[0][0];
	cr_assert_eq(r->token, 777);
	cr_assert_eq(r->top_tokens[0], 777);
	cr_assert_eq(r->top_tokens[1], 40000);
	for (uint32_t i = 0; i < TT_MAX_TOP; i++) {
		uint32_t before = 0;
		for (uint32_t j = 0; j < VOCAB; j++)
			before += logits[j] > logits[r->top_tokens[i]] ||
				  (logits[j] == logits[r->top_tokens[i]] && j < (uint32_t)r->top_tokens[i]);
		cr_assert_eq(before, i, "alternative %u is not the %uth", r->top_tokens[i], i);
		cr_assert_float_eq((double)r->top_logprobs[i], (double)logits[r->top_tokens[i]] - max - log(sum), 1e-6);
	}
	cr_assert_eq(
		sample_one(logits, 5, (struct tt_sample_plan){.target = -1, .sampling.top_p = 1, .n_top = 9}).n_top, 5);
	free(all);
	free(logits);
}

struct ranked {
	double p;
	uint32_t id;
};

static int by_rank(const void *left, const void *right)
{
	const struct ranked *a = left, *b = right;
	return a->p != b->p ? (a->p > b->p ? -1 : 1) : (a->id > b->id) - (a->id < b->id);
}

/* The exact probabilities after temperature, top-k, top-p and min-p, by a full sort. */
static void exact(const float *logits, uint32_t n, const struct tt_sample_plan *plan, double *p)
{
	struct ranked *all = must_alloc(n, sizeof *all);
	double max = -INFINITY, sum = 0, held = 0;
	uint32_t kept = 0, count = plan->sampling.top_k && plan->sampling.top_k < n ? plan->sampling.top_k : n;
	for (uint32_t i = 0; i < n; i++)
		max = fmax(max, (double)logits[i]);
	for (uint32_t i = 0; i < n; i++)
		all[i] = (struct ranked){exp(((double)logits[i] - max) / (double)plan->sampling.temperature), i};
	qsort(all, n, sizeof *all, by_rank);
	for (uint32_t i = 0; i < count; i++)
		sum += all[i].p;
	while (kept < count && (kept == 0 || held / sum < (double)plan->sampling.top_p))
		held += all[kept++].p;
	while (kept > 1 && all[kept - 1].p < (double)plan->sampling.min_p * all[0].p)
		held -= all[--kept].p;
	memset(p, 0, n * sizeof *p);
	for (uint32_t i = 0; i < kept; i++)
		p[all[i].id] = all[i].p / held;
	free(all);
}

static const struct tt_sample_plan CUTS[] = {
	{.sampling = {.temperature = 1, .top_p = 1}},
	{.sampling = {.temperature = 0.5f, .top_p = 1}},
	{.sampling = {.temperature = 1, .top_p = 1, .top_k = 7}},
	{.sampling = {.temperature = 1.5f, .top_p = 0.6f}},
	{.sampling = {.temperature = 1, .top_p = 1, .min_p = 0.2f}},
	{.sampling = {.temperature = 0.8f, .top_p = 0.8f, .top_k = 20}},
	{.sampling = {.temperature = 0.8f, .top_p = 0.99f, .top_k = 30, .min_p = 0.4f}},
	{.sampling = {.temperature = 1, .top_p = 0}},
	{.sampling = {.temperature = 1, .top_p = 1, .min_p = 1}},
	{.sampling = {.temperature = 1, .top_p = 1, .top_k = 1}},
};
enum { N_CUTS = sizeof CUTS / sizeof *CUTS };

/* The draw that a share u of the total falls on: every candidate is hit, none but candidates is. */
Test(kernels_sample, cuts_keep_the_tokens_of_the_reference)
{
	enum { VOCAB = 211, DRAWS = 20000 };
	for (int seed = 0; seed < 5; seed++) {
		float *logits = random_floats(VOCAB, 4, (uint64_t)seed), weights[VOCAB];
		struct tt_cpu_candidate scratch[VOCAB];
		double p[VOCAB];
		for (int c = 0; c < N_CUTS; c++) {
			bool seen[VOCAB] = {false};
			float max = -INFINITY;
			for (int i = 0; i < VOCAB; i++)
				max = fmaxf(max, logits[i]);
			tt_cpu_body_portable()->exp_sum(logits, max, 1 / CUTS[c].sampling.temperature, VOCAB, weights);
			for (int i = 0; i < DRAWS; i++)
				seen[tt_cpu_draw(&CUTS[c], weights, VOCAB, (i + 0.5) / DRAWS, scratch)] = true;
			exact(logits, VOCAB, &CUTS[c], p);
			for (int i = 0; i < VOCAB; i++) {
				cr_assert(!seen[i] || p[i] > 0, "cut %d, seed %d: token %d was cut", c, seed, i);
				cr_assert(seen[i] || p[i] < 1.5 / DRAWS, "cut %d, seed %d: token %d is missing", c,
					seed, i);
			}
		}
		free(logits);
	}
}

/* The formulas of Hugging Face and OpenAI in double, over what the sequence has. */
static void penalised(
	const float *logits, uint32_t n, const struct tt_sample_plan *plan, const struct tt_seen *seen, float *out)
{
	memcpy(out, logits, n * sizeof *out);
	for (uint32_t i = 0; i < plan->n_seen; i++) {
		double x = (double)logits[seen[i].id], r = (double)plan->penalties.repetition;
		x = x < 0 ? x * r : x / r;
		x -= seen[i].n_generated * (double)plan->penalties.frequency;
		x -= seen[i].n_generated > 0 ? (double)plan->penalties.presence : 0;
		out[seen[i].id] = (float)x;
	}
}

/* Two rows, the first without penalties, so that the second's list does not begin the step's. */
static void sample_seen(const float *logits, uint32_t vocab, struct tt_sample_plan plan, const struct tt_seen *seen,
	struct tt_sample_result *out)
{
	struct tt_config config = {.vocab_size = vocab};
	struct tt_step_plan *step = make_step((struct tt_step_plan){.n_samples = 2, .n_seen = plan.n_seen + 3});
	struct tt_backend *backend = open_cpu(2, TT_CPU_BODY_BEST);
	float *all = must_alloc(2 * (size_t)vocab, sizeof *all);
	for (int i = 0; i < 2; i++)
		memcpy(all + (size_t)i * vocab, logits, vocab * sizeof *all);
	plan.first_seen = 3;
	memcpy(tt_step_seen(step) + 3, seen, plan.n_seen * sizeof *seen);
	tt_step_samples(step)[1] = plan;
	plan.n_seen = 0;
	tt_step_samples(step)[0] = plan;
	struct tt_sample_args args = {&config, step, all, out};
	ASSERT_OK(backend->sample(backend, &args, &ok_error));
	cr_assert_arr_eq(all, all + vocab, vocab * sizeof *all, "the logits are the host's to read");
	backend->close(backend);
	free(all);
	free(step);
}

Test(kernels_sample, penalties_are_those_of_the_formulas)
{
	enum { VOCAB = 61, CASES = 60 };
	uint64_t state = 9;
	uint32_t n_changed = 0;
	for (int c = 0; c < CASES; c++) {
		float *logits = random_floats(VOCAB, 2, (uint64_t)c), want[VOCAB];
		struct tt_seen seen[VOCAB];
		struct tt_sample_plan plan = {.target = 5, .n_top = 3, .sampling = {.top_p = 1}};
		struct tt_sample_result result[2];
		plan.penalties = (struct tt_penalties){c % 3 ? 1 + 0.05f * (float)(c % 20) : 0.7f,
			c % 4 ? 0.1f * (float)(c % 9) : -0.5f, c % 5 ? 0 : 0.3f};
		for (int32_t id = 0; id < VOCAB; id++)
			if (random_bits(&state) % 3)
				seen[plan.n_seen++] = (struct tt_seen){id, random_bits(&state) % 4};
		penalised(logits, VOCAB, &plan, seen, want);
		sample_seen(logits, VOCAB, plan, seen, result);
		plan.n_seen = 0;
		struct tt_sample_result bare = sample_one(want, VOCAB, plan);
		cr_expect_eq(result[1].token, bare.token, "case %d: %d, not %d", c, result[1].token, bare.token);
		n_changed += result[1].token != result[0].token;
		/* What is told is the model's own. */
		cr_expect_eq(result[1].target_logprob, result[0].target_logprob);
		cr_expect_arr_eq(result[1].top_tokens, result[0].top_tokens, 3 * sizeof *result[1].top_tokens);
		free(logits);
	}
	cr_expect(n_changed > CASES / 4, "%u of %d choices changed", n_changed, CASES);
}

/* Draws come from the penalised logits, cuts included: the tokens of the reference, and none but these. */
Test(kernels_sample, draws_are_from_what_penalties_leave)
{
	enum { VOCAB = 23, DRAWS = 400 };
	float *logits = random_floats(VOCAB, 2, 3), want[VOCAB];
	struct tt_seen seen[VOCAB / 2];
	double p[VOCAB];
	bool came[VOCAB] = {false};
	struct tt_sample_plan plan = {.target = -1, .sampling = {.temperature = 1, .top_p = 1, .top_k = 6}};
	plan.penalties = (struct tt_penalties){1.5f, 0.5f, 0.25f};
	for (plan.n_seen = 0; plan.n_seen < VOCAB / 2; plan.n_seen++)
		seen[plan.n_seen] = (struct tt_seen){2 * (int32_t)plan.n_seen, plan.n_seen % 3};
	penalised(logits, VOCAB, &plan, seen, want);
	for (plan.counter = 0; plan.counter < DRAWS; plan.counter++) {
		struct tt_sample_result result[2];
		sample_seen(logits, VOCAB, plan, seen, result);
		came[result[1].token] = true;
	}
	exact(want, VOCAB, &plan, p);
	for (int i = 0; i < VOCAB; i++)
		cr_expect(came[i] ? p[i] > 0 : p[i] < 0.03, "token %d has a share of %g", i, p[i]);
	free(logits);
}

/* Which of few tokens a draw may give, as bits: shares of the total fine enough for the least of them. */
static uint32_t drawn(const struct tt_sample_plan *plan, const float *weights, uint32_t n)
{
	enum { SHARES = 1024 };
	struct tt_cpu_candidate scratch[16];
	uint32_t seen = 0;
	cr_assert_leq(n, 16);
	for (int i = 0; i < SHARES; i++)
		seen |= 1u << tt_cpu_draw(plan, weights, n, (i + 0.5) / SHARES, scratch);
	return seen;
}

/* Weights that are exact in binary, so that a share, a rank or a floor is met exactly: what reaches it is in, and
 * nothing more is. */
Test(kernels_sample, a_cut_on_its_very_border)
{
	/* By rank: ids 2, 0, 4, then 1 before 3, which weigh the same. Their shares of the sum, added up: 1/2, 3/4,
	 * 7/8, 15/16, 1. */
	static const float weights[5] = {0.5f, 0.125f, 1, 0.125f, 0.25f};
	static const struct {
		float top_p, min_p;
		uint32_t top_k, want;
	} cases[] = {
		{0.5f, 0, 0, 1 << 2},
		{0.75f, 0, 0, 1 << 2 | 1 << 0},
		{0.875f, 0, 0, 1 << 2 | 1 << 0 | 1 << 4},
		{0.9375f, 0, 0, 1 << 2 | 1 << 0 | 1 << 4 | 1 << 1},
		{0.50001f, 0, 0, 1 << 2 | 1 << 0},
		{0.93751f, 0, 0, 31},
		{1, 0, 4, 1 << 2 | 1 << 0 | 1 << 4 | 1 << 1},
		{1, 0, 5, 31},
		{1, 0.125f, 0, 31},
		{1, 0.25f, 0, 1 << 2 | 1 << 0 | 1 << 4},
		{1, 0.25f, 4, 1 << 2 | 1 << 0 | 1 << 4},
		{0.9375f, 0.25f, 0, 1 << 2 | 1 << 0 | 1 << 4},
		{0.9375f, 0.125f, 0, 1 << 2 | 1 << 0 | 1 << 4 | 1 << 1},
		{0.9375f, 0.5f, 4, 1 << 2 | 1 << 0},
		/* Top-p is a share of what top-k left: 1 of 1.5, 1.5 of 1.75. */
		{0.625f, 0, 2, 1 << 2},
		{0.75f, 0, 2, 1 << 2 | 1 << 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct tt_sample_plan plan = {.target = -1,
			.sampling = {.temperature = 1,
				.top_p = cases[i].top_p,
				.min_p = cases[i].min_p,
				.top_k = cases[i].top_k}};
		cr_expect_eq(drawn(&plan, weights, 5), cases[i].want, "case %zu: tokens %x, not %x", i,
			drawn(&plan, weights, 5), cases[i].want);
	}
}

/* A token has the shares from where it begins, which is its own, to where the next begins, which is not. */
Test(kernels_sample, a_draw_on_the_border_of_two_tokens_gives_the_later)
{
	static const float weights[5] = {1, 0.5f, 0.25f, 0.125f, 0.125f};
	static const double begins[5] = {0, 0.5, 0.75, 0.875, 0.9375};
	struct tt_sample_plan all = {.target = -1, .sampling = {.temperature = 1, .top_p = 1}}, ranked = all;
	struct tt_cpu_candidate scratch[5];
	for (uint32_t i = 0; i < 5; i++) {
		cr_expect_eq(tt_cpu_draw(&all, weights, 5, begins[i], scratch), i);
		cr_expect_eq(tt_cpu_draw(&all, weights, 5, nextafter(i < 4 ? begins[i + 1] : 1, 0), scratch), i);
	}
	/* By rank, of what top-k left: 1, 1/2, 1/4 and 1/4. */
	static const float four[5] = {0.125f, 0.25f, 1, 0.25f, 0.5f};
	static const uint32_t order[4] = {2, 4, 1, 3};
	ranked.sampling.top_k = 4;
	for (uint32_t i = 0; i < 4; i++) {
		cr_expect_eq(tt_cpu_draw(&ranked, four, 5, begins[i], scratch), order[i]);
		cr_expect_eq(tt_cpu_draw(&ranked, four, 5, nextafter(i < 3 ? begins[i + 1] : 1, 0), scratch), order[i]);
	}
}

/* Pearson's chi-square over 20000 draws of one seed: a fixed number, held below the 99.99% quantile. */
Test(kernels_sample, draws_have_the_exact_shares)
{
	enum { VOCAB = 50, DRAWS = 20000 };
	float *logits = random_floats(VOCAB, 2, 77), *all = must_alloc((size_t)DRAWS * VOCAB, sizeof *all);
	struct tt_sample_plan *plans = must_alloc(DRAWS, sizeof *plans);
	struct tt_sample_result *results = must_alloc(DRAWS, sizeof *results);
	for (int i = 0; i < DRAWS; i++)
		memcpy(all + (size_t)i * VOCAB, logits, VOCAB * sizeof *logits);
	for (int c = 0; c < 7; c++) {
		double p[VOCAB], chi = 0;
		uint32_t counts[VOCAB] = {0}, degrees = 0;
		for (int i = 0; i < DRAWS; i++) {
			plans[i] = CUTS[c];
			plans[i].target = -1;
			plans[i].sampling.seed = 0x123456789abcdefu;
			plans[i].counter = (uint64_t)i;
		}
		sample(all, VOCAB, DRAWS, plans, results, 2, TT_CPU_BODY_BEST);
		for (int i = 0; i < DRAWS; i++)
			counts[results[i].token]++;
		exact(logits, VOCAB, &CUTS[c], p);
		for (int i = 0; i < VOCAB; i++) {
			double expected = p[i] * DRAWS;
			cr_assert(p[i] > 0 || counts[i] == 0);
			if (expected >= 5) {
				chi += (counts[i] - expected) * (counts[i] - expected) / expected;
				degrees++;
			}
		}
		/* Wilson and Hilferty's approximation of the quantile. */
		double d = degrees > 1 ? degrees - 1 : 1, root = 1 - 2 / (9 * d) + 3.72 * sqrt(2 / (9 * d));
		cr_assert(chi < d * root * root * root, "cut %d: chi-square %g with %g degrees", c, chi, d);
	}
	free(logits);
	free(all);
	free(plans);
	free(results);
}

/* A row's draw depends on its seed, counter and logits, not on its neighbours. */
Test(kernels_sample, draws_do_not_depend_on_the_batch)
{
	enum { VOCAB = 300, ROWS = 9 };
	float *logits = random_floats(ROWS * VOCAB, 3, 5);
	struct tt_sample_plan plans[ROWS];
	struct tt_sample_result together[ROWS], alone;
	uint32_t changed = 0;
	for (int i = 0; i < ROWS; i++)
		plans[i] = (struct tt_sample_plan){.target = -1,
			.sampling = {.temperature = 1, .top_p = 0.95f, .seed = (uint64_t)i << 40},
			.counter = 1,
			.n_top = 3};
	sample(logits, VOCAB, ROWS, plans, together, 3, TT_CPU_BODY_BEST);
	for (int i = 0; i < ROWS; i++) {
		sample(logits + (size_t)i * VOCAB, VOCAB, 1, &plans[i], &alone, 1, TT_CPU_BODY_PORTABLE);
		ASSERT_SAME_BITS(&alone, &together[i], 1, "row %d", i);
		plans[i].counter = 2;
		sample(logits + (size_t)i * VOCAB, VOCAB, 1, &plans[i], &alone, 1, TT_CPU_BODY_PORTABLE);
		changed += alone.token != together[i].token;
	}
	cr_assert_gt(changed, 5);
	free(logits);
}
