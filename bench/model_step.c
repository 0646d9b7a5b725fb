/* trimtab-model-step: what a step costs on GPUs that share a model, one that decodes or one that runs a prompt,
 * reckoned from its shapes, beside what gpu-check measured of it. */
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fail.h"
#include "bench/harness/step_cost.h"
#include "weights/dummy.h"

enum { MOST_PROMPT = 1 << 16 }; /* tokens */

static const char usage[] =
	"Usage: trimtab-model-step --model NAME [--tp N] [--batch N|--prompt N] [--context N] [--kv bf16|fp8]\n"
	"                          [--weights TYPE] [--gpu NAME] [--measured FILE]\n"
	"What a step costs on each of N GPUs that share a model: bytes, operations, blocks, what they pass on.\n"
	"Reckoned from shapes, the kernels that are chosen for them, and datasheets; a ceiling, not a measurement.\n\n"
	"  --model NAME     llama-3.1-70b, llama-3.1-8b, llama-3.2-1b, smollm2-135m\n"
	"  --tp N           ranks (1)\n"
	"  --batch N        sequences that decode (1)\n"
	"  --prompt N       tokens of one prompt that run in the step, instead\n"
	"  --context N      positions of each (1024); of a prompt with these tokens, which are its last (N)\n"
	"  --kv TYPE        what the pages of keys and values hold: bf16 or fp8 (bf16)\n"
	"  --weights TYPE   bf16, or what a GPU keeps as a file has it: q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, "
	"q6_k,\n"
	"                   iq4_nl of a GGUF, f8_e4m3 of a Hugging Face directory (bf16)\n"
	"  --gpu NAME       a100, h100, h200, b200 or rtx4090 (h200)\n"
	"  --measured FILE  the JSON file of gpu-check, whose times of these kernels are then shown beside (context "
	"512;\n"
	"                   prompts from their start)\n";

struct arguments {
	const char *model, *measured;
	struct tt_step_case of;
	uint32_t n_ranks;
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

static bool read_weights(const char *text, enum tt_type *out)
{
#define TYPE(name, block, bytes)                                                                                       \
	if (!strcasecmp(text, #name)) {                                                                                \
		*out = TT_TYPE_##name;                                                                                 \
		return true;                                                                                           \
	}
	TT_TYPES(TYPE)
#undef TYPE
	return false;
}

static bool read_one(struct arguments *a, int c)
{
	switch (c) {
	case 'm':
		a->model = optarg;
		return true;
	case 'f':
		a->measured = optarg;
		return true;
	case 'g':
		return (a->of.gpu = tt_gpu_kind_find(optarg)) != NULL;
	case 'k':
		return read_kv(optarg, &a->of.kv);
	case 'w':
		return read_weights(optarg, &a->of.weights);
	case 't':
		return read_number(optarg, &a->n_ranks);
	case 'b':
		return read_number(optarg, &a->of.n_rows);
	case 'p':
		a->of.is_prompt = true;
		return read_number(optarg, &a->of.n_rows);
	case 'c':
		return read_number(optarg, &a->of.n_context);
	default:
		return false;
	}
}

/* False where an argument is none of those, or its value not one of its. */
static bool parse(struct arguments *a, int argc, char **argv)
{
	static const struct option options[] = {{"model", required_argument, NULL, 'm'},
		{"tp", required_argument, NULL, 't'}, {"batch", required_argument, NULL, 'b'},
		{"prompt", required_argument, NULL, 'p'}, {"context", required_argument, NULL, 'c'},
		{"kv", required_argument, NULL, 'k'}, {"weights", required_argument, NULL, 'w'},
		{"gpu", required_argument, NULL, 'g'}, {"measured", required_argument, NULL, 'f'}, {0}};
	bool good = true;
	for (int c; good && (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
		good = read_one(a, c);
	if (!a->of.n_context)
		a->of.n_context = a->of.is_prompt ? a->of.n_rows : 1024;
	return good && a->model && optind == argc && (!a->of.is_prompt || a->of.n_rows <= MOST_PROMPT);
}

/* Seconds of a call of one case of gpu-check's report, by the median; NAN where it has none. name2: another name of the
 * same case. */
static double measured_call(
	const json_t *report, const char *key, const char *group, const char *name, const char *name2)
{
	size_t i, k;
	const json_t *one, *work;
	json_array_foreach(json_object_get(json_object_get(report, key), "cases"), i, one)
	{
		const char *of = json_string_value(json_object_get(one, "group"));
		const char *is = json_string_value(json_object_get(one, "name"));
		if (!of || !is || strcmp(of, group) || (strcmp(is, name) && strcmp(is, name2)))
			continue;
		json_array_foreach(json_object_get(one, "work"), k, work)
		{
			const char *unit = json_string_value(json_object_get(work, "unit"));
			double rate = json_number_value(json_object_get(json_object_get(work, "per_second"), "median"));
			if (unit && (!strcmp(unit, "calls") || !strcmp(unit, "tokens")) && rate > 0)
				return 1 / rate;
		}
	}
	return NAN;
}

/* gpu-check has none of a prompt's later tokens. */
static bool begins_late(const struct arguments *a)
{
	return a->of.is_prompt && a->of.n_context > a->of.n_rows;
}

/* An op's, which gpu-check times with weights of bf16 and one rank alone. */
static double measured_op(const json_t *report, const struct arguments *a, const char *op)
{
	char group[96];
	if (!report || a->n_ranks > 1 || a->of.weights != TT_TYPE_BF16 || begins_late(a))
		return NAN;
	snprintf(
		group, sizeof group, "%s %s %s %u", a->model, a->of.is_prompt ? "prefill" : "decode", op, a->of.n_rows);
	return measured_call(report, "kernels", group, "kernel", "unsteered");
}

/* A whole step's, or of quantised weights all of its products. */
static double measured_step(const json_t *report, const struct arguments *a)
{
	char group[96], type[16] = "";
	if (!report || a->n_ranks > 1 || begins_late(a) || (a->of.is_prompt && a->of.weights != TT_TYPE_BF16))
		return NAN;
	if (a->of.weights == TT_TYPE_BF16) {
		snprintf(group, sizeof group, a->of.is_prompt ? "%s prefill %u" : "%s decode batch %u", a->model,
			a->of.n_rows);
		return a->of.n_rows * measured_call(report, "decode", group, "unsteered", "unsteered");
	}
	snprintf(type, sizeof type, "%s", tt_type_name(a->of.weights));
	snprintf(group, sizeof group, "%s products %s %u", a->model, type, a->of.n_rows);
	return measured_call(report, "quants", group, type, type);
}

static void print_measured(double measured, double reckoned)
{
	if (!isnan(measured))
		printf(" %9.1f %+7.0f%%", measured * 1e6, 100 * (measured / reckoned - 1));
	printf("\n");
}

static void print(const struct arguments *a, const struct tt_step_cost *cost, const json_t *report)
{
	double all = cost->weights + cost->kv + cost->exchange + cost->rest;
	printf("%s, rank 0 of %u on %s, %s %u, context %u, weights %s, KV %s; reckoned, not measured\n\n", a->model,
		a->n_ranks, a->of.gpu->name, a->of.is_prompt ? "prompt" : "batch", a->of.n_rows, a->of.n_context,
		tt_type_name(a->of.weights), a->of.kv == TT_KV_FP8 ? "fp8" : "bf16");
	printf("%-10s %5s %11s %10s %9s %9s %12s %-15s %7s %6s %9s%s\n", "op", "times", "weights MB", "L2 MB", "KV MB",
		"GFLOP", "received KB", "kernel", "blocks", "waves", "us", report ? "  measured" : "");
	for (int i = 0; i < TT_N_STEP_OPS; i++) {
		const struct tt_op_cost *op = &cost->ops[i];
		printf("%-10s %5u %11.3f %10.3f %9.3f %9.3f %12.3f %-15s %7u %6.2f %9.1f", tt_step_op_names[i],
			op->n_times, op->weight_bytes / 1e6, op->l2_bytes / 1e6, op->kv_bytes / 1e6, op->flops / 1e9,
			op->received / 1e3, op->kernel, op->n_blocks, op->waves, op->seconds * 1e6);
		print_measured(measured_op(report, a, tt_step_op_names[i]), op->seconds);
	}
	printf("\nweights %.3f ms (%.0f%%), KV %.3f (%.0f%%), exchange %.3f (%.0f%%), rest %.3f (%.0f%%)\n",
		cost->weights * 1e3, 100 * cost->weights / all, cost->kv * 1e3, 100 * cost->kv / all,
		cost->exchange * 1e3, 100 * cost->exchange / all, cost->rest * 1e3, 100 * cost->rest / all);
	printf("a step %.3f ms, %.0f tokens/s\n", all * 1e3, a->of.n_rows / all);
	double measured = measured_step(report, a), of = a->of.weights == TT_TYPE_BF16 ? all : cost->products;
	if (!isnan(measured))
		printf("measured: %s %.3f ms, %+.0f%%\n", a->of.weights == TT_TYPE_BF16 ? "a step" : "its products",
			measured * 1e3, 100 * (measured / of - 1));
}

static int reckon(const struct arguments *a, const struct tt_model *model, struct tt_error *err)
{
	struct tt_shard shard;
	struct tt_model *part = NULL;
	struct tt_step_cost cost;
	json_error_t where;
	json_t *report = a->measured ? json_load_file(a->measured, 0, &where) : NULL;
	if (a->measured && !report)
		return tt_fail(err, TT_ERR_FORMAT, "%s: %s", a->measured, where.text);
	int status = tt_shard_open(&shard, &model->config, 0, a->n_ranks, err);
	if (status == TT_OK)
		status = tt_shard_model_open(&part, model, &shard, err);
	if (status == TT_OK)
		status = tt_step_cost_of(&cost, part, &shard, &a->of, err);
	if (status == TT_OK)
		print(a, &cost, report);
	tt_shard_model_close(part);
	json_decref(report);
	return status;
}

int main(int argc, char **argv)
{
	struct arguments a = {.of = {1, 0, TT_KV_BF16, TT_TYPE_BF16, tt_gpu_kind_find("h200"), false}, .n_ranks = 1};
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
