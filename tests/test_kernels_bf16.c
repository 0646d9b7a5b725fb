/* The twin of the CUDA kernels: its load, and its ops against double with the roundings that kernels/cuda/cuda.h names.
 * Each op is checked on what the ones before it left. */
#include "test_kernels.h"
#include "twin.h"

enum { HIDDEN = 72, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 16, FFN = 104, VOCAB = 61, TOKENS = 290, PAGES = 19 };
enum { Q = HEADS * HEAD_DIM, KV = KV_HEADS * HEAD_DIM };

static double rounded(double x)
{
	return (double)tt_bf16_to_f32(tt_f32_to_bf16((float)x));
}

struct layer_world {
	struct tt_backend *twin;
	struct tt_config config;
	struct tt_step_plan *step;
	struct tt_layer layer;
	struct test_matrix wq, wk, wv, wo, w_gate, w_up, w_down, output;
	float *norm, *head_norms, *bias, *h, *q, *attention, *ffn, *logits, inverse[HEAD_DIM / 2];
	struct tt_kv_pages kv;
};

static struct layer_world open_world(void)
{
	struct layer_world w = {
		.twin = open_cpu(2, TT_CPU_BODY_BF16),
		.config = {.n_layers = 1,
			.hidden_size = HIDDEN,
			.n_heads = HEADS,
			.n_kv_heads = KV_HEADS,
			.head_dim = HEAD_DIM,
			.ffn_size = FFN,
			.vocab_size = VOCAB,
			.rms_norm_eps = 1e-5f},
		.step = make_step((struct tt_step_plan){
			.n_tokens = TOKENS, .n_seqs = 1, .n_samples = TOKENS, .max_pages = PAGES}),
		.wq = random_matrix(TT_TYPE_BF16, Q, HIDDEN, 1),
		.wk = random_matrix(TT_TYPE_BF16, KV, HIDDEN, 2),
		.wv = random_matrix(TT_TYPE_BF16, KV, HIDDEN, 3),
		.wo = random_matrix(TT_TYPE_BF16, HIDDEN, Q, 4),
		.w_gate = random_matrix(TT_TYPE_BF16, FFN, HIDDEN, 5),
		.w_up = random_matrix(TT_TYPE_BF16, FFN, HIDDEN, 6),
		.w_down = random_matrix(TT_TYPE_BF16, HIDDEN, FFN, 7),
		.output = random_matrix(TT_TYPE_BF16, VOCAB, HIDDEN, 8),
		.norm = random_floats(HIDDEN, 2, 9),
		.head_norms = random_floats(2 * HEAD_DIM, 2, 12),
		.bias = random_floats(FFN, 1, 10),
		.h = random_floats(TOKENS * HIDDEN, 3, 11),
		.q = must_alloc(TOKENS * Q, sizeof *w.q),
		.attention = must_alloc(TOKENS * Q, sizeof *w.attention),
		.ffn = must_alloc(TOKENS * FFN, sizeof *w.ffn),
		.logits = must_alloc(TOKENS * VOCAB, sizeof *w.logits),
		.kv = {.data = must_alloc(PAGES * 2 * KV * TT_PAGE_TOKENS, 2), .type = TT_KV_BF16, .n_pages = PAGES},
	};
	w.layer = (struct tt_layer){.attn_norm = w.norm,
		.ffn_norm = w.norm,
		.wq = w.wq.matrix,
		.wk = w.wk.matrix,
		.wv = w.wv.matrix,
		.wo = w.wo.matrix,
		.w_gate = w.w_gate.matrix,
		.w_up = w.w_up.matrix,
		.w_down = w.w_down.matrix,
		.bk = w.bias,
		.b_up = w.bias};
	for (uint32_t i = 0; i < HEAD_DIM / 2; i++)
		w.inverse[i] = powf(10000.0f, -2.0f * (float)i / HEAD_DIM);
	for (uint32_t i = 0; i < TOKENS; i++)
		tt_step_samples(w.step)[i].token = i;
	return w;
}

static void close_world(struct layer_world *w)
{
	struct test_matrix *matrices[] = {&w->wq, &w->wk, &w->wv, &w->wo, &w->w_gate, &w->w_up, &w->w_down, &w->output};
	void *memory[] = {
		w->step, w->norm, w->head_norms, w->bias, w->h, w->q, w->attention, w->ffn, w->logits, w->kv.data};
	for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
		free_matrix(matrices[i]);
	for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
		free(memory[i]);
	w->twin->close(w->twin);
}

/* x = bf16(h * norm), and the inverse root mean square of h. */
static double norm_inputs(const struct layer_world *w, uint32_t token, double x[HIDDEN])
{
	double sum = 0;
	for (uint32_t i = 0; i < HIDDEN; i++) {
		double h = (double)w->h[token * HIDDEN + i];
		x[i] = rounded(h * (double)w->norm[i]);
		sum += h * h;
	}
	return 1 / sqrt(sum / HIDDEN + (double)w->config.rms_norm_eps);
}

static double dot(const float *row, const double *x, uint32_t n)
{
	double sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += (double)row[i] * x[i];
	return sum;
}

static double dot_f32(const float *row, const float *x, uint32_t n)
{
	double sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += (double)row[i] * (double)x[i];
	return sum;
}

/* f32 numbers that are all bf16, as bits. */
static uint16_t *bits_of(const float *x, size_t n)
{
	uint16_t *bits = must_alloc(n, sizeof *bits);
	for (size_t i = 0; i < n; i++) {
		bits[i] = tt_f32_to_bf16(x[i]);
		cr_assert_eq(tt_bf16_to_f32(bits[i]), x[i], "%zu: %.9g is no bf16", i, (double)x[i]);
	}
	return bits;
}

static void check_bf16(const char *what, const float *got, double *want, size_t n, struct twin_bound bound)
{
	uint16_t *bits = bits_of(got, n);
	twin_check_bf16(what, bits, want, n, bound);
	free(bits);
	free(want);
}

static void norm_head(const struct layer_world *w, const float *weight, double *head)
{
	double sum = 0;
	for (uint32_t i = 0; i < HEAD_DIM; i++)
		sum += head[i] * head[i];
	for (uint32_t i = 0; i < HEAD_DIM; i++)
		head[i] *= (double)weight[i] / sqrt(sum / HEAD_DIM + (double)w->config.rms_norm_eps);
}

/* Heads of a token, normalised where head_norm is not NULL, and rotated or not. */
static void heads_reference(const struct layer_world *w, uint32_t token, const struct test_matrix *m, const float *bias,
	const float *head_norm, bool rotated, double *out)
{
	double x[HIDDEN], inverse = norm_inputs(w, token, x);
	for (uint32_t i = 0; i < m->matrix.n_out; i++)
		out[i] = dot(m->weights + i * HIDDEN, x, HIDDEN) * inverse + (bias ? (double)bias[i] : 0);
	for (uint32_t i = 0; head_norm && i < m->matrix.n_out; i += HEAD_DIM)
		norm_head(w, head_norm, out + i);
	for (uint32_t i = 0; rotated && i < m->matrix.n_out; i++) {
		uint32_t pair = i % HEAD_DIM, half = HEAD_DIM / 2;
		if (pair >= half)
			continue;
		double angle = (double)((float)token * w->inverse[pair]), a = out[i], b = out[i + half];
		out[i] = a * cos(angle) - b * sin(angle);
		out[i + half] = b * cos(angle) + a * sin(angle);
	}
}

static size_t kv_at(uint32_t key, uint32_t which, uint32_t head)
{
	size_t row = ((size_t)key / TT_PAGE_TOKENS * 2 + which) * KV_HEADS + head;
	return (row * TT_PAGE_TOKENS + key % TT_PAGE_TOKENS) * HEAD_DIM;
}

static void check_qkv(struct layer_world *w, bool head_norms)
{
	struct tt_qkv_args args = {&w->config, w->step, &w->layer, 0, w->inverse, w->h, w->q, &w->kv};
	double *q = must_alloc(TOKENS * Q, sizeof *q), *kv = must_alloc(PAGES * 2 * KV * TT_PAGE_TOKENS, sizeof *kv);
	w->layer.q_norm = head_norms ? w->head_norms : NULL;
	w->layer.k_norm = head_norms ? w->head_norms + HEAD_DIM : NULL;
	ASSERT_OK(w->twin->qkv(w->twin, &args, &ok_error));
	for (uint32_t t = 0; t < TOKENS; t++) {
		double row[2][KV];
		heads_reference(w, t, &w->wq, NULL, w->layer.q_norm, true, q + t * Q);
		heads_reference(w, t, &w->wk, w->bias, w->layer.k_norm, true, row[0]);
		heads_reference(w, t, &w->wv, NULL, NULL, false, row[1]);
		for (uint32_t i = 0; i < 2 * KV; i++)
			kv[kv_at(t, i / KV, i % KV / HEAD_DIM) + i % HEAD_DIM] = row[i / KV][i % KV];
	}
	check_bf16("q", w->q, q, TOKENS * Q, TWIN_BF16);
	twin_check_bf16("pages", w->kv.data, kv, PAGES * 2 * KV * TT_PAGE_TOKENS, TWIN_BF16);
	free(kv);
}

/* Split by split: weights rounded, their sum not, and a common factor to the largest maximum of all. */
static void attention_reference(const struct layer_world *w, uint32_t token, uint32_t head, double *out)
{
	const uint16_t *kv = w->kv.data;
	double scores[TOKENS], max = -INFINITY, total = 0;
	uint32_t kv_head = head / (HEADS / KV_HEADS);
	for (uint32_t k = 0; k <= token; k++) {
		scores[k] = 0;
		for (uint32_t i = 0; i < HEAD_DIM; i++)
			scores[k] += (double)w->q[token * Q + head * HEAD_DIM + i] *
				     (double)tt_bf16_to_f32(kv[kv_at(k, 0, kv_head) + i]) / sqrt(HEAD_DIM);
		max = fmax(max, scores[k]);
	}
	memset(out, 0, HEAD_DIM * sizeof *out);
	for (uint32_t first = 0; first <= token; first += TT_SPLIT_KEYS) {
		uint32_t end = first + TT_SPLIT_KEYS < token + 1 ? first + TT_SPLIT_KEYS : token + 1;
		double largest = -INFINITY;
		for (uint32_t k = first; k < end; k++)
			largest = fmax(largest, scores[k]);
		for (uint32_t k = first; k < end; k++) {
			double weight = exp(scores[k] - largest), factor = exp(largest - max);
			total += weight * factor;
			for (uint32_t i = 0; i < HEAD_DIM; i++)
				out[i] +=
					rounded(weight) * factor * (double)tt_bf16_to_f32(kv[kv_at(k, 1, kv_head) + i]);
		}
	}
	for (uint32_t i = 0; i < HEAD_DIM; i++)
		out[i] /= total;
}

/* Scores in f32 are 1e-7 off: of some ten thousand weights one is rounded to the other neighbour, 2^-8 of it, which
 * outputs near zero show. 0.016% of the outputs differ. */
static void check_attention(struct layer_world *w)
{
	static const struct twin_bound bound = {1e-3, 1e-3};
	struct tt_attention_args args = {&w->config, w->step, 0, w->q, w->attention, &w->kv};
	double *want = must_alloc(TOKENS * Q, sizeof *want);
	ASSERT_OK(w->twin->attention(w->twin, &args, &ok_error));
	for (uint32_t i = 0; i < TOKENS * HEADS; i++)
		attention_reference(w, i / HEADS, i % HEADS, want + (size_t)i * HEAD_DIM);
	check_bf16("attention", w->attention, want, TOKENS * Q, bound);
}

/* h before and after an op that adds x * m^T to it. */
static void check_residual(
	struct layer_world *w, const char *what, const float *before, const struct test_matrix *m, const float *x)
{
	double *want = must_alloc(TOKENS * HIDDEN, sizeof *want);
	uint32_t n_in = m->matrix.n_in;
	for (uint32_t i = 0; i < TOKENS * HIDDEN; i++)
		want[i] = (double)before[i] + dot_f32(m->weights + i % HIDDEN * n_in, x + i / HIDDEN * n_in, n_in);
	twin_check_f32(what, w->h, want, TOKENS * HIDDEN);
	free(want);
}

static void check_gate_up(struct layer_world *w)
{
	struct tt_gate_up_args args = {&w->config, w->step, &w->layer, w->h, w->ffn};
	double *want = must_alloc(TOKENS * FFN, sizeof *want), x[HIDDEN];
	ASSERT_OK(w->twin->gate_up(w->twin, &args, &ok_error));
	for (uint32_t t = 0; t < TOKENS; t++) {
		double inverse = norm_inputs(w, t, x);
		for (uint32_t i = 0; i < FFN; i++) {
			double gate = dot(w->w_gate.weights + i * HIDDEN, x, HIDDEN) * inverse;
			double up = dot(w->w_up.weights + i * HIDDEN, x, HIDDEN) * inverse + (double)w->bias[i];
			want[t * FFN + i] = gate / (1 + exp(-gate)) * up;
		}
	}
	check_bf16("ffn", w->ffn, want, TOKENS * FFN, TWIN_BF16);
}

static void check_logits(struct layer_world *w)
{
	struct tt_logits_args args = {&w->config, w->step, w->norm, &w->output.matrix, w->h, w->logits};
	double *want = must_alloc(TOKENS * VOCAB, sizeof *want), x[HIDDEN];
	ASSERT_OK(w->twin->logits(w->twin, &args, &ok_error));
	for (uint32_t t = 0; t < TOKENS; t++) {
		double inverse = norm_inputs(w, t, x);
		for (uint32_t i = 0; i < VOCAB; i++)
			want[t * VOCAB + i] = dot(w->output.weights + i * HIDDEN, x, HIDDEN) * inverse;
	}
	twin_check_f32("logits", w->logits, want, TOKENS * VOCAB);
	free(want);
}

Test(kernels_bf16, every_op_rounds_where_the_cuda_kernels_do)
{
	struct layer_world w = open_world();
	float *before = must_alloc(TOKENS * HIDDEN, sizeof *before);
	struct tt_o_proj_args o_proj = {&w.config, w.step, &w.layer, w.attention, w.h};
	struct tt_down_proj_args down = {
		.config = &w.config, .step = w.step, .layer = &w.layer, .ffn = w.ffn, .h = w.h};
	check_qkv(&w, true);
	check_qkv(&w, false);
	check_attention(&w);
	memcpy(before, w.h, TOKENS * HIDDEN * sizeof *before);
	ASSERT_OK(w.twin->o_proj(w.twin, &o_proj, &ok_error));
	check_residual(&w, "o_proj", before, &w.wo, w.attention);
	check_gate_up(&w);
	memcpy(before, w.h, TOKENS * HIDDEN * sizeof *before);
	ASSERT_OK(w.twin->down_proj(w.twin, &down, &ok_error));
	check_residual(&w, "down_proj", before, &w.w_down, w.ffn);
	check_logits(&w);
	free(before);
	close_world(&w);
}

static void check_loaded(const char *name, const struct tt_matrix *loaded, const struct tt_matrix *host)
{
	float *row = must_alloc(host->n_in, sizeof *row);
	const uint16_t *bits = loaded->data;
	cr_assert_eq(loaded->type, TT_TYPE_BF16, "%s", name);
	cr_assert(loaded->n_out == host->n_out && loaded->n_in == host->n_in, "%s", name);
	for (size_t i = 0; i < host->n_out; i++) {
		tt_dequantise(host->type, (const uint8_t *)host->data + i * tt_type_row_bytes(host->type, host->n_in),
			row, host->n_in);
		for (size_t k = 0; k < host->n_in; k++)
			cr_assert_eq(bits[i * host->n_in + k], twin_bf16(row[k]), "%s: %zu, %zu", name, i, k);
	}
	free(row);
}

Test(kernels_bf16, load_rounds_every_matrix)
{
	static const char *const paths[] = {TT_TEST_DATA "/tiny-llama/tiny-llama.q4_1.gguf",
		TT_TEST_DATA "/tiny-llama3", TT_TEST_DATA "/tiny-linear"};
	struct tt_backend *twin = open_cpu(1, TT_CPU_BODY_BF16);
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		struct tt_model *host;
		const struct tt_model *loaded;
		const struct tt_limits limits = {.max_tokens = 1};
		ASSERT_OK(tt_model_open(&host, paths[i], &ok_error));
		ASSERT_OK(twin->load(twin, host, &limits, &loaded, &ok_error));
		check_loaded("embedding", &loaded->embedding, &host->embedding);
		check_loaded("output", &loaded->output, &host->output);
		cr_assert_eq(loaded->output.data == loaded->embedding.data, host->output.data == host->embedding.data);
		for (uint32_t l = 0; l < host->config.n_layers; l++) {
			const struct tt_layer *a = &loaded->layers[l], *b = &host->layers[l];
			check_loaded("wq", &a->wq, &b->wq);
			check_loaded("wk", &a->wk, &b->wk);
			check_loaded("wv", &a->wv, &b->wv);
			check_loaded("wo", &a->wo, &b->wo);
			check_loaded("w_gate", &a->w_gate, &b->w_gate);
			check_loaded("w_up", &a->w_up, &b->w_up);
			check_loaded("w_down", &a->w_down, &b->w_down);
			cr_assert_eq(a->attn_norm, b->attn_norm);
		}
		const struct tt_model *second;
		cr_assert_eq(twin->load(twin, host, &limits, &second, NULL), TT_ERR_ARGUMENT, "one at a time");
		twin->unload(twin, loaded);
		tt_model_close(host);
	}
	twin->unload(twin, NULL);
	twin->close(twin);
}
