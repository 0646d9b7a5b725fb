#include "runtime/batch/answer.h"

#include <stdlib.h>

#include "base/fail.h"
#include "runtime/engine/pump.h"

/* The window in multiples of the engine's batch: how many rows there may be from the oldest unwritten one to the newest
 * one begun, and how many requests. A row that takes long delays the writing of the rows after it, but the engine stays
 * full until the window is full. */
enum { WINDOW_BATCHES = 4 };

uint64_t tt_cases(const struct tt_batch_job *job)
{
	return job->sweep.n ? job->sweep.n : 1;
}

/* ---- Lines */

/* Reads the next line of the input, of which the caller knows that it is there. */
static int read_line(struct tt_answering *run, struct tt_error *err)
{
	bool found;
	TT_TRY(tt_lines_next(&run->lines, &found, err));
	if (!found)
		return tt_fail(err, TT_ERR_IO, "%s: it has changed while it was read", run->job.options->input);
	run->next_line++;
	return TT_OK;
}

static int read_input(struct tt_answering *run, struct tt_error *err)
{
	tt_input_free(&run->input);
	run->has_input = false;
	TT_TRY(read_line(run, err));
	TT_TRY(tt_input_read(&run->input, &run->job, &run->lines, &run->ids, err));
	run->has_input = true;
	return TT_OK;
}

/* Makes a line the present one. Lines only come in ascending order. */
static int go_to_line(struct tt_answering *run, uint64_t line, struct tt_error *err)
{
	if (run->has_input && run->next_line == line + 1)
		return TT_OK;
	if (!run->file) {
		/* Every line is looked at, since a later line may have the same id. */
		while (run->next_line <= line)
			TT_TRY(read_input(run, err));
		return TT_OK;
	}
	if (line - run->next_line >= TT_UNIT_LINES) {
		if (line / TT_UNIT_LINES >= run->file->n_units)
			return tt_fail(
				err, TT_ERR_FORMAT, "the job file has no unit of line %llu", (unsigned long long)line);
		const struct tt_unit *unit = &run->file->units[line / TT_UNIT_LINES];
		TT_TRY(tt_lines_seek(&run->lines, unit->offset, unit->number, err));
		run->next_line = line / TT_UNIT_LINES * TT_UNIT_LINES;
	}
	while (run->next_line < line)
		TT_TRY(read_line(run, err));
	return read_input(run, err);
}

/* ---- Rows */

static struct tt_row *row_at(const struct tt_answering *run, uint64_t i)
{
	return &run->rows[i % run->window];
}

/* Writes the rows that are done and have no unfinished one before them. */
static int write_rows(struct tt_answering *run, struct tt_error *err)
{
	while (run->n_written < run->n_begun && row_at(run, run->n_written)->done) {
		struct tt_row *row = row_at(run, run->n_written);
		TT_TRY(tt_journal_add(&run->journal, row->number, &row->line, &row->telemetry, row->is_error, err));
		run->report->n_prompt_tokens += row->n_prompt;
		run->report->n_generated_tokens += row->n_generated;
		tt_row_free(row);
		run->n_written++;
	}
	return TT_OK;
}

static int begin_row(struct tt_answering *run, struct tt_error *err)
{
	uint64_t number = run->range.from, cases = tt_cases(&run->job);
	TT_TRY(go_to_line(run, number / cases, err));
	const struct tt_sweep_case *sweep = run->job.sweep.n ? &run->job.sweep.cases[number % cases] : NULL;
	struct tt_row *row = row_at(run, run->n_begun);
	*row = (struct tt_row){.number = number};
	run->n_begun++;
	run->range.from++;
	TT_TRY(tt_row_start(row, &run->job, &run->input, sweep, err));
	return write_rows(run, err);
}

static struct tt_row *row_to_submit(const struct tt_answering *run)
{
	struct tt_row *row = run->n_begun > run->n_written ? row_at(run, run->n_begun - 1) : NULL;
	return row && !row->done && row->n_submitted < row->n_choices ? row : NULL;
}

/* The next request is the newest row's, if that has more, else that of a new row, if the window has room. */
static int next_request(void *user, struct tt_request **out, struct tt_error *err)
{
	struct tt_answering *run = user;
	while (!*out) {
		struct tt_row *row = row_to_submit(run);
		bool idle = run->n_begun == run->n_written;
		if (row) {
			TT_TRY(tt_row_submit(row, out, &run->job, &run->input, err));
			TT_TRY(write_rows(run, err)); /* if the engine refused the row, it is done */
		} else if (run->n_begun - run->n_written == run->window) {
			return TT_OK;
		} else if (run->range.from < run->range.to) {
			TT_TRY(begin_row(run, err));
		} else {
			if (run->ended)
				return TT_OK;
			TT_TRY(run->source.next(run->source.user, idle, &run->range, &run->ended, err));
			if (!idle && run->range.from == run->range.to)
				return TT_OK;
		}
	}
	return TT_OK;
}

/* The request belongs to the oldest row that is not written: requests are taken in order, and rows without requests are
 * done at once. */
static int take_request(void *user, struct tt_request *request, struct tt_error *err)
{
	struct tt_answering *run = user;
	TT_TRY(tt_row_take(row_at(run, run->n_written), request, &run->job, err));
	return write_rows(run, err);
}

static int tick(void *user, struct tt_error *err)
{
	struct tt_answering *run = user;
	return run->source.tick(run->source.user, err);
}

static int answer(struct tt_answering *run, struct tt_error *err)
{
	uint32_t max_batch = run->job.options->max_batch;
	const struct tt_pump pump = {
		.engine = run->job.engine,
		.window = WINDOW_BATCHES * (size_t)max_batch,
		.max_running = 2 * (size_t)max_batch,
		.next = next_request,
		.take = take_request,
		.tick = tick,
		.user = run,
	};
	run->window = pump.window;
	TT_TRY(tt_alloc(&run->rows, run->window, sizeof *run->rows, err));
	TT_TRY(tt_lines_open(&run->lines, run->job.options->input, run->input_bytes, err));
	TT_TRY(tt_pump_run(&pump, err));
	return tick(run, err);
}

int tt_answer(struct tt_answering *run, struct tt_error *err)
{
	int status = answer(run, err);
	/* Of two errors the first is reported. */
	int synced = tt_journal_sync(&run->journal, status == TT_OK ? err : NULL);
	return status == TT_OK ? synced : status;
}

void tt_answer_free(struct tt_answering *run)
{
	for (uint64_t i = run->n_written; i < run->n_begun; i++)
		tt_row_free(row_at(run, i));
	free(run->rows);
	run->rows = NULL;
	tt_input_free(&run->input);
	tt_ids_seen_free(&run->ids);
	tt_lines_close(&run->lines);
}
