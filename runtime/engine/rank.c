#include "runtime/engine/rank.h"

#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"

static int open_frequencies(float **out, const struct tt_rank *rank, bool local, struct tt_error *err)
{
	const struct tt_config *config = &rank->state.model->config;
	struct tt_backend *b = rank->backend;
	float *host = NULL;
	size_t n = config->head_dim / 2;
	TT_TRY(tt_alloc(&host, n, sizeof *host, err));
	tt_config_inverse_frequencies(config, rank->state.limits.context, local, host);
	int status = b->allocate(b, out, n, sizeof *host, err);
	if (status == TT_OK)
		status = b->upload(b, *out, host, n * sizeof *host, err);
	free(host);
	return status;
}

static int open_state(struct tt_rank *rank, struct tt_model *host, struct tt_error *err)
{
	struct tt_forward_state *s = &rank->state;
	struct tt_backend *b = rank->backend;
	const struct tt_config *c = &host->config;
	const struct tt_limits *limits = &s->limits;
	size_t f = sizeof(float);
	s->backend = b;
	TT_TRY(b->load(b, host, limits, &s->model, err));
	TT_TRY(open_frequencies(&s->inverse_frequencies, rank, false, err));
	if (tt_config_has_local_rope(c))
		TT_TRY(open_frequencies(&s->local_frequencies, rank, true, err));
	TT_TRY(b->allocate(b, &s->slots, TT_MAX_SLOTS, sizeof *s->slots, err));
	TT_TRY(b->allocate(b, &s->coef, limits->n_rows, c->n_layers * f, err));
	TT_TRY(b->allocate(b, &s->outputs.logits, limits->max_samples, c->vocab_size * f, err));
	TT_TRY(b->allocate(b, &s->results_block, tt_results_layout(NULL, NULL, c, limits), 1, err));
	tt_results_layout(&s->outputs, s->results_block, c, limits);
	return TT_OK;
}

int tt_rank_open(struct tt_rank *rank, uint32_t index, uint32_t n_ranks, struct tt_model *host,
	const struct tt_limits *limits, uint32_t kv_tokens, enum tt_kv_type kv_type, struct tt_error *err)
{
	struct tt_config config = host->config;
	struct tt_shard shard;
	TT_TRY(tt_shard_open(&shard, &host->config, index, n_ranks, err));
	config.n_kv_heads = shard.kv_heads.count;
	rank->state.limits = *limits;
	TT_TRY(tt_alloc(&rank->slots, TT_MAX_SLOTS, sizeof *rank->slots, err));
	TT_TRY(tt_kv_memory_open(&rank->kv, rank->backend, &config, kv_tokens, kv_type, err));
	return open_state(rank, host, err);
}

void tt_rank_close(struct tt_rank *rank)
{
	struct tt_forward_state *s = &rank->state;
	struct tt_backend *b = rank->backend;
	free(rank->slots);
	if (!b)
		return;
	void *all[] = {s->inverse_frequencies, s->local_frequencies, s->slots, s->coef, s->outputs.logits,
		s->results_block, s->captured};
	b->unload(b, s->model);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		b->release(b, all[i]);
	tt_kv_memory_close(&rank->kv, b);
	b->close(b);
}

/* A step may first have more captured rows than the block of the other results holds. */
int tt_rank_grow(struct tt_rank *rank, uint32_t n_captures, struct tt_error *err)
{
	struct tt_forward_state *s = &rank->state;
	const struct tt_config *config = &s->model->config;
	if (n_captures <= s->limits.n_inline_captures || n_captures <= s->max_captures)
		return TT_OK;
	s->backend->release(s->backend, s->captured);
	s->captured = NULL;
	s->max_captures = 0;
	TT_TRY(s->backend->allocate(s->backend, &s->captured, (size_t)n_captures * config->n_layers,
		config->hidden_size * sizeof(float), err));
	s->max_captures = n_captures;
	return TT_OK;
}

int tt_rank_restore(struct tt_rank *rank, uint32_t row, const float *coef, struct tt_error *err)
{
	struct tt_forward_state *s = &rank->state;
	size_t n_layers = s->model->config.n_layers;
	return s->backend->upload(s->backend, s->coef + row * n_layers, coef, n_layers * sizeof *coef, err);
}
