#include "controller/govern/store.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/utf8.h"

int tt_store_open(struct tt_store *store, const char *directory, enum tt_database_mode mode, struct tt_error *err)
{
	*store = (struct tt_store){0};
	TT_TRY(tt_copy_string(&store->directory, directory, strlen(directory), err));
	int status = tt_database_open(&store->db, directory, mode, err);
	if (status == TT_OK)
		status = tt_log_open(&store->log, &store->db, err);
	if (status != TT_OK)
		tt_store_close(store);
	return status;
}

void tt_store_close(struct tt_store *store)
{
	tt_log_close(&store->log);
	tt_database_close(&store->db);
	free(store->directory);
	*store = (struct tt_store){0};
}

int tt_refuse(struct tt_store *store, enum tt_refusal refusal, struct tt_error *err, const char *format, ...)
{
	char message[400];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(message, sizeof message, format, arguments);
	va_end(arguments);
	store->refusal = refusal;
	return tt_fail(err, TT_ERR_ARGUMENT, "%s", message);
}

bool tt_name_is_valid(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t n = strlen(name);
	return n > 0 && n <= TT_MAX_NAME && strspn(name, allowed) == n;
}

bool tt_person_read(char out[TT_MAX_PERSON + 1], const char *text)
{
	size_t n = 0, length = strlen(text);
	bool space = false;
	for (size_t i = 0; i < length;) {
		uint32_t c;
		size_t bytes = tt_utf8_decode(text + i, length - i, &c);
		if (bytes == 0 || tt_utf8_is_control(c) || n + bytes + 1 > TT_MAX_PERSON)
			return false;
		if (c != ' ') {
			if (space && n)
				out[n++] = ' ';
			memcpy(out + n, text + i, bytes);
			n += bytes;
		}
		space = c == ' ';
		i += bytes;
	}
	out[n] = 0;
	return n > 0;
}

bool tt_person_is(const char *a, const char *b)
{
	return strcasecmp(a, b) == 0;
}
