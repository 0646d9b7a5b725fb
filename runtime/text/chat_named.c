/* Chat templates for models that come without one, or with a broken one, by the names that llama.cpp has for them. */
#include <string.h>

#include "runtime/text/chat.h"

static const char chatml[] = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
			     "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/* Gemma and Llama 2 have no turn of a system message: what it says stands in the next user's, and is not lost without a
 * word where none comes. */
#define LOST                                                                                                           \
	"{% if held.text %}{{ raise_exception('this template puts a system message into the message of a user after "  \
	"it, and there is none') }}{% endif %}"

static const char gemma[] =
	"{% set held = namespace(text='') %}{{ bos_token }}{% for m in messages %}"
	"{% if m.role == 'system' %}{% set held.text = held.text + (m.content | trim) + '\n\n' %}{% else %}"
	"<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
	"{% if m.role == 'user' %}{{ held.text }}{% set held.text = '' %}{% endif %}"
	"{{ m.content | trim }}<end_of_turn>\n{% endif %}{% endfor %}" LOST
	"{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}";

static const char llama2[] =
	"{% set held = namespace(text='') %}{% for m in messages %}"
	"{% if m.role == 'system' %}"
	"{% set held.text = held.text + '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' %}"
	"{% elif m.role == 'user' %}"
	"{{ bos_token }}[INST] {{ held.text }}{% set held.text = '' %}{{ m.content | trim }} [/INST]"
	"{% else %} {{ m.content | trim }} {{ eos_token }}{% endif %}{% endfor %}" LOST;

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

const char *tt_chat_role(const char *role)
{
	return strcmp(role, "developer") == 0 ? "system" : role;
}
