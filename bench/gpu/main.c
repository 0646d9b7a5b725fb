/* gpu-bench: times for gpu-check. --machine describes the device. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "bench/gpu/gpu.h"

enum { MAX_MODELS = 8 };

struct settings {
	bool machine, kernels, models, tiny;
	const char *json;
	const char *names[MAX_MODELS];
	size_t n_names;
	double seconds; /* after which no group of models is begun */
	uint32_t rounds;
};

static int usage(void)
{
	fprintf(stderr, "usage: gpu-bench --machine | --kernels | --decode [--tiny] [--model NAME]... [--rounds N]\n"
			"                 [--seconds N] [--json FILE]\n");
	return 2;
}

static bool read_arguments(int argc, char **argv, struct settings *s)
{
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;
		if (!strcmp(argv[i], "--machine"))
			s->machine = true;
		else if (!strcmp(argv[i], "--kernels"))
			s->kernels = true;
		else if (!strcmp(argv[i], "--decode"))
			s->models = true;
		else if (!strcmp(argv[i], "--tiny"))
			s->tiny = true;
		else if (!strcmp(argv[i], "--json") && value)
			s->json = argv[++i];
		else if (!strcmp(argv[i], "--rounds") && value && atoi(value) > 0)
			s->rounds = (uint32_t)atoi(argv[++i]);
		else if (!strcmp(argv[i], "--seconds") && value && atof(value) > 0)
			s->seconds = atof(argv[++i]);
		else if (!strcmp(argv[i], "--model") && value && s->n_names < MAX_MODELS)
			s->names[s->n_names++] = argv[++i];
		else
			return false;
	}
	return s->machine + s->kernels + s->models == 1;
}

static int print_machine(struct tt_error *err)
{
	json_t *machine = NULL;
	TT_TRY(tt_gpu_machine(&machine, err));
	json_dumpf(machine, stdout, JSON_INDENT(1));
	printf("\n");
	json_decref(machine);
	return TT_OK;
}

/* Models one after the other, because all at once may not fit: each runs its groups before the next takes memory. */
static int time_kernels(const struct settings *s, struct tt_bench *bench, struct tt_error *err)
{
	struct tt_gpu *gpu = NULL;
	uint32_t n_wrong = 0;
	int status = tt_gpu_open(&gpu, s->tiny, err);
	for (size_t i = 0; i < s->n_names && status == TT_OK; i++) {
		struct tt_kernel_bench *kernels = NULL;
		status = tt_kernel_bench_add(&kernels, gpu, bench, s->names[i], s->tiny, err);
		if (status == TT_OK)
			status = tt_bench_run(bench, err);
		if (kernels)
			n_wrong += tt_kernel_bench_n_wrong(kernels);
		tt_kernel_bench_close(kernels);
	}
	tt_gpu_close(gpu);
	if (status == TT_OK && n_wrong)
		status = tt_fail(err, TT_ERR_MISMATCH, "%u outputs are wrong", n_wrong);
	return status;
}

static int time_models(const struct settings *s, struct tt_bench *bench, struct tt_error *err)
{
	double until = tt_now() + s->seconds;
	uint32_t n_left_out = 0;
	int status = TT_OK;
	for (size_t i = 0; i < s->n_names && status == TT_OK; i++)
		status = tt_model_bench_run(bench, s->names[i], s->tiny, until, &n_left_out, err);
	TT_TRY(status);
	return tt_bench_subject(bench, "groups_left_out", json_integer(n_left_out), err);
}

static int time_all(const struct settings *s, int argc, char **argv, struct tt_error *err)
{
	struct tt_bench *bench = NULL;
	struct tt_bench_options options;
	json_t *machine = NULL;
	tt_bench_options_default(&options);
	options.program = "gpu-bench";
	options.arguments = (const char *const *)argv;
	options.n_arguments = (size_t)argc;
	options.n_threads = 1;
	options.n_warmup = 1;
	options.min_rounds = options.max_rounds = s->rounds;
	options.min_seconds = 0;
	options.min_sample_seconds = s->tiny ? 1e-6 : 1e-3;
	TT_TRY(tt_gpu_machine(&machine, err));
	int status = tt_bench_open(&bench, &options, err);
	if (status == TT_OK)
		status = tt_bench_subject(bench, "gpu", machine, err);
	else
		json_decref(machine);
	if (status == TT_OK)
		status = s->kernels ? time_kernels(s, bench, err) : time_models(s, bench, err);
	/* What was measured before something failed is worth keeping. */
	struct tt_error later;
	if (bench && tt_bench_n_cases(bench)) {
		int written = tt_bench_print(bench, stdout, &later);
		if (written == TT_OK && s->json)
			written = tt_bench_write_json(bench, s->json, &later);
		if (status == TT_OK && written != TT_OK)
			status = tt_fail(err, written, "%s", later.message);
		if (status == TT_OK && tt_bench_n_failed(bench))
			status = tt_fail(err, TT_ERR_DEVICE, "%zu cases failed", tt_bench_n_failed(bench));
	}
	tt_bench_close(bench);
	return status;
}

int main(int argc, char **argv)
{
	struct settings s = {.seconds = 1e6};
	struct tt_error err = {0};
	if (!read_arguments(argc, argv, &s))
		return usage();
	if (!s.n_names && s.tiny)
		s.names[s.n_names++] = "tiny";
	if (!s.n_names) {
		s.names[s.n_names++] = "smollm2-135m";
		s.names[s.n_names++] = "llama-3.2-1b";
		s.names[s.n_names++] = "llama-3.1-8b";
	}
	if (!s.rounds)
		s.rounds = s.tiny ? 2 : s.kernels ? 9 : 6; /* 6 still give an interval of 95% */
	int status = s.machine ? print_machine(&err) : time_all(&s, argc, argv, &err);
	if (status != TT_OK)
		fprintf(stderr, "gpu-bench: %s\n", err.message);
	return status != TT_OK;
}
