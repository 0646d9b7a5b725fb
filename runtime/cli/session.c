/* The model, policies and prompt that a command line names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "cli.h"

enum { MAX_INPUT = 64 << 20 };

/* Why there is no GPU matters where there seems to be one, and to who asks. */
static void say_device(const struct tt_model_info *info)
{
	if (*info->device_note && (cli_is_verbose() || access("/dev/nvidiactl", F_OK) == 0))
		cli_note("on the CPU: %s", info->device_note);
	if (cli_is_verbose())
		cli_note("%s: %u layers of %u, %.0f million parameters in %.0f MiB; on %s, %u threads, ranks: %u; "
			 "context %u, KV "
			 "%.0f MiB",
			info->name, info->n_layers, info->hidden_size, (double)info->n_parameters / 1e6,
			(double)info->n_weight_bytes / (1 << 20), info->backend, info->n_threads, info->n_ranks,
			info->context, (double)info->kv_bytes / (1 << 20));
	if (cli_is_verbose() && info->device_weight_bytes)
		cli_note(
			"the GPU holds %.0f MiB of matrices; of these %.0f MiB are bf16 that are quantised in the file",
			(double)info->device_weight_bytes / (1 << 20), (double)info->rounded_weight_bytes / (1 << 20));
}

void cli_engine_options(struct tt_engine_options *options, const struct cli_engine_args *args)
{
	static const enum tt_kv_type kv_types[] = {TT_KV_DEFAULT, TT_KV_F16, TT_KV_Q8, TT_KV_FP8};
	tt_engine_options_default(options);
	options->device = args->device;
	options->n_threads = args->threads;
	options->context = args->context;
	options->n_ranks = args->ranks;
	options->kv = kv_types[args->kv];
	options->compute = args->compute == 1 ? TT_COMPUTE_Q8 : TT_COMPUTE_F32;
	options->strict_model = args->strict_model;
	options->fast = args->fast;
	options->chat_template = args->chat_template;
}

int cli_engine_open_as(struct tt_engine **out, const char *model, const struct tt_engine_options *options)
{
	struct tt_error err = {0};
	if (tt_engine_open(out, model, options, &err) != TT_OK)
		return cli_fail(&err);
	say_device(tt_engine_info(*out));
	return CLI_PROCEED;
}

int cli_engine_open(struct tt_engine **out, const char *model, const struct cli_engine_args *args, uint32_t max_batch)
{
	struct tt_engine_options options;
	cli_engine_options(&options, args);
	if (max_batch)
		options.max_batch = max_batch;
	options.max_step_tokens = args->max_step_tokens;
	return cli_engine_open_as(out, model, &options);
}

int cli_engine_open_for_rows(struct tt_engine **out, const char *model, const struct cli_engine_args *args)
{
	int status = cli_engine_open(out, model, args, 0);
	if (status == CLI_PROCEED && !tt_text_has_template(tt_engine_text(*out)))
		cli_note("%s has no chat template: prompts are read as they are", tt_engine_info(*out)->name);
	return status;
}

int cli_policies_parse(struct cli_policies *out, const struct cli_list *list, const char *command)
{
	if (list->n > TT_MAX_STACK)
		return cli_usage_error(command, "more than %d policies", TT_MAX_STACK);
	for (size_t i = 0; i < list->n; i++) {
		int status = cli_policy_add(out, list->items[i], command);
		if (status != CLI_PROCEED)
			return status;
	}
	return CLI_PROCEED;
}

int cli_policies_parse_named(struct cli_policies *out, const struct cli_list *list, const char *command)
{
	for (size_t i = 0; i < list->n; i++) {
		int status = cli_policy_add(out, list->items[i], command);
		if (status == CLI_PROCEED)
			status = cli_policy_name(out, i, command);
		if (status != CLI_PROCEED)
			return status;
	}
	return CLI_PROCEED;
}

int cli_policies_load(struct cli_policies *policies, struct tt_engine *engine)
{
	struct tt_error err = {0};
	for (uint32_t i = 0; i < policies->n; i++) {
		const char *warning = NULL;
		struct tt_policy **policy = &policies->steering[i].policy;
		if (*policy)
			continue;
		if (tt_policy_load(policy, policies->paths[i], &err) != TT_OK)
			return cli_fail(&err);
		if (policies->layers && tt_policy_keep_layers(*policy, policies->layers, &err) != TT_OK)
			return cli_failf("--%s", err.message);
		/* The file is what the user has named, the policy's name is its maker's. */
		if (tt_within(tt_engine_add_policy(engine, *policy, &warning, &err), &err, policies->paths[i]) != TT_OK)
			return cli_fail(&err);
		if (warning)
			cli_warn("%s", warning);
	}
	return CLI_PROCEED;
}

void cli_policies_drop(struct cli_policies *policies, uint32_t i, struct tt_engine *engine)
{
	if (engine && policies->steering[i].policy)
		tt_engine_remove_policy(engine, policies->steering[i].policy, NULL);
	tt_policy_free(policies->steering[i].policy);
	free(policies->names[i]);
	free(policies->paths[i]);
	policies->n--;
	for (uint32_t k = i; k < policies->n; k++) {
		policies->steering[k] = policies->steering[k + 1];
		policies->names[k] = policies->names[k + 1];
		policies->paths[k] = policies->paths[k + 1];
	}
	policies->steering[policies->n].policy = NULL;
}

void cli_policies_free(struct cli_policies *policies, struct tt_engine *engine)
{
	while (policies->n > 0)
		cli_policies_drop(policies, policies->n - 1, engine);
	*policies = (struct cli_policies){0};
}

int cli_read_file(char **out, size_t *n, const char *path)
{
	bool standard = strcmp(path, "-") == 0;
	const char *name = standard ? "standard input" : path;
	FILE *file = standard ? stdin : fopen(path, "rb");
	if (!file)
		return cli_failf("%s: %s", name, strerror(errno));
	char *data = NULL, chunk[1 << 14];
	size_t got;
	FILE *memory = cli_memory_file(&data, n);
	size_t total = 0;
	while (total <= MAX_INPUT && (got = fread(chunk, 1, sizeof chunk, file)) > 0) {
		fwrite(chunk, 1, got, memory);
		total += got;
	}
	bool failed = ferror(file);
	int reason = errno;
	if (!standard)
		fclose(file);
	fclose(memory);
	if (failed || total > MAX_INPUT) {
		free(data);
		if (failed)
			return cli_failf("%s: %s", name, strerror(reason));
		return cli_failf("%s: more than %d MiB", name, MAX_INPUT >> 20);
	}
	*out = data;
	return CLI_PROCEED;
}

int cli_prompt_read(char **out, size_t *n, const struct cli_prompt_args *args, const char *command)
{
	if (!!args->text + !!args->file + !!args->messages > 1)
		return cli_usage_error(command, "%s exclude each other",
			args->messages ? "--messages and a prompt" : "--prompt and --file");
	if (args->messages && (args->raw || args->system))
		return cli_usage_error(command, "--messages and --%s exclude each other", args->raw ? "raw" : "system");
	if (args->text) {
		*n = strlen(args->text);
		*out = cli_alloc(*n + 1, 1);
		memcpy(*out, args->text, *n);
		return CLI_PROCEED;
	}
	const char *path = args->messages ? args->messages : args->file;
	if (!path && isatty(STDIN_FILENO))
		return cli_usage_error(command, "no prompt: give --prompt or --file, or pipe it in");
	int status = cli_read_file(out, n, path ? path : "-");
	if (status == CLI_PROCEED && !args->keep_newline && *n && (*out)[*n - 1] == '\n')
		(*out)[--*n] = 0;
	return status;
}

int cli_prompt_encode(int32_t **ids, size_t *n_ids, size_t span[2], const struct tt_text *text, const char *prompt,
	size_t n, const struct cli_prompt_args *args)
{
	struct tt_error err = {0};
	span[0] = span[1] = 0;
	/* An empty file or pipe is a mistake further up; an empty --prompt --raw is a text from its beginning. */
	if (n == 0 && !(args->raw && args->text))
		return cli_failf("the prompt is empty");
	if (args->raw) {
		unsigned flags = TT_TEXT_BOS | (args->no_special ? 0u : TT_TEXT_SPECIAL);
		int status = tt_text_encode(text, prompt, n, flags, ids, n_ids, &err);
		return status ? cli_fail(&err) : CLI_PROCEED;
	}
	if (!tt_text_has_template(text))
		return cli_failf(
			"the model has no chat template: --chat-template F or NAME gives it one (chatml, llama3 ..), "
			"and --raw does without");
	char *messages = NULL;
	int status = args->messages ? TT_OK : tt_text_user_message(prompt, n, args->system, &messages, &err);
	if (status == TT_OK)
		status = tt_text_encode_chat_span(
			text, messages ? messages : prompt, NULL, ids, n_ids, &span[0], &span[1], &err);
	if (args->messages)
		status = tt_within(status, &err, args->messages);
	tt_free(messages);
	return status ? cli_fail(&err) : CLI_PROCEED;
}

int cli_more_files(struct cli_list *data, const struct cli_list *positional, const char *command)
{
	for (size_t i = 1; i < positional->n; i++) {
		if (data->n == CLI_MAX_LIST)
			return cli_usage_error(command, "more than %d data files", CLI_MAX_LIST);
		data->items[data->n++] = positional->items[i];
	}
	return CLI_PROCEED;
}

void cli_reads(struct cli_files *files, const char *path, const char *role)
{
	if (path && strcmp(path, "-") != 0 && files->n_reads < sizeof files->reads / sizeof *files->reads)
		files->reads[files->n_reads++] = (struct tt_file_use){path, role};
}

void cli_reads_template(struct cli_files *files, const struct cli_engine_args *args)
{
	size_t n = args->chat_template ? strlen(args->chat_template) : 0;
	for (const char *name = CLI_TEMPLATE_NAMES; *name; name += strspn(name, ", ")) {
		size_t n_name = strcspn(name, ",");
		if (n == n_name && strncmp(name, args->chat_template, n) == 0)
			return;
		name += n_name;
	}
	cli_reads(files, args->chat_template, "the chat template");
}

void cli_writes(struct cli_files *files, const char *path, const char *role)
{
	if (path && files->n_writes < sizeof files->writes / sizeof *files->writes)
		files->writes[files->n_writes++] = (struct tt_file_use){path, role};
}

int cli_check_files(const struct cli_files *files, const char *command)
{
	struct tt_error err = {0};
	if (tt_check_outputs(files->reads, files->n_reads, files->writes, files->n_writes, &err) != TT_OK)
		return cli_usage_error(command, "%s", err.message);
	return CLI_PROCEED;
}

int cli_check_output(const char *path)
{
	if (!path)
		return CLI_PROCEED;
	bool existed = access(path, F_OK) == 0;
	FILE *file = fopen(path, "ab");
	if (!file)
		return cli_failf("%s: %s", path, strerror(errno));
	fclose(file);
	if (!existed)
		unlink(path);
	return CLI_PROCEED;
}
