/* trimtab bench --report: all tests of a run in one report, as bench/schema.json describes it. */
#include "base/fail.h"
#include "base/json.h"
#include "bench.h"
#include "bench/harness/harness.h"

void cli_bench_file_command(const struct cli_bench_file *file, struct tt_bench_options *options)
{
	options->program = "trimtab bench";
	options->arguments = (const char *const *)file->arguments;
	options->n_arguments = (size_t)file->n_arguments;
}

static int describe(const struct cli_bench_file *file, struct tt_bench *bench, const struct tt_model_info *info,
	struct tt_error *err)
{
	json_t *model = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "name", info->name, "architecture",
		info->architecture, "backend", info->backend, "weights_digest", info->weights_digest, "n_parameters",
		(json_int_t)info->n_parameters, "n_weight_bytes", (json_int_t)info->n_weight_bytes);
	TT_TRY(tt_bench_subject(bench, "model", model, err));
	TT_TRY(tt_bench_subject(bench, "kv", json_string(file->kv), err));
	return tt_bench_subject(bench, "compute", json_string(file->compute), err);
}

int cli_bench_file_add(struct cli_bench_file *file, struct tt_bench *bench, const struct tt_engine *engine)
{
	struct tt_error err = {0};
	json_t *report = NULL;
	if (!file->path)
		return CLI_PROCEED;
	int status = describe(file, bench, tt_engine_info(engine), &err);
	if (status == TT_OK)
		status = tt_bench_json(bench, &report, &err);
	if (status != TT_OK)
		return cli_fail(&err);
	if (!file->report) {
		file->report = report;
		return CLI_PROCEED;
	}
	int failed = json_array_extend(json_object_get(file->report, "cases"), json_object_get(report, "cases"));
	json_decref(report);
	return failed ? cli_failf("out of memory") : CLI_PROCEED;
}

int cli_bench_file_write(struct cli_bench_file *file)
{
	struct tt_error err = {0};
	int status = TT_OK;
	if (file->report)
		status = tt_bench_write_report(file->report, file->path, &err);
	json_decref(file->report);
	file->report = NULL;
	return status == TT_OK ? CLI_PROCEED : cli_fail(&err);
}
