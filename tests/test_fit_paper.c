/* The controller of arXiv 2505.20309 as fit makes it, in both forms: its directions against NumPy, which rows and
 * layers it has, what its network says of a row against a plain loop, what its report says, and that the file runs.
 * (Its training is compared with PyTorch's in test_train_mlp.) */
#include <jansson.h>

#include "controller/train/fit.h"
#include "controller/train/fit_embedding.h"
#include "controller/train/fit_mlp.h"
#include "golden.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")

static const char *const FILES[] = {"rows.jsonl", "a.safetensors", "b.safetensors"};
enum { WIDTH = 64, LAYERS = 3, UNITS = 1024, OUTPUTS = 1 + LAYERS };
static const enum tt_fit_mode MODES[] = {TT_FIT_PAPER, TT_FIT_RELEASED};
enum { N_MODES = sizeof MODES / sizeof *MODES };

/* ---- Directions */

static void check_direction(const char *path, const char *name, bool input)
{
	struct tt_safetensors *file = golden_open(GOLDEN("policy/phrases.safetensors"));
	struct tt_engine *engine = engine_open(path, 4, 64);
	const struct tt_model *model = engine->model;
	struct tt_fit_directions d;
	size_t n;
	float *want = golden_floats(file, name, &n);
	must(tt_fit_embedding_make(&d, engine, input ? &model->embedding : &model->output, err));
	cr_assert(d.hidden_size == n && d.n_layers == model->config.n_layers && !d.apology && !d.stream_norms);
	for (uint32_t l = 0; l < d.n_layers; l++) {
		/* Both sum in double and round once. */
		double error = relative_error(d.response + l * n, want, n);
		cr_expect(error <= 1e-7, "%s, layer %u: relative error %g", name, l, error);
		cr_expect_eq(d.norms[l], 1);
	}
	tt_fit_directions_free(&d);
	free(want);
	tt_safetensors_close(file);
	tt_engine_close(engine);
}

Test(fit_paper, directions_are_those_that_numpy_finds_in_the_embedding)
{
	check_direction(TINY, "tiny-llama.output", false);
	check_direction(TINY, "tiny-llama.input", true);
	check_direction(GOLDEN("tiny-mistral"), "tiny-mistral.output", false);
	check_direction(GOLDEN("tiny-mistral"), "tiny-mistral.input", true);
	check_direction(GOLDEN("tiny-llama/tiny-llama.q5_0.gguf"), "tiny-llama.q5_0.gguf.output", false);
	check_direction(GOLDEN("tiny-k/tiny-k.q4_k.gguf"), "tiny-k.q4_k.gguf.output", false);
}

Test(fit_paper, rows_that_are_not_there_are_refused)
{
	const float numbers[4] = {1, 2, 3, 4};
	struct tt_matrix matrix = {.data = numbers, .type = TT_TYPE_F32, .n_out = 2, .n_in = 2};
	struct tt_error failure = {0};
	float row[2];
	must(tt_matrix_row(&matrix, 1, row, err));
	cr_expect(row[0] == 3 && row[1] == 4);
	cr_expect_eq(tt_matrix_row(&matrix, 2, row, &failure), TT_ERR_ARGUMENT);
	matrix.data = NULL;
	cr_expect_eq(tt_matrix_row(&matrix, 0, row, &failure), TT_ERR_UNSUPPORTED);
	/* Two phrases' words alike: nothing tells refusing from answering. */
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_fit_directions d;
	float *zeros = calloc(288 * WIDTH, sizeof *zeros);
	const struct tt_matrix same = {.data = zeros, .type = TT_TYPE_F32, .n_out = 288, .n_in = WIDTH};
	const struct tt_matrix few = {.data = zeros, .type = TT_TYPE_F32, .n_out = 100, .n_in = WIDTH};
	cr_expect_eq(tt_fit_embedding_make(&d, engine, &same, &failure), TT_ERR_UNSUPPORTED);
	tt_fit_directions_free(&d);
	cr_expect_eq(tt_fit_embedding_make(&d, engine, &few, &failure), TT_ERR_ARGUMENT);
	tt_fit_directions_free(&d);
	free(zeros);
	tt_engine_close(engine);
}

Test(fit_paper, the_paper_reads_the_last_third_and_the_code_the_last_four_layers)
{
	static const struct {
		uint32_t n_layers, paper, released;
	} cases[] = {{32, 22, 28}, {16, 11, 12}, {30, 20, 26}, {24, 16, 20}, {5, 4, 1}, {4, 3, 0}, {3, 2, 0}, {1, 0, 0},
		{512, 342, 508}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint32_t n = cases[i].n_layers;
		cr_expect_eq(tt_fit_mlp_first_layer(TT_FIT_PAPER, n), cases[i].paper, "%u layers", n);
		cr_expect_eq(tt_fit_mlp_first_layer(TT_FIT_RELEASED, n), cases[i].released, "%u layers", n);
	}
}

/* ---- A fit */

/* The rows of the golden, and borderline ones of either split. */
static const char *write_rows(struct scratch *s)
{
	struct tt_buffer text = {0};
	must(tt_file_read(&text, GOLDEN("policy/rows.jsonl"), 1 << 20, err));
	for (int i = 0; i < 5; i++)
		must(tt_buffer_print(&text, err,
			"{\"id\":\"x%d\",\"prompt\":\"one rat in the %d "
			"barn\",\"label\":\"borderline\",\"split\":\"%s\"}\n",
			i, i, i < 2 ? "train" : "val"));
	const char *path = scratch_write(s, FILES[0], text.data, text.len);
	tt_buffer_free(&text);
	return path;
}

static void set_options(struct tt_fit_options *o, enum tt_fit_mode mode, const char *const *path)
{
	tt_fit_options_default(o);
	o->mode = mode;
	o->data = path;
	o->n_data = 1;
	o->judge_tokens = 5;
	o->n_judge_prompts = 3;
	o->seed = 7;
}

static json_t *run_fit(struct tt_policy **policy, struct tt_engine *engine, const struct tt_fit_options *options)
{
	char *report = NULL;
	must(tt_fit(policy, engine, options, &report, err));
	json_t *object = json_loads(report, 0, NULL);
	cr_assert_not_null(object, "%s", report);
	tt_free(report);
	return object;
}

static double number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	cr_assert(json_is_number(value), "%s", key);
	return json_number_value(value);
}

/* What is fixed by the mode. */
static void check_policy(const struct tt_policy *p, enum tt_fit_mode mode, const struct tt_engine *engine)
{
	bool paper = mode == TT_FIT_PAPER;
	struct tt_safetensors *file = golden_open(GOLDEN("policy/phrases.safetensors"));
	size_t n;
	float *want = golden_floats(file, "tiny-llama.output", &n);
	cr_expect(p->op == TT_OP_ADD && p->form == 0 && p->alpha == (paper ? 2 : 4));
	cr_expect_eq(p->when, paper ? TT_WHEN_GENERATION : TT_WHEN_LAST);
	cr_expect(p->gate == TT_GATE_MLP && p->gate_form == 1 && p->pool == TT_POOL_LAST && p->n_units == UNITS);
	cr_assert_eq(p->n_observed, paper ? 1 : 3);
	cr_expect_eq(p->observed[0], paper ? 2 : 0);
	cr_expect_eq(p->observed[p->n_observed - 1], 2);
	for (uint32_t l = 0; l < LAYERS; l++) {
		bool steered = paper || l == LAYERS - 1;
		cr_expect_eq(p->weights[l], steered);
		cr_expect_eq(tt_policy_has_direction(p, l), steered);
		if (steered)
			cr_expect(relative_error(p->directions + l * WIDTH, want, WIDTH) <= 1e-7);
	}
	cr_expect_str_eq(p->fingerprint, tt_engine_info(engine)->fingerprint);
	cr_expect_str_eq(p->weights_digest, tt_engine_info(engine)->weights_digest);
	cr_expect_not_null(strstr(p->fitted_on, "\"rows.jsonl\""), "%s", p->fitted_on);
	free(want);
	tt_safetensors_close(file);
}

/* z [OUTPUTS] of a prompt by the policy's tensors, from states that a request kept. */
static void run_network(const struct tt_policy *p, struct tt_engine *engine, const struct tt_fit_row *row, double *z)
{
	const uint64_t layers = 7;
	struct tt_request_options options;
	static double x[LAYERS * WIDTH], units[UNITS];
	size_t n_in = (size_t)p->n_observed * WIDTH;
	tt_request_options_default(&options);
	options.ids = row->ids;
	options.n_ids = row->n_ids;
	options.keep_layers = &layers;
	options.keep_from = row->n_ids - 1;
	struct tt_request *request = request_run(engine, &options);
	for (uint32_t k = 0; k < p->n_observed; k++)
		for (size_t j = 0; j < WIDTH; j++)
			x[k * WIDTH + j] = (double)tt_request_hidden(request, p->observed[k])[j];
	for (size_t u = 0; u < UNITS; u++) {
		units[u] = (double)p->fc1_bias[u];
		for (size_t j = 0; j < n_in; j++)
			units[u] += (double)p->fc1_weight[u * n_in + j] * x[j];
		units[u] = fmax(units[u], 0);
	}
	for (size_t o = 0; o < OUTPUTS; o++) {
		z[o] = (double)p->fc2_bias[o];
		for (size_t u = 0; u < UNITS; u++)
			z[o] += (double)p->fc2_weight[o * UNITS + u] * units[u];
	}
	tt_request_free(request);
}

static struct tt_request *steered(
	struct tt_engine *engine, const struct tt_fit_row *row, struct tt_policy *policy, uint32_t max_tokens)
{
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.ids = row->ids;
	options.n_ids = row->n_ids;
	options.max_tokens = max_tokens;
	options.n_steering = policy != NULL;
	options.steering[0] = (struct tt_steering){policy, 1};
	return request_run(engine, &options);
}

/* s and the coefficients that the engine has of a row, against z. Sums of a few hundred f32 products differ by 1e-6. */
static void check_decision(
	struct tt_engine *engine, struct tt_policy *policy, const struct tt_fit_row *row, const double *z)
{
	struct tt_decision decision;
	struct tt_request *request = steered(engine, row, policy, 1);
	cr_assert(tt_request_decision(request, 0, &decision));
	cr_expect_float_eq((double)decision.s, z[0], 1e-5 * fmax(1, fabs(z[0])), "%s", row->prompt->id);
	for (uint32_t l = 0; l < LAYERS; l++) {
		double w = (double)policy->weights[l] / (1 + exp(-z[1 + l])), c = (double)policy->alpha * z[0] * w;
		cr_expect_float_eq(
			(double)decision.coef[l], c, 1e-5 * fmax(1, fabs(c)), "%s, layer %u", row->prompt->id, l);
	}
	tt_request_free(request);
}

/* Figures of the val rows, worked out from z of each. */
struct figures {
	double s[TT_N_LABELS], flagged[TT_N_LABELS], n[TT_N_LABELS], least_w, most_w;
};

static void check_figures(const json_t *gate, const struct figures *f)
{
	static const char *const means[] = {"s_harmful", "s_benign", "s_borderline"};
	static const char *const shares[] = {"flagged_harmful", "flagged_benign", "flagged_borderline"};
	const json_t *w = json_object_get(gate, "w");
	/* The report has six digits. */
	for (int label = 0; label < TT_N_LABELS; label++) {
		double mean = f->s[label] / f->n[label];
		cr_expect_float_eq(number(gate, means[label]), mean, 2e-5 * fmax(1, fabs(mean)));
		cr_expect_float_eq(number(gate, shares[label]), f->flagged[label] / f->n[label], 1e-5);
	}
	cr_expect_float_eq(number(w, "least"), f->least_w, 1e-5);
	cr_expect_float_eq(number(w, "most"), f->most_w, 1e-5);
	cr_expect(number(w, "mean") > f->least_w && number(w, "mean") < f->most_w);
}

static void check_gate(
	struct tt_engine *engine, struct tt_policy *policy, const struct tt_fit_rows *rows, const json_t *gate)
{
	const json_t *held = json_object_get(gate, "held_out");
	struct figures f = {.least_w = 1};
	size_t k = 0;
	for (int label = 0; label < TT_N_LABELS; label++)
		for (size_t i = 0; i < rows->val[label].n; i++, k++) {
			const struct tt_fit_row *row = &rows->val[label].rows[i];
			const json_t *entry = json_array_get(held, k);
			double z[OUTPUTS];
			run_network(policy, engine, row, z);
			cr_expect_str_eq(json_string_value(json_object_get(entry, "id")), row->prompt->id);
			cr_expect_float_eq(number(entry, "s"), z[0], 2e-5 * fmax(1, fabs(z[0])));
			f.s[label] += z[0];
			f.flagged[label] += z[0] > 0.5;
			f.n[label]++;
			for (int l = 0; l < LAYERS; l++) {
				f.least_w = fmin(f.least_w, 1 / (1 + exp(-z[1 + l])));
				f.most_w = fmax(f.most_w, 1 / (1 + exp(-z[1 + l])));
			}
			check_decision(engine, policy, row, z);
		}
	cr_expect_eq(json_array_size(held), k);
	check_figures(gate, &f);
}

static void check_training(const json_t *gate, enum tt_fit_mode mode)
{
	const json_t *training = json_object_get(gate, "training"), *losses = json_object_get(training, "losses");
	size_t epochs = mode == TT_FIT_PAPER ? 4 : 10;
	cr_expect_eq(number(gate, "units"), UNITS);
	cr_expect_eq(number(training, "rows"), 12, "six of each, and none that is borderline");
	cr_expect_eq(number(training, "epochs"), (double)epochs);
	cr_expect_eq(number(training, "batch"), mode == TT_FIT_PAPER ? 4 : 8);
	cr_expect_eq(number(training, "steps"), mode == TT_FIT_PAPER ? 12 : 20);
	cr_assert_eq(json_array_size(losses), epochs);
	cr_expect_lt(
		json_number_value(json_array_get(losses, epochs - 1)), json_number_value(json_array_get(losses, 0)));
	cr_expect_geq(number(training, "accuracy"), 0.5);
}

/* The judge runs every prompt under the policy as it is: its share of changed benign completions, counted again. */
static void check_judge(
	struct tt_engine *engine, struct tt_policy *policy, const struct tt_fit_rows *rows, const json_t *report)
{
	const json_t *chosen = json_object_get(report, "chosen");
	double changed = 0, n = number(chosen, "n_benign"), refused = number(chosen, "refused");
	cr_expect(n == 3 && number(chosen, "n_harmful") == 3);
	for (size_t i = 0; i < 3; i++) {
		const struct tt_fit_row *row = &rows->val[TT_BENIGN].rows[i];
		struct tt_request *a = steered(engine, row, NULL, 5), *b = steered(engine, row, policy, 5);
		size_t n_ids = tt_request_n_generated(a);
		changed += n_ids != tt_request_n_generated(b) ||
			   memcmp(tt_request_generated(a), tt_request_generated(b), n_ids * sizeof(int32_t)) != 0;
		tt_request_free(a);
		tt_request_free(b);
	}
	cr_expect_float_eq(number(chosen, "benign_changed"), changed / n, 1e-5);
	cr_expect_eq(number(chosen, "refused_gated"), refused, "there is no open gate beside this one");
	cr_expect_eq(json_array_size(json_object_get(report, "candidates")), 1);
	cr_expect_eq(
		json_is_true(json_object_get(chosen, "out")), json_is_false(json_object_get(report, "within_bars")));
}

static void check_mode(enum tt_fit_mode mode, const char *word)
{
	struct scratch s;
	struct tt_fit_options options;
	struct tt_fit_rows rows;
	struct tt_policy *policy = NULL;
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	scratch_make(&s);
	const char *path = write_rows(&s);
	set_options(&options, mode, &path);
	json_t *report = run_fit(&policy, engine, &options), *gate = json_object_get(report, "gate");
	must(tt_fit_rows_read(&rows, engine, &options, err));
	must(tt_engine_add_policy(engine, policy, NULL, err));
	cr_expect_str_eq(json_string_value(json_object_get(report, "mode")), word);
	cr_expect(json_is_null(json_object_get(json_object_get(report, "directions"), "stream_norms")));
	check_policy(policy, mode, engine);
	check_training(gate, mode);
	check_gate(engine, policy, &rows, gate);
	check_judge(engine, policy, &rows, report);
	json_decref(report);
	tt_fit_rows_free(&rows);
	must(tt_engine_remove_policy(engine, policy, err));
	tt_policy_free(policy);
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

Test(fit_paper, the_papers_form_has_its_rows_layers_and_figures)
{
	check_mode(TT_FIT_PAPER, "paper");
}

Test(fit_paper, the_released_form_has_its_rows_layers_and_figures)
{
	check_mode(TT_FIT_RELEASED, "released");
}

static struct tt_buffer saved(const struct tt_policy *policy, struct scratch *s, const char *name)
{
	struct tt_buffer bytes = {0};
	const char *path = scratch_write(s, name, "", 0);
	must(tt_policy_save(policy, path, err));
	must(tt_file_read(&bytes, path, 1 << 24, err));
	return bytes;
}

/* But for the time in it. The file is read again and steers as what was written. */
Test(fit_paper, the_same_seed_writes_the_same_bytes_which_run)
{
	struct tt_engine *engine = engine_open(TINY, 8, 64), *other = engine_open(TINY, 3, 16);
	struct scratch s;
	scratch_make(&s);
	char path[512];
	snprintf(path, sizeof path, "%s", write_rows(&s));
	for (int m = 0; m < N_MODES; m++) {
		struct tt_fit_options options;
		struct tt_policy *a = NULL, *b = NULL, *c = NULL, *again = NULL;
		struct tt_fit_rows rows;
		set_options(&options, MODES[m], (const char *const[]){path});
		options.n_judge_prompts = 1;
		json_decref(run_fit(&a, engine, &options));
		json_decref(run_fit(&b, other, &options));
		must(tt_policy_set_text(&b->created, a->created, err));
		struct tt_buffer x = saved(a, &s, FILES[1]), y = saved(b, &s, FILES[2]);
		cr_expect(x.len == y.len && memcmp(x.data, y.data, x.len) == 0, "mode %d", m);
		must(tt_policy_load(&again, s.path, err));
		must(tt_fit_rows_read(&rows, engine, &options, err));
		must(tt_engine_add_policy(engine, a, NULL, err));
		must(tt_engine_add_policy(engine, again, NULL, err));
		struct tt_policy *both[] = {a, again};
		struct tt_decision decisions[2];
		struct tt_request *requests[2];
		for (int i = 0; i < 2; i++) {
			requests[i] = steered(engine, &rows.val[TT_HARMFUL].rows[0], both[i], 4);
			cr_assert(tt_request_decision(requests[i], 0, &decisions[i]));
		}
		cr_expect(decisions[0].s == decisions[1].s && decisions[0].s != 0);
		cr_expect_arr_eq(decisions[0].coef, decisions[1].coef, LAYERS * sizeof(float));
		options.seed++;
		json_decref(run_fit(&c, engine, &options));
		/* The paper's form keeps where these weights started, but for decay. */
		cr_expect(memcmp(a->fc2_weight + UNITS, c->fc2_weight + UNITS, LAYERS * UNITS * sizeof(float)) != 0,
			"another seed, mode %d", m);
		for (int i = 0; i < 2; i++) {
			tt_request_free(requests[i]);
			must(tt_engine_remove_policy(engine, both[i], err));
		}
		tt_policy_free(a);
		tt_policy_free(b);
		tt_policy_free(c);
		tt_policy_free(again);
		tt_fit_rows_free(&rows);
		tt_buffer_free(&x);
		tt_buffer_free(&y);
	}
	tt_engine_close(engine);
	tt_engine_close(other);
	scratch_remove(&s, FILES, 3);
}

/* The paper's direction is that of the output embedding, the code's that of the input embedding. */
Test(fit_paper, each_form_takes_its_embedding)
{
	static const char *const data[] = {GOLDEN("policy/rows.jsonl")};
	static const char *const names[N_MODES] = {"tiny-mistral.output", "tiny-mistral.input"};
	struct tt_safetensors *file = golden_open(GOLDEN("policy/phrases.safetensors"));
	struct tt_engine *engine = engine_open(GOLDEN("tiny-mistral"), 4, 64);
	for (int m = 0; m < N_MODES; m++) {
		struct tt_fit_options options;
		struct tt_policy *policy = NULL;
		size_t n;
		float *want = golden_floats(file, names[m], &n);
		set_options(&options, MODES[m], data);
		options.n_judge_prompts = 1;
		json_decref(run_fit(&policy, engine, &options));
		double error = relative_error(policy->directions + 2 * n, want, n);
		cr_expect(error <= 1e-7, "%s: relative error %g", names[m], error);
		free(want);
		tt_policy_free(policy);
	}
	tt_engine_close(engine);
	tt_safetensors_close(file);
}

/* A push so long that no completion stays, through a gate that is made to flag nothing. */
Test(fit_paper, a_graded_gate_is_judged_on_all_prompts_whether_it_flags_them_or_not)
{
	static const char *const data[] = {GOLDEN("policy/rows.jsonl")};
	const float weights[LAYERS] = {1, 1, 1};
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_progress progress = {0};
	struct tt_fit_options options;
	struct tt_fit fit = {.options = &options, .engine = engine, .info = tt_engine_info(engine)};
	set_options(&options, TT_FIT_PAPER, data);
	must(tt_fit_rows_read(&fit.rows, engine, &options, err));
	must(tt_fit_embedding_make(&fit.directions, engine, &engine->model->output, err));
	must(tt_fit_mlp_make(&fit.gate, engine, &fit.rows, &options, NULL, &progress, err));
	must(tt_fit_judge_open(&fit.judge, engine, &fit.rows, &options, &progress, err));
	for (int label = 0; label < TT_N_LABELS; label++)
		memset(fit.gate.flags[label], 0, fit.rows.val[label].n * sizeof(bool));
	fit.search = (struct tt_fit_search){.info = fit.info,
		.directions = &fit.directions,
		.gate = &fit.gate,
		.judge = &fit.judge,
		.when = TT_WHEN_ALL};
	must(tt_fit_search_fixed(&fit.search, weights, 1e4, err));
	struct tt_candidate *c = fit.search.candidates;
	cr_expect(c == fit.search.chosen && c->alpha == 1e4f && c->first == 0 && c->last == LAYERS - 1);
	cr_expect_eq(c->figures.diverged, 1);
	for (uint32_t i = 0; i < c->n_harmful; i++)
		c->harmful[i].refused = true;
	tt_fit_rate(&fit.judge, c);
	cr_expect(c->figures.refused == 1 && c->figures.refused_gated == 1);
	tt_fit_search_free(&fit.search);
	tt_fit_judge_close(&fit.judge);
	tt_fit_gate_free(&fit.gate);
	tt_fit_directions_free(&fit.directions);
	tt_fit_rows_free(&fit.rows);
	tt_engine_close(engine);
}

static void add_rows(struct tt_buffer *text, size_t n, const char *label)
{
	for (size_t i = 0; i < n; i++)
		must(tt_buffer_print(text, err,
			"{\"id\":\"%s%zu\",\"prompt\":\"a\",\"label\":\"%s\",\"split\":\"train\"}\n", label, i, label));
}

/* As many rows of each label, three quarters of the gate's prompts and 500 at most. */
Test(fit_paper, rows_of_both_labels_are_as_many_and_bounded)
{
	static const struct {
		uint32_t n_gate_prompts;
		size_t n_harmful, n_benign, n_each; /* train rows beside six of each; rows that train */
	} cases[] = {
		{4000, 0, 3, 6},
		{4000, 2, 0, 6},
		{4, 0, 0, 3},
		{7, 0, 0, 6},
#ifndef TT_TEST_CUDA /* a thousand prompts take the emulator long */
		{4000, 500, 495, 500},
#endif
	};
	struct tt_engine *engine = engine_open(TINY, 16, 256);
	struct tt_progress progress = {0};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct scratch s;
		struct tt_buffer text = {0};
		struct tt_fit_options options;
		struct tt_fit_rows rows;
		struct tt_fit_gate gate;
		scratch_make(&s);
		must(tt_file_read(&text, GOLDEN("policy/rows.jsonl"), 1 << 20, err));
		add_rows(&text, cases[i].n_harmful, "harmful");
		add_rows(&text, cases[i].n_benign, "benign");
		const char *path = scratch_write(&s, FILES[0], text.data, text.len);
		set_options(&options, TT_FIT_PAPER, &path);
		options.n_gate_prompts = cases[i].n_gate_prompts;
		must(tt_fit_rows_read(&rows, engine, &options, err));
		must(tt_fit_mlp_make(&gate, engine, &rows, &options, NULL, &progress, err));
		cr_expect_eq(((const struct tt_fit_mlp *)gate.made)->n_each, cases[i].n_each, "case %zu", i);
		cr_expect(gate.graded && gate.n_held[TT_HARMFUL] == rows.val[TT_HARMFUL].n);
		tt_fit_gate_free(&gate);
		tt_fit_rows_free(&rows);
		tt_buffer_free(&text);
		scratch_remove(&s, FILES, 1);
	}
	tt_engine_close(engine);
}

static int stop_in_training(void *user, const char *stage, uint64_t done, uint64_t total)
{
	(void)user;
	(void)total;
	return strcmp(stage, "training") == 0 && done == 2;
}

Test(fit_paper, can_be_stopped_while_it_trains)
{
	static const char *const data[] = {GOLDEN("policy/rows.jsonl")};
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_fit_options options;
	struct tt_policy *policy = NULL;
	struct tt_error failure = {0};
	set_options(&options, TT_FIT_PAPER, data);
	options.progress = stop_in_training;
	cr_expect_eq(tt_fit(&policy, engine, &options, NULL, &failure), TT_ERR_LIMIT);
	cr_expect_null(policy);
	tt_engine_close(engine);
}
