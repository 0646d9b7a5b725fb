/* Typed reads of GGUF metadata; gguf.c has checked that every value lies in the file. */
#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "weights/gguf.h"

/* False for a value that is not an integer. *negative says how to read *out, the value's 64 bits. */
static bool integer_value(const struct tt_gguf_value *value, uint64_t *out, bool *negative)
{
	const uint8_t *p = value->data;
	int64_t whole = 0;
	switch (value->kind) {
	case TT_GGUF_U8:
		whole = p[0];
		break;
	case TT_GGUF_I8:
		whole = (int8_t)p[0];
		break;
	case TT_GGUF_U16:
		whole = p[0] | p[1] << 8;
		break;
	case TT_GGUF_I16:
		whole = (int16_t)(p[0] | p[1] << 8);
		break;
	case TT_GGUF_U32: {
		uint32_t number;
		memcpy(&number, p, sizeof number);
		whole = number;
		break;
	}
	case TT_GGUF_I32: {
		int32_t number;
		memcpy(&number, p, sizeof number);
		whole = number;
		break;
	}
	case TT_GGUF_U64:
	case TT_GGUF_I64:
		memcpy(&whole, p, sizeof whole);
		break;
	default:
		return false;
	}
	*negative = whole < 0 && value->kind != TT_GGUF_U64;
	*out = (uint64_t)whole;
	return true;
}

int tt_gguf_u32(
	const struct tt_gguf *file, const char *key, uint32_t min, uint32_t max, uint32_t *out, struct tt_error *err)
{
	const struct tt_gguf_value *value = tt_gguf_find(file, key);
	uint64_t number;
	bool negative;
	if (!value)
		return TT_OK;
	if (!integer_value(value, &number, &negative))
		return tt_fail(err, TT_ERR_FORMAT, "key %s is not an integer", key);
	if (negative)
		return tt_fail(
			err, TT_ERR_FORMAT, "key %s is %lld, not from %u to %u", key, (long long)number, min, max);
	if (number < min || number > max)
		return tt_fail(err, TT_ERR_FORMAT, "key %s is %llu, not from %u to %u", key, (unsigned long long)number,
			min, max);
	*out = (uint32_t)number;
	return TT_OK;
}

int tt_gguf_float(const struct tt_gguf *file, const char *key, float *out, struct tt_error *err)
{
	const struct tt_gguf_value *value = tt_gguf_find(file, key);
	if (!value)
		return TT_OK;
	if (value->kind != TT_GGUF_F32 && value->kind != TT_GGUF_F64)
		return tt_fail(err, TT_ERR_FORMAT, "key %s is not a floating-point number", key);
	float number = (float)tt_gguf_number(value, 0);
	if (!isfinite(number))
		return tt_fail(err, TT_ERR_FORMAT, "key %s is not a finite number", key);
	*out = number;
	return TT_OK;
}

int tt_gguf_bool(const struct tt_gguf *file, const char *key, bool *out, struct tt_error *err)
{
	const struct tt_gguf_value *value = tt_gguf_find(file, key);
	if (!value)
		return TT_OK;
	if (value->kind != TT_GGUF_BOOL)
		return tt_fail(err, TT_ERR_FORMAT, "key %s is not a bool", key);
	*out = value->data[0] != 0;
	return TT_OK;
}

int tt_gguf_text(const struct tt_gguf *file, const char *key, struct tt_gguf_string *out, struct tt_error *err)
{
	const struct tt_gguf_value *value = tt_gguf_find(file, key);
	if (!value)
		return TT_OK;
	if (value->kind != TT_GGUF_STRING)
		return tt_fail(err, TT_ERR_FORMAT, "key %s is not a string", key);
	const uint8_t *cursor = value->data;
	*out = tt_gguf_next_string(&cursor);
	return TT_OK;
}

struct tt_gguf_string tt_gguf_next_string(const uint8_t **cursor)
{
	uint64_t len;
	memcpy(&len, *cursor, sizeof len);
	struct tt_gguf_string string = {(const char *)*cursor + sizeof len, (size_t)len};
	*cursor += sizeof len + len;
	return string;
}

double tt_gguf_number(const struct tt_gguf_value *value, uint64_t i)
{
	const uint8_t *p = value->data;
	/* One element, as a scalar that integer_value can read. */
	struct tt_gguf_value element = {.kind = value->element};
	uint64_t number = 0;
	bool negative = false;
	if (i >= value->count)
		return 0;
	switch (value->element) {
	case TT_GGUF_F32: {
		float single;
		memcpy(&single, p + i * sizeof single, sizeof single);
		return (double)single;
	}
	case TT_GGUF_F64: {
		double full;
		memcpy(&full, p + i * sizeof full, sizeof full);
		return full;
	}
	case TT_GGUF_STRING:
	case TT_GGUF_ARRAY:
		return 0;
	case TT_GGUF_BOOL:
		return p[i];
	default:
		element.data = p + i * (value->n_bytes / value->count);
		integer_value(&element, &number, &negative);
		return negative ? (double)(int64_t)number : (double)number;
	}
}
