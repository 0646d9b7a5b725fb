/* Contrast files: what shows a behaviour and what shows its opposite. JSON lines of three kinds, in any order:
 *   {"id", "prompt", "positive", "negative"}   a prompt with two responses to it
 *   {"id", "prompt"}                           a prompt that takes the openings in turn
 *   {"positive": [...], "negative": [...]}     openings: first words of responses
 * and optionally split in a row with a prompt. Other keys are ignored. */
#ifndef CONTROLLER_MEASURE_CONTRAST_H
#define CONTROLLER_MEASURE_CONTRAST_H

#include "controller/measure/completion.h"
#include "controller/measure/prompts.h"

enum tt_contrast_side { TT_POSITIVE, TT_NEGATIVE, TT_N_SIDES };

enum { TT_MAX_RESPONSE = 96 }; /* tokens of a response that are read */

struct tt_openings {
	char **texts; // [n]
	size_t n, capacity;
};

struct tt_contrast {
	struct tt_prompts prompts; /* those of the file, all of TT_HARMFUL, the label of what a policy is to act on */
	struct tt_openings responses[TT_N_SIDES]; // n is prompts.n_rows; NULL: the openings in turn
	struct tt_openings openings[TT_N_SIDES];
};

/* Reads a file. A bad line is refused with file, line number and field; so is a prompt that has neither responses nor
 * openings. There may be no prompt in it. */
int tt_contrast_read(struct tt_contrast *out, const char *path, struct tt_error *err);
void tt_contrast_free(struct tt_contrast *contrast);

/* Encodes the two responses of a prompt, as completions with ids and text alone, which the caller frees. If the file
 * has prompts, it must be one of those; otherwise it is any. turn says which of the openings it takes. At least two
 * tokens, or it is refused; at most TT_MAX_RESPONSE are taken. */
int tt_contrast_encode(struct tt_completion out[TT_N_SIDES], const struct tt_contrast *contrast,
	const struct tt_text *text, const struct tt_prompt *prompt, size_t turn, struct tt_error *err);

/* How much likelier a token of the positive responses is than one of the negative ones, in nats, after the prompts of
 * options [n] and under their steering. responses: [n] of each side. Takes 2 n steps of progress. */
int tt_contrast_preference(struct tt_engine *engine, const struct tt_request_options *options, size_t n,
	const struct tt_completion *const responses[TT_N_SIDES], double *out, struct tt_progress *progress,
	struct tt_error *err);

#endif
