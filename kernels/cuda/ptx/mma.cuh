/* Tensor cores, sm_80. */
#ifndef KERNELS_CUDA_PTX_MMA_CUH
#define KERNELS_CUDA_PTX_MMA_CUH

#include "kernels/cuda/ptx/shared.cuh"

/* Loads four 8x8 matrices of 16-bit elements. Lane i gives the address of row i % 8 of matrix i / 8 (16 bytes,
 * aligned), and receives from each matrix the pair at row i / 4, columns 2 * (i % 4) and the next. Rows of a matrix
 * should be in different banks. */
TT_DEVICE void tt_ldmatrix_x4(uint32_t out[4], const void *row TT_SITE)
{
#ifdef TT_EMU
	tt_emu_ldmatrix(out, row, false TT_AT);
#else
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
		     : "r"(tt_shared_address(row))
		     : "memory");
#endif
}

/* Like tt_ldmatrix_x4, each matrix transposed: lane i receives column i / 4, rows 2 * (i % 4) and the next. */
TT_DEVICE void tt_ldmatrix_x4_trans(uint32_t out[4], const void *row TT_SITE)
{
#ifdef TT_EMU
	tt_emu_ldmatrix(out, row, true TT_AT);
#else
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
		     : "r"(tt_shared_address(row))
		     : "memory");
#endif
}

/* d += a * b: m16n8k16, a row-major [16][16] bf16, b column-major (so [n][k]) bf16, d f32. With g = lane / 4, t = lane
 * % 4:
 *   a[0] (g, 2t..)   a[1] (g + 8, 2t..)   a[2] (g, 2t + 8..)   a[3] (g + 8, 2t + 8..)     (row, k)
 *   b[0] (2t.., g)   b[1] (2t + 8.., g)                                                     (k, n)
 *   d[0] (g, 2t)     d[1] (g, 2t + 1)     d[2] (g + 8, 2t)     d[3] (g + 8, 2t + 1)         (row, n)
 * Products are exact. The hardware has its own rounding of the sums: the emulator adds in f32 by ascending k, so bits
 * agree where every partial sum is exact, and elsewhere differ by some 2^-23 of the largest term. */
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

#endif
