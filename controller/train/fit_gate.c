/* Which of the trained gates a policy gets. */
#include "controller/train/fit_gate.h"

#include <stdlib.h>

/* A gate that is known before the first steered layer needs one pass; a later one needs two for flagged prompts. So the
 * former is preferred even if its balanced accuracy is lower by this much. */
static const double early_slack = 0.01;

/* The best of the gates that are known before layer limit; NULL if there are none. */
static const struct tt_fit_gate *best_gate(const struct tt_fit_gates *gates, uint32_t limit)
{
	const struct tt_fit_gate *best = NULL;
	for (uint32_t k = 0; k < gates->n; k++) {
		const struct tt_fit_gate *g = &gates->gates[k];
		if (g->known_after >= limit)
			continue;
		if (!best || g->balanced > best->balanced + 1e-9 ||
			(g->balanced > best->balanced - 1e-9 && g->loss < best->loss))
			best = g;
	}
	return best;
}

const struct tt_fit_gate *tt_fit_choose_gate(const struct tt_fit_gates *gates, uint32_t first, enum tt_policy_when when)
{
	const struct tt_fit_gate *best = best_gate(gates, UINT32_MAX), *early = best_gate(gates, first);
	/* No gate is too late for generated tokens, which come after all layers of the prompt. */
	if (when == TT_WHEN_GENERATION || !early || early->balanced < best->balanced - early_slack)
		return best;
	return early;
}

void tt_fit_gates_free(struct tt_fit_gates *gates)
{
	for (uint32_t k = 0; k < gates->n; k++) {
		free(gates->gates[k].observe);
		for (int label = 0; label < TT_N_LABELS; label++)
			free(gates->gates[k].flags[label]);
	}
	free(gates->gates);
	*gates = (struct tt_fit_gates){0};
}
