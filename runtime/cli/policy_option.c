/* What one --policy says: [NAME=]F[:SCALE], in every command. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli.h"

/* How long the name is that a text begins with. */
static size_t name_length(const char *text)
{
	size_t n = 0;
	while (isalnum((unsigned char)text[n]) || (text[n] && strchr("._-", text[n])))
		n++;
	return n;
}

static char *copy(const char *text, size_t n)
{
	char *out = cli_alloc(n + 1, 1);
	memcpy(out, text, n);
	return out;
}

int cli_policy_add(struct cli_policies *out, const char *text, const char *command)
{
	size_t n_name = strcspn(text, "=/:");
	const char *path = n_name > 0 && text[n_name] == '=' ? text + n_name + 1 : text;
	const char *colon = strrchr(path, ':');
	size_t n = strlen(path);
	float scale = 1;
	if (out->n == CLI_MAX_LIST)
		return cli_usage_error(command, "more than %d policies", CLI_MAX_LIST);
	if (colon && colon[1]) {
		char *end;
		float value = strtof(colon + 1, &end);
		if (*end == 0) {
			if (!isfinite(value))
				return cli_usage_error(command, "the scale of '%s' is not finite", text);
			scale = value;
			n = (size_t)(colon - path);
			out->scaled[out->n] = true;
		}
	}
	if (n == 0)
		return cli_usage_error(command, "--policy '%s' names no file", text);
	out->names[out->n] = path != text ? copy(text, n_name) : NULL;
	out->paths[out->n] = copy(path, n);
	out->steering[out->n++].scale = scale;
	return CLI_PROCEED;
}

int cli_policy_name(struct cli_policies *out, size_t i, const char *command)
{
	if (out->scaled[i])
		return cli_usage_error(
			command, "--policy %s: scales are given by rows and --sweep here", out->paths[i]);
	if (out->names[i])
		return CLI_PROCEED;
	static const char *const endings[] = {".safetensors", ".gguf"};
	const char *file = tt_file_name(out->paths[i]);
	size_t n = strlen(file);
	for (size_t k = 0; k < sizeof endings / sizeof *endings; k++)
		if (tt_ends_with(file, endings[k]))
			n -= strlen(endings[k]);
	if (n == 0 || name_length(file) < n)
		return cli_usage_error(command, "--policy %s: its file has no name to call it by: NAME=%s",
			out->paths[i], out->paths[i]);
	out->names[i] = copy(file, n);
	return CLI_PROCEED;
}
