/* What the commands of the store share. They are in the program only where SQLite was found; else no_store.c stands for
 * them. */
#ifndef CLI_STORE_H
#define CLI_STORE_H

#include <jansson.h>

#include "cli.h"

struct cli_store_args {
	const char *state, *key; /* the folder; the file that has the key */
	bool json;
};

#define CLI_STORE_OPTIONS(a)                                                                                           \
	{"state", 0, NULL, CLI_STRING, &(a).state, "DIR", 0, 0, "folder of the store, as of `trimtab serve`"},         \
		{"key", 0, NULL, CLI_STRING, &(a).key, "F", 0, 0,                                                      \
			"file whose first line is your key: who you are, and what you may"},                           \
	{                                                                                                              \
		"json", 0, NULL, CLI_FLAG, &(a).json, NULL, 0, 0, "print the answer as JSON"                           \
	}

/* Takes over arguments and runs the command of the store. *answer is a new reference. CLI_PROCEED, CLI_FAILED or
 * CLI_USAGE, with a message. makes: a store that is missing is made. */
int cli_store_run(
	json_t **answer, const struct cli_store_args *args, const char *command, json_t *arguments, bool makes);
/* Sets the argument to text; NULL: leaves it out. CLI_PROCEED, or CLI_USAGE with a message where it is not UTF-8. */
int cli_store_put(json_t *arguments, const char *program, const char *name, const char *text);
/* Prints rows of the list under this name: the keys with spaces between them, as a table. Takes over answer. Returns
 * the exit status. */
int cli_store_show(json_t *answer, const struct cli_store_args *args, const char *list, const char *keys);

#endif
