/* In CUDA's place, in a program that is built without it. */
#include <stddef.h>

#include "base/fail.h"
#include "kernels/backend.h"

const char *tt_cuda_built(void)
{
	return NULL;
}

int tt_cuda_open(struct tt_backend **out, int device, struct tt_error *err)
{
	(void)out;
	(void)device;
	return tt_fail(err, TT_ERR_UNSUPPORTED,
		"this program was built without CUDA: device cuda needs one made where nvcc is");
}
