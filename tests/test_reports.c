/* What is reported of steering: norms, coefficients, telemetry, captures and answers. They depend on the request alone,
 * whatever runs beside it, and none of them claims steering that did not act. */
#include <jansson.h>
#include <unistd.h>

#include "golden.h"
#include "runtime/engine/engine.h"

#define MODEL GOLDEN("tiny-llama")

#ifdef TT_TEST_CUDA /* an emulated device takes a while */
enum { MAX_PROMPT = 30, N_GENERATED = 3, ROUNDS = 1, BRIEF = 1 };
#else
enum { MAX_PROMPT = 70, N_GENERATED = 24, ROUNDS = 2, BRIEF = 0 };
#endif
enum { LAYERS = 3, WIDTH = 64, MAX_POSITIONS = MAX_PROMPT + N_GENERATED };

static const uint64_t EVERY_LAYER[(TT_MAX_LAYERS + 63) / 64] = {~0ull};

static void make_prompt(uint32_t seed, size_t n, int32_t *ids)
{
	uint32_t state = seed * 2654435761u + 1;
	for (size_t i = 0; i < n; i++) {
		state = state * 1664525u + 1013904223u;
		ids[i] = (int32_t)(state >> 16) % 256;
	}
}

enum gate { ALWAYS, OPEN, SHUT };

/* Steers layers 1 and 2. Its probe reads layer 0, or the last layer where it is late, and its bias alone decides. */
static struct tt_policy *make_policy(
	struct tt_engine *engine, enum gate gate, bool late, enum tt_policy_op op, enum tt_policy_when when)
{
	struct tt_policy *policy = NULL;
	const uint32_t observed = late ? LAYERS - 1 : 0;
	must(tt_policy_new(&policy, LAYERS, WIDTH, 1, err));
	policy->op = op;
	policy->when = when;
	policy->alpha = 0.5f;
	if (gate != ALWAYS) {
		must(tt_policy_set_gate(
			policy, &(struct tt_gate_choice){TT_GATE_PROBE, .observed = &observed, .n_observed = 1}, err));
		policy->gate_bias = gate == OPEN ? 5 : -5;
	}
	for (uint32_t l = 1; l < LAYERS; l++) {
		policy->weights[l] = 1;
		for (uint32_t i = 0; i < WIDTH; i++)
			policy->directions[l * WIDTH + i] = 0.3f * sinf((float)(i * (l + 2) + op));
	}
	policy_adopt(engine, policy);
	return policy;
}

/* The report of every position, by telemetry and by the request itself. */
struct said {
	size_t n, n_prompt;
	float coef[MAX_POSITIONS][TT_MAX_STACK][LAYERS], norms[MAX_POSITIONS][LAYERS][2]; /* telemetry */
	float asked[MAX_POSITIONS][TT_MAX_STACK][LAYERS], traced[MAX_POSITIONS][LAYERS][2];
	struct tt_engine *engine;
	size_t kill_at;              /* kills when that many tokens were generated; 0: never */
	struct tt_request *kill_for; /* or when this request was pre-empted */
	struct tt_policy *only;      /* kills this policy; NULL: all steering */
};

static void note(void *user, struct tt_request *request, const struct tt_telemetry *t)
{
	struct said *said = user;
	(void)request;
	cr_assert_eq(t->position, said->n, "position %zu after %zu", t->position, said->n);
	memcpy(said->coef[said->n], t->coef, t->n_steering * sizeof said->coef[0][0]);
	memcpy(said->norms[said->n], t->norms, sizeof said->norms[0]);
	said->n++;
}

static void ask(struct said *said, const struct tt_request *request, uint32_t n_steering)
{
	size_t n;
	const float *norms = tt_request_norms(request, &n);
	cr_assert_eq(n, said->n);
	memcpy(said->traced, norms, n * sizeof said->traced[0]);
	for (size_t p = 0; p < n; p++)
		for (uint32_t i = 0; i < n_steering; i++) {
			const float *coef = tt_request_coefficients(request, i, p);
			if (coef)
				memcpy(said->asked[p][i], coef, sizeof said->asked[p][i]);
		}
	cr_assert_null(tt_request_coefficients(request, n_steering, 0));
	cr_assert_arr_eq(said->asked, said->coef, sizeof said->coef, "telemetry and the request disagree");
	cr_assert_arr_eq(said->traced, said->norms, sizeof said->norms, "telemetry's and the trace's norms");
}

/* ---- The same in every way ---- */

struct way {
	const char *name;
	uint32_t max_batch, max_step_tokens, kv_tokens, in_flight;
};

/* Policies by gate and op, and for each request which of them, at what scale and when. */
enum { N_POLICIES = 7 };

struct kind {
	uint32_t n;
	struct {
		int policy; /* in make_policies' order */
		float scale;
	} steering[TT_MAX_STACK];
	enum tt_policy_when when;
};

static const struct kind kinds[] = {
	{1, {{0, 1}}, TT_WHEN_ALL},                         /* a gate that stays shut */
	{1, {{0, 1}}, TT_WHEN_LAST},                        /* ... */
	{1, {{0, 1}}, TT_WHEN_GENERATION},                  /* ... */
	{1, {{1, 1}}, TT_WHEN_ALL},                         /* one that opens */
	{2, {{0, 1}, {1, 1}}, TT_WHEN_ALL},                 /* one of each */
	{2, {{0, 1}, {2, 1}}, TT_WHEN_POLICY},              /* shut for all, open for the last */
	{2, {{0, 1}, {3, -1}}, TT_WHEN_POLICY},             /* shut for all, without a gate for the generation */
	{1, {{1, 0}}, TT_WHEN_ALL},                         /* open, and of scale 0 */
	{2, {{3, 0}, {0, 2}}, TT_WHEN_LAST},                /* nothing acts */
	{1, {{3, 0}}, TT_WHEN_ALL},                         /* no gate, scale 0 */
	{1, {{4, 1}}, TT_WHEN_ALL},                         /* shut late */
	{3, {{5, 1}, {0, 1}, {3, 0.5f}}, TT_WHEN_POLICY},   /* whole rows, late, from the last prompt token on */
	{4, {{6, 1}, {0, 1}, {6, 0}, {1, 1}}, TT_WHEN_ALL}, /* whole rows shut, and one open */
};

enum { N_KINDS = sizeof kinds / sizeof *kinds, N_REQUESTS = ROUNDS * N_KINDS };

static void make_policies(struct tt_engine *engine, struct tt_policy *policies[N_POLICIES])
{
	policies[0] = make_policy(engine, SHUT, false, TT_OP_ADD, TT_WHEN_ALL);
	policies[1] = make_policy(engine, OPEN, false, TT_OP_ADD, TT_WHEN_ALL);
	policies[2] = make_policy(engine, OPEN, false, TT_OP_ADD, TT_WHEN_LAST);
	policies[3] = make_policy(engine, ALWAYS, false, TT_OP_ADD, TT_WHEN_GENERATION);
	policies[4] = make_policy(engine, SHUT, true, TT_OP_ADD, TT_WHEN_ALL);
	policies[5] = make_policy(engine, OPEN, true, TT_OP_ABLATE, TT_WHEN_LAST);
	policies[6] = make_policy(engine, SHUT, false, TT_OP_ABLATE, TT_WHEN_ALL);
}

/* Which gates open and which policies start where, said once more: what the kinds are made of. */
static bool should_act(const struct kind *kind, uint32_t i, size_t position, size_t n_prompt)
{
	static const bool opens[N_POLICIES] = {false, true, true, true, false, true, false};
	static const enum tt_policy_when own[N_POLICIES] = {
		TT_WHEN_ALL, TT_WHEN_ALL, TT_WHEN_LAST, TT_WHEN_GENERATION, TT_WHEN_ALL, TT_WHEN_LAST, TT_WHEN_ALL};
	int policy = kind->steering[i].policy;
	enum tt_policy_when when = kind->when == TT_WHEN_POLICY ? own[policy] : kind->when;
	size_t from = when == TT_WHEN_ALL ? 0 : when == TT_WHEN_LAST ? n_prompt - 1 : n_prompt;
	return opens[policy] && kind->steering[i].scale != 0 && position >= from;
}

/* hidden: [n_prompt][WIDTH] of the layers, where they were kept. */
static void check_said(const struct said *said, const struct kind *kind, const struct tt_request *request, bool kept)
{
	for (size_t p = 0; p < said->n; p++) {
		bool any = false;
		for (uint32_t i = 0; i < kind->n; i++) {
			bool acts = should_act(kind, i, p, said->n_prompt);
			for (uint32_t l = 0; l < LAYERS; l++)
				cr_assert_eq(said->coef[p][i][l], acts && l > 0 ? 0.5f * kind->steering[i].scale : 0,
					"kind %td, position %zu, policy %u", kind - kinds, p, i);
			any |= acts;
		}
		for (uint32_t l = 0; l < LAYERS; l++) {
			const float *norms = said->norms[p][l];
			cr_assert_eq(norms[0] != 0, any, "kind %td, position %zu: norm %g", kind - kinds, p,
				(double)norms[0]);
			cr_assert_eq(norms[0] != norms[1], any && l > 0, "kind %td, position %zu: norms %g, %g",
				kind - kinds, p, (double)norms[0], (double)norms[1]);
			if (!any || !kept || p >= said->n_prompt)
				continue;
			const float *h = tt_request_hidden(request, l) + p * WIDTH;
			double squares = 0;
			for (int i = 0; i < WIDTH; i++)
				squares += (double)h[i] * (double)h[i];
			cr_assert_float_eq((double)norms[1], sqrt(squares), 1e-5 * sqrt(squares));
		}
	}
}

static void submit(struct tt_request **out, struct tt_engine *engine, struct tt_policy *const *policies, size_t index,
	struct said *said, bool keep)
{
	const struct kind *kind = &kinds[index % N_KINDS];
	struct tt_request_options options;
	int32_t ids[MAX_PROMPT];
	said->n_prompt = index < N_KINDS ? MAX_PROMPT - index : 5 + 3 * (index % N_KINDS);
	make_prompt((uint32_t)index, said->n_prompt, ids);
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = said->n_prompt;
	options.max_tokens = N_GENERATED;
	options.ignore_eos = true;
	options.trace = true;
	options.telemetry = note;
	options.user = said;
	options.when = kind->when;
	options.keep_layers = keep ? EVERY_LAYER : NULL;
	options.n_steering = kind->n;
	for (uint32_t i = 0; i < kind->n; i++)
		options.steering[i] = (struct tt_steering){policies[kind->steering[i].policy], kind->steering[i].scale};
	must(tt_request_submit(out, engine, &options, err));
}

static struct tt_engine *way_engine(const struct way *way)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	struct tt_backend *backend = NULL;
	struct tt_error device_note;
	tt_engine_options_default(&options);
	options.max_batch = way->max_batch;
	options.max_step_tokens = way->max_step_tokens;
	options.context = MAX_POSITIONS;
	options.kv_tokens = way->kv_tokens;
	must(tt_device_open(&backend, TEST_DEVICE, 2, NULL, &device_note, err));
	backend->in_flight = way->in_flight; /* of a CPU: 1 otherwise */
	must(tt_engine_open_on(&engine, backend, MODEL, &options, err));
	return engine;
}

static void run_way(const struct way *way, struct said *said, struct tt_engine_stats *stats, bool keep)
{
	struct tt_engine *engine = way_engine(way);
	struct tt_policy *policies[N_POLICIES];
	struct tt_request *requests[N_REQUESTS];
	make_policies(engine, policies);
	memset(said, 0, N_REQUESTS * sizeof *said);
	for (size_t i = 0; i < N_REQUESTS; i++)
		submit(&requests[i], engine, policies, i, &said[i], keep);
	for (size_t i = 0; i < N_REQUESTS; i++) {
		const struct kind *kind = &kinds[i % N_KINDS];
		must(tt_request_wait(requests[i], err));
		cr_assert_eq(said[i].n, said[i].n_prompt + N_GENERATED - 1);
		ask(&said[i], requests[i], kind->n);
		check_said(&said[i], kind, requests[i], keep);
		tt_request_free(requests[i]);
	}
	tt_engine_stats(engine, stats);
	tt_engine_close(engine);
	for (int i = 0; i < N_POLICIES; i++)
		tt_policy_free(policies[i]);
}

Test(reports, the_same_bytes_in_every_way)
{
	static const struct way ways[] = {
		{"alone", 1, 512, 0, 1},
		{"batch 32", 32, 512, 0, 1},
		{"batch 16, some prompts in chunks", 16, 80, 0, 1},
		{"chunks of 13", 4, 13, 0, 1},
		{"few pages", 16, 64, 160, 1},
		{"two steps in flight, few pages", 16, 72, 160, 2},
	};
	struct said *want = calloc(N_REQUESTS, sizeof *want), *got = calloc(N_REQUESTS, sizeof *got);
	struct tt_engine_stats stats;
	uint64_t n_preemptions = 0, n_reruns = 0;
	run_way(&ways[0], want, &stats, true);
	for (size_t w = BRIEF ? 3 : 1; w < (BRIEF ? 4 : sizeof ways / sizeof *ways); w++) {
		run_way(&ways[w], got, &stats, false);
		n_preemptions += stats.n_preemptions;
		n_reruns += stats.n_reruns;
		for (size_t i = 0; i < N_REQUESTS; i++)
			cr_assert(!memcmp(&got[i], &want[i], sizeof *got), "%s: the reports of request %zu",
				ways[w].name, i);
	}
	cr_assert((n_preemptions > 0 || BRIEF) && n_reruns > 0, "%zu pre-emptions, %zu reruns", (size_t)n_preemptions,
		(size_t)n_reruns);
	free(want);
	free(got);
}

/* ---- The kill switch: nothing of it is the device's ---- */

#ifndef TT_TEST_CUDA

/* How often a lock was taken. */
static const pthread_mutex_t *watched;
static size_t n_locks;

int __real_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
	n_locks += lock == watched;
	return __real_pthread_mutex_lock(lock);
}

static void kill_steering(const struct said *said)
{
	if (said->only)
		tt_engine_kill_policies(said->engine, &said->only, 1, true);
	else
		tt_engine_kill_steering(said->engine);
}

static void resume_steering(const struct said *said)
{
	if (said->only)
		tt_engine_kill_policies(said->engine, &said->only, 1, false);
	else
		tt_engine_resume_steering(said->engine);
}

static void kill_then(void *user, struct tt_request *request)
{
	struct said *said = user;
	struct tt_engine_stats stats;
	tt_engine_stats(said->engine, &stats);
	if (said->kill_at && tt_request_n_generated(request) == said->kill_at)
		kill_steering(said);
	if (said->kill_for && stats.n_preemptions > 0)
		kill_steering(said);
}

static struct tt_request_options killed_options(
	struct said *said, struct tt_engine *engine, struct tt_policy *policy, const int32_t *ids, size_t n_ids)
{
	struct tt_request_options options;
	*said = (struct said){.engine = engine, .n_prompt = n_ids};
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = n_ids;
	options.max_tokens = N_GENERATED;
	options.ignore_eos = true;
	options.trace = true;
	options.telemetry = note;
	options.notify = kill_then;
	options.user = said;
	options.n_steering = 1;
	options.steering[0] = (struct tt_steering){policy, 1};
	return options;
}

/* Steered from `from` to `until`, and so say all. */
static void check_killed(struct said *said, const struct tt_request *request, size_t from, size_t until)
{
	struct tt_decision decision;
	ask(said, request, 1);
	for (size_t p = 0; p < said->n; p++) {
		bool steered = p >= from && p < until;
		cr_assert_eq(said->coef[p][0][1], steered ? 0.5f : 0, "position %zu of %zu to %zu", p, from, until);
		cr_assert_eq(tt_request_coefficients(request, 0, p) != NULL, steered);
		cr_assert_eq(said->norms[p][1][0] != said->norms[p][1][1], steered);
		cr_assert_eq(said->norms[p][1][0] != 0, steered);
	}
	cr_assert(tt_request_decision(request, 0, &decision));
	cr_assert(decision.killed);
	cr_assert_eq(decision.killed_from, until, "killed from %zu, not %zu", decision.killed_from, until);
	cr_assert_eq(decision.coef[1], until > from ? 0.5f : 0, "it %s acted", until > from ? "has" : "has not");
}

Test(reports, a_kill_before_the_first_step_leaves_nothing_to_report)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 64);
	struct tt_policy *policies[3] = {make_policy(engine, ALWAYS, false, TT_OP_ADD, TT_WHEN_ALL),
		make_policy(engine, OPEN, false, TT_OP_ADD, TT_WHEN_ALL),
		make_policy(engine, OPEN, true, TT_OP_ADD, TT_WHEN_ALL)};
	int32_t ids[40];
	struct said said;
	make_prompt(3, 40, ids);
	for (int i = 0; i < 18; i++) {
		struct tt_request_options options = killed_options(&said, engine, policies[i % 3], ids, 40);
		said.only = i < 9 ? NULL : policies[i % 3];
		options.when = (enum tt_policy_when)(i % 9 / 3);
		kill_steering(&said);
		struct tt_request *request = request_run(engine, &options);
		check_killed(&said, request, 0, 0);
		tt_request_free(request);
		resume_steering(&said);
	}
	tt_engine_close(engine);
	for (int i = 0; i < 3; i++)
		tt_policy_free(policies[i]);
}

/* Once n tokens are generated, the next to run is the last of these. The switch is back at once: that changes nothing
 * for who ran under it. */
Test(reports, a_kill_in_the_middle_ends_every_report_at_one_token)
{
	struct tt_engine *engine = way_engine(&(struct way){"one step at a time", 4, 64, 0, 1});
	struct tt_policy *policies[3] = {make_policy(engine, ALWAYS, false, TT_OP_ADD, TT_WHEN_ALL),
		make_policy(engine, OPEN, false, TT_OP_ABLATE, TT_WHEN_ALL),
		make_policy(engine, OPEN, true, TT_OP_ADD, TT_WHEN_ALL)};
	int32_t ids[40];
	struct said said;
	make_prompt(3, 40, ids);
	for (int i = 0; i < 18; i++) {
		enum tt_policy_when when = (enum tt_policy_when)(i % 9 / 3);
		struct tt_request_options options = killed_options(&said, engine, policies[i % 3], ids, 40);
		said.only = i < 9 ? NULL : policies[i % 3];
		said.kill_at = 1 + (size_t)i % 4;
		options.when = when;
		struct tt_request *request = request_run(engine, &options);
		size_t from = when == TT_WHEN_ALL ? 0 : when == TT_WHEN_LAST ? 39 : 40;
		check_killed(&said, request, from, 40 + said.kill_at - 1);
		tt_request_free(request);
		resume_steering(&said);
	}
	/* One that was killed is nothing to a request without it, or with it at scale 0. */
	tt_engine_kill_policies(engine, &policies[1], 1, true);
	struct tt_request_options options = killed_options(&said, engine, policies[0], ids, 40);
	options.steering[options.n_steering++] = (struct tt_steering){policies[1], 0};
	struct tt_request *request = request_run(engine, &options);
	struct tt_decision decision;
	cr_assert(tt_request_decision(request, 0, &decision) && !decision.killed);
	cr_assert_eq(decision.killed_from, SIZE_MAX, "it came to the others, not to this one");
	tt_request_free(request);
	tt_engine_close(engine);
	for (int i = 0; i < 3; i++)
		tt_policy_free(policies[i]);
}

Test(reports, several_policies_are_killed_by_one_wait_for_a_step)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 64);
	struct tt_policy *policies[N_POLICIES];
	int32_t ids[40];
	make_policies(engine, policies);
	make_prompt(3, 40, ids);
	watched = &engine->launch;
	tt_engine_kill_policies(engine, policies, N_POLICIES, true);
	cr_assert_eq(n_locks, 1);
	watched = NULL;
	for (size_t i = 0; i < N_POLICIES; i++) {
		struct said said;
		struct tt_decision decision;
		struct tt_request_options options = killed_options(&said, engine, policies[i], ids, 40);
		struct tt_request *request = request_run(engine, &options);
		cr_assert(tt_request_decision(request, 0, &decision) && decision.killed, "%zu", i);
		tt_request_free(request);
	}
	watched = &engine->launch;
	tt_engine_kill_policies(engine, policies, N_POLICIES, false);
	cr_assert_eq(n_locks, 1, "there is nothing to wait for when steering is resumed");
	tt_engine_close(engine);
	for (size_t i = 0; i < N_POLICIES; i++)
		tt_policy_free(policies[i]);
}

/* Tokens that ran steered run again, unsteered, since their pages were lost: what was reported of them stays true, for
 * the answer so far came of them. */
static void kill_after_pre_emption(bool one)
{
	struct tt_engine *engine = way_engine(&(struct way){"eight pages", 2, 64, 128, 1});
	struct tt_policy *policy = make_policy(engine, ALWAYS, false, TT_OP_ADD, TT_WHEN_ALL);
	int32_t ids[70];
	struct said old_said, said;
	struct tt_request *old, *request;
	struct tt_engine_stats stats;
	struct tt_decision decision;
	make_prompt(4, 70, ids);
	struct tt_request_options old_options = killed_options(&old_said, engine, policy, ids, 70);
	old_options.max_tokens = N_GENERATED;
	must(tt_request_submit(&old, engine, &old_options, err));
	struct tt_request_options options = killed_options(&said, engine, policy, ids + 30, 20);
	options.max_tokens = 40;
	must(tt_request_submit(&request, engine, &options, err));
	old_said.kill_for = request;
	old_said.only = one ? policy : NULL;
	must(tt_request_wait(request, err));
	must(tt_request_wait(old, err));
	tt_engine_stats(engine, &stats);
	cr_assert_gt(stats.n_preemptions, 0);
	cr_assert(tt_request_decision(request, 0, &decision) && decision.killed);
	cr_assert(decision.killed_from > 20 && decision.killed_from < 59, "killed from %zu", decision.killed_from);
	cr_assert_eq(said.n, 59);
	check_killed(&said, request, 0, decision.killed_from);
	tt_request_free(request);
	tt_request_free(old);
	tt_engine_close(engine);
	tt_policy_free(policy);
}
Test(reports, a_kill_after_a_pre_emption_does_not_undo_reports)
{
	kill_after_pre_emption(false);
	kill_after_pre_emption(true);
}

/* A captured tensor, [n_ids][width]. */
static float *captured(const char *path, const char *name, size_t n)
{
	struct tt_safetensors *file = golden_open(path);
	size_t n_read;
	float *out = golden_floats(file, name, &n_read);
	cr_assert_eq(n_read, n);
	tt_safetensors_close(file);
	return out;
}

/* Layer 1 reads what is not steered yet, so its output differs from the unsteered one just where it was steered. */
static void check_capture(const char *path, const char *plain_path, size_t n_ids, size_t until)
{
	float *coef = captured(path, "coef", n_ids * LAYERS);
	float *hidden = captured(path, "hidden.1", n_ids * WIDTH);
	float *plain = captured(plain_path, "hidden.1", n_ids * WIDTH);
	for (size_t t = 0; t < n_ids; t++) {
		bool moved = memcmp(hidden + t * WIDTH, plain + t * WIDTH, WIDTH * sizeof *plain) != 0;
		cr_assert_eq(coef[t * LAYERS] != 0, false);
		cr_assert_eq(coef[t * LAYERS + 1] != 0, moved, "token %zu", t);
		cr_assert_eq(coef[t * LAYERS + 2] != 0, moved, "token %zu", t);
		cr_assert_eq(moved, t < until, "token %zu of %zu", t, until);
	}
	free(coef);
	free(hidden);
	free(plain);
}

Test(reports, a_capture_has_the_means_of_its_hidden_states)
{
	enum { FROM = 3, TO = 21 };
	struct tt_engine *engine = engine_open(MODEL, 1, 16);
	const size_t spans[2][2] = {{FROM, TO}, {0, 0}}; /* the other: all but the first token */
	char path[] = "/tmp/trimtab-capture-XXXXXX", name[24];
	int32_t ids[MAX_PROMPT];
	make_prompt(5, MAX_PROMPT, ids);
	close(mkstemp(path));
	for (int i = 0; i < 2; i++) {
		size_t from = i ? 1 : FROM, to = i ? MAX_PROMPT : TO;
		const struct tt_capture_options options = {.size = sizeof options,
			.ids = ids,
			.n_ids = MAX_PROMPT,
			.mean_from = spans[i][0],
			.mean_to = spans[i][1],
			.mean = true};
		must(tt_capture(engine, &options, path, err));
		for (uint32_t l = 0; l < LAYERS; l++) {
			snprintf(name, sizeof name, "hidden.%u", l);
			float *hidden = captured(path, name, MAX_PROMPT * WIDTH);
			snprintf(name, sizeof name, "mean.%u", l);
			float *mean = captured(path, name, WIDTH);
			for (size_t k = 0; k < WIDTH; k++) {
				double sum = 0;
				for (size_t t = from; t < to; t++)
					sum += (double)hidden[t * WIDTH + k];
				cr_assert(fabs((double)mean[k] - sum / (double)(to - from)) <= 1e-6, "layer %u", l);
			}
			free(hidden);
			free(mean);
		}
	}
	unlink(path);
	tt_engine_close(engine);
}

Test(reports, a_capture_says_where_the_kill_switch_came)
{
	struct tt_engine *engine = engine_open(MODEL, 4, 16);
	struct tt_policy *policy = make_policy(engine, ALWAYS, false, TT_OP_ADD, TT_WHEN_ALL);
	struct tt_steering steering = {policy, 1};
	char plain[] = "/tmp/trimtab-plain-XXXXXX", path[] = "/tmp/trimtab-capture-XXXXXX";
	int32_t ids[MAX_PROMPT];
	struct said said;
	struct tt_request *other;
	make_prompt(5, MAX_PROMPT, ids);
	close(mkstemp(plain));
	close(mkstemp(path));
	must(tt_capture(engine,
		&(struct tt_capture_options){
			.size = sizeof(struct tt_capture_options), .ids = ids, .n_ids = MAX_PROMPT},
		plain, err));
	must(tt_capture(engine,
		&(struct tt_capture_options){.size = sizeof(struct tt_capture_options),
			.ids = ids,
			.n_ids = MAX_PROMPT,
			.steering = &steering,
			.n_steering = 1},
		path, err));
	check_capture(path, plain, MAX_PROMPT, MAX_PROMPT);

	/* Beside a request that kills with its second token: the capture's first 14 tokens and then 15 have run by
	 * then. */
	struct tt_request_options options = killed_options(&said, engine, policy, ids, 2);
	said.kill_at = 2;
	must(tt_request_submit(&other, engine, &options, err));
	must(tt_capture(engine,
		&(struct tt_capture_options){.size = sizeof(struct tt_capture_options),
			.ids = ids,
			.n_ids = MAX_PROMPT,
			.steering = &steering,
			.n_steering = 1},
		path, err));
	check_capture(path, plain, MAX_PROMPT, 14 + 15);
	must(tt_capture(engine,
		&(struct tt_capture_options){.size = sizeof(struct tt_capture_options),
			.ids = ids,
			.n_ids = MAX_PROMPT,
			.steering = &steering,
			.n_steering = 1},
		path, err));
	check_capture(path, plain, MAX_PROMPT, 0);
	tt_request_free(other);
	unlink(plain);
	unlink(path);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* ---- Batches ---- */

static int kill_after_one_row(void *user, const char *stage, uint64_t done, uint64_t total)
{
	(void)stage;
	(void)total;
	if (done == 1)
		tt_engine_kill_steering(user);
	return 0;
}

static json_t *next_line(FILE *file)
{
	char line[1 << 16];
	return fgets(line, sizeof line, file) ? json_loads(line, 0, NULL) : NULL;
}

/* The steering that the answer of a row reports. */
static void check_answer(FILE *output, const char *id, bool acted, bool killed, size_t from)
{
	json_t *row = next_line(output);
	json_t *steering = json_object_get(json_object_get(json_object_get(row, "response"), "body"), "steering");
	json_t *entry = json_array_get(steering, 0), *killed_from = json_object_get(entry, "killed_from");
	cr_assert_str_eq(json_string_value(json_object_get(row, "custom_id")), id);
	cr_assert_eq(json_object_size(json_object_get(entry, "coef")), acted ? 2 : 0, "coefficients of %s", id);
	cr_assert_eq(killed_from != NULL, killed, "%s", id);
	cr_assert_eq((size_t)json_integer_value(killed_from), from, "%s", id);
	json_decref(row);
}

/* How many of a row's tokens the telemetry calls steered: these come first. */
static size_t count_steered(FILE *telemetry, const char *id, size_t n_tokens)
{
	size_t n = 0;
	for (size_t t = 0; t < n_tokens; t++) {
		json_t *line = next_line(telemetry), *coef = json_array_get(json_object_get(line, "coef"), 0);
		bool steered = json_number_value(json_array_get(coef, 1)) != 0;
		double before = json_number_value(json_array_get(json_object_get(line, "norm_before"), 1)),
		       after = json_number_value(json_array_get(json_object_get(line, "norm_after"), 1));
		cr_assert_str_eq(json_string_value(json_object_get(line, "custom_id")), id);
		cr_assert_eq(before != after, steered, "%s, token %zu", id, t);
		cr_assert(!steered || n == t, "%s: token %zu is steered after one that is not", id, t);
		n += steered;
		json_decref(line);
	}
	return n;
}

static void write_input(FILE *file)
{
	const int max_tokens[] = {2, 12, 4};
	for (int i = 0; i < 3; i++)
		fprintf(file,
			"{\"custom_id\":\"%d\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":"
			"[5,90,17,33,41],\"max_tokens\":%d,\"temperature\":0,\"steering\":{\"policies\":[{\"name\":"
			"\"p\"}]"
			"}}}\n",
			i, max_tokens[i]);
}

Test(reports, a_batch_says_where_the_kill_switch_came)
{
	char folder[] = "/tmp/trimtab-batch-XXXXXX", input[64], output[64], telemetry[64], policy_path[64], journal[64];
	cr_assert_not_null(mkdtemp(folder));
	snprintf(input, sizeof input, "%s/in.jsonl", folder);
	snprintf(output, sizeof output, "%s/out.jsonl", folder);
	snprintf(journal, sizeof journal, "%s/out.jsonl.journal", folder);
	snprintf(telemetry, sizeof telemetry, "%s/tokens.jsonl", folder);
	snprintf(policy_path, sizeof policy_path, "%s/p.safetensors", folder);
	struct tt_engine *engine = way_engine(&(struct way){"two rows at once", 2, 64, 0, 1});
	struct tt_policy *policy = make_policy(engine, ALWAYS, false, TT_OP_ADD, TT_WHEN_ALL);
	free(policy->name);
	policy->name = strdup("p");
	must(tt_policy_save(policy, policy_path, err));
	FILE *file = fopen(input, "w");
	write_input(file);
	fclose(file);
	struct tt_batch_options options;
	struct tt_batch_report report;
	const struct tt_batch_policy named = {"p", policy_path};
	tt_batch_options_default(&options);
	options.input = input;
	options.output = output;
	options.telemetry = telemetry;
	options.telemetry_dense = true;
	options.policies = &named;
	options.n_policies = 1;
	options.max_batch = 2;
	options.progress = kill_after_one_row;
	options.user = engine;
	must(tt_batch(engine, &options, &report, err));
	cr_assert_eq(report.n_rows, 3);
	cr_assert_eq(report.n_errors, 0);

	/* Row 0 ends with its second token, when row 1 has run its prompt and one token more. */
	file = fopen(telemetry, "r");
	size_t steered[3] = {count_steered(file, "0", 6), count_steered(file, "1", 16), count_steered(file, "2", 8)};
	fclose(file);
	cr_assert_eq(steered[0], 6, "row 0 was over");
	cr_assert(steered[1] >= 6 && steered[1] < 10, "%zu tokens of row 1", steered[1]);
	cr_assert_eq(steered[2], 0, "row 2 came after");
	file = fopen(output, "r");
	check_answer(file, "0", true, false, 0);
	check_answer(file, "1", true, true, steered[1]);
	check_answer(file, "2", false, true, 0);
	fclose(file);
	const char *const files[] = {input, output, telemetry, policy_path, journal};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		unlink(files[i]);
	rmdir(folder);
	tt_engine_close(engine);
	tt_policy_free(policy);
}
#endif
