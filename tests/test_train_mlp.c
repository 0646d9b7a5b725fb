/* The perceptron's training against PyTorch's, step by step, and what is random about it against its own chances. */
#include "controller/train/mlp.h"
#include "train_golden.h"

static const char *const PARTS[] = {"fc1", "bias1", "fc2", "bias2"};

static void read_weights(const struct tt_safetensors *file, const char *name, const char *when, struct tt_mlp *mlp)
{
	float *parts[] = {mlp->fc1, mlp->bias1, mlp->fc2, mlp->bias2};
	for (int k = 0; k < 4; k++) {
		size_t n;
		float *values = golden_array(file, sizeof *values, &n, "%s.%s.%s", name, when, PARTS[k]);
		memcpy(parts[k], values, n * sizeof *values);
		free(values);
	}
}

/* Another order of f32 sums moves a step by some 1e-7, which Adam's division by small roots and a hundred steps make
 * 1e-5 at most; a wrong term moves it by 1e-2. */
static void check(const char *name, struct tt_mlp_options *options, bool weighted)
{
	struct tt_safetensors *file = golden_open(GOLDEN("train/mlp.safetensors"));
	struct tt_mlp *mlp = NULL, *want = NULL;
	size_t n, n_x, n_target, n_losses;
	float *x = golden_array(file, sizeof *x, &n_x, "x");
	double *weight = golden_array(file, sizeof *weight, &n, "weight");
	float *target = golden_array(file, sizeof *target, &n_target, "%s.target", name);
	double *want_losses = golden_array(file, sizeof *want_losses, &n_losses, "%s.losses", name);
	float *want_z = golden_array(file, sizeof *want_z, &n_target, "%s.z", name), *z = malloc(n_target * sizeof *z);
	double *losses = malloc(n_losses * sizeof *losses);
	size_t d = n_x / n, outputs = n_target / n, units = golden_tensor(file, "squared.start.bias1")->n_elements;
	const struct tt_mlp_data data = {{x, weighted ? weight : NULL, n, d, d}, target};
	must(tt_mlp_open(&mlp, d, units, outputs, err));
	must(tt_mlp_open(&want, d, units, outputs, err));
	read_weights(file, name, "start", mlp);
	read_weights(file, name, "end", want);
	options->batch = 8;
	options->epochs = 20;
	options->order = TT_MLP_GIVEN;
	cr_assert(tt_mlp_n_steps(n, options) == n_losses && n_losses == 100);
	must(tt_mlp_train(mlp, &data, options, losses, err));
	for (size_t i = 0; i < n_losses; i++)
		cr_expect(fabs(losses[i] - want_losses[i]) <= 1e-4 * want_losses[i], "%s, step %zu: %g, not %g", name,
			i, losses[i], want_losses[i]);
	const float *got_parts[] = {mlp->fc1, mlp->bias1, mlp->fc2, mlp->bias2};
	const float *want_parts[] = {want->fc1, want->bias1, want->fc2, want->bias2};
	const size_t sizes[] = {units * d, units, outputs * units, outputs};
	for (int k = 0; k < 4; k++) {
		double error = relative_error(got_parts[k], want_parts[k], sizes[k]);
		cr_expect(error <= 1e-4, "%s: %s differs by %g", name, PARTS[k], error);
	}
	must(tt_mlp_run(mlp, &data.rows, z, err));
	double error = relative_error(z, want_z, n_target);
	cr_expect(error <= 1e-4, "%s: outputs differ by %g", name, error);
	tt_mlp_close(mlp);
	tt_mlp_close(want);
	free(x);
	free(weight);
	free(target);
	free(want_losses);
	free(want_z);
	free(z);
	free(losses);
	tt_safetensors_close(file);
}

Test(train_mlp, squared_error_with_clipping_and_decay_is_pytorchs)
{
	struct tt_mlp_options options;
	tt_mlp_options_default(&options);
	options.learning_rate = 1e-2;
	options.weight_decay = 0.1;
	options.clip_norm = 0.5;
	check("squared", &options, false);
}

Test(train_mlp, log_loss_of_soft_targets_and_weighted_rows_is_pytorchs)
{
	struct tt_mlp_options options;
	tt_mlp_options_default(&options);
	options.learning_rate = 3e-3;
	options.beta1 = 0.8;
	options.beta2 = 0.99;
	options.epsilon = 1e-6;
	options.loss = TT_MLP_LOGISTIC;
	check("logistic", &options, true);
}

/* Losses of a perceptron that says 0 and learns nothing: the squares of the targets that it was shown. */
static void show(const float *target, const double *weight, size_t n, struct tt_mlp_options *options, double *losses)
{
	struct tt_mlp *mlp = NULL;
	float *x = calloc(n, sizeof *x);
	const struct tt_mlp_data data = {{x, weight, n, 1, 1}, target};
	options->learning_rate = 0;
	must(tt_mlp_open(&mlp, 1, 1, 1, err));
	must(tt_mlp_train(mlp, &data, options, losses, err));
	tt_mlp_close(mlp);
	free(x);
}

Test(train_mlp, each_epoch_shows_every_row_once_in_an_order_of_its_own)
{
	enum { N = 40, EPOCHS = 5 };
	struct tt_mlp_options options;
	float target[N];
	double losses[2][EPOCHS * N], other[EPOCHS * N];
	tt_mlp_options_default(&options);
	options.batch = 1;
	options.epochs = EPOCHS;
	for (int i = 0; i < N; i++)
		target[i] = (float)i;
	show(target, NULL, N, &options, losses[0]);
	show(target, NULL, N, &options, losses[1]);
	options.seed = 1;
	show(target, NULL, N, &options, other);
	cr_expect_arr_eq(losses[0], losses[1], sizeof losses[0], "the same seed");
	cr_expect(memcmp(losses[0], other, sizeof other), "another seed");
	for (int epoch = 0; epoch < EPOCHS; epoch++) {
		int seen[N] = {0}, in_place = 0, as_before = 0;
		const double *at = losses[0] + epoch * N;
		for (int i = 0; i < N; i++) {
			seen[(int)round(sqrt(at[i]))]++;
			in_place += at[i] == (double)(i * i);
			as_before += epoch > 0 && at[i] == at[i - N];
		}
		for (int i = 0; i < N; i++)
			cr_expect_eq(seen[i], 1, "epoch %d, row %d", epoch, i);
		/* One on average; more than 8 of a good order have a chance of 1e-6. */
		cr_expect(in_place <= 8 && as_before <= 8, "epoch %d: %d, %d", epoch, in_place, as_before);
	}
}

Test(train_mlp, rows_are_drawn_by_their_weights)
{
	enum { N = 4, EPOCHS = 2000, BATCH = 10 };
	struct tt_mlp_options options;
	const float target[N] = {1000, 1, 0, 1000}; /* the outer ones have no weight */
	const double weight[N] = {0, 3, 1, 0};
	double losses[EPOCHS], mean = 0;
	tt_mlp_options_default(&options);
	options.batch = BATCH;
	options.epochs = EPOCHS;
	options.order = TT_MLP_DRAWN;
	cr_assert_eq(tt_mlp_n_steps(N, &options), EPOCHS, "a batch is whole, however few rows there are");
	show(target, weight, N, &options, losses);
	for (int i = 0; i < EPOCHS; i++) {
		double shown = losses[i] * BATCH;
		cr_expect(fabs(shown - round(shown)) <= 1e-9, "step %d: a mean of other than %d rows", i, BATCH);
		mean += losses[i] / EPOCHS;
	}
	/* Four deviations of a mean of 20,000 draws. */
	cr_expect(fabs(mean - 0.75) <= 4 * sqrt(0.75 * 0.25 / (EPOCHS * BATCH)), "%g", mean);
}

/* One unit that adds up x, against targets of 0: z is how many features were kept, over the share that is. */
Test(train_mlp, dropout_keeps_its_share_and_the_mean)
{
	enum { D = 100, N = 200 };
	struct tt_mlp_options options;
	struct tt_mlp *mlp = NULL;
	static float x[N * D], target[N];
	double losses[N], mean = 0, square = 0;
	tt_mlp_options_default(&options);
	options.learning_rate = 0;
	options.batch = 1;
	options.epochs = 1;
	options.input_dropout = 0.3;
	must(tt_mlp_open(&mlp, D, 1, 1, err));
	for (int i = 0; i < N * D; i++)
		x[i] = 1;
	for (int j = 0; j < D; j++)
		mlp->fc1[j] = 1;
	mlp->fc2[0] = 1;
	const struct tt_mlp_data data = {{x, NULL, N, D, D}, target};
	must(tt_mlp_train(mlp, &data, &options, losses, err));
	for (int i = 0; i < N; i++) {
		double z = sqrt(losses[i]), kept = z * 0.7;
		cr_expect(fabs(kept - round(kept)) <= 1e-4, "step %d: %g features", i, kept);
		mean += z / N;
		square += z * z / N;
	}
	/* z has a deviation of sqrt(D 0.3 / 0.7) = 6.5; its variance is known to a tenth. */
	double variance = D * 0.3 / 0.7;
	cr_expect(fabs(mean - D) <= 4 * sqrt(variance / N), "%g", mean);
	cr_expect(fabs(square - mean * mean - variance) <= 0.4 * variance, "%g", square - mean * mean);
	tt_mlp_close(mlp);
}

/* Moments of an even distribution, within four deviations. */
static void check_even(const float *weight, size_t n, double bound)
{
	double mean = 0, square = 0, most = 0;
	for (size_t i = 0; i < n; i++) {
		mean += (double)weight[i] / (double)n;
		square += (double)weight[i] * (double)weight[i] / (double)n;
		most = fmax(most, fabs((double)weight[i]));
	}
	double deviation = bound / sqrt(3);
	cr_expect(most <= bound * (1 + 1e-7) && most >= bound * (1 - 20 / (double)n), "%g within %g", most, bound);
	cr_expect(fabs(mean) <= 4 * deviation / sqrt((double)n), "%g", mean);
	cr_expect(fabs(square - deviation * deviation) <= 4 * bound * bound * sqrt(4.0 / 45 / (double)n), "%g", square);
}

Test(train_mlp, starts_as_a_linear_layer_of_torch)
{
	struct tt_mlp *mlp = NULL;
	must(tt_mlp_open(&mlp, 50, 400, 9, err));
	tt_mlp_start(mlp, 6);
	check_even(mlp->fc1, 400 * 50, 1 / sqrt(50));
	check_even(mlp->bias1, 400, 1 / sqrt(50));
	check_even(mlp->fc2, 9 * 400, 1 / sqrt(400));
	cr_expect(mlp->bias2[0] != 0 && fabs((double)mlp->bias2[8]) <= 1 / sqrt(400));
	tt_mlp_close(mlp);
}

/* Options of which one is wrong. */
static struct tt_mlp_options wrong(int k)
{
	struct tt_mlp_options o;
	tt_mlp_options_default(&o);
	double *const members[] = {
		&o.learning_rate, &o.weight_decay, &o.beta1, &o.beta2, &o.epsilon, &o.clip_norm, &o.input_dropout};
	if (k < 14)
		*members[k / 2] = k % 2 ? (double)NAN : -1;
	else if (k < 17)
		*members[(const int[]){2, 3, 6}[k - 14]] = 1;
	else if (k == 17)
		o.batch = 0;
	else
		o.order = TT_MLP_DRAWN; /* without weights */
	return o;
}

Test(train_mlp, refuses_what_it_cannot_train)
{
	struct tt_mlp *mlp = NULL, *none = NULL;
	struct tt_mlp_options options;
	struct tt_error failure = {0};
	float x[4] = {1, 2, 3, 4}, target[2] = {0, 1}, z[2];
	double weight[2] = {-1, 1};
	must(tt_mlp_open(&mlp, 2, 3, 1, err));
	tt_mlp_start(mlp, 0);
	struct tt_mlp_data data = {{x, NULL, 2, 2, 2}, target};
	for (int k = 0; k <= 18; k++) {
		options = wrong(k);
		cr_expect_eq(tt_mlp_train(mlp, &data, &options, NULL, &failure), TT_ERR_ARGUMENT, "%d", k);
	}
	tt_mlp_options_default(&options);
	const struct tt_rows narrow = {x, NULL, 2, 1, 1}, empty = {x, NULL, 0, 2, 2}, overlap = {x, NULL, 2, 2, 1};
	cr_expect_eq(tt_mlp_run(mlp, &narrow, z, &failure), TT_ERR_ARGUMENT);
	cr_expect_eq(tt_mlp_run(mlp, &empty, z, &failure), TT_OK);
	const struct tt_rows rows[] = {narrow, empty, overlap, {x, weight, 2, 2, 2}};
	for (int k = 0; k < 4; k++) {
		data.rows = rows[k];
		cr_expect_eq(tt_mlp_train(mlp, &data, &options, NULL, &failure), TT_ERR_ARGUMENT, "rows %d", k);
	}
	weight[0] = weight[1] = 0;
	cr_expect_eq(tt_mlp_train(mlp, &data, &options, NULL, &failure), TT_ERR_ARGUMENT);
	data.rows.weight = NULL;
	x[1] = NAN;
	cr_expect_eq(tt_mlp_train(mlp, &data, &options, NULL, &failure), TT_ERR_FORMAT);
	cr_expect_eq(tt_mlp_open(&none, SIZE_MAX / 2, 4, 1, &failure), TT_ERR_MEMORY);
	cr_expect_eq(tt_mlp_open(&none, 0, 4, 1, &failure), TT_ERR_ARGUMENT);
	cr_expect_null(none);
	options.epochs = options.batch = SIZE_MAX / 2;
	cr_expect_eq(tt_mlp_n_steps(SIZE_MAX, &options), SIZE_MAX);
	options.batch = 0;
	cr_expect_eq(tt_mlp_n_steps(3, &options), 0);
	tt_mlp_close(mlp);
}
