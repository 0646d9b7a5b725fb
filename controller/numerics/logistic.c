#include "controller/numerics/logistic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"

enum { HISTORY = 8, MAX_ITERATIONS = 300, MAX_HALVINGS = 40 };

struct problem {
	size_t n, d;
	double *x;         // [n][d] standardised
	double *sign;      // [n] +1 or -1
	double *weight;    // [n] of each row; their sum is 1
	double *mean, *sd; // [d]
	double l2;
};

static double dot(const double *a, const double *b, size_t n)
{
	double sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

/* Objective and gradient at theta = (w, b): mean log loss + l2 |w|^2. */
static double evaluate(const struct problem *p, const double *theta, double *gradient)
{
	double loss = p->l2 * dot(theta, theta, p->d);
	for (size_t j = 0; j < p->d; j++)
		gradient[j] = 2 * p->l2 * theta[j];
	gradient[p->d] = 0;
	for (size_t i = 0; i < p->n; i++) {
		const double *row = p->x + i * p->d;
		double margin = p->sign[i] * (dot(theta, row, p->d) + theta[p->d]);
		/* log(1 + exp(-margin)) and its slope, without overflow for large margins of either sign */
		double e = exp(-fabs(margin));
		loss += p->weight[i] * ((margin > 0 ? 0 : -margin) + log1p(e));
		double slope = -p->sign[i] * p->weight[i] * (margin > 0 ? e : 1) / (1 + e);
		for (size_t j = 0; j < p->d; j++)
			gradient[j] += slope * row[j];
		gradient[p->d] += slope;
	}
	return loss;
}

/* The last HISTORY steps s and gradient changes y; entry i is at i % HISTORY. */
struct history {
	double *s, *y; // [HISTORY][n]
	double rho[HISTORY];
	size_t count;
};

/* direction = -H gradient, by L-BFGS's two-loop recursion. */
static void direction_of(const struct history *h, const double *gradient, size_t n, double *direction)
{
	double alpha[HISTORY];
	size_t used = h->count < HISTORY ? h->count : HISTORY;
	for (size_t i = 0; i < n; i++)
		direction[i] = -gradient[i];
	for (size_t k = 0; k < used; k++) {
		size_t slot = (h->count - 1 - k) % HISTORY;
		alpha[slot] = h->rho[slot] * dot(h->s + slot * n, direction, n);
		for (size_t i = 0; i < n; i++)
			direction[i] -= alpha[slot] * h->y[slot * n + i];
	}
	if (used) {
		size_t slot = (h->count - 1) % HISTORY;
		double scale = 1 / (h->rho[slot] * dot(h->y + slot * n, h->y + slot * n, n));
		for (size_t i = 0; i < n; i++)
			direction[i] *= scale;
	}
	for (size_t k = used; k-- > 0;) {
		size_t slot = (h->count - 1 - k) % HISTORY;
		double beta = h->rho[slot] * dot(h->y + slot * n, direction, n);
		for (size_t i = 0; i < n; i++)
			direction[i] += (alpha[slot] - beta) * h->s[slot * n + i];
	}
}

static void remember(struct history *h, const double *theta, const double *next, const double *gradient,
	const double *next_gradient, size_t n)
{
	size_t slot = h->count % HISTORY;
	double *s = h->s + slot * n, *y = h->y + slot * n;
	for (size_t i = 0; i < n; i++) {
		s[i] = next[i] - theta[i];
		y[i] = next_gradient[i] - gradient[i];
	}
	double curvature = dot(s, y, n);
	if (!(curvature > 1e-300))
		return;
	h->rho[slot] = 1 / curvature;
	h->count++;
}

/* Halves the step until the objective falls enough for its slope (Armijo's condition). Returns false if no step does,
 * as near the minimum, where rounding decides. */
static bool line_search(const struct problem *p, const double *theta, const double *direction, double slope,
	double *loss, double *next, double *next_gradient)
{
	double step = 1, start = *loss;
	for (int k = 0; k < MAX_HALVINGS; k++, step /= 2) {
		for (size_t i = 0; i <= p->d; i++)
			next[i] = theta[i] + step * direction[i];
		double value = evaluate(p, next, next_gradient);
		if (value <= start + 1e-4 * step * slope) {
			*loss = value;
			return true;
		}
	}
	return false;
}

static int minimise(const struct problem *p, double *theta, double *loss, struct tt_error *err)
{
	size_t n = p->d + 1, rows = 2 * HISTORY + 4;
	double *memory = NULL;
	TT_TRY(tt_alloc(&memory, rows * n, sizeof *memory, err));
	double *gradient = memory, *next = memory + n, *next_gradient = memory + 2 * n, *direction = memory + 3 * n;
	struct history h = {.s = memory + 4 * n, .y = memory + (4 + HISTORY) * n};
	*loss = evaluate(p, theta, gradient);
	double first = sqrt(dot(gradient, gradient, n));
	for (int k = 0; k < MAX_ITERATIONS; k++) {
		if (sqrt(dot(gradient, gradient, n)) <= 1e-7 * (first > 1 ? first : 1))
			break;
		direction_of(&h, gradient, n, direction);
		double slope = dot(gradient, direction, n);
		if (!(slope < 0) || !line_search(p, theta, direction, slope, loss, next, next_gradient))
			break;
		remember(&h, theta, next, gradient, next_gradient, n);
		memcpy(theta, next, n * sizeof *theta);
		memcpy(gradient, next_gradient, n * sizeof *gradient);
	}
	free(memory);
	return TT_OK;
}

static void standardise(struct problem *p, const struct tt_logistic *data)
{
	for (size_t j = 0; j < p->d; j++) {
		double sum = 0, squares = 0;
		for (size_t i = 0; i < p->n; i++)
			sum += data->x[i * data->stride + j];
		p->mean[j] = sum / (double)p->n;
		for (size_t i = 0; i < p->n; i++) {
			double x = data->x[i * data->stride + j] - p->mean[j];
			squares += x * x;
		}
		/* A feature that does not vary is left out, rather than divided by almost nothing. */
		double sd = sqrt(squares / (double)p->n);
		p->sd[j] = sd > 1e-6 * (1 + fabs(p->mean[j])) ? sd : 0;
		for (size_t i = 0; i < p->n; i++)
			p->x[i * p->d + j] = p->sd[j] > 0 ? (data->x[i * data->stride + j] - p->mean[j]) / p->sd[j] : 0;
	}
}

static int weigh(struct problem *p, const struct tt_logistic *data, struct tt_error *err)
{
	size_t n_true = 0;
	for (size_t i = 0; i < p->n; i++)
		n_true += data->label[i];
	if (n_true == 0 || n_true == p->n)
		return tt_fail(err, TT_ERR_ARGUMENT, "a probe needs rows of both labels");
	for (size_t i = 0; i < p->n; i++) {
		p->sign[i] = data->label[i] ? 1 : -1;
		p->weight[i] = 0.5 / (double)(data->label[i] ? n_true : p->n - n_true);
	}
	return TT_OK;
}

/* Converts the weights to the features as given: theta.(x - mean) / sd + bias = w.x + b. */
static int fold(const struct problem *p, const double *theta, float *w, float *b, struct tt_error *err)
{
	double bias = theta[p->d];
	for (size_t j = 0; j < p->d; j++) {
		double weight = p->sd[j] > 0 ? theta[j] / p->sd[j] : 0;
		w[j] = (float)weight;
		/* With the weight rounded to f32, so that the mean of the features gives the logit of the fit. */
		bias -= (double)w[j] * p->mean[j];
		if (!isfinite(w[j]))
			return tt_fail(err, TT_ERR_FORMAT, "a probe's weight is not finite");
	}
	*b = (float)bias;
	return isfinite(*b) ? TT_OK : tt_fail(err, TT_ERR_FORMAT, "a probe's bias is not finite");
}

int tt_logistic_fit(const struct tt_logistic *data, float *w, float *b, double *loss, struct tt_error *err)
{
	struct problem p = {.n = data->n, .d = data->d, .l2 = data->l2};
	double *theta = NULL, value = 0;
	size_t elements = 0;
	if (!tt_mul_size(data->n, data->d, &elements))
		return tt_fail(err, TT_ERR_MEMORY, "a probe over %zu rows of %zu is too large", data->n, data->d);
	int status = tt_alloc(&p.x, elements, sizeof *p.x, err);
	if (status == TT_OK)
		status = tt_alloc(&p.sign, 2 * data->n, sizeof *p.sign, err);
	if (status == TT_OK)
		status = tt_alloc(&theta, 3 * data->d + 1, sizeof *theta, err);
	if (status == TT_OK) {
		p.weight = p.sign + data->n;
		p.mean = theta + data->d + 1;
		p.sd = p.mean + data->d;
		status = weigh(&p, data, err);
	}
	if (status == TT_OK) {
		standardise(&p, data);
		status = minimise(&p, theta, &value, err);
	}
	if (status == TT_OK)
		status = fold(&p, theta, w, b, err);
	if (loss)
		*loss = value;
	free(p.x);
	free(p.sign);
	free(theta);
	return status;
}
