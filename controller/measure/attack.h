/* Shared by the files of tt_attack. */
#ifndef CONTROLLER_MEASURE_ATTACK_H
#define CONTROLLER_MEASURE_ATTACK_H

#include "controller/measure/prompts.h"
#include "runtime/engine/pump.h"

enum { TT_MAX_SUFFIX = 32 }; /* words */

/* A suffix: indexes into tt_attack_words. */
struct tt_suffix {
	uint16_t words[TT_MAX_SUFFIX]; // [n]
	size_t n;
};

/* What is known of a row. */
struct tt_attacked {
	const struct tt_prompt *prompt;
	bool flagged, flagged_after; /* as it is, and with the suffix; after: also of rows that have none */
	double gate, gate_after;     /* the gate's figure, turned so that it opens upwards */
	size_t n_queries;            /* evaluations of the gate in the search */
	struct tt_suffix suffix;     /* of a harmful row that was flagged, the best that was found */
};

struct tt_attack {
	struct tt_engine *engine;
	const struct tt_attack_options *options;
	struct tt_progress progress;
	struct tt_prompts prompts;
	const struct tt_prompt **chosen; // [n] in the order of the files
	struct tt_attacked *rows;        // [n]
	size_t n;
	bool opens_below; /* the gate does */
};

/* Whether a suffix got the row past the gate. */
static inline bool tt_attack_evaded(const struct tt_attacked *row)
{
	return row->flagged && !row->flagged_after && row->prompt->label == TT_HARMFUL;
}

/* The prompt, a space, and the words of the suffix with spaces between them; the prompt alone without words. *out is
 * released with free(). */
int tt_attack_text(char **out, const char *prompt, const struct tt_suffix *suffix, struct tt_error *err);

/* attack_report.c: the report as JSON, and the rows that a fit can read; both are released with free(). */
int tt_attack_report(const struct tt_attack *attack, char **out, struct tt_error *err);
int tt_attack_rows(const struct tt_attack *attack, char **out, struct tt_error *err);

#endif
