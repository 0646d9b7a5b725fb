/* Launches of a backend, and what a kernel needs before its first launch. */
#include "kernels/cuda/cuda.h"

/* Allows the kernel all shared memory that the device has, whatever the launch needs: the device keeps one number for
 * each kernel, and a backend that asked for less would take away what another backend has. Any thread may do this; the
 * list is the backend's own. *at: the kernel's place in it,
 * TT_CUDA_PREPARED where there is none. */
static int prepare(struct tt_cuda *cuda, const void *kernel, uint32_t *at, struct tt_error *err)
{
	struct tt_cuda_prepared *p = &cuda->prepared;
	for (*at = 0; *at < p->n; ++*at)
		if (p->kernels[*at] == kernel)
			return TT_OK;
	TT_TRY(tt_kernel_prepare(kernel, p->most_shared, err));
	if (p->n < TT_CUDA_PREPARED) /* beyond that, a kernel is prepared at each launch */
		p->kernels[p->n++] = kernel;
	return TT_OK;
}

int tt_cuda_most_shared(struct tt_cuda *cuda, uint32_t *out, struct tt_error *err)
{
	int most = 0;
	if (!cuda->prepared.most_shared) {
		TT_TRY_CUDA(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, cuda->device),
			"the device");
		if (most < TT_CUDA_LEAST_SHARED)
			return tt_fail(err, TT_ERR_UNSUPPORTED,
				"cuda:%d gives a block %d bytes of shared memory, the kernels need %d", cuda->device,
				most, TT_CUDA_LEAST_SHARED);
		cuda->prepared.most_shared = (uint32_t)most;
	}
	*out = cuda->prepared.most_shared;
	return TT_OK;
}

int tt_cuda_resident(struct tt_cuda *cuda, const char *name, const void *kernel, uint32_t threads,
	uint32_t shared_bytes, uint32_t *out, struct tt_error *err)
{
	uint32_t most = 0, at = 0;
	int n = 0;
	TT_TRY(tt_cuda_most_shared(cuda, &most, err));
	TT_TRY(prepare(cuda, kernel, &at, err));
	uint32_t once = 0, *resident = at < TT_CUDA_PREPARED ? &cuda->prepared.resident[at] : &once;
	if (!*resident) {
		TT_TRY_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n, kernel, (int)threads, shared_bytes),
			"the blocks of a multiprocessor");
		if (n < 1)
			return tt_fail(err, TT_ERR_UNSUPPORTED,
				"%s: a multiprocessor of cuda:%d has no room for a block of %u threads with %u bytes "
				"of shared memory",
				name, cuda->device, threads, shared_bytes);
		*resident = cuda->n_sms * (uint32_t)n;
	}
	*out = *resident;
	return TT_OK;
}

int tt_cuda_launch(
	struct tt_cuda *cuda, const struct tt_launch *launch, const void *kernel, void **args, struct tt_error *err)
{
	uint32_t most = 0, at = 0;
	if (launch->shared_bytes > TT_FREE_SHARED) {
		TT_TRY(tt_cuda_most_shared(cuda, &most, err));
		if (launch->shared_bytes > most)
			return tt_fail(err, TT_ERR_UNSUPPORTED,
				"%s: a block needs %u bytes of shared memory where the device has %u", launch->name,
				launch->shared_bytes, most);
		TT_TRY(prepare(cuda, kernel, &at, err));
	}
	return tt_launch_kernel(launch, kernel, args, err);
}
