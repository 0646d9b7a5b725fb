/* jansson with the settings that untrusted text needs, and field readers that name the field they refuse. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/tt_error.h"

/* Parses text of n bytes. Refuses duplicate keys and anything after the value. what names the source in messages. *out
 * is a new reference. */
int tt_json_parse(json_t **out, const char *text, size_t n, const char *what, struct tt_error *err);

/* Takes over value and writes it with jansson's flags into a new text (free()). NULL, which jansson gives for a value
 * without memory, is TT_ERR_MEMORY. (json_dumps silently omits a key for which it has no memory.) */
int tt_json_dump(char **out, json_t *value, size_t flags, struct tt_error *err);

/* Reads and parses a file of at most max_bytes. */
int tt_json_load(json_t **out, const char *path, size_t max_bytes, struct tt_error *err);

enum { TT_MAX_JSON_LINE = 1 << 24 }; /* bytes */

struct tt_json_line {
	uint32_t number;  /* from 1 */
	const char *text; // [n] without its end
	size_t n;
	const json_t *value;
};
typedef int (*tt_json_line_fn)(void *user, const struct tt_json_line *line, struct tt_error *err);

/* Parses each line of a text of n bytes that is not blank. Messages, those of take too, begin with "path:number: ". */
int tt_json_lines(const char *path, const char *text, size_t n, tt_json_line_fn take, void *user, struct tt_error *err);

/* What to say behind the message of a bad line: "", but for a first one that shows another form, a list or a table. */
const char *tt_json_line_hint(const char *line, size_t n, uint64_t number);

/* Takes over value and puts it under key. NULL, which jansson gives for text that is not UTF-8 or without memory, is
 * TT_ERR_FORMAT. */
int tt_json_set(json_t *object, const char *key, json_t *value, struct tt_error *err);
/* Takes over more and puts all that it has into object. Errors as those of tt_json_set, also where object is NULL. */
int tt_json_add(json_t *object, json_t *more, struct tt_error *err);

/* Field readers: an absent (or null) field leaves *out as it was and is no error; a wrong type or range is. */
int tt_json_u32(const json_t *object, const char *key, uint32_t min, uint32_t max, uint32_t *out, struct tt_error *err);
int tt_json_float(const json_t *object, const char *key, double min, double max, float *out, struct tt_error *err);
int tt_json_any_float(const json_t *object, const char *key, float *out, struct tt_error *err); /* in any range */
int tt_json_bool(const json_t *object, const char *key, bool *out, struct tt_error *err);
/* *out is borrowed from object. */
int tt_json_string(const json_t *object, const char *key, const char **out, struct tt_error *err);
/* Whether the object has the key; null counts as absent. */
bool tt_json_has(const json_t *object, const char *key);

/* A finite number; null for what JSON has no word for. */
json_t *tt_json_number(double value);

/* For what this program wrote itself: object[key], or object[key][inner] with inner not NULL; fallback when it is
 * none. */
double tt_json_number_or(const json_t *object, const char *key, const char *inner, double fallback);
const char *tt_json_string_or(const json_t *object, const char *key, const char *fallback);

#endif
