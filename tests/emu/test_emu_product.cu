/* Every op of the product family against its twin on the CPU, and against float64, from the formulas of kernels/ops.h
 * and the rounding points of cuda.h. Compiled three times: in worlds of WORLD_DEEP a slice of K has so many chunks that
 * its ring goes round, in every kernel of the family: of qkv, gate_up and logits with K 1424 (slices of 5 or 6 chunks
 * of 32), of o_proj with 1440. */
#include "tests/emu/product_world.h"

/* f32 outputs: sums of up to 176 products of numbers near 1 in f32, a few roundings of 2^-24 each way; and exp's 2
 * units. Of 1440 products, three times as large, some more. */
#ifdef WORLD_DEEP
static const double F32_TOLERANCE = 4e-5;
#else
static const double F32_TOLERANCE = 1e-5;
#endif

static void near_f32(double got, double expected, const char *what, uint32_t token, uint32_t column)
{
	cr_assert(fabs(got - expected) <= F32_TOLERANCE * (1 + fabs(expected)),
		"%s: token %u, column %u: %.9g, not %.9g", what, token, column, got, expected);
}

/* bf16 outputs: half a unit in the last of 8 bits, beside the above. */
static void near_bf16(tt_bf16 got, double expected, const char *what, uint32_t token, uint32_t column)
{
	int exponent;
	frexp(expected, &exponent);
	double tolerance = F32_TOLERANCE * (1 + fabs(expected)) + ldexp(1, exponent - 9);
	cr_assert(fabs(from_bf16(got) - expected) <= tolerance, "%s: token %u, column %u: %.9g, not %.9g", what, token,
		column, from_bf16(got), expected);
}

static double dot(const tt_bf16 *w, const tt_bf16 *x, uint32_t n)
{
	double sum = 0;
	for (uint32_t k = 0; k < n; k++)
		sum += from_bf16(w[k]) * from_bf16(x[k]);
	return sum;
}

static double inverse_rms(const struct inputs *in, uint32_t token)
{
	double sum = 0;
	for (uint32_t i = 0; i < HIDDEN; i++)
		sum += (double)in->h[token * HIDDEN + i] * in->h[token * HIDDEN + i];
	return 1 / sqrt(sum / HIDDEN + (double)EPS);
}

/* The norm's inputs, which are written with every h: exact, but for the order of 16 squares. */
static void check_norm_inputs(const struct outputs *out, const float *gamma, uint32_t first, uint32_t n)
{
	for (uint32_t t = first; t < first + n; t++) {
		for (uint32_t i = 0; i < HIDDEN; i++)
			cr_assert_eq(out->x[t * HIDDEN + i], tt_emu_bf16(out->h[t * HIDDEN + i] * gamma[i]));
		for (uint32_t j = 0; j < NORM_TILES; j++) {
			double sum = 0;
			for (uint32_t i = j * TT_NORM_TILE; i < (j + 1) * TT_NORM_TILE; i++)
				sum += (double)out->h[t * HIDDEN + i] * out->h[t * HIDDEN + i];
			cr_assert(fabs(out->squares[t * NORM_TILES + j] - sum) <= 1e-6 * sum);
		}
	}
}

#ifdef WORLD_DEEP
/* 8, 32 and 64 tokens a block, of these 32 and 64 weight rows; then 128 tokens, 64 and 128 rows. */
static const struct step_case eight = {60, 5, 8, 132, false, false, false, 0},
			      thirty_two = {50, 20, 32, 132, false, false, false, 0},
			      sixty_four = {30, 40, 64, 132, false, false, false, 0},
			      more_rows = {30, 40, 64, 1, false, false, false, 0},
			      wide = {3, 66, 66, 132, false, false, false, 0},
			      wider = {3, 66, 66, 1, false, false, false, 0};
static const struct step_case *const cases[] = {&eight, &thirty_two, &sixty_four, &more_rows, &wide, &wider};
#else
static const struct step_case one_tile = {40, 5, 8, 132, false, false, false, 0},
			      few = {16, 9, 13, 132, false, false, false, 0},
			      many = {3, 150, 160, 132, false, false, false, 0};
static const struct step_case *const cases[] = {&one_tile, &few, &many};
#endif

/* One op's outputs, held against the twin. */
static struct outputs *run_checked(const struct step_case *c, unsigned op)
{
#ifdef WORLD_DEEP
	/* the kernels of devices without clusters */
	world_alone = true;
	struct outputs *alone = run_step(c, op, TT_EMU_FORWARD);
	like_the_twin(c, op, alone);
	free(alone);
	world_alone = false;
#endif
	struct outputs *out = run_step(c, op, TT_EMU_FORWARD);
	like_the_twin(c, op, out);
	return out;
}

Test(emu_product, embed)
{
	for (const struct step_case *c : cases) {
		struct outputs *out = run_checked(c, OP_EMBED);
		struct inputs *in = make_inputs();
		for (uint32_t t = c->first; t < c->first + c->n; t++)
			for (uint32_t i = 0; i < HIDDEN; i++)
				cr_assert_eq(out->h[t * HIDDEN + i],
					twin_bf16_value(in->embedding[t * 31 % VOCAB * HIDDEN + i]));
		check_norm_inputs(out, in->attn_norm, c->first, c->n);
		free(in);
		free(out);
	}
}

/* One head's outputs before rotation. */
static void head_reference(const struct inputs *in, uint32_t token, uint32_t head, double y[HEAD_DIM])
{
	for (uint32_t i = 0; i < HEAD_DIM; i++) {
		uint32_t row = head * HEAD_DIM + i;
		double bias = row < Q ? in->bq[row] : row < Q + KV ? in->bk[row - Q] : in->bv[row - Q - KV];
		y[i] = dot(in->w_qkv + row * HIDDEN, in->x + token * HIDDEN, HIDDEN) * inverse_rms(in, token) + bias;
	}
}

static void rotate_reference(const struct inputs *in, uint32_t token, double y[HEAD_DIM])
{
	for (uint32_t i = 0; i < HEAD_DIM / 2; i++) {
		float angle = (float)position_of(token) * in->inverse_frequencies[i];
		double low = y[i], high = y[i + HEAD_DIM / 2], c = cos((double)angle), s = sin((double)angle);
		y[i] = low * c - high * s;
		y[i + HEAD_DIM / 2] = high * c + low * s;
	}
}

static void norm_reference(const float weight[HEAD_DIM], double y[HEAD_DIM])
{
	double sum = 0;
	for (uint32_t i = 0; i < HEAD_DIM; i++)
		sum += y[i] * y[i];
	for (uint32_t i = 0; i < HEAD_DIM; i++)
		y[i] *= (double)weight[i] / sqrt(sum / HEAD_DIM + (double)EPS);
}

static void check_qkv(unsigned op)
{
	for (const struct step_case *c : cases) {
		struct outputs *out = run_checked(c, op);
		struct inputs *in = make_inputs();
		uint32_t written = 0;
		for (uint32_t t = c->first; t < c->first + c->n; t++) {
			for (uint32_t head = 0; head < HEADS + 2 * KV_HEADS; head++) {
				double y[HEAD_DIM];
				const tt_bf16 *got = out->q + t * Q + head * HEAD_DIM;
				head_reference(in, t, head, y);
				if (op == OP_QKV_NORMED && head < HEADS + KV_HEADS)
					norm_reference(head < HEADS ? in->q_norm : in->k_norm, y);
				if (head < HEADS + KV_HEADS)
					rotate_reference(in, t, y);
				if (head >= HEADS)
					got = out->kv + kv_at(t, (head - HEADS) / KV_HEADS, (head - HEADS) % KV_HEADS);
				for (uint32_t i = 0; i < HEAD_DIM; i++)
					near_bf16(got[i], y[i], "qkv", t, head * HEAD_DIM + i);
			}
		}
		for (uint32_t i = 0; i < KV_SIZE; i++)
			written += out->kv[i] != 0;
		cr_assert_leq(written, c->n * 2 * KV); /* and nothing beside it */
		free(in);
		free(out);
	}
}

Test(emu_product, qkv)
{
	check_qkv(OP_QKV);
}

Test(emu_product, qkv_with_norms_of_heads)
{
	check_qkv(OP_QKV_NORMED);
}

/* A row of keys or values as it becomes in eight bits. */
static void round_to_fp8(tt_bf16 *x)
{
	float most = 0;
	for (uint32_t i = 0; i < HEAD_DIM; i++)
		most = fmaxf(most, fabsf(twin_bf16_value(x[i])));
	uint16_t scale = tt_fp8_scale(most);
	for (uint32_t i = 0; i < HEAD_DIM; i++) {
		uint8_t code = tt_f32_to_fp8(twin_bf16_value(x[i]) * tt_fp8_inverse(scale));
		x[i] = tt_emu_bf16(tt_fp8_to_f32(code) * twin_bf16_value(scale));
	}
}

/* The bf16 pages' numbers in eight bits, to the bit, and the same queries. */
Test(emu_product, qkv_of_fp8)
{
	static const unsigned ops[] = {OP_QKV, OP_QKV_NORMED};
	for (const struct step_case *c : cases)
		for (unsigned op : ops) {
			struct outputs *want = run_checked(c, op);
			world_fp8 = true;
			struct outputs *got = run_step(c, op, TT_EMU_RANDOM);
			world_fp8 = false;
			for (uint32_t t = c->first; t < c->first + c->n; t++)
				for (uint32_t head = 0; head < 2 * KV_HEADS; head++)
					round_to_fp8(want->kv + kv_at(t, head / KV_HEADS, head % KV_HEADS));
			cr_assert_arr_eq(got->kv, want->kv, sizeof want->kv, "%u tokens", c->n);
			cr_assert_arr_eq(got->q, want->q, sizeof want->q, "%u tokens", c->n);
			free(want);
			free(got);
		}
}

Test(emu_product, o_proj)
{
	for (const struct step_case *c : cases) {
		struct outputs *out = run_checked(c, OP_O_PROJ);
		struct inputs *in = make_inputs();
		for (uint32_t t = c->first; t < c->first + c->n; t++)
			for (uint32_t i = 0; i < HIDDEN; i++)
				near_f32(out->h[t * HIDDEN + i],
					(double)in->h[t * HIDDEN + i] + in->bo[i] +
						dot(in->wo + i * Q, in->attention + t * Q, Q),
					"o_proj", t, i);
		check_norm_inputs(out, in->ffn_norm, c->first, c->n);
		free(in);
		free(out);
	}
}

Test(emu_product, gate_up)
{
	for (const struct step_case *c : cases) {
		struct outputs *out = run_checked(c, OP_GATE_UP);
		struct inputs *in = make_inputs();
		for (uint32_t t = c->first; t < c->first + c->n; t++) {
			double inverse = inverse_rms(in, t);
			const tt_bf16 *x = in->x_ffn + t * HIDDEN;
			for (uint32_t i = 0; i < FFN; i++) {
				double g = dot(in->w_gate_up + i * HIDDEN, x, HIDDEN) * inverse + in->b_gate[i];
				double u = dot(in->w_gate_up + (FFN + i) * HIDDEN, x, HIDDEN) * inverse + in->b_up[i];
				near_bf16(out->ffn[t * FFN + i], g / (1 + exp(-g)) * u, "gate_up", t, i);
			}
		}
		free(in);
		free(out);
	}
}

Test(emu_product, down_proj_unsteered)
{
	for (const struct step_case *c : cases) {
		struct outputs *out = run_checked(c, OP_DOWN_PROJ);
		struct inputs *in = make_inputs();
		for (uint32_t t = c->first; t < c->first + c->n; t++)
			for (uint32_t i = 0; i < HIDDEN; i++)
				near_f32(out->h[t * HIDDEN + i],
					(double)in->h[t * HIDDEN + i] + in->b_down[i] +
						dot(in->w_down + i * FFN, in->ffn + t * FFN, FFN),
					"down_proj", t, i);
		check_norm_inputs(out, in->next_norm, c->first, c->n);
		free(in);
		free(out);
	}
}

Test(emu_product, logits)
{
	for (const struct step_case *c : cases) {
		struct outputs *out = run_checked(c, OP_LOGITS);
		struct inputs *in = make_inputs();
		for (uint32_t t = c->first; t < c->first + c->n; t++)
			for (uint32_t i = 0; i < VOCAB; i++)
				near_f32(out->logits[t * VOCAB + i],
					dot(in->output + i * HIDDEN, in->x_output + t * HIDDEN, HIDDEN) *
						inverse_rms(in, t),
					"logits", t, i);
		free(in);
		free(out);
	}
}
