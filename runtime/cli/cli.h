/* What the subcommands of the program share. The program knows the library by runtime/trimtab.h alone. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdio.h>
#include <time.h>

#include "trimtab.h"

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
const char *cli_when_name(enum tt_policy_when when);
double cli_now(void);       /* seconds of a clock that only goes forward */
bool cli_interrupted(void); /* SIGINT came; a second one ends the program at once */
void cli_catch_interrupt(void);

int cli_generate(int argc, char **argv);
int cli_fit(int argc, char **argv);
int cli_eval(int argc, char **argv);
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

/* ---- session.c: model, policies and prompt from the command line. */

struct cli_engine_args {
	uint32_t threads, context;
	int kv;
	bool strict_model;
};

#define CLI_ENGINE_OPTIONS(a)                                                                                          \
	{"threads", 't', NULL, CLI_U32, &(a).threads, "N", 0, 1024, "threads; 0: one a core"},                         \
		{"ctx-size", 'c', NULL, CLI_U32, &(a).context, "N", 0, 1 << 24,                                        \
			"longest sequence in tokens; 0: the model's own, at most 8192"},                               \
	{                                                                                                              \
		"kv", 0, NULL, CLI_CHOICE, &(a).kv, "f32|f16", 0, 0, "type of the KV cache"                            \
	}

#define CLI_STRICT_OPTION(a)                                                                                           \
	{                                                                                                              \
		"strict-model", 0, NULL, CLI_FLAG, &(a).strict_model, NULL, 0, 0,                                      \
			"refuse a policy that was fitted on other weights, do not just warn"                           \
	}

#define CLI_POLICY_OPTION(list)                                                                                        \
	{                                                                                                              \
		"policy", 0, NULL, CLI_LIST, &(list), "F[:SCALE]", 0, 0,                                               \
			"steering policy and its strength (default 1); up to 4 times"                                  \
	}

#define CLI_WHEN_CHOICES "policy|generation|last|all"
/* The index of a choice above is the enum plus one. */
#define CLI_WHEN(choice) ((enum tt_policy_when)((choice)-1))

struct cli_policies {
	char *paths[TT_MAX_STACK];
	struct tt_steering steering[TT_MAX_STACK];
	uint32_t n;
};

int cli_engine_open(struct tt_engine **out, const char *model, const struct cli_engine_args *args, uint32_t max_batch);

/* Splits F[:SCALE]; CLI_PROCEED or CLI_USAGE. What stands behind the last colon is a scale when it is a number. */
int cli_policies_parse(struct cli_policies *out, const struct cli_list *list, const char *command);
/* Loads them and adds them to the engine; a warning goes to stderr. */
int cli_policies_load(struct cli_policies *policies, struct tt_engine *engine);
/* After their requests, before the engine. */
void cli_policies_free(struct cli_policies *policies, struct tt_engine *engine);

struct cli_prompt_args {
	const char *text, *file; /* neither: standard input */
	const char *system;
	bool raw, no_special;
	bool keep_newline; /* else one newline at the end of a file is not part of the prompt */
};

/* The prompt's text (free()). CLI_PROCEED, CLI_FAILED or CLI_USAGE. */
int cli_prompt_read(char **out, size_t *n, const struct cli_prompt_args *args, const char *command);
/* Its token ids (tt_free): as a chat of one user message, or raw. */
int cli_prompt_encode(int32_t **ids, size_t *n_ids, const struct tt_text *text, const char *prompt, size_t n,
	const struct cli_prompt_args *args);
/* A whole file ("-" for standard input) of at most 64 MiB, terminated; free(). */
int cli_read_file(char **out, size_t *n, const char *path);

/* Arguments behind MODEL are more data files, as "--data A B" is read. CLI_PROCEED or CLI_USAGE. */
int cli_more_files(struct cli_list *data, const struct cli_list *positional, const char *command);
/* Would a file be written there? Asked before long work. CLI_PROCEED or CLI_FAILED; NULL is fine. */
int cli_check_output(const char *path);
/* object[key], or object[key][inner] with inner not NULL; fallback when it is none. */
double cli_json_number(const json_t *object, const char *key, const char *inner, double fallback);
const char *cli_json_string(const json_t *object, const char *key, const char *fallback);

/* ---- text.c: UTF-8 from a model or a file, which a terminal must not obey. */

/* The code point at text (n > 0 bytes), U+FFFD for an invalid byte; returns its length. */
size_t cli_utf8_next(const char *text, size_t n, uint32_t *code_point);
bool cli_utf8_valid(const char *text, size_t n);
/* Would a terminal act on it: controls but newline and tab, and what changes the direction of text. */
bool cli_is_control(uint32_t code_point);
int cli_char_width(uint32_t code_point); /* columns: 0, 1 or 2 */
size_t cli_text_width(const char *text);

/* As it is to a file or pipe, with controls as U+FFFD to a terminal. */
void cli_write_text(FILE *to, bool terminal, const char *text, size_t n);
/* One line of it: controls and newlines as escapes. */
void cli_write_line(FILE *to, const char *text, size_t n);
/* For HTML text and quoted attributes. */
void cli_write_html(FILE *to, const char *text, size_t n);

struct cli_lines {
	char **lines; // [n]
	size_t n, capacity;
};
/* Breaks at spaces where it can, by display width; controls as U+FFFD, tabs as spaces. */
void cli_wrap(struct cli_lines *out, const char *text, size_t n, size_t width);
void cli_lines_free(struct cli_lines *lines);
/* The characters of a token: a string, or a list of bytes when they are no whole code points. */
json_t *cli_piece_json(const struct tt_text *text, int32_t id);
size_t cli_terminal_width(void); /* of stdout; 100 when it is none */

/* ---- progress.c */

struct cli_progress {
	char stage[64];
	double begun, stage_begun, drawn;
	bool terminal, bar;
	bool quiet; /* no line a stage where there is no terminal */
};
void cli_progress_begin(struct cli_progress *progress);
/* A tt_progress_fn: non-zero after an interrupt. */
int cli_progress_step(void *progress, const char *stage, uint64_t done, uint64_t total);
void cli_progress_end(struct cli_progress *progress);

/* ---- table.c */

struct cli_table {
	size_t n_columns;
	const char *align; /* a letter a column, l or r */
	char **cells;      // [n_cells], row after row, headings first
	size_t n_cells, capacity;
};
void cli_table_begin(struct cli_table *table, const char *align);
void cli_table_cell(struct cli_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_table_print(struct cli_table *table, FILE *to); /* and frees it */

/* ---- steering.c: what steered a request. */

/* One entry for each policy: policy, scale, when, s, gate, coef; null before its gate has run. */
json_t *cli_decision_json(const struct tt_request *request, const struct cli_policies *policies, uint32_t n_layers);
/* The lines of --show-steering. */
void cli_show_steering(FILE *to, const struct tt_request *request, const struct cli_policies *policies,
	uint32_t n_layers, bool colour);

/* ---- report.c, report_map.c: the HTML page of eval. */

struct cli_report {
	const char *path;        /* of the page */
	const char *completions; /* JSON-lines file that eval wrote */
	const json_t *eval;      /* its report */
	struct tt_engine *engine;
	const struct cli_policies *policies;
	enum tt_policy_when when;
	struct cli_progress *progress;
};
int cli_report_write(const struct cli_report *report);

/* How hard every layer was pushed at every token of a prompt and its steered completion. */
struct cli_map {
	const char *prompt, *label; /* borrowed */
	int32_t *ids;               // [n_positions]
	float *push;                // [n_positions][L] |h' - h| / |h|
	size_t n_positions, n_prompt;
	float most; /* largest of push */
	bool steered;
};
/* Generates once more with norms traced. CLI_PROCEED or CLI_FAILED. */
int cli_map_trace(struct cli_map *out, const struct cli_report *report, const char *prompt, const char *label);
/* scale: the push that gets the strongest colour. */
void cli_map_write(FILE *to, const struct cli_map *map, const struct cli_report *report, float scale);
void cli_map_free(struct cli_map *map);

#endif
