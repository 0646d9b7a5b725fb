/* Questions with choices, of which one is right: a model answers with the choice that it finds likeliest. */
#ifndef CONTROLLER_MEASURE_CHOICES_H
#define CONTROLLER_MEASURE_CHOICES_H

#include "controller/measure/completion.h"

enum { TT_MAX_QUESTION_CHOICES = 16 };

/* What the model reads of a row. Zeros: "Question: QUESTION\nAnswer:" and " CHOICE", or the row's context and CHOICE as
 * they are. */
struct tt_choices_form {
	bool letters;  /* "QUESTION\nA. CHOICE\nB. CHOICE\nAnswer:" and " A" */
	bool chat;     /* the question, or context, is a user message, and the choice, or letter, its answer */
	unsigned text; /* of enum tt_text_flags, for what is no chat */
};

struct tt_question {
	char *id;                         /* the row's, or its line number */
	struct tt_request_options prompt; /* ids are the question's own */
	size_t first, n;                  /* its choices */
	uint32_t answer;                  /* index of the right one, below n */
};

struct tt_choices {
	struct tt_question *questions; // [n]
	size_t n;
	/* ids: what follows the prompt's; text: that of the choice, or its letter, without the space before it */
	struct tt_completion *choices; // [n_choices]
	size_t n_choices;
	size_t capacity, choices_capacity;
	char sha256[65]; /* of the file */
};

/* Reads JSON lines with question or context, choices (2 to TT_MAX_QUESTION_CHOICES texts) and answer (the right one's
 * index from 0, or its letter), the first `limit` of them or, with 0, all. Other keys are ignored. A bad line, or one
 * that the engine's context does not hold, is refused with file, line and field.
 *
 * Without chat the ids are those of EleutherAI's lm-evaluation-harness: white space at the end of a context goes to the
 * choices, and the ids of a choice are those of both texts together after as many as the context has alone. */
int tt_choices_read(struct tt_choices *out, struct tt_engine *engine, const char *path,
	const struct tt_choices_form *form, uint32_t limit, struct tt_error *err);
void tt_choices_free(struct tt_choices *choices);

/* Scores the choices of questions [first, first + n) under the steering of how (its ids are ignored), or unsteered
 * where it has none: scored (of so many choices, empty before) gets copies with their logprob. Takes a step of progress
 * for each. */
int tt_choices_score(struct tt_engine *engine, const struct tt_choices *choices, size_t first, size_t n,
	const struct tt_request_options *how, struct tt_completion *scored, struct tt_progress *progress,
	struct tt_error *err);

/* How the log-probabilities of a question's choices are compared. */
enum tt_choice_by {
	TT_BY_SUM,       /* as they are: lm-eval's acc */
	TT_BY_CHARACTER, /* over the number of characters: lm-eval's acc_norm */
	TT_BY_TOKEN,     /* over the number of ids */
};
/* The index of the best of n choices; of equals the first. */
size_t tt_choices_best(const struct tt_completion *choices, size_t n, enum tt_choice_by by);

/* The share of questions whose right choice is the best by token, under the steering of how. Takes n_choices steps of
 * progress. */
int tt_choices_accuracy(struct tt_engine *engine, const struct tt_choices *choices,
	const struct tt_request_options *how, double *accuracy, struct tt_progress *progress, struct tt_error *err);

#endif
