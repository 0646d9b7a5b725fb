/* Nothing is written over what is read: paths, and the functions of the library that write files. */
#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/outputs.h"
#include "controller/policy/policy.h"
#include "runtime/trimtab.h"
#include "weights_files.h"

/* ---- Paths */

static char start[PATH_MAX];

static void enter(struct scratch *s)
{
	scratch_make(s);
	cr_assert_not_null(getcwd(start, sizeof start));
	cr_assert_eq(chdir(s->directory), 0);
}

static void leave(struct scratch *s, const char *const *files, size_t n, const char *folder)
{
	for (size_t i = 0; i < n; i++)
		unlink(files[i]);
	if (folder)
		rmdir(folder);
	cr_assert_eq(chdir(start), 0);
	cr_expect_eq(rmdir(s->directory), 0);
}

static void put(const char *path, const void *data, size_t n)
{
	FILE *file = fopen(path, "wb");
	cr_assert_not_null(file);
	cr_assert_eq(fwrite(data, 1, n, file), n);
	cr_assert_eq(fclose(file), 0);
}

Test(outputs, sees_one_file_under_its_names)
{
	static const struct {
		const char *a, *b;
		bool same;
	} cases[] = {
		{"there", "there", true},
		{"there", "./there", true},
		{"there", "folder/../there", true},
		{"there", "link", true},
		{"there", "hard", true},
		{"link", "hard", true},
		{"there", "up/there", true},
		{"there", "other", false},
		{"there", "absent", false},
		{"absent", "there", false},
		{"absent", "absent", true},
		{"absent", "./absent", true},
		{"absent", "folder/../absent", true},
		{"absent", "up/absent", true},
		{"absent", "to-absent", true},
		{"to-absent", "to-to-absent", true},
		{"folder/absent", "into", true},
		{"absent", "into", false},
		{"absent", "absent2", false},
		{"absent", "folder/absent", false},
		{"nowhere/x", "nowhere/y", false},
		{"nowhere/x", "./nowhere/x", false},
		{"loop", "absent", false},
		{"loop", "./loop", true},
		{"folder", "up/folder", true},
	};
	static const char *const files[] = {
		"there", "other", "hard", "link", "up", "to-absent", "to-to-absent", "into", "loop"};
	struct scratch s;
	enter(&s);
	put("there", "x", 1);
	put("other", "x", 1);
	cr_assert_eq(mkdir("folder", 0777), 0);
	cr_assert(!link("there", "hard") && !symlink("there", "link") && !symlink(".", "up"));
	cr_assert(!symlink("absent", "to-absent") && !symlink("to-absent", "to-to-absent"));
	cr_assert(!symlink("folder/absent", "into") && !symlink("loop", "loop"));
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_error err = {0};
		char whole[PATH_MAX], folder[PATH_MAX / 2];
		bool same;
		cr_assert_eq(tt_same_file(cases[i].a, cases[i].b, &same, &err), TT_OK, "%s", err.message);
		cr_expect_eq(same, cases[i].same, "%s and %s", cases[i].a, cases[i].b);
		cr_assert_not_null(getcwd(folder, sizeof folder));
		snprintf(whole, sizeof whole, "%s/%s", folder, cases[i].a);
		cr_assert_eq(tt_same_file(cases[i].b, whole, &same, &err), TT_OK, "%s", err.message);
		if (strncmp(cases[i].a, "nowhere", 7) != 0)
			cr_expect_eq(same, cases[i].same, "%s and %s", cases[i].b, whole);
	}
	leave(&s, files, sizeof files / sizeof *files, "folder");
}

Test(outputs, names_both_uses)
{
	const struct tt_file_use reads[] = {{NULL, "nothing"}, {"a", "the first"}, {"b", "the second"}};
	const struct tt_file_use good[] = {{"c", "the output"}, {NULL, "no report"}, {"d", "the log"}};
	const struct tt_file_use read[] = {{"c", "the output"}, {"./b", "the log"}};
	const struct tt_file_use twice[] = {{"c", "the output"}, {"d", "the log"}, {"./c", "the report"}};
	struct tt_error err = {0};
	cr_expect_eq(tt_check_outputs(reads, 3, good, 3, &err), TT_OK, "%s", err.message);
	cr_expect_eq(tt_check_outputs(NULL, 0, good, 3, &err), TT_OK, "%s", err.message);
	cr_expect_eq(tt_check_outputs(reads, 3, read, 2, &err), TT_ERR_ARGUMENT);
	cr_expect_str_eq(err.message, "./b would be both the second and the log");
	cr_expect_eq(tt_check_outputs(reads, 3, twice, 3, &err), TT_ERR_ARGUMENT);
	cr_expect_str_eq(err.message, "./c would be both the output and the report");
}

/* ---- The library */

struct world {
	struct scratch s;
	struct tt_buffer model; /* the bytes of m.gguf */
	struct tt_engine *engine;
	struct tt_policy *policy;
};

static const char *const FILES[] = {"m.gguf", "rows", "p", "hard", "link", "rows.journal", "done.partial"};
static const char ROWS[] = "{\"id\":\"a\",\"prompt\":\"x\",\"label\":\"benign\"}\n";

static const char MORE[] = "{\"id\":\"b\",\"prompt\":\"y\",\"label\":\"harmful\"}\n";

static void open_world(struct world *w)
{
	struct tt_error err = {0};
	struct tt_policy *made;
	*w = (struct world){0};
	enter(&w->s);
	cr_assert_eq(tt_file_read(&w->model, TT_TEST_DATA "/tiny-llama/tiny-llama.q8_0.gguf", 1 << 26, &err), TT_OK);
	put("m.gguf", w->model.data, w->model.len);
	put("rows", ROWS, sizeof ROWS - 1);
	put("done.partial", MORE, sizeof MORE - 1);
	cr_assert(!link("m.gguf", "hard") && !symlink("p", "link"));
	cr_assert_eq(tt_engine_open(&w->engine, "m.gguf", NULL, &err), TT_OK, "%s", err.message);
	const struct tt_model_info *info = tt_engine_info(w->engine);
	cr_assert_eq(tt_policy_new(&made, info->n_layers, info->hidden_size, 1, &err), TT_OK);
	made->directions[0] = made->weights[0] = 1;
	cr_assert_eq(tt_policy_set_text(&made->name, "p", &err), TT_OK);
	cr_assert_eq(tt_policy_set_text(&made->fingerprint, info->fingerprint, &err), TT_OK);
	cr_assert_eq(tt_policy_set_text(&made->weights_digest, info->weights_digest, &err), TT_OK);
	cr_assert_eq(tt_policy_finish(made, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_policy_save(made, "p", &err), TT_OK, "%s", err.message);
	tt_policy_free(made);
	cr_assert_eq(tt_policy_load(&w->policy, "p", &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_engine_add_policy(w->engine, w->policy, NULL, &err), TT_OK, "%s", err.message);
}

/* Every file is as it was, and there is no other. */
static void close_world(struct world *w)
{
	struct tt_error err = {0};
	struct tt_buffer model = {0}, rows = {0};
	struct tt_policy *policy;
	cr_assert_eq(tt_file_read(&model, "m.gguf", 1 << 26, &err), TT_OK);
	cr_expect(model.len == w->model.len && memcmp(model.data, w->model.data, model.len) == 0);
	cr_assert_eq(tt_file_read(&rows, "rows", 1 << 20, &err), TT_OK);
	cr_expect_str_eq(rows.data, ROWS);
	cr_expect_eq(tt_policy_load(&policy, "p", &err), TT_OK, "%s", err.message);
	tt_policy_free(policy);
	tt_buffer_free(&model);
	tt_buffer_free(&rows);
	tt_buffer_free(&w->model);
	tt_engine_remove_policy(w->engine, w->policy, NULL);
	tt_policy_free(w->policy);
	tt_engine_close(w->engine);
	leave(&w->s, FILES, sizeof FILES / sizeof *FILES, NULL);
}

static void expect_both(int status, const struct tt_error *err, const char *words)
{
	cr_expect_eq(status, TT_ERR_ARGUMENT, "%s: %d", words, status);
	cr_expect_not_null(strstr(err->message, words), "no \"%s\" in: %s", words, err->message);
}

Test(outputs, capture_leaves_model_and_policies)
{
	static const int32_t ids[] = {1, 2};
	struct world w;
	struct tt_error err = {0};
	open_world(&w);
	expect_both(
		tt_capture(w.engine,
			&(struct tt_capture_options){.size = sizeof(struct tt_capture_options), .ids = ids, .n_ids = 2},
			"./m.gguf", &err),
		&err, "both the model and the output");
	expect_both(
		tt_capture(w.engine,
			&(struct tt_capture_options){.size = sizeof(struct tt_capture_options), .ids = ids, .n_ids = 2},
			"hard", &err),
		&err, "both the model and the output");
	expect_both(
		tt_capture(w.engine,
			&(struct tt_capture_options){.size = sizeof(struct tt_capture_options), .ids = ids, .n_ids = 2},
			"link", &err),
		&err, "both a policy and the output");
	close_world(&w);
}

Test(outputs, eval_leaves_data_model_and_policies)
{
	static const struct {
		const char *path, *words;
	} cases[] = {{"./rows", "both the data and the completions"}, {"hard", "both the model and the completions"},
		{"link", "both a policy and the completions"}, {"done", "both the data and the completions while"}};
	static const char *const data[] = {"rows", "done.partial"};
	struct world w;
	struct tt_error err = {0};
	open_world(&w);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tt_eval_options options;
		char *report;
		tt_eval_options_default(&options);
		options.data = data;
		options.n_data = 2;
		options.max_tokens = 1;
		options.completions = cases[i].path;
		expect_both(tt_eval(w.engine, &options, &report, &err), &err, cases[i].words);
		tt_free(report);
	}
	close_world(&w);
}

Test(outputs, batch_leaves_input_model_and_policies)
{
	static const struct {
		const char *input, *output, *telemetry, *words;
	} cases[] = {{"rows", "./rows", NULL, "both the input and the output"},
		{"rows", "hard", NULL, "both the model and the output"},
		{"rows", "x", "m.gguf", "both the model and the telemetry"},
		{"rows", "link", NULL, "both a policy and the output"},
		{"done.partial", "x", "./x", "both the output and the telemetry"},
		{"rows", "x", "./x.journal", "both the journal and the telemetry"}};
	struct world w;
	struct tt_error err = {0};
	open_world(&w);
	for (int restart = 0; restart < 2; restart++)
		for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
			struct tt_batch_options options;
			tt_batch_options_default(&options);
			options.input = cases[i].input;
			options.output = cases[i].output;
			options.telemetry = cases[i].telemetry;
			options.restart = restart;
			expect_both(tt_batch(w.engine, &options, NULL, &err), &err, cases[i].words);
		}
	close_world(&w);
}
