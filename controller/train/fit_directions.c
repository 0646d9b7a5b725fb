/* Directions by response contrast: the same prompts are run followed by each of two or four responses, and a direction
 * is the mean difference of h[l] over the tokens of two of them. */
#include "controller/train/fit_directions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

/* What a response is there for: D leads from AWAY to TOWARDS. */
enum response_kind { TOWARDS, AWAY, TOWARDS_APOLOGY, AWAY_APOLOGY, N_KINDS };

/* ---- Refusals */

/* The responses. Prompts take them in turn, so that a direction is not the mean of one sentence's words. Those that
 * refuse are short and similar in form, like what models write by themselves: with longer and more varied ones the same
 * push (layers 8 to 13, 48 AdvBench prompts) refused 63% instead of 77%, and the completions were less plausible. */
static const char *const refusing_responses[TT_N_RESPONSES] = {
	"I'm sorry, but I can't help with that.",
	"I'm sorry, but I can't assist with this request.",
	"I cannot help with this, since it could be harmful.",
	"I'm sorry, I cannot provide that.",
};
static const char *const answers[TT_N_RESPONSES] = {
	"Sure, here is what you need:",
	"Of course! Here are the steps to follow:",
	"Certainly, I can help you with this. Here is",
	"Here is a full answer to your question:",
};
/* Apologies that refuse and apologies that help. Both begin alike, so that their difference holds nothing of
 * apologising itself: against refusing_responses, of which one does not apologise, D + E at layer 10 of SmolLM2-135M
 * refused 33 of 44 prompts, and with these 40. */
static const char *const refusing_apologies[TT_N_RESPONSES] = {
	"I'm sorry, but I can't help you with that.",
	"I'm sorry, but I cannot assist with that request.",
	"I'm sorry, but I am unable to do that.",
	"I'm sorry, but I can't provide that information.",
};
static const char *const helpful_apologies[TT_N_RESPONSES] = {
	"I'm sorry for the confusion, I can help you with that.",
	"I'm sorry for any misunderstanding. I can assist with that request.",
	"I'm sorry for the wait. I am here to do that.",
	"I'm sorry about the mix-up, I can provide that information.",
};
static const char *const *const responses[N_KINDS] = {
	refusing_responses, answers, refusing_apologies, helpful_apologies};

struct refusals {
	int32_t *ids[N_KINDS][TT_N_RESPONSES]; // [n_ids]
	size_t n_ids[N_KINDS][TT_N_RESPONSES];
	struct tt_fit_sequence *sequences; // [n_prompts][N_KINDS]
};

static int encode_responses(struct refusals *r, const struct tt_text *text, struct tt_error *err)
{
	for (int kind = 0; kind < N_KINDS; kind++)
		for (int i = 0; i < TT_N_RESPONSES; i++) {
			const char *response = responses[kind][i];
			TT_TRY(tt_text_encode(
				text, response, strlen(response), 0, &r->ids[kind][i], &r->n_ids[kind][i], err));
			if (r->n_ids[kind][i] < 2)
				return tt_fail(err, TT_ERR_UNSUPPORTED,
					"the tokenizer makes no sentence of the response texts");
		}
	return TT_OK;
}

/* A harmful and a benign prompt after one another have the same. */
uint32_t tt_fit_response_of(size_t prompt)
{
	return (uint32_t)(prompt / 2 % TT_N_RESPONSES);
}

/* Harmful and benign prompts in turn. */
static int pair_with_prompts(struct refusals *r, const struct tt_fit_rows *rows, size_t n_prompts, struct tt_error *err)
{
	TT_TRY(tt_alloc(&r->sequences, n_prompts * N_KINDS, sizeof *r->sequences, err));
	for (size_t i = 0; i < n_prompts; i++)
		for (int kind = 0; kind < N_KINDS; kind++)
			r->sequences[i * N_KINDS + (size_t)kind] = (struct tt_fit_sequence){
				.row = &rows->train[i % 2 ? TT_BENIGN : TT_HARMFUL].rows[i / 2],
				.response = r->ids[kind][tt_fit_response_of(i)],
				.n_response = r->n_ids[kind][tt_fit_response_of(i)]};
	return TT_OK;
}

int tt_fit_directions_make(struct tt_fit_directions *out, struct tt_engine *engine, const struct tt_fit_rows *rows,
	uint32_t n_prompts, bool pairs, struct tt_progress *progress, struct tt_error *err)
{
	struct refusals r = {0};
	size_t n = n_prompts;
	for (int label = TT_HARMFUL; label <= TT_BENIGN; label++)
		if (n > rows->train[label].n)
			n = rows->train[label].n;
	int status = encode_responses(&r, tt_engine_text(engine), err);
	if (status == TT_OK)
		status = pair_with_prompts(&r, rows, 2 * n, err);
	if (status == TT_OK)
		status = tt_fit_directions_between(
			out, engine, r.sequences, (uint32_t)(2 * n), N_KINDS, pairs, progress, err);
	for (int kind = 0; kind < N_KINDS; kind++)
		for (int i = 0; i < TT_N_RESPONSES; i++)
			tt_free(r.ids[kind][i]);
	free(r.sequences);
	return status;
}

/* ---- Any responses */

struct contrast {
	struct tt_engine *engine;
	const struct tt_fit_sequence *sequences; // [n_prompts][n_kinds]
	uint32_t n_kinds;
	struct tt_progress *progress;
	struct tt_fit_directions *out;
	struct tt_request_options *options; // [n_prompts][n_kinds]
	double *sums[N_KINDS];              // [n_layers][hidden_size] of the mean states
	double *mean;                       // [hidden_size]
	uint64_t *layers;                   /* a bit for each layer, all set */
};

static int fill_request(struct contrast *c, size_t index, struct tt_error *err)
{
	const struct tt_fit_sequence *s = &c->sequences[index];
	int32_t *ids = NULL;
	TT_TRY(tt_alloc(&ids, s->row->n_ids + s->n_response - 1, sizeof *ids, err));
	memcpy(ids, s->row->ids, s->row->n_ids * sizeof *ids);
	/* Without the response's last token, whose state belongs to what comes after the sentence. */
	memcpy(ids + s->row->n_ids, s->response, (s->n_response - 1) * sizeof *ids);
	struct tt_request_options *o = &c->options[index];
	tt_request_options_default(o);
	o->ids = ids;
	o->n_ids = s->row->n_ids + s->n_response - 1;
	o->keep_from = s->row->n_ids;
	o->keep_layers = c->layers;
	return TT_OK;
}

/* The mean of h over its tokens, for the pairs. The sums of take_states have another order, which the bits of D and E
 * depend on. */
static void take_pair(struct contrast *c, float *states, size_t prompt, uint32_t layer, const float *h, size_t n_tokens)
{
	size_t d = c->out->hidden_size;
	float *out = states + ((size_t)layer * c->out->n_prompts + prompt) * d;
	memset(c->mean, 0, d * sizeof *c->mean);
	for (size_t t = 0; t < n_tokens; t++)
		for (size_t i = 0; i < d; i++)
			c->mean[i] += h[t * d + i];
	for (size_t i = 0; i < d; i++)
		out[i] = (float)(c->mean[i] / (double)n_tokens);
}

static int take_states(void *user, size_t index, struct tt_request *request, struct tt_error *err)
{
	struct contrast *c = user;
	struct tt_fit_directions *out = c->out;
	const struct tt_request_options *o = &c->options[index];
	size_t n_tokens = o->n_ids - o->keep_from, kind = index % c->n_kinds;
	double share = 1.0 / (double)n_tokens / out->n_prompts;
	float *pairs = kind == TOWARDS ? out->refusing : kind == AWAY ? out->answering : NULL;
	for (uint32_t l = 0; l < out->n_layers; l++) {
		const float *h = tt_request_hidden(request, l);
		if (!h)
			return tt_fail(err, TT_ERR_UNSUPPORTED, "the engine kept no states of layer %u", l);
		double *sum = c->sums[kind] + (size_t)l * out->hidden_size;
		if (pairs)
			take_pair(c, pairs, index / c->n_kinds, l, h, n_tokens);
		for (size_t t = 0; t < n_tokens; t++, h += out->hidden_size) {
			double squares = 0;
			for (uint32_t i = 0; i < out->hidden_size; i++) {
				sum[i] += share * h[i];
				squares += (double)h[i] * h[i];
			}
			out->stream_norms[l] += sqrt(squares) * share / c->n_kinds;
		}
	}
	return TT_OK;
}

/* The differences of the sums. */
static void set_directions(const struct contrast *c)
{
	struct tt_fit_directions *out = c->out;
	for (uint32_t l = 0; l < out->n_layers; l++) {
		double squares = 0;
		for (size_t i = (size_t)l * out->hidden_size; i < (size_t)(l + 1) * out->hidden_size; i++) {
			out->response[i] = (float)(c->sums[TOWARDS][i] - c->sums[AWAY][i]);
			if (out->apology)
				out->apology[i] = (float)(c->sums[TOWARDS_APOLOGY][i] - c->sums[AWAY_APOLOGY][i]);
			out->mean_refusing[i] = (float)c->sums[TOWARDS][i];
			out->mean_answering[i] = (float)c->sums[AWAY][i];
			squares += (double)out->response[i] * out->response[i];
		}
		out->norms[l] = sqrt(squares);
	}
}

static int allocate_pairs(struct contrast *c, struct tt_error *err)
{
	struct tt_fit_directions *out = c->out;
	size_t n = 0;
	if (!tt_mul_size((size_t)out->n_layers * out->n_prompts, out->hidden_size, &n))
		return tt_fail(err, TT_ERR_MEMORY, "too many prompts to keep their states");
	TT_TRY(tt_alloc(&c->mean, out->hidden_size, sizeof *c->mean, err));
	TT_TRY(tt_alloc(&out->refusing, n, sizeof *out->refusing, err));
	return tt_alloc(&out->answering, n, sizeof *out->answering, err);
}

static int run_contrast(struct contrast *c, bool pairs, struct tt_error *err)
{
	struct tt_fit_directions *out = c->out;
	size_t n = c->n_kinds * (size_t)out->n_prompts, width = (size_t)out->n_layers * out->hidden_size;
	TT_TRY(tt_alloc(&c->options, n, sizeof *c->options, err));
	for (uint32_t kind = 0; kind < c->n_kinds; kind++)
		TT_TRY(tt_alloc(&c->sums[kind], width, sizeof *c->sums[kind], err));
	TT_TRY(tt_alloc(&c->layers, (out->n_layers + 63) / 64, sizeof *c->layers, err));
	TT_TRY(tt_alloc(&out->response, width, sizeof *out->response, err));
	if (c->n_kinds == N_KINDS)
		TT_TRY(tt_alloc(&out->apology, width, sizeof *out->apology, err));
	TT_TRY(tt_alloc(&out->mean_refusing, width, sizeof *out->mean_refusing, err));
	TT_TRY(tt_alloc(&out->mean_answering, width, sizeof *out->mean_answering, err));
	TT_TRY(tt_alloc(&out->norms, out->n_layers, sizeof *out->norms, err));
	TT_TRY(tt_alloc(&out->stream_norms, out->n_layers, sizeof *out->stream_norms, err));
	if (pairs)
		TT_TRY(allocate_pairs(c, err));
	for (uint32_t l = 0; l < out->n_layers; l++)
		c->layers[l / 64] |= (uint64_t)1 << l % 64;
	for (size_t i = 0; i < n; i++)
		TT_TRY(fill_request(c, i, err));
	TT_TRY(tt_progress_begin(c->progress, "directions", n, err));
	TT_TRY(tt_pump_all(c->engine, c->options, n, take_states, c, c->progress, err));
	set_directions(c);
	return TT_OK;
}

static void free_contrast(struct contrast *c)
{
	for (size_t i = 0; c->options && i < c->n_kinds * (size_t)c->out->n_prompts; i++)
		free((void *)(uintptr_t)c->options[i].ids);
	for (int kind = 0; kind < N_KINDS; kind++)
		free(c->sums[kind]);
	free(c->options);
	free(c->layers);
	free(c->mean);
}

int tt_fit_directions_between(struct tt_fit_directions *out, struct tt_engine *engine,
	const struct tt_fit_sequence *sequences, uint32_t n_prompts, uint32_t n_kinds, bool pairs,
	struct tt_progress *progress, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	*out = (struct tt_fit_directions){
		.n_layers = info->n_layers, .hidden_size = info->hidden_size, .n_prompts = n_prompts};
	struct contrast c = {
		.engine = engine, .sequences = sequences, .n_kinds = n_kinds, .progress = progress, .out = out};
	int status = run_contrast(&c, pairs, err);
	free_contrast(&c);
	return status;
}

void tt_fit_direction(const struct tt_fit_directions *directions, uint32_t layer, double mix, float *out)
{
	size_t d = directions->hidden_size;
	const float *response = directions->response + layer * d;
	const float *apology = directions->apology ? directions->apology + layer * d : NULL;
	double squares = 0;
	if (!apology || mix == 0) {
		memcpy(out, response, d * sizeof *out);
		return;
	}
	for (size_t i = 0; i < d; i++) {
		double mixed = (double)response[i] + mix * (double)apology[i];
		squares += mixed * mixed;
	}
	double scale = squares > 0 ? directions->norms[layer] / sqrt(squares) : 0;
	for (size_t i = 0; i < d; i++)
		out[i] = (float)(scale * ((double)response[i] + mix * (double)apology[i]));
}

void tt_fit_directions_free(struct tt_fit_directions *directions)
{
	free(directions->response);
	free(directions->apology);
	free(directions->mean_refusing);
	free(directions->mean_answering);
	free(directions->norms);
	free(directions->stream_norms);
	free(directions->refusing);
	free(directions->answering);
	free(directions->explained);
	free(directions->maps.rows);
	free(directions->maps.readers);
	free(directions->maps.offsets);
	free(directions->maps.penalties);
	free(directions->maps.errors);
	*directions = (struct tt_fit_directions){0};
}
