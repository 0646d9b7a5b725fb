/* Rows of quantised weights into the layout of quants.h. */
#include <string.h>

#include "kernels/cuda/quants.h"

/* A row's weights of one chunk, as their numbers in the file, and where they go. */
struct chunk {
	uint8_t q[TT_PACKED_COLUMNS];
	uint8_t *header, *scales, *upper, *lower;
	uint32_t at; /* which chunk of its record */
};

static void nibbles(uint8_t *q, const uint8_t *from)
{
	for (uint32_t j = 0; j < 16; j++) {
		q[j] = from[j] & 15;
		q[j + 16] = from[j] >> 4;
	}
}

static void fifth_bits(uint8_t *q, const uint8_t *bits)
{
	for (uint32_t j = 0; j < 32; j++)
		q[j] |= (uint8_t)((bits[j / 8] >> j % 8 & 1) << 4);
}

/* Chunk g of a block of Q4_K or Q5_K. */
static void k_numbers(uint8_t *q, const uint8_t *block, uint32_t g, bool five)
{
	const uint8_t *from = block + (five ? 48 : 16) + g / 2 * 32;
	for (uint32_t j = 0; j < 32; j++)
		q[j] = (uint8_t)((from[j] >> (g % 2 ? 4 : 0) & 15) | (five ? (block[16 + j] >> g & 1) << 4 : 0));
}

static void k6_numbers(uint8_t *q, const uint8_t *block, uint32_t g)
{
	uint32_t half = g / 4, part = g % 4;
	for (uint32_t j = 0; j < 32; j++) {
		uint32_t low = block[half * 64 + part % 2 * 32 + j] >> (part / 2 * 4) & 15;
		q[j] = (uint8_t)(low | (block[128 + half * 32 + j] >> 2 * part & 3u) << 4);
	}
}

static void read_numbers(uint32_t type, struct chunk *c, const uint8_t *block)
{
	switch (type) {
	case TT_TYPE_Q8_0:
		memcpy(c->q, block + 2, sizeof c->q);
		break;
	case TT_TYPE_F8_E4M3:
		memcpy(c->q, block + 4, sizeof c->q);
		break;
	case TT_TYPE_Q4_1:
		nibbles(c->q, block + 4);
		break;
	case TT_TYPE_Q5_0:
		nibbles(c->q, block + 6);
		fifth_bits(c->q, block + 2);
		break;
	case TT_TYPE_Q5_1:
		nibbles(c->q, block + 8);
		fifth_bits(c->q, block + 4);
		break;
	case TT_TYPE_Q4_K:
	case TT_TYPE_Q5_K:
		k_numbers(c->q, block, c->at, type == TT_TYPE_Q5_K);
		break;
	case TT_TYPE_Q6_K:
		k6_numbers(c->q, block, c->at);
		break;
	default: /* Q4_0, IQ4_NL */
		nibbles(c->q, block + 2);
	}
}

static void put_numbers(uint32_t type, const struct chunk *c, uint32_t row)
{
	static const uint8_t places[4] = {0, 8, 4, 12}; /* of a byte's fifth bits */
	uint32_t r = row / 8;
	bool bytes = type == TT_TYPE_Q8_0 || type == TT_TYPE_F8_E4M3;
	for (uint32_t k = 0; k < TT_PACKED_COLUMNS; k++) {
		uint32_t lane = row % 8 * 4 + k / 8, f = k % 8 / 4, j = k % 4, word = 2 * f + r, q = c->q[k];
		if (bytes)
			c->lower[lane * 16 + word * 4 + j] = (uint8_t)q;
		else if (type == TT_TYPE_IQ4_NL)
			c->lower[lane * 8 + word * 2 + j / 2] |= (uint8_t)(q << j % 2 * 4);
		else
			c->lower[lane * 8 + f * 4 + j] |= (uint8_t)((q & 15) << r * 4);
		if (type == TT_TYPE_Q6_K)
			c->upper[lane * 4 + j] |= (uint8_t)(q >> 4 << word * 2);
		else if (!bytes && q >> 4)
			c->upper[lane * 2 + (places[j] + word) / 8] |= (uint8_t)(1 << (places[j] + word) % 8);
	}
}

/* The scale and minimum of a chunk of Q4_K or Q5_K, and with its first chunk the halves d and m. */
static void put_k_scales(const struct chunk *c, uint32_t row, const uint8_t *block)
{
	uint8_t scale, minimum, *g = c->header + row % 8 * 32, *to = g + c->at / 2 * 8 + c->at % 2 * 4;
	tt_k_scale(block + 4, c->at, &scale, &minimum);
	uint32_t bits = (uint32_t)(scale | minimum << 6) << row / 8 * 12;
	for (uint32_t i = 0; i < 3; i++)
		to[i] |= (uint8_t)(bits >> 8 * i);
	for (uint32_t i = 0; i < 4 && c->at == 0; i++) /* the bytes of d and m */
		g[(row / 8 * 2 + i / 2) * 8 + i % 2 * 4 + 3] = block[i];
}

static void put_scales(uint32_t type, const struct chunk *c, uint32_t row, const uint8_t *block)
{
	uint32_t g = row % 8, r = row / 8;
	switch (type) {
	case TT_TYPE_Q4_1:
	case TT_TYPE_Q5_1:
		memcpy(c->scales + g * 8 + r * 4, block, 4);
		break;
	case TT_TYPE_Q4_K:
	case TT_TYPE_Q5_K:
		put_k_scales(c, row, block);
		break;
	case TT_TYPE_Q6_K:
		for (uint32_t half = 0; half < 2; half++)
			c->scales[g * 4 + half * 2 + r] = block[192 + c->at * 2 + half];
		memcpy(c->header + g * 4 + r * 2, block + 208, 2);
		break;
	case TT_TYPE_F8_E4M3: /* every chunk of the record has the same */
		memcpy(c->header + g * 8 + r * 4, block, 4);
		break;
	default:
		memcpy(c->scales + g * 4 + r * 2, block, 2);
	}
}

void tt_quant_store(uint32_t type, uint8_t *tile_row, uint32_t row, const uint8_t *from, uint32_t n_in)
{
	struct tt_quant_layout l = tt_quant_layout_of(type);
	size_t block_bytes = tt_type_block_bytes((enum tt_type)type), columns = tt_type_block((enum tt_type)type);
	for (uint32_t i = 0; i < n_in / TT_PACKED_COLUMNS; i++) {
		uint8_t *record = tile_row + (size_t)(i / l.chunks) * tt_quant_record(l);
		const uint8_t *block = from + i * TT_PACKED_COLUMNS / columns * block_bytes;
		struct chunk c = {.header = record, .at = i % l.chunks};
		c.scales = record + l.header + c.at * l.scales;
		c.upper = record + l.header + l.chunks * l.scales + c.at * l.upper;
		c.lower = record + l.header + l.chunks * (l.scales + l.upper) + c.at * l.lower;
		read_numbers(type, &c, block);
		put_numbers(type, &c, row);
		put_scales(type, &c, row, block);
	}
}
