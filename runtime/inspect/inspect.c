/* tt_inspect: describes a file as JSON, and what a policy would do to a model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "controller/measure/prompts.h"
#include "controller/policy/policy.h"
#include "runtime/inspect/inspect.h"
#include "weights/config.h"
#include "weights/gguf.h"
#include "weights/safetensors.h"

/* Opens an engine with few KV pages, which are enough for one short prompt. The context is left to the engine, since
 * one given here would be refused if the model's is shorter. */
static int open_engine(struct tt_engine **out, const char *model_path, struct tt_error *err)
{
	struct tt_engine_options options;
	tt_engine_options_default(&options);
	options.kv_tokens = 512;
	options.max_batch = 1;
	return tt_engine_open(out, model_path, &options, err);
}

/* ---- Models ---- */

/* Adds how this build runs the model, or why it cannot. */
static int inspect_engine(json_t *report, const char *path, struct tt_error *err)
{
	struct tt_engine *engine = NULL;
	struct tt_error why = {0};
	int status = open_engine(&engine, path, &why);
	TT_TRY(tt_json_set(report, "runs", json_boolean(status == TT_OK), err));
	if (status != TT_OK)
		return tt_json_set(report, "why_not", json_string(why.message), err);
	const struct tt_model_info *info = tt_engine_info(engine);
	const struct tt_text *text = tt_engine_text(engine);
	json_t *config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I}", "architecture",
		info->architecture, "n_layers", (int)info->n_layers, "hidden_size", (int)info->hidden_size, "n_heads",
		(int)info->n_heads, "n_kv_heads", (int)info->n_kv_heads, "head_dim", (int)info->head_dim, "ffn_size",
		(int)info->ffn_size, "vocab_size", (int)info->vocab_size, "context", (int)info->model_context,
		"n_parameters", (json_int_t)info->n_parameters, "n_weight_bytes", (json_int_t)info->n_weight_bytes,
		"device_weight_bytes", (json_int_t)info->device_weight_bytes, "rounded_weight_bytes",
		(json_int_t)info->rounded_weight_bytes);
	status = tt_json_set(report, "config", config, err);
	if (status == TT_OK)
		status = tt_json_set(report, "fingerprint", json_string(info->fingerprint), err);
	if (status == TT_OK)
		status = tt_json_set(report, "weights_digest", json_string(info->weights_digest), err);
	if (status == TT_OK)
		status = tt_json_set(report, "tokenizer", json_boolean(tt_text_has_tokenizer(text)), err);
	if (status == TT_OK)
		status = tt_json_set(report, "chat_template", json_boolean(tt_text_has_template(text)), err);
	tt_engine_close(engine);
	return status;
}

/* ---- Policies ---- */

static json_t *numbers(const float *values, uint32_t n)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(list, json_real(values[i]));
	return list;
}

static json_t *observed_layers(const struct tt_policy *p)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < p->n_observed; i++)
		json_array_append_new(list, json_integer(p->observed[i]));
	return list;
}

/* Sets the form under the last word of its key: "bound" for trimtab.gate.bound. */
static void set_form(json_t *object, const struct tt_policy_row *row, uint32_t index)
{
	if (tt_form_is_written(row, index))
		json_object_set_new(object, strrchr(row->form.key, '.') + 1, json_string(row->form.words[index]));
}

/* The conditions of a rule, in the order of their bits in a decision's gate. */
static json_t *conditions_json(const struct tt_policy *p)
{
	json_t *list = json_array();
	for (uint32_t k = 0; k < p->rule.n; k++)
		json_array_append_new(list,
			json_pack("{s:s, s:s, s:f}", "name", p->rule.names[k], "side",
				p->rule.below >> k & 1 ? "below" : "above", "threshold", (double)p->thresholds[k]));
	return list;
}

static json_t *gate_json(const struct tt_policy *p)
{
	const struct tt_gate *gate = tt_gate_of(p->gate);
	json_t *object = json_pack("{s:s}", "type", gate->row.word);
	if (!object)
		return NULL;
	if (gate->observes)
		json_object_set_new(object, "observe", observed_layers(p));
	if (p->pool != TT_POOL_LAST)
		json_object_set_new(object, "pool", json_string(tt_gate_pool_word(p->pool)));
	if (gate->threshold)
		json_object_set_new(object, "threshold", json_real(p->threshold));
	for (uint32_t i = 0; i < gate->row.n_tensors; i++)
		if (gate->row.tensors[i].shape == TT_SHAPE_NUMBER)
			json_object_set_new(object, "bias", json_real(*tt_tensor_values(p, &gate->row.tensors[i])));
	if (gate->units)
		json_object_set_new(object, "units", json_integer(p->n_units));
	if (gate->rule) {
		json_object_set_new(object, "rule", json_string(p->rule.text));
		json_object_set_new(object, "conditions", conditions_json(p));
	}
	set_form(object, &gate->row, p->gate_form);
	return object;
}

static int describe_policy(json_t *report, const struct tt_policy *p, struct tt_error *err)
{
	const struct tt_operation *op = tt_operation_of(p->op);
	uint32_t first = 0, last = 0;
	json_t *fitted_on = NULL;
	tt_policy_band(p, &first, &last);
	TT_TRY(tt_json_set(report, "gate", gate_json(p), err));
	if (*p->fitted_on)
		TT_TRY(tt_json_parse(&fitted_on, p->fitted_on, strlen(p->fitted_on), "trimtab.fitted_on", err));
	TT_TRY(tt_json_set(report, "fitted_on", fitted_on ? fitted_on : json_array(), err));
	json_t *facts = json_pack("{s:s, s:s, s:s, s:f, s:i, s:i, s:i, s:i, s:i, s:o, s:o, s:s, s:s, s:s, s:s}", "name",
		p->name, "op", op->row.word, "when", tt_when_word(p->when), "alpha", (double)p->alpha, "n_layers",
		(int)p->n_layers, "hidden_size", (int)p->hidden_size, "n_directions", (int)p->n_directions,
		"first_layer", (int)first, "last_layer", (int)last, "weights", numbers(p->weights, p->n_layers),
		"norms", numbers(p->norms, p->n_layers), "fingerprint", p->fingerprint, "weights_digest",
		p->weights_digest, "created", p->created, "version", p->version);
	if (!facts || json_object_update(report, facts) < 0) {
		json_decref(facts);
		return tt_fail(err, TT_ERR_FORMAT, "policy: a text is not UTF-8, or out of memory");
	}
	json_decref(facts);
	set_form(report, &op->row, p->form);
	return TT_OK;
}

/* The mean norm of h[l] over the positions of a short prompt, without the first, which in many models has an unusually
 * large norm. */
static int measure_stream(struct tt_engine *engine, double *norms, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_request_options options;
	struct tt_request *request = NULL;
	uint64_t layers[(TT_MAX_LAYERS + 63) / 64];
	int32_t *ids = NULL;
	tt_request_options_default(&options);
	TT_TRY(tt_encode_prompt(engine, "What is the capital of France?", "prompt", 0, &ids, &options, err));
	memset(layers, 0xff, sizeof layers);
	options.keep_layers = layers;
	options.keep_from = options.n_ids > 1;
	int status = tt_request_submit(&request, engine, &options, err);
	if (status == TT_OK)
		status = tt_request_wait(request, err);
	for (uint32_t l = 0; status == TT_OK && l < info->n_layers; l++) {
		const float *h = tt_request_hidden(request, l);
		for (size_t t = options.keep_from; h && t < options.n_ids; t++, h += info->hidden_size) {
			double squares = 0;
			for (uint32_t i = 0; i < info->hidden_size; i++)
				squares += (double)h[i] * h[i];
			norms[l] += sqrt(squares) / (double)(options.n_ids - options.keep_from);
		}
	}
	tt_request_free(request);
	tt_free(ids);
	return status;
}

/* Adds for every steered layer its coefficient at scale 1 and s 1 (with an mlp's layer weights taken as 1) and, for
 * add, the length of the push relative to the norm of the stream. */
static int describe_effect(json_t *effect, const struct tt_policy *p, struct tt_engine *engine, struct tt_error *err)
{
	double *norms = NULL;
	TT_TRY(tt_alloc(&norms, p->n_layers, sizeof *norms, err));
	int status = measure_stream(engine, norms, err);
	json_t *layers = json_array();
	for (uint32_t l = 0; status == TT_OK && l < p->n_layers; l++) {
		double coefficient = (double)p->alpha * p->weights[l], push = fabs(coefficient) * p->norms[l];
		if (coefficient == 0)
			continue;
		json_t *layer = json_pack(
			"{s:i, s:f, s:f}", "layer", (int)l, "coefficient", coefficient, "stream_norm", norms[l]);
		if (layer && tt_operation_of(p->op)->change == TT_CHANGE_DIRECTION && p->form == 0)
			json_object_set_new(layer, "push", norms[l] > 0 ? json_real(push / norms[l]) : json_null());
		json_array_append_new(layers, layer);
	}
	free(norms);
	if (status == TT_OK)
		return tt_json_set(effect, "layers", layers, err);
	json_decref(layers);
	return status;
}

static int inspect_fit(json_t *report, struct tt_policy *p, const char *model_path, struct tt_error *err)
{
	struct tt_engine *engine = NULL;
	struct tt_error why = {0};
	const char *warning = NULL;
	json_t *effect = json_object();
	TT_TRY(tt_json_set(report, "on_model", effect, err));
	TT_TRY(open_engine(&engine, model_path, err));
	int fits = tt_engine_add_policy(engine, p, &warning, &why);
	int status = tt_json_set(effect, "fits", json_boolean(fits == TT_OK), err);
	if (status == TT_OK && fits != TT_OK)
		status = tt_json_set(effect, "why_not", json_string(why.message), err);
	if (status == TT_OK && warning)
		status = tt_json_set(effect, "warning", json_string(warning), err);
	if (status == TT_OK && fits == TT_OK)
		status = describe_effect(effect, p, engine, err);
	if (fits == TT_OK)
		tt_engine_remove_policy(engine, p, NULL);
	tt_engine_close(engine);
	return status;
}

static int inspect_policy(json_t *report, const char *path, const char *model_path, struct tt_error *err)
{
	struct tt_policy *p = NULL;
	TT_TRY(tt_policy_load(&p, path, err));
	int status = describe_policy(report, p, err);
	if (status == TT_OK && model_path)
		status = inspect_fit(report, p, model_path, err);
	tt_policy_free(p);
	return status;
}

/* ---- Other files ---- */

static int list_tensors(json_t *report, const struct tt_safetensors *file, struct tt_error *err)
{
	static const char *const names[] = {"F32", "F16", "BF16", "I32", "I64", "U8", "other"};
	json_t *tensors = json_array(), *metadata = json_object();
	TT_TRY(tt_json_set(report, "tensors", tensors, err));
	TT_TRY(tt_json_set(report, "metadata", metadata, err));
	for (size_t i = 0; i < file->n_metadata; i++)
		json_object_set_new(metadata, file->metadata[i].key, json_string(file->metadata[i].value));
	for (size_t i = 0; i < file->n_tensors; i++) {
		const struct tt_st_tensor *t = &file->tensors[i];
		json_t *shape = json_array();
		for (uint32_t k = 0; k < t->n_dims; k++)
			json_array_append_new(shape, json_integer((json_int_t)t->shape[k]));
		json_array_append_new(
			tensors, json_pack("{s:s, s:s, s:o, s:I}", "name", t->name, "dtype", names[t->dtype], "shape",
					 shape, "bytes", (json_int_t)t->n_bytes));
	}
	return TT_OK;
}

static int inspect_safetensors(json_t *report, const char *path, const char *model_path, struct tt_error *err)
{
	struct tt_safetensors *file = NULL;
	TT_TRY(tt_safetensors_open(&file, path, err));
	bool policy = tt_safetensors_metadata(file, "trimtab.format") != NULL;
	int status = tt_json_set(report, "kind", json_string(policy ? "policy" : "safetensors"), err);
	if (status == TT_OK && !policy)
		status = list_tensors(report, file, err);
	tt_safetensors_close(file);
	return policy ? inspect_policy(report, path, model_path, err) : status;
}

static int inspect_gguf(json_t *report, const char *path, const char *model_path, struct tt_error *err)
{
	struct tt_gguf *file = NULL;
	bool vector = false;
	TT_TRY(tt_gguf_open(&file, path, err));
	int status = tt_inspect_gguf(report, file, &vector, err);
	tt_gguf_close(file);
	if (status != TT_OK)
		return status;
	return vector ? inspect_policy(report, path, model_path, err) : inspect_engine(report, path, err);
}

/* Decides by the first bytes which reader to use; the reader checks the rest. */
static int inspect(json_t *report, const char *path, const char *model_path, struct tt_error *err)
{
	bool gguf;
	TT_TRY(tt_json_set(report, "file", json_string(path), err));
	if (tt_file_is_directory(path)) {
		TT_TRY(tt_json_set(report, "kind", json_string("model"), err));
		TT_TRY(tt_json_set(report, "format", json_string("Hugging Face directory"), err));
		return inspect_engine(report, path, err);
	}
	TT_TRY(tt_policy_refuse_pickle(path, &gguf, err));
	return gguf ? inspect_gguf(report, path, model_path, err) : inspect_safetensors(report, path, model_path, err);
}

int tt_inspect(const char *path, const char *model_path, char **report, struct tt_error *err)
{
	TT_TRY(tt_need(report, "report", err));
	*report = NULL;
	TT_TRY(tt_need(path, "path", err));
	json_t *object = json_object();
	int status = object ? inspect(object, path, model_path, err)
			    : tt_fail(err, TT_ERR_MEMORY, "out of memory for the report");
	if (status == TT_OK)
		status = tt_json_dump(report, json_incref(object), JSON_INDENT(1) | JSON_REAL_PRECISION(6), err);
	json_decref(object);
	return status;
}
