/* trimtab tokenize: prints the token ids of a text. */
#include <stdlib.h>

#include "cli.h"

static const char about[] = "Prints the token ids of a text as a JSON list on one line. Text that spells a special "
			    "token becomes that token,\n"
			    "and the tokenizer puts in front what it puts there itself, as when a model is fed. The "
			    "text is taken as it is, with\n"
			    "every newline. MODEL may be a GGUF file that holds only a vocabulary.";

static const char examples[] = "  trimtab tokenize model.gguf -p 'Hello, world'\n"
			       "  trimtab tokenize model.gguf --chat --pieces -p 'Hello'\n"
			       "  trimtab tokenize vocabulary.gguf --no-special -f text.txt";

struct args {
	struct cli_prompt_args prompt;
	bool chat, pieces, no_bos;
};

static int print_ids(const struct tt_text *text, const int32_t *ids, size_t n_ids, bool pieces)
{
	json_t *list = json_array();
	for (size_t i = 0; i < n_ids; i++)
		json_array_append_new(
			list, pieces ? json_pack("{s:i,s:o}", "id", (int)ids[i], "piece", cli_piece_json(text, ids[i]))
				     : json_integer(ids[i]));
	return cli_print_json(list, pieces ? 0 : JSON_COMPACT);
}

static int tokenize(const struct args *args, const char *model)
{
	struct tt_error err = {0};
	struct tt_text *text = NULL;
	char *prompt = NULL;
	size_t n, n_ids, span[2];
	int32_t *ids = NULL;
	int status = cli_prompt_read(&prompt, &n, &args->prompt, "tokenize");
	if (status != CLI_PROCEED)
		return status;
	if (tt_text_open(&text, model, &err) != TT_OK)
		status = cli_fail(&err);
	else if (!tt_text_has_tokenizer(text))
		status = cli_failf("%s: has no tokenizer", model);
	else if (args->chat)
		status = cli_prompt_encode(&ids, &n_ids, span, text, prompt, n, &args->prompt);
	else {
		unsigned flags = (args->prompt.no_special ? 0u : TT_TEXT_SPECIAL) | (args->no_bos ? 0u : TT_TEXT_BOS);
		if (tt_text_encode(text, prompt, n, flags, &ids, &n_ids, &err) != TT_OK)
			status = cli_fail(&err);
	}
	if (status == CLI_PROCEED)
		status = print_ids(text, ids, n_ids, args->pieces);
	tt_free(ids);
	tt_text_close(text);
	free(prompt);
	return status;
}

int cli_tokenize(int argc, char **argv)
{
	struct args a = {.prompt.keep_newline = true};
	struct cli_list positional = {0};
	const struct cli_option options[] = {
		{"prompt", 'p', NULL, CLI_STRING, &a.prompt.text, "TEXT", 0, 0, "the text"},
		{"file", 'f', NULL, CLI_STRING, &a.prompt.file, "FILE", 0, 0,
			"read the text from a file; - for standard input"},
		{"no-special", 0, NULL, CLI_FLAG, &a.prompt.no_special, NULL, 0, 0,
			"text that spells a special token stays text"},
		{"no-bos", 0, NULL, CLI_FLAG, &a.no_bos, NULL, 0, 0, "put nothing in front"},
		{"chat", 0, NULL, CLI_FLAG, &a.chat, NULL, 0, 0, "the text is one message of a chat"},
		{"system", 0, NULL, CLI_STRING, &a.prompt.system, "TEXT", 0, 0, "with --chat: the system message"},
		{"pieces", 0, NULL, CLI_FLAG, &a.pieces, NULL, 0, 0,
			"print each token's characters too; bytes where they are no whole characters"},
	};
	const struct cli_usage usage = {"tokenize", "MODEL -p TEXT | -f FILE [OPTION]...", about, examples, options,
		CLI_N_OPTIONS(options), 1, 1};
	int status = cli_parse(&usage, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	if (a.prompt.system && !a.chat)
		return cli_usage_error("tokenize", "--system needs --chat");
	return tokenize(&a, positional.items[0]);
}
