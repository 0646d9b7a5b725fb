/* A batch's input, line by line as far as the engine's options. The first part, where there are two, is the sweep. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "runtime/batch/row.h"
#include "target.h"

static const char chat[] = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";

static const struct tt_batch_policy policies[] = {{"a", "a"}, {"b.c", "b"}};
static struct tt_named_policy named[] = {{.name = "a"}, {.name = "b.c"}};

static struct tt_text *open_text(void)
{
	static struct tt_text *text;
	struct tt_buffer tokenizer = {0};
	struct tt_error err;
	if (text)
		return text;
	if (tt_file_read(&tokenizer, TT_TEST_DATA "/tiny-llama/tokenizer.json", 1 << 20, &err) != TT_OK)
		abort();
	fuzz_file_set("tokenizer.json", tokenizer.data, tokenizer.len);
	fuzz_file_set("chat_template.jinja", chat, sizeof chat - 1);
	if (tt_text_open(&text, "directory", &err) != TT_OK)
		abort();
	fuzz_files_clear();
	tt_buffer_free(&tokenizer);
	return text;
}

static void read_lines(const struct tt_batch_job *job, const uint8_t *data, size_t size)
{
	const struct tt_api_context context = {.text = open_text(),
		.policies = &job->policies,
		.max_tokens = 16,
		.sampling.top_p = 1,
		.now = 1700000000,
		/* As a server reads them, too. */
		.serves = size % 3 == 0,
		.right = (enum tt_api_right)(size % 5 % 3),
		.lenient = size % 5 == 0,
		.standing = {{&named[0], 1}},
		.n_standing = size % 3 == 0,
		.shadows = {{&named[1], 0}},
		.n_shadows = size % 6 == 0,
		.timeout = 600};
	struct tt_lines lines;
	struct tt_ids_seen ids = {0};
	struct tt_error err;
	bool found = false;
	fuzz_file_set("batch.jsonl", data, size);
	if (tt_lines_open(&lines, "batch.jsonl", size, &err) != TT_OK)
		return;
	while (tt_lines_next(&lines, &found, &err) == TT_OK && found) {
		struct tt_input input;
		struct tt_api_request body;
		if (tt_input_read(&input, job, &lines, &ids, &err) != TT_OK)
			break;
		if (!input.code && tt_api_request_parse(&body, input.body, input.endpoint, &context, &err) == TT_OK)
			tt_api_request_free(&body);
		tt_input_free(&input);
	}
	tt_ids_seen_free(&ids);
	tt_lines_close(&lines);
}

void fuzz_one(const uint8_t *data, size_t size)
{
	struct tt_batch_options options;
	struct tt_batch_job job = {.options = &options, .policies = {named, 2}};
	struct tt_error err;
	char sweep[256] = "";
	tt_batch_options_default(&options);
	options.policies = policies;
	options.n_policies = 2;
	options.raw = size % 2;
	if (size && memchr(data, 0x1e, size)) {
		struct fuzz_part part = fuzz_take_part(&data, &size);
		size_t n = part.n < sizeof sweep ? part.n : sizeof sweep - 1;
		if (n)
			memcpy(sweep, part.data, n);
		options.sweep = sweep;
		if (tt_batch_sweep(&job.sweep, &options, &err) == TT_OK)
			tt_sweep_free(&job.sweep);
	}
	read_lines(&job, data, size);
}
