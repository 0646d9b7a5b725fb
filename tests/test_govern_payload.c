/* What is kept beside the log, and how it is forgotten. */
#include "controller/govern/payload.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/append_log.h"
#include "base/fail.h"
#include "controller/govern/bundle.h"
#include "controller/govern/log_key.h"
#include "controller/govern/query.h"
#include "golden.h"

/* The files and folders that were synced. */
static ino_t synced[64];
static size_t n_synced;

int __real_fsync(int file);
int __wrap_fsync(int file);
int __wrap_fsync(int file)
{
	struct stat status;
	if (fstat(file, &status) == 0 && n_synced < 64)
		synced[n_synced++] = status.st_ino;
	return __real_fsync(file);
}

static bool was_synced(const char *folder, const char *name)
{
	char path[128];
	struct stat status;
	snprintf(path, sizeof path, "%s/%s", folder, name);
	cr_assert_eq(stat(path, &status), 0, "%s", path);
	for (size_t i = 0; i < n_synced; i++)
		if (synced[i] == status.st_ino)
			return true;
	return false;
}

struct world {
	char folder[64];
	struct tt_database db;
	struct tt_payloads payloads;
};

static struct world *make(void)
{
	struct world *w = calloc(1, sizeof *w);
	snprintf(w->folder, sizeof w->folder, "/tmp/test_payload.XXXXXX");
	cr_assert_not_null(mkdtemp(w->folder));
	must(tt_database_open(&w->db, w->folder, TT_DATABASE_CREATE, err));
	must(tt_payloads_open(&w->payloads, &w->db, w->folder, err));
	return w;
}

static void unmake(struct world *w)
{
	char command[100];
	tt_payloads_close(&w->payloads);
	tt_database_close(&w->db);
	snprintf(command, sizeof command, "rm -r %s", w->folder);
	cr_assert_eq(system(command), 0);
	free(w);
}

enum { DAY = 86400 };

static void text_of(char out[64], uint64_t i)
{
	snprintf(out, 64, "what was asked as number %zu, word for word", (size_t)i);
}

static void add(struct world *w, uint64_t i, bool keeps)
{
	uint8_t open[TT_SECRET] = {(uint8_t)i, 7};
	char text[64], owner[16];
	text_of(text, i);
	snprintf(owner, sizeof owner, "key-%zu", (size_t)(i % 3));
	const struct tt_payload payload = {
		i, (int64_t)(1 + i / 10) * DAY * 1000, owner, open, keeps ? text : NULL, keeps ? strlen(text) : 0};
	must(tt_database_begin(&w->db, err));
	must(tt_payload_add(&w->payloads, &payload, err));
	must(tt_payload_add_result(&w->payloads, i, "result", 7, err));
	must(tt_database_end(&w->db, TT_OK, err));
}

static bool is_there(struct world *w, uint64_t i)
{
	uint8_t open[TT_SECRET];
	char text[64];
	bool found;
	struct tt_buffer request = {0}, result = {0};
	must(tt_payload_read(&w->payloads, i, &found, open, &request, &result, err));
	text_of(text, i);
	if (found)
		cr_assert(open[0] == (uint8_t)i && open[1] == 7);
	if (found && request.len) {
		cr_assert_str_eq(request.data, text);
		cr_assert(result.len == 7 && memcmp(result.data, "result", 7) == 0);
	}
	tt_buffer_free(&request);
	tt_buffer_free(&result);
	return found;
}

static uint64_t erase(struct world *w, struct tt_erasure erasure)
{
	uint64_t n = 0;
	must(tt_payloads_erase(&w->payloads, &erasure, &n, err));
	return n;
}

static size_t n_keys(const struct world *w)
{
	size_t n = 0;
	DIR *folder = opendir(w->payloads.directory);
	while (folder && readdir(folder))
		n++;
	closedir(folder);
	return n - 2;
}

static bool has_key(const struct world *w, const char *day)
{
	char path[128];
	snprintf(path, sizeof path, "%s/%s", w->payloads.directory, day);
	return access(path, F_OK) == 0;
}

Test(govern_payload, what_is_kept_is_read_again)
{
	struct world *w = make();
	for (uint64_t i = 0; i < 30; i++)
		add(w, i, i % 2);
	for (uint64_t i = 0; i < 30; i++)
		cr_assert(is_there(w, i), "%zu", (size_t)i);
	cr_assert(!is_there(w, 30));
	cr_assert_eq(n_keys(w), 3);
	unmake(w);
}

Test(govern_payload, erasing_takes_what_fits_and_nothing_else)
{
	struct world *w = make();
	const uint64_t those[] = {3, 17, 99};
	for (uint64_t i = 0; i < 60; i++)
		add(w, i, true);
	cr_assert_eq(n_keys(w), 6);
	cr_assert_eq(erase(w, (struct tt_erasure){.begins = those, .n_begins = 3}), 2);
	/* A copy of the database from before cannot be opened any more. */
	cr_assert(!has_key(w, "1970-01-02.1") && has_key(w, "1970-01-02.2"));
	cr_assert(has_key(w, "1970-01-04.1"), "a day of which nothing was erased");
	for (uint64_t i = 0; i < 60; i++)
		cr_assert_eq(is_there(w, i), i != 3 && i != 17, "%zu", (size_t)i);
	cr_assert_eq(erase(w, (struct tt_erasure){.owner = "key-1"}), 20);
	cr_assert_eq(erase(w, (struct tt_erasure){.owner = "key-2", .before = 2 * DAY * 1000 + 1}), 5);
	for (uint64_t i = 0; i < 60; i++)
		cr_assert_eq(is_there(w, i), i != 3 && i % 3 != 1 && (i % 3 != 2 || i >= 20), "%zu", (size_t)i);
	cr_assert_eq(erase(w, (struct tt_erasure){.before = 100 * (int64_t)DAY * 1000}), 60 - 1 - 20 - 6);
	add(w, 7, true); /* a day whose key was renewed */
	cr_assert(is_there(w, 7));
	unmake(w);
}

/* What is seen of an erasing, by another connection, while each of its transactions is open. */
struct seen {
	struct world *w;
	struct tt_database db;
	int64_t kept[8];
	uint64_t told[8];
	size_t n;
};

static bool is_locked(const struct world *w)
{
	char path[128];
	snprintf(path, sizeof path, "%s/erase.lock", w->folder);
	struct tt_append_log lock = {.path = path, .file = -1};
	must(tt_append_log_open(&lock, true, err));
	bool locked = tt_append_log_lock(&lock, NULL) != TT_OK;
	tt_append_log_close(&lock);
	return locked;
}

static int see(void *user, uint64_t n, struct tt_error *err)
{
	struct seen *seen = user;
	cr_assert(seen->n < 8 && is_locked(seen->w));
	seen->told[seen->n] = n;
	return tt_sql_integer(&seen->db, "SELECT count(*) FROM log_payload", TT_SQL_NONE, &seen->kept[seen->n++], err);
}

/* A log that is written to beside it would else come to a halt, and its server with it. */
Test(govern_payload, many_are_erased_in_pieces_between_which_others_write)
{
	enum { N = 2600, STAY = 100 };
	struct world *w = make();
	struct seen seen = {.w = w};
	uint8_t open[TT_SECRET] = {0};
	must(tt_database_open(&seen.db, w->folder, TT_DATABASE_WRITE, err));
	must(tt_database_begin(&w->db, err));
	for (uint64_t i = 0; i < N; i++) {
		const struct tt_payload payload = {i, DAY * 1000, i % 26 ? "goes" : "stays", open, NULL, 0};
		must(tt_payload_add(&w->payloads, &payload, err));
	}
	must(tt_database_end(&w->db, TT_OK, err));
	cr_assert_eq(erase(w, (struct tt_erasure){.owner = "goes", .tell = see, .user = &seen}), N - STAY);
	cr_assert_eq(seen.n, 3);
	for (size_t i = 0; i < 3; i++) {
		cr_expect_eq(seen.told[i], i < 2 ? 1000 : 500);
		cr_expect_eq(seen.kept[i], (int64_t)(N - 1000 * i), "what was deleted before is committed");
	}
	cr_assert(!is_locked(w) && n_keys(w) == 1);
	for (uint64_t i = 0; i < N; i++) {
		uint8_t key[TT_SECRET];
		bool found;
		struct tt_buffer none = {0};
		must(tt_payload_read(&w->payloads, i, &found, key, &none, &none, err));
		cr_assert_eq(found, i % 26 == 0, "%zu", (size_t)i);
	}
	tt_database_close(&seen.db);
	unmake(w);
}

static int see_twice(void *user, uint64_t n, struct tt_error *err)
{
	size_t *left = user;
	(void)n;
	return (*left)-- ? TT_OK : tt_fail(err, TT_ERR_IO, "the third time it fails");
}

/* What it had done stays done, what it had begun is undone, and the same is asked for again. */
Test(govern_payload, an_erasing_that_was_stopped_is_asked_for_again)
{
	enum { N = 2500 };
	struct world *w = make();
	size_t left = 2;
	uint64_t n;
	uint8_t open[TT_SECRET] = {0};
	struct tt_erasure erasure = {.before = 2 * (int64_t)DAY * 1000, .tell = see_twice, .user = &left};
	add(w, N + 10, true);
	must(tt_database_begin(&w->db, err));
	for (uint64_t i = 0; i < N; i++) {
		const struct tt_payload payload = {i, DAY * 1000, "key-1", open, NULL, 0};
		must(tt_payload_add(&w->payloads, &payload, err));
	}
	must(tt_database_end(&w->db, TT_OK, err));
	cr_assert_eq(tt_payloads_erase(&w->payloads, &erasure, &n, NULL), TT_ERR_IO);
	cr_assert(has_key(w, "1970-01-02.1"), "what still needs it is there");
	cr_assert_eq(erase(w, (struct tt_erasure){.before = 2 * (int64_t)DAY * 1000}), N - 2000);
	cr_assert(!has_key(w, "1970-01-02.1") && !is_locked(w));
	cr_assert(is_there(w, N + 10) && !is_there(w, 0) && !is_there(w, N - 1));
	unmake(w);
}

/* Keeps the lock of who erases until the file says that somebody was told to wait. */
struct waiting {
	struct tt_append_log lock;
	size_t n;
	long process;
};

static void told_to_wait(void *user, long process)
{
	struct waiting *waiting = user;
	waiting->n++;
	waiting->process = process;
	tt_append_log_close(&waiting->lock);
}

Test(govern_payload, who_waits_is_told_for_whom)
{
	struct world *w = make();
	char path[128];
	struct waiting waiting = {.lock = {.path = path, .file = -1}};
	struct tt_erasure erasure = {.owner = "key-1", .waits = told_to_wait, .user = &waiting};
	add(w, 1, true);
	cr_assert_eq(erase(w, erasure), 1);
	cr_assert_eq(waiting.n, 0, "nobody erased");
	snprintf(path, sizeof path, "%s/erase.lock", w->folder);
	for (int k = 0; k < 2; k++) { /* the second time without a word from the holder */
		must(tt_append_log_open(&waiting.lock, true, err));
		must(tt_append_log_lock(&waiting.lock, err));
		if (k)
			cr_assert_eq(truncate(path, 0), 0);
		add(w, 4 + (uint64_t)k * 3, true);
		cr_assert_eq(erase(w, erasure), 1);
		cr_assert(waiting.n == (size_t)k + 1 && waiting.process == (k ? 0 : getpid()), "%ld", waiting.process);
	}
	unmake(w);
}

/* Files of the folder of keys that are written to while a key is destroyed, which a stop at that moment would leave as
 * they are. */
Test(govern_payload, no_key_of_a_day_is_ever_half_destroyed)
{
	struct world *w = make();
	union {
		struct inotify_event event;
		char bytes[1 << 14];
	} seen;
	char path[128];
	size_t n_written = 0, n_gone = 0;
	for (uint64_t i = 0; i < 30; i++)
		add(w, i, true);
	int watch = inotify_init1(IN_NONBLOCK);
	cr_assert(inotify_add_watch(watch, w->payloads.directory, IN_MODIFY | IN_DELETE) >= 0);
	cr_assert_eq(erase(w, (struct tt_erasure){.owner = "key-1"}), 10);
	ssize_t n = read(watch, &seen, sizeof seen);
	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *event = (const struct inotify_event *)(seen.bytes + at);
		size_t length = strlen(event->name);
		bool is_doomed = length > 7 && strcmp(event->name + length - 7, ".doomed") == 0;
		bool is_new = length > 4 && strcmp(event->name + length - 4, ".new") == 0;
		cr_expect(is_doomed || is_new, "%s", event->name);
		n_written += is_doomed && (event->mask & IN_MODIFY);
		n_gone += is_doomed && (event->mask & IN_DELETE);
		at += (ssize_t)(sizeof *event + event->len);
	}
	close(watch);
	cr_assert(n_written == 3 && n_gone == 3, "%zu %zu", n_written, n_gone);
	/* One that was stopped before. */
	snprintf(path, sizeof path, "%s/1970-01-02.1.doomed", w->payloads.directory);
	FILE *file = fopen(path, "w");
	fputs("0123456789abcdef0123456789abcdef", file);
	fclose(file);
	cr_assert_eq(erase(w, (struct tt_erasure){.owner = "nobody"}), 0);
	cr_assert_eq(access(path, F_OK), -1);
	cr_assert(is_there(w, 0) && is_there(w, 29) && !is_there(w, 1));
	unmake(w);
}

/* What cannot be overwritten is not taken for gone. */
Test(govern_payload, a_key_that_cannot_be_overwritten_fails_the_erasing)
{
	struct world *w = make();
	struct tt_error err = {0};
	const struct tt_erasure nobody = {.owner = "nobody"};
	char path[128];
	uint64_t n = 0;
	struct stat status;
	add(w, 0, true);
	snprintf(path, sizeof path, "%s/1970-01-02.1.doomed", w->payloads.directory);
	cr_assert_eq(symlink("1970-01-02.1.doomed", path), 0); /* opening it fails, removing it does not */
	cr_assert_eq(tt_payloads_erase(&w->payloads, &nobody, &n, &err), TT_ERR_IO);
	cr_assert_not_null(strstr(err.message, path), "%s", err.message);
	cr_assert_eq(lstat(path, &status), 0);
	unlink(path);
	cr_assert_eq(erase(w, nobody), 0);
	unmake(w);
}

/* A folder of keys that cannot be read is not one without keys; one that is not there is. */
Test(govern_payload, keys_that_cannot_be_listed_fail_the_erasing)
{
	struct world *w = make();
	struct tt_error err = {0};
	const struct tt_erasure nobody = {.owner = "nobody"};
	uint64_t n = 0;
	cr_assert_eq(erase(w, nobody), 0);
	fclose(fopen(w->payloads.directory, "w"));
	cr_assert_eq(tt_payloads_erase(&w->payloads, &nobody, &n, &err), TT_ERR_IO);
	cr_assert_not_null(strstr(err.message, w->payloads.directory), "%s", err.message);
	unmake(w);
}

static void *erase_beside(void *user)
{
	struct world *w = user, other = *w;
	must(tt_database_open(&other.db, w->folder, TT_DATABASE_WRITE, err));
	must(tt_payloads_open(&other.payloads, &other.db, w->folder, err));
	erase(&other, (struct tt_erasure){.owner = "key-1"});
	tt_payloads_close(&other.payloads);
	tt_database_close(&other.db);
	return NULL;
}

Test(govern_payload, of_two_that_erase_one_waits)
{
	struct world *w = make();
	pthread_t threads[3];
	for (uint64_t i = 0; i < 60; i++)
		add(w, i, true);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, erase_beside, w), 0);
	cr_assert_eq(erase(w, (struct tt_erasure){.owner = "key-2"}), 20);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	for (uint64_t i = 0; i < 60; i++)
		cr_assert_eq(is_there(w, i), i % 3 == 0, "%zu", (size_t)i);
	unmake(w);
}

/* Another program's erasing renews the key that this one knows. */
Test(govern_payload, two_programs_agree_on_the_key_of_a_day)
{
	struct world *w = make(), other = *w;
	must(tt_database_open(&other.db, w->folder, TT_DATABASE_WRITE, err));
	must(tt_payloads_open(&other.payloads, &other.db, w->folder, err));
	add(w, 1, true);
	add(w, 2, true);
	const uint64_t one = 1;
	cr_assert_eq(erase(&other, (struct tt_erasure){.begins = &one, .n_begins = 1}), 1);
	add(w, 3, true);
	cr_assert(is_there(w, 2) && is_there(w, 3) && is_there(&other, 3) && !is_there(w, 1));
	tt_payloads_close(&other.payloads);
	tt_database_close(&other.db);
	unmake(w);
}

/* No byte of a text, and no row that could be opened with an old key, is in any file of the folder. */
Test(govern_payload, what_is_erased_is_in_no_file)
{
	struct world *w = make();
	char command[200];
	uint64_t those[20];
	for (uint64_t i = 0; i < 40; i++) {
		add(w, i, true);
		those[i % 20] = i / 20 * 20 + i % 20;
	}
	cr_assert_eq(erase(w, (struct tt_erasure){.begins = those, .n_begins = 20}), 20);
	snprintf(command, sizeof command, "! grep -rq 'word for word' %s", w->folder);
	cr_assert_eq(system(command), 0);
	unmake(w);
}

Test(govern_payload, a_changed_byte_is_noticed)
{
	struct world *w = make();
	uint8_t open[TT_SECRET];
	bool found;
	struct tt_buffer request = {0}, result = {0};
	char path[128];
	add(w, 1, true);
	tt_payloads_close(&w->payloads);
	must(tt_payloads_open(&w->payloads, &w->db, w->folder, err));
	snprintf(path, sizeof path, "%s/1970-01-02.1", w->payloads.directory);
	FILE *file = fopen(path, "r+");
	int byte = fgetc(file);
	rewind(file);
	fputc(byte ^ 1, file);
	fclose(file);
	cr_assert_eq(tt_payload_read(&w->payloads, 1, &found, open, &request, &result, NULL), TT_ERR_FORMAT);
	unmake(w);
}

/* Against Python's hmac. */
Test(govern_payload, a_commitment_is_hmac_sha256)
{
	uint8_t open[TT_SECRET];
	char text[65];
	struct tt_commitment commitment;
	for (int i = 0; i < TT_SECRET; i++)
		open[i] = (uint8_t)i;
	tt_commitment_begin(&commitment, open, "trimtab-body-1");
	tt_commitment_add(&commitment, "he", 2);
	tt_commitment_add(&commitment, "llo", 3);
	tt_commitment_add_size(&commitment, 258);
	must(tt_commitment_end(&commitment, text, err));
	/* hmac.new(bytes(range(32)), b"trimtab-body-1\0hello" + (258).to_bytes(8, "little"), "sha256").hexdigest() */
	cr_assert_str_eq(text, "bb3ff38dc59af1d8925a89a9214b1674cbbae83c2da885a2d0f9348d0f07af63");
}

/* A file that the database goes by must be found after a cut of the power, so the folders on the way to it are synced
 * before the database is. */
Test(govern_payload, files_that_the_database_goes_by_are_in_their_folders_for_good)
{
	struct world *w = make();
	struct tt_signer signer;
	n_synced = 0;
	add(w, 1, true);
	cr_expect(was_synced(w->folder, "keys") && was_synced(w->folder, "."), "a day's key");
	n_synced = 0;
	add(w, 2, true);
	cr_expect(!was_synced(w->folder, "keys"), "a key that is there is not made again");
	must(tt_log_key_open(&signer, w->folder, true, NULL, err));
	cr_expect(was_synced(w->folder, "."), "the log's key");
	n_synced = 0;
	must(tt_tile_write(w->folder, TT_TILE_ENTRIES, 1234567, 1, "x", 1, err));
	cr_expect(was_synced(w->folder, ".") && was_synced(w->folder, "tile") &&
			  was_synced(w->folder, "tile/entries/x001/x234"),
		"what is sealed");
	unmake(w);
}

/* Killed between the two files of the log's key: the next one finds the key, and writes the other. */
Test(govern_payload, who_finds_a_key_alone_writes_its_verifier)
{
	struct world *w = make();
	struct tt_signer first, again;
	struct tt_verifier verifier;
	char path[100];
	must(tt_log_key_open(&first, w->folder, true, NULL, err));
	snprintf(path, sizeof path, "%s/audit.pub", w->folder);
	cr_assert_eq(unlink(path), 0);
	n_synced = 0;
	must(tt_log_key_open(&again, w->folder, true, NULL, err));
	cr_expect(was_synced(w->folder, "."));
	must(tt_log_key_verifier(&verifier, w->folder, err));
	cr_expect_str_eq(verifier.name, first.verifier.name);
	cr_expect_arr_eq(verifier.id, first.verifier.id, sizeof verifier.id);
	unmake(w);
}

/* What is there may be of a process that was killed between making it and syncing it. */
Test(govern_payload, what_another_process_has_made_is_synced_too)
{
	struct world *w = make();
	struct tt_database db;
	char folder[100], left[128];
	/* Half a key, as one leaves that is killed while it writes: never under the key's own name. */
	snprintf(folder, sizeof folder, "%s/keys", w->folder);
	cr_assert_eq(mkdir(folder, 0700), 0);
	snprintf(left, sizeof left, "%s/1970-01-02.1.new", folder);
	FILE *half = fopen(left, "w");
	cr_assert(half && fputs("half", half) >= 0 && fclose(half) == 0);
	add(w, 1, true);
	cr_expect(was_synced(w->folder, "keys/1970-01-02.1"), "a day's key");
	cr_expect_eq(access(left, F_OK), -1);
	must(tt_tile_write(w->folder, TT_TILE_ENTRIES, 1234567, 1, "x", 1, err));
	for (int reads = 0; reads < 2; reads++) { /* a key that was only read is not synced thereby */
		tt_payloads_close(&w->payloads);
		must(tt_payloads_open(&w->payloads, &w->db, w->folder, err));
		n_synced = 0;
		cr_expect(!reads || is_there(w, 1));
		cr_expect_eq(n_synced, 0);
		add(w, 2 + (uint64_t)reads, true);
		cr_expect(was_synced(w->folder, "keys") && was_synced(w->folder, "."), "a day's key");
	}
	n_synced = 0;
	must(tt_tile_write(w->folder, TT_TILE_ENTRIES, 1234568, 1, "x", 1, err));
	cr_expect(was_synced(w->folder, ".") && was_synced(w->folder, "tile") &&
			  was_synced(w->folder, "tile/entries/x001/x234"),
		"what is sealed");
	snprintf(folder, sizeof folder, "%s/state/", w->folder);
	cr_assert_eq(mkdir(folder, 0700), 0);
	for (int made = 0; made < 2; made++) {
		n_synced = 0;
		must(tt_database_open(&db, folder, TT_DATABASE_CREATE, err));
		tt_database_close(&db);
		cr_expect(was_synced(w->folder, ".") && was_synced(w->folder, "state"), "a state folder");
	}
	unmake(w);
}
