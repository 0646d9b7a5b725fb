/* Shared by the files of tt_score: log-probabilities of given text, unsteered and steered. */
#ifndef CONTROLLER_MEASURE_SCORE_H
#define CONTROLLER_MEASURE_SCORE_H

#include <jansson.h>

#include "controller/measure/line_file.h"
#include "runtime/engine/pump.h"

enum { TT_UNSTEERED, TT_STEERED, TT_SCORE_SIDES };

struct tt_score {
	struct tt_engine *engine;
	const struct tt_score_options *options;
	struct tt_progress progress;
	struct tt_line_file rows;
	size_t n_sides;                                            /* 1 without a policy */
	struct tt_request_options how[TT_SCORE_SIDES];             /* the steering of each; no ids */
	uint64_t computed[TT_SCORE_SIDES], shared[TT_SCORE_SIDES]; /* tokens that ran, and that another's pages held */
};

/* ---- score.c */

/* Of the texts' encoding: enum tt_text_flags. */
unsigned tt_score_text_flags(const struct tt_score_options *options);
/* Adds to the counts of a side what the engine ran since `before`. */
void tt_score_count(struct tt_score *score, size_t side, const struct tt_engine_stats *before);
/* {"unsteered": .., "steered": ..}, of what make gives for each side; null for a side that is not measured. */
typedef json_t *(*tt_side_fn)(const void *user, size_t side);
json_t *tt_score_sides(const struct tt_score *score, tt_side_fn make, const void *user);
/* [low, high]; null where there is none. */
json_t *tt_score_interval(double low, double high);
/* Takes over row, and writes it where rows are written. */
int tt_score_put_row(struct tt_score *score, json_t *row, struct tt_error *err);

/* ---- score_choices.c and score_text.c: measure, and give the part of the report that is about it. */

int tt_score_choices(struct tt_score *score, json_t **report, struct tt_error *err);
int tt_score_text(struct tt_score *score, json_t **report, struct tt_error *err);

#endif
