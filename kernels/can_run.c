/* Which models a backend's kernels can compute. Not part of the backends, because code that only opens one, or only
 * stands in for one, asks too. */
#include "base/fail.h"
#include "kernels/backend.h"

int tt_cuda_can_run(const struct tt_config *config, struct tt_error *err)
{
	if (config->post_norms || config->activation != TT_SILU || config->attention_soft_cap ||
		config->logit_soft_cap || config->embedding_scale)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "%s models do not run on CUDA yet: device cpu runs them",
			tt_arch_name(config->arch));
	return TT_OK;
}
