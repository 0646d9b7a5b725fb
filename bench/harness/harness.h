/* The timing harness of every benchmark. Cases run in rounds, interleaved, so that whatever slows the machine slows all
 * of them. Results are medians with an interval that assumes no distribution; every sample is kept; quotients are taken
 * within a round.
 *
 * A round runs each case of a group once. Groups run one after the other. A case's first work entry is its main unit
 * (tokens, say): two cases are compared by the time that one unit takes.
 *
 *     tt_bench_open(&bench, &options, err);
 *     tt_bench_add(bench, &(struct tt_bench_case){.group = "decode", .name = "steered", .run = ...}, err);
 *     tt_bench_run(bench, err);
 *     tt_bench_print(bench, stdout);
 *     tt_bench_write_json(bench, path, err);
 *     tt_bench_close(bench); */
#ifndef BENCH_HARNESS_H
#define BENCH_HARNESS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/tt_error.h"
#include "bench/harness/stats.h"

#define TT_BENCH_SCHEMA "trimtab-bench/1"

enum tt_bench_order {
	TT_BENCH_SHUFFLED, /* each round in an order of its own, drawn from the seed */
	TT_BENCH_ABBA,     /* as registered in even rounds, backwards in odd ones */
};

struct tt_bench_options {
	const char *program;          /* its name in the report */
	const char *const *arguments; // [n_arguments] the command line, copied into the report
	size_t n_arguments;
	uint32_t n_threads; /* how many the cases use; for the report */
	enum tt_bench_order order;
	uint64_t seed;
	double confidence;         /* of the intervals. Default 0.95 */
	uint32_t n_warmup;         /* rounds that are not counted. Default 1 */
	uint32_t min_rounds;       /* Default 15. From 9 on a 95% interval leaves out the extremes */
	uint32_t max_rounds;       /* Default 1000 */
	double min_seconds;        /* a group runs until it has both min_rounds and this. Default 1 */
	double min_sample_seconds; /* short calls are repeated until a sample is this long. Default 0.005 */
	void (*progress)(void *user, const char *group, uint32_t round, uint32_t min_rounds); /* NULL: none */
	void *user;
};
/* Sets the defaults named above, and everything else to 0 or NULL. */
void tt_bench_options_default(struct tt_bench_options *options);

enum { TT_BENCH_MAX_WORK = 4 };

/* What one call does. Bytes and flops are shown as GB/s and GFLOP/s, other units as they are. */
struct tt_bench_work {
	const char *unit;    /* "tokens", "bytes", "flops" */
	double amount;       /* per call */
	const char *ceiling; /* a case of the same group whose rate of this unit is the upper bound, or NULL */
};

typedef int (*tt_bench_fn)(void *context, struct tt_error *err);

struct tt_bench_case {
	const char *group, *name; /* a name is unique in its group */
	const char *note;         /* for the report, or NULL */
	tt_bench_fn run;          /* timed */
	tt_bench_fn before;       /* not timed, before each sample; may be NULL */
	tt_bench_fn after;        /* not timed, after each sample whose before succeeded; may be NULL */
	tt_bench_fn finish;       /* once, after the group's last round, also when the case failed; may be NULL */
	void *context;
	uint32_t n_calls; /* calls of run in a sample. 0: by min_sample_seconds, or 1 when there is a before */
	struct tt_bench_work work[TT_BENCH_MAX_WORK]; /* ends with the first NULL unit */
	const char *baseline;                         /* a case of the same group with the same main unit, or NULL */
};

struct tt_bench;

/* Opens an empty bench; options are copied. TT_ERR_ARGUMENT for options without a meaning. */
int tt_bench_open(struct tt_bench **out, const struct tt_bench_options *options, struct tt_error *err);
void tt_bench_close(struct tt_bench *bench); /* NULL is fine */

/* Copies everything but context. Baselines and ceilings may be added after the cases that name them. */
int tt_bench_add(struct tt_bench *bench, const struct tt_bench_case *one, struct tt_error *err);

/* Adds a fact about what is measured (a model, its digest) to the report's "subject". Takes over value. */
int tt_bench_subject(struct tt_bench *bench, const char *key, json_t *value, struct tt_error *err);

/* Runs the groups that have not run yet. A case that fails is left out of the following rounds and reported, which is
 * not an error of this function. A baseline or ceiling that is unknown or has another unit is an error, before anything
 * runs. */
int tt_bench_run(struct tt_bench *bench, struct tt_error *err);

/* How many cases were added, and how many of them failed. */
size_t tt_bench_n_cases(const struct tt_bench *bench);
size_t tt_bench_n_failed(const struct tt_bench *bench);

struct tt_bench_result {
	const struct tt_bench_case *spec;
	uint64_t n_calls;      /* in a sample */
	const double *samples; // [n_samples] seconds a call; sample i is from round i
	size_t n_samples;
	const char *error;               /* NULL, or why the case stopped */
	struct tt_bench_summary seconds; /* of a call */
	/* time per unit of work divided by the baseline's: 1.01 takes 1% longer. n 0: none */
	struct tt_bench_summary ratio;
	struct tt_bench_summary rates[TT_BENCH_MAX_WORK];  /* per second, by work entry */
	struct tt_bench_summary shares[TT_BENCH_MAX_WORK]; /* share of the ceiling's rate. n 0: none */
};
/* index counts cases in order of registration. The pointers in *result are valid until the next call that runs or
 * closes. */
int tt_bench_result(const struct tt_bench *bench, size_t index, struct tt_bench_result *result, struct tt_error *err);

/* The order of n cases in a round: a permutation of 0..n-1. */
void tt_bench_round_order(enum tt_bench_order order, uint64_t seed, uint32_t round, uint32_t n, uint32_t *out);

/* The next of a stream of random numbers (SplitMix64; Steele et al., 2014), the same on every machine. */
uint64_t tt_bench_draw(uint64_t *state);

/* Prints a plain table, one group at a time. */
int tt_bench_print(const struct tt_bench *bench, FILE *file, struct tt_error *err);

/* The report as bench/schema.json describes it: a new reference. */
int tt_bench_json(const struct tt_bench *bench, json_t **out, struct tt_error *err);
/* Writes such a report to a file, in full or not at all. */
int tt_bench_write_report(const json_t *report, const char *path, struct tt_error *err);
/* Writes the bench's own. */
int tt_bench_write_json(const struct tt_bench *bench, const char *path, struct tt_error *err);

#endif
