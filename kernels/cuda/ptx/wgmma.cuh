/* Products of a warpgroup, sm_90a: for kernels beside the strict ones, which run on sm_80 too. Whether they round as
 * tt_mma does is a question of gpu-check's probe. */
#ifndef KERNELS_CUDA_PTX_WGMMA_CUH
#define KERNELS_CUDA_PTX_WGMMA_CUH

#include "kernels/cuda/ptx/mma.cuh"
#include "kernels/cuda/ptx/warp.cuh"

#if defined(TT_EMU) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TT_HAS_WGMMA 1
#else
#define TT_HAS_WGMMA 0
#endif

enum { TT_WGMMA_K_BYTES = 128, TT_WGMMA_N_BYTES = 256 }; /* from 8 values of k, or 8 columns, to the next 8 */

/* Where element (n, k) of b lies in shared memory, in bytes: matrices of 8 columns by 8 values of k, each in one
 * piece. */
TT_DEVICE uint32_t tt_wgmma_offset(uint32_t n, uint32_t k)
{
	return n / 8 * TT_WGMMA_N_BYTES + k / 8 * TT_WGMMA_K_BYTES + n % 8 * 16 + k % 8 * 2;
}

/* The same product by tt_mma. */
template <int n> TT_DEVICE void tt_wgmma_by_mma(float (&d)[n / 2], const uint32_t a[4], const unsigned char *b TT_SITE)
{
	uint32_t column = tt_lane() / 4, k = tt_lane() % 4 * 2;
	TT_UNROLL
	for (uint32_t j = 0; j < n / 8; j++) {
		const uint32_t pair[2] = {tt_shared_load_4(b + tt_wgmma_offset(8 * j + column, k) TT_PASS),
			tt_shared_load_4(b + tt_wgmma_offset(8 * j + column, k + 8) TT_PASS)};
		tt_mma(d + 4 * j, a, pair TT_PASS);
	}
}

#if TT_HAS_WGMMA
/* d += a * b: m64 n k16 with n 8 or 128, by the four warps of a group. Warp w has rows 16 w on of a and d, in the
 * layout of tt_mma; d[4j..] holds columns 8j on. b is in shared memory as tt_wgmma_offset says, aligned to 16; who
 * stored it calls tt_fence_async, then all call tt_sync_block. All lanes of the four warps must reach it. */
template <int n> TT_DEVICE void tt_wgmma(float (&d)[n / 2], const uint32_t a[4], const unsigned char *b TT_SITE)
{
	static_assert(n == 8 || n == 128, "other widths are not needed yet");
#ifdef TT_EMU
	tt_wgmma_by_mma<n>(d, a, b TT_PASS);
#else
	uint64_t where = (uint64_t)(tt_shared_address(b) >> 4) | (uint64_t)(TT_WGMMA_K_BYTES >> 4) << 16 |
			 (uint64_t)(TT_WGMMA_N_BYTES >> 4) << 32;
	if constexpr (n == 8)
		asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, 1, 0;\nwgmma.fence.sync.aligned;\n"
			     "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, "
			     "{%4, %5, %6, %7}, %8, add, 1, 1, 0;\n"
			     "wgmma.commit_group.sync.aligned;\n"
			     "wgmma.wait_group.sync.aligned 0;\n}"
			     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
			     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(where)
			     : "memory");
	else
		asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, 1, 0;\nwgmma.fence.sync.aligned;\n"
			     "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
			     "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
			     "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
			     "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
			     "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
			     "}, {%64, %65, %66, %67}, %68, add, 1, 1, 0;\n"
			     "wgmma.commit_group.sync.aligned;\n"
			     "wgmma.wait_group.sync.aligned 0;\n}"
			     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
			     "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
			     "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]),
			     "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
			     "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]),
			     "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]),
			     "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
			     "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
			     "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]),
			     "+f"(d[63])
			     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(where)
			     : "memory");
#endif
}
#endif

#endif
