/* Shared by the harness's own files. */
#ifndef BENCH_HARNESS_INTERNAL_H
#define BENCH_HARNESS_INTERNAL_H

#include "base/clock.h"
#include "bench/harness/harness.h"

enum { TT_BENCH_NONE = -1 };

struct tt_bench_entry {
	struct tt_bench_case spec; /* its strings belong to the bench */
	uint32_t n_work;
	int32_t baseline;                   /* index of an entry, or TT_BENCH_NONE */
	int32_t ceiling[TT_BENCH_MAX_WORK]; /* indices of entries, or TT_BENCH_NONE, by work entry */
	uint64_t n_calls;
	double *samples; // [n_samples] seconds a call
	size_t n_samples, capacity;
	bool ran, failed;
	struct tt_error error;
};

struct tt_bench {
	struct tt_bench_options options;
	const char **arguments; // [options.n_arguments]
	char **strings;         // [n_strings] every string that options and specs point to
	size_t n_strings, strings_capacity;
	struct tt_bench_entry *entries; // [n_entries]
	size_t n_entries, entries_capacity;
	json_t *subject, *machine;
	char date[TT_DATE_BYTES]; /* when it was opened, ISO 8601, UTC */
};

/* Finds every baseline and ceiling, or reports which is missing. */
int tt_bench_resolve(struct tt_bench *bench, struct tt_error *err);

/* Index of the work entry with this unit, or TT_BENCH_MAX_WORK. */
uint32_t tt_bench_find_work(const struct tt_bench_entry *entry, const char *unit);

/* The report's "machine". n_threads: what the cases used. A new reference. */
int tt_bench_machine(json_t **out, uint32_t n_threads, struct tt_error *err);

/* The commit at which the build was configured; "unknown" when the build did not say. */
const char *tt_bench_commit(void);

/* Reports the failure of an allocation inside jansson. */
int tt_bench_json_failed(struct tt_error *err);

#endif
