/* The number types of weights, and their plain dequantisation: the specification that every faster body must equal bit
 * for bit, and that itself equals gguf-py's. */
#ifndef WEIGHTS_QUANT_H
#define WEIGHTS_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The values are GGUF's own type ids, but for the last. */
enum tt_type {
	TT_TYPE_F32 = 0,
	TT_TYPE_F16 = 1,
	TT_TYPE_Q4_0 = 2, /* 32 weights: f16 d, 16 bytes of nibbles (low: j, high: j + 16); d * (q - 8) */
	TT_TYPE_Q4_1 = 3, /* 32 weights: f16 d, f16 m, 16 bytes of nibbles; d * q + m, where d * q is exact */
	TT_TYPE_Q5_0 = 6, /* 32 weights: f16 d, 32 fifth bits, 16 bytes of nibbles; d * (q - 16) */
	TT_TYPE_Q5_1 = 7, /* 32 weights: f16 d, f16 m, 32 fifth bits, 16 bytes of nibbles; d * q + m */
	TT_TYPE_Q8_0 = 8, /* 32 weights: f16 d, 32 signed bytes; d * q */
	/* 256 weights in 8 groups of 32: f16 d, f16 m, a scale s and a minimum t of 6 bits for each group in 12 bytes,
	 * then (Q5_K) 32 bytes whose bit g is the fifth bit of group g, then 4 times 32 bytes of nibbles, the low ones
	 * for an even group, the high ones for the next odd group. d * s * q - m * t, where both products are exact. */
	TT_TYPE_Q4_K = 12,
	TT_TYPE_Q5_K = 13,
	/* 256 weights in 16 groups of 16: 128 bytes of nibbles, 64 of upper pairs of bits, 16 signed scales s, f16 d;
	 * d * s * (q - 32). */
	TT_TYPE_Q6_K = 14,
	TT_TYPE_IQ4_NL = 20, /* 32 weights: f16 d, 16 bytes of nibbles that index tt_iq4_levels; d * level */
	TT_TYPE_BF16 = 30,
	/* 32 weights: f32 scale, 32 numbers of tt_fp8_to_f32, none of them NaN; scale * number. The scale is from 0 to
	 * below TT_FP8_MAX_SCALE, and the same for all blocks of a row's 128 weights from a multiple of 128 on. No file
	 * has such blocks: weights/fp8.h makes them. */
	TT_TYPE_F8_E4M3 = 63,
};

enum { TT_FP8_MAX_SCALE = 256 }; /* so that 2^120 of them fit f32 */

/* X(name, weights in a block, bytes of a block) for every type above, and for those that a GGUF file may have; a block
 * of plain numbers is one of them. */
#define TT_GGUF_TYPES(X)                                                                                               \
	X(F32, 1, 4)                                                                                                   \
	X(F16, 1, 2)                                                                                                   \
	X(BF16, 1, 2)                                                                                                  \
	X(Q4_0, 32, 18)                                                                                                \
	X(Q4_1, 32, 20)                                                                                                \
	X(Q5_0, 32, 22)                                                                                                \
	X(Q5_1, 32, 24)                                                                                                \
	X(Q8_0, 32, 34)                                                                                                \
	X(Q4_K, 256, 144)                                                                                              \
	X(Q5_K, 256, 176)                                                                                              \
	X(Q6_K, 256, 210)                                                                                              \
	X(IQ4_NL, 32, 18)
#define TT_TYPES(X) TT_GGUF_TYPES(X) X(F8_E4M3, 32, 36)

extern const int8_t tt_iq4_levels[16];

/* The scale and minimum (6 bits each) of group g, 0 to 7, in the 12 bytes of a block of Q4_K or Q5_K. */
static inline void tt_k_scale(const uint8_t *scales, uint32_t g, uint8_t *scale, uint8_t *minimum)
{
	if (g < 4) {
		*scale = scales[g] & 63;
		*minimum = scales[g + 4] & 63;
	} else {
		*scale = (uint8_t)((scales[g + 4] & 15) | (scales[g - 4] >> 2 & 48));
		*minimum = (uint8_t)(scales[g + 4] >> 4 | (scales[g] >> 2 & 48));
	}
}

/* True for the types above. A type read from a file is only cast to enum tt_type after this. */
bool tt_type_known(uint32_t type);

/* Of these, those that a GGUF file may have. */
bool tt_type_in_gguf(uint32_t type);

/* Their names: "F32, F16, ...". */
extern const char *const tt_gguf_type_names;

/* "Q4_1"; "?" for an unknown type, the second for one that no GGUF file may have too. */
const char *tt_type_name(uint32_t type);
const char *tt_gguf_type_name(uint32_t type);

/* Weights in a block (1 for plain types) and its bytes. */
uint32_t tt_type_block(enum tt_type type);
uint32_t tt_type_block_bytes(enum tt_type type);

/* Bytes of a row of n weights; n is a multiple of the block. */
size_t tt_type_row_bytes(enum tt_type type, size_t n);

/* dst[n] f32 = the weights of src; n is a multiple of the block. src needs no alignment. */
void tt_dequantise(enum tt_type type, const void *src, float *dst, size_t n);

/* E4M3 of the Open Compute Project to float (exact): a sign, four bits of exponent, three of mantissa; no infinities,
 * NaN is all ones but the sign, the largest is 448. */
float tt_fp8_to_f32(uint8_t bits);

/* IEEE half and bfloat16 to float (exact), and float to both with round to nearest even. */
float tt_f16_to_f32(uint16_t half);
float tt_bf16_to_f32(uint16_t brain);
uint16_t tt_f32_to_f16(float value);
uint16_t tt_f32_to_bf16(float value);

#endif
