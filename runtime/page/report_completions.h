/* The part of the page that shows completions side by side. */
#ifndef PAGE_REPORT_COMPLETIONS_H
#define PAGE_REPORT_COMPLETIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* What was asked: a line's prompt, or the last of its messages; "" where it has none. Borrowed. */
const char *tt_page_prompt(const json_t *row);
/* The completions of an arm (NULL: of all), from a file with one JSON object a line; those of variants are left out. */
json_t *tt_page_completions_read(const char *path, const char *arm);
/* The prompt that shows best what the gate does: one that it flagged, harmful and answered by the model alone where
 * there is such, or one that it let pass, benign where there is such. NULL if the gate did this to none. */
const json_t *tt_page_completions_choose(const json_t *completions, bool flagged);
void tt_page_completions_write(FILE *to, const json_t *completions);

#endif
