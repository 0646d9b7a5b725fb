/* What stands for the commands of the store where it is not built. */
#include <string.h>

#include "cli.h"

static int refuse(const char *command, int argc, char **argv)
{
	const struct cli_usage usage = {
		command, "...", "This program was built without its store.\n", "", NULL, 0, 0, CLI_MAX_LIST};
	struct cli_list positional = {0};
	bool helps =
		argc == 1 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"); /* 1: its usage may be asked for */
	int status = helps ? cli_parse(&usage, argc, argv, &positional) : CLI_PROCEED;
	if (status != CLI_PROCEED)
		return status;
	return cli_failf("this program was built without its store, for want of libuv, llhttp or SQLite");
}

int cli_policy(int argc, char **argv)
{
	return refuse("policy", argc, argv);
}

int cli_key(int argc, char **argv)
{
	return refuse("key", argc, argv);
}
