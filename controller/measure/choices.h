/* Questions with choices, of which one is right: a model answers with the choice that it finds likeliest. */
#ifndef CONTROLLER_MEASURE_CHOICES_H
#define CONTROLLER_MEASURE_CHOICES_H

#include "controller/measure/completion.h"

enum { TT_MAX_CHOICES = 16 };

struct tt_choices {
	size_t n;                           /* questions */
	struct tt_request_options *prompts; // [n] the question as a user message; ids are the list's
	size_t *first;                      // [n + 1] where each question's choices begin
	struct tt_completion *choices;      // [first[n]] ids and text
	uint32_t *answers;                  // [n] index of the right choice
	size_t capacity, choices_capacity, first_capacity, answers_capacity;
};

/* Reads JSON lines with question, choices (2 to TT_MAX_CHOICES texts) and answer (the index of the right one, from 0),
 * the first `limit` of them or, with 0, all. Other keys are ignored. A bad line is refused with file, line and
 * field. */
int tt_choices_read(
	struct tt_choices *out, struct tt_engine *engine, const char *path, uint32_t limit, struct tt_error *err);
void tt_choices_free(struct tt_choices *choices);

/* The share of questions whose right choice has the highest log-probability a token, of equals the first counting as
 * the answer, under the steering of how (its ids are ignored). Takes first[n] steps of progress. */
int tt_choices_accuracy(struct tt_engine *engine, const struct tt_choices *choices,
	const struct tt_request_options *how, double *accuracy, struct tt_progress *progress, struct tt_error *err);

#endif
