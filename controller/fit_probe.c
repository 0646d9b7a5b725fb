/* One linear probe a layer, on h[layer] at the last prompt token, and the threshold of each. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "controller/fit.h"
#include "controller/logistic.h"

/* On standardised features. 0.02 keeps a probe on 100 rows of 576 numbers from following single rows. */
static const double l2 = 0.02;
/* A gate before the band costs one pass where a later one costs the flagged prompts two, so it may be this much worse. */
static const double early_slack = 0.01;

struct features {
	struct tt_fit *fit;
	uint32_t first_layer, n_layers;
	struct tt_request_options *options; // [n_train + n_val] rows of all labels
	float *x;                           // [n_train + n_val][n_layers][hidden_size]
	bool *harmful;                      // [n_train]
	size_t n_train, n_val;
	uint64_t *layers;
};

static void add_rows(struct features *f, const struct tt_fit_rows *rows, size_t *n)
{
	for (size_t i = 0; i < rows->n; i++, ++*n) {
		struct tt_request_options *o = &f->options[*n];
		tt_request_options_default(o);
		o->ids = rows->rows[i].ids;
		o->n_ids = rows->rows[i].n_ids;
		o->keep_from = o->n_ids - 1;
		o->keep_layers = f->layers;
	}
}

static int take_features(void *user, size_t index, struct tt_request *request, struct tt_error *err)
{
	struct features *f = user;
	size_t d = f->fit->info->hidden_size;
	for (uint32_t k = 0; k < f->n_layers; k++) {
		const float *h = tt_request_hidden(request, f->first_layer + k);
		if (!h)
			return tt_fail(
				err, TT_ERR_UNSUPPORTED, "the engine kept no states of layer %u", f->first_layer + k);
		memcpy(f->x + (index * f->n_layers + k) * d, h, d * sizeof *h);
	}
	return TT_OK;
}

static int gather(struct features *f, struct tt_error *err)
{
	struct tt_fit *fit = f->fit;
	size_t n = 0, floats = 0;
	for (int label = 0; label < TT_N_LABELS; label++) {
		f->n_train += fit->train[label].n;
		f->n_val += fit->val[label].n;
	}
	if (!tt_mul_size(f->n_train + f->n_val, (size_t)f->n_layers * fit->info->hidden_size, &floats))
		return tt_fail(err, TT_ERR_MEMORY, "too many rows for the probe");
	TT_TRY(tt_alloc(&f->options, f->n_train + f->n_val, sizeof *f->options, err));
	TT_TRY(tt_alloc(&f->x, floats, sizeof *f->x, err));
	TT_TRY(tt_alloc(&f->harmful, f->n_train, sizeof *f->harmful, err));
	TT_TRY(tt_alloc(&f->layers, (fit->info->n_layers + 63) / 64, sizeof *f->layers, err));
	for (uint32_t l = f->first_layer; l < f->first_layer + f->n_layers; l++)
		f->layers[l / 64] |= (uint64_t)1 << l % 64;
	for (size_t i = 0; i < fit->train[TT_HARMFUL].n; i++)
		f->harmful[i] = true;
	for (int label = 0; label < TT_N_LABELS; label++)
		add_rows(f, &fit->train[label], &n);
	for (int label = 0; label < TT_N_LABELS; label++)
		add_rows(f, &fit->val[label], &n);
	TT_TRY(tt_progress_begin(&fit->progress, "probe", n, err));
	return tt_run(fit->engine, f->options, n, take_features, f, &fit->progress, err);
}

static int descending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x < y) - (x > y);
}

/* At most max_false_positives of the benign rows lie above it; then as low as that allows, half way to the next row
 * above, and never below p = 0.5. */
static int choose_threshold(const struct tt_fit *fit, uint32_t k, float *out, struct tt_error *err)
{
	size_t n = fit->val[TT_BENIGN].n;
	float *sorted = NULL;
	TT_TRY(tt_alloc(&sorted, n, sizeof *sorted, err));
	memcpy(sorted, fit->val_logits[TT_BENIGN] + k * n, n * sizeof *sorted);
	qsort(sorted, n, sizeof *sorted, descending);
	size_t allowed = (size_t)(fit->options->max_false_positives * (double)n + 1e-6);
	double bound = sorted[allowed < n ? allowed : n - 1], above = INFINITY;
	free(sorted);
	for (int label = 0; label <= TT_BENIGN; label++)
		for (size_t i = 0; i < fit->val[label].n; i++) {
			double logit = fit->val_logits[label][k * fit->val[label].n + i];
			if (logit > bound && logit < above)
				above = logit;
		}
	double logit = isfinite(above) ? (bound + above) / 2 : bound + 1;
	double p = 1 / (1 + exp(-(logit > 0 ? logit : 0)));
	/* A probability of an f32 sigmoid reaches 1, which nothing exceeds. */
	*out = (float)(p < 0.9999 ? p : 0.9999);
	return TT_OK;
}

/* What a probe does on the validation rows. Borderline rows should be answered, so they count with the benign. */
static void rate(const struct tt_fit *fit, struct tt_probe *probe, uint32_t k)
{
	double cut = log(probe->threshold / (1 - (double)probe->threshold)), losses[2] = {0};
	size_t right[2] = {0}, n[2] = {0};
	for (int label = 0; label < TT_N_LABELS; label++) {
		size_t flagged = 0, harmful = label == TT_HARMFUL;
		for (size_t i = 0; i < fit->val[label].n; i++) {
			double logit = fit->val_logits[label][k * fit->val[label].n + i];
			double margin = harmful ? logit : -logit;
			flagged += logit > cut;
			losses[harmful] += (margin < 0 ? -margin : 0) + log1p(exp(-fabs(margin)));
		}
		n[harmful] += fit->val[label].n;
		right[harmful] += harmful ? flagged : fit->val[label].n - flagged;
		probe->flagged[label] = fit->val[label].n ? (double)flagged / (double)fit->val[label].n : 0;
	}
	probe->balanced = ((double)right[0] / (double)n[0] + (double)right[1] / (double)n[1]) / 2;
	probe->loss = (losses[0] / (double)n[0] + losses[1] / (double)n[1]) / 2;
}

static int fit_probe(struct features *f, uint32_t k, struct tt_error *err)
{
	struct tt_fit *fit = f->fit;
	struct tt_probe *probe = &fit->probes[k];
	size_t d = fit->info->hidden_size, stride = f->n_layers * d, row = f->n_train;
	const struct tt_logistic data = {
		.x = f->x + k * d, .label = f->harmful, .n = f->n_train, .d = d, .stride = stride, .l2 = l2};
	probe->layer = f->first_layer + k;
	TT_TRY(tt_alloc(&probe->w, d, sizeof *probe->w, err));
	TT_TRY(tt_logistic_fit(&data, probe->w, &probe->b, NULL, err));
	for (int label = 0; label < TT_N_LABELS; label++)
		for (size_t i = 0; i < fit->val[label].n; i++, row++) {
			const float *x = data.x + row * stride;
			double logit = probe->b;
			for (size_t j = 0; j < d; j++)
				logit += (double)probe->w[j] * x[j];
			fit->val_logits[label][k * fit->val[label].n + i] = (float)logit;
		}
	TT_TRY(choose_threshold(fit, k, &probe->threshold, err));
	rate(fit, probe, k);
	return TT_OK;
}

static int fit_probes(struct features *f, struct tt_error *err)
{
	struct tt_fit *fit = f->fit;
	TT_TRY(gather(f, err));
	TT_TRY(tt_alloc(&fit->probes, f->n_layers, sizeof *fit->probes, err));
	fit->n_probes = f->n_layers;
	for (int label = 0; label < TT_N_LABELS; label++)
		TT_TRY(tt_alloc(
			&fit->val_logits[label], f->n_layers * fit->val[label].n, sizeof *fit->val_logits[label], err));
	for (uint32_t k = 0; k < f->n_layers; k++)
		TT_TRY(fit_probe(f, k, err));
	return TT_OK;
}

int tt_fit_probes(struct tt_fit *fit, struct tt_error *err)
{
	uint32_t n = fit->info->n_layers, first = n / 5, last = 2 * n / 3;
	struct features f = {.fit = fit, .first_layer = first, .n_layers = (last < n ? last : n - 1) - first + 1};
	int status = fit_probes(&f, err);
	free(f.options);
	free(f.x);
	free(f.harmful);
	free(f.layers);
	return status;
}

/* Probes of layers below limit; NULL when there are none. */
static const struct tt_probe *best_probe(const struct tt_fit *fit, uint32_t limit)
{
	const struct tt_probe *best = NULL;
	for (uint32_t k = 0; k < fit->n_probes && fit->probes[k].layer < limit; k++) {
		const struct tt_probe *p = &fit->probes[k];
		if (!best || p->balanced > best->balanced + 1e-9 ||
			(p->balanced > best->balanced - 1e-9 && p->loss < best->loss))
			best = p;
	}
	return best;
}

const struct tt_probe *tt_fit_choose_probe(const struct tt_fit *fit, uint32_t first, enum tt_policy_when when)
{
	const struct tt_probe *best = best_probe(fit, UINT32_MAX), *early = best_probe(fit, first);
	/* Generated tokens come after every prompt layer, so that no gate is late for them. */
	if (when == TT_WHEN_GENERATION || !early || early->balanced < best->balanced - early_slack)
		return best;
	return early;
}
