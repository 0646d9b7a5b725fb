/* Attention on the emulator: against its twin on the CPU, against softmax in double, and against itself in every shape
 * that the same token can be run in, bit for bit. */
#include "kernels/cuda/ptx/ptx.cuh"
#include "tests/emu/op_case.h"
#include "tests/twin.h"

extern "C" {
#include "kernels/cpu/fp8.h"
}

/* Contexts of some sequences, chosen around the edges of pages, stages and splits. */
enum { SEQS = 10, LAYERS = 2, LAYER = 1, MAX_PAGES = 40, N_PAGES = 200, MAX_TOKENS = 600 };
static const uint32_t LENGTHS[SEQS] = {552, 1, 17, 256, 257, 300, 64, 100, 31, 513};

struct world {
	struct tt_config config;
	struct tt_kv_pages kv; // device
	tt_bf16 *host;         // [LAYERS][N_PAGES][2][n_kv_heads][16][head_dim]
	uint8_t *codes;        /* the same in eight bits, with their scales; NULL: the pages are bf16 */
	tt_bf16 *scales;
	tt_bf16 *q; // [SEQS][MAX_TOKENS][n_heads * head_dim]
	int32_t pages[SEQS][MAX_PAGES];
	size_t width, page_size; /* of q; of keys or values of a page */
};

/* A token to be run: position of a sequence. Neighbours of one sequence share a row of the page tables. */
struct token {
	uint32_t seq, position;
};

static size_t kv_at(const struct world *w, uint32_t seq, uint32_t key, uint32_t which, uint32_t head)
{
	size_t page = LAYER * N_PAGES + (size_t)w->pages[seq][key / TT_PAGE_TOKENS];
	return (page * 2 + which) * w->page_size + (head * TT_PAGE_TOKENS + key % TT_PAGE_TOKENS) * w->config.head_dim;
}

static float soft_cap; /* of the worlds that are made next; 0: none */
static size_t partial_bytes = 64 << 20;

/* Replaces what was written by codes and scales, and by the numbers that these are. Where nothing was written both are
 * NaN. */
static void to_fp8(struct world *w, size_t n)
{
	uint32_t hd = w->config.head_dim;
	w->codes = (uint8_t *)malloc(n);
	w->scales = (tt_bf16 *)malloc(n / hd * sizeof *w->scales);
	memset(w->codes, 0xff, n);
	for (size_t row = 0; row < n / hd; row++) {
		tt_bf16 *x = w->host + row * hd;
		float most = 0;
		w->scales[row] = 0x7fff;
		if (x[0] == 0xffff)
			continue;
		for (uint32_t i = 0; i < hd; i++)
			most = fmaxf(most, fabsf(twin_bf16_value(x[i])));
		w->scales[row] = tt_fp8_scale(most);
		for (uint32_t i = 0; i < hd; i++) {
			uint8_t code = tt_f32_to_fp8(twin_bf16_value(x[i]) * tt_fp8_inverse(w->scales[row]));
			float value = tt_fp8_to_f32(code) * twin_bf16_value(w->scales[row]);
			w->codes[row * hd + i] = code;
			x[i] = tt_emu_bf16(value);
			cr_assert_eq(twin_bf16_value(x[i]), value, "%g is no bf16", (double)value);
		}
	}
}

/* Whatever no sequence wrote is NaN, in the pages as in the page tables. */
static struct world *make_world(uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim, uint32_t window)
{
	struct world *w = (struct world *)calloc(1, sizeof *w);
	uint64_t state = head_dim + n_heads;
	int32_t next = 7;
	cr_assert(w);
	w->config.n_heads = n_heads;
	w->config.n_kv_heads = n_kv_heads;
	w->config.head_dim = head_dim;
	w->config.sliding_window = window;
	w->config.context_length = MAX_PAGES * TT_PAGE_TOKENS;
	w->config.attention_soft_cap = soft_cap;
	w->width = (size_t)n_heads * head_dim;
	w->page_size = (size_t)n_kv_heads * TT_PAGE_TOKENS * head_dim;
	size_t n = LAYERS * N_PAGES * 2 * w->page_size;
	w->host = (tt_bf16 *)malloc(n * sizeof *w->host);
	w->q = (tt_bf16 *)malloc(SEQS * MAX_TOKENS * w->width * sizeof *w->q);
	memset(w->host, 0xff, n * sizeof *w->host);
	for (uint32_t s = 0; s < SEQS; s++) {
		for (uint32_t p = 0; p < MAX_PAGES; p++, next = (next + 37) % N_PAGES)
			w->pages[s][p] = p * TT_PAGE_TOKENS < LENGTHS[s] ? next : -1;
		for (uint32_t key = 0; key < LENGTHS[s]; key++)
			for (uint32_t i = 0; i < 2 * n_kv_heads * head_dim; i++)
				w->host[kv_at(w, s, key, i % 2, i / 2 / head_dim) + i / 2 % head_dim] =
					tt_emu_bf16((i % 2 ? 1.0f : 2.0f) * op_random_float(&state));
	}
	for (size_t i = 0; i < SEQS * MAX_TOKENS * w->width; i++)
		w->q[i] = tt_emu_bf16(2 * op_random_float(&state));
	return w;
}

static void free_world(struct world *w)
{
	free(w->host);
	free(w->codes);
	free(w->scales);
	free(w->q);
	free(w);
}

static struct tt_step_plan *make_step(const struct world *w, const struct token *tokens, uint32_t n, bool own_tables)
{
	struct tt_step_plan counts = {};
	counts.n_tokens = n;
	counts.n_seqs = 0;
	for (uint32_t i = 0; i < n; i++)
		counts.n_seqs += i == 0 || own_tables || tokens[i].seq != tokens[i - 1].seq;
	counts.max_pages = MAX_PAGES;
	struct tt_step_plan *step = op_step(counts);
	int32_t seq = -1;
	for (uint32_t i = 0; i < n; i++) {
		seq += i == 0 || own_tables || tokens[i].seq != tokens[i - 1].seq;
		tt_step_seqs(step)[i] = seq;
		tt_step_positions(step)[i] = (int32_t)tokens[i].position;
		memcpy(tt_step_pages(step) + (size_t)seq * MAX_PAGES, w->pages[tokens[i].seq], sizeof w->pages[0]);
	}
	return step;
}

/* How the same tokens may be run: multiprocessors decide between a block a split and a block a tile. */
struct way {
	uint32_t n_sms, spare_rows, max_splits;
	bool own_tables; /* every token a sequence of its own: what a decode step looks like */
	enum tt_emu_order order;
	uint32_t most_shared; /* bytes of a block; 0: the device's */
};

static void attend_step(
	const struct world *w, const struct tt_step_plan *step, const tt_bf16 *q, struct way way, tt_bf16 *out)
{
	struct tt_kv_pages kv = {NULL, w->codes ? TT_KV_FP8 : TT_KV_BF16, N_PAGES, NULL, NULL};
	size_t n_numbers = LAYERS * N_PAGES * 2 * w->page_size;
	uint32_t n = step->n_tokens;
	op_open(way.order, 5, partial_bytes);
	op_cuda.n_sms = way.n_sms;
	op_cuda.max_splits = way.max_splits;
	op_cuda.prepared.most_shared = way.most_shared;
	op_begin(step, n + way.spare_rows, 0);
	if (w->codes) {
		kv.data = op_upload(w->codes, n_numbers);
		kv.scales = op_upload(w->scales, n_numbers / w->config.head_dim);
	} else
		kv.data = op_upload(w->host, n_numbers);
	struct tt_attention_args args = {
		&w->config, step, LAYER, op_upload(q, n * w->width), op_device<tt_bf16>(n * w->width), &kv};
	OP_OK(tt_cuda_attention(&op_cuda.base, &args, &op_error));
	cr_assert_eq(op_cuda.counters.launches, 1);
	op_download(out, (const tt_bf16 *)args.attention, n * w->width);
	uint32_t arrivals[64];
	op_download(arrivals, op_cuda.arrivals, 64);
	for (uint32_t i = 0; i < 64; i++)
		cr_assert_eq(arrivals[i], 0);
}

static void attend(const struct world *w, const struct token *tokens, uint32_t n, struct way way, tt_bf16 *out)
{
	struct tt_step_plan *step = make_step(w, tokens, n, way.own_tables);
	tt_bf16 *q = (tt_bf16 *)malloc(n * w->width * sizeof *q);
	for (uint32_t i = 0; i < n; i++)
		memcpy(q + i * w->width, w->q + (tokens[i].seq * MAX_TOKENS + tokens[i].position) * w->width,
			w->width * sizeof *q);
	attend_step(w, step, q, way, out);
	free(q);
	free(step);
}

/* The same by the CPU twin. */
static void attend_twin(const struct world *w, const struct token *tokens, uint32_t n, double *out)
{
	struct tt_step_plan *step = make_step(w, tokens, n, false);
	struct tt_kv_pages kv = {w->host, TT_KV_BF16, N_PAGES, NULL, NULL};
	float *q = (float *)malloc(2 * n * w->width * sizeof *q), *attention = q + n * w->width;
	struct tt_attention_args args = {&w->config, step, LAYER, q, attention, &kv};
	struct tt_backend *twin;
	for (size_t i = 0; i < n * w->width; i++) {
		const struct token *at = &tokens[i / w->width];
		q[i] = twin_bf16_value(w->q[(at->seq * MAX_TOKENS + at->position) * w->width + i % w->width]);
	}
	OP_OK(tt_cpu_open_bf16(&twin, 1, &op_error));
	OP_OK(twin->attention(twin, &args, &op_error));
	twin->close(twin);
	for (size_t i = 0; i < n * w->width; i++)
		out[i] = (double)attention[i];
	free(q);
	free(step);
}

/* Softmax of one query head in double, nothing rounded. */
static void reference(const struct world *w, struct token at, uint32_t head, double *out)
{
	uint32_t hd = w->config.head_dim, kv_head = head / (w->config.n_heads / w->config.n_kv_heads);
	uint32_t end = at.position + 1, window = w->config.sliding_window,
		 low = window && window < end ? end - window : 0;
	const tt_bf16 *q = w->q + (at.seq * MAX_TOKENS + at.position) * w->width + (size_t)head * hd;
	double scores[MAX_TOKENS], max = -INFINITY, total = 0;
	for (uint32_t k = low; k < end; k++) {
		const tt_bf16 *key = w->host + kv_at(w, at.seq, k, 0, kv_head);
		scores[k] = 0;
		for (uint32_t i = 0; i < hd; i++)
			scores[k] += (double)twin_bf16_value(q[i]) * (double)twin_bf16_value(key[i]);
		scores[k] /= sqrt((double)hd);
		if (soft_cap > 0)
			scores[k] = (double)soft_cap * tanh(scores[k] / (double)soft_cap);
		max = fmax(max, scores[k]);
	}
	memset(out, 0, hd * sizeof *out);
	for (uint32_t k = low; k < end; k++) {
		const tt_bf16 *value = w->host + kv_at(w, at.seq, k, 1, kv_head);
		double weight = exp(scores[k] - max);
		total += weight;
		for (uint32_t i = 0; i < hd; i++)
			out[i] += weight * (double)twin_bf16_value(value[i]);
	}
	for (uint32_t i = 0; i < hd; i++)
		out[i] /= total;
}

/* On a GPU, where it is not measured. Tensor cores round a score otherwise than its twin does: of some thousand weights
 * one then becomes its other bf16 neighbour, 2^-8 of it, and moves its whole row of outputs. Where mma is modelled as 8
 * products at a time, each cut off below 2^-24 of the largest, 1.04% of the outputs differed at 500 keys and heads of
 * 256 (near zero by 9.4e-4 of the root mean square), 0.25% elsewhere. Without the weights' rounding 28% to 38% do. */
static const struct twin_bound TENSOR_CORES = {3e-2, 3e-3};

/* All rows against the twin. Against plain softmax, of one token in every few, the relative error is that of bf16: 2^-8
 * / sqrt(7) = 1.5e-3 each of the result's own rounding and of the weights', together 2.1e-3; 2.5e-3 for the scatter. */
static void check_rows(
	const struct world *w, const struct token *tokens, uint32_t n, uint32_t every, const tt_bf16 *out)
{
	uint32_t hd = w->config.head_dim;
	double *want = (double *)malloc(n * w->width * sizeof *want), plain[256], error = 0, size = 0;
	attend_twin(w, tokens, n, want);
	twin_check_bf16("attention", out, want, n * w->width, tt_emu_mma_ascends() ? TWIN_BF16 : TENSOR_CORES);
	for (uint32_t i = 0; i < n * w->config.n_heads; i++) {
		if (i / w->config.n_heads % every)
			continue;
		reference(w, tokens[i / w->config.n_heads], i % w->config.n_heads, plain);
		for (uint32_t k = 0; k < hd; k++) {
			double difference = (double)twin_bf16_value(out[i * (size_t)hd + k]) - plain[k];
			error += difference * difference;
			size += plain[k] * plain[k];
		}
	}
	cr_assert(sqrt(error / size) < 2.5e-3, "%g", sqrt(error / size));
	free(want);
}

static const struct way SPLIT = {1000, 0, 0, true, TT_EMU_RANDOM, 0};
static const struct way PERSISTENT = {1, 0, 0, true, TT_EMU_BACKWARD, 0};
static const struct way PREFILL = {1, 0, 0, false, TT_EMU_FORWARD, 0};

/* Every sequence's last token, decoded together. */
static void decode_last(uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim, uint32_t window)
{
	struct world *w = make_world(n_heads, n_kv_heads, head_dim, window);
	struct token tokens[SEQS];
	tt_bf16 *out = (tt_bf16 *)malloc(2 * SEQS * w->width * sizeof *out), *again = out + SEQS * w->width;
	for (uint32_t s = 0; s < SEQS; s++)
		tokens[s] = (struct token){s, LENGTHS[s] - 1};
	attend(w, tokens, SEQS, SPLIT, out);
	check_rows(w, tokens, SEQS, 1, out);
	attend(w, tokens, SEQS, PERSISTENT, again);
	cr_assert_eq(memcmp(out, again, SEQS * w->width * sizeof *out), 0, "head_dim %u", head_dim);
	struct way too_few = SPLIT;
	too_few.max_splits = 2;
	too_few.order = TT_EMU_FORWARD;
	attend(w, tokens, SEQS, too_few, again);
	cr_assert_eq(
		memcmp(out, again, SEQS * w->width * sizeof *out), 0, "more splits than blocks, head_dim %u", head_dim);
	free(out);
	free_world(w);
}

Test(emu_attention, decode)
{
	decode_last(3, 1, 16, 0);
	decode_last(4, 2, 32, 100);
	decode_last(8, 2, 64, 0);
	decode_last(2, 2, 80, 300);
	decode_last(4, 1, 128, 0);
	decode_last(2, 1, 256, 0);
	decode_last(40, 2, 16, 0); /* more heads of a key head than rows of a tile */
}

/* Some tokens of one sequence in prefill. */
static void prefill(
	uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim, uint32_t window, uint32_t first, uint32_t n)
{
	struct world *w = make_world(n_heads, n_kv_heads, head_dim, window);
	struct token *tokens = (struct token *)malloc(n * sizeof *tokens);
	tt_bf16 *out = (tt_bf16 *)malloc(n * w->width * sizeof *out);
	for (uint32_t i = 0; i < n; i++)
		tokens[i] = (struct token){0, first + i};
	attend(w, tokens, n, PREFILL, out);
	check_rows(w, tokens, n, 3, out);
	free(tokens);
	free(out);
	free_world(w);
}

Test(emu_attention, prefill)
{
	prefill(3, 1, 16, 0, 0, 100);
	prefill(4, 2, 32, 90, 200, 90);
	prefill(4, 1, 64, 0, 250, 20);
	prefill(2, 1, 96, 0, 30, 40);
	prefill(2, 1, 128, 270, 500, 40);
	prefill(1, 1, 256, 0, 480, 64);
	prefill(70, 1, 16, 0, 255, 3);
}

/* Scores are up to 5 and more, so that a cap of 2 bends most of them. */
Test(emu_attention, scores_are_capped)
{
	soft_cap = 2;
	decode_last(4, 2, 64, 100);
	decode_last(2, 1, 256, 0);
	prefill(4, 1, 64, 90, 230, 60);
	prefill(1, 1, 256, 0, 250, 20);
}

/* Keys and values of eight bits: the bits of bf16 pages that hold the same numbers, in every way of running. */
static void like_bf16(uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim, uint32_t window)
{
	const struct way ways[] = {SPLIT, PERSISTENT, {1, 0, 0, true, TT_EMU_RANDOM, TT_CUDA_LEAST_SHARED}, PREFILL,
		{1, 0, 0, false, TT_EMU_RANDOM, TT_CUDA_LEAST_SHARED}};
	struct world *w = make_world(n_heads, n_kv_heads, head_dim, window);
	struct token tokens[SEQS + 30];
	size_t size = (SEQS + 30) * w->width;
	tt_bf16 *out = (tt_bf16 *)malloc(2 * size * sizeof *out), *want = out + size;
	to_fp8(w, LAYERS * N_PAGES * 2 * w->page_size);
	uint8_t *codes = w->codes;
	for (uint32_t i = 0; i < SEQS + 30; i++)
		tokens[i] = i < 30 ? token{0, 250 + i} : token{i - 30, LENGTHS[i - 30] - 1};
	for (uint32_t i = 0; i < 5; i++) {
		uint32_t first = i < 3 ? 30 : 0, n = i < 3 ? SEQS : 31; /* of a step that decodes, or not */
		w->codes = codes;
		attend(w, tokens + first, n, ways[i], out);
		uint64_t bytes = tt_emu_counted()->loads[TT_TRAFFIC_KV].bytes;
		w->codes = NULL;
		attend(w, tokens + first, n, ways[i], want);
		/* a byte a number instead of two; 128 bytes of scales a stage */
		double half = (double)tt_emu_counted()->loads[TT_TRAFFIC_KV].bytes / 2;
		if (tt_emu_counts_traffic() && window == 0)
			cr_assert((double)bytes >= half && (double)bytes <= half * (1 + 12.0 / head_dim),
				"%g bytes, a half is %g", (double)bytes, half);
		cr_assert_arr_eq(out, want, n * w->width * sizeof *out, "head_dim %u, way %u", head_dim, i);
		if (i % 3 == 0)
			check_rows(w, tokens + first, n, 4, out);
	}
	w->codes = codes;
	free(out);
	free_world(w);
}

Test(emu_attention, fp8_has_the_bits_of_its_numbers)
{
	like_bf16(3, 1, 16, 0);
	like_bf16(4, 2, 32, 100);
	like_bf16(8, 2, 64, 0);
	like_bf16(2, 2, 80, 300);
	like_bf16(4, 1, 128, 0);
	like_bf16(2, 1, 256, 0);
}

/* A device of 99 KB takes other tiles, or fewer stages. */
static void with_less_shared_memory(uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim, uint32_t n)
{
	struct world *w = make_world(n_heads, n_kv_heads, head_dim, 0);
	struct token tokens[MAX_TOKENS];
	tt_bf16 *out = (tt_bf16 *)malloc(2 * n * w->width * sizeof *out), *again = out + n * w->width;
	for (uint32_t way = 0; way < 2; way++) {
		struct way ways[2] = {way ? SPLIT : PREFILL, way ? SPLIT : PREFILL};
		for (uint32_t i = 0; i < n; i++)
			tokens[i] = (struct token){0, 250 + i};
		ways[1].most_shared = TT_CUDA_LEAST_SHARED;
		ways[0].own_tables = ways[1].own_tables = way;
		attend(w, tokens, n, ways[0], out);
		attend(w, tokens, n, ways[1], again);
		cr_assert_arr_eq(again, out, n * w->width * sizeof *out, "head_dim %u", head_dim);
	}
	free(out);
	free_world(w);
}

Test(emu_attention, less_shared_memory_changes_no_bit)
{
	with_less_shared_memory(4, 2, 32, 40);
	with_less_shared_memory(4, 1, 64, 20);
	with_less_shared_memory(2, 1, 96, 40);
	with_less_shared_memory(2, 1, 128, 70);
	with_less_shared_memory(3, 1, 256, 40);
}

static void same_rows(const struct world *w, const struct token *tokens, uint32_t n, struct way way,
	const tt_bf16 *whole, const char *what)
{
	tt_bf16 *out = (tt_bf16 *)malloc(n * w->width * sizeof *out);
	attend(w, tokens, n, way, out);
	for (uint32_t i = 0; i < n; i++)
		cr_assert_eq(
			memcmp(out + i * w->width, whole + (tokens[i].seq * MAX_TOKENS + tokens[i].position) * w->width,
				w->width * sizeof *out),
			0, "%s: token %u of %u, position %u of sequence %u", what, i, n, tokens[i].position,
			tokens[i].seq);
	free(out);
}

/* The prompts whole are the measure; then in chunks of 1, 13 and 512, with others in the step, and decoded. */
static void strict(uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim, uint32_t window)
{
	static const uint32_t chunks[] = {13, 512}, batches[] = {1, 7, 8, 9, 64};
	struct world *w = make_world(n_heads, n_kv_heads, head_dim, window);
	tt_bf16 *whole = (tt_bf16 *)malloc(SEQS * MAX_TOKENS * w->width * sizeof *whole);
	struct token tokens[MAX_TOKENS];
	for (uint32_t s = 0; s < SEQS; s += 5) {
		for (uint32_t i = 0; i < LENGTHS[s]; i++)
			tokens[i] = (struct token){s, i};
		attend(w, tokens, LENGTHS[s], PREFILL, whole + s * MAX_TOKENS * w->width);
	}
	/* Chunks from a position on, then the other sequence, in the shape that each size takes. */
	for (uint32_t c = 0; c < 2; c++) {
		for (uint32_t first = c ? 20 : 247; first < 280; first += 20) {
			uint32_t n = 0;
			for (; n < chunks[c] && first + n < LENGTHS[0]; n++)
				tokens[n] = (struct token){0, first + n};
			struct way way = c ? PREFILL : SPLIT;
			way.own_tables = false;
			way.order = TT_EMU_BACKWARD;
			for (uint32_t k = 0; k < 5; k++)
				tokens[n + k] = (struct token){5, 262 + k};
			same_rows(w, tokens, n + 5, way, whole, "chunk");
			if (c)
				break;
		}
	}
	for (uint32_t b = 0; b < 5; b++) {
		for (uint32_t i = 0; i < batches[b]; i++) {
			uint32_t s = i % 2 * 5;
			tokens[i] = (struct token){s, (LENGTHS[s] - 1 + i * 67) % LENGTHS[s]};
		}
		struct way way = b % 2 ? PERSISTENT : SPLIT;
		way.spare_rows = b;
		same_rows(w, tokens, batches[b], way, whole, "decode");
	}
	free(whole);
	free_world(w);
}

/* A sequence of so many splits that their factors are made in several parts: merged by the last block, and one by one.
 * Its pages are those of a short sequence, again and again. */
static void merged_in_parts(uint32_t head_dim, uint32_t window)
{
	enum { POSITION = 140 * TT_SPLIT_KEYS + 37, PAGES = POSITION / TT_PAGE_TOKENS + 1, SHORT = 34, HEADS = 3 };
	struct world *w = make_world(HEADS, 1, head_dim, window);
	struct tt_step_plan counts = {};
	tt_bf16 out[2][HEADS * 64];
	counts.n_tokens = counts.n_seqs = 1;
	counts.max_pages = PAGES;
	struct tt_step_plan *step = op_step(counts);
	tt_step_positions(step)[0] = POSITION;
	for (uint32_t i = 0; i < PAGES; i++)
		tt_step_pages(step)[i] = w->pages[0][i * 7 % SHORT];
	struct way shared = SPLIT, alone = SPLIT;
	shared.max_splits = 141;
	alone.max_splits = 1;
	attend_step(w, step, w->q, shared, out[0]);
	attend_step(w, step, w->q, alone, out[1]);
	cr_assert_eq(memcmp(out[0], out[1], w->width * sizeof **out), 0);
	free(step);
	free_world(w);
}

Test(emu_attention, many_splits_are_merged_as_one_block_adds_them_up)
{
	merged_in_parts(16, 0);
	merged_in_parts(64, 130 * TT_SPLIT_KEYS);
}

/* Bytes of results that blocks left for each other. */
static void expect_stored(uint64_t n_bytes)
{
	int most_shared = 0;
	cr_assert_eq(cudaDeviceGetAttribute(&most_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), cudaSuccess);
	if (tt_emu_counts_traffic() && most_shared > 200 << 10) /* else a multiprocessor has fewer blocks */
		cr_expect_eq(tt_emu_counted()->stores[TT_TRAFFIC_SCRATCH].bytes, n_bytes, "%llu bytes",
			(unsigned long long)tt_emu_counted()->stores[TT_TRAFFIC_SCRATCH].bytes);
}

/* A decode step of n_long sequences of 41 splits, others of up to 3, in six blocks a multiprocessor that take tile
 * after tile: what they store for each other is a result of each split of the long ones, or nothing where none is long.
 * The pages are those of a short sequence, again and again. */
static void long_beside_short(uint32_t n_sms, uint32_t n_long, uint32_t n_short, uint32_t window, bool shares)
{
	enum { POSITION = 40 * TT_SPLIT_KEYS + 37, PAGES = POSITION / TT_PAGE_TOKENS + 1, SHORT = 34, MOST = 40 };
	struct world *w = make_world(6, 2, 32, window);
	struct tt_step_plan counts = {};
	size_t n_outputs = (n_long + n_short) * w->width;
	tt_bf16 *out = (tt_bf16 *)malloc(2 * n_outputs * sizeof *out);
	counts.n_tokens = counts.n_seqs = n_long + n_short;
	counts.max_pages = PAGES;
	struct tt_step_plan *step = op_step(counts);
	cr_assert_leq(counts.n_tokens, MOST);
	for (uint32_t i = 0; i < counts.n_tokens; i++) {
		uint32_t seq = i % SEQS;
		int32_t *pages = tt_step_pages(step) + (size_t)i * PAGES;
		bool is_long = i * 7 % counts.n_tokens < n_long; /* anywhere among the others */
		tt_step_seqs(step)[i] = (int32_t)i;
		tt_step_positions(step)[i] = is_long ? POSITION - (int32_t)i : (int32_t)LENGTHS[seq] - 1;
		for (uint32_t p = 0; p < PAGES; p++)
			pages[p] = is_long ? w->pages[0][p * 7 % SHORT] : p < MAX_PAGES ? w->pages[seq][p] : -1;
	}
	struct way alone = SPLIT, persistent = PERSISTENT;
	alone.max_splits = 1;
	persistent.max_splits = 64;
	persistent.n_sms = n_sms;
	attend_step(w, step, w->q, alone, out);
	for (int order = 0; order < TT_EMU_ORDERS; order++) {
		persistent.order = (enum tt_emu_order)order;
		persistent.spare_rows = (uint32_t)order;
		attend_step(w, step, w->q, persistent, out + n_outputs);
		cr_assert_eq(memcmp(out, out + n_outputs, n_outputs * sizeof *out), 0, "%u of %u, order %d", n_long,
			counts.n_tokens, order);
	}
	uint64_t splits = window ? window / TT_SPLIT_KEYS + 1 : 41;
	expect_stored(shares ? splits * n_long * 6 * (32 + 2) * 4 : 0);
	free(out);
	free(step);
	free_world(w);
}

Test(emu_attention, a_long_sequence_beside_short_ones_is_shared)
{
	long_beside_short(6, 1, 19, 0, true);
	long_beside_short(12, 2, 35, 0, true); /* of two words of tokens */
	long_beside_short(6, 1, 19, 10 * TT_SPLIT_KEYS, true);
}

/* A device whose memory other things fill, so that there is none of more than 2 MiB, and scratch of so many bytes. */
static void fill_device(size_t n_bytes, size_t largest)
{
	struct tt_emu_device full = {};
	full.major = 9;
	full.n_sms = 132;
	full.shared_bytes = 227 << 10;
	full.largest = largest;
	tt_emu_set_device(&full);
	partial_bytes = n_bytes;
}

/* Where there is no memory for what blocks leave for each other, no step fails: they share nothing. */
Test(emu_attention, a_long_sequence_is_not_shared_without_room)
{
	fill_device(64, 2 << 20);
	long_beside_short(6, 1, 19, 0, false);
}

/* A chunk of a prompt behind 40 splits of keys, behind other prompts' tokens and before one that decodes. share: splits
 * of a share, so that of each row all splits but the first share's are left as results, and that one's totals; 0: there
 * is no room for them. The pages are those of a short sequence, again and again. */
static void prompt_behind_many(
	uint32_t n_heads, uint32_t head_dim, uint32_t window, uint32_t n_others, uint32_t share, bool fp8)
{
	enum { FIRST = 40 * TT_SPLIT_KEYS + 30, CHUNK = 50, OF_OTHER = 80, SHORT = 34 };
	enum { PAGES = (FIRST + CHUNK) / TT_PAGE_TOKENS + 1 };
	struct world *w = make_world(n_heads, 2, head_dim, window);
	struct tt_step_plan counts = {};
	uint32_t n = n_others + CHUNK + 1, n_splits = window ? window / TT_SPLIT_KEYS + 1 : 41;
	size_t n_outputs = n * w->width;
	tt_bf16 *out = (tt_bf16 *)malloc(2 * n_outputs * sizeof *out);
	if (fp8)
		to_fp8(w, LAYERS * N_PAGES * 2 * w->page_size);
	counts.n_tokens = n;
	counts.n_seqs = n_others / OF_OTHER + 2;
	counts.max_pages = PAGES;
	struct tt_step_plan *step = op_step(counts);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t seq = i < n_others ? i / OF_OTHER : i == n - 1 ? counts.n_seqs - 1 : counts.n_seqs - 2;
		tt_step_seqs(step)[i] = (int32_t)seq;
		tt_step_positions(step)[i] = (int32_t)(i < n_others ? i % OF_OTHER
						       : i == n - 1 ? 300
								    : FIRST + i - n_others);
	}
	for (uint32_t i = 0; i < counts.n_seqs * PAGES; i++)
		tt_step_pages(step)[i] = w->pages[0][i * 7 % SHORT];
	struct way alone = PREFILL, shared = PREFILL;
	shared.max_splits = 64;
	shared.n_sms = 16;
	attend_step(w, step, w->q, alone, out);
	if (tt_emu_counts_traffic())
		cr_expect_eq(tt_emu_counted()->stores[TT_TRAFFIC_SCRATCH].bytes, 0);
	for (int order = 0; order < (n_others || head_dim > 32 ? 1 : TT_EMU_ORDERS); order++) {
		shared.order = (enum tt_emu_order)order;
		attend_step(w, step, w->q, shared, out + n_outputs);
		cr_assert_eq(memcmp(out, out + n_outputs, n_outputs * sizeof *out), 0, "%u heads of %u, order %d",
			n_heads, head_dim, order);
	}
	expect_stored(share ? (uint64_t)CHUNK * n_heads * (head_dim + 2) * 4 * (n_splits - share + 1) : 0);
	free(out);
	free(step);
	free_world(w);
}

/* 48 blocks for 6 tiles and heads of 41 splits: with shares of 6, of which each has 7, all run at once. Of the last
 * three there are fewer blocks. */
Test(emu_attention, a_prompt_behind_many_keys_is_shared)
{
	prompt_behind_many(6, 32, 0, 0, 6, false);
	prompt_behind_many(6, 32, 0, 1040, 6, false); /* in the second window of tokens */
	prompt_behind_many(6, 64, 0, 0, 2, true);
	prompt_behind_many(4, 128, 0, 0, 2, false);
	prompt_behind_many(4, 128, 0, 0, 2, true);
	prompt_behind_many(2, 256, 10 * TT_SPLIT_KEYS, 0, 3, false);
	prompt_behind_many(2, 256, 10 * TT_SPLIT_KEYS, 0, 3, true);
}

Test(emu_attention, a_prompt_is_shared_as_far_as_there_is_room)
{
	/* 12 results of each tile and head; for the 36 of shares of 6 splits there is no memory */
	const size_t there = (size_t)6 * 12 * 64 * (32 + 2) * 4;
	fill_device(there, 1800 << 10);
	prompt_behind_many(6, 32, 0, 0, 30, false);
	fill_device(64, 1800 << 10);
	prompt_behind_many(6, 32, 0, 0, 0, false);
}

Test(emu_attention, scratch_stays_where_there_is_no_room_for_more)
{
	enum { THERE = 1 << 20, MORE = THERE + THERE / 10 };
	fill_device(THERE, THERE + THERE / 5);
	op_open(TT_EMU_FORWARD, 1, THERE);
	const float *there = op_cuda.partial;
	cr_expect(!tt_cuda_may_grow_scratch(&op_cuda, 2 * THERE));
	cr_expect(op_cuda.partial == there && op_cuda.partial_bytes == THERE);
	cr_expect(tt_cuda_may_grow_scratch(&op_cuda, MORE), "no half as much again, but as much");
	cr_expect_eq(op_cuda.partial_bytes, MORE);
}

Test(emu_attention, sequences_of_one_length_are_not_shared)
{
	long_beside_short(3, 9, 0, 0, false);
}

Test(emu_attention, bits_are_the_same_whole_in_chunks_and_decoded)
{
	strict(3, 1, 16, 0);
	strict(4, 1, 32, 100);
}

/* In a decode step every key and value that a token sees is read once, and whole sectors of it. */
Test(emu_attention, reads_keys_and_values_once)
{
	struct world *w = make_world(4, 2, 64, 0);
	struct token tokens[SEQS];
	uint64_t keys = 0;
	tt_bf16 *out = (tt_bf16 *)malloc(SEQS * w->width * sizeof *out);
	for (uint32_t s = 0; s < SEQS; s++) {
		tokens[s] = (struct token){s, LENGTHS[s] - 1};
		keys += LENGTHS[s];
	}
	attend(w, tokens, SEQS, SPLIT, out);
	if (!tt_emu_counts_traffic())
		cr_skip_test("PTX does not say what kind of data it moves");
	const struct tt_emu_traffic *kv = &tt_emu_counted()->loads[TT_TRAFFIC_KV];
	cr_assert_eq(kv->bytes, keys * 2 * 2 * 64 * sizeof(tt_bf16));
	cr_assert_eq(kv->bytes, 32 * kv->sectors);
	cr_assert_geq(op_cuda.counters.bytes, kv->bytes);
	cr_assert_leq(op_cuda.counters.bytes, kv->bytes + 2 * SEQS * w->width * sizeof(tt_bf16));
	const struct tt_emu_counters *c = tt_emu_counted();
	cr_assert_leq(c->shared_wavefronts * 10, c->shared_ideal * 11,
		"%llu cycles of shared memory, %llu without conflicts", (unsigned long long)c->shared_wavefronts,
		(unsigned long long)c->shared_ideal);
	free(out);
	free_world(w);
}

Test(emu_attention, refuses_head_sizes_it_cannot_do)
{
	static const uint32_t bad[] = {0, 8, 24, 272};
	for (uint32_t i = 0; i < 4; i++) {
		struct tt_config config = {};
		struct tt_attention_args args = {};
		config.n_heads = config.n_kv_heads = 1;
		config.head_dim = bad[i];
		args.config = &config;
		op_open(TT_EMU_FORWARD, 1, 64);
		op_cuda.grid_tokens = 1;
		cr_assert_eq(tt_cuda_attention(&op_cuda.base, &args, &op_error), TT_ERR_UNSUPPORTED);
	}
}
