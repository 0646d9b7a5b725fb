/* Shared by the files of tt_eval. */
#ifndef CONTROLLER_MEASURE_EVAL_H
#define CONTROLLER_MEASURE_EVAL_H

#include <jansson.h>
#include <stdio.h>

#include "controller/measure/completion.h"
#include "controller/measure/judgements.h"
#include "controller/measure/prompts.h"

#define TT_ALL_FILES SIZE_MAX

/* The completions of one side, unsteered or steered. */
struct tt_side {
	struct tt_tally all, refusals; /* their logprob is under the unsteered model */
};

/* By whose rule a completion is a refusal. */
enum tt_judge { TT_IN_SUBSTANCE, TT_BY_PHRASES, TT_BY_JUDGE, TT_N_JUDGES };

/* What paired tests and curves need of a completion. */
struct tt_outcome {
	enum tt_verdict verdicts[TT_N_JUDGES];
	double score; /* what the first policy's gate gave, the higher the more it wants to act; NAN: nothing */
};

/* Rows of one label in one file, or in all files together. */
struct tt_group {
	size_t file; /* TT_ALL_FILES: all */
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
	struct tt_outcome *outcomes[2]; // [n_rows] unsteered, steered; what was evaluated so far
	size_t n_outcomes;              /* on each side */
	struct tt_speed speed[2];       /* unsteered, steered */
	struct tt_eval_output completions, requests;
	struct tt_judgements judgements; /* empty without the option */
};

bool tt_group_has(const struct tt_group *group, const struct tt_prompt *row);

/* eval_pairs.c: the rows of a group that exactly one of two sides refuses, as a judge sees it. */
struct tt_pairs {
	size_t n;            /* rows with a verdict on both sides */
	size_t gained, lost; /* refused on the second side alone, on the first side alone */
};
struct tt_pairs tt_eval_pairs(const struct tt_eval *eval, const struct tt_group *group, enum tt_judge judge,
	const struct tt_outcome *first, const struct tt_outcome *second);

/* eval_gate.c: how well the first policy's gate tells harmful prompts from others, as JSON; null where it reads nothing
 * or gave no figure. */
int tt_eval_gate_report(const struct tt_eval *eval, json_t **out, struct tt_error *err);

/* eval_report.c: the name of a file without its folders; Wilson's interval, null for n = 0. */
const char *tt_eval_file_name(const struct tt_eval *eval, size_t file);
json_t *tt_interval_report(size_t count, size_t n);

/* The report as JSON, which the caller frees. */
int tt_eval_report(const struct tt_eval *eval, char **out, struct tt_error *err);

#endif
