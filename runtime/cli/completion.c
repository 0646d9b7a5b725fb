/* trimtab completion: what a shell offers when Tab is pressed, made of the tables of options. */
#include <string.h>

#include "cli.h"

static const char about[] =
	"Writes a script by which a shell completes commands, options and their values. make install "
	"puts it where the shell\n"
	"looks for it.";

static const char examples[] = "  . <(trimtab completion bash)\n"
			       "  trimtab completion fish > ~/.config/fish/completions/trimtab.fish";

/* Whether an option's value is a file: so its argument is called in --help. */
static bool takes_file(const struct cli_option *option)
{
	const char *argument = option->argument;
	bool is_f = argument && argument[0] == 'F' && (!argument[1] || argument[1] == '.' || argument[1] == '[');
	return is_f || (argument && (strstr(argument, "FILE") || strstr(argument, "MODEL") || strstr(argument, "DIR") ||
					    strstr(argument, "FOLDER") || strstr(argument, "POLICY") ||
					    strstr(argument, ".jsonl") || strstr(argument, "]F")));
}

/* Text between single quotes, where a quote is spelled in the shell's way; special characters get a backslash. */
static void put_quoted(const char *text, const char *quote, const char *special)
{
	for (; *text; text++) {
		if (*text == '\'')
			fputs(quote, stdout);
		else if (strchr(special, *text))
			printf("\\%c", *text);
		else
			putchar(*text);
	}
}

/* Both spellings of a long name and the letter, with between them what the shell wants. */
static void put_names(const struct cli_option *option, const char *between)
{
	printf("--%s", option->name);
	if (option->alias)
		printf("%s--%s", between, option->alias);
	if (option->letter)
		printf("%s-%c", between, option->letter);
}

static void put_choices(const char *choices)
{
	for (const char *c = choices; *c; c++)
		putchar(*c == '|' ? ' ' : *c);
}

/* ---- bash */

static void bash_command(void *user, const struct cli_usage *usage)
{
	(void)user;
	size_t n_common;
	const struct cli_option *common = cli_common_options(&n_common);
	printf("\t%s)\n\t\toptions='", usage->command);
	for (size_t i = 0; i < n_common; i++)
		printf("%s--%s", i ? " " : "", common[i].name);
	for (size_t i = 0; i < usage->n_options; i++) {
		putchar(' ');
		put_names(&usage->options[i], " ");
	}
	puts("'\n\t\tcase $previous in");
	for (size_t i = 0; i < usage->n_options; i++) {
		const struct cli_option *option = &usage->options[i];
		if (option->kind == CLI_FLAG || takes_file(option))
			continue;
		fputs("\t\t", stdout);
		put_names(option, " | ");
		if (option->kind == CLI_CHOICE) {
			fputs(") words='", stdout);
			put_choices(option->argument);
			puts("' ;;");
		} else
			puts(") return ;;");
	}
	puts("\t\tesac\n\t\t;;");
}

static void bash(const struct cli_command *commands, size_t n)
{
	fputs("# shellcheck shell=bash disable=SC2207\n"
	      "_trimtab() {\n"
	      "\tlocal current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} options= words=\n"
	      "\tCOMPREPLY=()\n"
	      "\tif [ \"$COMP_CWORD\" = 1 ]; then\n"
	      "\t\tCOMPREPLY=($(compgen -W '--help --version",
		stdout);
	for (size_t i = 0; i < n; i++)
		printf(" %s", commands[i].name);
	puts("' -- \"$current\"))\n\t\treturn\n\tfi\n\tcase ${COMP_WORDS[1]} in");
	for (size_t i = 0; i < n; i++)
		cli_visit_usage(&commands[i], bash_command, NULL);
	puts("\tesac\n"
	     "\tif [ -n \"$words\" ]; then\n"
	     "\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
	     "\telif [[ $current == -* ]]; then\n"
	     "\t\tCOMPREPLY=($(compgen -W \"$options\" -- \"$current\"))\n"
	     "\telse\n"
	     "\t\tcompopt -o default 2>/dev/null\n"
	     "\tfi\n"
	     "}\n"
	     "complete -F _trimtab trimtab");
}

/* ---- zsh */

static void zsh_name(const struct cli_option *option, const char *name, const char *dashes)
{
	printf("\t\t\t'%s%s%s[", option->kind == CLI_LIST ? "*" : "", dashes, name);
	put_quoted(option->help, "'\\''", "[]\\");
	putchar(']');
	if (option->kind != CLI_FLAG) {
		putchar(':');
		put_quoted(option->argument, "'\\''", ":\\");
		putchar(':');
		if (option->kind == CLI_CHOICE) {
			putchar('(');
			put_choices(option->argument);
			putchar(')');
		} else
			fputs(takes_file(option) ? "_files" : " ", stdout);
	}
	puts("' \\");
}

static void zsh_option(const struct cli_option *option)
{
	const char letter[] = {option->letter, 0};
	zsh_name(option, option->name, "--");
	if (option->alias)
		zsh_name(option, option->alias, "--");
	if (option->letter)
		zsh_name(option, letter, "-");
}

static void zsh_command(void *user, const struct cli_usage *usage)
{
	size_t n_common;
	const struct cli_option *common = cli_common_options(&n_common);
	(void)user;
	printf("\t%s)\n\t\t_arguments \\\n", usage->command);
	for (size_t i = 0; i < usage->n_options; i++)
		zsh_option(&usage->options[i]);
	for (size_t i = 0; i < n_common; i++)
		zsh_option(&common[i]);
	puts("\t\t\t'*:file:_files'\n\t\t;;");
}

static void zsh(const struct cli_command *commands, size_t n)
{
	puts("#compdef trimtab\n"
	     "local -a commands\n"
	     "commands=(");
	for (size_t i = 0; i < n; i++) {
		printf("\t'%s:", commands[i].name);
		put_quoted(commands[i].summary, "'\\''", ":\\");
		puts("'");
	}
	puts(")\n"
	     "if (( CURRENT == 2 )); then\n"
	     "\t_describe command commands\n"
	     "\treturn\n"
	     "fi\n"
	     "local command=$words[2]\n"
	     "shift words\n"
	     "(( CURRENT-- ))\n"
	     "case $command in");
	for (size_t i = 0; i < n; i++)
		cli_visit_usage(&commands[i], zsh_command, NULL);
	puts("esac");
}

/* ---- fish */

static void fish_options(const char *command, const struct cli_option *options, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct cli_option *option = &options[i];
		printf("complete -c trimtab -n '__fish_seen_subcommand_from %s' -l %s", command, option->name);
		if (option->alias)
			printf(" -l %s", option->alias);
		if (option->letter)
			printf(" -s %c", option->letter);
		if (option->kind == CLI_CHOICE) {
			fputs(" -x -a '", stdout);
			put_choices(option->argument);
			putchar('\'');
		} else if (option->kind != CLI_FLAG)
			fputs(takes_file(option) ? " -r" : " -x", stdout);
		fputs(" -d '", stdout);
		put_quoted(option->help, "\\'", "\\");
		puts("'");
	}
}

static void fish_command(void *user, const struct cli_usage *usage)
{
	size_t n_common;
	const struct cli_option *common = cli_common_options(&n_common);
	(void)user;
	fish_options(usage->command, usage->options, usage->n_options);
	fish_options(usage->command, common, n_common);
}

static void fish(const struct cli_command *commands, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		printf("complete -c trimtab -f -n __fish_use_subcommand -a %s -d '", commands[i].name);
		put_quoted(commands[i].summary, "\\'", "\\");
		puts("'");
	}
	for (size_t i = 0; i < n; i++)
		cli_visit_usage(&commands[i], fish_command, NULL);
}

int cli_completion(int argc, char **argv)
{
	static const struct {
		const char *shell;
		void (*write)(const struct cli_command *commands, size_t n);
	} shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
	const struct cli_command *commands;
	size_t n = cli_commands(&commands);
	struct cli_list positional = {0};
	const char *path = NULL;
	const struct cli_option options[] = {
		{"output", 'o', NULL, CLI_STRING, &path, "FILE", 0, 0, "file to write; else standard output"},
	};
	const struct cli_usage usage = {
		"completion", "bash|zsh|fish [-o FILE]", about, examples, options, CLI_N_OPTIONS(options), 1, 1};
	int status = cli_parse(&usage, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
		if (!strcmp(positional.items[0], shells[i].shell)) {
			if (path && !freopen(path, "w", stdout))
				return cli_failf("%s: cannot be written", path);
			shells[i].write(commands, n);
			return CLI_OK;
		}
	return cli_usage_error("completion", "bash, zsh or fish, not %s", positional.items[0]);
}
