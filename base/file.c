#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"

/* The mapped files, for tt_file_mapped. Entries are reused and never freed, and an entry is filled before its data is
 * set, so that a signal handler may walk the list at any moment. */
struct entry {
	struct entry *next;
	_Atomic(const uint8_t *) data; /* NULL: unused */
	size_t size;
	dev_t device;
	ino_t inode;
	char path[256];
};

static _Atomic(struct entry *) entries;
static pthread_mutex_t entries_lock = PTHREAD_MUTEX_INITIALIZER;

static struct entry *find_entry(const uint8_t *data)
{
	struct entry *entry = entries;
	while (entry && entry->data != data)
		entry = entry->next;
	return entry;
}

static int enter(const struct tt_mapping *mapping, const char *path, const struct stat *file, struct tt_error *err)
{
	size_t n = strlen(path);
	pthread_mutex_lock(&entries_lock);
	struct entry *entry = find_entry(NULL), *fresh = NULL;
	int status = entry ? TT_OK : tt_alloc(&fresh, 1, sizeof *fresh, err);
	if (status == TT_OK) {
		entry = entry ? entry : fresh;
		entry->size = mapping->size;
		entry->device = file->st_dev;
		entry->inode = file->st_ino;
		strcpy(entry->path, path + (n < sizeof entry->path ? 0 : n + 1 - sizeof entry->path));
		entry->data = mapping->data;
	}
	if (fresh) {
		fresh->next = entries;
		entries = fresh;
	}
	pthread_mutex_unlock(&entries_lock);
	return status;
}

static void leave(const uint8_t *data)
{
	pthread_mutex_lock(&entries_lock);
	struct entry *entry = find_entry(data);
	if (entry)
		entry->data = NULL;
	pthread_mutex_unlock(&entries_lock);
}

const char *tt_file_mapped(const void *address)
{
	for (struct entry *entry = entries; entry; entry = entry->next) {
		uintptr_t data = (uintptr_t)entry->data;
		if (data && (uintptr_t)address - data < entry->size)
			return entry->path;
	}
	return NULL;
}

bool tt_file_is_mapped(const char *path)
{
	struct stat status;
	bool mapped = false;
	if (stat(path, &status) < 0)
		return false;
	pthread_mutex_lock(&entries_lock);
	for (struct entry *entry = entries; entry && !mapped; entry = entry->next)
		mapped = entry->data && entry->device == status.st_dev && entry->inode == status.st_ino;
	pthread_mutex_unlock(&entries_lock);
	return mapped;
}

int tt_file_map(struct tt_mapping *out, const char *path, struct tt_error *err)
{
	struct stat status;
	*out = (struct tt_mapping){0};
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return tt_fail_io(err, path, "open");
	if (fstat(file, &status) < 0) {
		int code = tt_fail_io(err, path, "read");
		close(file);
		return code;
	}
	if (!S_ISREG(status.st_mode)) {
		close(file);
		return tt_fail(err, TT_ERR_IO, "%s: not a regular file", path);
	}
	if (status.st_size > 0) {
		void *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
		if (data == MAP_FAILED) {
			int code = tt_fail_io(err, path, "map");
			close(file);
			return code;
		}
		out->data = data;
		out->size = (size_t)status.st_size;
	}
	close(file);
	int code = out->data ? enter(out, path, &status, err) : TT_OK;
	if (code != TT_OK)
		tt_file_unmap(out);
	return code;
}

void tt_file_unmap(struct tt_mapping *mapping)
{
	if (mapping->data) {
		leave(mapping->data);
		munmap((void *)(uintptr_t)mapping->data, mapping->size);
	}
	*mapping = (struct tt_mapping){0};
}

int tt_file_read(struct tt_buffer *out, const char *path, size_t max_bytes, struct tt_error *err)
{
	char chunk[65536];
	FILE *file = strcmp(path, "-") ? fopen(path, "rb") : stdin;
	if (!file)
		return tt_fail_io(err, path, "open");
	int status = TT_OK;
	for (size_t n; status == TT_OK && (n = fread(chunk, 1, sizeof chunk, file)) > 0;) {
		if (n > max_bytes - out->len)
			status = tt_fail(
				err, TT_ERR_LIMIT, "%s: larger than the %zu bytes allowed here", path, max_bytes);
		else
			status = tt_buffer_add(out, chunk, n, err);
	}
	if (status == TT_OK && ferror(file))
		status = tt_fail_io(err, path, "read");
	if (file != stdin)
		fclose(file);
	return status == TT_OK ? tt_buffer_add(out, "", 0, err) : status;
}

int tt_file_write_all(int file, const void *data, size_t n)
{
	const char *at = data;
	while (n > 0) {
		ssize_t written = write(file, at, n);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -1;
		at += written;
		n -= (size_t)written;
	}
	return 0;
}

int tt_file_folder(char **out, const char *path, struct tt_error *err)
{
	const char *slash = strrchr(path, '/');
	if (!slash)
		return tt_copy_string(out, ".", 1, err);
	return tt_copy_string(out, path, slash == path ? 1 : (size_t)(slash - path), err);
}

int tt_file_make_temporary(char **name, int *file, const char *path, struct tt_error *err)
{
	struct tt_buffer temporary = {0};
	int status = TT_OK;
	TT_TRY(tt_buffer_print(&temporary, err, "%s.tmp-XXXXXX", path));
	*file = mkstemp(temporary.data);
	if (*file < 0) {
		status = tt_fail_io(err, path, "create");
	} else {
		mode_t mask = umask(0);
		umask(mask);
		if (fchmod(*file, 0666 & ~mask) < 0) {
			status = tt_fail_io(err, path, "write");
			close(*file);
			unlink(temporary.data);
		}
	}
	if (status == TT_OK)
		*name = temporary.data;
	else
		tt_buffer_free(&temporary);
	return status;
}

int tt_file_write(const char *path, const void *data, size_t n, struct tt_error *err)
{
	char *name;
	int file, status = TT_OK;
	TT_TRY(tt_file_make_temporary(&name, &file, path, err));
	if (tt_file_write_all(file, data, n) < 0 || fsync(file) < 0)
		status = tt_fail_io(err, path, "write");
	if (close(file) < 0 && status == TT_OK)
		status = tt_fail_io(err, path, "write");
	if (status == TT_OK && rename(name, path) < 0)
		status = tt_fail_io(err, path, "rename into place");
	if (status != TT_OK)
		unlink(name);
	free(name);
	return status;
}

int tt_file_write_secret(const char *path, const void *data, size_t n, struct tt_error *err)
{
	struct tt_buffer name = {0};
	TT_TRY(tt_buffer_print(&name, err, "%s.new", path));
	unlink(name.data);
	int file = open(name.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), status = TT_OK;
	if (file < 0 || tt_file_write_all(file, data, n) < 0 || fsync(file) < 0 ||
		(link(name.data, path) < 0 && errno != EEXIST))
		status = tt_fail_io(err, path, "write");
	if (file >= 0)
		close(file);
	unlink(name.data);
	tt_buffer_free(&name);
	return status;
}

int tt_file_sync_folder(const char *path, struct tt_error *err)
{
	char *folder;
	TT_TRY(tt_file_folder(&folder, path, err));
	int file = open(folder, O_RDONLY | O_CLOEXEC), status = TT_OK;
	if (file < 0 ? errno != EACCES : fsync(file) < 0 && errno != EINVAL)
		status = tt_fail_io(err, folder, "write");
	if (file >= 0)
		close(file);
	free(folder);
	return status;
}

void tt_file_allow_all(void)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		return;
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

bool tt_file_exists(const char *path)
{
	struct stat status;
	return stat(path, &status) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

bool tt_file_is_directory(const char *path)
{
	struct stat status;
	return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

int tt_file_join(char **out, const char *directory, const char *name, struct tt_error *err)
{
	struct tt_buffer path = {0};
	TT_TRY(tt_buffer_print(&path, err, "%s/%s", directory, name));
	*out = path.data;
	return TT_OK;
}

const char *tt_file_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash && slash[1] ? slash + 1 : path;
}
