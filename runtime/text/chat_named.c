/* Chat templates for models that come without one, or with a broken one, by the names that llama.cpp has for them. */
#include <string.h>

#include "runtime/text/chat.h"

static const char chatml[] = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
			     "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/* Gemma has no system message: what it says stands before the first message. */
static const char gemma[] =
	"{% set first = '' %}"
	"{% if messages and messages[0].role == 'system' %}"
	"{% set first = messages[0].content | trim + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
	"{{ bos_token }}{% for m in messages %}"
	"<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
	"{% if loop.first %}{{ first }}{% endif %}{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
	"{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}";

static const char llama2[] =
	"{% set first = '' %}"
	"{% if messages and messages[0].role == 'system' %}"
	"{% set first = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}{% set messages = messages[1:] %}{% "
	"endif %}"
	"{% for m in messages %}"
	"{% if m.role == 'user' %}"
	"{{ bos_token }}[INST] {% if loop.first %}{{ first }}{% endif %}{{ m.content | trim }} [/INST]"
	"{% else %} {{ m.content | trim }} {{ eos_token }}{% endif %}{% endfor %}";

static const char llama3[] =
	"{{ bos_token }}{% for m in messages %}"
	"<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
	"{% endfor %}"
	"{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}";

static const char phi3[] = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
			   "{% if add_generation_prompt %}<|assistant|>\n{% endif %}";

static const struct {
	const char *name, *source;
} named[] = {{"chatml", chatml}, {"gemma", gemma}, {"llama2", llama2}, {"llama3", llama3}, {"phi3", phi3}};

const char *tt_chat_named(const char *name)
{
	for (size_t i = 0; i < sizeof named / sizeof *named; i++)
		if (!strcmp(named[i].name, name))
			return named[i].source;
	return NULL;
}
