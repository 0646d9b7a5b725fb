/* The file of activations: what of it is whole after a kill, what is refused, and that what is refused stays as it
 * is. */
#define _DEFAULT_SOURCE /* flock's and truncate's friends */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/sha256.h"
#include "base/string_index.h"
#include "controller/train/activation_file.h"
#include "golden.h"
#include "weights_files.h"

/* ---- What would be forced to disk is counted, since that takes a second here and there. */

static int n_syncs, n_folder_syncs;

int __wrap_fsync(int file);
int __wrap_fdatasync(int file);

int __wrap_fsync(int file)
{
	(void)file;
	n_folder_syncs++;
	return 0;
}

int __wrap_fdatasync(int file)
{
	(void)file;
	n_syncs++;
	return 0;
}

/* ---- A file in a folder of its own */

enum { D = 5, N = 4 };
static const char *const FILES[] = {"a", "b"};

struct world {
	struct scratch scratch;
	char path[128];
	json_t *numerics;
	struct tt_activation_file file;
	uint8_t records[N][256]; /* of tt_activation_bytes(D) */
};

static void make_record(uint8_t *record, int32_t i)
{
	const int32_t ids[] = {7, i, 9};
	uint8_t run[TT_ACTIVATION_DIGEST], key[TT_ACTIVATION_KEY];
	float h[D];
	for (int j = 0; j < D; j++)
		h[j] = (float)(i * D + j) / 3 - 2;
	must(tt_activation_run(run, ids, 3, 1, 3, err));
	tt_activation_key(key, run, (uint32_t)i + 10);
	must(tt_activation_seal(record, key, h, D, err));
}

static json_t *make_numerics(void)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "fingerprint", "llama L=3", "weights_digest", "ab12",
		"backend", "cpu", "mode", "strict", "kv", "f32", "probe", "c0de");
}

static void begin(struct world *w)
{
	*w = (struct world){.numerics = make_numerics()};
	scratch_make(&w->scratch);
	snprintf(w->path, sizeof w->path, "%s/a", w->scratch.directory);
	cr_assert(tt_activation_bytes(D) <= sizeof w->records[0]);
	for (int i = 0; i < N; i++)
		make_record(w->records[i], i);
}

static void end(struct world *w)
{
	json_decref(w->numerics);
	scratch_remove(&w->scratch, FILES, 2);
}

static int try_open(struct world *w, struct tt_error *err)
{
	return tt_activation_file_open(&w->file, w->path, w->numerics, D, err);
}

static void write_records(struct world *w, int from, int to)
{
	must(try_open(w, err));
	for (int i = from; i < to; i++)
		must(tt_activation_file_add(&w->file, w->records[i], err));
	tt_activation_file_close(&w->file);
}

static struct tt_buffer contents(const struct world *w)
{
	struct tt_buffer out = {0};
	must(tt_file_read(&out, w->path, 1 << 20, err));
	return out;
}

/* A new file: one that is written over is forced to disk by ext4. */
static void set_contents(struct world *w, const void *data, size_t n)
{
	unlink(w->path);
	scratch_write(&w->scratch, "a", data, n);
}

static void expect_contents(const struct world *w, const char *data, size_t n, const char *label, size_t at)
{
	struct tt_buffer now = contents(w);
	cr_expect(now.len == n && memcmp(now.data, data, n) == 0, "%s, %zu: %zu bytes, not the %zu", label, at, now.len,
		n);
	tt_buffer_free(&now);
}

/* Refused with this in its message, and every byte as it was. */
static void expect_untouched(struct world *w, int code, const char *words, const char *label, size_t at)
{
	struct tt_buffer before = contents(w);
	struct tt_error failure = {0};
	char name[64];
	snprintf(name, sizeof name, "%s, %zu", label, at);
	int status = try_open(w, &failure);
	expect_refused(status, &failure, name, w->path, words);
	cr_expect(code == 0 || status == code, "%s: %d: %s", name, status, failure.message);
	expect_contents(w, before.data, before.len, label, at);
	tt_buffer_free(&before);
}

static void expect_records(struct world *w, int n)
{
	uint8_t record[256];
	cr_expect_eq(w->file.n, (size_t)n);
	for (int i = 0; i < N; i++) {
		cr_expect_eq(tt_activation_file_have(&w->file, w->records[i]), i < n, "record %d of %d", i, n);
		if (i >= n)
			continue;
		must(tt_activation_file_read(&w->file, w->records[i], record, err));
		cr_expect_arr_eq(record, w->records[i], tt_activation_bytes(D));
	}
}

Test(activation_file, keeps_what_was_added_and_adds_nothing_twice)
{
	struct world w;
	struct tt_error failure = {0};
	uint8_t record[256];
	begin(&w);
	must(try_open(&w, err));
	expect_records(&w, 0);
	for (int i = 0; i < N; i++) {
		must(tt_activation_file_add(&w.file, w.records[i], err));
		must(tt_activation_file_add(&w.file, w.records[i / 2], err));
		expect_records(&w, i + 1);
	}
	cr_expect_eq(tt_activation_h(w.records[1])[2], 7.0f / 3 - 2);
	tt_activation_file_close(&w.file);
	tt_activation_file_close(&w.file);
	must(try_open(&w, err));
	expect_records(&w, N);
	memset(record, 1, sizeof record);
	cr_expect_eq(tt_activation_file_read(&w.file, record, record, &failure), TT_ERR_ARGUMENT);
	tt_activation_file_close(&w.file);
	end(&w);
}

Test(activation_file, is_forced_to_disk_when_it_is_made_each_second_and_at_the_end)
{
	struct world w;
	begin(&w);
	must(try_open(&w, err));
	cr_expect(n_syncs == 1 && n_folder_syncs == 1);
	w.file.synced = 1e300; /* as if it had just happened */
	must(tt_activation_file_add(&w.file, w.records[0], err));
	cr_expect_eq(n_syncs, 1);
	w.file.synced = 0;
	must(tt_activation_file_add(&w.file, w.records[1], err));
	cr_expect_eq(n_syncs, 2);
	w.file.synced = 1e300;
	must(tt_activation_file_add(&w.file, w.records[2], err));
	cr_expect_eq(n_syncs, 2);
	tt_activation_file_close(&w.file);
	cr_expect_eq(n_syncs, 3);
	must(try_open(&w, err));
	tt_activation_file_close(&w.file);
	cr_expect(n_syncs == 3 && n_folder_syncs == 1, "nothing new was there");
	end(&w);
}

/* Many, so that the table of keys grows; the layer alone tells some of them apart. */
Test(activation_file, finds_each_of_many)
{
	enum { MANY = 700 };
	struct world w;
	uint8_t record[256], key[TT_ACTIVATION_KEY];
	float h[D] = {0};
	begin(&w);
	must(try_open(&w, err));
	for (uint32_t i = 0; i < MANY; i++) {
		tt_activation_key(key, w.records[i % N], i / N);
		h[1] = (float)i;
		must(tt_activation_seal(record, key, h, D, err));
		must(tt_activation_file_add(&w.file, record, err));
	}
	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < MANY; i++) {
			tt_activation_key(key, w.records[i % N], i / N);
			must(tt_activation_file_read(&w.file, key, record, err));
			cr_expect_eq(tt_activation_h(record)[1], (float)i);
		}
		tt_activation_key(key, w.records[0], MANY);
		cr_expect(!tt_activation_file_have(&w.file, key));
		tt_activation_file_close(&w.file);
		must(try_open(&w, err));
	}
	tt_activation_file_close(&w.file);
	end(&w);
}

/* A killed run leaves the beginning of what it wrote; the next one goes on, and ends with the same bytes. */
Test(activation_file, goes_on_after_a_kill_at_any_byte)
{
	struct world w;
	begin(&w);
	write_records(&w, 0, N);
	struct tt_buffer whole = contents(&w);
	size_t n_head = whole.len - N * tt_activation_bytes(D);
	for (size_t n = 0; n < whole.len; n++) {
		set_contents(&w, whole.data, n);
		int records = n < n_head ? 0 : (int)((n - n_head) / tt_activation_bytes(D));
		must(try_open(&w, err));
		expect_records(&w, records);
		tt_activation_file_close(&w.file);
		expect_contents(&w, whole.data, n_head + (size_t)records * tt_activation_bytes(D), "cut", n);
		write_records(&w, records, N);
		expect_contents(&w, whole.data, whole.len, "gone on", n);
	}
	tt_buffer_free(&whole);
	end(&w);
}

/* Whole blocks at the end that a power cut left without their bytes. */
Test(activation_file, goes_on_before_a_damaged_end)
{
	struct world w;
	begin(&w);
	write_records(&w, 0, N);
	struct tt_buffer whole = contents(&w);
	size_t n = tt_activation_bytes(D);
	for (size_t at = whole.len - 2 * n; at < whole.len; at++) {
		char *bytes = malloc(whole.len);
		memcpy(bytes, whole.data, whole.len);
		memset(bytes + at, 0, whole.len - at);
		set_contents(&w, bytes, whole.len);
		must(try_open(&w, err));
		expect_records(&w, at < whole.len - n ? N - 2 : N - 1);
		tt_activation_file_close(&w.file);
		write_records(&w, 0, N);
		expect_contents(&w, whole.data, whole.len, "gone on", at);
		free(bytes);
	}
	tt_buffer_free(&whole);
	end(&w);
}

Test(activation_file, a_damaged_record_that_others_follow_is_refused_by_number)
{
	struct world w;
	begin(&w);
	write_records(&w, 0, N);
	struct tt_buffer whole = contents(&w);
	size_t n = tt_activation_bytes(D), n_head = whole.len - N * n;
	for (size_t at = n_head; at < whole.len - n; at++) {
		char words[64];
		snprintf(words, sizeof words, "record %zu is damaged", (at - n_head) / n + 1);
		whole.data[at] ^= (char)(1 << at % 8);
		set_contents(&w, whole.data, whole.len);
		expect_untouched(&w, TT_ERR_FORMAT, words, "byte", at);
		whole.data[at] ^= (char)(1 << at % 8);
	}
	tt_buffer_free(&whole);
	end(&w);
}

Test(activation_file, a_damaged_first_line_is_refused)
{
	struct world w;
	begin(&w);
	write_records(&w, 0, 1);
	struct tt_buffer whole = contents(&w);
	for (size_t at = 0; at < whole.len - tt_activation_bytes(D); at++)
		for (int bit = 0; bit < 8; bit++) {
			whole.data[at] ^= (char)(1 << bit);
			set_contents(&w, whole.data, whole.len);
			expect_untouched(&w, 0, "nothing was changed", "byte", at);
			whole.data[at] ^= (char)(1 << bit);
		}
	/* The same facts in other words are not what was written. */
	struct tt_buffer spaced = {0};
	must(tt_buffer_add(&spaced, whole.data, 1, err));
	must(tt_buffer_add(&spaced, " ", 1, err));
	must(tt_buffer_add(&spaced, whole.data + 1, whole.len - 1, err));
	set_contents(&w, spaced.data, spaced.len);
	expect_untouched(&w, TT_ERR_FORMAT, "no file of activations", "a space", 1);
	tt_buffer_free(&spaced);
	tt_buffer_free(&whole);
	end(&w);
}

Test(activation_file, another_models_file_is_refused_with_what_differs)
{
	static const struct {
		const char *key, *value, *words;
	} others[] = {
		{"fingerprint", "qwen2 L=3", "another model (\"llama L=3\" there, \"qwen2 L=3\" here)"},
		{"weights_digest", "ab13", "model's weights (\"ab12\" there, \"ab13\" here)"},
		{"backend", "cuda", "another --device"},
		{"mode", "fast", "--fast"},
		{"kv", "f16", "another --kv (\"f32\" there, \"f16\" here)"},
		{"compute", "q8", "another --compute (\"f32\" there, \"q8\" here)"},
		{"probe", "c0df", "rounding of the processor"},
	};
	struct world w;
	begin(&w);
	write_records(&w, 0, 2);
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		json_object_set_new(w.numerics, others[i].key, json_string(others[i].value));
		/* What a difference explains is not named. */
		json_object_set_new(w.numerics, "probe", json_string("c0df"));
		expect_untouched(&w, TT_ERR_MISMATCH, others[i].words, others[i].key, i);
		json_decref(w.numerics);
		w.numerics = make_numerics();
	}
	struct tt_error failure = {0};
	int status = tt_activation_file_open(&w.file, w.path, w.numerics, D + 1, &failure);
	expect_refused(status, &failure, "width", w.path, "another model (5 there, 6 here)");
	write_records(&w, 2, N);
	must(try_open(&w, err));
	expect_records(&w, N);
	tt_activation_file_close(&w.file);
	/* Of another trimtab, and of another format. */
	struct tt_buffer whole = contents(&w);
	char *version = strstr(whole.data, TT_VERSION);
	*version = '7';
	set_contents(&w, whole.data, whole.len);
	expect_untouched(&w, TT_ERR_MISMATCH, "another trimtab (\"7", "version", 0);
	whole.data[strlen("{\"trimtab.activations\":")] = '2';
	set_contents(&w, whole.data, whole.len);
	expect_untouched(&w, TT_ERR_MISMATCH, "another format of the file (2 there, 1 here)", "format", 0);
	tt_buffer_free(&whole);
	end(&w);
}

Test(activation_file, another_kind_of_file_is_left_alone)
{
	static const char *const others[] = {"x", "\n", "{}", "{\"trimtab.batch\":2}\n", "GGUF\3\0\0\0",
		"{\"trimtab.activations\":1}\n", "{\"trimtab.activations\":1,\"version\":\"0",
		"{\"trimtab.activations\":", "{\"id\": \"1\", \"prompt\": \"x\", \"label\": \"harmful\"}\n"};
	struct world w;
	struct tt_error failure = {0};
	char *large = malloc(10000);
	begin(&w);
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		set_contents(&w, others[i], strlen(others[i]));
		if (i == 6 || i == 7) { /* the beginning of what would be written: a run that was killed at once */
			must(try_open(&w, err));
			tt_activation_file_close(&w.file);
		} else {
			expect_untouched(&w, 0, "nothing was changed", "text", i);
		}
	}
	for (size_t i = 0; i < 10000; i++)
		large[i] = (char)(i * 7);
	set_contents(&w, large, 10000);
	expect_untouched(&w, TT_ERR_FORMAT, "no file of activations", "bytes", 0);
	/* A first line without an end, longer than any. */
	memset(large, 'x', 10000);
	memcpy(large, others[7], strlen(others[7]));
	set_contents(&w, large, 10000);
	expect_untouched(&w, TT_ERR_FORMAT, "first line is damaged", "bytes", 1);
	free(large);
	unlink(w.path);
	cr_assert_eq(mkdir(w.path, 0700), 0);
	cr_expect_eq(try_open(&w, &failure), TT_ERR_IO);
	cr_assert_eq(rmdir(w.path), 0);
	cr_assert_eq(mkfifo(w.path, 0600), 0);
	cr_expect_eq(try_open(&w, &failure), TT_ERR_IO);
	cr_expect_not_null(strstr(failure.message, "not a regular file"), "%s", failure.message);
	end(&w);
}

Test(activation_file, two_runs_at_once_do_not_mix)
{
	struct world w;
	struct tt_activation_file second;
	struct tt_error failure = {0};
	begin(&w);
	must(try_open(&w, err));
	must(tt_activation_file_add(&w.file, w.records[0], err));
	cr_expect_eq(tt_activation_file_open(&second, w.path, w.numerics, D, &failure), TT_ERR_IO);
	cr_expect_not_null(strstr(failure.message, "another run"), "%s", failure.message);
	must(tt_activation_file_add(&w.file, w.records[1], err));
	expect_records(&w, 2);
	tt_activation_file_close(&w.file);
	must(tt_activation_file_open(&second, w.path, w.numerics, D, err));
	cr_expect_eq(second.n, 2);
	tt_activation_file_close(&second);
	end(&w);
}

/* A checksum is no signature: a file may be made whose records are right and hold nonsense. */
Test(activation_file, what_is_no_number_is_not_sound)
{
	static const float odd[] = {NAN, INFINITY, -INFINITY};
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		struct world w;
		float h[D] = {0};
		begin(&w);
		h[D - 1] = odd[i];
		uint8_t key[TT_ACTIVATION_KEY];
		memcpy(key, w.records[1], sizeof key);
		must(tt_activation_seal(w.records[1], key, h, D, err));
		cr_expect(!tt_activation_is_finite(w.records[1], D) && tt_activation_is_finite(w.records[0], D));
		write_records(&w, 0, N);
		expect_untouched(&w, TT_ERR_FORMAT, "record 2 is damaged", "number", i);
		end(&w);
	}
}

Test(activation_file, a_record_that_changes_while_it_is_open_is_not_used)
{
	struct world w;
	struct tt_error failure = {0};
	uint8_t record[256];
	begin(&w);
	write_records(&w, 0, N);
	struct tt_buffer whole = contents(&w);
	must(try_open(&w, err));
	size_t n = tt_activation_bytes(D), at = whole.len - 3 * n;
	whole.data[at + TT_ACTIVATION_KEY + 2] ^= 1;
	scratch_write(&w.scratch, "a", whole.data, whole.len);
	cr_expect_eq(tt_activation_file_read(&w.file, w.records[1], record, &failure), TT_ERR_FORMAT);
	cr_expect_not_null(strstr(failure.message, "record 2"), "%s", failure.message);
	memcpy(whole.data + at, w.records[2], n); /* a sound record, and not the one that was asked for */
	scratch_write(&w.scratch, "a", whole.data, whole.len);
	cr_expect_eq(tt_activation_file_read(&w.file, w.records[1], record, &failure), TT_ERR_FORMAT);
	scratch_write(&w.scratch, "a", whole.data, at + 1);
	cr_expect_eq(tt_activation_file_read(&w.file, w.records[1], record, &failure), TT_ERR_IO);
	must(tt_activation_file_read(&w.file, w.records[0], record, err));
	tt_activation_file_close(&w.file);
	tt_buffer_free(&whole);
	end(&w);
}

/* A full disk, by the limit of a file's size. */
Test(activation_file, keeps_whole_records_when_a_write_fails)
{
	for (size_t room = 0; room < tt_activation_bytes(D); room += 17) {
		struct world w;
		struct tt_error failure = {0};
		struct rlimit limit, before;
		begin(&w);
		write_records(&w, 0, 2);
		struct tt_buffer two = contents(&w);
		must(try_open(&w, err));
		signal(SIGXFSZ, SIG_IGN);
		getrlimit(RLIMIT_FSIZE, &before);
		limit = before;
		limit.rlim_cur = two.len + room;
		cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
		cr_expect_eq(tt_activation_file_add(&w.file, w.records[2], &failure), TT_ERR_IO);
		setrlimit(RLIMIT_FSIZE, &before);
		cr_expect_not_null(strstr(failure.message, w.path), "%s", failure.message);
		expect_contents(&w, two.data, two.len, "full", room);
		must(tt_activation_file_add(&w.file, w.records[2], err)); /* and there is room again */
		expect_records(&w, 3);
		tt_activation_file_close(&w.file);
		tt_buffer_free(&two);
		end(&w);
	}
}

/* A size that promises more records than can be counted is refused before anything is read or allocated. */
Test(activation_file, a_size_that_lies_is_refused)
{
	struct world w;
	struct stat status;
	struct tt_error failure = {0};
	begin(&w);
	write_records(&w, 0, 1);
	off_t size = (off_t)INT32_MAX * (off_t)tt_activation_bytes(D) + (1 << 20);
	if (truncate(w.path, size) < 0)
		cr_skip_test("no file system for a sparse file of %lld bytes", (long long)size);
	cr_expect_eq(try_open(&w, &failure), TT_ERR_LIMIT);
	cr_expect_not_null(strstr(failure.message, "records"), "%s", failure.message);
	cr_expect(stat(w.path, &status) == 0 && status.st_size == size);
	end(&w);
}

/* Keys that a file's maker chose so that all begin their search in one place. */
Test(activation_file, keys_that_collide_are_refused_not_waited_for)
{
	enum { MASK = 0xfff };
	struct world w;
	struct tt_error failure = {0};
	uint8_t record[256], key[TT_ACTIVATION_KEY] = {0};
	float h[D] = {0};
	int status = TT_OK;
	uint64_t made = 0;
	begin(&w);
	must(try_open(&w, err));
	for (uint64_t i = 0; status == TT_OK && made < TT_HASH_MAX_PROBES + 10; i++) {
		memcpy(key, &i, sizeof i);
		if ((tt_hash_bytes(key, sizeof key) & MASK) != 5)
			continue;
		must(tt_activation_seal(record, key, h, D, err));
		status = tt_activation_file_add(&w.file, record, &failure);
		made++;
	}
	cr_expect_eq(status, TT_ERR_LIMIT);
	cr_expect_not_null(strstr(failure.message, "hash"), "%s", failure.message);
	tt_activation_file_close(&w.file);
	cr_expect_eq(try_open(&w, &failure), TT_ERR_LIMIT);
	end(&w);
}

/* By Python: hashlib.sha256(struct.pack("<QQ3i", 1, 3, 7, 2, 9)).hexdigest(), and the same of that digest's bytes,
 * struct.pack("<I", 12) and the five numbers as numpy.float32. */
Test(activation_file, digests_are_those_of_hashlib)
{
	struct world w;
	char hex[65];
	begin(&w);
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", w.records[2][i]);
	cr_expect_str_eq(hex, "cceac93557c5dd8e6a606ef9834c4c86fff57486b1cc49a9d53609f977c65a1a");
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", tt_activation_check(w.records[2], D)[i]);
	cr_expect_str_eq(hex, "bfb27f90ef8a2fb3636029cf5b7cb6e0a3b46e4c89285dde6fedb161191b88fb");
	end(&w);
}
