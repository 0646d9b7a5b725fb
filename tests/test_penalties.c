/* Penalties of whole requests: the ids that PyTorch and transformers choose, what is refused, and that a prompt which
 * is given as an answer counts as one. tests/test_scheduling.c and tests/sim hold that no company changes them. */
#include <jansson.h>

#include "golden.h"

#define MODEL GOLDEN("tiny-llama")

static float number_of(const json_t *object, const char *key)
{
	return (float)json_number_value(json_object_get(object, key));
}

static size_t ids_of(const json_t *list, int32_t *out, size_t room)
{
	size_t n = json_array_size(list);
	cr_assert(n > 0 && n <= room);
	for (size_t i = 0; i < n; i++)
		out[i] = (int32_t)json_integer_value(json_array_get(list, i));
	return n;
}

static void take_penalties(struct tt_request_options *options, const json_t *object)
{
	options->repetition_penalty = number_of(object, "repetition_penalty");
	options->presence_penalty = number_of(object, "presence_penalty");
	options->frequency_penalty = number_of(object, "frequency_penalty");
}

/* All at once, so that lists of several rows are in one step. */
Test(penalties, ids_are_those_of_transformers_and_openais_formula)
{
	enum { MOST = 32, ROOM = 64 };
	struct tt_engine *engine = engine_open(MODEL, 8, 64);
	struct tt_request *requests[MOST] = {NULL};
	json_t *cases = json_load_file(GOLDEN("penalties/cases.json"), 0, NULL);
	size_t n = json_array_size(cases), n_penalised = 0;
	int32_t ids[ROOM], want[ROOM];
	cr_assert(n >= 14 && n <= MOST);
	for (size_t i = 0; i < n; i++) {
		const json_t *one = json_array_get(cases, i);
		struct tt_request_options options;
		tt_request_options_default(&options);
		options.ids = ids;
		options.n_ids = ids_of(json_object_get(one, "prompt"), ids, ROOM);
		options.max_tokens = (uint32_t)json_array_size(json_object_get(one, "ids"));
		options.ignore_eos = true;
		take_penalties(&options, one);
		n_penalised += options.repetition_penalty != 1 || options.presence_penalty != 0;
		must(tt_request_submit(&requests[i], engine, &options, err));
	}
	for (size_t i = 0; i < n; i++) {
		size_t n_want = ids_of(json_object_get(json_array_get(cases, i), "ids"), want, ROOM);
		must(tt_request_wait(requests[i], err));
		cr_assert_eq(tt_request_n_generated(requests[i]), n_want);
		cr_expect_arr_eq(tt_request_generated(requests[i]), want, n_want * sizeof *want, "case %zu", i);
		tt_request_free(requests[i]);
	}
	cr_expect_geq(n_penalised, n / 2);
	json_decref(cases);
	tt_engine_close(engine);
}

/* ids from n_prompt on count as generated: half of an answer, given, goes on as the whole one did. */
Test(penalties, an_answer_that_is_given_counts_as_one)
{
	enum { N_IDS = 6, N = 20, GIVEN = 9 };
	int32_t ids[N_IDS + GIVEN] = {5, 90, 17, 33, 8, 17};
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = N_IDS;
	options.max_tokens = N;
	options.ignore_eos = true;
	options.presence_penalty = 1.5f;
	options.frequency_penalty = 0.5f;
	struct tt_request *whole = request_run(engine, &options);
	memcpy(ids + N_IDS, tt_request_generated(whole), GIVEN * sizeof *ids);
	options.n_ids = N_IDS + GIVEN;
	options.n_prompt = N_IDS;
	options.max_tokens = N - GIVEN;
	struct tt_request *rest = request_run(engine, &options);
	options.n_prompt = 0;
	struct tt_request *prompt = request_run(engine, &options);
	const size_t size = (N - GIVEN) * sizeof(int32_t);
	cr_expect_arr_eq(tt_request_generated(rest), tt_request_generated(whole) + GIVEN, size);
	cr_expect_arr_neq(tt_request_generated(prompt), tt_request_generated(whole) + GIVEN, size);
	tt_request_free(whole);
	tt_request_free(rest);
	tt_request_free(prompt);
	tt_engine_close(engine);
}

static void expect_refused(
	struct tt_engine *engine, const struct tt_request_options *options, int status, const char *words)
{
	struct tt_request *request = NULL;
	struct tt_error error = {0};
	cr_expect_eq(tt_request_submit(&request, engine, options, &error), status, "%s: %s", words, error.message);
	cr_expect_not_null(strstr(error.message, words), "%s", error.message);
	tt_request_free(request);
}

Test(penalties, what_is_no_penalty_is_refused_by_name)
{
	static const int32_t ids[2] = {5, 90};
	static const float wrong[][3] = {{0, 0, 0}, {-1, 0, 0}, {101, 0, 0}, {NAN, 0, 0}, {1, 2.5f, 0}, {1, -2.5f, 0},
		{1, NAN, 0}, {1, 0, 2.5f}, {1, 0, -INFINITY}, {1, 0, NAN}};
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = 2;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		options.repetition_penalty = wrong[i][0];
		options.presence_penalty = wrong[i][1];
		options.frequency_penalty = wrong[i][2];
		expect_refused(engine, &options, TT_ERR_ARGUMENT,
			i < 4   ? "repetition_penalty must be"
			: i < 7 ? "presence_penalty must be"
				: "frequency_penalty must be");
	}
	tt_engine_close(engine);
}

/* As CUDA is. */
Test(penalties, a_device_without_them_says_so)
{
	static const int32_t ids[2] = {5, 90};
	struct tt_backend *backend = NULL;
	struct tt_engine *engine = NULL;
	struct tt_engine_options engine_options;
	struct tt_request_options options;
	tt_engine_options_default(&engine_options);
	must(tt_cpu_open(&backend, 1, err));
	backend->has_penalties = false;
	must(tt_engine_open_on(&engine, backend, MODEL, &engine_options, err));
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = 2;
	options.max_tokens = 1;
	tt_request_free(request_run(engine, &options));
	options.frequency_penalty = 0.5f;
	expect_refused(engine, &options, TT_ERR_UNSUPPORTED, "frequency_penalty are not supported on cpu");
	tt_engine_close(engine);
}
