/* How quantised weights lie in device memory: the file's own bits, without a bit more (of F8_E4M3 with a scale for 128
 * columns of a row), in the order in which a product reads them. A tile is 16 rows by 32 columns as in packed.h, and
 * lane (g, t) = (lane / 4, lane % 4) has columns 8t to 8t + 7 of rows g and g + 8. Its 16 weights are four words of
 * four bytes each: word 2f + r is row g + 8r, columns 8t + 4f on. The tiles of the same rows follow each other in
 * records of one chunk of 32 columns, of the eight of a K block, or of the four of F8_E4M3 that share a scale, the last
 * record with zeros for chunks that there are not. A record is its header, then for all of its chunks the scales, then
 * the upper bits, then the lower ones:
 *
 *     lower  Q8_0, F8_E4M3: the lane's four words. Else nibbles, 8 bytes a lane: word 2f in the lower halves of the
 *            bytes of f, word 2f + 1 in the upper ones; of IQ4_NL, which looks them up four at a time, the 16 bits of a
 *            word together.
 *     upper  Q5: 16 bits a lane, of byte j of word w bit 4 * (0, 2, 1, 3)[j] + w. Q6_K: 32 bits a lane, of byte j of
 *            word w bits 8j + 2w.
 *     scales Q4_0, Q5_0, Q8_0, IQ4_NL: d of rows g and g + 8 for each g; Q4_1, Q5_1: d and m of g, d and m of g + 8.
 *            Q6_K: for each g and half of the columns, the scale of row g and that of g + 8, a byte each.
 *     header Q6_K: d of rows g and g + 8 for each g. F8_E4M3: the same of their scales, in f32. Q4_K, Q5_K: 8 bytes a
 *            lane. Word c is chunk 2t + c: scale and minimum of row g, then of row g + 8, 6 bits each, and above them
 *            the lower (c = 0) or upper byte of one of the halves d and m of g, d and m of g + 8: the t-th. */
#ifndef KERNELS_CUDA_QUANTS_H
#define KERNELS_CUDA_QUANTS_H

#include <stdbool.h>

#include "kernels/cuda/packed.h"

#ifdef __cplusplus
extern "C" {
#endif
#include "weights/quant.h"

/* X(type) for every type that stays as it is in the file; what else there is becomes bf16 when it is loaded. */
#define TT_QUANT_TYPES(X) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(F8_E4M3)

/* Where a product's matrices differ in type, each begins with a tile that is a multiple of it: the row tiles of a block
 * divide it, in every kernel. */
enum { TT_QUANT_PART_TILES = 8 };

/* Bytes of a record's header, and of one of its chunks' parts. */
struct tt_quant_layout {
	uint32_t header, scales, upper, lower;
	uint32_t chunks; /* of a record */
};

TT_HOST_DEVICE static inline struct tt_quant_layout tt_quant_layout_of(uint32_t type)
{
	bool k = type == TT_TYPE_Q4_K || type == TT_TYPE_Q5_K, k6 = type == TT_TYPE_Q6_K;
	bool five = type == TT_TYPE_Q5_0 || type == TT_TYPE_Q5_1 || type == TT_TYPE_Q5_K;
	bool minimum = type == TT_TYPE_Q4_1 || type == TT_TYPE_Q5_1, fp8 = type == TT_TYPE_F8_E4M3;
	struct tt_quant_layout layout = {k     ? 256u
					 : fp8 ? 64u
					 : k6  ? 32u
					       : 0u,
		k || fp8  ? 0u
		: minimum ? 64u
			  : 32u,
		five ? 64u
		: k6 ? 128u
		     : 0u,
		type == TT_TYPE_Q8_0 || fp8 ? 512u : 256u,
		k || k6 ? 8u
		: fp8   ? 4u
			: 1u};
	return layout;
}

TT_HOST_DEVICE static inline uint32_t tt_quant_record(struct tt_quant_layout l)
{
	return l.header + l.chunks * (l.scales + l.upper + l.lower);
}

/* Whether matrices of the type stay as they are in the file. */
TT_HOST_DEVICE static inline bool tt_quant_kept(uint32_t type)
{
#define IS(name) || type == TT_TYPE_##name
	return false TT_QUANT_TYPES(IS);
#undef IS
}

/* Bytes of a row of tiles, 16 rows of n_in columns, in whole records; of bf16 where the type is not kept. */
TT_HOST_DEVICE static inline size_t tt_quant_tile_row(uint32_t type, uint32_t n_in)
{
	if (!tt_quant_kept(type))
		return tt_packed_size(1, n_in) * sizeof(uint16_t);
	struct tt_quant_layout l = tt_quant_layout_of(type);
	return (size_t)((n_in / TT_PACKED_COLUMNS + l.chunks - 1) / l.chunks) * tt_quant_record(l);
}

/* Where a packed row is, in bytes from the matrix's start: itself in bf16, else the row of tiles that it is in. */
TT_HOST_DEVICE static inline size_t tt_quant_at(uint32_t type, uint32_t row, uint32_t n_in)
{
	return tt_quant_kept(type) ? row / TT_PACKED_ROWS * tt_quant_tile_row(type, n_in)
				   : tt_packed_at(row, 0, n_in) * sizeof(uint16_t);
}

/* pack.c: puts one row as the file has it, of n_in weights, into its place in a row of tiles, which is zeros where no
 * row was put yet. row: 0 to 15. */
void tt_quant_store(uint32_t type, uint8_t *tile_row, uint32_t row, const uint8_t *from, uint32_t n_in);

#ifdef __cplusplus
}
#endif

#endif
