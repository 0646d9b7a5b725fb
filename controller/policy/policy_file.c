/* The policy file: safetensors with metadata under "trimtab.", the tensor `weight`, and the tensors and keys that the
 * rows of its operation and gate name (controller/policy/operations.c and gates.c).
 * Reading is strict: whatever is not understood is refused, because a policy that is half read steers wrongly in
 * silence. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/outputs.h"
#include "controller/policy/control_vector.h"
#include "controller/policy/layer_list.h"
#include "controller/policy/policy.h"
#include "weights/config.h"
#include "weights/safetensors.h"

enum {
	MAX_TENSORS = TT_MAX_ROW_TENSORS * (TT_MAX_LAYERS + 1) + 1,
	NAME_SIZE = 24,
	FIRST_FORMAT = 1,
	POOL_FORMAT = 3, /* the oldest that has pool_key */
	RULE_FORMAT = 4, /* the oldest that has the keys of a rule */
};

/* The keys that a policy of any kind may have. The rows of the tables add those that choose a form. */
static const char *const known_keys[] = {"trimtab.format", "trimtab.name", "trimtab.fingerprint",
	"trimtab.weights_digest", "trimtab.op", "trimtab.when", "trimtab.layers", "trimtab.alpha", "trimtab.gate",
	"trimtab.observe", "trimtab.threshold", "trimtab.fitted_on", "trimtab.created", "trimtab.version"};
enum { N_KNOWN_KEYS = sizeof known_keys / sizeof *known_keys, N_FORM_KEYS = 2 };

/* Which states the gate reads, of any gate that observes layers; tt_gate_pool_word has the words. */
static const char pool_key[] = "trimtab.gate.pool";
/* Of a gate with a rule; tt_rule_parse reads them. */
static const char rule_key[] = "trimtab.gate.rule", conditions_key[] = "trimtab.gate.conditions";

/* The rows of operations, then those of gates. */
static uint32_t n_rows(void)
{
	return tt_n_operations() + tt_n_gates();
}

static const struct tt_policy_row *row_at(uint32_t i)
{
	return i < tt_n_operations() ? &tt_operation_of(i)->row : &tt_gate_of(i - tt_n_operations())->row;
}

static uint32_t newest_format(void)
{
	uint32_t newest = RULE_FORMAT;
	for (uint32_t i = 0; i < n_rows(); i++) {
		const struct tt_policy_row *row = row_at(i);
		uint32_t format = row->form.key && row->form.format > row->format ? row->form.format : row->format;
		newest = format > newest ? format : newest;
	}
	return newest;
}

/* ---- Reading ---- */

struct reader {
	const struct tt_safetensors *file;
	struct tt_policy *policy;
	uint32_t format;
	bool layers[TT_MAX_LAYERS];   /* the layers that have a direction */
	bool observed[TT_MAX_LAYERS]; /* the layers that the gate reads */
	struct tt_error *err;
};

/* A PyTorch file begins with the mark of a zip file or of a pickle. A pickle begins with 0x80, which the header length
 * of a safetensors file may begin with too; such a file has { as its byte 8. */
int tt_policy_refuse_pickle(const char *path, bool *gguf, struct tt_error *err)
{
	unsigned char head[9] = {0};
	FILE *file = fopen(path, "rb");
	*gguf = false;
	if (!file)
		return tt_fail_io(err, path, "open");
	size_t n = fread(head, 1, sizeof head, file);
	int status = ferror(file) ? tt_fail_io(err, path, "read") : TT_OK;
	fclose(file);
	TT_TRY(status);
	bool zip = n >= 4 && memcmp(head, "PK\003\004", 4) == 0;
	bool pickle = n >= 2 && head[0] == 0x80 && head[1] <= 5 && !(n == 9 && head[8] == '{');
	if (zip || pickle)
		return tt_fail(err, TT_ERR_FORMAT,
			"%s: this is a %s, which can run code when it is read; it will not be read. "
			"vectors_to_gguf.py makes a control vector of one that holds vectors alone; it is in "
			"scripts/setup of "
			"the source, in share/doc/trimtab where trimtab is installed",
			path, zip ? "zip file, as PyTorch writes its pickles" : "pickle (PyTorch) file");
	*gguf = n >= 4 && memcmp(head, "GGUF", 4) == 0;
	return TT_OK;
}

/* *out is NULL if the key is optional and absent. */
static int read_key(const struct reader *r, const char *key, bool required, const char **out)
{
	*out = tt_safetensors_metadata(r->file, key);
	if (!*out && required)
		return tt_fail(r->err, TT_ERR_FORMAT, "%s is missing", key);
	if (*out && strlen(*out) > TT_MAX_POLICY_TEXT)
		return tt_fail(r->err, TT_ERR_FORMAT, "%s is longer than %d bytes", key, TT_MAX_POLICY_TEXT);
	return TT_OK;
}

static bool is_rule_key(const char *key)
{
	return strcmp(key, rule_key) == 0 || strcmp(key, conditions_key) == 0;
}

static bool is_form_key(const char *key, uint32_t format)
{
	for (uint32_t i = 0; i < n_rows(); i++) {
		const struct tt_policy_form *form = &row_at(i)->form;
		if (form->key && form->format <= format && strcmp(key, form->key) == 0)
			return true;
	}
	return false;
}

static int check_keys(struct reader *r)
{
	const char *format;
	TT_TRY(read_key(r, "trimtab.format", true, &format));
	for (r->format = FIRST_FORMAT; r->format <= newest_format(); r->format++) {
		char word[16];
		snprintf(word, sizeof word, "%u", r->format);
		if (strcmp(format, word) == 0)
			break;
	}
	if (r->format > newest_format())
		return tt_fail(r->err, TT_ERR_UNSUPPORTED, "trimtab.format is \"%.40s\"; this build reads %d to %u",
			format, FIRST_FORMAT, newest_format());
	for (size_t i = 0; i < r->file->n_metadata; i++) {
		const char *key = r->file->metadata[i].key;
		bool known = strncmp(key, "trimtab.", 8) != 0 || is_form_key(key, r->format);
		known = known || (r->format >= POOL_FORMAT && strcmp(key, pool_key) == 0);
		known = known || (r->format >= RULE_FORMAT && is_rule_key(key));
		for (size_t k = 0; !known && k < N_KNOWN_KEYS; k++)
			known = strcmp(key, known_keys[k]) == 0;
		if (!known)
			return tt_fail(r->err, TT_ERR_FORMAT, "%.100s is not a key of format %u", key, r->format);
	}
	return TT_OK;
}

static int not_a_word(const struct reader *r, const char *key, const char *word)
{
	return tt_fail(r->err, TT_ERR_FORMAT, "%s: \"%.60s\" is not one of its words", key, word);
}

static int read_when(const struct reader *r, enum tt_policy_when *when)
{
	const char *word;
	TT_TRY(read_key(r, "trimtab.when", true, &word));
	for (*when = TT_WHEN_GENERATION; *when <= TT_WHEN_ALL; ++*when)
		if (strcmp(word, tt_when_word(*when)) == 0)
			return TT_OK;
	return not_a_word(r, "trimtab.when", word);
}

/* Refuses a row that is newer than the file's format: a reader of that format would not know it. */
static int check_age(const struct reader *r, const char *key, const struct tt_policy_row *row)
{
	if (row->format > r->format)
		return tt_fail(r->err, TT_ERR_FORMAT, "%s: %s needs trimtab.format %u, the file says %u", key,
			row->word, row->format, r->format);
	return TT_OK;
}

static int read_operation(const struct reader *r)
{
	const char *word;
	enum tt_policy_op op;
	TT_TRY(read_key(r, "trimtab.op", true, &word));
	if (!tt_operation_find(word, &op))
		return not_a_word(r, "trimtab.op", word);
	TT_TRY(check_age(r, "trimtab.op", &tt_operation_of(op)->row));
	return tt_policy_set_operation(r->policy, op, r->err);
}

static int read_gate_word(const struct reader *r)
{
	const char *word;
	TT_TRY(read_key(r, "trimtab.gate", true, &word));
	if (!tt_gate_find(word, &r->policy->gate))
		return not_a_word(r, "trimtab.gate", word);
	return check_age(r, "trimtab.gate", &tt_gate_of(r->policy->gate)->row);
}

/* Which form of the row the file chooses: the first if it names none. */
static int read_form(const struct reader *r, const struct tt_policy_row *row, uint32_t *index)
{
	const char *word;
	*index = 0;
	if (!row->form.key)
		return TT_OK;
	TT_TRY(read_key(r, row->form.key, false, &word));
	int found = word ? tt_form_find(&row->form, word) : 0;
	if (found < 0)
		return not_a_word(r, row->form.key, word);
	*index = (uint32_t)found;
	return TT_OK;
}

/* Uses the JSON parser because, unlike strtod, it does not follow the locale. */
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

/* Finds the tensor of this name, which must be f32 and have this shape; a shape[0] of 0 stands for any size. */
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

/* The policy's dimensions are those of `weight` and of the first direction. Everything else is compared with them. */
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

/* Refuses a key that belongs to another operation or gate, because whoever wrote it meant it to act. kind: "op" or
 * "gate". */
static int refuse_key(const struct reader *r, const char *key, const char *kind, const char *owner, const char *word)
{
	const char *value;
	TT_TRY(read_key(r, key, false, &value));
	if (value)
		return tt_fail(r->err, TT_ERR_FORMAT, "%s belongs to %s %s, but trimtab.%s is %s", key, kind, owner,
			kind, word);
	return TT_OK;
}

static int refuse_other_forms(const struct reader *r)
{
	const struct tt_policy_row *own[] = {&tt_operation_of(r->policy->op)->row, &tt_gate_of(r->policy->gate)->row};
	for (uint32_t i = 0; i < n_rows(); i++) {
		const struct tt_policy_row *row = row_at(i);
		bool is_gate = i >= tt_n_operations();
		if (row != own[is_gate] && row->form.key)
			TT_TRY(refuse_key(r, row->form.key, is_gate ? "gate" : "op", row->word, own[is_gate]->word));
	}
	return TT_OK;
}

static int refuse_rule(const struct reader *r, const struct tt_gate *gate)
{
	const char *owner = tt_gate_of(TT_GATE_RULE)->row.word;
	TT_TRY(refuse_key(r, rule_key, "gate", owner, gate->row.word));
	return refuse_key(r, conditions_key, "gate", owner, gate->row.word);
}

static int refuse_threshold(const struct reader *r, const struct tt_gate *gate)
{
	for (uint32_t i = 0; i < tt_n_gates(); i++)
		if (tt_gate_of(i)->threshold)
			return refuse_key(r, "trimtab.threshold", "gate", tt_gate_of(i)->row.word, gate->row.word);
	return TT_OK;
}

static int read_pool(const struct reader *r, enum tt_gate_pool *pool)
{
	const char *word;
	*pool = TT_POOL_LAST;
	TT_TRY(read_key(r, pool_key, false, &word));
	if (!word)
		return TT_OK;
	for (; tt_gate_pool_word(*pool); ++*pool)
		if (strcmp(word, tt_gate_pool_word(*pool)) == 0)
			return TT_OK;
	return not_a_word(r, pool_key, word);
}

/* Requires the keys of the policy's gate, and refuses those of other gates. */
static int read_gate_keys(struct reader *r)
{
	const struct tt_gate *gate = tt_gate_of(r->policy->gate);
	const char *observe, *threshold, *pool;
	TT_TRY(read_key(r, "trimtab.observe", gate->observes, &observe));
	TT_TRY(read_key(r, "trimtab.threshold", gate->threshold, &threshold));
	TT_TRY(read_key(r, pool_key, false, &pool));
	if ((observe || pool) && !gate->observes)
		return tt_fail(r->err, TT_ERR_FORMAT, "%s belongs to a gate, but trimtab.gate is %s",
			observe ? "trimtab.observe" : pool_key, gate->row.word);
	if (!gate->threshold)
		TT_TRY(refuse_threshold(r, gate));
	if (!gate->rule)
		TT_TRY(refuse_rule(r, gate));
	TT_TRY(refuse_other_forms(r));
	return observe ? tt_layers_parse(r->observed, r->policy->n_layers, observe, "trimtab.observe", r->err) : TT_OK;
}

static int read_metadata(struct reader *r)
{
	struct tt_policy *p = r->policy;
	TT_TRY(read_operation(r));
	TT_TRY(read_form(r, &tt_operation_of(p->op)->row, &p->form));
	TT_TRY(read_when(r, &p->when));
	TT_TRY(read_gate_word(r));
	TT_TRY(read_number(r, "trimtab.alpha", &p->alpha));
	TT_TRY(read_text(r, "trimtab.name", true, &p->name));
	TT_TRY(read_text(r, "trimtab.fingerprint", true, &p->fingerprint));
	TT_TRY(read_text(r, "trimtab.weights_digest", false, &p->weights_digest));
	TT_TRY(read_text(r, "trimtab.fitted_on", false, &p->fitted_on));
	TT_TRY(read_text(r, "trimtab.created", false, &p->created));
	TT_TRY(read_text(r, "trimtab.version", false, &p->version));
	return read_gate_keys(r);
}

static int print_template(struct tt_buffer *out, const char *sha256, struct tt_error *err)
{
	return sha256 ? tt_buffer_print(out, err, "%.12s...", sha256) : tt_buffer_print(out, err, "the model's");
}

int tt_policy_other_template(char **out, const struct tt_policy *policy, const char *sha256, struct tt_error *err)
{
	json_t *list = NULL;
	struct tt_buffer text = {0};
	int status = TT_OK;
	*out = NULL;
	if (!*policy->fitted_on)
		return TT_OK;
	TT_TRY(tt_json_parse(&list, policy->fitted_on, strlen(policy->fitted_on), "trimtab.fitted_on", err));
	const json_t *last = json_array_size(list) ? json_array_get(list, json_array_size(list) - 1) : NULL;
	const char *own = json_string_value(json_object_get(last, "chat_template"));
	/* What was imported has no rows, and says nothing of templates. */
	bool is_known = own || json_integer_value(json_object_get(last, "rows")) > 0;
	if (is_known && strcmp(own ? own : "", sha256 ? sha256 : "") != 0) {
		status =
			tt_buffer_print(&text, err, "policy %s was fitted under another chat template (", policy->name);
		status = status == TT_OK ? print_template(&text, own, err) : status;
		status = status == TT_OK ? tt_buffer_print(&text, err, " there, ") : status;
		status = status == TT_OK ? print_template(&text, sha256, err) : status;
		status = status == TT_OK ? tt_buffer_print(&text, err, " here)") : status;
	}
	json_decref(list);
	if (status == TT_OK)
		*out = text.data;
	else
		tt_buffer_free(&text);
	return status;
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

/* Copies a tensor of the row into the policy; only the part of one layer if it is layered. A file may write a matrix
 * [1, d] as [d]. */
static int read_tensor(const struct reader *r, const struct tt_policy_tensor *tensor, uint32_t layer)
{
	const struct tt_st_tensor *t;
	uint64_t dims[2];
	uint32_t n_dims = tt_tensor_dims(r->policy, tensor->shape, dims);
	size_t n = tt_tensor_part(r->policy, tensor->shape);
	size_t first = tt_tensor_is_layered(tensor->shape) ? layer * n : 0;
	char name[NAME_SIZE];
	tt_tensor_name(name, sizeof name, tensor, layer);
	t = tt_safetensors_find(r->file, name);
	bool one_row = tensor->shape == TT_SHAPE_LAYER_MATRIX && t && t->n_dims == 1 && dims[0] == 1;
	TT_TRY(find_tensor(r, name, one_row ? 1 : n_dims, one_row ? dims + 1 : dims, &t));
	memcpy(tt_tensor_values(r->policy, tensor) + first, t->data, n * sizeof(float));
	return TT_OK;
}

static int read_layer(const struct reader *r, uint32_t layer, size_t *n_tensors)
{
	const struct tt_policy_row *row = &tt_operation_of(r->policy->op)->row;
	for (uint32_t i = 0; i < row->n_tensors; i++)
		TT_TRY(read_tensor(r, &row->tensors[i], layer));
	*n_tensors += row->n_tensors;
	return TT_OK;
}

/* The gate's first matrix gives the number of units. The other tensors are compared with it. */
static int read_units(const struct reader *r, const struct tt_gate *gate, uint64_t n_in, uint32_t *n_units)
{
	uint32_t matrix = 0;
	while (gate->row.tensors[matrix].shape != TT_SHAPE_UNITS_INPUT)
		matrix++;
	const char *name = gate->row.tensors[matrix].name;
	const struct tt_st_tensor *first = tt_safetensors_find(r->file, name);
	if (!first || first->n_dims != 2 || first->shape[0] < 1 || first->shape[0] > TT_MAX_UNITS)
		return tt_fail(r->err, TT_ERR_FORMAT,
			first ? "tensor %s must have shape [n, %llu], n from 1 to %d"
			      : "tensor %s is missing ([n, %llu], n from 1 to %d)",
			name, (unsigned long long)n_in, TT_MAX_UNITS);
	*n_units = (uint32_t)first->shape[0];
	return TT_OK;
}

static int read_gate(struct reader *r, size_t *n_tensors)
{
	struct tt_policy *p = r->policy;
	const struct tt_gate *gate = tt_gate_of(p->gate);
	uint32_t layers[TT_MAX_LAYERS];
	struct tt_gate_choice choice = {.gate = p->gate, .observed = layers};
	for (uint32_t l = 0; l < p->n_layers; l++)
		if (r->observed[l])
			layers[choice.n_observed++] = l;
	TT_TRY(read_form(r, &gate->row, &choice.form));
	TT_TRY(read_pool(r, &choice.pool));
	uint64_t n_in = (uint64_t)tt_gate_vectors(choice.pool, choice.n_observed) * p->hidden_size;
	if (gate->units)
		TT_TRY(read_units(r, gate, n_in, &choice.n_units));
	if (gate->rule) {
		TT_TRY(read_key(r, rule_key, true, &choice.rule));
		TT_TRY(read_key(r, conditions_key, true, &choice.conditions));
	}
	TT_TRY(tt_policy_set_gate(p, &choice, r->err));
	if (gate->threshold)
		TT_TRY(read_number(r, "trimtab.threshold", &p->threshold));
	for (uint32_t i = 0; i < gate->row.n_tensors; i++)
		TT_TRY(read_tensor(r, &gate->row.tensors[i], 0));
	*n_tensors += gate->row.n_tensors;
	return TT_OK;
}

static bool row_has(const struct tt_policy_row *row, const char *name, uint32_t layer)
{
	char expected[NAME_SIZE];
	for (uint32_t i = 0; i < row->n_tensors; i++) {
		tt_tensor_name(expected, sizeof expected, &row->tensors[i], layer);
		if (strcmp(name, expected) == 0)
			return true;
	}
	return false;
}

/* Every known tensor has been found and counted, so if the file has more, some are unknown. */
static int refuse_other_tensors(const struct reader *r, size_t n_known)
{
	if (r->file->n_tensors == n_known)
		return TT_OK;
	for (size_t i = 0; i < r->file->n_tensors; i++) {
		const char *name = r->file->tensors[i].name;
		bool known = strcmp(name, "weight") == 0 || row_has(&tt_gate_of(r->policy->gate)->row, name, 0);
		for (uint32_t l = 0; !known && l < r->policy->n_layers; l++)
			known = r->layers[l] && row_has(&tt_operation_of(r->policy->op)->row, name, l);
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

static int load_safetensors(struct tt_policy **out, const char *path, struct tt_error *err)
{
	struct tt_safetensors *file = NULL;
	TT_TRY(tt_safetensors_open(&file, path, err));
	struct reader r = {.file = file, .err = err};
	int status = tt_within(read_policy(&r), err, path);
	*out = r.policy;
	tt_safetensors_close(file);
	return status;
}

int tt_policy_load(struct tt_policy **out, const char *path, struct tt_error *err)
{
	bool gguf;
	TT_TRY(tt_need(out, "out", err));
	*out = NULL;
	TT_TRY(tt_need(path, "path", err));
	TT_TRY(tt_policy_refuse_pickle(path, &gguf, err));
	int status = gguf ? tt_control_vector_load(out, path, err) : load_safetensors(out, path, err);
	if (status == TT_OK)
		status = tt_within(tt_file_resolve(&(*out)->path, path, err), err, path);
	if (status != TT_OK) {
		tt_policy_free(*out);
		*out = NULL;
	}
	return status;
}

/* ---- Writing ---- */

struct writer {
	struct tt_st_tensor tensors[MAX_TENSORS];
	char names[MAX_TENSORS][NAME_SIZE];
	size_t n_tensors;
	struct tt_st_pair metadata[N_KNOWN_KEYS + N_FORM_KEYS + 3]; /* and pool_key, rule_key, conditions_key */
	size_t n_metadata;
	struct tt_buffer layers, observe, conditions;
	char *alpha, *threshold, format[16];
};

static void put_tensor(struct writer *w, const char *name, uint32_t n_dims, const uint64_t *dims, const float *data)
{
	struct tt_st_tensor *t = &w->tensors[w->n_tensors];
	snprintf(w->names[w->n_tensors], NAME_SIZE, "%s", name);
	*t = (struct tt_st_tensor){.name = w->names[w->n_tensors], .dtype = TT_DTYPE_F32, .data = data};
	t->n_dims = n_dims;
	memcpy(t->shape, dims, n_dims * sizeof *dims);
	w->n_tensors++;
}

/* Adds the tensors of the row; only the part of one layer if they are layered. */
static void put_row(struct writer *w, const struct tt_policy *p, const struct tt_policy_row *row, uint32_t layer)
{
	for (uint32_t i = 0; i < row->n_tensors; i++) {
		const struct tt_policy_tensor *tensor = &row->tensors[i];
		size_t first = tt_tensor_is_layered(tensor->shape) ? layer * tt_tensor_part(p, tensor->shape) : 0;
		uint64_t dims[2];
		uint32_t n_dims = tt_tensor_dims(p, tensor->shape, dims);
		char name[NAME_SIZE];
		tt_tensor_name(name, sizeof name, tensor, layer);
		put_tensor(w, name, n_dims, dims, tt_tensor_values(p, tensor) + first);
	}
}

/* Leaves an empty text out, because the reader takes an absent one as empty. */
static void put(struct writer *w, const char *key, const char *value)
{
	if (value && *value)
		w->metadata[w->n_metadata++] = (struct tt_st_pair){key, value};
}

/* Nine digits are enough to read every f32 back bit for bit. */
static int print_float(char **out, float value, struct tt_error *err)
{
	return tt_json_dump(out, json_real(value), JSON_ENCODE_ANY | JSON_REAL_PRECISION(9), err);
}

static void put_form(struct writer *w, const struct tt_policy_row *row, uint32_t index)
{
	if (tt_form_is_written(row, index))
		put(w, row->form.key, row->form.words[index]);
}

static int put_gate(struct writer *w, const struct tt_policy *p, struct tt_error *err)
{
	const struct tt_gate *gate = tt_gate_of(p->gate);
	bool member[TT_MAX_LAYERS] = {false};
	for (uint32_t i = 0; i < p->n_observed; i++)
		member[p->observed[i]] = true;
	if (gate->observes)
		TT_TRY(tt_layers_print(&w->observe, member, p->n_layers, err));
	put(w, "trimtab.observe", w->observe.data);
	if (gate->threshold)
		TT_TRY(print_float(&w->threshold, p->threshold, err));
	put(w, "trimtab.threshold", w->threshold);
	put_form(w, &gate->row, p->gate_form);
	if (p->pool != TT_POOL_LAST)
		put(w, pool_key, tt_gate_pool_word(p->pool));
	put(w, rule_key, p->rule.text);
	TT_TRY(tt_rule_print_conditions(&w->conditions, &p->rule, err));
	put(w, conditions_key, w->conditions.data);
	put_row(w, p, &gate->row, 0);
	return TT_OK;
}

/* Writes the oldest format that has everything the policy uses, so that older readers read it if they can. */
static void print_format(struct writer *w, const struct tt_policy *p)
{
	uint32_t op = tt_policy_row_format(&tt_operation_of(p->op)->row, p->form);
	uint32_t gate = tt_policy_row_format(&tt_gate_of(p->gate)->row, p->gate_form);
	if (p->pool != TT_POOL_LAST && gate < POOL_FORMAT)
		gate = POOL_FORMAT;
	snprintf(w->format, sizeof w->format, "%u", op > gate ? op : gate);
}

static int put_policy(struct writer *w, const struct tt_policy *p, struct tt_error *err)
{
	const struct tt_policy_row *op = &tt_operation_of(p->op)->row;
	const uint64_t n_layers = p->n_layers;
	bool member[TT_MAX_LAYERS] = {false};
	for (uint32_t l = 0; l < p->n_layers; l++) {
		member[l] = tt_policy_has_direction(p, l);
		if (member[l])
			put_row(w, p, op, l);
	}
	put_tensor(w, "weight", 1, &n_layers, p->weights);
	TT_TRY(tt_layers_print(&w->layers, member, p->n_layers, err));
	TT_TRY(print_float(&w->alpha, p->alpha, err));
	print_format(w, p);
	put(w, "trimtab.format", w->format);
	put(w, "trimtab.name", p->name);
	put(w, "trimtab.fingerprint", p->fingerprint);
	put(w, "trimtab.weights_digest", p->weights_digest);
	put(w, "trimtab.op", op->word);
	put_form(w, op, p->form);
	put(w, "trimtab.when", tt_when_word(p->when));
	put(w, "trimtab.layers", w->layers.data);
	put(w, "trimtab.alpha", w->alpha);
	put(w, "trimtab.gate", tt_gate_of(p->gate)->row.word);
	put(w, "trimtab.fitted_on", p->fitted_on);
	put(w, "trimtab.created", p->created);
	put(w, "trimtab.version", p->version);
	return put_gate(w, p, err);
}

/* Refuses texts that the reader would refuse. */
static int check_texts(const struct tt_policy *policy, struct tt_error *err)
{
	const struct {
		const char *key, *text;
		size_t most;
	} texts[] = {{"trimtab.name", policy->name, TT_MAX_POLICY_NAME},
		{"trimtab.fingerprint", policy->fingerprint, TT_MAX_POLICY_TEXT},
		{"trimtab.weights_digest", policy->weights_digest, TT_MAX_POLICY_TEXT},
		{"trimtab.fitted_on", policy->fitted_on, TT_MAX_POLICY_TEXT},
		{"trimtab.created", policy->created, TT_MAX_POLICY_TEXT},
		{"trimtab.version", policy->version, TT_MAX_POLICY_TEXT}};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (strlen(texts[i].text) > texts[i].most)
			return tt_fail(
				err, TT_ERR_ARGUMENT, "%s is longer than %zu bytes", texts[i].key, texts[i].most);
	return TT_OK;
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
	TT_TRY(tt_within(check_texts(policy, err), err, path));
	TT_TRY(tt_alloc(&w, 1, sizeof *w, err));
	int status = put_policy(w, policy, err);
	if (status == TT_OK)
		status = tt_safetensors_write(path, w->tensors, w->n_tensors, w->metadata, w->n_metadata, err);
	tt_buffer_free(&w->layers);
	tt_buffer_free(&w->observe);
	tt_buffer_free(&w->conditions);
	free(w->alpha);
	free(w->threshold);
	free(w);
	return status;
}
