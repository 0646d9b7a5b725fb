#include "weights/quant.h"

#include <math.h>
#include <string.h>

/* Files are little-endian and so is every machine this builds for. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "weights are read in place: a big-endian machine would need them swapped"
#endif

static const struct {
	uint32_t id;
	const char *name;
	uint32_t block, bytes;
} TYPES[] = {
#define ROW(name, block, bytes) {TT_TYPE_##name, #name, block, bytes},
	TT_TYPES(ROW)
#undef ROW
};

enum { N_TYPES = sizeof TYPES / sizeof *TYPES };

static size_t type_index(uint32_t type)
{
	size_t i = 0;
	while (i < N_TYPES && TYPES[i].id != type)
		i++;
	return i;
}

bool tt_type_known(uint32_t type)
{
	return type_index(type) < N_TYPES;
}

bool tt_type_in_gguf(uint32_t type)
{
	return tt_type_known(type) && type != TT_TYPE_F8_E4M3;
}

#define WITH_COMMA(name, block, bytes) ", " #name
const char *const tt_gguf_type_names = &(TT_GGUF_TYPES(WITH_COMMA))[2];
#undef WITH_COMMA

const char *tt_type_name(uint32_t type)
{
	size_t i = type_index(type);
	return i < N_TYPES ? TYPES[i].name : "?";
}

const char *tt_gguf_type_name(uint32_t type)
{
	return tt_type_in_gguf(type) ? tt_type_name(type) : "?";
}

uint32_t tt_type_block(enum tt_type type)
{
	size_t i = type_index((uint32_t)type);
	return i < N_TYPES ? TYPES[i].block : 1;
}

uint32_t tt_type_block_bytes(enum tt_type type)
{
	size_t i = type_index((uint32_t)type);
	return i < N_TYPES ? TYPES[i].bytes : 0;
}

size_t tt_type_row_bytes(enum tt_type type, size_t n)
{
	return n / tt_type_block(type) * tt_type_block_bytes(type);
}

static float float_of_bits(uint32_t bits)
{
	float value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

static uint32_t bits_of_float(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	return bits;
}

static uint16_t load_u16(const uint8_t *p)
{
	uint16_t value;
	memcpy(&value, p, sizeof value);
	return value;
}

float tt_f16_to_f32(uint16_t half)
{
	uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff;
	if (exponent == 31)
		return float_of_bits(sign | 0x7f800000 | mantissa << 13);
	if (exponent == 0) /* 0 or subnormal: a whole number of 2^-24, exact in f32 */
		return float_of_bits(sign | bits_of_float((float)mantissa * 0x1p-24f));
	return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

float tt_bf16_to_f32(uint16_t brain)
{
	return float_of_bits((uint32_t)brain << 16);
}

/* A half with the same bits, but for four more of mantissa and one of exponent, is a 256th of the number. */
float tt_fp8_to_f32(uint8_t bits)
{
	uint16_t half = (uint16_t)(((bits & 0x7f) << 7) | ((bits & 0x80) << 8));
	return (bits & 0x7f) == 0x7f ? NAN : tt_f16_to_f32(half) * 256;
}

uint16_t tt_f32_to_f16(float value)
{
	uint32_t bits = bits_of_float(value), magnitude = bits & 0x7fffffff;
	uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
	if (magnitude > 0x7f800000)
		return sign | 0x7e00;
	if (magnitude >= 0x47800000) /* 65536 and up; the numbers from 65520 to there round to infinity below */
		return sign | 0x7c00;
	if (magnitude < 0x38800000) {
		/* Below 2^-14 the result counts in 2^-24, which is the unit in the last place of numbers from 0.5
		 * to 1: the addition rounds to nearest even at the right bit. */
		return sign | (uint16_t)(bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000);
	}
	magnitude += 0xfff + (magnitude >> 13 & 1);
	return sign | (uint16_t)((magnitude >> 13) - (112 << 10));
}

uint16_t tt_f32_to_bf16(float value)
{
	uint32_t bits = bits_of_float(value);
	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16 | 0x40); /* quiet: a payload of low bits only would become infinity */
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void dequantise_q4_0(const uint8_t *src, float *dst, size_t n_blocks)
{
	for (size_t b = 0; b < n_blocks; b++, src += 18, dst += 32) {
		float d = tt_f16_to_f32(load_u16(src));
		for (int j = 0; j < 16; j++) {
			dst[j] = d * (float)((src[2 + j] & 15) - 8);
			dst[j + 16] = d * (float)((src[2 + j] >> 4) - 8);
		}
	}
}

static void dequantise_q4_1(const uint8_t *src, float *dst, size_t n_blocks)
{
	for (size_t b = 0; b < n_blocks; b++, src += 20, dst += 32) {
		float d = tt_f16_to_f32(load_u16(src)), m = tt_f16_to_f32(load_u16(src + 2));
		for (int j = 0; j < 16; j++) {
			dst[j] = d * (float)(src[4 + j] & 15) + m;
			dst[j + 16] = d * (float)(src[4 + j] >> 4) + m;
		}
	}
}

/* Bit j of a block's 32, as the fifth bit of a weight. */
static int fifth_bit(const uint8_t *bits, int j)
{
	return (bits[j / 8] >> j % 8 & 1) << 4;
}

static void dequantise_q5_0(const uint8_t *src, float *dst, size_t n_blocks)
{
	for (size_t b = 0; b < n_blocks; b++, src += 22, dst += 32) {
		float d = tt_f16_to_f32(load_u16(src));
		for (int j = 0; j < 16; j++) {
			dst[j] = d * (float)(((src[6 + j] & 15) | fifth_bit(src + 2, j)) - 16);
			dst[j + 16] = d * (float)((src[6 + j] >> 4 | fifth_bit(src + 2, j + 16)) - 16);
		}
	}
}

static void dequantise_q5_1(const uint8_t *src, float *dst, size_t n_blocks)
{
	for (size_t b = 0; b < n_blocks; b++, src += 24, dst += 32) {
		float d = tt_f16_to_f32(load_u16(src)), m = tt_f16_to_f32(load_u16(src + 2));
		for (int j = 0; j < 16; j++) {
			dst[j] = d * (float)((src[8 + j] & 15) | fifth_bit(src + 4, j)) + m;
			dst[j + 16] = d * (float)(src[8 + j] >> 4 | fifth_bit(src + 4, j + 16)) + m;
		}
	}
}

/* fifth: NULL, or Q5_K's bytes of fifth bits. */
static void dequantise_k_groups(const uint8_t *src, const uint8_t *fifth, const uint8_t *nibbles, float *dst)
{
	float d = tt_f16_to_f32(load_u16(src)), m = tt_f16_to_f32(load_u16(src + 2));
	for (uint32_t g = 0; g < 8; g++, dst += 32) {
		uint8_t scale, minimum;
		tt_k_scale(src + 4, g, &scale, &minimum);
		float step = d * (float)scale, offset = m * (float)minimum;
		for (uint32_t j = 0; j < 32; j++) {
			int q = nibbles[g / 2 * 32 + j] >> (g % 2 ? 4 : 0) & 15;
			if (fifth)
				q |= (fifth[j] >> g & 1) << 4;
			dst[j] = step * (float)q - offset;
		}
	}
}

static void dequantise_q4_k(const uint8_t *src, float *dst, size_t n_blocks)
{
	for (size_t b = 0; b < n_blocks; b++, src += 144, dst += 256)
		dequantise_k_groups(src, NULL, src + 16, dst);
}

static void dequantise_q5_k(const uint8_t *src, float *dst, size_t n_blocks)
{
	for (size_t b = 0; b < n_blocks; b++, src += 176, dst += 256)
		dequantise_k_groups(src, src + 16, src + 48, dst);
}

static void dequantise_q6_k(const uint8_t *src, float *dst, size_t n_blocks)
{
	for (size_t b = 0; b < n_blocks; b++, src += 210, dst += 256) {
		float d = tt_f16_to_f32(load_u16(src + 208));
		for (int j = 0; j < 256; j++) {
			int half = j / 128, part = j / 32 % 4; /* low nibbles of 64 bytes, then their high nibbles */
			int low = src[half * 64 + j % 64] >> (part / 2 * 4) & 15;
			int high = src[128 + half * 32 + j % 32] >> 2 * part & 3;
			float scale = d * (float)(int8_t)src[192 + j / 16];
			dst[j] = scale * (float)((low | high << 4) - 32);
		}
	}
}

/* The steps grow with the distance from zero, because weights far from zero are rare. */
const int8_t tt_iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static void dequantise_iq4_nl(const uint8_t *src, float *dst, size_t n_blocks)
{
	for (size_t b = 0; b < n_blocks; b++, src += 18, dst += 32) {
		float d = tt_f16_to_f32(load_u16(src));
		for (int j = 0; j < 16; j++) {
			dst[j] = d * (float)tt_iq4_levels[src[2 + j] & 15];
			dst[j + 16] = d * (float)tt_iq4_levels[src[2 + j] >> 4];
		}
	}
}

static void dequantise_q8_0(const uint8_t *src, float *dst, size_t n_blocks)
{
	for (size_t b = 0; b < n_blocks; b++, src += 34, dst += 32) {
		float d = tt_f16_to_f32(load_u16(src));
		for (int j = 0; j < 32; j++)
			dst[j] = d * (float)(int8_t)src[2 + j];
	}
}

static void dequantise_f8_e4m3(const uint8_t *src, float *dst, size_t n_blocks)
{
	for (size_t b = 0; b < n_blocks; b++, src += 36, dst += 32) {
		float scale;
		memcpy(&scale, src, sizeof scale);
		for (int j = 0; j < 32; j++)
			dst[j] = scale * tt_fp8_to_f32(src[4 + j]);
	}
}

void tt_dequantise(enum tt_type type, const void *src, float *dst, size_t n)
{
	const uint8_t *bytes = src;
	switch (type) {
	case TT_TYPE_F32:
		memcpy(dst, src, n * sizeof *dst);
		break;
	case TT_TYPE_F16:
		for (size_t i = 0; i < n; i++)
			dst[i] = tt_f16_to_f32(load_u16(bytes + 2 * i));
		break;
	case TT_TYPE_BF16:
		for (size_t i = 0; i < n; i++)
			dst[i] = tt_bf16_to_f32(load_u16(bytes + 2 * i));
		break;
	case TT_TYPE_Q4_0:
		dequantise_q4_0(bytes, dst, n / 32);
		break;
	case TT_TYPE_Q4_1:
		dequantise_q4_1(bytes, dst, n / 32);
		break;
	case TT_TYPE_Q5_0:
		dequantise_q5_0(bytes, dst, n / 32);
		break;
	case TT_TYPE_Q5_1:
		dequantise_q5_1(bytes, dst, n / 32);
		break;
	case TT_TYPE_Q8_0:
		dequantise_q8_0(bytes, dst, n / 32);
		break;
	case TT_TYPE_Q4_K:
		dequantise_q4_k(bytes, dst, n / 256);
		break;
	case TT_TYPE_Q5_K:
		dequantise_q5_k(bytes, dst, n / 256);
		break;
	case TT_TYPE_Q6_K:
		dequantise_q6_k(bytes, dst, n / 256);
		break;
	case TT_TYPE_IQ4_NL:
		dequantise_iq4_nl(bytes, dst, n / 32);
		break;
	case TT_TYPE_F8_E4M3:
		dequantise_f8_e4m3(bytes, dst, n / 32);
		break;
	}
}
