/* The part of NCCL's C API that trimtab uses, the same from 2.19 on. The functions are looked up when ranks are asked
 * for (exchange.c), so neither NCCL nor its header need be there. Where nccl.h is, tests/gpu/nccl_abi.c compares. */
#ifndef KERNELS_CUDA_NCCL_ABI_H
#define KERNELS_CUDA_NCCL_ABI_H

#include <cuda_runtime.h>
#include <stddef.h>

enum {
	TT_NCCL_LEAST = 21900, /* what ncclGetVersion gives for 2.19.0 */
	TT_NCCL_SUCCESS = 0,   /* of ncclResult_t */
	TT_NCCL_UINT8 = 1,     /* of ncclDataType_t */
};

/* ncclUniqueId: what ranks of one group have in common. It is passed by value. */
struct tt_nccl_id {
	char bytes[128];
};

typedef struct ncclComm *tt_nccl_comm; /* ncclComm_t */

/* Each returns an ncclResult_t, an int, but for those that return text. */
struct tt_nccl {
	int (*ncclGetVersion)(int *version);
	int (*ncclGetUniqueId)(struct tt_nccl_id *out);
	int (*ncclCommInitRank)(tt_nccl_comm *out, int n_ranks, struct tt_nccl_id id, int rank);
	int (*ncclCommAbort)(tt_nccl_comm comm);
	/* to: [n_ranks][n]; in place where from is the rank's own part of it */
	int (*ncclAllGather)(const void *from, void *to, size_t n, int type, tt_nccl_comm comm, cudaStream_t stream);
	const char *(*ncclGetErrorString)(int result);
	const char *(*ncclGetLastError)(tt_nccl_comm comm); /* comm may be NULL */
};

#define TT_NCCL_FUNCTIONS(F)                                                                                           \
	F(ncclGetVersion)                                                                                              \
	F(ncclGetUniqueId)                                                                                             \
	F(ncclCommInitRank)                                                                                            \
	F(ncclCommAbort)                                                                                               \
	F(ncclAllGather)                                                                                               \
	F(ncclGetErrorString)                                                                                          \
	F(ncclGetLastError)

#endif
