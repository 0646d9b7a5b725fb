/* Requests on their limits, the list of the finished, and what a capture says of steering. */
#include "golden.h"
#include "weights_files.h"

#define MODEL GOLDEN("tiny-llama/tiny-llama.q8_0.gguf")

enum { N_IDS = 5 };
static const int32_t IDS[N_IDS] = {5, 90, 17, 33, 8};
static const char *const FILES[] = {"capture.safetensors"};

static struct tt_request_options short_request(void)
{
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.ids = IDS;
	options.n_ids = N_IDS;
	options.max_tokens = 2;
	options.ignore_eos = true;
	return options;
}

static void expect_submitted(struct tt_engine *engine, const struct tt_request_options *options, const char *refused_by)
{
	struct tt_request *request = NULL;
	struct tt_error err = {0};
	int status = tt_request_submit(&request, engine, options, &err);
	if (!refused_by) {
		cr_expect_eq(status, TT_OK, "%s", err.message);
		tt_request_free(request);
		return;
	}
	cr_expect_eq(status, TT_ERR_ARGUMENT, "\"%s\" is no reason", refused_by);
	cr_expect_not_null(strstr(err.message, refused_by), "%s", err.message);
}

Test(requests, limits_are_met_and_not_passed)
{
	struct tt_engine *engine = engine_open_for(MODEL, 2, 64, 32);
	struct tt_request_options options = short_request();
	char stop[TT_MAX_STOP_BYTES + 2];
	const char *const stops[1] = {stop};
	const uint64_t layers = 2;
	memset(stop, 'x', sizeof stop);
	options.stop = stops;
	options.n_stop = 1;
	stop[TT_MAX_STOP_BYTES] = 0;
	expect_submitted(engine, &options, NULL);
	stop[TT_MAX_STOP_BYTES] = 'x';
	stop[TT_MAX_STOP_BYTES + 1] = 0;
	expect_submitted(engine, &options, "stop string 0 is empty or longer");

	options = short_request();
	options.keep_layers = &layers;
	options.keep_from = N_IDS - 1;
	expect_submitted(engine, &options, NULL);
	options.keep_from = N_IDS;
	expect_submitted(engine, &options, "keep_from 5 is not below the 5 ids");

	options = short_request();
	options.n_prompt = N_IDS;
	expect_submitted(engine, &options, NULL);
	options.n_prompt = N_IDS + 1;
	expect_submitted(engine, &options, "n_prompt 6 is more than the 5 ids");

	options = short_request();
	options.sampling.top_k = 1 << 24;
	expect_submitted(engine, &options, NULL);
	options.sampling.top_k++;
	expect_submitted(engine, &options, "top_k must be from 0 to 16777216");
	tt_engine_close(engine);
}

/* Every stop id ends an answer, not only the first of them. */
Test(requests, each_stop_id_ends_the_answer)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_request_options options = short_request();
	options.max_tokens = 8;
	struct tt_request *whole = request_run(engine, &options);
	/* The first two are never the first token: they are other ids than it. */
	const int32_t first = tt_request_generated(whole)[0], stops[3] = {first > 1 ? 0 : 2, first > 1 ? 1 : 3, first};
	options.stop_ids = stops;
	options.n_stop_ids = 3;
	struct tt_request *stopped = request_run(engine, &options);
	cr_expect_eq(tt_request_finish(stopped), TT_FINISH_STOP);
	cr_expect_eq(tt_request_n_generated(stopped), 1);
	tt_request_free(whole);
	tt_request_free(stopped);
	tt_engine_close(engine);
}

/* Freed before they were given out: the first, the last and one between; what is left comes in order, and what ends
 * later. */
Test(requests, the_finished_are_given_out_whichever_was_freed)
{
	enum { N = 4 };
	for (int freed = 0; freed < N; freed++) {
		struct tt_engine *engine = engine_open(MODEL, 8, 64);
		struct tt_request_options options = short_request();
		struct tt_request *requests[N + 1], *next;
		for (int i = 0; i < N; i++)
			must(tt_request_submit(&requests[i], engine, &options, err));
		must(tt_request_wait(requests[N - 1], err));
		tt_request_free(requests[freed]);
		must(tt_request_submit(&requests[N], engine, &options, err));
		must(tt_request_wait(requests[N], err));
		for (int i = 0; i <= N; i++) {
			if (i == freed)
				continue;
			must(tt_engine_next(engine, &next, -1, err));
			cr_assert_eq(next, requests[i], "freed %d: request %d does not come next", freed, i);
			tt_request_free(next);
		}
		must(tt_engine_next(engine, &next, -1, err));
		cr_assert_null(next);
		tt_engine_close(engine);
	}
}

/* Without a wait: nothing has ended, and the call is back at once. */
Test(requests, no_time_to_wait_is_no_wait_without_end)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_request_options options = short_request();
	struct tt_request *request, *next;
	options.max_tokens = 40;
	must(tt_request_submit(&request, engine, &options, err));
	must(tt_engine_next(engine, &next, 0, err));
	cr_expect_null(next);
	cr_expect_eq(tt_request_finish(request), TT_RUNNING);
	must(tt_engine_next(engine, &next, -1, err));
	cr_expect_eq(next, request);
	tt_request_free(request);
	tt_engine_close(engine);
}

static struct tt_policy *last_token_policy(struct tt_engine *engine, float alpha, enum tt_policy_when when)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, info->n_layers, info->hidden_size, 1, err));
	p->alpha = alpha;
	p->when = when;
	p->weights[1] = 1;
	for (uint32_t i = 0; i < info->hidden_size; i++)
		p->directions[info->hidden_size + i] = cosf((float)i);
	policy_adopt(engine, p);
	return p;
}

/* coef [T][L]: what steered each token, of all policies together. */
Test(requests, a_capture_adds_up_what_steered_each_token)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_policy *policies[3] = {last_token_policy(engine, 0.5f, TT_WHEN_LAST),
		last_token_policy(engine, 0.25f, TT_WHEN_ALL), last_token_policy(engine, 8, TT_WHEN_GENERATION)};
	const struct tt_steering steering[3] = {{policies[0], 1}, {policies[1], 2}, {policies[2], 1}};
	struct scratch s;
	size_t n;
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], "", 0);
	must(tt_capture(engine,
		&(struct tt_capture_options){.size = sizeof(struct tt_capture_options),
			.ids = IDS,
			.n_ids = N_IDS,
			.steering = steering,
			.n_steering = 3},
		path, err));
	struct tt_safetensors *file = golden_open(path);
	float *coef = golden_floats(file, "coef", &n);
	uint32_t n_layers = tt_engine_info(engine)->n_layers;
	cr_assert_eq(n, N_IDS * n_layers);
	for (size_t t = 0; t < N_IDS; t++)
		for (uint32_t l = 0; l < n_layers; l++)
			cr_expect_eq(coef[t * n_layers + l],
				l != 1          ? 0
				: t + 1 < N_IDS ? 0.5f
						: 1.0f,
				"token %zu, layer %u: %g", t, l, (double)coef[t * n_layers + l]);
	free(coef);
	tt_safetensors_close(file);
	scratch_remove(&s, FILES, 1);
	tt_engine_close(engine);
	for (int i = 0; i < 3; i++)
		tt_policy_free(policies[i]);
}
