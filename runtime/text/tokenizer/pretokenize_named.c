/* The pre-tokenizers that a GGUF file only names, with the stages that the tokenizer.json of these models has. */
#include "runtime/text/tokenizer/pretokenize.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"

const char tt_pattern_gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char pattern_llama3[] =
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
	"\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char pattern_qwen2[] =
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
	"\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char pattern_qwen35[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
				     "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|"
				     "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* Letters that have case, as DeepSeek's tokenizer.json lists them. */
static const char pattern_deepseek_letters[] =
	"\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-"
	"Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-"
	"Ὅὐ-ὗὙὛ"
	"ὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-"
	"ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-"
	"Ｚａ-"
	"ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
static const char pattern_deepseek_marks[] = "\\s?[!-/:-~！-／：-～‘-‟　-。]+";
static const char pattern_deepseek_east[] = "[一-龥ࠀ-一가-퟿]+";

enum step { PATTERN, DIGITS, PUNCTUATION, BYTE_DIGITS, BYTE_THREES };

#define GPT2                                                                                                           \
	{                                                                                                              \
		PATTERN, tt_pattern_gpt2                                                                               \
	}
static const struct {
	const char *names; /* with a space before and after each */
	struct {
		enum step step;
		const char *pattern;
	} steps[6];
	uint8_t n_steps;
	bool nfc, ignore_merges;
} KNOWN[] = {
	{" gpt-2 ", {GPT2}, 1, false, false},
	{" mpt ", {GPT2}, 1, true, false},
	{" smollm starcoder refact ", {{DIGITS, NULL}, GPT2}, 2, false, false},
	{" command-r ", {{DIGITS, NULL}, GPT2}, 2, true, false},
	{" llama-bpe llama3 llama-v3 ", {{PATTERN, pattern_llama3}}, 1, false, true},
	{" qwen2 ", {{PATTERN, pattern_qwen2}}, 1, true, false},
	{" qwen35 ", {{PATTERN, pattern_qwen35}}, 1, false, false},
	{" deepseek-llm ",
		{{PATTERN, "[\\r\\n]"}, {PATTERN, pattern_deepseek_letters}, {PATTERN, pattern_deepseek_marks},
			{PATTERN, "\\s+$"}, {PATTERN, pattern_deepseek_east}, {DIGITS, NULL}},
		6, false, false},
	{" deepseek-coder ",
		{{PATTERN, "[\\r\\n]"}, {PATTERN, "\\s?\\p{L}+"}, {PATTERN, "\\s?\\p{P}+"},
			{PATTERN, pattern_deepseek_east}, {DIGITS, NULL}},
		5, false, false},
	{" falcon ", {{PUNCTUATION, NULL}, GPT2, {BYTE_DIGITS, NULL}, {BYTE_THREES, NULL}}, 4, false, false},
};

static bool is_named(const char *names, const char *name, size_t n)
{
	for (const char *at = names + 1; *at; at += strcspn(at, " ") + 1)
		if (strcspn(at, " ") == n && !memcmp(at, name, n))
			return true;
	return false;
}

int tt_pretokenizer_add_named(struct tt_pretokenizer *pretokenizer, const char *name, size_t n,
	struct tt_named_pretokenizer *also, struct tt_error *err)
{
	char label[64]; /* for messages */
	for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++) {
		if (!is_named(KNOWN[i].names, name, n))
			continue;
		snprintf(label, sizeof label, "%.*s", (int)n, name);
		*also = (struct tt_named_pretokenizer){KNOWN[i].nfc, KNOWN[i].ignore_merges};
		for (size_t j = 0; j < KNOWN[i].n_steps; j++) {
			const char *pattern = KNOWN[i].steps[j].pattern;
			switch (KNOWN[i].steps[j].step) {
			case PATTERN:
				TT_TRY(tt_pretokenizer_add_pattern(
					pretokenizer, pattern, strlen(pattern), false, label, err));
				break;
			case DIGITS:
				TT_TRY(tt_pretokenizer_add_digits(pretokenizer, true, err));
				break;
			case PUNCTUATION:
				TT_TRY(tt_pretokenizer_add_punctuation(pretokenizer, true, label, err));
				break;
			case BYTE_DIGITS:
			case BYTE_THREES:
				TT_TRY(tt_pretokenizer_add_byte_digits(
					pretokenizer, KNOWN[i].steps[j].step == BYTE_THREES, err));
				break;
			}
		}
		return TT_OK;
	}
	return tt_fail(err, TT_ERR_UNSUPPORTED, "tokenizer.ggml.pre: pre-tokenizer \"%.*s\" is not supported",
		(int)(n < 60 ? n : 60), name);
}
