/* The parts of tt_fit, in the order in which it uses them. */
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
};

struct tt_fit_rows {
	struct tt_fit_row *rows;
	size_t n;
};

enum { TT_PROBE_LAYERS = 3 };

/* p = sigmoid(w.x + b), x being h at the last prompt token, of the observed layers one behind the other. */
struct tt_probe {
	uint32_t observed[TT_PROBE_LAYERS], n_observed; /* ascending */
	float *w;                                       // [n_observed * hidden_size]
	float b, threshold;
	/* On the held-out rows, at the threshold: shares flagged, the mean of right decisions over both labels, and the
	 * mean log loss, which orders probes that decide alike. */
	double flagged[TT_N_LABELS], balanced, loss;
};

/* A band, a strength and a when, and what it did. */
struct tt_candidate {
	uint32_t first, width; /* layers */
	float shift;           /* alpha * width: the whole push, in directions */
	enum tt_policy_when when;
	const struct tt_probe *probe;
	struct tt_policy *policy;               /* with an open gate: which prompts pass the probe is known already */
	struct tt_completion *harmful, *benign; // [n_judge] each, filled as far as it was judged
	uint32_t n_harmful, n_benign;           /* judged so far */
	/* Of harmful prompts with an open gate, and as gated; the others over or beside the unsteered model's. */
	double refused, refused_gated, false_refusals, repeated, diverged, nll, nll_ratio, score;
	bool out; /* breaks a bar */
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
	/* What each probe gives rows that it was not trained on: the val rows and, where these are few, behind them the
	 * train rows, each by a probe trained without its fold. */
	size_t n_held[TT_N_LABELS];
	float *held_logits[TT_N_LABELS]; // [n_probes][n_held]

	/* fit_search.c */
	uint32_t n_judge[2];               /* harmful, benign */
	struct tt_completion *baseline[2]; // [n_judge] unsteered
	double baseline_nll;
	bool baseline_is_refusals;
	struct tt_candidate *candidates; // [n_candidates]
	uint32_t n_candidates;
	const struct tt_candidate *chosen;
	const char *why;
};

/* Reads the prompts, divides them into train and val, and encodes those that will be used. */
int tt_fit_data(struct tt_fit *fit, struct tt_error *err);
/* Response contrast: fills directions. */
int tt_fit_directions(struct tt_fit *fit, struct tt_error *err);
/* A probe for each layer from a fifth to two thirds of the model, and one over three of them. */
int tt_fit_probes(struct tt_fit *fit, struct tt_error *err);
/* What the probe decides of a validation row. */
bool tt_fit_flagged(const struct tt_fit *fit, const struct tt_probe *probe, enum tt_label label, size_t row);
/* The probe for a policy whose band begins at first and that steers when. */
const struct tt_probe *tt_fit_choose_probe(const struct tt_fit *fit, uint32_t first, enum tt_policy_when when);
/* Bands, strengths and whens, judged by what the model then writes: sets chosen and why. */
int tt_fit_search(struct tt_fit *fit, struct tt_error *err);

/* fit_judge.c: what the model writes unsteered on the judge prompts. */
int tt_fit_baseline(struct tt_fit *fit, struct tt_error *err);
/* Judges candidates by the first n_harmful and n_benign judge prompts; what was generated before stays. */
int tt_fit_generate(struct tt_fit *fit, struct tt_candidate **active, uint32_t n_active, uint32_t n_harmful,
	uint32_t n_benign, const char *stage, struct tt_error *err);
/* Asks the unsteered model how plausible their completions are. */
int tt_fit_score(
	struct tt_fit *fit, struct tt_candidate **active, uint32_t n_active, const char *stage, struct tt_error *err);
/* Fills the candidate's figures from its completions; nll is NAN while it was not asked. */
void tt_fit_rate(const struct tt_fit *fit, struct tt_candidate *candidate);

/* fit_grid.c: the candidates, best guesses first, at most options->max_candidates. */
int tt_fit_grid(struct tt_fit *fit, struct tt_error *err);
/* The policy of a candidate, finished, with its probe or with an open gate. */
int tt_fit_policy(const struct tt_fit *fit, const struct tt_candidate *candidate, bool gated, struct tt_policy **out,
	struct tt_error *err);

/* fit_report.c: what was fitted on (metadata of the policy), and the whole story. */
int tt_fit_sources(const struct tt_fit *fit, char **out, struct tt_error *err);
int tt_fit_report(const struct tt_fit *fit, double seconds, char **out, struct tt_error *err);

/* What the policy will be called. */
const char *tt_fit_name(const struct tt_fit *fit);

/* A fixed permutation of n for this seed. */
void tt_fit_shuffle(size_t *order, size_t n, uint64_t seed);

void tt_fit_close(struct tt_fit *fit);

#endif
