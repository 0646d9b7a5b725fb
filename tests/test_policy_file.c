/* Policy files: what the safetensors library wrote is read as its numbers, and what is written is read again bit for
 * bit. tests/test_policy.c has the files that are refused. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "controller/policy/policy.h"
#include "policy_files.h"
#include "weights/safetensors.h"
#include "weights_files.h"

Test(policy_file, reads_what_the_library_wrote)
{
	struct tt_policy *p = load(POLICY("probe"));
	const float weights[6] = {0, 0, 1, 0.5f, 0, 0.25f};
	uint32_t first, last;
	cr_expect_str_eq(p->name, "golden");
	cr_expect_str_eq(p->fingerprint, "llama L=6 d=8 golden");
	cr_expect_str_eq(p->created, "2025-01-02T03:04:05Z");
	cr_expect_eq(p->op, TT_OP_ADD);
	cr_expect_eq(p->when, TT_WHEN_ALL);
	cr_expect_eq(p->gate, TT_GATE_PROBE);
	cr_expect_eq(p->alpha, 0.2f);
	cr_expect_eq(p->threshold, 0.75f);
	cr_expect_eq(p->gate_bias, -1.5f);
	cr_assert(p->n_layers == 6 && p->hidden_size == 8 && p->n_directions == 1 && p->n_observed == 2);
	cr_expect(p->observed[0] == 0 && p->observed[1] == 1);
	cr_expect_arr_eq(p->weights, weights, sizeof weights);
	for (uint32_t l = 0; l < 6; l++)
		for (uint32_t i = 0; i < 8; i++) {
			float want = l == 2 || l == 3 || l == 5 ? (float)(i + 1) / 8 + (float)l : 0;
			cr_expect_eq(p->directions[l * 8 + i], want, "direction.%u[%u]", l, i);
		}
	for (uint32_t i = 0; i < 16; i++)
		cr_expect_eq(p->gate_weight[i], (float)i / 16 - 0.5f);
	/* sum over i of ((i + 1) / 8 + 2)^2 = 8 * 4 + 4 * 36 / 8 + 204 / 64 */
	cr_expect_float_eq(p->norms[2], sqrt(53.1875), 1e-6);
	cr_expect_eq(p->norms[0], 0);
	cr_assert(tt_policy_band(p, &first, &last));
	cr_expect(first == 2 && last == 5);
	tt_policy_free(p);
	p = load(POLICY("always"));
	cr_expect_eq(p->gate, TT_GATE_ALWAYS);
	cr_expect_eq(p->when, TT_WHEN_GENERATION);
	cr_expect_eq(p->directions[3 * 8 + 7], 4.0f);
	tt_policy_free(p);
}

static void expect_same_row(const struct tt_policy *a, const struct tt_policy *b, const struct tt_policy_row *row)
{
	for (uint32_t i = 0; i < row->n_tensors; i++)
		cr_expect_arr_eq(tt_tensor_values(a, &row->tensors[i]), tt_tensor_values(b, &row->tensors[i]),
			tt_tensor_size(a, row->tensors[i].shape) * sizeof(float), "%s", row->tensors[i].name);
}

static void expect_same(const struct tt_policy *a, const struct tt_policy *b)
{
	cr_assert(a->n_layers == b->n_layers && a->hidden_size == b->hidden_size && a->n_directions == b->n_directions);
	cr_assert(a->op == b->op && a->when == b->when && a->gate == b->gate && a->n_observed == b->n_observed);
	cr_expect_arr_eq(a->weights, b->weights, a->n_layers * sizeof(float));
	cr_expect_arr_eq(&a->alpha, &b->alpha, sizeof a->alpha);
	cr_assert(a->form == b->form && a->gate_form == b->gate_form);
	cr_assert(a->pool == b->pool && a->n_units == b->n_units);
	cr_expect_arr_eq(&a->rule, &b->rule, sizeof a->rule);
	if (a->n_observed)
		cr_expect_arr_eq(a->observed, b->observed, a->n_observed * sizeof *a->observed);
	cr_expect_arr_eq(&a->threshold, &b->threshold, sizeof(float));
	expect_same_row(a, b, &tt_operation_of(a->op)->row);
	expect_same_row(a, b, &tt_gate_of(a->gate)->row);
	cr_expect_str_eq(a->name, b->name);
	cr_expect_str_eq(a->fingerprint, b->fingerprint);
	cr_expect_str_eq(a->weights_digest, b->weights_digest);
	cr_expect_str_eq(a->fitted_on, b->fitted_on);
	cr_expect_str_eq(a->created, b->created);
	cr_expect_str_eq(a->version, b->version);
}

Test(policy_file, is_written_and_read_again_bit_for_bit)
{
	const char *const sources[] = {POLICY("probe"), POLICY("always"), POLICY("clamp"), POLICY("affine"),
		POLICY("one_sided"), POLICY("mlp"), POLICY("mlp_unbounded"), POLICY("rotate"),
		POLICY("rotate_adaptive"), POLICY("cosine"), POLICY("cosine_below"), POLICY("keep"),
		POLICY("probe_mlp"), POLICY("probe_mlp_learned"), POLICY("probe_mlp_mean"),
		POLICY("probe_mlp_learned_pooled"), POLICY("probe_pooled"), POLICY("mlp_mean"), POLICY("cosine_pooled"),
		POLICY("rule"), POLICY("rule_pooled")};
	struct scratch s;
	struct tt_error err = {0};
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], "", 0);
	for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
		struct tt_policy *p = load(sources[i]);
		/* Numbers that need many decimal digits. */
		p->alpha = nextafterf(0.1f, 1);
		p->threshold = tt_gate_of(p->gate)->threshold ? nextafterf(1.0f / 3, 1) : 0;
		cr_assert_eq(tt_policy_save(p, path, &err), TT_OK, "%s", err.message);
		struct tt_policy *again = load(path);
		expect_same(p, again);
		tt_policy_free(p);
		tt_policy_free(again);
	}
	scratch_remove(&s, FILES, 1);
}

/* Saves the policy and returns what its file has under a key, in text, or NULL if it does not have the key. */
static const char *saved_key(const struct tt_policy *p, const char *path, const char *key, char text[64])
{
	struct tt_safetensors *file = NULL;
	struct tt_error err = {0};
	cr_assert_eq(tt_policy_save(p, path, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_safetensors_open(&file, path, &err), TT_OK, "%s", err.message);
	const char *value = tt_safetensors_metadata(file, key);
	snprintf(text, 64, "%s", value ? value : "");
	tt_safetensors_close(file);
	return value ? text : NULL;
}

/* A file has the oldest format that knows all that the policy uses, so that earlier builds can read what they know. */
Test(policy_file, a_file_says_the_least_format)
{
	static const struct {
		const char *source, *format, *key, *form;
	} files[] = {
		{POLICY("probe"), "1", NULL, NULL},
		{POLICY("always"), "1", NULL, NULL},
		{POLICY("clamp"), "1", NULL, NULL},
		{POLICY("affine"), "1", NULL, NULL},
		{POLICY("one_sided"), "1", NULL, NULL},
		{POLICY("mlp"), "1", "trimtab.gate.bound", "sigmoid"},
		{POLICY("mlp_unbounded"), "1", "trimtab.gate.bound", "none"},
		{POLICY("rotate"), "2", "trimtab.rotate", "always"},
		{POLICY("rotate_adaptive"), "2", "trimtab.rotate", "adaptive"},
		{POLICY("keep"), "2", "trimtab.norm", "keep"},
		{POLICY("cosine"), "2", "trimtab.gate.side", "above"},
		{POLICY("cosine_below"), "2", "trimtab.gate.side", "below"},
		{POLICY("probe_mlp"), "3", "trimtab.gate.layers", "fixed"},
		{POLICY("probe_mlp_learned"), "3", "trimtab.gate.layers", "learned"},
		{POLICY("probe_mlp_mean"), "3", "trimtab.gate.pool", "mean"},
		{POLICY("probe_pooled"), "3", "trimtab.gate.pool", "last,mean"},
		{POLICY("mlp_mean"), "3", "trimtab.gate.pool", "mean"},
		{POLICY("cosine_pooled"), "3", "trimtab.gate.side", "below"},
		{POLICY("rule"), "4", "trimtab.gate.rule", "(hot or cold) and not dull"},
		{POLICY("rule_pooled"), "4", "trimtab.gate.conditions", "a.1 below,b-2,c below,d"},
	};
	struct scratch s;
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], "", 0);
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		struct tt_policy *p = load(files[i].source);
		char text[64];
		cr_expect_str_eq(saved_key(p, path, "trimtab.format", text), files[i].format, "%s", files[i].source);
		if (files[i].key)
			cr_expect_str_eq(saved_key(p, path, files[i].key, text), files[i].form, "%s", files[i].source);
		tt_policy_free(p);
	}
	scratch_remove(&s, FILES, 1);
}

/* Files of a format are written as they were before the next one existed: the sums are those of files that builds
 * without format 2, without format 3, and without format 4, wrote. */
Test(policy_file, what_needs_no_newer_format_keeps_its_bytes)
{
	static const char *const files[][2] = {
		{POLICY("affine"), "99382aad8034ce563b6197aaf9e02ded5f9b14238769a425c21bb8865df44513"},
		{POLICY("always"), "3b0b44e3881d0c7b2a7149fc5e306403c8b28397623c44d86059410d1a9d2dc0"},
		{POLICY("clamp"), "fe55ad48e606461557e7494ba76bfa88db94949b2f40d2e7ac13bf1fa641c2f3"},
		{POLICY("mlp"), "941ed5fecde1481f10f1a0947c74b7778d19501fc741c0a36a23dd1f1fb860e2"},
		{POLICY("mlp_unbounded"), "9031c0887b15a1e8171cee7d77cb6f4c960fc8a188ae202bc22386561946968b"},
		{POLICY("one_sided"), "bb4a8dec3caa174542cd967f558e127b586974daa9809df798cc77d58f5b71c2"},
		{POLICY("probe"), "9e83e4c8d6398a452bba4acf7522b78fe561407cdf6152cf6fda9f93053caf73"},
		{POLICY("cosine"), "c3f88fba0d95185ef4e7dc5e76bc596b19239cc46b75970d67616a44504b67a0"},
		{POLICY("cosine_below"), "6945ae9f68a5c2b5196c55fb4d25eac8cffebdf76ef657446e00ec66bd91f80d"},
		{POLICY("keep"), "3ebf69657c9dcb07d1d4832e12a085d18e0ab16e5d596d129f8f9baf7750bafc"},
		{POLICY("rotate"), "c96d6ef184f247ea425d8a45f007205627d6b776f15b7fd220a07021aaa02d2e"},
		{POLICY("rotate_adaptive"), "99b699afee9fff8287f9594af69aefa85368d7c759e7505e1b82a26a97210dc1"},
		{POLICY("probe_mlp"), "53d0fb2cc5f6d7dc6b0785e42fe88f62cdfc9c3f03efdc0a56d19df44049b415"},
		{POLICY("probe_mlp_learned"), "0f1456fb943bafcceab2981b411e171452bae94c8acaaae0eddca39fc3d95c5d"},
		{POLICY("probe_mlp_mean"), "ebb57ea5472a98932404c0965b2ac3e7737743aa7ac769ea5357922b6e8456fb"},
		{POLICY("cosine_pooled"), "ee04d8f057ddda4fcafbec905722c6a0075d6f5e9501aaed758ad51fd8080d62"},
	};
	struct scratch s;
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], "", 0);
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		struct tt_policy *p = load(files[i][0]);
		struct tt_error err = {0};
		char sum[65];
		uint64_t size;
		cr_assert_eq(tt_policy_save(p, path, &err), TT_OK, "%s", err.message);
		cr_assert_eq(tt_sha256_file(sum, path, &size, &err), TT_OK, "%s", err.message);
		cr_expect_str_eq(sum, files[i][1], "%s", files[i][0]);
		tt_policy_free(p);
	}
	scratch_remove(&s, FILES, 1);
}

/* A form that is as old as its operation is always named in the file; a newer one only if it is not the default. */
Test(policy_file, the_default_of_a_younger_form_is_not_written)
{
	struct scratch s;
	char text[64];
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], "", 0);
	struct tt_policy *p = load(POLICY("keep"));
	struct tt_policy_info info;
	tt_policy_describe(p, &info);
	cr_expect_str_eq(info.op_form, "keep");
	cr_expect_str_eq(info.op_form_sentence, ", whose length it keeps,");
	cr_expect_eq(info.change, TT_CHANGE_OTHER);
	p->form = 0;
	tt_policy_describe(p, &info);
	cr_expect(!*info.op_form && !*info.op_form_sentence && info.change == TT_CHANGE_DIRECTION);
	cr_expect_null(saved_key(p, path, "trimtab.norm", text));
	cr_expect_str_eq(saved_key(p, path, "trimtab.format", text), "1");
	tt_policy_free(p);
	scratch_remove(&s, FILES, 1);
}

/* A file that names the state of the last token is read, and written without the key, in the least format. */
Test(policy_file, the_default_pool_is_not_written)
{
	struct scratch s;
	char text[64];
	struct tt_policy_info info;
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], "", 0);
	struct tt_policy *p = load(POLICY("probe_mlp_learned")); /* it has the key */
	cr_expect_eq(p->pool, TT_POOL_LAST);
	cr_expect_null(saved_key(p, path, "trimtab.gate.pool", text));
	tt_policy_free(p);
	p = load(POLICY("probe"));
	cr_expect_null(saved_key(p, path, "trimtab.gate.pool", text));
	tt_policy_free(p);
	p = load(POLICY("probe_pooled"));
	tt_policy_describe(p, &info);
	cr_expect_eq(info.gate_pool, TT_POOL_LAST_MEAN);
	tt_policy_free(p);
	scratch_remove(&s, FILES, 1);
}

Test(policy_file, a_network_beside_a_probe_gives_weights_of_layers_if_the_file_says_so)
{
	struct tt_policy_info info;
	for (int learned = 0; learned < 2; learned++) {
		struct tt_policy *p = load(learned ? POLICY("probe_mlp_learned") : POLICY("probe_mlp"));
		tt_policy_describe(p, &info);
		cr_expect(info.gate == TT_GATE_PROBE_MLP && info.n_units == 12 && info.has_threshold);
		cr_expect_eq(info.learns_layers, learned);
		cr_expect_str_eq(info.gate_form, learned ? "learned" : "fixed");
		tt_policy_free(p);
	}
}

Test(policy_file, conditions_are_described_in_their_order)
{
	struct tt_policy_info info;
	struct tt_policy *p = load(POLICY("rule"));
	tt_policy_describe(p, &info);
	cr_expect_str_eq(info.rule, "(hot or cold) and not dull");
	cr_assert_eq(info.n_conditions, 3);
	cr_expect_str_eq(info.conditions[1], "cold");
	cr_expect(!info.condition_below[0] && info.condition_below[1] && !info.condition_below[2]);
	cr_expect_eq(info.condition_thresholds[2], p->thresholds[2]);
	tt_policy_free(p);
	p = load(POLICY("cosine"));
	tt_policy_describe(p, &info);
	cr_expect(info.n_conditions == 0 && !*info.rule);
	tt_policy_free(p);
}

/* tests/test_policy_kernels.c checks what the tensors do. This test checks that each is read to its place. */
Test(policy_file, affine_rows_stay_as_they_are)
{
	struct tt_policy *p = load(POLICY("affine"));
	struct tt_safetensors *file = NULL;
	struct tt_error err = {0};
	struct tt_policy_info info;
	char name[24];
	cr_assert_eq(tt_safetensors_open(&file, POLICY("affine"), &err), TT_OK, "%s", err.message);
	tt_policy_describe(p, &info);
	cr_expect_eq(info.op, TT_OP_AFFINE);
	cr_assert_eq(p->n_directions, 3);
	for (uint32_t l = 1; l <= 2; l++) {
		snprintf(name, sizeof name, "direction.%u", l);
		cr_expect_arr_eq(p->directions + l * 24, tt_safetensors_find(file, name)->data, 24 * sizeof(float));
		snprintf(name, sizeof name, "affine.%u.W", l);
		cr_expect_arr_eq(p->affine + l * 24, tt_safetensors_find(file, name)->data, 24 * sizeof(float));
		snprintf(name, sizeof name, "affine.%u.b", l);
		cr_expect_arr_eq(p->targets + l * 3, tt_safetensors_find(file, name)->data, 3 * sizeof(float));
	}
	tt_safetensors_close(file);
	tt_policy_free(p);
}

Test(policy_file, an_mlp_is_bounded_unless_the_file_says_no)
{
	struct tt_policy *p = load(POLICY("mlp"));
	struct tt_policy_info info;
	tt_policy_describe(p, &info);
	cr_expect(info.gate == TT_GATE_MLP && info.n_units == 12 && !strcmp(info.gate_form, "sigmoid"));
	cr_assert(info.n_observed == 3 && info.observed[1] == 2);
	tt_policy_free(p);
	p = load(POLICY("mlp_unbounded"));
	tt_policy_describe(p, &info);
	cr_expect(info.gate == TT_GATE_MLP && !strcmp(info.gate_form, "none"));
	tt_policy_free(p);
}

/* A text that load would refuse is not saved: each is tried at its limit, and a byte longer. */
Test(policy_file, texts_are_written_up_to_the_limit_that_they_are_read_by)
{
	struct scratch s;
	scratch_make(&s);
	const char *path = scratch_write(&s, FILES[0], "", 0);
	struct tt_policy *p = load(POLICY("probe"));
	const struct {
		const char *key;
		char **field;
		size_t limit;
	} texts[] = {{"trimtab.name", &p->name, TT_MAX_POLICY_NAME},
		{"trimtab.fingerprint", &p->fingerprint, TT_MAX_POLICY_TEXT},
		{"trimtab.weights_digest", &p->weights_digest, TT_MAX_POLICY_TEXT},
		{"trimtab.fitted_on", &p->fitted_on, TT_MAX_POLICY_TEXT},
		{"trimtab.created", &p->created, TT_MAX_POLICY_TEXT},
		{"trimtab.version", &p->version, TT_MAX_POLICY_TEXT}};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct tt_error err = {0};
		char *before = *texts[i].field, *longest = calloc(texts[i].limit + 2, 1);
		memset(longest, ' ', texts[i].limit);
		memcpy(longest, "[]", 2); /* because fitted_on is read as JSON */
		*texts[i].field = longest;
		cr_expect_eq(tt_policy_save(p, path, &err), TT_OK, "%s: %s", texts[i].key, err.message);
		struct tt_policy *again = load(path);
		tt_policy_free(again);
		longest[texts[i].limit] = ' ';
		expect_refused(tt_policy_save(p, path, &err), &err, texts[i].key, path, texts[i].key);
		again = load(path); /* the former file stays */
		tt_policy_free(again);
		*texts[i].field = before;
		free(longest);
	}
	tt_policy_free(p);
	scratch_remove(&s, FILES, 1);
}
