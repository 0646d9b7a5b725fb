/* Words and numbers of PTX. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/emu/ptx/parse.h"

bool parse_fail(struct parser *p, const char *format, ...)
{
	va_list args;
	if (!p->failed) {
		int n = snprintf(p->message, PTX_ANY_LENGTH, "%s:%u: ", p->file, p->line);
		va_start(args, format);
		vsnprintf(p->message + n, PTX_ANY_LENGTH, format, args);
		va_end(args);
	}
	p->failed = true;
	p->end = p->at; /* nothing more is read */
	return false;
}

void parse_space(struct parser *p)
{
	for (; p->at < p->end; p->at++) {
		if (*p->at == '\n')
			p->line++;
		else if (*p->at == '/' && p->at + 1 < p->end && p->at[1] == '/')
			while (p->at + 1 < p->end && p->at[1] != '\n')
				p->at++;
		else if (*p->at != ' ' && *p->at != '\t' && *p->at != '\r')
			return;
	}
}

bool parse_is(struct parser *p, char c)
{
	parse_space(p);
	if (p->at == p->end || *p->at != c)
		return false;
	p->at++;
	return true;
}

bool parse_expect(struct parser *p, char c)
{
	if (parse_is(p, c))
		return true;
	return p->at < p->end ? parse_fail(p, "'%c' where '%c' belongs", *p->at, c)
			      : parse_fail(p, "ends before '%c'", c);
}

static bool in_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
	       c == '%' || c == '.';
}

struct text parse_word(struct parser *p)
{
	struct text word = {NULL, 0};
	parse_space(p);
	word.at = p->at;
	for (; p->at < p->end; p->at++) {
		if (*p->at == ':' && p->at + 1 < p->end && p->at[1] == ':')
			p->at++;
		else if (!in_word(*p->at))
			break;
	}
	word.n = (size_t)(p->at - word.at);
	return word;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
}

/* Decimal, 0x.., or the bits of a float (0f..) or a double (0d..). */
bool parse_number(struct parser *p, uint64_t *out)
{
	bool minus = parse_is(p, '-');
	int base = 10;
	*out = 0;
	if (p->end - p->at > 2 && *p->at == '0' && strchr("xXfFdD", p->at[1])) {
		base = 16;
		p->at += 2;
	}
	if (p->at == p->end || digit(*p->at) >= base)
		return parse_fail(p, "no number");
	while (p->at < p->end && digit(*p->at) < base)
		*out = *out * (uint64_t)base + (uint64_t)digit(*p->at++);
	if (p->at < p->end && *p->at == 'U')
		p->at++;
	if (minus)
		*out = 0 - *out;
	return true;
}

bool text_is(struct text text, const char *other)
{
	return text.n == strlen(other) && !memcmp(text.at, other, text.n);
}

bool text_same(struct text a, struct text b)
{
	return a.n == b.n && !memcmp(a.at, b.at, a.n);
}
