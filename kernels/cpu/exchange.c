/* The exchange between CPU ranks, by two halves of memory that they share. Each rank writes its columns to one half,
 * they meet, and each copies the others' columns from there. The next exchange takes the other half, and a rank comes
 * to the meeting of that one when it has read this one's: so a half is never written while somebody reads it, and one
 * meeting an exchange is enough. */
#include "kernels/cpu/exchange.h"

#include <string.h>

#include "base/fail.h"
#include "kernels/meeting.h"

enum { HALF = 4 << 20 }; /* bytes, or a row where that is more; a buffer that is larger is passed on in pieces */

static size_t half_bytes(const struct tt_config *c)
{
	size_t widest = tt_cpu_padded(c->hidden_size), attention = (size_t)c->n_heads * c->head_dim;
	widest = attention > widest ? attention : widest;
	widest = c->ffn_size > widest ? c->ffn_size : widest;
	widest = c->vocab_size > widest ? c->vocab_size : widest;
	return widest * sizeof(float) > HALF ? widest * sizeof(float) : HALF;
}

size_t tt_cpu_shared_bytes(const struct tt_config *config)
{
	return 2 * half_bytes(config);
}

int tt_cpu_join(struct tt_backend *backend, struct tt_meeting *meeting, void *shared, uint32_t rank, uint32_t n_threads,
	struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	cpu->meeting = meeting;
	cpu->shared = shared;
	cpu->shard = (struct tt_shard){.rank = rank, .n_ranks = meeting->n_ranks};
	return n_threads == cpu->n_threads ? TT_OK : tt_cpu_take_threads(cpu, n_threads, err);
}

/* Where rows are padded, the padding is copied too, and means nothing on either side. */
static void copy_columns(float *to, const float *from, size_t stride, size_t n_rows, size_t first, size_t count)
{
	for (size_t r = 0; r < n_rows && count; r++)
		memcpy(to + r * stride + first, from + r * stride + first, count * sizeof *to);
}

int tt_cpu_exchange(
	struct tt_cpu *cpu, float *rows, size_t stride, uint32_t n_rows, struct tt_cut own, struct tt_error *err)
{
	if (!cpu->meeting)
		return TT_OK;
	size_t half = half_bytes(&cpu->config) / sizeof *rows, most = half / stride;
	size_t own_end = (size_t)own.first + own.count;
	for (size_t first = 0; first < n_rows; first += most) {
		size_t n = n_rows - first < most ? n_rows - first : most;
		float *shared = cpu->shared + cpu->n_exchanges++ % 2 * half, *to = rows + first * stride;
		copy_columns(shared, to, stride, n, own.first, own.count);
		if (!tt_meeting_meet(cpu->meeting, cpu->shard.rank))
			return tt_fail(err, TT_ERR_DEVICE, "another rank has failed");
		copy_columns(to, shared, stride, n, 0, own.first);
		copy_columns(to, shared, stride, n, own_end, stride - own_end);
	}
	return TT_OK;
}
