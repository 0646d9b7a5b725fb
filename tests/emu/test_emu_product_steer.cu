/* Steering and capture in the epilogue of down_proj and in the row kernel after it. */
#include "tests/emu/product_world.h"

/* For f32 sums of 176 products and up to 4 changes of a few units each. */
static const double TOLERANCE = 2e-5;

static bool close_to(double got, double expected)
{
	return fabs(got - expected) <= TOLERANCE * (1 + fabs(expected)); /* false for NaN */
}

/* h after the residual, and after steering, in double. */
static void residual_reference(const struct inputs *in, uint32_t token, double h[HIDDEN])
{
	for (uint32_t i = 0; i < HIDDEN; i++) {
		h[i] = (double)in->h[token * HIDDEN + i] + in->b_down[i];
		for (uint32_t k = 0; k < FFN; k++)
			h[i] += from_bf16(in->w_down[i * FFN + k]) * from_bf16(in->ffn[token * FFN + k]);
	}
}

static double norm_of(const double h[HIDDEN])
{
	double sum = 0;
	for (uint32_t i = 0; i < HIDDEN; i++)
		sum += h[i] * h[i];
	return sqrt(sum);
}

/* rotate, computed from the angles themselves. */
static void turn_reference(
	const struct inputs *in, uint32_t slot, double c, const double came[HIDDEN], double h[HIDDEN])
{
	const float *d[2] = {
		in->directions[slot] + LAYER * 2 * HIDDEN, in->directions[slot] + (LAYER * 2 + 1) * HIDDEN};
	const float *target = in->targets + LAYER * 2;
	double plane[2] = {0, 0};
	for (uint32_t k = 0; k < 2; k++)
		for (uint32_t j = 0; j < HIDDEN; j++)
			plane[k] += came[j] * d[k][j];
	if (slot_forms[slot] && plane[0] <= 0)
		return;
	double at = atan2(plane[1], plane[0]), length = hypot(plane[0], plane[1]);
	at += c * remainder(atan2((double)target[1], (double)target[0]) - at, 2 * acos(-1));
	for (uint32_t j = 0; j < HIDDEN; j++)
		h[j] += (length * cos(at) - plane[0]) * d[0][j] + (length * sin(at) - plane[1]) * d[1][j];
}

static void keep_reference(
	const struct inputs *in, uint32_t slot, double c, const double came[HIDDEN], double h[HIDDEN])
{
	const float *d = in->directions[slot] + LAYER * HIDDEN;
	double sum[HIDDEN];
	for (uint32_t j = 0; j < HIDDEN; j++)
		sum[j] = came[j] + c * d[j];
	double ratio = norm_of(came) / norm_of(sum);
	for (uint32_t j = 0; j < HIDDEN; j++)
		h[j] += sum[j] * ratio - came[j];
}

/* What a direction is multiplied with, from a dot product with h and a target. */
static double factor_reference(enum tt_policy_op op, double c, double dot, double target)
{
	switch (op) {
	case TT_OP_ADD:
		return c;
	case TT_OP_ABLATE:
		return -c * dot;
	case TT_OP_CLAMP:
		return c * (target - dot);
	case TT_OP_AFFINE:
		return c * (target + dot);
	case TT_OP_ONE_SIDED:
		return dot > 0 ? -c * dot : 0;
	default:
		return NAN;
	}
}

static void steer_reference(const struct inputs *in, uint32_t steering, uint32_t token, double h[HIDDEN])
{
	uint16_t rows[TT_STACK];
	double came[HIDDEN];
	choose_rows(steering, token, rows);
	memcpy(came, h, sizeof came);
	for (uint32_t i = 0; i < TT_STACK; i++) {
		double c = rows[i] ? in->coef[rows[i] * LAYERS + LAYER] : 0;
		uint32_t slot = row_slots[rows[i]], n = slot_directions(slot);
		if (slot_ops[slot] == TT_OP_ROTATE && c != 0) {
			turn_reference(in, slot, c, came, h);
			continue;
		}
		if (slot_ops[slot] == TT_OP_ADD && slot_forms[slot] && c != 0) {
			keep_reference(in, slot, c, came, h);
			continue;
		}
		for (uint32_t k = 0; k < n && c != 0; k++) {
			const float *d = in->directions[slot] + (LAYER * n + k) * HIDDEN;
			bool has_readers = slot_has(slot, offsetof(struct tt_steer_slot, readers));
			const float *reader = has_readers ? in->readers + (LAYER * n + k) * HIDDEN : d;
			double read = 0;
			for (uint32_t j = 0; j < HIDDEN; j++)
				read += (double)came[j] * (double)reader[j];
			double g = factor_reference(slot_ops[slot], c, read, in->targets[LAYER * n + k]);
			for (uint32_t j = 0; j < HIDDEN; j++)
				h[j] += g * d[j];
		}
	}
}

static void check_token(const struct outputs *out, const struct inputs *in, uint32_t steering, uint32_t t)
{
	double h[HIDDEN], before, after;
	uint16_t rows[TT_STACK];
	const float *captured = out->captured + (t * LAYERS + LAYER) * HIDDEN,
		    *norms = out->norms + (t * LAYERS + LAYER) * 2;
	choose_rows(steering, t, rows);
	bool any = rows[0] || rows[1] || rows[2] || rows[3];
	residual_reference(in, t, h);
	before = norm_of(h);
	steer_reference(in, steering, t, h);
	after = norm_of(h);
	for (uint32_t i = 0; i < HIDDEN; i++) {
		float got = out->h[t * HIDDEN + i], gamma = in->next_norm[i];
		cr_assert(close_to(got, h[i]), "token %u, column %u: %.9g, not %.9g", t, i, (double)got, h[i]);
		cr_assert_eq(out->x[t * HIDDEN + i], tt_emu_bf16(got * gamma));
		cr_assert_eq(captured[i], t % 3 ? got : 0.0f, "capture of token %u", t);
		cr_assert_eq(out->captured[t * LAYERS * HIDDEN + i], 0.0f); /* other layers stay 0 */
	}
	cr_assert(close_to(norms[0], any ? before : 0), "token %u: norm %g, not %g", t, (double)norms[0], before);
	cr_assert(close_to(norms[1], any ? after : 0), "token %u: norm %g, not %g", t, (double)norms[1], after);
	cr_assert_eq(norms[2], 0.0f);
	for (uint32_t j = 0; j < NORM_TILES; j++) {
		double sum = 0;
		for (uint32_t i = j * TT_NORM_TILE; i < (j + 1) * TT_NORM_TILE; i++)
			sum += (double)out->h[t * HIDDEN + i] * out->h[t * HIDDEN + i];
		cr_assert(fabs(out->squares[t * NORM_TILES + j] - sum) <= 1e-6 * sum);
	}
}

static void check_step(const struct step_case *c, enum tt_emu_order order, uint64_t launches)
{
	struct outputs *out = run_step(c, OP_DOWN_PROJ, order);
	struct inputs *in = make_inputs();
	cr_assert_eq(tt_emu_counted()->launches, launches);
	like_the_twin(c, OP_DOWN_PROJ, out);
	for (uint32_t t = c->first; t < c->first + c->n; t++)
		check_token(out, in, c->steering, t);
	free(in);
	free(out);
}

Test(emu_product_steer, add_in_the_epilogue)
{
	static const struct step_case cases[] = {
		{5, 8, 8, 132, true, true, false, 1},
		{16, 50, 64, 132, true, true, false, 1},
		{0, 140, 256, 132, true, true, false, 1},
	};
	for (const struct step_case &c : cases)
		for (int order = 0; order < TT_EMU_ORDERS; order++)
			check_step(&c, (enum tt_emu_order)order, 1); /* norms cost no launch */
}

Test(emu_product_steer, every_operation_in_the_row_kernel)
{
	static const struct step_case c = {3, 40, 64, 132, true, true, true, 2};
	uint32_t seen = 0;
	for (uint32_t t = c.first; t < c.first + c.n; t++) {
		uint16_t rows[TT_STACK];
		choose_rows(c.steering, t, rows);
		for (uint32_t i = 0; i < TT_STACK; i++)
			seen |= 1u << slot_ops[row_slots[rows[i]]];
	}
	cr_assert_eq(seen, (1u << tt_n_operations()) - 1, "an operation of the table steers no token");
	for (int order = 0; order < TT_EMU_ORDERS; order++)
		check_step(&c, (enum tt_emu_order)order, 2);
}

static void same_step(const struct outputs *a, const struct outputs *b)
{
	cr_assert_eq(memcmp(a->h, b->h, sizeof a->h), 0, "h");
	cr_assert_eq(memcmp(a->x, b->x, sizeof a->x), 0, "x");
	cr_assert_eq(memcmp(a->squares, b->squares, sizeof a->squares), 0, "squares");
	cr_assert_eq(memcmp(a->captured, b->captured, sizeof a->captured), 0, "captured");
}

Test(emu_product_steer, row_kernel_gives_the_epilogues_bits_where_all_add)
{
	struct step_case c = {0, 40, 40, 132, true, true, false, 1};
	struct outputs *fused = run_step(&c, OP_DOWN_PROJ, TT_EMU_FORWARD);
	c.row_steering = true;
	struct outputs *rows = run_step(&c, OP_DOWN_PROJ, TT_EMU_FORWARD);
	same_step(fused, rows);
	cr_assert_eq(memcmp(fused->norms, rows->norms, sizeof rows->norms), 0, "norms");
	free(fused);
	free(rows);
}

/* Token 3 of 5 has row 4 alone, whose c is 0 and whose direction is infinite. */
Test(emu_product_steer, off_and_coefficient_zero_are_the_same_bits)
{
	for (uint32_t row_steering = 0; row_steering < 2; row_steering++) {
		struct step_case c = {3, 1, 1, 132, true, false, row_steering != 0, 0};
		struct outputs *off = run_step(&c, OP_DOWN_PROJ, TT_EMU_FORWARD);
		cr_assert_eq(tt_emu_counted()->loads[TT_TRAFFIC_DIRECTION].bytes, 0);
		c.steering = 1;
		struct outputs *zero = run_step(&c, OP_DOWN_PROJ, TT_EMU_FORWARD);
		same_step(off, zero);
		cr_assert_leq(tt_emu_counted()->loads[TT_TRAFFIC_DIRECTION].bytes,
			4 * (row_steering ? 256 : HIDDEN / TT_NORM_TILE)); /* only the coefficient is read */
		free(off);
		free(zero);
	}
}

/* Runs only the row kernel, on the given h. */
static void steer_given(const struct step_case *c, const float row[HIDDEN], float got[HIDDEN])
{
	struct world w;
	struct tt_error err = {0, ""};
	tt_emu_reset(TT_EMU_FORWARD, 1);
	world_open(&w, c, false);
	cudaMemcpy(w.h, row, HIDDEN * sizeof *row, cudaMemcpyHostToDevice);
	const struct tt_down_proj_args args = {
		&w.config, w.host_plan, &w.layer, LAYER, w.ffn, w.h, w.slots, w.coef, w.captured, NULL, w.next_norm};
	cr_assert_eq(steer_row_launch(&w.cuda, &args, NULL, false, &err), TT_OK, "%s", err.message);
	fetched(got, w.h, HIDDEN * sizeof *got);
	world_close(&w);
}

/* The residual is a sum that starts at +0.0, so it never gives -0.0. The test plants -0.0 before the row kernel runs.
 * Token 3 has a row whose c is 0. Token 13 has a one-sided row alone, and is given an h on either side. */
Test(emu_product_steer, coefficient_zero_keeps_minus_zero)
{
	static const struct step_case zero = {3, 1, 1, 132, false, false, true, 1};
	static const struct step_case one_sided = {13, 1, 1, 132, false, false, true, 2};
	struct inputs *in = make_inputs();
	float row[HIDDEN], got[HIDDEN];
	memcpy(row, in->h + 3 * HIDDEN, sizeof row);
	row[5] = row[77] = -0.0f;
	steer_given(&zero, row, got);
	cr_assert_eq(memcmp(got, row, sizeof row), 0);
	for (int side = -1; side <= 1; side += 2) {
		for (uint32_t i = 0; i < HIDDEN; i++)
			row[i] = i % 2 ? (float)side * 2 * in->directions[7][LAYER * HIDDEN + i] : -0.0f;
		steer_given(&one_sided, row, got);
		cr_assert_eq(memcmp(got, row, sizeof row) == 0, side < 0, "side %d", side);
	}
	free(in);
}

/* If the row kernel is missing from the graph by mistake, the tokens of the policies that need it must show it, and no
 * others. */
Test(emu_product_steer, operations_never_pass_for_add)
{
	static const struct step_case c = {0, 28, 28, 132, true, false, false, 2};
	struct outputs *out = run_step(&c, OP_DOWN_PROJ, TT_EMU_FORWARD);
	struct inputs *in = make_inputs();
	for (uint32_t t = 0; t < c.n; t++) {
		uint16_t rows[TT_STACK];
		bool whole = false;
		choose_rows(2, t, rows);
		for (uint32_t i = 0; i < TT_STACK; i++)
			whole |= (slot_ops[row_slots[rows[i]]] != TT_OP_ADD || slot_forms[row_slots[rows[i]]]) &&
				 in->coef[rows[i] * LAYERS + LAYER] != 0;
		cr_assert_eq((bool)isnan(out->h[t * HIDDEN]), whole, "token %u", t);
	}
	free(in);
	free(out);
}

Test(emu_product_steer, arrival_counters_end_at_zero)
{
	static const struct step_case c = {0, 200, 256, 132, true, true, false, 1};
	struct world w;
	struct tt_error err = {0, ""};
	uint32_t arrivals[64];
	tt_emu_reset(TT_EMU_RANDOM, 3);
	world_open(&w, &c, false);
	cr_assert_eq(world_run(&w, OP_DOWN_PROJ | OP_QKV_NORMED, &err), TT_OK, "%s", err.message);
	fetched(arrivals, w.cuda.arrivals, sizeof arrivals);
	for (uint32_t i = 0; i < 64; i++)
		cr_assert_eq(arrivals[i], 0);
	world_close(&w);
}
