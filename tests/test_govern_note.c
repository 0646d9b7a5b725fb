/* Signed notes and checkpoints against Go's (scripts/goldens/make_log_goldens.go). */
#include "base/base64.h"
#include "base/hex.h"
#include "base/json.h"
#include "controller/govern/note.h"
#include "golden.h"

struct world {
	json_t *golden;
	const char *name, *text, *note;
	struct tt_verifier verifier;
	struct tt_signer signer;
};

static const char *field(const struct world *w, const char *key)
{
	return json_string_value(json_object_get(w->golden, key));
}

static struct world make(void)
{
	struct world w = {0};
	uint8_t seed[32];
	must(tt_json_load(&w.golden, GOLDEN("log/note.json"), 1 << 24, err));
	w.name = field(&w, "name");
	w.text = field(&w, "text");
	w.note = field(&w, "note");
	cr_assert(tt_hex_parse(seed, 32, field(&w, "seed"), 64));
	must(tt_signer_make(&w.signer, w.name, seed, err));
	must(tt_verifier_parse(&w.verifier, field(&w, "verifier"), err));
	return w;
}

Test(govern_note, keys_and_notes_are_those_of_go)
{
	struct world w = make();
	char text[TT_VERIFIER_BYTES];
	struct tt_buffer note = {0};
	must(tt_verifier_print(text, &w.signer.verifier, err));
	cr_assert_str_eq(text, field(&w, "verifier"));
	cr_assert_eq(memcmp(&w.verifier, &w.signer.verifier, sizeof w.verifier), 0);
	must(tt_note_sign(&note, &w.signer, w.text, err));
	cr_assert_str_eq(note.data, w.note);
	tt_buffer_free(&note);
	json_decref(w.golden);
}

Test(govern_note, what_go_opens_opens)
{
	struct world w = make();
	const char *const notes[] = {w.note, field(&w, "two")};
	for (size_t i = 0; i < 2; i++) {
		size_t n;
		struct tt_checkpoint checkpoint;
		must(tt_note_open(notes[i], strlen(notes[i]), &w.verifier, &n, err));
		cr_assert(n == strlen(w.text) && memcmp(notes[i], w.text, n) == 0);
		must(tt_checkpoint_open(&checkpoint, notes[i], strlen(notes[i]), &w.verifier, err));
		cr_assert_eq(checkpoint.size, 1);
		struct tt_buffer again = {0};
		must(tt_checkpoint_sign(&again, &w.signer, &checkpoint, err));
		cr_assert_str_eq(again.data, w.note);
		tt_buffer_free(&again);
	}
	json_decref(w.golden);
}

/* Among them the note with one bit of each byte changed. */
Test(govern_note, what_go_refuses_is_refused)
{
	struct world w = make();
	size_t i, n, n_note;
	const json_t *row;
	json_array_foreach(json_object_get(w.golden, "refused"), i, row)
	{
		uint8_t note[4096];
		cr_assert(tt_base64_parse(note, sizeof note, &n_note, json_string_value(row), json_string_length(row)));
		cr_assert_eq(tt_note_open((char *)note, n_note, &w.verifier, &n, NULL), TT_ERR_FORMAT, "taken: %.*s",
			(int)n_note, note);
	}
	cr_assert_gt(i, 100);
	json_decref(w.golden);
}

Test(govern_note, names_are_checked)
{
	static const char *const wrong[] = {"", "a b", "a+b", "a\tb", "a\n", "a\xc2\xa0", "a\xe2\x80\xa8", "\xff"};
	uint8_t seed[32] = {0};
	char text[2 * TT_MAX_KEY_NAME];
	struct tt_signer signer;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		cr_assert_eq(tt_signer_make(&signer, wrong[i], seed, NULL), TT_ERR_ARGUMENT, "'%s'", wrong[i]);
	memset(text, 'x', sizeof text);
	text[TT_MAX_KEY_NAME + 1] = 0;
	cr_assert_eq(tt_signer_make(&signer, text, seed, NULL), TT_ERR_ARGUMENT);
	text[TT_MAX_KEY_NAME] = 0;
	must(tt_signer_make(&signer, text, seed, err));
}

Test(govern_note, keys_are_checked)
{
	struct world w = make();
	const char *good = field(&w, "verifier");
	char text[TT_VERIFIER_BYTES];
	struct tt_verifier verifier;
	for (size_t i = 0; i < strlen(good); i++) {
		snprintf(text, sizeof text, "%s", good);
		text[i] = text[i] == 'x' ? 'y' : 'x';
		cr_assert_eq(tt_verifier_parse(&verifier, text, NULL), TT_ERR_FORMAT, "%s", text);
		text[i] = 0;
		cr_assert_eq(tt_verifier_parse(&verifier, text, NULL), TT_ERR_FORMAT, "%s", text);
	}
	json_decref(w.golden);
}

Test(govern_note, a_checkpoint_has_its_form)
{
	static const char *const texts[] = {"example.org/log\n1\n", "example.org/log\n01\n", "example.org/log\n-1\n",
		"example.org/log\n1x\n", "example.org/log\n1234567890123456\n", "another\n1\n", "1\n"};
	static const char root[] = "dziFphNIniTOLPdhmdakI/BC5LvxLX7s7pEu8nbGVwE=\n";
	struct world w = make();
	struct tt_checkpoint checkpoint;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		for (int part = 0; part < 3; part++) { /* the whole root, a part, none */
			char text[200];
			struct tt_buffer note = {0};
			snprintf(text, sizeof text, "%s%.*s", texts[i], part == 0 ? 99 : part == 1 ? 20 : 0, root);
			if (part == 1)
				strcat(text, "\n");
			must(tt_note_sign(&note, &w.signer, text, err));
			cr_assert_eq(tt_checkpoint_open(&checkpoint, note.data, note.len, &w.verifier, NULL),
				i == 0 && part == 0 ? TT_OK : TT_ERR_FORMAT, "%s", text);
			tt_buffer_free(&note);
		}
	json_decref(w.golden);
}
