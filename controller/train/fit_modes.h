/* The table of the ways to fit a policy, one row each. */
#ifndef CONTROLLER_TRAIN_FIT_MODES_H
#define CONTROLLER_TRAIN_FIT_MODES_H

#include "controller/train/fit.h"

/* The three steps of a fit, in this order. Each reads what those before it made. */
struct tt_fit_mode_row {
	const char *word;
	int (*directions)(struct tt_fit *fit, struct tt_error *err); /* makes fit->directions */
	int (*gate)(struct tt_fit *fit, struct tt_error *err);       /* makes fit->gate */
	int (*choose)(struct tt_fit *fit, struct tt_error *err);     /* makes fit->search, with a chosen candidate */
	bool searches_weights;                                       /* choose heeds options->layer_weights */
};

/* The step that makes a gate which the options choose in place of the mode's own. */
int (*tt_fit_gate_step(enum tt_fit_gate_choice gate))(struct tt_fit *fit, struct tt_error *err);

/* The row of a mode, or NULL for a number that is no mode. */
const struct tt_fit_mode_row *tt_fit_mode_of(enum tt_fit_mode mode);
/* Whether a mode finds a direction, of which any operation can be made. */
bool tt_fit_mode_takes_op(enum tt_fit_mode mode);

/* Whether the policy will have a detector as its gate. The mode is valid. */
bool tt_fit_has_detector(const struct tt_fit_options *options);

#endif
