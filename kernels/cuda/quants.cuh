/* Quantised weights (quants.h) from device memory to bf16 in registers, with the bits of the plain dequantisation
 * (weights/quant.h) rounded once, for finite scales. There a weight is step * q - offset in f32, where step * q is
 * exact, so one fused operation gives the same number; and where there is no offset it takes q as 128 + q or 32768 +
 * q, which a byte becomes in one instruction, because that much times the step is exact too. (A weight of zero is +0
 * then, whatever the sign of its scale: no sum can tell.) A weight of F8_E4M3 is one multiplication here as there. */
#ifndef KERNELS_CUDA_QUANTS_CUH
#define KERNELS_CUDA_QUANTS_CUH

#include "kernels/cuda/quants.h"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/numbers.cuh"
#include "kernels/cuda/ptx/warp.cuh"

/* What a lane loads of a chunk of a tile: as few registers as serve every type, since some chunks are on their way at
 * once. */
struct quant_words {
	uint2 lower;
	uint32_t upper; /* Q8_0: of lower ones the third */
	uint2 scales;   /* Q8_0: the second is the fourth of lower ones. Q6_K: the header; Q4_K, Q5_K: both are it.
			   F8_E4M3: the header, and the fourth of lower ones */
};

/* What a lane keeps of the record that a chunk is in: of rows g and g + 8. */
struct quant_record {
	float d[2], m[2];
	uint2 scales;
};

/* weight = step * q + offset, or in types without an offset: step * (q + bias) + offset. */
struct quant_scales {
	float step[2], offset[2];
};

template <uint32_t type> TT_DEVICE constexpr bool quant_k(void)
{
	return type == TT_TYPE_Q4_K || type == TT_TYPE_Q5_K;
}

template <uint32_t type> TT_DEVICE constexpr bool quant_has_offset(void)
{
	return quant_k<type>() || type == TT_TYPE_Q4_1 || type == TT_TYPE_Q5_1;
}

/* A byte each weight, in four words. */
template <uint32_t type> TT_DEVICE constexpr bool quant_bytes_only(void)
{
	return type == TT_TYPE_Q8_0 || type == TT_TYPE_F8_E4M3;
}

/* Numbers of up to 8 bits, not 7, as bytes without a sign. */
template <uint32_t type> TT_DEVICE constexpr bool quant_eight_bits(void)
{
	return type == TT_TYPE_Q8_0 || type == TT_TYPE_IQ4_NL;
}

/* The byte of a weight of 0, in types without an offset. */
template <uint32_t type> TT_DEVICE constexpr float quant_zero(void)
{
	return type == TT_TYPE_Q4_0 ? 8 : type == TT_TYPE_Q5_0 ? 16 : type == TT_TYPE_Q6_K ? 32 : 128;
}

/* Whether a chunk is the first of its record. */
template <uint32_t type> TT_DEVICE bool quant_begins(uint32_t chunk)
{
	return tt_quant_layout_of(type).chunks > 1 && chunk % tt_quant_layout_of(type).chunks == 0;
}

/* Loads what lane `lane` has of a chunk. tile_row: where the row of tiles begins. begins: the record's header too. */
template <uint32_t type>
TT_DEVICE void quant_load(
	struct quant_words &w, const unsigned char *tile_row, uint32_t chunk, uint32_t lane, bool begins)
{
	const struct tt_quant_layout l = tt_quant_layout_of(type);
	uint32_t at = chunk % l.chunks, g = lane / 4;
	const unsigned char *record = tile_row + (size_t)(chunk / l.chunks) * tt_quant_record(l);
	const unsigned char *scales = record + l.header + at * l.scales;
	const unsigned char *upper = record + l.header + l.chunks * l.scales + at * l.upper;
	const unsigned char *lower = record + l.header + l.chunks * (l.scales + l.upper) + at * l.lower;
	if (quant_bytes_only<type>()) {
		uint4 v = tt_load_weight(lower + lane * 16);
		w.lower = make_uint2(v.x, v.y);
		w.upper = v.z;
		w.scales.y = v.w;
	} else {
		w.lower = tt_load_weight_8(lower + lane * 8);
	}
	if (l.upper == 64)
		w.upper = tt_load_weight_2(upper + lane * 2);
	if (l.upper == 128)
		w.upper = tt_load_weight_4(upper + lane * 4);
	if (type == TT_TYPE_Q6_K)
		w.scales.x = tt_load_weight_2(scales + lane / 2 * 2);
	else if (l.scales == 32)
		w.scales.x = tt_load_weight_4(scales + g * 4);
	else if (l.scales == 64)
		w.scales = tt_load_weight_8(scales + g * 8);
	if (l.header == 256 && begins)
		w.scales = tt_load_weight_8(record + lane * 8);
	if (l.header == 32 && begins)
		w.scales.y = tt_load_weight_4(record + g * 4);
	if (type == TT_TYPE_F8_E4M3 && begins)
		w.scales.x = tt_load_weight_4(record + g * 8 + lane % 2 * 4);
}

/* A whole number below 2^23. */
TT_DEVICE float quant_small(uint32_t n)
{
	return tt_f32_from_bits(0x4b000000u | n) - 0x1p23f;
}

TT_DEVICE float quant_low_half(uint32_t pair)
{
	return tt_f32_from_f16((uint16_t)pair);
}

TT_DEVICE float quant_high_half(uint32_t pair)
{
	return tt_f32_from_f16((uint16_t)(pair >> 16));
}

/* A scale of F8_E4M3 as quant_weight multiplies by it: as f32, a code's bits are 2^-120 of its number. */
TT_DEVICE float quant_fp8_step(uint32_t scale)
{
	return tt_f32_from_bits(scale) * 0x1p120f;
}

/* Takes a header that quant_load loaded. All lanes of the warp. */
template <uint32_t type> TT_DEVICE void quant_begin(const struct quant_words &w, struct quant_record &r)
{
	if (type == TT_TYPE_Q6_K) {
		r.d[0] = quant_low_half(w.scales.y);
		r.d[1] = quant_high_half(w.scales.y);
	} else if (type == TT_TYPE_F8_E4M3) {
		uint32_t first = tt_lane() / 4 * 4;
		r.d[0] = quant_fp8_step(tt_shuffle(w.scales.x, first));
		r.d[1] = quant_fp8_step(tt_shuffle(w.scales.x, first + 1));
	} else if (quant_k<type>()) {
		uint32_t half = w.scales.x >> 24 | w.scales.y >> 24 << 8, first = tt_lane() / 4 * 4;
		TT_UNROLL
		for (uint32_t i = 0; i < 2; i++) {
			r.d[i] = quant_low_half(tt_shuffle(half, first + 2 * i));
			r.m[i] = quant_low_half(tt_shuffle(half, first + 2 * i + 1));
		}
		r.scales = w.scales;
	}
}

/* bits: scale and minimum of row g and of row g + 8, 6 bits each. */
TT_DEVICE struct quant_scales quant_k_scales(uint32_t bits, const float d[2], const float m[2])
{
	struct quant_scales s;
	TT_UNROLL
	for (uint32_t i = 0; i < 2; i++) {
		s.step[i] = d[i] * quant_small(bits >> 12 * i & 63);
		s.offset[i] = -(m[i] * quant_small(bits >> (12 * i + 6) & 63));
	}
	return s;
}

/* Steps and offsets of a chunk. All lanes of the warp. */
template <uint32_t type>
TT_DEVICE struct quant_scales quant_scales_of(const struct quant_words &w, const struct quant_record &r, uint32_t chunk)
{
	const float bias = quant_eight_bits<type>() ? 32768 : 128;
	struct quant_scales s;
	if (quant_k<type>()) {
		uint32_t own = chunk % 2 ? r.scales.y : r.scales.x;
		return quant_k_scales(tt_shuffle(own, tt_lane() / 4 * 4 + chunk % 8 / 2), r.d, r.m);
	}
	if (type == TT_TYPE_F8_E4M3) {
		s.step[0] = r.d[0], s.step[1] = r.d[1];
		s.offset[0] = s.offset[1] = 0;
		return s;
	}
	if (type == TT_TYPE_Q6_K) {
		TT_UNROLL
		for (uint32_t i = 0; i < 2; i++)
			s.step[i] = r.d[i] * (quant_small((w.scales.x >> 8 * i & 0xff) ^ 0x80) - 128.0f);
	} else if (quant_has_offset<type>()) {
		s.step[0] = quant_low_half(w.scales.x), s.offset[0] = quant_high_half(w.scales.x);
		s.step[1] = quant_low_half(w.scales.y), s.offset[1] = quant_high_half(w.scales.y);
		return s;
	} else {
		s.step[0] = quant_low_half(w.scales.x), s.step[1] = quant_high_half(w.scales.x);
	}
	TT_UNROLL
	for (uint32_t i = 0; i < 2; i++)
		s.offset[i] = -(s.step[i] * (bias + quant_zero<type>()));
	return s;
}

/* Bytes of tt_iq4_levels, 128 more than they are, by four numbers of 4 bits. */
TT_DEVICE uint32_t quant_iq4_levels(uint32_t numbers)
{
	uint32_t at = numbers & 0x7777;
	uint32_t low = tt_permute(0x3f2d1801, 0x766a5d4f, at), high = tt_permute(0xa6998d81, 0xf1d9c5b5, at);
	return tt_permute(low, high, 0x3210 | (numbers & 0x8888) >> 1);
}

/* Word i of a lane's four: a byte each weight, without a sign; of F8_E4M3 its code. */
template <uint32_t type> TT_DEVICE uint32_t quant_bytes(const struct quant_words &w, uint32_t i)
{
	if (quant_bytes_only<type>()) {
		uint32_t word = i == 0 ? w.lower.x : i == 1 ? w.lower.y : i == 2 ? w.upper : w.scales.y;
		return type == TT_TYPE_Q8_0 ? word ^ 0x80808080u : word;
	}
	uint32_t lower = i / 2 ? w.lower.y : w.lower.x;
	if (type == TT_TYPE_IQ4_NL)
		return quant_iq4_levels(i % 2 ? lower >> 16 : lower);
	uint32_t bytes = (i % 2 ? lower >> 4 : lower) & 0x0f0f0f0fu;
	if (type == TT_TYPE_Q6_K)
		return bytes | (w.upper >> 2 * i << 4 & 0x30303030u);
	if (tt_quant_layout_of(type).upper)
		bytes |= (w.upper | w.upper << 12) >> i << 4 & 0x10101010u;
	return bytes;
}

/* One weight of a word, in f32. */
template <uint32_t type> TT_DEVICE float quant_weight(uint32_t bytes, uint32_t j, float step, float offset)
{
	if (type == TT_TYPE_F8_E4M3) { /* the sign, four bits for more of exponent, the code without its sign */
		int32_t code = (int32_t)(bytes << (24 - 8 * j));
		return tt_f32_from_bits((uint32_t)(code >> 4) & 0x87f00000u) * step;
	}
	float q = quant_eight_bits<type>() ? tt_f32_from_bits(tt_permute(bytes, 0x47000000u, 0x7404 | j << 4))
					   : tt_f32_from_bits(tt_permute(bytes, 0x43000000u, 0x7044 | j << 8));
	if (quant_has_offset<type>())
		q -= 128.0f;
	return fmaf(q, step, offset);
}

/* The four weights of a word. */
template <uint32_t type> TT_DEVICE uint2 quant_pairs(uint32_t bytes, float step, float offset)
{
	return make_uint2(tt_bf16x2_from_f32(quant_weight<type>(bytes, 0, step, offset),
				  quant_weight<type>(bytes, 1, step, offset)),
		tt_bf16x2_from_f32(
			quant_weight<type>(bytes, 2, step, offset), quant_weight<type>(bytes, 3, step, offset)));
}

/* The lane's fragment of the first (f = 0) or second mma of a chunk. */
template <uint32_t type>
TT_DEVICE uint4 quant_fragment(const struct quant_words &w, const struct quant_scales &s, uint32_t f)
{
	uint2 row = quant_pairs<type>(quant_bytes<type>(w, 2 * f), s.step[0], s.offset[0]);
	uint2 below = quant_pairs<type>(quant_bytes<type>(w, 2 * f + 1), s.step[1], s.offset[1]);
	return make_uint4(row.x, below.x, row.y, below.y);
}

/* Four weights from column on (a multiple of 4) of one row of a packed matrix, by one lane. */
template <uint32_t type> TT_DEVICE uint2 quant_four(const unsigned char *tile_row, uint32_t row, uint32_t column)
{
	uint32_t chunk = column / TT_PACKED_COLUMNS, g = row % 8, r = row % TT_PACKED_ROWS / 8;
	uint32_t lane = g * 4 + column % TT_PACKED_COLUMNS / 8, word = column % 8 / 4 * 2 + r;
	struct quant_words w = {};
	struct quant_record record = {};
	struct quant_scales s;
	quant_load<type>(w, tile_row, chunk, lane, !quant_k<type>() && type != TT_TYPE_F8_E4M3);
	if (quant_k<type>()) {
		const struct tt_quant_layout l = tt_quant_layout_of(type);
		const unsigned char *header = tile_row + (size_t)(chunk / l.chunks) * tt_quant_record(l) + g * 32;
		uint4 a = tt_load_weight(header), b = tt_load_weight(header + 16);
		const uint32_t words[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
		uint32_t bits = 0;
		TT_UNROLL
		for (uint32_t i = 0; i < 8; i++)
			bits = i == chunk % 8 ? words[i] : bits;
		TT_UNROLL
		for (uint32_t i = 0; i < 2; i++) {
			record.d[i] = quant_low_half(words[4 * i] >> 24 | words[4 * i + 1] >> 24 << 8);
			record.m[i] = quant_low_half(words[4 * i + 2] >> 24 | words[4 * i + 3] >> 24 << 8);
		}
		s = quant_k_scales(bits, record.d, record.m);
	} else if (type == TT_TYPE_F8_E4M3) {
		const struct tt_quant_layout l = tt_quant_layout_of(type);
		const unsigned char *header = tile_row + (size_t)(chunk / l.chunks) * tt_quant_record(l);
		uint2 scales = tt_load_weight_8(header + g * 8);
		s.step[0] = quant_fp8_step(scales.x), s.step[1] = quant_fp8_step(scales.y);
		s.offset[0] = s.offset[1] = 0;
	} else {
		quant_begin<type>(w, record);
		s = quant_scales_of<type>(w, record, chunk);
	}
	return quant_pairs<type>(quant_bytes<type>(w, word), s.step[r], s.offset[r]);
}

/* The same of any matrix that load.c made, bf16 ones among them. row counts the packed rows. */
TT_DEVICE uint2 packed_four(const void *matrix, uint32_t type, uint32_t row, uint32_t column, uint32_t n_in)
{
	const unsigned char *tile_row =
		(const unsigned char *)matrix + row / TT_PACKED_ROWS * tt_quant_tile_row(type, n_in);
	switch (type) {
#define FOUR(name)                                                                                                     \
	case TT_TYPE_##name:                                                                                           \
		return quant_four<TT_TYPE_##name>(tile_row, row, column);
		TT_QUANT_TYPES(FOUR)
#undef FOUR
	default:
		break;
	}
	/* half of a fragment: the other is of the row 8 above or below, which shares its sectors */
	bool upper = row % TT_PACKED_ROWS / 8;
	uint4 v = tt_load_16((const tt_bf16 *)matrix + tt_packed_at(row - 8 * upper, column, n_in), TT_TRAFFIC_WEIGHT);
	return make_uint2(upper ? v.y : v.x, upper ? v.w : v.z);
}

#endif
