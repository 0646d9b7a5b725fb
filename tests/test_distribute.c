/* Handing out rows to ranks that ask, simulated: every row once, and nobody left waiting for a slow rank. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "random.h"
#include "runtime/batch/distribute.h"

enum { MAX_RANKS = 16, MAX_BATCH = 64 };

/* A rank as an engine is whose steps take the same time whatever they hold: up to `batch` rows run at once, each for
 * batch * seconds. It asks when fewer rows than that wait, and, where it got none, again when a row is done. */
struct simulated {
	double seconds; /* for a row, with a full batch */
	uint64_t waiting, running, done;
	double ends[MAX_BATCH]; /* of the running rows: row i's at i % MAX_BATCH */
	double next;            /* when a row ends, or it asks again */
	bool ended;
};

static uint64_t below(uint64_t *seed, uint64_t n)
{
	return next_random(seed) % n;
}

struct world {
	struct tt_rows_done done;
	struct tt_hand_out hand_out;
	struct simulated ranks[MAX_RANKS];
	size_t n_ranks;
	uint64_t batch;
	uint8_t *times; // [n_rows] how often each was given
	double now;
};

static void ask(struct world *w, size_t i)
{
	struct simulated *r = &w->ranks[i];
	struct tt_row_range range;
	if (r->ended)
		return;
	tt_hand_out_claim(&w->hand_out, i, r->done, w->now, &range, &r->ended);
	for (uint64_t row = range.from; row < range.to; row++)
		w->times[row]++;
	r->waiting += range.to - range.from;
}

static void run_rank(struct world *w, size_t i)
{
	struct simulated *r = &w->ranks[i];
	if (r->running) {
		r->running--;
		r->done++;
	}
	if (r->waiting < w->batch)
		ask(w, i);
	/* Rows begin one after the other, as they do once the first have ended. */
	for (; r->running < w->batch && r->waiting; r->waiting--) {
		uint64_t row = r->done + r->running++;
		r->ends[row % MAX_BATCH] = w->now + r->seconds * (double)(w->batch + (row < w->batch ? row : 0));
	}
	/* One that has nothing to do asks again. */
	double idle = r->ended ? 1e300 : w->now + r->seconds;
	r->next = r->running ? r->ends[r->done % MAX_BATCH] : idle;
}

/* Returns when all is done. */
static double simulate(struct world *w, const double *seconds, size_t n_ranks, uint64_t n_rows, uint64_t batch)
{
	struct tt_error err;
	double last = 0;
	w->n_ranks = n_ranks;
	w->batch = batch;
	w->done.n_rows = n_rows;
	w->times = calloc(n_rows, 1);
	if (!w->done.bits)
		w->done.bits = calloc(n_rows / 8 + 1, 1);
	cr_assert_eq(tt_hand_out_open(&w->hand_out, &w->done, n_ranks, batch, 256, &err), TT_OK);
	for (size_t i = 0; i < n_ranks; i++)
		w->ranks[i] = (struct simulated){.seconds = seconds[i]};
	for (;;) {
		size_t first = 0;
		for (size_t i = 1; i < n_ranks; i++)
			if (w->ranks[i].next < w->ranks[first].next)
				first = i;
		if (w->ranks[first].next > 1e299)
			break;
		w->now = w->ranks[first].next;
		last = w->ranks[first].running ? w->now : last;
		run_rank(w, first);
	}
	for (uint64_t row = 0; row < n_rows; row++)
		cr_assert_eq(w->times[row] + tt_row_is_done(&w->done, row), 1, "row %d was given %d times", (int)row,
			w->times[row]);
	tt_hand_out_close(&w->hand_out);
	free(w->times);
	free(w->done.bits);
	return last;
}

static double ideal(const double *seconds, size_t n_ranks, uint64_t n_rows)
{
	double sum = 0;
	for (size_t i = 0; i < n_ranks; i++)
		sum += 1 / seconds[i];
	return (double)n_rows / sum;
}

Test(distribute, costs_little_where_one_rank_is_ten_times_slower)
{
	const double seconds[] = {1, 1, 10, 1};
	for (uint64_t batch = 4; batch <= 32; batch *= 2) {
		struct world w = {0};
		double took = simulate(&w, seconds, 4, 5000, batch);
		double share = took / ideal(seconds, 4, 5000);
		cr_expect(share < 1.15, "batch %d: %.3f times the ideal", (int)batch, share);
	}
}

Test(distribute, gives_every_row_once_whatever_the_ranks_are_like)
{
	uint64_t seed = 5;
	for (int round = 0; round < 300; round++) {
		struct world w = {0};
		double seconds[MAX_RANKS];
		size_t n_ranks = 1 + below(&seed, MAX_RANKS);
		uint64_t n_rows = 1 + below(&seed, 3000);
		w.done.bits = calloc(n_rows / 8 + 1, 1);
		for (uint64_t row = 0; row < n_rows; row++)
			if (below(&seed, 3) == 0) {
				w.done.bits[row / 8] |= (uint8_t)(1u << row % 8);
				w.done.n_done++;
			}
		for (size_t i = 0; i < n_ranks; i++)
			seconds[i] = 0.01 + (double)below(&seed, 1000) / 100;
		simulate(&w, seconds, n_ranks, n_rows, 1 + below(&seed, 40));
	}
}

Test(distribute, ends_at_once_where_all_is_done)
{
	struct world w = {.done.bits = calloc(1, 1)};
	const double seconds[] = {1};
	w.done.bits[0] = 0x1F;
	w.done.n_done = 5;
	cr_expect_eq(simulate(&w, seconds, 1, 5, 4), 0);
}
