#include "kernels/still.h"

/* Whether count a is below count b, which are less than half a round apart. */
static bool is_below(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

/* Notes how far all have come. True where that is further than before. */
static bool note_reached(struct tt_still *still, const struct tt_still_rank *ranks, uint32_t n_ranks)
{
	bool moved = false;
	for (uint32_t i = 0; i < n_ranks; i++) {
		uint32_t reached = atomic_load(&ranks[i].reached);
		moved |= reached != still->reached[i];
		still->reached[i] = reached;
	}
	return moved;
}

/* Whether all whose devices have work have run since the last look that counted. */
static bool have_run(const struct tt_still *still, const struct tt_still_rank *ranks, uint32_t n_ranks)
{
	for (uint32_t i = 0; i < n_ranks; i++)
		if (atomic_load(&ranks[i].given) != still->reached[i] && atomic_load(&ranks[i].run) == still->run[i])
			return false;
	return true;
}

bool tt_still_look(struct tt_still *still, const struct tt_still_rank *ranks, uint32_t n_ranks, uint32_t *behind)
{
	bool moved = note_reached(still, ranks, n_ranks);
	uint32_t last = 0, given = atomic_load(&ranks[0].given);
	*behind = TT_MAX_RANKS;
	for (uint32_t i = 1; i < n_ranks; i++) {
		uint32_t its = atomic_load(&ranks[i].given);
		given = is_below(its, given) ? its : given;
		last = is_below(still->reached[i], still->reached[last]) ? i : last;
	}
	for (uint32_t i = 0; i < n_ranks; i++)
		if (still->reached[i] != still->reached[last])
			*behind = last;
	bool waits = !moved && is_below(still->reached[last], given);
	if (waits && !have_run(still, ranks, n_ranks))
		return false;
	still->n_looks = waits ? still->n_looks + 1 : 0;
	for (uint32_t i = 0; i < n_ranks; i++)
		still->run[i] = atomic_load(&ranks[i].run);
	return still->n_looks >= TT_STILL_LOOKS;
}
