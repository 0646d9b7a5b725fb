/* How a model is cut into ranks: every row of every matrix on exactly one rank, and every query head beside its key
 * head. */
#include <string.h>

#include "golden.h"
#include "kernels/shard.h"

static void check_cut(uint32_t n, uint32_t tile, uint32_t n_ranks)
{
	uint64_t end = 0, each = tt_shard_cut(n, tile, 0, n_ranks).count;
	for (uint32_t rank = 0; rank < n_ranks; rank++) {
		struct tt_cut cut = tt_shard_cut(n, tile, rank, n_ranks);
		cr_assert_eq(cut.first, end, "%u by %u, rank %u of %u", n, tile, rank, n_ranks);
		end += cut.count;
		cr_assert(cut.count <= each && (end == n || (cut.count == each && cut.count % tile == 0)),
			"%u by %u, rank %u of %u: %u rows", n, tile, rank, n_ranks, cut.count);
	}
	cr_assert_eq(end, n, "%u by %u, %u ranks end at %zu", n, tile, n_ranks, (size_t)end);
	cr_assert(each * n_ranks < n + (uint64_t)tile * n_ranks, "%u by %u: a rank of %u has %u", n, tile, n_ranks,
		(unsigned)each);
}

Test(shard, every_row_is_on_one_rank)
{
	static const uint32_t sizes[] = {576, 1536, 14336, 29568, 49152, 128256, 152064, 262144, UINT32_MAX};
	static const uint32_t tiles[] = {1, 8, TT_VOCAB_TILE};
	for (uint32_t n_ranks = 1; n_ranks <= TT_MAX_RANKS; n_ranks++)
		for (size_t t = 0; t < sizeof tiles / sizeof *tiles; t++) {
			for (uint32_t n = 1; n < 600; n++)
				check_cut(n, tiles[t], n_ranks);
			for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
				check_cut(sizes[i], tiles[t], n_ranks);
		}
}

/* Of grouped queries, head h reads key head h / (heads a key head). A rank's ops number both from 0. */
static void check_heads(const struct tt_config *c, uint32_t n_ranks)
{
	uint32_t group = c->n_heads / c->n_kv_heads, next = 0, last_kv = 0;
	for (uint32_t rank = 0; rank < n_ranks; rank++) {
		struct tt_shard s;
		must(tt_shard_open(&s, c, rank, n_ranks, err));
		uint32_t own_group = s.heads.count / s.kv_heads.count;
		cr_assert_eq(s.heads.count, c->n_heads / n_ranks);
		cr_assert_eq(s.heads.first, next);
		cr_assert(s.kv_heads.count * own_group == s.heads.count);
		next += s.heads.count;
		last_kv = s.kv_heads.first + s.kv_heads.count;
		for (uint32_t i = 0; i < s.heads.count; i++)
			cr_assert_eq(s.kv_heads.first + i / own_group, (s.heads.first + i) / group,
				"%u heads, %u key heads, rank %u of %u, head %u", c->n_heads, c->n_kv_heads, rank,
				n_ranks, i);
	}
	cr_assert(next == c->n_heads && last_kv == c->n_kv_heads);
}

Test(shard, every_head_is_beside_its_key_head)
{
	struct tt_shard shard;
	size_t n_cut = 0, n_refused = 0;
	for (uint32_t n_kv = 1; n_kv <= 16; n_kv++)
		for (uint32_t group = 1; group <= 16; group++)
			for (uint32_t t = 1; t <= TT_MAX_RANKS; t++) {
				struct tt_config c = {.n_heads = n_kv * group,
					.n_kv_heads = n_kv,
					.hidden_size = 64,
					.ffn_size = 96,
					.vocab_size = 100};
				bool can = c.n_heads % t == 0 && (n_kv % t == 0 || t % n_kv == 0);
				n_cut += can;
				n_refused += !can;
				if (can)
					check_heads(&c, t);
				else
					cr_assert_eq(tt_shard_open(&shard, &c, 0, t, NULL), TT_ERR_UNSUPPORTED);
			}
	cr_assert(n_cut > 300 && n_refused > 300);
}

/* What models of today can be cut into. */
Test(shard, what_cannot_be_cut_is_refused_with_what_can)
{
	static const struct {
		const char *name;
		uint32_t n_heads, n_kv_heads, n_ranks;
		const char *want;
	} cases[] = {
		{"SmolLM2-135M", 9, 3, 2,
			"9 heads and 3 key heads cannot be cut into 2 ranks (--tp), only into 1, 3, 9"},
		{"Llama-3 8B", 32, 8, 3, "only into 1, 2, 4, 8, 16"},
		{"Qwen2.5-7B", 28, 4, 8, "only into 1, 2, 4"},
		{"Gemma 3 1B", 4, 1, 3, "only into 1, 2, 4"},
	};
	struct tt_shard shard;
	struct tt_error error = {0};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_config c = {.n_heads = cases[i].n_heads, .n_kv_heads = cases[i].n_kv_heads};
		const char *at;
		cr_assert_eq(tt_shard_open(&shard, &c, 0, cases[i].n_ranks, &error), TT_ERR_UNSUPPORTED);
		at = strstr(error.message, cases[i].want);
		cr_expect(at && !at[strlen(cases[i].want)], "%s: %s", cases[i].name, error.message);
	}
	cr_assert_eq(tt_shard_open(&shard, &(struct tt_config){.n_heads = 64, .n_kv_heads = 64}, 0, 32, &error),
		TT_ERR_ARGUMENT);
}

/* ---- Models ---- */

enum { N_MATRICES = 8 };

/* The matrices of a layer with their biases, and the output matrix. */
struct place {
	const struct tt_matrix *matrix;
	const float *bias;
};

static void list_places(const struct tt_model *m, uint32_t l, struct place out[N_MATRICES])
{
	const struct tt_layer *layer = &m->layers[l];
	const struct place places[N_MATRICES] = {{&layer->wq, layer->bq}, {&layer->wk, layer->bk},
		{&layer->wv, layer->bv}, {&layer->wo, layer->bo}, {&layer->w_gate, layer->b_gate},
		{&layer->w_up, layer->b_up}, {&layer->w_down, layer->b_down}, {&m->output, NULL}};
	memcpy(out, places, sizeof places);
}

static size_t place_bytes(const struct tt_matrix *m)
{
	return m->n_out * tt_type_row_bytes(m->type, m->n_in);
}

/* Rows and biases of a rank's matrix are the whole one's from row first on. */
static void check_place(const struct place *part, const struct place *whole, uint32_t first, const char *what)
{
	const uint8_t *data = whole->matrix->data;
	size_t at = first * tt_type_row_bytes(whole->matrix->type, whole->matrix->n_in);
	cr_assert_eq(part->matrix->n_in, whole->matrix->n_in, "%s: K is cut", what);
	cr_assert_eq(part->matrix->data, data + at, "%s", what);
	cr_assert(at + place_bytes(part->matrix) <= place_bytes(whole->matrix), "%s", what);
	cr_assert_eq(part->bias, whole->bias ? whole->bias + first : NULL, "%s: bias", what);
}

/* Gives the bytes of the rank's matrices that all ranks together have once. */
static size_t check_rank(const struct tt_model *host, uint32_t rank, uint32_t n_ranks, uint32_t ends[N_MATRICES])
{
	struct tt_shard shard;
	struct tt_model *part = NULL;
	struct place whole[N_MATRICES], own[N_MATRICES];
	size_t n_bytes = 0;
	must(tt_shard_open(&shard, &host->config, rank, n_ranks, err));
	must(tt_shard_model_open(&part, host, &shard, err));
	cr_assert_eq(part->embedding.data, host->embedding.data);
	cr_assert_eq(part->embedding.n_out, host->embedding.n_out);
	for (uint32_t l = 0; l < host->config.n_layers; l++) {
		list_places(host, l, whole);
		list_places(part, l, own);
		for (int i = 0; i < N_MATRICES; i++) {
			char what[40];
			bool kv = i == 1 || i == 2;
			uint32_t copies = n_ranks > host->config.n_kv_heads ? n_ranks / host->config.n_kv_heads : 1;
			uint32_t first = kv ? rank / copies * own[i].matrix->n_out : ends[i];
			snprintf(what, sizeof what, "layer %u, matrix %d, rank %u of %u", l, i, rank, n_ranks);
			check_place(&own[i], &whole[i], first, what);
			n_bytes += kv || (i == N_MATRICES - 1 && l > 0) ? 0 : place_bytes(own[i].matrix);
		}
	}
	for (int i = 0; i < N_MATRICES; i++)
		ends[i] += own[i].matrix->n_out;
	cr_assert_eq(part->config.n_heads * n_ranks, host->config.n_heads);
	cr_assert_eq(part->config.n_kv_heads * host->config.head_dim, own[1].matrix->n_out);
	tt_shard_model_close(part);
	return n_bytes;
}

static void check_model(const char *path, uint32_t n_ranks)
{
	struct tt_model *host = NULL;
	uint32_t ends[N_MATRICES] = {0};
	size_t n_bytes = 0, largest = 0, all = 0;
	struct place whole[N_MATRICES];
	must(tt_model_open(&host, path, err));
	for (uint32_t rank = 0; rank < n_ranks; rank++) {
		size_t own = check_rank(host, rank, n_ranks, ends);
		n_bytes += own;
		largest = own > largest ? own : largest;
	}
	for (uint32_t l = 0; l < host->config.n_layers; l++) {
		list_places(host, l, whole);
		for (int i = 0; i < N_MATRICES; i++)
			all += i == 1 || i == 2 || (i == N_MATRICES - 1 && l > 0) ? 0 : place_bytes(whole[i].matrix);
	}
	cr_assert_eq(n_bytes, all, "%s, %u ranks: %zu bytes of %zu", path, n_ranks, n_bytes, all);
	/* the tiles of a small vocabulary cannot be shared out evenly */
	cr_assert(largest <= all / n_ranks + place_bytes(&host->output) / 16, "%s: a rank has %zu of %zu", path,
		largest, all);
	tt_model_close(host);
}

Test(shard, a_rank_has_its_rows_of_every_matrix_and_bias)
{
	static const char *const models[] = {GOLDEN("tiny-llama"), GOLDEN("tiny-llama/tiny-llama.q4_1.gguf"),
		GOLDEN("tiny-llama3"), GOLDEN("tiny-qwen2"), GOLDEN("tiny-gemma3"), GOLDEN("tiny-k/tiny-k.q6_k.gguf"),
		GOLDEN("tiny-linear"), GOLDEN("tiny-fp8-block"), GOLDEN("tiny-fp8-channel"), GOLDEN("tiny-fp8-output")};
	for (size_t i = 0; i < sizeof models / sizeof *models; i++)
		for (uint32_t n_ranks = 1; n_ranks <= 4; n_ranks *= 2)
			check_model(models[i], n_ranks);
	check_model(GOLDEN("tiny-phi3"), 2);
}
