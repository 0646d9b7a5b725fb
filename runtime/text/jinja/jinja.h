/* A small Jinja interpreter for chat templates, which come from untrusted model files: no host objects, and limits on
 * steps, depth and output. Settings are Hugging Face's: trim_blocks, lstrip_blocks, loop controls, strict about nothing
 * that they are lenient about. What it does not know is refused by name when the template is parsed; a filter or test
 * that stands under an if, and a method, when it is reached.
 *
 * Every byte of a string knows whether it came from the context's untrusted part, through concatenation, slicing and
 * filters, so that the tokenizer can keep special tokens out of user text. */
#ifndef RUNTIME_TEXT_JINJA_JINJA_H
#define RUNTIME_TEXT_JINJA_JINJA_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/memory.h"

struct tt_jinja;

/* Parses n bytes of template. name stands in messages, which give the line. */
int tt_jinja_parse(struct tt_jinja **out, const char *source, size_t n, const char *name, struct tt_error *err);
void tt_jinja_free(struct tt_jinja *jinja); /* NULL is fine */

struct tt_jinja_limits {
	uint64_t max_steps; /* evaluated nodes; 0 for 10 million */
	size_t max_output;  /* bytes, of the output and of any one string; 0 for 16 MiB */
	uint32_t max_depth; /* nesting of calls and expressions; 0 for 200 */
};

/* Renders with the variables of context (an object). Every string inside context["messages"], ["tools"] and
 * ["documents"], keys too, is untrusted, but for a message's "role". now: what strftime_now sees (UTC).
 * text gets the output; untrusted a byte, 0 or 1, for each of its bytes. raise_exception gives TT_ERR_ARGUMENT with
 * the template's message. */
int tt_jinja_render(const struct tt_jinja *jinja, const json_t *context, time_t now,
	const struct tt_jinja_limits *limits, struct tt_buffer *text, struct tt_buffer *untrusted,
	struct tt_error *err);

#endif
