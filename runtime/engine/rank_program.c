#define _GNU_SOURCE /* dladdr */
#include "runtime/engine/rank_program.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"

#define NAME "trimtab-rank"

/* From a folder of programs or of libraries, as they are installed, and from the build's. */
static const char *const BESIDE[] = {"libexec", "../libexec", "../../libexec"};

/* Whether it is in a folder of those beside this file's. */
static int look_beside(struct tt_buffer *path, const char *file, bool *found, struct tt_error *err)
{
	const char *slash = strrchr(file, '/');
	*found = false;
	for (size_t i = 0; i < sizeof BESIDE / sizeof *BESIDE && slash && !*found; i++) {
		path->len = 0;
		TT_TRY(tt_buffer_print(path, err, "%.*s/%s/" NAME, (int)(slash - file), file, BESIDE[i]));
		*found = access(path->data, X_OK) == 0;
	}
	return TT_OK;
}

int tt_rank_program(struct tt_buffer *path, struct tt_error *err)
{
	static const char here = 0; /* in the shared library, or in a program that has the static one */
	char self[4096];
	Dl_info info;
	bool found = false;
	const char *file = dladdr(&here, &info) && info.dli_fname && *info.dli_fname == '/' ? info.dli_fname : "";
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	self[n > 0 ? n : 0] = 0;
	TT_TRY(look_beside(path, file, &found, err));
	if (!found)
		TT_TRY(look_beside(path, self, &found, err));
	if (found)
		return TT_OK;
	path->len = 0;
	TT_TRY(tt_buffer_print(path, err, "%s", TT_LIBEXEC "/" NAME));
	if (access(path->data, X_OK) == 0)
		return TT_OK;
	return tt_fail(err, TT_ERR_IO,
		NAME ", the program of ranks other than the first (--tp), is missing: it is neither in libexec beside "
		     "the folder of %.200s nor %.150s",
		*file ? file : self, path->data);
}
