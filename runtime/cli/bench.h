/* Shared by the files of trimtab bench. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "bench/harness/matrix.h"
#include "bench/harness/serving.h"
#include "bench/harness/token_tests.h"
#include "cli.h"
#include "show.h"

enum cli_bench_format { CLI_BENCH_MD, CLI_BENCH_CSV, CLI_BENCH_JSON, CLI_BENCH_JSONL };

/* What all rows share. */
struct cli_bench_report {
	enum cli_bench_format format;
	bool steered, limits; /* columns that rows have */
	bool several_batches;
	const char *kv, *compute; /* the words of --kv and --compute */
	const char *policy;       /* the file, or "synthetic" */
	size_t n_rows;            /* printed so far */
};

/* A test that has run. */
struct cli_bench_row {
	const struct tt_engine *engine;
	struct tt_token_test test;
	uint32_t n_batch;
	const char *date;
	const struct tt_bench *bench; /* with the cases off and steered first */
};

/* A serving run. */
struct cli_bench_serving {
	uint32_t n_requests; /* 0: none */
	uint32_t n_prompt, n_gen, concurrency;
	float rate; /* 0: all at once */
	uint64_t seed;
	double limits[TT_N_SERVING_METRICS];
	enum cli_bench_format format;
};

/* A time line of a prompt and of generation. */
struct cli_bench_timeline {
	const char *path; /* of the trace; NULL: none is wanted */
	uint32_t n_prompt, n_gen;
};
/* Runs both, by the lab's last way, writes the trace and prints a table of ops. CLI_OK or CLI_FAILED. */
int cli_bench_run_timeline(const struct tt_token_lab *lab, const struct cli_bench_timeline *timeline);

/* Progress for tt_bench_options: the test and its round on stderr, each over the last. */
void cli_bench_draw(void *user, const char *group, uint32_t round, uint32_t min_rounds);

/* --report: every test's cases as bench/schema.json has them, in one report. */
struct cli_bench_file {
	const char *path;         /* NULL: none is wanted, and nothing below does anything */
	const char *kv, *compute; /* the words of --kv and --compute */
	char **arguments;         // [n_arguments] the command line
	int n_arguments;
	json_t *report; /* so far */
};
/* Sets the program and its arguments in the options of a bench. */
void cli_bench_file_command(const struct cli_bench_file *file, struct tt_bench_options *options);
/* Adds the cases of a bench that has run. CLI_PROCEED or CLI_FAILED. */
int cli_bench_file_add(struct cli_bench_file *file, struct tt_bench *bench, const struct tt_engine *engine);
/* Writes and releases it. CLI_PROCEED or CLI_FAILED. */
int cli_bench_file_write(struct cli_bench_file *file);

/* The steering matrix, and the scales. */
struct cli_bench_matrix {
	struct cli_bench_file *file;
	const struct cli_engine_args *engine_args;
	const uint32_t *rows; // [n_rows] how many sequences run together, in turn
	size_t n_rows;
	const char *const *ways; // [n_ways] of the matrix; none: all
	size_t n_ways;
	uint32_t n_prompt, n_gen, n_rounds;
	bool json;
};
int cli_bench_run_matrix(const struct cli_bench_matrix *matrix, const char *model);
/* axes: their words with commas between. The last of rows is the most of axis rows, and what other axes run. */
int cli_bench_run_scale(const struct cli_bench_matrix *scale, const char *axes, const char *model);

/* What both are made of. Opens the lab for sequences of `longest` tokens, 0: of the whole context. CLI_PROCEED or
 * CLI_FAILED. */
int cli_bench_open_matrix(struct tt_matrix **out, const struct cli_bench_matrix *m, const char *model,
	enum tt_matrix_ways ways, uint32_t n_rows, uint32_t longest);
/* Takes the results of a test, whose cases are the lab's ways in their order. CLI_PROCEED or CLI_FAILED. */
typedef int (*cli_bench_taker)(void *user, const char *test, const struct tt_bench *bench);
/* group: the name of the test in --report, of no other test there. */
int cli_bench_time(struct tt_matrix *matrix, const struct cli_bench_matrix *m, const char *group,
	const struct tt_token_test *test, cli_bench_taker taker, void *user);
/* Prints the table, or only releases it where JSON is printed in the end. */
void cli_bench_print_table(struct cli_table *table, bool json);
/* Prints and releases the JSON, where that is wanted, and says how many cases failed. */
int cli_bench_end(int status, json_t *all, bool json, size_t n_failed);

/* Reads --goodput. CLI_PROCEED or CLI_USAGE. */
int cli_bench_goodput(double limits[TT_N_SERVING_METRICS], const char *text);
/* Runs it, unsteered and, where the lab has steering, steered, and prints what was measured. */
int cli_bench_serve(const struct tt_token_lab *lab, const struct cli_bench_serving *serving);

/* The head of the table goes before the first row, and what ends it after the last. CLI_OK or CLI_FAILED. */
int cli_bench_print(struct cli_bench_report *report, const struct cli_bench_row *row);
void cli_bench_print_end(const struct cli_bench_report *report);

#endif
