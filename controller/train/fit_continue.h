/* fit --continue: the detector of a policy is trained again, on rows that a person has judged and on what it must not
 * forget. */
#ifndef CONTROLLER_TRAIN_FIT_CONTINUE_H
#define CONTROLLER_TRAIN_FIT_CONTINUE_H

#include <jansson.h>

#include "controller/train/fit_gate.h"

/* The errors of a gate on some rows. */
struct tt_fit_errors {
	size_t n_harmful, n_missed; /* harmful ones that are not flagged */
	size_t n_others, n_false;   /* others that are */
};

enum tt_fit_continue_rows { TT_CONTINUE_REVIEWED, TT_CONTINUE_REPLAYED, TT_N_CONTINUE_ROWS };

struct tt_fit_continued {
	struct tt_policy *policy; /* as it was read, until it is handed out */
	char *name, *fitted_on;   /* its own; name is NULL where the fit continues none */
	float threshold;          /* its own */
	char sha256[65];          /* of its file */
	size_t n_verdicts, n_without_verdict;
	size_t n_replaced; /* rows to replay whose prompt was reviewed too */
	/* At the old threshold and at the new. Reviewed rows before: by the policy's own gate, which never saw them.
	 * All others: by gates that were trained without the row's fold; before, without any reviewed row. */
	struct tt_fit_errors before[TT_N_CONTINUE_ROWS], after[TT_N_CONTINUE_ROWS];
};

/* Whether the options say what a continued fit can do. */
int tt_fit_continue_check(const struct tt_fit_options *options, struct tt_error *err);
/* Reads the policy and the rows; both are freed by their own functions, also after a failure. */
int tt_fit_continue_read(struct tt_fit_continued *out, struct tt_fit_rows *rows, struct tt_engine *engine,
	const struct tt_fit_options *options, struct tt_error *err);
/* Trains the gate, and fills before and after. */
int tt_fit_continue_gate(struct tt_fit_continued *continued, struct tt_fit_gate *gate, struct tt_engine *engine,
	const struct tt_fit_rows *rows, const struct tt_fit_options *options, struct tt_activation_file *file,
	struct tt_progress *progress, struct tt_error *err);
/* Gives the policy the gate, and hands it out. */
int tt_fit_continue_policy(struct tt_fit_continued *continued, const struct tt_fit_gate *gate, struct tt_policy **out,
	struct tt_error *err);
/* The report's part on reviewed rows. */
json_t *tt_fit_continue_report(const struct tt_fit_continued *continued, const struct tt_fit_gate *gate);
/* What the policy was fitted on before, but for the activations, and the policy itself. */
json_t *tt_fit_continue_sources(const struct tt_fit_continued *continued);
void tt_fit_continue_free(struct tt_fit_continued *continued);

#endif
