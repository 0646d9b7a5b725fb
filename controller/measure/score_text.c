/* Perplexity of a text, in windows that slide over its tokens: each token is scored once, in the first window that
 * holds it, after all that the window has before it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "controller/measure/metrics.h"
#include "controller/measure/score.h"
#include "runtime/text/text.h"

enum { BLOCK = 64, DEFAULT_WINDOW = 2048 };

/* Tokens [from, to) of the text, of which those from `scored` on are scored. */
struct window {
	size_t from, scored, to;
};

struct measure {
	struct tt_score *score;
	char sha256[65];
	size_t n_bytes;
	int32_t *ids;                             // [n_front + n_tokens] what the tokenizer puts in front, and the text
	size_t n_front, n_tokens, length, stride; /* of a window: tokens, and tokens to the next one */
	struct window *windows;                   // [n_windows]
	size_t n_windows, capacity, n_scored;
	double *nll[TT_SCORE_SIDES], *counts; // [n_windows]

	size_t first, side; /* what is running: windows from first on, and for which side */
};

static int read_text(struct measure *m, struct tt_error *err)
{
	const struct tt_score *s = m->score;
	const struct tt_score_options *o = s->options;
	const struct tt_text *text = tt_engine_text(s->engine);
	unsigned flags = tt_score_text_flags(o);
	struct tt_mapping mapping;
	TT_TRY(tt_file_map(&mapping, o->perplexity, err));
	const char *data = (const char *)mapping.data;
	m->n_bytes = mapping.size;
	int status = tt_sha256(m->sha256, data, mapping.size, err);
	if (status == TT_OK)
		status = tt_within(tt_text_encode(text, data, mapping.size, flags, &m->ids, &m->n_tokens, err), err,
			o->perplexity);
	if (status == TT_OK)
		status = tt_text_n_front(text, flags, &m->n_front, err);
	tt_file_unmap(&mapping);
	m->n_tokens -= status == TT_OK ? m->n_front : 0;
	return status;
}

static int choose_lengths(struct measure *m, struct tt_error *err)
{
	const struct tt_score_options *o = m->score->options;
	uint32_t context = tt_engine_info(m->score->engine)->context;
	size_t window = o->window ? o->window : context < DEFAULT_WINDOW ? context : DEFAULT_WINDOW;
	if (window > context)
		return tt_fail(
			err, TT_ERR_LIMIT, "a window of %zu tokens is more than the context of %u", window, context);
	if (window < m->n_front + 2)
		return tt_fail(err, TT_ERR_ARGUMENT, "a window needs at least %zu tokens", m->n_front + 2);
	m->length = window - m->n_front;
	m->stride = o->stride ? o->stride : (window + 1) / 2;
	if (m->stride > m->length)
		return tt_fail(err, TT_ERR_ARGUMENT, "a stride of %zu leaves out tokens between windows of %zu",
			m->stride, m->length);
	return TT_OK;
}

/* A token that nothing stands before in its window is not scored. */
static int choose_windows(struct measure *m, struct tt_error *err)
{
	uint32_t limit = m->score->options->limit;
	size_t end = 0;
	for (size_t from = 0; end < m->n_tokens && (!limit || m->n_windows < limit); from += m->stride) {
		size_t to = m->n_tokens - from < m->length ? m->n_tokens : from + m->length;
		struct window w = {from, end > from || m->n_front ? end : from + 1, to};
		end = to;
		if (w.scored >= w.to)
			continue;
		TT_TRY(tt_grow(&m->windows, &m->capacity, m->n_windows + 1, sizeof *m->windows, err));
		m->windows[m->n_windows++] = w;
		m->n_scored += w.to - w.scored;
	}
	return m->n_windows ? TT_OK : tt_fail(err, TT_ERR_FORMAT, "%s: too few tokens", m->score->options->perplexity);
}

static int take_window(void *user, size_t index, struct tt_request *request, struct tt_error *err)
{
	struct measure *m = user;
	size_t i = m->first + index, n = m->windows[i].to - m->windows[i].from + m->n_front;
	const float *scores = tt_request_scores(request);
	if (!scores)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the engine gave no scores");
	for (size_t k = n - (m->windows[i].to - m->windows[i].scored); k < n; k++)
		m->nll[m->side][i] -= (double)scores[k];
	return TT_OK;
}

/* What stands before the scored tokens is the prompt. */
static int make_request(
	const struct measure *m, const struct window *w, struct tt_request_options *out, struct tt_error *err)
{
	int32_t *ids = NULL;
	*out = m->score->how[m->side];
	out->n_ids = m->n_front + w->to - w->from;
	TT_TRY(tt_alloc(&ids, out->n_ids, sizeof *ids, err));
	memcpy(ids, m->ids, m->n_front * sizeof *ids);
	memcpy(ids + m->n_front, m->ids + m->n_front + w->from, (w->to - w->from) * sizeof *ids);
	out->ids = ids;
	out->n_prompt = out->score_from = m->n_front + w->scored - w->from;
	out->score = true;
	return TT_OK;
}

static int measure_block(struct measure *m, size_t n, struct tt_error *err)
{
	struct tt_request_options options[BLOCK] = {{0}};
	struct tt_engine_stats before;
	int status = TT_OK;
	tt_engine_stats(m->score->engine, &before);
	for (size_t i = 0; status == TT_OK && i < n; i++)
		status = make_request(m, &m->windows[m->first + i], &options[i], err);
	if (status == TT_OK)
		status = tt_pump_all(m->score->engine, options, n, take_window, m, &m->score->progress, err);
	tt_score_count(m->score, m->side, &before);
	for (size_t i = 0; i < n; i++)
		free((void *)(uintptr_t)options[i].ids);
	return status;
}

static json_t *nll_of_window(const void *user, size_t side)
{
	const struct measure *m = user;
	return tt_json_number(m->nll[side][m->first]);
}

static int write_windows(struct measure *m, size_t first, size_t n, struct tt_error *err)
{
	for (size_t i = first; i < first + n; i++) {
		const struct window *w = &m->windows[i];
		m->first = i;
		TT_TRY(tt_score_put_row(m->score,
			json_pack("{s:I, s:I, s:I, s:I, s:o}", "window", (json_int_t)i, "from", (json_int_t)w->from,
				"to", (json_int_t)w->to, "n_scored", (json_int_t)(w->to - w->scored), "nll",
				tt_score_sides(m->score, nll_of_window, m)),
			err));
	}
	return tt_line_file_flush(&m->score->rows, err);
}

static int measure_all(struct measure *m, struct tt_error *err)
{
	struct tt_score *s = m->score;
	TT_TRY(read_text(m, err));
	TT_TRY(choose_lengths(m, err));
	TT_TRY(choose_windows(m, err));
	TT_TRY(tt_alloc(&m->counts, m->n_windows, sizeof *m->counts, err));
	for (size_t side = 0; side < s->n_sides; side++)
		TT_TRY(tt_alloc(&m->nll[side], m->n_windows, sizeof *m->nll[side], err));
	TT_TRY(tt_progress_begin(&s->progress, "windows", s->n_sides * m->n_windows, err));
	for (size_t first = 0; first < m->n_windows; first += BLOCK) {
		size_t n = m->n_windows - first < BLOCK ? m->n_windows - first : BLOCK;
		for (m->side = 0; m->side < s->n_sides; m->side++) {
			m->first = first;
			TT_TRY(measure_block(m, n, err));
		}
		for (size_t i = first; i < first + n; i++)
			m->counts[i] = (double)(m->windows[i].to - m->windows[i].scored);
		TT_TRY(write_windows(m, first, n, err));
	}
	return TT_OK;
}

/* ---- The report */

struct mean {
	double mean, low, high;
};

static struct mean mean_of(const struct measure *m, const double *sums)
{
	struct mean mean;
	tt_cluster_mean(sums, m->counts, m->n_windows, &mean.mean, &mean.low, &mean.high);
	return mean;
}

static json_t *nll_json(const void *user, size_t side)
{
	const struct measure *m = user;
	return tt_json_number(mean_of(m, m->nll[side]).mean);
}

static json_t *perplexity_json(const void *user, size_t side)
{
	const struct measure *m = user;
	return tt_json_number(exp(mean_of(m, m->nll[side]).mean));
}

static json_t *interval_json(const void *user, size_t side)
{
	const struct measure *m = user;
	struct mean mean = mean_of(m, m->nll[side]);
	return tt_score_interval(exp(mean.low), exp(mean.high));
}

/* The steered perplexity over the unsteered one: the exponential of the mean difference of the same tokens. */
static int put_paired(json_t *out, const struct measure *m, struct tt_error *err)
{
	double *differences = NULL;
	if (m->score->n_sides == 1)
		return tt_json_set(out, "paired", json_null(), err);
	TT_TRY(tt_alloc(&differences, m->n_windows, sizeof *differences, err));
	for (size_t i = 0; i < m->n_windows; i++)
		differences[i] = m->nll[TT_STEERED][i] - m->nll[TT_UNSTEERED][i];
	struct mean mean = mean_of(m, differences);
	free(differences);
	return tt_json_set(out, "paired",
		json_pack("{s:o, s:o}", "ratio", tt_json_number(exp(mean.mean)), "ratio_interval",
			tt_score_interval(exp(mean.low), exp(mean.high))),
		err);
}

static int report_of(const struct measure *m, json_t **out, struct tt_error *err)
{
	const struct tt_score *s = m->score;
	json_t *front = json_array();
	for (size_t i = 0; i < m->n_front; i++)
		json_array_append_new(front, json_integer(m->ids[i]));
	*out = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "file",
		tt_file_name(s->options->perplexity), "sha256", m->sha256, "n_bytes", (json_int_t)m->n_bytes,
		"n_tokens", (json_int_t)m->n_tokens, "n_scored", (json_int_t)m->n_scored, "n_windows",
		(json_int_t)m->n_windows, "window", (json_int_t)(m->length + m->n_front), "stride",
		(json_int_t)m->stride, "in_front", front, "nll", tt_score_sides(s, nll_json, m), "perplexity",
		tt_score_sides(s, perplexity_json, m), "perplexity_interval", tt_score_sides(s, interval_json, m));
	return put_paired(*out, m, err);
}

int tt_score_text(struct tt_score *s, json_t **report, struct tt_error *err)
{
	struct measure m = {.score = s};
	int status = measure_all(&m, err);
	if (status == TT_OK) {
		status = report_of(&m, report, err);
		if (status != TT_OK)
			json_decref(*report);
	}
	for (size_t side = 0; side < TT_SCORE_SIDES; side++)
		free(m.nll[side]);
	free(m.counts);
	free(m.windows);
	tt_free(m.ids);
	return status;
}
