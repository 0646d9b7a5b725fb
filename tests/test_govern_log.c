/* The audit log in a database of its own. */
#include "controller/govern/log.h"

#include <pthread.h>
#include <sqlite3.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/json.h"
#include "controller/govern/log_files.h"
#include "controller/govern/query.h"
#include "golden.h"

struct world {
	char folder[64];
	struct tt_database db;
	struct tt_log log;
};

static void open_log(struct world *w)
{
	must(tt_database_open(&w->db, w->folder, TT_DATABASE_CREATE, err));
	must(tt_log_open(&w->log, &w->db, err));
}

static void close_log(struct world *w)
{
	tt_log_close(&w->log);
	tt_database_close(&w->db);
}

static struct world *make(void)
{
	struct world *w = calloc(1, sizeof *w);
	snprintf(w->folder, sizeof w->folder, "/tmp/test_log.XXXXXX");
	cr_assert_not_null(mkdtemp(w->folder));
	open_log(w);
	return w;
}

static void unmake(struct world *w)
{
	char command[100];
	close_log(w);
	snprintf(command, sizeof command, "rm -r %s", w->folder);
	cr_assert_eq(system(command), 0);
	free(w);
}

static void append(struct world *w, const char *kind, json_t *fields, struct tt_log_place *place)
{
	must(tt_database_begin(&w->db, err));
	must(tt_database_end(&w->db, tt_log_append(&w->log, kind, fields, place, err), err));
}

static int append_entry(struct world *w, struct tt_log_entry entry, struct tt_log_place *place)
{
	must(tt_database_begin(&w->db, err));
	return tt_database_end(&w->db, tt_log_append_entry(&w->log, &entry, place, NULL), NULL);
}

static uint64_t size_of(struct world *w)
{
	struct tt_tree tree;
	must(tt_log_tree(&w->log, &tree, err));
	return tree.size;
}

Test(govern_log, an_entry_is_a_line_of_json_and_names_the_one_before)
{
	struct world *w = make();
	struct tt_log_place first, second;
	struct tt_buffer body = {0};
	struct tt_entry_head head;
	struct tt_hash leaf;
	json_t *json;
	append(w, "label", json_pack("{s:s, s:[i, i]}", "policy", "refuse\n\"", "list", 1, 2), &first);
	append(w, "close", json_object(), &second);
	cr_assert(first.seq == 0 && second.seq == 1);
	must(tt_log_read(&w->log, 0, &body, NULL, err));
	tt_hash_leaf(&w->log.hasher, &leaf, body.data, body.len);
	cr_assert(tt_hash_equal(&leaf, &first.leaf));
	must(tt_json_parse(&json, body.data, body.len, "entry", err));
	cr_assert_str_eq(json_string_value(json_object_get(json, "policy")), "refuse\n\"");
	cr_assert_str_eq(json_string_value(json_object_get(json, "kind")), "label");
	must(tt_entry_parse(&head, body.data, body.len, err));
	cr_assert(head.seq == 0 && !head.ends && strcmp(head.kind, "label") == 0);
	json_decref(json);
	must(tt_log_read(&w->log, 1, &body, NULL, err));
	must(tt_entry_parse(&head, body.data, body.len, err));
	cr_assert(head.seq == 1 && tt_hash_equal(&head.prev, &first.leaf) && body.data[head.n] == '}');
	tt_buffer_free(&body);
	unmake(w);
}

Test(govern_log, what_is_undone_was_never_appended)
{
	struct world *w = make();
	struct tt_log_place place, again;
	append(w, "open", json_object(), NULL);
	must(tt_database_begin(&w->db, err));
	must(tt_log_append(&w->log, "label", json_object(), &place, err));
	cr_assert_eq(tt_database_end(&w->db, TT_ERR_LIMIT, NULL), TT_ERR_LIMIT);
	cr_assert_eq(size_of(w), 1);
	append(w, "kill", json_object(), &again);
	cr_assert(again.seq == place.seq && !tt_hash_equal(&again.leaf, &place.leaf));
	unmake(w);
}

/* Two databases of one file, as two programs have them. */
Test(govern_log, programs_append_one_after_another)
{
	struct world *w = make();
	struct world other = *w;
	open_log(&other);
	for (int i = 0; i < 600; i++) {
		struct tt_log_place place;
		append(i % 3 ? w : &other, "label", json_pack("{s:i}", "i", i), &place);
		cr_assert_eq(place.seq, (uint64_t)i);
	}
	struct tt_tree tree;
	struct tt_hash root, want;
	const struct tt_tree_reader reader = tt_log_reader(&w->log);
	must(tt_log_tree(&w->log, &tree, err));
	tt_tree_root(&tree, &w->log.hasher, &root);
	must(tt_tree_root_at(&want, &reader, 600, err));
	cr_assert(tree.size == 600 && tt_hash_equal(&root, &want));
	close_log(&other);
	unmake(w);
}

Test(govern_log, what_begins_ends_once)
{
	struct world *w = make();
	bool found;
	uint64_t seq;
	const struct tt_log_entry begin = {.kind = "begin", .fields = "\"a\":1", .n = 5};
	struct tt_log_entry end = {.kind = "end", .fields = "", .begin = 1};
	cr_assert_eq(append_entry(w, end, NULL), TT_ERR_ARGUMENT);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(append_entry(w, begin, NULL), TT_OK);
	cr_assert_eq(append_entry(w, end, NULL), TT_OK);
	cr_assert_eq(append_entry(w, end, NULL), TT_ERR_ARGUMENT);
	end.begin = 3;
	cr_assert_eq(append_entry(w, end, NULL), TT_ERR_ARGUMENT, "an end of an end");
	must(tt_log_find_end(&w->log, 1, &found, &seq, err));
	cr_assert(found && seq == 3);
	must(tt_log_find_end(&w->log, 2, &found, &seq, err));
	cr_assert(!found);
	must(tt_log_find_open(&w->log, 0, &found, &seq, err));
	cr_assert(found && seq == 0);
	must(tt_log_find_open(&w->log, 1, &found, &seq, err));
	cr_assert(found && seq == 2);
	must(tt_log_find_open(&w->log, 3, &found, &seq, err));
	cr_assert(!found);
	unmake(w);
}

Test(govern_log, an_entry_has_bounds)
{
	struct world *w = make();
	char *text = malloc(TT_MAX_ENTRY + 1);
	memset(text, 'x', TT_MAX_ENTRY);
	text[TT_MAX_ENTRY] = 0;
	must(tt_database_begin(&w->db, err));
	cr_assert_eq(tt_log_append(&w->log, "label", json_pack("{s:s}", "a", text), NULL, NULL), TT_ERR_LIMIT);
	cr_assert_eq(tt_log_append(&w->log, "label", json_pack("{s:i}", "seq", 1), NULL, NULL), TT_ERR_ARGUMENT);
	cr_assert_eq(tt_log_append(&w->log, "label", json_integer(1), NULL, NULL), TT_ERR_ARGUMENT);
	cr_assert_eq(tt_log_append(&w->log, "label", NULL, NULL, NULL), TT_ERR_MEMORY);
	cr_assert_eq(tt_log_append(&w->log, "a b", json_object(), NULL, NULL), TT_ERR_ARGUMENT);
	cr_assert_eq(tt_log_append(&w->log, "a\"", json_object(), NULL, NULL), TT_ERR_ARGUMENT);
	cr_assert_eq(tt_log_append(&w->log, "", json_object(), NULL, NULL), TT_ERR_ARGUMENT);
	tt_database_end(&w->db, TT_ERR_LIMIT, NULL);
	cr_assert_eq(size_of(w), 0);
	free(text);
	unmake(w);
}

Test(govern_log, a_clock_that_goes_back_is_said)
{
	struct world *w = make();
	struct tt_buffer body = {0};
	struct tt_entry_head head;
	struct tt_log_place place;
	append(w, "open", json_object(), NULL);
	cr_assert_eq(sqlite3_exec(w->db.handle, "UPDATE log_head SET at = at + 3600000", NULL, NULL, NULL), SQLITE_OK);
	append(w, "label", json_object(), &place);
	cr_assert_eq(place.seq, 2);
	must(tt_log_read(&w->log, 1, &body, NULL, err));
	must(tt_entry_parse(&head, body.data, body.len, err));
	cr_assert_str_eq(head.kind, "clock");
	cr_assert_not_null(strstr(body.data, "\"back\":3"));
	append(w, "label", json_object(), &place);
	cr_assert_eq(place.seq, 3);
	tt_buffer_free(&body);
	unmake(w);
}

Test(govern_log, dates_are_those_of_the_calendar)
{
	static const struct {
		int64_t at;
		const char *text;
	} dates[] = {{0, "1970-01-01T00:00:00.000Z"}, {951782400123, "2000-02-29T00:00:00.123Z"},
		{1709251199999, "2024-02-29T23:59:59.999Z"}, {4107542400000, "2100-03-01T00:00:00.000Z"},
		{253402300799999, "9999-12-31T23:59:59.999Z"}};
	for (size_t i = 0; i < sizeof dates / sizeof *dates; i++) {
		char text[TT_LOG_DATE_BYTES], body[200], zeros[65];
		struct tt_entry_head head;
		tt_log_date(text, dates[i].at);
		cr_assert_str_eq(text, dates[i].text);
		memset(zeros, '0', 64);
		zeros[64] = 0;
		int n = snprintf(
			body, sizeof body, "{\"seq\":0,\"at\":\"%s\",\"prev\":\"%s\",\"kind\":\"a\"}", text, zeros);
		must(tt_entry_parse(&head, body, (size_t)n, err));
		cr_assert_eq(head.at, dates[i].at, "%s", text);
	}
}

Test(govern_log, what_is_no_entry_is_refused)
{
	static const char good[] =
		"{\"seq\":12,\"at\":\"2024-02-29T23:59:59.999Z\",\"prev\":"
		"\"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\",\"kind\":\"end\","
		"\"begin\":3,\"a\":1}";
	static const char *const wrong[] = {"", "{}", "{\"seq\":012", "{\"seq\":1}"};
	struct tt_entry_head head;
	char text[sizeof good];
	const size_t n = sizeof good - 1;
	must(tt_entry_parse(&head, good, n, err));
	cr_assert(head.seq == 12 && head.ends && head.begin == 3 && strcmp(good + head.n, ",\"a\":1}") == 0);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		cr_assert_eq(tt_entry_parse(&head, wrong[i], strlen(wrong[i]), NULL), TT_ERR_FORMAT, "%s", wrong[i]);
	for (size_t i = 0; i < n; i++)
		cr_assert_eq(tt_entry_parse(&head, good, i, NULL), TT_ERR_FORMAT, "%zu bytes", i);
	for (size_t i = 0; i < head.n; i++) { /* a space belongs nowhere before the fields */
		memcpy(text, good, sizeof good);
		text[i] = ' '; /* of the number at the end, too, since a comma must follow it */
		cr_assert_eq(tt_entry_parse(&head, text, n, NULL), TT_ERR_FORMAT, "%s", text);
	}
	memcpy(text, good, sizeof good);
	memcpy(strstr(text, "02-29"), "02-30", 5);
	cr_assert_eq(tt_entry_parse(&head, text, n, NULL), TT_ERR_FORMAT, "the 30th of February");
}

static void *seal(void *user)
{
	struct world w = *(struct world *)user;
	uint64_t *n = calloc(1, sizeof *n);
	open_log(&w);
	must(tt_log_seal(&w.log, n, err));
	close_log(&w);
	return n;
}

/* A transaction of all of it would keep a server's log waiting. Of two that seal at the same time each does a part. */
Test(govern_log, much_is_sealed_in_pieces)
{
	enum { N = 10000, SEALED = N / 256 * 256, PIECES = 3 };
	struct world *w = make();
	pthread_t threads[2];
	struct tt_log_report report;
	uint64_t n = 0;
	int64_t n_left;
	must(tt_database_begin(&w->db, err));
	for (int i = 0; i < N; i++)
		must(tt_log_append_entry(&w->log, &(struct tt_log_entry){.kind = "note", .fields = ""}, NULL, err));
	must(tt_database_end(&w->db, TT_OK, err));
	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, seal, w), 0);
	for (int i = 0; i < 2; i++) {
		void *sealed;
		pthread_join(threads[i], &sealed);
		n += *(uint64_t *)sealed;
		free(sealed);
	}
	cr_assert_eq(n, SEALED);
	cr_assert_eq(size_of(w), N + PIECES, "an entry for each piece");
	must(tt_sql_integer(&w->db, "SELECT count(*) FROM log_entry", TT_SQL_NONE, &n_left, err));
	cr_assert_eq(n_left, N + PIECES - SEALED);
	must(tt_log_verify(&w->log, NULL, NULL, &report, err));
	must(tt_log_check_sealed(&w->log, err));
	cr_assert(report.n_entries == N + PIECES && report.n_sealed == SEALED);
	unmake(w);
}

Test(govern_log, checkpoints_are_of_the_tree)
{
	struct world *w = make();
	const uint8_t seed[32] = {1};
	struct tt_signer signer;
	struct tt_buffer note = {0};
	struct tt_checkpoint checkpoint;
	struct tt_hash root;
	uint64_t size;
	const struct tt_tree_reader reader = tt_log_reader(&w->log);
	must(tt_signer_make(&signer, "a", seed, err));
	must(tt_log_last_checkpoint(&w->log, &note, &size, err));
	cr_assert(size == 0 && note.len == 0);
	for (int i = 0; i < 5; i++) {
		append(w, "label", json_object(), NULL);
		must(tt_database_begin(&w->db, err));
		must(tt_log_add_checkpoint(&w->log, &signer, err));
		must(tt_log_add_checkpoint(&w->log, &signer, err));
		must(tt_database_end(&w->db, TT_OK, err));
	}
	note.len = 0;
	must(tt_log_last_checkpoint(&w->log, &note, &size, err));
	must(tt_checkpoint_open(&checkpoint, note.data, note.len, &signer.verifier, err));
	must(tt_tree_root_at(&root, &reader, 5, err));
	cr_assert(size == 5 && checkpoint.size == 5 && tt_hash_equal(&root, &checkpoint.root));
	tt_buffer_free(&note);
	unmake(w);
}
