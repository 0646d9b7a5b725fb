#include "controller/govern/query.h"

#include <sqlite3.h>
#include <string.h>

#include "base/fail.h"

struct tt_value tt_null(void)
{
	return (struct tt_value){.kind = TT_VALUE_NULL};
}

struct tt_value tt_integer(int64_t value)
{
	return (struct tt_value){.kind = TT_VALUE_INTEGER, .integer = value};
}

struct tt_value tt_real(double value)
{
	return (struct tt_value){.kind = TT_VALUE_REAL, .real = value};
}

struct tt_value tt_text(const char *text)
{
	return (struct tt_value){
		.kind = text ? TT_VALUE_TEXT : TT_VALUE_NULL,
		.data = text,
		.n = text ? strlen(text) : 0,
	};
}

struct tt_value tt_bytes(const void *data, size_t n)
{
	return (struct tt_value){.kind = TT_VALUE_BYTES, .data = data, .n = n};
}

static int bind(struct sqlite3_stmt *handle, int at, const struct tt_value *value)
{
	switch (value->kind) {
	case TT_VALUE_INTEGER:
		return sqlite3_bind_int64(handle, at, value->integer);
	case TT_VALUE_REAL:
		return sqlite3_bind_double(handle, at, value->real);
	case TT_VALUE_TEXT:
		return sqlite3_bind_text64(handle, at, value->data, value->n, SQLITE_STATIC, SQLITE_UTF8);
	case TT_VALUE_BYTES:
		return value->n ? sqlite3_bind_blob64(handle, at, value->data, value->n, SQLITE_STATIC)
				: sqlite3_bind_zeroblob(handle, at, 0);
	default:
		return sqlite3_bind_null(handle, at);
	}
}

/* The kept statement of this text, if it is free; else one that the caller finalises. */
static int prepare(struct tt_query *q, const char *sql, struct tt_error *err)
{
	struct tt_database *db = q->db;
	bool is_kept = false;
	for (size_t i = 0; i < db->n_prepared; i++) {
		struct tt_prepared *kept = &db->prepared[i];
		is_kept = is_kept || kept->sql == sql;
		if (kept->sql != sql || kept->in_use)
			continue;
		kept->in_use = true;
		q->kept = kept;
		q->handle = kept->handle;
		return TT_OK;
	}
	int code = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &q->handle, NULL);
	if (code != SQLITE_OK)
		return tt_database_fail(db, code, err);
	if (!is_kept && db->n_prepared < TT_DATABASE_STATEMENTS) {
		q->kept = &db->prepared[db->n_prepared++];
		*q->kept = (struct tt_prepared){sql, q->handle, true};
	}
	return TT_OK;
}

int tt_query_open(
	struct tt_query *q, struct tt_database *db, const char *sql, struct tt_values values, struct tt_error *err)
{
	*q = (struct tt_query){.db = db};
	TT_TRY(prepare(q, sql, err));
	for (size_t i = 0; i < values.n; i++) {
		int code = bind(q->handle, (int)i + 1, &values.list[i]);
		if (code != SQLITE_OK) {
			q->status = tt_database_fail(db, code, err);
			return tt_query_close(q);
		}
	}
	return TT_OK;
}

bool tt_query_next(struct tt_query *q, struct tt_error *err)
{
	int code = q->status == TT_OK ? sqlite3_step(q->handle) : SQLITE_DONE;
	if (code != SQLITE_ROW && code != SQLITE_DONE)
		q->status = tt_database_fail(q->db, code, err);
	return code == SQLITE_ROW;
}

int tt_query_close(struct tt_query *q)
{
	if (q->kept) {
		sqlite3_reset(q->handle);
		sqlite3_clear_bindings(q->handle);
		q->kept->in_use = false;
	} else {
		sqlite3_finalize(q->handle);
	}
	q->kept = NULL;
	q->handle = NULL;
	return q->status;
}

int64_t tt_query_integer(const struct tt_query *q, int column)
{
	return sqlite3_column_int64(q->handle, column);
}

double tt_query_real(const struct tt_query *q, int column)
{
	return sqlite3_column_double(q->handle, column);
}

const char *tt_query_text(const struct tt_query *q, int column)
{
	const unsigned char *text = sqlite3_column_text(q->handle, column);
	return text ? (const char *)text : "";
}

const void *tt_query_bytes(const struct tt_query *q, int column, size_t *n)
{
	const void *data = sqlite3_column_blob(q->handle, column); /* before the length, which it may change */
	*n = data ? (size_t)sqlite3_column_bytes(q->handle, column) : 0;
	return data;
}

bool tt_query_is_null(const struct tt_query *q, int column)
{
	return sqlite3_column_type(q->handle, column) == SQLITE_NULL;
}

int tt_sql_run(struct tt_database *db, const char *sql, struct tt_values values, struct tt_error *err)
{
	struct tt_query q;
	TT_TRY(tt_query_open(&q, db, sql, values, err));
	while (tt_query_next(&q, err))
		continue;
	return tt_query_close(&q);
}

int tt_sql_integer(struct tt_database *db, const char *sql, struct tt_values values, int64_t *out, struct tt_error *err)
{
	struct tt_query q;
	TT_TRY(tt_query_open(&q, db, sql, values, err));
	if (tt_query_next(&q, err))
		*out = tt_query_integer(&q, 0);
	else if (q.status == TT_OK)
		q.status = tt_fail(err, TT_ERR_FORMAT, "%s: a row is missing", db->path);
	return tt_query_close(&q);
}

int64_t tt_sql_changes(const struct tt_database *db)
{
	return sqlite3_changes64(db->handle);
}
