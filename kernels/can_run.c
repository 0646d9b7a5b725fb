/* Which models a backend's kernels can compute. Not part of the backends, because code that only opens one, or only
 * stands in for one, asks too. */
#include "base/fail.h"
#include "kernels/backend.h"

/* The largest grids that CUDA has, of blocks of one tile of outputs. */
enum { MOST_OUTPUTS = 65535 * TT_CUDA_GRANULE, MOST_HEAD_DIM = 256 };

/* Products have tiles of 16 outputs, and copy 8 weights (16 bytes) at a time. */
int tt_cuda_can_run(const struct tt_config *c, struct tt_error *err)
{
	const struct {
		const char *name;
		uint32_t n;
	} sizes[] = {{"hidden_size", c->hidden_size}, {"ffn_size", c->ffn_size}, {"head_dim", c->head_dim}};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		if (sizes[i].n % TT_CUDA_GRANULE)
			return tt_fail(err, TT_ERR_UNSUPPORTED,
				"the CUDA kernels need a %s that is a multiple of %d, the model has %u", sizes[i].name,
				TT_CUDA_GRANULE, sizes[i].n);
	if (c->head_dim > MOST_HEAD_DIM)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"the CUDA kernels take heads of up to %d numbers, the model has %u", MOST_HEAD_DIM,
			c->head_dim);
	if (c->vocab_size > MOST_OUTPUTS)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"the CUDA kernels take a vocabulary of up to %d, the model has %u", MOST_OUTPUTS,
			c->vocab_size);
	return TT_OK;
}
