/* Models by name: from the folders of TRIMTAB_MODELS. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli.h"

/* Kept to the end of the program, as what stands in argv is. */
static char *resolved[8];
static size_t n_resolved;

static const char *keep(char *path)
{
	if (n_resolved == sizeof resolved / sizeof *resolved) {
		free(path);
		return NULL;
	}
	return resolved[n_resolved++] = path;
}

static char *joined(const char *folder, size_t n_folder, const char *name, const char *ending)
{
	size_t n = n_folder + strlen(name) + strlen(ending) + 2;
	char *path = cli_alloc(n, 1);
	snprintf(path, n, "%.*s/%s%s", (int)n_folder, folder, name, ending);
	return path;
}

/* The name itself, or as a GGUF file. */
static char *exactly(const char *folder, size_t n_folder, const char *name)
{
	static const char *const endings[] = {"", ".gguf"};
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
		char *path = joined(folder, n_folder, name, endings[i]);
		if (tt_file_exists(path))
			return path;
		free(path);
	}
	return NULL;
}

/* The one entry that begins with the name, whatever the case of its letters; NULL for none and for several. */
static char *beginning(const char *folder, size_t n_folder, const char *name)
{
	char *path = joined(folder, n_folder, "", ""), *found = NULL;
	DIR *directory = opendir(path);
	const struct dirent *entry;
	size_t n = 0;
	free(path);
	while (directory && (entry = readdir(directory))) {
		if (entry->d_name[0] == '.' || strncasecmp(entry->d_name, name, strlen(name)) != 0)
			continue;
		free(found);
		found = joined(folder, n_folder, entry->d_name, "");
		n++;
	}
	if (directory)
		closedir(directory);
	if (n == 1)
		return found;
	free(found);
	return NULL;
}

const char *cli_model_path(const char *name)
{
	const char *folders = getenv("TRIMTAB_MODELS");
	if (!folders || !*name || strchr(name, '/') || tt_file_exists(name))
		return name;
	for (int by_beginning = 0; by_beginning < 2; by_beginning++)
		for (const char *folder = folders; *folder;) {
			size_t n = strcspn(folder, ":");
			char *path = n == 0         ? NULL
				     : by_beginning ? beginning(folder, n, name)
						    : exactly(folder, n, name);
			const char *kept = path ? keep(path) : NULL;
			if (kept)
				return kept;
			folder += n + (folder[n] == ':');
		}
	return name;
}
