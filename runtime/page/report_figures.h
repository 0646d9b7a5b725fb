/* The figures of an evaluation, from its report, and how they are written. */
#ifndef PAGE_REPORT_FIGURES_H
#define PAGE_REPORT_FIGURES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* Cards, the table of arms by suite where there are arms, and the table of suites. */
void tt_page_figures_write(FILE *to, const json_t *eval);

/* What the first arm's gate flags of each label, and what is refused where there are completions: of the rows as they
 * are and of each variant. Nothing where there are completions and no variants. */
void tt_page_variants_write(FILE *to, const json_t *eval);
/* The curve of a gate of the report, over all files, against the rows of a label; for harmful rows, against all others.
 * NULL where there is none. */
const json_t *tt_page_curve(const json_t *gate, const char *label);

/* The gates, each once: how their figures lie, what they tell apart, and what their errors cost. Nothing where no gate
 * reads anything. */
void tt_page_gates_write(FILE *to, const json_t *eval);

/* The labels of prompts, in the order of the page. */
enum { TT_PAGE_LABELS = 3 };
extern const char *const tt_page_labels[TT_PAGE_LABELS];

/* The label of a row of the report as a tag. */
void tt_page_label(FILE *to, const json_t *row);
/* A share of the report in percent and its interval; a dash where it is null. */
void tt_page_share(FILE *to, const json_t *share, const json_t *interval);
/* A 95% interval of the report in percent, small; nothing where it is null. */
void tt_page_interval(FILE *to, const json_t *interval);

#endif
