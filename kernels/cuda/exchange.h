/* Ranks on GPUs (kernels/shard.h), a process and a device each, and what they pass to each other by NCCL.
 *
 * An op of a rank writes its columns to its own block of the arena, [rows][own columns]; an exchange fills the blocks
 * of all ranks, [n_ranks][rows][own columns], on every rank. h is whole on each, as f32: what o_proj adds to it is
 * exchanged, and the row kernel (steer_row.cu) adds it and normalises whole rows. Of down_proj ranks exchange what h
 * becomes, each having steered its own columns; where steering takes whole rows, or the product is normalised first, or
 * norms are asked for, what it adds, and the row kernel steers. */
#ifndef KERNELS_CUDA_EXCHANGE_H
#define KERNELS_CUDA_EXCHANGE_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* struct tt_backend's. connect is carried out by all ranks at the same time, after all have loaded. */
size_t tt_cuda_shared_bytes(const struct tt_config *config);
int tt_cuda_join(
	struct tt_backend *, struct tt_meeting *, void *shared, uint32_t rank, uint32_t n_threads, struct tt_error *);
int tt_cuda_connect(struct tt_backend *, struct tt_error *);

/* Of one rank, these do nothing. */
int tt_cuda_ranks_open(struct tt_cuda *cuda, struct tt_error *err); /* since load: the arena, sized by its limits */
/* In the order of closing, once all graphs are gone, for which NCCL waits. settle waits for what is on the stream;
 * close ends what looks at the memory that ranks share, and is false where the device is stuck. Each takes some seconds
 * at most. */
void tt_cuda_ranks_settle(struct tt_cuda *cuda);
bool tt_cuda_ranks_close(struct tt_cuda *cuda);
/* Whether what is on the stream has ended, so that a call that waits for it returns: waits for it, as long as no rank
 * has failed, and some seconds more. Once it has not, it is not waited for again, and its memory is left to it. */
bool tt_cuda_ranks_idle(struct tt_cuda *cuda);
/* Around calls that may wait for the device. */
void tt_cuda_ranks_waiting(struct tt_cuda *cuda, bool waiting);
/* A step has begun, its work has been given to the device, and is waited for: the last fails where another rank has
 * failed. */
void tt_cuda_ranks_begin(struct tt_cuda *cuda);
void tt_cuda_ranks_end(struct tt_cuda *cuda);
int tt_cuda_ranks_finish(struct tt_cuda *cuda, cudaEvent_t done, struct tt_error *err);

/* Around calls that use NCCL's communicator, or launch a graph that does; enter fails where that is given up. n_marks:
 * of the graph that was launched. */
int tt_cuda_ranks_enter(struct tt_cuda *cuda, struct tt_error *err);
void tt_cuda_ranks_leave(struct tt_cuda *cuda, uint32_t n_marks);

/* How far the device has come (kernels/still.h): the row kernels, twice a layer, and the step's last kernel count
 * *count, on the device, up by one and store it to *reached, on the host. NULL of one rank. */
struct tt_cuda_mark {
	uint32_t *count, *reached;
};
struct tt_cuda_mark tt_cuda_ranks_mark(const struct tt_cuda *cuda);
/* A kernel with a mark was launched, or captured; and how many were captured since this was asked. */
void tt_cuda_ranks_marked(struct tt_cuda *cuda);
uint32_t tt_cuda_ranks_captured(struct tt_cuda *cuda);

/* The rank's own block of the arena, for n_rows of row_bytes each, a multiple of 16. */
void *tt_cuda_own_block(const struct tt_cuda *cuda, uint32_t n_rows, size_t row_bytes);
/* Fills the other ranks' blocks; returns the arena. */
int tt_cuda_gather(struct tt_cuda *cuda, uint32_t n_rows, size_t row_bytes, const void **arena, struct tt_error *err);

/* Floats from one row of this rank's logits to the next; n_out are its own. */
uint32_t tt_cuda_logits_stride(const struct tt_cuda *cuda, uint32_t n_out);

/* The ops whose outputs others need. The signatures are struct tt_backend's. */
int tt_cuda_ranks_attention(struct tt_backend *, const struct tt_attention_args *, struct tt_error *);
int tt_cuda_ranks_gate_up(struct tt_backend *, const struct tt_gate_up_args *, struct tt_error *);
int tt_cuda_ranks_logits(struct tt_backend *, const struct tt_logits_args *, struct tt_error *);

/* place.cu: to [n_rows][whole_bytes] the columns of all blocks in turn; what the last have beyond whole_bytes is left
 * out. */
int tt_cuda_place(struct tt_cuda *cuda, void *to, const void *arena, uint32_t n_rows, size_t row_bytes,
	size_t whole_bytes, struct tt_error *err);
/* place.cu: a hash of what must be the same on all ranks, to outputs->agreed, after the ops: the sampled tokens, the
 * decided rows, and of the sampled rows and of the last row of each sequence, which a step without samples has too, the
 * coefficients that steered them and the sums of squares of h. */
int tt_cuda_agree(struct tt_cuda *cuda, const struct tt_results *outputs, struct tt_error *err);

#ifdef __cplusplus
}
#endif

#endif
