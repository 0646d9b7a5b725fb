#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "bench/gpu/gpu.h"

bool tt_gpu_group_runs(struct tt_gpu_groups *groups, const char *group)
{
	if (groups->after) {
		if (!strcmp(groups->after, group))
			groups->after = NULL;
		return false;
	}
	if (tt_now() <= groups->until)
		return true;
	groups->n_left_out++;
	printf("left out %s\n", group);
	return false;
}

/* In one piece, since others write to the same place. */
static int print_line(const struct tt_bench *bench, struct tt_error *err)
{
	json_t *report = NULL;
	TT_TRY(tt_bench_json(bench, &report, err));
	char *line = json_dumps(report, JSON_COMPACT | JSON_REAL_PRECISION(9));
	json_decref(report);
	if (!line)
		return tt_fail(err, TT_ERR_MEMORY, "a report could not be made");
	fflush(stdout);
	printf("%s\n", line);
	fflush(stdout);
	free(line);
	return TT_OK;
}

static int run(struct tt_bench *bench, const char *group, tt_gpu_fill *fill, void *context, struct tt_error *err)
{
	json_t *machine = NULL;
	TT_TRY(tt_gpu_machine(&machine, err));
	TT_TRY(tt_bench_subject(bench, "gpu", machine, err));
	int status = fill(context, bench, group, err);
	if (status == TT_OK)
		status = tt_bench_run(bench, err);
	struct tt_error later = {0};
	if (tt_bench_n_cases(bench) && (tt_bench_print(bench, stdout, &later) || print_line(bench, &later)))
		printf("%s\n", later.message);
	if (status == TT_OK && tt_bench_n_failed(bench))
		status = tt_fail(err, TT_ERR_LIMIT, "%zu cases failed", tt_bench_n_failed(bench));
	return status;
}

int tt_gpu_group(
	struct tt_gpu_groups *groups, const char *group, tt_gpu_fill *fill, void *context, struct tt_error *err)
{
	struct tt_bench *bench = NULL;
	struct tt_error own = {0};
	if (!tt_gpu_group_runs(groups, group))
		return TT_OK;
	printf("begin %s\n", group);
	fflush(stdout);
	int status = tt_bench_open(&bench, &groups->options, &own);
	if (status == TT_OK)
		status = run(bench, group, fill, context, &own);
	tt_bench_close(bench);
	if (status != TT_OK) {
		groups->n_failed++;
		printf("FAIL %s: %s\n", group, own.message);
		fflush(stdout);
	}
	return tt_gpu_check(err);
}
