#include "controller/train/fit_mean.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/train/fit_candidate.h"

/* The tokens after the user's text that candidates are of, at most: those nearest to the answer. Llama 3 has five. */
enum { MAX_POSITIONS = 8 };
/* A direction is sought in the input of a block below this share of the depth; past it, it is about the next token. */
static const double depth = 0.8;
/* Ablation may change what benign prompts are answered by so much, in nats. */
static const double max_kl = 0.1;
/* What refusals begin with, where it is one token; the paper has the same, by model. */
static const char *const openings[TT_MAX_OPENINGS] = {"I", "As"};

static const char too_far[] = "ablation changes what benign prompts are answered by: kl above 0.1";
static const char no_refusal[] = "added, it does not make benign prompts refused: score below 0";
static const char no_number[] = "a score is not a number";

/* ---- Means */

struct gathering {
	struct tt_fit_mean *out;
	const struct tt_fit_rows *rows;
	struct tt_request_options *options; // [n_prompts][2]
	uint64_t *layers;                   /* a bit for each layer, all set */
};

static const struct tt_fit_row *row_of(const struct gathering *g, size_t index)
{
	return &g->rows->train[index % 2 ? TT_BENIGN : TT_HARMFUL].rows[index / 2];
}

static int take_states(void *user, size_t index, struct tt_request *request, struct tt_error *err)
{
	struct gathering *g = user;
	struct tt_fit_mean *out = g->out;
	double *means = index % 2 ? out->benign : out->harmful;
	for (uint32_t l = 0; l < out->n_layers; l++) {
		const float *h = tt_request_hidden(request, l);
		if (!h)
			return tt_fail(err, TT_ERR_UNSUPPORTED, "the engine kept no states of layer %u", l);
		for (uint32_t back = out->n_positions; back-- > 0; h += out->hidden_size) {
			size_t at = (size_t)back * out->n_layers + l;
			double *mean = means + at * out->hidden_size, squares = 0;
			for (uint32_t i = 0; i < out->hidden_size; i++) {
				mean[i] += (double)h[i] / out->n_prompts;
				squares += (double)h[i] * (double)h[i];
			}
			out->stream_norms[at] += sqrt(squares) / out->n_prompts / 2;
		}
	}
	return TT_OK;
}

/* The tokens that all prompts end with after the user's text; where a model has no template, the last token alone. */
static uint32_t count_positions(const struct gathering *g)
{
	size_t n = MAX_POSITIONS;
	for (size_t i = 0; i < 2 * (size_t)g->out->n_prompts; i++) {
		const struct tt_fit_row *row = row_of(g, i);
		size_t after = row->mean_to ? row->n_ids - row->mean_to : 0;
		n = after < n ? after : n;
	}
	return n > 0 ? (uint32_t)n : 1;
}

static int gather(struct gathering *g, struct tt_engine *engine, struct tt_progress *progress, struct tt_error *err)
{
	struct tt_fit_mean *out = g->out;
	size_t n = 2 * (size_t)out->n_prompts, n_means, width = out->hidden_size * sizeof(double);
	out->n_positions = count_positions(g);
	n_means = (size_t)out->n_positions * out->n_layers;
	TT_TRY(tt_alloc(&out->harmful, n_means, width, err));
	TT_TRY(tt_alloc(&out->benign, n_means, width, err));
	TT_TRY(tt_alloc(&out->stream_norms, n_means, sizeof *out->stream_norms, err));
	TT_TRY(tt_alloc(&g->options, n, sizeof *g->options, err));
	TT_TRY(tt_alloc(&g->layers, (out->n_layers + 63) / 64, sizeof *g->layers, err));
	for (uint32_t l = 0; l < out->n_layers; l++)
		g->layers[l / 64] |= (uint64_t)1 << l % 64;
	for (size_t i = 0; i < n; i++) {
		const struct tt_fit_row *row = row_of(g, i);
		struct tt_request_options *o = &g->options[i];
		tt_request_options_default(o);
		o->ids = row->ids;
		o->n_ids = row->n_ids;
		o->keep_from = row->n_ids - out->n_positions;
		o->keep_layers = g->layers;
	}
	TT_TRY(tt_progress_begin(progress, "directions", n, err));
	return tt_pump_all(engine, g->options, n, take_states, g, progress, err);
}

/* Makes a candidate's difference the direction of every layer. */
static void point(const struct tt_fit_mean *mean, const struct tt_mean_candidate *c, struct tt_fit_directions *out)
{
	size_t d = mean->hidden_size, at = ((size_t)c->position * mean->n_layers + c->layer) * d;
	for (uint32_t l = 0; l < mean->n_layers; l++) {
		size_t states = (size_t)c->position * mean->n_layers + l;
		for (size_t i = 0; i < d; i++) {
			out->response[l * d + i] = (float)(mean->harmful[at + i] - mean->benign[at + i]);
			out->mean_refusing[l * d + i] = (float)mean->harmful[states * d + i];
			out->mean_answering[l * d + i] = (float)mean->benign[states * d + i];
		}
		out->norms[l] = c->norm;
		out->stream_norms[l] = mean->stream_norms[states];
	}
}

static int allocate_directions(const struct tt_fit_mean *mean, struct tt_fit_directions *out, struct tt_error *err)
{
	size_t n = mean->n_layers, width = mean->hidden_size * sizeof(float);
	*out = (struct tt_fit_directions){
		.n_layers = mean->n_layers, .hidden_size = mean->hidden_size, .n_prompts = 2 * mean->n_prompts};
	TT_TRY(tt_alloc(&out->response, n, width, err));
	TT_TRY(tt_alloc(&out->mean_refusing, n, width, err));
	TT_TRY(tt_alloc(&out->mean_answering, n, width, err));
	TT_TRY(tt_alloc(&out->norms, n, sizeof *out->norms, err));
	return tt_alloc(&out->stream_norms, n, sizeof *out->stream_norms, err);
}

/* ---- Scores */

struct scoring {
	struct tt_fit_mean *out;
	struct tt_fit_directions *directions;
	struct tt_engine *engine;
	const struct tt_fit_rows *rows;
	struct tt_progress *progress;
	size_t n[2], vocab;                 /* val rows: harmful, benign */
	struct tt_request_options *options; // [the larger of n]
	float *unsteered;                   // [n[TT_BENIGN]][vocab] logits
	bool recording;                     /* of these */
	enum tt_label label;                /* of the run: its rows, and the means over them */
	double refusal, kl;
};

static double log_sum(const float *logits, size_t n)
{
	double largest = -INFINITY, sum = 0;
	for (size_t i = 0; i < n; i++)
		largest = fmax(largest, (double)logits[i]);
	for (size_t i = 0; i < n; i++)
		sum += exp((double)logits[i] - largest);
	return largest + log(sum);
}

static double refusal_score(const struct tt_fit_mean *mean, const float *logits, double log_all)
{
	double p = 0;
	for (uint32_t i = 0; i < mean->n_openings; i++)
		p += exp((double)logits[mean->openings[i]] - log_all);
	return log(p + 1e-8) - log(1 - p + 1e-8);
}

static double divergence(const float *from, const float *to, size_t n, double log_to)
{
	double log_from = log_sum(from, n), sum = 0;
	for (size_t i = 0; i < n; i++) {
		double before = (double)from[i] - log_from;
		sum += exp(before) * (before - ((double)to[i] - log_to));
	}
	return sum;
}

static int take_logits(void *user, size_t index, struct tt_request *request, struct tt_error *err)
{
	struct scoring *s = user;
	const float *logits = tt_request_logits(request);
	if (!logits)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the engine gave no logits");
	double log_all = log_sum(logits, s->vocab), share = 1.0 / (double)s->n[s->label];
	s->refusal += share * refusal_score(s->out, logits, log_all);
	if (s->label != TT_BENIGN)
		return TT_OK;
	if (s->recording)
		memcpy(s->unsteered + index * s->vocab, logits, s->vocab * sizeof *logits);
	else
		s->kl += share * divergence(s->unsteered + index * s->vocab, logits, s->vocab, log_all);
	return TT_OK;
}

/* Runs the val rows of a label under a policy, or unsteered where it is NULL. */
static int run(struct scoring *s, enum tt_label label, struct tt_policy *policy, struct tt_error *err)
{
	s->label = label;
	s->recording = !policy;
	s->refusal = s->kl = 0;
	for (size_t i = 0; i < s->n[label]; i++) {
		const struct tt_fit_row *row = &s->rows->val[label].rows[i];
		struct tt_request_options *o = &s->options[i];
		tt_request_options_default(o);
		o->ids = row->ids;
		o->n_ids = row->n_ids;
		o->keep_logits = true;
		o->logits_from = row->n_ids - 1;
		o->steering[0] = (struct tt_steering){.policy = policy, .scale = 1};
		o->n_steering = policy ? 1 : 0;
	}
	if (!policy)
		return tt_pump_all(s->engine, s->options, s->n[label], take_logits, s, s->progress, err);
	TT_TRY(tt_engine_add_policy(s->engine, policy, NULL, err));
	int status = tt_pump_all(s->engine, s->options, s->n[label], take_logits, s, s->progress, err);
	tt_engine_remove_policy(s->engine, policy, NULL);
	return status;
}

/* Runs the rows of a label with a candidate added at its layer, coefficient 1, or ablated in all layers. */
static int score_under(struct scoring *s, const struct tt_mean_candidate *of, enum tt_policy_op op, enum tt_label label,
	struct tt_error *err)
{
	struct tt_candidate c = {.op = op, .when = TT_WHEN_ALL};
	struct tt_policy *policy = NULL;
	float weights[TT_MAX_LAYERS] = {0};
	for (uint32_t l = 0; l < s->out->n_layers; l++)
		weights[l] = op == TT_OP_ABLATE || l == of->layer;
	point(s->out, of, s->directions);
	int status = tt_candidate_aim(&c, s->directions, weights, 0, 1, err);
	if (status == TT_OK)
		status = tt_candidate_policy(&c, s->directions, tt_engine_info(s->engine), false, &policy, err);
	if (status == TT_OK)
		status = run(s, label, policy, err);
	tt_policy_free(policy);
	free(c.weights);
	return status;
}

static int find_openings(struct tt_fit_mean *out, const struct tt_text *text, struct tt_error *err)
{
	for (int i = 0; i < TT_MAX_OPENINGS; i++) {
		int32_t *ids = NULL;
		size_t n = 0;
		TT_TRY(tt_text_encode(text, openings[i], strlen(openings[i]), 0, &ids, &n, err));
		if (n == 1)
			out->openings[out->n_openings++] = ids[0];
		tt_free(ids);
	}
	if (!out->n_openings)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the tokenizer has no token that refusals begin with");
	return TT_OK;
}

/* Of more candidates than may be tried, as many in each layer, and positions in turn. Those of one layer follow one
 * another, and are at most as many as there are positions, so none comes twice. */
int tt_fit_mean_list(struct tt_fit_mean *out, uint32_t max_candidates, struct tt_error *err)
{
	/* The input of block l is the output of block l - 1, and what goes into the first is nothing that can be
	 * steered. */
	uint32_t end = (uint32_t)(depth * out->n_layers), n_layers = end > 2 ? end - 1 : 1;
	size_t d = out->hidden_size;
	out->n_possible = n_layers * out->n_positions;
	out->n_candidates = max_candidates < out->n_possible ? max_candidates : out->n_possible;
	TT_TRY(tt_alloc(&out->candidates, out->n_candidates, sizeof *out->candidates, err));
	for (uint32_t k = 0; k < out->n_candidates; k++) {
		struct tt_mean_candidate *c = &out->candidates[k];
		double squares = 0;
		*c = (struct tt_mean_candidate){
			.layer = (uint32_t)((2 * (uint64_t)k + 1) * n_layers / (2 * out->n_candidates)),
			.position = k % out->n_positions,
			.ablated = NAN};
		size_t at = ((size_t)c->position * out->n_layers + c->layer) * d;
		for (size_t j = 0; j < d; j++) {
			double difference = out->harmful[at + j] - out->benign[at + j];
			squares += difference * difference;
		}
		c->norm = sqrt(squares);
	}
	return TT_OK;
}

void tt_fit_mean_discard(struct tt_fit_mean *mean)
{
	for (uint32_t i = 0; i < mean->n_candidates; i++) {
		struct tt_mean_candidate *c = &mean->candidates[i];
		c->discarded = isnan(c->added) || isnan(c->kl) ? no_number
			       : c->kl > max_kl                ? too_far
			       : c->added < 0                  ? no_refusal
							       : NULL;
	}
}

void tt_fit_mean_choose(struct tt_fit_mean *mean)
{
	struct tt_mean_candidate *best = NULL, *otherwise = mean->candidates;
	for (uint32_t i = 0; i < mean->n_candidates; i++) {
		struct tt_mean_candidate *c = &mean->candidates[i];
		if (!c->discarded && isnan(c->ablated))
			c->discarded = no_number;
		if (!c->discarded && (!best || c->ablated < best->ablated))
			best = c;
		if (c->added > otherwise->added || isnan(otherwise->added))
			otherwise = c;
	}
	mean->chosen = best ? best : otherwise;
	mean->why = best ? "of those that were not discarded, the one without which harmful prompts are refused least"
			 : "all were discarded; this one, added, makes benign prompts refused most";
}

static int select_one(struct scoring *s, struct tt_error *err)
{
	struct tt_fit_mean *out = s->out;
	size_t n_left = 0, *n = s->n;
	TT_TRY(tt_alloc(&s->options, n[0] > n[1] ? n[0] : n[1], sizeof *s->options, err));
	TT_TRY(tt_alloc(&s->unsteered, n[TT_BENIGN], s->vocab * sizeof *s->unsteered, err));
	TT_TRY(tt_progress_begin(
		s->progress, "selection", n[0] + n[1] + 2 * (uint64_t)out->n_candidates * n[TT_BENIGN], err));
	TT_TRY(run(s, TT_HARMFUL, NULL, err));
	out->harmful_score = s->refusal;
	TT_TRY(run(s, TT_BENIGN, NULL, err));
	out->benign_score = s->refusal;
	for (uint32_t i = 0; i < out->n_candidates; i++) {
		struct tt_mean_candidate *c = &out->candidates[i];
		c->added = c->kl = NAN;
		if (!(c->norm > 0)) /* no policy can be made of it */
			continue;
		TT_TRY(score_under(s, c, TT_OP_ADD, TT_BENIGN, err));
		c->added = s->refusal;
		TT_TRY(score_under(s, c, TT_OP_ABLATE, TT_BENIGN, err));
		c->kl = s->kl;
	}
	tt_fit_mean_discard(out);
	for (uint32_t i = 0; i < out->n_candidates; i++)
		n_left += !out->candidates[i].discarded;
	TT_TRY(tt_progress_begin(s->progress, "ablation", (n_left > 0 ? n_left : 1) * n[TT_HARMFUL], err));
	for (uint32_t i = 0; i < out->n_candidates; i++) {
		if (out->candidates[i].discarded)
			continue;
		TT_TRY(score_under(s, &out->candidates[i], TT_OP_ABLATE, TT_HARMFUL, err));
		out->candidates[i].ablated = s->refusal;
	}
	tt_fit_mean_choose(out);
	if (out->chosen->discarded && out->chosen->norm > 0) {
		TT_TRY(score_under(s, out->chosen, TT_OP_ABLATE, TT_HARMFUL, err));
		out->chosen->ablated = s->refusal;
	}
	point(out, out->chosen, s->directions);
	return TT_OK;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

int tt_fit_mean_make(struct tt_fit_mean *out, struct tt_fit_directions *directions, struct tt_engine *engine,
	const struct tt_fit_rows *rows, const struct tt_fit_options *options, struct tt_progress *progress,
	struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	size_t n = least(options->n_direction_prompts, least(rows->train[TT_HARMFUL].n, rows->train[TT_BENIGN].n));
	*out = (struct tt_fit_mean){
		.n_layers = info->n_layers, .hidden_size = info->hidden_size, .n_prompts = (uint32_t)n};
	struct gathering g = {.out = out, .rows = rows};
	int status = gather(&g, engine, progress, err);
	free(g.options);
	free(g.layers);
	TT_TRY(status);
	TT_TRY(find_openings(out, tt_engine_text(engine), err));
	TT_TRY(tt_fit_mean_list(out, options->max_candidates, err));
	TT_TRY(allocate_directions(out, directions, err));
	struct scoring s = {.out = out,
		.directions = directions,
		.engine = engine,
		.rows = rows,
		.progress = progress,
		.vocab = info->vocab_size};
	for (int label = TT_HARMFUL; label <= TT_BENIGN; label++)
		s.n[label] = least(options->n_judge_prompts, rows->val[label].n);
	status = select_one(&s, err);
	free(s.options);
	free(s.unsteered);
	return status;
}

json_t *tt_fit_mean_report(const struct tt_fit_mean *mean)
{
	if (!mean->chosen)
		return json_null();
	json_t *list = json_array(), *tokens = json_array();
	for (uint32_t i = 0; i < mean->n_openings; i++)
		json_array_append_new(tokens, json_integer(mean->openings[i]));
	for (uint32_t i = 0; i < mean->n_candidates; i++) {
		const struct tt_mean_candidate *c = &mean->candidates[i];
		json_array_append_new(list,
			json_pack("{s:i, s:i, s:o, s:o, s:o, s:o, s:s?, s:b}", "position", -1 - (int)c->position,
				"layer", (int)c->layer, "norm", tt_json_number(c->norm), "refusal_added",
				tt_json_number(c->added), "kl", tt_json_number(c->kl), "refusal_ablated",
				tt_json_number(c->ablated), "discarded", c->discarded, "chosen", c == mean->chosen));
	}
	return json_pack("{s:o, s:o, s:o, s:i, s:o, s:s}", "tokens", tokens, "refusal_harmful",
		tt_json_number(mean->harmful_score), "refusal_benign", tt_json_number(mean->benign_score), "possible",
		(int)mean->n_possible, "candidates", list, "why", mean->why);
}

void tt_fit_mean_free(struct tt_fit_mean *mean)
{
	free(mean->harmful);
	free(mean->benign);
	free(mean->stream_norms);
	free(mean->candidates);
	*mean = (struct tt_fit_mean){0};
}
