/* What the commands of the store share: who calls, and how answers are shown. */
#include "store.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "controller/govern/command.h"
#include "controller/govern/key.h"

/* The key is the first line of its file. Without one only a store's first key can be added. */
static int read_actor(struct tt_actor *out, struct tt_store *store, const char *path)
{
	struct tt_error err = {0};
	char *text;
	size_t n;
	*out = (struct tt_actor){.roles = TT_ROLE_OPERATOR};
	if (!path)
		return CLI_PROCEED;
	int status = cli_read_file(&text, &n, path);
	if (status != CLI_PROCEED && status != CLI_OK)
		return status;
	text[strcspn(text, "\r\n")] = 0;
	status = tt_actor_find(out, store, text, &err) == TT_OK ? CLI_PROCEED : cli_fail(&err);
	free(text);
	return status;
}

int cli_store_run(
	json_t **answer, const struct cli_store_args *args, const char *command, json_t *arguments, bool makes)
{
	struct tt_error err = {0};
	struct tt_store store;
	struct tt_actor actor;
	*answer = NULL;
	if (!args->state || !arguments) {
		json_decref(arguments);
		return args->state ? cli_failf("the arguments are not UTF-8")
				   : cli_usage_error(strncmp(command, "key", 3) == 0 ? "key" : "policy",
					     "--state is missing: the folder of the store");
	}
	if (tt_store_open(&store, args->state, makes ? TT_DATABASE_CREATE : TT_DATABASE_WRITE, &err) != TT_OK) {
		json_decref(arguments);
		return cli_fail(&err);
	}
	int status = read_actor(&actor, &store, args->key);
	if (status == CLI_PROCEED &&
		tt_command_run(tt_command_find(command), &store, &actor, arguments, answer, &err) != TT_OK)
		status = cli_fail(&err);
	json_decref(arguments);
	tt_store_close(&store);
	return status;
}

int cli_store_put(json_t *arguments, const char *program, const char *name, const char *text)
{
	json_t *value = text ? json_string(text) : NULL;
	if (text && !value)
		return cli_usage_error(program, "%s is not UTF-8", name);
	if (value)
		json_object_set_new(arguments, name, value);
	return CLI_PROCEED;
}

/* A cell: times as dates, versions by their first 12 digits. */
static void put_cell(struct cli_table *table, const char *key, const json_t *value)
{
	char date[32] = "-";
	bool is_time =
		!strcmp(key, "at") || !strcmp(key, "created") || !strcmp(key, "changed") || !strcmp(key, "expires");
	time_t seconds = (time_t)json_integer_value(value);
	struct tm utc;
	if (is_time && seconds && gmtime_r(&seconds, &utc))
		strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &utc);
	if (is_time) {
		cli_table_cell(table, "%s", date);
	} else if (json_is_string(value)) {
		cli_table_cell(table, strcmp(key, "version") ? "%s" : "%.12s", json_string_value(value));
	} else if (json_is_number(value)) {
		cli_table_cell(table, "%g", json_number_value(value));
	} else if (value && !json_is_null(value)) {
		char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(6));
		cli_table_cell(table, "%s", text ? text : "");
		free(text);
	} else {
		cli_table_cell(table, "-");
	}
}

static void show_table(const json_t *rows, const char *keys)
{
	struct cli_table table;
	char names[12][16], align[13] = "";
	size_t n = 0;
	for (const char *at = keys; n < 12 && *at; n++) {
		size_t length = strcspn(at, " ");
		snprintf(names[n], sizeof names[n], "%.*s", (int)length, at);
		at += length + (at[length] == ' ');
		align[n] = 'l';
	}
	align[n] = 0;
	cli_table_begin(&table, align);
	for (size_t k = 0; k < n; k++)
		cli_table_cell(&table, "%s", names[k]);
	for (size_t i = 0; i < json_array_size(rows); i++)
		for (size_t k = 0; k < n; k++)
			put_cell(&table, names[k], json_object_get(json_array_get(rows, i), names[k]));
	cli_table_print(&table, stdout);
}

int cli_store_show(json_t *answer, const struct cli_store_args *args, const char *list, const char *keys)
{
	if (args->json)
		return cli_print_json(answer, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	show_table(json_object_get(answer, list), keys);
	json_decref(answer);
	return CLI_OK;
}
