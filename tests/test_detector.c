/* The detector of harmful prompts: what its two terms learn, that a row is judged without its fold, and that the
 * weights that a policy gets are those that were measured. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/train/detector.h"
#include "golden.h"

enum { N = 600, HALF = 300, FEW = 150, D = 24, N_FOLDS = 5 };

struct made {
	size_t n;
	float x[N * D];
	bool harmful[N];
	double weight[N];
	uint8_t fold[N];
};

static double draw(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return (double)(*state >> 8) / (1 << 24) * 2 - 1;
}

/* A little of the evidence lies along feature 0; the rest is whether features 1 and 2 have the same sign, which no
 * linear term can tell. */
static struct made *make(uint32_t seed, size_t n)
{
	static struct made m;
	m.n = n;
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < D; j++)
			m.x[i * D + j] = (float)draw(&seed);
		m.harmful[i] = 0.5 * (double)m.x[i * D] + 4 * (double)m.x[i * D + 1] * (double)m.x[i * D + 2] > 0;
		m.weight[i] = 1;
		m.fold[i] = (uint8_t)(i * N_FOLDS / n);
	}
	return &m;
}

static struct tt_detector train(const struct made *m, bool network)
{
	struct tt_detector detector;
	const struct tt_detector_rows rows = {
		.features = {.x = m->x, .weight = m->weight, .n = m->n, .d = D, .stride = D},
		.harmful = m->harmful,
		.fold = m->fold,
		.n_folds = N_FOLDS,
	};
	const struct tt_detector_options options = {.network = network, .seed = 3};
	must(tt_detector_train(&detector, &rows, &options, err));
	return detector;
}

/* The logit that a policy computes, from the weights alone. */
static double logit_of(const struct tt_detector *d, const float *x)
{
	double logit = (double)d->b;
	for (size_t j = 0; j < D; j++)
		logit += (double)d->w[j] * (double)x[j];
	for (size_t u = 0; d->network && u < d->network->units; u++) {
		double z = (double)d->network->bias1[u];
		for (size_t j = 0; j < D; j++)
			z += (double)d->network->fc1[u * D + j] * (double)x[j];
		logit += z > 0 ? z * (double)d->network->fc2[u] : 0;
	}
	return logit + (d->network ? (double)d->network->bias2[0] : 0);
}

/* And on rows that it has never seen, the weights decide as the held-out logits promised, and log-odds are calibrated:
 * of the rows at p about 0.8 some 0.8 are harmful. */
Test(detector, the_network_sees_what_no_line_can)
{
	struct tt_detector d = train(make(1, N), true);
	cr_expect(d.linear_auc > 0.5 && d.linear_auc < 0.7, "linear %g", d.linear_auc);
	cr_expect_gt(d.network_auc, 0.9);
	cr_expect_gt(d.auc, 0.9);

	const struct made *fresh = make(77, N);
	double right = 0, held_right = 0, sum_p = 0, n_harmful = 0;
	for (size_t i = 0; i < N; i++) {
		double logit = logit_of(&d, fresh->x + i * D);
		right += (logit > 0) == fresh->harmful[i];
		sum_p += 1 / (1 + exp(-logit));
		n_harmful += fresh->harmful[i];
	}
	const struct made *trained = make(1, N);
	for (size_t i = 0; i < N; i++)
		held_right += (d.held[i] > 0) == trained->harmful[i];
	cr_expect_float_eq(right / N, held_right / N, 0.06, "%g of new rows, %g held out", right / N, held_right / N);
	cr_expect_float_eq(sum_p / N, n_harmful / N, 0.06);
	tt_detector_free(&d);
}

Test(detector, without_a_network_the_line_is_the_whole_of_it)
{
	struct tt_detector d = train(make(1, N), false);
	cr_expect(d.network == NULL && isnan(d.network_auc));
	cr_expect_float_eq(d.auc, d.linear_auc, 1e-12, "a logistic curve keeps the order");
	tt_detector_free(&d);
}

/* A row's own label, and those of its fold, do not reach its terms: with every second label of a fold turned round, its
 * rows keep their order but for how much each term then counts. */
Test(detector, a_row_is_judged_without_its_fold)
{
	struct made *m = make(5, HALF);
	struct tt_detector before = train(m, true);
	for (size_t i = 0; i < HALF; i++)
		m->harmful[i] ^= m->fold[i] == 2 && i % 2;
	struct tt_detector after = train(m, true);
	size_t n = 0, turned = 0;
	for (size_t i = 2 * HALF / N_FOLDS; i < 3 * HALF / N_FOLDS; i++)
		for (size_t k = 2 * HALF / N_FOLDS; k < i; k++, n++)
			turned += (before.held[i] > before.held[k]) != (after.held[i] > after.held[k]);
	cr_expect_lt(turned, n / 20, "%zu of %zu pairs", turned, n);
	tt_detector_free(&before);
	tt_detector_free(&after);
}

Test(detector, the_same_rows_give_the_same_bits)
{
	const struct made *m = make(9, FEW);
	struct tt_detector a = train(m, true), b = train(m, true);
	cr_expect_eq(memcmp(a.w, b.w, D * sizeof *a.w), 0);
	cr_expect_eq(memcmp(a.network->fc1, b.network->fc1, a.network->units * D * sizeof(float)), 0);
	cr_expect_eq(memcmp(a.held, b.held, FEW * sizeof *a.held), 0);
	tt_detector_free(&a);
	tt_detector_free(&b);
}
