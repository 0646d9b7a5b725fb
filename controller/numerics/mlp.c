#include "controller/numerics/mlp.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/random.h"
#include "controller/numerics/product.h"

/* A batch on its way through the layers and back. */
struct pass {
	size_t batch;
	float *x;      // [batch][d]
	float *hidden; // [batch][units] after relu
	float *z;      // [batch][outputs]; then the loss's slope there
	float *slope;  // [batch][units] the loss's slope before relu
	float *panel;  // [TT_PRODUCT_PANEL]
};

static size_t n_weights(const struct tt_mlp *mlp)
{
	return mlp->units * (mlp->d + 1) + mlp->outputs * (mlp->units + 1);
}

/* Lets the members point into memory [n_weights]. */
static void place(struct tt_mlp *mlp, float *memory)
{
	mlp->fc1 = memory;
	mlp->bias1 = mlp->fc1 + mlp->units * mlp->d;
	mlp->fc2 = mlp->bias1 + mlp->units;
	mlp->bias2 = mlp->fc2 + mlp->outputs * mlp->units;
}

int tt_mlp_open(struct tt_mlp **out, size_t d, size_t units, size_t outputs, struct tt_error *err)
{
	size_t first, second, n;
	float *memory = NULL;
	struct tt_mlp *mlp = NULL;
	if (!d || !units || !outputs)
		return tt_fail(err, TT_ERR_ARGUMENT, "a perceptron needs features, units and outputs");
	if (!tt_add_size(d, 1, &n) || !tt_mul_size(units, n, &first) || !tt_add_size(units, 1, &n) ||
		!tt_mul_size(outputs, n, &second) || !tt_add_size(first, second, &n))
		return tt_fail(
			err, TT_ERR_MEMORY, "a perceptron of %zu units over %zu features is too large", units, d);
	TT_TRY(tt_alloc(&mlp, 1, sizeof *mlp, err));
	int status = tt_alloc_aligned(&memory, n, sizeof *memory, err);
	if (status != TT_OK) {
		free(mlp);
		return status;
	}
	*mlp = (struct tt_mlp){.d = d, .units = units, .outputs = outputs};
	place(mlp, memory);
	*out = mlp;
	return TT_OK;
}

void tt_mlp_close(struct tt_mlp *mlp)
{
	if (!mlp)
		return;
	free(mlp->fc1);
	free(mlp);
}

static void spread(float *weight, size_t n, size_t n_in, uint64_t *random)
{
	double bound = 1 / sqrt((double)n_in);
	for (size_t i = 0; i < n; i++)
		weight[i] = (float)(bound * (2 * tt_random_unit(random) - 1));
}

void tt_mlp_start(struct tt_mlp *mlp, uint64_t seed)
{
	spread(mlp->fc1, mlp->units * mlp->d, mlp->d, &seed);
	spread(mlp->bias1, mlp->units, mlp->d, &seed);
	spread(mlp->fc2, mlp->outputs * mlp->units, mlp->units, &seed);
	spread(mlp->bias2, mlp->outputs, mlp->units, &seed);
}

static void pass_free(struct pass *p)
{
	free(p->x);
	free(p->hidden);
	free(p->z);
	free(p->slope);
	free(p->panel);
}

static int pass_alloc(struct pass *p, const struct tt_mlp *mlp, size_t batch, struct tt_error *err)
{
	/* The widths times a float are sizes: mlp has as many weights at least. */
	TT_TRY(tt_alloc(&p->x, batch, mlp->d * sizeof *p->x, err));
	TT_TRY(tt_alloc(&p->hidden, batch, mlp->units * sizeof *p->hidden, err));
	TT_TRY(tt_alloc(&p->z, batch, mlp->outputs * sizeof *p->z, err));
	TT_TRY(tt_alloc(&p->slope, batch, mlp->units * sizeof *p->slope, err));
	return tt_alloc_aligned(&p->panel, TT_PRODUCT_PANEL, sizeof *p->panel, err);
}

/* y [n_rows][n_out] = x [n_rows][n_in] weight^T + bias. */
static void linear(struct pass *p, const float *x, size_t n_in, const float *weight, const float *bias, size_t n_out,
	size_t n_rows, float *y)
{
	for (size_t i = 0; i < n_rows; i++)
		memcpy(y + i * n_out, bias, n_out * sizeof *y);
	const struct tt_product_f32 product = {
		.a = x,
		.b = weight,
		.a_row = n_in,
		.a_column = 1,
		.b_row = 1,
		.b_column = n_in,
		.c = y,
		.c_row = n_out,
		.n_rows = n_rows,
		.n_columns = n_out,
		.depth = n_in,
		.scale = 1,
	};
	tt_product_f32(&product, p->panel);
}

/* hidden and z of the first n_rows of x. */
static void forward(const struct tt_mlp *mlp, struct pass *p, size_t n_rows)
{
	linear(p, p->x, mlp->d, mlp->fc1, mlp->bias1, mlp->units, n_rows, p->hidden);
	for (size_t i = 0; i < n_rows * mlp->units; i++)
		p->hidden[i] = p->hidden[i] > 0 ? p->hidden[i] : 0;
	linear(p, p->hidden, mlp->units, mlp->fc2, mlp->bias2, mlp->outputs, n_rows, p->z);
}

/* gradient [n_out][n_in] = slope^T x and bias_gradient = the sum of slope's rows. */
static void linear_gradient(struct pass *p, const float *slope, size_t n_out, const float *x, size_t n_in,
	size_t n_rows, float *gradient, float *bias_gradient)
{
	memset(gradient, 0, n_out * n_in * sizeof *gradient);
	const struct tt_product_f32 product = {
		.a = slope,
		.b = x,
		.a_row = 1,
		.a_column = n_out,
		.b_row = n_in,
		.b_column = 1,
		.c = gradient,
		.c_row = n_in,
		.n_rows = n_out,
		.n_columns = n_in,
		.depth = n_rows,
		.scale = 1,
	};
	tt_product_f32(&product, p->panel);
	memset(bias_gradient, 0, n_out * sizeof *bias_gradient);
	for (size_t i = 0; i < n_rows; i++)
		for (size_t j = 0; j < n_out; j++)
			bias_gradient[j] += slope[i * n_out + j];
}

/* The gradient of all weights, from the loss's slope at z. */
static void backward(const struct tt_mlp *mlp, struct pass *p, size_t n_rows, struct tt_mlp *gradient)
{
	linear_gradient(p, p->z, mlp->outputs, p->hidden, mlp->units, n_rows, gradient->fc2, gradient->bias2);
	memset(p->slope, 0, n_rows * mlp->units * sizeof *p->slope);
	const struct tt_product_f32 product = {
		.a = p->z,
		.b = mlp->fc2,
		.a_row = mlp->outputs,
		.a_column = 1,
		.b_row = mlp->units,
		.b_column = 1,
		.c = p->slope,
		.c_row = mlp->units,
		.n_rows = n_rows,
		.n_columns = mlp->units,
		.depth = mlp->outputs,
		.scale = 1,
	};
	tt_product_f32(&product, p->panel);
	for (size_t i = 0; i < n_rows * mlp->units; i++)
		p->slope[i] = p->hidden[i] > 0 ? p->slope[i] : 0;
	linear_gradient(p, p->slope, mlp->units, p->x, mlp->d, n_rows, gradient->fc1, gradient->bias1);
}

void tt_mlp_options_default(struct tt_mlp_options *options)
{
	*options = (struct tt_mlp_options){
		.epochs = 30,
		.batch = 64,
		.learning_rate = 1e-3,
		.weight_decay = 1e-2,
		.beta1 = 0.9,
		.beta2 = 0.999,
		.epsilon = 1e-8,
	};
}

size_t tt_mlp_n_steps(size_t n_rows, const struct tt_mlp_options *options)
{
	size_t steps = 0, parts = options->halves == TT_MLP_APART ? 2 : 1, n = n_rows / parts;
	if (!options->batch)
		return 0;
	size_t each = n / options->batch + (n % options->batch != 0);
	return tt_mul_size(options->epochs, parts * each, &steps) ? steps : SIZE_MAX;
}

/* Written so that NaN is refused too. */
static int check(
	const struct tt_mlp *mlp, const struct tt_mlp_data *data, const struct tt_mlp_options *o, struct tt_error *err)
{
	const struct tt_rows *rows = &data->rows;
	if (!rows->n || rows->d != mlp->d || rows->stride < rows->d)
		return tt_fail(err, TT_ERR_ARGUMENT, "a perceptron over %zu features needs rows of as many", mlp->d);
	if (!o->batch || !(o->learning_rate >= 0 && isfinite(o->learning_rate)) ||
		!(o->weight_decay >= 0 && isfinite(o->weight_decay)) || !(o->epsilon > 0 && isfinite(o->epsilon)))
		return tt_fail(err, TT_ERR_ARGUMENT,
			"training needs a batch and an epsilon above 0, and a rate and a decay that are not below it");
	if (!(o->beta1 >= 0 && o->beta1 < 1) || !(o->beta2 >= 0 && o->beta2 < 1))
		return tt_fail(err, TT_ERR_ARGUMENT, "AdamW's betas must be at least 0 and below 1");
	if (!(o->clip_norm >= 0))
		return tt_fail(err, TT_ERR_ARGUMENT, "the longest gradient must be at least 0");
	if (!(o->input_dropout >= 0 && o->input_dropout < 1))
		return tt_fail(err, TT_ERR_ARGUMENT, "the dropout must be at least 0 and below 1");
	if (o->order == TT_MLP_DRAWN && !rows->weight)
		return tt_fail(err, TT_ERR_ARGUMENT, "batches that are drawn by weights need weights");
	if (o->halves != TT_MLP_ALIKE && (rows->n % 2 || o->order == TT_MLP_DRAWN))
		return tt_fail(err, TT_ERR_ARGUMENT, "rows of two kinds must be as many of both, and not be drawn");
	if (o->n_targets > mlp->outputs || !(o->pull >= 0 && isfinite(o->pull)))
		return tt_fail(err, TT_ERR_ARGUMENT, "targets are of the outputs there are, and the pull is 0 or more");
	return TT_OK;
}

/* One training. Optimiser state is laid out as the weights are. */
struct training {
	struct tt_mlp *mlp;
	const struct tt_mlp_data *data;
	const struct tt_mlp_options *options;
	struct pass pass;
	struct tt_mlp gradient;
	float *first, *second; // [n_weights] running means of the gradient and of its square
	size_t *order;         // [n] rows of this epoch
	double *reach;         // [n] weights of the rows up to and with each, to draw by
	size_t *rows;          // [batch] rows of this step
	uint64_t order_random, dropout_random;
};

static void training_free(struct training *t)
{
	pass_free(&t->pass);
	free(t->gradient.fc1);
	free(t->first);
	free(t->second);
	free(t->order);
	free(t->reach);
	free(t->rows);
}

static int training_alloc(struct training *t, struct tt_error *err)
{
	const struct tt_rows *rows = &t->data->rows;
	size_t batch = t->options->batch, n = n_weights(t->mlp);
	float *gradient = NULL;
	if (t->options->order != TT_MLP_DRAWN && batch > rows->n)
		batch = rows->n;
	t->pass.batch = batch;
	TT_TRY(pass_alloc(&t->pass, t->mlp, batch, err));
	TT_TRY(tt_alloc_aligned(&gradient, n, sizeof *gradient, err));
	t->gradient = *t->mlp;
	place(&t->gradient, gradient);
	TT_TRY(tt_alloc_aligned(&t->first, n, sizeof *t->first, err));
	TT_TRY(tt_alloc_aligned(&t->second, n, sizeof *t->second, err));
	TT_TRY(tt_alloc(&t->order, rows->n, sizeof *t->order, err));
	TT_TRY(tt_alloc(&t->reach, rows->n, sizeof *t->reach, err));
	TT_TRY(tt_alloc(&t->rows, batch, sizeof *t->rows, err));
	double sum = 0;
	for (size_t i = 0; i < rows->n; i++) {
		double weight = tt_row_weight(rows, i);
		if (!(weight >= 0 && isfinite(weight)))
			return tt_fail(err, TT_ERR_ARGUMENT, "the weight of row %zu is not a number from 0 on", i);
		t->order[i] = i;
		t->reach[i] = sum += weight;
	}
	return sum > 0 && isfinite(sum) ? TT_OK : tt_fail(err, TT_ERR_ARGUMENT, "all weights of the rows are 0");
}

/* The first row whose weight reaches over a random share of them all. */
static size_t draw(struct training *t)
{
	size_t low = 0, high = t->data->rows.n - 1;
	double at = tt_random_unit(&t->order_random) * t->reach[high];
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (t->reach[middle] > at)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static void shuffle_part(struct training *t, size_t *order, size_t n)
{
	for (size_t i = n; i > 1; i--) {
		size_t k = (size_t)(tt_random_next(&t->order_random) % i), swap = order[i - 1];
		order[i - 1] = order[k];
		order[k] = swap;
	}
}

static void shuffle(struct training *t)
{
	size_t n = t->data->rows.n, first = t->options->halves == TT_MLP_ALIKE ? n : n / 2;
	shuffle_part(t, t->order, first);
	shuffle_part(t, t->order + first, n - first);
}

/* Chooses the rows of a step that begins at `at` of an epoch, and gives how many. */
static size_t choose(struct training *t, size_t at)
{
	enum tt_mlp_halves halves = t->options->halves;
	size_t half = t->data->rows.n / 2, end = halves == TT_MLP_APART && at < half ? half : t->data->rows.n;
	size_t n = end - at < t->pass.batch ? end - at : t->pass.batch;
	if (t->options->order == TT_MLP_DRAWN)
		n = t->pass.batch;
	for (size_t i = 0; i < n; i++) {
		size_t k = halves == TT_MLP_IN_TURN ? (at + i) / 2 + (at + i) % 2 * half : at + i;
		t->rows[i] = t->options->order == TT_MLP_DRAWN ? draw(t) : t->order[k];
	}
	return n;
}

static void gather(struct training *t, size_t n)
{
	const struct tt_rows *rows = &t->data->rows;
	double dropout = t->options->input_dropout;
	float kept = (float)(1 / (1 - dropout));
	for (size_t i = 0; i < n; i++) {
		float *x = t->pass.x + i * rows->d;
		memcpy(x, rows->x + t->rows[i] * rows->stride, rows->d * sizeof *x);
		for (size_t j = 0; j < rows->d && dropout > 0; j++)
			x[j] = tt_random_unit(&t->dropout_random) < dropout ? 0 : kept * x[j];
	}
}

/* log(1 + e^z) and its slope, the sigmoid, without overflow. */
static double softplus(double z, double *sigmoid)
{
	double e = exp(-fabs(z));
	*sigmoid = (z > 0 ? 1 : e) / (1 + e);
	return (z > 0 ? z : 0) + log1p(e);
}

static double loss_of(enum tt_mlp_loss loss, double z, double target, double *slope)
{
	if (loss == TT_MLP_SQUARED) {
		*slope = 2 * (z - target);
		return (z - target) * (z - target);
	}
	double all = softplus(z, slope);
	*slope -= target;
	return all - z * target;
}

/* |w - 1/2| + w / 100, w = sigmoid(z). In the middle the slope of |w - 1/2| is 0, as PyTorch's. */
static double pull_of(double z, double *slope)
{
	double w;
	softplus(z, &w);
	*slope = ((w > 0.5) - (w < 0.5) + 0.01) * w * (1 - w);
	return fabs(w - 0.5) + 0.01 * w;
}

/* The mean loss at z, whose place its slope takes. */
static double take_loss(struct training *t, size_t n)
{
	const struct tt_mlp_options *o = t->options;
	size_t outputs = t->mlp->outputs, n_targets = o->n_targets ? o->n_targets : outputs;
	double sum = 0, pulled = 0, count = (double)n * (double)n_targets, others = (double)n * (double)outputs - count;
	for (size_t i = 0; i < n; i++) {
		const float *target = t->data->target + t->rows[i] * n_targets;
		double weight = o->order == TT_MLP_DRAWN ? 1 : tt_row_weight(&t->data->rows, t->rows[i]), slope;
		bool pulls = o->pull > 0 && target[0] > 0.5f;
		for (size_t j = 0; j < outputs; j++) {
			float *z = &t->pass.z[i * outputs + j];
			if (j < n_targets) {
				sum += weight * loss_of(o->loss, (double)*z, (double)target[j], &slope);
				*z = (float)(weight * slope / count);
			} else if (pulls) {
				pulled += weight * pull_of((double)*z, &slope);
				*z = (float)(weight * o->pull * slope / others);
			} else {
				*z = 0;
			}
		}
	}
	return sum / count + (others > 0 ? o->pull * pulled / others : 0);
}

/* PyTorch's clip_grad_norm_ and AdamW; step counts from 1. */
static void adjust(struct training *t, size_t step, double length)
{
	const struct tt_mlp_options *o = t->options;
	size_t n = n_weights(t->mlp);
	float *weight = t->mlp->fc1, *gradient = t->gradient.fc1;
	double clip = o->clip_norm > 0 && o->clip_norm < length + 1e-6 ? o->clip_norm / (length + 1e-6) : 1;
	const float shorten = (float)clip, decay = (float)(1 - o->learning_rate * o->weight_decay);
	const float beta1 = (float)o->beta1, beta2 = (float)o->beta2, epsilon = (float)o->epsilon;
	const float rest1 = (float)(1 - o->beta1), rest2 = (float)(1 - o->beta2);
	const float rate = (float)(o->learning_rate / (1 - pow(o->beta1, (double)step)));
	const float root = (float)sqrt(1 - pow(o->beta2, (double)step));
	for (size_t i = 0; i < n; i++) {
		float g = shorten * gradient[i];
		t->first[i] = beta1 * t->first[i] + rest1 * g;
		t->second[i] = beta2 * t->second[i] + rest2 * g * g;
		weight[i] = decay * weight[i] - rate * t->first[i] / (sqrtf(t->second[i]) / root + epsilon);
	}
}

static double length_of(const struct training *t)
{
	double sum = 0;
	for (size_t i = 0, n = n_weights(t->mlp); i < n; i++)
		sum += (double)t->gradient.fc1[i] * (double)t->gradient.fc1[i];
	return sqrt(sum);
}

static int run_epochs(struct training *t, double *losses, struct tt_error *err)
{
	size_t step = 0, n_rows = t->data->rows.n;
	for (size_t epoch = 0; epoch < t->options->epochs; epoch++) {
		if (t->options->order == TT_MLP_SHUFFLED)
			shuffle(t);
		for (size_t at = 0, n; at < n_rows; at += n < n_rows - at ? n : n_rows - at) {
			n = choose(t, at);
			gather(t, n);
			forward(t->mlp, &t->pass, n);
			double loss = take_loss(t, n);
			backward(t->mlp, &t->pass, n, &t->gradient);
			double length = length_of(t);
			if (!isfinite(loss) || !isfinite(length))
				return tt_fail(err, TT_ERR_FORMAT,
					"training went astray at step %zu: its loss is not finite", step + 1);
			if (losses)
				losses[step] = loss;
			adjust(t, ++step, length);
			if (t->options->after_step)
				TT_TRY(t->options->after_step(t->options->user, err));
		}
	}
	return TT_OK;
}

int tt_mlp_train(struct tt_mlp *mlp, const struct tt_mlp_data *data, const struct tt_mlp_options *options,
	double *losses, struct tt_error *err)
{
	struct training t = {.mlp = mlp, .data = data, .options = options, .order_random = options->seed};
	t.dropout_random = tt_random_next(&t.order_random);
	TT_TRY(check(mlp, data, options, err));
	int status = training_alloc(&t, err);
	if (status == TT_OK)
		status = run_epochs(&t, losses, err);
	training_free(&t);
	return status;
}

int tt_mlp_run(const struct tt_mlp *mlp, const struct tt_rows *rows, float *z, struct tt_error *err)
{
	struct pass p = {.batch = 64};
	if (rows->d != mlp->d || rows->stride < rows->d)
		return tt_fail(err, TT_ERR_ARGUMENT, "a perceptron over %zu features needs rows of as many", mlp->d);
	int status = pass_alloc(&p, mlp, p.batch, err);
	for (size_t i = 0; i < rows->n && status == TT_OK; i += p.batch) {
		size_t n = rows->n - i < p.batch ? rows->n - i : p.batch;
		for (size_t k = 0; k < n; k++)
			memcpy(p.x + k * mlp->d, rows->x + (i + k) * rows->stride, mlp->d * sizeof *p.x);
		forward(mlp, &p, n);
		memcpy(z + i * mlp->outputs, p.z, n * mlp->outputs * sizeof *z);
	}
	pass_free(&p);
	return status;
}

/* With a projection P (x - mean): fc1 of the new one is fc1 P, and its bias is less by fc1 P mean. */
int tt_mlp_unproject(struct tt_mlp **out, const struct tt_mlp *mlp, const struct tt_pca *pca, struct tt_error *err)
{
	struct tt_mlp *raw = NULL;
	float *panel = NULL;
	if (mlp->d != pca->k)
		return tt_fail(err, TT_ERR_ARGUMENT, "a perceptron over %zu features is none over %zu components",
			mlp->d, pca->k);
	TT_TRY(tt_alloc_aligned(&panel, TT_PRODUCT_PANEL, sizeof *panel, err));
	int status = tt_mlp_open(&raw, pca->d, mlp->units, mlp->outputs, err);
	if (status == TT_OK) {
		const struct tt_product_f32 product = {
			.a = mlp->fc1,
			.b = pca->projection,
			.a_row = mlp->d,
			.a_column = 1,
			.b_row = pca->d,
			.b_column = 1,
			.c = raw->fc1,
			.c_row = pca->d,
			.n_rows = mlp->units,
			.n_columns = pca->d,
			.depth = mlp->d,
			.scale = 1,
		};
		tt_product_f32(&product, panel);
		for (size_t u = 0; u < mlp->units; u++) {
			double bias = (double)mlp->bias1[u];
			for (size_t j = 0; j < pca->d; j++)
				bias -= (double)raw->fc1[u * pca->d + j] * (double)pca->mean[j];
			raw->bias1[u] = (float)bias;
		}
		memcpy(raw->fc2, mlp->fc2, mlp->outputs * (mlp->units + 1) * sizeof *raw->fc2);
		*out = raw;
	}
	free(panel);
	return status;
}
