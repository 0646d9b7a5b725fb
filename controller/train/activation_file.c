#include "controller/train/activation_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/json.h"
#include "base/sha256.h"
#include "base/string_index.h"
#include "runtime/trimtab.h"

enum { MAX_HEAD = 4096, SYNC_SECONDS = 1 };

static const char beginning[] = "{\"trimtab.activations\":";

/* ---- Records */

size_t tt_activation_bytes(uint32_t hidden_size)
{
	return TT_ACTIVATION_KEY + (size_t)hidden_size * sizeof(float) + TT_ACTIVATION_DIGEST;
}

int tt_activation_run(uint8_t out[TT_ACTIVATION_DIGEST], const int32_t *ids, size_t n_ids, size_t from, size_t to,
	struct tt_error *err)
{
	const uint64_t span[] = {from, to};
	struct tt_buffer text = {0};
	int status = tt_buffer_add(&text, span, sizeof span, err);
	if (status == TT_OK)
		status = tt_buffer_add(&text, ids, n_ids * sizeof *ids, err);
	if (status == TT_OK)
		status = tt_sha256_bytes(out, text.data, text.len, err);
	tt_buffer_free(&text);
	return status;
}

void tt_activation_key(uint8_t out[TT_ACTIVATION_KEY], const uint8_t run[TT_ACTIVATION_DIGEST], uint32_t layer)
{
	memcpy(out, run, TT_ACTIVATION_DIGEST);
	memcpy(out + TT_ACTIVATION_DIGEST, &layer, sizeof layer);
}

int tt_activation_seal(uint8_t *record, const uint8_t key[TT_ACTIVATION_KEY], const float *h, uint32_t hidden_size,
	struct tt_error *err)
{
	size_t n = tt_activation_bytes(hidden_size) - TT_ACTIVATION_DIGEST;
	memcpy(record, key, TT_ACTIVATION_KEY);
	memcpy(record + TT_ACTIVATION_KEY, h, hidden_size * sizeof *h);
	return tt_sha256_bytes(record + n, record, n, err);
}

bool tt_activation_is_finite(const uint8_t *record, uint32_t hidden_size)
{
	const float *h = tt_activation_h(record);
	uint32_t i = 0;
	while (i < hidden_size && isfinite(h[i]))
		i++;
	return i == hidden_size;
}

static int is_sound(const uint8_t *record, uint32_t hidden_size, bool *sound, struct tt_error *err)
{
	uint8_t actual[TT_ACTIVATION_DIGEST];
	const uint8_t *check = tt_activation_check(record, hidden_size);
	TT_TRY(tt_sha256_bytes(actual, record, (size_t)(check - record), err));
	*sound = memcmp(actual, check, sizeof actual) == 0 && tt_activation_is_finite(record, hidden_size);
	return TT_OK;
}

static uint64_t position(const struct tt_activation_file *a, size_t i)
{
	return a->n_head + (uint64_t)i * tt_activation_bytes(a->hidden_size);
}

static int read_record(const struct tt_activation_file *a, size_t i, uint8_t *record, bool *sound, struct tt_error *err)
{
	*sound = false;
	if (tt_append_log_read(&a->log, position(a, i), record, tt_activation_bytes(a->hidden_size)) < 0)
		return tt_fail_io(err, a->log.path, "read");
	return is_sound(record, a->hidden_size, sound, err);
}

static int damaged(const struct tt_activation_file *a, size_t i, struct tt_error *err)
{
	return tt_fail(err, TT_ERR_FORMAT,
		"%s: record %zu is damaged; nothing was changed. Move it away, or name another file", a->log.path,
		i + 1);
}

/* ---- The index of keys */

/* Whether a record has the key; *slot is its place, or the free one where it belongs, or SIZE_MAX: too many keys have
 * that hash. */
static bool find(const struct tt_activation_file *a, const uint8_t key[TT_ACTIVATION_KEY], size_t *slot)
{
	*slot = tt_hash_bytes(key, TT_ACTIVATION_KEY) & a->mask;
	for (int probes = 0; probes < TT_HASH_MAX_PROBES; probes++, *slot = (*slot + 1) & a->mask) {
		uint32_t entry = a->slots[*slot];
		if (!entry)
			return false;
		if (memcmp(a->keys[entry - 1], key, TT_ACTIVATION_KEY) == 0)
			return true;
	}
	*slot = SIZE_MAX;
	return false;
}

/* Enters record i. Of records with one key the first holds. */
static int enter(struct tt_activation_file *a, size_t i, struct tt_error *err)
{
	size_t slot;
	if (find(a, a->keys[i], &slot))
		return TT_OK;
	if (slot == SIZE_MAX)
		return tt_fail(err, TT_ERR_LIMIT, "%s: too many records with the same hash, at record %zu", a->log.path,
			i + 1);
	a->slots[slot] = (uint32_t)i + 1;
	return TT_OK;
}

/* Makes room for the keys of n records. */
static int reserve(struct tt_activation_file *a, size_t n, struct tt_error *err)
{
	size_t slots;
	if (n <= a->capacity)
		return TT_OK;
	TT_TRY(tt_grow(&a->keys, &a->capacity, n, sizeof *a->keys, err));
	if (a->capacity > INT32_MAX || !tt_hash_slots(a->capacity, &slots))
		return tt_fail(err, TT_ERR_LIMIT, "%s: more than %d records", a->log.path, INT32_MAX);
	free(a->slots);
	TT_TRY(tt_alloc(&a->slots, slots, sizeof *a->slots, err));
	a->mask = slots - 1;
	for (size_t i = 0; i < a->n; i++)
		TT_TRY(enter(a, i, err));
	return TT_OK;
}

/* Counts a record that lies after the others, and enters it. The memory grows with what was found, not with what the
 * size of a file promises. */
static int take_key(struct tt_activation_file *a, const uint8_t *record, struct tt_error *err)
{
	TT_TRY(reserve(a, a->n + 1, err));
	memcpy(a->keys[a->n], record, TT_ACTIVATION_KEY);
	return enter(a, a->n++, err);
}

/* ---- The first line */

static int print_head(struct tt_buffer *line, const json_t *numerics, uint32_t hidden_size, struct tt_error *err)
{
	char *text = NULL;
	TT_TRY(tt_json_dump(&text, json_incref((json_t *)(uintptr_t)numerics), JSON_COMPACT | JSON_SORT_KEYS, err));
	int status = tt_buffer_print(line, err, "%s%d,\"version\":\"%s\",\"hidden_size\":%u,\"numerics\":%s}\n",
		beginning, TT_ACTIVATION_FORMAT, TT_VERSION, hidden_size, text);
	free(text);
	return status;
}

/* In this order, so that what explains another difference is named first. */
static const struct {
	const char *group, *key, *name;
	const char *absent; /* what it stands for that a fact is not there, if anything */
} facts[] = {
	{NULL, "trimtab.activations", "format of the file", NULL},
	{NULL, "version", "trimtab", NULL},
	{"numerics", "fingerprint", "model", NULL},
	{NULL, "hidden_size", "model", NULL},
	{"numerics", "weights_digest", "model's weights", NULL},
	{"numerics", "backend", "--device", NULL},
	{"numerics", "mode", "mode (--fast)", NULL},
	{"numerics", "kv", "--kv", NULL},
	{"numerics", "compute", "--compute", "f32"},
	{"numerics", "chat_template", "--chat-template", "the model's"},
	{"numerics", "probe", "rounding of the processor, by its answer to 16 tokens", NULL},
};

/* A new reference, or NULL. */
static json_t *value_of(const json_t *head, size_t fact)
{
	const json_t *in = facts[fact].group ? json_object_get(head, facts[fact].group) : head;
	json_t *value = json_object_get(in, facts[fact].key);
	return value || !facts[fact].absent ? json_incref(value) : json_string(facts[fact].absent);
}

static int differs(const char *path, const char *name, const json_t *there, const json_t *here, struct tt_error *err)
{
	enum { FLAGS = JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_COMPACT };
	char *texts[2] = {NULL, NULL};
	int status = tt_json_dump(&texts[0], there ? json_incref((json_t *)(uintptr_t)there) : json_null(), FLAGS, err);
	if (status == TT_OK)
		status = tt_json_dump(&texts[1], json_incref((json_t *)(uintptr_t)here), FLAGS, err);
	if (status == TT_OK)
		status = tt_fail(err, TT_ERR_MISMATCH,
			"%s holds activations of another %s (%.60s there, %.60s here); nothing was changed. Move it "
			"away, or name another file",
			path, name, texts[0], texts[1]);
	free(texts[0]);
	free(texts[1]);
	return status;
}

/* Says why the first line of a file is not the one that this run would write. */
static int refuse_head(
	const char *path, const char *found, size_t n, const struct tt_buffer *line, struct tt_error *err)
{
	const char *end = memchr(found, '\n', n);
	json_t *there = NULL, *here = NULL;
	if (n < sizeof beginning - 1 || memcmp(found, beginning, sizeof beginning - 1) != 0)
		return tt_fail(err, TT_ERR_FORMAT,
			"%s is there and is no file of activations; nothing was changed. Name another file", path);
	int status = end ? tt_json_parse(&there, found, (size_t)(end - found), path, NULL) : TT_ERR_FORMAT;
	if (status == TT_OK)
		status = tt_json_parse(&here, line->data, line->len, path, err);
	for (size_t i = 0; status == TT_OK && i < sizeof facts / sizeof *facts; i++) {
		json_t *own = value_of(here, i), *other = value_of(there, i);
		if (own && !json_equal(own, other))
			status = differs(path, facts[i].name, other, own, err);
		json_decref(own);
		json_decref(other);
	}
	if (status == TT_OK || status == TT_ERR_FORMAT)
		status = tt_fail(err, TT_ERR_FORMAT,
			"%s: its first line is damaged; nothing was changed. Move it away, or name another file", path);
	else if (status == TT_ERR_MEMORY)
		status = tt_fail(err, TT_ERR_MEMORY, "%s: out of memory", path);
	json_decref(there);
	json_decref(here);
	return status;
}

/* Compares the first line of a file of size bytes. *begins: there is none, or the beginning of one: the run that began
 * the file was killed before it wrote a record. */
static int check_head(const struct tt_activation_file *a, uint64_t size, const struct tt_buffer *line, bool *begins,
	struct tt_error *err)
{
	char *found = NULL;
	size_t most = line->len > MAX_HEAD ? line->len : MAX_HEAD;
	size_t n = size < most ? (size_t)size : most, n_same = n < line->len ? n : line->len;
	TT_TRY(tt_alloc(&found, n, 1, err));
	int status = TT_OK;
	if (tt_append_log_read(&a->log, 0, found, n) < 0)
		status = tt_fail_io(err, a->log.path, "read");
	else if (memcmp(found, line->data, n_same) != 0)
		status = refuse_head(a->log.path, found, n, line, err);
	free(found);
	*begins = n < line->len;
	return status;
}

/* ---- Opening */

static int failed_write(struct tt_activation_file *a, struct tt_error *err)
{
	int status = tt_fail_io(err, a->log.path, "write");
	tt_append_log_cut(&a->log, NULL);
	return status;
}

static int begin(struct tt_activation_file *a, const struct tt_buffer *line, struct tt_error *err)
{
	TT_TRY(tt_append_log_cut(&a->log, err));
	if (tt_append_log_add(&a->log, line->data, line->len) < 0 || tt_append_log_sync(&a->log) < 0)
		return failed_write(a, err);
	return tt_append_log_sync_name(&a->log, err);
}

/* Looks at all records. A run that was killed leaves part of a record at the end, and a power cut perhaps records whose
 * bytes never reached the disk; where a sound record follows a damaged one, somebody has changed the file. */
static int read_records(struct tt_activation_file *a, uint64_t size, uint8_t *record, struct tt_error *err)
{
	uint64_t n = (size - a->n_head) / tt_activation_bytes(a->hidden_size);
	size_t first_damaged = SIZE_MAX;
	if (n > INT32_MAX)
		return tt_fail(err, TT_ERR_LIMIT, "%s: more than %d records", a->log.path, INT32_MAX);
	for (size_t i = 0; i < n; i++) {
		bool sound;
		TT_TRY(read_record(a, i, record, &sound, err));
		if (!sound && first_damaged == SIZE_MAX)
			first_damaged = i;
		if (!sound)
			continue;
		if (first_damaged != SIZE_MAX)
			return damaged(a, first_damaged, err);
		TT_TRY(take_key(a, record, err));
	}
	a->log.end = position(a, a->n);
	return tt_append_log_cut(&a->log, err);
}

static int open_file(struct tt_activation_file *a, const json_t *numerics, struct tt_error *err)
{
	uint64_t size;
	bool begins = false;
	struct tt_buffer line = {0};
	uint8_t *record = NULL;
	TT_TRY(tt_append_log_open(&a->log, true, err));
	TT_TRY(tt_append_log_lock(&a->log, err));
	TT_TRY(tt_append_log_size(&a->log, &size, err));
	TT_TRY(reserve(a, 1, err));
	int status = print_head(&line, numerics, a->hidden_size, err);
	if (status == TT_OK)
		status = check_head(a, size, &line, &begins, err);
	a->n_head = line.len;
	if (status == TT_OK && begins)
		status = begin(a, &line, err);
	tt_buffer_free(&line);
	if (status != TT_OK || begins)
		return status;
	TT_TRY(tt_alloc(&record, tt_activation_bytes(a->hidden_size), 1, err));
	status = read_records(a, size, record, err);
	free(record);
	return status;
}

int tt_activation_file_open(struct tt_activation_file *out, const char *path, const json_t *numerics,
	uint32_t hidden_size, struct tt_error *err)
{
	*out = (struct tt_activation_file){
		.log = {.path = path, .file = -1}, .hidden_size = hidden_size, .is_synced = true};
	int status = open_file(out, numerics, err);
	out->synced = tt_now();
	if (status != TT_OK)
		tt_activation_file_close(out);
	return status;
}

void tt_activation_file_close(struct tt_activation_file *file)
{
	if (!file->log.path)
		return;
	/* Without this a power cut costs records, which a later run makes again: no reason to fail. */
	if (!file->is_synced)
		tt_append_log_sync(&file->log);
	tt_append_log_close(&file->log);
	free(file->keys);
	free(file->slots);
	*file = (struct tt_activation_file){0};
}

/* ---- Reading and adding */

bool tt_activation_file_have(const struct tt_activation_file *file, const uint8_t key[TT_ACTIVATION_KEY])
{
	size_t slot;
	return find(file, key, &slot);
}

int tt_activation_file_read(const struct tt_activation_file *file, const uint8_t key[TT_ACTIVATION_KEY],
	uint8_t *record, struct tt_error *err)
{
	size_t slot;
	bool sound;
	if (!find(file, key, &slot))
		return tt_fail(err, TT_ERR_ARGUMENT, "%s: no such record", file->log.path);
	size_t i = file->slots[slot] - 1;
	TT_TRY(read_record(file, i, record, &sound, err));
	return sound && memcmp(record, key, TT_ACTIVATION_KEY) == 0 ? TT_OK : damaged(file, i, err);
}

int tt_activation_file_add(struct tt_activation_file *file, const uint8_t *record, struct tt_error *err)
{
	if (tt_activation_file_have(file, record))
		return TT_OK;
	if (tt_append_log_add(&file->log, record, tt_activation_bytes(file->hidden_size)) < 0)
		return failed_write(file, err);
	file->is_synced = false;
	TT_TRY(take_key(file, record, err));
	if (tt_now() - file->synced < SYNC_SECONDS)
		return TT_OK;
	file->synced = tt_now();
	file->is_synced = true;
	return tt_append_log_sync(&file->log) < 0 ? tt_fail_io(err, file->log.path, "write") : TT_OK;
}
