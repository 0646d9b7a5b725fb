#include "runtime/serve/audit_command.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/hex.h"
#include "base/json.h"
#include "controller/govern/log_files.h"
#include "controller/govern/log_key.h"
#include "controller/govern/log_proof.h"
#include "controller/govern/payload.h"

enum { MAX_PROOF = 1 << 20 };

/* A state folder that is open. */
struct state {
	struct tt_database db;
	struct tt_log log;
	struct tt_payloads payloads;
};

static int open_state(struct state *s, const char *folder, enum tt_database_mode mode, struct tt_error *err)
{
	*s = (struct state){0};
	TT_TRY(tt_database_open(&s->db, folder, mode, err));
	int status = tt_log_open(&s->log, &s->db, err);
	if (status == TT_OK)
		status = tt_payloads_open(&s->payloads, &s->db, folder, err);
	return status;
}

static void close_state(struct state *s)
{
	tt_payloads_close(&s->payloads);
	tt_log_close(&s->log);
	tt_database_close(&s->db);
}

static int read_verifier(struct tt_verifier *out, const struct tt_audit_options *o, struct tt_error *err)
{
	if (o->log_key)
		return tt_verifier_parse(out, o->log_key, err);
	return tt_log_key_verifier(out, o->state, err);
}

static int give(char **text, struct tt_buffer *buffer, struct tt_error *err)
{
	*text = buffer->data;
	*buffer = (struct tt_buffer){0};
	return *text ? TT_OK : tt_fail(err, TT_ERR_MEMORY, "out of memory");
}

/* Takes over value and gives it as a line. */
static int give_json(char **text, json_t *value, struct tt_error *err)
{
	char *line;
	struct tt_buffer buffer = {0};
	TT_TRY(tt_json_dump(&line, value, JSON_COMPACT | JSON_REAL_PRECISION(9), err));
	int status = tt_buffer_print(&buffer, err, "%s\n", line);
	free(line);
	return status == TT_OK ? give(text, &buffer, err) : status;
}

/* ---- head */

static int sign_head(struct state *s, const char *folder, struct tt_error *err)
{
	struct tt_signer signer;
	TT_TRY(tt_log_key_open(&signer, folder, false, NULL, err));
	TT_TRY(tt_database_begin(&s->db, err));
	return tt_database_end(&s->db, tt_log_add_checkpoint(&s->log, &signer, err), err);
}

int tt_audit_head(const struct tt_audit_options *o, char **text, struct tt_error *err)
{
	struct state s;
	struct tt_buffer note = {0};
	uint64_t size;
	int status = open_state(&s, o->state, TT_DATABASE_WRITE, err);
	if (status == TT_OK)
		status = sign_head(&s, o->state, err);
	if (status == TT_OK)
		status = tt_log_last_checkpoint(&s.log, &note, &size, err);
	if (status == TT_OK)
		status = tt_log_key_publish(o->state, note.data, err);
	if (status == TT_OK)
		status = give(text, &note, err);
	tt_buffer_free(&note);
	close_state(&s);
	return status;
}

/* ---- verify */

static int verify_proof(
	const struct tt_audit_options *o, const struct tt_verifier *verifier, char **text, struct tt_error *err)
{
	json_t *proof;
	struct tt_checkpoint checkpoint;
	struct tt_buffer line = {0};
	TT_TRY(tt_json_load(&proof, o->proof, MAX_PROOF, err));
	int status = tt_within(tt_log_check_proof(proof, verifier, &checkpoint, err), err, o->proof);
	if (status == TT_OK)
		status = tt_buffer_print(&line, err, "the entry is in the log of %s, among its first %" PRIu64 "\n",
			verifier->name, checkpoint.size);
	json_decref(proof);
	return status == TT_OK ? give(text, &line, err) : status;
}

static int verify_state(const struct tt_audit_options *o, const struct tt_verifier *verifier, const char *held,
	struct tt_log_report *report, struct tt_error *err)
{
	struct state s;
	int status = open_state(&s, o->state, TT_DATABASE_READ, err);
	if (status == TT_OK)
		status = tt_log_verify(&s.log, verifier, held, report, err);
	if (status == TT_OK)
		status = tt_log_check_sealed(&s.log, err);
	close_state(&s);
	return status;
}

static int verify_folder(const struct tt_audit_options *o, const struct tt_verifier *verifier, const char *held,
	struct tt_log_report *report, struct tt_error *err)
{
	char *path;
	TT_TRY(tt_file_join(&path, o->state, "trimtab.db", err));
	bool is_state = tt_file_exists(path);
	free(path);
	return is_state ? verify_state(o, verifier, held, report, err)
			: tt_log_verify_files(o->state, verifier, held, report, err);
}

static int tell_report(char **text, const struct tt_audit_options *o, const struct tt_verifier *verifier,
	const struct tt_log_report *report, struct tt_error *err)
{
	char root[65];
	struct tt_buffer line = {0};
	tt_hex(root, &report->root, sizeof report->root);
	if (o->json)
		return give_json(text,
			json_pack("{s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:s}", "holds", 1, "log", verifier->name,
				"entries", (json_int_t)report->n_entries, "sealed", (json_int_t)report->n_sealed,
				"checkpoints", (json_int_t)report->n_checkpoints, "signed",
				(json_int_t)report->newest.size, "open", (json_int_t)report->n_open, "root", root,
				"last", report->last),
			err);
	TT_TRY(tt_buffer_print(&line, err,
		"%s: %" PRIu64 " entries hold, the last of %s\n%" PRIu64 " sealed, %" PRIu64 " signed in %" PRIu64
		" checkpoints, %" PRIu64 " requests without an end, root %s\n",
		verifier->name, report->n_entries, *report->last ? report->last : "no time", report->n_sealed,
		report->newest.size, report->n_checkpoints, report->n_open, root));
	return give(text, &line, err);
}

int tt_audit_verify(const struct tt_audit_options *o, char **text, struct tt_error *err)
{
	struct tt_verifier verifier;
	struct tt_log_report report = {0};
	struct tt_buffer held = {0};
	TT_TRY(read_verifier(&verifier, o, err));
	if (o->proof)
		return verify_proof(o, &verifier, text, err);
	int status = o->from ? tt_file_read(&held, o->from, TT_MAX_NOTE, err) : TT_OK;
	if (status == TT_OK)
		status = verify_folder(o, &verifier, o->from ? held.data ? held.data : "" : NULL, &report, err);
	tt_buffer_free(&held);
	return status == TT_OK ? tell_report(text, o, &verifier, &report, err) : status;
}

/* ---- prove, show */

int tt_audit_prove(const struct tt_audit_options *o, char **text, struct tt_error *err)
{
	struct state s;
	json_t *proof = NULL;
	int status = open_state(&s, o->state, TT_DATABASE_READ, err);
	if (status == TT_OK)
		status = tt_log_prove(&proof, &s.log, o->entries[0], err);
	close_state(&s);
	return status == TT_OK ? give_json(text, proof, err) : status;
}

static int add_entry(struct tt_buffer *out, struct state *s, uint64_t seq, struct tt_error *err)
{
	struct tt_buffer body = {0};
	int status = tt_log_read(&s->log, seq, &body, NULL, err);
	if (status == TT_OK)
		status = tt_buffer_add(out, body.data, body.len, err);
	if (status == TT_OK)
		status = tt_buffer_add(out, "\n", 1, err);
	tt_buffer_free(&body);
	return status;
}

/* What is kept of a request: its key, and its body if texts are kept. */
static int add_kept(struct tt_buffer *out, struct state *s, uint64_t seq, struct tt_error *err)
{
	uint8_t open[TT_SECRET];
	char key[65], *line = NULL;
	bool found;
	struct tt_buffer request = {0}, result = {0};
	int status = tt_payload_read(&s->payloads, seq, &found, open, &request, &result, err);
	tt_hex(key, open, found ? sizeof open : 0);
	if (status == TT_OK && found)
		status = tt_json_dump(&line,
			json_pack("{s:s, s:o}", "open", key, "body",
				request.len ? json_stringn(request.data, request.len) : json_null()),
			JSON_COMPACT, err);
	if (line)
		status = tt_buffer_print(out, err, "%s\n", line);
	free(line);
	tt_buffer_free(&request);
	tt_buffer_free(&result);
	return status;
}

static int show(struct tt_buffer *out, struct state *s, uint64_t seq, struct tt_error *err)
{
	bool found;
	uint64_t end;
	struct tt_tree tree;
	TT_TRY(tt_log_tree(&s->log, &tree, err));
	if (seq >= tree.size)
		return tt_fail(err, TT_ERR_ARGUMENT, "the log has no entry %" PRIu64, seq);
	TT_TRY(add_entry(out, s, seq, err));
	TT_TRY(tt_log_find_end(&s->log, seq, &found, &end, err));
	if (found)
		TT_TRY(add_entry(out, s, end, err));
	return add_kept(out, s, seq, err);
}

int tt_audit_show(const struct tt_audit_options *o, char **text, struct tt_error *err)
{
	struct state s;
	struct tt_buffer out = {0};
	int status = open_state(&s, o->state, TT_DATABASE_READ, err);
	for (size_t i = 0; status == TT_OK && i < o->n_entries; i++)
		status = show(&out, &s, o->entries[i], err);
	close_state(&s);
	if (status == TT_OK)
		status = give(text, &out, err);
	tt_buffer_free(&out);
	return status;
}

/* ---- seal, export */

int tt_audit_seal(const struct tt_audit_options *o, char **text, struct tt_error *err)
{
	struct state s;
	uint64_t n = 0;
	struct tt_buffer line = {0};
	int status = open_state(&s, o->state, TT_DATABASE_WRITE, err);
	if (status == TT_OK)
		status = tt_log_seal(&s.log, &n, err);
	close_state(&s);
	if (status == TT_OK)
		status = tt_buffer_print(&line, err, "%" PRIu64 " entries sealed\n", n);
	return status == TT_OK ? give(text, &line, err) : status;
}

int tt_audit_export(const struct tt_audit_options *o, char **text, struct tt_error *err)
{
	struct state s;
	struct tt_verifier verifier;
	struct tt_checkpoint checkpoint = {0};
	struct tt_buffer line = {0};
	TT_TRY(read_verifier(&verifier, o, err));
	int status = open_state(&s, o->state, TT_DATABASE_READ, err);
	if (status == TT_OK)
		status = tt_log_export(&s.log, &verifier, o->out, &checkpoint, err);
	close_state(&s);
	if (status == TT_OK)
		status = tt_buffer_print(&line, err, "%" PRIu64 " entries in %s\n", checkpoint.size, o->out);
	return status == TT_OK ? give(text, &line, err) : status;
}

/* ---- erase */

struct erasure {
	struct state state;
	const struct tt_audit_options *options;
};

/* What the log says of it: what was asked for, and how many this transaction has found of it. */
static int append_erasure(void *user, uint64_t n, struct tt_error *err)
{
	enum { MOST = 1000 };
	struct erasure *e = user;
	const struct tt_audit_options *o = e->options;
	json_t *fields = json_pack("{s:I}", "erased", (json_int_t)n), *list = json_array();
	for (size_t i = 0; i < o->n_entries && i < MOST; i++)
		json_array_append_new(list, json_integer((json_int_t)o->entries[i]));
	if (o->n_entries)
		json_object_set(fields, "begins", list);
	json_decref(list);
	if (o->owner)
		json_object_set_new(fields, "key", json_string(o->owner));
	if (o->older_than)
		json_object_set_new(fields, "older_than_days", json_integer(o->older_than));
	return tt_log_append(&e->state.log, "payload.erase", fields, NULL, err);
}

static void tell_wait(void *user, long process)
{
	const struct erasure *e = user;
	char line[100] = "waiting: another one erases";
	if (process > 0)
		snprintf(line, sizeof line, "waiting: process %ld erases", process);
	if (e->options->note)
		e->options->note(e->options->user, line);
}

static int erase(struct erasure *e, uint64_t *n, struct tt_error *err)
{
	const struct tt_audit_options *o = e->options;
	const struct tt_erasure erasure = {
		.begins = o->n_entries ? o->entries : NULL,
		.n_begins = o->n_entries,
		.owner = o->owner,
		.before = o->older_than ? ((int64_t)time(NULL) - (int64_t)o->older_than * 86400) * 1000 : 0,
		.tell = append_erasure,
		.waits = tell_wait,
		.user = e,
	};
	return tt_payloads_erase(&e->state.payloads, &erasure, n, err);
}

int tt_audit_erase(const struct tt_audit_options *o, char **text, struct tt_error *err)
{
	struct erasure e = {.options = o};
	uint64_t n = 0;
	struct tt_buffer line = {0};
	if (!o->n_entries && !o->owner && !o->older_than)
		return tt_fail(err, TT_ERR_ARGUMENT, "what is to be erased: numbers of entries, a key or an age");
	int status = open_state(&e.state, o->state, TT_DATABASE_WRITE, err);
	if (status == TT_OK)
		status = erase(&e, &n, err);
	close_state(&e.state);
	if (status == TT_OK)
		status = tt_buffer_print(&line, err, "%" PRIu64 " requests are forgotten\n", n);
	return status == TT_OK ? give(text, &line, err) : status;
}
