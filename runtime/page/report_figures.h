/* The figures of an evaluation, from its report, and how they are written. */
#ifndef PAGE_REPORT_FIGURES_H
#define PAGE_REPORT_FIGURES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* Cards, the table of arms by suite where there are arms, and the table of suites. */
void tt_page_figures_write(FILE *to, const json_t *eval);

/* The gates, each once: how their figures lie, what they tell apart, and what their errors cost. Nothing where no gate
 * reads anything. */
void tt_page_gates_write(FILE *to, const json_t *eval);

/* The label of a row of the report as a tag. */
void tt_page_label(FILE *to, const json_t *row);
/* A 95% interval of the report in percent, small; nothing where it is null. */
void tt_page_interval(FILE *to, const json_t *interval);

#endif
