/* Shared by the files of tt_eval. */
#ifndef CONTROLLER_MEASURE_EVAL_H
#define CONTROLLER_MEASURE_EVAL_H

#include <stdio.h>

#include "controller/measure/completion.h"
#include "controller/measure/judgements.h"
#include "controller/measure/prompts.h"

/* The completions of one side, unsteered or steered. */
struct tt_side {
	struct tt_tally all, refusals; /* their logprob is under the unsteered model */
};

/* Rows of one label in one file, or in all files together. */
struct tt_group {
	const char *file; /* NULL: all */
	enum tt_label label;
	size_t n_changed; /* completions that steering changed */
	struct tt_side unsteered, steered;
};

struct tt_speed {
	uint64_t n_prefill_tokens, n_decode_tokens, n_reruns;
	double seconds;
};

/* A file that gets its name when it is complete. */
struct tt_eval_output {
	const char *path; /* NULL: not written */
	char *partial;    /* its name until then */
	FILE *file;
};

struct tt_eval {
	struct tt_engine *engine;
	const struct tt_eval_options *options;
	struct tt_progress progress;
	struct tt_prompts prompts;
	const struct tt_prompt **rows; // [n_rows] those that are evaluated, in file order
	size_t n_rows;
	struct tt_group *groups; // [n_groups] each file's labels, then all files' labels
	size_t n_groups;
	struct tt_speed speed[2]; /* unsteered, steered */
	struct tt_eval_output completions, requests;
	struct tt_judgements judgements; /* empty without the option */
};

/* eval_report.c: the report as JSON, which the caller frees. */
int tt_eval_report(const struct tt_eval *eval, char **out, struct tt_error *err);

#endif
