/* The direction of arXiv 2505.20309: in the embedding of the tokens, from words that answer to words that refuse. */
#ifndef CONTROLLER_TRAIN_FIT_EMBEDDING_H
#define CONTROLLER_TRAIN_FIT_EMBEDDING_H

#include "controller/train/fit_directions.h"
#include "weights/model.h"

/* Makes D, for every layer the same: the mean of the rows of matrix [vocab][hidden] for the tokens of
 * tt_refusal_phrases, less that for the tokens of tt_answer_phrases, at length 1 (equation 7). Each phrase is encoded
 * alone, and a token counts as often as it occurs. There is no E. */
int tt_fit_embedding_make(
	struct tt_fit_directions *out, struct tt_engine *engine, const struct tt_matrix *matrix, struct tt_error *err);

#endif
