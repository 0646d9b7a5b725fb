/* The parts of tt_fit, in the order in which it uses them; fit.c says what each is for. */
#ifndef CONTROLLER_TRAIN_FIT_H
#define CONTROLLER_TRAIN_FIT_H

#include "base/json.h"
#include "controller/measure/completion.h"
#include "controller/measure/prompts.h"
#include "controller/policy/policy.h"

/* One prompt with its ids. */
struct tt_fit_row {
	const struct tt_prompt *prompt;
	int32_t *ids; // [n_ids]
	size_t n_ids;
	size_t mean_from, mean_to; /* the prompt's own text in ids, as struct tt_request_options has it */
};

struct tt_fit_rows {
	struct tt_fit_row *rows;
	size_t n;
};

enum { TT_PROBE_LAYERS = 3 };

/* p = sigmoid(w.x + b). x is h at the last prompt token; if several layers are observed, their h concatenated. */
struct tt_probe {
	uint32_t observed[TT_PROBE_LAYERS], n_observed; /* ascending */
	float *w;                                       // [n_observed * hidden_size]
	float b, threshold;
	/* On the held-out rows, at the threshold: the share of each label that is flagged, the share of right decisions
	 * (mean of both labels), and the mean log loss, which ranks probes whose decisions are equally good. */
	double flagged[TT_N_LABELS], balanced, loss;
};

/* A candidate policy: a band of layers, a strength and a when, with its figures. */
struct tt_candidate {
	uint32_t first, width; /* layers [first, first + width) */
	float shift;           /* alpha * width: the band's whole push, in units of the directions */
	enum tt_policy_when when;
	const struct tt_probe *probe;
	struct tt_policy *policy;               /* with an open gate, since it is known which prompts pass the probe */
	struct tt_completion *harmful, *benign; // [n_judge] each, filled as far as it was judged
	uint32_t n_harmful, n_benign;           /* judged so far */
	double refused;                         /* share of the harmful prompts, with an open gate */
	double refused_gated;                   /* share of the harmful prompts, with the probe as gate */
	double false_refusals;                  /* share of the benign prompts, less the unsteered model's */
	double repeated;                        /* share of repeated 4-grams, less the unsteered model's */
	double diverged;                        /* share of the benign completions that differ from unsteered ones */
	double nll, nll_ratio;                  /* nats a token under the unsteered model, and over its baseline */
	double score;                           /* the search ranks by this */
	bool out;                               /* a figure is beyond its bar */
};

struct tt_fit {
	struct tt_engine *engine;
	const struct tt_fit_options *options;
	const struct tt_model_info *info;
	struct tt_progress progress;
	struct tt_prompts prompts;
	struct tt_fit_rows train[TT_N_LABELS], val[TT_N_LABELS];

	/* fit_directions.c */
	float *directions;    // [n_layers][hidden_size] D
	double *stream_norms; // [n_layers] mean L2 norm of h over the response tokens
	uint32_t n_pairs;

	/* fit_probe.c */
	struct tt_probe *probes; // [n_probes] ascending by the last observed layer
	uint32_t n_probes;
	/* The logits that each probe gives rows that it was not trained on: the val rows and, if these are few, then
	 * the train rows, each by a probe that was trained without its fold. */
	size_t n_held[TT_N_LABELS];
	float *held_logits[TT_N_LABELS]; // [n_probes][n_held]

	/* fit_search.c */
	uint32_t n_judge[2];               /* harmful, benign */
	struct tt_completion *baseline[2]; // [n_judge] unsteered
	double baseline_nll;               /* nats a token of unsteered refusals or, if there are few, completions */
	bool baseline_is_refusals;
	struct tt_candidate *candidates; // [n_candidates]
	uint32_t n_candidates;
	const struct tt_candidate *chosen;
	const char *why;
};

/* Reads the prompts, divides them into train and val, and encodes those that will be used. */
int tt_fit_data(struct tt_fit *fit, struct tt_error *err);
/* Fills directions and stream_norms, by response contrast (fit_directions.c). */
int tt_fit_directions(struct tt_fit *fit, struct tt_error *err);
/* Trains a probe for each layer from a fifth to two thirds of the model, and one over three of them. */
int tt_fit_probes(struct tt_fit *fit, struct tt_error *err);
/* Whether the probe flags a validation row. */
bool tt_fit_flagged(const struct tt_fit *fit, const struct tt_probe *probe, enum tt_label label, size_t row);
/* The best probe for a policy whose band begins at layer `first` and that steers the tokens of `when`. */
const struct tt_probe *tt_fit_choose_probe(const struct tt_fit *fit, uint32_t first, enum tt_policy_when when);
/* Tries bands, strengths and whens, judged by what the model then writes. Sets chosen and why. */
int tt_fit_search(struct tt_fit *fit, struct tt_error *err);

/* fit_judge.c: generates the unsteered completions of the judge prompts. */
int tt_fit_baseline(struct tt_fit *fit, struct tt_error *err);
/* Generates the candidates' completions of the first n_harmful and n_benign judge prompts; those that exist stay. */
int tt_fit_generate(struct tt_fit *fit, struct tt_candidate **active, uint32_t n_active, uint32_t n_harmful,
	uint32_t n_benign, const char *stage, struct tt_error *err);
/* Has the unsteered model score the candidates' completions, which gives nll. */
int tt_fit_score(
	struct tt_fit *fit, struct tt_candidate **active, uint32_t n_active, const char *stage, struct tt_error *err);
/* Computes the candidate's figures from its completions; nll is NAN until tt_fit_score. */
void tt_fit_rate(const struct tt_fit *fit, struct tt_candidate *candidate);

/* fit_grid.c: fills candidates, best guesses first, at most options->max_candidates. */
int tt_fit_grid(struct tt_fit *fit, struct tt_error *err);
/* Makes the policy of a candidate, with its probe as gate or with an open gate. */
int tt_fit_policy(const struct tt_fit *fit, const struct tt_candidate *candidate, bool gated, struct tt_policy **out,
	struct tt_error *err);

/* fit_report.c: the files that were fitted on (metadata of the policy), and the report of the fit. */
int tt_fit_sources(const struct tt_fit *fit, char **out, struct tt_error *err);
int tt_fit_report(const struct tt_fit *fit, double seconds, char **out, struct tt_error *err);

/* The name that the policy will have. */
const char *tt_fit_name(const struct tt_fit *fit);

/* Fills order [n] with a permutation of 0 to n - 1, which depends on n and the seed alone. */
void tt_fit_shuffle(size_t *order, size_t n, uint64_t seed);

void tt_fit_close(struct tt_fit *fit);

#endif
