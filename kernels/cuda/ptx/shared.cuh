/* Shared memory. It has 32 banks of 4 bytes: lanes of a warp that touch different words of one bank wait for each
 * other. 16-byte accesses go a quarter warp at a time, 8-byte ones half a warp. Pointers are generic. */
#ifndef KERNELS_CUDA_PTX_SHARED_CUH
#define KERNELS_CUDA_PTX_SHARED_CUH

#include "kernels/cuda/ptx/numbers.cuh"

TT_DEVICE uint32_t tt_shared_address(const void *p)
{
#ifdef TT_EMU
	return tt_emu_shared_offset(p);
#else
	return (uint32_t)__cvta_generic_to_shared(p);
#endif
}

TT_DEVICE uint4 tt_shared_load_16(const void *p TT_SITE)
{
	uint4 v;
#ifdef TT_EMU
	tt_emu_shared_load(&v, p, sizeof v TT_AT);
#else
	asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "r"(tt_shared_address(p))
		     : "memory");
#endif
	return v;
}

TT_DEVICE uint2 tt_shared_load_8(const void *p TT_SITE)
{
	uint2 v;
#ifdef TT_EMU
	tt_emu_shared_load(&v, p, sizeof v TT_AT);
#else
	asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(tt_shared_address(p)) : "memory");
#endif
	return v;
}

TT_DEVICE uint32_t tt_shared_load_4(const void *p TT_SITE)
{
	uint32_t v;
#ifdef TT_EMU
	tt_emu_shared_load(&v, p, sizeof v TT_AT);
#else
	asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(tt_shared_address(p)) : "memory");
#endif
	return v;
}

TT_DEVICE void tt_shared_store_16(void *p, uint4 v TT_SITE)
{
#ifdef TT_EMU
	tt_emu_shared_store(p, &v, sizeof v TT_AT);
#else
	asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(tt_shared_address(p)), "r"(v.x), "r"(v.y),
		     "r"(v.z), "r"(v.w)
		     : "memory");
#endif
}

TT_DEVICE void tt_shared_store_8(void *p, uint2 v TT_SITE)
{
#ifdef TT_EMU
	tt_emu_shared_store(p, &v, sizeof v TT_AT);
#else
	asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(tt_shared_address(p)), "r"(v.x), "r"(v.y) : "memory");
#endif
}

TT_DEVICE void tt_shared_store_4(void *p, uint32_t v TT_SITE)
{
#ifdef TT_EMU
	tt_emu_shared_store(p, &v, sizeof v TT_AT);
#else
	asm volatile("st.shared.u32 [%0], %1;" ::"r"(tt_shared_address(p)), "r"(v) : "memory");
#endif
}

TT_DEVICE float tt_shared_load_f32(const float *p TT_SITE)
{
	return tt_f32_from_bits(tt_shared_load_4(p TT_PASS));
}

TT_DEVICE void tt_shared_store_f32(float *p, float v TT_SITE)
{
	tt_shared_store_4(p, tt_bits_from_f32(v) TT_PASS);
}

TT_DEVICE float4 tt_shared_load_f32x4(const float *p TT_SITE)
{
	uint4 v = tt_shared_load_16(p TT_PASS);
	return make_float4(tt_f32_from_bits(v.x), tt_f32_from_bits(v.y), tt_f32_from_bits(v.z), tt_f32_from_bits(v.w));
}

TT_DEVICE void tt_shared_store_f32x4(float *p, float4 v TT_SITE)
{
	uint4 bits =
		make_uint4(tt_bits_from_f32(v.x), tt_bits_from_f32(v.y), tt_bits_from_f32(v.z), tt_bits_from_f32(v.w));
	tt_shared_store_16(p, bits TT_PASS);
}

#endif
