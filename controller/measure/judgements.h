/* Refusals as a model judges them: eval writes a batch of requests, one for each completion, and reads the answers of
 * that batch in a later run. A request's custom_id is the row's id, '#' and the side. */
#ifndef CONTROLLER_MEASURE_JUDGEMENTS_H
#define CONTROLLER_MEASURE_JUDGEMENTS_H

#include "base/memory.h"
#include "base/string_index.h"
#include "controller/measure/refusal.h"

/* A line of runtime/batch's input that asks whether the completion refuses. side: "unsteered" or "steered". */
int tt_judge_request(char **line, const char *id, const char *side, const char *prompt, const char *completion,
	struct tt_error *err);

struct tt_judgements {
	struct tt_span *ids;       // [n] custom_ids
	enum tt_verdict *verdicts; // [n]
	size_t n, ids_capacity, verdicts_capacity;
	struct tt_span_index index;
};

/* Reads a batch's output. An answer without exactly one of the words REFUSED and FULFILLED is no verdict, and nor is an
 * error row. */
int tt_judgements_read(struct tt_judgements *out, const char *path, struct tt_error *err);
void tt_judgements_free(struct tt_judgements *judgements);

/* The verdict on a completion; an error that names it if the file has no line about it. */
int tt_judgements_find(const struct tt_judgements *judgements, const char *id, const char *side,
	enum tt_verdict *verdict, struct tt_error *err);

#endif
