/* A small Jinja interpreter for chat templates, which come from untrusted model files: no host objects, and limits on
 * steps, depth and output. The settings are Hugging Face's: trim_blocks, lstrip_blocks, loop controls, and lenient
 * wherever they are. An unknown construct is refused by name when the template is parsed; a filter or test under an if,
 * and a method, only when it is reached.
 *
 * Every byte of a string is marked if it came from the untrusted part of the context, and keeps its mark through
 * concatenation, slicing and filters, so that the tokenizer can keep special tokens out of user text. */
#ifndef RUNTIME_TEXT_JINJA_JINJA_H
#define RUNTIME_TEXT_JINJA_JINJA_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/memory.h"

struct tt_jinja;

/* The mark of what comes from the content of the last message whose role is user; other untrusted bytes have 1. */
enum { TT_JINJA_LAST_USER = 2 };

/* Parses n bytes of template. Messages contain name and the line. */
int tt_jinja_parse(struct tt_jinja **out, const char *source, size_t n, const char *name, struct tt_error *err);
void tt_jinja_free(struct tt_jinja *jinja); /* jinja may be NULL */

struct tt_jinja_limits {
	uint64_t max_steps; /* evaluated nodes; 0 for 10 million */
	size_t max_output;  /* in bytes, for the output and for any one string; 0 for 16 MiB */
	uint32_t max_depth; /* nesting of calls and expressions; 0 for 200 */
};

/* Renders with the variables of context (an object). Every string inside context["messages"], ["tools"] and
 * ["documents"], keys too, is untrusted, except a message's "role". now: the time for strftime_now (UTC). *text gets
 * the output; *untrusted gets a byte for each of its bytes: 0 where it is trusted, else 1 or TT_JINJA_LAST_USER. If
 * the template calls raise_exception, this returns TT_ERR_ARGUMENT with its message. */
int tt_jinja_render(const struct tt_jinja *jinja, const json_t *context, time_t now,
	const struct tt_jinja_limits *limits, struct tt_buffer *text, struct tt_buffer *untrusted,
	struct tt_error *err);

#endif
