/* The steering matrix: every way to steer beside not steering, for the tests of token_tests.h. */
#ifndef BENCH_HARNESS_MATRIX_H
#define BENCH_HARNESS_MATRIX_H

#include "bench/harness/token_tests.h"

struct tt_matrix;

/* Opens the model twice, without and with policies of every operation and gate, and lists the ways: "off" (an engine
 * that has no policy), "idle" (one that has, and does not use them), then what is named after its operation, gate or
 * manner. n_rows: sequences that run together. */
int tt_matrix_open(struct tt_matrix **out, const char *model, const struct tt_engine_options *options, uint32_t n_rows,
	struct tt_error *err);
void tt_matrix_close(struct tt_matrix *matrix); /* NULL is fine */

/* Its lab, borrowed; n_samples is changed by tests. */
struct tt_token_lab *tt_matrix_lab(struct tt_matrix *matrix);

#endif
