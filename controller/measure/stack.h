/* Shared by the files of tt_stack: policies on one request, alone and together, at several scales. */
#ifndef CONTROLLER_MEASURE_STACK_H
#define CONTROLLER_MEASURE_STACK_H

#include "controller/measure/choices.h"
#include "controller/measure/contrast.h"

enum { TT_STACK_LABELS = TT_N_LABELS + 1 }; /* the labels of data, and prompts of a contrast file */

/* One of the measures that arms are compared by. */
struct tt_objective {
	const char *name; /* in the report */
	bool less;        /* less is better */
	double value;     /* NAN where it could not be measured */
};
enum { TT_MAX_OBJECTIVES = 4 + TT_MAX_STACK };

struct tt_stack_arm {
	float scales[TT_MAX_STACK]; /* what each policy's own scale is multiplied by */
	struct tt_tally all, labels[TT_STACK_LABELS];
	size_t n_changed;
	double effects[TT_MAX_STACK], accuracy; /* NAN where there is no file */
	bool optimal;                           /* no other arm is better in one objective and as good in all */
};

/* A contrast file with its encoded prompts and responses. */
struct tt_stack_contrast {
	const char *name; /* of the file, without its folder */
	struct tt_contrast file;
	struct tt_request_options *prompts; // [n] unsteered
	struct tt_completion *responses[TT_N_SIDES];
	size_t n;
};

/* A prompt that is completed. */
struct tt_stack_row {
	struct tt_request_options options; /* unsteered */
	uint32_t label;                    /* below TT_STACK_LABELS */
};

struct tt_stack {
	struct tt_engine *engine;
	const struct tt_stack_options *options;
	struct tt_progress progress;
	struct tt_prompts prompts;
	struct tt_stack_row *rows; // [n_rows]
	size_t n_rows, capacity;
	struct tt_stack_contrast contrasts[TT_MAX_STACK];
	struct tt_choices choices;
	struct tt_completion *unsteered; // [n_rows]
	struct tt_stack_arm *arms;       // [n_arms] the first is unsteered
	size_t n_arms;
	char stage[32]; /* the name of what runs, which progress points to */
};

/* The objectives of an arm that were measured, and how many these are; the same ones for each arm. */
size_t tt_stack_objectives(
	const struct tt_stack *stack, const struct tt_stack_arm *arm, struct tt_objective out[TT_MAX_OBJECTIVES]);

/* Sets optimal[i] where no other of the n rows of values [n][n_values] is at least as good in each and better in one.
 * less: which are better when they are less. A NAN is worse than any number. */
void tt_pareto(const double *values, const bool *less, size_t n, size_t n_values, bool *optimal);

/* stack_report.c: the report as JSON, which the caller frees. */
int tt_stack_report(const struct tt_stack *stack, char **out, struct tt_error *err);

#endif
