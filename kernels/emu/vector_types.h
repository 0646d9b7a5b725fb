/* CUDA's small vectors and dim3, with their sizes and alignments. */
#ifndef KERNELS_EMU_VECTOR_TYPES_H
#define KERNELS_EMU_VECTOR_TYPES_H

typedef struct uint2 {
	unsigned x, y;
} uint2;
typedef struct uint3 {
	unsigned x, y, z;
} uint3;
typedef struct __attribute__((aligned(16))) uint4 {
	unsigned x, y, z, w;
} uint4;
typedef struct float2 {
	float x, y;
} float2;
typedef struct __attribute__((aligned(16))) float4 {
	float x, y, z, w;
} float4;

#ifdef __cplusplus
struct dim3 {
	unsigned x, y, z;
	dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
	{
	}
};
static inline uint2 make_uint2(unsigned x, unsigned y)
{
	uint2 v = {x, y};
	return v;
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
	uint4 v = {x, y, z, w};
	return v;
}
static inline float2 make_float2(float x, float y)
{
	float2 v = {x, y};
	return v;
}
static inline float4 make_float4(float x, float y, float z, float w)
{
	float4 v = {x, y, z, w};
	return v;
}
#else
typedef struct dim3 {
	unsigned x, y, z;
} dim3;
#endif

#endif
