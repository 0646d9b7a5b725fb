/* The schemas of docs/schemas, beside what the library writes and reads: whoever takes a format up from them gets what
 * trimtab means. */
#include <criterion/criterion.h>
#include <glob.h>
#include <jansson.h>

#include "controller/policy/policy.h"
#include "golden.h"
#include "json_schema.h"
#include "weights_files.h"

#define TINY GOLDEN("tiny-llama")
#define SCHEMA(name) TT_SOURCE_DIR "/docs/schemas/" name ".json"

static json_t *load_schema(const char *path)
{
	json_error_t where;
	json_t *schema = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
	cr_assert_not_null(schema, "%s: %s", path, where.text);
	return schema;
}

/* ---- Policies */

/* The header of a safetensors file. */
static json_t *header_of(const struct tt_buffer *file)
{
	uint64_t size;
	memcpy(&size, file->data, sizeof size);
	json_t *header = json_loadb(file->data + sizeof size, size, 0, NULL);
	cr_assert_not_null(header);
	return header;
}

static int load_with(const struct tt_buffer *file, const json_t *header, struct scratch *s)
{
	struct tt_policy *policy = NULL;
	struct tt_error error;
	struct tt_buffer changed = {0};
	uint64_t old_size;
	char *text = json_dumps(header, JSON_COMPACT);
	uint64_t size = strlen(text);
	memcpy(&old_size, file->data, sizeof old_size);
	must(tt_buffer_add(&changed, &size, sizeof size, err));
	must(tt_buffer_add(&changed, text, size, err));
	must(tt_buffer_add(
		&changed, file->data + sizeof old_size + old_size, file->len - sizeof old_size - old_size, err));
	int status = tt_policy_load(&policy, scratch_write(s, "p.safetensors", changed.data, changed.len), &error);
	tt_policy_free(policy);
	tt_buffer_free(&changed);
	free(text);
	return status;
}

/* Whatever the schema refuses of a value, the library does too. */
Test(schemas, of_a_policys_metadata)
{
	static const char *const file_names[] = {"p.safetensors"};
	json_t *schema = load_schema(SCHEMA("policy"));
	glob_t found;
	struct scratch s;
	size_t n_policies = 0, n_refused = 0;
	scratch_make(&s);
	cr_assert_eq(glob(GOLDEN("policy/*.safetensors"), 0, NULL, &found), 0);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		struct tt_buffer file = {0};
		must(tt_file_read(&file, found.gl_pathv[i], 1 << 24, err));
		json_t *header = header_of(&file), *metadata = json_object_get(header, "__metadata__"), *all, *member;
		const char *key;
		if (json_object_get(metadata, "trimtab.format")) {
			n_policies++;
			assert_valid(schema, metadata);
			cr_assert_eq(load_with(&file, header, &s), TT_OK, "%s", found.gl_pathv[i]);
			all = json_deep_copy(metadata);
			json_object_foreach(all, key, member)
			{
				json_object_set_new(metadata, key, json_string("no such"));
				if (!schema_allows(schema, schema, metadata)) {
					n_refused++;
					cr_expect_neq(
						load_with(&file, header, &s), TT_OK, "%s: %s", found.gl_pathv[i], key);
				}
				json_object_set(metadata, key, member);
			}
			json_decref(all);
		}
		json_decref(header);
		tt_buffer_free(&file);
	}
	cr_expect(n_policies >= 20 && n_refused >= 7 * n_policies, "%zu policies, %zu refused", n_policies, n_refused);
	globfree(&found);
	json_decref(schema);
	scratch_remove(&s, file_names, 1);
}

/* ---- What is measured */

static struct tt_policy *make_gated(struct tt_engine *engine)
{
	static const uint32_t observed[] = {0, 1};
	const struct tt_gate_choice gate = {.gate = TT_GATE_PROBE, .observed = observed, .n_observed = 2};
	const struct tt_model_info *model = tt_engine_info(engine);
	struct tt_policy *policy = NULL;
	must(tt_policy_new(&policy, model->n_layers, model->hidden_size, 1, err));
	must(tt_policy_set_gate(policy, &gate, err));
	policy->alpha = 1;
	policy->weights[1] = 1;
	policy->directions[model->hidden_size] = 3;
	must(tt_policy_set_text(&policy->name, "push", err));
	policy_adopt(engine, policy);
	return policy;
}

static const char ROWS[] = "{\"id\":\"1\",\"prompt\":\"hen\",\"label\":\"harmful\"}\n"
			   "{\"id\":\"2\",\"prompt\":\"the cat\",\"label\":\"benign\"}\n"
			   "{\"id\":\"3\",\"prompt\":\"a field\",\"label\":\"borderline\"}\n";

static json_t *evaluate(struct tt_engine *engine, const struct tt_eval_options *options)
{
	char *report = NULL;
	must(tt_eval(engine, options, &report, err));
	json_t *object = json_loads(report, 0, NULL);
	cr_assert_not_null(object);
	tt_free(report);
	return object;
}

Test(schemas, of_an_evaluation)
{
	static const char *const file_names[] = {"rows.jsonl"};
	json_t *schema = load_schema(SCHEMA("evaluation"));
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *policy = make_gated(engine);
	struct scratch s;
	scratch_make(&s);
	const char *path = scratch_write(&s, file_names[0], ROWS, strlen(ROWS));
	struct tt_eval_arm arms[2] = {
		{.name = "whole", .steering = {{policy, 1}}, .n_steering = 1},
		{.name = "half", .steering = {{policy, 0.5f}}, .n_steering = 1},
	};
	struct tt_eval_options options;
	tt_eval_options_default(&options);
	options.data = &path;
	options.n_data = 1;
	options.max_tokens = 4;
	options.arms = arms;
	options.n_arms = 2;
	options.variants = "leet";
	options.price_miss = options.price_false_refusal = 1;
	json_t *report = evaluate(engine, &options);
	assert_valid(schema, report);
	json_object_set_new(json_array_get(json_object_get(report, "labels"), 0), "unknown", json_true());
	cr_expect_not(schema_allows(schema, schema, report), "an unknown key of a row");
	json_decref(report);
	options.max_tokens = 0;
	options.arms = NULL;
	options.n_arms = 0;
	options.variants = NULL;
	options.steering[0] = (struct tt_steering){policy, 1};
	options.n_steering = 1;
	report = evaluate(engine, &options);
	assert_valid(schema, report);
	json_object_del(report, "files");
	cr_expect_not(schema_allows(schema, schema, report), "no files");
	json_decref(report);
	json_decref(schema);
	tt_engine_close(engine);
	tt_policy_free(policy);
	scratch_remove(&s, file_names, 1);
}

/* A batch under the policy and without it, whose telemetry is read in lines. */
static void check_telemetry(bool dense)
{
	static const char *const file_names[] = {
		"rows.jsonl", "out.jsonl", "out.jsonl.journal", "steps.jsonl", "p.safetensors"};
	static const char BODIES[] = "{\"custom_id\":\"bare\",\"method\":\"POST\",\"url\":\"/v1/completions\","
				     "\"body\":{\"prompt\":\"the cat\"}}\n"
				     "{\"custom_id\":\"steered\",\"method\":\"POST\",\"url\":\"/v1/completions\","
				     "\"body\":{\"prompt\":\"the cat\",\"steering\":{\"policies\":"
				     "[{\"name\":\"p\",\"scale\":2}],\"when\":\"generation\"}}}\n";
	json_t *schema = load_schema(dense ? SCHEMA("telemetry-dense") : SCHEMA("telemetry"));
	struct tt_engine *engine = engine_open(TINY, 4, 64);
	struct tt_policy *policy = make_gated(engine);
	struct tt_batch_policy bound = {.name = "p"};
	struct tt_batch_options options;
	struct tt_buffer lines = {0};
	char paths[4][512];
	struct scratch s;
	size_t n = 0, n_steered = 0, n_with_gates = 0;
	scratch_make(&s);
	policy->gate_bias = 100; /* it opens */
	snprintf(paths[0], sizeof paths[0], "%s", scratch_write(&s, file_names[0], BODIES, strlen(BODIES)));
	snprintf(paths[1], sizeof paths[1], "%s/%s", s.directory, file_names[1]);
	snprintf(paths[2], sizeof paths[2], "%s/%s", s.directory, file_names[3]);
	snprintf(paths[3], sizeof paths[3], "%s/%s", s.directory, file_names[4]);
	must(tt_policy_save(policy, paths[3], err));
	bound.path = paths[3];
	tt_batch_options_default(&options);
	options.input = paths[0];
	options.output = paths[1];
	options.telemetry = paths[2];
	options.telemetry_dense = dense;
	options.policies = &bound;
	options.n_policies = 1;
	options.max_tokens = 4;
	options.max_batch = 4;
	must(tt_batch(engine, &options, NULL, err));
	must(tt_file_read(&lines, paths[2], 1 << 24, err));
	for (char *at = lines.data; *at; n++) {
		size_t length = strcspn(at, "\n");
		json_t *line = json_loadb(at, length, 0, NULL);
		cr_assert_not_null(line);
		n_with_gates += json_array_size(json_object_get(line, "s")) == 1;
		bool steered = json_object_size(json_array_get(json_object_get(line, "coef"), 0)) > 0;
		n_steered += steered;
		assert_valid(schema, line);
		if (dense ? n == 0 : steered)
			assert_every_key_is_required(schema, line, line);
		json_decref(line);
		at += length + (at[length] == '\n');
	}
	cr_expect(n >= 8 && 2 * n_with_gates == n, "%zu lines, %zu of a policy", n, n_with_gates);
	cr_expect_eq(n_steered, dense ? 0 : 3, "%zu lines with layers", n_steered);
	tt_buffer_free(&lines);
	json_decref(schema);
	tt_engine_close(engine);
	tt_policy_free(policy);
	scratch_remove(&s, file_names, 5);
}

Test(schemas, of_telemetry)
{
	check_telemetry(false);
}

Test(schemas, of_dense_telemetry)
{
	check_telemetry(true);
}

/* ---- The vectors that others may test readers and writers with */

static void check_vectors(const char *schema_path, const char *path)
{
	struct tt_buffer lines = {0};
	uint32_t n[2] = {0};
	json_t *schema = load_schema(schema_path);
	must(tt_file_read(&lines, path, 1 << 20, err));
	for (char *line = strtok(lines.data, "\n"); line; line = strtok(NULL, "\n")) {
		json_t *vector = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
		cr_assert_not_null(vector, "%s", line);
		bool valid = json_is_true(json_object_get(vector, "valid"));
		const char *why = json_string_value(json_object_get(vector, "why"));
		cr_expect_eq(
			schema_allows(schema, schema, json_object_get(vector, "value")), valid, "%s: %s", path, why);
		n[valid]++;
		json_decref(vector);
	}
	cr_expect(n[0] >= 4 && n[1] >= 1, "%s: %u invalid, %u valid", path, n[0], n[1]);
	tt_buffer_free(&lines);
	json_decref(schema);
}

Test(schemas, allow_what_the_vectors_call_valid_and_nothing_else_of_them)
{
	check_vectors(SCHEMA("telemetry"), TT_SOURCE_DIR "/docs/schemas/vectors/telemetry.jsonl");
	check_vectors(SCHEMA("telemetry-dense"), TT_SOURCE_DIR "/docs/schemas/vectors/telemetry-dense.jsonl");
	check_vectors(SCHEMA("evaluation"), TT_SOURCE_DIR "/docs/schemas/vectors/evaluation.jsonl");
}
