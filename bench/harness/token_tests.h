/* llama-bench's tests as cases of the harness: a prompt, generation, or both, of one sequence, perhaps behind a context
 * that is there already; without steering, and with it.
 *
 *   pp<P>       a prompt of P tokens, and the logits of its last one
 *   tg<N>       N passes of a single token each, the first at position 0
 *   pp<P>+tg<N> both, one after the other
 *   ... @ d<D>  behind D tokens whose keys and values are there already
 *   ... @ p<G>  behind a prompt of G tokens that has run and given its first token, so that gates have decided
 *
 * bench/README.md compares this line by line with llama-bench. */
#ifndef BENCH_HARNESS_TOKEN_TESTS_H
#define BENCH_HARNESS_TOKEN_TESTS_H

#include "bench/harness/harness.h"
#include "runtime/trimtab.h"

struct tt_token_test {
	uint32_t n_prompt, n_gen, n_depth;
	uint32_t n_given; /* with n_gen alone; a gate opens for no prompt of one token, whose mean would be over none */
};

enum { TT_TOKEN_TEST_NAME = 64 };

/* Positions that a test takes, one for its last token included. */
uint64_t tt_token_test_positions(const struct tt_token_test *test);
void tt_token_test_name(char out[TT_TOKEN_TEST_NAME], const struct tt_token_test *test);

/* A way to run a test. */
struct tt_token_way {
	const char *name;                          /* of its case */
	struct tt_engine *engine;                  /* NULL: the lab's */
	struct tt_steering steering[TT_MAX_STACK]; // [n_steering] added to the engine
	uint32_t n_steering;
	struct tt_policy *const *by_row; // [n_rows] a first policy of each row's own, instead of steering[0]'s; or NULL
	uint32_t size;                   /* what a scale counts of it: layers, policies; else 0 */
	bool has_gate;   /* a gate may leave the prompt alone, or have it run again, so that tokens are not counted */
	bool runs_again; /* its gate decides too late to steer in the same pass */
	bool captures;   /* the hidden states of all layers at all ids are kept */
	bool telemetry;  /* a callback is called for every token */
};

enum { TT_MAX_TOKEN_WAYS = 32, TT_MAX_TOKEN_ROWS = 256 };

/* What tests share. Engines share prefixes, which is how a context is there already, and their KV pages hold twice the
 * positions of the longest test in all rows. */
struct tt_token_lab {
	struct tt_engine *engine;
	const struct tt_token_way *ways; // [n_ways] the first is the one that the others are compared with
	size_t n_ways;
	uint32_t n_rows;    /* sequences that run the test together; 0: one */
	uint32_t n_batch;   /* most tokens of a prompt in a step, for way_bytes.h; 0: all */
	uint64_t n_samples; /* of all its tests so far, which have prompts each, so that they share the context alone */
};

struct tt_token_cases;
/* Adds a case of every way to a group. Ceilings of the names fma and read must be added to it where
 * limits is set. *out must outlive the run; release it with tt_token_cases_free. */
int tt_token_test_add(struct tt_token_cases **out, struct tt_bench *bench, struct tt_token_lab *lab, const char *group,
	const struct tt_token_test *test, bool limits, struct tt_error *err);
void tt_token_cases_free(struct tt_token_cases *cases); /* NULL is fine */

#endif
