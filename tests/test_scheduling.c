/* The engine's scheduling through the public API: the same bits whatever runs beside a request, pages shared and given
 * up, stops, telemetry, the kill switch, the model's own thread. */
#include <pthread.h>

#include "golden.h"
#include "random.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/request.h"

#define MODEL GOLDEN("tiny-llama/tiny-llama.q8_0.gguf")

#ifdef TT_TEST_CUDA /* an emulated device takes a while */
enum { N_PROMPTS = 12, BRIEF = 1 };
#else
enum { N_PROMPTS = 200, BRIEF = 0 };
#endif
enum { MAX_PROMPT = 70, MAX_GENERATED = 24 };

/* ---- The same bits ---- */

/* How a set of prompts is run. */
struct way {
	const char *name;
	uint32_t max_batch, max_step_tokens, kv_tokens, in_flight;
	bool no_sharing, backwards, own_thread;
	bool at_length; /* not where BRIEF */
	uint32_t n_ranks;
};

struct set {
	const char *model;
	size_t n;
	uint32_t n_generated;
	bool steered;
};

/* Half of the prompts begin alike, so that pages are shared. */
static size_t set_prompt(size_t index, uint32_t vocab, int32_t *ids)
{
	size_t n = 3 + index * 13 % (MAX_PROMPT - 3);
	uint64_t state = index % 2 ? 1 : index;
	for (size_t i = 0; i < n; i++) {
		if (i == 40 || i + 1 == n)
			state = index;
		ids[i] = (int32_t)(next_random(&state) % vocab);
	}
	return n;
}

/* A policy that pushes along its own direction. Odd ones have a gate that reads the prompt. */
static struct tt_policy *set_policy(struct tt_engine *engine, uint32_t index)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *policy = NULL;
	uint32_t observed = index % 4 == 1 ? 0 : info->n_layers - 1;
	must(tt_policy_new(&policy, info->n_layers, info->hidden_size, 1, err));
	if (index % 2) {
		must(tt_policy_set_gate(
			policy, &(struct tt_gate_choice){TT_GATE_PROBE, .observed = &observed, .n_observed = 1}, err));
		for (uint32_t i = 0; i < info->hidden_size; i++)
			policy->gate_weight[i] = cosf((float)(i * (index + 3)));
	}
	policy->when = (enum tt_policy_when)(index % 3);
	for (uint32_t l = 1; l < info->n_layers; l++) {
		policy->weights[l] = 1;
		for (uint32_t i = 0; i < info->hidden_size; i++)
			policy->directions[(size_t)l * info->hidden_size + i] = sinf((float)(i * (l + 2) + index));
	}
	policy_adopt(engine, policy);
	return policy;
}

enum { N_POLICIES = 6 };

static struct tt_engine *way_engine(const char *model, const struct way *way)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	struct tt_backend *backend = NULL;
	tt_engine_options_default(&options);
	options.max_batch = way->max_batch;
	options.max_step_tokens = way->max_step_tokens;
	options.context = MAX_PROMPT + MAX_GENERATED;
	options.kv_tokens = way->kv_tokens;
	options.no_prefix_sharing = way->no_sharing;
	options.n_ranks = way->n_ranks;
	struct tt_error note;
	must(tt_device_open(&backend, TEST_DEVICE, 2, NULL, &note, err));
	backend->in_flight = way->in_flight; /* of a CPU: 1 otherwise */
	must(tt_engine_open_on(&engine, backend, model, &options, err));
	if (way->own_thread)
		must(tt_engine_start(engine, err));
	return engine;
}

static void submit_one(struct tt_request **out, struct tt_engine *engine, const struct set *set, size_t i,
	struct tt_policy *const *policies)
{
	struct tt_request_options options;
	int32_t ids[MAX_PROMPT];
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = set_prompt(i, tt_engine_info(engine)->vocab_size, ids);
	options.max_tokens = set->n_generated;
	options.ignore_eos = i % 3 == 0;
	if (!BRIEF && i % 5 == 2) /* which the emulated device does not have */
		options.repetition_penalty = 1.4f;
	if (!BRIEF && i % 7 < 2) {
		options.presence_penalty = 0.5f;
		options.frequency_penalty = 0.7f;
	}
	options.n_steering = set->steered ? (uint32_t)i % 4 : 0;
	for (uint32_t k = 0; k < options.n_steering; k++)
		options.steering[k] =
			(struct tt_steering){policies[(i + k) % N_POLICIES], 0.25f * (float)(1 + (i + k) % 5)};
	must(tt_request_submit(out, engine, &options, err));
}

/* Every token and log-probability of a set, n_generated + 1 of each a request: the first is the count. */
static void run_set(
	const struct set *set, const struct way *way, int32_t *tokens, float *logprobs, struct tt_engine_stats *stats)
{
	struct tt_engine *engine = way_engine(set->model, way);
	struct tt_request **requests = calloc(set->n, sizeof(struct tt_request *));
	struct tt_policy *policies[N_POLICIES];
	size_t row = set->n_generated + 1;
	for (uint32_t i = 0; i < N_POLICIES; i++)
		policies[i] = set_policy(engine, i);
	memset(tokens, 0, set->n * row * sizeof *tokens);
	memset(logprobs, 0, set->n * row * sizeof *logprobs);
	for (size_t k = 0; k < set->n; k++) {
		size_t i = way->backwards ? set->n - 1 - k : k;
		submit_one(&requests[i], engine, set, i, policies);
	}
	for (size_t i = 0; i < set->n; i++) {
		struct tt_token token;
		must(tt_request_wait(requests[i], err));
		for (size_t t = 1; tt_request_next(requests[i], &token); t++) {
			tokens[i * row] = (int32_t)t;
			tokens[i * row + t] = token.id;
			logprobs[i * row + t] = token.logprob;
		}
		tt_request_free(requests[i]);
	}
	cr_assert_eq(tt_engine_pending(engine), 0);
	tt_engine_stats(engine, stats);
	if (way->own_thread)
		must(tt_engine_stop(engine, err));
	tt_engine_close(engine);
	for (uint32_t i = 0; i < N_POLICIES; i++)
		tt_policy_free(policies[i]);
	free(requests);
}

static void check_ways(const struct set *set)
{
	static const struct way ways[] = {
		{"alone, nothing shared", 1, 512, 0, 1, true, false, false, false, 1},
		{"batch 32", 32, 512, 0, 1, false, false, false, true, 1},
		{"batch 32 backwards, chunks of 37", 32, 37, 0, 1, false, true, false, false, 1},
		{"batch 32, nothing shared", 32, 512, 0, 1, true, false, false, true, 1},
		{"few pages", 16, 64, 256, 1, false, false, false, true, 1},
		{"few pages, nothing shared", 16, 64, 256, 1, true, true, false, false, 1},
		{"two steps in flight", 32, 128, 0, 2, false, false, false, true, 1},
		{"two steps in flight, few pages", 16, 64, 256, 2, false, true, false, false, 1},
		{"its own thread", 8, 128, 0, 2, false, false, true, false, 1},
		{"2 ranks, few pages", 16, 64, 256, 1, false, false, false, true, 2},
		{"4 ranks, two steps in flight, its own thread", 32, 128, 0, 2, false, false, true, true, 4},
	};
	enum { N = sizeof ways / sizeof *ways };
	size_t n = set->n * (set->n_generated + 1);
	int32_t *want = calloc(n, sizeof *want), *got = calloc(n, sizeof *got);
	float *want_logprobs = calloc(n, sizeof *want_logprobs), *got_logprobs = calloc(n, sizeof *got_logprobs);
	struct tt_engine_stats stats[N];
	uint64_t n_shared = 0, n_preemptions = 0, n_wasted = 0;
	run_set(set, &ways[0], want, want_logprobs, &stats[0]);
	for (size_t w = 1; w < N; w++) {
		if (BRIEF && ways[w].at_length)
			continue;
		run_set(set, &ways[w], got, got_logprobs, &stats[w]);
		cr_assert_arr_eq(got, want, n * sizeof *got, "tokens: %s, steered %d", ways[w].name, set->steered);
		cr_assert_arr_eq(
			got_logprobs, want_logprobs, n * sizeof *got_logprobs, "log-probabilities: %s", ways[w].name);
		fprintf(stderr, "%s, %s: %zu tokens shared, %zu pre-emptions, %zu reruns, %zu rows wasted\n",
			set->steered ? "steered" : "unsteered", ways[w].name, (size_t)stats[w].n_shared,
			(size_t)stats[w].n_preemptions, (size_t)stats[w].n_reruns, (size_t)stats[w].n_wasted);
		cr_assert(stats[w].n_shared == 0 || !ways[w].no_sharing, "%s", ways[w].name);
		cr_assert(stats[w].n_preemptions == 0 || ways[w].kv_tokens > 0, "%s", ways[w].name);
		cr_assert(stats[w].n_wasted == 0 || ways[w].in_flight > 1, "%s", ways[w].name);
		n_shared += stats[w].n_shared;
		n_preemptions += stats[w].n_preemptions;
		n_wasted += stats[w].n_wasted;
	}
	cr_assert(n_shared > 0 && n_preemptions > 0 && (n_wasted > 0 || BRIEF), "each of these came to pass");
	free(want);
	free(got);
	free(want_logprobs);
	free(got_logprobs);
}

Test(scheduling, the_same_bits_in_every_way_unsteered)
{
	check_ways(&(struct set){MODEL, N_PROMPTS, MAX_GENERATED, false});
}

Test(scheduling, the_same_bits_in_every_way_steered)
{
	check_ways(&(struct set){MODEL, N_PROMPTS, MAX_GENERATED, true});
}

/* Windows shorter than the prompts, and two ways to rotate: pages are shared, given up and filled again as elsewhere.
 * Other models are the same kernels on CUDA. */
#ifndef TT_TEST_CUDA
Test(scheduling, the_same_bits_in_every_way_with_windows)
{
	check_ways(&(struct set){GOLDEN("tiny-mistral"), N_PROMPTS, MAX_GENERATED, true});
	check_ways(&(struct set){GOLDEN("tiny-gemma3"), N_PROMPTS, MAX_GENERATED, true});
}
#endif

/* ---- Shared prefixes ---- */

static struct tt_request_options long_prompt(int32_t ids[MAX_PROMPT], uint32_t vocab)
{
	struct tt_request_options options;
	tt_request_options_default(&options);
	for (size_t i = 0; i < MAX_PROMPT; i++)
		ids[i] = (int32_t)(i * 31 + 7) % (int32_t)vocab;
	options.ids = ids;
	options.n_ids = MAX_PROMPT;
	options.max_tokens = 8;
	options.ignore_eos = true;
	return options;
}

/* n samples of one prompt, submitted together: 64 of its 70 tokens are computed once. */
static void check_samples(enum tt_policy_when when, bool gated, uint64_t want_shared)
{
	enum { N = 5 };
	const struct way way = {.max_batch = 8, .max_step_tokens = 512, .in_flight = 1};
	struct tt_engine *engine = way_engine(MODEL, &way);
	struct tt_policy *policy = set_policy(engine, gated ? 1 : 0);
	struct tt_request *requests[N];
	struct tt_engine_stats stats;
	int32_t ids[MAX_PROMPT];
	struct tt_request_options options = long_prompt(ids, tt_engine_info(engine)->vocab_size);
	options.n_steering = 1;
	options.steering[0] = (struct tt_steering){policy, 1};
	options.when = when;
	options.sampling.temperature = 1;
	for (uint64_t i = 0; i < N; i++) {
		options.sampling.seed = i;
		must(tt_request_submit(&requests[i], engine, &options, err));
	}
	for (int i = 0; i < N; i++) {
		must(tt_request_wait(requests[i], err));
		tt_request_free(requests[i]);
	}
	tt_engine_stats(engine, &stats);
	cr_expect_eq(stats.n_shared, want_shared, "when %d, gated %d: %zu shared", when, gated, (size_t)stats.n_shared);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

Test(scheduling, samples_of_one_prompt_compute_it_once)
{
	for (enum tt_policy_when when = TT_WHEN_GENERATION; when <= TT_WHEN_ALL; when++)
		check_samples(when, false, 4 * 64);
	check_samples(TT_WHEN_GENERATION, true, 4 * 64);
	check_samples(TT_WHEN_LAST, true, 4 * 64);
}

/* Scores and hidden states need every position, whoever holds its pages. */
Test(scheduling, reports_are_computed_though_pages_are_there)
{
	const struct way way = {.max_batch = 8, .max_step_tokens = 512, .in_flight = 1};
	struct tt_engine *engine = way_engine(MODEL, &way);
	const uint64_t layers[1] = {2};
	int32_t ids[MAX_PROMPT];
	struct tt_request_options options = long_prompt(ids, tt_engine_info(engine)->vocab_size);
	options.score = options.keep_logits = true;
	options.keep_layers = layers;
	struct tt_request *first = request_run(engine, &options), *second = request_run(engine, &options);
	size_t vocab = tt_engine_info(engine)->vocab_size, width = tt_engine_info(engine)->hidden_size;
	cr_assert_neq(tt_request_scores(first)[MAX_PROMPT / 2], 0);
	cr_assert_arr_eq(tt_request_scores(first), tt_request_scores(second), MAX_PROMPT * sizeof(float));
	cr_assert_arr_eq(tt_request_logits(first), tt_request_logits(second), MAX_PROMPT * vocab * sizeof(float));
	cr_assert_arr_eq(tt_request_hidden(first, 1), tt_request_hidden(second, 1), MAX_PROMPT * width * sizeof(float));
	tt_request_free(first);
	tt_request_free(second);
	tt_engine_close(engine);
}

static uint32_t layers_of_last_step(const struct tt_engine *engine)
{
	const struct tt_scheduler *s = &engine->scheduler;
	return s->plans[s->n_planned % TT_MAX_IN_FLIGHT].step->n_layers;
}

/* A request that reads the first layer alone runs no other, and one that runs them all does not take its pages, which
 * lack the keys and values of the others. */
Test(scheduling, a_request_runs_no_layer_below_those_it_reads)
{
	const struct way way = {.max_batch = 8, .max_step_tokens = 512, .in_flight = 1};
	const uint64_t layers[1] = {1};
	int32_t ids[MAX_PROMPT];
	struct tt_engine *fresh = way_engine(MODEL, &way), *engine = way_engine(MODEL, &way);
	size_t width = tt_engine_info(engine)->hidden_size;
	struct tt_request_options options = long_prompt(ids, tt_engine_info(engine)->vocab_size), observes = options;
	options.max_tokens = 4;
	observes.max_tokens = 0;
	observes.keep_layers = options.keep_layers = layers;
	struct tt_request *expected = request_run(fresh, &options), *first = request_run(engine, &observes);
	cr_assert_eq(layers_of_last_step(engine), 1);
	cr_assert_arr_eq(
		tt_request_hidden(first, 0), tt_request_hidden(expected, 0), MAX_PROMPT * width * sizeof(float));
	options.keep_layers = NULL;
	struct tt_request *second = request_run(engine, &options);
	cr_assert_eq(layers_of_last_step(engine), tt_engine_info(engine)->n_layers);
	struct tt_token a, b;
	while (tt_request_next(expected, &a)) {
		cr_assert(tt_request_next(second, &b));
		cr_assert(a.id == b.id && a.logprob == b.logprob);
	}
	tt_request_free(expected);
	tt_request_free(first);
	tt_request_free(second);
	tt_engine_close(fresh);
	tt_engine_close(engine);
}

/* ---- Ends ---- */

/* The text of an answer, and its tokens' pieces one by one. */
static size_t read_text(struct tt_request *request, char *text, size_t capacity)
{
	struct tt_token token;
	size_t n = 0, n_tokens = 0;
	for (; tt_request_next(request, &token); n_tokens++) {
		cr_assert(n + token.n_text < capacity);
		memcpy(text + n, token.text, token.n_text);
		n += token.n_text;
	}
	text[n] = 0;
	return n_tokens;
}

Test(scheduling, a_stop_string_ends_the_answer_and_is_not_shown)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	const int32_t prompt[3] = {5, 90, 17};
	struct tt_request_options options;
	char whole[1024], text[1024], stop[16];
	tt_request_options_default(&options);
	options.ids = prompt;
	options.n_ids = 3;
	options.max_tokens = 40;
	options.ignore_eos = true;
	options.sampling.temperature = 3;
	options.sampling.seed = 11;
	struct tt_request *request = request_run(engine, &options);
	size_t n_tokens = read_text(request, whole, sizeof whole), length = strlen(whole);
	cr_assert_gt(length, 20);
	tt_request_free(request);

	/* Three characters from the middle: the answer ends where they first appear. */
	size_t at = length / 2;
	while ((whole[at] & 0xc0) == 0x80)
		at++;
	snprintf(stop, sizeof stop, "%.6s", whole + at);
	const char *const stops[2] = {"never there", stop};
	options.stop = stops;
	options.n_stop = 2;
	request = request_run(engine, &options);
	size_t n_stopped = read_text(request, text, sizeof text);
	cr_assert_eq(tt_request_finish(request), TT_FINISH_STOP);
	cr_assert_lt(n_stopped, n_tokens);
	cr_assert_eq(strlen(text), (size_t)(strstr(whole, stop) - whole), "\"%s\" of \"%s\" until \"%s\"", text, whole,
		stop);
	cr_assert(!strncmp(text, whole, strlen(text)));
	tt_request_free(request);

	/* Text that only begins like a stop string is shown in the end. */
	char longer[20];
	snprintf(longer, sizeof longer, "%s~%%", stop);
	const char *const other[1] = {longer};
	options.stop = other;
	options.n_stop = 1;
	request = request_run(engine, &options);
	read_text(request, text, sizeof text);
	cr_assert_str_eq(text, whole);
	tt_request_free(request);
	tt_engine_close(engine);
}

Test(scheduling, a_stop_id_ends_the_answer)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	int32_t ids[MAX_PROMPT];
	struct tt_request_options options = long_prompt(ids, tt_engine_info(engine)->vocab_size);
	struct tt_request *whole = request_run(engine, &options);
	int32_t stop = tt_request_generated(whole)[5];
	size_t first = 0;
	while (tt_request_generated(whole)[first] != stop)
		first++;
	options.stop_ids = &stop;
	options.n_stop_ids = 1;
	struct tt_request *stopped = request_run(engine, &options);
	cr_assert_eq(tt_request_finish(stopped), TT_FINISH_STOP);
	cr_assert_eq(tt_request_n_generated(stopped), first + 1);
	tt_request_free(whole);
	tt_request_free(stopped);
	tt_engine_close(engine);
}

Test(scheduling, cancelled_and_late_requests_end)
{
	const struct way way = {.max_batch = 1, .max_step_tokens = 64, .in_flight = 2};
	struct tt_engine *engine = way_engine(MODEL, &way);
	int32_t ids[MAX_PROMPT];
	struct tt_request *running, *late, *next;
	struct tt_request_options options = long_prompt(ids, tt_engine_info(engine)->vocab_size);
	options.max_tokens = 20;
	must(tt_request_submit(&running, engine, &options, err));
	options.timeout = 1e-9;
	must(tt_request_submit(&late, engine, &options, err));
	while (tt_request_n_generated(running) < 3)
		must(tt_engine_step(engine, err));
	cr_assert_eq(tt_request_finish(late), TT_FINISH_DEADLINE);
	tt_request_cancel(running);
	cr_assert_eq(tt_request_finish(running), TT_FINISH_CANCELLED);
	cr_assert_eq(tt_request_n_generated(running), 3);
	must(tt_engine_next(engine, &next, -1, err));
	cr_assert_eq(next, late);
	must(tt_engine_next(engine, &next, -1, err));
	cr_assert_eq(next, running);
	must(tt_engine_next(engine, &next, -1, err));
	cr_assert_null(next, "nothing is pending");
	tt_request_free(running);
	tt_request_free(late);
	must(tt_engine_step(engine, err));
	cr_assert_eq(engine->scheduler.pool.n_free + engine->scheduler.pool.n_idle, engine->scheduler.pool.n_pages);
	tt_engine_close(engine);
}

Test(scheduling, a_policy_whose_last_user_is_cancelled_is_unloaded)
{
	const struct way way = {.max_batch = 1, .max_step_tokens = 64, .in_flight = 2};
	struct tt_engine *engine = way_engine(MODEL, &way);
	struct tt_policy *policy = set_policy(engine, 0);
	int32_t ids[MAX_PROMPT];
	struct tt_request *request;
	struct tt_request_options options = long_prompt(ids, tt_engine_info(engine)->vocab_size);
	options.n_steering = 1;
	options.steering[0] = (struct tt_steering){policy, 1};
	must(tt_request_submit(&request, engine, &options, err));
	must(tt_engine_remove_policy(engine, policy, err));
	cr_assert_eq(engine->n_removed, 1, "a request names it");
	tt_request_cancel(request);
	must(tt_engine_start(engine, err));
	must(tt_engine_stop(engine, err));
	cr_assert_eq(engine->n_removed, 0, "no step came after the cancelling, nor was one needed");
	tt_request_free(request);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* ---- Telemetry ---- */

struct told {
	size_t n;
	struct tt_engine *engine;
	float coef[MAX_PROMPT + MAX_GENERATED], norms[MAX_PROMPT + MAX_GENERATED][2]; /* of layer 1 */
	int32_t tokens[MAX_PROMPT + MAX_GENERATED];
	float s;
	size_t n_notified;
};

static void note(void *user, struct tt_request *request, const struct tt_telemetry *t)
{
	struct told *told = user;
	(void)request;
	cr_assert_eq(t->position, told->n, "position %zu after %zu", t->position, told->n);
	told->tokens[told->n] = t->token;
	told->coef[told->n] = t->coef[1];
	memcpy(told->norms[told->n], t->norms + 2, sizeof told->norms[0]);
	told->s = t->decisions[0].s;
	told->n++;
}

static void notified(void *user, struct tt_request *request)
{
	(void)request;
	((struct told *)user)->n_notified++;
}

/* In chunks, so that the prompt runs twice for `all` and `last`: each position is reported once, as it ran in the
 * end. */
Test(scheduling, telemetry_reports_every_token_once)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 13);
	struct tt_policy *policy = set_policy(engine, 3);
	int32_t ids[MAX_PROMPT];
	struct tt_request_options options = long_prompt(ids, tt_engine_info(engine)->vocab_size);
	options.n_steering = 1;
	options.steering[0] = (struct tt_steering){policy, 0.5f};
	options.telemetry = note;
	options.notify = notified;
	uint32_t n_steered = 0;
	for (int i = 0; i < 24; i++) {
		struct told told = {.engine = engine};
		ids[MAX_PROMPT - 1] = 40 + 17 * (i / 3);
		options.when = (enum tt_policy_when)(i % 3);
		options.user = &told;
		struct tt_request *request = request_run(engine, &options);
		size_t from = i % 3 == TT_WHEN_ALL ? 0 : i % 3 == TT_WHEN_LAST ? MAX_PROMPT - 1 : MAX_PROMPT;
		cr_assert_eq(told.n, MAX_PROMPT + 7, "all that ran: not the last token");
		cr_assert_eq(told.n_notified, 8 + 1);
		cr_assert_arr_eq(told.tokens, ids, sizeof ids);
		cr_assert_arr_eq(told.tokens + MAX_PROMPT, tt_request_generated(request), 7 * sizeof *ids);
		for (size_t t = 0; t < told.n; t++) {
			bool steers = t >= from && told.s == 1;
			cr_assert_eq(told.coef[t], steers ? 0.5f : 0, "coefficient of %zu, when %d", t, i % 3);
			cr_assert_eq(told.norms[t][0] != told.norms[t][1], steers, "norms of %zu, when %d", t, i % 3);
		}
		n_steered += told.s == 1;
		tt_request_free(request);
	}
	cr_assert(n_steered > 0 && n_steered < 24, "some gates opened, not all");
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* Its last block then runs for the tokens alone that give a sample. */
Test(scheduling, telemetry_of_what_nothing_steers_asks_for_no_norms)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 0);
	int32_t ids[MAX_PROMPT];
	struct tt_request_options options = long_prompt(ids, tt_engine_info(engine)->vocab_size);
	options.telemetry = note;
	struct tt_policy *policy = set_policy(engine, 3);
	for (int steered = 0; steered < 2; steered++) {
		struct told told = {.engine = engine};
		struct tt_request *request;
		options.user = &told;
		options.n_steering = (uint32_t)steered;
		options.steering[0] = (struct tt_steering){policy, 0.5f};
		must(tt_request_submit(&request, engine, &options, err));
		must(tt_engine_step(engine, err));
		const struct tt_scheduler *s = &engine->scheduler;
		bool wants_norms = s->plans[s->n_planned % TT_MAX_IN_FLIGHT].step->wants & TT_WANT_NORMS;
		cr_expect_eq(wants_norms, steered == 1);
		tt_request_free(request);
	}
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* ---- The kill switch ---- */

Test(scheduling, no_step_is_steered_after_the_kill_switch)
{
	const struct way way = {.max_batch = 4, .max_step_tokens = 64, .in_flight = 2};
	struct tt_engine *engine = way_engine(MODEL, &way);
	struct tt_policy *policy = set_policy(engine, 2);
	struct tt_decision decision;
	int32_t ids[MAX_PROMPT];
	struct tt_request_options options = long_prompt(ids, tt_engine_info(engine)->vocab_size);
	struct tt_request *plain = request_run(engine, &options), *killed, *before, *after;
	options.n_steering = 1;
	options.steering[0] = (struct tt_steering){policy, 2};
	options.when = TT_WHEN_ALL;
	before = request_run(engine, &options);
	cr_assert_arr_neq(tt_request_generated(before), tt_request_generated(plain), 8 * sizeof *ids);
	tt_engine_kill_steering(engine);
	killed = request_run(engine, &options);
	cr_assert_arr_eq(tt_request_generated(killed), tt_request_generated(plain), 8 * sizeof *ids);
	cr_assert(tt_request_decision(killed, 0, &decision) && decision.killed);
	tt_engine_resume_steering(engine);
	after = request_run(engine, &options);
	cr_assert_arr_eq(tt_request_generated(after), tt_request_generated(before), 8 * sizeof *ids);
	cr_assert(tt_request_decision(after, 0, &decision) && !decision.killed);
	struct tt_request *all[4] = {plain, killed, before, after};
	for (int i = 0; i < 4; i++)
		tt_request_free(all[i]);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* ---- The model's own thread ---- */

struct client {
	struct tt_engine *engine;
	const struct tt_policy *shared;
	uint32_t index, n_same;
	const int32_t *want; // [8]
};

/* Submits, cancels, loads and unloads policies while others do the same. */
static void *use_engine(void *argument)
{
	struct client *client = argument;
	struct tt_engine *engine = client->engine;
	int32_t ids[MAX_PROMPT];
	for (uint32_t round = 0; round < 6; round++) {
		struct tt_request_options options = long_prompt(ids, tt_engine_info(engine)->vocab_size);
		struct tt_request *request = NULL, *cancelled = NULL;
		struct tt_policy *policy = set_policy(engine, client->index);
		must(tt_request_submit(&request, engine, &options, err));
		options.n_steering = 1;
		options.steering[0] = (struct tt_steering){policy, 1};
		options.max_tokens = 20;
		must(tt_request_submit(&cancelled, engine, &options, err));
		must(tt_engine_remove_policy(engine, policy, err));
		tt_policy_free(policy);
		must(tt_request_wait(request, err));
		client->n_same += !memcmp(tt_request_generated(request), client->want, 8 * sizeof *ids);
		if (round % 2)
			tt_request_cancel(cancelled);
		must(tt_request_wait(cancelled, err));
		tt_request_free(request);
		tt_request_free(cancelled);
	}
	return NULL;
}

Test(scheduling, many_threads_use_one_engine)
{
	enum { N = 4 };
	const struct way way = {.max_batch = 8, .max_step_tokens = 128, .in_flight = 2};
	struct tt_engine *engine = way_engine(MODEL, &way);
	int32_t ids[MAX_PROMPT];
	struct tt_request_options options = long_prompt(ids, tt_engine_info(engine)->vocab_size);
	struct tt_request *want = request_run(engine, &options);
	struct client clients[N];
	pthread_t threads[N];
	struct tt_error error;
	must(tt_engine_start(engine, err));
	cr_assert_eq(tt_engine_step(engine, &error), TT_ERR_ARGUMENT);
	cr_assert_eq(tt_engine_start(engine, &error), TT_ERR_ARGUMENT);
	for (uint32_t i = 0; i < N; i++) {
		clients[i] = (struct client){.engine = engine, .index = i, .want = tt_request_generated(want)};
		cr_assert_eq(pthread_create(&threads[i], NULL, use_engine, &clients[i]), 0);
	}
	for (int i = 0; i < 20; i++) {
		tt_engine_kill_steering(engine);
		tt_engine_resume_steering(engine);
	}
	for (uint32_t i = 0; i < N; i++) {
		pthread_join(threads[i], NULL);
		cr_assert_eq(clients[i].n_same, 6, "thread %u: %u of 6 answers are right", i, clients[i].n_same);
	}
	must(tt_engine_stop(engine, err));
	cr_assert_eq(tt_engine_pending(engine), 0);
	cr_assert_eq(engine->n_removed, 0, "every policy is unloaded");
	tt_request_free(want);
	tt_engine_close(engine);
}
