/* kernels/cuda/nccl_abi.h against the nccl.h of this machine: what compiles has the same numbers, and functions of the
 * same parameters. Result codes and types of data are enums there and ints here, of the same size. */
#include <nccl.h>
#include <stdio.h>

#include "kernels/cuda/nccl_abi.h"

#define SAME(what) _Static_assert(what, #what)
#define IS(function, type) SAME(_Generic(&(function), type : 1, default : 0))

SAME(NCCL_VERSION(2, 19, 0) == TT_NCCL_LEAST);
SAME(NCCL_VERSION_CODE >= TT_NCCL_LEAST);
SAME((int)ncclSuccess == TT_NCCL_SUCCESS);
SAME((int)ncclUint8 == TT_NCCL_UINT8);
SAME(sizeof(ncclResult_t) == sizeof(int));
SAME(sizeof(ncclDataType_t) == sizeof(int));
SAME(sizeof(ncclUniqueId) == sizeof(struct tt_nccl_id));
SAME(_Alignof(ncclUniqueId) == _Alignof(struct tt_nccl_id));
SAME(_Generic((ncclComm_t)0, tt_nccl_comm : 1, default : 0));
IS(ncclGetVersion, ncclResult_t (*)(int *));
IS(ncclGetUniqueId, ncclResult_t (*)(ncclUniqueId *));
IS(ncclCommInitRank, ncclResult_t (*)(ncclComm_t *, int, ncclUniqueId, int));
IS(ncclCommAbort, ncclResult_t (*)(ncclComm_t));
IS(ncclAllGather, ncclResult_t (*)(const void *, void *, size_t, ncclDataType_t, ncclComm_t, cudaStream_t));
IS(ncclGetErrorString, const char *(*)(ncclResult_t));
IS(ncclGetLastError, const char *(*)(ncclComm_t));

int main(void)
{
	printf("as nccl.h of NCCL %d.%d.%d has it\n", NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH);
	return 0;
}
