/* The policy file: safetensors, metadata under "trimtab.", tensors direction.<l>, weight, and those of the operation and the
 * gate.
 * Reading is strict: what is not understood is refused, because a policy that is read half steers wrongly in silence. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/outputs.h"
#include "base/json.h"
#include "controller/layer_list.h"
#include "controller/policy.h"
#include "weights/config.h"
#include "weights/safetensors.h"

enum { MAX_TENSORS = 3 * TT_MAX_LAYERS + 5, NAME_SIZE = 24 };

static const char *const known_keys[] = {"trimtab.format", "trimtab.name", "trimtab.fingerprint",
	"trimtab.weights_digest", "trimtab.op", "trimtab.when", "trimtab.layers", "trimtab.alpha", "trimtab.gate",
	"trimtab.observe", "trimtab.threshold", "trimtab.gate.bound", "trimtab.fitted_on", "trimtab.created",
	"trimtab.version"};

/* ---- Reading ---- */

struct reader {
	const struct tt_safetensors *file;
	struct tt_policy *policy;
	bool layers[TT_MAX_LAYERS];   /* that have a direction */
	bool observed[TT_MAX_LAYERS]; /* that the gate reads */
	struct tt_error *err;
};

/* A PyTorch file begins with a zip or pickle mark. 0x80 may also begin a safetensors header length; its byte 8 is then {. */
int tt_policy_refuse_pickle(const char *path, struct tt_error *err)
{
	unsigned char head[9] = {0};
	FILE *file = fopen(path, "rb");
	if (!file)
		return TT_OK; /* the reader says why */
	size_t n = fread(head, 1, sizeof head, file);
	fclose(file);
	bool zip = n >= 4 && memcmp(head, "PK\003\004", 4) == 0;
	bool pickle = n >= 2 && head[0] == 0x80 && head[1] <= 5 && !(n == 9 && head[8] == '{');
	if (zip || pickle)
		return tt_fail(err, TT_ERR_FORMAT,
			"%s: this is a pickle (PyTorch) file, which can run code when it is read; it will not be read",
			path);
	if (n >= 4 && memcmp(head, "GGUF", 4) == 0)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"%s: this is a GGUF file; control vectors cannot be imported yet", path);
	return TT_OK;
}

/* NULL for an absent optional key. */
static int read_key(const struct reader *r, const char *key, bool required, const char **out)
{
	*out = tt_safetensors_metadata(r->file, key);
	if (!*out && required)
		return tt_fail(r->err, TT_ERR_FORMAT, "%s is missing", key);
	if (*out && strlen(*out) > TT_MAX_POLICY_TEXT)
		return tt_fail(r->err, TT_ERR_FORMAT, "%s is longer than %d bytes", key, TT_MAX_POLICY_TEXT);
	return TT_OK;
}

static int check_keys(const struct reader *r)
{
	const char *format;
	TT_TRY(read_key(r, "trimtab.format", true, &format));
	if (strcmp(format, "1"))
		return tt_fail(r->err, TT_ERR_UNSUPPORTED, "trimtab.format is \"%.40s\"; this build reads 1", format);
	for (size_t i = 0; i < r->file->n_metadata; i++) {
		const char *key = r->file->metadata[i].key;
		bool known = strncmp(key, "trimtab.", 8) != 0;
		for (size_t k = 0; !known && k < sizeof known_keys / sizeof *known_keys; k++)
			known = strcmp(key, known_keys[k]) == 0;
		if (!known)
			return tt_fail(r->err, TT_ERR_FORMAT, "%.100s is not a key of format 1", key);
	}
	return TT_OK;
}

/* Index of a word in a list that ends with NULL; words behind n_supported are known but refused. */
static int read_word(const struct reader *r, const char *key, const char *const *words, int n_supported, int *out)
{
	const char *word;
	TT_TRY(read_key(r, key, true, &word));
	for (int i = 0; words[i]; i++) {
		if (strcmp(word, words[i]))
			continue;
		if (i >= n_supported)
			return tt_fail(r->err, TT_ERR_UNSUPPORTED, "%s: %s is not supported yet", key, word);
		*out = i;
		return TT_OK;
	}
	return tt_fail(r->err, TT_ERR_FORMAT, "%s: \"%.60s\" is not one of its words", key, word);
}

/* Through the JSON parser, which unlike strtod does not follow the locale. */
static int read_number(const struct reader *r, const char *key, float *out)
{
	const char *text;
	json_t *value = NULL;
	TT_TRY(read_key(r, key, true, &text));
	int status = tt_json_parse(&value, text, strlen(text), key, r->err);
	double number = json_number_value(value);
	if (status == TT_ERR_MEMORY)
		return status;
	if (status != TT_OK || !json_is_number(value) || !isfinite((float)number))
		status = tt_fail(r->err, TT_ERR_FORMAT, "%s: \"%.40s\" is not a finite number", key, text);
	*out = (float)number;
	json_decref(value);
	return status;
}

static int read_text(const struct reader *r, const char *key, bool required, char **field)
{
	const char *text;
	TT_TRY(read_key(r, key, required, &text));
	if (required && !*text)
		return tt_fail(r->err, TT_ERR_FORMAT, "%s is empty", key);
	return text ? tt_policy_set_text(field, text, r->err) : TT_OK;
}

/* The tensor of this name, f32 and of this shape; dims 0 stands for any in the first place. */
static int find_tensor(const struct reader *r, const char *name, uint32_t n_dims, const uint64_t *shape,
	const struct tt_st_tensor **out)
{
	const struct tt_st_tensor *t = tt_safetensors_find(r->file, name);
	if (!t)
		return tt_fail(r->err, TT_ERR_FORMAT, "tensor %s is missing", name);
	if (t->dtype != TT_DTYPE_F32)
		return tt_fail(r->err, TT_ERR_FORMAT, "tensor %s must be F32", name);
	bool match = t->n_dims == n_dims;
	for (uint32_t i = 0; match && i < n_dims; i++)
		match = t->shape[i] == shape[i];
	if (!match)
		return n_dims == 1 ? tt_fail(r->err, TT_ERR_FORMAT, "tensor %s must have shape [%llu]", name,
					     (unsigned long long)shape[0])
				   : tt_fail(r->err, TT_ERR_FORMAT, "tensor %s must have shape [%llu, %llu]", name,
					     (unsigned long long)shape[0], (unsigned long long)shape[1]);
	*out = t;
	return TT_OK;
}

static int read_floats(const struct reader *r, const char *name, uint64_t n, float *out)
{
	const struct tt_st_tensor *t = NULL;
	TT_TRY(find_tensor(r, name, 1, &n, &t));
	memcpy(out, t->data, n * sizeof *out);
	return TT_OK;
}

/* The policy's dimensions are those of `weight` and of the first direction; everything else is held against them. */
static int read_dimensions(struct reader *r)
{
	const struct tt_st_tensor *weight = tt_safetensors_find(r->file, "weight"), *direction = NULL;
	const char *layers;
	char name[NAME_SIZE];
	if (!weight || weight->n_dims != 1 || weight->shape[0] < 1 || weight->shape[0] > TT_MAX_LAYERS)
		return tt_fail(r->err, TT_ERR_FORMAT,
			weight ? "tensor weight must have shape [L], L from 1 to %d"
			       : "tensor weight is missing (L from 1 to %d numbers)",
			TT_MAX_LAYERS);
	uint32_t n_layers = (uint32_t)weight->shape[0], first = 0;
	TT_TRY(read_key(r, "trimtab.layers", true, &layers));
	TT_TRY(tt_layers_parse(r->layers, n_layers, layers, "trimtab.layers", r->err));
	while (!r->layers[first])
		first++;
	snprintf(name, sizeof name, "direction.%u", first);
	direction = tt_safetensors_find(r->file, name);
	if (!direction)
		return tt_fail(r->err, TT_ERR_FORMAT, "tensor %s is missing", name);
	if (direction->n_dims < 1 || direction->n_dims > 2)
		return tt_fail(r->err, TT_ERR_FORMAT, "tensor %s must have shape [r, d] or [d]", name);
	uint64_t d = direction->shape[direction->n_dims - 1], rows = direction->n_dims == 2 ? direction->shape[0] : 1;
	if (rows < 1 || rows > TT_MAX_DIRECTIONS)
		return tt_fail(r->err, TT_ERR_FORMAT, "tensor %s: %llu rows, must be 1 to %d", name,
			(unsigned long long)rows, TT_MAX_DIRECTIONS);
	if (d < 1 || d > TT_MAX_HIDDEN)
		return tt_fail(r->err, TT_ERR_FORMAT, "tensor %s: width %llu, must be 1 to %d", name,
			(unsigned long long)d, TT_MAX_HIDDEN);
	return tt_policy_new(&r->policy, n_layers, (uint32_t)d, (uint32_t)rows, r->err);
}

/* Whether the gate's keys are there; those of another gate are refused, since who wrote them meant something. */
static int read_gate_keys(struct reader *r)
{
	static const struct {
		const char *key;
		enum tt_gate gate;
		bool required;
	} keys[] = {
		{"trimtab.threshold", TT_GATE_PROBE, true},
		{"trimtab.gate.bound", TT_GATE_MLP, false},
	};
	enum tt_gate gate = r->policy->gate;
	const char *observe, *value;
	TT_TRY(read_key(r, "trimtab.observe", gate != TT_GATE_ALWAYS, &observe));
	if (observe && gate == TT_GATE_ALWAYS)
		return tt_fail(r->err, TT_ERR_FORMAT, "trimtab.observe belongs to a gate, but trimtab.gate is always");
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		TT_TRY(read_key(r, keys[i].key, keys[i].required && gate == keys[i].gate, &value));
		if (value && gate != keys[i].gate)
			return tt_fail(r->err, TT_ERR_FORMAT, "%s belongs to gate %s, but trimtab.gate is %s",
				keys[i].key, tt_policy_gate_name(keys[i].gate), tt_policy_gate_name(gate));
	}
	return observe ? tt_layers_parse(r->observed, r->policy->n_layers, observe, "trimtab.observe", r->err) : TT_OK;
}

static int read_metadata(struct reader *r)
{
	static const char *const ops[] = {"add", "ablate", "clamp", "affine", "one_sided", NULL};
	static const char *const whens[] = {"generation", "last", "all", NULL};
	static const char *const gates[] = {"always", "probe", "mlp", "cosine", NULL};
	struct tt_policy *p = r->policy;
	int op = 0, when = 0, gate = 0;
	TT_TRY(read_word(r, "trimtab.op", ops, 5, &op));
	TT_TRY(read_word(r, "trimtab.when", whens, 3, &when));
	TT_TRY(read_word(r, "trimtab.gate", gates, 3, &gate));
	TT_TRY(read_number(r, "trimtab.alpha", &p->alpha));
	TT_TRY(read_text(r, "trimtab.name", true, &p->name));
	TT_TRY(read_text(r, "trimtab.fingerprint", true, &p->fingerprint));
	TT_TRY(read_text(r, "trimtab.weights_digest", false, &p->weights_digest));
	TT_TRY(read_text(r, "trimtab.fitted_on", false, &p->fitted_on));
	TT_TRY(read_text(r, "trimtab.created", false, &p->created));
	TT_TRY(read_text(r, "trimtab.version", false, &p->version));
	p->op = (enum tt_steer_op)op;
	p->when = (enum tt_policy_when)when;
	p->gate = (enum tt_gate)gate;
	if (p->op == TT_STEER_CLAMP)
		TT_TRY(tt_policy_set_clamp(p, r->err));
	if (p->op == TT_STEER_AFFINE)
		TT_TRY(tt_policy_set_affine(p, r->err));
	return read_gate_keys(r);
}

static int read_fitted_on(const struct reader *r)
{
	json_t *list = NULL;
	const char *text = r->policy->fitted_on;
	if (!*text)
		return TT_OK;
	int status = tt_json_parse(&list, text, strlen(text), "trimtab.fitted_on", r->err);
	if (status == TT_OK && !json_is_array(list))
		status = tt_fail(r->err, TT_ERR_FORMAT, "trimtab.fitted_on is not a JSON list");
	size_t i;
	json_t *entry;
	json_array_foreach(list, i,
		entry) if (status == TT_OK && (!json_is_string(json_object_get(entry, "file")) ||
						      !json_is_string(json_object_get(entry, "sha256")) ||
						      !json_is_integer(json_object_get(entry, "rows")))) status =
		tt_fail(r->err, TT_ERR_FORMAT, "trimtab.fitted_on: entry %zu lacks file, sha256 or rows", i);
	json_decref(list);
	return status;
}

/* A matrix of a layer: [r][d], or [d] where r is 1. */
static int read_rows(const struct reader *r, const char *name, float *out)
{
	const struct tt_policy *p = r->policy;
	const struct tt_st_tensor *t = tt_safetensors_find(r->file, name);
	bool one_row = t && t->n_dims == 1 && p->n_directions == 1;
	uint64_t shape[2] = {p->n_directions, p->hidden_size};
	TT_TRY(find_tensor(r, name, one_row ? 1 : 2, one_row ? shape + 1 : shape, &t));
	memcpy(out, t->data, (size_t)p->n_directions * p->hidden_size * sizeof *out);
	return TT_OK;
}

static int read_layer(const struct reader *r, uint32_t layer, size_t *n_tensors)
{
	struct tt_policy *p = r->policy;
	size_t row = (size_t)layer * p->n_directions;
	char name[NAME_SIZE];
	snprintf(name, sizeof name, "direction.%u", layer);
	TT_TRY(read_rows(r, name, p->directions + row * p->hidden_size));
	++*n_tensors;
	if (p->op == TT_STEER_AFFINE) {
		snprintf(name, sizeof name, "affine.%u.W", layer);
		TT_TRY(read_rows(r, name, p->affine + row * p->hidden_size));
		++*n_tensors;
	}
	if (!p->targets)
		return TT_OK;
	snprintf(name, sizeof name, p->op == TT_STEER_AFFINE ? "affine.%u.b" : "target.%u", layer);
	++*n_tensors;
	return read_floats(r, name, p->n_directions, p->targets + row);
}

static int read_probe(struct reader *r, const uint32_t *layers, uint32_t n, size_t *n_tensors)
{
	struct tt_policy *p = r->policy;
	TT_TRY(tt_policy_set_probe(p, layers, n, r->err));
	TT_TRY(read_number(r, "trimtab.threshold", &p->threshold));
	*n_tensors += 2;
	TT_TRY(read_floats(r, "gate.w", (uint64_t)n * p->hidden_size, p->gate_weight));
	return read_floats(r, "gate.b", 1, &p->gate_bias);
}

static int read_matrix(const struct reader *r, const char *name, uint64_t rows, uint64_t columns, float *out)
{
	const struct tt_st_tensor *t = NULL;
	const uint64_t shape[2] = {rows, columns};
	TT_TRY(find_tensor(r, name, 2, shape, &t));
	memcpy(out, t->data, rows * columns * sizeof *out);
	return TT_OK;
}

/* The number of units is the first matrix's; everything else is held against it. */
static int read_mlp(struct reader *r, const uint32_t *layers, uint32_t n, size_t *n_tensors)
{
	static const char *const bounds[] = {"sigmoid", "none", NULL};
	struct tt_policy *p = r->policy;
	const struct tt_st_tensor *fc1 = tt_safetensors_find(r->file, "gate.fc1.weight");
	const char *bound;
	int unbounded = 0;
	if (!fc1 || fc1->n_dims != 2 || fc1->shape[0] < 1 || fc1->shape[0] > TT_MAX_UNITS)
		return tt_fail(r->err, TT_ERR_FORMAT,
			fc1 ? "tensor gate.fc1.weight must have shape [n, %llu], n from 1 to %d"
			    : "tensor gate.fc1.weight is missing ([n, %llu], n from 1 to %d)",
			(unsigned long long)n * p->hidden_size, TT_MAX_UNITS);
	TT_TRY(tt_policy_set_mlp(p, layers, n, (uint32_t)fc1->shape[0], r->err));
	TT_TRY(read_key(r, "trimtab.gate.bound", false, &bound));
	if (bound)
		TT_TRY(read_word(r, "trimtab.gate.bound", bounds, 2, &unbounded));
	p->unbounded = unbounded;
	*n_tensors += 4;
	TT_TRY(read_matrix(r, "gate.fc1.weight", p->n_units, (uint64_t)n * p->hidden_size, p->fc1_weight));
	TT_TRY(read_floats(r, "gate.fc1.bias", p->n_units, p->fc1_bias));
	TT_TRY(read_matrix(r, "gate.fc2.weight", 1 + (uint64_t)p->n_layers, p->n_units, p->fc2_weight));
	return read_floats(r, "gate.fc2.bias", 1 + (uint64_t)p->n_layers, p->fc2_bias);
}

static int read_gate(struct reader *r, size_t *n_tensors)
{
	uint32_t layers[TT_MAX_LAYERS], n = 0;
	for (uint32_t l = 0; l < r->policy->n_layers; l++)
		if (r->observed[l])
			layers[n++] = l;
	switch (r->policy->gate) {
	case TT_GATE_PROBE:
		return read_probe(r, layers, n, n_tensors);
	case TT_GATE_MLP:
		return read_mlp(r, layers, n, n_tensors);
	case TT_GATE_ALWAYS:
		break;
	}
	return TT_OK;
}

static bool layer_tensor_known(const struct tt_policy *p, uint32_t layer, const char *name)
{
	static const struct {
		const char *format;
		enum tt_steer_op op;
	} tensors[] = {
		{"target.%u", TT_STEER_CLAMP}, {"affine.%u.W", TT_STEER_AFFINE}, {"affine.%u.b", TT_STEER_AFFINE}};
	char expected[NAME_SIZE];
	snprintf(expected, sizeof expected, "direction.%u", layer);
	bool known = strcmp(name, expected) == 0;
	for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
		if (p->op != tensors[i].op)
			continue;
		snprintf(expected, sizeof expected, tensors[i].format, layer);
		known = known || strcmp(name, expected) == 0;
	}
	return known;
}

static bool gate_tensor_known(enum tt_gate gate, const char *name)
{
	static const struct {
		const char *name;
		enum tt_gate gate;
	} tensors[] = {
		{"gate.w", TT_GATE_PROBE},
		{"gate.b", TT_GATE_PROBE},
		{"gate.fc1.weight", TT_GATE_MLP},
		{"gate.fc1.bias", TT_GATE_MLP},
		{"gate.fc2.weight", TT_GATE_MLP},
		{"gate.fc2.bias", TT_GATE_MLP},
	};
	for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
		if (gate == tensors[i].gate && strcmp(name, tensors[i].name) == 0)
			return true;
	return false;
}

/* Each known tensor was found and counted, so that a different number means there are others. */
static int refuse_other_tensors(const struct reader *r, size_t n_known)
{
	if (r->file->n_tensors == n_known)
		return TT_OK;
	for (size_t i = 0; i < r->file->n_tensors; i++) {
		const char *name = r->file->tensors[i].name;
		bool known = strcmp(name, "weight") == 0 || gate_tensor_known(r->policy->gate, name);
		for (uint32_t l = 0; !known && l < r->policy->n_layers; l++)
			known = r->layers[l] && layer_tensor_known(r->policy, l, name);
		if (!known)
			return tt_fail(r->err, TT_ERR_FORMAT, "tensor %.100s does not belong here", name);
	}
	return TT_OK;
}

static int read_policy(struct reader *r)
{
	size_t n_tensors = 1;
	TT_TRY(check_keys(r));
	TT_TRY(read_dimensions(r));
	TT_TRY(read_metadata(r));
	TT_TRY(read_fitted_on(r));
	TT_TRY(read_floats(r, "weight", r->policy->n_layers, r->policy->weights));
	for (uint32_t l = 0; l < r->policy->n_layers; l++)
		if (r->layers[l])
			TT_TRY(read_layer(r, l, &n_tensors));
	TT_TRY(read_gate(r, &n_tensors));
	TT_TRY(refuse_other_tensors(r, n_tensors));
	return tt_policy_finish(r->policy, r->err);
}

int tt_policy_load(struct tt_policy **out, const char *path, struct tt_error *err)
{
	struct tt_safetensors *file = NULL;
	TT_TRY(tt_need(out, "out", err));
	*out = NULL;
	TT_TRY(tt_need(path, "path", err));
	TT_TRY(tt_policy_refuse_pickle(path, err));
	TT_TRY(tt_safetensors_open(&file, path, err));
	struct reader r = {.file = file, .err = err};
	int status = read_policy(&r);
	if (status == TT_OK)
		status = tt_file_resolve(&r.policy->path, path, err);
	if (status != TT_OK) {
		tt_policy_free(r.policy);
		tt_fail_within(err, path);
	} else {
		*out = r.policy;
	}
	tt_safetensors_close(file);
	return status;
}

/* ---- Writing ---- */

struct writer {
	struct tt_st_tensor tensors[MAX_TENSORS];
	char names[MAX_TENSORS][NAME_SIZE];
	size_t n_tensors;
	struct tt_st_pair metadata[sizeof known_keys / sizeof *known_keys];
	size_t n_metadata;
	struct tt_buffer layers, observe;
	char *alpha, *threshold;
};

static void put_tensor(struct writer *w, const char *name, uint64_t rows, uint64_t columns, const float *data)
{
	struct tt_st_tensor *t = &w->tensors[w->n_tensors];
	snprintf(w->names[w->n_tensors++], NAME_SIZE, "%s", name);
	*t = (struct tt_st_tensor){.name = w->names[w->n_tensors - 1], .dtype = TT_DTYPE_F32, .data = data};
	if (rows)
		t->shape[t->n_dims++] = rows;
	t->shape[t->n_dims++] = columns;
}

/* An empty text is left out: the reader takes an absent one for it. */
static void put(struct writer *w, const char *key, const char *value)
{
	if (value && *value)
		w->metadata[w->n_metadata++] = (struct tt_st_pair){key, value};
}

/* Nine digits give every f32 back bit for bit. */
static int print_float(char **out, float value, struct tt_error *err)
{
	return tt_json_dump(out, json_real(value), JSON_ENCODE_ANY | JSON_REAL_PRECISION(9), err);
}

static int put_gate(struct writer *w, const struct tt_policy *p, struct tt_error *err)
{
	bool member[TT_MAX_LAYERS] = {false};
	uint64_t n_in = (uint64_t)p->n_observed * p->hidden_size, n_outputs = 1 + (uint64_t)p->n_layers;
	if (p->gate == TT_GATE_ALWAYS)
		return TT_OK;
	for (uint32_t i = 0; i < p->n_observed; i++)
		member[p->observed[i]] = true;
	TT_TRY(tt_layers_print(&w->observe, member, p->n_layers, err));
	put(w, "trimtab.observe", w->observe.data);
	if (p->gate == TT_GATE_PROBE) {
		TT_TRY(print_float(&w->threshold, p->threshold, err));
		put(w, "trimtab.threshold", w->threshold);
		put_tensor(w, "gate.w", 0, n_in, p->gate_weight);
		put_tensor(w, "gate.b", 0, 1, &p->gate_bias);
		return TT_OK;
	}
	put(w, "trimtab.gate.bound", p->unbounded ? "none" : "sigmoid");
	put_tensor(w, "gate.fc1.weight", p->n_units, n_in, p->fc1_weight);
	put_tensor(w, "gate.fc1.bias", 0, p->n_units, p->fc1_bias);
	put_tensor(w, "gate.fc2.weight", n_outputs, p->n_units, p->fc2_weight);
	put_tensor(w, "gate.fc2.bias", 0, n_outputs, p->fc2_bias);
	return TT_OK;
}

static void put_layer(struct writer *w, const struct tt_policy *p, uint32_t l)
{
	size_t row = (size_t)l * p->n_directions;
	char name[NAME_SIZE];
	snprintf(name, sizeof name, "direction.%u", l);
	put_tensor(w, name, p->n_directions, p->hidden_size, p->directions + row * p->hidden_size);
	snprintf(name, sizeof name, "affine.%u.W", l);
	if (p->affine)
		put_tensor(w, name, p->n_directions, p->hidden_size, p->affine + row * p->hidden_size);
	snprintf(name, sizeof name, p->affine ? "affine.%u.b" : "target.%u", l);
	if (p->targets)
		put_tensor(w, name, 0, p->n_directions, p->targets + row);
}

static int put_policy(struct writer *w, const struct tt_policy *p, struct tt_error *err)
{
	bool member[TT_MAX_LAYERS] = {false};
	for (uint32_t l = 0; l < p->n_layers; l++) {
		member[l] = tt_policy_has_direction(p, l);
		if (member[l])
			put_layer(w, p, l);
	}
	put_tensor(w, "weight", 0, p->n_layers, p->weights);
	TT_TRY(tt_layers_print(&w->layers, member, p->n_layers, err));
	TT_TRY(print_float(&w->alpha, p->alpha, err));
	put(w, "trimtab.format", "1");
	put(w, "trimtab.name", p->name);
	put(w, "trimtab.fingerprint", p->fingerprint);
	put(w, "trimtab.weights_digest", p->weights_digest);
	put(w, "trimtab.op", tt_policy_op_name(p->op));
	put(w, "trimtab.when", tt_policy_when_name(p->when));
	put(w, "trimtab.layers", w->layers.data);
	put(w, "trimtab.alpha", w->alpha);
	put(w, "trimtab.gate", tt_policy_gate_name(p->gate));
	put(w, "trimtab.fitted_on", p->fitted_on);
	put(w, "trimtab.created", p->created);
	put(w, "trimtab.version", p->version);
	return put_gate(w, p, err);
}

int tt_policy_save(const struct tt_policy *policy, const char *path, struct tt_error *err)
{
	struct writer *w = NULL;
	uint32_t first, last;
	TT_TRY(tt_need(policy, "policy", err));
	TT_TRY(tt_need(path, "path", err));
	if (!*policy->name || !*policy->fingerprint)
		return tt_fail(err, TT_ERR_ARGUMENT, "%s: a policy without %s cannot be written", path,
			*policy->name ? "a model fingerprint" : "a name");
	if (!tt_policy_band(policy, &first, &last))
		return tt_fail(err, TT_ERR_ARGUMENT, "%s: a policy that steers no layer cannot be written", path);
	TT_TRY(tt_alloc(&w, 1, sizeof *w, err));
	int status = put_policy(w, policy, err);
	if (status == TT_OK)
		status = tt_safetensors_write(path, w->tensors, w->n_tensors, w->metadata, w->n_metadata, err);
	tt_buffer_free(&w->layers);
	tt_buffer_free(&w->observe);
	free(w->alpha);
	free(w->threshold);
	free(w);
	return status;
}
