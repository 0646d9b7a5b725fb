/* tokenizer.json and tokenizer_config.json, then a text through what they make: the third part, or a fixed one. */
#include <stdlib.h>

#include "runtime/text/chat.h"
#include "runtime/text/tokenizer/tokenizer.h"
#include "target.h"

static void use(const struct tt_tokenizer *tokenizer, const char *text, size_t n)
{
	struct tt_error err;
	for (unsigned flags = 0; flags < 4; flags++) {
		struct tt_ids ids = {0};
		char *decoded = NULL;
		if (tt_tokenizer_encode(tokenizer, text, n, NULL, flags, &ids, &err) == TT_OK)
			tt_tokenizer_decode(tokenizer, ids.data, ids.len, &decoded, &err);
		free(decoded);
		tt_ids_free(&ids);
	}
}

void fuzz_one(const uint8_t *data, size_t size)
{
	static const char text[] = "Hello <s>\xc3\xa9 wor\xe2\x96\x81ld  don't 12345\n\n e\xcc\x81 \xe4\xbd\xa0";
	struct tt_tokenizer *tokenizer = NULL;
	struct tt_chat_template chat;
	struct tt_error err;
	fuzz_files_clear();
	struct fuzz_part part = fuzz_take_part(&data, &size);
	fuzz_file_set("tokenizer.json", part.data, part.n);
	if (size) {
		part = fuzz_take_part(&data, &size);
		fuzz_file_set("tokenizer_config.json", part.data, part.n);
	}
	if (tt_tokenizer_from_directory(&tokenizer, "directory", &err) == TT_OK) {
		use(tokenizer, text, sizeof text - 1);
		if (size)
			use(tokenizer, (const char *)data, size);
		tt_tokenizer_free(tokenizer);
	}
	if (tt_chat_from_directory(&chat, "directory", &err) == TT_OK)
		tt_chat_free(&chat);
}
