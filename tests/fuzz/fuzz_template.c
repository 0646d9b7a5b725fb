/* A chat template, rendered over a conversation: the second part, or a fixed one. */
#include "base/json.h"
#include "runtime/text/jinja/jinja.h"
#include "target.h"

static const char context[] =
	"{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\"Hi <b>\\n\"},"
	"{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"yes\"}],\"n\":-3,\"x\":1.5,\"b\":true,"
	"\"z\":null}],"
	"\"add_generation_prompt\":true,\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"tools\":[{\"name\":\"f\","
	"\"parameters\":{\"type\":\"object\"}}]}";

void fuzz_one(const uint8_t *data, size_t size)
{
	/* The steps are a hundredth of the default, so that a template that loops is a short run. */
	static const struct tt_jinja_limits limits = {.max_steps = 100000, .max_output = 1 << 18};
	struct tt_jinja *jinja = NULL;
	struct tt_buffer text = {0}, untrusted = {0};
	struct tt_error err;
	json_t *conversation = NULL;
	struct fuzz_part source = fuzz_take_part(&data, &size);
	if (tt_jinja_parse(&jinja, (const char *)source.data, source.n, "template", &err) != TT_OK)
		return;
	if (size == 0 || tt_json_parse(&conversation, (const char *)data, size, "context", &err) != TT_OK)
		tt_json_parse(&conversation, context, sizeof context - 1, "context", &err);
	if (json_is_object(conversation) &&
		tt_jinja_render(jinja, conversation, 1700000000, &limits, &text, &untrusted, &err) == TT_OK &&
		text.len != untrusted.len)
		__builtin_trap();
	tt_buffer_free(&text);
	tt_buffer_free(&untrusted);
	json_decref(conversation);
	tt_jinja_free(jinja);
}
