/* The model, policies and prompt that a command line names. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "base/outputs.h"
#include "options.h"
#include "runtime/trimtab.h"

/* ---- session.c: model, policies and prompt from the command line. */

struct cli_engine_args {
	const char *device;
	uint32_t threads, context, ranks;
	uint32_t max_step_tokens; /* 0: the library's default */
	int kv, compute;
	bool strict_model, fast;
	const char *chat_template;
};

/* The words of --kv, in the order of cli_engine_options. */
#define CLI_KV_TYPES "f32|f16|q8|fp8"

#define CLI_ENGINE_OPTIONS(a)                                                                                          \
	{"device", 0, NULL, CLI_STRING, &(a).device, "D", 0, 0,                                                        \
		"auto (the first GPU, else the CPU), cpu, cuda or cuda:N"},                                            \
		{"threads", 't', NULL, CLI_U32, &(a).threads, "N", 0, 1024, "threads; 0: one per core"},               \
		{"ctx-size", 'c', NULL, CLI_U32, &(a).context, "N", 0, 1 << 24,                                        \
			"longest sequence in tokens; 0: the model's own, at most 8192"},                               \
		{"tp", 0, "tensor-parallel-size", CLI_U32, &(a).ranks, "N", 0, 16,                                     \
			"ranks that share the model, a process each: the same bits; on GPUs by NCCL; 0: one"},         \
		{"fast", 0, NULL, CLI_FLAG, &(a).fast, NULL, 0, 0,                                                     \
			"on a GPU: cuBLASLt for long prompts, giving up that bits depend on nothing else"},            \
		{"compute", 0, NULL, CLI_CHOICE, &(a).compute, "f32|q8", 0, 0,                                         \
			"what products are computed in; q8, on a CPU: eight-bit inputs, faster, less precise"},        \
	{                                                                                                              \
		"kv", 0, NULL, CLI_CHOICE, &(a).kv, CLI_KV_TYPES, 0, 0,                                                \
			"type of the KV cache; on a GPU bf16 and no other"                                             \
	}

/* The library's own templates. */
#define CLI_TEMPLATE_NAMES "chatml, gemma, llama2, llama3, phi3"

/* Of commands that render prompts. */
#define CLI_TEMPLATE_OPTION(a)                                                                                         \
	{                                                                                                              \
		"chat-template", 0, "chat-template-file", CLI_STRING, &(a).chat_template, "F|NAME", 0, 0,              \
			"Jinja file instead of the model's template; or " CLI_TEMPLATE_NAMES                           \
	}

#define CLI_STRICT_OPTION(a)                                                                                           \
	{                                                                                                              \
		"strict-model", 0, NULL, CLI_FLAG, &(a).strict_model, NULL, 0, 0,                                      \
			"refuse a policy that was fitted on other weights, do not just warn"                           \
	}

#define CLI_LAYERS_OPTION(target)                                                                                      \
	{                                                                                                              \
		"layers", 0, "steer-layers", CLI_STRING, &(target), "A-B,..", 0, 0,                                    \
			"steer no other layers than these of each policy's"                                            \
	}

#define CLI_POLICY_OPTION(list)                                                                                        \
	{                                                                                                              \
		"policy", 0, NULL, CLI_LIST, &(list), "[NAME=]F[:SCALE]", 0, 0,                                        \
			"steering policy or control vector and its strength (default 1); up to 4 times"                \
	}

#define CLI_WHEN_CHOICES "policy|generation|last|all"
/* The index of a choice above is the enum's value plus one. */
#define CLI_WHEN(choice) ((enum tt_policy_when)((choice)-1))

#define CLI_SWEEP_OPTION(target, rows)                                                                                 \
	{                                                                                                              \
		"sweep", 0, NULL, CLI_STRING, &(target), "NAME,..@SCALE,..", 0, 0,                                     \
			rows " under each of these policies at each of these scales"                                   \
	}

struct cli_policies {
	char *names[CLI_MAX_LIST]; /* NULL where the command line gives none */
	char *paths[CLI_MAX_LIST];
	struct tt_steering steering[CLI_MAX_LIST];
	bool scaled[CLI_MAX_LIST]; /* the command line gives a scale */
	uint32_t n;
	const char *layers; /* all that they may steer, as tt_policy_keep_layers takes it; NULL: their own */
};

/* The defaults, and what the command line says. */
void cli_engine_options(struct tt_engine_options *options, const struct cli_engine_args *args);
int cli_engine_open_as(struct tt_engine **out, const char *model, const struct tt_engine_options *options);
int cli_engine_open(struct tt_engine **out, const char *model, const struct cli_engine_args *args, uint32_t max_batch);
/* For prompts of a file, which are read as they are where the model has no chat template: a note says so. */
int cli_engine_open_for_rows(struct tt_engine **out, const char *model, const struct cli_engine_args *args);

/* policy_option.c: adds what one --policy says, [NAME=]F[:SCALE]. What stands before the first = is a name if no
 * slash or colon is in it; what follows the last colon is a scale if it is a number. */
int cli_policy_add(struct cli_policies *out, const char *text, const char *command);
/* Gives policy i its file's name without the ending if it has none; refuses a scale, which rows and sweeps give. */
int cli_policy_name(struct cli_policies *out, size_t i, const char *command);

/* For a command whose requests all have these policies, TT_MAX_STACK at most. CLI_PROCEED or CLI_USAGE. */
int cli_policies_parse(struct cli_policies *out, const struct cli_list *list, const char *command);
/* For one in which rows or a sweep name them. */
int cli_policies_parse_named(struct cli_policies *out, const struct cli_list *list, const char *command);
/* Loads those that are not loaded and adds them to the engine; a warning goes to stderr. */
int cli_policies_load(struct cli_policies *policies, struct tt_engine *engine);
void cli_policies_drop(struct cli_policies *policies, uint32_t i, struct tt_engine *engine);
/* Call it after their requests are freed and before the engine is closed. */
void cli_policies_free(struct cli_policies *policies, struct tt_engine *engine);

struct cli_prompt_args {
	const char *text, *file; /* if both are NULL: standard input */
	const char *system;
	const char *messages; /* a file with the messages of a conversation, instead of text or file */
	bool raw, no_special;
	bool keep_newline; /* otherwise one newline at the end of a file is not part of the prompt */
};

#define CLI_MESSAGES_OPTION(a)                                                                                         \
	{                                                                                                              \
		"messages", 0, NULL, CLI_STRING, &(a).messages, "F.json", 0, 0,                                        \
			"a conversation: a JSON list of objects with role and content; - for standard input"           \
	}

/* Reads the prompt's text, or the messages (free()). CLI_PROCEED, CLI_FAILED or CLI_USAGE. */
int cli_prompt_read(char **out, size_t *n, const struct cli_prompt_args *args, const char *command);
/* Gives its token ids (tt_free): as a chat with one user message, or raw. span: mean_from and mean_to of a request. */
int cli_prompt_encode(int32_t **ids, size_t *n_ids, size_t span[2], const struct tt_text *text, const char *prompt,
	size_t n, const struct cli_prompt_args *args);
/* Reads a whole file ("-" for standard input) of at most 64 MiB. The text is terminated; free() it. */
int cli_read_file(char **out, size_t *n, const char *path);

/* Arguments after MODEL are more data files, so that "--data A B" works. CLI_PROCEED or CLI_USAGE. */
int cli_more_files(struct cli_list *data, const struct cli_list *positional, const char *command);
/* The files of a command. NULL, and "-" for standard input, are not added. */
struct cli_files {
	struct tt_file_use reads[2 * CLI_MAX_LIST + 5], writes[8];
	size_t n_reads, n_writes;
};
void cli_reads(struct cli_files *files, const char *path, const char *role);
/* The chat template, where it is a file and no name. */
void cli_reads_template(struct cli_files *files, const struct cli_engine_args *args);
void cli_writes(struct cli_files *files, const char *path, const char *role);
/* Refuses to write over a file that is read. Called before long work. CLI_PROCEED or CLI_USAGE. */
int cli_check_files(const struct cli_files *files, const char *command);
/* Checks that a file can be written there. Called before long work. CLI_PROCEED or CLI_FAILED; path may be NULL. */
int cli_check_output(const char *path);

#endif
