/* A fit, put together of its parts by fit.c, and what is written about it. */
#ifndef CONTROLLER_TRAIN_FIT_H
#define CONTROLLER_TRAIN_FIT_H

#include "controller/train/fit_continue.h"
#include "controller/train/fit_mean.h"
#include "controller/train/fit_prompt_weights.h"
#include "controller/train/fit_style.h"

struct tt_fit {
	const struct tt_fit_options *options;
	struct tt_engine *engine;
	const struct tt_model_info *info;
	struct tt_progress progress;
	/* The file of activations until the gate is made; NULL if the options name none. */
	struct tt_activation_file opened, *activations;
	struct tt_fit_rows rows;
	struct tt_fit_continued continued; /* if a policy is; then there are no directions, and nothing is searched */
	struct tt_fit_style style;         /* if the mode is that */
	struct tt_fit_directions directions;
	struct tt_fit_mean mean; /* of mode mean */
	struct tt_fit_gate gate;
	struct tt_fit_judge judge;
	struct tt_fit_search search;
	struct tt_fit_judge train_judge;
	struct tt_fit_weights weights;               /* if asked for */
	struct tt_fit_prompt_weights prompt_weights; /* if asked for */
};

/* fit_report.c: the files and activations that were fitted on (metadata of the policy), and the report of the fit. */
int tt_fit_sources(const struct tt_fit *fit, char **out, struct tt_error *err);
int tt_fit_report(const struct tt_fit *fit, double seconds, char **out, struct tt_error *err);
/* The report of a fit that continues a policy. */
int tt_fit_report_continued(const struct tt_fit *fit, double seconds, char **out, struct tt_error *err);

/* The name that the policy will have. */
const char *tt_fit_name(const struct tt_fit_options *options);

#endif
