/* Global memory. Every access must be aligned to its size; a warp's lanes should touch whole 32-byte sectors. */
#ifndef KERNELS_CUDA_PTX_MEMORY_CUH
#define KERNELS_CUDA_PTX_MEMORY_CUH

#include "kernels/cuda/ptx/numbers.cuh"

/* 16 bytes of weights, past L1: they are used once, and would evict the activations, which every row uses. The
 * non-coherent path is legal because no kernel writes weights; for the same reason this may be called before
 * tt_grid_wait. */
TT_DEVICE uint4 tt_load_weight(const void *p TT_SITE)
{
	uint4 v;
#ifdef TT_EMU
	tt_emu_load(&v, p, sizeof v, TT_TRAFFIC_WEIGHT TT_AT);
#else
	asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "l"(__cvta_generic_to_global(p)));
#endif
	return v;
}

/* The same of 8, 4 and 2 bytes. */
TT_DEVICE uint2 tt_load_weight_8(const void *p TT_SITE)
{
	uint2 v;
#ifdef TT_EMU
	tt_emu_load(&v, p, sizeof v, TT_TRAFFIC_WEIGHT TT_AT);
#else
	asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];"
		     : "=r"(v.x), "=r"(v.y)
		     : "l"(__cvta_generic_to_global(p)));
#endif
	return v;
}

TT_DEVICE uint32_t tt_load_weight_4(const void *p TT_SITE)
{
	uint32_t v;
#ifdef TT_EMU
	tt_emu_load(&v, p, sizeof v, TT_TRAFFIC_WEIGHT TT_AT);
#else
	asm volatile("ld.global.nc.L1::no_allocate.L2::128B.u32 %0, [%1];"
		     : "=r"(v)
		     : "l"(__cvta_generic_to_global(p)));
#endif
	return v;
}

TT_DEVICE uint16_t tt_load_weight_2(const void *p TT_SITE)
{
	uint16_t v;
#ifdef TT_EMU
	tt_emu_load(&v, p, sizeof v, TT_TRAFFIC_WEIGHT TT_AT);
#else
	asm volatile("ld.global.nc.L1::no_allocate.L2::128B.u16 %0, [%1];"
		     : "=h"(v)
		     : "l"(__cvta_generic_to_global(p)));
#endif
	return v;
}

/* Asks for the 128-byte line of p, so that a later load finds it in L2. Reads nothing, so it may be called before
 * tt_grid_wait whatever p is. Counted separately. */
TT_DEVICE void tt_prefetch(const void *p TT_SITE)
{
#ifdef TT_EMU
	tt_emu_prefetch(p TT_AT);
#else
	asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(p)));
#endif
}

TT_DEVICE uint4 tt_load_16(const void *p, enum tt_traffic kind TT_SITE)
{
	uint4 v;
#ifdef TT_EMU
	tt_emu_load(&v, p, sizeof v, kind TT_AT);
#else
	asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "l"(__cvta_generic_to_global(p))
		     : "memory");
#endif
	return v;
}

TT_DEVICE uint2 tt_load_8(const void *p, enum tt_traffic kind TT_SITE)
{
	uint2 v;
#ifdef TT_EMU
	tt_emu_load(&v, p, sizeof v, kind TT_AT);
#else
	asm volatile("ld.global.v2.u32 {%0, %1}, [%2];"
		     : "=r"(v.x), "=r"(v.y)
		     : "l"(__cvta_generic_to_global(p))
		     : "memory");
#endif
	return v;
}

TT_DEVICE uint32_t tt_load_4(const void *p, enum tt_traffic kind TT_SITE)
{
	uint32_t v;
#ifdef TT_EMU
	tt_emu_load(&v, p, sizeof v, kind TT_AT);
#else
	asm volatile("ld.global.u32 %0, [%1];" : "=r"(v) : "l"(__cvta_generic_to_global(p)) : "memory");
#endif
	return v;
}

TT_DEVICE uint16_t tt_load_2(const void *p, enum tt_traffic kind TT_SITE)
{
	uint16_t v;
#ifdef TT_EMU
	tt_emu_load(&v, p, sizeof v, kind TT_AT);
#else
	asm volatile("ld.global.u16 %0, [%1];" : "=h"(v) : "l"(__cvta_generic_to_global(p)) : "memory");
#endif
	return v;
}

TT_DEVICE void tt_store_16(void *p, uint4 v, enum tt_traffic kind TT_SITE)
{
#ifdef TT_EMU
	tt_emu_store(p, &v, sizeof v, kind TT_AT);
#else
	asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)), "r"(v.x), "r"(v.y),
		     "r"(v.z), "r"(v.w)
		     : "memory");
#endif
}

TT_DEVICE void tt_store_8(void *p, uint2 v, enum tt_traffic kind TT_SITE)
{
#ifdef TT_EMU
	tt_emu_store(p, &v, sizeof v, kind TT_AT);
#else
	asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(p)), "r"(v.x), "r"(v.y)
		     : "memory");
#endif
}

TT_DEVICE void tt_store_4(void *p, uint32_t v, enum tt_traffic kind TT_SITE)
{
#ifdef TT_EMU
	tt_emu_store(p, &v, sizeof v, kind TT_AT);
#else
	asm volatile("st.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "r"(v) : "memory");
#endif
}

/* To memory of the host's, which may read it while the kernel runs: the whole number is seen some time soon, in the
 * order in which a thread stores to one place. Other stores to such memory are only seen behind the kernel. */
TT_DEVICE void tt_store_4_to_host(void *p, uint32_t v, enum tt_traffic kind TT_SITE)
{
#ifdef TT_EMU
	tt_emu_store_to_host(p, &v, sizeof v, kind TT_AT);
#else
	asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "r"(v) : "memory");
#endif
}

TT_DEVICE void tt_store_2(void *p, uint16_t v, enum tt_traffic kind TT_SITE)
{
#ifdef TT_EMU
	tt_emu_store(p, &v, sizeof v, kind TT_AT);
#else
	asm volatile("st.global.u16 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "h"(v) : "memory");
#endif
}

/* The f32 forms of the accesses above. */
TT_DEVICE float tt_load_f32(const float *p, enum tt_traffic kind TT_SITE)
{
	return tt_f32_from_bits(tt_load_4(p, kind TT_PASS));
}

TT_DEVICE float4 tt_load_f32x4(const float *p, enum tt_traffic kind TT_SITE)
{
	uint4 v = tt_load_16(p, kind TT_PASS);
	return make_float4(tt_f32_from_bits(v.x), tt_f32_from_bits(v.y), tt_f32_from_bits(v.z), tt_f32_from_bits(v.w));
}

TT_DEVICE void tt_store_f32(float *p, float v, enum tt_traffic kind TT_SITE)
{
	tt_store_4(p, tt_bits_from_f32(v), kind TT_PASS);
}

TT_DEVICE void tt_store_f32x4(float *p, float4 v, enum tt_traffic kind TT_SITE)
{
	uint4 bits =
		make_uint4(tt_bits_from_f32(v.x), tt_bits_from_f32(v.y), tt_bits_from_f32(v.z), tt_bits_from_f32(v.w));
	tt_store_16(p, bits, kind TT_PASS);
}

#endif
