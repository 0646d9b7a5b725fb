#define _GNU_SOURCE /* fopencookie */
#include "faults.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controller/numerics/mlp.h"

/* The blocks that are alive, by address: open addressing. */
enum { SLOTS = 1 << 16 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *live[SLOTS];
static size_t n_live, n_calls, fail_at;
static enum fault kind;
static bool stays, hit;

static bool fails(enum fault fault)
{
	pthread_mutex_lock(&lock);
	bool now = fault == kind && fail_at && (++n_calls == fail_at || (stays && n_calls > fail_at));
	hit |= now;
	pthread_mutex_unlock(&lock);
	return now;
}

void fault_set(enum fault fault, size_t n, bool on)
{
	pthread_mutex_lock(&lock);
	kind = fault;
	fail_at = n;
	stays = on;
	n_calls = 0;
	hit = false;
	pthread_mutex_unlock(&lock);
}

bool fault_hit(void)
{
	return hit;
}

size_t faults_live(void)
{
	return n_live;
}

static size_t first_slot(const void *block)
{
	return (uintptr_t)block / 16 * 2654435761u % SLOTS;
}

static void *enter(void *block)
{
	pthread_mutex_lock(&lock);
	if (block && n_live < SLOTS / 2) {
		size_t i = first_slot(block);
		while (live[i])
			i = (i + 1) % SLOTS;
		live[i] = block;
		n_live++;
	}
	pthread_mutex_unlock(&lock);
	return block;
}

/* Blocks that the C library made are not known here. */
static void leave(const void *block)
{
	pthread_mutex_lock(&lock);
	size_t i = first_slot(block);
	while (live[i] && live[i] != block)
		i = (i + 1) % SLOTS;
	if (block && live[i]) {
		live[i] = NULL;
		n_live--;
		for (size_t k = (i + 1) % SLOTS; live[k]; k = (k + 1) % SLOTS) { /* close the gap */
			void *moved = live[k];
			live[k] = NULL;
			size_t to = first_slot(moved);
			while (live[to])
				to = (to + 1) % SLOTS;
			live[to] = moved;
		}
	}
	pthread_mutex_unlock(&lock);
}

/* ---- Allocations */

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t n);
int __real_posix_memalign(void **out, size_t alignment, size_t n);
void __real_free(void *block);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t n);
int __wrap_posix_memalign(void **out, size_t alignment, size_t n);
void __wrap_free(void *block);

void *__wrap_malloc(size_t n)
{
	return fails(FAULT_ALLOCATION) ? NULL : enter(__real_malloc(n));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails(FAULT_ALLOCATION) ? NULL : enter(__real_calloc(count, size));
}

void *__wrap_realloc(void *block, size_t n)
{
	if (fails(FAULT_ALLOCATION))
		return NULL;
	leave(block);
	void *grown = __real_realloc(block, n);
	enter(grown ? grown : block);
	return grown;
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t n)
{
	if (fails(FAULT_ALLOCATION))
		return ENOMEM;
	int status = __real_posix_memalign(out, alignment, n);
	if (status == 0)
		enter(*out);
	return status;
}

void __wrap_free(void *block)
{
	leave(block);
	__real_free(block);
}

/* libcrypto keeps what it made for later calls: its blocks fail, and are not counted. */
static void *crypto_malloc(size_t n, const char *file, int line)
{
	(void)file, (void)line;
	return fails(FAULT_ALLOCATION) ? NULL : __real_malloc(n);
}

static void *crypto_realloc(void *block, size_t n, const char *file, int line)
{
	(void)file, (void)line;
	return fails(FAULT_ALLOCATION) ? NULL : __real_realloc(block, n);
}

static void crypto_free(void *block, const char *file, int line)
{
	(void)file, (void)line;
	__real_free(block);
}

/* jansson's lexer does not look whether its buffer grew: where that fails it loses bytes of a string, or writes past
 * one. So a whole parse fails or none of it; other calls of jansson fail wherever they allocate. */
static _Thread_local bool parsing;

json_t *__real_json_loadb(const char *text, size_t n, size_t flags, json_error_t *error);
json_t *__wrap_json_loadb(const char *text, size_t n, size_t flags, json_error_t *error);

json_t *__wrap_json_loadb(const char *text, size_t n, size_t flags, json_error_t *error)
{
	if (fails(FAULT_ALLOCATION))
		return NULL;
	parsing = true;
	json_t *value = __real_json_loadb(text, n, flags, error);
	parsing = false;
	return value;
}

static void *json_malloc(size_t n)
{
	return parsing ? enter(__real_malloc(n)) : __wrap_malloc(n);
}

/* Before Criterion, whose libraries use libcrypto too. */
__attribute__((constructor)) static void begin(void)
{
	if (!CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free))
		abort();
	json_set_alloc_funcs(json_malloc, __wrap_free);
}

/* ---- Files */

int __real_open(const char *path, int flags, ...);
int __real_stat(const char *path, struct stat *status);
int __real_fstat(int file, struct stat *status);
void *__real_mmap(void *at, size_t n, int protection, int flags, int file, off_t offset);
ssize_t __real_read(int file, void *to, size_t n);
ssize_t __real_pread(int file, void *to, size_t n, off_t at);
FILE *__real_fopen(const char *path, const char *mode);
int __wrap_open(const char *path, int flags, ...);
int __wrap_stat(const char *path, struct stat *status);
int __wrap_fstat(int file, struct stat *status);
void *__wrap_mmap(void *at, size_t n, int protection, int flags, int file, off_t offset);
ssize_t __wrap_read(int file, void *to, size_t n);
ssize_t __wrap_pread(int file, void *to, size_t n, off_t at);
FILE *__wrap_fopen(const char *path, const char *mode);

static bool file_fails(void)
{
	if (!fails(FAULT_FILE))
		return false;
	errno = EIO;
	return true;
}

int __wrap_open(const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	int mode = flags & O_CREAT ? va_arg(args, int) : 0;
	va_end(args);
	return file_fails() ? -1 : __real_open(path, flags, mode);
}

int __wrap_stat(const char *path, struct stat *status)
{
	return file_fails() ? -1 : __real_stat(path, status);
}

int __wrap_fstat(int file, struct stat *status)
{
	return file_fails() ? -1 : __real_fstat(file, status);
}

void *__wrap_mmap(void *at, size_t n, int protection, int flags, int file, off_t offset)
{
	return file_fails() ? MAP_FAILED : __real_mmap(at, n, protection, flags, file, offset);
}

ssize_t __wrap_read(int file, void *to, size_t n)
{
	return file_fails() ? -1 : __real_read(file, to, n);
}

ssize_t __wrap_pread(int file, void *to, size_t n, off_t at)
{
	return file_fails() ? -1 : __real_pread(file, to, n, at);
}

int __real_mkstemp(char *path);
ssize_t __real_write(int file, const void *data, size_t n);
int __real_ftruncate(int file, off_t size);
int __real_fchmod(int file, mode_t mode);
int __real_rename(const char *from, const char *to);
int __wrap_mkstemp(char *path);
ssize_t __wrap_write(int file, const void *data, size_t n);
int __wrap_fsync(int file);
int __wrap_fdatasync(int file);
int __wrap_ftruncate(int file, off_t size);
int __wrap_fchmod(int file, mode_t mode);
int __wrap_rename(const char *from, const char *to);

int __wrap_mkstemp(char *path)
{
	return file_fails() ? -1 : __real_mkstemp(path);
}

ssize_t __wrap_write(int file, const void *data, size_t n)
{
	return file_fails() ? -1 : __real_write(file, data, n);
}

int __wrap_fsync(int file)
{
	(void)file; /* no disk is waited for: thousands of runs here would take a minute more */
	return file_fails() ? -1 : 0;
}

int __wrap_fdatasync(int file)
{
	(void)file;
	return file_fails() ? -1 : 0;
}

int __wrap_ftruncate(int file, off_t size)
{
	return file_fails() ? -1 : __real_ftruncate(file, size);
}

int __wrap_fchmod(int file, mode_t mode)
{
	return file_fails() ? -1 : __real_fchmod(file, mode);
}

int __wrap_rename(const char *from, const char *to)
{
	return file_fails() ? -1 : __real_rename(from, to);
}

static ssize_t stream_read(void *file, char *to, size_t n)
{
	return file_fails() ? -1 : __real_read((int)(intptr_t)file, to, n);
}

static int stream_close(void *file)
{
	return close((int)(intptr_t)file);
}

/* A stream whose reads can fail: within the C library they could not be reached. */
FILE *__wrap_fopen(const char *path, const char *mode)
{
	if (*mode != 'r')
		return __real_fopen(path, mode);
	int file = file_fails() ? -1 : __real_open(path, O_RDONLY | O_CLOEXEC);
	return file < 0 ? NULL
			: fopencookie((void *)(intptr_t)file, mode,
				  (cookie_io_functions_t){.read = stream_read, .close = stream_close});
}

/* ---- Training */

static bool learning = true;

void networks_learn(bool on)
{
	learning = on;
}

int __real_tt_mlp_train(
	struct tt_mlp *, const struct tt_mlp_data *, const struct tt_mlp_options *, double *losses, struct tt_error *);
int __wrap_tt_mlp_train(
	struct tt_mlp *, const struct tt_mlp_data *, const struct tt_mlp_options *, double *losses, struct tt_error *);

int __wrap_tt_mlp_train(struct tt_mlp *mlp, const struct tt_mlp_data *data, const struct tt_mlp_options *options,
	double *losses, struct tt_error *err)
{
	return learning ? __real_tt_mlp_train(mlp, data, options, losses, err) : TT_OK;
}

/* ---- Calls that meet each failure in turn */

enum { MOST = 200000 }; /* calls before a loop counts as one without end */

static void check_failure(const char *name, enum fault fault, size_t n, int status, const struct tt_error *err)
{
	int expected = fault == FAULT_ALLOCATION ? TT_ERR_MEMORY : TT_ERR_IO;
	cr_assert_eq(status, expected, "%s: failure %zu gave %d: %s", name, n, status, err->message);
	cr_assert_eq(err->code, status, "%s: failure %zu", name, n);
	cr_assert(*err->message, "%s: failure %zu has no message", name, n);
}

size_t inject(const char *name, operation *run, enum fault fault, bool on, size_t *spared)
{
	struct tt_error err = {0};
	cr_assert_eq(run(&err), TT_OK, "%s: %s", name, err.message); /* and what is made once is made */
	size_t before = faults_live();
	for (size_t n = 1; n < MOST; n++) {
		err = (struct tt_error){0};
		fault_set(fault, n, on);
		int status = run(&err);
		bool met = fault_hit();
		fault_set(fault, 0, false);
		cr_assert_eq(faults_live(), before, "%s: failure %zu leaves %zu blocks unfreed", name, n,
			faults_live() - before);
		if (!met) {
			cr_assert_eq(status, TT_OK, "%s: %s", name, err.message);
			return n - 1;
		}
		if (status != TT_OK)
			check_failure(name, fault, n, status, &err);
		*spared += status == TT_OK;
	}
	cr_assert_fail("%s: no end", name);
	return 0;
}

void inject_all(const char *name, operation *run, size_t spares)
{
	for (int on = 0; on < 2; on++) {
		size_t spared = 0;
		size_t allocations = inject(name, run, FAULT_ALLOCATION, on, &spared);
		size_t reads = inject(name, run, FAULT_FILE, on, &spared);
		cr_expect(allocations > 2 && reads > 2, "%s: %zu allocations, %zu reads", name, allocations, reads);
		cr_expect_leq(spared, spares, "%s: %zu of %zu failures not seen", name, spared, allocations + reads);
		printf("%s: %zu allocations, %zu reads, %zu spared\n", name, allocations, reads, spared);
	}
}
