/* The report as a table for a terminal. */
#include "bench/harness/harness_internal.h"

#include <math.h>
#include <string.h>

#include "base/fail.h"

enum { CELL = 48 };

/* An idle machine with a shell has a lower load average. */
#define BUSY 0.5

/* A time in the unit that leaves one to three digits before the point. */
static void format_seconds(char out[CELL], double seconds)
{
	static const struct {
		double unit;
		const char *name;
	} units[] = {{1, "s"}, {1e-3, "ms"}, {1e-6, "us"}, {1e-9, "ns"}};
	size_t i = 0;
	while (i < 3 && seconds < units[i].unit)
		i++;
	snprintf(out, CELL, "%.4g %s", seconds / units[i].unit, units[i].name);
}

static void format_rate(char out[CELL], const char *unit, double rate)
{
	if (!strcmp(unit, "bytes"))
		snprintf(out, CELL, "%.1f GB/s", rate / 1e9);
	else if (!strcmp(unit, "flops"))
		snprintf(out, CELL, "%.1f GFLOP/s", rate / 1e9);
	else
		snprintf(out, CELL, rate < 100 ? "%.2f %.30s/s" : "%.1f %.30s/s", rate, unit);
}

/* Median and interval as percentages around the previous column: how far to trust it. */
static void format_spread(char out[CELL], const struct tt_bench_summary *s)
{
	snprintf(out, CELL, "%+.1f%% %+.1f%%", 100 * (s->low / s->median - 1), 100 * (s->high / s->median - 1));
}

static void print_ratio(FILE *file, const struct tt_bench_result *r)
{
	const struct tt_bench_summary *s = &r->ratio;
	if (s->n == 0)
		return;
	fprintf(file, "  %-24s %.4f times the time of %s, %.4f to %.4f (%zu rounds, %.1f%%)\n", "", s->median,
		r->spec->baseline, s->low, s->high, s->n, 100 * s->coverage);
}

static void print_work(FILE *file, const struct tt_bench_result *r)
{
	for (uint32_t w = 0; w < TT_BENCH_MAX_WORK && r->spec->work[w].unit; w++) {
		char rate[CELL], share[2 * CELL] = "";
		format_rate(rate, r->spec->work[w].unit, r->rates[w].median);
		if (r->shares[w].n)
			snprintf(share, sizeof share, ", %.1f%% of %.40s", 100 * r->shares[w].median,
				r->spec->work[w].ceiling);
		fprintf(file, "%s%s%s", w ? "; " : "", rate, share);
	}
	fputc('\n', file);
}

static void print_case(FILE *file, const struct tt_bench_result *r)
{
	char seconds[CELL], spread[CELL];
	fprintf(file, "  %-24s ", r->spec->name);
	if (r->error) {
		fprintf(file, "FAILED in round %zu: %s\n", r->n_samples, r->error);
		return;
	}
	if (r->n_samples == 0) {
		fputs("has not run\n", file);
		return;
	}
	format_seconds(seconds, r->seconds.median);
	format_spread(spread, &r->seconds);
	fprintf(file, "%10s  %-15s %5zu  ", seconds, spread, r->n_samples);
	print_work(file, r);
	print_ratio(file, r);
}

static int print_group(const struct tt_bench *bench, size_t first, FILE *file, struct tt_error *err)
{
	const char *group = bench->entries[first].spec.group;
	fprintf(file, "\n%s\n  %-24s %10s  %-15s %5s  %s\n", group, "case", "median", "interval", "n", "rate");
	for (size_t i = first; i < bench->n_entries; i++) {
		struct tt_bench_result result;
		if (strcmp(bench->entries[i].spec.group, group))
			continue;
		TT_TRY(tt_bench_result(bench, i, &result, err));
		print_case(file, &result);
	}
	return TT_OK;
}

static bool first_of_group(const struct tt_bench *bench, size_t index)
{
	for (size_t i = 0; i < index; i++)
		if (!strcmp(bench->entries[i].spec.group, bench->entries[index].spec.group))
			return false;
	return true;
}

int tt_bench_print(const struct tt_bench *bench, FILE *file, struct tt_error *err)
{
	const json_t *machine = bench->machine;
	fprintf(file, "%s at commit %s, %s\n", bench->options.program, tt_bench_commit(), bench->date);
	fprintf(file, "%s, %lld cores, %u threads used, %s, %s\n", json_string_value(json_object_get(machine, "cpu")),
		(long long)json_integer_value(json_object_get(machine, "cores")), bench->options.n_threads,
		json_string_value(json_object_get(machine, "kernel")),
		json_string_value(json_object_get(machine, "compiler")));
	double load = json_number_value(json_object_get(machine, "load_average"));
	if (load > BUSY)
		fprintf(file, "The load average was %.1f before this began: something else was using the machine.\n",
			load);
	for (size_t i = 0; i < bench->n_entries; i++)
		if (first_of_group(bench, i))
			TT_TRY(print_group(bench, i, file, err));
	return ferror(file) ? tt_fail(err, TT_ERR_IO, "the table cannot be written") : TT_OK;
}
