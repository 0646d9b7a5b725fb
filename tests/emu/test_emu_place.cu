/* Columns that came in blocks, a rank's each, as rows: in pieces of 16 bytes and, where rows are no multiple of that,
 * of 4. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "kernels/cuda/exchange.h"
#include "kernels/emu/emu.h"

enum { ROWS = 5, RANKS = 3, COLUMNS = 16, MOST = RANKS * COLUMNS };

static void check_place(uint32_t width)
{
	static float blocks[RANKS][ROWS][COLUMNS], rows[ROWS * MOST];
	for (uint32_t order = 0; order < TT_EMU_ORDERS; order++) {
		struct tt_error err = {TT_OK, ""};
		struct tt_cuda *cuda = (struct tt_cuda *)calloc(1, sizeof *cuda);
		void *from = NULL, *to = NULL;
		tt_emu_reset((enum tt_emu_order)order, 3);
		for (uint32_t i = 0; i < RANKS * ROWS * COLUMNS; i++)
			blocks[i / (ROWS * COLUMNS)][i / COLUMNS % ROWS][i % COLUMNS] = (float)i;
		cudaMalloc(&from, sizeof blocks);
		cudaMalloc(&to, ROWS * width * sizeof(float));
		cudaMemcpy(from, blocks, sizeof blocks, cudaMemcpyHostToDevice);
		cr_assert_eq(tt_cuda_place(cuda, to, from, ROWS, COLUMNS * sizeof(float), width * sizeof(float), &err),
			TT_OK, "%s", err.message);
		cr_assert_eq(cudaMemcpy(rows, to, ROWS * width * sizeof(float), cudaMemcpyDeviceToHost), cudaSuccess);
		for (uint32_t i = 0; i < ROWS * width; i++) {
			uint32_t row = i / width, column = i % width;
			cr_assert_eq(rows[i], blocks[column / COLUMNS][row][column % COLUMNS],
				"width %u, row %u, column %u", width, row, column);
		}
		cr_assert_str_empty(tt_emu_report());
		free(cuda);
	}
}

Test(emu_place, rows_of_all_columns)
{
	check_place(MOST);
}

Test(emu_place, the_last_block_is_cut)
{
	check_place(MOST - 4);
	check_place(MOST - 5);
	check_place(COLUMNS + 1); /* and one that is not there at all */
}
