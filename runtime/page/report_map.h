/* The map of the steering: how hard each layer was pushed at each token. */
#ifndef PAGE_REPORT_MAP_H
#define PAGE_REPORT_MAP_H

#include <stdio.h>

#include "runtime/page/report.h"

/* How hard every layer was pushed at every token of a prompt and its steered completion. */
struct tt_page_map {
	const char *prompt, *label; /* borrowed */
	int32_t *ids;               // [n_positions]
	float *push;                // [n_positions][L] |h' - h| / |h|
	size_t n_positions, n_prompt;
	float most; /* the largest value of push */
	bool steered;
};
/* Generates the completion of a line of eval's completions, which must outlive the map, again and records the norms.
 * Free the map even if this fails. */
int tt_page_map_trace(
	struct tt_page_map *out, const struct tt_page_report *report, const json_t *row, struct tt_error *err);
/* scale: the push that gets the strongest colour. */
void tt_page_map_write(FILE *to, const struct tt_page_map *map, const struct tt_page_report *report, float scale);
void tt_page_map_free(struct tt_page_map *map);

#endif
