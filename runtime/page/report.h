/* The HTML page of an evaluation: its figures, its policies, maps of the steering, and completions side by side. */
#ifndef PAGE_REPORT_H
#define PAGE_REPORT_H

#include <jansson.h>

#include "runtime/trimtab.h"

struct tt_page_report {
	const char *path;        /* of the page */
	const char *completions; /* JSON-lines file that tt_eval wrote */
	const json_t *eval;      /* its report */
	struct tt_engine *engine;
	/* What was evaluated; maps and completions are of the first. The only one may have no name (NULL). */
	const struct tt_eval_arm *arms; // [n_arms] at least one
	size_t n_arms;
	const char *command, *made;  /* of the evaluation, and when it was; NULL: the page does not say */
	struct tt_sampling sampling; /* of the evaluation; the seed of a prompt is in its completion */
	enum tt_policy_when when;
	tt_progress_fn progress; /* or NULL; if it returns non-zero, a map is left out */
	void *user;
};
/* Writes the page. For each map it generates one completion again. */
int tt_page_write(const struct tt_page_report *report, struct tt_error *err);

#endif
