/* Steering and control: the same bits where nothing may change, values in double where something does, and the order of
 * changes where it matters. */
#include "controller/policy/gates.h"
#include "controller/policy/operations.h"
#include "test_kernels.h"

enum { HIDDEN = 40, LAYERS = 3, LAYER = 1, FFN = 32 };

/* Slots: 0 and 3 add, 1 ablates, 2 clamps, 4 is affine, 5 one-sided, 6 rotates, 7 rotates adaptively, 8 adds and keeps
 * the length. */
enum { SLOTS = 9, ROWS = SLOTS + 1, TOKENS = ROWS };
static const enum tt_policy_op slot_ops[SLOTS] = {TT_OP_ADD, TT_OP_ABLATE, TT_OP_CLAMP, TT_OP_ADD, TT_OP_AFFINE,
	TT_OP_ONE_SIDED, TT_OP_ROTATE, TT_OP_ROTATE, TT_OP_ADD};
static const uint32_t slot_forms[SLOTS] = {[7] = 1, [8] = 1};

/* For a dot product of 40 terms and a few fused additions. */
#define TOLERANCE 3e-7

/* A step of n tokens with a down_proj whose product is zero, so that h is steered as the test set it. What a slot
 * has follows from its operation's row; one of a single direction a layer uses the first half of each array. */
struct fixture {
	struct tt_config config;
	struct tt_layer layer;
	struct tt_step_plan *step;
	struct tt_steer_slot slots[SLOTS];
	float directions[SLOTS][LAYERS * 2][HIDDEN], readers[LAYERS * 2][HIDDEN], targets[LAYERS * 2];
	float weights[LAYERS];
	float zeros[HIDDEN * FFN], ffn[TOKENS * FFN], h[TOKENS * HIDDEN], coef[ROWS * LAYERS];
	float captured[TOKENS * LAYERS * HIDDEN], norms[TOKENS * LAYERS * 2];
	struct tt_down_proj_args args;
};

/* Gram-Schmidt in double, so that two directions are orthonormal to f32. */
static void orthonormalise(float (*d)[HIDDEN])
{
	double u[2][HIDDEN], norm, dot = 0;
	for (int k = 0; k < 2; k++) {
		for (int i = 0; i < HIDDEN; i++)
			u[k][i] = (double)d[k][i];
		if (k == 1) {
			for (int i = 0; i < HIDDEN; i++)
				dot += u[0][i] * u[1][i];
			for (int i = 0; i < HIDDEN; i++)
				u[1][i] -= dot * u[0][i];
		}
		norm = 0;
		for (int i = 0; i < HIDDEN; i++)
			norm += u[k][i] * u[k][i];
		for (int i = 0; i < HIDDEN; i++) {
			u[k][i] /= sqrt(norm);
			d[k][i] = (float)u[k][i];
		}
	}
}

/* Whether the operation has a tensor that goes to this member of the slot. */
static bool has_tensor(enum tt_policy_op op, size_t member)
{
	const struct tt_policy_row *row = &tt_operation_of(op)->row;
	for (uint32_t i = 0; i < row->n_tensors; i++)
		if (row->tensors[i].slot == member)
			return true;
	return false;
}

static void make_slot(struct fixture *f, int s)
{
	enum tt_policy_op op = slot_ops[s];
	for (int l = 0; l < LAYERS && tt_operation_of(op)->orthonormal; l++)
		orthonormalise(f->directions[s] + l * 2);
	f->slots[s] = (struct tt_steer_slot){.op = op,
		.form = slot_forms[s],
		.n_directions = tt_operation_of(op)->max_rows > 1 ? 2 : 1,
		.directions = f->directions[s][0],
		.readers = has_tensor(op, offsetof(struct tt_steer_slot, readers)) ? f->readers[0] : NULL,
		.targets = has_tensor(op, offsetof(struct tt_steer_slot, targets)) ? f->targets : NULL,
		.weights = f->weights,
		.alpha = 1};
}

static struct fixture *make_fixture(uint32_t n)
{
	static const float targets[LAYERS * 2] = {7, -4, 2.5f, -1, 3, 6};
	struct fixture *f = must_alloc(1, sizeof *f);
	uint64_t random = 12;
	f->config = (struct tt_config){.n_layers = LAYERS, .hidden_size = HIDDEN, .ffn_size = FFN};
	f->layer.w_down = (struct tt_matrix){f->zeros, TT_TYPE_F32, HIDDEN, FFN, 0};
	f->step = make_step((struct tt_step_plan){.n_tokens = n, .n_rows = ROWS});
	for (size_t i = 0; i < sizeof f->directions / sizeof(float); i++)
		(&f->directions[0][0][0])[i] = random_float(&random);
	for (int i = 0; i < LAYERS; i++)
		f->weights[i] = 1;
	memcpy(f->targets, targets, sizeof targets);
	for (size_t i = 0; i < sizeof f->readers / sizeof(float); i++)
		(&f->readers[0][0])[i] = random_float(&random) / 4;
	memcpy(f->directions[7], f->directions[6], sizeof f->directions[7]);
	for (int s = 0; s < SLOTS; s++)
		make_slot(f, s);
	for (uint32_t i = 0; i < n * HIDDEN; i++)
		f->h[i] = random_float(&random) * 3;
	for (int row = 1; row < ROWS; row++) {
		tt_step_row_slots(f->step)[row] = (uint16_t)(row - 1);
		for (int l = 0; l < LAYERS; l++)
			f->coef[row * LAYERS + l] = 0.75f + 0.1f * (float)row;
	}
	f->args = (struct tt_down_proj_args){.config = &f->config,
		.step = f->step,
		.layer = &f->layer,
		.layer_index = LAYER,
		.ffn = f->ffn,
		.h = f->h,
		.slots = f->slots,
		.coef = f->coef,
		.captured = f->captured,
		.norms = f->norms};
	return f;
}

static void free_fixture(struct fixture *f)
{
	free(f->step);
	free(f);
}

static void run(struct fixture *f, enum tt_cpu_body_choice choice)
{
	struct tt_backend *backend = open_cpu(2, choice);
	ASSERT_OK(backend->down_proj(backend, &f->args, &ok_error));
	backend->close(backend);
}

/* The number of direction k of the layer, among those of all layers. */
static size_t index_of(const struct fixture *f, int slot, int k)
{
	return (size_t)LAYER * f->slots[slot].n_directions + (size_t)k;
}

static const float *direction(const struct fixture *f, int slot, int k)
{
	return f->slots[slot].directions + index_of(f, slot, k) * HIDDEN;
}

static const float *reader(const struct fixture *f, int slot, int k)
{
	return f->slots[slot].readers ? f->readers[index_of(f, slot, k)] : direction(f, slot, k);
}

static float target(const struct fixture *f, int slot, int k)
{
	return f->slots[slot].targets ? f->targets[index_of(f, slot, k)] : 0;
}

/* rotate, computed from the angles themselves. */
static void turn(const struct fixture *f, int slot, double c, const float *h, double *out)
{
	const float *b[] = {direction(f, slot, 0), direction(f, slot, 1)};
	double plane[2] = {0}, pi = acos(-1);
	for (int k = 0; k < 2; k++)
		for (int i = 0; i < HIDDEN; i++)
			plane[k] += (double)h[i] * (double)b[k][i];
	if (f->slots[slot].form && plane[0] <= 0)
		return;
	double at = atan2(plane[1], plane[0]), to = atan2((double)target(f, slot, 1), (double)target(f, slot, 0));
	double way = to - at, length = hypot(plane[0], plane[1]);
	way = way > pi ? way - 2 * pi : way < -pi ? way + 2 * pi : way;
	for (int i = 0; i < HIDDEN; i++)
		out[i] += (length * cos(at + c * way) - plane[0]) * (double)b[0][i] +
			  (length * sin(at + c * way) - plane[1]) * (double)b[1][i];
}

/* What a direction is multiplied with, from a dot product with h and a target. */
static double factor(enum tt_policy_op op, double c, double dot, double t)
{
	switch (op) {
	case TT_OP_ADD:
		return c;
	case TT_OP_ABLATE:
		return -c * dot;
	case TT_OP_CLAMP:
		return c * (t - dot);
	case TT_OP_AFFINE:
		return c * (t + dot);
	case TT_OP_ONE_SIDED:
		return dot > 0 ? -c * dot : 0;
	default:
		return NAN;
	}
}

static void change(const struct fixture *f, int slot, double c, const float *h, double *out)
{
	if (f->slots[slot].op == TT_OP_ROTATE) {
		turn(f, slot, c, h, out);
		return;
	}
	if (slot == 8) {
		double before = 0, after = 0;
		for (int i = 0; i < HIDDEN; i++) {
			double sum = (double)h[i] + c * (double)direction(f, 8, 0)[i];
			before += (double)h[i] * (double)h[i];
			after += sum * sum;
		}
		for (int i = 0; i < HIDDEN; i++)
			out[i] += ((double)h[i] + c * (double)direction(f, 8, 0)[i]) * sqrt(before / after) -
				  (double)h[i];
		return;
	}
	for (uint32_t k = 0; k < f->slots[slot].n_directions; k++) {
		const float *d = direction(f, slot, (int)k), *a = reader(f, slot, (int)k);
		double dot = 0;
		for (int i = 0; i < HIDDEN; i++)
			dot += (double)h[i] * (double)a[i];
		double g = factor(f->slots[slot].op, c, dot, (double)target(f, slot, (int)k));
		for (int i = 0; i < HIDDEN; i++)
			out[i] += g * (double)d[i];
	}
}

Test(kernels_steer, coefficient_zero_leaves_every_bit)
{
	for (int body = TT_CPU_BODY_AVX512; body <= TT_CPU_BODY_PORTABLE; body++) {
		if (!machine_has((enum tt_cpu_body_choice)body))
			continue;
		struct fixture *f = make_fixture(4);
		float before[4 * HIDDEN];
		f->h[5] = -0.0f;
		f->h[HIDDEN + 5] = -0.0f;
		f->h[2 * HIDDEN + 6] = NAN;
		f->layer.b_down = NULL;
		memcpy(before, f->h, sizeof before);
		/* Token 0: no row. 1: a row of zeros. 2: all four rows zero at this layer. 3: a negative zero. */
		for (int row = 1; row < ROWS; row++)
			f->coef[row * LAYERS + LAYER] = row == 7 ? -0.0f : 0.0f;
		tt_step_coef_rows(f->step)[1 * TT_STACK] = 1;
		for (int i = 0; i < TT_STACK; i++)
			tt_step_coef_rows(f->step)[2 * TT_STACK + i] = (uint16_t)(i + 1);
		tt_step_coef_rows(f->step)[3 * TT_STACK + 2] = 7;
		/* The product is +0.0, and -0.0 + +0.0 is +0.0, so the test calls steer alone. */
		float scratch[HIDDEN];
		struct tt_backend *backend = open_cpu(1, (enum tt_cpu_body_choice)body);
		for (uint32_t t = 0; t < 4; t++)
			tt_cpu_steer(((struct tt_cpu *)backend)->body, &f->args, t, scratch);
		backend->close(backend);
		ASSERT_SAME_BITS(f->h, before, 4 * HIDDEN, "h");
		free_fixture(f);
	}
}

Test(kernels_steer, a_step_with_zero_coefficients_has_the_bits_of_one_without_rows)
{
	struct fixture *steered = make_fixture(8), *plain = make_fixture(8);
	for (uint32_t i = 0; i < HIDDEN * FFN; i++)
		plain->zeros[i] = steered->zeros[i] = (float)(i % 17) - 8;
	for (uint32_t i = 0; i < 8 * FFN; i++)
		plain->ffn[i] = steered->ffn[i] = (float)(i % 5) / 7;
	for (int i = 0; i < FFN; i++) { /* a product of -0.0, so that a planted -0.0 survives the residual */
		plain->zeros[3 * FFN + i] = steered->zeros[3 * FFN + i] = 0;
		plain->h[3] = steered->h[3] = -0.0f;
	}
	memset(steered->coef, 0, sizeof steered->coef);
	for (int t = 0; t < 8; t++)
		tt_step_coef_rows(steered->step)[t * TT_STACK] = (uint16_t)(t % 4 + 1);
	run(steered, TT_CPU_BODY_BEST);
	run(plain, TT_CPU_BODY_BEST);
	ASSERT_SAME_BITS(steered->h, plain->h, 8 * HIDDEN, "h");
	free_fixture(steered);
	free_fixture(plain);
}

Test(kernels_steer, each_operation_equals_the_reference)
{
	uint32_t seen = 0;
	for (int s = 0; s < SLOTS; s++)
		seen |= 1u << slot_ops[s];
	cr_assert_eq(seen, (1u << tt_n_operations()) - 1, "an operation of the table is in no slot");
	for (int body = TT_CPU_BODY_AVX512; body <= TT_CPU_BODY_PORTABLE; body++) {
		if (!machine_has((enum tt_cpu_body_choice)body))
			continue;
		struct fixture *f = make_fixture(TOKENS);
		double want[TOKENS][HIDDEN] = {{0}};
		for (int t = 1; t < TOKENS; t++) { /* token t is steered by row t */
			tt_step_coef_rows(f->step)[t * TT_STACK + t % TT_STACK] = (uint16_t)t;
			change(f, t - 1, (double)f->coef[t * LAYERS + LAYER], f->h + t * HIDDEN, want[t]);
		}
		for (int i = 0; i < TOKENS * HIDDEN; i++)
			want[i / HIDDEN][i % HIDDEN] += (double)f->h[i];
		run(f, (enum tt_cpu_body_choice)body);
		for (int t = 0; t < TOKENS; t++)
			ASSERT_CLOSE(f->h + t * HIDDEN, want[t], HIDDEN, TOLERANCE, "operation %d", t);
		free_fixture(f);
	}
}

/* The purpose of the operations: ablate at 1 leaves nothing along d, clamp at 1 leaves t. */
Test(kernels_steer, ablate_removes_and_clamp_sets_the_projection)
{
	struct fixture *f = make_fixture(2);
	f->coef[2 * LAYERS + LAYER] = f->coef[3 * LAYERS + LAYER] = 1;
	tt_step_coef_rows(f->step)[0] = 2;
	tt_step_coef_rows(f->step)[TT_STACK] = 3;
	run(f, TT_CPU_BODY_BEST);
	for (int k = 0; k < 2; k++) {
		double ablated = 0, clamped = 0;
		for (int i = 0; i < HIDDEN; i++) {
			ablated += (double)f->h[i] * (double)direction(f, 1, k)[i];
			clamped += (double)f->h[HIDDEN + i] * (double)direction(f, 2, k)[i];
		}
		cr_assert_float_eq(ablated, 0, 2e-6);
		cr_assert_float_eq(clamped, (double)target(f, 2, k), 2e-6);
	}
	free_fixture(f);
}

/* On one side h is ablated; on the other it keeps every bit, and so does a zero, which is on neither side. */
Test(kernels_steer, one_sided_leaves_the_other_side_alone)
{
	for (int body = TT_CPU_BODY_AVX512; body <= TT_CPU_BODY_PORTABLE; body++) {
		if (!machine_has((enum tt_cpu_body_choice)body))
			continue;
		struct fixture *f = make_fixture(3);
		float before[3 * HIDDEN], scratch[HIDDEN];
		const float *u = direction(f, 5, 0);
		for (int i = 0; i < HIDDEN; i++) {
			f->h[i] = 3 * u[i];
			f->h[HIDDEN + i] = -3 * u[i];
			f->h[2 * HIDDEN + i] = -0.0f;
		}
		f->h[HIDDEN + 5] = -0.0f;
		memcpy(before, f->h, sizeof before);
		f->coef[6 * LAYERS + LAYER] = 1;
		for (int t = 0; t < 3; t++)
			tt_step_coef_rows(f->step)[t * TT_STACK] = 6;
		struct tt_backend *backend = open_cpu(1, (enum tt_cpu_body_choice)body);
		for (uint32_t t = 0; t < 3; t++) /* without the product: adding its +0.0 would turn -0.0 into +0.0 */
			tt_cpu_steer(((struct tt_cpu *)backend)->body, &f->args, t, scratch);
		backend->close(backend);
		for (int i = 0; i < HIDDEN; i++)
			cr_assert_float_eq((double)f->h[i], 0, 2e-6);
		ASSERT_SAME_BITS(f->h + HIDDEN, before + HIDDEN, 2 * HIDDEN, "the other side");
		free_fixture(f);
	}
}

/* Sets h to a point of rotate's plane at this angle, plus a part at a right angle to the plane. */
static void place(const struct fixture *f, float angle, float *h)
{
	const float *b[] = {direction(f, 6, 0), direction(f, 6, 1)};
	double along[2] = {0};
	for (int k = 0; k < 2; k++)
		for (int i = 0; i < HIDDEN; i++)
			along[k] += (double)h[i] * (double)b[k][i];
	for (int i = 0; i < HIDDEN; i++)
		h[i] += (3 * cosf(angle) - (float)along[0]) * b[0][i] + (3 * sinf(angle) - (float)along[1]) * b[1][i];
}

static double angle_of(const struct fixture *f, const float *h)
{
	double along[2] = {0};
	for (int k = 0; k < 2; k++)
		for (int i = 0; i < HIDDEN; i++)
			along[k] += (double)h[i] * (double)direction(f, 6, k)[i];
	return atan2(along[1], along[0]);
}

static double length_of(const float *h)
{
	double sum = 0;
	for (int i = 0; i < HIDDEN; i++)
		sum += (double)h[i] * (double)h[i];
	return sqrt(sum);
}

/* From 170 degrees to -170 degrees the short way is 20 degrees, through 180, for every share of it. The rest of h
 * stays, and so does the length of h. */
Test(kernels_steer, rotate_turns_the_short_way_and_keeps_the_length)
{
	enum { N = 6 };
	static const float shares[N] = {1, 0.5f, -1, 3, 0.25f, 17.5f};
	const float degree = acosf(-1) / 180;
	float first[N * HIDDEN];
	int n_bodies = 0;
	for (int body = TT_CPU_BODY_AVX512; body <= TT_CPU_BODY_PORTABLE; body++) {
		if (!machine_has((enum tt_cpu_body_choice)body))
			continue;
		for (int t = 0; t < N; t++) {
			struct fixture *f = make_fixture(1);
			place(f, 170 * degree, f->h);
			f->targets[index_of(f, 6, 0)] = 1e30f * cosf(190 * degree); /* only its angle counts */
			f->targets[index_of(f, 6, 1)] = 1e30f * sinf(190 * degree);
			f->coef[7 * LAYERS + LAYER] = shares[t];
			tt_step_coef_rows(f->step)[2] = 7;
			double length = length_of(f->h), want = remainder(170 + 20 * (double)shares[t], 360);
			run(f, (enum tt_cpu_body_choice)body);
			cr_assert_float_eq(angle_of(f, f->h) / (double)degree, want,
				3e-5 * fmax(1, fabs((double)shares[t])), "share %g: %g, not %g", (double)shares[t],
				angle_of(f, f->h) / (double)degree, want);
			cr_assert_float_eq(length_of(f->h), length, 1e-6 * length, "share %g", (double)shares[t]);
			if (n_bodies == 0)
				memcpy(first + t * HIDDEN, f->h, sizeof f->h[0] * HIDDEN);
			ASSERT_SAME_BITS(f->h, first + t * HIDDEN, HIDDEN, "the bodies");
			free_fixture(f);
		}
		n_bodies++;
	}
}

/* In the adaptive form, a stream that points against the first direction keeps every bit. So does, in the other
 * form, a stream that has no part in the plane. */
Test(kernels_steer, rotate_leaves_alone_what_it_should)
{
	for (int body = TT_CPU_BODY_AVX512; body <= TT_CPU_BODY_PORTABLE; body++) {
		if (!machine_has((enum tt_cpu_body_choice)body))
			continue;
		struct fixture *f = make_fixture(4);
		float before[4 * HIDDEN], scratch[HIDDEN];
		place(f, 2.5f, f->h); /* against the first direction; rows 8 and 7 */
		memcpy(f->h + HIDDEN, f->h, HIDDEN * sizeof *f->h);
		place(f, -1.2f, f->h + 2 * HIDDEN); /* along the first direction; row 8 */
		for (int i = 0; i < HIDDEN; i++)
			f->h[3 * HIDDEN + i] = i % 2 ? 0.0f : -0.0f;
		memcpy(before, f->h, sizeof before);
		const uint16_t rows[] = {8, 7, 8, 7};
		struct tt_backend *backend = open_cpu(1, (enum tt_cpu_body_choice)body);
		for (uint32_t t = 0; t < 4; t++) {
			tt_step_coef_rows(f->step)[t * TT_STACK] = rows[t];
			f->coef[rows[t] * LAYERS + LAYER] = 1;
			tt_cpu_steer(((struct tt_cpu *)backend)->body, &f->args, t, scratch);
		}
		backend->close(backend);
		double target = atan2(-1, 2.5);
		ASSERT_SAME_BITS(f->h, before, HIDDEN, "against it, adaptive");
		cr_assert_float_eq(angle_of(f, f->h + HIDDEN), target, 1e-6);
		cr_assert_float_eq(angle_of(f, f->h + 2 * HIDDEN), target, 1e-6);
		ASSERT_SAME_BITS(f->h + 3 * HIDDEN, before + 3 * HIDDEN, HIDDEN, "no part in the plane");
		free_fixture(f);
	}
}

/* One token of a wider model, steered by an add that keeps the length or not. */
static void add_wide(enum tt_cpu_body_choice choice, uint32_t form, float c, const float *d, float *h, uint32_t hidden)
{
	struct tt_config config = {.n_layers = 1, .hidden_size = hidden};
	struct tt_step_plan *step = make_step((struct tt_step_plan){.n_tokens = 1, .n_rows = 2});
	struct tt_steer_slot slot = {.op = TT_OP_ADD, .form = form, .n_directions = 1, .directions = d};
	float coef[2] = {0, c}, *scratch = must_alloc(hidden, sizeof *scratch);
	struct tt_down_proj_args args = {.config = &config, .step = step, .h = h, .slots = &slot, .coef = coef};
	struct tt_backend *backend = open_cpu(1, choice);
	tt_step_coef_rows(step)[1] = 1;
	tt_cpu_steer(((struct tt_cpu *)backend)->body, &args, 0, scratch);
	backend->close(backend);
	free(scratch);
	free(step);
}

static double length_of_wide(const float *h, uint32_t n)
{
	double sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += (double)h[i] * (double)h[i];
	return sqrt(sum);
}

/* This includes a sum that nearly vanishes and one that is far longer. Every body gives the same bits. */
Test(kernels_steer, an_add_that_keeps_the_length_keeps_it)
{
	static const uint32_t widths[] = {8, 40, 512, 1100, 4096};
	static const float coefs[] = {0.5f, -3, 40, -0.999f};
	for (int w = 0; w < 5; w++)
		for (int k = 0; k < 4; k++) {
			uint32_t n = widths[w];
			float *h = random_floats(n, 2, 7 + n), *d = random_floats(n, 2, 8), *got = NULL, *first = NULL;
			for (uint32_t i = 0; i < n && k == 3; i++)
				d[i] = h[i] + d[i] / 64; /* opposite to h and nearly as long */
			for (int body = TT_CPU_BODY_AVX512; body <= TT_CPU_BODY_PORTABLE; body++) {
				if (!machine_has((enum tt_cpu_body_choice)body))
					continue;
				got = must_alloc(n, sizeof *got);
				memcpy(got, h, n * sizeof *h);
				add_wide((enum tt_cpu_body_choice)body, 1, coefs[k], d, got, n);
				double before = length_of_wide(h, n), after = length_of_wide(got, n), scale = 0;
				cr_assert_float_eq(after, before, 1e-6 * before, "%u, %g: %.9g became %.9g", n,
					(double)coefs[k], before, after);
				for (uint32_t i = 0; i < n; i++)
					scale += pow((double)h[i] + (double)coefs[k] * (double)d[i], 2);
				scale = before / sqrt(scale);
				for (uint32_t i = 0; i < n; i++) {
					double sum = (double)h[i] + (double)coefs[k] * (double)d[i];
					cr_assert_float_eq((double)got[i], sum * scale, 1e-6 * (scale + 1) * 10);
				}
				if (first)
					ASSERT_SAME_BITS(got, first, n, "the bodies");
				if (first)
					free(got);
				else
					first = got;
			}
			free(first);
			free(h);
			free(d);
		}
}

/* A sum whose length is 0 or not finite is left as it is. A stream of zeros has a length to keep, 0. */
Test(kernels_steer, an_add_that_cannot_keep_the_length)
{
	enum { N = 24 };
	float *d = random_floats(N, 1, 3), h[N], kept[N], free_[N], zeros[N] = {0};
	for (int k = 0; k < 2; k++) {
		for (int i = 0; i < N; i++)
			h[i] = k ? (float)i : -2 * d[i];
		d[3] = k ? INFINITY : d[3];
		memcpy(kept, h, sizeof h);
		memcpy(free_, h, sizeof h);
		add_wide(TT_CPU_BODY_BEST, 1, 2, d, kept, N);
		add_wide(TT_CPU_BODY_BEST, 0, 2, d, free_, N);
		ASSERT_SAME_BITS(kept, free_, N, "as if free");
	}
	d[3] = 1;
	memset(kept, 0, sizeof kept);
	add_wide(TT_CPU_BODY_BEST, 1, 2, d, kept, N);
	for (int i = 0; i < N; i++)
		cr_assert_eq(kept[i], zeros[i]);
	free(d);
}

/* Adds a row's changes to sum in f32, direction after direction and fused, from the h that came in. The factors are the
 * kernels' own, which `change` checks: this is about the order. */
static void add_in_order(
	const struct tt_cpu_body *body, const struct fixture *f, int slot, float c, const float *came, float *sum)
{
	const struct tt_steer_slot *s = &f->slots[slot];
	uint32_t together = tt_steer_together(s->op);
	if (slot == 8) {
		float longer[HIDDEN];
		memcpy(longer, came, sizeof longer);
		body->axpy(c, direction(f, slot, 0), longer, HIDDEN);
		float ratio = sqrtf(body->dot(came, came, HIDDEN)) / sqrtf(body->dot(longer, longer, HIDDEN));
		for (int j = 0; j < HIDDEN; j++)
			sum[j] = fmaf(ratio, longer[j], sum[j] - came[j]);
		return;
	}
	for (uint32_t k = 0; k < s->n_directions; k++) {
		struct tt_steer_read read[TT_MAX_TOGETHER];
		float g[TT_MAX_TOGETHER] = {0};
		for (uint32_t i = 0; i < together; i++) {
			int at = (int)(k / together * together + i);
			read[i] = (struct tt_steer_read){
				body->dot(came, reader(f, slot, at), HIDDEN), target(f, slot, at)};
		}
		tt_steer_factors(s->op, s->form, c, read, g);
		for (int j = 0; j < HIDDEN; j++)
			sum[j] = fmaf(g[k % together], direction(f, slot, (int)k)[j], sum[j]);
	}
}

/* All rows read the h that came in, and their changes are added in the order of the rows. */
Test(kernels_steer, stacked_rows_read_the_same_h_and_add_in_order)
{
	enum { ORDERS = 8 };
	static const uint16_t orders[ORDERS][TT_STACK] = {{1, 2, 3, 4}, {4, 3, 2, 1}, {2, 5, 4, 6}, {6, 4, 5, 2},
		{7, 2, 8, 3}, {3, 8, 2, 7}, {9, 2, 1, 7}, {7, 1, 2, 9}};
	float results[ORDERS][HIDDEN];
	for (int o = 0; o < ORDERS; o++) {
		struct fixture *f = make_fixture(1);
		double want[HIDDEN] = {0};
		float steps[HIDDEN], start[HIDDEN];
		memcpy(start, f->h, sizeof start);
		memcpy(steps, f->h, sizeof steps);
		struct tt_backend *backend = open_cpu(1, TT_CPU_BODY_PORTABLE);
		const struct tt_cpu_body *body = ((struct tt_cpu *)backend)->body;
		for (int i = 0; i < TT_STACK; i++) {
			int row = orders[o][i], slot = row - 1;
			float c = f->coef[row * LAYERS + LAYER];
			tt_step_coef_rows(f->step)[i] = (uint16_t)row;
			change(f, slot, (double)c, start, want);
			add_in_order(body, f, slot, c, start, steps);
		}
		backend->close(backend);
		for (int i = 0; i < HIDDEN; i++)
			want[i] += (double)f->h[i];
		run(f, TT_CPU_BODY_BEST);
		ASSERT_CLOSE(f->h, want, HIDDEN, TOLERANCE, "four rows");
		ASSERT_SAME_BITS(f->h, steps, HIDDEN, "the order of rows");
		memcpy(results[o], f->h, sizeof results[o]);
		free_fixture(f);
	}
	for (int o = 0; o < ORDERS; o += 2)
		cr_assert(memcmp(results[o], results[o + 1], sizeof results[o]),
			"two orders that round alike show nothing");
}

Test(kernels_steer, captures_the_steered_h_and_reports_norms)
{
	struct fixture *f = make_fixture(3);
	float before[HIDDEN];
	memcpy(before, f->h + HIDDEN, sizeof before);
	memset(f->norms, 0xff, sizeof f->norms);
	tt_step_captures(f->step)[1] = 2;
	tt_step_coef_rows(f->step)[1 * TT_STACK] = 1;
	tt_step_coef_rows(f->step)[2 * TT_STACK + 3] = 2;
	f->coef[2 * LAYERS + LAYER] = 0;
	run(f, TT_CPU_BODY_BEST);
	ASSERT_SAME_BITS(f->captured + (2 * LAYERS + LAYER) * HIDDEN, f->h + HIDDEN, HIDDEN, "the captured row");
	cr_assert(memcmp(f->h + HIDDEN, before, sizeof before), "the row was not steered");
	for (int i = 0; i < 8 * LAYERS; i++)
		for (int k = 0; k < HIDDEN && i != 2 * LAYERS + LAYER; k++)
			cr_assert_eq(f->captured[i * HIDDEN + k], 0);
	for (int t = 0; t < 3; t++) {
		const float *norms = f->norms + (t * LAYERS + LAYER) * 2;
		double sums[2] = {0};
		for (int i = 0; i < HIDDEN && t; i++) {
			double old = (double)(t == 1 ? before[i] : f->h[t * HIDDEN + i]),
			       new = (double)f->h[t * HIDDEN + i];
			sums[0] += old * old;
			sums[1] += new *new;
		}
		cr_assert_float_eq((double)norms[0], sqrt(sums[0]), 1e-5);
		cr_assert_float_eq((double)norms[1], sqrt(sums[1]), 1e-5);
	}
	free_fixture(f);
}

struct control {
	struct fixture *f;
	float gate_weight[2 * HIDDEN];
	uint32_t observed[2];
	struct tt_decision_result results[3];
	float decided[3 * LAYERS];
	struct tt_control_args args;
};

static struct control *make_control(void)
{
	struct control *c = must_alloc(1, sizeof *c);
	struct tt_step_plan counts = {.n_tokens = 1, .n_rows = 8, .n_decisions = 3};
	uint64_t random = 4;
	c->f = make_fixture(1);
	free(c->f->step);
	c->f->step = make_step(counts);
	for (int i = 0; i < 2 * HIDDEN; i++)
		c->gate_weight[i] = random_float(&random) / 5;
	for (int i = 0; i < 8 * LAYERS * HIDDEN; i++)
		c->f->captured[i] = random_float(&random);
	c->observed[0] = 0;
	c->observed[1] = 2;
	c->args = (struct tt_control_args){.config = &c->f->config,
		.step = c->f->step,
		.layer_index = 2,
		.slots = c->f->slots,
		.captured = c->f->captured,
		.coef = c->f->coef,
		.results = c->results,
		.decided = c->decided};
	c->f->slots[3] = (struct tt_steer_slot){.weights = c->f->weights,
		.alpha = 2,
		.gate = TT_GATE_PROBE,
		.n_observed = 2,
		.observed = c->observed,
		.gate_weight = c->gate_weight,
		.gate_bias = 0.125f,
		.threshold = 0.5f};
	c->f->slots[0].alpha = 0.5f;
	c->f->weights[0] = 0.25f;
	c->f->weights[1] = 0;
	c->f->weights[2] = 1;
	return c;
}

static void run_control(struct control *c)
{
	struct tt_backend *backend = open_cpu(1, TT_CPU_BODY_BEST);
	ASSERT_OK(backend->control(backend, &c->args, &ok_error));
	backend->close(backend);
}

static void free_control(struct control *c)
{
	free_fixture(c->f);
	free(c);
}

Test(kernels_steer, the_probe_decides_and_writes_its_row)
{
	for (int sign = -1; sign <= 1; sign += 2) {
		struct control *c = make_control();
		struct tt_decision_plan *plans = tt_step_decisions(c->f->step);
		plans[0] = (struct tt_decision_plan){.row = 1, .slot = 0, .after_layer = -1, .scale = 3};
		plans[1] =
			(struct tt_decision_plan){.row = 2, .slot = 3, .after_layer = 2, .capture = 5, .scale = 1.5f};
		plans[2] =
			(struct tt_decision_plan){.row = 3, .slot = 3, .after_layer = 2, .capture = 1, .scale = -1.5f};
		double p[2];
		for (int i = 0; i < 2; i++) {
			int capture = i ? 1 : 5;
			double z = 0.125;
			for (int l = 0; l < 2; l++)
				for (int k = 0; k < HIDDEN; k++)
					z += (double)c->gate_weight[l * HIDDEN + k] *
					     (double)c->f->captured[(capture * LAYERS + (l ? 2 : 0)) * HIDDEN + k];
			p[i] = 1 / (1 + exp(-z));
		}
		c->f->slots[3].threshold = (float)p[0] - 0.01f * (float)sign; /* just below, just above */
		float before[LAYERS];
		memcpy(before, c->f->coef + LAYERS, sizeof before);
		run_control(c);
		ASSERT_SAME_BITS(c->f->coef + LAYERS, before, LAYERS, "the row of another layer's decision");
		for (int i = 0; i < 2; i++) {
			float s = p[i] > (double)c->f->slots[3].threshold ? 1.0f : 0.0f, scale = i ? -1.5f : 1.5f;
			float want[LAYERS] = {scale * 2 * s * 0.25f, 0, scale * 2 * s};
			for (int l = 0; l < LAYERS; l++)
				want[l] = want[l] == 0 ? 0.0f : want[l];
			cr_assert_float_eq((double)c->results[1 + i].gate, p[i], 1e-6);
			cr_assert_eq(c->results[1 + i].s, s);
			ASSERT_SAME_BITS(c->f->coef + (2 + i) * LAYERS, want, LAYERS, "row %d", 2 + i);
			ASSERT_SAME_BITS(c->decided + (1 + i) * LAYERS, want, LAYERS, "decision %d", 1 + i);
		}
		free_control(c);
	}
}

Test(kernels_steer, always_gates_and_scale_zero_write_exact_zeros)
{
	struct control *c = make_control();
	struct tt_decision_plan *plans = tt_step_decisions(c->f->step);
	float always[LAYERS] = {-3 * 0.5f * 0.25f, 0, -1.5f}, zeros[LAYERS] = {0};
	plans[0] = (struct tt_decision_plan){.row = 1, .slot = 0, .after_layer = -1, .scale = -3};
	plans[1] = (struct tt_decision_plan){.row = 2, .slot = 0, .after_layer = -1, .scale = -0.0f};
	plans[2] = (struct tt_decision_plan){.row = 3, .slot = 0, .after_layer = -1, .scale = INFINITY};
	c->args.layer_index = -1;
	run_control(c);
	cr_assert_eq(c->results[0].s, 1);
	cr_assert_eq(c->results[0].gate, 1);
	ASSERT_SAME_BITS(c->f->coef + LAYERS, always, LAYERS, "always");
	ASSERT_SAME_BITS(c->f->coef + 2 * LAYERS, zeros, LAYERS, "scale 0");
	ASSERT_SAME_BITS(c->f->coef + 3 * LAYERS + 1, zeros, 1, "weight 0");
	free_control(c);
}

Test(kernels_steer, a_probe_of_nan_does_not_steer)
{
	struct control *c = make_control();
	struct tt_decision_plan *plans = tt_step_decisions(c->f->step);
	float zeros[LAYERS] = {0};
	for (int i = 0; i < 3; i++)
		plans[i] = (struct tt_decision_plan){.row = 2, .slot = 3, .after_layer = 2, .capture = 0, .scale = 1};
	c->f->captured[2 * HIDDEN + 3] = NAN;
	run_control(c);
	cr_assert_eq(c->results[2].s, 0);
	cr_assert(isnan(c->results[2].gate));
	ASSERT_SAME_BITS(c->f->coef + 2 * LAYERS, zeros, LAYERS, "coefficients");
	free_control(c);
}

/* Each gate of the table has an answer, and opens at this bias and threshold; a gate that is in no row has none, and
 * does not steer. */
Test(kernels_steer, every_gate_of_the_table_answers_and_no_other)
{
	enum { UNITS = 2 };
	static const float fc1_weight[UNITS * 2 * HIDDEN], ones[(1 + LAYERS) * UNITS] = {1, 1, 1, 1, 1, 1, 1, 1};
	for (uint32_t gate = 0; gate <= tt_n_gates(); gate++) {
		struct control *c = make_control();
		const struct tt_gate *row = tt_gate_of(gate);
		struct tt_steer_slot *slot = &c->f->slots[3];
		slot->gate = gate;
		slot->gate_bias = 9;
		slot->threshold = -0.9f;
		slot->thresholds = &slot->threshold;
		slot->n_conditions = 1;
		slot->table = 2; /* where it holds */
		slot->n_units = row && row->units ? UNITS : 0;
		slot->fc1_weight = fc1_weight;
		slot->fc1_bias = slot->fc2_weight = slot->fc2_bias = ones;
		for (int i = 0; i < 3; i++)
			tt_step_decisions(c->f->step)[i] =
				(struct tt_decision_plan){.row = 2, .slot = 3, .after_layer = 2, .scale = 1};
		run_control(c);
		cr_expect_eq((bool)isfinite(c->results[2].gate), row != NULL, "gate %u: %g", gate,
			(double)c->results[2].gate);
		cr_expect_eq(c->results[2].s > 0, row != NULL, "gate %u: s is %g", gate, (double)c->results[2].s);
		cr_expect_eq(c->f->coef[2 * LAYERS + 2] != 0, row != NULL, "gate %u", gate);
		free_control(c);
	}
}

/* A row keeps the coefficients of its former owner until the step that decides it. The early layers of that step must
 * find zeros. */
Test(kernels_steer, rows_that_wait_for_their_decision_are_cleared)
{
	struct control *c = make_control();
	struct tt_decision_plan *plans = tt_step_decisions(c->f->step);
	float zeros[LAYERS] = {0}, kept[LAYERS];
	for (int i = 0; i < 3; i++)
		plans[i] = (struct tt_decision_plan){.row = 2, .slot = 3, .after_layer = 1, .capture = 0, .scale = 1};
	memcpy(kept, c->f->coef + 4 * LAYERS, sizeof kept);
	c->args.layer_index = -1;
	run_control(c);
	ASSERT_SAME_BITS(c->f->coef + 2 * LAYERS, zeros, LAYERS, "the waiting row");
	ASSERT_SAME_BITS(c->f->coef + 4 * LAYERS, kept, LAYERS, "a row without a decision");
	free_control(c);
}
