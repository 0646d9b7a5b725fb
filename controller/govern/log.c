#include "controller/govern/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/hex.h"
#include "base/json.h"
#include "controller/govern/query.h"

int tt_log_open(struct tt_log *out, struct tt_database *db, struct tt_error *err)
{
	*out = (struct tt_log){.db = db};
	TT_TRY(tt_file_folder(&out->directory, db->path, err));
	int status = tt_hasher_open(&out->hasher, err);
	if (status != TT_OK)
		tt_log_close(out);
	return status;
}

void tt_log_close(struct tt_log *log)
{
	tt_hasher_close(&log->hasher);
	tt_bundle_free(&log->bundle);
	free(log->directory);
	log->directory = NULL;
}

/* ---- The head: what the next entry is made from */

struct head {
	struct tt_tree tree;
	struct tt_hash prev; /* zeros before the first entry */
	int64_t at;
};

static int damaged(const struct tt_log *log, const char *what, struct tt_error *err)
{
	return tt_fail(err, TT_ERR_FORMAT, "%s is damaged: %s", log->db->path, what);
}

static int read_head(struct tt_log *log, struct head *out, struct tt_error *err)
{
	struct tt_query q;
	*out = (struct head){0};
	TT_TRY(tt_query_open(&q, log->db, "SELECT size, roots, prev, at FROM log_head WHERE id = 0", TT_SQL_NONE, err));
	bool found = tt_query_next(&q, err), whole = true;
	if (found) {
		size_t n_roots, n_prev;
		const void *roots = tt_query_bytes(&q, 1, &n_roots), *prev;
		out->tree.size = (uint64_t)tt_query_integer(&q, 0);
		whole = out->tree.size >> TT_TREE_HEIGHT == 0 &&
			n_roots == tt_tree_n_roots(out->tree.size) * sizeof *out->tree.roots;
		if (whole && n_roots)
			memcpy(out->tree.roots, roots, n_roots);
		prev = tt_query_bytes(&q, 2, &n_prev);
		whole = whole && n_prev == sizeof out->prev;
		if (whole)
			memcpy(&out->prev, prev, n_prev);
		out->at = tt_query_integer(&q, 3);
	}
	TT_TRY(tt_query_close(&q));
	return whole ? TT_OK : damaged(log, "the head of the log", err);
}

static int write_head(struct tt_log *log, const struct head *head, struct tt_error *err)
{
	return tt_sql_run(log->db, "INSERT OR REPLACE INTO log_head (id, size, roots, prev, at) VALUES (0, ?, ?, ?, ?)",
		TT_SQL(tt_integer((int64_t)head->tree.size),
			tt_bytes(head->tree.roots, tt_tree_n_roots(head->tree.size) * sizeof *head->tree.roots),
			tt_bytes(&head->prev, sizeof head->prev), tt_integer(head->at)),
		err);
}

int tt_log_tree(struct tt_log *log, struct tt_tree *out, struct tt_error *err)
{
	struct head head;
	TT_TRY(read_head(log, &head, err));
	*out = head.tree;
	return TT_OK;
}

/* ---- The form of an entry */

void tt_log_date(char out[TT_LOG_DATE_BYTES], int64_t milliseconds)
{
	time_t seconds = (time_t)(milliseconds / 1000);
	struct tm utc;
	size_t n = 0;
	if (milliseconds >= 0 && gmtime_r(&seconds, &utc))
		n = strftime(out, TT_LOG_DATE_BYTES, "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(out + n, TT_LOG_DATE_BYTES - n, ".%03dZ", (int)(milliseconds % 1000));
}

static bool is_kind(const char *kind, size_t n)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	return n > 0 && n <= TT_MAX_ENTRY_KIND && strspn(kind, allowed) >= n;
}

static bool begins(const char *kind)
{
	return strcmp(kind, "begin") == 0;
}

static bool ends(const char *kind)
{
	return strcmp(kind, "end") == 0 || strcmp(kind, "interrupted") == 0;
}

/* What of an entry has been read. */
struct cursor {
	const char *at, *end;
};

static bool take(struct cursor *c, const char *text)
{
	size_t n = strlen(text);
	if ((size_t)(c->end - c->at) < n || memcmp(c->at, text, n) != 0)
		return false;
	c->at += n;
	return true;
}

static bool take_number(struct cursor *c, uint64_t *out)
{
	const char *from = c->at;
	*out = 0;
	for (; c->at < c->end && *c->at >= '0' && *c->at <= '9' && c->at - from < 16; c->at++)
		*out = *out * 10 + (uint64_t)(*c->at - '0');
	return c->at > from && (*from != '0' || c->at - from == 1);
}

static bool take_digits(struct cursor *c, int n, int *out)
{
	*out = 0;
	for (; n > 0; n--, c->at++) {
		if (c->at == c->end || *c->at < '0' || *c->at > '9')
			return false;
		*out = *out * 10 + (*c->at - '0');
	}
	return true;
}

/* Days from 1970 to the first of a month; by the calendar that has always been the Gregorian one. */
static int64_t days_before(int year, int month)
{
	int64_t y = month > 2 ? year : year - 1, shifted = (month + 9) % 12;
	return y * 365 + y / 4 - y / 100 + y / 400 + (shifted * 153 + 2) / 5 - 719468;
}

static bool take_date(struct cursor *c, int64_t *out)
{
	int year, month, day, hour, minute, second, milli;
	if (!take_digits(c, 4, &year) || !take(c, "-") || !take_digits(c, 2, &month) || !take(c, "-") ||
		!take_digits(c, 2, &day) || !take(c, "T") || !take_digits(c, 2, &hour) || !take(c, ":") ||
		!take_digits(c, 2, &minute) || !take(c, ":") || !take_digits(c, 2, &second) || !take(c, ".") ||
		!take_digits(c, 3, &milli) || !take(c, "Z") || year < 1970 || month < 1 || month > 12 || hour > 23 ||
		minute > 59 || second > 59)
		return false;
	int64_t days = days_before(year, month);
	*out = ((days + day - 1) * 86400 + hour * 3600 + minute * 60 + second) * 1000 + milli;
	return day >= 1 && days + day <= (month < 12 ? days_before(year, month + 1) : days + 31);
}

int tt_entry_parse(struct tt_entry_head *out, const char *body, size_t n, struct tt_error *err)
{
	struct cursor c = {body, body + n};
	bool good = n <= TT_MAX_ENTRY && take(&c, "{\"seq\":") && take_number(&c, &out->seq) &&
		    take(&c, ",\"at\":\"") && take_date(&c, &out->at) && take(&c, "\",\"prev\":\"") &&
		    c.end - c.at > 64 && tt_hex_parse(out->prev.bytes, 32, c.at, 64);
	if (good) {
		c.at += 64;
		good = take(&c, "\",\"kind\":\"");
	}
	const char *quote = good ? memchr(c.at, '"', (size_t)(c.end - c.at)) : NULL;
	size_t n_kind = quote ? (size_t)(quote - c.at) : 0;
	good = quote && is_kind(c.at, n_kind);
	if (good) {
		memcpy(out->kind, c.at, n_kind);
		out->kind[n_kind] = 0;
		c.at = quote + 1;
		out->ends = ends(out->kind);
		out->begin = 0;
		good = (!out->ends || (take(&c, ",\"begin\":") && take_number(&c, &out->begin))) && c.at < c.end &&
		       (*c.at == ',' || (*c.at == '}' && c.at + 1 == c.end)) && c.end[-1] == '}';
	}
	if (!good)
		return tt_fail(err, TT_ERR_FORMAT, "the entry has not the form of an entry");
	out->n = (size_t)(c.at - body);
	return TT_OK;
}

/* ---- Appending */

static int keep_node(void *user, uint32_t level, uint64_t index, const struct tt_hash *hash, struct tt_error *err)
{
	struct tt_log *log = user;
	return tt_sql_run(log->db, "INSERT INTO log_node (level, n, hash) VALUES (?, ?, ?)",
		TT_SQL(tt_integer(level), tt_integer((int64_t)index), tt_bytes(hash, sizeof *hash)), err);
}

static int write_body(struct tt_buffer *out, const struct head *head, const struct tt_log_entry *entry, int64_t at,
	struct tt_error *err)
{
	char date[TT_LOG_DATE_BYTES], prev[65], begin[32] = "";
	tt_log_date(date, at);
	tt_hex(prev, &head->prev, sizeof head->prev);
	if (ends(entry->kind))
		snprintf(begin, sizeof begin, ",\"begin\":%" PRIu64, entry->begin);
	TT_TRY(tt_buffer_print(out, err, "{\"seq\":%" PRIu64 ",\"at\":\"%s\",\"prev\":\"%s\",\"kind\":\"%s\"%s%s",
		head->tree.size, date, prev, entry->kind, begin, entry->n ? "," : ""));
	TT_TRY(tt_buffer_add(out, entry->fields, entry->n, err));
	TT_TRY(tt_buffer_add(out, "}", 1, err));
	if (out->len > TT_MAX_ENTRY)
		return tt_fail(err, TT_ERR_LIMIT, "an entry of %zu bytes is too long for the log", out->len);
	return TT_OK;
}

/* What is open: begun, and not ended. */
static int note_open(struct tt_log *log, const struct tt_log_entry *entry, uint64_t seq, struct tt_error *err)
{
	if (begins(entry->kind))
		TT_TRY(tt_sql_run(
			log->db, "INSERT INTO log_open (begin) VALUES (?)", TT_SQL(tt_integer((int64_t)seq)), err));
	if (!ends(entry->kind))
		return TT_OK;
	TT_TRY(tt_sql_run(
		log->db, "DELETE FROM log_open WHERE begin = ?", TT_SQL(tt_integer((int64_t)entry->begin)), err));
	if (tt_sql_changes(log->db) != 1)
		return tt_fail(err, TT_ERR_ARGUMENT, "entry %" PRIu64 " has no beginning that is open", entry->begin);
	return TT_OK;
}

static int append(struct tt_log *log, struct head *head, const struct tt_log_entry *entry, int64_t at,
	struct tt_log_place *place, struct tt_error *err)
{
	struct tt_buffer body = {0};
	struct tt_log_place own;
	uint64_t seq = own.seq = head->tree.size;
	const struct tt_value begin = ends(entry->kind) ? tt_integer((int64_t)entry->begin) : tt_null();
	int status = write_body(&body, head, entry, at, err);
	if (status == TT_OK) {
		tt_hash_leaf(&log->hasher, &own.leaf, body.data, body.len);
		status = tt_tree_append(&head->tree, &log->hasher, &own.leaf, keep_node, log, err);
	}
	if (status == TT_OK)
		status = tt_sql_run(log->db, "INSERT INTO log_leaf (seq, hash, begin) VALUES (?, ?, ?)",
			TT_SQL(tt_integer((int64_t)seq), tt_bytes(&own.leaf, sizeof own.leaf), begin), err);
	if (status == TT_OK)
		status = tt_sql_run(log->db, "INSERT INTO log_entry (seq, body) VALUES (?, ?)",
			TT_SQL(tt_integer((int64_t)seq), tt_bytes(body.data, body.len)), err);
	if (status == TT_OK)
		status = note_open(log, entry, seq, err);
	head->prev = own.leaf;
	head->at = at;
	tt_buffer_free(&body);
	if (place)
		*place = own;
	return status;
}

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec > 0 ? (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000 : 0;
}

int tt_log_append_entry(
	struct tt_log *log, const struct tt_log_entry *entry, struct tt_log_place *place, struct tt_error *err)
{
	enum { JITTER = 1000 }; /* milliseconds that a clock may go back without a word about it */
	struct head head;
	int64_t at = now();
	if (!is_kind(entry->kind, strlen(entry->kind)))
		return tt_fail(err, TT_ERR_ARGUMENT, "%.40s is no kind of entry", entry->kind);
	TT_TRY(read_head(log, &head, err));
	if (head.at - at > JITTER) {
		char fields[64];
		int n = snprintf(fields, sizeof fields, "\"back\":%.3f", 1e-3 * (double)(head.at - at));
		const struct tt_log_entry clock = {.kind = "clock", .fields = fields, .n = (size_t)n};
		TT_TRY(append(log, &head, &clock, at, NULL, err));
	}
	TT_TRY(append(log, &head, entry, at > head.at ? at : head.at, place, err));
	return write_head(log, &head, err);
}

int tt_log_append(
	struct tt_log *log, const char *kind, json_t *fields, struct tt_log_place *place, struct tt_error *err)
{
	static const char *const own[] = {"seq", "at", "prev", "kind", "begin"};
	char *text;
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		if (json_object_get(fields, own[i])) {
			json_decref(fields);
			return tt_fail(err, TT_ERR_ARGUMENT, "an entry's %s is the log's own", own[i]);
		}
	if (fields && !json_is_object(fields)) {
		json_decref(fields);
		return tt_fail(err, TT_ERR_ARGUMENT, "an entry's fields are an object");
	}
	TT_TRY(tt_json_dump(&text, fields, JSON_COMPACT, err));
	const struct tt_log_entry entry = {.kind = kind, .fields = text + 1, .n = strlen(text) - 2};
	int status = tt_log_append_entry(log, &entry, place, err);
	free(text);
	return status;
}

/* ---- Reading */

static int read_hashes(void *user, uint32_t level, uint64_t from, uint32_t n, struct tt_hash *out, struct tt_error *err)
{
	struct tt_log *log = user;
	struct tt_query q;
	uint32_t i = 0;
	const struct tt_value first = tt_integer((int64_t)from), end = tt_integer((int64_t)(from + n));
	if (level == 0)
		TT_TRY(tt_query_open(&q, log->db,
			"SELECT seq, hash FROM log_leaf WHERE seq >= ? AND seq < ? ORDER BY seq", TT_SQL(first, end),
			err));
	else
		TT_TRY(tt_query_open(&q, log->db,
			"SELECT n, hash FROM log_node WHERE level = ? AND n >= ? AND n < ? ORDER BY n",
			TT_SQL(tt_integer(level), first, end), err));
	for (; i < n && tt_query_next(&q, err); i++) {
		size_t n_hash;
		const void *hash = tt_query_bytes(&q, 1, &n_hash);
		if ((uint64_t)tt_query_integer(&q, 0) != from + i || n_hash != sizeof *out)
			break;
		memcpy(&out[i], hash, n_hash);
	}
	TT_TRY(tt_query_close(&q));
	if (i == n)
		return TT_OK;
	return tt_fail(err, TT_ERR_FORMAT, "%s is damaged: the log has no hash %" PRIu64 " of level %u", log->db->path,
		from + i, level);
}

struct tt_tree_reader tt_log_reader(struct tt_log *log)
{
	return (struct tt_tree_reader){read_hashes, log, &log->hasher};
}

int tt_log_find_end(struct tt_log *log, uint64_t begin, bool *found, uint64_t *end, struct tt_error *err)
{
	struct tt_query q;
	TT_TRY(tt_query_open(
		&q, log->db, "SELECT seq FROM log_leaf WHERE begin = ?", TT_SQL(tt_integer((int64_t)begin)), err));
	*found = tt_query_next(&q, err);
	if (*found)
		*end = (uint64_t)tt_query_integer(&q, 0);
	return tt_query_close(&q);
}

int tt_log_find_open(struct tt_log *log, uint64_t from, bool *found, uint64_t *begin, struct tt_error *err)
{
	struct tt_query q;
	TT_TRY(tt_query_open(&q, log->db, "SELECT begin FROM log_open WHERE begin >= ? ORDER BY begin LIMIT 1",
		TT_SQL(tt_integer((int64_t)from)), err));
	*found = tt_query_next(&q, err);
	if (*found)
		*begin = (uint64_t)tt_query_integer(&q, 0);
	return tt_query_close(&q);
}

int tt_log_read_bundle(struct tt_log *log, struct tt_bundle *out, uint64_t index, struct tt_error *err)
{
	return tt_bundle_read(out, log->directory, index, TT_TILE_WIDTH, err);
}

static int read_sealed(struct tt_log *log, uint64_t seq, struct tt_buffer *body, struct tt_error *err)
{
	const uint64_t index = seq / TT_TILE_WIDTH;
	size_t n;
	if (log->bundle.n == 0 || log->bundled != index) {
		tt_bundle_free(&log->bundle);
		int status = tt_log_read_bundle(log, &log->bundle, index, err);
		if (status != TT_OK) {
			tt_bundle_free(&log->bundle);
			return status;
		}
		log->bundled = index;
	}
	const char *entry = tt_bundle_entry(&log->bundle, (uint32_t)(seq % TT_TILE_WIDTH), &n);
	return tt_buffer_add(body, entry, n, err);
}

int tt_log_read(
	struct tt_log *log, uint64_t seq, struct tt_buffer *body, struct tt_log_place *place, struct tt_error *err)
{
	struct tt_query q;
	struct tt_log_place own = {.seq = seq};
	body->len = 0;
	TT_TRY(read_hashes(log, 0, seq, 1, &own.leaf, err));
	TT_TRY(tt_query_open(
		&q, log->db, "SELECT body FROM log_entry WHERE seq = ?", TT_SQL(tt_integer((int64_t)seq)), err));
	bool found = tt_query_next(&q, err);
	int status = TT_OK;
	if (found) {
		size_t n;
		const void *data = tt_query_bytes(&q, 0, &n);
		status = tt_buffer_add(body, data, n, err);
	}
	int closed = tt_query_close(&q);
	if (place)
		*place = own;
	if (status != TT_OK || closed != TT_OK)
		return status != TT_OK ? status : closed;
	return found ? TT_OK : read_sealed(log, seq, body, err);
}

/* ---- Checkpoints */

int tt_log_last_checkpoint(struct tt_log *log, struct tt_buffer *note, uint64_t *size, struct tt_error *err)
{
	struct tt_query q;
	int status = TT_OK;
	*size = 0;
	TT_TRY(tt_query_open(
		&q, log->db, "SELECT size, note FROM log_checkpoint ORDER BY size DESC LIMIT 1", TT_SQL_NONE, err));
	if (tt_query_next(&q, err)) {
		const char *text = tt_query_text(&q, 1);
		*size = (uint64_t)tt_query_integer(&q, 0);
		status = tt_buffer_add(note, text, strlen(text), err);
	} else {
		status = tt_buffer_add(note, "", 0, err);
	}
	int closed = tt_query_close(&q);
	return status != TT_OK ? status : closed;
}

int tt_log_add_checkpoint(struct tt_log *log, const struct tt_signer *signer, struct tt_error *err)
{
	struct head head;
	struct tt_buffer note = {0};
	struct tt_checkpoint checkpoint;
	TT_TRY(read_head(log, &head, err));
	checkpoint.size = head.tree.size;
	tt_tree_root(&head.tree, &log->hasher, &checkpoint.root);
	int status = tt_hasher_check(&log->hasher, err);
	if (status == TT_OK)
		status = tt_checkpoint_sign(&note, signer, &checkpoint, err);
	if (status == TT_OK)
		status = tt_sql_run(log->db, "INSERT OR IGNORE INTO log_checkpoint (size, at, note) VALUES (?, ?, ?)",
			TT_SQL(tt_integer((int64_t)checkpoint.size), tt_integer(now()), tt_text(note.data)), err);
	tt_buffer_free(&note);
	return status;
}
