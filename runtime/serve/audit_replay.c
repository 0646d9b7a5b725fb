/* audit replay: requests of the log, many at a time. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/random.h"
#include "controller/govern/query.h"
#include "runtime/serve/audit_command.h"
#include "runtime/serve/replay.h"

struct run {
	const struct tt_audit_options *options;
	struct tt_replays with;
	struct tt_named_policies policies;
	uint64_t *begins; // [n]
	size_t n;
	json_t *rows;
	uint64_t counts[4];
};

static int tell(struct run *run, const struct tt_replay *r, struct tt_error *err)
{
	json_t *row = json_pack("{s:I, s:s}", "seq", (json_int_t)r->seq, "outcome", tt_replay_words[r->outcome]);
	run->counts[r->outcome]++;
	if (*r->why)
		json_object_set_new(row, "why", json_string(r->why));
	if (!row || json_array_append_new(run->rows, row) < 0)
		return tt_fail(err, TT_ERR_MEMORY, "out of memory");
	return TT_OK;
}

/* As many at a time as the engine runs at once. */
static int replay_some(struct run *run, const uint64_t *begins, size_t n, struct tt_error *err)
{
	struct tt_replay *replays;
	int status = TT_OK;
	TT_TRY(tt_alloc(&replays, n, sizeof *replays, err));
	for (size_t i = 0; status == TT_OK && i < n; i++) {
		replays[i].seq = begins[i];
		status = tt_replay_read(&replays[i], &run->with, err);
		if (status == TT_OK && replays[i].outcome == TT_REPLAY_EQUAL)
			status = tt_replay_submit(&replays[i], &run->with, false, err);
	}
	for (size_t i = 0; status == TT_OK && i < n; i++) {
		if (replays[i].outcome == TT_REPLAY_EQUAL)
			status = tt_replay_compare(&replays[i], &run->with, err);
		if (status == TT_OK)
			status = tell(run, &replays[i], err);
	}
	for (size_t i = 0; i < n; i++)
		tt_replay_free(&replays[i]);
	free(replays);
	return status;
}

/* ---- Which */

static int list_ended(struct run *run, struct tt_error *err)
{
	const struct tt_audit_options *o = run->options;
	struct tt_query q;
	size_t capacity = 0;
	int status = TT_OK;
	TT_TRY(tt_query_open(&q, &run->with.db,
		"SELECT begin FROM log_leaf WHERE begin IS NOT NULL AND begin >= ? AND begin <= ? ORDER BY begin",
		TT_SQL(tt_integer((int64_t)o->range_from), tt_integer(o->range_to ? (int64_t)o->range_to : INT64_MAX)),
		err));
	while (status == TT_OK && tt_query_next(&q, err)) {
		status = tt_grow(&run->begins, &capacity, run->n + 1, sizeof *run->begins, err);
		if (status == TT_OK)
			run->begins[run->n++] = (uint64_t)tt_query_integer(&q, 0);
	}
	int closed = tt_query_close(&q);
	return status != TT_OK ? status : closed;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static int choose(struct run *run, struct tt_error *err)
{
	const struct tt_audit_options *o = run->options;
	uint64_t state = o->seed;
	if (o->n_entries) {
		TT_TRY(tt_alloc(&run->begins, o->n_entries, sizeof *run->begins, err));
		memcpy(run->begins, o->entries, o->n_entries * sizeof *run->begins);
		run->n = o->n_entries;
		return TT_OK;
	}
	TT_TRY(list_ended(run, err));
	if (o->sample == 0 || o->sample >= run->n)
		return TT_OK;
	for (size_t i = 0; i < o->sample; i++) { /* the first of a shuffle */
		size_t k = i + (size_t)(tt_random_next(&state) % (run->n - i));
		uint64_t chosen = run->begins[k];
		run->begins[k] = run->begins[i];
		run->begins[i] = chosen;
	}
	run->n = o->sample;
	qsort(run->begins, run->n, sizeof *run->begins, by_number);
	return TT_OK;
}

/* ---- All */

static int open_run(struct run *run, struct tt_error *err)
{
	const struct tt_audit_options *o = run->options;
	const struct tt_policy_files files = {o->policies, o->n_policies, NULL, o->note, o->user};
	run->rows = json_array();
	run->with = (struct tt_replays){
		.engine = o->engine, .state = o->state, .body = o->body, .policies = &run->policies};
	TT_TRY(tt_replays_open(&run->with, err));
	TT_TRY(tt_named_policies_load(&run->policies, o->engine, &files, err));
	return choose(run, err);
}

static void close_run(struct run *run)
{
	tt_replays_close(&run->with);
	tt_named_policies_free(&run->policies, run->options->engine);
	json_decref(run->rows);
	free(run->begins);
}

static int tell_all(struct run *run, char **text, struct tt_error *err)
{
	struct tt_buffer out = {0};
	int status = TT_OK;
	size_t i;
	const json_t *row;
	json_array_foreach(run->rows, i, row)
	{
		char *line;
		if (status != TT_OK || (!run->options->json && !json_object_get(row, "why")))
			continue;
		status = tt_json_dump(&line, json_incref((json_t *)(uintptr_t)row), JSON_COMPACT, err);
		if (status == TT_OK) {
			status = tt_buffer_print(&out, err, "%s\n", line);
			free(line);
		}
	}
	if (status == TT_OK && !run->options->json)
		status = tt_buffer_print(&out, err,
			"%" PRIu64 " of %zu requests came out the same, bit for bit; %" PRIu64 " different, %" PRIu64
			" only by their tokens, %" PRIu64 " cannot be replayed\n",
			run->counts[TT_REPLAY_EQUAL], run->n, run->counts[TT_REPLAY_DIFFERENT],
			run->counts[TT_REPLAY_EQUAL_TOKENS], run->counts[TT_REPLAY_SKIPPED]);
	if (status != TT_OK)
		tt_buffer_free(&out);
	*text = out.data;
	return status;
}

int tt_audit_replay(const struct tt_audit_options *o, char **text, struct tt_error *err)
{
	struct run run = {.options = o};
	const size_t most = o->max_batch ? o->max_batch : 32;
	*text = NULL;
	int status = open_run(&run, err);
	for (size_t i = 0; status == TT_OK && i < run.n; i += most)
		status = replay_some(&run, run.begins + i, run.n - i < most ? run.n - i : most, err);
	if (status == TT_OK)
		status = tell_all(&run, text, err);
	if (status == TT_OK && run.counts[TT_REPLAY_DIFFERENT])
		status = tt_fail(err, TT_ERR_MISMATCH, "%" PRIu64 " requests did not come out as they are in the log",
			run.counts[TT_REPLAY_DIFFERENT]);
	close_run(&run);
	return status;
}
