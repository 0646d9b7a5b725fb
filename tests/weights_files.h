/* Files for the tests of weights/: a golden's bytes, changed in memory, written to a temporary directory. */
#ifndef TESTS_WEIGHTS_FILES_H
#define TESTS_WEIGHTS_FILES_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "random.h"

struct scratch {
	char directory[64];
	char path[512]; /* of the file made last */
};

static inline void scratch_make(struct scratch *s)
{
	snprintf(s->directory, sizeof s->directory, "test-weights-XXXXXX");
	cr_assert_not_null(mkdtemp(s->directory));
}

static inline const char *scratch_write(struct scratch *s, const char *name, const void *data, size_t n)
{
	snprintf(s->path, sizeof s->path, "%s/%s", s->directory, name);
	FILE *file = fopen(s->path, "wb");
	cr_assert_not_null(file);
	cr_assert_eq(fwrite(data, 1, n, file), n);
	cr_assert_eq(fclose(file), 0);
	return s->path;
}

static inline void scratch_remove(struct scratch *s, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		snprintf(s->path, sizeof s->path, "%s/%s", s->directory, names[i]);
		unlink(s->path);
	}
	cr_expect_eq(rmdir(s->directory), 0, "%s is not empty", s->directory);
}

static inline struct tt_buffer golden(const char *name)
{
	struct tt_buffer out = {0};
	struct tt_error err = {0};
	char path[512];
	snprintf(path, sizeof path, "%s/weights/%s", TT_TEST_DATA, name);
	cr_assert_eq(tt_file_read(&out, path, 1 << 24, &err), TT_OK, "%s", err.message);
	return out;
}

/* A failure has a code and one line that names the file and the field. */
static inline void expect_refused(
	int status, const struct tt_error *err, const char *label, const char *path, const char *field)
{
	cr_expect_lt(status, 0, "%s: accepted", label);
	cr_expect_eq(err->code, status, "%s: code %d, returned %d", label, err->code, status);
	cr_expect_null(strchr(err->message, '\n'), "%s: more than one line", label);
	cr_expect_not_null(strstr(err->message, path), "%s: no file name in: %s", label, err->message);
	cr_expect_not_null(strstr(err->message, field), "%s: no \"%s\" in: %s", label, field, err->message);
}

#endif
