/* A real model against float32 PyTorch on its dequantised weights, by the cases of goldens_smollm2.py and
 * goldens_models.py. */
#ifndef TESTS_REAL_MODEL_H
#define TESTS_REAL_MODEL_H

#include <jansson.h>

#include "golden.h"

/* Two candidates whose logits PyTorch itself has this close may change places under another order of summation. */
#define NEAR_TIE 1e-3
/* Of a logit; another order of summation gave at most 3.6e-5 with the three models, whose logits are up to 40. */
#define LOGIT_BOUND 1e-4

struct real_case {
	const json_t *row;
	size_t index; /* of the case */
	int32_t *ids; // [n_ids + n_want] the prompt's, and the continuation's
	size_t n_ids, n_want;
};

static inline struct real_case real_case_of(const json_t *rows, size_t index)
{
	const json_t *row = json_array_get(rows, index), *ids = json_object_get(row, "ids"),
		     *want = json_object_get(row, "greedy_ids");
	struct real_case c = {
		.row = row, .index = index, .n_ids = json_array_size(ids), .n_want = json_array_size(want)};
	c.ids = malloc((c.n_ids + c.n_want) * sizeof *c.ids);
	for (size_t i = 0; i < c.n_ids + c.n_want; i++)
		c.ids[i] = (int32_t)json_integer_value(
			i < c.n_ids ? json_array_get(ids, i) : json_array_get(want, i - c.n_ids));
	return c;
}

static inline void check_ids(const struct tt_engine *engine, const struct real_case *c, unsigned flags)
{
	const char *text = json_string_value(json_object_get(c->row, "text"));
	int32_t *encoded = NULL;
	size_t n = 0;
	must(tt_text_encode(tt_engine_text(engine), text, strlen(text), flags, &encoded, &n, err));
	cr_assert_eq(n, c->n_ids, "prompt %zu has %zu ids, not %zu", c->index, n, c->n_ids);
	cr_assert_arr_eq(encoded, c->ids, n * sizeof *encoded, "prompt %zu is tokenized otherwise", c->index);
	tt_free(encoded);
}

/* The largest distance of a logit that PyTorch gave its TOP best, after each token of the continuation; and the best of
 * all is PyTorch's, but for a near tie. */
static inline double check_logits(struct tt_engine *engine, const struct real_case *c)
{
	size_t vocab = tt_engine_info(engine)->vocab_size;
	struct tt_request_options options;
	double error = 0;
	tt_request_options_default(&options);
	options.ids = c->ids;
	options.n_ids = c->n_ids + c->n_want - 1;
	options.keep_logits = true;
	options.logits_from = c->n_ids - 1;
	struct tt_request *request = request_run(engine, &options);
	for (size_t i = 0; i < c->n_want; i++) {
		const float *logits = tt_request_logits(request) + i * vocab;
		const json_t *ids = json_array_get(json_object_get(c->row, "top_ids"), i),
			     *want = json_array_get(json_object_get(c->row, "top_logits"), i);
		for (size_t k = 0; k < json_array_size(ids); k++) {
			double got = (double)logits[json_integer_value(json_array_get(ids, k))];
			double off = fabs(got - json_number_value(json_array_get(want, k)));
			error = off <= error ? error : off; /* NaN stays */
		}
		size_t best = 0;
		for (size_t v = 1; v < vocab; v++)
			best = logits[v] > logits[best] ? v : best;
		cr_expect((int32_t)best == c->ids[c->n_ids + i] ||
				  json_number_value(json_array_get(json_object_get(c->row, "gap"), i)) <= NEAR_TIE,
			"prompt %zu, token %zu: %zu is the best", c->index, i, best);
	}
	tt_request_free(request);
	return error;
}

/* The tokens that are generated, up to a near tie. */
static inline void check_generated(const struct tt_request *request, const struct real_case *c)
{
	size_t n = 0;
	while (n < c->n_want && tt_request_generated(request)[n] == c->ids[c->n_ids + n])
		n++;
	double gap = json_number_value(json_array_get(json_object_get(c->row, "gap"), n));
	cr_expect(n == c->n_want || gap <= NEAR_TIE, "prompt %zu differs at token %zu with a gap of %g", c->index, n,
		gap);
}

/* All cases of a file, generated together. flags: how the text becomes ids. */
static inline void check_real_model(const char *model, const char *path, size_t n_cases, unsigned flags)
{
	enum { MAX_CASES = 8 };
	json_error_t where;
	json_t *rows = json_load_file(path, 0, &where);
	cr_assert_not_null(rows, "%s", where.text);
	cr_assert(json_array_size(rows) == n_cases && n_cases <= MAX_CASES);
	struct tt_engine *engine = engine_open_for(model, 8, 512, 512);
	struct tt_request *requests[MAX_CASES] = {NULL};
	struct real_case cases[MAX_CASES];
	for (size_t i = 0; i < n_cases; i++) {
		struct tt_request_options options;
		cases[i] = real_case_of(rows, i);
		check_ids(engine, &cases[i], flags);
		tt_request_options_default(&options);
		options.ids = cases[i].ids;
		options.n_ids = cases[i].n_ids;
		options.max_tokens = (uint32_t)cases[i].n_want;
		options.ignore_eos = true;
		must(tt_request_submit(&requests[i], engine, &options, err));
	}
	for (size_t i = 0; i < n_cases; i++) {
		must(tt_request_wait(requests[i], err));
		check_generated(requests[i], &cases[i]);
		tt_request_free(requests[i]);
		double error = check_logits(engine, &cases[i]);
		cr_expect(error <= LOGIT_BOUND, "prompt %zu: a logit is %g off", i, error);
		free(cases[i].ids);
	}
	tt_engine_close(engine);
	json_decref(rows);
}

#endif
