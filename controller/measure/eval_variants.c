#include <stdlib.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/sampling.h"
#include "controller/measure/eval.h"
#include "controller/measure/variants.h"
#include "runtime/engine/engine.h"

static int check_room(const struct tt_eval *e, const struct tt_prompt *row, struct tt_error *err)
{
	struct tt_request_options request;
	int32_t *ids;
	tt_request_options_default(&request);
	TT_TRY(tt_encode_row(e->engine, row, NULL, e->options->max_tokens, &ids, &request, err));
	tt_free(ids);
	return TT_OK;
}

/* Rows are those of the evaluation, but for their text. */
static int make_rows(struct tt_eval *out, const struct tt_eval *of, enum tt_variant variant, struct tt_error *err)
{
	TT_TRY(tt_alloc(&out->prompts.rows, of->n_rows, sizeof *out->prompts.rows, err));
	TT_TRY(tt_alloc(&out->rows, of->n_rows, sizeof *out->rows, err));
	for (size_t i = 0; i < of->n_rows; i++) {
		struct tt_prompt *row = &out->prompts.rows[i];
		uint64_t seed;
		*row = *of->rows[i];
		TT_TRY(tt_eval_seed(of, row, &seed, err));
		TT_TRY(tt_variant_make(&row->text, variant, of->rows[i]->text, seed, err));
		out->prompts.n_rows = ++out->n_rows;
		out->rows[i] = row;
		TT_TRY(check_room(of, row, err));
	}
	return TT_OK;
}

int tt_eval_variants_open(struct tt_eval *e, struct tt_error *err)
{
	bool chosen[TT_N_VARIANTS];
	if (!e->options->variants)
		return TT_OK;
	TT_TRY(tt_variants_parse(chosen, e->options->variants, err));
	TT_TRY(tt_alloc(&e->variants, TT_N_VARIANTS, sizeof *e->variants, err));
	for (int i = 0; i < TT_N_VARIANTS; i++) {
		if (!chosen[i])
			continue;
		struct tt_eval *variant = &e->variants[e->n_variants++];
		*variant = (struct tt_eval){.engine = e->engine,
			.options = e->options,
			.progress = e->progress,
			.prompts = {.files = e->prompts.files, .n_files = e->prompts.n_files},
			.arms = e->arms,
			.n_arms = e->n_arms,
			.n_sides = e->n_sides,
			.variant = tt_variant_name((enum tt_variant)i)};
		TT_TRY(tt_within(make_rows(variant, e, (enum tt_variant)i, err), err, variant->variant));
	}
	return TT_OK;
}

void tt_eval_variants_close(struct tt_eval *e)
{
	for (size_t i = 0; i < e->n_variants; i++) {
		struct tt_prompts *prompts = &e->variants[i].prompts;
		for (size_t k = 0; k < prompts->n_rows; k++)
			free(prompts->rows[k].text);
		free(prompts->rows);
	}
	free(e->variants);
}
