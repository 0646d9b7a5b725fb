/* Describes a GGUF file: a model's tensors by type, or a control vector's directions. */
#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/policy/control_vector.h"
#include "runtime/inspect/inspect.h"
#include "weights/quant.h"

static json_t *text_of(const struct tt_gguf *file, const char *key)
{
	struct tt_gguf_string text = {0};
	if (tt_gguf_text(file, key, &text, NULL) != TT_OK || !text.data)
		return json_null();
	json_t *value = json_stringn(text.data, text.len);
	return value ? value : json_string("(not UTF-8)");
}

static json_t *shape_of(const struct tt_gguf_tensor *t)
{
	json_t *shape = json_array();
	for (uint32_t i = 0; i < t->n_dims; i++)
		json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
	return shape;
}

/* The L2 norm of an f32 tensor; null if it is not finite, and for other types. */
static json_t *norm_of(const struct tt_gguf_tensor *t)
{
	double squares = 0;
	if (t->type != TT_TYPE_F32 || !t->data)
		return json_null();
	for (size_t i = 0; i < t->n_bytes / sizeof(float); i++) {
		float x;
		memcpy(&x, (const char *)t->data + i * sizeof x, sizeof x);
		squares += (double)x * x;
	}
	return tt_json_number(sqrt(squares));
}

static int describe_vector(json_t *report, const struct tt_gguf *file, struct tt_error *err)
{
	json_t *directions = json_array();
	TT_TRY(tt_json_set(report, "directions", directions, err));
	TT_TRY(tt_json_set(report, "kind", json_string("control vector"), err));
	TT_TRY(tt_json_set(report, "model_hint", text_of(file, "controlvector.model_hint"), err));
	for (size_t i = 0; i < file->n_tensors; i++) {
		const struct tt_gguf_tensor *t = &file->tensors[i];
		json_t *one = json_pack("{s:s, s:s, s:o, s:o}", "name", t->name, "type", tt_gguf_type_name(t->type),
			"shape", shape_of(t), "norm", norm_of(t));
		json_array_append_new(directions, one);
	}
	return TT_OK;
}

static int describe_model(json_t *report, const struct tt_gguf *file, struct tt_error *err)
{
	json_t *types = json_object();
	TT_TRY(tt_json_set(report, "kind", json_string("model"), err));
	TT_TRY(tt_json_set(report, "name", text_of(file, "general.name"), err));
	TT_TRY(tt_json_set(report, "n_tensors", json_integer((json_int_t)file->n_tensors), err));
	TT_TRY(tt_json_set(report, "tensor_types", types, err));
	for (size_t i = 0; i < file->n_tensors; i++) {
		const struct tt_gguf_tensor *t = &file->tensors[i];
		const char *name = tt_gguf_type_name(t->type);
		json_t *entry = json_object_get(types, name);
		json_int_t n = json_integer_value(json_object_get(entry, "tensors"));
		json_int_t bytes = json_integer_value(json_object_get(entry, "bytes"));
		TT_TRY(tt_json_set(types, name,
			json_pack("{s:I, s:I}", "tensors", n + 1, "bytes", bytes + (json_int_t)t->n_bytes), err));
	}
	return TT_OK;
}

int tt_inspect_gguf(json_t *report, const struct tt_gguf *file, bool *vector, struct tt_error *err)
{
	TT_TRY(tt_json_set(report, "format", json_string("GGUF"), err));
	TT_TRY(tt_json_set(report, "gguf_version", json_integer((json_int_t)file->version), err));
	TT_TRY(tt_json_set(report, "architecture", text_of(file, "general.architecture"), err));
	*vector = tt_control_vector_is(file);
	return *vector ? describe_vector(report, file, err) : describe_model(report, file, err);
}
