/* The prompts of a fit, divided into rows that train and rows that validate. Rows of the test split are never used. */
#include "controller/train/fit_rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/random.h"

void tt_fit_shuffle(size_t *order, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++)
		order[i] = i;
	for (size_t i = n; i > 1; i--) {
		size_t k = (size_t)(tt_random_next(&seed) % i), swap = order[i - 1];
		order[i - 1] = order[k];
		order[k] = swap;
	}
}

int tt_fit_shuffle_prompts(
	size_t **order, size_t *n, const struct tt_prompts *prompts, uint64_t seed, struct tt_error *err)
{
	size_t *where = NULL, n_rows = prompts->n_rows; // [n] the rows that are no texts
	*n = 0;
	TT_TRY(tt_alloc(&where, n_rows, sizeof *where, err));
	int status = tt_alloc(order, n_rows, sizeof **order, err);
	for (size_t i = 0; status == TT_OK && i < n_rows; i++)
		if (!prompts->rows[i].is_text)
			where[(*n)++] = i;
	if (status == TT_OK)
		tt_fit_shuffle(*order, *n, seed);
	for (size_t i = 0; status == TT_OK && i < *n; i++)
		(*order)[i] = where[(*order)[i]];
	free(where);
	return status;
}

/* The rows of one label as shuffled indices: first those that train, then those that validate. */
struct division {
	size_t *rows;
	size_t n_train, n_val;
};

/* A row's place in a list, and how many of its group stand before it there. */
struct place {
	size_t row, before, position;
};

static int by_turn(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	if (x->before != y->before)
		return x->before < y->before ? -1 : 1;
	return x->position < y->position ? -1 : 1;
}

/* Orders rows so that groups take turns: however many of the first are used, each group has its share, whichever of
 * them is large. */
static int take_turns(const struct tt_prompts *prompts, size_t *rows, size_t n, struct tt_error *err)
{
	size_t *seen = NULL;
	struct place *places = NULL;
	TT_TRY(tt_alloc(&seen, prompts->n_groups, sizeof *seen, err));
	int status = tt_alloc(&places, n, sizeof *places, err);
	for (size_t i = 0; status == TT_OK && i < n; i++)
		places[i] = (struct place){rows[i], seen[prompts->rows[rows[i]].group]++, i};
	if (status == TT_OK)
		qsort(places, n, sizeof *places, by_turn);
	for (size_t i = 0; status == TT_OK && i < n; i++)
		rows[i] = places[i].row;
	free(seen);
	free(places);
	return status;
}

/* A quarter of the rows without a split validates. If a label then has no rows to validate with, a quarter of its train
 * rows does. */
static int divide(const struct tt_prompts *prompts, enum tt_label label, uint64_t seed, struct division *out,
	struct tt_error *err)
{
	size_t *order = NULL, n_rows, n_free = 0, n_free_val, n = 0;
	TT_TRY(tt_alloc(&out->rows, prompts->n_rows, sizeof *out->rows, err));
	TT_TRY(tt_fit_shuffle_prompts(&order, &n_rows, prompts, seed, err));
	for (size_t i = 0; i < n_rows; i++)
		n_free += prompts->rows[order[i]].label == label && prompts->rows[order[i]].split == TT_NO_SPLIT;
	n_free_val = n_free / 4;
	for (int pass = 0; pass < 2; pass++) {
		size_t free_seen = 0;
		for (size_t i = 0; i < n_rows; i++) {
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
	return take_turns(prompts, out->rows + out->n_train, out->n_val, err);
}

/* What encoding needs beside the rows. */
struct encoding {
	struct tt_engine *engine;
	const struct tt_prompts *prompts;
	size_t room; /* tokens that must fit after a prompt */
	size_t *n_too_long;
};

/* A row that does not fit the context is left out. */
static int encode_rows(
	const struct encoding *e, struct tt_fit_row_list *out, const size_t *rows, size_t n, struct tt_error *err)
{
	TT_TRY(tt_alloc(&out->rows, n, sizeof *out->rows, err));
	for (size_t i = 0; i < n; i++) {
		struct tt_fit_row *row = &out->rows[out->n];
		row->prompt = &e->prompts->rows[rows[i]];
		struct tt_request_options request;
		tt_request_options_default(&request);
		int status = tt_encode_row(e->engine, row->prompt, NULL, e->room, &row->ids, &request, err);
		if (status != TT_OK && status != TT_ERR_LIMIT)
			return status;
		*e->n_too_long += status == TT_ERR_LIMIT;
		row->n_ids = request.n_ids;
		row->mean_from = request.mean_from;
		row->mean_to = request.mean_to;
		out->n += status == TT_OK;
	}
	return TT_OK;
}

static size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static bool is_needed(const struct tt_fit_options *o, enum tt_label label)
{
	return label != TT_BORDERLINE && (!o->contrast || o->gate == TT_FIT_GATE_DETECTOR);
}

int tt_fit_rows_take(struct tt_fit_rows *out, struct tt_engine *engine, const struct tt_prompts *prompts,
	enum tt_label label, const struct tt_fit_options *o, struct tt_error *err)
{
	const struct encoding e = {
		.engine = engine, .prompts = prompts, .room = o->judge_tokens + 96, .n_too_long = &out->n_too_long};
	/* The gate is trained and measured on both parts, each row in turn held out. */
	size_t max_val = max_size(o->n_gate_prompts / 4, o->n_judge_prompts);
	size_t max_train = max_size(o->n_gate_prompts - o->n_gate_prompts / 4, o->n_direction_prompts);
	struct division d = {0};
	int status = divide(prompts, label, o->seed, &d, err);
	if (status == TT_OK && is_needed(o, label) && (d.n_train < 2 || d.n_val < 1))
		status = tt_fail(err, TT_ERR_ARGUMENT,
			"fitting needs at least 2 train rows and 1 val row labelled %s; there are %zu and %zu",
			tt_label_name(label), d.n_train, d.n_val);
	if (status == TT_OK)
		status = encode_rows(&e, &out->train[label], d.rows, min_size(d.n_train, max_train), err);
	if (status == TT_OK)
		status = encode_rows(&e, &out->val[label], d.rows + d.n_train, min_size(d.n_val, max_val), err);
	free(d.rows);
	return status;
}

int tt_fit_rows_read(
	struct tt_fit_rows *out, struct tt_engine *engine, const struct tt_fit_options *o, struct tt_error *err)
{
	*out = (struct tt_fit_rows){0};
	if (o->n_data == 0 && !is_needed(o, TT_HARMFUL))
		return TT_OK;
	const struct tt_prompt_form form = {.harmful = o->positive_label, .benign = o->negative_label, .texts = true};
	TT_TRY(tt_prompts_read_as(&out->prompts, o->data, o->n_data, &form, err));
	for (int label = 0; label < TT_N_LABELS; label++)
		TT_TRY(tt_fit_rows_take(out, engine, &out->prompts, (enum tt_label)label, o, err));
	return TT_OK;
}

int tt_fit_rows_list(const struct tt_fit_rows *rows, const struct tt_fit_row ***out, size_t *n, struct tt_error *err)
{
	const struct tt_fit_row_list *const parts[] = {rows->train, rows->val};
	size_t total = 0;
	*n = 0;
	for (int label = 0; label < TT_N_LABELS; label++)
		total += rows->train[label].n + rows->val[label].n;
	TT_TRY(tt_alloc(out, total, sizeof(const struct tt_fit_row *), err));
	for (int part = 0; part < 2; part++)
		for (int label = 0; label < TT_N_LABELS; label++)
			for (size_t i = 0; i < parts[part][label].n; i++)
				(*out)[(*n)++] = &parts[part][label].rows[i];
	return TT_OK;
}

/* It is a form that plain rows teach, for which so many are enough. */
enum { MOST_PLAIN = 1024 };

static int add_plain(struct tt_fit_row_list *out, struct tt_engine *engine, const struct tt_prompt *prompt,
	size_t *n_too_long, struct tt_error *err)
{
	struct tt_fit_row *row = &out->rows[out->n];
	row->prompt = prompt;
	TT_TRY(tt_text_encode(
		tt_engine_text(engine), prompt->text, strlen(prompt->text), TT_TEXT_BOS, &row->ids, &row->n_ids, err));
	bool fits = row->n_ids <= tt_engine_info(engine)->context;
	*n_too_long += !fits;
	if (fits && row->n_ids > 1)
		out->n++;
	else
		tt_free(row->ids);
	return TT_OK;
}

int tt_fit_rows_plain(struct tt_fit_row_list *out, struct tt_engine *engine, const struct tt_fit_row *const *rows,
	size_t n, const struct tt_prompts *prompts, size_t *n_too_long, struct tt_error *err)
{
	bool has_template = tt_text_has_template(tt_engine_text(engine));
	size_t n_seen[TT_N_LABELS] = {0}, every = (n + MOST_PLAIN - 1) / MOST_PLAIN;
	*out = (struct tt_fit_row_list){0};
	TT_TRY(tt_alloc(&out->rows, n + prompts->n_rows, sizeof *out->rows, err));
	for (size_t i = 0; i < n && has_template; i++)
		if (n_seen[rows[i]->prompt->label]++ % every == 0)
			TT_TRY(add_plain(out, engine, rows[i]->prompt, n_too_long, err));
	for (size_t i = 0; i < prompts->n_rows; i++)
		if (prompts->rows[i].is_text && prompts->rows[i].split != TT_TEST)
			TT_TRY(add_plain(out, engine, &prompts->rows[i], n_too_long, err));
	return TT_OK;
}

void tt_fit_row_list_free(struct tt_fit_row_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		tt_free(list->rows[i].ids);
	free(list->rows);
}

void tt_fit_rows_free(struct tt_fit_rows *rows)
{
	for (int label = 0; label < TT_N_LABELS; label++) {
		tt_fit_row_list_free(&rows->train[label]);
		tt_fit_row_list_free(&rows->val[label]);
	}
	tt_prompts_free(&rows->prompts);
	*rows = (struct tt_fit_rows){0};
}
