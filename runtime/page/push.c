#include "runtime/page/push.h"

#include <math.h>

/* |h' - h|: exact for add, whose change is the coefficient times the direction. An ablation removes a part at a right
 * angle to the rest, so the norms give its length; for others the difference of the norms is a lower bound. */
static double change(const struct tt_policy_info *info, float coef, uint32_t layer, double before, double after)
{
	if (coef == 0)
		return 0;
	if (info->change == TT_CHANGE_DIRECTION)
		return fabs((double)coef) * (double)info->norms[layer];
	if (info->change == TT_CHANGE_PART && before > after)
		return sqrt(before * before - after * after);
	return fabs(after - before);
}

float tt_push_fill(float *push, size_t n_positions, const struct tt_request *request,
	const struct tt_steering *steering, uint32_t n_steering, uint32_t n_layers)
{
	float most = 0;
	size_t n_traced;
	const float *norms = tt_request_norms(request, &n_traced);
	if (!norms)
		n_traced = 0;
	for (uint32_t i = 0; i < n_steering; i++) {
		struct tt_policy_info info;
		tt_policy_describe(steering[i].policy, &info);
		for (size_t p = 0; p < n_positions && p < n_traced; p++) {
			const float *coef = tt_request_coefficients(request, i, p);
			for (uint32_t l = 0; coef && l < n_layers; l++) {
				const float *pair = norms + (p * n_layers + l) * 2;
				double before = (double)pair[0];
				if (before > 0)
					push[p * n_layers + l] +=
						(float)(change(&info, coef[l], l, before, (double)pair[1]) / before);
			}
		}
	}
	for (size_t i = 0; i < n_positions * n_layers; i++)
		most = fmaxf(most, push[i]);
	return most;
}

bool tt_push_is_read(const struct tt_steering *steering, uint32_t n_steering, uint32_t layer)
{
	for (uint32_t i = 0; i < n_steering; i++) {
		struct tt_policy_info info;
		tt_policy_describe(steering[i].policy, &info);
		for (uint32_t k = 0; info.gate_pool != TT_POOL_MEAN && k < info.n_observed; k++)
			if (info.observed[k] == layer)
				return true;
	}
	return false;
}
