/* The number types that weights lie in, and their plain dequantisation: the specification that every faster body
 * must equal bit for bit, itself equal to gguf-py's. */
#ifndef WEIGHTS_QUANT_H
#define WEIGHTS_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The values are GGUF's own type ids. */
enum tt_type {
	TT_TYPE_F32 = 0,
	TT_TYPE_F16 = 1,
	TT_TYPE_Q4_0 = 2, /* 32 weights: f16 d, 16 bytes of nibbles (low: j, high: j + 16); d * (q - 8) */
	TT_TYPE_Q4_1 = 3, /* 32 weights: f16 d, f16 m, 16 bytes of nibbles; d * q + m, where d * q is exact */
	TT_TYPE_Q8_0 = 8, /* 32 weights: f16 d, 32 signed bytes; d * q */
	TT_TYPE_BF16 = 30,
};

/* True for the types above. A type read from a file is only cast to enum tt_type after this. */
bool tt_type_known(uint32_t type);

/* "Q4_1"; "?" for an unknown type. */
const char *tt_type_name(uint32_t type);

/* Weights in a block (1 for plain types) and its bytes. */
uint32_t tt_type_block(enum tt_type type);
uint32_t tt_type_block_bytes(enum tt_type type);

/* Bytes of a row of n weights; n is a multiple of the block. */
size_t tt_type_row_bytes(enum tt_type type, size_t n);

/* dst[n] f32 = the weights of src; n is a multiple of the block. src needs no alignment. */
void tt_dequantise(enum tt_type type, const void *src, float *dst, size_t n);

/* IEEE half and bfloat16 to float (exact), and float to both with round to nearest even. */
float tt_f16_to_f32(uint16_t half);
float tt_bf16_to_f32(uint16_t brain);
uint16_t tt_f32_to_f16(float value);
uint16_t tt_f32_to_bf16(float value);

#endif
