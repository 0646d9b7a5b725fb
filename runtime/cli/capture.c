/* trimtab capture: writes the output of every block, or of those that are asked for, to one safetensors file. */
#include "capture.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char about[] =
	"Runs a prompt and writes what it computed to a safetensors file: ids i32 [T], logits f32 "
	"[T,V], hidden.<l> f32\n"
	"[T,d] after every block (steered, before the final norm) and coef f32 [T,L]. The prompt "
	"is one message of a chat\n"
	"unless --raw or --ids is given.\n"
	"\n"
	"With --data: of every line of a file (prompt or messages, and perhaps id and response), at "
	"the positions and\n"
	"layers that are asked for: hidden.<l> f32 [N,d], ids and position i32 [N], and of each line "
	"row.id, row.n_ids\n"
	"and row.offset, from which to which of the N its own are. No logits unless --logits. A run "
	"that was killed goes\n"
	"on when the same command is given again.";

static const char examples[] =
	"  trimtab capture model.gguf -p 'Hello' -o hello.safetensors\n"
	"  trimtab capture model.gguf --ids 1,4093,198 --policy refuse.safetensors -o steered.safetensors\n"
	"  trimtab capture model.gguf --data prompts.jsonl --layers 8-14 --positions last -o states.safetensors";

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
	struct cli_capture c;
	struct cli_prompt_args prompt_args;
	const char *ids_text;
	char *prompt;
	int32_t *own_ids, *ids; /* own_ids: from --ids; ids: from the tokenizer */
	size_t n_ids, span[2];
	bool mean;
};

/* Which options are for --data, and which are not. */
static int check_data(const struct run *run)
{
	const struct tt_capture_data_options *o = &run->c.options;
	const char *one = run->ids_text                 ? "ids"
			  : run->prompt_args.text       ? "prompt"
			  : run->prompt_args.file       ? "file"
			  : run->prompt_args.messages   ? "messages"
			  : run->c.policies.layers      ? "steer-layers"
			  : run->mean                   ? "mean"
			  : run->prompt_args.no_special ? "no-special"
							: NULL;
	const char *many = o->layers          ? "layers"
			   : run->c.positions ? "positions"
			   : o->logits        ? "logits"
			   : o->restart       ? "restart"
					      : NULL;
	if (o->data && one)
		return cli_usage_error("capture", "--data and --%s exclude each other", one);
	if (!o->data && many)
		return cli_usage_error("capture", "--%s is for --data", many);
	if (o->data && run->prompt_args.raw && run->prompt_args.system)
		return cli_usage_error("capture", "--raw and --system exclude each other");
	return CLI_PROCEED;
}

static int parse(struct run *run, int argc, char **argv, struct cli_list *positional)
{
	struct tt_capture_data_options *o = &run->c.options;
	const struct cli_option options[] = {
		{"prompt", 'p', NULL, CLI_STRING, &run->prompt_args.text, "TEXT", 0, 0, "the prompt"},
		{"file", 'f', NULL, CLI_STRING, &run->prompt_args.file, "FILE", 0, 0,
			"read the prompt from a file; - for standard input"},
		{"ids", 0, NULL, CLI_STRING, &run->ids_text, "1,2,3", 0, 0, "token ids instead of a prompt"},
		{"output", 'o', NULL, CLI_STRING, &run->c.output, "F", 0, 0, "safetensors file to write (required)"},
		{"system", 0, NULL, CLI_STRING, &run->prompt_args.system, "TEXT", 0, 0,
			"system message, instead of the template's own"},
		{"raw", 0, NULL, CLI_FLAG, &run->prompt_args.raw, NULL, 0, 0, "no chat template"},
		{"no-special", 0, NULL, CLI_FLAG, &run->prompt_args.no_special, NULL, 0, 0,
			"with --raw: text that spells a special token stays text"},
		{"mean", 0, NULL, CLI_FLAG, &run->mean, NULL, 0, 0,
			"write the mean over the last user message's tokens, too"},
		{"data", 0, NULL, CLI_STRING, &o->data, "F.jsonl", 0, 0, "prompts to run, instead of one"},
		{"layers", 0, NULL, CLI_STRING, &o->layers, "8-14", 0, 0, "with --data: the layers; else all"},
		{"positions", 0, NULL, CLI_CHOICE, &run->c.positions, "last|all|response", 0, 0,
			"with --data: the prompt's last token, all, or those of the line's response"},
		{"logits", 0, NULL, CLI_FLAG, &o->logits, NULL, 0, 0, "with --data: the logits there, too"},
		{"restart", 0, NULL, CLI_FLAG, &o->restart, NULL, 0, 0,
			"with --data: throw away what another run captured there"},
		CLI_POLICY_OPTION(run->c.policy_list),
		CLI_ENGINE_OPTIONS(run->c.engine_args),
		CLI_TEMPLATE_OPTION(run->c.engine_args),
		CLI_STRICT_OPTION(run->c.engine_args),
		{"steer-layers", 0, NULL, CLI_STRING, &run->c.policies.layers, "A-B,..", 0, 0,
			"steer no other layers than these of each policy's"},
		CLI_MESSAGES_OPTION(run->prompt_args),
	};
	const struct cli_usage usage = {"capture",
		"MODEL -p TEXT | --ids 1,2,3 | --data F.jsonl -o F.safetensors [OPTION]...", about, examples, options,
		CLI_N_OPTIONS(options), 1, 1};
	int status = cli_parse(&usage, argc, argv, positional);
	if (status != CLI_PROCEED)
		return status;
	if (!run->c.output)
		return cli_usage_error("capture", "--output is missing");
	if (run->ids_text && (run->prompt_args.text || run->prompt_args.file || run->prompt_args.messages))
		return cli_usage_error("capture", "--ids and a prompt exclude each other");
	return check_data(run);
}

static int check_files(const struct run *run, const char *model)
{
	struct cli_files files = {0};
	cli_reads(&files, model, "the model");
	cli_reads_template(&files, &run->c.engine_args);
	cli_reads(&files, run->prompt_args.file, "the prompt");
	cli_reads(&files, run->prompt_args.messages, "the messages");
	for (uint32_t i = 0; i < run->c.policies.n; i++)
		cli_reads(&files, run->c.policies.paths[i], "a policy");
	cli_writes(&files, run->c.output, "the output");
	return cli_check_files(&files, "capture");
}

static int capture(struct run *run, const char *model)
{
	struct tt_error err = {0};
	size_t n_prompt = 0;
	int status = cli_policies_parse(&run->c.policies, &run->c.policy_list, "capture");
	if (status == CLI_PROCEED)
		status = check_files(run, model);
	if (status == CLI_PROCEED && run->ids_text)
		status = parse_ids(run->ids_text, &run->own_ids, &run->n_ids);
	else if (status == CLI_PROCEED)
		status = cli_prompt_read(&run->prompt, &n_prompt, &run->prompt_args, "capture");
	if (status == CLI_PROCEED)
		status = cli_engine_open(&run->c.engine, model, &run->c.engine_args, 1);
	if (status == CLI_PROCEED)
		status = cli_policies_load(&run->c.policies, run->c.engine);
	if (status == CLI_PROCEED && !run->ids_text)
		status = cli_prompt_encode(&run->ids, &run->n_ids, run->span, tt_engine_text(run->c.engine),
			run->prompt, n_prompt, &run->prompt_args);
	if (status != CLI_PROCEED)
		return status;
	const struct tt_capture_options options = {
		.size = sizeof options,
		.ids = run->ids_text ? run->own_ids : run->ids,
		.n_ids = run->n_ids,
		.mean_from = run->span[0],
		.mean_to = run->span[1],
		.mean = run->mean,
		.steering = run->c.policies.steering,
		.n_steering = run->c.policies.n,
	};
	if (tt_capture(run->c.engine, &options, run->c.output, &err))
		return cli_fail(&err);
	const struct tt_model_info *info = tt_engine_info(run->c.engine);
	cli_note("%s: %zu tokens, %u layers of %u, %u logits", run->c.output, run->n_ids, info->n_layers,
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
	run.c.options.raw = run.prompt_args.raw;
	run.c.options.system = run.prompt_args.system;
	status =
		run.c.options.data ? cli_capture_data(&run.c, positional.items[0]) : capture(&run, positional.items[0]);
	cli_policies_free(&run.c.policies, run.c.engine);
	tt_engine_close(run.c.engine);
	tt_free(run.ids);
	free(run.own_ids);
	free(run.prompt);
	return status;
}
