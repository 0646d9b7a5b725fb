/* trimtab key */
#include <string.h>

#include "store.h"

static const char about[] = "Keys of a store: who may ask its server, and who may decide about policies. add prints "
			    "the key, once; the store\n"
			    "keeps its SHA-256. The first key of a store needs no other, and must have the role "
			    "operator; from then on who\n"
			    "adds, lists or revokes keys shows one with that role. The roles editor, approver and "
			    "operator can only be given\n"
			    "by who has them.\n"
			    "  add              with --person and --roles\n"
			    "  list\n"
			    "  revoke ID        a running server refuses it within a second\n";

static const char examples[] =
	"  trimtab key add --state store --person 'Olga Example' --roles operator,editor,approver >olga.key\n"
	"  trimtab key add --state store --key olga.key --person 'Alice Example' --roles editor >alice.key\n"
	"  trimtab key revoke k_1f2e3d4c --state store --key olga.key";

struct args {
	struct cli_store_args store;
	const char *person, *roles, *steering;
	uint32_t days, requests, minute_tokens, day_tokens, body_tokens;
};

static void put(json_t *object, const char *key, uint32_t value)
{
	if (value)
		json_object_set_new(object, key, json_integer(value));
}

static int add(const struct args *a)
{
	if (!a->person || !a->roles)
		return cli_usage_error("key", "add needs --person and --roles");
	json_t *answer, *arguments = json_object();
	int status = cli_store_put(arguments, "key", "person", a->person);
	if (status == CLI_PROCEED)
		status = cli_store_put(arguments, "key", "roles", a->roles);
	if (status == CLI_PROCEED)
		status = cli_store_put(arguments, "key", "steering", a->steering);
	if (status != CLI_PROCEED) {
		json_decref(arguments);
		return status;
	}
	put(arguments, "days", a->days);
	put(arguments, "requests", a->requests);
	put(arguments, "minute_tokens", a->minute_tokens);
	put(arguments, "day_tokens", a->day_tokens);
	put(arguments, "body_tokens", a->body_tokens);
	status = cli_store_run(&answer, &a->store, "key/add", arguments, true);
	if (status != CLI_PROCEED)
		return status;
	if (a->store.json)
		return cli_print_json(answer, JSON_INDENT(2));
	cli_note("%s for %s: %s. This is the only time that the key is shown",
		json_string_value(json_object_get(answer, "id")), json_string_value(json_object_get(answer, "for")),
		json_string_value(json_object_get(answer, "roles")));
	puts(json_string_value(json_object_get(answer, "key")));
	json_decref(answer);
	return CLI_OK;
}

static int list(const struct args *a)
{
	json_t *answer;
	int status = cli_store_run(&answer, &a->store, "key/list", json_object(), false);
	return status != CLI_PROCEED
		       ? status
		       : cli_store_show(answer, &a->store, "keys", "id person roles steering state created expires");
}

static int revoke(const struct args *a, const char *id)
{
	json_t *answer;
	int status = cli_store_run(&answer, &a->store, "key/revoke", json_pack("{s:s}", "id", id), false);
	if (status != CLI_PROCEED)
		return status;
	if (a->store.json)
		return cli_print_json(answer, JSON_INDENT(2));
	cli_note("%s is revoked", id);
	json_decref(answer);
	return CLI_OK;
}

int cli_key(int argc, char **argv)
{
	struct args a = {0};
	struct cli_list positional = {0};
	const struct cli_option options[] = {
		CLI_STORE_OPTIONS(a.store),
		{"person", 0, NULL, CLI_STRING, &a.person, "NAME", 0, 0, "add: whose it is"},
		{"roles", 0, NULL, CLI_STRING, &a.roles, "R,..", 0, 0,
			"add: of user, reviewer, editor, approver, auditor, operator"},
		{"steering", 0, NULL, CLI_STRING, &a.steering, "WHAT", 0, 0,
			"add: what bodies may choose: default (nothing), names (policies and scales), any (also "
			"labels, "
			"versions and none); names if it is not given"},
		{"days", 0, NULL, CLI_U32, &a.days, "N", 0, 36500, "add: it ends after so many days; 0: never"},
		{"requests", 0, NULL, CLI_U32, &a.requests, "N", 0, 1 << 20, "add: requests at once; 0: any number"},
		{"minute-tokens", 0, NULL, CLI_U32, &a.minute_tokens, "N", 0, 4294967295.0,
			"add: tokens of prompts and answers within a minute; 0: any number"},
		{"day-tokens", 0, NULL, CLI_U32, &a.day_tokens, "N", 0, 4294967295.0, "add: likewise within a day"},
		{"body-tokens", 0, NULL, CLI_U32, &a.body_tokens, "N", 0, 4294967295.0,
			"add: tokens that one request may come to; 0: any number"},
	};
	const struct cli_usage usage = {"key", "add|list|revoke [ID] --state DIR [OPTION]...", about, examples, options,
		CLI_N_OPTIONS(options), 1, 2};
	int status = cli_parse(&usage, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	const char *word = positional.items[0];
	if (strcmp(word, "add") == 0 && positional.n == 1)
		return add(&a);
	if (strcmp(word, "list") == 0 && positional.n == 1)
		return list(&a);
	if (strcmp(word, "revoke") == 0 && positional.n == 2)
		return revoke(&a, positional.items[1]);
	return cli_usage_error("key", "it takes add, list or revoke ID");
}
