/* The figures that a fit chooses by, each worked out again plainly: what a gate decides of rows it was not trained
 * on, all three labels, and what a candidate is rated by. */
#include <criterion/criterion.h>
#include <jansson.h>

#include "controller/train/fit_detector.h"
#include "controller/train/fit_judge.h"
#include "golden.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")

static const char *const FILES[] = {"rows.jsonl"};
enum { WIDTH = 64 };

/* The rows of the golden, and borderline ones: some that read like the harmful, so that a probe flags them. */
static const char *write_rows(struct scratch *s)
{
	struct tt_buffer text = {0};
	must(tt_file_read(&text, GOLDEN("policy/rows.jsonl"), 1 << 20, err));
	for (int i = 0; i < 6; i++)
		must(tt_buffer_print(&text, err,
			"{\"id\":\"x%d\",\"prompt\":\"one %s in the %d "
			"field\",\"label\":\"borderline\",\"split\":\"val\"}\n",
			i, i < 4 ? "rat" : "hen", i + 2));
	for (int i = 0; i < 3; i++)
		must(tt_buffer_print(&text, err,
			"{\"id\":\"y%d\",\"prompt\":\"a hen on the %d "
			"hill\",\"label\":\"borderline\",\"split\":\"train\"}\n",
			i, i + 6));
	const char *path = scratch_write(s, FILES[0], text.data, text.len);
	tt_buffer_free(&text);
	return path;
}

/* Rows, and the gate trained on them. */
struct trained {
	struct tt_engine *engine;
	struct tt_fit_rows rows;
	struct tt_fit_gate gate;
	const struct tt_fit_detector *detector; /* what the gate is made of */
};

static void train(struct trained *t, struct tt_engine *engine, const char **path, float max_false_positives)
{
	struct tt_fit_options options;
	struct tt_progress progress = {0};
	tt_fit_options_default(&options);
	options.data = path;
	options.n_data = 1;
	options.max_false_positives = max_false_positives;
	options.max_borderline_positives = 1;
	t->engine = engine;
	must(tt_fit_rows_read(&t->rows, engine, &options, err));
	must(tt_fit_detector_make(&t->gate, engine, &t->rows, &options, NULL, &progress, err));
	t->detector = t->gate.made;
}

static void trained_free(struct trained *t)
{
	tt_fit_gate_free(&t->gate);
	tt_fit_rows_free(&t->rows);
}

/* The features of a row, worked out from all hidden states of a layer. */
static void read_features(
	const struct trained *t, const struct tt_fit_row *row, uint32_t layer, double *last, double *mean)
{
	struct tt_request_options options;
	const uint64_t layers = (uint64_t)1 << layer;
	tt_request_options_default(&options);
	options.ids = row->ids;
	options.n_ids = row->n_ids;
	options.keep_layers = &layers;
	struct tt_request *request = request_run(t->engine, &options);
	const float *h = tt_request_hidden(request, layer);
	size_t from = row->mean_to ? row->mean_from : 1, to = row->mean_to ? row->mean_to : row->n_ids;
	for (size_t j = 0; j < WIDTH; j++) {
		last[j] = (double)h[(row->n_ids - 1) * WIDTH + j];
		mean[j] = 0;
		for (size_t i = from; i < to; i++)
			mean[j] += (double)h[i * WIDTH + j] / (double)(to - from);
	}
	tt_request_free(request);
}

/* Row i of the features: the train rows of all labels, then the val rows. */
static const struct tt_fit_row *row_at(const struct trained *t, size_t i)
{
	const struct tt_fit_row_list *lists[] = {t->rows.train, t->rows.val};
	for (int part = 0; part < 2; part++)
		for (int label = 0; label < TT_N_LABELS; label++) {
			if (i < lists[part][label].n)
				return &lists[part][label].rows[i];
			i -= lists[part][label].n;
		}
	return NULL;
}

/* The same prompt without the template. */
static struct tt_fit_row plain_row(const struct trained *t, const struct tt_fit_row *row)
{
	struct tt_fit_row plain = {.prompt = row->prompt};
	must(tt_text_encode(tt_engine_text(t->engine), row->prompt->text, strlen(row->prompt->text), 0, &plain.ids,
		&plain.n_ids, err));
	cr_assert(plain.n_ids > 1 && plain.n_ids < row->n_ids);
	return plain;
}

/* Each prompt in the template, and then each as plain text, whose mean leaves the first token out. */
Test(fit_figures, a_gate_is_trained_on_last_tokens_and_means)
{
	struct scratch s;
	struct trained t;
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	scratch_make(&s);
	const char *path = write_rows(&s);
	train(&t, engine, &path, 0);
	const struct tt_fit_features *f = &t.detector->features;
	cr_assert(f->n == 2 * 29 && f->n_plain == 29 && f->d == 2 * (size_t)f->n_observed * WIDTH && f->n_observed > 1);
	for (size_t i = 0; i < f->n; i++) {
		const struct tt_fit_row *row = row_at(&t, i % 29);
		struct tt_fit_row plain = {0};
		if (i >= 29) {
			plain = plain_row(&t, row);
			row = &plain;
		}
		cr_assert_eq(f->prompt[i], row->prompt);
		cr_expect_eq(f->harmful[i], row->prompt->label == TT_HARMFUL);
		for (uint32_t k = 0; k < f->n_observed; k++) {
			double last[WIDTH], mean[WIDTH];
			const float *x = f->x + i * f->d + k * WIDTH, *y = x + f->n_observed * WIDTH;
			read_features(&t, row, f->observed[k], last, mean);
			for (size_t j = 0; j < WIDTH; j++) {
				cr_assert_float_eq((double)x[j], last[j], 1e-6, "row %zu layer %u", i, k);
				cr_assert_float_eq((double)y[j], mean[j], 1e-6, "row %zu layer %u", i, k);
			}
		}
		tt_free(plain.ids);
	}
	trained_free(&t);
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

/* A caller names the rows, the layers and the pool; the order and number of rows are the caller's. */
Test(fit_figures, features_are_of_the_rows_and_layers_that_are_named)
{
	static const uint32_t layers[] = {0, 1, 2};
	static const enum tt_gate_pool pools[] = {TT_POOL_LAST, TT_POOL_MEAN};
	struct scratch s;
	struct trained t;
	struct tt_progress progress = {0};
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	scratch_make(&s);
	const char *path = write_rows(&s);
	train(&t, engine, &path, 0);
	const struct tt_fit_row *rows[] = {row_at(&t, 20), row_at(&t, 3), row_at(&t, 20)};
	for (int p = 0; p < 2; p++) {
		struct tt_fit_features f;
		const struct tt_fit_features_spec spec = {
			.rows = rows, .n_rows = 3, .layers = layers, .n_layers = 3, .pool = pools[p]};
		must(tt_fit_features_make(&f, &spec, engine, &progress, err));
		cr_assert(f.n == 3 && f.d == 3 * WIDTH && f.n_observed == 3 && f.pool == pools[p]);
		for (size_t i = 0; i < f.n; i++) {
			cr_expect_eq(f.prompt[i], rows[i]->prompt);
			for (uint32_t k = 0; k < 3; k++) {
				double last[WIDTH], mean[WIDTH];
				read_features(&t, rows[i], layers[k], last, mean);
				for (size_t j = 0; j < WIDTH; j++)
					cr_assert_float_eq((double)f.x[i * f.d + k * WIDTH + j],
						p == 0 ? last[j] : mean[j], 1e-6, "row %zu layer %u", i, k);
			}
		}
		tt_fit_features_free(&f);
	}
	trained_free(&t);
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

/* Each label of an origin counts as the root of its rows, whatever their groups, harmful rows as much as all others;
 * a fifth of a short file is a fold. */
Test(fit_figures, rows_are_weighed_by_origin_and_folded_by_place)
{
	enum { N = 30 };
	static struct tt_prompt prompts[N];
	const struct tt_prompt *order[N];
	bool harmful[N];
	double weight[N], sums[2] = {0};
	uint8_t fold[N];
	struct tt_fit_features f = {.n = N, .prompt = order, .harmful = harmful, .weight = weight, .fold = fold};
	for (uint32_t i = 0; i < N; i++) { /* 20 rows of file 0, 10 of file 1; 4 harmful ones in each */
		struct tt_prompt *p = &prompts[(i * 7) % N];
		*p = (struct tt_prompt){
			.file = i >= 20, .line = i >= 20 ? i - 19 : i + 1, .origin = i >= 20, .group = i % 7};
		p->label = (i >= 20 ? i - 20 : i) < 4 ? TT_HARMFUL : TT_BENIGN;
	}
	for (size_t i = 0; i < N; i++) {
		order[i] = &prompts[i];
		harmful[i] = prompts[i].label == TT_HARMFUL;
	}
	must(tt_fit_assign_folds(&f, err));
	must(tt_fit_weigh(&f, err));
	for (size_t i = 0; i < N; i++) {
		size_t n = prompts[i].file ? 10 : 20;
		cr_expect_eq(
			fold[i], (prompts[i].line - 1) * 5 / n, "file %u line %u", prompts[i].file, prompts[i].line);
		sums[harmful[i]] += weight[i];
		if (harmful[i])
			cr_expect_float_eq(weight[i], 15.0 / 8, 1e-9);
	}
	cr_expect_float_eq(sums[0], 15, 1e-9);
	cr_expect_float_eq(sums[1], 15, 1e-9);
	for (size_t i = 0; i < N; i++)
		for (size_t k = 0; k < N; k++)
			if (!harmful[i] && !harmful[k] && prompts[i].file < prompts[k].file)
				cr_expect_float_eq(weight[i] / weight[k], sqrt(6.0 / 16), 1e-9);
	cr_expect(tt_fit_folds_are_possible(&f));
	memset(harmful, 0, sizeof harmful);
	harmful[0] = true;
	cr_expect(!tt_fit_folds_are_possible(&f), "the only harmful row is held out with its fold");
}

/* A plain row counts a quarter of the same one in the template, whatever it is of; each label half of all. */
Test(fit_figures, plain_rows_count_a_quarter)
{
	enum { N = 12, N_PLAIN = 7 };
	static struct tt_prompt prompts[N];
	const struct tt_prompt *order[N + N_PLAIN];
	bool harmful[N + N_PLAIN];
	double weight[N + N_PLAIN], sums[2] = {0};
	struct tt_fit_features f = {
		.n = N + N_PLAIN, .n_plain = N_PLAIN, .prompt = order, .harmful = harmful, .weight = weight};
	for (size_t i = 0; i < f.n; i++) {
		struct tt_prompt *p = &prompts[i % N];
		*p = (struct tt_prompt){.origin = i % N > 8, .label = i % N % 3 ? TT_BENIGN : TT_HARMFUL};
		order[i] = p;
		harmful[i] = p->label == TT_HARMFUL;
	}
	must(tt_fit_weigh(&f, err));
	for (size_t i = 0; i < f.n; i++) {
		sums[harmful[i]] += weight[i];
		if (i >= N)
			cr_expect_float_eq(weight[i], weight[i - N] / 4, 1e-9);
	}
	cr_expect_float_eq(weight[1] / weight[10], sqrt(2.0 / 6), 1e-9);
	cr_expect_float_eq(sums[0], f.n / 2.0, 1e-9);
	cr_expect_float_eq(sums[1], f.n / 2.0, 1e-9);
}

/* In a longer file, blocks of 16 rows take turns, so that twins stay together and each fold has a part of all. */
Test(fit_figures, blocks_of_a_long_file_take_turns)
{
	enum { N = 200 };
	static struct tt_prompt prompts[N];
	static const struct tt_prompt *order[N];
	uint8_t fold[N];
	struct tt_fit_features f = {.n = N, .prompt = order, .fold = fold};
	for (uint32_t i = 0; i < N; i++) {
		prompts[i].line = i + 1;
		order[(i * 7) % N] = &prompts[i];
	}
	must(tt_fit_assign_folds(&f, err));
	for (size_t i = 0; i < N; i++)
		cr_expect_eq(fold[i], (order[i]->line - 1) / 16 % 5, "line %u", order[i]->line);
}

/* For a prompt of one token no gate opens, so none is a plain row; texts are, but those of the test split. */
Test(fit_figures, plain_rows_have_two_tokens_or_more)
{
	static struct tt_prompt prompts[] = {{.text = "a"}, {.text = "one rat"}, {.text = "a"}, {.text = "two"}};
	struct tt_fit_row rows[4] = {0};
	const struct tt_fit_row *list[4];
	for (size_t i = 0; i < 4; i++) {
		rows[i].prompt = &prompts[i];
		list[i] = &rows[i];
	}
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_fit_row_list plain;
	static char endless[2000];
	memset(endless, 'y', sizeof endless - 1);
	for (size_t i = 1; i < sizeof endless - 1; i += 2)
		endless[i] = ' ';
	static struct tt_prompt texts[] = {{.text = "a tale", .is_text = true}, {.text = "no text"},
		{.text = "for tests", .is_text = true, .split = TT_TEST}, {.text = "z", .is_text = true},
		{.text = endless, .is_text = true}};
	const struct tt_prompts read = {.rows = texts, .n_rows = 5};
	size_t n_too_long = 0;
	must(tt_fit_rows_plain(&plain, engine, list, 4, &read, &n_too_long, err));
	cr_expect_eq(n_too_long, 1);
	for (size_t i = 0; i < plain.n; i++)
		cr_expect(plain.rows[i].n_ids > 1 && plain.rows[i].prompt->text[1] != '\0');
	cr_assert_eq(plain.n, 3);
	cr_expect_eq(plain.rows[2].prompt, &texts[0]);
	tt_fit_row_list_free(&plain);
	tt_engine_close(engine);
}

/* Texts change the place of no prompt, wherever they stand. */
Test(fit_figures, texts_do_not_move_prompts)
{
	struct tt_prompt with[] = {
		{.is_text = true}, {.line = 0}, {.line = 1}, {.is_text = true}, {.line = 2}, {.line = 3}};
	struct tt_prompt without[] = {{.line = 0}, {.line = 1}, {.line = 2}, {.line = 3}};
	const struct tt_prompts a = {.rows = with, .n_rows = 6}, b = {.rows = without, .n_rows = 4};
	size_t *first, *second, n, m;
	must(tt_fit_shuffle_prompts(&first, &n, &a, 3, err));
	must(tt_fit_shuffle_prompts(&second, &m, &b, 3, err));
	cr_assert(n == 4 && m == 4);
	for (size_t i = 0; i < 4; i++)
		cr_expect_eq(with[first[i]].line, without[second[i]].line);
	free(first);
	free(second);
}

/* Texts count as a set of their own, whatever else their file holds, and plain rows a quarter of theirs. */
Test(fit_figures, texts_weigh_as_a_set)
{
	static struct tt_prompt prompts[] = {{.label = TT_HARMFUL}, {.label = TT_BENIGN}, {.label = TT_BENIGN},
		{.label = TT_BENIGN, .is_text = true}, {.label = TT_BENIGN, .is_text = true},
		{.label = TT_BENIGN, .is_text = true}, {.label = TT_BENIGN, .is_text = true}};
	static const struct tt_prompt *order[8] = {
		&prompts[0], &prompts[1], &prompts[2], &prompts[1], &prompts[3], &prompts[4], &prompts[5], &prompts[6]};
	static bool harmful[8] = {true};
	double weight[8];
	struct tt_fit_features f = {.n = 8, .n_plain = 5, .prompt = order, .harmful = harmful, .weight = weight};
	must(tt_fit_weigh(&f, err));
	cr_expect_float_eq(weight[0], 4, 1e-12, "%g", weight[0]);
	cr_expect_float_eq(weight[3], weight[1] / 4, 1e-12, "%g", weight[3]);
	for (size_t i = 4; i < 8; i++) /* two rows count 1 / sqrt(2) each, four 1 / 2 */
		cr_expect_float_eq(weight[i], weight[1] / sqrt(2), 1e-12, "%zu: %g", i, weight[i]);
}

/* The same prompt twice is in one fold, which is that of the prompts alone, or what is held out would be known. */
Test(fit_figures, rows_of_one_prompt_share_a_fold)
{
	enum { N = 100, N_TWICE = 33 };
	static struct tt_prompt prompts[N];
	static const struct tt_prompt *order[N + N_TWICE];
	uint8_t fold[N + N_TWICE];
	struct tt_fit_features f = {.n = N + N_TWICE, .n_plain = N_TWICE, .prompt = order, .fold = fold};
	for (uint32_t i = 0; i < N; i++) {
		prompts[i].line = i + 1;
		order[(i * 7) % N] = &prompts[i];
	}
	for (size_t i = 0; i < N_TWICE; i++)
		order[N + i] = &prompts[i * 3];
	must(tt_fit_assign_folds(&f, err));
	for (size_t i = 0; i < f.n; i++)
		cr_expect_eq(fold[i], (order[i]->line - 1) / 16 % 5, "row %zu, line %u", i, order[i]->line);
}

/* The weighted share of a label's rows above a logit. */
static double share_above(const struct tt_fit_features *f, const double *held, enum tt_label label, double logit)
{
	double above = 0, total = 0;
	for (size_t i = 0; i < f->n - f->n_plain; i++) {
		if (f->prompt[i]->label != label)
			continue;
		total += f->weight[i];
		above += held[i] > logit ? f->weight[i] : 0;
	}
	return total ? above / total : 0;
}

/* Every place between two rows is tried: the threshold is the lowest that keeps both bounds. */
Test(fit_figures, the_threshold_is_the_lowest_within_both_bounds)
{
	enum { N = 60, N_PLAIN = 9 };
	static struct tt_prompt prompts[N];
	const struct tt_prompt *order[N + N_PLAIN];
	double weight[N + N_PLAIN], held[N + N_PLAIN];
	struct tt_fit_features f = {.n = N + N_PLAIN, .n_plain = N_PLAIN, .prompt = order, .weight = weight};
	for (size_t i = N; i < N + N_PLAIN; i++) { /* which have no say */
		order[i] = &prompts[i - N];
		weight[i] = 3;
		held[i] = 1.5 - 0.1 * (double)(i - N);
	}
	for (size_t i = 0; i < N; i++) {
		prompts[i].label = (enum tt_label)(i % 3);
		order[i] = &prompts[i];
		weight[i] = 0.5 + (double)(i * 37 % 11);
		held[i] = sin((double)i * 1.7) + (i % 3 == TT_HARMFUL ? 1 : i % 3 == TT_BORDERLINE ? 0.5 : 0);
	}
	for (int k = 0; k < 12; k++) {
		double benign = 0.03 * k, borderline = 0.3 - 0.02 * k, got, lowest = INFINITY;
		must(tt_fit_threshold(&f, held, benign, borderline, &got, err));
		for (size_t i = 0; i < N; i++)
			if (share_above(&f, held, TT_BENIGN, held[i]) <= benign &&
				share_above(&f, held, TT_BORDERLINE, held[i]) <= borderline)
				lowest = fmin(lowest, held[i]);
		double above = INFINITY;
		for (size_t i = 0; i < N; i++)
			if (held[i] > lowest)
				above = fmin(above, held[i]);
		cr_expect_float_eq(got, (lowest + above) / 2, 1e-12, "bounds %g, %g: %g", benign, borderline, got);
	}
}

/* Of eight borderline rows two may be flagged, whatever their bound: the threshold lies above the third. */
Test(fit_figures, two_of_few_borderline_rows_may_be_flagged)
{
	enum { N = 9 };
	static struct tt_prompt prompts[N];
	static const double held[N] = {9, 7, 5, 4, 3, 2, 1, 0, -9};
	const struct tt_prompt *order[N];
	double weight[N], got;
	struct tt_fit_features f = {.n = N, .prompt = order, .weight = weight};
	for (int i = 0; i < N; i++) {
		prompts[i].label = i < N - 1 ? TT_BORDERLINE : TT_BENIGN;
		order[i] = &prompts[i];
		weight[i] = 1;
	}
	must(tt_fit_threshold(&f, held, 0, 0.1, &got, err));
	cr_expect_float_eq(got, 6, 1e-12, "%g", got);
}

/* The figures of a gate, counted from the logits of held-out rows. */
Test(fit_figures, a_gate_is_rated_on_all_that_is_held_out)
{
	struct scratch s;
	struct trained t;
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	scratch_make(&s);
	const char *path = write_rows(&s);
	train(&t, engine, &path, 0.1f);
	const struct tt_fit_features *f = &t.detector->features;
	const struct tt_fit_gate *gate = &t.gate;
	double right[2] = {0}, loss[2] = {0}, n[2] = {0}, flagged[TT_N_LABELS] = {0};
	size_t val = t.rows.train[0].n + t.rows.train[1].n + t.rows.train[2].n;
	for (size_t i = 0; i < 29; i++) {
		double p = 1 / (1 + exp(-t.detector->detector.held[i]));
		bool flags = p > (double)gate->threshold;
		n[f->harmful[i]]++;
		right[f->harmful[i]] += flags == f->harmful[i];
		loss[f->harmful[i]] -= log(f->harmful[i] ? p : 1 - p);
		flagged[f->prompt[i]->label] += flags ? 1 / (double)gate->n_held[f->prompt[i]->label] : 0;
	}
	cr_expect(gate->n_held[TT_HARMFUL] == 10 && gate->n_held[TT_BENIGN] == 10 && gate->n_held[TT_BORDERLINE] == 9);
	cr_expect_float_eq(gate->balanced, (right[0] / n[0] + right[1] / n[1]) / 2, 1e-9);
	json_t *report = gate->report(gate);
	cr_expect_float_eq(
		json_number_value(json_object_get(report, "log_loss")), (loss[0] / n[0] + loss[1] / n[1]) / 2, 1e-6);
	json_decref(report);
	for (int label = 0; label < TT_N_LABELS; label++) {
		cr_expect_float_eq(gate->flagged[label], flagged[label], 1e-9, "label %d", label);
		for (size_t i = 0; i < t.rows.val[label].n; i++, val++)
			cr_expect_eq(gate->flags[label][i],
				1 / (1 + exp(-t.detector->detector.held[val])) > (double)gate->threshold);
	}
	cr_expect_str_eq(gate->observe, "1-2");
	trained_free(&t);
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

/* How often a harmful row's logit is above another's, by all pairs of rows. */
static double area(const json_t *held, const char *against)
{
	double above = 0, n = 0;
	for (size_t i = 0; i < json_array_size(held); i++)
		for (size_t k = 0; k < json_array_size(held); k++) {
			const json_t *a = json_array_get(held, i), *b = json_array_get(held, k);
			const char *label = json_string_value(json_object_get(b, "label"));
			bool is_other = strcmp(against, "others") == 0 ? strcmp(label, "harmful") != 0
								       : strcmp(label, against) == 0;
			if (strcmp(json_string_value(json_object_get(a, "label")), "harmful") != 0 || !is_other)
				continue;
			double x = json_number_value(json_object_get(a, "logit")),
			       y = json_number_value(json_object_get(b, "logit"));
			above += x > y ? 1 : x < y ? 0 : 0.5;
			n++;
		}
	return above / n;
}

/* In the report of a whole fit: the shares of the three labels give the balanced accuracy. The texts are counted that
 * train, and a text of the test split does not. */
Test(fit_figures, the_report_has_the_borderline_rows_and_the_texts)
{
	struct scratch s;
	struct tt_engine *engine = engine_open(TINY, 8, 64);
	struct tt_fit_options options;
	struct tt_policy *policy = NULL;
	char *report = NULL;
	scratch_make(&s);
	const char *texts = "{\"id\":\"t0\",\"prompt\":\"the hen lay on the hill\",\"label\":\"text\"}\n"
			    "{\"id\":\"t1\",\"prompt\":\"a rat ran\",\"label\":\"text\",\"split\":\"val\"}\n"
			    "{\"id\":\"t2\",\"prompt\":\"a hen ran\",\"label\":\"text\",\"split\":\"test\"}\n";
	const char *path = write_rows(&s);
	FILE *file = fopen(path, "ab");
	cr_assert(file && fputs(texts, file) >= 0 && fclose(file) == 0);
	tt_fit_options_default(&options);
	options.data = &path;
	options.n_data = 1;
	options.judge_tokens = 4;
	options.max_candidates = 2;
	options.max_borderline_positives = 1;
	must(tt_fit(&policy, engine, &options, &report, err));
	json_t *r = json_loads(report, 0, NULL);
	const json_t *borderline = json_object_get(json_object_get(r, "rows"), "borderline");
	cr_expect_eq(json_integer_value(json_object_get(borderline, "train")), 3);
	cr_expect_eq(json_integer_value(json_object_get(borderline, "val")), 6);
	cr_expect_eq(json_integer_value(json_object_get(borderline, "held_out")), 9);
	const json_t *text = json_object_get(json_object_get(r, "rows"), "text");
	cr_expect_eq(json_integer_value(json_object_get(text, "train")), 2);
	const json_t *gate = json_object_get(r, "gate");
	double harmful = json_number_value(json_object_get(gate, "flagged_harmful"));
	double benign = json_number_value(json_object_get(gate, "flagged_benign"));
	double between = json_number_value(json_object_get(gate, "flagged_borderline"));
	double want = (harmful + 1 - (10 * benign + 9 * between) / 19) / 2;
	cr_expect_float_eq(json_number_value(json_object_get(gate, "balanced_accuracy")), want, 1e-5);
	cr_assert_gt(between, benign, "no borderline row was flagged, which tells nothing");
	static const char *const against[] = {"benign", "borderline", "others"};
	cr_assert_eq(json_array_size(json_object_get(gate, "curves")), 3);
	for (size_t i = 0; i < 3; i++) {
		const json_t *curve = json_array_get(json_object_get(gate, "curves"), i);
		cr_expect_str_eq(json_string_value(json_object_get(curve, "against")), against[i]);
		cr_expect_str_eq(json_string_value(json_object_get(curve, "file")), "rows.jsonl");
		cr_expect_float_eq(json_number_value(json_object_get(curve, "auc")),
			area(json_object_get(gate, "held_out"), against[i]), 1e-5, "%s", against[i]);
	}
	const json_t *chosen = json_object_get(r, "chosen");
	cr_expect_float_eq((double)policy->alpha, json_number_value(json_object_get(chosen, "alpha")), 1e-5);
	json_decref(r);
	tt_free(report);
	tt_policy_free(policy);
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

Test(fit_figures, an_evaluation_has_the_borderline_rows)
{
	struct scratch s;
	struct tt_engine *engine = engine_open(TINY, 8, 64);
	struct tt_eval_options options;
	char *report = NULL;
	scratch_make(&s);
	const char *path = write_rows(&s);
	tt_eval_options_default(&options);
	options.data = &path;
	options.n_data = 1;
	options.split = "val";
	options.limit = 5;
	options.max_tokens = 2;
	must(tt_eval(engine, &options, &report, err));
	json_t *r = json_loads(report, 0, NULL);
	static const char *const lists[] = {"labels", "groups"};
	static const char *const labels[] = {"harmful", "benign", "borderline"};
	static const json_int_t counts[] = {4, 4, 5}; /* 4, 4 and 6 rows, of which at most 5 */
	for (int k = 0; k < 2; k++) {
		const json_t *list = json_object_get(r, lists[k]);
		cr_assert_eq(json_array_size(list), 3, "%s", lists[k]);
		for (size_t i = 0; i < 3; i++) {
			const json_t *group = json_array_get(list, i);
			cr_expect_str_eq(json_string_value(json_object_get(group, "label")), labels[i]);
			cr_expect_eq(json_integer_value(json_object_get(group, "n")), counts[i]);
		}
	}
	json_decref(r);
	tt_free(report);
	tt_engine_close(engine);
	scratch_remove(&s, FILES, 1);
}

/* Refused as gated: what the gate lets pass is the unsteered model's. The rest by hand. */
Test(fit_figures, candidates_are_rated_against_the_unsteered)
{
	enum { N = 4 };
	bool flags[2][N] = {{true, false, true, false}, {true, false, false, false}};
	const struct tt_fit_gate gate = {.flags = {flags[0], flags[1]}};
	int32_t ids[2][1] = {{1}, {2}};
	struct tt_completion unsteered[2][N] = {0}, steered[2][N] = {0};
	for (int kind = 0; kind < 2; kind++)
		for (int i = 0; i < N; i++) {
			unsteered[kind][i] = (struct tt_completion){.ids = ids[0], .n_ids = 1, .logprob = -1};
			steered[kind][i] = unsteered[kind][i];
		}
	/* Refused: of the flagged the steered 0 and 2, of the passed the unsteered 1 and not the steered 3. */
	steered[0][0].refused = steered[0][2].refused = steered[0][3].refused = true;
	unsteered[0][1].refused = true;
	steered[0][0].n_fourgrams = steered[0][1].n_fourgrams = 10;
	steered[0][0].n_repeated = 3;
	unsteered[0][0].n_fourgrams = 10;
	unsteered[0][0].n_repeated = 1;
	for (int i = 0; i < N; i++)
		steered[0][i].logprob = -2;
	steered[1][0].ids = ids[1];
	steered[1][0].refused = true;
	const struct tt_fit_judge judge = {
		.gated = true, .n = {N, N}, .unsteered = {unsteered[0], unsteered[1]}, .unsteered_nll = 0.8};
	struct tt_candidate c = {
		.gate = &gate, .harmful = steered[0], .benign = steered[1], .n_harmful = N, .n_benign = N};
	tt_fit_rate(&judge, &c);
	cr_expect_float_eq(c.figures.refused, 3.0 / 4, 1e-12);
	cr_expect_float_eq(c.figures.refused_gated, 3.0 / 4, 1e-12);
	cr_expect_float_eq(c.figures.false_refusals, 1.0 / 4, 1e-12);
	cr_expect_float_eq(c.figures.repeated, 3.0 / 20 - 1.0 / 10, 1e-12);
	cr_expect_float_eq(c.figures.diverged, 1.0 / 4, 1e-12);
	cr_expect_float_eq(c.figures.nll, 2, 1e-12);
	cr_expect_float_eq(c.figures.nll_ratio, 2 / 0.8, 1e-12);
	unsteered[0][1].refused = false;
	tt_fit_rate(&judge, &c);
	cr_expect_float_eq(c.figures.refused_gated, 2.0 / 4, 1e-12);
	/* Half of them judged so far. */
	c.n_harmful = 2;
	tt_fit_rate(&judge, &c);
	cr_expect_float_eq(c.figures.refused, 1.0 / 2, 1e-12);
	cr_expect_float_eq(c.figures.refused_gated, 1.0 / 2, 1e-12);
}
