/* The arithmetic of PTX for any machine. */
#define ROWS ptx_rows_arithmetic
#include "kernels/emu/ptx/arithmetic.inc"
