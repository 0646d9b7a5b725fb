/* Shared by the files of tt_eval. */
#ifndef CONTROLLER_MEASURE_EVAL_H
#define CONTROLLER_MEASURE_EVAL_H

#include <jansson.h>

#include "controller/measure/completion.h"
#include "controller/measure/judgements.h"
#include "controller/measure/line_file.h"
#include "controller/measure/prompts.h"
#include "controller/measure/review.h"

/* What one side wrote to the prompts of a group. */
struct tt_side {
	struct tt_tally all, refusals; /* their logprob is under the unsteered model */
	size_t n_changed;              /* completions that are not the unsteered ones */
};

/* By whose rule a completion is a refusal. */
enum tt_judge { TT_IN_SUBSTANCE, TT_BY_PHRASES, TT_BY_JUDGE, TT_N_JUDGES };

/* What is kept of a completion. */
struct tt_outcome {
	enum tt_verdict verdicts[TT_N_JUDGES];
	bool flagged;
};

/* Rows of one label in one file, or in all files together. */
struct tt_group {
	size_t file; /* TT_ALL_FILES: all */
	enum tt_label label;
	struct tt_side *sides; // [n_sides]
};

struct tt_speed {
	uint64_t n_prefill_tokens, n_decode_tokens, n_reruns;
	double seconds;
};

struct tt_eval {
	struct tt_engine *engine;
	const struct tt_eval_options *options;
	struct tt_progress progress;
	struct tt_prompts prompts;
	const struct tt_prompt **rows; // [n_rows] those that are evaluated, in file order
	size_t n_rows;
	const struct tt_eval_arm *arms; // [n_arms] the options' arms, or `only`
	size_t n_arms, n_sides;         /* side 0 is the model alone, side 1 + k arm k */
	struct tt_eval_arm only;        /* the options' steering */
	struct tt_group *groups;        // [n_groups] each file's labels, then all files' labels
	size_t n_groups;
	struct tt_side *sides;       // [n_groups][n_sides]
	struct tt_outcome *outcomes; // [n_sides][n_rows]
	/* What the gate of the arm's first policy gave, the higher the more it wants to act; NAN: nothing. */
	double *scores;          // [n_arms][n_rows]
	struct tt_speed *speeds; // [n_sides]
	struct tt_line_file completions, requests, review;
	char *(*texts)[2]; // [n_rows] for the rows to review: unsteered and steered; NULL if they are not wanted
	size_t n_to_review[TT_N_REVIEW_REASONS]; /* written, of each reason */
	struct tt_judgements judgements;         /* empty without the option */
	/* The same evaluation of each variant of the rows. They have no outputs of their own, and no judgements. */
	struct tt_eval *variants; // [n_variants]
	size_t n_variants;
	const char *variant; /* which one this is; NULL: the rows as they are */
};

/* eval.c: the seed of a row, on every side. */
int tt_eval_seed(const struct tt_eval *eval, const struct tt_prompt *row, uint64_t *seed, struct tt_error *err);

/* Whether it is of gates alone: each prompt runs once under each arm, and nothing is completed. */
static inline bool tt_eval_is_of_gates(const struct tt_eval *eval)
{
	return eval->options->max_tokens == 0;
}

/* ---- eval_variants.c: evaluations of the rows in other dress. */

/* Makes the variants that the options name, with their prompts and rows. Refuses a row that does not fit the context
 * any more, so that no long run ends in that. */
int tt_eval_variants_open(struct tt_eval *eval, struct tt_error *err);
/* Frees the prompts; what else an evaluation allocates is its owner's. */
void tt_eval_variants_close(struct tt_eval *eval);

/* ---- eval_arms.c */

/* Checks the options' steering and arms, and sets arms. */
int tt_eval_choose_arms(struct tt_eval *eval, struct tt_error *err);
const char *tt_eval_side_name(const struct tt_eval *eval, size_t side);

/* Counts a row whose completions are complete. sides: [n_sides] */
void tt_eval_record(struct tt_eval *eval, size_t row, const struct tt_completion *const *sides);

/* The rows of a group that exactly one of two sides refuses, as a judge sees it. */
struct tt_pairs {
	size_t n;            /* rows with a verdict on both sides */
	size_t gained, lost; /* refused on the second side alone, on the first side alone */
};
struct tt_pairs tt_eval_pairs(
	const struct tt_eval *eval, const struct tt_group *group, enum tt_judge judge, size_t first, size_t second);

/* ---- eval_outputs.c: the files that are written. */

int tt_eval_outputs_open(struct tt_eval *eval, struct tt_error *err);
int tt_eval_outputs_row(struct tt_eval *eval, const struct tt_prompt *row, const struct tt_completion *const *sides,
	struct tt_error *err);
int tt_eval_outputs_flush(struct tt_eval *eval, struct tt_error *err);
int tt_eval_outputs_close(struct tt_eval *eval, struct tt_error *err);
void tt_eval_outputs_free(struct tt_eval *eval);

/* ---- eval_review.c: the rows that a person should look at. These do nothing where they are not asked for. */

/* Whether what is asked for can be reviewed: one policy, whose gate has a threshold. */
int tt_eval_review_check(const struct tt_eval *eval, struct tt_error *err);
/* Keeps what a row's line may need of its completions. */
int tt_eval_review_keep(
	struct tt_eval *eval, size_t row, const struct tt_completion *const *sides, struct tt_error *err);
/* When all rows are recorded. */
int tt_eval_review_write(struct tt_eval *eval, struct tt_error *err);
/* How many of each reason; null where nothing was asked for. */
json_t *tt_eval_review_report(const struct tt_eval *eval);
void tt_eval_review_free(struct tt_eval *eval);

/* ---- eval_gate.c */

/* How well the gate of an arm's first policy tells harmful prompts from others; null where it reads nothing. */
int tt_eval_gate_report(const struct tt_eval *eval, size_t arm, json_t **out, struct tt_error *err);

/* ---- eval_report.c */

/* What there is to say of the policies of an evaluation's side. */
json_t *tt_eval_policies_report(const struct tt_steering *steering, uint32_t n, enum tt_policy_when asked);
/* The report as JSON, which the caller frees. */
int tt_eval_report(const struct tt_eval *eval, char **out, struct tt_error *err);

#endif
