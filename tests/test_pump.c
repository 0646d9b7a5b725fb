/* The pump, and what is made of it: fit, eval, batch and capture on an engine that the caller steps, on one that has a
 * thread of its own, and several at once. */
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"
#include "controller/policy/policy.h"
#include "golden.h"
#include "runtime/engine/pump.h"
#include "runtime/engine/request.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")
#define ROWS GOLDEN("policy/rows.jsonl")

static const char *const FILES[] = {"a.jsonl", "a.jsonl.partial", "b.jsonl", "b.jsonl.partial", "in.jsonl", "out.jsonl",
	"out.jsonl.journal", "out.telemetry", "capture.safetensors", "p.safetensors"};
enum { N_FILES = sizeof FILES / sizeof *FILES };

/* ---- Every request that was submitted is freed */

static pthread_mutex_t live_lock = PTHREAD_MUTEX_INITIALIZER;
static const struct tt_request *live[4096]; /* of tt_request_submit_own */
static size_t n_live;

int __real_tt_request_submit_own(
	struct tt_request **, struct tt_engine *, const struct tt_request_options *, struct tt_error *);
int __wrap_tt_request_submit_own(
	struct tt_request **, struct tt_engine *, const struct tt_request_options *, struct tt_error *);
int __wrap_tt_request_submit_own(struct tt_request **out, struct tt_engine *engine,
	const struct tt_request_options *options, struct tt_error *err)
{
	int status = __real_tt_request_submit_own(out, engine, options, err);
	pthread_mutex_lock(&live_lock);
	if (status == TT_OK && n_live < sizeof live / sizeof *live)
		live[n_live++] = *out;
	pthread_mutex_unlock(&live_lock);
	return status;
}

void __real_tt_request_free(struct tt_request *);
void __wrap_tt_request_free(struct tt_request *);
void __wrap_tt_request_free(struct tt_request *request)
{
	pthread_mutex_lock(&live_lock);
	for (size_t i = 0; i < n_live; i++)
		if (live[i] == request)
			live[i--] = live[--n_live];
	pthread_mutex_unlock(&live_lock);
	__real_tt_request_free(request);
}

static void nothing_left(const struct tt_engine *engine, const char *what)
{
	cr_expect_eq(n_live, 0, "%s: %zu requests were not freed", what, n_live);
	cr_expect_eq(tt_engine_pending(engine), 0, "%s: requests are pending", what);
	n_live = 0;
}

/* ---- The pump alone */

/* For a batch of 4. */
enum { N_REQUESTS = 80, WINDOW = 10, MAX_RUNNING = 8, NEVER = N_REQUESTS };

struct feed {
	struct tt_engine *engine;
	struct tt_request *submitted[N_REQUESTS];
	size_t n_submitted, n_taken, most_in_window, most_running;
	size_t fail_next, fail_take, fail_tick, cancel; /* at that request; the ticks are counted too */
	size_t n_ticks, n_cancelled;
	uint32_t max_tokens; /* 0: of all lengths */
};

static uint32_t tokens_of(const struct feed *f, size_t i)
{
	return f->max_tokens ? f->max_tokens : 1 + (uint32_t)(i * 7 % 11);
}

static int feed_next(void *user, struct tt_request **out, struct tt_error *err)
{
	struct feed *f = user;
	struct tt_request_options options;
	const int32_t ids[3] = {5, (int32_t)f->n_submitted, 17};
	size_t n_running = 0;
	if (f->n_submitted == N_REQUESTS)
		return TT_OK;
	if (f->n_submitted == f->fail_next)
		return tt_fail(err, TT_ERR_IO, "no next");
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = 3;
	options.ignore_eos = true;
	options.max_tokens = tokens_of(f, f->n_submitted);
	TT_TRY(tt_request_submit_own(out, f->engine, &options, err));
	f->submitted[f->n_submitted++] = *out;
	for (size_t i = f->n_taken; i < f->n_submitted; i++)
		n_running += tt_request_finish(f->submitted[i]) == TT_RUNNING;
	if (n_running > f->most_running)
		f->most_running = n_running;
	if (f->n_submitted - f->n_taken > f->most_in_window)
		f->most_in_window = f->n_submitted - f->n_taken;
	return TT_OK;
}

static int feed_take(void *user, struct tt_request *request, struct tt_error *err)
{
	struct feed *f = user;
	cr_expect_eq(request, f->submitted[f->n_taken], "request %zu is taken out of order", f->n_taken);
	if (tt_request_finish(request) == TT_FINISH_CANCELLED)
		f->n_cancelled++;
	else
		cr_expect_eq(tt_request_n_generated(request), tokens_of(f, f->n_taken));
	f->n_taken++;
	tt_request_free(request);
	return f->n_taken == f->fail_take ? tt_fail(err, TT_ERR_IO, "not taken") : TT_OK;
}

static int feed_tick(void *user, struct tt_error *err)
{
	struct feed *f = user;
	if (++f->n_ticks == f->fail_tick)
		return tt_fail(err, TT_ERR_LIMIT, "ticked off");
	if (f->n_submitted > f->cancel && f->n_taken <= f->cancel)
		tt_request_cancel(f->submitted[f->cancel]);
	return TT_OK;
}

static int feed_run(struct feed *f, struct tt_engine *engine, struct tt_error *err)
{
	f->engine = engine;
	const struct tt_pump pump = {.engine = engine,
		.window = WINDOW,
		.max_running = MAX_RUNNING,
		.next = feed_next,
		.take = feed_take,
		.tick = feed_tick,
		.user = f};
	return tt_pump_run(&pump, err);
}

static struct feed feed_new(void)
{
	return (struct feed){.fail_next = NEVER, .fail_take = NEVER + 1, .cancel = NEVER};
}

static struct tt_engine *open(bool started)
{
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	if (started)
		must(tt_engine_start(engine, err));
	return engine;
}

Test(pump, takes_in_order_within_its_window)
{
	for (int started = 0; started < 2; started++) {
		struct tt_engine *engine = open(started);
		struct feed f = feed_new();
		must(feed_run(&f, engine, err));
		/* an engine on its own thread may be faster than this one */
		cr_expect(started || (f.most_in_window == WINDOW && f.most_running == MAX_RUNNING));
		cr_expect(f.n_taken == N_REQUESTS && f.most_in_window <= WINDOW && f.most_running <= MAX_RUNNING,
			"%zu in the window, %zu run at once", f.most_in_window, f.most_running);
		nothing_left(engine, "order");
		tt_engine_close(engine);
	}
}

/* As one ends the next is there: every step's batch is full but for the last few. */
Test(pump, keeps_the_batch_full)
{
	struct tt_engine *engine = open(false);
	struct tt_engine_stats stats;
	struct feed f = feed_new();
	size_t n_tokens = 0;
	must(feed_run(&f, engine, err));
	for (size_t i = 0; i < N_REQUESTS; i++)
		n_tokens += tokens_of(&f, i);
	tt_engine_stats(engine, &stats);
	cr_expect_leq(stats.n_steps, n_tokens / 4 + 5, "%d steps for %zu tokens", (int)stats.n_steps, n_tokens);
	tt_engine_close(engine);
}

Test(pump, leaves_nothing_when_it_is_stopped)
{
	for (int started = 0; started < 2; started++) {
		struct tt_engine *engine = open(started);
		for (int way = 0; way < 3; way++) {
			struct feed f = feed_new();
			struct tt_error error = {0};
			size_t *at[3] = {&f.fail_next, &f.fail_take, &f.fail_tick};
			const char *message[3] = {"no next", "not taken", "ticked off"};
			*at[way] = way == 2 && started ? 2 : 19; /* its own thread may leave time for few ticks */
			cr_expect_lt(feed_run(&f, engine, &error), 0);
			cr_expect_str_eq(error.message, message[way]);
			cr_expect(f.n_submitted > 0 && f.n_submitted < N_REQUESTS);
			nothing_left(engine, message[way]);
		}
		struct feed f = feed_new();
		f.cancel = 13;
		must(feed_run(&f, engine, err));
		cr_expect(f.n_taken == N_REQUESTS && (f.n_cancelled == 1 || (started && f.n_cancelled == 0)));
		nothing_left(engine, "cancelled");
		tt_engine_close(engine);
	}
}

/* ---- Steps that fail */

static int (*real_begin)(struct tt_backend *, const struct tt_step_plan *, bool *, struct tt_error *);
static atomic_int steps_left; /* before one fails, and all after it */

static int begin(struct tt_backend *backend, const struct tt_step_plan *step, bool *recorded, struct tt_error *err)
{
	if (steps_left-- <= 0)
		return tt_fail(err, TT_ERR_DEVICE, "the device fell over");
	return real_begin(backend, step, recorded, err);
}

Test(pump, gives_the_engines_error_where_a_step_fails)
{
	for (int started = 0; started < 2; started++) {
		struct tt_engine *engine = open(false);
		struct tt_error error = {0};
		real_begin = engine->rank.backend->begin;
		engine->rank.backend->begin = begin;
		steps_left = 5;
		if (started)
			must(tt_engine_start(engine, err));
		struct feed f = feed_new();
		f.max_tokens = 4;
		cr_expect_eq(feed_run(&f, engine, &error), TT_ERR_DEVICE);
		cr_expect_str_eq(error.message, "the device fell over");
		cr_expect(f.n_taken > 0 && f.n_taken < f.n_submitted);
		nothing_left(engine, "failed step");
		steps_left = 100000;
		f = feed_new();
		must(feed_run(&f, engine, err));
		cr_expect_eq(f.n_taken, N_REQUESTS, "the engine goes on after a step that failed");
		cr_expect_eq(tt_engine_stop(engine, &error), started ? TT_ERR_DEVICE : TT_OK);
		tt_engine_close(engine);
	}
}

struct guest {
	struct tt_engine *engine;
	int status; /* the first that failed */
};

/* Every other request is over as soon as a step is planned. */
static void *come_and_go(void *user)
{
	struct guest *g = user;
	const int32_t ids[2] = {5, 17};
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = 2;
	for (int i = 0; i < 2000 && g->status == TT_OK; i++) {
		struct tt_request *request = NULL;
		options.timeout = i % 2 ? 1e-9 : 0;
		g->status = tt_request_submit_own(&request, g->engine, &options, NULL);
		if (g->status == TT_OK && i % 2)
			g->status = tt_request_wait(request, NULL);
		tt_request_free(request);
	}
	return NULL;
}

/* Requests that end while a step is planned leave it empty; a request that comes in at that moment still runs. */
Test(pump, requests_that_come_and_go_do_not_fail_others)
{
	enum { N = 4 };
	struct tt_engine *engine = open(true);
	struct guest guests[N];
	pthread_t threads[N];
	for (int i = 0; i < N; i++) {
		guests[i] = (struct guest){.engine = engine};
		cr_assert_eq(pthread_create(&threads[i], NULL, come_and_go, &guests[i]), 0);
	}
	for (int i = 0; i < N; i++) {
		pthread_join(threads[i], NULL);
		cr_expect_eq(guests[i].status, TT_OK);
	}
	must(tt_engine_stop(engine, err));
	nothing_left(engine, "coming and going");
	tt_engine_close(engine);
}

/* ---- Fit, eval, batch and capture */

/* A file without the times in it. */
static char *read_stable(const char *path)
{
	struct tt_buffer text = {0};
	must(tt_file_read(&text, path, 1 << 24, err));
	for (char *at = text.data; at && (at = strstr(at, "\"created\":"));)
		for (at += 10; *at >= '0' && *at <= '9'; at++)
			*at = '#';
	return text.data;
}

/* Without what depends on the clock, on what was shared and on what else ran. */
static char *report_stable(char *report)
{
	json_t *object = json_loads(report, 0, NULL);
	cr_assert_not_null(object, "%s", report);
	json_object_del(object, "speed");
	json_object_del(object, "seconds");
	char *text = json_dumps(object, JSON_SORT_KEYS);
	json_decref(object);
	tt_free(report);
	return text;
}

/* Criterion would print the whole of both. */
static void same_text(const char *what, const char *a, const char *b)
{
	size_t i = 0;
	while (a[i] && a[i] == b[i])
		i++;
	cr_expect_eq(a[i], b[i], "%s: the same up to byte %zu", what, i);
}

/* A policy that pushes every token hard, to see a difference in what a random model writes. */
static struct tt_policy *hard_push(struct tt_engine *engine)
{
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, 3, 64, 1, err));
	for (uint32_t i = 0; i < 64; i++)
		p->directions[64 + i] = i % 2 ? 3 : -3;
	p->weights[1] = 1;
	p->when = TT_WHEN_ALL;
	must(tt_policy_set_text(&p->name, "push", err));
	must(tt_policy_set_text(&p->fingerprint, tt_engine_info(engine)->fingerprint, err));
	must(tt_policy_set_text(&p->weights_digest, tt_engine_info(engine)->weights_digest, err));
	must(tt_policy_finish(p, err));
	must(tt_engine_add_policy(engine, p, NULL, err));
	return p;
}

struct evaluation {
	struct tt_engine *engine;
	struct tt_policy *policy;
	char path[512]; /* of the completions */
	char *report, *completions;
	uint64_t act_at; /* done, of progress */
	void (*act)(struct tt_engine *engine);
	bool stop;
	int status;
	struct tt_error error;
};

static int eval_progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
	struct evaluation *e = user;
	(void)stage;
	(void)total;
	if (e->act && done == e->act_at)
		e->act(e->engine);
	return e->stop && done >= e->act_at;
}

static int eval_run(struct evaluation *e, struct tt_error *err)
{
	static const char *const data[] = {ROWS};
	struct tt_eval_options options;
	tt_eval_options_default(&options);
	options.data = data;
	options.n_data = 1;
	options.max_tokens = 12;
	options.steering[0] = (struct tt_steering){e->policy, 1};
	options.n_steering = 1;
	options.completions = e->path;
	options.progress = eval_progress;
	options.user = e;
	return tt_eval(e->engine, &options, &e->report, err);
}

static void *evaluate(void *user)
{
	struct evaluation *e = user;
	e->status = eval_run(e, &e->error);
	return e;
}

/* Not in a thread, which may assert nothing. */
static void evaluated(void *user)
{
	struct evaluation *e = user;
	cr_assert_eq(e->status, TT_OK, "%s", e->error.message);
	e->report = report_stable(e->report);
	e->completions = read_stable(e->path);
}

static void eval_free(struct evaluation *e)
{
	free(e->report);
	free(e->completions);
	e->report = e->completions = NULL;
}

struct work {
	struct scratch s;
	struct tt_engine *engine;
	char *fit_report, *directions, *output, *telemetry;
	struct evaluation eval;
	struct tt_buffer capture;
	int (*batch_progress)(void *user, const char *stage, uint64_t done, uint64_t total);
	struct tt_batch_report batch;
	int status;
	struct tt_error error;
};

static const char *path_of(struct work *w, const char *name, char path[512])
{
	snprintf(path, 512, "%.63s/%.63s", w->s.directory, name);
	return path;
}

/* Rows of all kinds: several choices, stops, lines that cannot be answered, at the end too. */
static void write_input(struct work *w)
{
	char *text = NULL;
	size_t n;
	FILE *file = open_memstream(&text, &n);
	for (int i = 0; i < 60; i++) {
		if (i % 5 == 0)
			fprintf(file, "{\"id\": \"%d\", \"prompt\": \"word %d\"}\n", i, i);
		else if (i % 5 == 4)
			fprintf(file, i % 2 ? "[]\n" : "{\"custom_id\": \"%d\", \"url\": \"/v1/no\", \"body\": {}}\n",
				i);
		else
			fprintf(file,
				"{\"custom_id\": \"%d\", \"method\": \"POST\", \"url\": \"/v1/completions\", \"body\": "
				"{\"prompt\": \"Hello %d\", \"max_tokens\": %d, \"n\": %d, \"temperature\": 1.5, "
				"\"logprobs\": 2, "
				"\"stop\": [\"ex\", \"e\\u0001\", \"to no\"]}}\n",
				i, i, 1 + i * 7 % 30, 1 + i % 3);
	}
	fclose(file);
	scratch_write(&w->s, "in.jsonl", text, n);
	free(text);
}

static int batch_run(struct work *w, struct tt_error *err)
{
	char in[512], out[512], telemetry[512], policy[512];
	struct tt_batch_options options;
	const struct tt_batch_policy policies[] = {{"p", path_of(w, "p.safetensors", policy)}};
	tt_batch_options_default(&options);
	options.input = path_of(w, "in.jsonl", in);
	options.output = path_of(w, "out.jsonl", out);
	options.telemetry = path_of(w, "out.telemetry", telemetry);
	options.policies = policies;
	options.n_policies = 1;
	options.sweep = "p@0,1";
	options.restart = true;
	options.max_tokens = 9;
	options.max_batch = 4;
	options.progress = w->batch_progress;
	options.user = w;
	return tt_batch(w->engine, &options, &w->batch, err);
}

static void *answer(void *user)
{
	struct work *w = user;
	w->status = batch_run(w, &w->error);
	return w;
}

static void answered(void *user)
{
	struct work *w = user;
	char path[512];
	cr_assert_eq(w->status, TT_OK, "%s", w->error.message);
	w->output = read_stable(path_of(w, "out.jsonl", path));
	w->telemetry = read_stable(path_of(w, "out.telemetry", path));
}

static void work_open(struct work *w, bool started)
{
	char path[512];
	*w = (struct work){.engine = open(false)};
	scratch_make(&w->s);
	write_input(w);
	w->eval.engine = w->engine;
	w->eval.policy = hard_push(w->engine);
	path_of(w, "a.jsonl", w->eval.path);
	must(tt_policy_save(w->eval.policy, path_of(w, "p.safetensors", path), err));
	if (started)
		must(tt_engine_start(w->engine, err));
}

static void work_close(struct work *w)
{
	nothing_left(w->engine, "work");
	must(tt_engine_remove_policy(w->engine, w->eval.policy, err));
	tt_policy_free(w->eval.policy);
	tt_engine_close(w->engine);
	eval_free(&w->eval);
	free(w->fit_report);
	free(w->directions);
	free(w->output);
	free(w->telemetry);
	tt_buffer_free(&w->capture);
	scratch_remove(&w->s, FILES, N_FILES);
}

/* The policy's bytes but for the time: the file without its header's length and text would do, but its arrays are all
 * of it. */
static void fit(struct work *w)
{
	static const char *const data[] = {ROWS};
	struct tt_fit_options options;
	struct tt_policy *policy = NULL;
	size_t n = 0;
	tt_fit_options_default(&options);
	options.data = data;
	options.n_data = 1;
	options.judge_tokens = 6;
	options.max_candidates = 6;
	must(tt_fit(&policy, w->engine, &options, &w->fit_report, err));
	w->fit_report = report_stable(w->fit_report);
	FILE *file = open_memstream(&w->directions, &n);
	for (size_t i = 0; i < 3 * 64; i++)
		fprintf(file, "%a ", (double)policy->directions[i]);
	for (size_t i = 0; i < policy->n_observed * 64; i++)
		fprintf(file, "%a ", (double)policy->gate_weight[i]);
	fprintf(file, "%a %a %a %d", (double)policy->alpha, (double)policy->threshold, (double)policy->gate_bias,
		(int)policy->when);
	fclose(file);
	tt_policy_free(policy);
}

static void capture(struct work *w)
{
	static const int32_t ids[] = {5, 90, 17, 4, 33};
	char path[512];
	struct tt_steering steering = {w->eval.policy, 1};
	const struct tt_capture_options options = {sizeof options, ids, 5, .steering = &steering, .n_steering = 1};
	must(tt_capture(w->engine, &options, path_of(w, "capture.safetensors", path), err));
	must(tt_file_read(&w->capture, path, 1 << 24, err));
}

Test(pump, a_started_engine_gives_the_bytes_of_a_stepped_one)
{
	struct work works[2];
	for (int started = 0; started < 2; started++) {
		struct work *w = &works[started];
		work_open(w, started);
		fit(w);
		evaluated(evaluate(&w->eval));
		answered(answer(w));
		capture(w);
	}
	const struct work *a = &works[0], *b = &works[1];
	same_text("fit", a->fit_report, b->fit_report);
	same_text("directions", a->directions, b->directions);
	same_text("eval", a->eval.report, b->eval.report);
	same_text("completions", a->eval.completions, b->eval.completions);
	same_text("output", a->output, b->output);
	same_text("telemetry", a->telemetry, b->telemetry);
	cr_expect_eq(a->batch.n_errors, 24);
	cr_expect_eq(a->batch.n_generated_tokens, b->batch.n_generated_tokens);
	cr_expect(a->capture.len > 1000 && a->capture.len == b->capture.len &&
		  !memcmp(a->capture.data, b->capture.data, a->capture.len));
	for (int started = 0; started < 2; started++)
		work_close(&works[started]);
}

/* ---- Several at once */

struct client {
	struct tt_engine *engine;
	size_t n_foreign, n_own;
	atomic_bool over;
	int status;
};

/* Somebody who takes what is finished from tt_engine_next, as long as the others work. */
static void *use_next(void *user)
{
	struct client *c = user;
	struct tt_request_options options;
	const int32_t ids[2] = {5, 17};
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = 2;
	options.max_tokens = 3;
	while (!c->over && c->status == TT_OK) {
		struct tt_request *request = NULL, *next = NULL;
		c->status = tt_request_submit(&request, c->engine, &options, NULL);
		if (c->status == TT_OK)
			c->status = tt_engine_next(c->engine, &next, -1, NULL);
		c->n_own += next == request;
		c->n_foreign += next != request;
		tt_request_free(request);
	}
	return NULL;
}

Test(pump, an_eval_a_batch_and_a_client_share_an_engine)
{
	struct work alone, w;
	work_open(&alone, false);
	evaluated(evaluate(&alone.eval));
	answered(answer(&alone));
	work_open(&w, true);
	struct client client = {.engine = w.engine};
	pthread_t eval_thread, batch_thread, client_thread;
	cr_assert_eq(pthread_create(&client_thread, NULL, use_next, &client), 0);
	cr_assert_eq(pthread_create(&eval_thread, NULL, evaluate, &w.eval), 0);
	cr_assert_eq(pthread_create(&batch_thread, NULL, answer, &w), 0);
	pthread_join(eval_thread, NULL);
	pthread_join(batch_thread, NULL);
	client.over = true;
	pthread_join(client_thread, NULL);
	evaluated(&w.eval);
	answered(&w);
	cr_expect_eq(client.status, TT_OK);
	cr_expect_gt(client.n_own, 0);
	cr_expect_eq(client.n_foreign, 0, "%zu of others' requests were given out", client.n_foreign);
	same_text("eval", alone.eval.report, w.eval.report);
	same_text("completions", alone.eval.completions, w.eval.completions);
	same_text("output", alone.output, w.output);
	same_text("telemetry", alone.telemetry, w.telemetry);
	work_close(&alone);
	work_close(&w);
}

/* The unsteered texts of completions, and how many steered ones are others. */
static size_t count_steered(const char *completions, char **unsteered)
{
	size_t n = 0, n_steered = 0;
	FILE *file = open_memstream(unsteered, &n);
	for (const char *line = completions; *line; line = strchr(line, '\n') + 1) {
		json_t *row = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
		const char *u = json_string_value(json_object_get(row, "unsteered"));
		fprintf(file, "%s\n", u);
		n_steered += strcmp(u, json_string_value(json_object_get(row, "steered"))) != 0;
		json_decref(row);
	}
	fclose(file);
	return n_steered;
}

static void two_evals(struct work *w, struct evaluation evals[2])
{
	pthread_t threads[2];
	for (int i = 0; i < 2; i++) {
		evals[i] = (struct evaluation){.engine = w->engine, .policy = w->eval.policy};
		path_of(w, i ? "b.jsonl" : "a.jsonl", evals[i].path);
	}
	/* Of 20 rows: later, a busy machine may have run all steered ones before this thread hears of it. */
	evals[0].act_at = 20, evals[0].act = tt_engine_kill_steering;
	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, evaluate, &evals[i]), 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		evaluated(&evals[i]);
	}
}

Test(pump, the_kill_switch_comes_between_two_evals)
{
	struct work w;
	struct evaluation evals[2];
	char *want = NULL, *got = NULL;
	work_open(&w, true);
	evaluated(evaluate(&w.eval));
	size_t n_steered = count_steered(w.eval.completions, &want);
	cr_expect_gt(n_steered, 10, "%zu rows are changed", n_steered);
	two_evals(&w, evals);
	for (int i = 0; i < 2; i++) {
		size_t n = count_steered(evals[i].completions, &got);
		same_text("what is not steered", want, got);
		cr_expect(i || n < n_steered, "%zu of %zu rows are steered", n, n_steered);
		free(got);
		eval_free(&evals[i]);
	}
	eval_free(&w.eval);
	evaluated(evaluate(&w.eval));
	cr_expect_eq(count_steered(w.eval.completions, &got), 0, "killed");
	same_text("what is not steered", want, got);
	free(got);
	tt_engine_resume_steering(w.engine);
	eval_free(&w.eval);
	evaluated(evaluate(&w.eval));
	cr_expect_eq(count_steered(w.eval.completions, &got), n_steered, "resumed");
	free(got);
	free(want);
	work_close(&w);
}

/* ---- Stopping */

static int stop_batch(void *user, const char *stage, uint64_t done, uint64_t total)
{
	(void)user;
	(void)stage;
	return done >= total / 3;
}

Test(pump, progress_stops_an_eval_and_a_batch)
{
	for (int started = 0; started < 2; started++) {
		struct work w;
		struct tt_error error = {0};
		work_open(&w, started);
		w.eval.act_at = 7;
		w.eval.stop = true;
		cr_expect_eq(eval_run(&w.eval, &error), TT_ERR_LIMIT);
		cr_expect_str_eq(error.message, "stopped at eval, 7 of 60");
		cr_expect_null(w.eval.report);
		nothing_left(w.engine, "eval");
		w.batch_progress = stop_batch;
		cr_expect_eq(batch_run(&w, &error), TT_ERR_LIMIT);
		cr_expect_str_eq(error.message, "stopped");
		cr_expect(w.batch.n_rows >= 40 && w.batch.n_rows < 120, "%d rows", (int)w.batch.n_rows);
		nothing_left(w.engine, "batch");
		work_close(&w);
	}
}

static void stop_engine(struct tt_engine *engine)
{
	must(tt_engine_stop(engine, err));
}

Test(pump, an_eval_goes_on_by_itself_when_the_engines_thread_ends)
{
	struct work w;
	struct evaluation e;
	work_open(&w, true);
	evaluated(evaluate(&w.eval));
	e = (struct evaluation){.engine = w.engine, .policy = w.eval.policy, .act_at = 11, .act = stop_engine};
	path_of(&w, "b.jsonl", e.path);
	evaluated(evaluate(&e));
	cr_expect(!w.engine->started);
	same_text("completions", e.completions, w.eval.completions);
	eval_free(&e);
	work_close(&w);
}

/* ---- When text is asked for */

static void read_pieces(struct tt_request *request, FILE *file)
{
	struct tt_token token;
	while (tt_request_next(request, &token))
		fprintf(file, "%d [%.*s]\n", token.id, (int)token.n_text, token.text);
}

/* The text that comes with each token is the same whether it is asked for after each step or at the end. */
Test(pump, a_tokens_text_does_not_depend_on_when_it_is_asked_for)
{
	struct tt_engine *engine = open(false);
	const int32_t ids[3] = {5, 90, 17};
	struct tt_request_options options;
	char *plain = NULL, stop[8] = "", *texts[2] = {NULL, NULL};
	size_t n;
	tt_request_options_default(&options);
	options.ids = ids;
	options.n_ids = 3;
	options.max_tokens = 30;
	options.ignore_eos = true;
	options.sampling.temperature = 3;
	options.sampling.seed = 11;
	struct tt_request *request = request_run(engine, &options);
	must(tt_text_decode(tt_engine_text(engine), tt_request_generated(request), 30, &plain, err));
	tt_request_free(request);
	cr_assert_gt(strlen(plain), 20);
	memcpy(stop, plain + 9, 3); /* begins like the text, and goes on otherwise */
	strcat(stop, "\x01");
	const char *const stops[] = {stop};
	options.stop = stops;
	options.n_stop = 1;
	for (int late = 0; late < 2; late++) {
		FILE *file = open_memstream(&texts[late], &n);
		must(tt_request_submit(&request, engine, &options, err));
		while (tt_request_finish(request) == TT_RUNNING) {
			must(tt_engine_step(engine, err));
			if (!late)
				read_pieces(request, file);
		}
		read_pieces(request, file);
		fclose(file);
		tt_request_free(request);
	}
	same_text("pieces", texts[0], texts[1]);
	free(texts[0]);
	free(texts[1]);
	tt_free(plain);
	tt_engine_close(engine);
}
