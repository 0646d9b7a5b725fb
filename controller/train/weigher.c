#include "controller/train/weigher.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"

enum { COMPONENTS = 32, UNITS = 16, BATCH = 16, EPOCHS = 60 };
/* As many rows for each component, at least. */
enum { ROWS_A_COMPONENT = 3 };
/* The most that a layer can get is so much more than any row wants, since no sigmoid gives 1. */
static const double headroom = 1.25;

/* A network and its rows. */
struct training {
	struct tt_rows features; /* without weights */
	struct tt_gram *gram;
	struct tt_pca *pca;
	float *projected;   // [n][pca->k]
	float *target;      // [n][outputs]
	float *z;           // [n][outputs]
	struct tt_mlp *mlp; /* on the components */
};

static void training_free(struct training *t)
{
	tt_gram_close(t->gram);
	tt_pca_free(t->pca);
	free(t->projected);
	free(t->target);
	free(t->z);
	tt_mlp_close(t->mlp);
}

/* A network whose outputs are 0 to begin with. */
static int open_training(
	struct training *t, const struct tt_rows *rows, size_t outputs, uint64_t seed, struct tt_error *err)
{
	size_t n = rows->n, k = n / ROWS_A_COMPONENT;
	t->features = (struct tt_rows){.x = rows->x, .n = n, .d = rows->d, .stride = rows->stride};
	k = k < 1 ? 1 : k > COMPONENTS ? COMPONENTS : k;
	TT_TRY(tt_alloc(&t->target, n, outputs * sizeof *t->target, err));
	TT_TRY(tt_alloc(&t->z, n, outputs * sizeof *t->z, err));
	TT_TRY(tt_gram_open(&t->gram, &t->features, err));
	TT_TRY(tt_pca_fit(&t->pca, t->gram, k, err));
	TT_TRY(tt_alloc(&t->projected, n, t->pca->k * sizeof *t->projected, err));
	TT_TRY(tt_pca_project(t->pca, &t->features, t->projected, err));
	TT_TRY(tt_mlp_open(&t->mlp, t->pca->k, UNITS, outputs, err));
	tt_mlp_start(t->mlp, seed);
	memset(t->mlp->fc2, 0, outputs * (UNITS + 1) * sizeof *t->mlp->fc2);
	return TT_OK;
}

/* Trains on the targets, and fills z. */
static int train(struct training *t, enum tt_mlp_loss loss, uint64_t seed, struct tt_error *err)
{
	struct tt_mlp_options how;
	const struct tt_mlp_data data = {
		.rows = {.x = t->projected, .n = t->features.n, .d = t->pca->k, .stride = t->pca->k},
		.target = t->target};
	tt_mlp_options_default(&how);
	how.epochs = EPOCHS;
	how.batch = BATCH;
	how.learning_rate = 2e-3;
	how.weight_decay = 1;
	how.input_dropout = 0.2;
	how.loss = loss;
	how.seed = seed;
	TT_TRY(tt_mlp_train(t->mlp, &data, &how, NULL, err));
	return tt_mlp_run(t->mlp, &data.rows, t->z, err);
}

/* ---- Values */

static int smooth(struct training *t, double *values, size_t n_values, uint64_t seed, struct tt_error *err)
{
	size_t n = t->features.n;
	double *mean = NULL, squares = 0; // [n_values]
	TT_TRY(tt_alloc(&mean, n_values, sizeof *mean, err));
	for (size_t i = 0; i < n * n_values; i++)
		mean[i % n_values] += values[i] / (double)n;
	for (size_t i = 0; i < n * n_values; i++)
		squares += pow(values[i] - mean[i % n_values], 2);
	double deviation = sqrt(squares / (double)(n * n_values));
	int status = TT_OK;
	if (deviation > 0) {
		for (size_t i = 0; i < n * n_values; i++)
			t->target[i] = (float)((values[i] - mean[i % n_values]) / deviation);
		status = train(t, TT_MLP_SQUARED, seed, err);
		for (size_t i = 0; status == TT_OK && i < n * n_values; i++)
			values[i] = mean[i % n_values] + deviation * (double)t->z[i];
	}
	free(mean);
	return status;
}

int tt_weigher_smooth(
	const struct tt_rows *features, double *values, size_t n_values, uint64_t seed, struct tt_error *err)
{
	struct training t = {0};
	int status = open_training(&t, features, n_values, seed, err);
	if (status == TT_OK)
		status = smooth(&t, values, n_values, seed, err);
	training_free(&t);
	return status;
}

/* ---- Weights */

static double sigmoid(double z)
{
	return 1 / (1 + exp(-z));
}

static void set_targets(struct training *t, struct tt_weigher *out, const float *coefficient, double *mean)
{
	size_t n = t->features.n, n_layers = out->n_layers;
	for (size_t i = 0; i < n; i++)
		for (size_t l = 0; l < n_layers; l++) {
			float c = coefficient[i * n_layers + l];
			mean[l] += (double)c / (double)n;
			out->most[l] = fmaxf(out->most[l], (float)(headroom * (double)c));
		}
	/* A half where nothing is wanted: the output that the network starts with, so it learns nothing there. */
	for (size_t i = 0; i < n; i++)
		for (size_t l = 0; l < n_layers; l++)
			t->target[i * n_layers + l] = mean[l] > 0 ? coefficient[i * n_layers + l] / out->most[l] : 0.5f;
}

/* The shift of n logits, a stride apart, at which the mean of their sigmoids is `mean`. */
static double shift_to(const float *z, size_t n, size_t stride, double mean)
{
	double low = -64, high = 64;
	for (int step = 0; step < 64; step++) {
		double middle = (low + high) / 2, sum = 0;
		for (size_t i = 0; i < n; i++)
			sum += sigmoid((double)z[i * stride] + middle);
		if (sum < mean * (double)n)
			low = middle;
		else
			high = middle;
	}
	return (low + high) / 2;
}

static int weigh(struct training *t, struct tt_weigher *out, const float *coefficient, double *mean, uint64_t seed,
	struct tt_error *err)
{
	set_targets(t, out, coefficient, mean);
	/* What the network gives if all prompts are alike: it starts there, and learns what tells them apart. */
	for (size_t l = 0; l < out->n_layers; l++)
		if (mean[l] > 0)
			t->mlp->bias2[l] = (float)log(mean[l] / ((double)out->most[l] - mean[l]));
	TT_TRY(train(t, TT_MLP_LOGISTIC, seed, err));
	/* Training, with its decay, moves the means; the whole push would be another. */
	for (size_t l = 0; l < out->n_layers; l++)
		if (mean[l] > 0)
			t->mlp->bias2[l] +=
				(float)shift_to(t->z + l, t->features.n, out->n_layers, mean[l] / (double)out->most[l]);
	return tt_mlp_unproject(&out->network, t->mlp, t->pca, err);
}

int tt_weigher_train(struct tt_weigher *out, const struct tt_rows *features, const float *coefficient, size_t n_layers,
	uint64_t seed, struct tt_error *err)
{
	struct training t = {0};
	double *mean = NULL; // [n_layers]
	*out = (struct tt_weigher){.n_layers = n_layers};
	TT_TRY(tt_alloc(&mean, n_layers, sizeof *mean, err));
	int status = tt_alloc(&out->most, n_layers, sizeof *out->most, err);
	if (status == TT_OK)
		status = open_training(&t, features, n_layers, seed, err);
	if (status == TT_OK)
		status = weigh(&t, out, coefficient, mean, seed, err);
	training_free(&t);
	free(mean);
	return status;
}

void tt_weigher_free(struct tt_weigher *weigher)
{
	free(weigher->most);
	tt_mlp_close(weigher->network);
	*weigher = (struct tt_weigher){0};
}

int tt_weigher_run(
	const struct tt_weigher *weigher, const struct tt_rows *rows, float *coefficient, struct tt_error *err)
{
	TT_TRY(tt_mlp_run(weigher->network, rows, coefficient, err));
	for (size_t i = 0; i < rows->n; i++)
		for (size_t l = 0; l < weigher->n_layers; l++) {
			float *c = &coefficient[i * weigher->n_layers + l];
			*c = weigher->most[l] * (float)sigmoid((double)*c);
		}
	return TT_OK;
}
