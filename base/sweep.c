#include "base/sweep.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"

static const char name_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

struct names {
	const char *const *list; // [n]
	size_t n;
};

static int check_names(const struct names *names, struct tt_error *err)
{
	if (names->n > TT_MAX_SWEEP_NAMES)
		return tt_fail(err, TT_ERR_ARGUMENT, "more than %d policies", TT_MAX_SWEEP_NAMES);
	TT_TRY(tt_need_list(names->list, names->n, "policies", err));
	for (size_t i = 0; i < names->n; i++) {
		const char *name = names->list[i];
		TT_TRY(tt_need(name, "the name of a policy", err));
		if (!*name || name[strspn(name, name_characters)])
			return tt_fail(err, TT_ERR_ARGUMENT,
				"'%.60s' is no name for a policy: letters, digits, '.', '_' and '-'", name);
		for (size_t k = 0; k < i; k++)
			if (!strcmp(name, names->list[k]))
				return tt_fail(err, TT_ERR_ARGUMENT, "two policies are called %.60s", name);
	}
	return TT_OK;
}

static int find_name(const struct names *names, const char *name, size_t n, size_t *out, struct tt_error *err)
{
	for (size_t i = 0; i < names->n; i++) {
		if (strlen(names->list[i]) != n || memcmp(names->list[i], name, n) != 0)
			continue;
		*out = i;
		return TT_OK;
	}
	return tt_fail(
		err, TT_ERR_ARGUMENT, "the sweep names '%.*s', which is no policy given", (int)(n < 60 ? n : 60), name);
}

static int parse_scale(const char *text, size_t n, float *out, struct tt_error *err)
{
	char copy[32], *end;
	snprintf(copy, sizeof copy, "%.*s", (int)n, text);
	*out = strtof(copy, &end);
	if (n == 0 || n >= sizeof copy || *end || strspn(copy, "+-.0123456789eE") != n || !isfinite(*out))
		return tt_fail(err, TT_ERR_ARGUMENT, "the sweep has the scale '%s', which is no number", copy);
	return TT_OK;
}

/* text: the scale, as it was written. */
static int add_case(struct tt_sweep *out, const struct names *names, size_t name, float scale, const char *text,
	size_t n, struct tt_error *err)
{
	struct tt_buffer suffix = {0};
	if (out->n == TT_MAX_SWEEP)
		return tt_fail(err, TT_ERR_ARGUMENT, "the sweep has more than %d cases", TT_MAX_SWEEP);
	TT_TRY(tt_buffer_print(&suffix, err, "#%s@%.*s", names->list[name], (int)n, text));
	out->cases[out->n++] = (struct tt_sweep_case){name, scale, suffix.data};
	for (size_t i = 0; i + 1 < out->n; i++)
		if (!strcmp(out->cases[i].suffix, suffix.data))
			return tt_fail(err, TT_ERR_ARGUMENT, "the sweep has %s twice", suffix.data + 1);
	return TT_OK;
}

static int add_name(struct tt_sweep *out, const struct names *names, const char *name, size_t n_name,
	const char *scales, struct tt_error *err)
{
	size_t index = 0;
	TT_TRY(find_name(names, name, n_name, &index, err));
	for (;;) {
		size_t n = strcspn(scales, ",");
		float scale;
		TT_TRY(parse_scale(scales, n, &scale, err));
		TT_TRY(add_case(out, names, index, scale, scales, n, err));
		if (!scales[n])
			return TT_OK;
		scales += n + 1;
	}
}

static int parse(struct tt_sweep *out, const struct names *names, const char *text, struct tt_error *err)
{
	TT_TRY(check_names(names, err));
	if (!text)
		return TT_OK;
	const char *at = strchr(text, '@');
	if (!at || strchr(at + 1, '@'))
		return tt_fail(err, TT_ERR_ARGUMENT, "the sweep '%.60s' is not NAME,..@SCALE,..", text);
	TT_TRY(tt_alloc(&out->cases, TT_MAX_SWEEP, sizeof *out->cases, err));
	for (const char *name = text; name <= at;) {
		size_t n = strcspn(name, ",@");
		TT_TRY(add_name(out, names, name, n, at + 1, err));
		name += n + 1;
	}
	return TT_OK;
}

int tt_sweep_parse(
	struct tt_sweep *out, const char *const *names, size_t n_names, const char *text, struct tt_error *err)
{
	*out = (struct tt_sweep){0};
	int status = parse(out, &(struct names){names, n_names}, text, err);
	if (status != TT_OK)
		tt_sweep_free(out);
	return status;
}

size_t tt_sweep_keep_one_baseline(struct tt_sweep *sweep)
{
	size_t n = 0, before = sweep->n;
	bool has_baseline = false;
	for (size_t i = 0; i < before; i++) {
		bool is_baseline = sweep->cases[i].scale == 0;
		if (is_baseline && has_baseline)
			free(sweep->cases[i].suffix);
		else
			sweep->cases[n++] = sweep->cases[i];
		has_baseline |= is_baseline;
	}
	sweep->n = n;
	return before - n;
}

void tt_sweep_free(struct tt_sweep *sweep)
{
	for (size_t i = 0; i < sweep->n; i++)
		free(sweep->cases[i].suffix);
	free(sweep->cases);
	*sweep = (struct tt_sweep){0};
}
