/* How the weights of a product lie in device memory: in the order in which it reads them. A tile is 16 rows by 32
 * columns, 1 KiB, and the tiles of the same rows follow each other. In a tile, lane (g, t) = (lane / 4, lane % 4) has
 * columns 8t to 8t + 7 of rows g and g + 8: its fragment of one mma, 16 bytes, is columns 8t to 8t + 3, and the
 * fragments of all lanes are followed by those of columns 8t + 4 to 8t + 7. A fragment is words (two columns each) of
 * row g and row g + 8 in turn. So a warp copies whole tiles as they are, and a lane reads a fragment at once.
 *
 * Which rows of a matrix share a tile depends on the op: a rotated pair does, and a gate and its up. Rows i and i +
 * span / 2 of every span of rows are paired; with a span of 16 the rows are in turn. What is missing to whole tiles is
 * zeros. */
#ifndef KERNELS_CUDA_PACKED_H
#define KERNELS_CUDA_PACKED_H

#include <stddef.h>
#include <stdint.h>

#include "base/host_device.h"

enum {
	TT_PACKED_ROWS = 16,    /* of a tile: those of an mma */
	TT_PACKED_COLUMNS = 32, /* of a tile: those of two mma */
	TT_PACKED_TILE = TT_PACKED_ROWS * TT_PACKED_COLUMNS,
	TT_PACKED_FRAGMENT = 8, /* numbers of a lane's fragment of one mma */
};

/* Tiles side by side in a row of n_in columns. */
TT_HOST_DEVICE static inline uint32_t tt_packed_chunks(uint32_t n_in)
{
	return (n_in + TT_PACKED_COLUMNS - 1) / TT_PACKED_COLUMNS;
}

/* Numbers that a packed matrix takes. */
TT_HOST_DEVICE static inline size_t tt_packed_size(uint32_t n_rows, uint32_t n_in)
{
	return (size_t)((n_rows + TT_PACKED_ROWS - 1) / TT_PACKED_ROWS) * tt_packed_chunks(n_in) * TT_PACKED_TILE;
}

/* The first of the 8 contiguous rows of the matrix that are one half of a row of tiles. */
TT_HOST_DEVICE static inline uint32_t tt_packed_first_row(uint32_t span, uint32_t tile, uint32_t half)
{
	uint32_t tiles = span / TT_PACKED_ROWS;
	return tile / tiles * span + tile % tiles * 8 + half * (span / 2);
}

/* Where a row of the matrix is among the packed ones, row r of tile t being row 16t + r. */
TT_HOST_DEVICE static inline uint32_t tt_packed_row(uint32_t span, uint32_t row)
{
	uint32_t half = row % span / (span / 2), in_half = row % (span / 2);
	return row / span * span + in_half / 8 * TT_PACKED_ROWS + half * 8 + in_half % 8;
}

/* Where a number is; row counts the packed rows. The numbers of columns 4n and 4n + 2 of a row are 4 apart. */
TT_HOST_DEVICE static inline size_t tt_packed_at(uint32_t row, uint32_t column, uint32_t n_in)
{
	size_t tile = (size_t)(row / TT_PACKED_ROWS) * tt_packed_chunks(n_in) + column / TT_PACKED_COLUMNS;
	uint32_t lane = row % 8 * 4 + column % TT_PACKED_COLUMNS / 8;
	return tile * TT_PACKED_TILE + column % 8 / 4 * (TT_PACKED_TILE / 2) + lane * TT_PACKED_FRAGMENT +
	       column % 4 / 2 * 4 + row % TT_PACKED_ROWS / 8 * 2 + column % 2;
}

/* Puts one row, n_in bf16 numbers (a multiple of 8), into its place. */
static inline void tt_packed_store(uint16_t *matrix, uint32_t row, const uint16_t *from, uint32_t n_in)
{
	for (uint32_t k = 0; k < n_in; k += 8) {
		uint16_t *to = matrix + tt_packed_at(row, k, n_in);
		for (uint32_t i = 0; i < 8; i++)
			to[i / 4 * (TT_PACKED_TILE / 2) + i % 4 / 2 * 4 + i % 2] = from[k + i];
	}
}

#endif
