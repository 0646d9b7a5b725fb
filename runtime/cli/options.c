/* Options: each subcommand has one table, from which both the parser and --help are made. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { MAX_LONG = 96, HELP_COLUMN = 30, HELP_WIDTH = 100 };

bool cli_option_default(const struct cli_option *option, char out[64])
{
	switch (option->kind) {
	case CLI_U32:
	case CLI_TOKENS:
		snprintf(out, 64, "%u", *(const uint32_t *)option->target);
		return true;
	case CLI_U64:
		snprintf(out, 64, "%llu", (unsigned long long)*(const uint64_t *)option->target);
		return true;
	case CLI_FLOAT:
		snprintf(out, 64, "%g", (double)*(const float *)option->target);
		return true;
	case CLI_STRING:
		if (!*(const char *const *)option->target)
			return false;
		snprintf(out, 64, "%s", *(const char *const *)option->target);
		return true;
	case CLI_CHOICE: {
		const char *name = option->argument;
		for (int i = 0; i < *(const int *)option->target; i++)
			name = strchr(name, '|') + 1;
		snprintf(out, 64, "%.*s", (int)strcspn(name, "|"), name);
		return true;
	}
	case CLI_FLAG:
	case CLI_LIST:
		break;
	}
	return false;
}

static void print_option(const struct cli_option *option)
{
	char left[128], value[64], *help = NULL;
	size_t n;
	snprintf(left, sizeof left, "  %s%c%s--%s%s%s%s%s", option->letter ? "-" : " ",
		option->letter ? option->letter : ' ', option->letter ? ", " : "  ", option->name,
		option->alias ? ", --" : "", option->alias ? option->alias : "", option->argument ? " " : "",
		option->argument ? option->argument : "");
	FILE *text = cli_memory_file(&help, &n);
	fputs(option->help, text);
	if (cli_option_default(option, value))
		fprintf(text, " (default %s)", value);
	fclose(text);
	struct cli_lines lines = {0};
	cli_wrap(&lines, help, n, HELP_WIDTH - HELP_COLUMN);
	if (strlen(left) >= HELP_COLUMN)
		printf("%s\n%*s", left, HELP_COLUMN, "");
	else
		printf("%-*s", HELP_COLUMN, left);
	for (size_t i = 0; i < lines.n; i++)
		printf("%*s%s\n", i ? HELP_COLUMN : 0, "", lines.lines[i]);
	cli_lines_free(&lines);
	free(help);
}

static bool quiet, verbose;

static const struct cli_option common[] = {
	{"quiet", 'q', NULL, CLI_FLAG, &quiet, NULL, 0, 0,
		"no notes and no progress, only results, warnings and errors"},
	{"verbose", 'v', NULL, CLI_FLAG, &verbose, NULL, 0, 0, "say what the model is and where it runs"},
	{"help", 'h', NULL, CLI_FLAG, NULL, NULL, 0, 0, "this text"},
};
enum { N_COMMON = sizeof common / sizeof *common };

const struct cli_option *cli_common_options(size_t *n)
{
	*n = N_COMMON;
	return common;
}

bool cli_is_quiet(void)
{
	return quiet;
}

bool cli_is_verbose(void)
{
	return verbose;
}

static void print_help(const struct cli_usage *usage)
{
	printf("Usage: trimtab %s %s\n\n%s\n\nOptions:\n", usage->command, usage->synopsis, usage->about);
	for (size_t i = 0; i < usage->n_options; i++)
		print_option(&usage->options[i]);
	for (size_t i = 0; i < N_COMMON; i++)
		print_option(&common[i]);
	printf("\nExamples:\n%s\n", usage->examples);
}

static bool parse_u64(const char *text, uint64_t *out)
{
	char *end;
	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (*end || errno)
		return false;
	*out = value;
	return true;
}

static int set_choice(const struct cli_option *option, const char *value)
{
	const char *name = option->argument;
	for (int i = 0; name; i++) {
		size_t n = strcspn(name, "|");
		if (strlen(value) == n && memcmp(name, value, n) == 0) {
			*(int *)option->target = i;
			return CLI_PROCEED;
		}
		name = name[n] ? name + n + 1 : NULL;
	}
	return CLI_USAGE;
}

static int set_float(const struct cli_usage *usage, const struct cli_option *option, const char *value)
{
	char *end;
	double number = strtod(value, &end);
	if (end == value || *end || !isfinite(number))
		return cli_usage_error(usage->command, "--%s takes a number, not '%s'", option->name, value);
	if (number < option->min || number > option->max)
		return cli_usage_error(usage->command, "--%s must be from %g to %g, not %s", option->name, option->min,
			option->max, value);
	*(float *)option->target = (float)number;
	return CLI_PROCEED;
}

static int set_integer(const struct cli_usage *usage, const struct cli_option *option, const char *value)
{
	uint64_t number;
	if (option->kind == CLI_TOKENS && strcmp(value, "-1") == 0) {
		*(uint32_t *)option->target = (uint32_t)option->max;
		return CLI_PROCEED;
	}
	if (!parse_u64(value, &number))
		return cli_usage_error(usage->command, "--%s takes a whole number, not '%s'%s", option->name, value,
			strcmp(option->name, "seed") ? "" : ": say which, and the same text comes again");
	if (option->kind == CLI_U64) {
		*(uint64_t *)option->target = number;
		return CLI_PROCEED;
	}
	if ((double)number < option->min || (double)number > option->max)
		return cli_usage_error(usage->command, "--%s must be from %.0f to %.0f%s, not %s", option->name,
			option->min, option->max, option->kind == CLI_TOKENS ? ", or -1" : "", value);
	*(uint32_t *)option->target = (uint32_t)number;
	return CLI_PROCEED;
}

static int set(const struct cli_usage *usage, const struct cli_option *option, const char *value)
{
	switch (option->kind) {
	case CLI_FLAG:
		*(bool *)option->target = true;
		return CLI_PROCEED;
	case CLI_STRING:
		*(const char **)option->target = strcmp(option->argument, "MODEL") ? value : cli_model_path(value);
		return CLI_PROCEED;
	case CLI_LIST: {
		struct cli_list *list = option->target;
		if (list->n == CLI_MAX_LIST)
			return cli_usage_error(usage->command, "more than %d of --%s", CLI_MAX_LIST, option->name);
		list->items[list->n++] = value;
		return CLI_PROCEED;
	}
	case CLI_FLOAT:
		return set_float(usage, option, value);
	case CLI_CHOICE:
		if (set_choice(option, value) != CLI_PROCEED)
			return cli_usage_error(
				usage->command, "--%s takes %s, not '%s'", option->name, option->argument, value);
		return CLI_PROCEED;
	case CLI_U32:
	case CLI_U64:
	case CLI_TOKENS:
		break;
	}
	return set_integer(usage, option, value);
}

/* Option i is reported by getopt_long as i + 256, above every letter. */
static void make_getopt(const struct cli_usage *usage, struct option long_options[MAX_LONG], char letters[2 * MAX_LONG])
{
	size_t n = 0, m = 0;
	letters[m++] = ':';
	for (size_t i = 0; i < N_COMMON; i++) {
		letters[m++] = common[i].letter;
		long_options[n++] = (struct option){common[i].name, no_argument, NULL, common[i].letter};
	}
	for (size_t i = 0; i < usage->n_options && n + 3 < MAX_LONG; i++) {
		const struct cli_option *option = &usage->options[i];
		int argument = option->kind == CLI_FLAG ? no_argument : required_argument;
		long_options[n++] = (struct option){option->name, argument, NULL, (int)i + 256};
		if (option->alias)
			long_options[n++] = (struct option){option->alias, argument, NULL, (int)i + 256};
		if (!option->letter)
			continue;
		letters[m++] = option->letter;
		if (argument == required_argument)
			letters[m++] = ':';
	}
	long_options[n] = (struct option){0};
	letters[m] = 0;
}

static const struct cli_option *find(const struct cli_usage *usage, int code)
{
	if (code >= 256)
		return &usage->options[code - 256];
	for (size_t i = 0; i < usage->n_options; i++) {
		if (usage->options[i].letter == code)
			return &usage->options[i];
	}
	for (size_t i = 0; i < N_COMMON; i++) {
		if (common[i].letter == code)
			return &common[i];
	}
	return NULL;
}

/* An option that is no option: what it may have been meant for. */
static int unknown_option(const struct cli_usage *usage, const char *text)
{
	struct cli_nearest nearest = {0};
	char name[64];
	bool letter = text[0] == '-' && text[1] != '-';
	const char *begin = text + strspn(text, "-");
	snprintf(name, sizeof name, "%.*s", (int)strcspn(begin, "="), begin);
	const char *here = letter ? NULL : cli_foreign_option(name);
	if (here)
		return cli_usage_error(usage->command, "unknown option %s: %s", text, here);
	for (size_t i = 0; i < usage->n_options && !letter; i++) {
		cli_consider(&nearest, name, usage->options[i].name);
		cli_consider(&nearest, name, usage->options[i].alias);
	}
	if (nearest.word)
		return cli_usage_error(
			usage->command, "unknown or ambiguous option %s: did you mean --%s?", text, nearest.word);
	return cli_usage_error(usage->command, "unknown or ambiguous option %s", text);
}

static int bad_option(const struct cli_usage *usage, int code, char **argv)
{
	const struct cli_option *option = optopt ? find(usage, optopt) : NULL;
	if (code == ':' && option)
		return cli_usage_error(usage->command, "--%s needs a value", option->name);
	if (option && optopt >= 256)
		return cli_usage_error(usage->command, "--%s takes no value", option->name);
	if (optopt && optopt < 256 && optopt != 'h') {
		const char *here = cli_foreign_letter(optopt);
		return cli_usage_error(
			usage->command, "unknown option -%c%s%s", optopt, here ? ": " : "", here ? here : "");
	}
	return unknown_option(usage, argv[optind - 1]);
}

/* Whether the option, by its name or letter, has its value in the next word. */
static bool takes_next(const struct cli_usage *usage, const char *word)
{
	size_t n = strlen(word);
	for (size_t i = 0; i < usage->n_options; i++) {
		const struct cli_option *option = &usage->options[i];
		if (option->kind == CLI_FLAG)
			continue;
		if (word[1] != '-' ? n == 2 && word[1] == option->letter
				   : !strncmp(option->name, word + 2, n - 2) ||
					     (option->alias && !strncmp(option->alias, word + 2, n - 2)))
			return true;
	}
	return false;
}

/* A name behind one dash, as llama.cpp has them: getopt would take -hf X for -h, and -temp 1 for a -t of "emp". */
static int check_dashes(const struct cli_usage *usage, int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		const char *word = argv[i];
		if (word[0] != '-' || !word[1])
			continue;
		const char *here = word[1] == '-' || !word[2] ? NULL : cli_foreign_option(word + 1);
		if (here)
			return cli_usage_error(usage->command, "unknown option %s: %s", word, here);
		for (size_t k = 0; word[1] != '-' && word[2] && k < usage->n_options; k++) {
			const struct cli_option *option = &usage->options[k];
			if (!strcmp(option->name, word + 1) || (option->alias && !strcmp(option->alias, word + 1)))
				return cli_usage_error(
					usage->command, "unknown option %s: did you mean -%s?", word, word);
		}
		i += takes_next(usage, word);
	}
	return CLI_PROCEED;
}

/* A separate pass before the parsing: help prints the defaults that parsing overwrites, and must work even if the other
 * arguments are wrong. It uses a copy, because getopt_long sorts its arguments: afterwards, a value that is missing at
 * the end of the line would be taken from the front. */
static bool asks_for_help(int argc, char **argv, const char *letters, const struct option *long_options)
{
	char **copy = cli_alloc((size_t)argc + 1, sizeof *copy);
	int code;
	bool help = false;
	memcpy(copy, argv, (size_t)argc * sizeof *copy);
	while (!help && (code = getopt_long(argc, copy, letters, long_options, NULL)) != -1)
		help = code == 'h';
	free(copy);
	return help;
}

/* Who wants the tables instead of a run; file scope, since commands pass them to cli_parse alone. */
static struct {
	cli_visit_fn visit;
	void *user;
} visitor;

void cli_visit_usage(const struct cli_command *command, cli_visit_fn visit, void *user)
{
	char name[32], *argv[] = {name, NULL};
	snprintf(name, sizeof name, "%s", command->name);
	visitor.visit = visit;
	visitor.user = user;
	command->run(1, argv);
	visitor.visit = NULL;
}

int cli_parse(const struct cli_usage *usage, int argc, char **argv, struct cli_list *positional)
{
	if (visitor.visit) {
		visitor.visit(visitor.user, usage);
		return CLI_OK;
	}
	struct option long_options[MAX_LONG];
	char letters[2 * MAX_LONG];
	make_getopt(usage, long_options, letters);
	opterr = 0;
	int status = check_dashes(usage, argc, argv);
	if (status != CLI_PROCEED)
		return status;
	if (asks_for_help(argc, argv, letters, long_options)) {
		print_help(usage);
		return CLI_OK;
	}
	int code;
	optind = 0;
	while ((code = getopt_long(argc, argv, letters, long_options, NULL)) != -1) {
		const struct cli_option *option = code == '?' || code == ':' ? NULL : find(usage, code);
		if (!option)
			return bad_option(usage, code, argv);
		status = set(usage, option, optarg);
		if (status != CLI_PROCEED)
			return status;
	}
	for (; optind < argc; optind++) {
		if (positional->n == usage->max_positional || positional->n == CLI_MAX_LIST)
			return cli_usage_error(usage->command, "one argument too many: '%s'", argv[optind]);
		bool model = positional->n == 0 && !strncmp(usage->synopsis, "MODEL", 5);
		positional->items[positional->n++] = model ? cli_model_path(argv[optind]) : argv[optind];
	}
	if (positional->n < usage->min_positional)
		return cli_usage_error(usage->command, "an argument is missing: %s", usage->synopsis);
	return CLI_PROCEED;
}
