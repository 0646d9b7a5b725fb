/* trimtab policy */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/file.h"
#include "base/sha256.h"
#include "store.h"

static const char about[] =
	"Policies in a store: versions by the SHA-256 of their files, approved by a second person before a label can "
	"point\n"
	"at them; labels, of which production steers; the default stack; the kill switch. A running server with the "
	"same\n"
	"--state follows within a second. A VERSION is its digest, or the first 8 digits of it or more.\n"
	"  add NAME FILE            a draft; --reason, --least, --most, --floor, --report, --parent\n"
	"  edit NAME VERSION        what is said of a draft\n"
	"  submit, approve, reject, retire NAME VERSION\n"
	"  list [NAME], show NAME [VERSION], history [NAME]\n"
	"  label NAME LABEL VERSION, unlabel NAME LABEL\n"
	"  rollback NAME            production goes back to previous\n"
	"  stack                    the default stacks; stack propose NAME[@LABEL][:SCALE].., stack approve N, reject "
	"N\n"
	"  kill [NAME], resume [NAME], killed\n";

static const char examples[] =
	"  trimtab policy add refuse refuse.safetensors --state store --key alice.key --floor 0.5\n"
	"  trimtab policy submit refuse 3f2a91c0 --state store --key alice.key\n"
	"  trimtab policy approve refuse 3f2a91c0 --state store --key bob.key\n"
	"  trimtab policy label refuse production 3f2a91c0 --state store --key alice.key\n"
	"  trimtab policy kill --state store --key bob.key --reason 'it refuses everything'";

enum { MAX_POLICY_FILE = 128 << 20 };

struct args {
	struct cli_store_args store;
	const char *reason, *parent, *report, *least, *most, *floor;
};

/* All of the text as a number; NAN where it is none, or an infinite one. */
static double read_number(const char *text)
{
	char *end;
	double value = strtod(text, &end);
	return end == text || *end || !isfinite(value) ? (double)NAN : value;
}

static int put_number(json_t *object, const char *key, const char *text)
{
	if (!text)
		return CLI_PROCEED;
	if (strcmp(text, "none") == 0 && strcmp(key, "floor") == 0) {
		json_object_set_new(object, key, json_null());
		return CLI_PROCEED;
	}
	double value = read_number(text);
	if (isnan(value))
		return cli_usage_error("policy", "--%s takes a number, not %s", key, text);
	json_object_set_new(object, key, json_real(value));
	return CLI_PROCEED;
}

/* A report is told by the digest of its file. */
static int put_said(json_t *object, const struct args *a)
{
	struct tt_error err = {0};
	char digest[65];
	uint64_t size;
	int status = cli_store_put(object, "policy", "parent", a->parent);
	if (status != CLI_PROCEED)
		return status;
	if (a->report && tt_sha256_file(digest, a->report, &size, &err) != TT_OK)
		return cli_fail(&err);
	if (a->report)
		json_object_set_new(object, "report", json_string(digest));
	status = put_number(object, "least", a->least);
	if (status == CLI_PROCEED)
		status = put_number(object, "most", a->most);
	return status == CLI_PROCEED ? put_number(object, "floor", a->floor) : status;
}

static int put_file(json_t *object, const char *path)
{
	struct tt_error err = {0};
	struct tt_buffer file = {0};
	char *text = NULL;
	int status = tt_file_read(&file, path, MAX_POLICY_FILE, &err);
	if (status == TT_OK)
		status = tt_base64(&text, file.data ? file.data : "", file.len, &err);
	if (status == TT_OK)
		json_object_set_new(object, "file", json_string(text));
	tt_buffer_free(&file);
	free(text);
	return status == TT_OK ? CLI_PROCEED : cli_fail(&err);
}

/* What a command has said it did. */
static int tell(json_t *answer, const struct args *a, const char *command)
{
	const char *policy = json_string_value(json_object_get(answer, "policy"));
	const char *version = json_string_value(json_object_get(answer, "version"));
	if (a->store.json)
		return cli_print_json(answer, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	if (strcmp(command, "policy/add") == 0)
		puts(version);
	cli_note("%s: %s%s%.12s", command, policy ? policy : "all", version ? " " : "", version ? version : "");
	json_decref(answer);
	return CLI_OK;
}

/* ---- Stacks */

/* NAME[@LABEL][:SCALE]; NULL where the scale is no number or the rest is not UTF-8. */
static json_t *entry_of(const char *text)
{
	size_t n_name = strcspn(text, "@:"), n_label = 0;
	const char *label = text[n_name] == '@' ? text + n_name + 1 : NULL, *scale = strchr(text, ':');
	if (label)
		n_label = strcspn(label, ":");
	double value = scale ? read_number(scale + 1) : 1;
	json_t *entry = json_pack("{s:s%}", "name", text, n_name);
	if (!entry || isnan(value) ||
		(label && json_object_set_new(entry, "label", json_stringn(label, n_label)) < 0) ||
		(scale && json_object_set_new(entry, "scale", json_real(value)) < 0)) {
		json_decref(entry);
		return NULL;
	}
	return entry;
}

/* What follows the word of stack; CLI_PROCEED or CLI_USAGE. */
static int put_stack(json_t *arguments, const char *word, const struct cli_list *words)
{
	if (strcmp(word, "propose") == 0) {
		json_t *list = json_array();
		json_object_set_new(arguments, "policies", list);
		for (size_t i = 2; i < words->n; i++)
			if (json_array_append_new(list, entry_of(words->items[i])) < 0)
				return cli_usage_error(
					"policy", "%s is not NAME[@LABEL][:SCALE] with a number", words->items[i]);
		return CLI_PROCEED;
	}
	if ((strcmp(word, "approve") == 0 || strcmp(word, "reject") == 0) && words->n == 3) {
		char *end;
		errno = 0;
		long long number = strtoll(words->items[2], &end, 10);
		if (end == words->items[2] || *end || errno)
			return cli_usage_error(
				"policy", "%s takes the number of a stack, not %s", word, words->items[2]);
		json_object_set_new(arguments, "number", json_integer(number));
		return CLI_PROCEED;
	}
	return strcmp(word, "list") == 0
		       ? CLI_PROCEED
		       : cli_usage_error(
				 "policy", "stack takes list, propose NAME[@LABEL][:SCALE].., approve N or reject N");
}

static int stack(const struct args *a, const struct cli_list *words)
{
	const char *word = words->n > 1 ? words->items[1] : "list";
	json_t *answer, *arguments = json_object();
	char command[32];
	bool lists = strcmp(word, "list") == 0;
	int status = cli_store_put(arguments, "policy", "reason", a->reason);
	if (status == CLI_PROCEED)
		status = put_stack(arguments, word, words);
	snprintf(command, sizeof command, "stack/%s", word);
	if (status == CLI_PROCEED)
		status = cli_store_run(&answer, &a->store, command, json_incref(arguments), false);
	json_decref(arguments);
	if (status != CLI_PROCEED)
		return status;
	if (lists)
		return cli_store_show(answer, &a->store, "stacks", "number state author approver created policies");
	if (a->store.json)
		return cli_print_json(answer, JSON_INDENT(2));
	printf("%lld\n", (long long)json_integer_value(json_object_get(answer, "number")));
	json_decref(answer);
	return CLI_OK;
}

/* ---- The rest */

static const struct verb {
	const char *word, *arguments[3]; /* the names of what follows */
	size_t least;                    /* of these */
	bool says;                       /* what is said of a version comes with it */
	const char *list, *keys;         /* of one that looks */
} verbs[] = {
	{"add", {"name", "file"}, 2, true, NULL, NULL},
	{"edit", {"name", "version"}, 2, true, NULL, NULL},
	{"submit", {"name", "version"}, 2, false, NULL, NULL},
	{"approve", {"name", "version"}, 2, false, NULL, NULL},
	{"reject", {"name", "version"}, 2, false, NULL, NULL},
	{"retire", {"name", "version"}, 2, false, NULL, NULL},
	{"label", {"name", "label", "version"}, 3, false, NULL, NULL},
	{"unlabel", {"name", "label"}, 2, false, NULL, NULL},
	{"rollback", {"name"}, 1, false, NULL, NULL},
	{"kill", {"name"}, 0, false, NULL, NULL},
	{"resume", {"name"}, 0, false, NULL, NULL},
	{"list", {"name"}, 0, false, "versions", "policy version state labels least most floor author approver"},
	{"show", {"name", "version"}, 1, false, "versions", NULL},
	{"history", {"name"}, 0, false, "changes", "at kind person fields"},
	{"killed", {NULL}, 0, false, "killed", "policy at person"},
};

static int run(const struct args *a, const struct verb *verb, const struct cli_list *words)
{
	json_t *answer, *arguments = json_object();
	char command[32];
	int status = CLI_PROCEED;
	snprintf(command, sizeof command, "policy/%s", verb->word);
	for (size_t i = 1; status == CLI_PROCEED && i < words->n; i++) {
		const char *name = verb->arguments[i - 1];
		if (strcmp(name, "file") == 0)
			status = put_file(arguments, words->items[i]);
		else
			status = cli_store_put(arguments, "policy", name, words->items[i]);
	}
	if (status == CLI_PROCEED && !verb->list)
		status = cli_store_put(arguments, "policy", "reason", a->reason);
	if (status == CLI_PROCEED && verb->says)
		status = put_said(arguments, a);
	if (status == CLI_PROCEED)
		status = cli_store_run(&answer, &a->store, command, json_incref(arguments), false);
	json_decref(arguments);
	if (status != CLI_PROCEED)
		return status;
	if (!verb->keys && verb->list)
		return cli_print_json(answer, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	return verb->list ? cli_store_show(answer, &a->store, verb->list, verb->keys) : tell(answer, a, command);
}

int cli_policy(int argc, char **argv)
{
	struct args a = {0};
	struct cli_list words = {0};
	const struct cli_option options[] = {
		CLI_STORE_OPTIONS(a.store),
		{"reason", 0, NULL, CLI_STRING, &a.reason, "TEXT", 0, 0, "why; it is kept"},
		{"least", 0, NULL, CLI_STRING, &a.least, "X", 0, 0,
			"add, edit: the least scale that may be asked for (0)"},
		{"most", 0, NULL, CLI_STRING, &a.most, "X", 0, 0, "add, edit: the greatest scale (1)"},
		{"floor", 0, NULL, CLI_STRING, &a.floor, "X", 0, 0,
			"add, edit: it is mandatory: it steers every request, at this scale at least; none: it is not"},
		{"report", 0, NULL, CLI_STRING, &a.report, "F", 0, 0,
			"add, edit: a report of `trimtab eval` that speaks for it; its SHA-256 is kept"},
		{"parent", 0, NULL, CLI_STRING, &a.parent, "VERSION", 0, 0,
			"add, edit: the version that it comes from"},
	};
	const struct cli_usage usage = {"policy", "COMMAND [NAME [...]] --state DIR --key F [OPTION]...", about,
		examples, options, CLI_N_OPTIONS(options), 1, CLI_MAX_LIST};
	int status = cli_parse(&usage, argc, argv, &words);
	if (status != CLI_PROCEED)
		return status;
	if (strcmp(words.items[0], "stack") == 0)
		return stack(&a, &words);
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		const struct verb *verb = &verbs[i];
		size_t most = 0;
		if (strcmp(verb->word, words.items[0]) != 0)
			continue;
		while (most < 3 && verb->arguments[most])
			most++;
		if (words.n - 1 < verb->least || words.n - 1 > most)
			return cli_usage_error("policy", "%s takes %s%s%s%s%s", verb->word,
				most ? verb->arguments[0] : "nothing", most > 1 ? ", " : "",
				most > 1 ? verb->arguments[1] : "", most > 2 ? ", " : "",
				most > 2 ? verb->arguments[2] : "");
		return run(&a, verb, &words);
	}
	return cli_usage_error("policy", "%s is no command of it", words.items[0]);
}
