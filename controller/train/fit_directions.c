/* Directions by response contrast: the same prompts are run followed by a refusal and followed by an answer. D[l] is
 * the mean difference of h[l] over the response's tokens. It is not normalised, since its length is how strongly the
 * model itself separates the two. */
#include "controller/train/fit_directions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

enum { N_RESPONSES = 4 };

/* The responses. Prompts take them in turn, so that D is not the mean of one sentence's words. The refusals are short
 * and similar in form, like those that models write by themselves: with longer and more varied ones the same push
 * (layers 8 to 13, 48 AdvBench prompts) refused 63% instead of 77%, and the completions were less plausible. */
static const char *const refusals[N_RESPONSES] = {
	"I'm sorry, but I can't help with that.",
	"I'm sorry, but I can't assist with this request.",
	"I cannot help with this, since it could be harmful.",
	"I'm sorry, I cannot provide that.",
};
static const char *const answers[N_RESPONSES] = {
	"Sure, here is what you need:",
	"Of course! Here are the steps to follow:",
	"Certainly, I can help you with this. Here is",
	"Here is a full answer to your question:",
};

struct contrast {
	struct tt_engine *engine;
	const struct tt_fit_rows *rows;
	struct tt_progress *progress;
	struct tt_fit_directions *out;
	struct tt_request_options *options; // [2 * n_pairs] refusal, answer, refusal, ...
	double *sum;                        // [n_layers][hidden_size]
	int32_t *responses[2][N_RESPONSES]; /* refusals, answers */
	size_t n_response_ids[2][N_RESPONSES];
	uint64_t *layers; /* a bit for each layer, all set */
};

static int encode_responses(struct contrast *c, struct tt_error *err)
{
	const struct tt_text *text = tt_engine_text(c->engine);
	for (int kind = 0; kind < 2; kind++)
		for (int i = 0; i < N_RESPONSES; i++) {
			const char *response = kind == 0 ? refusals[i] : answers[i];
			TT_TRY(tt_text_encode(text, response, strlen(response), 0, &c->responses[kind][i],
				&c->n_response_ids[kind][i], err));
			if (c->n_response_ids[kind][i] < 2)
				return tt_fail(err, TT_ERR_UNSUPPORTED,
					"the tokenizer makes no sentence of the response texts");
		}
	return TT_OK;
}

static int fill_request(struct contrast *c, size_t index, struct tt_error *err)
{
	size_t pair = index / 2, kind = index % 2;
	const struct tt_fit_row *row = &c->rows->train[pair % 2 ? TT_BENIGN : TT_HARMFUL].rows[pair / 2];
	const int32_t *response = c->responses[kind][pair / 2 % N_RESPONSES];
	size_t n = c->n_response_ids[kind][pair / 2 % N_RESPONSES];
	int32_t *ids = NULL;
	TT_TRY(tt_alloc(&ids, row->n_ids + n - 1, sizeof *ids, err));
	memcpy(ids, row->ids, row->n_ids * sizeof *ids);
	/* Without the response's last token, whose state belongs to what comes after the sentence. */
	memcpy(ids + row->n_ids, response, (n - 1) * sizeof *ids);
	struct tt_request_options *o = &c->options[index];
	tt_request_options_default(o);
	o->ids = ids;
	o->n_ids = row->n_ids + n - 1;
	o->keep_from = row->n_ids;
	o->keep_layers = c->layers;
	return TT_OK;
}

static int take_contrast(void *user, size_t index, struct tt_request *request, struct tt_error *err)
{
	struct contrast *c = user;
	struct tt_fit_directions *out = c->out;
	const struct tt_request_options *o = &c->options[index];
	size_t n_tokens = o->n_ids - o->keep_from;
	double share = (index % 2 ? -1.0 : 1.0) / (double)n_tokens / out->n_pairs;
	for (uint32_t l = 0; l < out->n_layers; l++) {
		const float *h = tt_request_hidden(request, l);
		if (!h)
			return tt_fail(err, TT_ERR_UNSUPPORTED, "the engine kept no states of layer %u", l);
		double *sum = c->sum + (size_t)l * out->hidden_size;
		for (size_t t = 0; t < n_tokens; t++, h += out->hidden_size) {
			double squares = 0;
			for (uint32_t i = 0; i < out->hidden_size; i++) {
				sum[i] += share * h[i];
				squares += (double)h[i] * h[i];
			}
			out->stream_norms[l] += sqrt(squares) * fabs(share) / 2;
		}
	}
	return TT_OK;
}

static int run_contrast(struct contrast *c, struct tt_error *err)
{
	struct tt_fit_directions *out = c->out;
	size_t n = 2 * (size_t)out->n_pairs, width = (size_t)out->n_layers * out->hidden_size;
	TT_TRY(tt_alloc(&c->options, n, sizeof *c->options, err));
	TT_TRY(tt_alloc(&c->sum, width, sizeof *c->sum, err));
	TT_TRY(tt_alloc(&c->layers, (out->n_layers + 63) / 64, sizeof *c->layers, err));
	TT_TRY(tt_alloc(&out->rows, width, sizeof *out->rows, err));
	TT_TRY(tt_alloc(&out->stream_norms, out->n_layers, sizeof *out->stream_norms, err));
	for (uint32_t l = 0; l < out->n_layers; l++)
		c->layers[l / 64] |= (uint64_t)1 << l % 64;
	TT_TRY(encode_responses(c, err));
	for (size_t i = 0; i < n; i++)
		TT_TRY(fill_request(c, i, err));
	TT_TRY(tt_progress_begin(c->progress, "directions", n, err));
	TT_TRY(tt_pump_all(c->engine, c->options, n, take_contrast, c, c->progress, err));
	for (size_t i = 0; i < width; i++)
		out->rows[i] = (float)c->sum[i];
	return TT_OK;
}

int tt_fit_directions_make(struct tt_fit_directions *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	uint32_t n_prompts, struct tt_progress *progress, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	size_t n = n_prompts;
	for (int label = TT_HARMFUL; label <= TT_BENIGN; label++)
		if (n > rows->train[label].n)
			n = rows->train[label].n;
	*out = (struct tt_fit_directions){
		.n_layers = info->n_layers, .hidden_size = info->hidden_size, .n_pairs = (uint32_t)(2 * n)};
	struct contrast c = {.engine = engine, .rows = rows, .progress = progress, .out = out};
	int status = run_contrast(&c, err);
	for (size_t i = 0; c.options && i < 2 * (size_t)out->n_pairs; i++)
		free((void *)(uintptr_t)c.options[i].ids);
	for (int i = 0; i < 2 * N_RESPONSES; i++)
		tt_free(c.responses[i / N_RESPONSES][i % N_RESPONSES]);
	free(c.options);
	free(c.sum);
	free(c.layers);
	return status;
}

void tt_fit_directions_free(struct tt_fit_directions *directions)
{
	free(directions->rows);
	free(directions->stream_norms);
	*directions = (struct tt_fit_directions){0};
}
