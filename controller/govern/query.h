/* SQL with values. A statement is prepared once and kept by its database, so its text must be a literal or live as
 * long.
 *
 *     TT_TRY(tt_sql_run(db, "INSERT INTO kill (name, at) VALUES (?, ?)", TT_SQL(tt_text(name), tt_integer(now)), err));
 *
 *     struct tt_query q;
 *     TT_TRY(tt_query_open(&q, db, "SELECT name FROM kill WHERE at > ?", TT_SQL(tt_integer(since)), err));
 *     while (tt_query_next(&q, err))
 *             take(tt_query_text(&q, 0));
 *     return tt_query_close(&q);
 */
#ifndef CONTROLLER_GOVERN_QUERY_H
#define CONTROLLER_GOVERN_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "controller/govern/database.h"

/* A value for a question mark. Text and bytes are borrowed until the statement is done. */
struct tt_value {
	enum { TT_VALUE_NULL, TT_VALUE_INTEGER, TT_VALUE_REAL, TT_VALUE_TEXT, TT_VALUE_BYTES } kind;
	int64_t integer;
	double real;
	const void *data;
	size_t n;
};

struct tt_values {
	const struct tt_value *list; // [n]
	size_t n;
};

#define TT_SQL(...)                                                                                                    \
	((struct tt_values){(const struct tt_value[]){__VA_ARGS__},                                                    \
		sizeof((const struct tt_value[]){__VA_ARGS__}) / sizeof(struct tt_value)})
#define TT_SQL_NONE ((struct tt_values){NULL, 0})

struct tt_value tt_null(void);
struct tt_value tt_integer(int64_t value);
struct tt_value tt_real(double value);
struct tt_value tt_text(const char *text); /* NULL: null */
struct tt_value tt_bytes(const void *data, size_t n);

/* A statement without rows. */
int tt_sql_run(struct tt_database *db, const char *sql, struct tt_values values, struct tt_error *err);
/* A statement that gives one row with one number; TT_ERR_FORMAT where it gives none. */
int tt_sql_integer(
	struct tt_database *db, const char *sql, struct tt_values values, int64_t *out, struct tt_error *err);
/* How many rows the last statement has written. */
int64_t tt_sql_changes(const struct tt_database *db);

struct tt_query {
	struct tt_database *db;
	struct tt_prepared *kept; /* NULL: the handle is this query's own */
	struct sqlite3_stmt *handle;
	int status; /* the first error's code */
};

int tt_query_open(
	struct tt_query *q, struct tt_database *db, const char *sql, struct tt_values values, struct tt_error *err);
/* Whether there is a further row. An error ends the rows; tt_query_close returns it. */
bool tt_query_next(struct tt_query *q, struct tt_error *err);
int tt_query_close(struct tt_query *q);

/* Columns of the row, from 0; of another type than asked for they are what SQLite makes of them, and never NULL but
 * for tt_query_bytes without bytes. Valid until the next row. A text may hold a 0, and ends there. */
int64_t tt_query_integer(const struct tt_query *q, int column);
double tt_query_real(const struct tt_query *q, int column);
const char *tt_query_text(const struct tt_query *q, int column);
const void *tt_query_bytes(const struct tt_query *q, int column, size_t *n);
bool tt_query_is_null(const struct tt_query *q, int column);

#endif
