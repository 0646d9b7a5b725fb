#include "runtime/serve/scan.h"

#include <string.h>
#include <strings.h>

#include "runtime/serve/span.h"

static bool refuse(struct tt_scan *s, int status, const char *reason)
{
	s->status = status;
	s->reason = reason;
	return false;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A character of a token, as RFC 9110 has it. */
static bool is_token(char c)
{
	return is_digit(c) || is_letter(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static size_t count_token(struct tt_span text)
{
	size_t n = 0;
	while (n < text.len && is_token(text.data[n]))
		n++;
	return n;
}

static struct tt_slice slice(const char *block, struct tt_span text)
{
	return (struct tt_slice){(size_t)(text.data - block), text.len};
}

/* ---- The request line: METHOD TARGET HTTP/1.x, with one space between each. */

/* Names, addresses and a port; nothing that a reader could take for a path, a user or a second host. */
static bool is_authority(struct tt_span text)
{
	size_t i = 0;
	if (text.len && text.data[0] == '[') {
		for (i = 1; i < text.len && (is_digit(text.data[i]) || is_letter(text.data[i]) || text.data[i] == ':' ||
						    text.data[i] == '.');)
			i++;
		if (i == 1 || i == text.len || text.data[i++] != ']')
			return false;
	} else {
		while (i < text.len && (is_digit(text.data[i]) || is_letter(text.data[i]) ||
					       strchr("-._~", text.data[i] ? text.data[i] : '/')))
			i++;
		if (i == 0)
			return false;
	}
	if (i == text.len)
		return true;
	size_t port = i + 1;
	if (text.data[i] != ':' || text.len == port || text.len - port > 5)
		return false;
	while (port < text.len && is_digit(text.data[port]))
		port++;
	return port == text.len;
}

static bool scan_target(struct tt_scan *s, const char *block, struct tt_span target)
{
	static const char *const schemes[] = {"http://", "https://"}; /* either: a proxy may have ended the TLS */
	size_t n_scheme = 0;
	if (target.len > TT_MAX_TARGET)
		return refuse(s, 414, "the target is too long");
	for (size_t i = 0; i < target.len; i++)
		if (target.data[i] < '!' || target.data[i] > '~' || target.data[i] == '#' || target.data[i] == '\\')
			return refuse(s, 400, "the target has a character that a target cannot have");
	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
		size_t n = strlen(schemes[i]);
		if (target.len > n && strncasecmp(target.data, schemes[i], n) == 0)
			n_scheme = n;
	}
	if (n_scheme) {
		target.data += n_scheme;
		target.len -= n_scheme;
		const char *end = memchr(target.data, '/', target.len);
		size_t n = end ? (size_t)(end - target.data) : target.len;
		const struct tt_span authority = {target.data, n};
		if (!is_authority(authority))
			return refuse(s, 400, "the target names no host");
		s->authority = slice(block, authority);
		target.data += n;
		target.len -= n;
	}
	if (target.len == 0 || target.data[0] != '/')
		return refuse(s, 400, "the target is neither a path nor an absolute one");
	const char *query = memchr(target.data, '?', target.len);
	s->path = slice(block, (struct tt_span){target.data, query ? (size_t)(query - target.data) : target.len});
	return true;
}

static bool scan_request_line(struct tt_scan *s, const char *block, struct tt_span line)
{
	size_t n = count_token(line);
	if (n == 0 || n == line.len || line.data[n] != ' ')
		return refuse(s, 400, "the request line does not begin with a method and a space");
	struct tt_span target = {line.data + n + 1, 0};
	const char *end = line.data + line.len, *space = memchr(target.data, ' ', (size_t)(end - target.data));
	if (!space)
		return refuse(s, 400, "the request line names no version");
	target.len = (size_t)(space - target.data);
	const struct tt_span version = {space + 1, (size_t)(end - space - 1)};
	if (version.len != 8 || memcmp(version.data, "HTTP/", 5) || !is_digit(version.data[5]) ||
		version.data[6] != '.' || !is_digit(version.data[7]))
		return refuse(s, 400, "the request line does not end with a version");
	if (version.data[5] != '1' || version.data[7] > '1')
		return refuse(s, 505, "only HTTP/1.1 and HTTP/1.0 are served here");
	s->old = version.data[7] == '0';
	s->has_request_line = true;
	return scan_target(s, block, target);
}

/* ---- Fields */

static bool scan_length(struct tt_scan *s, struct tt_span value)
{
	size_t i = 0;
	while (i < value.len && is_digit(value.data[i]))
		i++;
	if (i == 0 || i < value.len || value.len > 18)
		return refuse(s, 400, "Content-Length is no number");
	if (s->n_lengths++)
		return refuse(s, 400, "there is more than one Content-Length");
	return true;
}

static bool scan_field(struct tt_scan *s, const char *block, struct tt_span line)
{
	size_t n = count_token(line);
	if (line.data[0] == ' ' || line.data[0] == '\t')
		return refuse(s, 400, "a field goes on in a second line");
	if (n == 0 || n == line.len || line.data[n] != ':')
		return refuse(s, 400, "a field does not begin with a name and a colon");
	if (++s->n_fields > TT_MAX_FIELDS)
		return refuse(s, 431, "there are too many fields");
	const struct tt_span name = {line.data, n},
			     value = tt_span_trim((struct tt_span){line.data + n + 1, line.len - n - 1});
	if (tt_span_is(name, "host")) {
		if (s->n_hosts++ || !is_authority(value))
			return refuse(s, 400, "there must be one Host, and it must name a host");
		s->host = slice(block, value);
	} else if (tt_span_is(name, "content-length")) {
		return scan_length(s, value);
	} else if (tt_span_is(name, "transfer-encoding")) {
		if (s->n_encodings++ || !tt_span_is(value, "chunked"))
			return refuse(s, 400, "Transfer-Encoding may be chunked and nothing else");
	}
	return true;
}

/* ---- The block */

/* What cannot be judged before all fields are known. */
static bool scan_end(struct tt_scan *s, const char *block)
{
	if (s->n_hosts != 1)
		return refuse(s, 400, "there must be one Host, and it must name a host");
	if (s->n_encodings && s->n_lengths)
		return refuse(s, 400, "Transfer-Encoding and Content-Length exclude each other");
	if (s->n_encodings && s->old)
		return refuse(s, 400, "HTTP/1.0 has no Transfer-Encoding");
	if (s->authority.n && (s->authority.n != s->host.n ||
				      strncasecmp(block + s->authority.at, block + s->host.at, s->host.n) != 0))
		return refuse(s, 400, "the target's host is not Host");
	return true;
}

/* A byte at `at`: CR and LF only together, and of the control bytes only the tab. */
static bool scan_byte(struct tt_scan *s, const char *block, size_t at)
{
	unsigned char c = (unsigned char)block[at];
	bool after_cr = at > s->line && block[at - 1] == '\r';
	if (after_cr != (c == '\n'))
		return refuse(s, 400, "CR and LF must stand together");
	if ((c < ' ' && c != '\t' && c != '\r' && c != '\n') || c == 127)
		return refuse(s, 400, "there is a control character");
	if (at >= TT_MAX_BLOCK)
		return refuse(s, 431, "the header is too long");
	if (!s->has_request_line && at - s->line > TT_MAX_TARGET + 64)
		return refuse(s, 414, "the target is too long");
	return true;
}

enum tt_scan_result tt_scan(struct tt_scan *s, const char *block, size_t n)
{
	while (s->seen < n) {
		size_t at = s->seen++;
		if (!scan_byte(s, block, at))
			return TT_SCAN_REFUSED;
		if (block[at] != '\n')
			continue;
		const struct tt_span line = {block + s->line, at - 1 - s->line};
		s->line = s->seen;
		if (line.len == 0 && s->has_request_line)
			return scan_end(s, block) ? TT_SCAN_WHOLE : TT_SCAN_REFUSED;
		if (!(s->has_request_line ? scan_field(s, block, line) : scan_request_line(s, block, line)))
			return TT_SCAN_REFUSED;
	}
	return TT_SCAN_MORE;
}
