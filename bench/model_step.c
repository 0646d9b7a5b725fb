/* trimtab-model-step: what a decoding step costs on GPUs that share a model, reckoned from its shapes. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "bench/harness/step_cost.h"
#include "weights/dummy.h"

static const char usage[] =
	"Usage: trimtab-model-step --model NAME [--tp N] [--batch N] [--context N] [--kv bf16|fp8] [--gpu "
	"h100|h200|b200]\n"
	"What a decoding step costs on each of N GPUs that share a model: bytes, operations, what they pass on.\n"
	"Reckoned from shapes and datasheets; a ceiling, and nothing is measured.\n\n"
	"  --model NAME   llama-3.1-70b, llama-3.1-8b, llama-3.2-1b, smollm2-135m\n"
	"  --tp N         ranks (1)\n"
	"  --batch N      sequences that decode (1)\n"
	"  --context N    positions of each (1024)\n"
	"  --kv TYPE      what the pages of keys and values hold: bf16 or fp8 (bf16)\n"
	"  --gpu NAME     h100, h200 or b200 (h200)\n";

struct arguments {
	const char *model;
	const struct tt_gpu *gpu;
	enum tt_kv_type kv;
	uint32_t n_ranks, n_rows, n_context;
};

static bool read_number(const char *text, uint32_t *out)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);
	*out = (uint32_t)n;
	return *text >= '1' && *text <= '9' && !*end && n <= 1 << 24;
}

static bool read_kv(const char *text, enum tt_kv_type *out)
{
	*out = !strcmp(text, "fp8") ? TT_KV_FP8 : TT_KV_BF16;
	return *out == TT_KV_FP8 || !strcmp(text, "bf16");
}

/* False where an argument is none of those, or its value not one of its. */
static bool parse(struct arguments *a, int argc, char **argv)
{
	static const struct option options[] = {{"model", required_argument, NULL, 'm'},
		{"tp", required_argument, NULL, 't'}, {"batch", required_argument, NULL, 'b'},
		{"context", required_argument, NULL, 'c'}, {"kv", required_argument, NULL, 'k'},
		{"gpu", required_argument, NULL, 'g'}, {0}};
	bool good = true;
	for (int c; good && (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 'm')
			a->model = optarg;
		else if (c == 'g')
			good = (a->gpu = tt_gpu_find(optarg)) != NULL;
		else if (c == 'k')
			good = read_kv(optarg, &a->kv);
		else
			good = c != '?' && read_number(optarg, c == 't'   ? &a->n_ranks
							       : c == 'b' ? &a->n_rows
									  : &a->n_context);
	}
	return good && a->model && optind == argc;
}

static void print(const struct arguments *a, const struct tt_step_cost *cost)
{
	double all = cost->weights + cost->kv + cost->exchange + cost->rest;
	printf("%s, rank 0 of %u on %s, batch %u, context %u, KV %s; reckoned, not measured\n\n", a->model, a->n_ranks,
		a->gpu->name, a->n_rows, a->n_context, a->kv == TT_KV_FP8 ? "fp8" : "bf16");
	printf("%-10s %5s %12s %12s %12s %14s\n", "op", "times", "weights MB", "KV MB", "GFLOP", "received KB");
	for (int i = 0; i < TT_N_STEP_OPS; i++)
		printf("%-10s %5u %12.3f %12.3f %12.3f %14.3f\n", tt_step_op_names[i], cost->ops[i].n_times,
			cost->ops[i].weight_bytes / 1e6, cost->ops[i].kv_bytes / 1e6, cost->ops[i].flops / 1e9,
			cost->ops[i].received / 1e3);
	printf("\nweights %.3f ms (%.0f%%), KV %.3f (%.0f%%), exchange %.3f (%.0f%%), rest %.3f (%.0f%%)\n",
		cost->weights * 1e3, 100 * cost->weights / all, cost->kv * 1e3, 100 * cost->kv / all,
		cost->exchange * 1e3, 100 * cost->exchange / all, cost->rest * 1e3, 100 * cost->rest / all);
	printf("a step %.3f ms, %.0f tokens/s\n", all * 1e3, a->n_rows / all);
}

static int reckon(const struct arguments *a, const struct tt_model *model, struct tt_error *err)
{
	struct tt_shard shard;
	struct tt_model *part = NULL;
	TT_TRY(tt_shard_open(&shard, &model->config, 0, a->n_ranks, err));
	TT_TRY(tt_shard_model_open(&part, model, &shard, err));
	const struct tt_step_cost cost = tt_step_cost(part, &shard, a->n_rows, a->n_context, a->kv, a->gpu);
	print(a, &cost);
	tt_shard_model_close(part);
	return TT_OK;
}

int main(int argc, char **argv)
{
	struct arguments a = {
		.gpu = tt_gpu_find("h200"), .kv = TT_KV_BF16, .n_ranks = 1, .n_rows = 1, .n_context = 1024};
	struct tt_model *model = NULL;
	struct tt_error err = {0};
	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(usage, stdout);
		return 0;
	}
	if (!parse(&a, argc, argv)) {
		fputs(usage, stderr);
		return 2;
	}
	char dummy[64];
	snprintf(dummy, sizeof dummy, TT_DUMMY_PREFIX "%s", a.model);
	int status = tt_model_open(&model, dummy, &err);
	if (status == TT_OK)
		status = reckon(&a, model, &err);
	if (status != TT_OK)
		fprintf(stderr, "trimtab-model-step: %s\n", err.message);
	tt_model_close(model);
	return status != TT_OK;
}
