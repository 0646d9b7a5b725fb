/* The recorder where the power is cut: SQLite writes through a layer that remembers what was not yet synced, and at a
 * random write, sync or truncation the process ends, leaving of all that a random part, in blocks of 512 bytes. What
 * had come back as written must be in the log that the next start finds. */
#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "controller/govern/log_check.h"
#include "controller/govern/log_key.h"
#include "controller/govern/recorder.h"
#include "golden.h"
#include "random.h"

#ifndef ROUNDS
#define ROUNDS 20
#endif

enum { BLOCK = 512, MAX_FILES = 8, MAX_CHANGES = 1 << 16, MAX_PROMISED = 1 << 16 };

/* ---- The layer */

struct change {
	size_t at, n;
	uint8_t *data; /* NULL: all from `at` on was cut off */
};

/* What a disk has of a file, and what it was told since the last sync. */
struct disk {
	char path[200];
	uint8_t *kept;
	size_t n_kept, n_changes;
	struct change changes[MAX_CHANGES];
};

struct file {
	sqlite3_file base;
	sqlite3_file *real;
	struct disk *disk; /* NULL: one that is not kept */
};

static sqlite3_vfs *real, layer;
static struct disk *disks;
static long until_the_cut;
static uint64_t draw;       /* of the layer, which runs on the recorder's thread */
static uint64_t asked;      /* of what is recorded */
static const char *left_in; /* the folder for what the cut leaves */

static void apply(uint8_t **data, size_t *n, const struct change *change, bool all)
{
	if (!change->data) {
		if (all || next_random(&draw) % 2)
			*n = change->at < *n ? change->at : *n;
		return;
	}
	for (size_t i = 0; i < change->n; i += BLOCK) {
		size_t some = change->n - i < BLOCK ? change->n - i : BLOCK, end = change->at + i + some;
		if (!all && next_random(&draw) % 2)
			continue;
		if (end > *n) {
			*data = realloc(*data, end);
			memset(*data + *n, 0, end - *n);
			*n = end;
		}
		memcpy(*data + change->at + i, change->data + i, some);
	}
}

static void keep_changes(struct disk *disk, bool all)
{
	for (size_t i = 0; i < disk->n_changes; i++) {
		apply(&disk->kept, &disk->n_kept, &disk->changes[i], all);
		free(disk->changes[i].data);
	}
	disk->n_changes = 0;
}

/* Every call that reaches the disk. SQLite's own lock of the file's thread is held; there is one writer. */
static void count(void)
{
	if (--until_the_cut > 0)
		return;
	for (size_t i = 0; i < MAX_FILES && disks[i].path[0]; i++) {
		char path[300];
		const char *name = strrchr(disks[i].path, '/') + 1;
		if (!disks[i].kept && disks[i].n_changes == 0)
			continue;
		keep_changes(&disks[i], false);
		snprintf(path, sizeof path, "%s/%s", left_in, name);
		FILE *out = fopen(path, "wb");
		fwrite(disks[i].kept, 1, disks[i].n_kept, out);
		fclose(out);
	}
	_exit(0);
}

static sqlite3_file *real_of(sqlite3_file *file)
{
	return ((struct file *)file)->real;
}

static void add_change(sqlite3_file *file, const void *data, size_t n, size_t at)
{
	struct disk *disk = ((struct file *)file)->disk;
	count();
	if (!disk)
		return;
	if (disk->n_changes == MAX_CHANGES)
		_exit(3);
	struct change *change = &disk->changes[disk->n_changes++];
	*change = (struct change){at, n, data ? malloc(n + 1) : NULL};
	if (data)
		memcpy(change->data, data, n);
}

static int close_file(sqlite3_file *file)
{
	return real_of(file)->pMethods->xClose(real_of(file));
}

static int read_file(sqlite3_file *file, void *out, int n, sqlite3_int64 at)
{
	return real_of(file)->pMethods->xRead(real_of(file), out, n, at);
}

static int write_file(sqlite3_file *file, const void *data, int n, sqlite3_int64 at)
{
	add_change(file, data, (size_t)n, (size_t)at);
	return real_of(file)->pMethods->xWrite(real_of(file), data, n, at);
}

static int truncate_file(sqlite3_file *file, sqlite3_int64 size)
{
	add_change(file, NULL, 0, (size_t)size);
	return real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int sync_file(sqlite3_file *file, int flags)
{
	(void)flags;
	count();
	if (((struct file *)file)->disk)
		keep_changes(((struct file *)file)->disk, true);
	return SQLITE_OK; /* the real disk has time */
}

static int size_of_file(sqlite3_file *file, sqlite3_int64 *out)
{
	return real_of(file)->pMethods->xFileSize(real_of(file), out);
}

static int lock_file(sqlite3_file *file, int level)
{
	return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int unlock_file(sqlite3_file *file, int level)
{
	return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int is_reserved(sqlite3_file *file, int *out)
{
	return real_of(file)->pMethods->xCheckReservedLock(real_of(file), out);
}

static int control(sqlite3_file *file, int operation, void *argument)
{
	return real_of(file)->pMethods->xFileControl(real_of(file), operation, argument);
}

static int sector_size(sqlite3_file *file)
{
	return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int characteristics(sqlite3_file *file)
{
	return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int shm_map(sqlite3_file *file, int page, int n, int extend, void volatile **out)
{
	return real_of(file)->pMethods->xShmMap(real_of(file), page, n, extend, out);
}

static int shm_lock(sqlite3_file *file, int at, int n, int flags)
{
	return real_of(file)->pMethods->xShmLock(real_of(file), at, n, flags);
}

static void shm_barrier(sqlite3_file *file)
{
	real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int shm_unmap(sqlite3_file *file, int delete)
{
	return real_of(file)->pMethods->xShmUnmap(real_of(file), delete);
}

static const sqlite3_io_methods methods = {2, close_file, read_file, write_file, truncate_file, sync_file, size_of_file,
	lock_file, unlock_file, is_reserved, control, sector_size, characteristics, shm_map, shm_lock, shm_barrier,
	shm_unmap, NULL, NULL};

static struct disk *disk_of(const char *path)
{
	size_t i = 0;
	while (disks[i].path[0] && strcmp(disks[i].path, path) != 0)
		i++;
	if (i + 1 >= MAX_FILES)
		_exit(4);
	if (!disks[i].path[0]) { /* what is there was synced long ago */
		snprintf(disks[i].path, sizeof disks[i].path, "%s", path);
		FILE *file = fopen(path, "rb");
		if (file) {
			fseek(file, 0, SEEK_END);
			disks[i].n_kept = (size_t)ftell(file);
			rewind(file);
			disks[i].kept = malloc(disks[i].n_kept + 1);
			if (fread(disks[i].kept, 1, disks[i].n_kept, file) != disks[i].n_kept)
				_exit(5);
			fclose(file);
		}
	}
	return &disks[i];
}

static int open_file(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *out, int flags, int *out_flags)
{
	struct file *file = (struct file *)out;
	(void)vfs;
	file->real = (sqlite3_file *)(file + 1);
	file->disk = name && !strstr(name, ":memory:") ? disk_of(name) : NULL;
	int code = real->xOpen(real, name, file->real, flags, out_flags);
	file->base.pMethods = file->real->pMethods ? &methods : NULL;
	return code;
}

static int delete_file(sqlite3_vfs *vfs, const char *name, int sync)
{
	struct disk *disk = disk_of(name);
	(void)vfs;
	keep_changes(disk, true);
	disk->kept = NULL;
	disk->n_kept = 0;
	return real->xDelete(real, name, sync);
}

static void put_layer_between(void)
{
	real = sqlite3_vfs_find(NULL);
	layer = *real;
	layer.pNext = NULL;
	layer.zName = "power";
	layer.szOsFile = (int)sizeof(struct file) + real->szOsFile;
	layer.xOpen = open_file;
	layer.xDelete = delete_file;
	disks = calloc(MAX_FILES, sizeof *disks);
	if (sqlite3_vfs_register(&layer, 1) != SQLITE_OK)
		_exit(6);
}

/* ---- What had come back before the cut, in memory that outlives it */

struct promised {
	size_t n;
	struct tt_log_place places[MAX_PROMISED];
};

static void add(struct tt_recorder *recorder, const char *kind, struct tt_record *begun, size_t n)
{
	struct tt_record *record = calloc(1, sizeof *record);
	char fields[700];
	snprintf(fields, sizeof fields, "\"n\":%zu,\"text\":\"%0*d\"", n, 1 + (int)(next_random(&asked) % 600), 0);
	tt_buffer_add(&record->fields, fields, strlen(fields), NULL);
	record->kind = kind;
	record->begun = begun;
	record->open[0] = 1;
	strcpy(record->owner, "alice");
	tt_recorder_add(recorder, record);
}

/* Requests begin, and each ends when its begin has come back, until the power is cut. */
static void run(const char *folder, struct promised *promised)
{
	const struct tt_recorder_options options = {.directory = folder, .open = json_object()};
	struct tt_recorder *recorder;
	struct tt_error err;
	put_layer_between();
	if (tt_recorder_open(&recorder, &options, &err) != TT_OK)
		_exit(7);
	for (size_t n = 0; promised->n < MAX_PROMISED;) {
		for (uint32_t some = next_random(&asked) % 4; some > 0 && tt_recorder_takes(recorder); some--)
			add(recorder, "begin", NULL, n++);
		struct tt_record *record = tt_recorder_take(recorder), *next;
		for (; record; record = next) {
			next = record->next;
			if (record->status != TT_OK || !record->written)
				_exit(8);
			if (promised->n == MAX_PROMISED)
				break;
			promised->places[promised->n] = record->place;
			promised->n++;
			if (!record->begun)
				add(recorder, "end", record, n);
		}
		const struct timespec pause = {.tv_nsec = next_random(&asked) % 300000};
		nanosleep(&pause, NULL);
	}
	_exit(9); /* it was not cut */
}

static void shell(const char *format, const char *a, const char *b)
{
	char line[300];
	snprintf(line, sizeof line, format, a, b);
	cr_assert_eq(system(line), 0, "%s", line);
}

/* What the next start finds: all that was promised, a tree that holds, and an end for each begin. */
static void look(const char *folder, const struct promised *promised)
{
	const struct tt_recorder_options options = {.directory = folder, .open = json_object()};
	struct tt_recorder *recorder;
	struct tt_database db;
	struct tt_log log;
	struct tt_log_report report;
	struct tt_verifier verifier;
	struct tt_buffer body = {0};
	must(tt_recorder_open(&recorder, &options, err));
	must(tt_recorder_close(recorder, err));
	must(tt_database_open(&db, folder, TT_DATABASE_READ, err));
	must(tt_log_open(&log, &db, err));
	for (size_t i = 0; i < promised->n; i++) {
		struct tt_log_place place;
		must(tt_log_read(&log, promised->places[i].seq, &body, &place, err));
		cr_assert(memcmp(&place.leaf, &promised->places[i].leaf, sizeof place.leaf) == 0,
			"entry %llu is another one", (unsigned long long)place.seq);
	}
	must(tt_log_key_verifier(&verifier, folder, err));
	must(tt_log_verify(&log, &verifier, NULL, &report, err));
	cr_assert_eq(report.n_open, 0);
	tt_buffer_free(&body);
	tt_log_close(&log);
	tt_database_close(&db);
}

Test(govern_power, what_was_said_to_be_written_is_there_after_a_cut, .timeout = 120 + ROUNDS)
{
	FILE *shared = tmpfile();
	cr_assert(shared && ftruncate(fileno(shared), sizeof(struct promised)) == 0);
	struct promised *promised = mmap(NULL, sizeof *promised, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(shared), 0);
	size_t n_promised = 0, n_cut = 0;
	cr_assert(promised != MAP_FAILED);
	for (uint64_t round = 1; round <= ROUNDS; round++) {
		char folder[] = "/tmp/test_power.XXXXXX", left[] = "/tmp/test_power.XXXXXX";
		const struct tt_recorder_options options = {.directory = folder, .open = json_object()};
		struct tt_recorder *recorder;
		int status;
		cr_assert(mkdtemp(folder) && mkdtemp(left));
		must(tt_recorder_open(&recorder, &options, err)); /* its files, by a start that ended well */
		must(tt_recorder_close(recorder, err));
		promised->n = 0;
		draw = asked = round;
		until_the_cut = 1 + next_random(&draw) % (round % 3 ? 300 : 3000);
		left_in = left;
		pid_t child = fork();
		cr_assert(child >= 0);
		if (child == 0)
			run(folder, promised);
		cr_assert(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0,
			"round %llu: %d", (unsigned long long)round, status);
		shell("cp -n %s/audit.* %s/", folder, left);
		shell("cp -r %s/keys %s/ 2>/dev/null || true", folder, left);
		look(left, promised);
		n_promised += promised->n;
		n_cut += promised->n > 0;
		shell("rm -rf %s %s", folder, left);
	}
	cr_assert(n_cut > ROUNDS / 2 && n_promised > 4 * ROUNDS, "%zu entries in %zu rounds are no test", n_promised,
		n_cut);
	fprintf(stderr, "%d cuts, %zu entries promised before them\n", ROUNDS, n_promised);
	munmap(promised, sizeof *promised);
	fclose(shared);
}
