#include "controller/train/fit_affine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "controller/numerics/cholesky.h"
#include "controller/numerics/pca.h"
#include "controller/numerics/product.h"

/* Not below 1: held-out responses are few and short. In layer 8 of SmolLM2-135M they ask for 0.01, and that map refused
 * 2 of 16 prompts and repeated itself; the one of 100, the best from 1 on, refused 6. */
static const double penalties[] = {1, 10, 100, 1000, 10000};
enum { N_PENALTIES = sizeof penalties / sizeof *penalties };

struct mapping {
	struct tt_fit_directions *out;
	size_t n, k;                 /* pairs; components there are, at most rank */
	float *difference;           // [n][hidden_size]
	double *from, *change;       // [n][rank], of which the first k: R x and R (y - x)
	double *square, *map, *bias; // [k][k] factor, [k][k] A, [k] b
	double *mean_from, *mean_change;
	double *panel; // [TT_PRODUCT_PANEL]
};

static int allocate(struct mapping *m, uint32_t rank, struct tt_error *err)
{
	struct tt_fit_directions *out = m->out;
	struct tt_fit_maps *maps = &out->maps;
	size_t rows = (size_t)out->n_layers * rank, width = out->hidden_size * sizeof(float);
	maps->rank = rank;
	TT_TRY(tt_alloc(&maps->rows, rows, width, err));
	TT_TRY(tt_alloc(&maps->readers, rows, width, err));
	TT_TRY(tt_alloc(&maps->offsets, rows, sizeof *maps->offsets, err));
	TT_TRY(tt_alloc(&maps->penalties, out->n_layers, sizeof *maps->penalties, err));
	TT_TRY(tt_alloc(&maps->errors, out->n_layers, sizeof *maps->errors, err));
	TT_TRY(tt_alloc(&m->difference, m->n, width, err));
	TT_TRY(tt_alloc(&m->from, m->n, rank * sizeof *m->from, err));
	TT_TRY(tt_alloc(&m->change, m->n, rank * sizeof *m->change, err));
	TT_TRY(tt_alloc(&m->square, rank, rank * sizeof *m->square, err));
	TT_TRY(tt_alloc(&m->map, rank, rank * sizeof *m->map, err));
	TT_TRY(tt_alloc(&m->bias, rank, sizeof *m->bias, err));
	TT_TRY(tt_alloc(&m->mean_from, rank, sizeof *m->mean_from, err));
	TT_TRY(tt_alloc(&m->mean_change, rank, sizeof *m->mean_change, err));
	return tt_alloc_aligned(&m->panel, TT_PRODUCT_PANEL, sizeof *m->panel, err);
}

static void free_mapping(struct mapping *m)
{
	void *owned[] = {
		m->difference, m->from, m->change, m->square, m->map, m->bias, m->mean_from, m->mean_change, m->panel};
	for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
		free(owned[i]);
}

/* R of a layer, as unit rows. */
static int find_rows(struct mapping *m, float *r, struct tt_error *err)
{
	size_t d = m->out->hidden_size;
	const struct tt_rows rows = {.x = m->difference, .n = m->n, .d = d, .stride = d};
	struct tt_gram *gram = NULL;
	struct tt_pca *pca = NULL;
	TT_TRY(tt_gram_open_raw(&gram, &rows, err));
	int status = tt_pca_fit(&pca, gram, m->out->maps.rank, err);
	tt_gram_close(gram);
	TT_TRY(status);
	m->k = pca->k;
	for (size_t c = 0; c < m->k; c++) {
		double squares = 0;
		for (size_t j = 0; j < d; j++)
			squares += (double)pca->projection[c * d + j] * (double)pca->projection[c * d + j];
		for (size_t j = 0; j < d; j++)
			r[c * d + j] = (float)((double)pca->projection[c * d + j] / sqrt(squares));
	}
	tt_pca_free(pca);
	return TT_OK;
}

/* out [n][k] = R x, for rows x [n][hidden_size]. */
static void project(const struct mapping *m, const float *r, const float *x, double *out)
{
	size_t d = m->out->hidden_size;
	for (size_t i = 0; i < m->n; i++)
		for (size_t c = 0; c < m->k; c++) {
			double sum = 0;
			for (size_t j = 0; j < d; j++)
				sum += (double)r[c * d + j] * (double)x[i * d + j];
			out[i * m->k + c] = sum;
		}
}

/* Fits A and b on the pairs of other responses than held; TT_N_RESPONSES is none. */
static int solve(struct mapping *m, uint32_t held, double penalty, struct tt_error *err)
{
	size_t k = m->k;
	double n = 0, trace = 0, squares = 0;
	memset(m->square, 0, k * k * sizeof *m->square);
	memset(m->map, 0, k * k * sizeof *m->map);
	memset(m->mean_from, 0, k * sizeof *m->mean_from);
	memset(m->mean_change, 0, k * sizeof *m->mean_change);
	for (size_t i = 0; i < m->n; i++)
		for (size_t c = 0; c < k && tt_fit_response_of(i) != held; c++) {
			n += c == 0;
			m->mean_from[c] += m->from[i * k + c];
			m->mean_change[c] += m->change[i * k + c];
		}
	for (size_t c = 0; c < k; c++) {
		m->mean_from[c] /= n;
		m->mean_change[c] /= n;
	}
	for (size_t i = 0; i < m->n; i++)
		for (size_t a = 0; a < k && tt_fit_response_of(i) != held; a++) {
			double from = m->from[i * k + a] - m->mean_from[a];
			for (size_t c = 0; c < k; c++) {
				m->square[a * k + c] += from * (m->from[i * k + c] - m->mean_from[c]);
				m->map[c * k + a] += from * (m->change[i * k + c] - m->mean_change[c]);
			}
			trace += from * from;
			squares += m->from[i * k + a] * m->from[i * k + a];
		}
	for (size_t a = 0; a < k; a++)
		m->square[a * k + a] += penalty * trace / (double)k;
	/* Else all states are the same up to rounding in double, and A is 0. States are f32: where they differ, the
	 * share is above 1e-15. */
	bool varies = trace > 1e-20 * squares;
	if (varies)
		TT_TRY(tt_cholesky(m->square, k, m->panel, err));
	for (size_t c = 0; c < k; c++) {
		if (varies)
			tt_cholesky_solve(m->square, k, m->map + c * k);
		else
			memset(m->map + c * k, 0, k * sizeof *m->map);
		m->bias[c] = m->mean_change[c];
		for (size_t a = 0; a < k; a++)
			m->bias[c] -= m->map[c * k + a] * m->mean_from[a];
	}
	return TT_OK;
}

/* The squares of what the map misses of the changes to one response. */
static double missed(const struct mapping *m, uint32_t held)
{
	double squares = 0;
	for (size_t i = 0; i < m->n; i++)
		for (size_t c = 0; c < m->k && tt_fit_response_of(i) == held; c++) {
			double rest = m->change[i * m->k + c] - m->bias[c];
			for (size_t a = 0; a < m->k; a++)
				rest -= m->map[c * m->k + a] * m->from[i * m->k + a];
			squares += rest * rest;
		}
	return squares;
}

static int choose_penalty(struct mapping *m, uint32_t layer, struct tt_error *err)
{
	double all = 0, least = INFINITY, best = penalties[N_PENALTIES - 1];
	for (size_t i = 0; i < m->n * m->k; i++)
		all += m->change[i] * m->change[i];
	for (size_t p = N_PENALTIES; p-- > 0;) { /* of equals the larger */
		double error = 0;
		for (uint32_t held = 0; held < TT_N_RESPONSES; held++) {
			TT_TRY(solve(m, held, penalties[p], err));
			error += missed(m, held) / all;
		}
		if (error < least) {
			least = error;
			best = penalties[p];
		}
	}
	m->out->maps.penalties[layer] = best;
	m->out->maps.errors[layer] = least;
	return TT_OK;
}

static int fit_layer(struct mapping *m, uint32_t layer, struct tt_error *err)
{
	struct tt_fit_directions *out = m->out;
	size_t d = out->hidden_size, states = layer * m->n * d, first = (size_t)layer * out->maps.rank;
	float *r = out->maps.rows + first * d, *w = out->maps.readers + first * d;
	for (size_t i = 0; i < m->n * d; i++)
		m->difference[i] = out->refusing[states + i] - out->answering[states + i];
	TT_TRY(find_rows(m, r, err));
	project(m, r, out->answering + states, m->from);
	project(m, r, m->difference, m->change);
	TT_TRY(choose_penalty(m, layer, err));
	TT_TRY(solve(m, TT_N_RESPONSES, out->maps.penalties[layer], err));
	for (size_t c = 0; c < m->k; c++) {
		out->maps.offsets[first + c] = (float)m->bias[c];
		for (size_t j = 0; j < d; j++) {
			double sum = r[c * d + j];
			for (size_t a = 0; a < m->k; a++)
				sum += m->map[c * m->k + a] * (double)r[a * d + j];
			w[c * d + j] = (float)sum;
		}
	}
	return TT_OK;
}

int tt_fit_affine(struct tt_fit_directions *directions, uint32_t rank, struct tt_error *err)
{
	struct mapping m = {.out = directions, .n = directions->n_prompts};
	int status = allocate(&m, rank, err);
	for (uint32_t l = 0; status == TT_OK && l < directions->n_layers; l++)
		status = tt_within(fit_layer(&m, l, err), err, "affine map");
	free_mapping(&m);
	return status;
}
