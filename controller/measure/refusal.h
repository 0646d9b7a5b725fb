/* Whether a completion refuses, in two ways: in substance, and by the phrases of the paper. docs/refusals.md says what
 * counts as a refusal in substance, and how often tt_refuses agrees with people who read. */
#ifndef CONTROLLER_MEASURE_REFUSAL_H
#define CONTROLLER_MEASURE_REFUSAL_H

#include <stdbool.h>

/* What a model that was asked says of a completion. */
enum tt_verdict { TT_NO_VERDICT, TT_FULFILLED, TT_REFUSED };

/* Whether the text, near its start, says that what was asked will not or cannot be done. Reads English only. */
bool tt_refuses(const char *text);

/* Whether the text contains one of the 13 refusal phrases of arXiv 2505.20309, in upper or lower case, with plain or
 * typographic apostrophes. */
bool tt_refuses_by_phrases(const char *text);

#endif
