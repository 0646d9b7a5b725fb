#include "controller/train/fit_features.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/sha256.h"
#include "runtime/engine/request.h"

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
	const struct tt_fit_features_spec *spec;
	size_t hidden, n_vectors;                /* n_vectors: of a row */
	struct tt_request_options *options;      // [n] of the rows that are run
	size_t *run;                             // [n] their indexes
	double *sum;                             // [hidden]
	float *h;                                // [hidden]
	uint8_t *record;                         // [tt_activation_bytes(hidden)]
	uint8_t (*checks)[TT_ACTIVATION_DIGEST]; // [n][n_vectors]
	uint64_t *layers;                        /* a bit for each observed layer */
};

/* Vector v of a row is the mean of h[layer] over ids [from, to). */
struct vector {
	uint32_t layer;
	size_t from, to;
};

static struct vector vector_of(const struct gathering *g, const struct tt_fit_row *row, uint32_t v)
{
	const struct tt_fit_features *f = g->out;
	uint32_t layer = f->observed[v % f->n_observed];
	if (!tt_gate_vector_is_mean(f->pool, f->n_observed, v))
		return (struct vector){layer, row->n_ids - 1, row->n_ids};
	const struct tt_positions span = tt_mean_span(row->mean_from, row->mean_to, row->n_ids);
	return (struct vector){layer, span.from, span.to};
}

static int key_of(const struct tt_fit_row *row, struct vector v, uint8_t key[TT_ACTIVATION_KEY], struct tt_error *err)
{
	uint8_t run[TT_ACTIVATION_DIGEST];
	TT_TRY(tt_activation_run(run, row->ids, row->n_ids, v.from, v.to, err));
	tt_activation_key(key, run, v.layer);
	return TT_OK;
}

/* Puts the h of the record where it belongs in x. */
static void take_record(struct gathering *g, size_t row, uint32_t v)
{
	float *x = g->out->x + row * g->out->d + v * g->hidden;
	memcpy(x, tt_activation_h(g->record), g->hidden * sizeof *x);
	memcpy(g->checks[row * g->n_vectors + v], tt_activation_check(g->record, (uint32_t)g->hidden),
		TT_ACTIVATION_DIGEST);
}

/* *all: the file has all vectors of the row, which are then taken. */
static int read_row(struct gathering *g, size_t row, bool *all, struct tt_error *err)
{
	uint8_t key[TT_ACTIVATION_KEY];
	struct tt_activation_file *file = g->spec->file;
	*all = file != NULL;
	for (uint32_t v = 0; *all && v < g->n_vectors; v++) {
		TT_TRY(key_of(g->spec->rows[row], vector_of(g, g->spec->rows[row], v), key, err));
		*all = tt_activation_file_have(file, key);
		if (!*all)
			return TT_OK;
		TT_TRY(tt_activation_file_read(file, key, g->record, err));
		take_record(g, row, v);
	}
	return TT_OK;
}

static void fill_request(struct gathering *g, const struct tt_fit_row *row, struct tt_request_options *o)
{
	tt_request_options_default(o);
	o->ids = row->ids;
	o->n_ids = row->n_ids;
	o->keep_from = g->out->pool == TT_POOL_LAST ? row->n_ids - 1
						    : tt_mean_span(row->mean_from, row->mean_to, row->n_ids).from;
	o->keep_layers = g->layers;
}

/* g->h = the mean of n rows of h. It begins with the first row, so that the mean of one is that one, a -0 too. */
static void take_mean(struct gathering *g, const float *h, size_t n)
{
	for (size_t j = 0; j < g->hidden; j++)
		g->sum[j] = h[j];
	for (size_t t = 1; t < n; t++)
		for (size_t j = 0; j < g->hidden; j++)
			g->sum[j] += h[t * g->hidden + j];
	for (size_t j = 0; j < g->hidden; j++)
		g->h[j] = (float)(g->sum[j] / (double)n);
}

static int take_run(void *user, size_t index, struct tt_request *request, struct tt_error *err)
{
	struct gathering *g = user;
	uint8_t key[TT_ACTIVATION_KEY];
	size_t i = g->run[index];
	const struct tt_fit_row *row = g->spec->rows[i];
	for (uint32_t k = 0; k < g->n_vectors; k++) {
		struct vector v = vector_of(g, row, k);
		const float *h = tt_request_hidden(request, v.layer);
		if (!h)
			return tt_fail(err, TT_ERR_UNSUPPORTED, "the engine kept no states of layer %u", v.layer);
		take_mean(g, h + (v.from - g->options[index].keep_from) * g->hidden, v.to - v.from);
		TT_TRY(key_of(row, v, key, err));
		TT_TRY(tt_activation_seal(g->record, key, g->h, (uint32_t)g->hidden, err));
		if (!tt_activation_is_finite(g->record, (uint32_t)g->hidden))
			return tt_fail(err, TT_ERR_UNSUPPORTED, "%s: h after layer %u holds what is no number",
				row->prompt->id, v.layer);
		take_record(g, i, k);
		if (g->spec->file)
			TT_TRY(tt_activation_file_add(g->spec->file, g->record, err));
	}
	return TT_OK;
}

static int allocate(struct gathering *g, uint32_t n_layers, struct tt_error *err)
{
	struct tt_fit_features *f = g->out;
	size_t floats = 0, n_vectors = 0;
	f->d = g->n_vectors * g->hidden;
	if (!tt_mul_size(f->n, f->d, &floats) || !tt_mul_size(f->n, g->n_vectors, &n_vectors))
		return tt_fail(err, TT_ERR_MEMORY, "too many rows for the gate");
	TT_TRY(tt_alloc(&f->observed, f->n_observed, sizeof *f->observed, err));
	TT_TRY(tt_alloc(&f->x, floats, sizeof *f->x, err));
	TT_TRY(tt_alloc(&f->prompt, f->n, sizeof *f->prompt, err));
	TT_TRY(tt_alloc(&f->harmful, f->n, sizeof *f->harmful, err));
	TT_TRY(tt_alloc(&f->weight, f->n, sizeof *f->weight, err));
	TT_TRY(tt_alloc(&f->fold, f->n, sizeof *f->fold, err));
	TT_TRY(tt_alloc(&g->options, f->n, sizeof *g->options, err));
	TT_TRY(tt_alloc(&g->run, f->n, sizeof *g->run, err));
	TT_TRY(tt_alloc(&g->checks, n_vectors, sizeof *g->checks, err));
	TT_TRY(tt_alloc(&g->record, tt_activation_bytes((uint32_t)g->hidden), 1, err));
	TT_TRY(tt_alloc(&g->sum, g->hidden, sizeof *g->sum, err));
	TT_TRY(tt_alloc(&g->h, g->hidden, sizeof *g->h, err));
	return tt_alloc(&g->layers, (n_layers + 63) / 64, sizeof *g->layers, err);
}

static int gather(struct gathering *g, struct tt_engine *engine, struct tt_progress *progress, struct tt_error *err)
{
	struct tt_fit_features *f = g->out;
	TT_TRY(allocate(g, tt_engine_info(engine)->n_layers, err));
	for (uint32_t k = 0; k < f->n_observed; k++) {
		f->observed[k] = g->spec->layers[k];
		g->layers[f->observed[k] / 64] |= (uint64_t)1 << f->observed[k] % 64;
	}
	for (size_t i = 0; i < f->n; i++) {
		bool all;
		f->prompt[i] = g->spec->rows[i]->prompt;
		f->harmful[i] = f->prompt[i]->label == TT_HARMFUL;
		TT_TRY(read_row(g, i, &all, err));
		if (all)
			continue;
		fill_request(g, g->spec->rows[i], &g->options[f->n_run]);
		g->run[f->n_run++] = i;
	}
	TT_TRY(tt_progress_begin(progress, "gate", f->n_run, err));
	TT_TRY(tt_pump_all(engine, g->options, f->n_run, take_run, g, progress, err));
	return tt_sha256(f->sha256, g->checks, f->n * g->n_vectors * sizeof *g->checks, err);
}

int tt_fit_features_make(struct tt_fit_features *out, const struct tt_fit_features_spec *spec, struct tt_engine *engine,
	struct tt_progress *progress, struct tt_error *err)
{
	*out = (struct tt_fit_features){
		.pool = spec->pool, .n_observed = spec->n_layers, .n = spec->n_rows, .n_plain = spec->n_plain};
	struct gathering g = {.out = out,
		.spec = spec,
		.hidden = tt_engine_info(engine)->hidden_size,
		.n_vectors = tt_gate_vectors(spec->pool, spec->n_layers)};
	int status = gather(&g, engine, progress, err);
	free(g.options);
	free(g.run);
	free(g.checks);
	free(g.record);
	free(g.sum);
	free(g.h);
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

/* What a plain row counts beside the same one in the template. Of SmolLM2's linear term on the project's prompts, the
 * area under the curve in the template (twins of the pairs alone; all), as plain text, and how many of 36 prompts of
 * AdvBench and of 50 of Alpaca open it as plain text, at weights 0, 0.1, 0.25, 1: 0.777, 0.773, 0.770, 0.763; 0.847,
 * 0.849, 0.849, 0.847; 0.752, 0.815, 0.826, 0.834; 32, 29, 30, 32; 4, 2, 2, 2. */
static const double plain_weight = 0.25;

/* Texts count as a set of prompts does: with the project's 60, a gate of the mixture of scripts/measure (SmolLM2)
 * stays shut in 64 windows of WikiText-2, whose perplexity is 1.018 times the unsteered without them. */

/* The index of the number of rows like this one. */
static size_t class_of(const struct tt_prompt *p)
{
	return p->origin * (TT_N_LABELS + 1) + (p->is_text ? TT_N_LABELS : (size_t)p->label);
}

int tt_fit_weigh(struct tt_fit_features *f, struct tt_error *err)
{
	/* size [n_origins][TT_N_LABELS + 1]; the texts are the last */
	size_t *size = NULL, n_origins = 0, n_rated = tt_fit_n_rated(f);
	double total[2] = {0};
	for (size_t i = 0; i < f->n; i++)
		n_origins = f->prompt[i]->origin < n_origins ? n_origins : f->prompt[i]->origin + 1;
	TT_TRY(tt_alloc(&size, n_origins, (TT_N_LABELS + 1) * sizeof *size, err));
	for (size_t i = 0; i < f->n; i++)
		if (i < n_rated || f->prompt[i]->is_text)
			size[class_of(f->prompt[i])]++;
	for (size_t i = 0; i < f->n; i++) {
		double share = i < n_rated || f->prompt[i]->is_text ? 1 : plain_weight;
		f->weight[i] = share / sqrt((double)size[class_of(f->prompt[i])]);
		total[f->harmful[i]] += f->weight[i];
	}
	for (size_t i = 0; i < f->n; i++)
		f->weight[i] *= (double)f->n / 2 / total[f->harmful[i]];
	free(size);
	return TT_OK;
}

/* Twins and variants of one request stand beside each other in a file, so blocks of rows are held out, not single rows.
 * They are short, since what a file is about changes along it: of 6,230 rows on SmolLM2-135M the linear term had an
 * area under the curve of 0.917 on ToxicChat's where a fifth of the file was held out at once, 0.928 with blocks of 16,
 * and 0.931 with single rows. */
enum { FOLD_BLOCK = 16 };

struct place {
	uint32_t file, line;
	size_t row;
};

static int compare_places(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	return (x->row > y->row) - (x->row < y->row);
}

/* The fold of row i of a file's n. A file that is too short for a block in each fold is cut into fifths. */
static uint8_t fold_at(size_t i, size_t n)
{
	return (uint8_t)(n < FOLD_BLOCK * TT_N_FOLDS ? i * TT_N_FOLDS / n : i / FOLD_BLOCK % TT_N_FOLDS);
}

int tt_fit_order(const struct tt_fit_features *f, size_t *order, struct tt_error *err)
{
	struct place *places = NULL; // [n]
	TT_TRY(tt_alloc(&places, f->n, sizeof *places, err));
	for (size_t i = 0; i < f->n; i++)
		places[i] = (struct place){f->prompt[i]->file, f->prompt[i]->line, i};
	qsort(places, f->n, sizeof *places, compare_places);
	for (size_t i = 0; i < f->n; i++)
		order[i] = places[i].row;
	free(places);
	return TT_OK;
}

/* Whether row i of the order, of a file that begins there, has another prompt than the row before it. */
static bool is_new_prompt(const struct tt_fit_features *f, const size_t *order, size_t begin, size_t i)
{
	return i == begin || f->prompt[order[i]] != f->prompt[order[i - 1]];
}

int tt_fit_assign_folds(struct tt_fit_features *f, struct tt_error *err)
{
	size_t *order = NULL; // [n]
	TT_TRY(tt_alloc(&order, f->n, sizeof *order, err));
	int status = tt_fit_order(f, order, err);
	for (size_t begin = 0, end, n = 0; status == TT_OK && begin < f->n; begin = end, n = 0) {
		for (end = begin; end < f->n && f->prompt[order[end]]->file == f->prompt[order[begin]]->file; end++)
			n += is_new_prompt(f, order, begin, end);
		for (size_t i = begin, k = 0; i < end; i++) {
			k += is_new_prompt(f, order, begin, i);
			f->fold[order[i]] = fold_at(k - 1, n);
		}
	}
	free(order);
	return status;
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
