#include "base/json.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/lines.h"

int tt_json_parse(json_t **out, const char *text, size_t n, const char *what, struct tt_error *err)
{
	json_error_t where = {0};
	json_t *value = json_loadb(text ? text : "", n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
	/* For most of its values jansson gives no message when it lacks memory. */
	if (!value && (!*where.text || json_error_code(&where) == json_error_out_of_memory))
		return tt_fail(err, TT_ERR_MEMORY, "%s: out of memory: JSON of %zu bytes", what, n);
	if (!value)
		return tt_fail(err, TT_ERR_FORMAT, "%s: not valid JSON: line %d column %d: %s", what, where.line,
			where.column, where.text);
	*out = value;
	return TT_OK;
}

struct dump {
	struct tt_buffer text;
	int status;
	struct tt_error *err;
};

static int add(const char *text, size_t n, void *user)
{
	struct dump *dump = user;
	if (dump->status == TT_OK)
		dump->status = tt_buffer_add(&dump->text, text, n, dump->err);
	return dump->status == TT_OK ? 0 : -1;
}

int tt_json_dump(char **out, json_t *value, size_t flags, struct tt_error *err)
{
	struct dump dump = {.err = err};
	if (json_dump_callback(value, add, &dump, flags) < 0 && dump.status == TT_OK)
		dump.status = tt_fail(
			err, TT_ERR_MEMORY, "JSON cannot be written: out of memory, or a text that is not UTF-8");
	json_decref(value);
	if (dump.status == TT_OK)
		*out = dump.text.data;
	else
		tt_buffer_free(&dump.text);
	return dump.status;
}

int tt_json_set(json_t *object, const char *key, json_t *value, struct tt_error *err)
{
	if (json_object_set_new(object, key, value) < 0)
		return tt_fail(err, TT_ERR_FORMAT, "%s: not UTF-8, or out of memory", key);
	return TT_OK;
}

int tt_json_add(json_t *object, json_t *more, struct tt_error *err)
{
	int failed = json_object_update(object, more);
	json_decref(more);
	return failed ? tt_fail(err, TT_ERR_FORMAT, "not UTF-8, or out of memory") : TT_OK;
}

int tt_json_load(json_t **out, const char *path, size_t max_bytes, struct tt_error *err)
{
	struct tt_buffer text = {0};
	int status = tt_file_read(&text, path, max_bytes, err);
	if (status == TT_OK)
		status = tt_json_parse(out, text.data, text.len, path, err);
	tt_buffer_free(&text);
	return status;
}

static bool is_blank(const char *line, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
			return false;
	return true;
}

static int take_line(
	const char *line, size_t n, uint32_t number, tt_json_line_fn take, void *user, struct tt_error *err)
{
	json_t *value = NULL;
	if (is_blank(line, n))
		return TT_OK;
	if (n > TT_MAX_JSON_LINE)
		return tt_fail(err, TT_ERR_LIMIT, "the line is longer than %d bytes", TT_MAX_JSON_LINE);
	TT_TRY(tt_json_parse(&value, line, n, "row", err));
	int status = take(user, &(struct tt_json_line){number, line, n, value}, err);
	json_decref(value);
	return status;
}

const char *tt_json_line_hint(const char *line, size_t n, uint64_t number)
{
	size_t i = 0;
	while (i < n && (line[i] == ' ' || line[i] == '\t'))
		i++;
	return number > 1 || i == n || line[i] == '{' ? "" : "; rows are JSON lines, an object on each line";
}

int tt_json_lines(const char *path, const char *text, size_t n, tt_json_line_fn take, void *user, struct tt_error *err)
{
	TT_TRY(tt_refuse_gzip(path, text, n, err));
	for (uint32_t number = 1; n > 0; number++) {
		const char *end = memchr(text, '\n', n);
		size_t n_line = end ? (size_t)(end - text) : n;
		int status = take_line(text, n_line, number, take, user, err);
		if (status != TT_OK) {
			struct tt_error inner = err ? *err : (struct tt_error){0};
			return tt_fail(err, status, "%s:%u: %s%s", path, number, inner.message,
				status == TT_ERR_FORMAT ? tt_json_line_hint(text, n_line, number) : "");
		}
		n_line += end != NULL;
		text += n_line;
		n -= n_line;
	}
	return TT_OK;
}

/* The field, or NULL when it is absent or null. */
static const json_t *field(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	return json_is_null(value) ? NULL : value;
}

int tt_json_u32(const json_t *object, const char *key, uint32_t min, uint32_t max, uint32_t *out, struct tt_error *err)
{
	const json_t *value = field(object, key);
	if (!value)
		return TT_OK;
	if (!json_is_integer(value) || json_integer_value(value) < min || json_integer_value(value) > max)
		return tt_fail(err, TT_ERR_FORMAT, "%s must be an integer from %u to %u", key, min, max);
	*out = (uint32_t)json_integer_value(value);
	return TT_OK;
}

int tt_json_float(const json_t *object, const char *key, double min, double max, float *out, struct tt_error *err)
{
	const json_t *value = field(object, key);
	if (!value)
		return TT_OK;
	double number = json_number_value(value);
	if (!json_is_number(value) || !isfinite(number) || number < min || number > max)
		return tt_fail(err, TT_ERR_FORMAT, "%s must be a number from %g to %g", key, min, max);
	*out = (float)number;
	return TT_OK;
}

int tt_json_any_float(const json_t *object, const char *key, float *out, struct tt_error *err)
{
	const json_t *value = field(object, key);
	if (!value)
		return TT_OK;
	if (!json_is_number(value))
		return tt_fail(err, TT_ERR_FORMAT, "%s must be a number", key);
	*out = (float)fmax(-FLT_MAX, fmin(FLT_MAX, json_number_value(value)));
	return TT_OK;
}

int tt_json_bool(const json_t *object, const char *key, bool *out, struct tt_error *err)
{
	const json_t *value = field(object, key);
	if (!value)
		return TT_OK;
	if (!json_is_boolean(value))
		return tt_fail(err, TT_ERR_FORMAT, "%s must be true or false", key);
	*out = json_is_true(value);
	return TT_OK;
}

int tt_json_string(const json_t *object, const char *key, const char **out, struct tt_error *err)
{
	const json_t *value = field(object, key);
	if (!value)
		return TT_OK;
	if (!json_is_string(value))
		return tt_fail(err, TT_ERR_FORMAT, "%s must be a string", key);
	*out = json_string_value(value);
	return TT_OK;
}

json_t *tt_json_number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

double tt_json_number_or(const json_t *object, const char *key, const char *inner, double fallback)
{
	const json_t *value = json_object_get(object, key);
	if (inner)
		value = json_object_get(value, inner);
	return json_is_number(value) ? json_number_value(value) : fallback;
}

bool tt_json_has(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	return value && !json_is_null(value);
}

const char *tt_json_string_or(const json_t *object, const char *key, const char *fallback)
{
	const char *value = json_string_value(json_object_get(object, key));
	return value ? value : fallback;
}
