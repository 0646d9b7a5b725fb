#include "controller/train/detector.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "controller/measure/metrics.h"
#include "controller/numerics/logistic.h"
#include "controller/numerics/ridge.h"

/* The best penalty depends on how many rows there are and how alike they are: 0.03 was chosen for a mixture of 5,562,
 * 0.1 for 1,062 of the project's own, 0.3 for 168 of one form. */
static const double penalties[] = {0.003, 0.01, 0.03, 0.1, 0.3, 1};
enum { N_PENALTIES = sizeof penalties / sizeof *penalties };

/* The network reads the leading components, in which it has fewer weights than there are rows to learn them from. */
enum { COMPONENTS = 384, UNITS = 128, BATCH = 64, EPOCHS = 30 };
/* Networks from different starts err on different prompts too; their mean is one network of all their units. */
enum { N_NETWORKS = 3 };
static const float target_of_harmful = 0.98f, target_of_benign = 0.02f;

struct training {
	struct tt_detector *out;
	const struct tt_detector_rows *rows;
	const struct tt_detector_options *options;
	struct tt_gram *gram;
	double *linear, *network; // [n] held-out scores of the two terms
	/* The network's. */
	struct tt_pca *pca;
	float *projected; // [n][pca->k]
	float *target;    // [n]
	float *fold_x;    // [n][pca->k] the rows of all folds but one
	float *fold_target, *fold_z;
	double *fold_weight;
	struct tt_mlp *mlp; /* one of the networks */
	struct tt_mlp *all; /* the mean of all */
};

static void training_free(struct training *t)
{
	tt_gram_close(t->gram);
	free(t->linear);
	free(t->network);
	tt_pca_free(t->pca);
	free(t->projected);
	free(t->target);
	free(t->fold_x);
	free(t->fold_target);
	free(t->fold_z);
	free(t->fold_weight);
	tt_mlp_close(t->mlp);
	tt_mlp_close(t->all);
}

/* ---- The linear term */

/* The weighted mean of the squared error against +1 and -1. */
static double squared_error(const struct tt_detector_rows *rows, const double *scores)
{
	double sum = 0, total = 0;
	for (size_t i = 0; i < rows->features.n; i++) {
		double weight = tt_row_weight(&rows->features, i), error = scores[i] - (rows->harmful[i] ? 1 : -1);
		sum += weight * error * error;
		total += weight;
	}
	return sum / total;
}

/* Chooses the penalty whose held-out scores err least, and keeps these. */
static int choose_penalty(struct training *t, struct tt_ridge *ridge, double *scores, struct tt_error *err)
{
	const struct tt_detector_rows *rows = t->rows;
	double least = INFINITY;
	for (int k = 0; k < N_PENALTIES; k++) {
		TT_TRY(tt_ridge_held(ridge, rows->fold, rows->n_folds, penalties[k], scores, err));
		double error = squared_error(rows, scores);
		if (!(error < least))
			continue;
		least = error;
		t->out->penalty = penalties[k];
		memcpy(t->linear, scores, rows->features.n * sizeof *scores);
	}
	return tt_ridge_fit(ridge, t->out->penalty, t->out->w, &t->out->b, err);
}

static int train_linear(struct training *t, struct tt_error *err)
{
	struct tt_ridge *ridge = NULL;
	double *scores = NULL;
	TT_TRY(tt_alloc(&scores, t->rows->features.n, sizeof *scores, err));
	int status = tt_ridge_open(&ridge, t->gram, t->rows->harmful, err);
	if (status == TT_OK)
		status = choose_penalty(t, ridge, scores, err);
	tt_ridge_close(ridge);
	free(scores);
	return status;
}

/* ---- The network */

/* Rows are drawn by weight, and unrated ones should not make more draws. */
static size_t epochs(const struct tt_detector_rows *rows)
{
	size_t n = rows->features.n;
	return (EPOCHS * (n - rows->n_unrated) + n - 1) / n;
}

/* Trains a network on the rows outside a fold, or on all if there is no such fold. */
static int train_without(struct training *t, uint32_t fold, uint64_t seed, struct tt_error *err)
{
	size_t k = t->pca->k, n = 0;
	for (size_t i = 0; i < t->rows->features.n; i++) {
		if (t->rows->fold[i] == fold)
			continue;
		memcpy(t->fold_x + n * k, t->projected + i * k, k * sizeof *t->projected);
		t->fold_target[n] = t->target[i];
		t->fold_weight[n++] = tt_row_weight(&t->rows->features, i);
	}
	struct tt_mlp_options options;
	tt_mlp_options_default(&options);
	options.epochs = epochs(t->rows);
	options.batch = BATCH;
	options.learning_rate = 2e-3;
	options.weight_decay = 0.5;
	options.input_dropout = 0.2;
	options.loss = TT_MLP_LOGISTIC;
	options.order = TT_MLP_DRAWN;
	options.seed = seed;
	const struct tt_mlp_data data = {
		.rows = {.x = t->fold_x, .weight = t->fold_weight, .n = n, .d = k, .stride = k},
		.target = t->fold_target,
	};
	tt_mlp_start(t->mlp, seed);
	return tt_mlp_train(t->mlp, &data, &options, NULL, err);
}

static int hold_out_network(struct training *t, uint32_t fold, uint64_t seed, struct tt_error *err)
{
	const struct tt_rows rows = {.x = t->projected, .n = t->rows->features.n, .d = t->pca->k, .stride = t->pca->k};
	TT_TRY(train_without(t, fold, seed, err));
	TT_TRY(tt_mlp_run(t->mlp, &rows, t->fold_z, err));
	for (size_t i = 0; i < rows.n; i++)
		if (t->rows->fold[i] == fold)
			t->network[i] += (double)t->fold_z[i] / N_NETWORKS;
	return TT_OK;
}

/* Puts network k into its place in the mean. */
static void add_network(struct training *t, uint32_t k)
{
	const struct tt_mlp *from = t->mlp;
	struct tt_mlp *to = t->all;
	memcpy(to->fc1 + k * UNITS * from->d, from->fc1, UNITS * from->d * sizeof *to->fc1);
	memcpy(to->bias1 + k * UNITS, from->bias1, UNITS * sizeof *to->bias1);
	for (size_t u = 0; u < UNITS; u++)
		to->fc2[k * UNITS + u] = from->fc2[u] / N_NETWORKS;
	to->bias2[0] += from->bias2[0] / N_NETWORKS;
}

static int train_network(struct training *t, struct tt_error *err)
{
	size_t n = t->rows->features.n;
	TT_TRY(tt_pca_fit(&t->pca, t->gram, COMPONENTS, err));
	TT_TRY(tt_alloc(&t->projected, n, t->pca->k * sizeof *t->projected, err));
	TT_TRY(tt_alloc(&t->fold_x, n, t->pca->k * sizeof *t->fold_x, err));
	TT_TRY(tt_alloc(&t->target, n, sizeof *t->target, err));
	TT_TRY(tt_alloc(&t->fold_target, n, sizeof *t->fold_target, err));
	TT_TRY(tt_alloc(&t->fold_z, n, sizeof *t->fold_z, err));
	TT_TRY(tt_alloc(&t->fold_weight, n, sizeof *t->fold_weight, err));
	for (size_t i = 0; i < n; i++)
		t->target[i] = t->rows->harmful[i] ? target_of_harmful : target_of_benign;
	TT_TRY(tt_pca_project(t->pca, &t->rows->features, t->projected, err));
	TT_TRY(tt_mlp_open(&t->mlp, t->pca->k, UNITS, 1, err));
	TT_TRY(tt_mlp_open(&t->all, t->pca->k, N_NETWORKS * UNITS, 1, err));
	for (uint32_t k = 0; k < N_NETWORKS; k++) {
		uint64_t seed = t->options->seed + k;
		for (uint32_t fold = 0; fold < t->rows->n_folds; fold++)
			TT_TRY(hold_out_network(t, fold, seed, err));
		TT_TRY(train_without(t, UINT32_MAX, seed, err));
		add_network(t, k);
	}
	return tt_mlp_unproject(&t->out->network, t->all, t->pca, err);
}

/* ---- Both together */

/* Adds the terms up to a logit: a logistic regression on their held-out scores says how much each counts, which is then
 * folded into the weights. */
static int add_up(struct training *t, struct tt_error *err)
{
	struct tt_detector *out = t->out;
	size_t n = t->rows->features.n, d = t->network ? 2 : 1;
	float *scores = NULL, slope[2] = {0}, bias = 0;
	TT_TRY(tt_alloc(&scores, n, d * sizeof *scores, err));
	for (size_t i = 0; i < n; i++) {
		scores[i * d] = (float)t->linear[i];
		if (t->network)
			scores[i * d + 1] = (float)t->network[i];
	}
	const struct tt_logistic data = {
		.x = scores, .label = t->rows->harmful, .n = n, .d = d, .stride = d, .l2 = 1e-3};
	int status = tt_logistic_fit(&data, slope, &bias, NULL, err);
	for (size_t i = 0; status == TT_OK && i < n; i++)
		out->held[i] = (double)slope[0] * t->linear[i] + (t->network ? (double)slope[1] * t->network[i] : 0) +
			       (double)bias;
	free(scores);
	TT_TRY(status);
	for (size_t j = 0; j < t->rows->features.d; j++)
		out->w[j] *= slope[0];
	out->b = out->b * slope[0] + bias;
	for (size_t u = 0; out->network && u < out->network->units; u++)
		out->network->fc2[u] *= slope[1];
	if (out->network)
		out->network->bias2[0] *= slope[1];
	return TT_OK;
}

static int train(struct training *t, struct tt_error *err)
{
	const struct tt_rows *x = &t->rows->features;
	struct tt_detector *out = t->out;
	size_t n_rated = x->n - t->rows->n_unrated;
	TT_TRY(tt_alloc(&out->w, x->d, sizeof *out->w, err));
	TT_TRY(tt_alloc(&out->held, x->n, sizeof *out->held, err));
	TT_TRY(tt_alloc(&t->linear, x->n, sizeof *t->linear, err));
	TT_TRY(tt_gram_open(&t->gram, x, err));
	TT_TRY(train_linear(t, err));
	TT_TRY(tt_auc(t->linear, t->rows->harmful, n_rated, &out->linear_auc, err));
	out->network_auc = NAN;
	if (t->options->network) {
		TT_TRY(tt_alloc(&t->network, x->n, sizeof *t->network, err));
		TT_TRY(train_network(t, err));
		TT_TRY(tt_auc(t->network, t->rows->harmful, n_rated, &out->network_auc, err));
	}
	TT_TRY(add_up(t, err));
	return tt_auc(out->held, t->rows->harmful, n_rated, &out->auc, err);
}

int tt_detector_train(struct tt_detector *out, const struct tt_detector_rows *rows,
	const struct tt_detector_options *options, struct tt_error *err)
{
	*out = (struct tt_detector){0};
	struct training t = {.out = out, .rows = rows, .options = options};
	int status = train(&t, err);
	training_free(&t);
	return status;
}

void tt_detector_free(struct tt_detector *detector)
{
	free(detector->w);
	free(detector->held);
	tt_mlp_close(detector->network);
	*detector = (struct tt_detector){0};
}
