#include "controller/measure/line_file.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/memory.h"

int tt_line_file_name(struct tt_line_file *file, const char *path, struct tt_error *err)
{
	struct tt_buffer name = {0};
	if (!path)
		return TT_OK;
	TT_TRY(tt_buffer_print(&name, err, "%s.partial", path));
	*file = (struct tt_line_file){.path = path, .partial = name.data};
	return TT_OK;
}

int tt_line_file_open(struct tt_line_file *file, struct tt_error *err)
{
	if (!file->path)
		return TT_OK;
	file->file = fopen(file->partial, "wb");
	return file->file ? TT_OK : tt_fail_io(err, file->partial, "create");
}

int tt_line_file_put(struct tt_line_file *file, char *line, struct tt_error *err)
{
	bool failed = fputs(line, file->file) < 0 || fputc('\n', file->file) < 0;
	free(line);
	return failed ? tt_fail_io(err, file->partial, "write") : TT_OK;
}

int tt_line_file_flush(struct tt_line_file *file, struct tt_error *err)
{
	return file->file && fflush(file->file) ? tt_fail_io(err, file->partial, "write") : TT_OK;
}

int tt_line_file_close(struct tt_line_file *file, struct tt_error *err)
{
	if (!file->file)
		return TT_OK;
	bool failed = fflush(file->file) || fsync(fileno(file->file));
	failed = fclose(file->file) || failed;
	file->file = NULL;
	if (failed || rename(file->partial, file->path) < 0)
		return tt_fail_io(err, file->path, "write");
	return TT_OK;
}

void tt_line_file_free(struct tt_line_file *file)
{
	if (file->file)
		fclose(file->file);
	free(file->partial);
}
