#include "kernels/cpu/kv_rows.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/fp8.h"

/* Q8_0's block of 32, as in a file: d, then whole numbers, x / d to nearest, ties to even. A group that holds an
 * infinity or what is no number is all NaN; numbers beyond what d can be as a half are the largest that it can say. */
static void write_q8(const float *x, uint8_t *block)
{
	const float round = 0x1.8p23f; /* adding it leaves the nearest whole number in the low bits */
	float most = 0;
	bool finite = true;
	for (int i = 0; i < 32; i++) {
		float magnitude = fabsf(x[i]);
		finite = finite && magnitude < INFINITY;
		most = magnitude > most ? magnitude : most;
	}
	/* as a half, a smaller d is zero */
	float d = finite ? fminf(most / 127, 65504) : NAN, inverse = finite && d > 0x1p-26f ? 1 / d : 0;
	uint16_t half = tt_f32_to_f16(d);
	memcpy(block, &half, sizeof half);
	for (int i = 0; i < 32; i++)
		block[2 + i] = finite ? (uint8_t)(int)(fminf(fmaxf(x[i] * inverse, -127), 127) + round - round) : 0;
}

/* Codes, and their scale. */
static void write_fp8(const float *x, uint32_t n, uint8_t *codes, uint16_t *scale)
{
	float most = 0;
	bool finite = true;
	for (uint32_t i = 0; i < n; i++) {
		finite = finite && fabsf(x[i]) < INFINITY;
		most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
	}
	*scale = tt_fp8_scale(finite ? most : INFINITY);
	float inverse = tt_fp8_inverse(*scale);
	for (uint32_t i = 0; i < n; i++)
		codes[i] = finite ? tt_f32_to_fp8(x[i] * inverse) : 0;
}

void tt_cpu_kv_write(
	const struct tt_cpu_body *body, const struct tt_kv_pages *kv, size_t at, const float *row, uint32_t n)
{
	uint8_t *to = (uint8_t *)kv->data + tt_kv_bytes(kv->type, at);
	switch (kv->type) {
	case TT_KV_DEFAULT:
	case TT_KV_F32:
		memcpy(to, row, n * sizeof *row);
		break;
	case TT_KV_F16:
		body->to_f16(row, (uint16_t *)(void *)to, n);
		break;
	case TT_KV_BF16:
		for (uint32_t i = 0; i < n; i++)
			((uint16_t *)(void *)to)[i] = tt_f32_to_bf16(row[i]);
		break;
	case TT_KV_Q8:
		for (uint32_t i = 0; i < n; i += 32)
			write_q8(row + i, to + i / 32 * 34);
		break;
	case TT_KV_FP8:
		write_fp8(row, n, to, kv->scales + at / n);
		break;
	}
}
