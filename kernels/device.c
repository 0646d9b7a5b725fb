/* From a device's name to its backend. */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "kernels/backend.h"

/* CUDA is linked into the programs, not into the library (CMakeLists.txt): a program without it finds no such function. */
#pragma weak tt_cuda_open

enum { MAX_DEVICES = 1024 };

/* "cuda" or "cuda:N" to N; -1 for anything else. */
static int cuda_index(const char *device)
{
	char *end;
	if (strncmp(device, "cuda", 4))
		return -1;
	if (!device[4])
		return 0;
	if (device[4] != ':' || device[5] < '0' || device[5] > '9')
		return -1;
	unsigned long n = strtoul(device + 5, &end, 10);
	return *end || n >= MAX_DEVICES ? -1 : (int)n;
}

static int open_cuda(struct tt_backend **out, int index, struct tt_error *err)
{
	if (!tt_cuda_open)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"this program was built without CUDA: device cuda needs one made where nvcc is");
	return tt_cuda_open(out, index, err);
}

int tt_cuda_can_run(const struct tt_config *config, struct tt_error *err)
{
	if (config->post_norms || config->activation != TT_SILU || config->attention_soft_cap ||
		config->logit_soft_cap || config->embedding_scale)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "%s models do not run on CUDA yet: device cpu runs them",
			tt_arch_name(config->arch));
	return TT_OK;
}

int tt_device_open(struct tt_backend **out, const char *device, uint32_t n_threads, const struct tt_config *config,
	struct tt_error *note, struct tt_error *err)
{
	*note = (struct tt_error){0};
	if (device && strcmp(device, "auto")) {
		if (!strcmp(device, "cpu"))
			return tt_cpu_open(out, n_threads, err);
		if (cuda_index(device) < 0)
			return tt_fail(
				err, TT_ERR_ARGUMENT, "device \"%.40s\" is none of auto, cpu, cuda and cuda:N", device);
		return open_cuda(out, cuda_index(device), err);
	}
	if (tt_cuda_open && (!config || tt_cuda_can_run(config, note) == TT_OK) && open_cuda(out, 0, note) == TT_OK)
		return TT_OK;
	return tt_cpu_open(out, n_threads, err);
}
