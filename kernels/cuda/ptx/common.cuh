/* The only inline PTX. Each primitive has two bodies: PTX for nvcc, and C for the emulator (TT_EMU, kernels/emu), which
 * also checks the hardware rule that is stated above the primitive. tests/gpu/primitives.cu compares the two, bit for
 * bit.
 *
 * Kernels access device memory and dynamic shared memory through these alone, the step plan included: a plain access
 * faults on the emulator, because it could be neither counted nor checked. Kernels are compiled with -fmad=false: a
 * product and a sum are fused only where the source says fmaf, so that both bodies and the CPU twin round alike. Kernel
 * arguments are passed by value and read like any parameter; blocks are whole warps. */
#ifndef KERNELS_CUDA_PTX_COMMON_CUH
#define KERNELS_CUDA_PTX_COMMON_CUH

#include <stdint.h>

#include "kernels/cuda/traffic.h"

#ifdef TT_EMU
#include "kernels/emu/device.h"
#else
#include <cuda_runtime.h>
#define TT_SITE      /* for the emulator: the source position of the call, after the other parameters */
#define TT_SITE_ONLY /* the same for a primitive without parameters */
#define TT_PASS      /* passes it on from one primitive to another */
/* Dynamic shared memory under a name of type unsigned char *, aligned to 128. Once in each kernel. */
#define TT_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#endif

#define TT_DEVICE static __device__ __forceinline__

/* TT_UNROLL stands before a loop whose arrays must stay in registers, TT_ROLLED before one whose code has to be short
 * because it is fetched cold, TT_BY_8 where eight loads are to be under way. */
#ifdef TT_EMU
#define TT_UNROLL
#define TT_ROLLED
#define TT_BY_8
#else
#define TT_UNROLL _Pragma("unroll")
#define TT_ROLLED _Pragma("unroll 1")
#define TT_BY_8 _Pragma("unroll 8")
#endif

enum { TT_WARP = 32 };

/* bf16 is kept as its bits: not a class, so the layout is the same on the host. */
typedef uint16_t tt_bf16;

/* cp.async.bulk and clusters exist from sm_90 on. Code that uses them is under #if TT_HAS_BULK or TT_HAS_CLUSTERS, with
 * another way beside it. */
#if defined(TT_EMU) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900)
#define TT_HAS_BULK 1
#else
#define TT_HAS_BULK 0
#endif
#define TT_HAS_CLUSTERS TT_HAS_BULK

#endif
