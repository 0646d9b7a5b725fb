#include "controller/policy/layer_list.h"

#include "base/fail.h"

/* Reads at most 9 digits, so that the value cannot overflow. */
static bool parse_number(const char **text, uint32_t *out)
{
	const char *c = *text;
	uint32_t value = 0;
	for (; *c >= '0' && *c <= '9'; c++) {
		if (c - *text >= 9)
			return false;
		value = value * 10 + (uint32_t)(*c - '0');
	}
	if (c == *text)
		return false;
	*text = c;
	*out = value;
	return true;
}

int tt_layers_parse(bool *member, uint32_t n_layers, const char *text, const char *field, struct tt_error *err)
{
	uint32_t next = 0;
	for (const char *c = text;;) {
		uint32_t first, last;
		if (!parse_number(&c, &first))
			return tt_fail(err, TT_ERR_FORMAT, "%s: \"%.60s\" is not a list of layers such as 8,9-14",
				field, text);
		last = first;
		if (*c == '-') {
			c++;
			if (!parse_number(&c, &last))
				return tt_fail(err, TT_ERR_FORMAT,
					"%s: \"%.60s\" is not a list of layers such as 8,9-14", field, text);
		}
		if (last >= n_layers)
			return tt_fail(err, TT_ERR_FORMAT, "%s: layer %u, but there are %u layers (0 to %u)", field,
				last, n_layers, n_layers - 1);
		if (first < next || last < first)
			return tt_fail(err, TT_ERR_FORMAT, "%s: \"%.60s\" is not ascending", field, text);
		for (uint32_t l = first; l <= last; l++)
			member[l] = true;
		next = last + 1;
		if (*c == 0)
			return TT_OK;
		if (*c++ != ',')
			return tt_fail(err, TT_ERR_FORMAT, "%s: \"%.60s\" is not a list of layers such as 8,9-14",
				field, text);
	}
}

int tt_layers_print(struct tt_buffer *out, const bool *member, uint32_t n_layers, struct tt_error *err)
{
	const char *comma = "";
	for (uint32_t l = 0; l < n_layers; l++) {
		if (!member[l])
			continue;
		uint32_t last = l;
		while (last + 1 < n_layers && member[last + 1])
			last++;
		TT_TRY(last == l ? tt_buffer_print(out, err, "%s%u", comma, l)
				 : tt_buffer_print(out, err, "%s%u-%u", comma, l, last));
		comma = ",";
		l = last;
	}
	return TT_OK;
}
