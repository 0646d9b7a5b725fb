/* Ranks: backends that compute one model together. Every matrix is cut by its rows, which are outputs, so that no sum
 * crosses a rank; what is here is the only arithmetic of cutting. */
#ifndef KERNELS_SHARD_H
#define KERNELS_SHARD_H

#include "weights/model.h"

enum {
	TT_MAX_RANKS = 16,
	TT_VOCAB_TILE = 16, /* rows of the vocabulary are cut between tiles, as products compute them */
};

/* Rows first .. first + count of a matrix, which are the same columns of what it writes. */
struct tt_cut {
	uint32_t first, count;
};

/* The rows that a rank has of n: whole tiles, as many on each rank, and fewer or none on the last ones. */
struct tt_cut tt_shard_cut(uint32_t n, uint32_t tile, uint32_t rank, uint32_t n_ranks);

/* A rank's part of a model. A key head lies on several ranks where there are more ranks than key heads. */
struct tt_shard {
	uint32_t rank, n_ranks;
	struct tt_cut heads, kv_heads;
	struct tt_cut hidden, ffn, vocab; /* columns of h, of the feed-forward part, of logits */
};

/* TT_ERR_UNSUPPORTED where n_ranks does not divide the heads, or neither divides the other of key heads and ranks; the
 * message lists what does. granule: a rank's columns of h and of the feed-forward part must be a multiple of it; 0:
 * they may be any number. */
int tt_shard_check(const struct tt_config *whole, uint32_t n_ranks, uint32_t granule, struct tt_error *err);

/* Fails as tt_shard_check does, whatever the columns are. */
int tt_shard_open(
	struct tt_shard *out, const struct tt_config *whole, uint32_t rank, uint32_t n_ranks, struct tt_error *err);

/* The model as the rank's ops see it: its config has the rank's heads and key heads and else the whole model's sizes,
 * its matrices the rank's rows of the host's, in the host's memory. Embedding and norms are whole. The host must stay
 * open as long. */
int tt_shard_model_open(
	struct tt_model **out, const struct tt_model *host, const struct tt_shard *shard, struct tt_error *err);
void tt_shard_model_close(const struct tt_model *model); /* NULL is fine */

#endif
