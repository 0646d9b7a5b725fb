/* What a .cu source needs in place of nvcc's own words: keywords, the built-in variables, and the C bodies of the
 * primitives in kernels/cuda/ptx/. C++, included only by ptx/common.cuh. */
#ifndef KERNELS_EMU_DEVICE_H
#define KERNELS_EMU_DEVICE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/emu/cuda_runtime.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__ __restrict
/* All static shared memory of the program is in one section, which is poisoned before every block. */
#define __shared__ static __attribute__((section("tt_emu_shared")))
#define __align__(n) __attribute__((aligned(n)))

#define TT_DYNAMIC_SHARED(name) unsigned char *const name = tt_emu_dynamic_shared()

/* The source position of the call of a primitive: default arguments are evaluated at the call. */
#define TT_SITE_ONLY const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define TT_SITE , TT_SITE_ONLY
#define TT_PASS , file, line
#define TT_AT_ONLY __func__, file, line
#define TT_AT , __func__, file, line

extern "C" {
#define TT_EMU_SITE const char *primitive, const char *file, int line

/* The running thread. */
struct tt_emu_thread {
	uint3 thread, block;
};
extern const struct tt_emu_thread *tt_emu_self;
extern dim3 gridDim, blockDim;

/* The C bodies of the primitives. The headers in kernels/cuda/ptx say what each does; a broken rule stops the kernel
 * with a report. */
void tt_emu_load(void *out, const void *p, unsigned size, enum tt_traffic kind, TT_EMU_SITE);
void tt_emu_store(void *p, const void *v, unsigned size, enum tt_traffic kind, TT_EMU_SITE);
void tt_emu_store_to_host(void *p, const void *v, unsigned size, enum tt_traffic kind, TT_EMU_SITE);
void tt_emu_prefetch(const void *p, TT_EMU_SITE);
unsigned char *tt_emu_dynamic_shared(void);
uint32_t tt_emu_shared_offset(const void *p);
void tt_emu_shared_load(void *out, const void *p, unsigned size, TT_EMU_SITE);
void tt_emu_shared_store(void *p, const void *v, unsigned size, TT_EMU_SITE);
void tt_emu_sync_block(TT_EMU_SITE);
void tt_emu_sync_warp(TT_EMU_SITE);
void tt_emu_sync_some(uint32_t id, uint32_t n_threads, TT_EMU_SITE);
enum tt_emu_shuffle { TT_EMU_XOR, TT_EMU_INDEX };
uint32_t tt_emu_shuffle(enum tt_emu_shuffle op, uint32_t v, uint32_t lanes, TT_EMU_SITE);
uint32_t tt_emu_ballot(bool predicate, TT_EMU_SITE);
void tt_emu_copy_async(void *shared, const void *global, bool valid, enum tt_traffic kind, TT_EMU_SITE);
void tt_emu_copy_async_commit(void);
void tt_emu_copy_async_wait(unsigned pending, TT_EMU_SITE);
void tt_emu_ldmatrix(uint32_t *out, const void *row, bool transposed, TT_EMU_SITE);
void tt_emu_mma(float d[4], const uint32_t a[4], const uint32_t b[2], TT_EMU_SITE);
uint32_t tt_emu_arrive(uint32_t *counter, uint32_t n_blocks, TT_EMU_SITE);
void tt_emu_sync_cluster(TT_EMU_SITE);
void tt_emu_cluster_load(void *out, const void *p, uint32_t rank, unsigned size, TT_EMU_SITE);
void tt_emu_grid_wait(TT_EMU_SITE);
void tt_emu_grid_launch_dependents(void);
void tt_emu_mbarrier_init(uint64_t *barrier, uint32_t count, TT_EMU_SITE);
void tt_emu_mbarrier_arrive(uint64_t *barrier, uint32_t n_bytes, TT_EMU_SITE);
void tt_emu_mbarrier_wait(uint64_t *barrier, uint32_t parity, TT_EMU_SITE);
void tt_emu_copy_bulk(
	void *shared, const void *global, uint32_t n_bytes, uint64_t *barrier, enum tt_traffic kind, TT_EMU_SITE);

/* Registers a kernel: its address, its name, and how to call it with an array of pointers to its arguments. */
typedef void tt_emu_call(const void *kernel, void **args);
const void *tt_emu_register(
	const void *kernel, const char *name, tt_emu_call *call, const size_t *sizes, size_t n_args);
}

#define threadIdx (tt_emu_self->thread)
#define blockIdx (tt_emu_self->block)

static inline float tt_emu_f32_from_bits(uint32_t bits)
{
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

static inline uint32_t tt_emu_bits_from_f32(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return bits;
}

static inline double tt_emu_f64_from_bits(uint64_t bits)
{
	double x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

static inline uint64_t tt_emu_bits_from_f64(double x)
{
	uint64_t bits;
	memcpy(&bits, &x, sizeof bits);
	return bits;
}

static inline uint16_t tt_emu_bf16(float x)
{
	uint32_t bits = tt_emu_bits_from_f32(x);
	if ((bits & 0x7fffffffu) > 0x7f800000u)
		return 0x7fff;
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Kernels take their arguments by value, so an array of pointers to them must be unpacked by type. */
template <size_t... index> struct tt_emu_indices {
};
template <size_t n, size_t... index> struct tt_emu_count : tt_emu_count<n - 1, n - 1, index...> {
};
template <size_t... index> struct tt_emu_count<0, index...> {
	typedef tt_emu_indices<index...> list;
};
template <typename... param, size_t... index>
static void tt_emu_unpack(void (*kernel)(param...), void **args, tt_emu_indices<index...>)
{
	(void)args;
	kernel(*(param *)args[index]...);
}
template <typename... param> static void tt_emu_call_kernel(const void *kernel, void **args)
{
	typedef typename tt_emu_count<sizeof...(param)>::list list;
	tt_emu_unpack((void (*)(param...))kernel, args, list());
}
template <typename... param> static const void *tt_emu_kernel(void (*kernel)(param...), const char *name)
{
	static const size_t sizes[sizeof...(param) + 1] = {sizeof(param)..., 0};
	return tt_emu_register((const void *)kernel, name, tt_emu_call_kernel<param...>, sizes, sizeof...(param));
}

#endif
