/* Two sides on the same rows. */
#include "controller/measure/eval.h"

bool tt_group_has(const struct tt_group *group, const struct tt_prompt *row)
{
	return row->label == group->label && (group->file == TT_ALL_FILES || group->file == row->file);
}

struct tt_pairs tt_eval_pairs(const struct tt_eval *e, const struct tt_group *group, enum tt_judge judge,
	const struct tt_outcome *first, const struct tt_outcome *second)
{
	struct tt_pairs pairs = {0};
	for (size_t i = 0; i < e->n_rows; i++) {
		enum tt_verdict a = first[i].verdicts[judge], b = second[i].verdicts[judge];
		if (!tt_group_has(group, e->rows[i]) || a == TT_NO_VERDICT || b == TT_NO_VERDICT)
			continue;
		pairs.n++;
		pairs.gained += a == TT_FULFILLED && b == TT_REFUSED;
		pairs.lost += a == TT_REFUSED && b == TT_FULFILLED;
	}
	return pairs;
}
