/* The buffers that the ops of a step hand to each other; kernels/backend.h declares them. */
#include "base/fail.h"
#include "kernels/backend.h"

int tt_activations_open(struct tt_backend *backend, const struct tt_config *config, const struct tt_limits *limits,
	size_t element, struct tt_error *err)
{
	struct tt_activations *a = &backend->activations;
	size_t heads = (size_t)config->n_heads * config->head_dim;
	if (a->h)
		return tt_fail(err, TT_ERR_ARGUMENT, "a backend loads one model");
	TT_TRY(backend->allocate(backend, &a->h, limits->max_tokens, config->hidden_size * sizeof *a->h, err));
	TT_TRY(backend->allocate(backend, &a->q, limits->max_tokens, heads * element, err));
	TT_TRY(backend->allocate(backend, &a->attention, limits->max_tokens, heads * element, err));
	return backend->allocate(backend, &a->ffn, limits->max_tokens, config->ffn_size * element, err);
}

void tt_activations_close(struct tt_backend *backend)
{
	struct tt_activations *a = &backend->activations;
	void *all[] = {a->h, a->q, a->attention, a->ffn};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		backend->release(backend, all[i]);
	*a = (struct tt_activations){0};
}
