/* config.json, generation_config.json and tokenizer_config.json. */
#include <stdlib.h>

#include "target.h"
#include "weights/config.h"

static float frequencies[TT_MAX_HIDDEN];

void fuzz_one(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"config.json", "generation_config.json", "tokenizer_config.json"};
	struct tt_config config;
	struct tt_error err;
	fuzz_files_clear();
	for (int i = 0; i < 3 && size; i++) {
		struct fuzz_part part = fuzz_take_part(&data, &size);
		fuzz_file_set(names[i], part.data, part.n);
	}
	if (tt_config_from_directory(&config, "directory", &err) == TT_OK && config.head_dim <= 256)
		tt_config_inverse_frequencies(&config, config.context_length, false, frequencies);
}
