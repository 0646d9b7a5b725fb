/* trimtab-batched: measures this engine as llama.cpp's llama-batched-bench measures its own: B sequences of random
 * tokens, each with a prompt of its own, prefilled and then decoded together. Prints one line of JSON with the peer's
 * keys. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/memory.h"
#include "bench/harness/ceilings.h"
#include "bench/harness/engine_cases.h"
#include "bench/harness/harness.h"
#include "runtime/trimtab.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, TOKEN_SEED = 5, MAX_ROWS = 1024, MAX_TOKENS = 1 << 16 };

struct arguments {
	const char *model;
	unsigned n_prompt, n_generate, n_rows, n_threads;
	const char *compute, *kv;
};

struct run {
	struct arguments arguments;
	struct tt_engine *engine;
	struct tt_request *requests[MAX_ROWS];
	int32_t *ids; // [n_prompt]
	double prefill_seconds, decode_seconds;
};

static const char usage[] = "usage: trimtab-batched --model MODEL [--npp 128] [--ntg 128] [--npl 32] [--threads N] "
			    "[--kv f32|f16|q8|fp8] [--compute f32|q8]\n";

static const struct {
	const char *word;
	enum tt_kv_type type;
} kv_types[] = {{"f32", TT_KV_F32}, {"f16", TT_KV_F16}, {"q8", TT_KV_Q8}, {"fp8", TT_KV_FP8}};

static enum tt_kv_type kv_type_of(const char *word)
{
	for (size_t i = 0; i < sizeof kv_types / sizeof *kv_types; i++)
		if (!strcmp(kv_types[i].word, word))
			return kv_types[i].type;
	return TT_KV_DEFAULT;
}

static bool parse_count(const char *text, unsigned max, unsigned *out)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);
	*out = (unsigned)value;
	return *text >= '0' && *text <= '9' && !*end && value >= 1 && value <= max;
}

static int parse(struct arguments *a, int argc, char **argv)
{
	static const struct option options[] = {{"model", required_argument, NULL, 'm'},
		{"npp", required_argument, NULL, 'p'}, {"ntg", required_argument, NULL, 'g'},
		{"npl", required_argument, NULL, 'l'}, {"threads", required_argument, NULL, 't'},
		{"kv", required_argument, NULL, 'k'}, {"compute", required_argument, NULL, 'c'}, {NULL, 0, NULL, 0}};
	int c;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		bool fits = c == 'm' || (c == 'k' && kv_type_of(optarg) != TT_KV_DEFAULT) ||
			    (c == 'c' && (!strcmp(optarg, "f32") || !strcmp(optarg, "q8"))) ||
			    (c == 'p' && parse_count(optarg, MAX_TOKENS, &a->n_prompt)) ||
			    (c == 'g' && parse_count(optarg, MAX_TOKENS, &a->n_generate)) ||
			    (c == 'l' && parse_count(optarg, MAX_ROWS, &a->n_rows)) ||
			    (c == 't' && parse_count(optarg, 1024, &a->n_threads));
		if (!fits)
			return EXIT_USAGE;
		if (c == 'm')
			a->model = optarg;
		if (c == 'k')
			a->kv = optarg;
		if (c == 'c')
			a->compute = optarg;
	}
	return a->model && optind == argc && a->n_generate > 1 ? EXIT_OK : EXIT_USAGE;
}

/* As the peer does: a prompt of 16 tokens, which makes the model's file and some of the other memory resident. */
static int warm_up(struct run *run, struct tt_error *err)
{
	int32_t ids[16] = {0};
	struct tt_request_options options;
	struct tt_request *request;
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = run->arguments.n_prompt < 16 ? run->arguments.n_prompt : 16;
	options.max_tokens = 1;
	options.ignore_eos = true;
	TT_TRY(tt_request_submit(&request, run->engine, &options, err));
	int status = tt_request_wait(request, err);
	tt_request_free(request);
	return status;
}

static int submit(struct run *run, struct tt_error *err)
{
	const struct arguments *a = &run->arguments;
	uint32_t vocab = tt_engine_info(run->engine)->vocab_size;
	uint64_t seed = TOKEN_SEED;
	TT_TRY(tt_alloc(&run->ids, a->n_prompt, sizeof *run->ids, err));
	for (unsigned i = 0; i < a->n_rows; i++) {
		struct tt_request_options options;
		tt_request_options_default(&options);
		for (unsigned k = 0; k < a->n_prompt; k++)
			run->ids[k] = (int32_t)(tt_bench_draw(&seed) % vocab);
		options.ids = run->ids;
		options.n_ids = a->n_prompt;
		options.max_tokens = a->n_generate + 1; /* the first token comes with the prompt */
		options.ignore_eos = true;
		TT_TRY(tt_request_submit(&run->requests[i], run->engine, &options, err));
	}
	return TT_OK;
}

/* Steps until every row has generated n tokens. Returns the tokens generated so far. */
static int step_until(struct run *run, size_t n, size_t *generated, struct tt_error *err)
{
	for (;;) {
		size_t least = n;
		*generated = 0;
		for (unsigned i = 0; i < run->arguments.n_rows; i++) {
			size_t has = tt_request_n_generated(run->requests[i]);
			*generated += has;
			least = has < least ? has : least;
		}
		if (least >= n)
			return TT_OK;
		TT_TRY(tt_engine_step(run->engine, err));
	}
}

/* Multiply-adds of the products for one token; with_logits: for a token that is sampled. */
static double mul_adds(const struct tt_engine *engine, bool with_logits)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	return tt_lab_block_macs(info) + (with_logits ? tt_lab_output_macs(info) : 0);
}

static int peak(const struct run *run, double *mul_adds_a_second, struct tt_error *err)
{
	struct tt_ceilings *ceilings;
	TT_TRY(tt_ceilings_open(&ceilings, tt_engine_info(run->engine)->n_threads, 1 << 20, err));
	*mul_adds_a_second = tt_ceilings_mul_adds(ceilings);
	tt_ceilings_close(ceilings);
	return TT_OK;
}

/* Rows that were prefilled first decode while the others are prefilled. The time of those tokens counts as prefill, and
 * the tokens count nowhere, so that decoding is timed with all rows. */
static int measure(struct run *run, struct tt_error *err)
{
	const struct arguments *a = &run->arguments;
	struct tt_engine_options options;
	size_t first, last;
	tt_engine_options_default(&options);
	options.n_threads = a->n_threads;
	options.max_batch = a->n_rows;
	options.context = a->n_prompt + a->n_generate + 1;
	options.kv_tokens = a->n_rows * (options.context + 16);
	options.kv = kv_type_of(a->kv);
	options.compute = !strcmp(a->compute, "q8") ? TT_COMPUTE_Q8 : TT_COMPUTE_F32;
	TT_TRY(tt_engine_open(&run->engine, a->model, &options, err));
	TT_TRY(warm_up(run, err));
	TT_TRY(submit(run, err));
	double begun = tt_now();
	TT_TRY(step_until(run, 1, &first, err));
	double prefilled = tt_now();
	/* Until the row that is furthest ahead would end, so that all rows take part in every step that is timed. */
	size_t furthest = 0;
	for (unsigned i = 0; i < a->n_rows; i++) {
		size_t has = tt_request_n_generated(run->requests[i]);
		furthest = has > furthest ? has : furthest;
	}
	TT_TRY(step_until(run, a->n_generate + 1 - furthest, &last, err));
	double decoded = tt_now();
	double prompt = (double)a->n_prompt * a->n_rows, tokens = (double)(last - first);
	double most, prefill = prompt / (prefilled - begun), decode = tokens / (decoded - prefilled);
	TT_TRY(peak(run, &most, err));
	printf("{\"n_threads\":%u,\"kv\":\"%s\",\"compute\":\"%s\",\"pp\":%u,\"tg\":%u,\"pl\":%u,\"t_pp\":%.6f,\"speed_"
	       "pp\":%.3f,"
	       "\"share_speed_pp\":%.4f,\"t_tg\":%.6f,\"speed_tg\":%.3f,\"share_speed_tg\":%.4f}\n",
		tt_engine_info(run->engine)->n_threads, a->kv, a->compute, a->n_prompt, a->n_generate, a->n_rows,
		prefilled - begun, prefill, prefill * mul_adds(run->engine, false) / most, decoded - prefilled, decode,
		decode * mul_adds(run->engine, true) / most);
	return TT_OK;
}

int main(int argc, char **argv)
{
	struct run run = {
		.arguments = {.n_prompt = 128, .n_generate = 128, .n_rows = 32, .compute = "f32", .kv = "f32"}};
	struct tt_error err = {0};
	if (parse(&run.arguments, argc, argv) != EXIT_OK) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	int status = measure(&run, &err);
	if (status != TT_OK)
		fprintf(stderr, "trimtab-batched: %s\n", err.message);
	for (unsigned i = 0; i < run.arguments.n_rows; i++)
		tt_request_free(run.requests[i]);
	free(run.ids);
	tt_engine_close(run.engine);
	return status == TT_OK ? EXIT_OK : EXIT_FAILED;
}
