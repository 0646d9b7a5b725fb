/* Rules that join conditions: "harmful and not borderline", "(a or b) and not c". */
#ifndef CONTROLLER_POLICY_RULE_H
#define CONTROLLER_POLICY_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "kernels/steer.h"

enum {
	TT_MAX_RULE = 256, /* bytes, which also bounds how deep brackets nest */
	TT_MAX_CONDITION_NAME = 32,
};

struct tt_rule {
	uint32_t n; /* conditions */
	char names[TT_MAX_CONDITIONS][TT_MAX_CONDITION_NAME + 1];
	uint32_t below; /* bit k: condition k holds below its threshold, not above it */
	uint32_t table; /* bit i: the rule opens where the conditions of the bits of i hold, and no others */
	char text[TT_MAX_RULE + 1];
};

/* Reads the conditions, "NAME" or "NAME below" with commas between, and the rule over them. `not` binds closest, then
 * `and`, then `or`; brackets join first. A name is of letters, digits and any of _ - . : / and is no word of the rule.
 * Without conditions (NULL) they are the names of the rule, in its order, all above. TT_ERR_FORMAT names the place; a
 * rule is also refused if it leaves a condition out, or does not depend on any. */
int tt_rule_parse(struct tt_rule *out, const char *conditions, const char *rule, struct tt_error *err);

/* Appends the conditions as tt_rule_parse reads them. */
int tt_rule_print_conditions(struct tt_buffer *out, const struct tt_rule *rule, struct tt_error *err);

#endif
