/* Eight lanes in plain C: the same operations and bits. Included by simd.h. */
#ifndef KERNELS_CPU_SIMD_PORTABLE_H
#define KERNELS_CPU_SIMD_PORTABLE_H

typedef struct {
	float lane[LANES];
} v8;

#define EACH_LANE for (int i = 0; i < LANES; i++)

INLINE v8 v8_set(float x)
{
	v8 r;
	EACH_LANE r.lane[i] = x;
	return r;
}
INLINE v8 v8_zero(void)
{
	return v8_set(0);
}
INLINE v8 v8_load(const float *p)
{
	v8 r;
	memcpy(r.lane, p, sizeof r.lane);
	return r;
}
INLINE v8 v8_load_bytes(const void *p)
{
	v8 r;
	memcpy(r.lane, p, sizeof r.lane);
	return r;
}
INLINE void v8_store(float *p, v8 a)
{
	memcpy(p, a.lane, sizeof a.lane);
}
INLINE v8 v8_add(v8 a, v8 b)
{
	EACH_LANE a.lane[i] += b.lane[i];
	return a;
}
INLINE v8 v8_sub(v8 a, v8 b)
{
	EACH_LANE a.lane[i] -= b.lane[i];
	return a;
}
INLINE v8 v8_mul(v8 a, v8 b)
{
	EACH_LANE a.lane[i] *= b.lane[i];
	return a;
}
INLINE v8 v8_div(v8 a, v8 b)
{
	EACH_LANE a.lane[i] /= b.lane[i];
	return a;
}
INLINE v8 v8_fma(v8 a, v8 b, v8 c)
{
	EACH_LANE c.lane[i] = fmaf(a.lane[i], b.lane[i], c.lane[i]);
	return c;
}
INLINE v8 v8_max(v8 a, v8 b)
{
	EACH_LANE b.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
	return b;
}
INLINE v8 v8_min(v8 a, v8 b)
{
	EACH_LANE b.lane[i] = a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i];
	return b;
}
INLINE float v8_sum(v8 a)
{
	const float *l = a.lane;
	return ((l[0] + l[2]) + (l[1] + l[3])) + ((l[4] + l[6]) + (l[5] + l[7]));
}
INLINE void v8_sum4(const v8 a[4], float *out)
{
	for (int i = 0; i < 4; i++)
		out[i] = v8_sum(a[i]);
}
INLINE void v8_part_pairs(v8 *a, v8 *b)
{
	float all[16];
	memcpy(all, a->lane, sizeof a->lane);
	memcpy(all + 8, b->lane, sizeof b->lane);
	EACH_LANE a->lane[i] = all[2 * i], b->lane[i] = all[2 * i + 1];
}
INLINE float v8_first(v8 a)
{
	return a.lane[0];
}
INLINE float v8_largest(v8 a)
{
	float m = a.lane[0];
	EACH_LANE m = m > a.lane[i] ? m : a.lane[i];
	return m;
}
INLINE float lane_power2(int n)
{
	uint32_t bits = (uint32_t)(n + 127) << 23;
	float r;
	memcpy(&r, &bits, sizeof r);
	return r;
}
INLINE v8 v8_scale2(v8 a, v8 n)
{
	EACH_LANE
	{
		int whole = n.lane[i] == n.lane[i] ? (int)n.lane[i] : 0;
		int half = whole >= 0 ? whole / 2 : (whole - 1) / 2; /* rounded down, as an arithmetic shift does */
		a.lane[i] = a.lane[i] * lane_power2(half) * lane_power2(whole - half);
	}
	return a;
}
INLINE float lane_f16(const uint8_t *p)
{
	uint16_t half;
	memcpy(&half, p, sizeof half);
	return tt_f16_to_f32(half);
}
INLINE v8 v8_from_f16(const void *p)
{
	v8 r;
	EACH_LANE r.lane[i] = lane_f16((const uint8_t *)p + 2 * i);
	return r;
}
INLINE v8 v8_from_bf16(const void *p)
{
	v8 r;
	EACH_LANE
	{
		uint16_t brain;
		memcpy(&brain, (const uint8_t *)p + 2 * i, sizeof brain);
		r.lane[i] = tt_bf16_to_f32(brain);
	}
	return r;
}
INLINE v8 v8_from_i8(const void *p)
{
	v8 r;
	EACH_LANE r.lane[i] = (float)((const int8_t *)p)[i];
	return r;
}
INLINE void v8_from_nibbles(const void *p, int bias, v8 *low, v8 *high)
{
	const uint8_t *bytes = p;
	EACH_LANE
	{
		low->lane[i] = (float)((bytes[i] & 15) - bias);
		high->lane[i] = (float)((bytes[i] >> 4) - bias);
	}
}
INLINE v8 v8_from_fields(const void *p, int shift, int mask)
{
	v8 r;
	EACH_LANE r.lane[i] = (float)(((const uint8_t *)p)[i] >> shift & mask);
	return r;
}
INLINE v8 v8_where_bits(uint32_t bits, float x)
{
	v8 r;
	EACH_LANE r.lane[i] = bits >> i & 1 ? x : 0;
	return r;
}
INLINE void v8_from_table(const int8_t *table, const void *p, v8 *low, v8 *high)
{
	const uint8_t *bytes = p;
	EACH_LANE
	{
		low->lane[i] = (float)table[bytes[i] & 15];
		high->lane[i] = (float)table[bytes[i] >> 4];
	}
}
INLINE v8 v8_set_f16(const void *p)
{
	return v8_set(lane_f16(p));
}
INLINE void v8_set_f16_pair(const void *p, v8 *first, v8 *second)
{
	*first = v8_set(lane_f16(p));
	*second = v8_set(lane_f16((const uint8_t *)p + 2));
}
INLINE void v8_to_f16(uint16_t *p, v8 a)
{
	EACH_LANE p[i] = tt_f32_to_f16(a.lane[i]);
}

#undef EACH_LANE

#endif
