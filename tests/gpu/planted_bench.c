/* gpu-bench on the emulator with ops that fail in every way that a GPU's can: test_gpu_failures.py looks at what is
 * left. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "kernels/cuda/cuda.h"

int __real_tt_cuda_attention(struct tt_backend *, const struct tt_attention_args *, struct tt_error *);
int __wrap_tt_cuda_qkv(struct tt_backend *, const struct tt_qkv_args *, struct tt_error *);
int __wrap_tt_cuda_attention(struct tt_backend *, const struct tt_attention_args *, struct tt_error *);
int __wrap_tt_cuda_o_proj(struct tt_backend *, const struct tt_o_proj_args *, struct tt_error *);
int __wrap_tt_cuda_gate_up(struct tt_backend *, const struct tt_gate_up_args *, struct tt_error *);

/* Refused, as by a limit. */
int __wrap_tt_cuda_qkv(struct tt_backend *backend, const struct tt_qkv_args *args, struct tt_error *err)
{
	(void)backend;
	(void)args;
	return tt_fail(err, TT_ERR_UNSUPPORTED, "planted: qkv is refused");
}

/* An error of a kernel, which stays. */
int __wrap_tt_cuda_attention(struct tt_backend *backend, const struct tt_attention_args *args, struct tt_error *err)
{
	struct tt_attention_args wrong = *args;
	wrong.q = NULL;
	return __real_tt_cuda_attention(backend, &wrong, err);
}

int __wrap_tt_cuda_o_proj(struct tt_backend *backend, const struct tt_o_proj_args *args, struct tt_error *err)
{
	(void)backend;
	(void)args;
	(void)err;
	fprintf(stderr, "planted: noise before a crash\n");
	raise(SIGSEGV);
	return TT_OK;
}

int __wrap_tt_cuda_gate_up(struct tt_backend *backend, const struct tt_gate_up_args *args, struct tt_error *err)
{
	(void)backend;
	(void)args;
	(void)err;
	for (;;)
		pause();
}
