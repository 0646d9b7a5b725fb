#define _GNU_SOURCE /* syscall */
#include "kernels/meeting.h"

#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/pause.h"

enum { SPINS = 1000 }; /* 10 to 40 us: the others' part of an op takes as long as one's own, or nearly */

/* Whoever misses a wake-up, because a meeting ended between the look at that and the sleep, looks again after it. */
static const struct timespec NAP = {.tv_nsec = 500000000};

static void wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

bool tt_meeting_wait(struct tt_meeting *m, _Atomic uint32_t *word, uint32_t value)
{
	for (int i = 0; i < SPINS && atomic_load(word) == value; i++)
		tt_pause();
	while (atomic_load(word) == value && !atomic_load(&m->ended))
		syscall(SYS_futex, word, FUTEX_WAIT, value, &NAP, NULL, 0);
	return !atomic_load(&m->ended);
}

void tt_meeting_count(_Atomic uint32_t *word)
{
	atomic_fetch_add(word, 1);
	wake(word);
}

bool tt_meeting_meet(struct tt_meeting *m, uint32_t rank)
{
	uint32_t n_met = atomic_load(&m->n_met);
	atomic_fetch_add(&m->ranks[rank].n_arrived, 1);
	if (atomic_fetch_add(&m->n_here, 1) + 1 < m->n_ranks)
		return tt_meeting_wait(m, &m->n_met, n_met);
	atomic_store(&m->n_here, 0);
	tt_meeting_count(&m->n_met);
	return !atomic_load(&m->ended);
}

void tt_meeting_end(struct tt_meeting *m, uint32_t rank)
{
	uint32_t none = 0;
	atomic_compare_exchange_strong(&m->ended, &none, rank + 1);
	wake(&m->n_met);
	wake(&m->n_published);
	for (uint32_t i = 0; i < TT_MAX_RANKS; i++)
		wake(&m->ranks[i].n_done);
}

void tt_meeting_fail(struct tt_meeting *m, uint32_t rank, const struct tt_error *why)
{
	struct tt_meeting_rank *own = &m->ranks[rank];
	own->status = why->code;
	memcpy(own->message, why->message, sizeof own->message);
	tt_meeting_end(m, rank);
}
