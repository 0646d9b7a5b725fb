/* The program: its subcommands, its messages, and helpers for all subcommands. Its files use trimtab.h, base/,
 * runtime/page/, runtime/serve/serve.h and the store, and nothing else of the library. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "options.h"
#include "runtime/trimtab.h"
#include "session.h"
#include "show.h"

enum {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_BEYOND_BARS = 3, /* of fit: what was written met no bar */
	CLI_ROWS_FAILED = 4, /* of batch: every row has a line, and some of them are errors */
	CLI_INTERRUPTED = 130,
	CLI_PROCEED = -1
};

/* ---- The subcommands, each in its own file. argv[0] is the subcommand's name; they return the exit status. */

struct cli_command {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
};
/* The table of them, and how many there are. */
size_t cli_commands(const struct cli_command **out);
/* What --help says of the program as a whole; it has no table of options. */
extern const struct cli_usage cli_program;

int cli_generate(int argc, char **argv);
int cli_chat(int argc, char **argv);
int cli_fit(int argc, char **argv);
int cli_eval(int argc, char **argv);
int cli_attack(int argc, char **argv);
int cli_stack(int argc, char **argv);
int cli_score(int argc, char **argv);
int cli_batch(int argc, char **argv);
int cli_serve(int argc, char **argv);
int cli_audit(int argc, char **argv);
int cli_policy(int argc, char **argv);
int cli_key(int argc, char **argv);
int cli_capture(int argc, char **argv);
int cli_import(int argc, char **argv);
int cli_export(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_tokenize(int argc, char **argv);
int cli_template(int argc, char **argv);
int cli_man(int argc, char **argv);
int cli_completion(int argc, char **argv);

/* A model's path: where it is no file, the one of that name in a folder of TRIMTAB_MODELS. */
const char *cli_model_path(const char *name);

/* ---- main.c. If memory runs out, these end the program. */

/* "trimtab: MESSAGE" on stderr, always one line; returns CLI_FAILED. */
int cli_fail(const struct tt_error *err);
int cli_failf(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "trimtab: COMMAND: MESSAGE; see trimtab COMMAND --help"; returns CLI_USAGE. */
int cli_usage_error(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2))); /* not with --quiet */
void cli_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *cli_alloc(size_t count, size_t size);                                 /* zeroed; free() */
void cli_grow(void *pointer, size_t *capacity, size_t needed, size_t size); /* like tt_grow */
char *cli_with_ending(const char *path, const char *ending);                /* both as one; NULL for NULL; free() */
FILE *cli_memory_file(char **out, size_t *n); /* open_memstream; close it, then free(*out) */
int cli_close(FILE *file, const char *path);  /* CLI_OK; CLI_FAILED, with a message, if a write failed */
bool cli_interrupted(void);                   /* SIGINT or SIGTERM has come; a second one ends the program at once */
void cli_catch_interrupt(void);
void cli_release_interrupt(void); /* as if none had come; the next one ends the program */

#endif
