/* embed, qkv, gate_up, down_proj without steering, and logits against references in double. */
#include "kernels/cpu/fp8.h"
#include "test_kernels.h"

/* Two roundings of a norm and K / 8 fused additions; 1.5e-7 seen. silu adds an exponential of 2 units. */
#define TOLERANCE 5e-7

struct shape {
	uint32_t hidden, n_heads, n_kv_heads, head_dim, ffn;
	enum tt_type type;
	bool interleaved, biased;
	enum tt_kv_type kv;
	bool head_norms;
	bool gemma; /* gelu, and a norm after the feed-forward part */
};

static const struct shape SHAPES[] = {
	{576, 9, 3, 64, 1536, TT_TYPE_Q4_1, true, false, TT_KV_F32, false, false},
	{64, 4, 2, 16, 96, TT_TYPE_Q8_0, false, true, TT_KV_F16, true, false},
	{96, 4, 4, 24, 160, TT_TYPE_Q4_0, true, true, TT_KV_F32, false, false},
	{17, 3, 1, 6, 23, TT_TYPE_F32, false, true, TT_KV_F16, true, true},
	{40, 2, 1, 20, 56, TT_TYPE_BF16, true, false, TT_KV_F32, false, false},
	{33, 5, 5, 10, 1, TT_TYPE_F16, false, false, TT_KV_F32, true, false},
	{48, 4, 2, 16, 96, TT_TYPE_F16, false, false, TT_KV_F32, true, true},
	{64, 4, 2, 32, 96, TT_TYPE_Q8_0, false, true, TT_KV_Q8, true, false},
	{64, 4, 2, 16, 96, TT_TYPE_Q8_0, true, true, TT_KV_FP8, false, false},
};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

static struct tt_config config_of(const struct shape *s)
{
	return (struct tt_config){.n_layers = 2,
		.hidden_size = s->hidden,
		.n_heads = s->n_heads,
		.n_kv_heads = s->n_kv_heads,
		.head_dim = s->head_dim,
		.ffn_size = s->ffn,
		.vocab_size = 101,
		.context_length = 4096,
		.rms_norm_eps = 1e-5f,
		.activation = s->gemma ? TT_GELU_TANH : TT_SILU,
		.rope_interleaved = s->interleaved};
}

static double activation(double x, bool gelu)
{
	return gelu ? 0.5 * x * (1 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x))) : x / (1 + exp(-x));
}

static void norm_reference(const float *x, const float *w, double eps, size_t n, double *y)
{
	double sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += (double)x[i] * (double)x[i];
	for (size_t i = 0; i < n; i++)
		y[i] = (double)x[i] / sqrt(sum / (double)n + eps) * (double)w[i];
}

/* y[n_out] = x * m^T + bias */
static void product_reference(const struct test_matrix *m, const float *bias, const double *x, double *y)
{
	for (size_t o = 0; o < m->matrix.n_out; o++) {
		y[o] = bias ? (double)bias[o] : 0;
		for (size_t k = 0; k < m->matrix.n_in; k++)
			y[o] += x[k] * (double)m->weights[o * m->matrix.n_in + k];
	}
}

Test(kernels_ops, embed_copies_rows_and_refuses_unknown_tokens)
{
	enum { WIDTH = 256 }; /* a block of the largest types */
	const struct tt_sample_result sampled[2] = {{.token = 7}, {.token = 9}};
	struct tt_backend *backend = open_cpu(2, TT_CPU_BODY_BEST);
	struct tt_config config = {.hidden_size = WIDTH, .vocab_size = 11};
	for (int t = 0; t < N_TYPES; t++) {
		struct test_matrix m = random_matrix(TYPES[t], 11, WIDTH, 3);
		struct tt_step_plan *step = make_step((struct tt_step_plan){.n_tokens = 3});
		float h[3 * WIDTH];
		struct tt_embed_args args = {.config = &config, .step = step, .embedding = &m.matrix, .h = h};
		struct tt_error err;
		int32_t *tokens = tt_step_tokens(step);
		tokens[0] = 10;
		tokens[1] = 0;
		tokens[2] = 4;
		ASSERT_OK(backend->embed(backend, &args, &ok_error));
		for (int i = 0; i < 3; i++)
			ASSERT_SAME_BITS(h + WIDTH * i, m.weights + WIDTH * tokens[i], WIDTH, "token %d", tokens[i]);
		tokens[1] = -2; /* what sample 1 of the step before chose */
		args.sampled = sampled;
		ASSERT_OK(backend->embed(backend, &args, &ok_error));
		ASSERT_SAME_BITS(h + WIDTH, m.weights + WIDTH * 9, WIDTH, "token %d", 9);
		config.embedding_scale = 3;
		ASSERT_OK(backend->embed(backend, &args, &ok_error));
		for (int i = 0; i < WIDTH; i++)
			cr_assert_eq(h[WIDTH + i], 3 * m.weights[WIDTH * 9 + i]);
		config.embedding_scale = 0;
		args.sampled = NULL;
		tokens[1] = 11;
		cr_assert_eq(backend->embed(backend, &args, &err), TT_ERR_ARGUMENT);
		tokens[1] = -1;
		cr_assert_eq(backend->embed(backend, &args, &err), TT_ERR_ARGUMENT);
		free(step);
		free_matrix(&m);
	}
	backend->close(backend);
}

/* Where key (which 0) or value (1) of a position stands, as ops.h lays pages out. */
static float kv_at(const struct tt_kv_pages *kv, const struct tt_config *c, uint32_t layer, uint32_t page,
	uint32_t which, uint32_t head, uint32_t slot, uint32_t i)
{
	size_t at = (((size_t)layer * kv->n_pages + page) * 2 + which) * c->n_kv_heads * TT_PAGE_TOKENS * c->head_dim +
		    ((size_t)head * TT_PAGE_TOKENS + slot) * c->head_dim + i;
	return kv_number(kv, at, c->head_dim);
}

/* Each head over its root mean square; weight NULL: as it is. */
static void head_norm_reference(const struct tt_config *c, const float *weight, uint32_t n_heads, double *y)
{
	for (uint32_t h = 0; h < n_heads && weight; h++) {
		double head[64];
		memcpy(head, y + (size_t)h * c->head_dim, c->head_dim * sizeof *head);
		double sum = 0;
		for (uint32_t i = 0; i < c->head_dim; i++)
			sum += head[i] * head[i];
		for (uint32_t i = 0; i < c->head_dim; i++)
			y[(size_t)h * c->head_dim + i] =
				head[i] / sqrt(sum / c->head_dim + (double)c->rms_norm_eps) * (double)weight[i];
	}
}

/* Heads rotated by position; in interleaved rows the pair i is (2i, 2i + 1), and it always goes to (i, i + half). */
static void rotate_reference(const struct tt_config *c, const double *in, uint32_t n_heads, int32_t position,
	const float *inverse, double *out)
{
	uint32_t half = c->head_dim / 2;
	for (uint32_t h = 0; h < n_heads; h++)
		for (uint32_t i = 0; i < half; i++) {
			const double *x = in + (size_t)h * c->head_dim;
			double *y = out + (size_t)h * c->head_dim;
			double a = c->rope_interleaved ? x[2 * i] : x[i],
			       b = c->rope_interleaved ? x[2 * i + 1] : x[i + half];
			double angle = (double)((float)position * inverse[i]);
			y[i] = a * cos(angle) - b * sin(angle);
			y[i + half] = b * cos(angle) + a * sin(angle);
		}
}

static void check_qkv(const struct shape *s, uint32_t n, uint32_t threads, enum tt_cpu_body_choice choice)
{
	struct tt_config c = config_of(s);
	uint32_t q_width = s->n_heads * s->head_dim, kv_width = s->n_kv_heads * s->head_dim;
	struct test_matrix wq = random_matrix(s->type, q_width, s->hidden, 1),
			   wk = random_matrix(s->type, kv_width, s->hidden, 2);
	struct test_matrix wv = random_matrix(s->type, kv_width, s->hidden, 3);
	float *norm = random_floats(s->hidden, 1, 4), *h = random_floats((size_t)n * s->hidden, 3, 5);
	float *bias = random_floats(q_width + 2 * (size_t)kv_width, 1, 6),
	      *q = must_alloc((size_t)n * q_width, sizeof *q);
	float *inverse = must_alloc(s->head_dim / 2, sizeof *inverse);
	for (uint32_t i = 0; i < s->head_dim / 2; i++)
		inverse[i] = powf(10000.0f, -2.0f * (float)i / (float)s->head_dim);
	float *head_norms = random_floats(2 * (size_t)s->head_dim, 2, 7);
	struct tt_layer layer = {.attn_norm = norm, .wq = wq.matrix, .wk = wk.matrix, .wv = wv.matrix};
	if (s->head_norms) {
		layer.q_norm = head_norms;
		layer.k_norm = head_norms + s->head_dim;
	}
	if (s->biased) {
		layer.bq = bias;
		layer.bk = bias + q_width;
		layer.bv = bias + q_width + kv_width;
	}
	/* Two sequences, interleaved pages, the second from position 37 on. */
	struct tt_step_plan *step = make_step((struct tt_step_plan){.n_tokens = n, .n_seqs = 2, .max_pages = 6});
	struct tt_kv_pages kv = {.type = s->kv, .n_pages = 12};
	kv.data = must_alloc((size_t)2 * 12 * 2 * kv_width * TT_PAGE_TOKENS, 4);
	kv.scales = must_alloc((size_t)2 * 12 * 2 * s->n_kv_heads * TT_PAGE_TOKENS, sizeof *kv.scales);
	for (uint32_t i = 0; i < 6; i++) {
		tt_step_pages(step)[i] = (int32_t)(2 * i);
		tt_step_pages(step)[6 + i] = (int32_t)(11 - 2 * i);
	}
	for (uint32_t t = n / 2; t < n; t++) {
		tt_step_seqs(step)[t] = 1;
		tt_step_positions(step)[t] = (int32_t)(37 + t - n / 2);
	}
	struct tt_backend *backend = open_cpu(threads, choice);
	struct tt_qkv_args args = {&c, step, &layer, 1, inverse, h, q, &kv};
	ASSERT_OK(backend->qkv(backend, &args, &ok_error));
	backend->close(backend);

	double *x = must_alloc(s->hidden, sizeof *x), *y = must_alloc(q_width, sizeof *y),
	       *want = must_alloc(q_width, sizeof *want);
	float *got = must_alloc(kv_width, sizeof *got);
	/* f16: half of 2^-10 a number, at worst; q8: of a 127th of the largest of 32; fp8: of 2^-3, at worst */
	double kv_tolerance = s->kv == TT_KV_F16   ? 4e-4
			      : s->kv == TT_KV_Q8  ? 1e-2
			      : s->kv == TT_KV_FP8 ? 6e-2
						   : TOLERANCE;
	for (uint32_t t = 0; t < n; t++) {
		int32_t position = tt_step_positions(step)[t], seq = tt_step_seqs(step)[t];
		uint32_t page = (uint32_t)tt_step_pages(step)[seq * 6 + position / 16], slot = (uint32_t)position % 16;
		norm_reference(h + (size_t)t * s->hidden, norm, (double)c.rms_norm_eps, s->hidden, x);
		product_reference(&wq, layer.bq, x, y);
		head_norm_reference(&c, layer.q_norm, s->n_heads, y);
		rotate_reference(&c, y, s->n_heads, position, inverse, want);
		ASSERT_CLOSE(
			q + (size_t)t * q_width, want, q_width, TOLERANCE, "q of token %u, hidden %u", t, s->hidden);
		for (uint32_t which = 0; which < 2; which++) {
			product_reference(which ? &wv : &wk, which ? layer.bv : layer.bk, x, which ? want : y);
			if (!which) {
				head_norm_reference(&c, layer.k_norm, s->n_kv_heads, y);
				rotate_reference(&c, y, s->n_kv_heads, position, inverse, want);
			}
			for (uint32_t i = 0; i < kv_width; i++)
				got[i] = kv_at(&kv, &c, 1, page, which, i / s->head_dim, slot, i % s->head_dim);
			ASSERT_CLOSE(got, want, kv_width, kv_tolerance, "%s of token %u, hidden %u", which ? "v" : "k",
				t, s->hidden);
		}
	}
	void *memory[] = {norm, h, bias, q, inverse, head_norms, step, kv.data, kv.scales, x, y, want, got};
	for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
		free(memory[i]);
	free_matrix(&wq);
	free_matrix(&wk);
	free_matrix(&wv);
}

/* Every code, and the nearest of them to numbers of all sizes; ties go to the even one, and what is too large to the
 * largest. */
Test(kernels_ops, eight_bit_floats_are_the_nearest)
{
	uint8_t codes[256];
	struct tt_kv_pages kv = {.data = codes, .type = TT_KV_FP8};
	uint64_t random = 3;
	for (int i = 0; i < 256; i++) {
		codes[i] = (uint8_t)i;
		float value = kv_number(&kv, (size_t)i, 1), read = tt_fp8_to_f32((uint8_t)i);
		cr_expect(value == read || (isnan(value) && isnan(read)), "code %d is %g, read as %g", i, (double)value,
			(double)read);
		cr_expect(tt_f32_to_fp8(value) == (isnan(value) ? 0x7f | (i & 0x80) : i) || isnan(value), "code %d", i);
	}
	for (int i = 0; i < 4000; i++) {
		float x = i < 126 ? (kv_number(&kv, (size_t)i, 1) + kv_number(&kv, (size_t)i + 1, 1)) / 2
				  : ldexpf(random_float(&random), (int)(random_bits(&random) % 24) - 12);
		int best = 0;
		for (int code = 1; code < 0x7f; code++) {
			float off = fabsf(kv_number(&kv, (size_t)code, 1) - fabsf(x)),
			      least = fabsf(kv_number(&kv, (size_t)best, 1) - fabsf(x));
			best = off < least || (off == least && code % 2 == 0) ? code : best;
		}
		cr_expect_eq(tt_f32_to_fp8(x) & 0x7f, best, "%g", (double)x);
		cr_expect_eq(tt_f32_to_fp8(x) >> 7, signbit(x) ? 1 : 0, "the sign of %g", (double)x);
	}
	cr_expect_eq(tt_f32_to_fp8(INFINITY), 0x7e);
	cr_expect_eq(tt_f32_to_fp8(-1e9f), 0xfe);
	cr_expect_eq(tt_f32_to_fp8(NAN) & 0x7f, 0x7f);
}

/* The least power of two that brings a row's largest number to 448 or below. */
Test(kernels_ops, scales_of_eight_bit_floats_are_the_least)
{
	uint64_t random = 5;
	for (int i = 0; i < 4000; i++) {
		float most = i == 0 ? 448 : i == 1 ? nextafterf(448, 500) : fabsf(random_float(&random));
		most = ldexpf(most, i < 2 ? 0 : (int)(random_bits(&random) % 112) - 100);
		float scale = tt_bf16_to_f32(tt_fp8_scale(most));
		cr_expect(most / scale <= 448 && most / scale > 224, "%g has scale %g", (double)most, (double)scale);
		cr_expect_eq(tt_fp8_inverse(tt_fp8_scale(most)) * scale, 1);
	}
	cr_expect_eq(tt_bf16_to_f32(tt_fp8_scale(0)), 0x1p-119f);
	cr_expect_eq(tt_bf16_to_f32(tt_fp8_scale(1e30f)), 0x1p7f);
	cr_expect(isnan(tt_bf16_to_f32(tt_fp8_scale(INFINITY))));
	cr_expect(isnan(tt_bf16_to_f32(tt_fp8_scale(NAN))));
}

Test(kernels_ops, qkv_equals_the_reference)
{
	for (int i = 0; i < N_SHAPES; i++) {
		check_qkv(&SHAPES[i], 1, 2, TT_CPU_BODY_BEST);
		check_qkv(&SHAPES[i], 9, 1, TT_CPU_BODY_PORTABLE);
		check_qkv(&SHAPES[i], 33, 3, TT_CPU_BODY_BEST);
	}
}

/* The angles are kept between calls: another position or another base must not find the old ones. */
Test(kernels_ops, rotations_are_made_again_when_positions_or_frequencies_change)
{
	struct tt_backend *backend = open_cpu(1, TT_CPU_BODY_BEST);
	struct tt_step_plan *step = make_step((struct tt_step_plan){.n_tokens = 2, .n_seqs = 1, .max_pages = 1});
	float inverse[2] = {1, 0.25f};
	const float *out;
	for (int round = 0; round < 3; round++) {
		if (round == 1)
			tt_step_positions(step)[1] = 9;
		if (round == 2)
			inverse[1] = 0.5f;
		ASSERT_OK(tt_cpu_rotation((struct tt_cpu *)backend, step, inverse, 2, &out, &ok_error));
		ASSERT_OK(tt_cpu_rotation((struct tt_cpu *)backend, step, inverse, 2, &out, &ok_error));
		for (int t = 0; t < 2; t++)
			for (int i = 0; i < 2; i++) {
				double angle = (double)tt_step_positions(step)[t] * (double)inverse[i];
				cr_assert_float_eq((double)out[t * 4 + i], cos(angle), 1e-7);
				cr_assert_float_eq((double)out[t * 4 + 2 + i], sin(angle), 1e-7);
			}
	}
	free(step);
	backend->close(backend);
}

/* In place. */
static void double_norm_reference(double *x, const float *w, double eps, size_t n)
{
	double sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += x[i] * x[i];
	for (size_t i = 0; i < n; i++)
		x[i] *= (double)w[i] / sqrt(sum / (double)n + eps);
}

static void check_ffn(const struct shape *s, uint32_t n, uint32_t threads, enum tt_cpu_body_choice choice)
{
	struct tt_config c = config_of(s);
	struct test_matrix gate = random_matrix(s->type, s->ffn, s->hidden, 1),
			   up = random_matrix(s->type, s->ffn, s->hidden, 2);
	enum tt_type down_type = s->ffn % tt_type_block(s->type) ? TT_TYPE_F32 : s->type;
	struct test_matrix down = random_matrix(down_type, s->hidden, s->ffn, 3);
	float *norm = random_floats(s->hidden, 4, 4), *h = random_floats((size_t)n * s->hidden, 3, 5);
	float *bias = random_floats(2 * (size_t)s->ffn + s->hidden, 1, 6),
	      *ffn = must_alloc((size_t)n * s->ffn, sizeof *ffn);
	double *x = must_alloc(s->hidden, sizeof *x), *g = must_alloc(s->ffn, sizeof *g),
	       *u = must_alloc(s->ffn, sizeof *u);
	struct tt_layer layer = {.ffn_norm = norm, .w_gate = gate.matrix, .w_up = up.matrix, .w_down = down.matrix};
	struct tt_step_plan *step = make_step((struct tt_step_plan){.n_tokens = n});
	if (s->gemma)
		layer.ffn_post_norm = norm;
	if (s->biased) {
		layer.b_gate = bias;
		layer.b_up = bias + s->ffn;
		layer.b_down = bias + 2 * (size_t)s->ffn;
	}
	struct tt_backend *backend = open_cpu(threads, choice);
	struct tt_gate_up_args args = {&c, step, &layer, h, ffn};
	struct tt_down_proj_args down_args = {.config = &c, .step = step, .layer = &layer, .ffn = ffn, .h = h};
	ASSERT_OK(backend->gate_up(backend, &args, &ok_error));
	for (uint32_t t = 0; t < n; t++) {
		norm_reference(h + (size_t)t * s->hidden, norm, (double)c.rms_norm_eps, s->hidden, x);
		product_reference(&gate, layer.b_gate, x, g);
		product_reference(&up, layer.b_up, x, u);
		for (uint32_t i = 0; i < s->ffn; i++)
			u[i] *= activation(g[i], s->gemma);
		ASSERT_CLOSE(
			ffn + (size_t)t * s->ffn, u, s->ffn, 2 * TOLERANCE, "ffn of token %u, hidden %u", t, s->hidden);
	}
	float *before = must_alloc((size_t)n * s->hidden, sizeof *before);
	memcpy(before, h, (size_t)n * s->hidden * sizeof *h);
	ASSERT_OK(backend->down_proj(backend, &down_args, &ok_error));
	for (uint32_t t = 0; t < n; t++) {
		for (uint32_t i = 0; i < s->ffn; i++)
			g[i] = (double)ffn[(size_t)t * s->ffn + i];
		product_reference(&down, layer.b_down, g, x);
		if (layer.ffn_post_norm)
			double_norm_reference(x, norm, (double)c.rms_norm_eps, s->hidden);
		for (uint32_t i = 0; i < s->hidden; i++)
			x[i] += (double)before[(size_t)t * s->hidden + i];
		ASSERT_CLOSE(
			h + (size_t)t * s->hidden, x, s->hidden, TOLERANCE, "h of token %u, hidden %u", t, s->hidden);
	}
	backend->close(backend);
	void *memory[] = {norm, h, bias, ffn, x, g, u, step, before};
	for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
		free(memory[i]);
	free_matrix(&gate);
	free_matrix(&up);
	free_matrix(&down);
}

Test(kernels_ops, gate_up_and_down_proj_equal_the_reference)
{
	for (int i = 0; i < N_SHAPES; i++) {
		check_ffn(&SHAPES[i], 1, 2, TT_CPU_BODY_BEST);
		check_ffn(&SHAPES[i], 7, 1, TT_CPU_BODY_PORTABLE);
		check_ffn(&SHAPES[i], 33, 3, TT_CPU_BODY_BEST);
	}
}

/* Gates far from zero: the activation must neither overflow nor turn a NaN into a number. */
static void check_extreme_gates(bool gelu)
{
	enum { N = 8 };
	static const float gates[N] = {-1e4f, -104.5f, -88.0f, -0.0f, 88.5f, 90, 1e30f, NAN};
	float identity[N * N] = {0}, ffn[N], norm[N], h[N], ones[N];
	struct tt_config c = {.hidden_size = N, .ffn_size = N, .activation = gelu ? TT_GELU_TANH : TT_SILU};
	struct tt_layer layer = {.ffn_norm = norm,
		.w_gate = {.data = identity, .type = TT_TYPE_F32, .n_out = N, .n_in = N},
		.w_up = {.data = identity, .type = TT_TYPE_F32, .n_out = N, .n_in = N},
		.b_gate = gates,
		.b_up = ones};
	struct tt_step_plan *step = make_step((struct tt_step_plan){.n_tokens = 1});
	for (int i = 0; i < N; i++)
		norm[i] = h[i] = ones[i] = 1;
	for (int body = TT_CPU_BODY_AVX512; body <= TT_CPU_BODY_PORTABLE; body++) {
		if (!machine_has((enum tt_cpu_body_choice)body))
			continue;
		struct tt_backend *backend = open_cpu(1, (enum tt_cpu_body_choice)body);
		struct tt_gate_up_args args = {&c, step, &layer, h, ffn};
		ASSERT_OK(backend->gate_up(backend, &args, &ok_error));
		for (int i = 0; i + 1 < N; i++) {
			double want = activation((double)gates[i], gelu);
			cr_assert(fabs((double)ffn[i] - want) <= 3e-7 * fabs(want) + 1e-36, "%g: %g, not %g",
				(double)gates[i], (double)ffn[i], want);
		}
		cr_assert(isnan(ffn[N - 1]));
		backend->close(backend);
	}
	free(step);
}

Test(kernels_ops, gate_up_bears_extreme_gates)
{
	check_extreme_gates(false);
	check_extreme_gates(true);
}

Test(kernels_ops, logits_equal_the_reference_for_the_sampled_rows)
{
	for (int i = 0; i < N_SHAPES; i++) {
		const struct shape *s = &SHAPES[i];
		struct tt_config c = config_of(s);
		struct test_matrix out = random_matrix(s->type, 101, s->hidden, 1);
		float *norm = random_floats(s->hidden, 1, 2), *h = random_floats((size_t)12 * s->hidden, 2, 3);
		float logits[3 * 101];
		double *x = must_alloc(s->hidden, sizeof *x), want[101];
		struct tt_step_plan *step = make_step((struct tt_step_plan){.n_tokens = 12, .n_samples = 3});
		static const uint32_t picked[3] = {11, 0, 4};
		for (int j = 0; j < 3; j++)
			tt_step_samples(step)[j].token = picked[j];
		struct tt_backend *backend = open_cpu(2, TT_CPU_BODY_BEST);
		struct tt_logits_args args = {&c, step, norm, &out.matrix, h, logits};
		ASSERT_OK(backend->logits(backend, &args, &ok_error));
		for (int j = 0; j < 3; j++) {
			norm_reference(h + (size_t)picked[j] * s->hidden, norm, (double)c.rms_norm_eps, s->hidden, x);
			product_reference(&out, NULL, x, want);
			ASSERT_CLOSE(
				logits + 101 * j, want, 101, TOLERANCE, "logits of row %d, hidden %u", j, s->hidden);
		}
		backend->close(backend);
		free(step);
		free(norm);
		free(h);
		free(x);
		free_matrix(&out);
	}
}

/* Sizes that cannot be had are an error, not a crash. */
Test(kernels_ops, refuses_scratch_that_does_not_fit)
{
	struct tt_backend *backend = open_cpu(1, TT_CPU_BODY_BEST);
	struct tt_error err;
	void *memory;
	cr_assert_eq(tt_cpu_scratch((struct tt_cpu *)backend, TT_CPU_SCRATCH_X, SIZE_MAX / 2, 4, &memory, &err),
		TT_ERR_MEMORY);
	cr_assert_eq(tt_cpu_scratch((struct tt_cpu *)backend, TT_CPU_SCRATCH_X, SIZE_MAX / 4, 4, &memory, &err),
		TT_ERR_MEMORY);
	ASSERT_OK(tt_cpu_scratch((struct tt_cpu *)backend, TT_CPU_SCRATCH_X, 100, 4, &memory, &ok_error));
	backend->close(backend);
	cr_assert_eq(tt_cpu_open(&backend, 100000, &err), TT_ERR_ARGUMENT);
}
