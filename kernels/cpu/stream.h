/* Where weights are prefetched while a product reads them. */
#ifndef KERNELS_CPU_STREAM_H
#define KERNELS_CPU_STREAM_H

#include "kernels/cpu/body.h"

/* Where a thread will probably read weights after those of a job: output row first of matrix, or NULL. Prefetched at
 * the job's end, so that memory is asked before the next job, or the next op, begins. */
struct tt_cpu_next {
	const struct tt_matrix *matrix;
	uint32_t first;
};

/* A job's weights up to end, then what the thread will probably read. */
struct tt_cpu_stream {
	const uint8_t *end, *next;
};

static inline const uint8_t *tt_cpu_weights(const struct tt_matrix *m, uint32_t row)
{
	return (const uint8_t *)m->data + row * tt_type_row_bytes(m->type, m->n_in);
}

static inline struct tt_cpu_stream tt_cpu_stream(
	const struct tt_matrix *m, uint32_t first, uint32_t count, const struct tt_cpu_next *next)
{
	const uint8_t *end = tt_cpu_weights(m, first + count);
	bool known = next->matrix && next->first < next->matrix->n_out;
	return (struct tt_cpu_stream){end, known ? tt_cpu_weights(next->matrix, next->first) : end};
}

/* Prefetches n bytes at p, or where the stream goes on after its end; s NULL: it has none. */
static inline void tt_cpu_prefetch(const struct tt_cpu_stream *s, const uint8_t *p, size_t n)
{
	uintptr_t at = (uintptr_t)p;
	if (s && at >= (uintptr_t)s->end)
		at = (uintptr_t)s->next + (at - (uintptr_t)s->end);
	for (size_t i = 0; i < n; i += 64)
		__builtin_prefetch((const void *)(at + i));
}

#endif
