/* A job of a product in q8: some output rows, for all token rows. As in product.inc, a panel of weights stays in the
 * caches while the rows of a block are multiplied with it, and with several blocks all of a job's panels are kept. */
#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/jobs.h"

/* Rows of x that are worked on together: half a MiB of them, half of a core's second-level cache or a quarter. */
static uint32_t block_rows(const struct tt_q8_rows *x)
{
	size_t rows = ((size_t)1 << 19) / x->stride;
	return rows > 12 ? (uint32_t)rows : 12;
}

static size_t y_width(uint32_t count)
{
	return (count + TT_CPU_Q8_TILE - 1) / TT_CPU_Q8_TILE * TT_CPU_Q8_TILE;
}

size_t tt_cpu_q8_scratch(const struct tt_q8_body *q8, const struct tt_q8_rows *x, uint32_t n_rows, uint32_t count)
{
	uint32_t block = block_rows(x), rows = n_rows < block ? n_rows : block;
	size_t n_panels = n_rows == 1 && q8->one_row ? 0 : y_width(count) / q8->panel;
	return n_panels * q8->panel_bytes(x->n_groups) / sizeof(float) + rows * y_width(count);
}

void tt_cpu_q8_product(const struct tt_q8_body *q8, const struct tt_cpu_body *body, const struct tt_cpu_product *p,
	const struct tt_q8_rows *x, uint32_t first, uint32_t count, const struct tt_cpu_next *next, float *scratch)
{
	bool alone = p->n_rows == 1 && q8->one_row;
	uint32_t block = block_rows(x), n_panels = alone ? 0 : (count + q8->panel - 1) / q8->panel;
	size_t panel_bytes = q8->panel_bytes(x->n_groups);
	uint8_t *panels = (uint8_t *)(void *)scratch;
	float *y = scratch + n_panels * panel_bytes / sizeof *scratch;
	for (uint32_t i = 0; i < n_panels; i++)
		q8->pack(p->matrix, first + i * q8->panel, first + count, panels + i * panel_bytes);
	for (uint32_t row = 0; row < p->n_rows; row += block) {
		uint32_t n_rows = p->n_rows - row < block ? p->n_rows - row : block;
		struct tt_q8_product product = {p->matrix, x, row, n_rows, first, count, y, y_width(count),
			tt_cpu_stream(p->matrix, first, count, next)};
		if (alone)
			q8->one_row(&product);
		else
			q8->multiply(&product, panels);
		for (uint32_t r = 0; r < n_rows; r++)
			body->finish(p, row + r, first, count, y + r * y_width(count));
	}
}

struct quantise_job {
	const struct tt_q8_body *q8;
	const struct tt_q8_rows *rows;
	const struct tt_cpu_product *product; /* whose x it is */
};

static void quantise_rows(void *context, uint32_t job, uint32_t thread)
{
	const struct quantise_job *all = context;
	const struct tt_cpu_product *p = all->product;
	uint32_t first = job * TT_CPU_ROWS_A_JOB, left = p->n_rows - first;
	uint32_t end = first + (left < TT_CPU_ROWS_A_JOB ? left : TT_CPU_ROWS_A_JOB);
	(void)thread;
	for (uint32_t r = first; r < end; r++) {
		struct tt_q8_row row = tt_q8_row(all->rows, r);
		all->q8->quantise(p->x + r * p->x_stride, &row, p->matrix->n_in);
	}
}

int tt_cpu_quantise(struct tt_cpu *cpu, const struct tt_cpu_product *p, struct tt_q8_rows *rows, struct tt_error *err)
{
	struct quantise_job job = {cpu->q8, rows, p};
	*rows = (struct tt_q8_rows){.stride = tt_q8_stride(p->matrix->n_in), .n_groups = p->matrix->n_in / TT_Q8_GROUP};
	TT_TRY(tt_cpu_scratch(cpu, TT_CPU_SCRATCH_Q8, p->n_rows, rows->stride, &rows->data, err));
	tt_threads_run(cpu->threads, (p->n_rows + TT_CPU_ROWS_A_JOB - 1) / TT_CPU_ROWS_A_JOB, quantise_rows, &job);
	return TT_OK;
}
