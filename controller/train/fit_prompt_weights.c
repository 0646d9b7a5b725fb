/* Every shape has the same whole push, so a mixture of them has it too, and so has the mean of what the network gives
 * the prompts that it was trained on. What shapes do to the output is measured on each prompt by the likelihood of a
 * refusing sentence: whether the completion refuses is one bit, and the same bit for nearly all shapes. */
#include "controller/train/fit_prompt_weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

/* So many prompts for each that judges a candidate. */
enum { PROMPTS_A_JUDGE_PROMPT = 4 };
/* In nats a token, and sharp, since a mixture of good shapes is not as good: on SmolLM2-135M the sentence had -2.080
 * nats a token under layers 9 to 11, -2.099 under 11 to 13, and -2.108 to -2.127 under mixtures of mostly these. */
static const double temperature = 0.01;

/* How the hills beside the site differ from it: their centre and width are more by these shares of the depth. */
static const struct {
	double centre, width;
} hills[] = {{-0.1, 0}, {-0.05, 0}, {0.05, 0}, {0.1, 0}, {0, 0.05}, {0, 0.1}};
_Static_assert(1 + sizeof hills / sizeof *hills == TT_N_PROMPT_SHAPES, "the site is one more");

struct learning {
	struct tt_fit_prompt_weights *out;
	struct tt_fit_search *search;
	struct tt_fit_judge *train;
	const struct tt_fit_detector *detector;
	uint32_t n, n_layers;
	const float *x;              // [n][detector->features.d] of the harmful train rows
	uint8_t *fold;               // [n]
	struct tt_fit_trial *trials; // [n_shapes][n]
	/* Of the rows that trained last. */
	float *row_x, *row_target; // [n][detector->features.d], [n][n_layers] coefficients
	double *row_value;         // [n][n_shapes]
};

int tt_fit_prompt_weights_rows(
	uint32_t *n, const struct tt_fit_rows *rows, uint32_t n_judge_prompts, struct tt_error *err)
{
	size_t there = rows->train[TT_HARMFUL].n, most = (size_t)PROMPTS_A_JUDGE_PROMPT * n_judge_prompts;
	most = most < TT_LEAST_PROMPTS ? TT_LEAST_PROMPTS : most;
	*n = (uint32_t)(there < most ? there : most);
	if (*n < TT_LEAST_PROMPTS)
		return tt_fail(err, TT_ERR_ARGUMENT,
			"layer weights by prompt need at least %d harmful train rows; there are %u", TT_LEAST_PROMPTS,
			*n);
	return TT_OK;
}

/* ---- The gate that gives weights */

static int fill(const struct tt_fit_gate *gate, struct tt_policy *policy, struct tt_error *err)
{
	const struct tt_weighing_gate *w = gate->made;
	return tt_fit_detector_fill(w->detector, w->network, gate->threshold, policy, err);
}

/* One network of the detector's units, which alone count for the first output, and the weigher's, which alone count for
 * the others. */
static int stack(struct tt_weighing_gate *w, struct tt_error *err)
{
	const struct tt_mlp *first = w->detector->detector.network, *second = w->weigher.network;
	size_t n = first ? first->units : 0, d = second->d;
	TT_TRY(tt_mlp_open(&w->network, d, n + second->units, 1 + second->outputs, err));
	struct tt_mlp *to = w->network;
	if (first) {
		memcpy(to->fc1, first->fc1, n * d * sizeof *to->fc1);
		memcpy(to->bias1, first->bias1, n * sizeof *to->bias1);
		memcpy(to->fc2, first->fc2, n * sizeof *to->fc2);
		to->bias2[0] = first->bias2[0];
	}
	memcpy(to->fc1 + n * d, second->fc1, second->units * d * sizeof *to->fc1);
	memcpy(to->bias1 + n, second->bias1, second->units * sizeof *to->bias1);
	for (size_t l = 0; l < second->outputs; l++)
		memcpy(to->fc2 + (1 + l) * to->units + n, second->fc2 + l * second->units,
			second->units * sizeof *to->fc2);
	memcpy(to->bias2 + 1, second->bias2, second->outputs * sizeof *to->bias2);
	return TT_OK;
}

static void weighing_free(struct tt_weighing_gate *w)
{
	tt_weigher_free(&w->weigher);
	tt_mlp_close(w->network);
	*w = (struct tt_weighing_gate){0};
}

/* The candidate's policy as the judge needs it: with the weights of the prompt, but a gate that always opens, since
 * sigmoid(0) is above 0. */
static int open_policy(struct learning *l, struct tt_candidate *c, struct tt_error *err)
{
	TT_TRY(tt_candidate_policy(c, l->search->directions, l->search->info, true, &c->policy, err));
	struct tt_policy *p = c->policy;
	memset(p->gate_weight, 0, l->detector->features.d * sizeof *p->gate_weight);
	memset(p->fc2_weight, 0, p->n_units * sizeof *p->fc2_weight);
	p->fc2_bias[0] = 0;
	p->gate_bias = 0;
	p->threshold = 0;
	return TT_OK;
}

/* ---- What the shapes do */

/* A share of the depth in whole layers, at least one unless it is 0. */
static double layers_of(double share, uint32_t n_layers)
{
	return share == 0 ? 0 : copysign(fmax(1, round(fabs(share) * n_layers)), share);
}

static int add_shapes(struct learning *l, struct tt_error *err)
{
	struct tt_fit_search *shapes = &l->out->shapes;
	const struct tt_candidate *site = l->search->chosen;
	const struct tt_fit_shape of_site = tt_fit_shape_of(site);
	float weights[TT_MAX_LAYERS];
	TT_TRY(tt_alloc(&shapes->candidates, TT_N_PROMPT_SHAPES, sizeof *shapes->candidates, err));
	TT_TRY(tt_fit_add(shapes, site->weights, site->mix, site->push, err));
	for (size_t i = 0; i < sizeof hills / sizeof *hills; i++) {
		struct tt_fit_shape shape = of_site;
		shape.centre = fmin(fmax(shape.centre + layers_of(hills[i].centre, l->n_layers), 0), l->n_layers - 1);
		shape.width += hills[i].width * l->n_layers;
		tt_fit_shape_weights(&shape, l->n_layers, weights);
		TT_TRY(tt_fit_add(shapes, weights, site->mix, site->push, err));
	}
	return TT_OK;
}

static double likelihood_of(const struct learning *l, uint32_t shape, uint32_t prompt)
{
	return l->trials[(size_t)shape * l->n + prompt].likelihood;
}

static uint32_t likeliest_of(const struct learning *l, uint32_t prompt)
{
	uint32_t best = 0;
	for (uint32_t k = 1; k < l->out->shapes.n_candidates; k++)
		if (likelihood_of(l, k, prompt) > likelihood_of(l, best, prompt))
			best = k;
	return best;
}

static void count_likelihoods(struct learning *l)
{
	struct tt_fit_prompt_weights *out = l->out;
	for (uint32_t i = 0; i < l->n; i++) {
		uint32_t best = likeliest_of(l, i);
		out->n_likeliest[best]++;
		out->oracle += likelihood_of(l, best, i) / l->n;
		for (uint32_t k = 0; k < out->shapes.n_candidates; k++)
			out->likelihood[k] += likelihood_of(l, k, i) / l->n;
	}
	out->best = out->likelihood[0];
	for (uint32_t k = 1; k < out->shapes.n_candidates; k++)
		out->best = fmax(out->best, out->likelihood[k]);
}

/* Whether the likelihood is of use: what would be refused if each prompt had its likeliest shape, or its best. */
static void count_refusals(struct learning *l)
{
	const struct tt_fit_search *shapes = &l->out->shapes;
	uint32_t n = shapes->candidates[0].n_harmful, by_any = 0, by_likeliest = 0;
	for (uint32_t i = 0; i < n && i < l->n; i++) {
		bool any = false;
		for (uint32_t k = 0; k < shapes->n_candidates; k++)
			any |= shapes->candidates[k].harmful[i].refused;
		by_any += any;
		by_likeliest += shapes->candidates[likeliest_of(l, i)].harmful[i].refused;
	}
	l->out->refused_by_any = n ? (double)by_any / n : NAN;
	l->out->refused_by_likeliest = n ? (double)by_likeliest / n : NAN;
}

static int measure_shapes(struct learning *l, struct tt_error *err)
{
	struct tt_fit_search *shapes = &l->out->shapes;
	struct tt_candidate *active[TT_N_PROMPT_SHAPES];
	uint32_t n_shapes = shapes->n_candidates;
	for (uint32_t k = 0; k < n_shapes; k++)
		active[k] = &shapes->candidates[k];
	TT_TRY(tt_alloc(&l->trials, n_shapes, l->n * sizeof *l->trials, err));
	for (size_t i = 0; i < (size_t)n_shapes * l->n; i++)
		l->trials[i] = (struct tt_fit_trial){.candidate = active[i / l->n], .prompt = (uint32_t)(i % l->n)};
	TT_TRY(tt_fit_try(l->train, l->trials, (size_t)n_shapes * l->n, "likelihood of shapes", err));
	TT_TRY(tt_fit_judge_candidates(shapes, active, n_shapes, (const uint32_t[]){l->train->n[TT_JUDGE_HARMFUL], 0},
		"shapes", "fluency of shapes", err));
	count_likelihoods(l);
	count_refusals(l);
	return TT_OK;
}

/* ---- The targets, and the network that learns them */

/* The shapes' coefficients, mixed by a softmax of the values [n_shapes]. */
static void mix(const struct learning *l, const double *value, float *target)
{
	const struct tt_fit_search *shapes = &l->out->shapes;
	double part[TT_N_PROMPT_SHAPES], sum = 0, best = value[0];
	for (uint32_t k = 1; k < shapes->n_candidates; k++)
		best = fmax(best, value[k]);
	for (uint32_t k = 0; k < shapes->n_candidates; k++) {
		part[k] = exp((value[k] - best) / temperature);
		sum += part[k];
	}
	for (uint32_t layer = 0; layer < l->n_layers; layer++) {
		double coefficient = 0;
		for (uint32_t k = 0; k < shapes->n_candidates; k++) {
			const struct tt_candidate *c = &shapes->candidates[k];
			coefficient += part[k] / sum * (double)c->alpha * (double)c->weights[layer];
		}
		target[layer] = (float)coefficient;
	}
}

/* Gathers all rows but those of a fold, and returns how many they are. A shape's value is how much likelier than the
 * mean of all shapes it makes the sentence. */
static size_t gather_without(struct learning *l, uint32_t fold)
{
	size_t d = l->detector->features.d, n = 0, n_shapes = l->out->shapes.n_candidates;
	for (uint32_t i = 0; i < l->n; i++) {
		double mean = 0;
		if (l->fold[i] == fold)
			continue;
		for (uint32_t k = 0; k < n_shapes; k++)
			mean += likelihood_of(l, k, i) / (double)n_shapes;
		for (uint32_t k = 0; k < n_shapes; k++)
			l->row_value[n * n_shapes + k] = likelihood_of(l, k, i) - mean;
		memcpy(l->row_x + n++ * d, l->x + i * d, d * sizeof *l->x);
	}
	return n;
}

/* Trains without a fold's rows. The targets follow from what the features tell of the values: on SmolLM2-135M the
 * weights of prompts that were left out were then better than the mean of the targets by 0.009 nats a token, and by
 * 0.001 where the targets followed from the values themselves. */
static int train_without(
	struct learning *l, struct tt_weighing_gate *w, uint32_t fold, uint64_t seed, struct tt_error *err)
{
	const struct tt_fit_search *s = l->search;
	size_t d = l->detector->features.d, n_shapes = l->out->shapes.n_candidates;
	const struct tt_rows rows = {.x = l->row_x, .n = gather_without(l, fold), .d = d, .stride = d};
	w->detector = l->detector;
	if (rows.n < TT_LEAST_PROMPTS / 2)
		return tt_fail(err, TT_ERR_ARGUMENT,
			"layer weights by prompt need harmful train rows in each fifth of the files");
	TT_TRY(tt_weigher_smooth(&rows, l->row_value, n_shapes, seed, err));
	for (size_t i = 0; i < rows.n; i++)
		mix(l, l->row_value + i * n_shapes, l->row_target + i * l->n_layers);
	TT_TRY(tt_weigher_train(&w->weigher, &rows, l->row_target, l->n_layers, seed, err));
	TT_TRY(stack(w, err));
	w->gate = *s->gate;
	w->gate.made = w;
	w->gate.fill = fill;
	w->gate.mean_weight =
		s->chosen->push * tt_push_unit(s->directions) / tt_push_length(s->directions, w->weigher.most);
	return TT_OK;
}

/* ---- The learned weights on unseen prompts */

static int aim(struct learning *l, struct tt_candidate *c, const struct tt_fit_gate *gate, const float *weights,
	struct tt_error *err)
{
	const struct tt_candidate *site = l->search->chosen;
	c->when = site->when;
	c->gate = gate;
	return tt_candidate_aim(c, l->search->directions, weights, site->mix, site->push, err);
}

static int aim_fold(struct learning *l, struct tt_weighing_gate *w, struct tt_candidate *c, uint32_t fold,
	uint64_t seed, struct tt_error *err)
{
	TT_TRY(train_without(l, w, fold, seed, err));
	TT_TRY(aim(l, c, &w->gate, w->weigher.most, err));
	return open_policy(l, c, err);
}

/* After training on all rows. */
static int aim_mean(struct learning *l, struct tt_candidate *c, struct tt_error *err)
{
	float mean[TT_MAX_LAYERS];
	for (uint32_t layer = 0; layer < l->n_layers; layer++) {
		double sum = 0;
		for (uint32_t i = 0; i < l->n; i++)
			sum += (double)l->row_target[(size_t)i * l->n_layers + layer];
		mean[layer] = (float)sum;
	}
	TT_TRY(aim(l, c, l->search->gate, mean, err));
	return tt_candidate_policy(c, l->search->directions, l->search->info, false, &c->policy, err);
}

/* Each prompt under the weights that were learned without its fold, and under the mean. */
static int try_arms(struct learning *l, const struct tt_candidate *arms, struct tt_error *err)
{
	struct tt_fit_trial *trials = NULL;
	size_t n = 0;
	TT_TRY(tt_alloc(&trials, l->n, 2 * sizeof *trials, err));
	for (uint32_t fold = 0; fold < TT_N_FOLDS; fold++)
		for (uint32_t i = 0; i < l->n; i++)
			if (l->fold[i] == fold)
				trials[n++] = (struct tt_fit_trial){.candidate = &arms[fold], .prompt = i};
	for (uint32_t i = 0; i < l->n; i++)
		trials[n++] = (struct tt_fit_trial){.candidate = &arms[TT_N_FOLDS], .prompt = i};
	int status = tt_fit_try(l->train, trials, n, "likelihood of learned weights", err);
	for (uint32_t i = 0; status == TT_OK && i < l->n; i++) {
		l->out->held_out += trials[i].likelihood / l->n;
		l->out->mean += trials[l->n + i].likelihood / l->n;
	}
	free(trials);
	return status;
}

static int hold_out(struct learning *l, uint64_t seed, struct tt_error *err)
{
	struct tt_weighing_gate weighing[TT_N_FOLDS] = {0};
	struct tt_candidate arms[TT_N_FOLDS + 1] = {0};
	int status = aim_mean(l, &arms[TT_N_FOLDS], err);
	for (uint32_t fold = 0; status == TT_OK && fold < TT_N_FOLDS; fold++)
		status = aim_fold(l, &weighing[fold], &arms[fold], fold, seed, err);
	if (status == TT_OK)
		status = try_arms(l, arms, err);
	for (uint32_t i = 0; i <= TT_N_FOLDS; i++) {
		tt_policy_free(arms[i].policy);
		free(arms[i].weights);
		if (i < TT_N_FOLDS)
			weighing_free(&weighing[i]);
	}
	return status;
}

/* ---- Beside the site */

/* The whole push on the harmful val rows, which stand after the train rows of all labels. */
static int measure_push(struct learning *l, const struct tt_fit_rows *fit_rows, struct tt_error *err)
{
	const struct tt_fit_directions *directions = l->search->directions;
	const struct tt_fit_features *f = &l->detector->features;
	size_t first = 0, n = fit_rows->val[TT_HARMFUL].n;
	float *coefficient = NULL;
	for (int label = 0; label < TT_N_LABELS; label++)
		first += fit_rows->train[label].n;
	const struct tt_rows rows = {.x = f->x + first * f->d, .n = n, .d = f->d, .stride = f->d};
	TT_TRY(tt_alloc(&coefficient, n, l->n_layers * sizeof *coefficient, err));
	int status = tt_weigher_run(&l->out->weighing.weigher, &rows, coefficient, err);
	l->out->least_push = INFINITY;
	l->out->most_push = 0;
	for (size_t i = 0; status == TT_OK && i < n; i++) {
		double push = tt_push_length(directions, coefficient + i * l->n_layers) / tt_push_unit(directions);
		l->out->mean_push += push / (double)n;
		l->out->least_push = fmin(l->out->least_push, push);
		l->out->most_push = fmax(l->out->most_push, push);
	}
	free(coefficient);
	return status;
}

static int compare_with_site(struct learning *l, struct tt_error *err)
{
	struct tt_fit_search *s = l->search;
	const struct tt_candidate *site = s->chosen;
	uint32_t k = s->n_candidates;
	s->max_candidates++;
	TT_TRY(tt_fit_add(s, l->out->weighing.weigher.most, site->mix, site->push, err));
	if (s->n_candidates == k)
		return TT_OK;
	struct tt_candidate *found = &s->candidates[k];
	found->gate = &l->out->weighing.gate;
	tt_policy_free(found->policy);
	found->policy = NULL;
	TT_TRY(open_policy(l, found, err));
	TT_TRY(tt_fit_judge_candidates(s, &found, 1, s->judge->n, "weights by prompt", "fluency of weights", err));
	l->out->found = found;
	tt_fit_prefer(s, found, "layer weights by prompt, better than the best site by more than half a prompt");
	return TT_OK;
}

static int learn(struct learning *l, const struct tt_fit_rows *rows, uint64_t seed, struct tt_error *err)
{
	struct tt_fit_features view = {.n = l->n, .prompt = l->detector->features.prompt};
	size_t d = l->detector->features.d;
	TT_TRY(tt_alloc(&l->fold, l->n, sizeof *l->fold, err));
	TT_TRY(tt_alloc(&l->row_x, l->n, d * sizeof *l->row_x, err));
	TT_TRY(tt_alloc(&l->row_target, l->n, l->n_layers * sizeof *l->row_target, err));
	TT_TRY(tt_alloc(&l->row_value, l->n, TT_N_PROMPT_SHAPES * sizeof *l->row_value, err));
	view.fold = l->fold;
	TT_TRY(tt_fit_assign_folds(&view, err));
	TT_TRY(add_shapes(l, err));
	TT_TRY(measure_shapes(l, err));
	TT_TRY(train_without(l, &l->out->weighing, UINT32_MAX, seed, err));
	TT_TRY(hold_out(l, seed, err));
	TT_TRY(measure_push(l, rows, err));
	return compare_with_site(l, err);
}

int tt_fit_learn_prompt_weights(struct tt_fit_prompt_weights *out, struct tt_fit_search *search,
	struct tt_fit_judge *train, const struct tt_fit_rows *rows, uint32_t n, uint64_t seed, struct tt_error *err)
{
	struct learning l = {.out = out,
		.search = search,
		.train = train,
		.detector = tt_fit_detector_of(search->gate),
		.n = n,
		.n_layers = search->info->n_layers};
	*out = (struct tt_fit_prompt_weights){.site = search->chosen, .n_prompts = n, .shapes = *search};
	out->shapes.judge = train;
	out->shapes.candidates = NULL;
	out->shapes.n_candidates = 0;
	out->shapes.max_candidates = TT_N_PROMPT_SHAPES;
	if (!l.detector)
		return tt_fail(err, TT_ERR_ARGUMENT, "layer weights by prompt need a gate that was trained");
	l.x = l.detector->features.x; /* the harmful train rows come first */
	int status = learn(&l, rows, seed, err);
	free(l.fold);
	free(l.trials);
	free(l.row_x);
	free(l.row_target);
	free(l.row_value);
	return status;
}

void tt_fit_prompt_weights_free(struct tt_fit_prompt_weights *weights)
{
	if (!weights->site)
		return;
	tt_fit_search_free(&weights->shapes);
	weighing_free(&weights->weighing);
	*weights = (struct tt_fit_prompt_weights){0};
}
