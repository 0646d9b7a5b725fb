/* The perceptron's training against PyTorch's, step by step, and what is random about it against its own chances. */
#include "base/fail.h"
#include "controller/train/fit_mlp.h"
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

/* Opens a perceptron of the shapes that the golden has under a name, with its weights at the start or the end. */
static struct tt_mlp *open_golden(const struct tt_safetensors *file, const char *name, const char *when, size_t d)
{
	struct tt_mlp *mlp = NULL;
	char bias1[64], bias2[64];
	snprintf(bias1, sizeof bias1, "%s.start.bias1", name);
	snprintf(bias2, sizeof bias2, "%s.start.bias2", name);
	must(tt_mlp_open(&mlp, d, golden_tensor(file, bias1)->n_elements, golden_tensor(file, bias2)->n_elements, err));
	read_weights(file, name, when, mlp);
	return mlp;
}

/* Another order of f32 sums moves a step by some 1e-7, which Adam's division by small roots and a hundred steps make
 * 1e-5 at most; a wrong term moves it by 1e-2. */
static void train_as_golden(const struct tt_safetensors *file, const char *name, struct tt_mlp *mlp,
	const struct tt_mlp_data *data, const struct tt_mlp_options *options)
{
	struct tt_mlp *want = open_golden(file, name, "end", mlp->d);
	size_t n_losses;
	double *want_losses = golden_array(file, sizeof *want_losses, &n_losses, "%s.losses", name);
	double *losses = malloc(n_losses * sizeof *losses);
	cr_assert(tt_mlp_n_steps(data->rows.n, options) == n_losses && n_losses == 100);
	must(tt_mlp_train(mlp, data, options, losses, err));
	for (size_t i = 0; i < n_losses; i++)
		cr_expect(fabs(losses[i] - want_losses[i]) <= 1e-4 * want_losses[i], "%s, step %zu: %g, not %g", name,
			i, losses[i], want_losses[i]);
	const float *got_parts[] = {mlp->fc1, mlp->bias1, mlp->fc2, mlp->bias2};
	const float *want_parts[] = {want->fc1, want->bias1, want->fc2, want->bias2};
	const size_t sizes[] = {mlp->units * mlp->d, mlp->units, mlp->outputs * mlp->units, mlp->outputs};
	for (int k = 0; k < 4; k++) {
		double error = relative_error(got_parts[k], want_parts[k], sizes[k]);
		cr_expect(error <= 1e-4, "%s: %s differs by %g", name, PARTS[k], error);
	}
	tt_mlp_close(want);
	free(want_losses);
	free(losses);
}

static void check(const char *name, struct tt_mlp_options *options, bool weighted)
{
	struct tt_safetensors *file = golden_open(GOLDEN("train/mlp.safetensors"));
	size_t n, n_x, n_target;
	float *x = golden_array(file, sizeof *x, &n_x, "x");
	double *weight = golden_array(file, sizeof *weight, &n, "weight");
	float *target = golden_array(file, sizeof *target, &n_target, "%s.target", name);
	float *want_z = golden_array(file, sizeof *want_z, &n_target, "%s.z", name), *z = malloc(n_target * sizeof *z);
	size_t d = n_x / n;
	const struct tt_mlp_data data = {{x, weighted ? weight : NULL, n, d, d}, target};
	struct tt_mlp *mlp = open_golden(file, name, "start", d);
	options->batch = 8;
	options->epochs = 20;
	options->order = TT_MLP_GIVEN;
	train_as_golden(file, name, mlp, &data, options);
	must(tt_mlp_run(mlp, &data.rows, z, err));
	double error = relative_error(z, want_z, n_target);
	cr_expect(error <= 1e-4, "%s: outputs differ by %g", name, error);
	tt_mlp_close(mlp);
	free(x);
	free(weight);
	free(target);
	free(want_z);
	free(z);
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

/* How far training moved n weights, against how far PyTorch's moved them. At the paper's rate a hundred steps change
 * weights by a hundredth, so this sees what an error of the weights themselves does not. */
static double error_of_move(const float *start, const float *got, const float *want, size_t n)
{
	double difference = 0, norm = 0;
	for (size_t i = 0; i < n; i++) {
		difference += pow((double)got[i] - (double)want[i], 2);
		norm += pow((double)want[i] - (double)start[i], 2);
	}
	return sqrt(difference / norm);
}

/* Trains as a mode of fit does, but for the order of the rows and how many epochs there are. */
static void check_controller(const char *name, enum tt_fit_mode mode, size_t epochs)
{
	struct tt_safetensors *file = golden_open(GOLDEN("train/controller.safetensors"));
	struct tt_mlp_options options;
	size_t n, n_x;
	float *x = golden_array(file, sizeof *x, &n_x, "x"), *target = golden_array(file, sizeof *target, &n, "target");
	size_t d = n_x / n;
	const struct tt_mlp_data data = {{x, NULL, n, d, d}, target};
	struct tt_mlp *start = open_golden(file, name, "start", d), *want = open_golden(file, name, "end", d);
	struct tt_mlp *mlp = open_golden(file, name, "start", d);
	tt_fit_mlp_training(mode, 0, &options);
	options.order = TT_MLP_GIVEN;
	options.epochs = epochs;
	train_as_golden(file, name, mlp, &data, &options);
	/* The weights of s, and those of the layers, which the paper's loss leaves to decay. */
	const size_t units = mlp->units, others = mlp->outputs - 1;
	const struct {
		const char *what;
		const float *start, *got, *want;
		size_t n;
	} parts[] = {
		{"fc1", start->fc1, mlp->fc1, want->fc1, units * d},
		{"bias1", start->bias1, mlp->bias1, want->bias1, units},
		{"fc2 of s", start->fc2, mlp->fc2, want->fc2, units},
		{"fc2 of layers", start->fc2 + units, mlp->fc2 + units, want->fc2 + units, others * units},
		{"bias2 of s", start->bias2, mlp->bias2, want->bias2, 1},
		{"bias2 of layers", start->bias2 + 1, mlp->bias2 + 1, want->bias2 + 1, others},
	};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		double error = error_of_move(parts[i].start, parts[i].got, parts[i].want, parts[i].n);
		cr_expect(error <= 1e-4, "%s: %s moved otherwise by %g", name, parts[i].what, error);
	}
	tt_mlp_close(start);
	tt_mlp_close(want);
	tt_mlp_close(mlp);
	free(x);
	free(target);
	tt_safetensors_close(file);
}

Test(train_mlp, the_papers_controller_is_trained_as_pytorch_trains_it)
{
	check_controller("paper", TT_FIT_PAPER, 20);
}

Test(train_mlp, the_released_codes_controller_is_trained_as_pytorch_trains_it)
{
	check_controller("released", TT_FIT_RELEASED, 25);
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

/* Two kinds of rows, whose targets say which half they are of: in turn, or one after the other. */
Test(train_mlp, rows_of_two_kinds_take_turns_or_stay_apart)
{
	enum { HALF = 20, N = 2 * HALF, EPOCHS = 3 };
	static const enum tt_mlp_halves kinds[] = {TT_MLP_IN_TURN, TT_MLP_APART};
	struct tt_mlp_options options;
	float target[N];
	double losses[EPOCHS * N];
	for (int i = 0; i < N; i++)
		target[i] = (float)i;
	for (int k = 0; k < 2; k++) {
		tt_mlp_options_default(&options);
		options.batch = 1;
		options.epochs = EPOCHS;
		options.halves = kinds[k];
		show(target, NULL, N, &options, losses);
		for (int epoch = 0; epoch < EPOCHS; epoch++) {
			int seen[N] = {0}, in_place = 0;
			for (int i = 0; i < N; i++) {
				int row = (int)round(sqrt(losses[epoch * N + i]));
				bool second = kinds[k] == TT_MLP_APART ? i >= HALF : i % 2;
				seen[row]++;
				cr_expect_eq(
					row >= HALF, second, "kind %d, epoch %d, step %d: row %d", k, epoch, i, row);
				in_place += row == (kinds[k] == TT_MLP_APART ? i : i / 2 + i % 2 * HALF);
			}
			for (int i = 0; i < N; i++)
				cr_expect_eq(seen[i], 1, "kind %d, epoch %d, row %d", k, epoch, i);
			/* Two on average; more than 11 of a good order have a chance of 1e-6. */
			cr_expect(in_place <= 11, "kind %d, epoch %d: %d", k, epoch, in_place);
		}
	}
}

/* A batch of one kind ends with its half. */
Test(train_mlp, no_batch_has_rows_of_both_kinds_that_stay_apart)
{
	enum { N = 14, EPOCHS = 2, STEPS = 4 };
	struct tt_mlp_options options;
	float target[N] = {0};
	double losses[EPOCHS * STEPS];
	for (int i = N / 2; i < N; i++)
		target[i] = 1;
	tt_mlp_options_default(&options);
	options.batch = 4;
	options.epochs = EPOCHS;
	options.halves = TT_MLP_APART;
	cr_assert_eq(tt_mlp_n_steps(N, &options), EPOCHS * STEPS);
	show(target, NULL, N, &options, losses);
	for (int i = 0; i < EPOCHS * STEPS; i++)
		cr_expect_eq(losses[i], i % STEPS / 2, "step %d: %g", i, losses[i]);
	options.halves = TT_MLP_IN_TURN;
	cr_assert_eq(tt_mlp_n_steps(N, &options), EPOCHS * STEPS);
	show(target, NULL, N, &options, losses);
	for (int i = 0; i < EPOCHS * STEPS; i++)
		cr_expect_eq(losses[i], 0.5, "step %d: %g", i, losses[i]);
}

static int stop_at_third(void *user, struct tt_error *err)
{
	int *steps = user;
	return ++*steps < 3 ? TT_OK : tt_fail(err, TT_ERR_LIMIT, "enough");
}

Test(train_mlp, a_callback_counts_the_steps_and_may_end_them)
{
	struct tt_mlp_options options;
	struct tt_mlp *mlp = NULL;
	struct tt_error failure = {0};
	float x[8] = {0}, target[8] = {0};
	int steps = 0;
	const struct tt_mlp_data data = {{x, NULL, 8, 1, 1}, target};
	tt_mlp_options_default(&options);
	options.batch = 2;
	options.after_step = stop_at_third;
	options.user = &steps;
	must(tt_mlp_open(&mlp, 1, 1, 1, err));
	cr_expect_eq(tt_mlp_train(mlp, &data, &options, NULL, &failure), TT_ERR_LIMIT);
	cr_expect_eq(steps, 3);
	tt_mlp_close(mlp);
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
	double *const members[] = {&o.learning_rate, &o.weight_decay, &o.beta1, &o.beta2, &o.epsilon, &o.clip_norm,
		&o.input_dropout, &o.pull};
	if (k < 16)
		*members[k / 2] = k % 2 ? (double)NAN : -1;
	else if (k < 19)
		*members[(const int[]){2, 3, 6}[k - 16]] = 1;
	else if (k == 19)
		o.batch = 0;
	else if (k == 20)
		o.n_targets = 2; /* of one output */
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
	for (int k = 0; k <= 21; k++) {
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
	data.rows = (struct tt_rows){x, NULL, 1, 2, 2};
	options.halves = TT_MLP_APART;
	cr_expect_eq(tt_mlp_train(mlp, &data, &options, NULL, &failure), TT_ERR_ARGUMENT, "an odd row");
	weight[0] = 1;
	data.rows = (struct tt_rows){x, weight, 2, 2, 2};
	options.order = TT_MLP_DRAWN;
	cr_expect_eq(tt_mlp_train(mlp, &data, &options, NULL, &failure), TT_ERR_ARGUMENT, "drawn by halves");
	tt_mlp_options_default(&options);
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
