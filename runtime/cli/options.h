/* Messages, and the one table that drives getopt_long and --help. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <jansson.h>
#include <stdio.h>

#include "runtime/trimtab.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130, CLI_PROCEED = -1 };

/* ---- main.c: messages and small things. Out of memory ends the program. */

/* "trimtab: MESSAGE" on stderr, always one line; returns CLI_FAILED. */
int cli_fail(const struct tt_error *err);
int cli_failf(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "trimtab: COMMAND: MESSAGE; see trimtab COMMAND --help"; returns CLI_USAGE. */
int cli_usage_error(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *cli_alloc(size_t count, size_t size);   /* zeroed; free() */
FILE *cli_memory_file(char **out, size_t *n); /* open_memstream; cli_close, then free(*out) */
int cli_close(FILE *file, const char *path);  /* CLI_OK, or CLI_FAILED with a message: a write failed */
const char *cli_base_name(const char *path);  /* behind the last slash */
bool cli_interrupted(void);                   /* SIGINT came; a second one ends the program at once */
void cli_catch_interrupt(void);

int cli_generate(int argc, char **argv);
int cli_fit(int argc, char **argv);
int cli_eval(int argc, char **argv);
int cli_batch(int argc, char **argv);
int cli_capture(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_tokenize(int argc, char **argv);
int cli_template(int argc, char **argv);

/* ---- options.c: one table drives getopt_long and --help. */

enum cli_kind { CLI_FLAG, CLI_STRING, CLI_LIST, CLI_U32, CLI_U64, CLI_FLOAT, CLI_CHOICE };

enum { CLI_MAX_LIST = 256 };
struct cli_list {
	const char *items[CLI_MAX_LIST];
	size_t n;
};

struct cli_option {
	const char *name;  /* long */
	char letter;       /* 0: none */
	const char *alias; /* a second long name, or NULL */
	enum cli_kind kind;
	void *target; /* bool, const char *, struct cli_list, uint32_t, uint64_t, float or int, by kind */
	const char
		*argument; /* what --help calls it; for CLI_CHOICE the choices, "a|b|c", whose index goes to target */
	double min, max;   /* of CLI_U32 and CLI_FLOAT */
	const char *help;
};

struct cli_usage {
	const char *command, *synopsis, *about, *examples;
	const struct cli_option *options; // [n_options]
	size_t n_options;
	size_t min_positional, max_positional;
};

/* CLI_PROCEED, or the status to exit with. Targets hold the defaults before; --help prints them. */
int cli_parse(const struct cli_usage *usage, int argc, char **argv, struct cli_list *positional);

#define CLI_N_OPTIONS(options) (sizeof(options) / sizeof((options)[0]))

#endif
