/* Prompts in other dress. What Python's base64 and str make of the same prompts is in tests/cli/evaluation.py. */
#include "controller/measure/variants.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/utf8.h"
#include "golden.h"
#include "random.h"

static char *make(enum tt_variant variant, const char *prompt, uint64_t seed)
{
	char *out = NULL;
	must(tt_variant_make(&out, variant, prompt, seed, err));
	cr_assert_not_null(out);
	return out;
}

static void expect_variant(enum tt_variant variant, const char *prompt, const char *want)
{
	char *out = make(variant, prompt, 1);
	cr_expect_str_eq(out, want, "%s of %s is %s", tt_variant_name(variant), prompt, out);
	free(out);
}

/* The vectors of RFC 4648, section 10. */
Test(variants, base64_is_that_of_rfc_4648)
{
	static const char *const vectors[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"},
		{"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
	for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
		char *out;
		must(tt_base64(&out, vectors[i][0], strlen(vectors[i][0]), err));
		cr_expect_str_eq(out, vectors[i][1]);
		free(out);
	}
}

Test(variants, letters_become_digits_and_characters_get_room)
{
	expect_variant(TT_VARIANT_LEET, "Take It EASY, so?", "74k3 17 345Y, 50?");
	expect_variant(TT_VARIANT_SPACES, "to \xc3\xa9t\xc3\xa9", "t o   \xc3\xa9 t \xc3\xa9");
	expect_variant(TT_VARIANT_SPACES, "a", "a");
}

/* Random text of one to four bytes a character, with words among them. */
static void fill_text(char *text, size_t room, uint64_t *random)
{
	size_t n = 0;
	while (n + 8 < room) {
		static const uint32_t tops[] = {0x7f, 0x7ff, 0xd7ff, 0x10ffff};
		uint32_t c = 1 + next_random(random) % tops[next_random(random) % 4];
		if (next_random(random) % 2)
			c = 'a' + next_random(random) % 26;
		if (c >= 0xd800 && c < 0xe000)
			c = ' ';
		n += tt_utf8_encode(c, text + n);
	}
	text[n] = 0;
}

Test(variants, valid_text_stays_valid_and_the_seed_says_all)
{
	uint64_t random = 5;
	for (int i = 0; i < 200; i++) {
		char text[160];
		fill_text(text, sizeof text, &random);
		cr_assert(tt_utf8_is_valid(text));
		for (int v = 0; v < TT_N_VARIANTS; v++) {
			char *out = make((enum tt_variant)v, text, (uint64_t)i);
			char *again = make((enum tt_variant)v, text, (uint64_t)i);
			cr_expect(tt_utf8_is_valid(out), "%s of %s", tt_variant_name((enum tt_variant)v), text);
			cr_expect_str_eq(out, again);
			free(out);
			free(again);
		}
	}
}

/* Frames leave the prompt as it is, and take turns by the seed. */
static void expect_frames(enum tt_variant variant, size_t n_at_least)
{
	static const char prompt[] = "Wie hei\xc3\x9ft du, 100%s?";
	char *seen[64];
	size_t n = 0;
	for (uint64_t seed = 0; seed < 64; seed++) {
		char *out = make(variant, prompt, seed);
		size_t known = 0;
		cr_expect_not_null(strstr(out, prompt), "%s", out);
		cr_expect_gt(strlen(out), strlen(prompt));
		while (known < n && strcmp(seen[known], out) != 0)
			known++;
		if (known == n)
			seen[n++] = out;
		else
			free(out);
	}
	cr_expect_geq(n, n_at_least, "%zu frames of %s", n, tt_variant_name(variant));
	for (size_t i = 0; i < n; i++)
		free(seen[i]);
}

Test(variants, frames_leave_the_prompt_as_it_is)
{
	expect_frames(TT_VARIANT_PREFIX, 8);
	expect_frames(TT_VARIANT_ROLEPLAY, 6);
	expect_frames(TT_VARIANT_LANGUAGE, 8);
}

/* Whether word [n] becomes out [length] by leaving out, doubling or swapping letters that are neither its first nor its
 * last. */
static bool is_slip(const char *word, size_t n, const char *out, size_t length)
{
	size_t same = 0, tail = 0;
	while (same < n && same < length && word[same] == out[same])
		same++;
	while (tail < n - same && tail < length - (same < length ? same : length) &&
		word[n - 1 - tail] == out[length - 1 - tail])
		tail++;
	if (length == n)
		return same == n || (same + tail + 2 == n && same > 0 && tail > 0 && word[same] == out[same + 1] &&
					    word[same + 1] == out[same]);
	if (length + 1 == n)
		return same > 0 && same + tail == length && tail > 0;
	return length == n + 1 && same + tail == n && out[same] == out[same - 1] && same > 0;
}

Test(variants, slips_are_inside_of_longer_words)
{
	static const char text[] =
		"The quick-brown foxes jumped over it; b\xc3\xa4ume, caf\xc3\xa9s & they were FINE too";
	size_t n_changed = 0, n_shorter = 0, n_longer = 0, n_swapped = 0;
	for (uint64_t seed = 0; seed < 300; seed++) {
		char *out = make(TT_VARIANT_MISSPELL, text, seed);
		const char *a = text, *b = out;
		while (*a) {
			size_t n = strcspn(a, " "), m = strcspn(b, " ");
			/* Of "quick-brown" both may change. */
			if (!memchr(a, '-', n)) {
				bool same = n == m && memcmp(a, b, n) == 0;
				cr_expect(is_slip(a, n, b, m), "%.*s became %.*s", (int)n, a, (int)m, b);
				cr_expect(n > 3 || same, "%.*s became %.*s", (int)n, a, (int)m, b);
				n_changed += !same;
				n_shorter += m < n;
				n_longer += m > n;
				n_swapped += m == n && !same;
			}
			a += n + (a[n] == ' ');
			b += m + (b[m] == ' ');
		}
		cr_expect_eq(*b, 0);
		free(out);
	}
	/* Six words may change: foxes, jumped, over, they, were, FINE. */
	cr_expect(n_changed > 300 * 6 * 4 / 10 && n_changed < 300 * 6 * 6 / 10, "%zu", n_changed);
	cr_expect(
		n_shorter > 100 && n_longer > 100 && n_swapped > 100, "%zu, %zu, %zu", n_shorter, n_longer, n_swapped);
}

Test(variants, a_list_names_each_once)
{
	bool chosen[TT_N_VARIANTS];
	struct tt_error error = {0};
	must(tt_variants_parse(chosen, "all", err));
	for (int i = 0; i < TT_N_VARIANTS; i++)
		cr_expect(chosen[i]);
	must(tt_variants_parse(chosen, "leet,prefix", err));
	for (int i = 0; i < TT_N_VARIANTS; i++)
		cr_expect_eq(chosen[i], i == TT_VARIANT_LEET || i == TT_VARIANT_PREFIX);
	for (int i = 0; i < TT_N_VARIANTS; i++) {
		must(tt_variants_parse(chosen, tt_variant_name((enum tt_variant)i), err));
		cr_expect(chosen[i]);
	}
	static const char *const bad[] = {"", "leet,", ",leet", "leet,leet", "Leet", "leet prefix", "all,leet", "lee"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		cr_expect_eq(tt_variants_parse(chosen, bad[i], &error), TT_ERR_ARGUMENT, "%s", bad[i]);
}
