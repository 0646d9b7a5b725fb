#include "runtime/batch/describe.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "runtime/engine/numerics.h"

/* ---- The job */

/* A digest of the ids that the tokenizer and the chat template make of a fixed conversation; "" without a template. */
static int probe_text(char out[65], const struct tt_text *text, struct tt_error *err)
{
	static const char messages[] =
		"[{\"role\": \"user\", \"content\": \"Hello, 1 + 2?\\n\"}, {\"role\": \"assistant\", "
		"\"content\": \"3.\"}, {\"role\": \"user\", \"content\": \"na\\u00efve\"}]";
	const struct tt_chat_options options = {.size = sizeof options, .now = 1700000000};
	int32_t *ids = NULL;
	size_t n = 0;
	out[0] = 0;
	if (!tt_text_has_template(text))
		return TT_OK;
	TT_TRY(tt_text_encode_chat(text, messages, &options, &ids, &n, err));
	int status = tt_sha256(out, ids, n * sizeof *ids, err);
	tt_free(ids);
	return status;
}

/* Adds a new object under key; *out is borrowed. */
static int add_object(json_t *parent, const char *key, json_t **out, struct tt_error *err)
{
	*out = json_object();
	return tt_json_set(parent, key, *out, err);
}

static int describe_input(json_t *job, const char *sha256, uint64_t size, struct tt_error *err)
{
	json_t *input;
	TT_TRY(add_object(job, "input", &input, err));
	TT_TRY(tt_json_set(input, "sha256", json_string(sha256), err));
	return tt_json_set(input, "bytes", json_integer((json_int_t)size), err);
}

static int describe_model(json_t *job, struct tt_engine *engine, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	char text[65];
	json_t *model;
	TT_TRY(probe_text(text, tt_engine_text(engine), err));
	TT_TRY(add_object(job, "model", &model, err));
	TT_TRY(tt_json_set(model, "name", json_string(info->name), err));
	TT_TRY(tt_engine_numerics(model, engine, err));
	TT_TRY(tt_json_set(model, "context", json_integer(info->context), err));
	return tt_json_set(model, "text", json_string(text), err);
}

static int describe_policies(json_t *job, const struct tt_named_policies *policies, struct tt_error *err)
{
	json_t *object;
	TT_TRY(add_object(job, "policies", &object, err));
	for (size_t i = 0; i < policies->n; i++)
		TT_TRY(tt_json_set(object, policies->list[i].name, json_string(policies->list[i].sha256), err));
	return TT_OK;
}

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

static int describe_options(json_t *job, const struct tt_batch_options *o, struct tt_error *err)
{
	json_t *options;
	TT_TRY(add_object(job, "options", &options, err));
	TT_TRY(tt_json_set(options, "max_tokens", json_integer(o->max_tokens), err));
	TT_TRY(tt_json_set(options, "temperature", json_real((double)o->temperature), err));
	TT_TRY(tt_json_set(options, "seed", json_integer((json_int_t)o->seed), err));
	TT_TRY(tt_json_set(options, "system", text_or_null(o->system), err));
	TT_TRY(tt_json_set(options, "raw", json_boolean(o->raw), err));
	TT_TRY(tt_json_set(options, "layers", text_or_null(o->layers), err));
	/* A journal without this is of the dense form, which once was the only one. */
	if (o->telemetry && !o->telemetry_dense)
		TT_TRY(tt_json_set(options, "telemetry_form", json_string("sparse"), err));
	return tt_json_set(options, "telemetry", json_boolean(o->telemetry != NULL), err);
}

static int describe(json_t *out, const struct tt_batch_job *job, const char *input_sha256, uint64_t input_size,
	struct tt_error *err)
{
	TT_TRY(tt_json_set(out, "version", json_string(TT_VERSION), err));
	TT_TRY(describe_input(out, input_sha256, input_size, err));
	TT_TRY(describe_model(out, job->engine, err));
	TT_TRY(describe_policies(out, &job->policies, err));
	TT_TRY(tt_json_set(out, "sweep", text_or_null(job->options->sweep), err));
	if (job->one_baseline) /* a journal without this has a case of scale 0 for each policy */
		TT_TRY(tt_json_set(out, "baselines", json_string("one a line"), err));
	return describe_options(out, job->options, err);
}

int tt_batch_describe(json_t **out, const struct tt_batch_job *job, const char *input_sha256, uint64_t input_size,
	struct tt_error *err)
{
	json_t *object = json_object();
	*out = NULL;
	int status = object ? describe(object, job, input_sha256, input_size, err)
			    : tt_fail(err, TT_ERR_MEMORY, "out of memory: what the job is");
	if (status == TT_OK)
		*out = object;
	else
		json_decref(object);
	return status;
}

/* ---- Two jobs */

/* The names of the differences. after: the index in this table of a fact that explains this one, or -1; if that differs
 * too, only that is reported. */
static const struct {
	const char *group, *key, *name;
	int after;
	const char *absent; /* what it stands for that a fact is not there, if anything */
} facts[] = {
	{NULL, "version", "trimtab", -1, NULL},
	{"input", "sha256", "the input's SHA-256", -1, NULL},
	{"input", "bytes", "the input's bytes", 1, NULL},
	{"model", "name", "the model's name", -1, NULL},
	{"model", "fingerprint", "the model", -1, NULL},
	{"model", "weights_digest", "the model's weights", 4, NULL},
	{"model", "backend", "--device", -1, NULL},
	{"model", "mode", "--fast (the mode)", -1, NULL},
	{"model", "kv", "--kv", -1, NULL},
	{"model", "compute", "--compute", -1, "f32"},
	{"model", "context", "--ctx-size", -1, NULL},
	{"model", "text", "the tokenizer or chat template", 4, NULL},
	{"model", "probe", "how the processor rounds: its answer to 16 tokens", 5, NULL},
	{NULL, "sweep", "--sweep", -1, NULL},
	{"options", "max_tokens", "--max-tokens", -1, NULL},
	{"options", "temperature", "--temperature", -1, NULL},
	{"options", "seed", "--seed", -1, NULL},
	{"options", "system", "--system", -1, NULL},
	{"options", "raw", "--raw", -1, NULL},
	{"options", "layers", "--layers", -1, NULL},
	{"options", "telemetry", "--telemetry", -1, NULL},
	{"options", "telemetry_form", "--telemetry-dense", 20, "dense"},
	{"model", "chat_template", "--chat-template", -1, "the model's"},
	{NULL, "baselines", "the baselines of --sweep", 13, "one a policy"},
};
enum { N_FACTS = sizeof facts / sizeof *facts };

/* Whether another difference explains this one. The text also changes with the template that was given, and the model's
 * answer with the cache's type, device and mode, and with what products are computed in. */
static bool explained(const bool differs[N_FACTS], int fact)
{
	bool is_probe = !strcmp(facts[fact].key, "probe"), is_text = !strcmp(facts[fact].key, "text");
	for (int at = facts[fact].after; at >= 0; at = facts[at].after)
		if (differs[at])
			return true;
	for (int i = 0; is_text && i < N_FACTS; i++)
		if (differs[i] && !strcmp(facts[i].key, "chat_template"))
			return true;
	for (int i = 0; is_probe && i < N_FACTS; i++)
		if (differs[i] && (!strcmp(facts[i].name, "--device") || !strcmp(facts[i].key, "mode") ||
					  !strcmp(facts[i].key, "kv") || !strcmp(facts[i].key, "compute")))
			return true;
	return false;
}

/* A new reference, or NULL. */
static json_t *value_of(const json_t *job, int fact)
{
	const json_t *in = facts[fact].group ? json_object_get(job, facts[fact].group) : job;
	json_t *value = json_object_get(in, facts[fact].key);
	return value || !facts[fact].absent ? json_incref(value) : json_string(facts[fact].absent);
}

/* Adds the beginning of a digest, or the first 60 bytes of another value. */
static int add_value(struct tt_buffer *out, const json_t *value, struct tt_error *err)
{
	const char *text = json_string_value(value);
	char *dumped = NULL;
	if (!value || json_is_null(value))
		return tt_buffer_print(out, err, "none");
	if (text && strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64)
		return tt_buffer_print(out, err, "%.12s...", text);
	if (json_is_boolean(value))
		return tt_buffer_print(out, err, json_is_true(value) ? "given" : "not given");
	TT_TRY(tt_json_dump(&dumped, json_incref((json_t *)(uintptr_t)value),
		JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(7), err));
	int status = tt_buffer_print(out, err, "%.60s", dumped);
	free(dumped);
	return status;
}

static int add_difference(
	struct tt_buffer *out, const char *name, const json_t *earlier, const json_t *now, struct tt_error *err)
{
	TT_TRY(tt_buffer_print(out, err, "%s%s (", out->len ? ", " : "", name));
	TT_TRY(add_value(out, earlier, err));
	TT_TRY(tt_buffer_print(out, err, " there, "));
	TT_TRY(add_value(out, now, err));
	return tt_buffer_print(out, err, " here)");
}

/* Adds the policies of now that earlier does not have or, unless missing_only, has differently. */
static int add_policies(
	struct tt_buffer *out, const json_t *earlier, const json_t *now, bool missing_only, struct tt_error *err)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)now, name, value)
	{
		char option[80];
		const json_t *other = json_object_get(earlier, name);
		if (missing_only ? other != NULL : json_equal(other, value))
			continue;
		snprintf(option, sizeof option, "--policy %.60s", name);
		TT_TRY(add_difference(out, option, missing_only ? value : other, missing_only ? NULL : value, err));
	}
	return TT_OK;
}

static int list_differences(struct tt_buffer *out, const json_t *earlier, const json_t *job, struct tt_error *err)
{
	bool differs[N_FACTS];
	const json_t *then = json_object_get(earlier, "policies"), *now = json_object_get(job, "policies");
	for (int i = 0; i < N_FACTS; i++) {
		json_t *values[2] = {value_of(earlier, i), value_of(job, i)};
		differs[i] = !json_equal(values[0], values[1]);
		json_decref(values[0]);
		json_decref(values[1]);
	}
	for (int i = 0; i < N_FACTS; i++) {
		json_t *values[2] = {value_of(earlier, i), value_of(job, i)};
		int status = differs[i] && !explained(differs, i)
				     ? add_difference(out, facts[i].name, values[0], values[1], err)
				     : TT_OK;
		json_decref(values[0]);
		json_decref(values[1]);
		TT_TRY(status);
	}
	TT_TRY(add_policies(out, then, now, false, err));
	return add_policies(out, now, then, true, err);
}

int tt_batch_compare(const json_t *earlier, const json_t *job, const char *output, struct tt_error *err)
{
	struct tt_buffer text = {0};
	if (json_equal(earlier, job))
		return TT_OK;
	int status = list_differences(&text, earlier, job, err);
	if (status == TT_OK)
		status = tt_fail(err, TT_ERR_MISMATCH,
			"%s is another job's, which differs in %.*s%s; nothing was changed. Give it as it was there "
			"to go on, or name another output; --restart throws those rows away",
			output, text.len > 240 ? 240 : (int)text.len, text.len ? text.data : "what it records",
			text.len > 240 ? "..." : "");
	tt_buffer_free(&text);
	return status;
}
