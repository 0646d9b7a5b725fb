#include "runtime/batch/distribute_mpi.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/file.h"
#include "runtime/batch/distribute.h"
#include "runtime/batch/merge.h"
#include "runtime/batch/messages_mpi.h"
#include "runtime/batch/shard.h"

enum {
	FILE_SECONDS = 60 /* how long a network file system may take to show what another machine has made */
};

/* ---- Beginning and ending */

bool tt_mpi_is_built(void)
{
	return true;
}

/* Rank 0 knows from all names who shares a machine. */
static int place_ranks(int n_ranks, const char *names, struct tt_mpi *places, struct tt_error *err)
{
	int last = -1;      /* the last rank that is the first on its machine */
	int *firsts = NULL; // [n_ranks] the first rank of each rank's machine
	TT_TRY(tt_alloc(&firsts, (size_t)n_ranks, sizeof *firsts, err));
	for (int i = 0; i < n_ranks; i++) {
		firsts[i] = i;
		for (int k = 0; k < i && firsts[i] == i; k++)
			if (!strcmp(names + (size_t)k * MPI_MAX_PROCESSOR_NAME,
				    names + (size_t)i * MPI_MAX_PROCESSOR_NAME))
				firsts[i] = k;
		struct tt_mpi *first = &places[firsts[i]];
		places[i] = (struct tt_mpi){.rank = i, .n_ranks = n_ranks, .before = -1, .after = -1};
		places[i].is_first = firsts[i] == i;
		places[i].local_rank = first->n_local++;
		if (!places[i].is_first)
			continue;
		places[i].before = last;
		if (last >= 0)
			places[last].after = i;
		last = i;
	}
	for (int i = 0; i < n_ranks; i++)
		places[i].n_local = places[firsts[i]].n_local;
	free(firsts);
	return TT_OK;
}

static int gather_places(struct tt_mpi *mpi, const char *name, struct tt_error *err)
{
	struct tt_mpi *places = NULL; // [n_ranks]
	char *names = NULL;           // [n_ranks][MPI_MAX_PROCESSOR_NAME]
	size_t n = (size_t)mpi->n_ranks;
	int status = tt_alloc(&places, n, sizeof *places, err);
	if (status == TT_OK)
		status = tt_alloc(&names, n, MPI_MAX_PROCESSOR_NAME, err);
	if (status == TT_OK) {
		memcpy(names, name, MPI_MAX_PROCESSOR_NAME);
		for (int i = 1; i < mpi->n_ranks; i++)
			tt_mpi_await(
				i, TT_MPI_PLACE, names + (size_t)i * MPI_MAX_PROCESSOR_NAME, MPI_MAX_PROCESSOR_NAME);
		status = place_ranks(mpi->n_ranks, names, places, err);
	}
	for (int i = 1; status == TT_OK && i < mpi->n_ranks; i++)
		tt_mpi_send(i, TT_MPI_PLACE, &places[i], sizeof places[i]);
	if (status == TT_OK)
		*mpi = places[0];
	free(places);
	free(names);
	return status;
}

int tt_mpi_open(struct tt_mpi *mpi, struct tt_error *err)
{
	char name[MPI_MAX_PROCESSOR_NAME] = "";
	int provided, n;
	*mpi = (struct tt_mpi){0};
	/* No rank waits in MPI. On a machine with more ranks than cores, where Open MPI gives up the processor whenever
	 * it has no message, rank 0 would lose half of its time by looking for claims. */
	setenv("OMPI_MCA_mpi_yield_when_idle", "0", 1);
	/* The engine has threads, none of which calls MPI. */
	if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
		return tt_fail(err, TT_ERR_IO, "MPI cannot be initialised");
	MPI_Comm_rank(MPI_COMM_WORLD, &mpi->rank);
	MPI_Comm_size(MPI_COMM_WORLD, &mpi->n_ranks);
	MPI_Get_processor_name(name, &n);
	if (mpi->rank == 0)
		return gather_places(mpi, name, err);
	tt_mpi_send(0, TT_MPI_PLACE, name, sizeof name);
	tt_mpi_await(0, TT_MPI_PLACE, mpi, sizeof *mpi);
	return TT_OK;
}

void tt_mpi_close(void)
{
	MPI_Finalize();
}

void tt_mpi_abort(int status)
{
	MPI_Abort(MPI_COMM_WORLD, status);
}

/* ---- Asking for rows and handing them out */

struct claim {
	uint64_t n_rows, n_prompt, n_generated; /* done by this rank so far */
};

struct answer {
	struct tt_row_range range;
	bool ended;
};
_Static_assert(sizeof(struct claim) <= sizeof((struct tt_mpi_letter *)0)->data, "a claim is a letter");
_Static_assert(sizeof(struct answer) <= sizeof((struct tt_mpi_letter *)0)->data, "an answer is a letter");

struct distribution {
	struct tt_share share;
	const struct tt_mpi *mpi;
	struct tt_mpi_report *ranks;   // [n_ranks] rank 0's
	struct tt_hand_out hand_out;   /* rank 0's */
	struct tt_mpi_letter *letters; // [n_ranks] rank 0's answers; of others the first alone, with claims
	int n_finished;                /* of the other ranks */
	struct tt_row_range queued;    /* rows that came before those before were begun */
	bool asked, ended;
	uint64_t done_then; /* rows that were done when none were to be had */
	bool got_none;
	double begun;
};

static struct claim make_claim(const struct distribution *d)
{
	const struct tt_batch_report *report = d->share.run.report;
	return (struct claim){d->share.run.journal.n_rows, report->n_prompt_tokens, report->n_generated_tokens};
}

/* Rank 0: answers what has come since the last step. */
static void serve_ranks(struct distribution *d)
{
	struct claim claim;
	for (int from = MPI_ANY_SOURCE; tt_mpi_receive(&from, TT_MPI_CLAIM, &claim, sizeof claim);
		from = MPI_ANY_SOURCE) {
		struct answer answer = {0};
		tt_hand_out_claim(&d->hand_out, (size_t)from, claim.n_rows, tt_now(), &answer.range, &answer.ended);
		d->ranks[from].n_rows = claim.n_rows;
		d->ranks[from].n_prompt_tokens = claim.n_prompt;
		d->ranks[from].n_generated_tokens = claim.n_generated;
		tt_mpi_post(&d->letters[from], from, TT_MPI_RANGE, &answer, sizeof answer);
	}
	struct tt_mpi_report report;
	for (int from = MPI_ANY_SOURCE; tt_mpi_receive(&from, TT_MPI_FINISHED, &report, sizeof report);
		from = MPI_ANY_SOURCE) {
		d->ranks[from] = report;
		d->n_finished++;
	}
}

static uint64_t n_unbegun(const struct distribution *d)
{
	const struct tt_row_range *range = &d->share.run.range;
	return range->to - range->from + d->queued.to - d->queued.from;
}

/* Another rank: asks before it runs out of rows, and takes what has come. */
static void ask_for_rows(struct distribution *d)
{
	int zero = 0;
	struct answer answer;
	struct claim claim = make_claim(d);
	if (d->asked && tt_mpi_receive(&zero, TT_MPI_RANGE, &answer, sizeof answer)) {
		d->asked = false;
		d->ended = answer.ended;
		d->queued = answer.range;
		d->got_none = answer.range.from == answer.range.to;
		d->done_then = claim.n_rows;
	}
	bool idle = d->share.run.n_begun == d->share.run.n_written;
	bool wants = d->queued.from == d->queued.to && n_unbegun(d) < d->share.options.max_batch;
	if (d->asked || d->ended || !wants || (d->got_none && !idle && claim.n_rows == d->done_then))
		return;
	tt_mpi_post(&d->letters[0], 0, TT_MPI_CLAIM, &claim, sizeof claim);
	d->asked = true;
}

static int report_progress(struct distribution *d, struct tt_error *err)
{
	const struct tt_batch_options *o = &d->share.options;
	uint64_t n_rows = d->share.done.n_done + d->share.run.journal.n_rows;
	for (int i = 1; d->mpi->rank == 0 && i < d->mpi->n_ranks; i++)
		n_rows += d->ranks[i].n_rows;
	if (o->progress && o->progress(o->user, "rows", n_rows, tt_job_file_rows(&d->share.file)))
		return tt_fail(err, TT_ERR_LIMIT, "stopped");
	return TT_OK;
}

static int tick(void *user, struct tt_error *err)
{
	struct distribution *d = user;
	if (d->mpi->rank == 0)
		serve_ranks(d);
	else
		ask_for_rows(d);
	return report_progress(d, err);
}

static void take_rows(struct distribution *d, struct tt_row_range *out)
{
	if (d->mpi->rank == 0)
		tt_hand_out_claim(&d->hand_out, 0, d->share.run.journal.n_rows, tt_now(), &d->queued, &d->ended);
	*out = d->queued;
	d->queued = (struct tt_row_range){0};
}

static int next_rows(void *user, bool idle, struct tt_row_range *out, bool *ended, struct tt_error *err)
{
	struct distribution *d = user;
	for (;;) {
		take_rows(d, out);
		*ended = d->ended && out->from == out->to;
		if (out->from < out->to || *ended || !idle)
			return TT_OK;
		TT_TRY(tick(d, err));
		tt_mpi_nap();
	}
}

/* ---- A run */

/* What rank 0 tells the others once it has read all that earlier runs wrote. */
enum start { START_ANSWER, START_NOTHING };

static void start_ranks(const struct tt_mpi *mpi, enum start start)
{
	for (int i = 1; i < mpi->n_ranks; i++)
		tt_mpi_send(i, TT_MPI_START, &start, sizeof start);
}

/* Waits until the files that rank 0 has made show up here. */
static int wait_for_file(const struct tt_batch_options *o, struct tt_error *err)
{
	char *path = NULL;
	TT_TRY(tt_job_path(&path, o->output, err));
	for (double begun = tt_now(); !tt_file_exists(path) && tt_now() - begun < FILE_SECONDS;)
		tt_mpi_nap();
	free(path);
	return TT_OK;
}

static int begin_first(struct distribution *d, bool *nothing, struct tt_error *err)
{
	uint64_t batch = d->share.options.max_batch;
	TT_TRY(tt_share_open(&d->share, true, err));
	*nothing = d->share.is_merged;
	if (!*nothing) {
		TT_TRY(tt_share_read(&d->share, UINT64_MAX, err));
		TT_TRY(tt_hand_out_open(&d->hand_out, &d->share.done, (size_t)d->mpi->n_ranks, batch,
			tt_job_file_unit_rows(&d->share.file), err));
		*nothing = d->share.done.n_done == d->share.done.n_rows;
	}
	start_ranks(d->mpi, *nothing ? START_NOTHING : START_ANSWER);
	return TT_OK;
}

static int begin_other(struct distribution *d, bool *nothing, struct tt_error *err)
{
	const struct tt_batch_options *o = &d->share.options;
	enum start start;
	tt_mpi_await(0, TT_MPI_START, &start, sizeof start);
	*nothing = start == START_NOTHING;
	if (*nothing)
		return TT_OK;
	TT_TRY(wait_for_file(o, err));
	TT_TRY(tt_share_open(&d->share, false, err));
	return tt_parts_find(&d->share.parts, o->output, o->telemetry != NULL, err);
}

static int answer_share(struct distribution *d, struct tt_mpi_report *own, struct tt_error *err)
{
	struct tt_answering *run = &d->share.run;
	TT_TRY(tt_share_begin(&d->share, (uint64_t)d->mpi->rank, err));
	run->source = (struct tt_row_source){next_rows, tick, d};
	d->begun = tt_now();
	TT_TRY(tt_answer(run, err));
	*own = (struct tt_mpi_report){run->journal.n_rows, run->journal.n_errors, run->report->n_prompt_tokens,
		run->report->n_generated_tokens, tt_now() - d->begun};
	tt_journal_close(&run->journal);
	return TT_OK;
}

static int end_first(struct distribution *d, bool answered, struct tt_error *err)
{
	struct tt_batch_report *report = d->share.run.report;
	uint64_t n_earlier = d->share.done.n_done;
	while (answered && d->n_finished + 1 < d->mpi->n_ranks) {
		TT_TRY(tick(d, err));
		tt_mpi_nap();
	}
	if (d->share.is_merged)
		return TT_OK;
	TT_TRY(tt_merge(&d->share.options, report, err));
	report->n_earlier = n_earlier;
	for (int i = 1; i < d->mpi->n_ranks; i++) {
		report->n_prompt_tokens += d->ranks[i].n_prompt_tokens;
		report->n_generated_tokens += d->ranks[i].n_generated_tokens;
	}
	return TT_OK;
}

static int distribute(struct distribution *d, struct tt_mpi_report *own, struct tt_error *err)
{
	bool is_first = d->mpi->rank == 0, nothing;
	TT_TRY(is_first ? begin_first(d, &nothing, err) : begin_other(d, &nothing, err));
	if (!nothing)
		TT_TRY(answer_share(d, own, err));
	if (is_first)
		TT_TRY(end_first(d, !nothing, err));
	else if (!nothing)
		tt_mpi_send(0, TT_MPI_FINISHED, own, sizeof *own);
	for (int i = 0; i < d->mpi->n_ranks; i++)
		tt_mpi_settle(&d->letters[i]);
	/* Here, with naps, and not in MPI_Finalize, ranks wait for the slowest and for the merge. */
	MPI_Request all;
	MPI_Ibarrier(MPI_COMM_WORLD, &all);
	tt_mpi_finish(&all);
	return TT_OK;
}

int tt_mpi_batch(const struct tt_mpi *mpi, struct tt_engine *engine, const struct tt_batch_options *options,
	struct tt_batch_report *report, struct tt_mpi_report *ranks, struct tt_error *err)
{
	struct distribution d = {.mpi = mpi, .ranks = ranks, .share.run.report = report};
	*report = (struct tt_batch_report){0};
	/* A rank with nothing to do closes a journal that it never opened. */
	d.share.run.journal.output.file = d.share.run.journal.telemetry.file = d.share.run.journal.log.file = -1;
	tt_file_allow_all();
	TT_TRY(tt_batch_take(&d.share.options, engine, options, err));
	d.share.run.job = (struct tt_batch_job){.engine = engine, .options = &d.share.options};
	TT_TRY(tt_alloc(&d.letters, (size_t)mpi->n_ranks, sizeof *d.letters, err));
	double begun = tt_now();
	int status = distribute(&d, &ranks[0], err);
	report->seconds = tt_now() - begun;
	if (status == TT_OK)
		free(d.letters); /* else MPI may still read them */
	tt_hand_out_close(&d.hand_out);
	tt_share_close(&d.share);
	return status;
}
