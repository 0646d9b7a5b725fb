#include "controller/train/fit_features.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

/* Where a gate reads, as shares of the model's depth: where a prompt has been understood, and the next token is not yet
 * all that the stream is about. */
static const double depths[TT_N_GATE_LAYERS] = {0.4, 0.533, 0.667};

uint32_t tt_fit_gate_layers(uint32_t n_layers, uint32_t layers[TT_N_GATE_LAYERS])
{
	uint32_t n = 0;
	for (size_t i = 0; i < TT_N_GATE_LAYERS; i++) {
		uint32_t layer = (uint32_t)lround(depths[i] * n_layers);
		layer = layer < n_layers ? layer : n_layers - 1;
		if (n == 0 || layers[n - 1] < layer)
			layers[n++] = layer;
	}
	return n;
}

struct gathering {
	struct tt_fit_features *out;
	size_t hidden;
	const struct tt_fit_row *const *rows; // [n]
	struct tt_request_options *options;   // [n]
	double *sum;                          // [hidden]
	uint64_t *layers;                     /* a bit for each observed layer */
};

/* The tokens of a row that a mean is over: [from, to). */
static size_t mean_from(const struct tt_fit_row *row)
{
	return row->mean_to ? row->mean_from : 0;
}

static size_t mean_to(const struct tt_fit_row *row)
{
	return row->mean_to ? row->mean_to : row->n_ids;
}

static void fill_request(struct gathering *g, size_t index)
{
	const struct tt_fit_row *row = g->rows[index];
	struct tt_request_options *o = &g->options[index];
	tt_request_options_default(o);
	o->ids = row->ids;
	o->n_ids = row->n_ids;
	o->keep_from = g->out->pool == TT_POOL_LAST ? row->n_ids - 1 : mean_from(row);
	o->keep_layers = g->layers;
}

/* x [hidden] = the mean of h over the row's span; h begins at keep_from, which is where the span begins. */
static void take_mean(struct gathering *g, const struct tt_fit_row *row, const float *h, float *x)
{
	size_t n = mean_to(row) - mean_from(row);
	memset(g->sum, 0, g->hidden * sizeof *g->sum);
	for (size_t t = 0; t < n; t++)
		for (size_t j = 0; j < g->hidden; j++)
			g->sum[j] += h[t * g->hidden + j];
	for (size_t j = 0; j < g->hidden; j++)
		x[j] = (float)(g->sum[j] / (double)n);
}

static int take_features(void *user, size_t index, struct tt_request *request, struct tt_error *err)
{
	struct gathering *g = user;
	const struct tt_fit_features *f = g->out;
	size_t last = g->rows[index]->n_ids - 1 - g->options[index].keep_from, part = f->n_observed * g->hidden;
	for (uint32_t k = 0; k < f->n_observed; k++) {
		const float *h = tt_request_hidden(request, f->observed[k]);
		float *x = f->x + index * f->d + k * g->hidden;
		if (!h)
			return tt_fail(
				err, TT_ERR_UNSUPPORTED, "the engine kept no states of layer %u", f->observed[k]);
		if (f->pool != TT_POOL_MEAN)
			memcpy(x, h + last * g->hidden, g->hidden * sizeof *h);
		if (f->pool != TT_POOL_LAST)
			take_mean(g, g->rows[index], h, f->pool == TT_POOL_MEAN ? x : x + part);
	}
	return TT_OK;
}

static int allocate(struct gathering *g, uint32_t n_layers, struct tt_error *err)
{
	struct tt_fit_features *f = g->out;
	size_t floats = 0;
	f->d = tt_gate_vectors(f->pool, f->n_observed) * g->hidden;
	if (!tt_mul_size(f->n, f->d, &floats))
		return tt_fail(err, TT_ERR_MEMORY, "too many rows for the gate");
	TT_TRY(tt_alloc(&f->observed, f->n_observed, sizeof *f->observed, err));
	TT_TRY(tt_alloc(&f->x, floats, sizeof *f->x, err));
	TT_TRY(tt_alloc(&f->prompt, f->n, sizeof *f->prompt, err));
	TT_TRY(tt_alloc(&f->harmful, f->n, sizeof *f->harmful, err));
	TT_TRY(tt_alloc(&f->weight, f->n, sizeof *f->weight, err));
	TT_TRY(tt_alloc(&f->fold, f->n, sizeof *f->fold, err));
	TT_TRY(tt_alloc(&g->options, f->n, sizeof *g->options, err));
	TT_TRY(tt_alloc(&g->sum, g->hidden, sizeof *g->sum, err));
	return tt_alloc(&g->layers, (n_layers + 63) / 64, sizeof *g->layers, err);
}

static int gather(struct gathering *g, const struct tt_fit_features_spec *spec, struct tt_engine *engine,
	struct tt_progress *progress, struct tt_error *err)
{
	struct tt_fit_features *f = g->out;
	TT_TRY(allocate(g, tt_engine_info(engine)->n_layers, err));
	for (uint32_t k = 0; k < f->n_observed; k++) {
		f->observed[k] = spec->layers[k];
		g->layers[f->observed[k] / 64] |= (uint64_t)1 << f->observed[k] % 64;
	}
	for (size_t i = 0; i < f->n; i++) {
		f->prompt[i] = g->rows[i]->prompt;
		f->harmful[i] = f->prompt[i]->label == TT_HARMFUL;
		fill_request(g, i);
	}
	TT_TRY(tt_progress_begin(progress, "gate", f->n, err));
	return tt_pump_all(engine, g->options, f->n, take_features, g, progress, err);
}

int tt_fit_features_make(struct tt_fit_features *out, const struct tt_fit_features_spec *spec, struct tt_engine *engine,
	struct tt_progress *progress, struct tt_error *err)
{
	*out = (struct tt_fit_features){.pool = spec->pool, .n_observed = spec->n_layers, .n = spec->n_rows};
	struct gathering g = {.out = out, .rows = spec->rows, .hidden = tt_engine_info(engine)->hidden_size};
	int status = gather(&g, spec, engine, progress, err);
	free(g.options);
	free(g.sum);
	free(g.layers);
	TT_TRY(status);
	TT_TRY(tt_fit_assign_folds(out, err));
	return tt_fit_weigh(out, err);
}

void tt_fit_features_free(struct tt_fit_features *f)
{
	free(f->observed);
	free(f->prompt);
	free(f->x);
	free(f->harmful);
	free(f->weight);
	free(f->fold);
	*f = (struct tt_fit_features){0};
}

int tt_fit_weigh(struct tt_fit_features *f, struct tt_error *err)
{
	size_t *size = NULL, n_groups = 0; // [n_groups][TT_N_LABELS]
	double total[2] = {0};
	for (size_t i = 0; i < f->n; i++)
		n_groups = f->prompt[i]->group < n_groups ? n_groups : f->prompt[i]->group + 1;
	TT_TRY(tt_alloc(&size, n_groups, TT_N_LABELS * sizeof *size, err));
	for (size_t i = 0; i < f->n; i++)
		size[f->prompt[i]->group * TT_N_LABELS + f->prompt[i]->label]++;
	for (size_t i = 0; i < f->n; i++) {
		f->weight[i] = 1 / sqrt((double)size[f->prompt[i]->group * TT_N_LABELS + f->prompt[i]->label]);
		total[f->harmful[i]] += f->weight[i];
	}
	for (size_t i = 0; i < f->n; i++)
		f->weight[i] *= (double)f->n / 2 / total[f->harmful[i]];
	free(size);
	return TT_OK;
}

struct place {
	uint32_t file, line;
	size_t row;
};

static int compare_places(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return (x->line > y->line) - (x->line < y->line);
}

int tt_fit_assign_folds(struct tt_fit_features *f, struct tt_error *err)
{
	struct place *places = NULL; // [n]
	TT_TRY(tt_alloc(&places, f->n, sizeof *places, err));
	for (size_t i = 0; i < f->n; i++)
		places[i] = (struct place){f->prompt[i]->file, f->prompt[i]->line, i};
	qsort(places, f->n, sizeof *places, compare_places);
	for (size_t begin = 0, end; begin < f->n; begin = end) {
		for (end = begin; end < f->n && places[end].file == places[begin].file;)
			end++;
		for (size_t i = begin; i < end; i++)
			f->fold[places[i].row] = (uint8_t)((i - begin) * TT_N_FOLDS / (end - begin));
	}
	free(places);
	return TT_OK;
}

bool tt_fit_folds_are_possible(const struct tt_fit_features *f)
{
	size_t left[TT_N_FOLDS][2] = {{0}};
	for (size_t i = 0; i < f->n; i++)
		for (size_t fold = 0; fold < TT_N_FOLDS; fold++)
			left[fold][f->harmful[i]] += f->fold[i] != fold;
	for (size_t fold = 0; fold < TT_N_FOLDS; fold++)
		if (left[fold][0] == 0 || left[fold][1] == 0)
			return false;
	return true;
}
