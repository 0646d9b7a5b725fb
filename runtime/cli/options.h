/* The one table that drives getopt_long and --help. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

/* CLI_TOKENS: a CLI_U32 of which -1, as llama.cpp has it, is max: no limit but the context. */
enum cli_kind { CLI_FLAG, CLI_STRING, CLI_LIST, CLI_U32, CLI_U64, CLI_TOKENS, CLI_FLOAT, CLI_CHOICE };

enum { CLI_MAX_LIST = 256 };
struct cli_list {
	const char *items[CLI_MAX_LIST];
	size_t n;
};

struct cli_option {
	const char *name;  /* long name */
	char letter;       /* 0: none */
	const char *alias; /* a second long name, or NULL */
	enum cli_kind kind;
	void *target;         /* to a bool, const char *, struct cli_list, uint32_t, uint64_t, float or int, by kind */
	const char *argument; /* its name in --help; for CLI_CHOICE the choices, "a|b|c", whose index goes to target */
	double min, max;      /* for CLI_U32, CLI_TOKENS and CLI_FLOAT */
	const char *help;
};

struct cli_usage {
	const char *command, *synopsis, *about, *examples;
	const struct cli_option *options; // [n_options]
	size_t n_options;
	size_t min_positional, max_positional;
};

/* Parses argv into the targets and positional. Returns CLI_PROCEED, or the exit status. Before the call the targets
 * hold the defaults, which --help prints. */
int cli_parse(const struct cli_usage *usage, int argc, char **argv, struct cli_list *positional);

/* ---- hints.c */

/* The nearest of the candidates that a word may have been meant for; NULL: none is near. Zero-initialise it. */
struct cli_nearest {
	const char *word;
	int distance;
};
void cli_consider(struct cli_nearest *nearest, const char *word, const char *candidate);
/* What is done here with an option of another program of this field, or NULL. */
const char *cli_foreign_option(const char *name);
const char *cli_foreign_letter(int letter);

/* ---- options.c again */

/* The default that a target holds before parsing, as text: "0.8", "256" or a choice's name. False if there is none to
 * show. */
bool cli_option_default(const struct cli_option *option, char out[64]);

/* What every command takes: --help, --quiet and --verbose, which have no target. */
const struct cli_option *cli_common_options(size_t *n);
bool cli_is_quiet(void);
bool cli_is_verbose(void);

/* Calls visit with a command's usage, and nothing else of the command. */
struct cli_command;
typedef void (*cli_visit_fn)(void *user, const struct cli_usage *usage);
void cli_visit_usage(const struct cli_command *command, cli_visit_fn visit, void *user);

/* The labels of --data's rows, of options that have them. */
#define CLI_LABEL_OPTIONS(o)                                                                                           \
	{"positive-label", 0, NULL, CLI_STRING, &(o).positive_label, "NAME", 0, 0,                                     \
		"the label of --data for prompts to steer; by default harmful"},                                       \
	{                                                                                                              \
		"negative-label", 0, NULL, CLI_STRING, &(o).negative_label, "NAME", 0, 0,                              \
			"the label of --data for prompts to leave alone; by default benign"                            \
	}

#define CLI_N_OPTIONS(options) (sizeof(options) / sizeof((options)[0]))

#endif
