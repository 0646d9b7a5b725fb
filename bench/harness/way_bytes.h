/* What a way of steering must read and write besides what the same steps read without it: the measure of its cost. */
#ifndef BENCH_HARNESS_WAY_BYTES_H
#define BENCH_HARNESS_WAY_BYTES_H

#include "bench/harness/token_tests.h"

/* A way should take no longer than 1 + tt_token_way_extra + this, times off. */
#define TT_WAY_MARGIN 0.01

/* The way's extra bytes in a test over those of the test's steps, which are the weights as the file stores them, once a
 * step. Extra are: its policies' tensors, once a step however many rows they steer; those of gates, once; the hidden
 * states that it keeps; and a step's weights for each pass of a prompt that runs again. What a step moves inside of the
 * caches (h itself) is not counted, nor are keys and values, which both sides read. */
double tt_token_way_extra(
	const struct tt_token_lab *lab, const struct tt_token_way *way, const struct tt_token_test *test);

#endif
