/* h += attention * wo^T + bo, normalised where the layer has a norm for it */
#include "kernels/cpu/jobs.h"

int tt_cpu_o_proj(struct tt_backend *backend, const struct tt_o_proj_args *args, struct tt_error *err)
{
	const struct tt_layer *layer = args->layer;
	struct tt_cpu_residual residual = {&layer->wo, layer->bo, args->attention, layer->attn_post_norm,
		args->config->rms_norm_eps, args->step->n_tokens, args->config->hidden_size, args->h, &layer->w_gate};
	return tt_cpu_add_residual((struct tt_cpu *)backend, &residual, err);
}
