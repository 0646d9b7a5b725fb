/* The public API: what is refused and how, waiting, cancelling, given tokens, the end of the context. */
#include <time.h>

#include "golden.h"
#include "base/clock.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/thread.h"

#define MODEL GOLDEN("tiny-llama/tiny-llama.q8_0.gguf")

static const int32_t IDS[8] = {5, 90, 17, 200, 33, 41, 7, 120};

static struct tt_request_options some_options(void)
{
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.ids = IDS;
	options.n_ids = 8;
	options.max_tokens = 6;
	options.ignore_eos = true;
	return options;
}

static void refused(struct tt_engine *engine, struct tt_request_options options, int code, const char *word)
{
	struct tt_request *request = NULL;
	struct tt_error error = {0};
	int status = tt_request_submit(&request, engine, &options, &error);
	cr_expect_eq(status, code, "%s: status %d", word, status);
	cr_expect_eq(error.code, code);
	cr_expect_not_null(strstr(error.message, word), "\"%s\" does not name %s", error.message, word);
	cr_expect_null(request);
}

Test(engine, refuses_what_has_no_meaning)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_request_options o = some_options();
	int32_t bad[2] = {3, 288}, negative[1] = {-1};

	o.n_ids = 0;
	refused(engine, o, TT_ERR_ARGUMENT, "empty");
	o = some_options(), o.ids = bad, o.n_ids = 2;
	refused(engine, o, TT_ERR_ARGUMENT, "id 288");
	o = some_options(), o.ids = negative, o.n_ids = 1;
	refused(engine, o, TT_ERR_ARGUMENT, "id -1");
	o = some_options(), o.sampling.temperature = NAN;
	refused(engine, o, TT_ERR_ARGUMENT, "temperature");
	o = some_options(), o.sampling.top_p = 0;
	refused(engine, o, TT_ERR_ARGUMENT, "top_p");
	o = some_options(), o.sampling.min_p = 1.001f;
	refused(engine, o, TT_ERR_ARGUMENT, "min_p");
	o = some_options(), o.n_top = 21;
	refused(engine, o, TT_ERR_ARGUMENT, "alternatives");
	o = some_options(), o.n_prompt = 9;
	refused(engine, o, TT_ERR_ARGUMENT, "n_prompt");
	o = some_options(), o.n_steering = 5;
	refused(engine, o, TT_ERR_ARGUMENT, "policies");
	o = some_options(), o.n_steering = 1;
	refused(engine, o, TT_ERR_ARGUMENT, "steering[0].policy");
	cr_assert_eq(tt_engine_pending(engine), 0);
	tt_engine_close(engine);
}

Test(engine, refuses_options)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	struct tt_error error = {0};
	tt_engine_options_default(&options);
	options.device = "cuda";
	cr_assert_eq(tt_engine_open(&engine, MODEL, &options, &error), TT_ERR_UNSUPPORTED);
	cr_assert_not_null(strstr(error.message, "cuda"));
	tt_engine_options_default(&options);
	options.context = 100000;
	cr_assert_eq(tt_engine_open(&engine, MODEL, &options, &error), TT_ERR_ARGUMENT);
	cr_assert_not_null(strstr(error.message, "context"));
	cr_assert_eq(tt_engine_open(&engine, GOLDEN("no-such-model"), NULL, &error), TT_ERR_IO);
	cr_assert_not_null(strstr(error.message, "no-such-model"));
	cr_assert_null(engine);
}

/* 512, or as many as there are requests at once. */
Test(engine, the_tokens_of_a_step_have_a_default)
{
	static const uint32_t batches[] = {32, 600}, tokens[] = {512, 600};
	for (int i = 0; i < 2; i++) {
		struct tt_engine_options options;
		struct tt_engine *engine = NULL;
		struct tt_error error = {0};
		tt_engine_options_default(&options);
		options.max_batch = batches[i];
		must(tt_engine_open(&engine, MODEL, &options, err));
		cr_expect_eq(tt_engine_info(engine)->max_step_tokens, tokens[i]);
		tt_engine_close(engine);
		options.max_step_tokens = batches[i] - 1;
		cr_expect_eq(tt_engine_open(&engine, MODEL, &options, &error), TT_ERR_ARGUMENT);
		cr_expect_not_null(strstr(error.message, "max_step_tokens"), "%s", error.message);
	}
}

/* KV pages for one sequence at a time: the others wait and all come to their end. */
Test(engine, requests_wait_for_pages)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	struct tt_request *requests[5];
	tt_engine_options_default(&options);
	options.context = 64;
	options.kv_tokens = 64;
	options.max_batch = 4;
	must(tt_engine_open(&engine, MODEL, &options, err));
	struct tt_request_options o = some_options();
	o.max_tokens = 40;
	for (int i = 0; i < 5; i++)
		must(tt_request_submit(&requests[i], engine, &o, err));
	must(tt_engine_step(engine, err));
	cr_assert_eq(tt_engine_pending(engine), 5);
	for (int i = 0; i < 5; i++) {
		must(tt_request_wait(requests[i], err));
		cr_assert_eq(tt_request_n_generated(requests[i]), 40);
		cr_assert_arr_eq(
			tt_request_generated(requests[i]), tt_request_generated(requests[0]), 40 * sizeof(int32_t));
	}
	o.max_tokens = 400;
	struct tt_request *longest = request_run(engine, &o);
	cr_assert_eq(tt_request_finish(longest), TT_FINISH_CONTEXT);
	cr_assert_eq(tt_request_n_generated(longest), 64 - 8 + 1, "the last token needs no place of its own");
	tt_request_free(longest);
	for (int i = 0; i < 5; i++)
		tt_request_free(requests[i]);
	tt_engine_close(engine);
}

Test(engine, a_cancelled_request_gives_everything_back)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	tt_engine_options_default(&options);
	options.context = 64;
	options.kv_tokens = 64;
	options.max_batch = 1;
	must(tt_engine_open(&engine, MODEL, &options, err));
	struct tt_request_options o = some_options();
	o.max_tokens = 56;
	for (int i = 0; i < 20; i++) {
		struct tt_request *running, *waiting;
		must(tt_request_submit(&running, engine, &o, err));
		must(tt_request_submit(&waiting, engine, &o, err));
		must(tt_engine_step(engine, err));
		tt_request_free(i % 2 ? waiting : running);
		tt_request_free(i % 2 ? running : waiting);
		cr_assert_eq(tt_engine_pending(engine), 0);
	}
	struct tt_request *request = request_run(engine, &o);
	cr_assert_eq(tt_request_n_generated(request), 56);
	tt_request_free(request);
	tt_engine_close(engine);
}

/* Tokens that are given after the prompt leave the sequence as if they had been sampled. */
Test(engine, given_tokens_continue_like_generated_ones)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_request_options o = some_options();
	o.max_tokens = 10;
	struct tt_request *whole = request_run(engine, &o);
	int32_t ids[8 + 4];
	memcpy(ids, IDS, sizeof IDS);
	memcpy(ids + 8, tt_request_generated(whole), 4 * sizeof *ids);
	o.ids = ids;
	o.n_ids = 12;
	o.n_prompt = 8;
	o.max_tokens = 6;
	struct tt_request *rest = request_run(engine, &o);
	cr_assert_arr_eq(tt_request_generated(rest), tt_request_generated(whole) + 4, 6 * sizeof *ids);
	tt_request_free(whole);
	tt_request_free(rest);
	tt_engine_close(engine);
}

/* Alternatives are sorted, sum to at most 1, and a greedy token is the first of them. */
Test(engine, alternatives_begin_with_the_greedy_token)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_request_options o = some_options();
	struct tt_token token;
	o.n_top = 5;
	struct tt_request *request = request_run(engine, &o);
	size_t n = 0;
	for (; tt_request_next(request, &token); n++) {
		double sum = 0;
		cr_assert_eq(token.n_top, 5);
		cr_assert_eq(token.top_ids[0], token.id);
		cr_assert_eq(token.top_logprobs[0], token.logprob);
		for (uint32_t i = 0; i < 5; i++) {
			sum += exp(token.top_logprobs[i]);
			cr_assert(i == 0 || token.top_logprobs[i] <= token.top_logprobs[i - 1]);
		}
		cr_assert(sum > 0 && sum <= 1 + 1e-5);
	}
	cr_assert_eq(n, 6);
	tt_request_free(request);
	tt_engine_close(engine);
}

/* At a temperature that makes all tokens about equally likely, every step must draw anew. */
Test(engine, a_seed_gives_one_sequence_of_draws)
{
	enum { N = 40 };
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_request_options o = some_options();
	struct tt_request *requests[3];
	o.max_tokens = N;
	o.sampling.temperature = 100;
	for (uint64_t i = 0; i < 3; i++) {
		o.sampling.seed = 7 + i / 2;
		requests[i] = request_run(engine, &o);
	}
	const int32_t *ids = tt_request_generated(requests[0]);
	size_t distinct = 0;
	for (size_t i = 0; i < N; i++) {
		bool seen = false;
		for (size_t k = 0; k < i; k++)
			seen |= ids[k] == ids[i];
		distinct += !seen;
	}
	cr_assert_geq(distinct, N / 2, "%zu distinct tokens of %d", distinct, N);
	cr_assert_arr_eq(ids, tt_request_generated(requests[1]), N * sizeof *ids, "the same seed");
	cr_assert_arr_neq(ids, tt_request_generated(requests[2]), N * sizeof *ids, "another seed");
	for (int i = 0; i < 3; i++)
		tt_request_free(requests[i]);
	tt_engine_close(engine);
}

static struct tt_policy *push_policy(struct tt_engine *engine, float strength)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *policy = NULL;
	must(tt_policy_new(&policy, info->n_layers, info->hidden_size, 1, err));
	policy->weights[1] = 1;
	policy->directions[info->hidden_size] = strength;
	policy->directions[info->hidden_size + 3] = -strength;
	must(tt_policy_finish(policy, err));
	return policy;
}

/* The policy, under this fingerprint, is refused as another model's, and the message says what differs. */
static void foreign(struct tt_engine *engine, struct tt_policy *policy, const char *fingerprint, const char *differs)
{
	struct tt_error error = {0};
	free(policy->fingerprint);
	policy->fingerprint = strdup(fingerprint);
	cr_assert_eq(tt_engine_add_policy(engine, policy, NULL, &error), TT_ERR_MISMATCH);
	cr_expect(strstr(error.message, "was fitted on another model: "), "%s", error.message);
	cr_expect(strstr(error.message, differs), "%s, not %s", error.message, differs);
}

Test(engine, a_policy_must_be_the_models_own)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_policy *policy = push_policy(engine, 1);
	const struct tt_model_info *info = tt_engine_info(engine);
	const char *others = strchr(info->fingerprint, ' '), *warning = NULL;
	char fingerprint[300], expected[600];
	foreign(engine, policy, "", "\"\" there, \"");
	snprintf(fingerprint, sizeof fingerprint, "qwen9%s", others);
	snprintf(expected, sizeof expected, "\"%s\" there, \"%s\" here", fingerprint, info->fingerprint);
	foreign(engine, policy, fingerprint, expected);
	snprintf(fingerprint, sizeof fingerprint, "%sx", info->fingerprint);
	snprintf(expected, sizeof expected, "\"%sx\" there, \"%s\" here", strrchr(info->fingerprint, ' ') + 1,
		strrchr(info->fingerprint, ' ') + 1);
	foreign(engine, policy, fingerprint, expected);
	policy->n_layers--;
	foreign(engine, policy, fingerprint, expected);
	snprintf(expected, sizeof expected, "%u layers of width %u there, %u of width %u here", info->n_layers - 1,
		info->hidden_size, info->n_layers, info->hidden_size);
	foreign(engine, policy, info->fingerprint, expected);
	policy->n_layers++;
	policy->hidden_size--;
	foreign(engine, policy, info->fingerprint, "there");
	policy->hidden_size++;
	must(tt_engine_add_policy(engine, policy, &warning, err));
	cr_assert_not_null(warning, "no digest: other weights");
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* Adding it again, to this engine or to another, leaves the line that was given as it was. */
Test(engine, a_warning_stays_until_the_policy_is_removed)
{
	struct tt_engine *engines[2] = {engine_open(MODEL, 2, 64), engine_open(MODEL, 2, 64)};
	struct tt_policy *policy = push_policy(engines[0], 1);
	const char *first = NULL, *again = NULL, *other = NULL;
	char text[500];
	free(policy->fingerprint);
	policy->fingerprint = strdup(tt_engine_info(engines[0])->fingerprint);
	must(tt_engine_add_policy(engines[0], policy, &first, err));
	cr_assert_not_null(first);
	snprintf(text, sizeof text, "%s", first);
	must(tt_engine_add_policy(engines[0], policy, &again, err));
	must(tt_engine_add_policy(engines[1], policy, &other, err));
	cr_expect_eq(again, first, "one line for one policy");
	cr_expect(other && other != first, "each engine has its own");
	must(tt_engine_remove_policy(engines[1], policy, err));
	cr_expect_str_eq(first, text);
	for (int i = 0; i < 2; i++)
		tt_engine_close(engines[i]);
	tt_policy_free(policy);
}

/* A request keeps the version that it was submitted with, though the policy is removed, freed, and another takes its
 * place. */
Test(engine, a_removed_policy_steers_on_where_it_is_used)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_policy *policy = push_policy(engine, 3), *other = push_policy(engine, -3);
	struct tt_request_options o = some_options();
	struct tt_request *request = NULL;
	struct tt_decision decision;
	policy_adopt(engine, policy);
	o.n_steering = 1;
	o.steering[0] = (struct tt_steering){policy, 1};
	struct tt_request *want = request_run(engine, &o);
	must(tt_request_submit(&request, engine, &o, err));
	must(tt_engine_step(engine, err));
	must(tt_engine_remove_policy(engine, policy, err));
	refused(engine, o, TT_ERR_ARGUMENT, "not added");
	tt_policy_free(policy);
	policy_adopt(engine, other);
	o.steering[0].policy = other;
	struct tt_request *others = request_run(engine, &o);
	must(tt_request_wait(request, err));
	cr_assert_arr_eq(tt_request_generated(request), tt_request_generated(want), 6 * sizeof(int32_t));
	cr_assert_arr_neq(tt_request_generated(others), tt_request_generated(want), 6 * sizeof(int32_t));
	cr_assert(tt_request_decision(request, 0, &decision));
	cr_assert_eq(decision.w[1], 1);
	cr_assert_eq(engine->n_removed, 0, "unloaded with its last request");
	tt_request_free(request);
	tt_request_free(want);
	tt_request_free(others);
	tt_engine_close(engine);
	tt_policy_free(other);
}

/* ---- The model's own thread: who starts it, who ends it */

struct thread_test {
	struct tt_engine *engine;
	atomic_int n_refused;
	atomic_bool stopped;
	int status;
};

static struct tt_request_options long_options(struct thread_test *test, tt_notify_fn notify)
{
	struct tt_request_options o = some_options();
	o.max_tokens = 50;
	o.notify = notify;
	o.user = test;
	return o;
}

/* On the model's thread: neither call may be taken, nor change what the other thread has begun. */
static void start_and_stop(void *user, struct tt_request *request)
{
	struct thread_test *test = user;
	struct tt_error error;
	(void)request;
	if (!test->engine->stopping)
		return;
	test->n_refused += tt_engine_start(test->engine, &error) == TT_ERR_ARGUMENT;
	test->n_refused += tt_engine_stop(test->engine, &error) == TT_ERR_ARGUMENT;
}

Test(engine, a_refused_start_or_stop_does_not_undo_a_stop_under_way, .timeout = 60)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct thread_test test = {.engine = engine};
	struct tt_request_options o = long_options(&test, start_and_stop);
	for (int i = 0; test.n_refused == 0; i++) {
		struct tt_request *request;
		cr_assert_lt(i, 1000, "the model's thread never saw that it was to end");
		must(tt_request_submit(&request, engine, &o, err));
		must(tt_engine_start(engine, err));
		while (tt_request_n_generated(request) == 0)
			;
		must(tt_engine_stop(engine, err)); /* for ever, if the callback undid it */
		cr_assert(!engine->started && !engine->stopping);
		tt_request_free(request);
	}
	cr_assert_eq(test.n_refused, 2);
	tt_engine_close(engine);
}

/* Is refused while the thread is there, and while it ends. */
static void *start_until_stopped(void *argument)
{
	struct thread_test *test = argument;
	while (!test->stopped)
		test->n_refused += tt_engine_start(test->engine, NULL) == TT_ERR_ARGUMENT;
	return NULL;
}

Test(engine, a_thread_that_others_try_to_start_can_be_stopped, .timeout = 60)
{
	enum { N = 3 };
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	for (int i = 0; i < 10; i++) {
		struct thread_test test = {.engine = engine};
		pthread_t others[N];
		must(tt_engine_start(engine, err));
		for (int k = 0; k < N; k++)
			cr_assert_eq(pthread_create(&others[k], NULL, start_until_stopped, &test), 0);
		while (test.n_refused == 0)
			;
		must(tt_engine_stop(engine, err));
		test.stopped = true;
		for (int k = 0; k < N; k++)
			pthread_join(others[k], NULL);
		must(tt_engine_stop(engine, err)); /* one of the others may have started it again */
	}
	tt_engine_close(engine);
}

static void *stop(void *argument)
{
	struct thread_test *test = argument;
	test->status = tt_engine_stop(test->engine, NULL);
	return NULL;
}

Test(engine, many_may_stop_the_thread_at_once, .timeout = 60)
{
	enum { N = 4 };
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	for (int i = 0; i < 50; i++) {
		struct thread_test tests[N];
		struct tt_request_options o = some_options();
		struct tt_request *request;
		pthread_t threads[N];
		must(tt_request_submit(&request, engine, &o, err));
		must(tt_engine_start(engine, err));
		for (int k = 0; k < N; k++) {
			tests[k] = (struct thread_test){.engine = engine, .status = -1};
			cr_assert_eq(pthread_create(&threads[k], NULL, stop, &tests[k]), 0);
		}
		for (int k = 0; k < N; k++) {
			pthread_join(threads[k], NULL);
			cr_assert_eq(tests[k].status, TT_OK);
		}
		cr_assert(!engine->started && !engine->stopping);
		must(tt_request_wait(request, err));
		cr_assert_eq(tt_request_n_generated(request), 6);
		tt_request_free(request);
	}
	tt_engine_close(engine);
}

static void start_only(void *user, struct tt_request *request)
{
	struct thread_test *test = user;
	(void)request;
	test->n_refused += tt_engine_start(test->engine, NULL) == TT_ERR_ARGUMENT;
}

/* The thread would find a step under way that is not its own, and fail every request. */
Test(engine, a_callback_cannot_start_the_thread_in_the_middle_of_a_step)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct thread_test test = {.engine = engine};
	struct tt_request_options o = long_options(&test, start_only);
	struct tt_request *request = request_run(engine, &o);
	cr_assert_eq(tt_request_finish(request), TT_FINISH_LENGTH);
	cr_assert_eq(test.n_refused, 50 + 1, "one a token, and one for the end");
	must(tt_engine_start(engine, err));
	must(tt_engine_stop(engine, err));
	tt_request_free(request);
	tt_engine_close(engine);
}

/* ---- What is told of an engine that does not go on */

Test(engine, is_quiet_as_long_as_nobody_steps)
{
	struct tt_engine *engine = engine_open(MODEL, 1, 64);
	struct tt_request_options o = some_options();
	struct tt_engine_load load;
	const struct timespec pause = {.tv_nsec = 20000000};
	nanosleep(&pause, NULL);
	tt_engine_load(engine, &load);
	cr_expect_eq(load.quiet, 0, "without work");
	struct tt_request *first = request_run(engine, &o), *second = NULL;
	nanosleep(&pause, NULL);
	double before = tt_now();
	must(tt_request_submit(&second, engine, &o, err));
	tt_engine_load(engine, &load);
	cr_expect_leq(load.quiet, tt_now() - before, "since there is work");
	nanosleep(&pause, NULL);
	tt_engine_load(engine, &load);
	cr_expect_geq(load.quiet, 0.02);
	before = tt_now();
	must(tt_engine_step(engine, err));
	tt_engine_load(engine, &load);
	cr_expect_leq(load.quiet, tt_now() - before, "since the step");
	must(tt_request_wait(second, err));
	tt_engine_load(engine, &load);
	cr_expect_eq(load.quiet, 0, "without work");
	tt_request_free(first);
	tt_request_free(second);
	tt_engine_close(engine);
}
