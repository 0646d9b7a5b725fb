/* The policy file: safetensors, metadata under "trimtab.", tensors direction.<l>, weight, target.<l>, gate.w, gate.b.
 * Reading is strict: what is not understood is refused, because a policy that is read half steers wrongly in silence. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/layer_list.h"
#include "controller/policy.h"
#include "weights/config.h"
#include "weights/safetensors.h"

enum { MAX_TENSORS = 2 * TT_MAX_LAYERS + 3, NAME_SIZE = 24 };

static const char *const known_keys[] = {"trimtab.format", "trimtab.name", "trimtab.fingerprint",
	"trimtab.weights_digest", "trimtab.op", "trimtab.when", "trimtab.layers", "trimtab.alpha", "trimtab.gate",
	"trimtab.observe", "trimtab.threshold", "trimtab.fitted_on", "trimtab.created", "trimtab.version"};

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
	int status = tt_json_parse(&value, text, strlen(text), key, NULL);
	double number = json_number_value(value);
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

static int read_metadata(struct reader *r)
{
	static const char *const ops[] = {"add", "ablate", "clamp", "affine", "one_sided", NULL};
	static const char *const whens[] = {"generation", "last", "all", NULL};
	static const char *const gates[] = {"always", "probe", "mlp", "cosine", NULL};
	struct tt_policy *p = r->policy;
	const char *observe, *threshold;
	int op = 0, when = 0, gate = 0;
	TT_TRY(read_word(r, "trimtab.op", ops, 3, &op));
	TT_TRY(read_word(r, "trimtab.when", whens, 3, &when));
	TT_TRY(read_word(r, "trimtab.gate", gates, 2, &gate));
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
	TT_TRY(read_key(r, "trimtab.observe", p->gate == TT_GATE_PROBE, &observe));
	TT_TRY(read_key(r, "trimtab.threshold", p->gate == TT_GATE_PROBE, &threshold));
	if (p->gate == TT_GATE_ALWAYS && (observe || threshold))
		return tt_fail(r->err, TT_ERR_FORMAT, "%s belongs to a gate, but trimtab.gate is always",
			observe ? "trimtab.observe" : "trimtab.threshold");
	return observe ? tt_layers_parse(r->observed, p->n_layers, observe, "trimtab.observe", r->err) : TT_OK;
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

static int read_layer(const struct reader *r, uint32_t layer, size_t *n_tensors)
{
	struct tt_policy *p = r->policy;
	char name[NAME_SIZE];
	const struct tt_st_tensor *t = NULL;
	snprintf(name, sizeof name, "direction.%u", layer);
	const struct tt_st_tensor *flat = tt_safetensors_find(r->file, name);
	bool one_row = flat && flat->n_dims == 1 && p->n_directions == 1;
	uint64_t shape[2] = {p->n_directions, p->hidden_size};
	TT_TRY(find_tensor(r, name, one_row ? 1 : 2, one_row ? shape + 1 : shape, &t));
	size_t n = (size_t)p->n_directions * p->hidden_size;
	memcpy(p->directions + layer * n, t->data, n * sizeof(float));
	++*n_tensors;
	if (p->op != TT_STEER_CLAMP)
		return TT_OK;
	snprintf(name, sizeof name, "target.%u", layer);
	++*n_tensors;
	return read_floats(r, name, p->n_directions, p->targets + (size_t)layer * p->n_directions);
}

static int read_gate(struct reader *r, size_t *n_tensors)
{
	struct tt_policy *p = r->policy;
	uint32_t layers[TT_MAX_LAYERS], n = 0;
	for (uint32_t l = 0; l < p->n_layers; l++)
		if (r->observed[l])
			layers[n++] = l;
	TT_TRY(tt_policy_set_probe(p, layers, n, r->err));
	TT_TRY(read_number(r, "trimtab.threshold", &p->threshold));
	*n_tensors += 2;
	TT_TRY(read_floats(r, "gate.w", (uint64_t)n * p->hidden_size, p->gate_weight));
	return read_floats(r, "gate.b", 1, &p->gate_bias);
}

/* Each known tensor was found and counted, so that a different number means there are others. */
static int refuse_other_tensors(const struct reader *r, size_t n_known)
{
	if (r->file->n_tensors == n_known)
		return TT_OK;
	for (size_t i = 0; i < r->file->n_tensors; i++) {
		const char *name = r->file->tensors[i].name;
		char expected[NAME_SIZE];
		bool known = strcmp(name, "weight") == 0;
		if (r->policy->gate == TT_GATE_PROBE)
			known = known || strcmp(name, "gate.w") == 0 || strcmp(name, "gate.b") == 0;
		for (uint32_t l = 0; !known && l < r->policy->n_layers; l++) {
			if (!r->layers[l])
				continue;
			snprintf(expected, sizeof expected, "direction.%u", l);
			known = strcmp(name, expected) == 0;
			snprintf(expected, sizeof expected, "target.%u", l);
			known = known || (r->policy->op == TT_STEER_CLAMP && strcmp(name, expected) == 0);
		}
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
	if (r->policy->gate == TT_GATE_PROBE)
		TT_TRY(read_gate(r, &n_tensors));
	TT_TRY(refuse_other_tensors(r, n_tensors));
	return tt_policy_finish(r->policy, r->err);
}

int tt_policy_load(struct tt_policy **out, const char *path, struct tt_error *err)
{
	struct tt_safetensors *file = NULL;
	*out = NULL;
	TT_TRY(tt_policy_refuse_pickle(path, err));
	TT_TRY(tt_safetensors_open(&file, path, err));
	struct reader r = {.file = file, .err = err};
	int status = read_policy(&r);
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
	json_t *number = json_real(value);
	*out = json_dumps(number, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
	json_decref(number);
	return *out ? TT_OK : tt_fail(err, TT_ERR_MEMORY, "policy: a number cannot be written");
}

static int put_gate(struct writer *w, const struct tt_policy *p, struct tt_error *err)
{
	bool member[TT_MAX_LAYERS] = {false};
	for (uint32_t i = 0; i < p->n_observed; i++)
		member[p->observed[i]] = true;
	TT_TRY(tt_layers_print(&w->observe, member, p->n_layers, err));
	TT_TRY(print_float(&w->threshold, p->threshold, err));
	put(w, "trimtab.observe", w->observe.data);
	put(w, "trimtab.threshold", w->threshold);
	put_tensor(w, "gate.w", 0, (uint64_t)p->n_observed * p->hidden_size, p->gate_weight);
	put_tensor(w, "gate.b", 0, 1, &p->gate_bias);
	return TT_OK;
}

static int put_policy(struct writer *w, const struct tt_policy *p, struct tt_error *err)
{
	bool member[TT_MAX_LAYERS] = {false};
	char name[NAME_SIZE];
	for (uint32_t l = 0; l < p->n_layers; l++) {
		member[l] = tt_policy_has_direction(p, l);
		if (!member[l])
			continue;
		size_t row = (size_t)l * p->n_directions;
		snprintf(name, sizeof name, "direction.%u", l);
		put_tensor(w, name, p->n_directions, p->hidden_size, p->directions + row * p->hidden_size);
		snprintf(name, sizeof name, "target.%u", l);
		if (p->op == TT_STEER_CLAMP)
			put_tensor(w, name, 0, p->n_directions, p->targets + row);
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
	return p->gate == TT_GATE_PROBE ? put_gate(w, p, err) : TT_OK;
}

int tt_policy_save(const struct tt_policy *policy, const char *path, struct tt_error *err)
{
	struct writer *w = NULL;
	uint32_t first, last;
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
