/* The exchange between CPU ranks. Each says where its buffer lies, they meet, each copies the others' columns into its
 * own, and they meet again, since what follows may write to the buffer. */
#include "kernels/cpu/exchange.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"

/* What a rank has to give. */
struct given {
	const float *rows;
	struct tt_cut columns;
};

struct tt_cpu_exchange {
	pthread_mutex_t mutex;
	pthread_cond_t met;
	uint32_t n_ranks, n_arrived;
	uint64_t n_meetings;
	bool given_up;
	uint32_t n_users; /* backends not closed */
	struct given given[TT_MAX_RANKS];
};

/* Returns when all ranks have called it; false where one gave up instead. */
static bool meet(struct tt_cpu_exchange *x)
{
	pthread_mutex_lock(&x->mutex);
	uint64_t meeting = x->n_meetings;
	if (!x->given_up && ++x->n_arrived == x->n_ranks) {
		x->n_arrived = 0;
		x->n_meetings++;
		pthread_cond_broadcast(&x->met);
	}
	while (meeting == x->n_meetings && !x->given_up)
		pthread_cond_wait(&x->met, &x->mutex);
	bool good = meeting != x->n_meetings;
	pthread_mutex_unlock(&x->mutex);
	return good;
}

int tt_cpu_exchange(
	struct tt_cpu *cpu, float *rows, size_t stride, uint32_t n_rows, struct tt_cut own, struct tt_error *err)
{
	struct tt_cpu_exchange *x = cpu->exchange;
	if (!x)
		return TT_OK;
	x->given[cpu->shard.rank] = (struct given){rows, own};
	bool good = meet(x);
	for (uint32_t rank = 0; rank < x->n_ranks && good; rank++) {
		const struct given *from = &x->given[rank];
		size_t n_bytes = from->columns.count * sizeof *rows;
		for (size_t r = 0; r < n_rows && rank != cpu->shard.rank && n_bytes; r++) {
			size_t at = r * stride + from->columns.first;
			memcpy(rows + at, from->rows + at, n_bytes);
		}
	}
	if (!good || !meet(x))
		return tt_fail(err, TT_ERR_DEVICE, "another rank gave up");
	return TT_OK;
}

static int open_exchange(struct tt_cpu_exchange **out, uint32_t n_ranks, struct tt_error *err)
{
	struct tt_cpu_exchange *x;
	TT_TRY(tt_alloc(&x, 1, sizeof *x, err));
	pthread_mutex_init(&x->mutex, NULL);
	pthread_cond_init(&x->met, NULL);
	x->n_ranks = n_ranks;
	*out = x;
	return TT_OK;
}

static void join(struct tt_cpu *cpu, struct tt_cpu_exchange *x, uint32_t rank)
{
	cpu->exchange = x;
	cpu->shard = (struct tt_shard){.rank = rank, .n_ranks = x->n_ranks};
	x->n_users++;
}

void tt_cpu_leave(struct tt_cpu *cpu)
{
	struct tt_cpu_exchange *x = cpu->exchange;
	cpu->exchange = NULL;
	if (!x || --x->n_users > 0)
		return;
	pthread_mutex_destroy(&x->mutex);
	pthread_cond_destroy(&x->met);
	free(x);
}

int tt_cpu_split(struct tt_backend *backend, uint32_t n_ranks, struct tt_backend **others, struct tt_error *err)
{
	struct tt_cpu *cpu = (struct tt_cpu *)backend;
	struct tt_cpu_exchange *x;
	uint32_t n_threads = cpu->n_threads > n_ranks ? cpu->n_threads / n_ranks : 1;
	TT_TRY(tt_cpu_take_threads(cpu, n_threads, err));
	TT_TRY(open_exchange(&x, n_ranks, err));
	join(cpu, x, 0);
	for (uint32_t i = 1; i < n_ranks; i++) {
		TT_TRY(tt_cpu_open_body(&others[i - 1], n_threads, cpu->choice, err));
		others[i - 1]->in_flight = backend->in_flight;
		join((struct tt_cpu *)others[i - 1], x, i);
	}
	return TT_OK;
}

void tt_cpu_give_up(struct tt_backend *backend)
{
	struct tt_cpu_exchange *x = ((struct tt_cpu *)backend)->exchange;
	if (!x)
		return;
	pthread_mutex_lock(&x->mutex);
	x->given_up = true;
	pthread_cond_broadcast(&x->met);
	pthread_mutex_unlock(&x->mutex);
}

void tt_cpu_resume(struct tt_backend *backend)
{
	struct tt_cpu_exchange *x = ((struct tt_cpu *)backend)->exchange;
	if (!x)
		return;
	x->given_up = false;
	x->n_arrived = 0;
}
