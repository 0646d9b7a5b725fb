/* What people may decide about policies: the commands of the store. Persons count, not keys. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/file.h"
#include "base/json.h"
#include "controller/govern/command.h"
#include "controller/govern/in_force.h"
#include "controller/govern/key.h"
#include "controller/govern/query.h"
#include "runtime/trimtab.h"

#define POLICY(name) TT_TEST_DATA "/policy/" name ".safetensors"

static char folder[64];
static struct tt_store store;
static struct tt_error last; /* the error of the last command */
static const struct tt_actor nobody = {.roles = TT_ROLE_OPERATOR};
static struct tt_actor root; /* operator, editor and approver */

static void clear(void)
{
	static const char *const names[] = {"trimtab.db", "trimtab.db-wal", "trimtab.db-shm"};
	char path[128];
	tt_store_close(&store);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		remove(path);
	}
	cr_assert_eq(rmdir(folder), 0, "something is left in %s", folder);
}

/* Runs a command; arguments: JSON. The answer, a new reference, or NULL. */
static json_t *command(const struct tt_actor *actor, const char *name, const char *arguments)
{
	const struct tt_command *c = tt_command_find(name);
	json_t *given = json_loads(arguments, 0, NULL), *answer = NULL;
	cr_assert(c && given, "%s %s", name, arguments);
	last = (struct tt_error){0};
	int status = tt_command_run(c, &store, actor, given, &answer, &last);
	cr_assert_eq(status == TT_OK, answer != NULL);
	json_decref(given);
	return answer;
}

static void expect(const struct tt_actor *actor, const char *name, const char *arguments)
{
	json_t *answer = command(actor, name, arguments);
	cr_expect_not_null(answer, "%s %s: %s", name, arguments, last.message);
	json_decref(answer);
}

static void refused(enum tt_refusal refusal, const struct tt_actor *actor, const char *name, const char *arguments,
	const char *words)
{
	json_t *answer = command(actor, name, arguments);
	cr_expect_null(answer, "%s %s was done", name, arguments);
	cr_expect_eq(store.refusal, refusal, "%s %s: %d, %s", name, arguments, store.refusal, last.message);
	cr_expect_not_null(strstr(last.message, words), "%s %s: %s", name, arguments, last.message);
	json_decref(answer);
}

static struct tt_actor add_key(const struct tt_actor *by, const char *person, const char *roles)
{
	struct tt_actor actor;
	char arguments[300];
	snprintf(arguments, sizeof arguments, "{\"person\": \"%s\", \"roles\": \"%s\"}", person, roles);
	json_t *answer = command(by, "key/add", arguments);
	cr_assert_not_null(answer, "%s", last.message);
	const char *key = json_string_value(json_object_get(answer, "key"));
	cr_assert_eq(strlen(key), 67);
	cr_assert_eq(tt_actor_find(&actor, &store, key, &last), TT_OK, "%s", last.message);
	json_decref(answer);
	return actor;
}

static void make(void)
{
	strcpy(folder, "/tmp/trimtab-test-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	cr_assert_eq(tt_store_open(&store, folder, TT_DATABASE_CREATE, &last), TT_OK, "%s", last.message);
	root = add_key(&nobody, "Root", "operator,editor,approver");
}

TestSuite(govern_store, .init = make, .fini = clear);

/* Adds the policy file as a version of the name; more: further arguments, or "". */
static void add(const struct tt_actor *by, const char *name, const char *path, const char *more, char version[65])
{
	struct tt_buffer file = {0}, arguments = {0};
	char *text;
	cr_assert_eq(tt_file_read(&file, path, 1 << 20, &last), TT_OK, "%s", last.message);
	cr_assert_eq(tt_base64(&text, file.data, file.len, &last), TT_OK);
	tt_buffer_print(&arguments, NULL, "{\"name\": \"%s\", \"file\": \"%s\"%s}", name, text, more);
	json_t *answer = command(by, "policy/add", arguments.data);
	cr_assert_not_null(answer, "%s", last.message);
	strcpy(version, json_string_value(json_object_get(answer, "version")));
	json_decref(answer);
	tt_buffer_free(&file);
	tt_buffer_free(&arguments);
	free(text);
}

/* {"name": NAME, "version": VERSION MORE} */
static const char *of(const char *name, const char *version, const char *more)
{
	static char text[4][400];
	static int next;
	char *out = text[next++ % 4];
	snprintf(out, sizeof text[0], "{\"name\": \"%s\", \"version\": \"%s\"%s}", name, version, more);
	return out;
}

/* A version that one person has added and another has approved. */
static void add_approved(const struct tt_actor *author, const struct tt_actor *approver, const char *name,
	const char *path, const char *more, char version[65])
{
	add(author, name, path, more, version);
	expect(author, "policy/submit", of(name, version, ""));
	expect(approver, "policy/approve", of(name, version, ""));
}

/* The version that the label of the policy points at, or "". */
static void label_of(char out[65], const char *policy, const char *label)
{
	struct tt_in_force force;
	out[0] = 0;
	cr_assert_eq(tt_in_force_read(&force, &store, &last), TT_OK, "%s", last.message);
	for (size_t i = 0; i < force.n_labels; i++)
		if (!strcmp(force.labels[i].version.policy, policy) && !strcmp(force.labels[i].label, label))
			strcpy(out, force.labels[i].version.sha256);
	tt_in_force_free(&force);
}

static void expect_label(const char *policy, const char *label, const char *version)
{
	char found[65];
	label_of(found, policy, label);
	cr_expect_str_eq(found, version, "%s of %s", label, policy);
}

static int64_t count(const char *sql)
{
	int64_t n = -1;
	cr_assert_eq(tt_sql_integer(&store.db, sql, TT_SQL_NONE, &n, &last), TT_OK, "%s", last.message);
	return n;
}

Test(govern_store, nobody_approves_what_is_their_own)
{
	struct tt_actor alice = add_key(&root, "Alice  Example ", "editor,approver");
	struct tt_actor again = add_key(&root, "alice example", "approver");
	struct tt_actor bob = add_key(&root, "Bob", "editor,approver"), carol = add_key(&root, "Carol", "approver");
	char v[65];
	cr_expect_str_eq(alice.person, "Alice Example");
	add(&alice, "refuse", POLICY("always"), ", \"most\": 2", v);
	refused(TT_REFUSED_STATE, &carol, "policy/approve", of("refuse", v, ""), "is draft, not submitted");
	expect(&bob, "policy/edit", of("refuse", v, ", \"most\": 3"));
	expect(&alice, "policy/submit", of("refuse", v, ""));
	refused(TT_REFUSED_RIGHT, &alice, "policy/approve", of("refuse", v, ""), "a second person");
	refused(TT_REFUSED_RIGHT, &again, "policy/approve", of("refuse", v, ""), "a second person");
	refused(TT_REFUSED_RIGHT, &bob, "policy/approve", of("refuse", v, ""), "edited it");
	refused(TT_REFUSED_STATE, &bob, "policy/edit", of("refuse", v, ", \"most\": 9"), "only drafts");
	refused(TT_REFUSED_STATE, &alice, "policy/label", of("refuse", v, ", \"label\": \"production\""), "submitted");
	expect(&carol, "policy/approve", of("refuse", v, ""));
	refused(TT_REFUSED_STATE, &carol, "policy/approve", of("refuse", v, ""), "is approved");
	expect(&alice, "policy/label", of("refuse", v, ", \"label\": \"production\""));
	expect_label("refuse", "production", v);
}

Test(govern_store, who_submits_does_not_approve)
{
	struct tt_actor alice = add_key(&root, "Alice", "editor,approver");
	struct tt_actor bob = add_key(&root, "Bob", "editor,approver");
	char v[65];
	add(&alice, "refuse", POLICY("always"), "", v);
	expect(&bob, "policy/submit", of("refuse", v, ""));
	refused(TT_REFUSED_RIGHT, &alice, "policy/approve", of("refuse", v, ""), "wrote it");
	refused(TT_REFUSED_RIGHT, &bob, "policy/approve", of("refuse", v, ""), "submitted it");
	expect(&root, "policy/reject", of("refuse", v, ", \"reason\": \"too hard\""));
	refused(TT_REFUSED_STATE, &alice, "policy/submit", of("refuse", v, ""), "rejected");
	expect(&alice, "policy/edit", of("refuse", v, ", \"most\": 0.5"));
	expect(&alice, "policy/submit", of("refuse", v, ""));
	expect(&bob, "policy/approve", of("refuse", v, ""));
}

Test(govern_store, production_moves_and_one_person_takes_it_back)
{
	struct tt_actor alice = add_key(&root, "Alice", "editor"), op = add_key(&root, "Olga", "operator");
	char one[65], two[65], three[65];
	add_approved(&alice, &root, "refuse", POLICY("always"), "", one);
	add_approved(&alice, &root, "refuse", POLICY("probe"), "", two);
	add(&alice, "refuse", POLICY("mlp"), "", three);
	refused(TT_REFUSED_UNKNOWN, &op, "policy/rollback", "{\"name\": \"refuse\"}", "no label previous");
	expect(&op, "policy/label", of("refuse", one, ", \"label\": \"production\""));
	expect(&op, "policy/label", of("refuse", two, ", \"label\": \"production\""));
	expect_label("refuse", "previous", one);
	refused(TT_REFUSED_STATE, &op, "policy/label", of("refuse", three, ", \"label\": \"production\""), "is draft");
	refused(TT_REFUSED_INPUT, &op, "policy/label", of("refuse", one, ", \"label\": \"previous\""), "itself keeps");
	refused(TT_REFUSED_INPUT, &op, "policy/unlabel", "{\"name\": \"refuse\", \"label\": \"production\"}", "stays");
	refused(TT_REFUSED_STATE, &root, "policy/retire", of("refuse", two, ""), "has a label");
	expect(&op, "policy/rollback", "{\"name\": \"refuse\", \"reason\": \"it answers nothing\"}");
	expect_label("refuse", "production", one);
	expect_label("refuse", "previous", "");
	refused(TT_REFUSED_UNKNOWN, &op, "policy/rollback", "{\"name\": \"refuse\"}", "no label previous");
	expect(&op, "policy/label", of("refuse", two, ", \"label\": \"trial\""));
	expect(&op, "policy/unlabel", "{\"name\": \"refuse\", \"label\": \"trial\"}");
	expect(&root, "policy/retire", of("refuse", two, ""));
	refused(TT_REFUSED_STATE, &op, "policy/label", of("refuse", two, ", \"label\": \"production\""), "retired");
}

Test(govern_store, who_may_not_approve_does_not_end_that_a_policy_is_mandatory)
{
	struct tt_actor alice = add_key(&root, "Alice", "editor"), op = add_key(&root, "Olga", "operator");
	struct tt_actor bob = add_key(&root, "Bob", "approver");
	char free[65], bound[65];
	add_approved(&alice, &root, "refuse", POLICY("always"), "", free);
	add_approved(&alice, &root, "refuse", POLICY("probe"), ", \"floor\": 0.5", bound);
	expect(&alice, "policy/label", of("refuse", free, ", \"label\": \"production\""));
	expect(&alice, "policy/label", of("refuse", bound, ", \"label\": \"production\""));
	refused(TT_REFUSED_RIGHT, &alice, "policy/label", of("refuse", free, ", \"label\": \"production\""),
		"approver");
	refused(TT_REFUSED_RIGHT, &op, "policy/rollback", "{\"name\": \"refuse\"}", "mandatory no more");
	expect_label("refuse", "production", bound);
	expect(&alice, "policy/label", of("refuse", free, ", \"label\": \"trial\""));
	expect(&alice, "policy/label", of("refuse", bound, ", \"label\": \"production\""));
	expect(&bob, "policy/rollback", "{\"name\": \"refuse\"}");
	expect_label("refuse", "production", free);
}

Test(govern_store, a_default_stack_needs_a_second_person_too)
{
	struct tt_actor alice = add_key(&root, "Alice", "editor,approver"), bob = add_key(&root, "Bob", "approver");
	struct tt_in_force force;
	char v[65], w[65];
	static const char one[] = "{\"policies\": [{\"name\": \"refuse\", \"scale\": 0.5}]}";
	refused(TT_REFUSED_UNKNOWN, &alice, "stack/propose", one, "no label production");
	add_approved(&alice, &bob, "refuse", POLICY("always"), ", \"floor\": 0.25", v);
	add_approved(&alice, &bob, "refuse", POLICY("probe"), ", \"most\": 0.4", w);
	expect(&alice, "policy/label", of("refuse", v, ", \"label\": \"production\""));
	refused(TT_REFUSED_INPUT, &alice, "stack/propose", "{\"policies\": [{\"name\": \"refuse\", \"scale\": 2}]}",
		"is not from 0 to 1");
	refused(TT_REFUSED_INPUT, &alice, "stack/propose",
		"{\"policies\": [{\"name\": \"refuse\"}, {\"name\": "
		"\"refuse\"}]}",
		"twice");
	expect(&alice, "policy/label", of("refuse", w, ", \"label\": \"production\""));
	expect(&alice, "policy/label", of("refuse", v, ", \"label\": \"production\""));
	expect_label("refuse", "previous", w);
	refused(TT_REFUSED_INPUT, &alice, "stack/propose",
		"{\"policies\": [{\"name\": \"refuse\", \"label\": \"previous\", \"scale\": 0.1}]}", "label previous");
	expect(&alice, "stack/propose", one);
	refused(TT_REFUSED_RIGHT, &alice, "stack/approve", "{\"number\": 1}", "a second person");
	expect(&bob, "stack/approve", "{\"number\": 1}");
	cr_assert_eq(tt_in_force_read(&force, &store, &last), TT_OK, "%s", last.message);
	cr_expect_eq(force.stack.n, 1);
	cr_expect_str_eq(force.stack.entries[0].policy, "refuse");
	cr_expect_eq(force.stack.entries[0].scale, 0.5);
	cr_expect(force.labels[0].version.mandatory && force.labels[0].version.floor == 0.25);
	tt_in_force_free(&force);
	refused(TT_REFUSED_STATE, &alice, "policy/label", of("refuse", w, ", \"label\": \"production\""),
		"default stack");
}

/* A request has four policies, and a server loads 64 labels: more would leave it with what was before. */
Test(govern_store, no_more_is_in_force_than_a_server_can_hold)
{
	struct tt_actor alice = add_key(&root, "Alice", "editor");
	char v[65], name[8], more[64];
	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof name, "p%d", i);
		add_approved(&alice, &root, name, POLICY("always"), ", \"floor\": 0.5", v);
		if (i == 3) { /* one place for the stack, which it takes */
			expect(&alice, "stack/propose", "{\"policies\": [{\"name\": \"p0\"}, {\"name\": \"p1\"}]}");
			expect(&root, "stack/approve", "{\"number\": 1}");
		}
		if (i < 4)
			expect(&alice, "policy/label", of(name, v, ", \"label\": \"production\""));
		else
			refused(TT_REFUSED_STATE, &alice, "policy/label", of(name, v, ", \"label\": \"production\""),
				"more than 4 policies");
	}
	for (int i = 4; i <= 64; i++) {
		snprintf(more, sizeof more, ", \"label\": \"trial-%d\"", i);
		if (i < 64)
			expect(&alice, "policy/label", of("p4", v, more));
		else
			refused(TT_REFUSED_STATE, &alice, "policy/label", of("p4", v, more), "64 labels");
	}
}

Test(govern_store, the_kill_switch_is_kept_and_an_approver_resumes)
{
	struct tt_actor alice = add_key(&root, "Alice", "editor"), op = add_key(&root, "Olga", "operator");
	struct tt_in_force force;
	char v[65];
	add(&alice, "refuse", POLICY("always"), "", v);
	expect(&op, "policy/kill", "{\"reason\": \"smoke\"}");
	expect(&alice, "policy/kill", "{\"name\": \"refuse\"}");
	expect(&alice, "policy/kill", "{\"name\": \"refuse\"}");
	refused(TT_REFUSED_UNKNOWN, &op, "policy/kill", "{\"name\": \"refuze\"}", "no policy");
	tt_store_close(&store);
	cr_assert_eq(tt_store_open(&store, folder, TT_DATABASE_WRITE, &last), TT_OK, "%s", last.message);
	cr_assert_eq(tt_in_force_read(&force, &store, &last), TT_OK, "%s", last.message);
	cr_expect(force.all_killed && force.n_killed == 1);
	cr_expect_str_eq(force.killed[0], "refuse");
	tt_in_force_free(&force);
	refused(TT_REFUSED_RIGHT, &op, "policy/resume", "{}", "approver");
	expect(&root, "policy/resume", "{}");
	refused(TT_REFUSED_STATE, &root, "policy/resume", "{}", "not killed");
	cr_assert_eq(tt_in_force_read(&force, &store, &last), TT_OK, "%s", last.message);
	cr_expect(!force.all_killed && force.n_killed == 1);
	tt_in_force_free(&force);
}

Test(govern_store, keys_are_kept_as_digests_and_end)
{
	struct tt_actor op = add_key(&root, "Olga", "operator"), found;
	json_t *answer = command(&op, "key/add",
		"{\"person\": \"Ulf\", \"roles\": \"user\", \"steering\": \"default\", \"days\": 1, \"requests\": 2}");
	cr_assert_not_null(answer, "%s", last.message);
	const char *key = json_string_value(json_object_get(answer, "key"));
	cr_expect_eq(count("SELECT count(*) FROM key WHERE length(digest) = 32"), 3);
	refused(TT_REFUSED_RIGHT, &op, "key/add", "{\"person\": \"Eve\", \"roles\": \"approver\"}", "must have it");
	refused(TT_REFUSED_RIGHT, &nobody, "key/add", "{\"person\": \"Eve\", \"roles\": \"operator\"}", "key");
	refused(TT_REFUSED_INPUT, &op, "key/add", "{\"person\": \" \", \"roles\": \"user\"}", "person");
	refused(TT_REFUSED_INPUT, &op, "key/add", "{\"person\": \"Eve\", \"roles\": \"god\"}", "roles");
	refused(TT_REFUSED_INPUT, &op, "key/add", "{\"person\": \"Eve\", \"roles\": \"user\", \"role\": \"x\"}",
		"does not take");
	cr_assert_eq(
		tt_sql_run(&store.db, "UPDATE key SET expires = 1 WHERE person = 'Ulf'", TT_SQL_NONE, &last), TT_OK);
	cr_expect_neq(tt_actor_find(&found, &store, key, &last), TT_OK, "an expired key was taken");
	json_decref(answer);
	char revoke[100];
	snprintf(revoke, sizeof revoke, "{\"id\": \"%s\"}", root.key);
	expect(&op, "key/revoke", revoke);
	refused(TT_REFUSED_RIGHT, &root, "key/list", "{}", "a key of the store");
	snprintf(revoke, sizeof revoke, "{\"id\": \"%s\"}", op.key);
	refused(TT_REFUSED_STATE, &op, "key/revoke", revoke, "last key");
	expect(&op, "key/list", "{}");
}

Test(govern_store, the_first_key_must_be_able_to_add_others)
{
	cr_assert_eq(tt_sql_run(&store.db, "DELETE FROM key", TT_SQL_NONE, &last), TT_OK);
	refused(TT_REFUSED_INPUT, &nobody, "key/add", "{\"person\": \"Eve\", \"roles\": \"editor\"}", "operator");
	refused(TT_REFUSED_RIGHT, &nobody, "policy/kill", "{}", "a key");
	refused(TT_REFUSED_INPUT, &nobody, "key/add", "{\"person\": \"Eve\", \"roles\": \"operator\", \"days\": 1}",
		"no end");
}

Test(govern_store, an_operator_whose_key_ends_is_not_the_last)
{
	char revoke[100];
	json_t *answer = command(&root, "key/add", "{\"person\": \"Olga\", \"roles\": \"operator\", \"days\": 1}");
	json_decref(answer);
	snprintf(revoke, sizeof revoke, "{\"id\": \"%s\"}", root.key);
	refused(TT_REFUSED_STATE, &root, "key/revoke", revoke, "has no end");
	struct tt_actor user = add_key(&root, "Ulf", "user");
	snprintf(revoke, sizeof revoke, "{\"id\": \"%s\"}", user.key);
	expect(&root, "key/revoke", revoke);
}

/* With more keys than are read the store could not be read at all. */
Test(govern_store, no_more_keys_than_can_be_read)
{
	static const char fill[] =
		"WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 65536) INSERT INTO key "
		"(id, person, digest, roles, steer, expires, requests, minute_tokens, day_tokens, body_tokens, "
		"created, "
		"revoked) SELECT 'x' || i, 'Ulf', randomblob(32), 1, 0, 0, 0, 0, 0, 0, 0, 0 FROM n";
	struct tt_in_force force;
	cr_assert_eq(tt_sql_run(&store.db, fill, TT_SQL_NONE, &last), TT_OK, "%s", last.message);
	refused(TT_REFUSED_STATE, &root, "key/add", "{\"person\": \"Eve\", \"roles\": \"user\"}", "65536 keys");
	cr_assert_eq(tt_in_force_read(&force, &store, &last), TT_OK, "%s", last.message);
	cr_expect_eq(force.keys.n, 65536);
	tt_in_force_free(&force);
}

/* A key whose roles were changed, or which is another person's, is no key: the row must be what the actor says. */
Test(govern_store, an_actor_must_be_what_the_store_says)
{
	struct tt_actor user = add_key(&root, "Ulf", "user"), forged = user;
	forged.roles = root.roles;
	refused(TT_REFUSED_RIGHT, &forged, "policy/kill", "{}", "a key of the store");
	forged = root;
	strcpy(forged.person, "Somebody Else");
	refused(TT_REFUSED_RIGHT, &forged, "policy/kill", "{}", "a key of the store");
}

/* docs/store.md has this table. */
Test(govern_store, each_role_can_do_what_it_may_and_nothing_else)
{
	static const char *const roles[] = {"user", "reviewer", "editor", "approver", "auditor", "operator"};
	static const struct {
		const char *command, *arguments, *may; /* a letter for each role that may */
	} rows[] = {
		{"policy/add", "{}", "..e..."},
		{"policy/edit", "{}", "..e..."},
		{"policy/submit", "{}", "..e..."},
		{"policy/approve", "{}", "...a.."},
		{"policy/reject", "{}", "...a.."},
		{"policy/retire", "{}", "...a.."},
		{"policy/list", "{}", ".reauo"},
		{"policy/show", "{}", ".reauo"},
		{"policy/history", "{}", ".reauo"},
		{"policy/label", "{}", "..ea.o"},
		{"policy/unlabel", "{}", "..ea.o"},
		{"policy/rollback", "{}", "..ea.o"},
		{"stack/propose", "{}", "..e..."},
		{"stack/approve", "{}", "...a.."},
		{"stack/reject", "{}", "...a.."},
		{"stack/list", "{}", ".reauo"},
		{"policy/kill", "{}", "..ea.o"},
		{"policy/resume", "{}", "...a.."},
		{"policy/killed", "{}", ".reauo"},
		{"key/add", "{}", ".....o"},
		{"key/list", "{}", ".....o"},
		{"key/revoke", "{}", ".....o"},
	};
	const size_t n = sizeof rows / sizeof *rows;
	size_t n_commands = 0;
	while (tt_command_at(n_commands))
		n_commands++;
	cr_expect_eq(n_commands, n, "a command is not in this table");
	for (size_t k = 0; k < 6; k++) {
		struct tt_actor actor = add_key(&root, roles[k], roles[k]);
		for (size_t i = 0; i < n; i++) {
			json_t *answer = command(&actor, rows[i].command, rows[i].arguments);
			bool allowed = answer || store.refusal != TT_REFUSED_RIGHT;
			cr_expect_eq(
				allowed, rows[i].may[k] != '.', "%s: %s: %s", roles[k], rows[i].command, last.message);
			json_decref(answer);
		}
	}
}

Test(govern_store, a_change_and_its_entry_are_one)
{
	struct tt_actor alice = add_key(&root, "Alice", "editor");
	char v[65];
	add(&alice, "refuse", POLICY("always"), ", \"reason\": \"first\"", v);
	int64_t n = count("SELECT count(*) FROM change"), entries = count("SELECT count(*) FROM log_leaf");
	cr_expect_eq(n, 3);
	cr_expect_eq(entries, 3);
	refused(TT_REFUSED_RIGHT, &alice, "policy/approve", of("refuse", v, ""), "approver");
	refused(TT_REFUSED_UNKNOWN, &alice, "policy/submit", of("refuse", "0123456789ab", ""), "no version");
	cr_expect_eq(count("SELECT count(*) FROM change"), n);
	cr_expect_eq(count("SELECT count(*) FROM log_leaf"), entries);
	json_t *answer = command(&alice, "policy/submit", of("refuse", v, ""));
	cr_expect_eq(json_integer_value(json_object_get(answer, "seq")), entries);
	json_decref(answer);
	answer = command(&alice, "policy/history", "{\"name\": \"refuse\"}");
	const json_t *changes = json_object_get(answer, "changes"), *first = json_array_get(changes, 0);
	cr_expect_eq(json_array_size(changes), 2);
	cr_expect_str_eq(json_string_value(json_object_get(first, "kind")), "policy.add");
	cr_expect_str_eq(json_string_value(json_object_get(first, "person")), "Alice");
	cr_expect_str_eq(json_string_value(json_object_get(json_object_get(first, "fields"), "reason")), "first");
	json_decref(answer);
}

Test(govern_store, what_is_no_policy_is_not_added)
{
	struct tt_actor alice = add_key(&root, "Alice", "editor");
	char v[65];
	struct tt_policy *policy;
	refused(TT_REFUSED_INPUT, &alice, "policy/add", "{\"name\": \"a b\", \"file\": \"\"}", "letters");
	refused(TT_REFUSED_INPUT, &alice, "policy/add", "{\"name\": \"a\", \"file\": \"AAAA\"}", "");
	refused(TT_REFUSED_INPUT, &alice, "policy/add", "{\"name\": \"a\", \"file\": \"A\"}", "base64");
	add(&alice, "a", POLICY("always"), "", v);
	add(&alice, "b", POLICY("always"), "", v);
	cr_assert_eq(tt_version_load(&policy, &store.db, folder, v, &last), TT_OK, "%s", last.message);
	tt_policy_free(policy);
	refused(TT_REFUSED_INPUT, &alice, "policy/edit", of("a", v, ", \"least\": 2"), "least scale");
	refused(TT_REFUSED_INPUT, &alice, "policy/edit", of("a", v, ", \"floor\": 0"), "floor");
	refused(TT_REFUSED_INPUT, &alice, "policy/edit", of("a", v, ", \"floor\": 2"), "floor");
	/* Bytes that have changed are told by their digest. */
	cr_assert_eq(tt_sql_run(&store.db, "UPDATE policy_file SET bytes = x'00'", TT_SQL_NONE, &last), TT_OK);
	cr_expect_eq(tt_version_load(&policy, &store.db, folder, v, &last), TT_ERR_FORMAT);
	cr_expect_not_null(strstr(last.message, "damaged"));
}
