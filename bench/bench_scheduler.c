/* What scheduling costs: an engine's steps with a model that does nothing. Everything else is real: admission, plans,
 * page keys, coefficient rows, results handed to requests, their text, and telemetry where it is asked for.
 *
 *     trimtab-bench-scheduler MODEL [ROWS [STEPS]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "base/memory.h"
#include "bench/harness/noise.h"
#include "runtime/engine/engine.h"

enum { PROMPT = 128, MAX_ROWS = 1024, MAX_STEPS = 4000, N_POLICIES = 16 };

/* The step time for comparison: an estimate for 8 billion bf16 parameters, not a measurement. */
#define STEP_SECONDS 9e-3

/* ---- A device that computes nothing ---- */

struct nothing {
	struct tt_backend base;
	struct tt_backend *cpu;
	struct tt_results results;
	uint32_t vocab;
	uint64_t n_ended, n_finished;
};

/* Pages that are never written cost no memory. */
static int nothing_allocate(struct tt_backend *b, void *out_pointer, size_t count, size_t size, struct tt_error *err)
{
	void *memory = calloc(count, size);
	(void)b;
	memcpy(out_pointer, &memory, sizeof memory);
	return memory ? TT_OK : tt_fail(err, TT_ERR_MEMORY, "no memory for %zu elements of %zu bytes", count, size);
}

static int nothing_load(struct tt_backend *b, struct tt_model *host, const struct tt_limits *limits,
	const struct tt_model **out, struct tt_error *err)
{
	(void)limits;
	(void)err;
	((struct nothing *)b)->vocab = host->config.vocab_size;
	*out = host;
	return TT_OK;
}

static void nothing_unload(struct tt_backend *b, const struct tt_model *loaded)
{
	(void)b;
	(void)loaded;
}

static int nothing_begin(struct tt_backend *b, const struct tt_step_plan *step, bool *recorded, struct tt_error *err)
{
	(void)b;
	(void)step;
	(void)err;
	*recorded = true;
	return TT_OK;
}

static int nothing_end(
	struct tt_backend *b, const struct tt_step_plan *step, const struct tt_results *outputs, struct tt_error *err)
{
	struct nothing *n = (struct nothing *)b;
	(void)err;
	for (uint32_t i = 0; i < step->n_samples; i++)
		outputs->samples[i].token = (int32_t)((n->n_ended * 31 + i) % n->vocab);
	for (uint32_t i = 0; i < step->n_decisions; i++) {
		outputs->decisions[i] = (struct tt_decision_result){1, 1};
		outputs->decided[i] = 1;
	}
	n->results = *outputs;
	n->n_ended++;
	return TT_OK;
}

static int nothing_finish(struct tt_backend *b, struct tt_results *results, struct tt_error *err)
{
	struct nothing *n = (struct nothing *)b;
	if (n->n_finished == n->n_ended)
		return tt_fail(err, TT_ERR_ARGUMENT, "no step is under way");
	n->n_finished++;
	*results = n->results;
	return TT_OK;
}

static void nothing_close(struct tt_backend *b)
{
	struct nothing *n = (struct nothing *)b;
	n->cpu->close(n->cpu);
	free(n);
}

static int nothing_open(struct tt_backend **out, struct tt_error *err)
{
	struct nothing *n = NULL;
	TT_TRY(tt_alloc(&n, 1, sizeof *n, err));
	int status = tt_cpu_open(&n->cpu, 1, err);
	if (status != TT_OK) {
		free(n);
		return status;
	}
	n->base = *n->cpu; /* release and upload only use the host's memory */
	n->base.name = "nothing";
	n->base.in_flight = 2;
	n->base.allocate = nothing_allocate;
	n->base.load = nothing_load;
	n->base.unload = nothing_unload;
	n->base.begin = nothing_begin;
	n->base.end = nothing_end;
	n->base.finish = nothing_finish;
	n->base.close = nothing_close;
	*out = &n->base;
	return TT_OK;
}

/* ---- Rows ---- */

struct run {
	struct tt_engine *engine;
	struct tt_policy *policies[N_POLICIES];
	struct tt_request *requests[MAX_ROWS];
	uint32_t n_rows, n_steps;
	double seconds[MAX_STEPS];
	uint64_t n_reports;
};

static void note(void *user, struct tt_request *request, const struct tt_telemetry *telemetry)
{
	(void)request;
	((struct run *)user)->n_reports += telemetry->n_steering;
}

static int submit(struct run *run, uint32_t row, bool steered, bool has_telemetry, struct tt_error *err)
{
	struct tt_request_options options;
	int32_t ids[PROMPT];
	uint32_t vocab = tt_engine_info(run->engine)->vocab_size;
	for (uint32_t i = 0; i < PROMPT; i++)
		ids[i] = (int32_t)((row * 7919 + i * 104729) % vocab);
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = PROMPT;
	options.max_tokens = 2 * MAX_STEPS;
	options.ignore_eos = true;
	options.n_steering = steered;
	options.steering[0] = (struct tt_steering){run->policies[row % N_POLICIES], 1 + (float)row};
	options.telemetry = has_telemetry ? note : NULL;
	options.user = run;
	return tt_request_submit(&run->requests[row], run->engine, &options, err);
}

/* The thread's own time, so that other processes on the core do not count. */
static double cpu_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Times steps in which every row decodes. */
static int measure(struct run *run, const char *name, bool steered, bool has_telemetry, struct tt_error *err)
{
	double sum = 0;
	for (uint32_t row = 0; row < run->n_rows; row++)
		TT_TRY(submit(run, row, steered, has_telemetry, err));
	while (tt_request_n_generated(run->requests[run->n_rows - 1]) < 2)
		TT_TRY(tt_engine_step(run->engine, err));
	for (uint32_t i = 0; i < run->n_steps; i++) {
		double start = cpu_seconds();
		TT_TRY(tt_engine_step(run->engine, err));
		sum += run->seconds[i] = cpu_seconds() - start;
	}
	for (uint32_t row = 0; row < run->n_rows; row++)
		tt_request_free(run->requests[row]);
	qsort(run->seconds, run->n_steps, sizeof(double), compare);
	printf("%-20s %8.1f %8.1f %8.1f %10.2f%%\n", name, 1e6 * sum / run->n_steps,
		1e6 * run->seconds[run->n_steps / 2], 1e6 * run->seconds[run->n_steps * 99 / 100],
		100 * sum / run->n_steps / STEP_SECONDS);
	return TT_OK;
}

static int open_engine(struct run *run, const char *model, struct tt_error *err)
{
	struct tt_engine_options options;
	struct tt_backend *backend = NULL;
	tt_engine_options_default(&options);
	options.max_batch = run->n_rows;
	options.max_step_tokens = 2 * run->n_rows > 2048 ? 2 * run->n_rows : 2048;
	options.kv_tokens = run->n_rows * (PROMPT + run->n_steps + 64);
	TT_TRY(nothing_open(&backend, err));
	TT_TRY(tt_engine_open_on(&run->engine, backend, model, &options, err));
	for (uint64_t i = 0; i < N_POLICIES; i++) {
		TT_TRY(tt_bench_synthetic_policy(
			&run->policies[i], tt_engine_info(run->engine), TT_BENCH_ALL_LAYERS, i + 1, err));
		TT_TRY(tt_engine_add_policy(run->engine, run->policies[i], NULL, err));
	}
	return TT_OK;
}

int main(int argc, char **argv)
{
	static struct run run;
	struct tt_error err = {0};
	run.n_rows = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 256;
	run.n_steps = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 500;
	if (argc < 2 || run.n_rows < 1 || run.n_rows > MAX_ROWS || run.n_steps < 1 || run.n_steps > MAX_STEPS) {
		fprintf(stderr, "usage: trimtab-bench-scheduler MODEL [ROWS [STEPS]], at most %d rows, %d steps\n",
			MAX_ROWS, MAX_STEPS);
		return 2;
	}
	int status = open_engine(&run, argv[1], &err);
	if (status == TT_OK)
		printf("%u rows, %u steps, microseconds of a core a step\n%-20s %8s %8s %8s %11s\n", run.n_rows,
			run.n_steps, "", "mean", "median", "99%", "of 9 ms");
	if (status == TT_OK)
		status = measure(&run, "unsteered", false, false, &err);
	if (status == TT_OK)
		status = measure(&run, "steered", true, false, &err);
	if (status == TT_OK)
		status = measure(&run, "steered, telemetry", true, true, &err);
	if (status != TT_OK)
		fprintf(stderr, "trimtab-bench-scheduler: %s\n", err.message);
	tt_engine_close(run.engine);
	for (uint32_t i = 0; i < N_POLICIES; i++)
		tt_policy_free(run.policies[i]);
	return status == TT_OK ? 0 : 1;
}
