/* The arithmetic of PTX for machines with AVX2 and FMA: the same bits, some times as fast. */
#if defined(__AVX2__) && defined(__FMA__)
#define ROWS ptx_rows_avx2
#include "kernels/emu/ptx/arithmetic.inc"
#else
#include "kernels/emu/ptx/code.h"
const struct ptx_row ptx_rows_avx2[] = {{NULL, NULL, NULL, 0, 0}};
#endif
