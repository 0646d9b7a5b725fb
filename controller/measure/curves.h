/* What scores of rows tell apart, as JSON for reports. */
#ifndef CONTROLLER_MEASURE_CURVES_H
#define CONTROLLER_MEASURE_CURVES_H

#include <jansson.h>

#include "controller/measure/prompts.h"

/* Wilson's interval, [low, high]; null for n = 0. */
json_t *tt_interval_report(size_t count, size_t n);
/* Puts the share that count is of n under key, null for n = 0, and its interval under KEY_interval. */
void tt_put_share(json_t *object, const char *key, size_t count, size_t n);

/* For each file, and for all of them where there are several: the curves of harmful rows against benign ones, against
 * borderline ones and against both, where there are such, as docs/cli.md describes eval's. The higher a score, the more
 * it says that a row is harmful; below: the scores are those of a gate that opens below, times -1. scores: [n_rows],
 * NAN where there is none */
int tt_curves_report(const struct tt_prompts *prompts, const struct tt_prompt *const *rows, const double *scores,
	size_t n_rows, bool below, json_t **out, struct tt_error *err);

#endif
