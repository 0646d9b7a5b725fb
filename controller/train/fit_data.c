/* The prompts of a fit, divided into rows that train and rows that validate. Rows of the test split are never used. */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "controller/train/fit.h"

/* splitmix64: every seed, 0 included, gives a good stream. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

void tt_fit_shuffle(size_t *order, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++)
		order[i] = i;
	for (size_t i = n; i > 1; i--) {
		size_t k = (size_t)(next_random(&seed) % i), swap = order[i - 1];
		order[i - 1] = order[k];
		order[k] = swap;
	}
}

/* The rows of one label as shuffled indices: first those that train, then those that validate. */
struct division {
	size_t *rows;
	size_t n_train, n_val;
};

/* A quarter of the rows without a split validates. If a label then has no rows to validate with, a quarter of its train
 * rows does. */
static int divide(const struct tt_fit *fit, enum tt_label label, struct division *out, struct tt_error *err)
{
	const struct tt_prompts *prompts = &fit->prompts;
	size_t *order = NULL, n_free = 0, n_free_val, n = 0;
	TT_TRY(tt_alloc(&out->rows, prompts->n_rows, sizeof *out->rows, err));
	TT_TRY(tt_alloc(&order, prompts->n_rows, sizeof *order, err));
	tt_fit_shuffle(order, prompts->n_rows, fit->options->seed);
	for (size_t i = 0; i < prompts->n_rows; i++)
		n_free += prompts->rows[i].label == label && prompts->rows[i].split == TT_NO_SPLIT;
	n_free_val = n_free / 4;
	for (int pass = 0; pass < 2; pass++) {
		size_t free_seen = 0;
		for (size_t i = 0; i < prompts->n_rows; i++) {
			const struct tt_prompt *row = &prompts->rows[order[i]];
			if (row->label != label || row->split == TT_TEST)
				continue;
			bool val = row->split == TT_VAL || (row->split == TT_NO_SPLIT && free_seen++ < n_free_val);
			if (val == (pass == 1))
				out->rows[n++] = order[i];
		}
		if (pass == 0)
			out->n_train = n;
	}
	free(order);
	if (n == out->n_train)
		out->n_train -= n / 4;
	out->n_val = n - out->n_train;
	return TT_OK;
}

static int encode_rows(
	struct tt_fit *fit, struct tt_fit_rows *out, const size_t *rows, size_t n, size_t limit, struct tt_error *err)
{
	if (n > limit)
		n = limit;
	TT_TRY(tt_alloc(&out->rows, n, sizeof *out->rows, err));
	for (; out->n < n; out->n++) {
		struct tt_fit_row *row = &out->rows[out->n];
		struct tt_request_options request;
		row->prompt = &fit->prompts.rows[rows[out->n]];
		tt_request_options_default(&request);
		TT_TRY(tt_encode_prompt(fit->engine, row->prompt->text, row->prompt->id,
			fit->options->judge_tokens + 96, &row->ids, &request, err));
		row->n_ids = request.n_ids;
		row->mean_from = request.mean_from;
		row->mean_to = request.mean_to;
	}
	return TT_OK;
}

static size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

int tt_fit_data(struct tt_fit *fit, struct tt_error *err)
{
	const struct tt_fit_options *o = fit->options;
	TT_TRY(tt_prompts_read(&fit->prompts, o->data, o->n_data, err));
	/* Half as many rows validate as train: the threshold needs many, but each costs a prefill. */
	size_t max_train = max_size(o->n_probe_prompts, o->n_direction_prompts);
	size_t max_val = max_size(o->n_probe_prompts / 2, o->n_judge_prompts);
	for (int label = 0; label < TT_N_LABELS; label++) {
		struct division d = {0};
		int status = divide(fit, (enum tt_label)label, &d, err);
		if (status == TT_OK && label != TT_BORDERLINE && (d.n_train < 2 || d.n_val < 1))
			status = tt_fail(err, TT_ERR_ARGUMENT,
				"fitting needs at least 2 train rows and 1 val row labelled %s; there are %zu and %zu",
				tt_label_name((enum tt_label)label), d.n_train, d.n_val);
		if (status == TT_OK)
			status = encode_rows(fit, &fit->train[label], d.rows, d.n_train, max_train, err);
		if (status == TT_OK)
			status = encode_rows(fit, &fit->val[label], d.rows + d.n_train, d.n_val, max_val, err);
		free(d.rows);
		TT_TRY(status);
	}
	return TT_OK;
}
