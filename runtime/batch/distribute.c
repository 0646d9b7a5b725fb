#include "runtime/batch/distribute.h"

#include <stdlib.h>

#include "base/memory.h"

int tt_hand_out_open(struct tt_hand_out *out, const struct tt_rows_done *done, size_t n_ranks, uint64_t batch,
	uint64_t most, struct tt_error *err)
{
	*out = (struct tt_hand_out){
		.done = done, .n_left = done->n_rows - done->n_done, .batch = batch, .most = most, .n_ranks = n_ranks};
	return tt_alloc(&out->ranks, n_ranks, sizeof *out->ranks, err);
}

void tt_hand_out_close(struct tt_hand_out *out)
{
	free(out->ranks);
	*out = (struct tt_hand_out){0};
}

/* Rows a second; 0 for a rank of which that is not known yet. */
static double rate(const struct tt_hand_out_rank *rank)
{
	return rank->done && rank->told > rank->begun ? (double)rank->done / (rank->told - rank->begun) : 0;
}

/* Rows that a rank still has to do. Those that have not asked for long have done more than they told. */
static double held(const struct tt_hand_out_rank *rank, double now)
{
	double rows = (double)(rank->given - rank->done) - rate(rank) * (now - rank->told);
	return rows > 0 ? rows : 0;
}

/* How the whole goes on. */
struct outlook {
	double seconds; /* until all rows are done, if all ranks end at the same time */
	double fastest; /* what a row takes where it takes least */
};

static struct outlook look_ahead(const struct tt_hand_out *out, double now)
{
	double sum = 0, best = 0, rows = (double)out->n_left;
	size_t n_known = 0;
	for (size_t i = 0; i < out->n_ranks; i++) {
		double own = rate(&out->ranks[i]);
		sum += own;
		best = own > best ? own : best;
		n_known += own > 0;
		rows += held(&out->ranks[i], now);
	}
	/* A rank that has shown nothing is taken for an average one. */
	sum *= (double)out->n_ranks / (double)(n_known ? n_known : 1);
	return sum > 0 ? (struct outlook){rows / sum, (double)out->batch / best} : (struct outlook){0};
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t allowance(const struct tt_hand_out *out, const struct tt_hand_out_rank *rank, double now)
{
	uint64_t has = rank->given - rank->done;
	if (rank->given == 0)
		return min(2 * out->batch, out->n_left / out->n_ranks + 1);
	struct outlook outlook = look_ahead(out, now);
	double own = rate(rank);
	/* A row that begins now ends when as many as run beside it have ended. If all others could end before, it is
	 * theirs. */
	if (own == 0 || (double)out->batch / own > outlook.seconds + outlook.fastest)
		return 0;
	double share = outlook.seconds * own;
	/* Half of what is due: the other half when its speed is better known. */
	uint64_t due = share > (double)has ? (uint64_t)((share - (double)has) / 2) : 0;
	uint64_t proven = rank->done > 2 * out->batch ? rank->done : 2 * out->batch;
	uint64_t n = min(min(due, proven), out->most);
	return n == 0 && has == 0 ? 1 : n;
}

void tt_hand_out_claim(
	struct tt_hand_out *out, size_t rank, uint64_t n_done, double now, struct tt_row_range *range, bool *ended)
{
	struct tt_hand_out_rank *asks = &out->ranks[rank];
	if (asks->given == 0)
		asks->begun = now;
	asks->told = now;
	asks->done = min(n_done, asks->given);
	*range = (struct tt_row_range){0};
	*ended = out->n_left == 0;
	uint64_t n = *ended ? 0 : allowance(out, asks, now);
	if (n == 0)
		return;
	*range = tt_rows_undone(out->done, out->next, out->done->n_rows, n);
	n = range->to - range->from;
	out->next = range->to;
	out->n_left -= n;
	asks->given += n;
}
