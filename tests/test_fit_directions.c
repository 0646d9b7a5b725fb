/* The directions of the modes of a fit against numpy and PyTorch, and the policies that are made of them. */
#include <criterion/criterion.h>
#include <jansson.h>

#include "controller/train/fit_pca.h"
#include "golden.h"

#define TINY GOLDEN("tiny-llama")
#define ROWS GOLDEN("policy/rows.jsonl")

enum { N_LAYERS = 3, WIDTH = 64 }; /* of the tiny model */

static const char *const data[] = {ROWS};

/* The rows and directions of the tiny model that the goldens are of. */
struct world {
	struct tt_engine *engine;
	struct tt_fit_options options;
	struct tt_fit_rows rows;
	struct tt_fit_directions directions;
	struct tt_progress progress;
};

static void world_make(struct world *w, bool pairs)
{
	*w = (struct world){.engine = engine_open(TINY, 4, 64)};
	tt_fit_options_default(&w->options);
	w->options.data = data;
	w->options.n_data = 1;
	w->options.seed = 3;
	must(tt_fit_rows_read(&w->rows, w->engine, &w->options, err));
	must(tt_fit_directions_make(
		&w->directions, w->engine, &w->rows, w->options.n_direction_prompts, pairs, &w->progress, err));
}

static void world_free(struct world *w)
{
	tt_fit_directions_free(&w->directions);
	tt_fit_rows_free(&w->rows);
	tt_engine_close(w->engine);
}

/* ---- Principal components */

/* 1e-4 relative, as for D, of which the component is made as long. */
Test(fit_directions, principal_components_are_those_that_numpy_finds)
{
	struct world w;
	size_t n, n_explained;
	world_make(&w, true);
	must(tt_fit_pca(&w.directions, err));
	struct tt_safetensors *file = golden_open(GOLDEN("policy/pca.safetensors"));
	float *want = golden_floats(file, "direction", &n), *explained = golden_floats(file, "explained", &n_explained);
	cr_assert(n == N_LAYERS * WIDTH && n_explained == N_LAYERS);
	for (uint32_t l = 0; l < N_LAYERS; l++) {
		double error = relative_error(w.directions.response + l * WIDTH, want + l * WIDTH, WIDTH);
		cr_expect(error <= 1e-4, "layer %u: relative error %g", l, error);
		cr_expect_float_eq(w.directions.explained[l], (double)explained[l], 1e-5, "layer %u", l);
	}
	cr_expect_null(w.directions.apology);
	free(want);
	free(explained);
	tt_safetensors_close(file);
	world_free(&w);
}

/* Made-up pairs of two numbers, whose differences are large along the first: three of five point up, though their sum
 * and D point down. Of the first four alone, two point up, and D decides. */
Test(fit_directions, the_sign_is_that_of_most_pairs)
{
	static const float difference[5][2] = {{1, 0.1f}, {-4, 0.1f}, {1, 0}, {-4, 0}, {1, -0.1f}};
	for (int k = 0; k < 4; k++) {
		int flip = k % 2 ? 1 : -1, up = k < 2 ? flip : -flip;
		struct tt_fit_directions d = {.n_layers = 1, .hidden_size = 2, .n_prompts = k < 2 ? 5 : 4};
		d.response = calloc(2, sizeof *d.response);
		d.norms = calloc(1, sizeof *d.norms);
		d.refusing = calloc(10, sizeof *d.refusing);
		d.answering = calloc(10, sizeof *d.answering);
		d.norms[0] = 2;
		d.response[0] = (float)-flip;
		for (int i = 0; i < 10; i++) {
			d.answering[i] = (float)i;
			d.refusing[i] = (float)(i + flip * difference[i / 2][i % 2]);
		}
		must(tt_fit_pca(&d, err));
		cr_expect_float_eq((double)d.response[0], up * 2, 1e-2, "case %d: %g", k, (double)d.response[0]);
		tt_fit_directions_free(&d);
	}
}

/* ---- Whole fits */

static struct tt_policy *fit(struct tt_engine *engine, const struct tt_fit_options *options, json_t **report)
{
	struct tt_policy *policy = NULL;
	char *text = NULL;
	must(tt_fit(&policy, engine, options, &text, err));
	*report = json_loads(text, 0, NULL);
	cr_assert_not_null(*report);
	tt_free(text);
	return policy;
}

static struct tt_fit_options few(enum tt_fit_mode mode)
{
	struct tt_fit_options o;
	tt_fit_options_default(&o);
	o.data = data;
	o.n_data = 1;
	o.mode = mode;
	o.judge_tokens = 6;
	o.max_candidates = 6;
	return o;
}

/* Without an E, every candidate is along the component. */
Test(fit_directions, a_fit_by_principal_components_goes_through)
{
	struct tt_engine *engine = engine_open(TINY, 8, 64), *other = engine_open(TINY, 3, 16);
	struct tt_fit_options o = few(TT_FIT_PCA);
	json_t *report, *again, *candidate;
	size_t i;
	o.search_layer_weights = true;
	struct tt_policy *a = fit(engine, &o, &report), *b = fit(other, &o, &again);
	cr_expect_arr_eq(a->directions, b->directions, N_LAYERS * WIDTH * sizeof(float));
	cr_expect(a->alpha == b->alpha);
	cr_expect_str_eq(json_string_value(json_object_get(report, "mode")), "pca");
	const json_t *directions = json_object_get(report, "directions");
	cr_expect_eq(json_array_size(json_object_get(directions, "explained")), N_LAYERS);
	json_array_foreach(json_object_get(report, "candidates"), i, candidate)
		cr_expect_eq(json_number_value(json_object_get(candidate, "mix")), 0);
	json_decref(report);
	json_decref(again);
	tt_policy_free(a);
	tt_policy_free(b);
	tt_engine_close(engine);
	tt_engine_close(other);
}
