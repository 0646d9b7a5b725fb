#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

bool tt_mul_size(size_t a, size_t b, size_t *out)
{
	size_t product;
	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*out = product;
	return true;
}

bool tt_add_size(size_t a, size_t b, size_t *out)
{
	size_t sum;
	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*out = sum;
	return true;
}

static int no_memory(struct tt_error *err, size_t count, size_t size)
{
	return tt_fail(err, TT_ERR_MEMORY, "out of memory: %zu elements of %zu bytes", count, size);
}

int tt_alloc(void *out_pointer, size_t count, size_t size, struct tt_error *err)
{
	void *memory = calloc(count ? count : 1, size ? size : 1);
	if (!memory)
		return no_memory(err, count, size);
	memcpy(out_pointer, &memory, sizeof memory);
	return TT_OK;
}

int tt_alloc_aligned(void *out_pointer, size_t count, size_t size, struct tt_error *err)
{
	size_t bytes;
	void *memory = NULL;
	if (!tt_mul_size(count, size, &bytes) || !tt_add_size(bytes, 64, &bytes))
		return no_memory(err, count, size);
	if (posix_memalign(&memory, 64, bytes))
		return no_memory(err, count, size);
	memset(memory, 0, bytes);
	memcpy(out_pointer, &memory, sizeof memory);
	return TT_OK;
}

int tt_grow(void *pointer, size_t *capacity, size_t needed, size_t size, struct tt_error *err)
{
	void *old;
	size_t wanted = *capacity < 8 ? 8 : *capacity, bytes;
	if (needed <= *capacity)
		return TT_OK;
	while (wanted < needed)
		if (!tt_mul_size(wanted, 2, &wanted))
			return no_memory(err, needed, size);
	if (!tt_mul_size(wanted, size, &bytes))
		return no_memory(err, needed, size);
	memcpy(&old, pointer, sizeof old);
	void *grown = realloc(old, bytes);
	if (!grown)
		return no_memory(err, needed, size);
	memcpy(pointer, &grown, sizeof grown);
	*capacity = wanted;
	return TT_OK;
}

bool tt_ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), n_end = strlen(end);
	return n >= n_end && !strcmp(text + n - n_end, end);
}

int tt_copy_string(char **out, const char *text, size_t n, struct tt_error *err)
{
	size_t bytes;
	char *copy = NULL;
	if (!tt_add_size(n, 1, &bytes))
		return no_memory(err, n, 1);
	TT_TRY(tt_alloc(&copy, bytes, 1, err));
	if (n)
		memcpy(copy, text, n);
	*out = copy;
	return TT_OK;
}

int tt_buffer_add(struct tt_buffer *buffer, const void *data, size_t n, struct tt_error *err)
{
	size_t needed;
	if (!tt_add_size(buffer->len, n, &needed) || !tt_add_size(needed, 1, &needed))
		return no_memory(err, n, 1);
	TT_TRY(tt_grow(&buffer->data, &buffer->capacity, needed, 1, err));
	if (n)
		memcpy(buffer->data + buffer->len, data, n);
	buffer->len += n;
	buffer->data[buffer->len] = 0;
	return TT_OK;
}

int tt_buffer_print(struct tt_buffer *buffer, struct tt_error *err, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int n = vsnprintf(NULL, 0, format, args), status = TT_ERR_FORMAT;
	va_end(args);
	if (n >= 0)
		status = tt_grow(&buffer->data, &buffer->capacity, buffer->len + (size_t)n + 1, 1, err);
	else
		tt_fail(err, TT_ERR_FORMAT, "cannot format text");
	if (status == TT_OK) {
		vsnprintf(buffer->data + buffer->len, (size_t)n + 1, format, again);
		buffer->len += (size_t)n;
	}
	va_end(again);
	return status;
}

void tt_buffer_free(struct tt_buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct tt_buffer){0};
}
