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
	const char *arm;                    /* the arm whose completions and steering are shown; NULL: the only one */
	const struct tt_steering *steering; // [n_steering]
	uint32_t n_steering;                /* at most TT_MAX_STACK */
	struct tt_sampling sampling;        /* of the evaluation; the seed of a prompt is in its completion */
	enum tt_policy_when when;
	tt_progress_fn progress; /* or NULL; if it returns non-zero, a map is left out */
	void *user;
};
/* Writes the page. For each map it generates one completion again. */
int tt_page_write(const struct tt_page_report *report, struct tt_error *err);

#endif
