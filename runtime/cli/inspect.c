/* trimtab inspect: describes the content of a file. */
#include <string.h>

#include "cli.h"

static const char about[] = "Says what is in a model, a policy or a safetensors file; with --model also whether a "
			    "policy fits that model and what\n"
			    "it would do to it.";

static const char examples[] = "  trimtab inspect model.gguf\n"
			       "  trimtab inspect refuse.safetensors --model model.gguf\n"
			       "  trimtab inspect refuse.safetensors --json";

enum { MAX_DEPTH = 6, MAX_ROWS = 400 };

static void print_value(const char *key, const json_t *value, int depth);

static void print_scalar(const json_t *value)
{
	if (json_is_string(value))
		cli_write_line(stdout, json_string_value(value), json_string_length(value));
	else if (json_is_integer(value))
		printf("%lld", (long long)json_integer_value(value));
	else if (json_is_real(value))
		printf("%.6g", json_real_value(value));
	else
		fputs(json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "-", stdout);
}

static bool all_scalar(const json_t *list)
{
	size_t i;
	json_t *item;
	json_array_foreach(list, i, item)
	{
		if (json_is_array(item) || json_is_object(item))
			return false;
	}
	return true;
}

static void add_cell(struct cli_table *table, const json_t *value)
{
	size_t i;
	json_t *item;
	if (json_is_string(value))
		cli_table_cell(table, "%s", json_string_value(value));
	else if (json_is_integer(value))
		cli_table_cell(table, "%lld", (long long)json_integer_value(value));
	else if (json_is_real(value))
		cli_table_cell(table, "%.6g", json_real_value(value));
	else if (json_is_array(value)) {
		char text[128] = "";
		size_t used = 0;
		json_array_foreach(value, i, item)
		{
			if (used < sizeof text)
				used += (size_t)snprintf(text + used, sizeof text - used, "%s%g", i ? " x " : "",
					json_number_value(item));
		}
		cli_table_cell(table, "%s", text);
	} else
		cli_table_cell(table, "%s", json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "-");
}

/* A list of objects is printed as a table; its columns are the keys of the first object. */
static void print_rows(const json_t *list)
{
	const json_t *first = json_array_get(list, 0);
	char align[33] = "";
	const char *key;
	json_t *value, *row;
	size_t n = 0, i;
	json_object_foreach((json_t *)first, key, value)
	{
		if (n < sizeof align - 1)
			align[n++] = json_is_number(value) ? 'r' : 'l';
	}
	align[n] = 0;
	struct cli_table table;
	cli_table_begin(&table, align);
	size_t column = 0;
	json_object_foreach((json_t *)first, key, value)
	{
		if (column++ < n)
			cli_table_cell(&table, "%s", key);
	}
	json_array_foreach(list, i, row)
	{
		if (i == MAX_ROWS)
			break;
		column = 0;
		json_object_foreach((json_t *)first, key, value)
		{
			if (column++ < n)
				add_cell(&table, json_object_get(row, key));
		}
	}
	cli_table_print(&table, stdout);
	if (json_array_size(list) > MAX_ROWS)
		printf("... and %zu more\n", json_array_size(list) - MAX_ROWS);
}

static void print_list(const json_t *list, int depth)
{
	size_t i;
	json_t *item;
	if (all_scalar(list)) {
		json_array_foreach(list, i, item)
		{
			fputs(i ? " " : "", stdout);
			print_scalar(item);
		}
		fputs(json_array_size(list) ? "\n" : "none\n", stdout);
		return;
	}
	putchar('\n');
	if (json_is_object(json_array_get(list, 0)) && json_object_size(json_array_get(list, 0)) > 0) {
		print_rows(list);
		return;
	}
	json_array_foreach(list, i, item) print_value("-", item, depth + 1);
}

static void print_value(const char *key, const json_t *value, int depth)
{
	const char *inner;
	json_t *item;
	printf("%*s", 2 * depth, "");
	cli_write_line(stdout, key, strlen(key));
	int padding = 22 - 2 * depth - (int)cli_text_width(key);
	if (json_is_object(value) && depth < MAX_DEPTH) {
		putchar('\n');
		json_object_foreach((json_t *)value, inner, item) print_value(inner, item, depth + 1);
	} else if (json_is_array(value) && depth < MAX_DEPTH) {
		printf("%*s", padding > 0 && all_scalar(value) ? padding : 1, "");
		print_list(value, depth);
	} else {
		printf("%*s", padding > 0 ? padding : 1, "");
		print_scalar(value);
		putchar('\n');
	}
}

int cli_inspect(int argc, char **argv)
{
	const char *model = NULL;
	bool as_json = false;
	struct cli_list positional = {0};
	const struct cli_option options[] = {
		{"model", 'm', NULL, CLI_STRING, &model, "MODEL", 0, 0, "say what a policy would do to this model"},
		{"json", 0, NULL, CLI_FLAG, &as_json, NULL, 0, 0, "print the report as JSON"},
	};
	const struct cli_usage usage = {
		"inspect", "FILE [OPTION]...", about, examples, options, CLI_N_OPTIONS(options), 1, 1};
	int status = cli_parse(&usage, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	struct tt_error err = {0};
	char *report = NULL;
	if (tt_inspect(positional.items[0], model, &report, &err) != TT_OK)
		return cli_fail(&err);
	json_error_t problem;
	json_t *json = json_loads(report, 0, &problem);
	if (as_json || !json_is_object(json)) {
		cli_put_json(report);
	} else {
		const char *key;
		json_t *value;
		json_object_foreach(json, key, value) print_value(key, value, 0);
	}
	json_decref(json);
	tt_free(report);
	return CLI_OK;
}
