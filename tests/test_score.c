/* Log-probabilities of given text: the same float wherever a number is told, and whatever runs beside it. */
#include "golden.h"

#define MODEL GOLDEN("tiny-llama")

#ifdef TT_TEST_CUDA /* an emulated device takes a while */
enum { N_PROMPT = 20, N_GENERATED = 6, N_WAYS = 2 };
#else
enum { N_PROMPT = 37, N_GENERATED = 30, N_WAYS = 7 };
#endif
enum { N = N_PROMPT + N_GENERATED, TOP = 3, N_MATES = 5, LAYERS = 3, WIDTH = 64 };

static struct tt_policy *make_policy(struct tt_engine *engine, enum tt_policy_when when)
{
	struct tt_policy *policy = NULL;
	must(tt_policy_new(&policy, LAYERS, WIDTH, 1, err));
	policy->when = when;
	policy->alpha = 0.5f;
	for (uint32_t l = 1; l < LAYERS; l++) {
		policy->weights[l] = 1;
		for (uint32_t i = 0; i < WIDTH; i++)
			policy->directions[l * WIDTH + i] = 0.3f * sinf((float)(i * (l + 2)));
	}
	policy_adopt(engine, policy);
	return policy;
}

/* What is told of ids from N_PROMPT on. */
struct told {
	float logprobs[N];
	int32_t ids[N], top_ids[N][TOP];
	float top_logprobs[N][TOP];
};

static void prompt_of(int seed, int32_t *ids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ids[i] = (int32_t)((i * 7 + (size_t)seed * 31 + 3) % 200);
}

static struct tt_request_options options_of(struct tt_policy *policy)
{
	struct tt_request_options o;
	tt_request_options_default(&o);
	o.ignore_eos = true;
	o.n_steering = policy != NULL;
	o.steering[0] = (struct tt_steering){policy, 1};
	return o;
}

/* Writes text, as a client that does not know yet what it will be. */
static void generate(struct tt_engine *engine, struct tt_policy *policy, float temperature, struct told *told)
{
	struct tt_request_options o = options_of(policy);
	struct tt_token token;
	prompt_of(0, told->ids, N_PROMPT);
	o.ids = told->ids;
	o.n_ids = N_PROMPT;
	o.max_tokens = N_GENERATED;
	o.n_top = TOP;
	o.sampling.temperature = temperature;
	o.sampling.seed = 7;
	struct tt_request *request = request_run(engine, &o);
	for (size_t i = N_PROMPT; i < N; i++) {
		cr_assert(tt_request_next(request, &token));
		cr_assert_eq(token.n_top, TOP);
		told->ids[i] = token.id;
		told->logprobs[i] = token.logprob;
		memcpy(told->top_ids[i], token.top_ids, sizeof told->top_ids[i]);
		memcpy(told->top_logprobs[i], token.top_logprobs, sizeof told->top_logprobs[i]);
	}
	tt_request_free(request);
}

static void submit_score(struct tt_request **out, struct tt_engine *engine, struct tt_policy *policy,
	const int32_t *ids, size_t from, uint32_t top)
{
	struct tt_request_options o = options_of(policy);
	o.ids = ids;
	o.n_ids = N;
	o.n_prompt = N_PROMPT;
	o.score = true;
	o.score_from = from;
	o.score_top = top;
	must(tt_request_submit(out, engine, &o, err));
}

static void check_scores(struct tt_request *request, const struct told *told, size_t from, const char *way)
{
	const float *scores = tt_request_scores(request), *logprobs;
	const int32_t *ids;
	must(tt_request_wait(request, err));
	cr_expect_eq(tt_request_score_top(request, 0, &ids, &logprobs), 0);
	cr_expect_eq(tt_request_score_top(request, N, &ids, &logprobs), 0);
	cr_expect(from == 0 || tt_request_score_top(request, from - 1, &ids, &logprobs) == 0);
	for (size_t i = N_PROMPT; i < N; i++) {
		cr_assert_eq(scores[i], told->logprobs[i], "%s: id %zu is %.9g, not %.9g", way, i, (double)scores[i],
			(double)told->logprobs[i]);
		cr_assert_eq(tt_request_score_top(request, i, &ids, &logprobs), TOP);
		cr_assert_arr_eq(ids, told->top_ids[i], sizeof told->top_ids[i], "%s: alternatives of id %zu", way, i);
		cr_assert_arr_eq(
			logprobs, told->top_logprobs[i], sizeof told->top_logprobs[i], "%s: their numbers", way);
		for (int k = 0; k < TOP; k++)
			cr_assert(ids[k] != told->ids[i] || logprobs[k] == scores[i], "%s: two numbers for id %zu", way,
				i);
	}
}

struct way {
	const char *name;
	uint32_t max_batch, max_step_tokens, kv_tokens, n_threads;
	bool alone, no_sharing;
};

static const struct way ways[] = {
	{"with others, in chunks of 13", 6, 13, 0, 2, false, false},
	{"alone", 1, 512, 0, 1, true, false},
	{"with others in one step", 16, 512, 0, 2, false, false},
	{"nothing shared", 16, 512, 0, 3, false, true},
	{"few pages", 8, 48, 160, 2, false, false},
	{"chunks of one", 1, 1, 0, 2, true, false},
	{"more scored ids than a step samples", 2, 512, 0, 2, false, false},
};
_Static_assert(N_WAYS <= sizeof ways / sizeof *ways, "ways");

/* The scored one stands between others, of which one is the same text scored from another index on. */
static void run_way(const struct way *way, const struct told *told, enum tt_policy_when when, bool steered)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	struct tt_request *requests[N_MATES] = {NULL}, *all, *part;
	int32_t others[N_MATES][N];
	tt_engine_options_default(&options);
	options.device = TEST_DEVICE;
	options.max_batch = way->max_batch;
	options.max_step_tokens = way->max_step_tokens;
	options.context = N;
	options.kv_tokens = way->kv_tokens;
	options.n_threads = way->n_threads;
	options.no_prefix_sharing = way->no_sharing;
	must(tt_engine_open(&engine, MODEL, &options, err));
	struct tt_policy *policy = make_policy(engine, when), *used = steered ? policy : NULL;
	for (int i = 0; i < N_MATES && !way->alone; i++) {
		prompt_of(i + 1, others[i], N);
		submit_score(&requests[i], engine, i % 2 ? NULL : policy, others[i], 0, 0);
	}
	submit_score(&all, engine, used, told->ids, 0, TOP);
	submit_score(&part, engine, used, told->ids, N_PROMPT, TOP);
	check_scores(all, told, 0, way->name);
	check_scores(part, told, N_PROMPT, way->name);
	tt_request_free(all);
	tt_request_free(part);
	for (int i = 0; i < N_MATES; i++)
		tt_request_free(requests[i]);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* What was generated and told with its log-probability scores the same floats when it is given: greedy or drawn,
 * steered or not, and in whatever company. */
static void check_paths(float temperature, enum tt_policy_when when, bool steered)
{
	struct told told;
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_policy *policy = make_policy(engine, when);
	generate(engine, steered ? policy : NULL, temperature, &told);
	tt_engine_close(engine);
	tt_policy_free(policy);
	for (int i = 0; i < N_WAYS; i++)
		run_way(&ways[i], &told, when, steered);
}

Test(score, one_float_on_every_path)
{
	check_paths(0, TT_WHEN_ALL, false);
}

Test(score, one_float_on_every_path_drawn_and_steered)
{
	check_paths(0.9f, TT_WHEN_ALL, true);
}

Test(score, one_float_on_every_path_steered_from_the_last_prompt_token_on)
{
	check_paths(0, TT_WHEN_LAST, true);
}

Test(score, one_float_on_every_path_steered_while_generating)
{
	check_paths(0, TT_WHEN_GENERATION, true);
}

/* Alternatives are by probability, and of equals by id; without score there are none. */
Test(score, alternatives_are_the_likeliest)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_request_options o = options_of(NULL);
	int32_t given[N];
	const int32_t *ids;
	const float *logprobs;
	prompt_of(3, given, N);
	o.ids = given;
	o.n_ids = N;
	o.keep_logits = o.score = true;
	o.score_top = TT_MAX_TOP;
	struct tt_request *request = request_run(engine, &o);
	size_t vocab = tt_engine_info(engine)->vocab_size;
	for (size_t i = 1; i < N; i++) {
		const float *row = tt_request_logits(request) + (i - 1) * vocab;
		cr_assert_eq(tt_request_score_top(request, i, &ids, &logprobs), TT_MAX_TOP);
		for (uint32_t k = 0; k < TT_MAX_TOP; k++) {
			size_t n_larger = 0;
			for (size_t v = 0; v < vocab; v++)
				n_larger += row[v] > row[ids[k]] || (row[v] == row[ids[k]] && v < (size_t)ids[k]);
			cr_expect_eq(n_larger, k, "id %zu: alternative %u is place %zu", i, k, n_larger);
		}
	}
	tt_request_free(request);
	o.score = false;
	request = request_run(engine, &o);
	cr_expect_eq(tt_request_score_top(request, 1, &ids, &logprobs), 0);
	tt_request_free(request);
	o.score_top = TT_MAX_TOP + 1;
	struct tt_error err = {0};
	cr_expect_eq(tt_request_submit(&request, engine, &o, &err), TT_ERR_ARGUMENT);
	cr_expect_eq(tt_request_score_top(NULL, 1, &ids, &logprobs), 0);
	tt_engine_close(engine);
}
