/* The operations that wait on a stream, shared by stream.c and runtime.c. */
#ifndef KERNELS_EMU_STREAM_H
#define KERNELS_EMU_STREAM_H

#include "kernels/emu/internal.h"

/* A collective of NCCL's. */
struct collective {
	enum { ALL_GATHER, ALL_REDUCE } kind;
	struct ncclComm *comm;
	const void *from;
	void *to;
	size_t n; /* numbers that the rank gives */
	int type;
};

struct operation {
	enum { OP_LAUNCH, OP_COPY, OP_SET, OP_WAIT_EVENT, OP_BOUNDARY, OP_COLLECTIVE } type;
	struct collective collective;
	struct launch launch; /* args are the operation's own copy */
	void *to;
	const void *from;
	void *staged; /* a copy of the source's bytes, where CUDA reads them at the call */
	size_t n_bytes;
	int value;
	struct tt_emu_stream *stream; /* of the event */
	uint64_t at;
	struct operation *next;
};

/* Takes ownership of staged; copies the arguments of a launch. */
cudaError_t stream_add(cudaStream_t stream, const struct operation *op);
/* Whether the stream is being captured into a graph. */
bool stream_capturing(cudaStream_t stream);
/* Runs what waits on one stream, or on all of them. */
cudaError_t stream_flush(cudaStream_t stream);
cudaError_t stream_flush_all(void);
/* From now on nothing on any stream ends: who asks is told that it is not ready, and who waits does so for ever. */
void stream_stick(void);

/* Reports it where a graph that was not destroyed points to the allocation that begins there. */
void graph_check_free(const void *memory);

/* nccl.c: does it together with the other ranks' processes; and whether a group was begun and not ended, which is
 * reported. */
cudaError_t collective_run(const struct collective *c);
bool collective_is_open(void);
/* A graph holds it from its capture on, or not any more; and one that holds it is launched. */
void collective_kept(const struct collective *c, bool kept);
void collective_launched(const struct collective *c);

/* Copies the values that args point to, with an array of pointers to them, into one block; NULL without memory. */
void **arguments_copy(const struct kernel *kernel, void **args);

/* Remembers an error for cudaGetLastError. After a kernel failed every call fails, as on a GPU. */
cudaError_t api_result(cudaError_t error);

#endif
