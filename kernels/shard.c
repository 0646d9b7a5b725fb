#include "kernels/shard.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"

struct tt_cut tt_shard_cut(uint32_t n, uint32_t tile, uint32_t rank, uint32_t n_ranks)
{
	uint64_t n_tiles = n / tile + (n % tile != 0), each = (n_tiles + n_ranks - 1) / n_ranks * tile;
	uint64_t first = each * rank < n ? each * rank : n, end = first + each < n ? first + each : n;
	return (struct tt_cut){(uint32_t)first, (uint32_t)(end - first)};
}

static bool divides(const struct tt_config *c, uint32_t n_ranks, uint32_t granule)
{
	bool columns =
		!granule || (c->hidden_size % (n_ranks * granule) == 0 && c->ffn_size % (n_ranks * granule) == 0);
	return columns && c->n_heads % n_ranks == 0 && (c->n_kv_heads % n_ranks == 0 || n_ranks % c->n_kv_heads == 0);
}

int tt_shard_check(const struct tt_config *whole, uint32_t n_ranks, uint32_t granule, struct tt_error *err)
{
	char list[100] = "1", columns[100] = "";
	size_t n = 1;
	if (n_ranks < 1 || n_ranks > TT_MAX_RANKS)
		return tt_fail(err, TT_ERR_ARGUMENT, "ranks must be from 1 to %d", TT_MAX_RANKS);
	if (divides(whole, n_ranks, granule))
		return TT_OK;
	for (uint32_t t = 2; t <= TT_MAX_RANKS; t++)
		if (divides(whole, t, granule))
			n += (size_t)snprintf(list + n, sizeof list - n, ", %u", t);
	if (granule)
		snprintf(columns, sizeof columns, ", a hidden_size of %u and an ffn_size of %u, in parts of %ux,",
			whole->hidden_size, whole->ffn_size, granule);
	return tt_fail(err, TT_ERR_UNSUPPORTED,
		"a model of %u heads and %u key heads%s cannot be cut into %u ranks (--tp), only into %s",
		whole->n_heads, whole->n_kv_heads, columns, n_ranks, list);
}

int tt_shard_open(
	struct tt_shard *out, const struct tt_config *whole, uint32_t rank, uint32_t n_ranks, struct tt_error *err)
{
	TT_TRY(tt_shard_check(whole, n_ranks, 0, err));
	uint32_t n_kv = whole->n_kv_heads, copies = n_ranks > n_kv ? n_ranks / n_kv : 1; /* of a key head */
	*out = (struct tt_shard){
		.rank = rank,
		.n_ranks = n_ranks,
		.heads = tt_shard_cut(whole->n_heads, 1, rank, n_ranks),
		.kv_heads = tt_shard_cut(n_kv, 1, rank / copies, n_ranks / copies),
		.hidden = tt_shard_cut(whole->hidden_size, 1, rank, n_ranks),
		.ffn = tt_shard_cut(whole->ffn_size, 1, rank, n_ranks),
		.vocab = tt_shard_cut(whole->vocab_size, TT_VOCAB_TILE, rank, n_ranks),
	};
	return TT_OK;
}

/* Cuts a matrix and its bias, which may be NULL. */
static void cut(struct tt_matrix *m, const float **bias, struct tt_cut rows)
{
	m->first_row += rows.first;
	if (m->data)
		m->data = (const uint8_t *)m->data + rows.first * tt_type_row_bytes(m->type, m->n_in);
	m->n_out = rows.count;
	if (*bias)
		*bias += rows.first;
}

static struct tt_cut times(struct tt_cut rows, uint32_t n)
{
	return (struct tt_cut){rows.first * n, rows.count * n};
}

static void cut_layer(struct tt_layer *layer, const struct tt_shard *shard, uint32_t head_dim)
{
	cut(&layer->wq, &layer->bq, times(shard->heads, head_dim));
	cut(&layer->wk, &layer->bk, times(shard->kv_heads, head_dim));
	cut(&layer->wv, &layer->bv, times(shard->kv_heads, head_dim));
	cut(&layer->wo, &layer->bo, shard->hidden);
	cut(&layer->w_gate, &layer->b_gate, shard->ffn);
	cut(&layer->w_up, &layer->b_up, shard->ffn);
	cut(&layer->w_down, &layer->b_down, shard->hidden);
}

int tt_shard_model_open(
	struct tt_model **out, const struct tt_model *host, const struct tt_shard *shard, struct tt_error *err)
{
	struct tt_model *m;
	const float *no_bias = NULL;
	TT_TRY(tt_alloc(&m, 1, sizeof *m, err));
	*m = *host;
	int status = tt_alloc(&m->layers, host->config.n_layers, sizeof *m->layers, err);
	if (status != TT_OK) {
		free(m);
		return status;
	}
	m->config.n_heads = shard->heads.count;
	m->config.n_kv_heads = shard->kv_heads.count;
	cut(&m->output, &no_bias, shard->vocab);
	for (uint32_t l = 0; l < host->config.n_layers; l++) {
		m->layers[l] = host->layers[l];
		cut_layer(&m->layers[l], shard, host->config.head_dim);
	}
	*out = m;
	return TT_OK;
}

void tt_shard_model_close(const struct tt_model *model)
{
	if (!model)
		return;
	free(model->layers);
	free((void *)(uintptr_t)model);
}
