#include "controller/policy/control_vector.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "weights/config.h"
#include "weights/quant.h"

static const char architecture_key[] = "general.architecture", architecture[] = "controlvector";
static const char hint_key[] = "controlvector.model_hint", count_key[] = "controlvector.layer_count";

/* ---- Reading ---- */

bool tt_control_vector_is(const struct tt_gguf *file)
{
	struct tt_gguf_string text = {0};
	return tt_gguf_text(file, architecture_key, &text, NULL) == TT_OK && text.len == sizeof architecture - 1 &&
	       memcmp(text.data, architecture, text.len) == 0;
}

/* Reads N of direction.N as its one spelling, without leading zeros. */
static bool read_layer(const char *name, uint32_t *layer)
{
	char again[32];
	static const char before[] = "direction.";
	if (strncmp(name, before, sizeof before - 1) != 0)
		return false;
	unsigned long n = strtoul(name + sizeof before - 1, NULL, 10);
	*layer = n < TT_MAX_LAYERS ? (uint32_t)n : TT_MAX_LAYERS;
	snprintf(again, sizeof again, "direction.%lu", n);
	return strcmp(name, again) == 0;
}

/* Checks all that is known without the values: names, types and sizes. */
static int check_tensors(const struct tt_gguf *file, uint32_t *n_layers, uint32_t *width, struct tt_error *err)
{
	uint64_t d = file->n_tensors ? file->tensors[0].shape[0] : 0;
	if (file->n_tensors == 0)
		return tt_fail(err, TT_ERR_FORMAT, "a control vector without a direction");
	for (size_t i = 0; i < file->n_tensors; i++) {
		const struct tt_gguf_tensor *t = &file->tensors[i];
		uint32_t layer;
		if (!read_layer(t->name, &layer))
			return tt_fail(err, TT_ERR_FORMAT, "tensor %s does not belong into a control vector", t->name);
		if (layer >= TT_MAX_LAYERS)
			return tt_fail(
				err, TT_ERR_FORMAT, "tensor %s: layers are at most %d", t->name, TT_MAX_LAYERS - 1);
		if (t->type != TT_TYPE_F32)
			return tt_fail(err, TT_ERR_UNSUPPORTED,
				"tensor %s is of type %s; directions of control vectors are F32", t->name,
				tt_gguf_type_name(t->type));
		if (t->n_dims != 1 || t->shape[0] != d || d > TT_MAX_HIDDEN)
			return tt_fail(err, TT_ERR_FORMAT, "tensor %s must have one dimension, of %llu numbers as %s",
				t->name, (unsigned long long)d, file->tensors[0].name);
		*n_layers = layer >= *n_layers ? layer + 1 : *n_layers;
	}
	*width = (uint32_t)d;
	return TT_OK;
}

/* The vectors lie in the mapping at a multiple of 8 at least, but nothing says that a float may be read there. */
static void copy_directions(struct tt_policy *p, const struct tt_gguf *file)
{
	for (size_t i = 0; i < file->n_tensors; i++) {
		uint32_t layer;
		if (!read_layer(file->tensors[i].name, &layer))
			continue;
		memcpy(p->directions + (size_t)layer * p->hidden_size, file->tensors[i].data, file->tensors[i].n_bytes);
		p->weights[layer] = tt_policy_has_direction(p, layer) ? 1 : 0;
	}
}

/* The policy is called as its file, without the ending. */
static int set_name(struct tt_policy *p, const char *path, struct tt_error *err)
{
	const char *name = tt_file_name(path);
	size_t n = strlen(name) - (tt_ends_with(name, ".gguf") ? strlen(".gguf") : 0);
	if (n == 0 || n > TT_MAX_POLICY_NAME || !tt_utf8_is_valid(name))
		return tt_policy_set_text(&p->name, "control vector", err);
	free(p->name);
	p->name = NULL;
	return tt_copy_string(&p->name, name, n, err);
}

/* Where a policy made by fit names its data, this one names the file. */
static int set_source(struct tt_policy *p, const struct tt_gguf *file, struct tt_error *err)
{
	char digest[65], *text = NULL;
	TT_TRY(tt_sha256(digest, file->mapping.data, file->mapping.size, err));
	json_t *list = json_pack("[{s:s, s:s, s:i}]", "file", "control vector", "sha256", digest, "rows", 0);
	TT_TRY(tt_json_dump(&text, list, JSON_COMPACT, err));
	free(p->fitted_on);
	p->fitted_on = text;
	return TT_OK;
}

static int read_vector(struct tt_policy **out, const struct tt_gguf *file, const char *path, struct tt_error *err)
{
	struct tt_gguf_string hint = {0};
	uint32_t n_layers = 0, width = 0;
	if (!tt_control_vector_is(file))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "this GGUF file is no control vector, but perhaps a model");
	TT_TRY(check_tensors(file, &n_layers, &width, err));
	TT_TRY(tt_gguf_text(file, hint_key, &hint, err));
	TT_TRY(tt_policy_new(out, n_layers, width, 1, err));
	struct tt_policy *p = *out;
	p->when = TT_WHEN_ALL;
	copy_directions(p, file);
	TT_TRY(set_name(p, path, err));
	TT_TRY(set_source(p, file, err));
	if (hint.len > TT_MAX_POLICY_NAME || tt_utf8_check(hint.data, hint.len) != hint.len)
		hint.len = 0;
	TT_TRY(tt_copy_string(&p->model_hint, hint.len ? hint.data : "", hint.len, err));
	return tt_policy_finish(p, err);
}

int tt_control_vector_load(struct tt_policy **out, const char *path, struct tt_error *err)
{
	struct tt_gguf *file = NULL;
	*out = NULL;
	TT_TRY(tt_gguf_open(&file, path, err));
	int status = tt_within(read_vector(out, file, path, err), err, path);
	tt_gguf_close(file);
	if (status != TT_OK) {
		tt_policy_free(*out);
		*out = NULL;
	}
	return status;
}

/* ---- A model ---- */

bool tt_control_vector_is_free(const struct tt_policy *p)
{
	return p->model_hint && !*p->fingerprint;
}

/* Makes a zeroed copy of n floats out of the first n_old. */
static int widen(float **values, size_t n_old, size_t n, struct tt_error *err)
{
	float *wider = NULL;
	TT_TRY(tt_alloc(&wider, n, sizeof *wider, err));
	memcpy(wider, *values, n_old * sizeof *wider);
	free(*values);
	*values = wider;
	return TT_OK;
}

int tt_control_vector_adopt(struct tt_policy *p, const struct tt_model_info *model, struct tt_error *err)
{
	uint32_t n = p->n_layers, d = p->hidden_size;
	if (d != model->hidden_size)
		return tt_fail(err, TT_ERR_MISMATCH,
			"control vector %s was made for another model: of width %u there, %u here", p->name, d,
			model->hidden_size);
	if (n > model->n_layers)
		return tt_fail(err, TT_ERR_MISMATCH,
			"control vector %s was made for another model: it steers layer %u, here the last is %u",
			p->name, n - 1, model->n_layers - 1);
	TT_TRY(widen(&p->directions, (size_t)n * d, (size_t)model->n_layers * d, err));
	TT_TRY(widen(&p->weights, n, model->n_layers, err));
	TT_TRY(widen(&p->norms, n, model->n_layers, err));
	p->n_layers = model->n_layers;
	TT_TRY(tt_policy_set_text(&p->weights_digest, model->weights_digest, err));
	return tt_policy_set_text(&p->fingerprint, model->fingerprint, err);
}

/* ---- Writing ---- */

enum { ALIGNMENT = 32 }; /* of the data, where a file has no key for another */

struct writer {
	struct tt_buffer file;
	struct tt_error *err;
};

static int put_u32(struct writer *w, uint32_t value)
{
	return tt_buffer_add(&w->file, &value, sizeof value, w->err);
}

static int put_u64(struct writer *w, uint64_t value)
{
	return tt_buffer_add(&w->file, &value, sizeof value, w->err);
}

static int put_string(struct writer *w, const char *text, size_t n)
{
	TT_TRY(put_u64(w, n));
	return tt_buffer_add(&w->file, text, n, w->err);
}

static int put_key(struct writer *w, const char *key, enum tt_gguf_kind kind)
{
	TT_TRY(put_string(w, key, strlen(key)));
	return put_u32(w, kind);
}

static int put_text(struct writer *w, const char *key, const char *text, size_t n)
{
	TT_TRY(put_key(w, key, TT_GGUF_STRING));
	return put_string(w, text, n);
}

static int put_padding(struct writer *w)
{
	static const char zeros[ALIGNMENT] = {0};
	return tt_buffer_add(&w->file, zeros, (ALIGNMENT - w->file.len % ALIGNMENT) % ALIGNMENT, w->err);
}

/* What is added to h in this layer, at scale 1: 0 where nothing is. */
static float factor(const struct tt_policy *p, uint32_t layer)
{
	return tt_steer_coefficient(1, p->alpha, 1, p->weights[layer]);
}

/* The keys in the order in which repeng writes them; which model it is for is the first word of a fingerprint. */
static int put_header(struct writer *w, const struct tt_policy *p, uint32_t n_directions)
{
	const char *hint = *p->fingerprint ? p->fingerprint : p->model_hint ? p->model_hint : "";
	TT_TRY(tt_buffer_add(&w->file, "GGUF", 4, w->err));
	TT_TRY(put_u32(w, 3));
	TT_TRY(put_u64(w, n_directions));
	TT_TRY(put_u64(w, 3));
	TT_TRY(put_text(w, architecture_key, architecture, sizeof architecture - 1));
	TT_TRY(put_text(w, hint_key, hint, strcspn(hint, " ")));
	TT_TRY(put_key(w, count_key, TT_GGUF_U32));
	return put_u32(w, n_directions);
}

/* The entry of one direction in the list of tensors. */
static int put_entry(struct writer *w, const struct tt_policy *p, uint32_t layer, uint64_t offset)
{
	char name[32];
	snprintf(name, sizeof name, "direction.%u", layer);
	TT_TRY(put_string(w, name, strlen(name)));
	TT_TRY(put_u32(w, 1));
	TT_TRY(put_u64(w, p->hidden_size));
	TT_TRY(put_u32(w, TT_TYPE_F32));
	return put_u64(w, offset);
}

static int put_direction(struct writer *w, const struct tt_policy *p, uint32_t layer)
{
	for (uint32_t i = 0; i < p->hidden_size; i++) {
		float value = factor(p, layer) * p->directions[(size_t)layer * p->hidden_size + i];
		if (!isfinite(value))
			return tt_fail(w->err, TT_ERR_FORMAT, "policy %s: layer %u times its weight is too large",
				p->name, layer);
		TT_TRY(tt_buffer_add(&w->file, &value, sizeof value, w->err));
	}
	return put_padding(w);
}

static int put_vector(struct writer *w, const struct tt_policy *p)
{
	uint32_t layers[TT_MAX_LAYERS], n = 0;
	for (uint32_t l = 0; l < p->n_layers; l++)
		if (factor(p, l) != 0 && tt_policy_has_direction(p, l))
			layers[n++] = l;
	if (n == 0)
		return tt_fail(w->err, TT_ERR_ARGUMENT, "policy %s steers no layer", p->name);
	if (layers[0] == 0)
		return tt_fail(w->err, TT_ERR_UNSUPPORTED,
			"policy %s steers layer 0, for which control vectors have no direction", p->name);
	TT_TRY(put_header(w, p, n));
	size_t size = (size_t)p->hidden_size * sizeof(float), padded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	for (uint32_t i = 0; i < n; i++)
		TT_TRY(put_entry(w, p, layers[i], i * padded));
	TT_TRY(put_padding(w));
	for (uint32_t i = 0; i < n; i++)
		TT_TRY(put_direction(w, p, layers[i]));
	return TT_OK;
}

/* A control vector is added at every token of every text, and can say nothing else. */
static int check_sayable(const struct tt_policy *p, struct tt_error *err)
{
	const struct tt_policy_row *op = &tt_operation_of(p->op)->row;
	if (p->gate != TT_GATE_ALWAYS)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "policy %s has a gate (%s), and control vectors have none",
			p->name, tt_gate_of(p->gate)->row.word);
	if (p->op != TT_OP_ADD || p->form != 0)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"policy %s is of operation %s%s%s, and control vectors can only add", p->name, op->word,
			p->form ? " " : "", p->form ? op->form.words[p->form] : "");
	if (p->when != TT_WHEN_ALL)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"policy %s steers when %s, and control vectors steer every token (all)", p->name,
			tt_when_word(p->when));
	return TT_OK;
}

int tt_policy_export(const struct tt_policy *policy, const char *path, struct tt_error *err)
{
	struct writer w = {.err = err};
	TT_TRY(tt_need(policy, "policy", err));
	TT_TRY(tt_need(path, "path", err));
	TT_TRY(check_sayable(policy, err));
	int status = put_vector(&w, policy);
	if (status == TT_OK)
		status = tt_file_write(path, w.file.data, w.file.len, err);
	tt_buffer_free(&w.file);
	return status;
}
