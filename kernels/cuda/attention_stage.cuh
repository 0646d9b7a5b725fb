/* Keys and values on their way into a block of attention: stages of 64 keys through a ring in shared memory. Those of
 * fp8 are copied as they are, and become bf16 in a stage of their own once they have landed: what computes reads the
 * same in both, so attention over fp8 has the bits of attention over the bf16 numbers that the codes stand for. */
#ifndef KERNELS_CUDA_ATTENTION_STAGE_CUH
#define KERNELS_CUDA_ATTENTION_STAGE_CUH

#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/kv_fp8.cuh"
#include "kernels/cuda/ptx/async.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/shared.cuh"

/* Goes through the stages of a tile in the order in which they are read. */
struct stream {
	uint32_t split, stage;
	bool values;
};

TT_DEVICE uint32_t first_stage(const struct attention_tile *t, uint32_t split)
{
	return split == t->first_split ? t->key_low % TT_SPLIT_KEYS / STAGE_KEYS : 0;
}

TT_DEVICE uint32_t end_stage(const struct attention_tile *t, uint32_t split)
{
	uint32_t left = t->key_end - split * TT_SPLIT_KEYS;
	return left >= TT_SPLIT_KEYS ? (uint32_t)SPLIT_STAGES : (left + STAGE_KEYS - 1) / STAGE_KEYS;
}

TT_DEVICE void next_stage(const struct attention_tile *t, struct stream *at)
{
	if (++at->stage < end_stage(t, at->split))
		return;
	at->split += at->values;
	at->values = !at->values;
	at->stage = at->split < t->end_split ? first_stage(t, at->split) : 0;
}

/* Page i of the split, for the thread i < SPLIT_PAGES that looks it up; 0 where the tile sees none of it. */
TT_DEVICE uint32_t load_page(const struct attention_tile *t, uint32_t split, uint32_t i)
{
	uint32_t page = split * SPLIT_PAGES + i;
	if (page * TT_PAGE_TOKENS >= t->key_end || (page + 1) * TT_PAGE_TOKENS <= t->key_low)
		return 0;
	return tt_load_4(t->pages + page, TT_TRAFFIC_PLAN);
}

/* A thread's way through the 16-byte chunks of a stage's rows, of which each has `chunks`. */
struct chunk_walk {
	uint32_t key, chunk;
};

template <typename shape> TT_DEVICE void next_chunk(struct chunk_walk *at, uint32_t chunks)
{
	at->key += shape::THREADS / chunks;
	at->chunk += shape::THREADS % chunks;
	if (at->chunk >= chunks) {
		at->chunk -= chunks;
		at->key++;
	}
}

/* First row of a page's keys or values of the head, of all such rows. */
TT_DEVICE size_t page_row(
	const struct attention_kernel_args *a, const struct attention_tile *t, uint32_t page, bool values)
{
	return (((size_t)page * 2 + values) * a->n_kv_heads + t->kv_head) * TT_PAGE_TOKENS;
}

/* Whether any row sees the key. */
TT_DEVICE bool is_seen(const struct attention_tile *t, uint32_t key)
{
	return key >= t->key_low && key < t->key_end;
}

/* Keys that no row sees become zeros: the page may hold anything there, and 0 * NaN is NaN. Of fp8 their scales are
 * copied, and not used. */
template <typename shape>
TT_DEVICE void fetch_stage(const struct attention_kernel_args *a, const struct attention_tile *t,
	const struct attention_shared<shape> *s, const struct stream *at, uint32_t slot)
{
	uint32_t row_bytes = a->head_dim * (shape::FP8 ? 1 : 2), chunks = row_bytes / 16;
	uint32_t stride = shape::FP8 ? row_bytes : attention_stride(a->head_dim);
	unsigned char *to = (shape::FP8 ? s->codes : s->ring) + slot * STAGE_KEYS * stride;
	struct chunk_walk walk = {threadIdx.x / chunks, threadIdx.x % chunks};
	const uint32_t *pages = s->pages + at->split % 2 * SPLIT_PAGES + at->stage * STAGE_PAGES;
	uint32_t first = at->split * TT_SPLIT_KEYS + at->stage * STAGE_KEYS;
	TT_ROLLED
	while (walk.key < STAGE_KEYS) {
		size_t row = page_row(a, t, tt_shared_load_4(pages + walk.key / TT_PAGE_TOKENS), at->values) +
			     walk.key % TT_PAGE_TOKENS;
		tt_copy_async_or_zero(to + walk.key * stride + walk.chunk * 16,
			(const unsigned char *)a->kv + row * row_bytes + walk.chunk * 16, is_seen(t, first + walk.key),
			TT_TRAFFIC_KV);
		next_chunk<shape>(&walk, chunks);
	}
	if (shape::FP8 && threadIdx.x < STAGE_KEYS / 8) { /* 8 scales a copy */
		uint32_t key = threadIdx.x * 8;
		size_t row = page_row(a, t, tt_shared_load_4(pages + key / TT_PAGE_TOKENS), at->values);
		tt_copy_async_or_zero(s->scales + slot * STAGE_KEYS + key, a->scales + row + key % TT_PAGE_TOKENS, true,
			TT_TRAFFIC_KV);
	}
}

/* Makes the stage that is computed with out of the codes of one that has landed. */
template <typename shape>
TT_DEVICE void unpack_stage(const struct attention_kernel_args *a, const struct attention_tile *t,
	const struct attention_shared<shape> *s, uint32_t first, uint32_t slot)
{
	uint32_t chunks = a->head_dim / 8; /* of bf16 */
	struct chunk_walk walk = {threadIdx.x / chunks, threadIdx.x % chunks};
	const unsigned char *codes = s->codes + slot * STAGE_KEYS * a->head_dim;
	const tt_bf16 *scales = s->scales + slot * STAGE_KEYS;
	TT_ROLLED
	while (walk.key < STAGE_KEYS) {
		uint2 eight = tt_shared_load_8(codes + walk.key * a->head_dim + walk.chunk * 8);
		uint32_t two = tt_shared_load_4(scales + walk.key / 2 * 2);
		uint32_t scale = walk.key % 2 ? two >> 16 : two & 0xffff;
		uint32_t unit = is_seen(t, first + walk.key) ? fp8_unit(scale) : 0;
		tt_shared_store_16(s->ring + walk.key * attention_stride(a->head_dim) + walk.chunk * 16,
			make_uint4(fp8_pair(eight.x, false, unit), fp8_pair(eight.x, true, unit),
				fp8_pair(eight.y, false, unit), fp8_pair(eight.y, true, unit)));
		next_chunk<shape>(&walk, chunks);
	}
}

/* A block's progress through the ring. */
struct ring {
	struct stream next; /* the next stage to be fetched */
	uint32_t end_split, taken;
};

/* Waits for the next stage to compute on, whose first key is `first`, and refills the slot of the stage before. Returns
 * the place in s->ring of what is to be computed with. */
template <typename shape>
TT_DEVICE uint32_t take_stage(const struct attention_kernel_args *a, const struct attention_tile *t,
	const struct attention_shared<shape> *s, struct ring *ring, uint32_t first)
{
	tt_copy_async_wait<shape::STAGES - 2>();
	tt_sync_block(); /* the stage has landed for all, and all have finished with the slot that is filled now */
	if (ring->next.split < ring->end_split) {
		fetch_stage(a, t, s, &ring->next, (ring->taken + shape::STAGES - 1) % shape::STAGES);
		next_stage(t, &ring->next);
	}
	tt_copy_async_commit();
	uint32_t slot = ring->taken++ % shape::STAGES;
	if (!shape::FP8)
		return slot;
	unpack_stage<shape>(a, t, s, first, slot);
	tt_sync_block();
	return 0;
}

#endif
