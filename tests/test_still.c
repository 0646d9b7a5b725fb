/* Whether devices of ranks stand still, by what they say: no clock is in it. */
#include <criterion/criterion.h>

#include "kernels/still.h"

enum { N = 4 };

static struct tt_still still;
static struct tt_still_rank ranks[N];
static uint32_t behind;

/* All ranks give their devices so many marks more, and these come to so many. */
static void go(uint32_t given, uint32_t reached)
{
	for (uint32_t i = 0; i < N; i++) {
		atomic_fetch_add(&ranks[i].given, given);
		atomic_fetch_add(&ranks[i].reached, reached);
	}
}

/* All but one rank run for a while, and somebody looks. */
static bool look(uint32_t stopped)
{
	for (uint32_t i = 0; i < N; i++)
		atomic_fetch_add(&ranks[i].run, i != stopped);
	return tt_still_look(&still, ranks, N, &behind);
}

/* How many looks it takes, of so many at most. */
static int n_looks(int most)
{
	for (int i = 1; i <= most; i++)
		if (look(N))
			return i;
	return 0;
}

Test(still, devices_that_stand_still_are_found)
{
	go(10, 7);
	cr_assert_eq(n_looks(1000), TT_STILL_LOOKS + 1, "the first look sees them come to something");
	cr_assert_eq(behind, TT_MAX_RANKS);
}

Test(still, the_device_that_is_behind_is_named)
{
	go(10, 7);
	atomic_fetch_sub(&ranks[2].reached, 1);
	cr_assert_eq(n_looks(1000), TT_STILL_LOOKS + 1);
	cr_assert_eq(behind, 2);
}

/* However long it takes in all. */
Test(still, a_device_that_moves_is_waited_for)
{
	go(5000, 0);
	for (int i = 0; i < 200; i++) {
		cr_assert_eq(n_looks(TT_STILL_LOOKS - 1), 0);
		atomic_fetch_add(&ranks[i % N].reached, 1);
		cr_assert_not(look(N));
	}
}

/* It computes, reads its kernels or stands still, and others see to that. */
Test(still, a_rank_that_has_not_given_its_device_the_mark_is_waited_for)
{
	go(10, 10);
	for (uint32_t i = 0; i < N; i++)
		atomic_fetch_add(&ranks[i].given, i != 1);
	cr_assert_eq(n_looks(1000), 0);
}

Test(still, nothing_is_waited_for_where_all_is_done)
{
	go(10, 10);
	cr_assert_eq(n_looks(1000), 0);
}

/* Its process is stopped, or waits for a processor. */
Test(still, looks_do_not_count_while_a_rank_does_not_run)
{
	go(10, 7);
	cr_assert_not(look(N));
	cr_assert_not(look(N));
	for (int i = 0; i < 1000; i++)
		cr_assert_not(look(3));
	cr_assert_eq(n_looks(1000), TT_STILL_LOOKS - 1);
}

/* They share a processor. */
Test(still, ranks_may_run_in_turn)
{
	go(10, 7);
	cr_assert_not(look(N));
	for (uint32_t i = 0; i < N * TT_STILL_LOOKS; i++) {
		atomic_fetch_add(&ranks[i % N].run, 1);
		cr_assert_eq(tt_still_look(&still, ranks, N, &behind), i + 1 == N * TT_STILL_LOOKS, "look %u", i);
	}
}

/* It waits for a command, and its device for nothing. */
Test(still, a_rank_that_has_done_its_work_need_not_run)
{
	go(10, 7);
	atomic_store(&ranks[3].reached, 10);
	cr_assert_not(look(3));
	for (int i = 1; i < TT_STILL_LOOKS; i++)
		cr_assert_not(look(3));
	cr_assert(look(3));
	cr_assert_eq(behind, 0);
}

Test(still, counts_go_round)
{
	go(UINT32_MAX - 2, UINT32_MAX - 2);
	cr_assert_eq(n_looks(1000), 0);
	go(5, 2);
	cr_assert_eq(n_looks(1000), TT_STILL_LOOKS + 1);
	cr_assert_eq(behind, TT_MAX_RANKS);
}
