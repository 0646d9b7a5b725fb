/* Requests that arrive over time, and what those who wait for them see, as `vllm bench serve` defines it: times to the
 * first token (TTFT), per output token after it (TPOT), between tokens (ITL) and to the end (E2EL). bench/README.md
 * compares the definitions. */
#ifndef BENCH_HARNESS_SERVING_H
#define BENCH_HARNESS_SERVING_H

#include "runtime/trimtab.h"

struct tt_serving_options {
	uint32_t n_requests, n_prompt, n_gen; /* how many, with how many random tokens and how many generated ones */
	double rate; /* requests a second, on average; they arrive as a Poisson process. INFINITY: all at once */
	uint32_t concurrency; /* at most so many are in flight: the next one begins when one ends. 0: no limit */
	uint64_t seed;        /* of arrivals and tokens */
	struct tt_steering steering[TT_MAX_STACK]; // [n_steering]
	uint32_t n_steering;
};

/* When things happened, in seconds from the beginning of the run. */
struct tt_served {
	double start;  /* its arrival, or when it had a place, whichever was later */
	double *times; // [n_times] of its tokens
	size_t n_times;
};

struct tt_serving {
	struct tt_served *requests; // [n] in the order of arrival
	size_t n, n_prompt;
	double seconds; /* to the last token of all */
};

/* Arrival times of n requests, [n], ascending. As vLLM's they are scaled so that the last is at n / rate. */
void tt_serving_arrivals(double *out, size_t n, double rate, uint64_t seed);

/* Runs all requests, stepping the engine. tt_serving_free releases *out, also if this fails. */
int tt_serving_run(struct tt_serving *out, struct tt_engine *engine, const struct tt_serving_options *options,
	struct tt_error *err);
void tt_serving_free(struct tt_serving *serving);

/* ---- Metrics */

enum tt_serving_metric { TT_TTFT, TT_TPOT, TT_ITL, TT_E2EL, TT_N_SERVING_METRICS };
extern const char *const tt_serving_metric_names[TT_N_SERVING_METRICS]; /* "ttft" and so on */

/* Of a metric's values, in seconds. NaN where there are none. */
struct tt_serving_summary {
	size_t n;
	double mean, std, median, p90, p99; /* percentiles between two values by linear interpolation; std with n */
};

struct tt_serving_report {
	struct tt_serving_summary metrics[TT_N_SERVING_METRICS];
	size_t n_tokens, n_good;
};

/* limits: [TT_N_SERVING_METRICS] seconds that a good request's TTFT, TPOT and E2EL stay within; INFINITY: any. */
int tt_serving_measure(
	struct tt_serving_report *out, const struct tt_serving *serving, const double *limits, struct tt_error *err);

/* Percentile p, 0 to 100, of n ascending values. */
double tt_serving_percentile(const double *sorted, size_t n, double p);

#endif
