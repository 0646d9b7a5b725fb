/* Prompt files: JSON lines with id, prompt, label and, optionally, split, source and kind. A row without a prompt may
 * have messages, a conversation whose last message, a user's, is the prompt. Other keys are ignored, and so are source
 * and kind where they are no text. */
#ifndef CONTROLLER_MEASURE_PROMPTS_H
#define CONTROLLER_MEASURE_PROMPTS_H

#include <stdbool.h>

#include "base/json.h"
#include "base/memory.h"
#include "runtime/trimtab.h"

enum tt_label { TT_HARMFUL, TT_BENIGN, TT_BORDERLINE, TT_N_LABELS };
/* Other names than train, val (validation, dev) and test are read where nothing is fitted. */
enum tt_split { TT_TRAIN, TT_VAL, TT_TEST, TT_NO_SPLIT, TT_OTHER_SPLIT };

struct tt_prompt {
	char *id, *text;
	char *before; /* the messages before the prompt, as a JSON list; NULL where it stands alone */
	char *bytes;  /* the whole line, which holds no 0 */
	enum tt_label label;
	enum tt_split split;
	char *split_name;    /* as the row has it; NULL for TT_NO_SPLIT */
	uint32_t file;       /* index into the list of files */
	uint32_t line;       /* in that file, from 1 */
	char *source, *kind; /* where it comes from and what it is like, "" if the row does not say */
	uint32_t origin;     /* rows of one origin have the same file and source */
	uint32_t group;      /* rows of one group have the same kind too */
	bool reviewed;       /* a person has judged it: the label is the verdict */
	bool is_text; /* labelled text: no request, but text that a gate should leave alone. The label is TT_BENIGN */
};

struct tt_prompt_file {
	char *path;
	char sha256[65];
	size_t n_rows;
};

struct tt_prompts {
	struct tt_prompt *rows;
	size_t n_rows, capacity;
	struct tt_prompt_file *files;
	size_t n_files;
	uint32_t n_origins, n_groups;
};

#define TT_ALL_FILES SIZE_MAX /* in the place of an index of a file */

/* Reads the files in order. A bad line is refused, with file, line number and field. Repeated ids are refused. harmful
 * and benign are the words for these labels; NULL: "harmful", "benign". */
int tt_prompts_read(struct tt_prompts *out, const char *const *paths, size_t n_paths, const char *harmful,
	const char *benign, struct tt_error *err);
/* The same of files of another form; zeros are that of tt_prompts_read. */
struct tt_prompt_form {
	const char *harmful, *benign; /* as above */
	/* If it is not NULL, rows have no label, which is TT_HARMFUL then. It is called with each row before that is
	 * read, and says whether the row holds a prompt; a row that holds none is read no further. */
	int (*take)(void *user, const struct tt_json_line *line, bool *holds_prompt, struct tt_error *err);
	void *user;
	bool any_split; /* a split may have any name */
	bool texts;     /* rows labelled text are wanted; else they are read no further */
	/* Rows have a verdict: a label, or "keep" where theirs is right. A row without one is read no further. */
	bool reviewed;
};
int tt_prompts_read_as(struct tt_prompts *out, const char *const *paths, size_t n_paths,
	const struct tt_prompt_form *form, struct tt_error *err);
/* The rows of reviewed files on which there is a verdict, which is then their label, and all rows of the files to
 * replay, which have the form (its words are not those of reviewed files). Where both have a prompt, that of the
 * reviewed files is the one that is kept; *n_replaced are those that it replaced. Refused where there is no verdict. */
int tt_prompts_read_reviewed(struct tt_prompts *out, const char *const *reviewed, size_t n_reviewed,
	const char *const *replay, size_t n_replay, const struct tt_prompt_form *form, size_t *n_replaced,
	struct tt_error *err);
/* Removes the rows that are marked [n_rows]. */
void tt_prompts_remove(struct tt_prompts *prompts, const bool *marked);
void tt_prompts_free(struct tt_prompts *prompts);
/* The rows of a split (NULL: of all), at most limit of each label and file (0: all of them), in the order of the files.
 * *out [*n] is released with free(). TT_ERR_ARGUMENT where no row is left. */
int tt_prompts_choose(const struct tt_prompts *prompts, const char *split, uint32_t limit,
	const struct tt_prompt ***out, size_t *n, struct tt_error *err);

/* The name of a file without its folders. */
const char *tt_prompts_file_name(const struct tt_prompts *prompts, size_t file);
const char *tt_label_name(enum tt_label label);

/* The date that templates see, so that what was run can be run again: 1 January 2025. */
enum { TT_FIXED_DATE = 1735689600 };

/* The ids of a prompt as a user message in the model's chat template, or as plain text if there is no template. The
 * template sees TT_FIXED_DATE. what names the prompt in messages; room is how
 * many tokens must fit after it. *ids is released with tt_free; it becomes the request's, with n_ids and the span of
 * the prompt's own text in them (mean_from, mean_to). */
int tt_encode_prompt(struct tt_engine *engine, const char *prompt, const char *what, size_t room, int32_t **ids,
	struct tt_request_options *request, struct tt_error *err);
/* The same of a row, after the messages before it, which need a template. text: instead of the row's; NULL: its own. */
int tt_encode_row(struct tt_engine *engine, const struct tt_prompt *row, const char *text, size_t room, int32_t **ids,
	struct tt_request_options *request, struct tt_error *err);
/* Puts prompt into object, or messages where there are some before it: what a row of a prompt file has. */
int tt_prompt_put(json_t *object, const struct tt_prompt *row, const char *text, struct tt_error *err);

#endif
