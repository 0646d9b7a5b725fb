/* The only inline PTX. Each primitive has two bodies: PTX for nvcc, and C for the emulator (TT_EMU, kernels/emu), which
 * also checks the hardware's rule that stands above the primitive. tests/gpu/primitives.cu holds the two against
 * each other, bit for bit.
 *
 * Kernels touch device memory and dynamic shared memory through these alone, the step plan included: a plain access faults on
 * the emulator, since it could be neither counted nor checked. Kernels are compiled with -fmad=false: a product and a sum are
 * fused where the source says fmaf, so that both bodies and the CPU twin round alike. Kernel arguments are passed by value and
 * read as any parameter; blocks are whole warps. */
#ifndef KERNELS_CUDA_PTX_CUH
#define KERNELS_CUDA_PTX_CUH

#include <stdint.h>

#include "kernels/cuda/traffic.h"

#ifdef TT_EMU
#include "kernels/emu/device.h"
#else
#include <cuda_runtime.h>
#define TT_SITE      /* the emulator's: where the call stands, behind the other parameters */
#define TT_SITE_ONLY /* the same for a primitive without parameters */
#define TT_PASS      /* hands it on from one primitive to another */
/* Dynamic shared memory under a name of type unsigned char *, aligned to 128. Once a kernel. */
#define TT_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#endif

#define TT_DEVICE static __device__ __forceinline__

/* Before a loop whose arrays must stay in registers. */
#ifdef TT_EMU
#define TT_UNROLL
#else
#define TT_UNROLL _Pragma("unroll")
#endif

enum { TT_WARP = 32 };

/* bf16 is kept as its bits: no class, the same layout on the host. */
typedef uint16_t tt_bf16;

/* cp.async.bulk exists from sm_90 on. Code that uses it stands under #if TT_HAS_BULK, with a cp.async body beside it. */
#if defined(TT_EMU) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900)
#define TT_HAS_BULK 1
#else
#define TT_HAS_BULK 0
#endif

/* -- Global memory. Every access is aligned to its size; a warp's lanes should touch whole 32-byte sectors. -- */

/* 16 bytes of weights, past L1: they are used once, and would evict the activations that are used by every row.
 * The non-coherent path is legal because no kernel writes weights; for the same reason it may stand before
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

/* Asks for the 128-byte line of p, so that a later load finds it in L2. Reads nothing, so it may stand before
 * tt_grid_wait whatever p is; counted apart. */
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

TT_DEVICE void tt_store_2(void *p, uint16_t v, enum tt_traffic kind TT_SITE)
{
#ifdef TT_EMU
	tt_emu_store(p, &v, sizeof v, kind TT_AT);
#else
	asm volatile("st.global.u16 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "h"(v) : "memory");
#endif
}

/* -- Shared memory. 32 banks of 4 bytes: lanes of a warp that touch different words of one bank wait for each other. 16-byte
 * accesses go a quarter warp at a time, 8-byte ones a half. Pointers are generic. -- */

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

TT_DEVICE uint16_t tt_shared_load_2(const void *p TT_SITE)
{
	uint16_t v;
#ifdef TT_EMU
	tt_emu_shared_load(&v, p, sizeof v TT_AT);
#else
	asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(tt_shared_address(p)) : "memory");
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

TT_DEVICE void tt_shared_store_2(void *p, uint16_t v TT_SITE)
{
#ifdef TT_EMU
	tt_emu_shared_store(p, &v, sizeof v TT_AT);
#else
	asm volatile("st.shared.u16 [%0], %1;" ::"r"(tt_shared_address(p)), "h"(v) : "memory");
#endif
}

/* -- Bits and numbers -- */

TT_DEVICE float tt_f32_from_bits(uint32_t bits)
{
#ifdef TT_EMU
	return tt_emu_f32_from_bits(bits);
#else
	return __uint_as_float(bits);
#endif
}

TT_DEVICE uint32_t tt_bits_from_f32(float x)
{
#ifdef TT_EMU
	return tt_emu_bits_from_f32(x);
#else
	return __float_as_uint(x);
#endif
}

/* Exact. */
TT_DEVICE float tt_f32_from_bf16(tt_bf16 x)
{
	return tt_f32_from_bits((uint32_t)x << 16);
}

/* The two halves of a packed pair: the lower address is in the lower bits. */
TT_DEVICE float tt_bf16x2_low(uint32_t pair)
{
	return tt_f32_from_bits(pair << 16);
}

TT_DEVICE float tt_bf16x2_high(uint32_t pair)
{
	return tt_f32_from_bits(pair & 0xffff0000u);
}

/* Rounded to nearest, ties to even; every NaN becomes 0x7fff, as cvt does it. */
TT_DEVICE uint32_t tt_bf16x2_from_f32(float low, float high)
{
#ifdef TT_EMU
	return (uint32_t)tt_emu_bf16(low) | (uint32_t)tt_emu_bf16(high) << 16;
#else
	uint32_t pair;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
	return pair;
#endif
}

TT_DEVICE tt_bf16 tt_bf16_from_f32(float x)
{
	return (tt_bf16)tt_bf16x2_from_f32(x, 0.0f);
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

TT_DEVICE float tt_shared_load_f32(const float *p TT_SITE)
{
	return tt_f32_from_bits(tt_shared_load_4(p TT_PASS));
}

TT_DEVICE void tt_shared_store_f32(float *p, float v TT_SITE)
{
	tt_shared_store_4(p, tt_bits_from_f32(v) TT_PASS);
}

/* -- Arithmetic. Bodies of explicit fused multiply-adds, the same on both sides and, for exp, the same as the CPU
 * twin's (kernels/cpu/simd.h): so the bits agree everywhere, where expf, logf and the .approx forms do not. -- */

/* 1 / sqrt(x), both steps rounded to nearest. Once a row, so its speed does not matter. */
TT_DEVICE float tt_rsqrt(float x)
{
#ifdef TT_EMU
	return 1.0f / sqrtf(x);
#else
	return __fdiv_rn(1.0f, __fsqrt_rn(x));
#endif
}

/* a / b rounded to nearest, whatever -prec-div says. */
TT_DEVICE float tt_div(float a, float b)
{
#ifdef TT_EMU
	return a / b;
#else
	return __fdiv_rn(a, b);
#endif
}

/* e^x within 2 units in the last place; 0 below -104, infinite above 88.73, NaN for NaN. */
TT_DEVICE float tt_exp(float x)
{
	const float round = 0x1.8p23f; /* adding it leaves a whole number in the low bits */
	x = x < -104.0f ? -104.0f : x;
	x = x > 89.0f ? 89.0f : x;
	float n = fmaf(x, 0x1.715476p+0f, round) - round;
	float r = fmaf(n, -0x1.62e4p-1f, x); /* 15 bits of ln 2: n * them is exact */
	r = fmaf(n, -0x1.7f7d1cp-20f, r);
	float p = 0x1.a01a02p-13f;
	p = fmaf(p, r, 0x1.6c16c2p-10f);
	p = fmaf(p, r, 0x1.111112p-7f);
	p = fmaf(p, r, 0x1.555556p-5f);
	p = fmaf(p, r, 0x1.555556p-3f);
	p = fmaf(p, r, 0.5f);
	p = fmaf(p, r, 1.0f);
	p = fmaf(p, r, 1.0f);
	/* Times 2^n in two steps, so that subnormal and infinite results come out right. */
	int whole = n == n ? (int)n : 0, half = whole >> 1;
	p *= tt_f32_from_bits((uint32_t)(half + 127) << 23);
	return p * tt_f32_from_bits((uint32_t)(whole - half + 127) << 23);
}

/* Natural logarithm of a positive normal double, within 1e-15 of relative error: once a sampled row. */
TT_DEVICE double tt_log(double x)
{
	uint64_t bits;
#ifdef TT_EMU
	bits = tt_emu_bits_from_f64(x);
#else
	bits = (uint64_t)__double_as_longlong(x);
#endif
	int exponent = (int)(bits >> 52) - 1023;
	uint64_t mantissa = (bits & 0xfffffffffffffull) | 0x3ff0000000000000ull;
	if ((bits & 0xfffffffffffffull) > 0x6a09e667f3bcdull) { /* above sqrt(2): keep the argument near 1 */
		mantissa -= 0x10000000000000ull;
		exponent++;
	}
#ifdef TT_EMU
	double m = tt_emu_f64_from_bits(mantissa);
#else
	double m = __longlong_as_double((long long)mantissa);
#endif
	double s = (m - 1.0) / (m + 1.0), q = s * s, sum = 1.0 / 23.0; /* 2 atanh(s), |s| <= 0.172 */
	for (int k = 21; k >= 1; k -= 2)
		sum = fma(sum, q, 1.0 / (double)k);
	return fma((double)exponent, 0.69314718055994530942, 2.0 * s * sum);
}

/* Cosine and sine of an angle of at most 1e6, within 1e-15 before they are rounded, so that rotary positions have the CPU
 * twin's bits. In double: an f32 reduction would lose the low bits of a large angle. */
TT_DEVICE void tt_cos_sin(float angle, float *cosine, float *sine)
{
	const double round = 0x1.8p52;
	double turns = fma((double)angle, 0.63661977236758134308, round) - round;
	double r = fma(turns, -1.57079632679489655800, (double)angle);
	r = fma(turns, -6.12323399573676603587e-17, r);
	double q = r * r, c = 4.779477332387385297e-14, s = 2.811457254345520763e-15;
	c = fma(c, q, -1.147074559772972471e-11);
	c = fma(c, q, 2.087675698786809898e-9);
	c = fma(c, q, -2.755731922398589065e-7);
	c = fma(c, q, 2.480158730158730159e-5);
	c = fma(c, q, -1.388888888888888889e-3);
	c = fma(c, q, 4.166666666666666667e-2);
	c = fma(c, q, -0.5);
	c = fma(c, q, 1.0);
	s = fma(s, q, -7.647163731819816476e-13);
	s = fma(s, q, 1.605904383682161460e-10);
	s = fma(s, q, -2.505210838544171878e-8);
	s = fma(s, q, 2.755731922398589065e-6);
	s = fma(s, q, -1.984126984126984127e-4);
	s = fma(s, q, 8.333333333333333333e-3);
	s = fma(s, q, -1.666666666666666667e-1);
	s = fma(s * q, r, r);
	int quarter = (int)turns & 3;
	double even = quarter & 1 ? s : c, odd = quarter & 1 ? c : s;
	*cosine = (float)(quarter == 1 || quarter == 2 ? -even : even);
	*sine = (float)(quarter >= 2 ? -odd : odd);
}

/* -- Threads of a warp and of a block -- */

/* blockDim.y and z are 1 in this project. */
TT_DEVICE uint32_t tt_lane(void)
{
	return threadIdx.x % TT_WARP;
}

TT_DEVICE uint32_t tt_warp(void)
{
	return threadIdx.x / TT_WARP;
}

/* Every thread of the block reaches the same barrier; it orders shared memory and global memory among them. */
TT_DEVICE void tt_sync_block(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_sync_block(TT_AT_ONLY);
#else
	__syncthreads();
#endif
}

/* All 32 lanes; it orders memory among them. Shuffles, ldmatrix and mma meet too but order nothing. */
TT_DEVICE void tt_sync_warp(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_sync_warp(TT_AT_ONLY);
#else
	__syncwarp();
#endif
}

/* A barrier of its own for n_threads of the block, whole warps; id 1 to 15 (0 is tt_sync_block's). */
TT_DEVICE void tt_sync_some(uint32_t id, uint32_t n_threads TT_SITE)
{
#ifdef TT_EMU
	tt_emu_sync_some(id, n_threads TT_AT);
#else
	asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
#endif
}

TT_DEVICE uint32_t tt_shuffle_xor(uint32_t v, uint32_t lanes TT_SITE)
{
#ifdef TT_EMU
	return tt_emu_shuffle(TT_EMU_XOR, v, lanes TT_AT);
#else
	return __shfl_xor_sync(0xffffffffu, v, (int)lanes);
#endif
}

/* From the lane that stands lanes higher; the highest keep their own. */
TT_DEVICE uint32_t tt_shuffle_down(uint32_t v, uint32_t lanes TT_SITE)
{
#ifdef TT_EMU
	return tt_emu_shuffle(TT_EMU_DOWN, v, lanes TT_AT);
#else
	return __shfl_down_sync(0xffffffffu, v, lanes);
#endif
}

/* From lane % 32. */
TT_DEVICE uint32_t tt_shuffle(uint32_t v, uint32_t lane TT_SITE)
{
#ifdef TT_EMU
	return tt_emu_shuffle(TT_EMU_INDEX, v, lane TT_AT);
#else
	return __shfl_sync(0xffffffffu, v, (int)lane);
#endif
}

/* A bit for each lane where the predicate holds. */
TT_DEVICE uint32_t tt_ballot(bool predicate TT_SITE)
{
#ifdef TT_EMU
	return tt_emu_ballot(predicate TT_AT);
#else
	return __ballot_sync(0xffffffffu, predicate);
#endif
}

TT_DEVICE float tt_shuffle_xor_f32(float v, uint32_t lanes TT_SITE)
{
	return tt_f32_from_bits(tt_shuffle_xor(tt_bits_from_f32(v), lanes TT_PASS));
}

TT_DEVICE float tt_shuffle_down_f32(float v, uint32_t lanes TT_SITE)
{
	return tt_f32_from_bits(tt_shuffle_down(tt_bits_from_f32(v), lanes TT_PASS));
}

TT_DEVICE float tt_shuffle_f32(float v, uint32_t lane TT_SITE)
{
	return tt_f32_from_bits(tt_shuffle(tt_bits_from_f32(v), lane TT_PASS));
}

/* Over width lanes that are neighbours (a power of two), in one order; every lane gets the result. */
TT_DEVICE float tt_warp_sum(float v, uint32_t width TT_SITE)
{
	for (uint32_t lanes = width / 2; lanes; lanes /= 2)
		v += tt_shuffle_xor_f32(v, lanes TT_PASS);
	return v;
}

TT_DEVICE float tt_warp_max(float v, uint32_t width TT_SITE)
{
	for (uint32_t lanes = width / 2; lanes; lanes /= 2) {
		float other = tt_shuffle_xor_f32(v, lanes TT_PASS);
		v = other > v ? other : v;
	}
	return v;
}

/* -- Asynchronous copies, sm_80. 16 bytes from global to shared memory without a register. A thread's copies land at its
 * own wait; other threads see them behind the barrier that follows it. -- */

TT_DEVICE void tt_copy_async(void *shared, const void *global, enum tt_traffic kind TT_SITE)
{
#ifdef TT_EMU
	tt_emu_copy_async(shared, global, true, kind TT_AT);
#else
	asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(tt_shared_address(shared)),
		     "l"(__cvta_generic_to_global(global))
		     : "memory");
#endif
}

/* The same, or 16 zero bytes where valid is false; then nothing is read, but global must be a pointer to something. */
TT_DEVICE void tt_copy_async_or_zero(void *shared, const void *global, bool valid, enum tt_traffic kind TT_SITE)
{
#ifdef TT_EMU
	tt_emu_copy_async(shared, global, valid, kind TT_AT);
#else
	asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(tt_shared_address(shared)),
		     "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
		     : "memory");
#endif
}

/* Closes the thread's group; an empty group counts, so that the tail of a loop needs no other wait. */
TT_DEVICE void tt_copy_async_commit(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_copy_async_commit();
	(void)file, (void)line;
#else
	asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Until at most pending of the thread's newest groups are still under way. */
template <int pending> TT_DEVICE void tt_copy_async_wait(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_copy_async_wait(pending TT_AT);
#else
	asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

/* -- Tensor cores, sm_80 -- */

/* Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8 (16 bytes, aligned). Lane i
 * receives of each matrix the pair at row i / 4, columns 2 * (i % 4) and the next. Rows of a matrix should lie
 * in different banks. */
TT_DEVICE void tt_ldmatrix_x4(uint32_t out[4], const void *row TT_SITE)
{
#ifdef TT_EMU
	tt_emu_ldmatrix(out, row, 4, false TT_AT);
#else
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
		     : "r"(tt_shared_address(row))
		     : "memory");
#endif
}

/* The same, each matrix transposed: lane i receives column i / 4, rows 2 * (i % 4) and the next. */
TT_DEVICE void tt_ldmatrix_x4_trans(uint32_t out[4], const void *row TT_SITE)
{
#ifdef TT_EMU
	tt_emu_ldmatrix(out, row, 4, true TT_AT);
#else
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
		     : "r"(tt_shared_address(row))
		     : "memory");
#endif
}

/* Two matrices; the addresses of lanes 16 to 31 are not used, but must be valid. */
TT_DEVICE void tt_ldmatrix_x2(uint32_t out[2], const void *row TT_SITE)
{
#ifdef TT_EMU
	tt_emu_ldmatrix(out, row, 2, false TT_AT);
#else
	asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
		     : "=r"(out[0]), "=r"(out[1])
		     : "r"(tt_shared_address(row))
		     : "memory");
#endif
}

/* d += a * b: m16n8k16, a row-major [16][16] bf16, b column-major (so [n][k]) bf16, d f32. With g = lane / 4, t = lane % 4:
 *   a[0] (g, 2t..)   a[1] (g + 8, 2t..)   a[2] (g, 2t + 8..)   a[3] (g + 8, 2t + 8..)     (row, k)
 *   b[0] (2t.., g)   b[1] (2t + 8.., g)                                                     (k, n)
 *   d[0] (g, 2t)     d[1] (g, 2t + 1)     d[2] (g + 8, 2t)     d[3] (g + 8, 2t + 1)         (row, n)
 * Products are exact. The sums' rounding is the hardware's own: the emulator adds in f32 by ascending k, so bits
 * agree where every partial sum is exact and differ by some 2^-23 of the largest term elsewhere. */
TT_DEVICE void tt_mma(float d[4], const uint32_t a[4], const uint32_t b[2] TT_SITE)
{
#ifdef TT_EMU
	tt_emu_mma(d, a, b TT_AT);
#else
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
		     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/* -- Between blocks and between kernels -- */

/* Counts this block in and tells whether it is the last of n_blocks; the counter is then 0 again, for the next step.
 * One thread calls it behind a tt_sync_block that follows the block's stores, and hands the answer to the others through
 * shared memory and another tt_sync_block; in the last block all other blocks' stores are then visible. */
TT_DEVICE bool tt_arrive_last(uint32_t *counter, uint32_t n_blocks TT_SITE)
{
#ifdef TT_EMU
	return tt_emu_arrive(counter, n_blocks TT_AT) == n_blocks - 1;
#else
	uint32_t before;
	__threadfence();
	asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
		     : "=r"(before)
		     : "l"(__cvta_generic_to_global(counter)), "r"(n_blocks - 1)
		     : "memory");
	__threadfence();
	return before == n_blocks - 1;
#endif
}

TT_DEVICE void tt_thread_fence(void)
{
#ifndef TT_EMU
	__threadfence();
#endif
}

/* Programmatic dependent launch; nothing below sm_90. A dependent kernel may start while earlier ones still run: before
 * tt_grid_wait it reads weights and nothing else, and writes nothing. At least one thread of every block waits, even of a
 * block without work, since a kernel's wait covers only its predecessor; a thread that has not waited is ordered by a
 * barrier with one that has. */
TT_DEVICE void tt_grid_wait(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_grid_wait(TT_AT_ONLY);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Lets the next kernel start its part before the wait. Stores behind it are still seen by the dependent, whose wait is for
 * the end of this kernel; so it may stand first. */
TT_DEVICE void tt_grid_launch_dependents(TT_SITE_ONLY)
{
#ifdef TT_EMU
	tt_emu_grid_launch_dependents();
	(void)file, (void)line;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* -- mbarrier and bulk copies, sm_90. Not in strict kernels, which run on sm_80. -- */

typedef uint64_t tt_mbarrier; /* in shared memory, 8-byte aligned */

#if TT_HAS_BULK
/* By one thread; then tt_mbarrier_init_fence by the same, then a tt_sync_block. A phase ends when count arrivals came and
 * all expected bytes landed. */
TT_DEVICE void tt_mbarrier_init(tt_mbarrier *barrier, uint32_t count TT_SITE)
{
#ifdef TT_EMU
	tt_emu_mbarrier_init(barrier, count TT_AT);
#else
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(tt_shared_address(barrier)), "r"(count)
		     : "memory");
#endif
}

/* Makes the initialised barrier visible to the asynchronous copies. */
TT_DEVICE void tt_mbarrier_init_fence(void)
{
#ifndef TT_EMU
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

TT_DEVICE void tt_mbarrier_arrive(tt_mbarrier *barrier TT_SITE)
{
#ifdef TT_EMU
	tt_emu_mbarrier_arrive(barrier, 0 TT_AT);
#else
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(tt_shared_address(barrier)) : "memory");
#endif
}

/* Arrives, and makes the phase wait for n_bytes of bulk copies too. */
TT_DEVICE void tt_mbarrier_arrive_expect(tt_mbarrier *barrier, uint32_t n_bytes TT_SITE)
{
#ifdef TT_EMU
	tt_emu_mbarrier_arrive(barrier, n_bytes TT_AT);
#else
	asm volatile(
		"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(tt_shared_address(barrier)), "r"(n_bytes)
		: "memory");
#endif
}

/* Until the phase of that parity has ended: 0 for the first, then 1, 0, ... */
TT_DEVICE void tt_mbarrier_wait(tt_mbarrier *barrier, uint32_t parity TT_SITE)
{
#ifdef TT_EMU
	tt_emu_mbarrier_wait(barrier, parity TT_AT);
#else
	asm volatile("{\n"
		     ".reg .pred done;\n"
		     "again:\n"
		     "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
		     "@!done bra again;\n"
		     "}" ::"r"(tt_shared_address(barrier)),
		     "r"(parity)
		     : "memory");
#endif
}

/* n_bytes (a multiple of 16, both ends aligned to 16) from global to shared memory, by one thread; completes on the
 * barrier. */
TT_DEVICE void tt_copy_bulk(
	void *shared, const void *global, uint32_t n_bytes, tt_mbarrier *barrier, enum tt_traffic kind TT_SITE)
{
#ifdef TT_EMU
	tt_emu_copy_bulk(shared, global, n_bytes, barrier, kind TT_AT);
#else
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
			     tt_shared_address(shared)),
		     "l"(__cvta_generic_to_global(global)), "r"(n_bytes), "r"(tt_shared_address(barrier))
		     : "memory");
#endif
}

/* Orders this thread's plain shared accesses before bulk copies into the same memory that follow. */
TT_DEVICE void tt_fence_async(void)
{
#ifndef TT_EMU
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
#endif

#endif
