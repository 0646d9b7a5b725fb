/* trimtab capture: writes the output of every block to one safetensors file. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char about[] = "Runs a prompt and writes what it computed to a safetensors file: ids i32 [T], logits f32 "
			    "[T,V], hidden.<l> f32\n"
			    "[T,d] after every block (steered, before the final norm) and coef f32 [T,L]. The prompt "
			    "is one message of a chat\n"
			    "unless --raw or --ids is given.";

static const char examples[] =
	"  trimtab capture model.gguf -p 'Hello' -o hello.safetensors\n"
	"  trimtab capture model.gguf --ids 1,4093,198 --policy refuse.safetensors -o steered.safetensors";

/* Reads "1,2,3"; spaces are allowed. Returns CLI_PROCEED or CLI_USAGE. */
static int parse_ids(const char *text, int32_t **out, size_t *n_out)
{
	size_t n = 1;
	for (const char *p = text; *p; p++)
		n += *p == ',';
	int32_t *ids = cli_alloc(n, sizeof *ids);
	const char *p = text;
	for (size_t i = 0; i < n; i++) {
		char *end;
		errno = 0;
		while (*p == ' ')
			p++;
		long id = strtol(p, &end, 10);
		if (!isdigit((unsigned char)*p) || errno || id > INT32_MAX) {
			free(ids);
			return cli_usage_error(
				"capture", "--ids takes numbers with commas between them, not '%s'", text);
		}
		for (p = end; *p == ' ';)
			p++;
		if (*p != (i + 1 < n ? ',' : 0)) {
			free(ids);
			return cli_usage_error(
				"capture", "--ids takes numbers with commas between them, not '%s'", text);
		}
		p++;
		ids[i] = (int32_t)id;
	}
	*out = ids;
	*n_out = n;
	return CLI_PROCEED;
}

struct run {
	struct cli_engine_args engine_args;
	struct cli_list policy_list;
	struct cli_prompt_args prompt_args;
	const char *ids_text, *output;
	struct tt_engine *engine;
	struct cli_policies policies;
	char *prompt;
	int32_t *own_ids, *ids; /* own_ids: from --ids; ids: from the tokenizer */
	size_t n_ids, span[2];
	bool mean;
};

static int parse(struct run *run, int argc, char **argv, struct cli_list *positional)
{
	const struct cli_option options[] = {
		{"prompt", 'p', NULL, CLI_STRING, &run->prompt_args.text, "TEXT", 0, 0, "the prompt"},
		{"file", 'f', NULL, CLI_STRING, &run->prompt_args.file, "FILE", 0, 0,
			"read the prompt from a file; - for standard input"},
		{"ids", 0, NULL, CLI_STRING, &run->ids_text, "1,2,3", 0, 0, "token ids instead of a prompt"},
		{"output", 'o', NULL, CLI_STRING, &run->output, "F", 0, 0, "safetensors file to write (required)"},
		{"system", 0, NULL, CLI_STRING, &run->prompt_args.system, "TEXT", 0, 0,
			"system message, instead of the template's own"},
		{"raw", 0, NULL, CLI_FLAG, &run->prompt_args.raw, NULL, 0, 0, "no chat template"},
		{"no-special", 0, NULL, CLI_FLAG, &run->prompt_args.no_special, NULL, 0, 0,
			"with --raw: text that spells a special token stays text"},
		{"mean", 0, NULL, CLI_FLAG, &run->mean, NULL, 0, 0,
			"write the mean over the last user message's tokens, too"},
		CLI_POLICY_OPTION(run->policy_list),
		CLI_ENGINE_OPTIONS(run->engine_args),
		CLI_STRICT_OPTION(run->engine_args),
		CLI_LAYERS_OPTION(run->policies.layers),
	};
	const struct cli_usage usage = {"capture", "MODEL -p TEXT | --ids 1,2,3 -o F.safetensors [OPTION]...", about,
		examples, options, CLI_N_OPTIONS(options), 1, 1};
	int status = cli_parse(&usage, argc, argv, positional);
	if (status != CLI_PROCEED)
		return status;
	if (!run->output)
		return cli_usage_error("capture", "--output is missing");
	if (run->ids_text && (run->prompt_args.text || run->prompt_args.file))
		return cli_usage_error("capture", "--ids and a prompt exclude each other");
	return CLI_PROCEED;
}

static int check_files(const struct run *run, const char *model)
{
	struct cli_files files = {0};
	cli_reads(&files, model, "the model");
	cli_reads(&files, run->prompt_args.file, "the prompt");
	for (uint32_t i = 0; i < run->policies.n; i++)
		cli_reads(&files, run->policies.paths[i], "a policy");
	cli_writes(&files, run->output, "the output");
	return cli_check_files(&files, "capture");
}

static int capture(struct run *run, const char *model)
{
	struct tt_error err = {0};
	size_t n_prompt = 0;
	int status = cli_policies_parse(&run->policies, &run->policy_list, "capture");
	if (status == CLI_PROCEED)
		status = check_files(run, model);
	if (status == CLI_PROCEED && run->ids_text)
		status = parse_ids(run->ids_text, &run->own_ids, &run->n_ids);
	else if (status == CLI_PROCEED)
		status = cli_prompt_read(&run->prompt, &n_prompt, &run->prompt_args, "capture");
	if (status == CLI_PROCEED)
		status = cli_engine_open(&run->engine, model, &run->engine_args, 1);
	if (status == CLI_PROCEED)
		status = cli_policies_load(&run->policies, run->engine);
	if (status == CLI_PROCEED && !run->ids_text)
		status = cli_prompt_encode(&run->ids, &run->n_ids, run->span, tt_engine_text(run->engine), run->prompt,
			n_prompt, &run->prompt_args);
	if (status != CLI_PROCEED)
		return status;
	const struct tt_capture_options options = {
		.size = sizeof options,
		.ids = run->ids_text ? run->own_ids : run->ids,
		.n_ids = run->n_ids,
		.mean_from = run->span[0],
		.mean_to = run->span[1],
		.mean = run->mean,
		.steering = run->policies.steering,
		.n_steering = run->policies.n,
	};
	if (tt_capture(run->engine, &options, run->output, &err))
		return cli_fail(&err);
	const struct tt_model_info *info = tt_engine_info(run->engine);
	cli_note("%s: %zu tokens, %u layers of %u, %u logits", run->output, run->n_ids, info->n_layers,
		info->hidden_size, info->vocab_size);
	return CLI_OK;
}

int cli_capture(int argc, char **argv)
{
	struct run run = {0};
	struct cli_list positional = {0};
	int status = parse(&run, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	status = capture(&run, positional.items[0]);
	cli_policies_free(&run.policies, run.engine);
	tt_engine_close(run.engine);
	tt_free(run.ids);
	free(run.own_ids);
	free(run.prompt);
	return status;
}
