/* Output for a person: text that a terminal must not obey, progress, tables, steering. */
#ifndef CLI_SHOW_H
#define CLI_SHOW_H

#include <jansson.h>
#include <stdio.h>

#include "runtime/trimtab.h"

/* ---- text.c: UTF-8 from a model or a file. A terminal must not obey control characters in it. */

int cli_char_width(uint32_t code_point); /* columns: 0, 1 or 2 */
size_t cli_text_width(const char *text);

/* To a file or pipe the text goes unchanged, to a terminal with controls as U+FFFD. */
void cli_write_text(FILE *to, bool terminal, const char *text, size_t n);
/* The text on one line: controls and newlines as escapes. */
void cli_write_line(FILE *to, const char *text, size_t n);
/* Prints JSON and a newline on stdout. Controls in its strings become escapes, which mean the same value. */
void cli_put_json(const char *json);
/* Ends a command that measures: what the library's call gave, and its report as JSON or by show, which gets the
 * command's own data too. Returns the exit status. */
int cli_end_report(int code, const struct tt_error *err, const char *report, bool json,
	void (*show)(const json_t *report, const void *user), const void *user);
/* Prints a value in this way, with jansson's flags, and drops the caller's reference. CLI_OK or CLI_FAILED. */
int cli_print_json(json_t *json, size_t flags);

/* The words of a command as a shell takes them: trimtab eval 'a file' ...; free(). */
char *cli_command_line(int argc, char **argv);

struct cli_lines {
	char **lines; // [n]
	size_t n, capacity;
};
/* Breaks text into lines of at most width columns, at spaces where it can; controls become U+FFFD, tabs spaces. */
void cli_wrap(struct cli_lines *out, const char *text, size_t n, size_t width);
void cli_lines_free(struct cli_lines *lines);
/* The characters of a token: a string, or a list of bytes if they are not whole code points. */
json_t *cli_piece_json(const struct tt_text *text, int32_t id);
size_t cli_terminal_width(void); /* of stdout; 100 if that is not a terminal */

/* ---- progress.c */

bool cli_draws(void); /* whether a bar may be drawn over itself on stderr */

struct cli_progress {
	char stage[64];
	double begun, stage_begun, drawn;
	bool terminal, bar;
	bool quiet;    /* without a terminal: no line per stage */
	char note[48]; /* shown after the bar */
};
void cli_progress_begin(struct cli_progress *progress);
/* A tt_progress_fn: non-zero after an interrupt. */
int cli_progress_step(void *progress, const char *stage, uint64_t done, uint64_t total);
/* Shows after the bar how many tokens a second the engine ran. */
void cli_progress_speed(struct cli_progress *progress, const struct tt_engine *engine);
void cli_progress_end(struct cli_progress *progress);

/* ---- table.c */

struct cli_table {
	size_t n_columns;
	const char *align; /* one letter per column, l or r */
	char **cells;      // [n_cells], row after row, headings first
	size_t n_cells, capacity;
};
void cli_table_begin(struct cli_table *table, const char *align);
void cli_table_cell(struct cli_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A share in percent, and a 95% interval of one: [2,7]; a dash where there is none. */
void cli_table_share(struct cli_table *table, const json_t *share);
void cli_table_interval(struct cli_table *table, const json_t *interval);
void cli_table_print(struct cli_table *table, FILE *to); /* and frees it */

/* ---- eval_table.c: the report of an evaluation (docs/cli.md) as tables. judged: with the verdicts of a judge. */

void cli_show_evaluation(const json_t *report, bool judged);

/* ---- steering.c: how a request was steered. */

/* One entry for each policy: policy, scale, when, s, gate, coef; null before its gate has run. */
json_t *cli_decision_json(const struct tt_request *request, const struct cli_policies *policies, uint32_t n_layers);
/* The lines of --show-steering. */
void cli_show_steering(FILE *to, const struct tt_request *request, const struct cli_policies *policies,
	uint32_t n_layers, bool terminal);

#endif
