/* trimtab man: the manual, made of what --help is made of. For packagers; no user needs to know it. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char about[] =
	"Writes the manual page of a command, or of the program as a whole. With --output all of them, "
	"each into a file of\n"
	"that folder, which must exist.";

static const char examples[] = "  trimtab man generate | man -l -\n"
			       "  trimtab man -o man1";

/* Text for roff: a backslash, a hyphen that is to stay one, and a line that would be a request. */
static void put_text(FILE *to, const char *text, size_t n)
{
	if (n && (*text == '.' || *text == '\''))
		fputs("\\&", to);
	for (size_t i = 0; i < n; i++) {
		if (text[i] == '\\')
			fputs("\\e", to);
		else if (text[i] == '-')
			fputs("\\-", to);
		else
			fputc(text[i], to);
	}
}

static void put_line(FILE *to, const char *text, size_t n)
{
	put_text(to, text, n);
	fputc('\n', to);
}

/* Lines that are filled; a blank line is a paragraph's end, and indented lines stay as they are. */
static void put_paragraphs(FILE *to, const char *text)
{
	bool verbatim = false;
	while (*text) {
		size_t n = strcspn(text, "\n");
		bool indented = *text == ' ';
		if (indented != verbatim)
			fputs(indented ? ".PP\n.nf\n" : ".fi\n.PP\n", to);
		verbatim = indented;
		if (n)
			put_line(to, text, n);
		else
			fputs(".PP\n", to);
		text += n + (text[n] == '\n');
	}
	if (verbatim)
		fputs(".fi\n", to);
}

static void put_title(FILE *to, const char *command, const char *summary)
{
	const char *dash = *command ? "-" : "";
	fputs(".TH TRIMTAB", to);
	fputs(*command ? "\\-" : "", to);
	for (const char *c = command; *c; c++)
		fputc(toupper((unsigned char)*c), to);
	fprintf(to, " 1 \"\" \"trimtab %s\" \"trimtab\"\n.SH NAME\ntrimtab%s%s \\- ", tt_version(), *dash ? "\\-" : "",
		command);
	put_line(to, summary, strlen(summary));
	fprintf(to, ".SH SYNOPSIS\n\\fBtrimtab%s%s\\fR ", *command ? " " : "", command);
}

static void put_option(FILE *to, const struct cli_option *option)
{
	char value[64];
	fputs(".TP\n", to);
	if (option->letter)
		fprintf(to, "\\fB\\-%c\\fR, ", option->letter);
	fputs("\\fB\\-\\-", to);
	put_text(to, option->name, strlen(option->name));
	if (option->alias) {
		fputs("\\fR, \\fB\\-\\-", to);
		put_text(to, option->alias, strlen(option->alias));
	}
	fputs("\\fR", to);
	if (option->argument) {
		fputs(" \\fI", to);
		put_text(to, option->argument, strlen(option->argument));
		fputs("\\fR", to);
	}
	fputc('\n', to);
	put_text(to, option->help, strlen(option->help));
	if (cli_option_default(option, value)) {
		fputs(" (default ", to);
		put_text(to, value, strlen(value));
		fputc(')', to);
	}
	fputc('\n', to);
}

static void put_examples(FILE *to, const char *text)
{
	fputs(".SH EXAMPLES\n", to);
	put_paragraphs(to, text);
}

struct page {
	FILE *to;
	const char *summary;
};

static void put_command(void *user, const struct cli_usage *usage)
{
	const struct page *page = user;
	size_t n;
	const struct cli_option *common = cli_common_options(&n);
	put_title(page->to, usage->command, page->summary);
	put_line(page->to, usage->synopsis, strlen(usage->synopsis));
	fputs(".SH DESCRIPTION\n", page->to);
	put_paragraphs(page->to, usage->about);
	fputs(".SH OPTIONS\n", page->to);
	for (size_t i = 0; i < usage->n_options; i++)
		put_option(page->to, &usage->options[i]);
	for (size_t i = 0; i < n; i++)
		put_option(page->to, &common[i]);
	put_examples(page->to, usage->examples);
	fputs(".SH SEE ALSO\n.BR trimtab (1)\n", page->to);
}

static void put_program(FILE *to, const struct cli_command *commands, size_t n)
{
	put_title(to, "", "run a frozen language model and steer it");
	put_line(to, cli_program.synopsis, strlen(cli_program.synopsis));
	fputs(".SH DESCRIPTION\n", to);
	put_paragraphs(to, cli_program.about);
	fputs(".SH COMMANDS\n", to);
	for (size_t i = 0; i < n; i++) {
		fprintf(to, ".TP\n.BR trimtab\\-%s (1)\n", commands[i].name);
		put_line(to, commands[i].summary, strlen(commands[i].summary));
	}
	put_examples(to, cli_program.examples);
}

/* The page of one command, or with NULL of the program. */
static void put_page(FILE *to, const struct cli_command *command)
{
	const struct cli_command *commands;
	size_t n = cli_commands(&commands);
	if (!command) {
		put_program(to, commands, n);
		return;
	}
	struct page page = {to, command->summary};
	cli_visit_usage(command, put_command, &page);
}

static int write_page(const char *folder, const struct cli_command *command)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/trimtab%s%s.1", folder, command ? "-" : "", command ? command->name : "");
	FILE *file = fopen(path, "w");
	if (!file)
		return cli_failf("%s: cannot be written", path);
	put_page(file, command);
	return cli_close(file, path);
}

int cli_man(int argc, char **argv)
{
	const struct cli_command *commands;
	size_t n = cli_commands(&commands);
	const char *folder = NULL;
	struct cli_list positional = {0};
	const struct cli_option options[] = {
		{"output", 'o', NULL, CLI_STRING, &folder, "FOLDER", 0, 0, "where to write all pages"},
	};
	const struct cli_usage usage = {
		"man", "[COMMAND | -o FOLDER]", about, examples, options, CLI_N_OPTIONS(options), 0, 1};
	int status = cli_parse(&usage, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	const struct cli_command *command = NULL;
	for (size_t i = 0; positional.n && i < n; i++)
		if (!strcmp(positional.items[0], commands[i].name))
			command = &commands[i];
	if (positional.n && !command)
		return cli_usage_error("man", "%s is no command", positional.items[0]);
	if (!folder) {
		put_page(stdout, command);
		return CLI_OK;
	}
	status = write_page(folder, NULL);
	for (size_t i = 0; status == CLI_OK && i < n; i++)
		status = write_page(folder, &commands[i]);
	return status;
}
