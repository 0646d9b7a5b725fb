#include "controller/govern/recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/append_log.h"
#include "base/clock.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "controller/govern/log_check.h"
#include "controller/govern/log_key.h"
#include "controller/govern/query.h"

enum {
	GROUP = 512,        /* records of one transaction */
	BALLAST = 16 << 20, /* bytes */
	CHECKPOINT_ENTRIES = 4096,
	CHECKPOINT_SECONDS = 60,
	REFUSED_SECONDS = 60,
	BALLAST_SECONDS = 1,
	RETRY = 250, /* milliseconds */
	STATUSES = 600,
};

const double tt_commit_bounds[TT_COMMIT_BUCKETS] = {
	0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5};

struct list {
	struct tt_record *first, **last;
	size_t n, n_bytes;
};

struct tt_recorder {
	struct tt_recorder_options options; /* open is gone */
	char *directory, *ballast;
	struct tt_database db;
	struct tt_log log;
	struct tt_payloads payloads;
	struct tt_signer signer;
	struct tt_append_log lock_file; /* whose lock says that a server has the folder */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t news;
	bool runs;
	uint64_t run;

	/* Under the lock. */
	struct list queue, done;
	bool closing;
	struct tt_recorder_stats stats;
	uint64_t n_refused[STATUSES], n_told[STATUSES]; /* requests; of these what the transaction says */
	double checkpointed;                            /* a time of tt_now, as all others */

	atomic_bool failed; /* nothing can be written */

	/* The thread's own. */
	struct list kept;    /* ends that could not be written, which nobody waits for any more */
	uint64_t n_gap;      /* entries that were lost since the log could last be written, ... */
	int64_t gap_from;    /* ... from this time on */
	uint64_t n_since;    /* entries after the last checkpoint */
	uint64_t n_skipped;  /* ends of the transaction whose begins were lost */
	double refused_at;   /* when refusals were last written */
	double ballast_at;   /* when the ballast was last looked for */
	bool publishes;      /* the transaction has a new checkpoint */
	uint64_t n_kinds[4]; /* entries of the transaction */
};

static void list_init(struct list *list)
{
	*list = (struct list){.last = &list->first};
}

static size_t bytes_of(const struct tt_record *record)
{
	return sizeof *record + record->fields.capacity + record->payload.capacity;
}

static void push(struct list *list, struct tt_record *record)
{
	record->next = NULL;
	*list->last = record;
	list->last = &record->next;
	list->n++;
	list->n_bytes += bytes_of(record);
}

static struct tt_record *pop(struct list *list)
{
	struct tt_record *record = list->first;
	if (!record)
		return NULL;
	list->first = record->next;
	if (!list->first)
		list->last = &list->first;
	list->n--;
	list->n_bytes -= bytes_of(record);
	return record;
}

void tt_record_free(struct tt_record *record)
{
	if (!record)
		return;
	tt_buffer_free(&record->fields);
	tt_buffer_free(&record->payload);
	free(record);
}

static void note(const struct tt_recorder *r, const char *text, const char *more)
{
	char line[700];
	snprintf(line, sizeof line, "%s%s", text, more);
	if (r->options.note)
		r->options.note(r->options.user, line);
}

static int64_t now_milliseconds(void)
{
	struct timespec time;
	clock_gettime(CLOCK_REALTIME, &time);
	return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* ---- Ballast */

/* Makes it where it is missing: when it has helped, the next time may come. */
static void make_ballast(struct tt_recorder *r)
{
	r->ballast_at = tt_now();
	if (access(r->ballast, F_OK) == 0)
		return;
	int file = open(r->ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	bool whole = file >= 0 && posix_fallocate(file, 0, BALLAST) == 0;
	if (file >= 0)
		close(file);
	if (!whole)
		unlink(r->ballast); /* half of it helps nobody */
}

/* ---- Transactions */

static void count_kind(struct tt_recorder *r, const char *kind)
{
	size_t i = strcmp(kind, "begin") == 0         ? 0
		   : strcmp(kind, "end") == 0         ? 1
		   : strcmp(kind, "interrupted") == 0 ? 2
						      : 3;
	r->n_kinds[i]++;
	r->n_since++;
}

static int append_json(struct tt_recorder *r, const char *kind, json_t *fields, struct tt_error *err)
{
	TT_TRY(tt_log_append(&r->log, kind, fields, NULL, err));
	count_kind(r, kind);
	return TT_OK;
}

static int write_payload(struct tt_recorder *r, const struct tt_record *record, struct tt_error *err)
{
	const struct tt_payload payload = {
		.begin = record->place.seq,
		.at = now_milliseconds(),
		.owner = record->owner,
		.open = record->open,
		.request = record->payload.data,
		.n_request = record->payload.len,
	};
	if (strcmp(record->kind, "begin") == 0)
		return tt_payload_add(&r->payloads, &payload, err);
	if (!record->begun || !record->payload.data)
		return TT_OK;
	return tt_payload_add_result(
		&r->payloads, record->begun->place.seq, record->payload.data, record->payload.len, err);
}

static int write_record(struct tt_recorder *r, struct tt_record *record, struct tt_error *err)
{
	const struct tt_log_entry entry = {
		.kind = record->kind,
		.fields = record->fields.data ? record->fields.data : "",
		.n = record->fields.len,
		.begin = record->begun ? record->begun->place.seq : 0,
	};
	record->written = false;
	if (record->begun && !record->begun->written) { /* the end of what was lost is lost too */
		r->n_skipped++;
		return TT_OK;
	}
	TT_TRY(tt_log_append_entry(&r->log, &entry, &record->place, err));
	TT_TRY(write_payload(r, record, err));
	count_kind(r, record->kind);
	record->written = true;
	return TT_OK;
}

static int write_gap(struct tt_recorder *r, struct tt_error *err)
{
	char from[TT_LOG_DATE_BYTES];
	if (r->n_gap == 0)
		return TT_OK;
	tt_log_date(from, r->gap_from);
	return append_json(r, "gap", json_pack("{s:I, s:s}", "entries", (json_int_t)r->n_gap, "from", from), err);
}

static int write_refused(struct tt_recorder *r, struct tt_error *err)
{
	json_t *counts = json_object();
	char key[16];
	pthread_mutex_lock(&r->lock);
	for (int i = 0; i < STATUSES; i++) {
		snprintf(key, sizeof key, "%d", i);
		if (r->n_refused[i])
			json_object_set_new(counts, key, json_integer((json_int_t)r->n_refused[i]));
		r->n_told[i] = r->n_refused[i];
	}
	pthread_mutex_unlock(&r->lock);
	if (json_object_size(counts) == 0) {
		json_decref(counts);
		return TT_OK;
	}
	return append_json(r, "refused", json_pack("{s:o}", "status", counts), err);
}

static int write_checkpoint(struct tt_recorder *r, bool now, struct tt_error *err)
{
	bool due = r->n_since >= CHECKPOINT_ENTRIES || tt_now() - r->checkpointed >= CHECKPOINT_SECONDS;
	if (r->n_since == 0 || (!now && !due))
		return TT_OK;
	r->publishes = true;
	return tt_log_add_checkpoint(&r->log, &r->signer, err);
}

/* What a transaction does beside records. */
struct extras {
	bool refusals, checkpoint;
	json_t *closing; /* the fields of the last entry */
};

static int write_all(
	struct tt_recorder *r, struct tt_record *first, size_t n, const struct extras *extras, struct tt_error *err)
{
	TT_TRY(write_gap(r, err));
	for (size_t i = 0; i < n; i++, first = first->next)
		TT_TRY(write_record(r, first, err));
	if (extras->refusals)
		TT_TRY(write_refused(r, err));
	if (extras->closing)
		TT_TRY(append_json(r, "close", json_incref(extras->closing), err));
	return write_checkpoint(r, extras->checkpoint, err);
}

static void publish(struct tt_recorder *r)
{
	struct tt_buffer note_text = {0}, path = {0};
	struct tt_error err = {0};
	uint64_t size;
	int status = tt_log_last_checkpoint(&r->log, &note_text, &size, &err);
	if (status == TT_OK)
		status = tt_log_key_publish(r->directory, note_text.data, &err);
	if (status == TT_OK && r->options.anchor)
		status = tt_buffer_print(
			&path, &err, "%s/%s-%012llu", r->options.anchor, "checkpoint", (unsigned long long)size);
	if (status == TT_OK && r->options.anchor)
		status = tt_file_write(path.data, note_text.data, note_text.len, &err);
	if (status != TT_OK)
		note(r, "a checkpoint of the audit log could not be copied: ", err.message);
	tt_buffer_free(&note_text);
	tt_buffer_free(&path);
}

static void committed(struct tt_recorder *r, double seconds)
{
	size_t bucket = 0;
	while (bucket < TT_COMMIT_BUCKETS && seconds > tt_commit_bounds[bucket])
		bucket++;
	pthread_mutex_lock(&r->lock);
	struct tt_recorder_stats *stats = &r->stats;
	stats->n_begin += r->n_kinds[0];
	stats->n_end += r->n_kinds[1];
	stats->n_interrupted += r->n_kinds[2];
	stats->n_other += r->n_kinds[3];
	stats->commits[bucket]++;
	stats->commit_seconds += seconds;
	if (r->publishes)
		r->checkpointed = tt_now();
	for (int i = 0; i < STATUSES; i++) {
		r->n_refused[i] -= r->n_told[i];
		r->n_told[i] = 0;
	}
	stats->n_lost += r->n_skipped;
	pthread_mutex_unlock(&r->lock);
	r->n_gap = r->n_skipped; /* of which the next transaction says it */
	r->gap_from = now_milliseconds();
	if (r->publishes) {
		r->n_since = 0;
		publish(r);
	}
}

static int transact(
	struct tt_recorder *r, struct tt_record *first, size_t n, const struct extras *extras, struct tt_error *err)
{
	const uint64_t n_since = r->n_since;
	const double begun = tt_now();
	memset(r->n_kinds, 0, sizeof r->n_kinds);
	r->n_skipped = 0;
	memset(r->n_told, 0, sizeof r->n_told); /* of a transaction that failed */
	r->publishes = false;
	int status = tt_database_begin(&r->db, err);
	if (status == TT_OK)
		status = tt_database_end(&r->db, write_all(r, first, n, extras, err), err);
	if (status == TT_OK)
		committed(r, tt_now() - begun);
	else
		r->n_since = n_since;
	return status;
}

/* ---- When it fails */

/* An entry that will not be written; the next transaction that is says how many were lost. */
static void count_lost(struct tt_recorder *r)
{
	if (r->n_gap == 0)
		r->gap_from = now_milliseconds();
	r->n_gap++;
	pthread_mutex_lock(&r->lock);
	r->stats.n_lost++;
	pthread_mutex_unlock(&r->lock);
}

/* An end is written later: what is needed of it is copied, since whoever waits for it is told now. */
static void keep(struct tt_recorder *r, const struct tt_record *record)
{
	struct tt_record *copy = NULL, *begun = NULL;
	struct tt_error err;
	bool whole =
		tt_alloc(&copy, 1, sizeof *copy, &err) == TT_OK && tt_alloc(&begun, 1, sizeof *begun, &err) == TT_OK;
	if (whole) {
		begun->place = record->begun->place;
		begun->written = true;
		copy->kind = record->kind;
		copy->begun = begun;
		whole = tt_buffer_add(&copy->fields, record->fields.data, record->fields.len, &err) == TT_OK;
	}
	if (whole) {
		push(&r->kept, copy);
		return;
	}
	count_lost(r);
	tt_record_free(copy);
	free(begun);
}

static void lose(struct tt_recorder *r, struct tt_record *record, int status, const struct tt_error *err)
{
	bool began = record->begun && record->begun->written;
	record->written = false;
	if (began)
		keep(r, record);
	if (r->options.full == TT_AUDIT_REFUSE) {
		record->status = status;
		record->error = *err;
		return;
	}
	record->status = TT_OK;
	if (!began)
		count_lost(r);
}

static void set_failed(struct tt_recorder *r, bool failed, const char *why)
{
	if (atomic_load(&r->failed) == failed)
		return;
	if (failed)
		note(r, "the audit log cannot be written: ", why);
	else
		note(r, "the audit log is written again", "");
	atomic_store(&r->failed, failed);
}

/* One after another, so that only what is at fault fails. */
static void write_singly(struct tt_recorder *r, struct list *group, const struct extras *extras)
{
	bool fails = false;
	for (struct tt_record *record = group->first; record; record = record->next) {
		struct tt_error err = {0};
		int status = fails ? TT_ERR_IO : transact(r, record, 1, extras, &err);
		if (status == TT_ERR_IO && !fails && unlink(r->ballast) == 0)
			status = transact(r, record, 1, extras, &err);
		if (status == TT_ERR_IO && !fails) {
			fails = true;
			set_failed(r, true, err.message);
		} else if (fails) {
			tt_fail(&err, TT_ERR_IO, "the audit log cannot be written");
		}
		if (status != TT_OK)
			lose(r, record, status, &err);
	}
}

static void write_group(struct tt_recorder *r, struct list *group, const struct extras *extras)
{
	struct tt_error err = {0};
	if (transact(r, group->first, group->n, extras, &err) == TT_OK) {
		set_failed(r, false, NULL);
		if (tt_now() - r->ballast_at >= BALLAST_SECONDS)
			make_ballast(r);
		return;
	}
	write_singly(r, group, extras);
}

/* Frees the first one that is kept. False: there is none. */
static bool free_kept(struct tt_recorder *r)
{
	struct tt_record *record = pop(&r->kept);
	if (!record)
		return false;
	free((struct tt_record *)record->begun);
	tt_record_free(record);
	return true;
}

/* Whether what failed like this may be written another time. */
static bool may_pass(int status)
{
	return status == TT_ERR_IO || status == TT_ERR_MEMORY;
}

/* Tries to write what has waited since the disk or memory failed. All of it goes into one transaction; where there is
 * an entry that can never be written, one after another, so that it is lost alone. */
static void try_again(struct tt_recorder *r)
{
	const struct extras extras = {.refusals = true}, none = {0};
	struct tt_error err = {0};
	int status = transact(r, r->kept.first, r->kept.n, &extras, &err);
	while (status == TT_OK && free_kept(r))
		;
	while (status != TT_OK && !may_pass(status) && r->kept.first) {
		status = transact(r, r->kept.first, 1, &none, &err);
		if (may_pass(status))
			return;
		if (status != TT_OK)
			count_lost(r);
		free_kept(r);
	}
	if (status != TT_OK)
		return;
	make_ballast(r);
	set_failed(r, false, NULL);
}

/* ---- The thread */

static void wait_for_news(struct tt_recorder *r)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += RETRY * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	if (!r->queue.first && !r->closing)
		pthread_cond_timedwait(&r->news, &r->lock, &until);
}

static void take_group(struct tt_recorder *r, struct list *group)
{
	const size_t most = r->options.sync == TT_AUDIT_EACH ? 1 : GROUP;
	struct tt_record *record;
	list_init(group);
	while (group->n < most && (record = pop(&r->queue)))
		push(group, record);
}

static void give_back(struct tt_recorder *r, struct list *group)
{
	struct tt_record *record;
	pthread_mutex_lock(&r->lock);
	while ((record = pop(group)))
		push(&r->done, record);
	pthread_mutex_unlock(&r->lock);
	if (r->options.wake)
		r->options.wake(r->options.user);
}

static void *run(void *user)
{
	struct tt_recorder *r = user;
	struct list group;
	for (bool ends = false; !ends;) {
		pthread_mutex_lock(&r->lock);
		wait_for_news(r);
		take_group(r, &group);
		ends = r->closing && group.n == 0;
		bool due = tt_now() - r->checkpointed >= CHECKPOINT_SECONDS;
		pthread_mutex_unlock(&r->lock);
		if (atomic_load(&r->failed) || r->kept.first)
			try_again(r);
		const struct extras extras = {.refusals = tt_now() - r->refused_at >= REFUSED_SECONDS};
		if (extras.refusals)
			r->refused_at = tt_now();
		if (group.n)
			write_group(r, &group, &extras);
		else if (!ends && !atomic_load(&r->failed) && (extras.refusals || (due && r->n_since)))
			write_group(r, &group, &extras);
		if (group.n)
			give_back(r, &group);
	}
	return NULL;
}

void tt_recorder_add(struct tt_recorder *r, struct tt_record *record)
{
	pthread_mutex_lock(&r->lock);
	push(&r->queue, record);
	pthread_cond_signal(&r->news);
	pthread_mutex_unlock(&r->lock);
}

struct tt_record *tt_recorder_take(struct tt_recorder *r)
{
	pthread_mutex_lock(&r->lock);
	struct tt_record *first = r->done.first;
	list_init(&r->done);
	pthread_mutex_unlock(&r->lock);
	return first;
}

uint64_t tt_recorder_run(const struct tt_recorder *r)
{
	return r->run;
}

bool tt_recorder_takes(struct tt_recorder *r)
{
	pthread_mutex_lock(&r->lock);
	bool takes = r->queue.n < TT_RECORDS && r->queue.n_bytes < TT_RECORD_BYTES;
	pthread_mutex_unlock(&r->lock);
	return takes && (r->options.full == TT_AUDIT_SERVE || !atomic_load(&r->failed));
}

void tt_recorder_refused(struct tt_recorder *r, int status)
{
	pthread_mutex_lock(&r->lock);
	if (status >= 0 && status < STATUSES)
		r->n_refused[status]++;
	pthread_mutex_unlock(&r->lock);
}

void tt_recorder_stats(struct tt_recorder *r, struct tt_recorder_stats *out)
{
	pthread_mutex_lock(&r->lock);
	*out = r->stats;
	out->n_queued = r->queue.n;
	out->checkpoint_age = tt_now() - r->checkpointed;
	pthread_mutex_unlock(&r->lock);
}

/* ---- Opening and closing */

/* What an earlier run has begun and did not end. */
static int interrupt(struct tt_recorder *r, struct tt_error *err)
{
	bool found = true;
	uint64_t begin = 0, n = 0;
	for (;; n++) {
		TT_TRY(tt_log_find_open(&r->log, 0, &found, &begin, err));
		if (!found)
			break;
		const struct tt_log_entry entry = {.kind = "interrupted", .fields = "", .begin = begin};
		TT_TRY(tt_log_append_entry(&r->log, &entry, NULL, err));
		count_kind(r, entry.kind);
	}
	if (n) {
		char line[100];
		snprintf(line, sizeof line, "%llu requests were interrupted when the last run ended",
			(unsigned long long)n);
		note(r, line, "");
	}
	return TT_OK;
}

static int recover(struct tt_recorder *r, json_t *open, struct tt_error *err)
{
	char key[TT_VERIFIER_BYTES];
	struct tt_log_place place;
	TT_TRY(tt_log_check_tree(&r->log, err));
	TT_TRY(tt_verifier_print(key, &r->signer.verifier, err));
	TT_TRY(interrupt(r, err));
	TT_TRY(tt_json_set(open, "log", json_string(key), err));
	TT_TRY(tt_log_append(&r->log, "open", json_incref(open), &place, err));
	count_kind(r, "open");
	r->run = place.seq;
	return write_checkpoint(r, true, err);
}

/* Another server that opened the folder would end what this one has begun. */
static int lock_folder(struct tt_recorder *r, struct tt_error *err)
{
	char *path;
	TT_TRY(tt_file_join(&path, r->directory, "server.lock", err));
	r->lock_file.path = path;
	TT_TRY(tt_append_log_open(&r->lock_file, true, err));
	if (tt_append_log_lock(&r->lock_file, NULL) != TT_OK)
		return tt_fail(err, TT_ERR_IO, "another server has %s", r->directory);
	return TT_OK;
}

static int open_all(struct tt_recorder *r, const struct tt_recorder_options *options, struct tt_error *err)
{
	TT_TRY(tt_copy_string(&r->directory, options->directory, strlen(options->directory), err));
	TT_TRY(tt_database_open(&r->db, r->directory, TT_DATABASE_CREATE, err));
	TT_TRY(tt_file_join(&r->ballast, r->directory, "ballast", err));
	TT_TRY(lock_folder(r, err));
	TT_TRY(tt_log_key_open(&r->signer, r->directory, true, options->name, err));
	TT_TRY(tt_payloads_open(&r->payloads, &r->db, r->directory, err));
	TT_TRY(tt_log_open(&r->log, &r->db, err));
	if (options->sync == TT_AUDIT_OFF)
		TT_TRY(tt_sql_run(&r->db, "PRAGMA synchronous = OFF", TT_SQL_NONE, err));
	TT_TRY(tt_database_begin(&r->db, err));
	TT_TRY(tt_database_end(&r->db, recover(r, options->open, err), err));
	committed(r, 0);
	make_ballast(r);
	if (pthread_create(&r->thread, NULL, run, r) != 0)
		return tt_fail(err, TT_ERR_MEMORY, "the thread of the audit log cannot be started");
	r->runs = true;
	return TT_OK;
}

static void free_list(struct list *list)
{
	struct tt_record *record;
	while ((record = pop(list)))
		tt_record_free(record);
}

static void free_recorder(struct tt_recorder *r)
{
	free_list(&r->queue);
	free_list(&r->done);
	while (free_kept(r))
		;
	tt_log_close(&r->log);
	tt_payloads_close(&r->payloads);
	tt_database_close(&r->db);
	tt_append_log_close(&r->lock_file);
	free((char *)(uintptr_t)r->lock_file.path);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->news);
	free(r->directory);
	free(r->ballast);
	free(r);
}

int tt_recorder_open(struct tt_recorder **out, const struct tt_recorder_options *options, struct tt_error *err)
{
	struct tt_recorder *r;
	int status = tt_alloc(&r, 1, sizeof *r, err);
	*out = NULL;
	if (status == TT_OK) {
		r->options = *options;
		r->options.open = NULL;
		pthread_mutex_init(&r->lock, NULL);
		pthread_cond_init(&r->news, NULL);
		list_init(&r->queue);
		list_init(&r->done);
		list_init(&r->kept);
		r->refused_at = r->checkpointed = tt_now();
		r->lock_file.file = -1;
		status = open_all(r, options, err);
		if (status == TT_OK)
			*out = r;
		else
			free_recorder(r);
	}
	json_decref(options->open);
	return status;
}

void tt_recorder_stop(struct tt_recorder *r)
{
	pthread_mutex_lock(&r->lock);
	r->closing = true;
	pthread_cond_signal(&r->news);
	pthread_mutex_unlock(&r->lock);
	if (r->runs)
		pthread_join(r->thread, NULL);
	r->runs = false;
}

int tt_recorder_close(struct tt_recorder *r, struct tt_error *err)
{
	if (!r)
		return TT_OK;
	tt_recorder_stop(r);
	json_t *closing = json_object();
	const struct extras extras = {.refusals = true, .checkpoint = true, .closing = closing};
	unlink(r->ballast); /* which may be what the last entries need */
	int status = transact(r, r->kept.first, r->kept.n, &extras, err);
	json_decref(closing);
	free_recorder(r);
	return status;
}
