/* Activations of many prompts in one file: PyTorch's numbers, the bits of single captures, the same bytes after a run
 * that was stopped anywhere, and nothing of others thrown away. */
#include <jansson.h>
#include <unistd.h>

#include "base/file.h"
#include "controller/policy/policy.h"
#include "golden.h"
#include "weights_files.h"

#define MODEL GOLDEN("tiny-llama")

enum { LAYERS = 3, WIDTH = 64, N_ROWS = 9 };

static const char *const FILES[] = {"rows.jsonl", "out", "out.partial", "out.journal", "one", "two", "p"};
enum { N_FILES = sizeof FILES / sizeof *FILES };

struct world {
	struct scratch s;
	char data[128], out[128], partial[140], journal[140], one[128];
	struct tt_engine *engine;
	struct tt_capture_data_options options;
	struct tt_capture_data_report report;
	uint64_t stop_at; /* rows done, of progress; 0: never */
};

static int progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
	const struct world *w = user;
	(void)total;
	return w->stop_at && strcmp(stage, "rows") == 0 && done >= w->stop_at;
}

/* Row i has 3 + 7 i ids, and from the second on a response. */
static void write_rows(const struct world *w)
{
	FILE *file = fopen(w->data, "w");
	cr_assert_not_null(file);
	for (int i = 0; i < N_ROWS; i++) {
		fprintf(file, "{\"id\": \"row %d\", %s\"prompt\": [", i, i ? "\"response\": \"yes, b c\", " : "");
		for (int k = 0; k < 3 + 7 * i; k++)
			fprintf(file, "%s%d", k ? ", " : "", (k * 5 + i) % 200);
		fputs(i == 4 ? "]}\n\n" : "]}\n", file);
	}
	cr_assert_eq(fclose(file), 0);
}

static void begin(struct world *w)
{
	*w = (struct world){0};
	scratch_make(&w->s);
	snprintf(w->data, sizeof w->data, "%s/rows.jsonl", w->s.directory);
	snprintf(w->out, sizeof w->out, "%s/out", w->s.directory);
	snprintf(w->one, sizeof w->one, "%s/one", w->s.directory);
	snprintf(w->partial, sizeof w->partial, "%s.partial", w->out);
	snprintf(w->journal, sizeof w->journal, "%s.journal", w->out);
	w->engine = engine_open(MODEL, 4, 64);
	w->options = (struct tt_capture_data_options){.size = sizeof w->options,
		.data = w->data,
		.layers = "0,2",
		.positions = TT_CAPTURE_ALL,
		.progress = progress,
		.user = w};
	write_rows(w);
}

static void end(struct world *w)
{
	tt_engine_close(w->engine);
	scratch_remove(&w->s, FILES, N_FILES);
}

static void capture(struct world *w, const char *path)
{
	must(tt_capture_data(w->engine, &w->options, path, &w->report, err));
}

/* The call fails with this status and these words, and the files stay as they are. */
static void refused(struct world *w, int status, const char *words)
{
	struct tt_error err = {0};
	int got = tt_capture_data(w->engine, &w->options, w->out, &w->report, &err);
	cr_expect_eq(got, status, "%s: %d, %s", words, got, err.message);
	cr_expect_not_null(strstr(err.message, words), "no \"%s\" in: %s", words, err.message);
}

static struct tt_buffer bytes_of(const char *path)
{
	struct tt_buffer out = {0};
	must(tt_file_read(&out, path, 1 << 24, err));
	return out;
}

static void expect_same(const char *path, const struct tt_buffer *want, const char *what)
{
	struct tt_buffer got = bytes_of(path);
	cr_expect(got.len == want->len && memcmp(got.data, want->data, want->len) == 0, "%s: other bytes", what);
	tt_buffer_free(&got);
}

/* ---- The numbers */

/* The golden's rows are some positions of one sequence. */
Test(capture_data, hidden_states_and_logits_are_those_of_pytorch)
{
	struct world w;
	size_t n_ids, n_at, n;
	begin(&w);
	struct tt_safetensors *golden = golden_open(GOLDEN("tiny-llama/golden.safetensors"));
	int32_t *ids = golden_ints(golden, "ids", &n_ids);
	FILE *file = fopen(w.data, "w");
	for (size_t i = 0; i < n_ids; i++)
		fprintf(file, "%s%d%s", i ? ", " : "{\"prompt\": [", ids[i], i + 1 == n_ids ? "]}\n" : "");
	fclose(file);
	w.options.layers = NULL;
	w.options.logits = true;
	capture(&w, w.out);
	struct tt_safetensors *got = golden_open(w.out);
	for (int l = 0; l <= LAYERS; l++) {
		char name[32] = "logits";
		if (l < LAYERS)
			snprintf(name, sizeof name, "hidden.%d", l);
		int32_t *at = golden_ints(golden, l < LAYERS ? "positions_hidden" : "positions_logits", &n_at);
		float *want = golden_floats(golden, name, &n), *rows = malloc(n * sizeof *rows);
		size_t width = n / n_at;
		const struct tt_st_tensor *all = golden_tensor(got, name);
		cr_assert_eq(all->n_elements, n_ids * width);
		for (size_t i = 0; i < n; i++)
			rows[i] = tt_st_float(all, (size_t)at[i / width] * width + i % width);
		double error = relative_error(rows, want, n);
		cr_expect(error <= TOLERANCE, "%s: %g off", name, error);
		free(at);
		free(want);
		free(rows);
	}
	tt_safetensors_close(got);
	tt_safetensors_close(golden);
	free(ids);
	end(&w);
}

/* Row r of a capture of all positions against tt_capture of the same ids. */
static void check_row(struct world *w, const struct tt_safetensors *all, size_t r, const struct tt_steering *steering)
{
	static const char *const names[] = {"hidden.0", "hidden.2", "logits", "ids", "coef"};
	int64_t from, to;
	const struct tt_st_tensor *offset = golden_tensor(all, "row.offset"), *ids = golden_tensor(all, "ids");
	memcpy(&from, (const char *)offset->data + r * sizeof from, sizeof from);
	memcpy(&to, (const char *)offset->data + (r + 1) * sizeof to, sizeof to);
	int32_t own[128];
	memcpy(own, (const char *)ids->data + (size_t)from * sizeof *own, (size_t)(to - from) * sizeof *own);
	const struct tt_capture_options options = {.size = sizeof options,
		.ids = own,
		.n_ids = (size_t)(to - from),
		.steering = steering,
		.n_steering = steering != NULL};
	must(tt_capture(w->engine, &options, w->one, err));
	struct tt_safetensors *one = golden_open(w->one);
	for (size_t i = 0; i < sizeof names / sizeof *names - (steering ? 0 : 1); i++) {
		const struct tt_st_tensor *a = golden_tensor(all, names[i]), *b = golden_tensor(one, names[i]);
		size_t each = b->n_bytes / (size_t)(to - from);
		cr_expect_arr_eq(
			(const char *)a->data + (size_t)from * each, b->data, b->n_bytes, "row %zu: %s", r, names[i]);
	}
	tt_safetensors_close(one);
}

static struct tt_policy *push(struct tt_engine *engine)
{
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, LAYERS, WIDTH, 1, err));
	for (uint32_t i = 0; i < WIDTH; i++)
		p->directions[WIDTH + i] = i % 2 ? 0.2f : -0.1f;
	p->weights[1] = 1;
	p->when = TT_WHEN_ALL;
	policy_adopt(engine, p);
	return p;
}

Test(capture_data, rows_have_the_bits_of_single_captures_steered_or_not)
{
	struct world w;
	begin(&w);
	struct tt_policy *policy = push(w.engine);
	const struct tt_steering steering = {policy, 1.5f};
	w.options.logits = true;
	for (int steered = 0; steered < 2; steered++) {
		w.options.n_steering = (uint32_t)steered;
		w.options.steering[0] = steering;
		w.options.restart = steered;
		capture(&w, w.out);
		cr_expect_eq(w.report.n_rows, N_ROWS);
		struct tt_safetensors *all = golden_open(w.out);
		for (size_t r = 0; r < N_ROWS; r++)
			check_row(&w, all, r, steered ? &steering : NULL);
		cr_expect_eq(tt_safetensors_find(all, "coef") != NULL, steered);
		cr_expect_null(tt_safetensors_find(all, "hidden.1"));
		tt_safetensors_close(all);
	}
	must(tt_engine_remove_policy(w.engine, policy, err));
	tt_policy_free(policy);
	end(&w);
}

/* The last prompt token and the response, as parts of all positions. */
Test(capture_data, positions_are_parts_of_all)
{
	struct world w;
	static const char RESPONSE[] = "{\"prompt\": [1, 2, 3], \"response\": \"a b\"}\n";
	char path[2][140];
	begin(&w);
	capture(&w, w.out);
	struct tt_safetensors *all = golden_open(w.out), *part[2];
	cr_expect_null(tt_safetensors_find(all, "logits"));
	const float *h = (const float *)golden_tensor(all, "hidden.2")->data;
	for (int i = 0; i < 2; i++) {
		snprintf(path[i], sizeof path[i], "%s/%s", w.s.directory, i ? "two" : "one");
		w.options.positions = i ? TT_CAPTURE_RESPONSE : TT_CAPTURE_LAST;
		if (i) /* the first row has no response */
			must(tt_file_write(w.data, RESPONSE, strlen(RESPONSE), err));
		capture(&w, path[i]);
		part[i] = golden_open(path[i]);
	}
	const float *last = (const float *)golden_tensor(part[0], "hidden.2")->data;
	const int32_t *at = (const int32_t *)golden_tensor(part[0], "position")->data;
	const int64_t *offset = (const int64_t *)golden_tensor(all, "row.offset")->data;
	const struct tt_st_tensor *id = golden_tensor(part[0], "row.id");
	for (int r = 0; r < N_ROWS; r++) {
		cr_expect_eq(at[r], 2 + 7 * r);
		cr_expect_arr_eq(last + r * WIDTH, h + (size_t)(offset[r] + at[r]) * WIDTH, WIDTH * sizeof *h);
		char want[8];
		snprintf(want, sizeof want, "row %d", r);
		cr_expect_arr_eq((const char *)id->data + (size_t)r * id->shape[1], want, 5);
	}
	const int32_t *n_ids = (const int32_t *)golden_tensor(part[1], "row.n_ids")->data;
	const struct tt_st_tensor *response = golden_tensor(part[1], "position");
	cr_expect_eq(response->n_elements, (uint64_t)*n_ids - 3);
	cr_expect_eq(*(const int32_t *)response->data, 3);
	tt_safetensors_close(all);
	tt_safetensors_close(part[0]);
	tt_safetensors_close(part[1]);
	end(&w);
}

/* ---- Runs that were stopped */

/* Stopped by progress after each number of rows, with what a kill or a power cut may leave besides. */
Test(capture_data, a_stopped_run_goes_on_to_the_same_bytes)
{
	struct world w;
	begin(&w);
	capture(&w, w.one);
	struct tt_buffer want = bytes_of(w.one);
	for (uint64_t stop = 1; stop < N_ROWS; stop++) {
		w.stop_at = stop;
		refused(&w, TT_ERR_LIMIT, "stopped at rows");
		uint64_t n_done = w.report.n_done;
		cr_expect(n_done >= stop && !tt_file_exists(w.out));
		if (stop == 2) /* a record that was cut off */
			cr_expect_eq(truncate(w.journal, (off_t)(32 * (1 + n_done) - 5)), 0);
		if (stop == 3) { /* a row's bytes that never reached the disk */
			FILE *file = fopen(w.partial, "r+b");
			fseek(file, (long)want.len - 1, SEEK_SET);
			fputc('!', file);
			fseek(file, (long)want.len - 5 * N_ROWS, SEEK_SET);
			fputc(0, file);
			fclose(file);
		}
		for (w.stop_at = n_done + 1; stop > 3 && w.stop_at < N_ROWS; w.stop_at = n_done + 1) {
			refused(&w, TT_ERR_LIMIT, "stopped at rows");
			cr_expect_eq(w.report.n_earlier, n_done, "stopped again");
			n_done = w.report.n_done;
		}
		w.stop_at = 0;
		capture(&w, w.out);
		cr_expect_eq(w.report.n_earlier,
			stop == 2   ? n_done - 1
			: stop == 3 ? 0
				    : n_done,
			"%llu at %llu", (unsigned long long)w.report.n_earlier, (unsigned long long)stop);
		expect_same(w.out, &want, "gone on with");
		cr_expect(!tt_file_exists(w.partial) && !tt_file_exists(w.journal));
		unlink(w.out);
	}
	tt_buffer_free(&want);
	end(&w);
}

/* Killed while the file was begun, at any byte of its beginning. */
Test(capture_data, a_run_that_was_killed_at_its_beginning_begins_again)
{
	struct world w;
	begin(&w);
	capture(&w, w.one);
	struct tt_buffer want = bytes_of(w.one);
	for (size_t n = 0; n < 800; n += 199) {
		must(tt_file_write(w.partial, want.data, n, err));
		must(tt_file_write(w.journal, want.data, n ? 31 : 0, err));
		capture(&w, w.out);
		expect_same(w.out, &want, "begun again");
		unlink(w.out);
	}
	tt_buffer_free(&want);
	end(&w);
}

Test(capture_data, a_complete_file_is_left_as_it_is)
{
	struct world w;
	begin(&w);
	capture(&w, w.out);
	capture(&w, w.out);
	cr_expect_eq(w.report.n_earlier, N_ROWS);
	cr_expect_eq(w.report.n_tokens, 0);
	w.options.restart = true;
	capture(&w, w.out);
	cr_expect_eq(w.report.n_earlier, 0);
	cr_expect(w.report.n_tokens > 0);
	end(&w);
}

/* ---- What is refused */

Test(capture_data, other_rows_and_strangers_are_left_alone)
{
	struct world w;
	begin(&w);
	w.stop_at = 2;
	refused(&w, TT_ERR_LIMIT, "stopped");
	w.stop_at = 0;
	struct tt_buffer there = bytes_of(w.partial);
	w.options.layers = "1";
	refused(&w, TT_ERR_MISMATCH, "another --layers (0,2 there, 1 here)");
	expect_same(w.partial, &there, "another job's");
	w.options.restart = true;
	capture(&w, w.out);
	w.options.restart = false;
	w.options.positions = TT_CAPTURE_LAST;
	refused(&w, TT_ERR_MISMATCH, "another --positions (all there, last here)");
	must(tt_file_write(w.out, "mine", 4, err));
	for (int restart = 0; restart < 2; restart++) {
		w.options.restart = restart;
		refused(&w, TT_ERR_MISMATCH, "no file of captured rows");
	}
	unlink(w.out);
	must(tt_file_write(w.partial, "mine", 4, err));
	refused(&w, TT_ERR_MISMATCH, "no file of captured rows");
	cr_expect(!tt_file_exists(w.journal), "a journal beside a stranger");
	tt_buffer_free(&there);
	end(&w);
}

Test(capture_data, bad_rows_and_options_are_refused_before_anything_is_made)
{
	static const struct {
		const char *row, *words;
		enum tt_capture_positions positions;
	} cases[] = {
		{"[]", ":2: not a JSON object", TT_CAPTURE_LAST},
		{"{", ":2: row: not valid JSON", TT_CAPTURE_LAST},
		{"{\"id\": \"x\"}", ":2: prompt is missing", TT_CAPTURE_LAST},
		{"{\"id\": 3, \"prompt\": [1]}", ":2: id", TT_CAPTURE_LAST},
		{"{\"id\": \"\", \"prompt\": [1]}", ":2: id must have 1 to 255", TT_CAPTURE_LAST},
		{"{\"prompt\": []}", ":2: the prompt", TT_CAPTURE_LAST},
		{"{\"prompt\": [[1], [2]]}", ":2: prompt must be a string or a list", TT_CAPTURE_LAST},
		{"{\"prompt\": [99999]}", ":2: id 99999", TT_CAPTURE_LAST},
		{"{\"prompt\": \"x\", \"messages\": []}", ":2: prompt and messages exclude", TT_CAPTURE_LAST},
		{"{\"messages\": []}", ":2: messages must be a list that is not empty", TT_CAPTURE_LAST},
		{"{\"prompt\": [1]}", ":2: response is missing", TT_CAPTURE_RESPONSE},
		{"{\"prompt\": [1], \"response\": \"\"}", ":2: the response has no tokens", TT_CAPTURE_RESPONSE},
	};
	struct world w;
	char text[256];
	begin(&w);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		snprintf(text, sizeof text, "{\"prompt\": [1, 2], \"response\": \"x\"}\n%s\n", cases[i].row);
		must(tt_file_write(w.data, text, strlen(text), err));
		w.options.positions = cases[i].positions;
		refused(&w, i == 7 ? TT_ERR_ARGUMENT : TT_ERR_FORMAT, cases[i].words);
	}
	must(tt_file_write(w.data, "\n \n", 3, err));
	refused(&w, TT_ERR_FORMAT, "no rows");
	w.options.layers = "3";
	refused(&w, TT_ERR_FORMAT, "layers");
	w.options.layers = NULL;
	w.options.positions = (enum tt_capture_positions)3;
	refused(&w, TT_ERR_ARGUMENT, "positions");
	w.options.data = w.partial;
	refused(&w, TT_ERR_ARGUMENT, "positions");
	w.options.positions = TT_CAPTURE_LAST;
	refused(&w, TT_ERR_ARGUMENT, "both the data and the output while");
	cr_expect(!tt_file_exists(w.out) && !tt_file_exists(w.partial) && !tt_file_exists(w.journal));
	end(&w);
}
