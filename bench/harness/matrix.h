/* The steering matrix: every way to steer beside not steering, for the tests of token_tests.h. */
#ifndef BENCH_HARNESS_MATRIX_H
#define BENCH_HARNESS_MATRIX_H

#include "bench/harness/token_tests.h"

struct tt_matrix;

/* What is listed after "off", the way of an engine that has no policy. */
enum tt_matrix_ways {
	/* "idle", of an engine that has policies and does not use them; every operation, gate and manner */
	TT_WAYS_ALL,
	TT_WAYS_ADD,      /* one policy that adds at every layer */
	TT_WAYS_LAYERS,   /* one that adds at the first layer, the first two, four and so on, to all of them */
	TT_WAYS_STACK,    /* one, two and so on to TT_MAX_STACK on each row */
	TT_WAYS_POLICIES, /* one, two, four and so on for the rows in turn, to one for each */
};

/* Opens the model twice, without and with policies of noise, and lists the ways. n_rows: sequences that run
 * together. */
int tt_matrix_open(struct tt_matrix **out, const char *model, const struct tt_engine_options *options,
	enum tt_matrix_ways ways, uint32_t n_rows, struct tt_error *err);
void tt_matrix_close(struct tt_matrix *matrix); /* NULL is fine */

/* Its lab, borrowed; n_samples is changed by tests. */
struct tt_token_lab *tt_matrix_lab(struct tt_matrix *matrix);

/* Keeps off and the ways of these names alone; TT_ERR_ARGUMENT for a name that is none. */
int tt_matrix_keep(struct tt_matrix *matrix, const char *const *names, size_t n, struct tt_error *err);

/* What follows n on a scale that ends at `last`: twice as many, then the last, then 0. */
uint32_t tt_matrix_next_size(uint32_t n, uint32_t last);

#endif
