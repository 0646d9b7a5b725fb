#include "controller/measure/review.h"

#include <math.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"

const char *tt_review_reason_word(enum tt_review_reason reason)
{
	static const char *const words[] = {
		[TT_REVIEW_MISS] = "miss",
		[TT_REVIEW_FALSE] = "false",
		[TT_REVIEW_OUTCOME] = "outcome",
		[TT_REVIEW_NEAR] = "near",
	};
	return words[reason];
}

static enum tt_review_reason reason_of(const struct tt_review_case *c)
{
	if (c->harmful != c->flagged)
		return c->harmful ? TT_REVIEW_MISS : TT_REVIEW_FALSE;
	return c->is_outcome_wrong ? TT_REVIEW_OUTCOME : TT_REVIEW_NEAR;
}

struct place {
	double score;
	size_t row;
};

static int descending(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return x->row < y->row ? -1 : 1;
}

/* The rows by descending score, and where each of the ways to choose has come to. */
struct choosing {
	const struct tt_review_case *cases;
	struct place *sorted; // [n]
	bool *taken;          // [n] by place in sorted
	size_t n;
	size_t above, below; /* next to the threshold: the places before `above` and from `below` on are still open */
	size_t furthest[TT_REVIEW_NEAR]; /* how many places of each kind of wrong rows have been looked at */
	bool turn_above;
	int turn_wrong;
};

/* The next place above the threshold and the next below take turns; SIZE_MAX when there are no more. */
static size_t next_near(struct choosing *c)
{
	while (c->above > 0 || c->below < c->n) {
		bool above = c->below == c->n || (c->above > 0 && c->turn_above);
		size_t place = above ? --c->above : c->below++;
		if (c->taken[place])
			continue;
		c->turn_above = !above;
		return place;
	}
	return SIZE_MAX;
}

/* Misses are looked for from the lowest score up, the others from the highest down. */
static size_t next_wrong_of(struct choosing *c, enum tt_review_reason reason)
{
	while (c->furthest[reason] < c->n) {
		size_t k = c->furthest[reason]++, place = reason == TT_REVIEW_MISS ? c->n - 1 - k : k;
		if (!c->taken[place] && reason_of(&c->cases[c->sorted[place].row]) == reason)
			return place;
	}
	return SIZE_MAX;
}

static size_t next_wrong(struct choosing *c)
{
	for (int tries = 0; tries < TT_REVIEW_NEAR; tries++) {
		size_t place = next_wrong_of(c, (enum tt_review_reason)c->turn_wrong);
		c->turn_wrong = (c->turn_wrong + 1) % TT_REVIEW_NEAR;
		if (place != SIZE_MAX)
			return place;
	}
	return SIZE_MAX;
}

static void choose(struct choosing *c, size_t n_most, struct tt_review_choice *chosen, size_t *n_chosen)
{
	for (bool wrong = true; *n_chosen < n_most; wrong = !wrong) {
		size_t place = wrong ? next_wrong(c) : SIZE_MAX;
		if (place == SIZE_MAX)
			place = next_near(c);
		if (place == SIZE_MAX)
			return;
		size_t row = c->sorted[place].row;
		c->taken[place] = true;
		chosen[(*n_chosen)++] = (struct tt_review_choice){row, reason_of(&c->cases[row])};
	}
}

int tt_review_choose(const struct tt_review_case *cases, size_t n, size_t n_most, struct tt_review_choice *chosen,
	size_t *n_chosen, struct tt_error *err)
{
	struct choosing c = {.cases = cases, .turn_above = true};
	*n_chosen = 0;
	int status = tt_alloc(&c.sorted, n, sizeof *c.sorted, err);
	if (status == TT_OK)
		status = tt_alloc(&c.taken, n, sizeof *c.taken, err);
	for (size_t i = 0; status == TT_OK && i < n; i++) {
		if (isnan(cases[i].score))
			continue;
		c.sorted[c.n++] = (struct place){cases[i].score, i};
		c.above += cases[i].flagged;
	}
	c.below = c.above;
	if (status == TT_OK) {
		qsort(c.sorted, c.n, sizeof *c.sorted, descending);
		choose(&c, n_most, chosen, n_chosen);
	}
	free(c.sorted);
	free(c.taken);
	return status;
}
