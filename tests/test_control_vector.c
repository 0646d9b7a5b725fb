/* GGUF control vectors: read as repeng wrote them, steered as repeng steers, written as repeng writes; and files that
 * are none are refused. */
#include "controller/policy/control_vector.h"
#include "golden.h"
#include "policy_files.h"
#include "weights/quant.h"
#include "weights_files.h"

#define MODEL GOLDEN("tiny-llama")
#define VECTOR(name) GOLDEN("vectors/" name ".gguf")

/* With steer set, the vector's last logits and greedy text at each of repeng's coefficients. */
static void check_steered(
	struct tt_engine *engine, const struct tt_safetensors *want, struct tt_policy *policy, uint32_t i)
{
	struct tt_request_options options;
	char name[16];
	size_t n_ids, n, n_logits;
	tt_request_options_default(&options);
	int32_t *ids = golden_ints(want, "ids", &n_ids);
	options.ids = ids;
	options.n_ids = n_ids;
	float *coefficients = golden_floats(want, "coefficients", &n);
	options.steering[0] = (struct tt_steering){policy, coefficients[i]};
	options.n_steering = 1;
	snprintf(name, sizeof name, "greedy.%u", i);
	int32_t *greedy = golden_ints(want, name, &n);
	size_t same = check_greedy_tokens(engine, &options, greedy, n, name);
	cr_expect(GREEDY_TIE > 0 || same == n, "%zu tokens of %zu", same, n);

	snprintf(name, sizeof name, "logits.%u", i);
	float *logits = golden_floats(want, name, &n_logits);
	options.max_tokens = 0;
	options.keep_logits = true;
	options.logits_from = n_ids - 1;
	struct tt_request *request = request_run(engine, &options);
	double error = relative_error(tt_request_logits(request), logits, n_logits);
	cr_expect(error <= TOLERANCE, "coefficient %u: %g", i, error);
	tt_request_free(request);
	free(ids);
	free(coefficients);
	free(greedy);
	free(logits);
}

Test(control_vector, steers_as_repeng_does)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_safetensors *want = golden_open(GOLDEN("vectors/steered.safetensors"));
	struct tt_policy *policy = load(VECTOR("repeng"));
	const char *warning = "not set";
	must(tt_engine_add_policy(engine, policy, &warning, err));
	cr_expect_null(warning);
	check_steered(engine, want, policy, 0);
	check_steered(engine, want, policy, 1);
	tt_engine_close(engine);
	tt_policy_free(policy);
	tt_safetensors_close(want);
}

Test(control_vector, is_a_policy_of_the_first_model_that_takes_it)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *policy = load(VECTOR("generator"));
	cr_expect_str_eq(policy->name, "generator");
	cr_expect_str_eq(policy->model_hint, "llama");
	cr_expect_eq(policy->n_layers, 3);
	cr_expect_eq(policy->when, TT_WHEN_ALL);
	cr_expect_eq(policy->gate, TT_GATE_ALWAYS);
	cr_expect_eq(policy->weights[0], 0);
	cr_expect_eq(policy->weights[1], 1);
	cr_expect_float_eq(policy->norms[2], 2, 1e-6f, "its directions are twice as long as repeng's");
	cr_expect(tt_control_vector_is_free(policy));
	must(tt_engine_add_policy(engine, policy, NULL, err));
	cr_expect(!tt_control_vector_is_free(policy));
	cr_expect_str_eq(policy->fingerprint, info->fingerprint);
	cr_expect_str_eq(policy->weights_digest, info->weights_digest);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

/* The policy of a model with more layers than the vector has, and of fewer. */
Test(control_vector, grows_to_the_model_and_no_further)
{
	struct tt_error why = {0};
	struct tt_policy *policy = load(VECTOR("repeng"));
	struct tt_model_info info = {.n_layers = 2, .hidden_size = 64, .fingerprint = "llama", .weights_digest = "ab"};
	cr_expect_eq(tt_control_vector_adopt(policy, &info, &why), TT_ERR_MISMATCH);
	cr_expect_not_null(strstr(why.message, "it steers layer 2, here the last is 1"), "%s", why.message);
	info.n_layers = 5;
	info.hidden_size = 96;
	cr_expect_eq(tt_control_vector_adopt(policy, &info, &why), TT_ERR_MISMATCH);
	cr_expect_not_null(strstr(why.message, "of width 64 there, 96 here"), "%s", why.message);
	info.hidden_size = 64;
	cr_assert_eq(tt_control_vector_adopt(policy, &info, &why), TT_OK, "%s", why.message);
	cr_expect_eq(policy->n_layers, 5);
	cr_expect_eq(policy->weights[2], 1);
	cr_expect_eq(policy->weights[4], 0);
	cr_expect_eq(policy->norms[4], 0);
	cr_expect(!tt_policy_has_direction(policy, 4));
	must(tt_policy_finish(policy, err));
	tt_policy_free(policy);
}

Test(control_vector, a_hint_of_another_family_is_a_warning_and_strict_takes_none)
{
	struct tt_engine_options options;
	struct tt_engine *engine = engine_open(MODEL, 1, 64);
	struct tt_policy *policy = load(VECTOR("repeng"));
	struct tt_error why = {0};
	const char *warning = NULL;
	must(tt_policy_set_text(&policy->model_hint, "qwen2", err));
	must(tt_engine_add_policy(engine, policy, &warning, err));
	cr_assert_not_null(warning);
	cr_expect_not_null(strstr(warning, "made for a model of qwen2, and this is llama"), "%s", warning);
	tt_engine_close(engine);
	tt_policy_free(policy);

	policy = load(VECTOR("repeng"));
	must(tt_policy_set_text(&policy->model_hint, "mistral", err)); /* which GGUF calls llama */
	tt_engine_options_default(&options);
	options.device = TEST_DEVICE;
	must(tt_engine_open(&engine, MODEL, &options, err));
	must(tt_engine_add_policy(engine, policy, &warning, err));
	cr_expect_null(warning);
	tt_engine_close(engine);
	tt_policy_free(policy);

	policy = load(VECTOR("repeng"));
	options.strict_model = true;
	must(tt_engine_open(&engine, MODEL, &options, err));
	cr_expect_eq(tt_engine_add_policy(engine, policy, &warning, &why), TT_ERR_MISMATCH);
	cr_expect_not_null(strstr(why.message, "does not say for which weights"), "%s", why.message);
	tt_engine_close(engine);
	tt_policy_free(policy);
}

Test(control_vector, layers_are_kept_by_name)
{
	struct tt_policy *policy = load(VECTOR("repeng"));
	struct tt_error why = {0};
	cr_expect_eq(tt_policy_keep_layers(policy, "2,x", &why), TT_ERR_FORMAT);
	cr_expect_eq(policy->weights[1], 1, "changed by a list that is refused");
	must(tt_policy_keep_layers(policy, "0,2-40", err));
	cr_expect_eq(policy->weights[1], 0);
	cr_expect_eq(policy->weights[2], 1);
	cr_expect_eq(tt_policy_keep_layers(policy, "1", &why), TT_ERR_ARGUMENT);
	cr_expect_not_null(strstr(why.message, "policy repeng steers none of \"1\""), "%s", why.message);
	tt_policy_free(policy);
	policy = load(POLICY("always")); /* of 6 layers, which it knows */
	cr_expect_eq(tt_policy_keep_layers(policy, "2-6", &why), TT_ERR_FORMAT);
	must(tt_policy_keep_layers(policy, "3-5", err));
	cr_expect_eq(policy->weights[2], 0);
	cr_expect_eq(policy->weights[3], 0.5f);
	tt_policy_free(policy);
}

static void expect_same_file(const char *path, const char *want_path)
{
	struct tt_buffer got = {0}, want = {0};
	must(tt_file_read(&got, path, 1 << 20, err));
	must(tt_file_read(&want, want_path, 1 << 20, err));
	cr_expect_eq(got.len, want.len);
	cr_expect(got.len == want.len && memcmp(got.data, want.data, got.len) == 0, "%s", want_path);
	tt_buffer_free(&got);
	tt_buffer_free(&want);
}

/* The file that repeng writes, byte for byte, also after it was a policy file. */
Test(control_vector, is_written_as_repeng_writes_it)
{
	static const char *const names[] = {"v.gguf", "p.safetensors"};
	struct tt_policy *policy = load(VECTOR("repeng")), *again;
	struct tt_model_info info = {
		.n_layers = 7, .hidden_size = 64, .fingerprint = "llama L=7", .weights_digest = "ab"};
	struct scratch s;
	char saved[80];
	scratch_make(&s);
	const char *path = scratch_write(&s, names[0], "", 0);
	must(tt_policy_export(policy, path, err));
	expect_same_file(path, VECTOR("ascending"));
	must(tt_control_vector_adopt(policy, &info, err));
	snprintf(saved, sizeof saved, "%s/%s", s.directory, names[1]);
	must(tt_policy_save(policy, saved, err));
	again = load(saved);
	cr_expect_not_null(strstr(again->fitted_on, "control vector"));
	must(tt_policy_export(again, path, err));
	expect_same_file(path, VECTOR("ascending"));
	tt_policy_free(policy);
	tt_policy_free(again);
	scratch_remove(&s, names, 2);
}

/* direction.N holds alpha * w[N] times the direction, in f32. */
Test(control_vector, weights_and_alpha_are_multiplied_in)
{
	static const char *const names[] = {"v.gguf"};
	struct tt_policy *policy = load(POLICY("always")), *again;
	struct scratch s;
	scratch_make(&s);
	const char *path = scratch_write(&s, names[0], "", 0);
	policy->when = TT_WHEN_ALL;
	must(tt_policy_export(policy, path, err));
	again = load(path);
	cr_expect_eq(again->n_layers, 6);
	cr_expect_eq(again->hidden_size, 8);
	cr_expect_str_eq(again->model_hint, "llama");
	for (uint32_t l = 0; l < 6; l++)
		for (uint32_t i = 0; i < 8; i++)
			cr_expect_eq(again->directions[8 * l + i],
				policy->alpha * policy->weights[l] * policy->directions[8 * l + i], "%u, %u", l, i);
	tt_policy_free(policy);
	tt_policy_free(again);
	scratch_remove(&s, names, 1);
}

static void expect_no_export(struct tt_policy *policy, const char *expected)
{
	struct tt_error why = {0};
	int status = tt_policy_export(policy, "never-written.gguf", &why);
	cr_expect_lt(status, 0, "%s", expected);
	cr_expect_not_null(strstr(why.message, expected), "%s", why.message);
	cr_expect(!tt_file_exists("never-written.gguf"));
	tt_policy_free(policy);
}

Test(control_vector, what_it_cannot_say_is_refused)
{
	struct tt_policy *policy = load(POLICY("probe"));
	policy->when = TT_WHEN_ALL;
	expect_no_export(policy, "policy golden has a gate (probe)");
	expect_no_export(load(POLICY("one_sided")), "is of operation one_sided");
	expect_no_export(load(POLICY("keep")), "is of operation add keep");
	expect_no_export(load(POLICY("always")), "steers when generation");
	policy = load(POLICY("always"));
	policy->when = TT_WHEN_ALL;
	policy->directions[0] = policy->weights[0] = 1;
	expect_no_export(policy, "steers layer 0");
	policy = load(POLICY("always"));
	policy->when = TT_WHEN_ALL;
	policy->alpha = 0;
	expect_no_export(policy, "steers no layer");
	policy = load(POLICY("always"));
	policy->when = TT_WHEN_ALL;
	policy->alpha = 3e38f;
	policy->directions[2 * 8] = 100;
	expect_no_export(policy, "layer 2 times its weight is too large");
}

/* ---- Files that are refused */

struct entry {
	const char *name;
	uint32_t n_dims, d, type;
};

static void put_string(struct tt_buffer *out, const char *text)
{
	uint64_t n = strlen(text);
	must(tt_buffer_add(out, &n, sizeof n, err));
	must(tt_buffer_add(out, text, n, err));
}

/* A GGUF file whose tensors lie one after the other; each number is value. */
static struct tt_buffer make_file(const char *architecture, const struct entry *entries, uint32_t n, float value)
{
	struct tt_buffer out = {0};
	uint32_t version = 3, kind = TT_GGUF_STRING;
	uint64_t counts[] = {n, 1}, offset = 0;
	must(tt_buffer_add(&out, "GGUF", 4, err));
	must(tt_buffer_add(&out, &version, sizeof version, err));
	must(tt_buffer_add(&out, counts, sizeof counts, err));
	put_string(&out, "general.architecture");
	must(tt_buffer_add(&out, &kind, sizeof kind, err));
	put_string(&out, architecture);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t dims[] = {entries[i].d, 1};
		put_string(&out, entries[i].name);
		must(tt_buffer_add(&out, &entries[i].n_dims, sizeof entries[i].n_dims, err));
		must(tt_buffer_add(&out, dims, entries[i].n_dims * sizeof *dims, err));
		must(tt_buffer_add(&out, &entries[i].type, sizeof entries[i].type, err));
		must(tt_buffer_add(&out, &offset, sizeof offset, err));
		offset += 64;
	}
	while (out.len % 32)
		must(tt_buffer_add(&out, "", 1, err));
	for (uint32_t i = 0; i < 16 * n; i++)
		must(tt_buffer_add(&out, &value, sizeof value, err));
	return out;
}

Test(control_vector, other_files_are_refused_by_field)
{
	static const struct {
		const char *architecture;
		struct entry entries[2];
		uint32_t n;
		float value;
		const char *why;
	} files[] = {
		{"llama", {{"direction.1", 1, 16, TT_TYPE_F32}}, 1, 1, "no control vector, but perhaps a model"},
		{"controlvector2", {{"direction.1", 1, 16, TT_TYPE_F32}}, 1, 1, "no control vector"},
		{"controlvector", {{0}}, 0, 1, "without a direction"},
		{"controlvector", {{"direction.x", 1, 16, TT_TYPE_F32}}, 1, 1, "direction.x does not belong"},
		{"controlvector", {{"direction.", 1, 16, TT_TYPE_F32}}, 1, 1, "direction. does not belong"},
		{"controlvector", {{"direction.01", 1, 16, TT_TYPE_F32}}, 1, 1, "direction.01 does not belong"},
		{"controlvector", {{"direction.-1", 1, 16, TT_TYPE_F32}}, 1, 1, "direction.-1 does not belong"},
		{"controlvector", {{"output.weight", 1, 16, TT_TYPE_F32}}, 1, 1, "output.weight does not belong"},
		{"controlvector", {{"direction.512", 1, 16, TT_TYPE_F32}}, 1, 1, "layers are at most 511"},
		{"controlvector", {{"direction.99999999999999999999", 1, 16, TT_TYPE_F32}}, 1, 1, "does not belong"},
		{"controlvector", {{"direction.4294967297", 1, 16, TT_TYPE_F32}}, 1, 1, "layers are at most 511"},
		{"controlvector", {{"direction.1", 1, 16, TT_TYPE_F16}}, 1, 1, "directions of control vectors are F32"},
		{"controlvector", {{"direction.1", 2, 16, TT_TYPE_F32}}, 1, 1, "must have one dimension"},
		{"controlvector", {{"direction.1", 1, 16, TT_TYPE_F32}, {"direction.2", 1, 8, TT_TYPE_F32}}, 2, 1,
			"direction.2 must have one dimension, of 16 numbers"},
		{"controlvector", {{"direction.1", 1, 16, TT_TYPE_F32}}, 1, NAN, "holds a number that is not finite"},
		{"controlvector", {{"direction.1", 1, 16, TT_TYPE_F32}}, 1, 0, "every weight is 0"},
	};
	static const char *const names[] = {"v.gguf"};
	struct scratch s;
	scratch_make(&s);
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		struct tt_policy *policy = NULL;
		struct tt_error why = {0};
		struct tt_buffer file = make_file(files[i].architecture, files[i].entries, files[i].n, files[i].value);
		const char *path = scratch_write(&s, names[0], file.data, file.len);
		expect_refused(tt_policy_load(&policy, path, &why), &why, files[i].why, path, files[i].why);
		cr_expect_null(policy);
		tt_buffer_free(&file);
	}
	scratch_remove(&s, names, 1);
}

/* Cut off anywhere, or with any byte of its header changed, a file is refused or read, and nothing else. */
Test(control_vector, survives_damage)
{
	static const char *const names[] = {"v.gguf"};
	struct tt_buffer file = {0};
	struct scratch s;
	size_t n_read = 0;
	must(tt_file_read(&file, VECTOR("repeng"), 1 << 20, err));
	scratch_make(&s);
	for (size_t i = 0; i < 256; i++) {
		struct tt_policy *policy = NULL;
		struct tt_error why = {0};
		const char *path = scratch_write(&s, names[0], file.data, i);
		expect_refused(tt_policy_load(&policy, path, &why), &why, "cut", path, "");
		file.data[i] ^= 1 << i % 8;
		path = scratch_write(&s, names[0], file.data, file.len);
		n_read += tt_policy_load(&policy, path, &why) == TT_OK;
		tt_policy_free(policy);
		file.data[i] ^= 1 << i % 8;
	}
	cr_expect(n_read > 0 && n_read < 200, "%zu", n_read); /* changes of the hint, the count and of numbers */
	tt_buffer_free(&file);
	scratch_remove(&s, names, 1);
}
