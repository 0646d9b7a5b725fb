/* A store that somebody has changed: opened, read as a server reads it, listed, and written to. The input is a list of
 * changes to a good one, three bytes each: where (16 bits), and what is put there; or, where it begins as SQLite's
 * files do, the file itself. The good one has small pages, so that 16 bits reach all of it. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "controller/govern/command.h"
#include "controller/govern/in_force.h"
#include "controller/govern/key.h"
#include "controller/govern/query.h"
#include "runtime/trimtab.h"
#include "target.h"

static char folder[32] = "/dev/shm/trimtab-fuzz-XXXXXX", path[64]; /* in memory, where that is there */
static struct tt_buffer good;
static struct tt_actor root;

static void must(bool holds)
{
	if (!holds)
		abort();
}

static json_t *run(struct tt_store *store, const struct tt_actor *actor, const char *name, json_t *arguments)
{
	struct tt_error err;
	json_t *answer = NULL;
	tt_command_run(tt_command_find(name), store, actor, arguments, &answer, &err);
	json_decref(arguments);
	return answer;
}

static void add_key(struct tt_store *store, const struct tt_actor *by, const char *person, struct tt_actor *out)
{
	json_t *answer = run(
		store, by, "key/add", json_pack("{s:s, s:s}", "person", person, "roles", "operator,editor,approver"));
	must(answer && tt_actor_find(out, store, json_string_value(json_object_get(answer, "key")), NULL) == TT_OK);
	json_decref(answer);
}

/* A policy with labels, by SQL: the bytes of its file are none, since files are in memory here. */
static void fill(struct tt_store *store, const struct tt_actor *other)
{
	static const char version[] = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"; /* of "x" */
	must(tt_sql_run(&store->db, "INSERT INTO policy_file (sha256, bytes) VALUES (?, ?)",
		     TT_SQL(tt_text(version), tt_bytes("x", 1)), NULL) == TT_OK);
	must(tt_sql_run(&store->db,
		     "INSERT INTO version (policy, sha256, state, author, editor, submitter, approver, least, most, "
		     "floor, "
		     "created, changed) VALUES ('p', ?, ?, 'A', '', 'A', 'B', 0.0, 1.0, 0.5, 1, 1)",
		     TT_SQL(tt_text(version), tt_integer(TT_APPROVED)), NULL) == TT_OK);
	json_decref(run(store, &root, "policy/label",
		json_pack("{s:s, s:s, s:s}", "name", "p", "label", "production", "version", version)));
	json_decref(run(
		store, &root, "stack/propose", json_pack("{s:[{s:s, s:f}]}", "policies", "name", "p", "scale", 0.75)));
	json_decref(run(store, other, "stack/approve", json_pack("{s:i}", "number", 1)));
	json_t *last = run(store, &root, "policy/kill", json_pack("{s:s}", "name", "p"));
	must(last != NULL);
	json_decref(last);
}

static void clean(void)
{
	static const char *const endings[] = {"", "-wal", "-shm"};
	char name[80];
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
		snprintf(name, sizeof name, "%s%s", path, endings[i]);
		unlink(name);
	}
	rmdir(folder);
	tt_buffer_free(&good);
}

static void make_good(void)
{
	const struct tt_actor nobody = {.roles = TT_ROLE_OPERATOR};
	struct tt_actor other;
	struct tt_store store;
	char bytes[4096];
	size_t n;
	if (access("/dev/shm", W_OK) < 0)
		strcpy(folder, "/tmp/trimtab-fuzz-XXXXXX");
	must(mkdtemp(folder) != NULL && atexit(clean) == 0);
	snprintf(path, sizeof path, "%s/trimtab.db", folder);
	must(tt_store_open(&store, folder, TT_DATABASE_CREATE, NULL) == TT_OK);
	add_key(&store, &nobody, "A", &root);
	add_key(&store, &root, "B", &other);
	fill(&store, &other);
	must(sqlite3_exec(store.db.handle, "PRAGMA journal_mode = DELETE; PRAGMA page_size = 512;", NULL, NULL, NULL) ==
		SQLITE_OK);
	sqlite3_limit(store.db.handle, SQLITE_LIMIT_ATTACHED, 1); /* which VACUUM needs */
	must(sqlite3_exec(store.db.handle, "VACUUM; PRAGMA journal_mode = WAL;", NULL, NULL, NULL) == SQLITE_OK);
	tt_store_close(&store);
	FILE *in = fopen(path, "rb");
	must(in != NULL);
	while ((n = fread(bytes, 1, sizeof bytes, in)) > 0)
		must(tt_buffer_add(&good, bytes, n, NULL) == TT_OK);
	fclose(in);
	must(good.len < 1 << 16);
}

static void write_file(const uint8_t *data, size_t size)
{
	char other[80];
	snprintf(other, sizeof other, "%s-wal", path);
	unlink(other);
	snprintf(other, sizeof other, "%s-shm", path);
	unlink(other);
	bool whole = size >= 16 && memcmp(data, "SQLite format 3", 16) == 0;
	FILE *out = fopen(path, "r+b");
	must(out != NULL && ftruncate(fileno(out), 0) == 0);
	must(whole ? fwrite(data, size, 1, out) == 1 : fwrite(good.data, good.len, 1, out) == 1);
	for (size_t i = 0; !whole && i + 3 <= size; i += 3) {
		fseek(out, (long)((data[i] | data[i + 1] << 8) % good.len), SEEK_SET);
		fputc(data[i + 2], out);
	}
	fclose(out);
}

static void use(struct tt_store *store)
{
	static const char *const looks[] = {
		"policy/list", "policy/history", "stack/list", "policy/killed", "key/list", "policy/show"};
	struct tt_in_force force;
	struct tt_policy *policy;
	if (tt_in_force_read(&force, store, NULL) == TT_OK) {
		for (size_t i = 0; i < force.n_labels; i++)
			if (tt_version_load(&policy, &store->db, folder, force.labels[i].version.sha256, NULL) == TT_OK)
				tt_policy_free(policy);
		tt_in_force_free(&force);
	}
	for (size_t i = 0; i < sizeof looks / sizeof *looks; i++)
		json_decref(run(store, &root, looks[i],
			strcmp(looks[i], "policy/show") ? NULL : json_pack("{s:s}", "name", "p")));
	json_decref(run(store, &root, "policy/resume", json_pack("{s:s}", "name", "p")));
	json_decref(run(store, &root, "policy/rollback", json_pack("{s:s}", "name", "p")));
	json_decref(run(store, &root, "policy/kill", NULL));
}

void fuzz_one(const uint8_t *data, size_t size)
{
	struct tt_store store;
	if (!good.data)
		make_good();
	write_file(data, size);
	if (tt_store_open(&store, folder, TT_DATABASE_WRITE, NULL) != TT_OK)
		return;
	use(&store);
	tt_store_close(&store);
}
