/* A fit with a file of activations: the policy has the same bytes whatever the file holds, only what it lacks is run,
 * and a run that was killed goes on. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sha256.h"
#include "controller/train/fit_detector.h"
#include "golden.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")
#define ROWS GOLDEN("policy/rows.jsonl")

/* The gate's rows: each prompt in the template and as plain text. */
enum { N_ROWS = 40, WIDTH = 64 };
static const char *const FILES[] = {"cache", "other", "p.safetensors"};
enum { N_FILES = sizeof FILES / sizeof *FILES };
static const char *const data[] = {ROWS};

struct world {
	struct scratch scratch;
	struct tt_engine *engine;
	struct tt_fit_options options;
	char cache[128];
};

static void set_options(struct world *w)
{
	tt_fit_options_default(&w->options);
	w->options.data = data;
	w->options.n_data = 1;
	w->options.name = "tiny";
	w->options.judge_tokens = 4;
	w->options.n_judge_prompts = 2;
	w->options.max_candidates = 2;
	w->options.activations = w->cache;
}

static void begin(struct world *w)
{
	*w = (struct world){0};
	scratch_make(&w->scratch);
	snprintf(w->cache, sizeof w->cache, "%s/cache", w->scratch.directory);
	set_options(w);
}

static void end(struct world *w)
{
	tt_engine_close(w->engine);
	scratch_remove(&w->scratch, FILES, N_FILES);
}

static struct tt_buffer read_file(const char *path)
{
	struct tt_buffer out = {0};
	must(tt_file_read(&out, path, 1 << 24, err));
	return out;
}

static void expect_same(struct tt_buffer *a, struct tt_buffer *b, const char *label)
{
	cr_expect(a->len == b->len && memcmp(a->data, b->data, a->len) == 0, "%s: other bytes", label);
	tt_buffer_free(b);
}

/* The bytes of the policy's file but for the time, and how many rows were read and run. */
static struct tt_buffer fit(struct world *w, size_t want_read, size_t want_run)
{
	struct tt_policy *policy = NULL;
	char *report = NULL, path[160];
	if (!w->engine)
		w->engine = engine_open(TINY, 4, 64);
	must(tt_fit(&policy, w->engine, &w->options, &report, err));
	json_t *r = json_loads(report, 0, NULL), *activations = json_object_get(r, "activations");
	cr_expect_eq((size_t)json_integer_value(json_object_get(activations, "n_from_file")), want_read, "%s", report);
	cr_expect_eq((size_t)json_integer_value(json_object_get(activations, "n_run")), want_run);
	const char *sha256 = json_string_value(json_object_get(activations, "sha256"));
	cr_assert_not_null(sha256);
	cr_expect_eq(strlen(sha256), 64);
	cr_expect_not_null(strstr(policy->fitted_on, sha256), "%s", policy->fitted_on);
	must(tt_policy_set_text(&policy->created, "then", err));
	snprintf(path, sizeof path, "%s/p.safetensors", w->scratch.directory);
	must(tt_policy_save(policy, path, err));
	json_decref(r);
	tt_free(report);
	tt_policy_free(policy);
	return read_file(path);
}

Test(fit_activations, the_policy_is_the_same_with_a_cold_half_full_and_full_file)
{
	struct world w;
	begin(&w);
	w.options.activations = NULL;
	struct tt_buffer want = fit(&w, 0, N_ROWS);
	w.options.activations = w.cache;
	struct tt_buffer cold = fit(&w, 0, N_ROWS), whole = read_file(w.cache);
	expect_same(&want, &cold, "cold");
	struct tt_buffer full = fit(&w, N_ROWS, 0), after = read_file(w.cache);
	expect_same(&want, &full, "full");
	expect_same(&whole, &after, "the file of a fit that ran nothing");
	/* Half of it: every other record, so that rows lack one layer or pool each. */
	size_t n = tt_activation_bytes(WIDTH), n_head = (size_t)(strchr(whole.data, '\n') + 1 - whole.data);
	cr_assert_eq((whole.len - n_head) % n, 0);
	struct tt_buffer half = {0};
	must(tt_buffer_add(&half, whole.data, n_head, err));
	for (size_t at = n_head; at < whole.len; at += 2 * n)
		must(tt_buffer_add(&half, whole.data + at, n, err));
	scratch_write(&w.scratch, "cache", half.data, half.len);
	struct tt_buffer again = fit(&w, 0, N_ROWS), grown = read_file(w.cache);
	expect_same(&want, &again, "half of each row");
	cr_expect_eq(grown.len, whole.len, "what was there is not added again");
	tt_buffer_free(&grown);
	/* Half of the rows. */
	scratch_write(&w.scratch, "cache", whole.data, n_head + (whole.len - n_head) / 2);
	again = fit(&w, N_ROWS / 2, N_ROWS / 2), grown = read_file(w.cache);
	expect_same(&want, &again, "half of the rows");
	expect_same(&whole, &grown, "the file that went on");
	tt_buffer_free(&half);
	tt_buffer_free(&whole);
	tt_buffer_free(&want);
	end(&w);
}

/* Another fit of fewer or more rows, another gate, pool and seed: one file for all. */
Test(fit_activations, one_file_serves_other_rows_gates_pools_and_seeds)
{
	struct world w;
	begin(&w);
	w.options.n_gate_prompts =
		4; /* 3 + 1 rows of each label, and 3 + 2 where the judge or the directions take more */
	w.options.n_direction_prompts = 3;
	struct tt_buffer few = fit(&w, 0, 20);
	set_options(&w);
	w.options.linear_gate = true;
	struct tt_buffer all = fit(&w, 20, 20);
	w.options.pool = TT_POOL_MEAN;
	struct tt_buffer mean = fit(&w, N_ROWS, 0);
	w.options.pool = TT_POOL_LAST;
	w.options.seed = 9;
	w.options.when = TT_WHEN_GENERATION;
	struct tt_buffer last = fit(&w, N_ROWS, 0);
	/* From the last tokens alone to both: the rows run again, and the means alone are added. */
	unlink(w.cache);
	struct tt_buffer cold = fit(&w, 0, N_ROWS), smaller = read_file(w.cache);
	expect_same(&last, &cold, "last, cold");
	set_options(&w);
	w.options.linear_gate = true;
	cold = fit(&w, 0, N_ROWS);
	expect_same(&all, &cold, "both, after last");
	struct tt_buffer larger = read_file(w.cache);
	size_t n_head = (size_t)(strchr(larger.data, '\n') + 1 - larger.data);
	cr_expect_eq(larger.len - n_head, 2 * (smaller.len - n_head));
	tt_buffer_free(&smaller);
	tt_buffer_free(&larger);
	tt_buffer_free(&few);
	tt_buffer_free(&all);
	tt_buffer_free(&mean);
	tt_buffer_free(&last);
	end(&w);
}

static int kill_in_gate(void *user, const char *stage, uint64_t done, uint64_t total)
{
	(void)total;
	if (strcmp(stage, "gate") == 0 && done == *(const uint64_t *)user)
		raise(SIGKILL);
	return 0;
}

Test(fit_activations, goes_on_after_a_kill)
{
	struct world w;
	begin(&w);
	uint64_t at = 7;
	pid_t child = fork();
	if (child == 0) {
		w.options.progress = kill_in_gate;
		w.options.user = &at;
		fit(&w, 0, N_ROWS);
		_exit(0);
	}
	int status = 0;
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	struct tt_buffer left = read_file(w.cache);
	must(tt_buffer_add(&left, left.data + left.len - 200, 100, err)); /* and part of a record */
	scratch_write(&w.scratch, "cache", left.data, left.len);
	struct tt_buffer after = fit(&w, 7, N_ROWS - 7), gone_on = read_file(w.cache);
	unlink(w.cache);
	struct tt_buffer want = fit(&w, 0, N_ROWS), whole = read_file(w.cache);
	expect_same(&want, &after, "after a kill");
	expect_same(&whole, &gone_on, "the file after a kill");
	tt_buffer_free(&left);
	tt_buffer_free(&want);
	tt_buffer_free(&whole);
	end(&w);
}

static int stop_in_gate(void *user, const char *stage, uint64_t done, uint64_t total)
{
	(void)user;
	(void)total;
	return strcmp(stage, "gate") == 0 && done == 5;
}

Test(fit_activations, keeps_what_an_interrupted_fit_ran)
{
	struct world w;
	struct tt_policy *policy = NULL;
	struct tt_error failure = {0};
	begin(&w);
	w.engine = engine_open(TINY, 4, 64);
	w.options.progress = stop_in_gate;
	cr_expect_eq(tt_fit(&policy, w.engine, &w.options, NULL, &failure), TT_ERR_LIMIT);
	w.options.progress = NULL;
	struct tt_buffer after = fit(&w, 5, N_ROWS - 5);
	tt_buffer_free(&after);
	end(&w);
}

/* The vectors of the file are those that are trained on: a changed one, soundly sealed, changes the policy and the
 * digest that the policy holds. */
Test(fit_activations, the_policy_says_what_it_was_trained_on)
{
	struct world w;
	begin(&w);
	struct tt_buffer want = fit(&w, 0, N_ROWS), whole = read_file(w.cache);
	size_t n_head = (size_t)(strchr(whole.data, '\n') + 1 - whole.data);
	uint8_t key[TT_ACTIVATION_KEY], record[2048];
	float h[WIDTH];
	memcpy(record, whole.data + n_head, tt_activation_bytes(WIDTH));
	memcpy(key, record, sizeof key);
	memcpy(h, tt_activation_h(record), sizeof h);
	h[3] += 1;
	must(tt_activation_seal((uint8_t *)whole.data + n_head, key, h, WIDTH, err));
	scratch_write(&w.scratch, "cache", whole.data, whole.len);
	struct tt_buffer other = fit(&w, N_ROWS, 0);
	cr_expect(other.len == want.len && memcmp(other.data, want.data, want.len) != 0);
	tt_buffer_free(&other);
	tt_buffer_free(&want);
	tt_buffer_free(&whole);
	end(&w);
}

static void expect_fit_refused(struct world *w, int code, const char *words)
{
	struct tt_policy *policy = NULL;
	struct tt_error failure = {0};
	cr_expect_eq(tt_fit(&policy, w->engine, &w->options, NULL, &failure), code, "%s", failure.message);
	cr_expect_not_null(strstr(failure.message, words), "%s", failure.message);
	cr_expect_null(policy);
}

Test(fit_activations, a_file_that_is_read_or_another_engines_is_refused)
{
	struct world w;
	begin(&w);
	struct tt_buffer want = fit(&w, 0, N_ROWS), whole = read_file(w.cache), rows = read_file(ROWS);
	w.options.activations = ROWS;
	expect_fit_refused(&w, TT_ERR_ARGUMENT, "would be both the data and the activations");
	w.options.activations = TINY "/config.json";
	expect_fit_refused(&w, TT_ERR_ARGUMENT, "would be both the model and the activations");
	char other[512];
	snprintf(other, sizeof other, "%s", scratch_write(&w.scratch, "other", rows.data, rows.len));
	w.options.activations = other;
	expect_fit_refused(&w, TT_ERR_FORMAT, "no file of activations");
	struct tt_buffer still = read_file(other), data_still = read_file(ROWS);
	expect_same(&rows, &still, "another kind of file");
	expect_same(&rows, &data_still, "the data");
	tt_engine_close(w.engine);
	struct tt_engine_options options;
	tt_engine_options_default(&options);
	options.device = "cpu";
	options.kv_f16 = true;
	must(tt_engine_open(&w.engine, TINY, &options, err));
	w.options.activations = w.cache;
	expect_fit_refused(&w, TT_ERR_MISMATCH, "--kv");
	tt_engine_close(w.engine);
	w.engine = engine_open(GOLDEN("tiny-qwen2"), 4, 64);
	expect_fit_refused(&w, TT_ERR_MISMATCH, "another model (");
	struct tt_buffer cache_still = read_file(w.cache);
	expect_same(&whole, &cache_still, "another engine's");
	/* Other threads, batches and chunks change no bit. */
	tt_engine_close(w.engine);
	w.engine = engine_open(TINY, 2, 16);
	struct tt_buffer again = fit(&w, N_ROWS, 0);
	expect_same(&want, &again, "another batch");
	unlink(w.cache);
	again = fit(&w, 0, N_ROWS), cache_still = read_file(w.cache);
	expect_same(&want, &again, "another batch, cold");
	expect_same(&whole, &cache_still, "the file of another batch");
	tt_buffer_free(&want);
	tt_buffer_free(&whole);
	tt_buffer_free(&rows);
	end(&w);
}

/* As a mode that reads many layers at once does: the digest is that of the checksums in the order of x. */
Test(fit_activations, the_digest_is_over_all_vectors_in_their_order)
{
	static const uint32_t layers[] = {0, 1, 2};
	struct world w;
	struct tt_fit_rows rows;
	struct tt_fit_features f;
	struct tt_progress progress = {0};
	begin(&w);
	w.engine = engine_open(TINY, 4, 64);
	must(tt_fit_rows_read(&rows, w.engine, &w.options, err));
	const struct tt_fit_row *list[] = {&rows.val[TT_BENIGN].rows[1], &rows.train[TT_HARMFUL].rows[2]};
	const struct tt_fit_features_spec spec = {
		.rows = list, .n_rows = 2, .layers = layers, .n_layers = 3, .pool = TT_POOL_LAST_MEAN};
	must(tt_fit_features_make(&f, &spec, w.engine, &progress, err));
	struct tt_buffer checks = {0};
	uint8_t run[TT_ACTIVATION_DIGEST], key[TT_ACTIVATION_KEY], record[2048];
	for (size_t i = 0; i < 2; i++)
		for (uint32_t v = 0; v < 6; v++) {
			const struct tt_fit_row *row = list[i];
			size_t from = v < 3 ? row->n_ids - 1 : row->mean_from, to = v < 3 ? row->n_ids : row->mean_to;
			must(tt_activation_run(run, row->ids, row->n_ids, from, to ? to : row->n_ids, err));
			tt_activation_key(key, run, v % 3);
			must(tt_activation_seal(record, key, f.x + i * f.d + v * WIDTH, WIDTH, err));
			must(tt_buffer_add(&checks, tt_activation_check(record, WIDTH), TT_ACTIVATION_DIGEST, err));
		}
	char want[65];
	must(tt_sha256(want, checks.data, checks.len, err));
	cr_expect_str_eq(f.sha256, want);
	cr_expect_eq(f.n_run, 2);
	tt_buffer_free(&checks);
	tt_fit_features_free(&f);
	tt_fit_rows_free(&rows);
	end(&w);
}
