#include "controller/govern/payload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/append_log.h"
#include "base/clock.h"
#include "base/fail.h"
#include "base/file.h"
#include "controller/govern/query.h"

enum { NONCE = 12, TAG = 16, KEYS = 2 * TT_SECRET, WRAPPED = NONCE + KEYS + TAG };

/* What a ciphertext is of: two of one request are not mistaken for each other. */
enum part { PART_KEYS, PART_REQUEST, PART_RESULT };

int tt_payloads_open(struct tt_payloads *out, struct tt_database *db, const char *state, struct tt_error *err)
{
	*out = (struct tt_payloads){.db = db};
	return tt_file_join(&out->directory, state, "keys", err);
}

void tt_payloads_close(struct tt_payloads *payloads)
{
	free(payloads->directory);
	OPENSSL_cleanse(payloads->key, sizeof payloads->key);
	*payloads = (struct tt_payloads){0};
}

/* ---- AES-256-GCM */

static void bind(uint8_t out[9], uint64_t begin, enum part part)
{
	for (int i = 0; i < 8; i++)
		out[i] = (uint8_t)(begin >> 8 * i);
	out[8] = (uint8_t)part;
}

static int no_cipher(struct tt_error *err)
{
	return tt_fail(err, TT_ERR_MEMORY, "AES-GCM: libcrypto has no memory, or no such algorithm");
}

static bool fits(size_t n)
{
	return n < TT_DATABASE_MAX_BYTES / 2; /* and libcrypto counts in int */
}

/* Writes n bytes and the tag to out. */
static int encrypt(const uint8_t key[TT_SECRET], const uint8_t nonce[NONCE], uint64_t begin, enum part part,
	const void *data, size_t n, uint8_t *out, struct tt_error *err)
{
	uint8_t bound[9];
	int length;
	bind(bound, begin, part);
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	bool good = context && EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
		    EVP_EncryptUpdate(context, NULL, &length, bound, sizeof bound) == 1 &&
		    EVP_EncryptUpdate(context, out, &length, data, (int)n) == 1 &&
		    EVP_EncryptFinal_ex(context, out + n, &length) == 1 &&
		    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG, out + n) == 1;
	EVP_CIPHER_CTX_free(context);
	return good ? TT_OK : no_cipher(err);
}

/* Of n bytes and a tag. False: it is not what was encrypted. */
static bool decrypt(const uint8_t key[TT_SECRET], const uint8_t nonce[NONCE], uint64_t begin, enum part part,
	const uint8_t *data, size_t n, uint8_t *out)
{
	uint8_t bound[9], tag[TAG];
	int length;
	bind(bound, begin, part);
	memcpy(tag, data + n, TAG);
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	bool good = context && EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
		    EVP_DecryptUpdate(context, NULL, &length, bound, sizeof bound) == 1 &&
		    EVP_DecryptUpdate(context, out, &length, data, (int)n) == 1 &&
		    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1 &&
		    EVP_DecryptFinal_ex(context, out + n, &length) == 1;
	EVP_CIPHER_CTX_free(context);
	return good;
}

/* A request's own key encrypts each part once, so the part's number is nonce enough. */
static void nonce_of(uint8_t out[NONCE], enum part part)
{
	memset(out, 0, NONCE);
	out[0] = (uint8_t)part;
}

/* ---- Keys of days */

static bool is_day(const char *name)
{
	return *name && strspn(name, "0123456789-.") == strlen(name) && *name != '.' && strlen(name) < TT_DAY_NAME;
}

static int key_path(char **out, const struct tt_payloads *p, const char *day, struct tt_error *err)
{
	if (!is_day(day))
		return tt_fail(err, TT_ERR_FORMAT, "%s is damaged: the name of a day's key", p->db->path);
	return tt_file_join(out, p->directory, day, err);
}

/* Makes a day's key, where there is none, and reads it. What is there may be of a process that was killed before it had
 * synced it. */
static int read_day(struct tt_payloads *p, const char *day, bool create, struct tt_error *err)
{
	char *path;
	uint8_t key[TT_SECRET + 1];
	int status = TT_OK;
	if (strcmp(p->day, day) == 0 && (!create || p->synced))
		return TT_OK;
	TT_TRY(key_path(&path, p, day, err));
	if (create && mkdir(p->directory, 0700) < 0 && errno != EEXIST)
		status = tt_fail_io(err, p->directory, "make the folder");
	else if (create)
		status = tt_file_sync_folder(p->directory, err);
	if (status == TT_OK && create && !tt_file_exists(path)) {
		status = tt_secret_make(key, err);
		if (status == TT_OK)
			status = tt_file_write_secret(path, key, TT_SECRET, err);
	}
	int file = status == TT_OK ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (status == TT_OK && file < 0)
		status = tt_fail_io(err, path, "open");
	if (file >= 0) {
		if (read(file, key, sizeof key) != TT_SECRET)
			status = tt_fail(err, TT_ERR_FORMAT, "%s is not the key of a day", path);
		close(file);
	}
	if (status == TT_OK && create)
		status = tt_file_sync_folder(path, err);
	if (status == TT_OK) {
		memcpy(p->key, key, TT_SECRET);
		snprintf(p->day, sizeof p->day, "%s", day);
		p->synced = create;
	}
	OPENSSL_cleanse(key, sizeof key);
	free(path);
	return status;
}

/* The name of the key that is in force for a date: DATE.GENERATION. */
static int day_of_date(struct tt_payloads *p, const char *date, char out[TT_DAY_NAME], bool renew, struct tt_error *err)
{
	int64_t generation;
	if (renew)
		TT_TRY(tt_sql_run(p->db,
			"INSERT INTO log_day (date, generation) VALUES (?, 2) "
			"ON CONFLICT (date) DO UPDATE SET generation = generation + 1",
			TT_SQL(tt_text(date)), err));
	TT_TRY(tt_sql_integer(p->db, "SELECT coalesce((SELECT generation FROM log_day WHERE date = ?), 1)",
		TT_SQL(tt_text(date)), &generation, err));
	if (snprintf(out, TT_DAY_NAME, "%s.%lld", date, (long long)generation) >= TT_DAY_NAME)
		return tt_fail(err, TT_ERR_FORMAT, "%s is damaged: the date of a day's key", p->db->path);
	return TT_OK;
}

static void date_of(char out[16], int64_t milliseconds)
{
	time_t seconds = (time_t)(milliseconds / 1000);
	struct tm utc;
	if (!gmtime_r(&seconds, &utc) || strftime(out, 16, "%Y-%m-%d", &utc) == 0)
		strcpy(out, "1970-01-01");
}

/* ---- Keeping */

static int wrap(const struct tt_payloads *p, uint64_t begin, const uint8_t keys[KEYS], uint8_t out[WRAPPED],
	struct tt_error *err)
{
	uint8_t random[TT_SECRET];
	TT_TRY(tt_secret_make(random, err));
	memcpy(out, random, NONCE);
	return encrypt(p->key, out, begin, PART_KEYS, keys, KEYS, out + NONCE, err);
}

/* Encrypts a part into an empty buffer. */
static int seal_part(struct tt_buffer *out, const uint8_t *key, uint64_t begin, enum part part, const void *data,
	size_t n, struct tt_error *err)
{
	uint8_t nonce[NONCE];
	if (!fits(n))
		return tt_fail(err, TT_ERR_LIMIT, "%zu bytes are too many to keep", n);
	nonce_of(nonce, part);
	TT_TRY(tt_grow(&out->data, &out->capacity, n + TAG + 1, 1, err));
	out->len = n + TAG;
	return encrypt(key, nonce, begin, part, data, n, (uint8_t *)out->data, err);
}

int tt_payload_add(struct tt_payloads *p, const struct tt_payload *payload, struct tt_error *err)
{
	char date[16], day[TT_DAY_NAME];
	uint8_t keys[KEYS], wrapped[WRAPPED];
	struct tt_buffer request = {0};
	struct tt_value kept = tt_null();
	date_of(date, payload->at);
	TT_TRY(day_of_date(p, date, day, false, err));
	TT_TRY(read_day(p, day, true, err));
	memcpy(keys, payload->open, TT_SECRET);
	TT_TRY(tt_secret_make(keys + TT_SECRET, err));
	int status = wrap(p, payload->begin, keys, wrapped, err);
	if (status == TT_OK && payload->request) {
		status = seal_part(&request, keys + TT_SECRET, payload->begin, PART_REQUEST, payload->request,
			payload->n_request, err);
		kept = tt_bytes(request.data, request.len);
	}
	OPENSSL_cleanse(keys, sizeof keys);
	if (status == TT_OK)
		status = tt_sql_run(p->db,
			"INSERT INTO log_payload (begin, day, owner, at, keys, request) VALUES (?, ?, ?, ?, ?, ?)",
			TT_SQL(tt_integer((int64_t)payload->begin), tt_text(day), tt_text(payload->owner),
				tt_integer(payload->at), tt_bytes(wrapped, sizeof wrapped), kept),
			err);
	tt_buffer_free(&request);
	return status;
}

static int damaged(const struct tt_payloads *p, uint64_t begin, struct tt_error *err)
{
	return tt_fail(err, TT_ERR_FORMAT, "%s is damaged: what is kept of request %llu", p->db->path,
		(unsigned long long)begin);
}

static int unwrap(struct tt_payloads *p, uint64_t begin, const char *day, const uint8_t *wrapped, size_t n,
	uint8_t keys[KEYS], struct tt_error *err)
{
	TT_TRY(read_day(p, day, false, err));
	if (n != WRAPPED || !decrypt(p->key, wrapped, begin, PART_KEYS, wrapped + NONCE, KEYS, keys))
		return damaged(p, begin, err);
	return TT_OK;
}

static int open_part(struct tt_payloads *p, struct tt_buffer *out, const uint8_t *key, uint64_t begin, enum part part,
	const struct tt_query *q, int column, struct tt_error *err)
{
	uint8_t nonce[NONCE];
	size_t n;
	const uint8_t *data = tt_query_bytes(q, column, &n);
	out->len = 0;
	if (tt_query_is_null(q, column))
		return TT_OK;
	if (n < TAG || !fits(n))
		return damaged(p, begin, err);
	nonce_of(nonce, part);
	TT_TRY(tt_grow(&out->data, &out->capacity, n + 1, 1, err));
	if (!decrypt(key, nonce, begin, part, data, n - TAG, (uint8_t *)out->data))
		return damaged(p, begin, err);
	out->len = n - TAG;
	out->data[out->len] = 0;
	return TT_OK;
}

static int read_row(struct tt_payloads *p, const struct tt_query *q, uint64_t begin, uint8_t keys[KEYS],
	struct tt_buffer *request, struct tt_buffer *result, struct tt_error *err)
{
	size_t n;
	const uint8_t *wrapped = tt_query_bytes(q, 1, &n);
	TT_TRY(unwrap(p, begin, tt_query_text(q, 0), wrapped, n, keys, err));
	TT_TRY(open_part(p, request, keys + TT_SECRET, begin, PART_REQUEST, q, 2, err));
	return open_part(p, result, keys + TT_SECRET, begin, PART_RESULT, q, 3, err);
}

static int look_up(struct tt_payloads *p, uint64_t begin, bool *found, uint8_t keys[KEYS], struct tt_buffer *request,
	struct tt_buffer *result, struct tt_error *err)
{
	struct tt_query q;
	int status = TT_OK;
	request->len = result->len = 0;
	TT_TRY(tt_query_open(&q, p->db, "SELECT day, keys, request, result FROM log_payload WHERE begin = ?",
		TT_SQL(tt_integer((int64_t)begin)), err));
	*found = tt_query_next(&q, err);
	if (*found)
		status = read_row(p, &q, begin, keys, request, result, err);
	int closed = tt_query_close(&q);
	return status != TT_OK ? status : closed;
}

int tt_payload_read(struct tt_payloads *p, uint64_t begin, bool *found, uint8_t open[TT_SECRET],
	struct tt_buffer *request, struct tt_buffer *result, struct tt_error *err)
{
	uint8_t keys[KEYS];
	int status = look_up(p, begin, found, keys, request, result, err);
	if (status == TT_OK && *found)
		memcpy(open, keys, TT_SECRET);
	OPENSSL_cleanse(keys, sizeof keys);
	return status;
}

/* The keys of a request whose body is kept; *found is false for others. */
static int look_up_keys(struct tt_payloads *p, uint64_t begin, bool *found, uint8_t keys[KEYS], struct tt_error *err)
{
	struct tt_query q;
	int status = TT_OK;
	TT_TRY(tt_query_open(&q, p->db, "SELECT day, keys FROM log_payload WHERE begin = ? AND request IS NOT NULL",
		TT_SQL(tt_integer((int64_t)begin)), err));
	*found = tt_query_next(&q, err);
	if (*found) {
		size_t n;
		const uint8_t *wrapped = tt_query_bytes(&q, 1, &n);
		status = unwrap(p, begin, tt_query_text(&q, 0), wrapped, n, keys, err);
	}
	int closed = tt_query_close(&q);
	return status != TT_OK ? status : closed;
}

int tt_payload_add_result(struct tt_payloads *p, uint64_t begin, const void *data, size_t n, struct tt_error *err)
{
	uint8_t keys[KEYS];
	bool found;
	struct tt_buffer sealed = {0};
	TT_TRY(look_up_keys(p, begin, &found, keys, err));
	if (!found)
		return TT_OK;
	int status = seal_part(&sealed, keys + TT_SECRET, begin, PART_RESULT, data, n, err);
	OPENSSL_cleanse(keys, sizeof keys);
	if (status == TT_OK)
		status = tt_sql_run(p->db, "UPDATE log_payload SET result = ? WHERE begin = ?",
			TT_SQL(tt_bytes(sealed.data, sealed.len), tt_integer((int64_t)begin)), err);
	tt_buffer_free(&sealed);
	return status;
}

/* ---- Erasing: in pieces, between which others write. What is to go is deleted last, so that if this is stopped, the
 * same can be asked for again. */

enum { PIECE = 1000 }; /* rows of a transaction */

/* Lists what is to go, and the days by whose keys it is wrapped. Such lists are this connection's own. */
static int list_doomed(struct tt_payloads *p, const struct tt_erasure *erasure, struct tt_error *err)
{
	static const char *const fresh[] = {"CREATE TEMP TABLE IF NOT EXISTS log_doomed (begin INTEGER PRIMARY KEY)",
		"CREATE TEMP TABLE IF NOT EXISTS log_touched (day TEXT PRIMARY KEY)", "DELETE FROM temp.log_doomed",
		"DELETE FROM temp.log_touched"};
	const size_t n = erasure->begins ? erasure->n_begins : 1;
	for (size_t i = 0; i < sizeof fresh / sizeof *fresh; i++)
		TT_TRY(tt_sql_run(p->db, fresh[i], TT_SQL_NONE, err));
	for (size_t i = 0; i < n; i++)
		TT_TRY(tt_sql_run(p->db,
			"INSERT OR IGNORE INTO temp.log_doomed (begin) SELECT begin FROM log_payload WHERE "
			"(?1 IS NULL OR begin = ?1) AND (?2 IS NULL OR owner = ?2) AND (?3 IS NULL OR at < ?3)",
			TT_SQL(erasure->begins ? tt_integer((int64_t)erasure->begins[i]) : tt_null(),
				tt_text(erasure->owner), erasure->before ? tt_integer(erasure->before) : tt_null()),
			err));
	return tt_sql_run(p->db,
		"INSERT INTO temp.log_touched (day) SELECT DISTINCT day FROM log_payload WHERE EXISTS "
		"(SELECT 1 FROM temp.log_doomed AS doomed WHERE doomed.begin = log_payload.begin)",
		TT_SQL_NONE, err);
}

/* The next row of a day after `after` that stays, under another key, which fresh keeps from row to row. */
static int wrap_next(struct tt_payloads *p, struct tt_payloads *fresh, const char *day, const char *new_day,
	int64_t *after, bool *more, struct tt_error *err)
{
	struct tt_query q;
	uint8_t keys[KEYS], wrapped[WRAPPED];
	uint64_t begin = 0;
	int status = TT_OK;
	TT_TRY(tt_query_open(&q, p->db,
		"SELECT keys, begin FROM log_payload WHERE day = ? AND begin > ? AND NOT EXISTS "
		"(SELECT 1 FROM temp.log_doomed AS doomed WHERE doomed.begin = log_payload.begin) "
		"ORDER BY begin LIMIT 1",
		TT_SQL(tt_text(day), tt_integer(*after)), err));
	*more = tt_query_next(&q, err);
	if (*more) {
		size_t n;
		const uint8_t *old = tt_query_bytes(&q, 0, &n);
		*after = tt_query_integer(&q, 1);
		begin = (uint64_t)*after;
		status = unwrap(p, begin, day, old, n, keys, err);
	}
	int closed = tt_query_close(&q);
	status = status != TT_OK ? status : closed;
	if (!*more || status != TT_OK)
		return status;
	status = read_day(fresh, new_day, true, err);
	if (status == TT_OK)
		status = wrap(fresh, begin, keys, wrapped, err);
	OPENSSL_cleanse(keys, sizeof keys);
	TT_TRY(status);
	return tt_sql_run(p->db, "UPDATE log_payload SET day = ?, keys = ? WHERE begin = ?",
		TT_SQL(tt_text(new_day), tt_bytes(wrapped, sizeof wrapped), tt_integer((int64_t)begin)), err);
}

/* Rows that follow `after`, within the open transaction. From the first piece on no row is added under the old key. */
static int wrap_piece(struct tt_payloads *p, const char *day, int64_t *after, bool *more, struct tt_error *err)
{
	char date[TT_DAY_NAME], new_day[TT_DAY_NAME];
	snprintf(date, sizeof date, "%.31s", day);
	date[strcspn(date, ".")] = 0;
	TT_TRY(day_of_date(p, date, new_day, false, err));
	if (strcmp(day, new_day) == 0)
		TT_TRY(day_of_date(p, date, new_day, true, err));
	struct tt_payloads fresh = {.db = p->db, .directory = p->directory};
	int status = TT_OK;
	for (int i = 0; status == TT_OK && *more && i < PIECE; i++)
		status = wrap_next(p, &fresh, day, new_day, after, more, err);
	OPENSSL_cleanse(fresh.key, sizeof fresh.key);
	return status;
}

static int renew_day(struct tt_payloads *p, const char *day, struct tt_error *err)
{
	int64_t after = -1;
	bool more = true;
	if (!is_day(day))
		return tt_fail(err, TT_ERR_FORMAT, "%s is damaged: the name of a day's key", p->db->path);
	while (more) {
		TT_TRY(tt_database_begin_piece(p->db, err));
		TT_TRY(tt_database_end(p->db, wrap_piece(p, day, &after, &more, err), err));
	}
	return TT_OK;
}

static int renew_days(struct tt_payloads *p, struct tt_error *err)
{
	for (;;) {
		char day[TT_DAY_NAME];
		struct tt_query q;
		TT_TRY(tt_query_open(&q, p->db, "SELECT day FROM temp.log_touched LIMIT 1", TT_SQL_NONE, err));
		bool found = tt_query_next(&q, err);
		if (found)
			snprintf(day, TT_DAY_NAME, "%s", tt_query_text(&q, 0));
		TT_TRY(tt_query_close(&q));
		if (!found)
			return TT_OK;
		TT_TRY(renew_day(p, day, err));
		TT_TRY(tt_sql_run(p->db, "DELETE FROM temp.log_touched WHERE day = ?", TT_SQL(tt_text(day)), err));
	}
}

/* Within the open transaction. */
static int delete_piece(struct tt_payloads *p, const struct tt_erasure *erasure, uint64_t *n, struct tt_error *err)
{
	static const char *const deletions[] = {
		"DELETE FROM log_payload WHERE begin IN (SELECT begin FROM temp.log_doomed ORDER BY begin LIMIT ?)",
		"DELETE FROM temp.log_doomed WHERE begin IN (SELECT begin FROM temp.log_doomed ORDER BY begin LIMIT "
		"?)"};
	TT_TRY(tt_sql_run(p->db, deletions[0], TT_SQL(tt_integer(PIECE)), err));
	const uint64_t deleted = (uint64_t)tt_sql_changes(p->db);
	TT_TRY(tt_sql_run(p->db, deletions[1], TT_SQL(tt_integer(PIECE)), err));
	*n += deleted;
	return erasure->tell ? erasure->tell(erasure->user, deleted, err) : TT_OK;
}

static int delete_doomed(struct tt_payloads *p, const struct tt_erasure *erasure, uint64_t *n, struct tt_error *err)
{
	int64_t left = 1;
	while (left) {
		TT_TRY(tt_database_begin_piece(p->db, err));
		TT_TRY(tt_database_end(p->db, delete_piece(p, erasure, n, err), err));
		TT_TRY(tt_sql_integer(p->db, "SELECT count(*) FROM temp.log_doomed", TT_SQL_NONE, &left, err));
	}
	return TT_OK;
}

/* Whether a key of this name is of use: it wraps something, or is in force. */
static int is_used(struct tt_payloads *p, const char *day, bool *used, struct tt_error *err)
{
	char date[TT_DAY_NAME], current[TT_DAY_NAME];
	int64_t n;
	TT_TRY(tt_sql_integer(p->db, "SELECT count(*) FROM (SELECT 1 FROM log_payload WHERE day = ? LIMIT 1)",
		TT_SQL(tt_text(day)), &n, err));
	snprintf(date, sizeof date, "%.31s", day);
	date[strcspn(date, ".")] = 0;
	TT_TRY(day_of_date(p, date, current, false, err));
	*used = n > 0 || strcmp(current, day) == 0;
	return TT_OK;
}

static const char doomed[] = ".doomed"; /* after the name of a day: its key is no key any more */

static bool is_doomed(const char *name)
{
	size_t n = strlen(name), end = sizeof doomed - 1;
	return n > end && strcmp(name + n - end, doomed) == 0;
}

/* Zeros first: a file system may keep a file's bytes when its name is gone. */
static int destroy_file(const char *path, struct tt_error *err)
{
	static const uint8_t zeros[TT_SECRET];
	int file = open(path, O_WRONLY | O_CLOEXEC), status = TT_OK;
	if (file < 0 && errno != ENOENT) {
		return tt_fail_io(err, path, "open");
	} else if (file >= 0) {
		if (tt_file_write_all(file, zeros, sizeof zeros) < 0 || fsync(file) < 0)
			status = tt_fail_io(err, path, "overwrite");
		close(file);
	}
	if (status == TT_OK && unlink(path) < 0 && errno != ENOENT)
		status = tt_fail_io(err, path, "remove");
	return status;
}

/* Renames it before anything of it is overwritten: who is stopped midway leaves no zeros that are taken for the key of
 * a day, and whoever erases next goes on with it. */
static int doom(char **out, const struct tt_payloads *p, const char *day, struct tt_error *err)
{
	char *path, name[TT_DAY_NAME + sizeof doomed];
	snprintf(name, sizeof name, "%.*s%s", TT_DAY_NAME - 1, day, doomed);
	TT_TRY(key_path(&path, p, day, err));
	int status = tt_file_join(out, p->directory, name, err);
	if (status == TT_OK && rename(path, *out) < 0 && errno != ENOENT)
		status = tt_fail_io(err, path, "rename");
	if (status == TT_OK)
		status = tt_file_sync_folder(path, err);
	free(path);
	return status;
}

/* name: of a file of the folder, either a day's or one that was renamed for this. */
static int destroy(const struct tt_payloads *p, const char *name, struct tt_error *err)
{
	char *path = NULL;
	int status = is_day(name) ? doom(&path, p, name, err) : tt_file_join(&path, p->directory, name, err);
	if (status == TT_OK)
		status = destroy_file(path, err);
	free(path);
	return status;
}

/* Destroys the keys that wrap nothing any more, and takes what was deleted out of the database's files. */
static int forget(struct tt_payloads *p, struct tt_error *err)
{
	int status = TT_OK;
	DIR *folder = opendir(p->directory);
	if (!folder && errno != ENOENT)
		status = tt_fail_io(err, p->directory, "open");
	while (status == TT_OK && folder) {
		errno = 0;
		const struct dirent *entry = readdir(folder);
		if (!entry && errno)
			status = tt_fail_io(err, p->directory, "read");
		if (!entry)
			break;
		bool used = !is_doomed(entry->d_name);
		if (is_day(entry->d_name))
			status = is_used(p, entry->d_name, &used, err);
		if (status == TT_OK && !used)
			status = destroy(p, entry->d_name, err);
	}
	if (folder)
		closedir(folder);
	p->day[0] = 0; /* its file may be gone */
	int64_t busy = 0;
	if (status == TT_OK)
		status = tt_sql_integer(p->db, "PRAGMA wal_checkpoint(TRUNCATE)", TT_SQL_NONE, &busy, err);
	if (status == TT_OK && busy)
		return tt_fail(err, TT_ERR_IO, "%s: another program reads it and does not come to an end", p->db->path);
	return status;
}

/* The process that has the lock, as it has written there; 0: it has not. */
static long holder_of(const struct tt_append_log *lock)
{
	uint64_t size;
	char text[24] = "";
	if (tt_append_log_size(lock, &size, NULL) != TT_OK || size == 0 || size >= sizeof text ||
		tt_append_log_read(lock, 0, text, (size_t)size) < 0)
		return 0;
	return strtol(text, NULL, 10);
}

/* Waits for another one, who is told of after a second. */
static int wait_lock(struct tt_append_log *lock, const struct tt_erasure *erasure, struct tt_error *err)
{
	enum { TRIES = 50 };
	for (int i = 0; erasure->waits && i < TRIES; i++) {
		if (tt_append_log_lock(lock, NULL) == TT_OK)
			return TT_OK;
		tt_sleep(0.02);
	}
	if (erasure->waits)
		erasure->waits(erasure->user, holder_of(lock));
	return tt_append_log_wait_lock(lock, err);
}

/* For who waits. A full disk is no reason not to erase. */
static void say_holder(struct tt_append_log *lock)
{
	char text[24];
	int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
	lock->end = 0;
	if (tt_append_log_cut(lock, NULL) == TT_OK)
		(void)tt_append_log_add(lock, text, (size_t)n);
}

/* Of two that erase at the same time one would destroy keys that the other has just made. */
static int lock_erasing(
	struct tt_append_log *lock, const struct tt_payloads *p, const struct tt_erasure *erasure, struct tt_error *err)
{
	char *folder, *path;
	TT_TRY(tt_file_folder(&folder, p->db->path, err));
	int status = tt_file_join(&path, folder, "erase.lock", err);
	free(folder);
	TT_TRY(status);
	lock->path = path;
	TT_TRY(tt_append_log_open(lock, true, err));
	TT_TRY(wait_lock(lock, erasure, err));
	say_holder(lock);
	return TT_OK;
}

int tt_payloads_erase(struct tt_payloads *p, const struct tt_erasure *erasure, uint64_t *n, struct tt_error *err)
{
	struct tt_append_log lock = {.file = -1};
	*n = 0;
	int status = lock_erasing(&lock, p, erasure, err);
	if (status == TT_OK)
		status = list_doomed(p, erasure, err);
	if (status == TT_OK)
		status = renew_days(p, err);
	if (status == TT_OK)
		status = delete_doomed(p, erasure, n, err);
	if (status == TT_OK)
		status = forget(p, err);
	tt_append_log_close(&lock);
	free((char *)(uintptr_t)lock.path);
	return status;
}
