/* The part of NCCL that the emulator has, by NCCL's own names and numbers. Ranks are processes, each with an emulator
 * of its own. */
#ifndef KERNELS_EMU_NCCL_H
#define KERNELS_EMU_NCCL_H

#include "kernels/cuda/nccl_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TT_EMU_NCCL_FLOAT32 = 7, TT_EMU_NCCL_SUM = 0 };

int ncclGetVersion(int *version);
int ncclGetUniqueId(struct tt_nccl_id *out);
int ncclCommInitRank(tt_nccl_comm *out, int n_ranks, struct tt_nccl_id id, int rank);
int ncclCommAbort(tt_nccl_comm comm);
int ncclAllGather(const void *from, void *to, size_t n, int type, tt_nccl_comm comm, cudaStream_t stream);
/* Of f32 sums alone, whose order differs with every call and every 64 numbers. */
int ncclAllReduce(const void *from, void *to, size_t n, int type, int op, tt_nccl_comm comm, cudaStream_t stream);
int ncclGroupStart(void);
int ncclGroupEnd(void);
const char *ncclGetErrorString(int result);
const char *ncclGetLastError(tt_nccl_comm comm);

#ifdef __cplusplus
}
#endif

#endif
