/* The program's table of subcommands, its messages and helpers for all subcommands. */
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "cli.h"

static const struct cli_command commands[] = {
	{"generate", "generate text, steered or not, or both side by side", cli_generate},
	{"chat", "talk with a model, and change its steering meanwhile", cli_chat},
	{"fit", "fit a steering policy to a model", cli_fit},
	{"eval", "measure what a policy changes", cli_eval},
	{"attack", "search words that get harmful prompts past a gate", cli_attack},
	{"stack", "measure policies on one request, alone and together", cli_stack},
	{"score", "how likely a model finds given text: multiple choice, perplexity", cli_score},
	{"batch", "answer a file of requests, over any number of runs", cli_batch},
	{"serve", "serve a model to OpenAI's clients, steered by request", cli_serve},
	{"audit", "look after a server's audit log: verify, prove, replay, seal, erase", cli_audit},
	{"policy", "policies in a store: add, approve, label, kill", cli_policy},
	{"key", "keys of a store: add, list, revoke", cli_key},
	{"capture", "write hidden states, logits and coefficients of a prompt", cli_capture},
	{"import", "make a policy of a control vector", cli_import},
	{"export", "make a control vector of a policy", cli_export},
	{"bench", "time prompts and generation as llama-bench does, and what steering costs", cli_bench},
	{"inspect", "say what is in a model, policy or safetensors file", cli_inspect},
	{"tokenize", "text to token ids", cli_tokenize},
	{"template", "render a chat template", cli_template},
};
enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

size_t cli_commands(const struct cli_command **out)
{
	*out = commands;
	return N_COMMANDS;
}

/* File scope, since a signal handler has no other way to reach it. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
	interrupted = signal_number;
}

void cli_catch_interrupt(void)
{
	struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)(SA_RESETHAND | SA_RESTART)};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

void cli_release_interrupt(void)
{
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	if (interrupted == SIGTERM)
		raise(SIGTERM); /* is meant for the program, and not for the answer that it ended */
	interrupted = 0;
}

bool cli_interrupted(void)
{
	return interrupted;
}

/* A mapped file became shorter while it was in use. Calls only functions that are safe in a signal handler. */
static void on_bus_error(int signal_number, siginfo_t *info, void *context)
{
	const char *path = tt_mapped_file(info->si_addr);
	(void)context;
	if (!path) {
		signal(signal_number, SIG_DFL); /* the access is repeated, which ends the process */
		return;
	}
	char name[256];
	size_t n = strlen(path), length;
	for (size_t i = 0; i < n; i += length) {
		uint32_t c;
		length = tt_utf8_next(path + i, n - i, &c);
		for (size_t k = i; k < i + length; k++)
			name[k] = tt_utf8_is_control(c) || c == 0xFFFD ? '?' : path[k];
	}
	struct iovec parts[] = {
		{"trimtab: ", 9}, {name, n}, {": became shorter while it was in use, or cannot be read\n", 56}};
	if (writev(STDERR_FILENO, parts, 3) < 0)
		_exit(CLI_FAILED);
	_exit(CLI_FAILED);
}

static void catch_bus_error(void)
{
	struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
	sigaction(SIGBUS, &action, NULL);
}

static void message(const char *command, const char *hint, const char *format, va_list arguments)
{
	char text[1024];
	vsnprintf(text, sizeof text, format, arguments);
	fputs("trimtab: ", stderr);
	if (command)
		fprintf(stderr, "%s: ", command);
	cli_write_line(stderr, text, strlen(text));
	if (hint)
		fprintf(stderr, "; see trimtab %s%s--help", hint, *hint ? " " : "");
	fputc('\n', stderr);
}

int cli_fail(const struct tt_error *err)
{
	return cli_failf("%s", err->message);
}

int cli_failf(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	message(NULL, NULL, format, arguments);
	va_end(arguments);
	return CLI_FAILED;
}

int cli_usage_error(const char *command, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	message(command, command ? command : "", format, arguments);
	va_end(arguments);
	return CLI_USAGE;
}

void cli_note(const char *format, ...)
{
	va_list arguments;
	if (cli_is_quiet())
		return;
	va_start(arguments, format);
	message(NULL, NULL, format, arguments);
	va_end(arguments);
}

void cli_warn(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	message("warning", NULL, format, arguments);
	va_end(arguments);
}

static _Noreturn void out_of_memory(void)
{
	fputs("trimtab: out of memory\n", stderr);
	exit(CLI_FAILED);
}

void *cli_alloc(size_t count, size_t size)
{
	void *memory = calloc(count ? count : 1, size);
	if (!memory)
		out_of_memory();
	return memory;
}

char *cli_with_ending(const char *path, const char *ending)
{
	if (!path)
		return NULL;
	size_t n = strlen(path) + strlen(ending) + 1;
	char *text = cli_alloc(n, 1);
	snprintf(text, n, "%s%s", path, ending);
	return text;
}

void cli_grow(void *pointer, size_t *capacity, size_t needed, size_t size)
{
	if (tt_grow(pointer, capacity, needed, size, NULL) != TT_OK)
		out_of_memory();
}

FILE *cli_memory_file(char **out, size_t *n)
{
	FILE *file = open_memstream(out, n);
	if (!file)
		out_of_memory();
	return file;
}

int cli_close(FILE *file, const char *path)
{
	bool failed = ferror(file);
	if (fclose(file) != 0 || failed)
		return cli_failf("%s: cannot be written", path);
	return CLI_OK;
}

const struct cli_usage cli_program = {
	.synopsis = "COMMAND MODEL [OPTION]...",
	.about = "MODEL is a GGUF file, a Hugging Face directory, or a name in a folder of TRIMTAB_MODELS.\n"
		 "trimtab COMMAND --help explains a command; trimtab man COMMAND is its manual page, and trimtab\n"
		 "completion bash|zsh|fish what those shells complete it by.\n"
		 "Results go to standard output, progress and messages to standard error.\n"
		 "Exit status: 0, 1 (it failed), 2 (wrong usage), 3 (fit: beyond its bars), 4 (batch: rows are "
		 "errors),\n"
		 "130 (interrupted), 143 (terminated).",
	.examples = "  trimtab generate model.gguf -p 'What is a trim tab?'\n"
		    "  trimtab fit model.gguf --data prompts.jsonl -o refuse.safetensors\n"
		    "  trimtab generate model.gguf --policy refuse.safetensors --compare -p 'How do I steal a car?'\n"
		    "  trimtab eval model.gguf --policy refuse.safetensors --data prompts.jsonl --split test",
};

static int help(void)
{
	printf("Run a frozen language model and steer it.\n\n"
	       "Usage: trimtab %s\n\n"
	       "Commands:\n",
		cli_program.synopsis);
	for (int i = 0; i < N_COMMANDS; i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].summary);
	printf("\n%s\n\n"
	       "Options:\n"
	       "  -h, --help     this text\n"
	       "  -V, --version  the version, commit, compiler, CPU body and CUDA; so does trimtab version\n"
	       "                 [--json]\n\n"
	       "Examples:\n%s\n",
		cli_program.about, cli_program.examples);
	return CLI_OK;
}

static void print_version(const json_t *report)
{
	printf("trimtab %s\n", tt_version());
	printf("commit:   %s\n", tt_json_string_or(report, "commit", ""));
	printf("compiler: %s\n", tt_json_string_or(report, "compiler", ""));
	printf("CPU body: %s\n", tt_json_string_or(report, "cpu", ""));
	printf("CUDA:     %s\n", tt_json_string_or(report, "cuda", "none in this program"));
}

/* The first line is the version alone, as scripts expect it; with --json as tt_describe_build has it. */
static int version(int argc, char **argv)
{
	bool as_json = argc > 1 && !strcmp(argv[1], "--json");
	if (argc > 1 + as_json)
		return cli_usage_error(NULL, "version: one argument too many: '%s'", argv[1 + as_json]);
	struct tt_error err = {0};
	char *text = NULL;
	if (tt_describe_build(&text, &err) != TT_OK)
		return cli_fail(&err);
	json_t *report = json_loads(text, 0, NULL);
	if (as_json)
		printf("%s\n", text);
	else
		print_version(report);
	json_decref(report);
	tt_free(text);
	return CLI_OK;
}

static int run(int argc, char **argv)
{
	if (argc < 2)
		return cli_usage_error(NULL, "no command");
	const char *name = argv[1];
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || (!strcmp(name, "help") && argc == 2))
		return help();
	if (!strcmp(name, "help") && argc == 3) { /* help COMMAND: COMMAND --help */
		char *help_of[] = {argv[0], argv[2], (char[]){"--help"}, NULL};
		return run(3, help_of);
	}
	/* For packagers: not in the list. */
	if (!strcmp(name, "man"))
		return cli_man(argc - 1, argv + 1);
	if (!strcmp(name, "completion"))
		return cli_completion(argc - 1, argv + 1);
	if (!strcmp(name, "--version") || !strcmp(name, "-V") || !strcmp(name, "version"))
		return version(argc - 1, argv + 1);
	for (int i = 0; i < N_COMMANDS; i++) {
		if (strcmp(name, commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	}
	if (name[0] == '-') /* as llama.cpp's programs, which have no commands, are called */
		return cli_usage_error(NULL, "%s: a command comes first, as in trimtab generate MODEL", name);
	struct cli_nearest nearest = {0};
	for (int i = 0; i < N_COMMANDS; i++)
		cli_consider(&nearest, name, commands[i].name);
	cli_consider(&nearest, name, "version");
	cli_consider(&nearest, name, "help");
	if (nearest.word)
		return cli_usage_error(NULL, "%s is no command: did you mean %s?", name, nearest.word);
	return cli_usage_error(NULL, "%s is no command", name);
}

int main(int argc, char **argv)
{
	catch_bus_error();
	int status = run(argc, argv);
	bool failed = ferror(stdout);
	if ((fflush(stdout) != 0 || failed) && status == CLI_OK)
		status = cli_failf("standard output: cannot be written");
	if (status == CLI_INTERRUPTED)
		cli_note("interrupted");
	return status == CLI_INTERRUPTED && interrupted == SIGTERM ? 128 + SIGTERM : status;
}
