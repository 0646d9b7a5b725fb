/* The prompts of a fit, encoded and divided into rows that train and rows that validate. */
#ifndef CONTROLLER_TRAIN_FIT_ROWS_H
#define CONTROLLER_TRAIN_FIT_ROWS_H

#include "controller/measure/prompts.h"

/* One prompt with its ids. */
struct tt_fit_row {
	const struct tt_prompt *prompt;
	int32_t *ids; // [n_ids]
	size_t n_ids;
	size_t mean_from, mean_to; /* the ids of what the user wrote; both 0: all */
};

struct tt_fit_row_list {
	struct tt_fit_row *rows;
	size_t n;
};

struct tt_fit_rows {
	struct tt_prompts prompts;
	size_t n_too_long; /* rows that were left out, since they do not fit the model's context */
	/* The groups of val rows (file, source, kind) take turns, so that the first rows, which judge a push, are not
	 * those of one large group alone. */
	struct tt_fit_row_list train[TT_N_LABELS], val[TT_N_LABELS];
};

/* Reads the files that the options name, divides their rows and encodes those that will be used. A fit with responses
 * of its own needs rows of both labels only for a detector, and otherwise no file at all. */
int tt_fit_rows_read(
	struct tt_fit_rows *out, struct tt_engine *engine, const struct tt_fit_options *options, struct tt_error *err);
/* The same of the rows of one label of prompts that were read, and stay; out->prompts is not set. */
int tt_fit_rows_take(struct tt_fit_rows *out, struct tt_engine *engine, const struct tt_prompts *prompts,
	enum tt_label label, const struct tt_fit_options *options, struct tt_error *err);
void tt_fit_rows_free(struct tt_fit_rows *rows);

/* All rows in one new list (free()): the train rows of all labels, then the val rows of all labels. */
int tt_fit_rows_list(const struct tt_fit_rows *rows, const struct tt_fit_row ***out, size_t *n, struct tt_error *err);

/* Encodes rows [n] again as plain text, without the chat template: all of up to 1,024, of more every second, third, ..
 * of each label, and none where the model has no template, since the rows are plain then. Behind them the texts of the
 * prompts, all but those of the test split. None of one token, for which no gate opens, and none that does not fit the
 * context: *n_too_long grows by these. A gate that has read nothing but prompts in the template takes other text for
 * something else than it is: SmolLM2's, fitted on the project's prompts and pairs, opened for 17 of 50 of Alpaca's as
 * plain text, and for none with plain rows. */
int tt_fit_rows_plain(struct tt_fit_row_list *out, struct tt_engine *engine, const struct tt_fit_row *const *rows,
	size_t n, const struct tt_prompts *prompts, size_t *n_too_long, struct tt_error *err);
void tt_fit_row_list_free(struct tt_fit_row_list *list);

/* Fills order [n] with a permutation of 0 to n - 1, which depends on n and the seed alone. */
void tt_fit_shuffle(size_t *order, size_t n, uint64_t seed);
/* The same of the indexes of the prompts that are no texts, so that texts change the place of no other row: *order [*n]
 * is released with free(). */
int tt_fit_shuffle_prompts(
	size_t **order, size_t *n, const struct tt_prompts *prompts, uint64_t seed, struct tt_error *err);

#endif
