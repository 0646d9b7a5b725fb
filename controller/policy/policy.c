#include "controller/policy/policy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "controller/policy/layer_list.h"
#include "weights/config.h"

int tt_policy_set_text(char **field, const char *text, struct tt_error *err)
{
	char *copy = NULL;
	TT_TRY(tt_copy_string(&copy, text, strlen(text), err));
	free(*field);
	*field = copy;
	return TT_OK;
}

static int policy_check_size(uint32_t n_layers, uint32_t hidden_size, uint32_t n_directions, struct tt_error *err)
{
	size_t floats = 0;
	if (n_layers < 1 || n_layers > TT_MAX_LAYERS)
		return tt_fail(err, TT_ERR_FORMAT, "policy: %u layers, must be 1 to %d", n_layers, TT_MAX_LAYERS);
	if (hidden_size < 1 || hidden_size > TT_MAX_HIDDEN)
		return tt_fail(err, TT_ERR_FORMAT, "policy: width %u, must be 1 to %d", hidden_size, TT_MAX_HIDDEN);
	if (n_directions < 1 || n_directions > TT_MAX_DIRECTIONS)
		return tt_fail(err, TT_ERR_FORMAT, "policy: %u directions a layer, must be 1 to %d", n_directions,
			TT_MAX_DIRECTIONS);
	if (!tt_mul_size((size_t)n_layers * n_directions, hidden_size, &floats) || floats > TT_MAX_POLICY_FLOATS)
		return tt_fail(err, TT_ERR_LIMIT, "policy: %u layers of %u directions of width %u are too large",
			n_layers, n_directions, hidden_size);
	return TT_OK;
}

static int policy_allocate(struct tt_policy *p, struct tt_error *err)
{
	char **texts[] = {&p->name, &p->fingerprint, &p->weights_digest, &p->fitted_on, &p->created, &p->version};
	TT_TRY(tt_policy_row_allocate(p, &tt_operation_of(p->op)->row, err));
	TT_TRY(tt_alloc(&p->weights, p->n_layers, sizeof *p->weights, err));
	TT_TRY(tt_alloc(&p->norms, p->n_layers, sizeof *p->norms, err));
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		TT_TRY(tt_copy_string(texts[i], "", 0, err));
	return TT_OK;
}

int tt_policy_new(
	struct tt_policy **out, uint32_t n_layers, uint32_t hidden_size, uint32_t n_directions, struct tt_error *err)
{
	struct tt_policy *p = NULL;
	*out = NULL;
	TT_TRY(policy_check_size(n_layers, hidden_size, n_directions, err));
	TT_TRY(tt_alloc(&p, 1, sizeof *p, err));
	p->op = TT_OP_ADD;
	p->when = TT_WHEN_GENERATION;
	p->gate = TT_GATE_ALWAYS;
	p->alpha = 1;
	p->n_layers = n_layers;
	p->hidden_size = hidden_size;
	p->n_directions = n_directions;
	int status = policy_allocate(p, err);
	if (status != TT_OK) {
		tt_policy_free(p);
		return status;
	}
	*out = p;
	return TT_OK;
}

void tt_policy_free(struct tt_policy *p)
{
	if (!p)
		return;
	void *owned[] = {p->name, p->weights, p->norms, p->observed, p->fingerprint, p->weights_digest, p->fitted_on,
		p->created, p->version, p->path, p->model_hint};
	for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
		free(owned[i]);
	for (uint32_t i = 0; i < tt_n_operations(); i++)
		tt_policy_row_free(p, &tt_operation_of(i)->row);
	for (uint32_t i = 0; i < tt_n_gates(); i++)
		tt_policy_row_free(p, &tt_gate_of(i)->row);
	free(p);
}

int tt_policy_set_operation(struct tt_policy *p, enum tt_policy_op op, struct tt_error *err)
{
	float *directions = p->directions;
	if (!tt_operation_of(op))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "policy: op %d is none of those there are", (int)op);
	p->directions = NULL;
	for (uint32_t i = 0; i < tt_n_operations(); i++)
		tt_policy_row_free(p, &tt_operation_of(i)->row);
	p->directions = directions;
	p->op = op;
	p->form = 0;
	return tt_policy_row_allocate(p, &tt_operation_of(op)->row, err);
}

static int check_pool(const struct tt_gate *gate, enum tt_gate_pool pool, uint32_t n_observed, struct tt_error *err)
{
	const char *word = tt_gate_pool_word(pool);
	if (!word)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "policy: pool %d is none of those there are", (int)pool);
	if (pool == TT_POOL_LAST)
		return TT_OK;
	if (!gate->observes)
		return tt_fail(err, TT_ERR_FORMAT, "policy: a gate of kind %s observes no layer, so it cannot pool %s",
			gate->row.word, word);
	if (n_observed > TT_MAX_POOLED)
		return tt_fail(err, TT_ERR_LIMIT, "policy: a gate that pools %s observes at most %d layers, not %u",
			word, TT_MAX_POOLED, n_observed);
	return TT_OK;
}

static int check_choice(const struct tt_policy *p, const struct tt_gate *gate, const struct tt_gate_choice *choice,
	struct tt_error *err)
{
	uint32_t n_observed = choice->n_observed, n_units = choice->n_units;
	size_t n_weights = 0, n_in = (size_t)tt_gate_vectors(choice->pool, n_observed) * p->hidden_size;
	if (choice->form > 0 && !(gate->row.form.key && choice->form < TT_MAX_ROW_FORMS))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "policy: gate %s has no form %u", gate->row.word, choice->form);
	if (gate->observes ? n_observed < 1 || n_observed > p->n_layers : n_observed > 0)
		return tt_fail(err, TT_ERR_FORMAT, "policy: a gate of kind %s observes %s%u layers, not %u",
			gate->row.word, gate->observes ? "1 to " : "", gate->observes ? p->n_layers : 0, n_observed);
	if (gate->units ? n_units < 1 || n_units > TT_MAX_UNITS : n_units > 0)
		return tt_fail(err, TT_ERR_FORMAT, "policy: %u hidden units of gate %s, must be %s%d", n_units,
			gate->row.word, gate->units ? "1 to " : "", gate->units ? TT_MAX_UNITS : 0);
	if (gate->rule != (choice->rule != NULL))
		return tt_fail(err, TT_ERR_FORMAT, "policy: gate %s %s", gate->row.word,
			gate->rule ? "needs a rule" : "takes no rule");
	TT_TRY(check_pool(gate, choice->pool, n_observed, err));
	if (!tt_mul_size(n_in, n_units, &n_weights) || n_weights > TT_MAX_POLICY_FLOATS)
		return tt_fail(err, TT_ERR_LIMIT, "policy: gate %s of %u units on %u layers of width %u is too large",
			gate->row.word, n_units, n_observed, p->hidden_size);
	return TT_OK;
}

int tt_policy_set_gate(struct tt_policy *p, const struct tt_gate_choice *choice, struct tt_error *err)
{
	const struct tt_gate *row = tt_gate_of(choice->gate);
	struct tt_rule rule = {0};
	uint32_t *layers = NULL;
	if (!row)
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "policy: gate %d is none of those there are", (int)choice->gate);
	TT_TRY(check_choice(p, row, choice, err));
	if (row->rule)
		TT_TRY(tt_within(
			tt_rule_parse(&rule, choice->conditions, choice->rule, err), err, "trimtab.gate.rule"));
	TT_TRY(tt_alloc(&layers, choice->n_observed, sizeof *layers, err));
	if (choice->n_observed > 0)
		memcpy(layers, choice->observed, choice->n_observed * sizeof *layers);
	free(p->observed);
	for (uint32_t i = 0; i < tt_n_gates(); i++)
		tt_policy_row_free(p, &tt_gate_of(i)->row);
	p->observed = layers;
	p->n_observed = choice->n_observed;
	p->n_units = choice->n_units;
	p->rule = rule;
	p->pool = choice->pool;
	p->gate_form = choice->form;
	p->gate_bias = 0;
	p->threshold = row->initial;
	p->gate = choice->gate; /* its tensors have their shapes from it */
	int status = tt_policy_row_allocate(p, &row->row, err);
	if (status != TT_OK) {
		p->gate = TT_GATE_ALWAYS;
		p->rule = (struct tt_rule){0};
	}
	return status;
}

static bool all_finite(const float *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isfinite(values[i]))
			return false;
	return true;
}

static bool all_zero(const float *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (values[i] != 0)
			return false;
	return true;
}

static const float *layer_rows(const struct tt_policy *p, uint32_t layer)
{
	return p->directions + (size_t)layer * p->n_directions * p->hidden_size;
}

bool tt_policy_has_direction(const struct tt_policy *p, uint32_t layer)
{
	return !all_zero(layer_rows(p, layer), (size_t)p->n_directions * p->hidden_size);
}

bool tt_policy_band(const struct tt_policy *p, uint32_t *first, uint32_t *last)
{
	bool found = false;
	for (uint32_t l = 0; l < p->n_layers; l++) {
		if (p->weights[l] == 0 || !tt_policy_has_direction(p, l))
			continue;
		if (!found)
			*first = l;
		*last = l;
		found = true;
	}
	return found;
}

int tt_policy_keep_layers(struct tt_policy *p, const char *layers, struct tt_error *err)
{
	bool member[TT_MAX_LAYERS] = {false};
	uint32_t first, last;
	TT_TRY(tt_need(p, "policy", err));
	TT_TRY(tt_need(layers, "layers", err));
	/* A control vector knows its own last layer, and not its model's. */
	TT_TRY(tt_layers_parse(member, p->model_hint ? TT_MAX_LAYERS : p->n_layers, layers, "layers", err));
	for (uint32_t l = 0; l < p->n_layers; l++)
		if (!member[l])
			p->weights[l] = 0;
	if (!tt_policy_band(p, &first, &last))
		return tt_fail(err, TT_ERR_ARGUMENT, "layers: policy %s steers none of \"%.60s\"", p->name, layers);
	return TT_OK;
}

static double dot(const double *a, const double *b, size_t n)
{
	double sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

/* Rows in a file that this library wrote are orthonormal up to the rounding to f32, which is about 1e-7. */
static bool rows_are_orthonormal(const double *rows, uint32_t n_rows, uint32_t d)
{
	for (uint32_t i = 0; i < n_rows; i++)
		for (uint32_t k = 0; k <= i; k++)
			if (fabs(dot(rows + (size_t)i * d, rows + (size_t)k * d, d) - (i == k)) > 1e-6)
				return false;
	return true;
}

/* Subtracts from row k its part along each earlier row, which is a unit vector. The length of the part along row j is
 * added to along[j]. */
static void project_out(double *rows, uint32_t k, uint32_t d, double *along)
{
	double *row = rows + (size_t)k * d;
	for (uint32_t j = 0; j < k; j++) {
		const double *unit = rows + (size_t)j * d;
		double part = dot(row, unit, d);
		for (uint32_t i = 0; i < d; i++)
			row[i] -= part * unit[i];
		along[j] += part;
	}
}

/* Gram-Schmidt in place on rows [n_rows][d]. Every projection is subtracted twice, because a single pass leaves an
 * error of the rows' condition number times the rounding. A target follows its row: the given row k, made a unit
 * vector, is the sum of along[j] times new row j, plus left times new row k. So a projection of t_k on the given row is
 * a projection of (t_k - sum_j along[j] target_j) / left on the new one. */
static int orthonormalise(
	double *rows, float *targets, uint32_t n_rows, uint32_t d, uint32_t layer, struct tt_error *err)
{
	for (uint32_t k = 0; k < n_rows; k++) {
		double along[TT_MAX_DIRECTIONS] = {0}, *row = rows + (size_t)k * d;
		double norm = sqrt(dot(row, row, d));
		if (!(norm > 0) || !isfinite(norm))
			return tt_fail(err, TT_ERR_FORMAT, "policy: direction.%u row %u is zero", layer, k);
		for (uint32_t i = 0; i < d; i++)
			row[i] /= norm;
		project_out(rows, k, d, along);
		project_out(rows, k, d, along);
		double left = sqrt(dot(row, row, d));
		/* If less is left, the row is a sum of the earlier ones plus the rounding noise of its f32 numbers. */
		if (left < 1e-5)
			return tt_fail(err, TT_ERR_FORMAT, "policy: direction.%u row %u depends on the rows before it",
				layer, k);
		for (uint32_t i = 0; i < d; i++)
			row[i] /= left;
		if (!targets)
			continue;
		double target = targets[k];
		for (uint32_t j = 0; j < k; j++)
			target -= along[j] * targets[j];
		targets[k] = (float)(target / left);
	}
	return TT_OK;
}

/* The layer's part of the tensor that must change when the rows do, or NULL. */
static float *followers(const struct tt_policy *p, uint32_t layer)
{
	const struct tt_policy_row *row = &tt_operation_of(p->op)->row;
	for (uint32_t i = 0; i < row->n_tensors; i++)
		if (row->tensors[i].follows_rows)
			return tt_tensor_values(p, &row->tensors[i]) + (size_t)layer * p->n_directions;
	return NULL;
}

static int orthonormalise_layer(struct tt_policy *p, uint32_t layer, struct tt_error *err)
{
	size_t n = (size_t)p->n_directions * p->hidden_size;
	float *rows = p->directions + layer * n;
	double *exact = NULL;
	TT_TRY(tt_alloc(&exact, n, sizeof *exact, err));
	for (size_t i = 0; i < n; i++)
		exact[i] = rows[i];
	int status = TT_OK;
	if (!rows_are_orthonormal(exact, p->n_directions, p->hidden_size)) {
		float *targets = followers(p, layer);
		status = orthonormalise(exact, targets, p->n_directions, p->hidden_size, layer, err);
		for (size_t i = 0; status == TT_OK && i < n; i++)
			rows[i] = (float)exact[i];
	}
	free(exact);
	return status;
}

static int check_gate(const struct tt_policy *p, struct tt_error *err)
{
	const struct tt_gate *gate = tt_gate_of(p->gate);
	if (!gate)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "policy: gate %d is none of those there are", (int)p->gate);
	if (gate->observes && (!p->observed || p->n_observed < 1))
		return tt_fail(err, TT_ERR_FORMAT, "policy: the gate observes no layer");
	TT_TRY(check_pool(gate, p->pool, p->n_observed, err));
	for (uint32_t i = 0; gate->observes && i < p->n_observed; i++)
		if (p->observed[i] >= p->n_layers || (i && p->observed[i] <= p->observed[i - 1]))
			return tt_fail(err, TT_ERR_FORMAT, "policy: observe must name ascending layers 0 to %u, not %u",
				p->n_layers - 1, p->observed[i]);
	for (uint32_t i = 0; i < gate->row.n_tensors; i++) {
		const struct tt_policy_tensor *tensor = &gate->row.tensors[i];
		const float *values = tt_tensor_values(p, tensor);
		if (!values)
			return tt_fail(err, TT_ERR_FORMAT, "policy: the %s has no %s", gate->row.word, tensor->name);
		if (!all_finite(values, tt_tensor_size(p, tensor->shape)))
			return tt_fail(
				err, TT_ERR_FORMAT, "policy: %s holds a number that is not finite", tensor->name);
		size_t row = tt_tensor_size(p, tensor->shape) / (gate->rule ? p->rule.n : 1);
		for (size_t k = 0; tensor->not_zero && k < tt_tensor_size(p, tensor->shape); k += row)
			if (all_zero(values + k, row))
				return tt_fail(err, TT_ERR_FORMAT, "policy: %s is zero%s%s", tensor->name,
					gate->rule ? " for condition " : "", gate->rule ? p->rule.names[k / row] : "");
	}
	for (uint32_t k = 0; k < p->rule.n; k++)
		if (!(p->thresholds[k] >= gate->least && p->thresholds[k] <= gate->most))
			return tt_fail(err, TT_ERR_FORMAT, "policy: gate.thresholds must be %g to %g",
				(double)gate->least, (double)gate->most);
	if (gate->threshold && !(p->threshold >= gate->least && p->threshold <= gate->most))
		return tt_fail(err, TT_ERR_FORMAT, "policy: threshold must be %g to %g", (double)gate->least,
			(double)gate->most);
	return TT_OK;
}

static int check_part(
	const struct tt_policy *p, const struct tt_policy_tensor *tensor, uint32_t layer, struct tt_error *err)
{
	size_t n = tt_tensor_part(p, tensor->shape);
	const float *part = tt_tensor_values(p, tensor) + layer * n;
	char name[32];
	bool finite = all_finite(part, n);
	for (size_t i = 0; i < n && tensor->less_directions; i++)
		finite &= isfinite(part[i] - layer_rows(p, layer)[i]) != 0; /* the slot holds this difference */
	tt_tensor_name(name, sizeof name, tensor, layer);
	if (finite && tensor->not_zero && tt_policy_has_direction(p, layer) && all_zero(part, n))
		return tt_fail(err, TT_ERR_FORMAT, "policy: %s is zero", name);
	if (finite)
		return TT_OK;
	return tt_fail(err, TT_ERR_FORMAT, "policy: %s holds a number that is not finite%s", name,
		tensor->less_directions ? ", or too large" : "");
}

static int check_layer(const struct tt_policy *p, uint32_t l, struct tt_error *err)
{
	const struct tt_policy_row *row = &tt_operation_of(p->op)->row;
	TT_TRY(check_part(p, &row->tensors[0], l, err));
	if (!(p->weights[l] >= 0 && p->weights[l] <= 1))
		return tt_fail(err, TT_ERR_FORMAT, "policy: weight[%u] must be 0 to 1", l);
	if (p->weights[l] > 0 && !tt_policy_has_direction(p, l))
		return tt_fail(err, TT_ERR_FORMAT, "policy: weight[%u] is not 0 but the layer has no direction", l);
	for (uint32_t i = 1; i < row->n_tensors; i++)
		TT_TRY(check_part(p, &row->tensors[i], l, err));
	return TT_OK;
}

static bool has_member(const struct tt_policy_row *row, size_t member)
{
	bool found = false;
	for (uint32_t i = 0; i < row->n_tensors; i++)
		found |= row->tensors[i].member == member;
	return found;
}

/* The policy has the tensors of its own operation, and none of another. */
static int check_tensors(const struct tt_policy *p, const struct tt_policy_row *own, struct tt_error *err)
{
	for (uint32_t op = 0; op < tt_n_operations(); op++) {
		const struct tt_policy_row *row = &tt_operation_of(op)->row;
		for (uint32_t i = 0; i < row->n_tensors; i++) {
			const struct tt_policy_tensor *tensor = &row->tensors[i];
			bool there = tt_tensor_values(p, tensor) != NULL, wanted = has_member(own, tensor->member);
			if (there != wanted)
				return tt_fail(err, TT_ERR_FORMAT, "policy: op %s %s %s", own->word,
					wanted ? "has no" : "does not take", tensor->name);
		}
	}
	return TT_OK;
}

static int check_head(const struct tt_policy *p, struct tt_error *err)
{
	const struct tt_operation *op = tt_operation_of(p->op);
	if (!op)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "policy: op %d is none of those there are", (int)p->op);
	if (p->when < TT_WHEN_GENERATION || p->when > TT_WHEN_ALL)
		return tt_fail(err, TT_ERR_FORMAT, "policy: when must be generation, last or all");
	if (op->max_rows == 1 && p->n_directions != 1)
		return tt_fail(err, TT_ERR_FORMAT, "policy: op %s takes one direction a layer, not %u", op->row.word,
			p->n_directions);
	if (op->min_rows == op->max_rows && p->n_directions != op->max_rows)
		return tt_fail(err, TT_ERR_FORMAT, "policy: op %s takes %u directions a layer, not %u", op->row.word,
			op->max_rows, p->n_directions);
	if (p->n_directions < op->min_rows || p->n_directions > op->max_rows)
		return tt_fail(err, TT_ERR_FORMAT, "policy: op %s takes %u to %u directions a layer, not %u",
			op->row.word, op->min_rows, op->max_rows, p->n_directions);
	TT_TRY(check_tensors(p, &op->row, err));
	if (!isfinite(p->alpha))
		return tt_fail(err, TT_ERR_FORMAT, "policy: alpha is not finite");
	if (strlen(p->name) > TT_MAX_POLICY_NAME)
		return tt_fail(err, TT_ERR_FORMAT, "policy: name is longer than %d bytes", TT_MAX_POLICY_NAME);
	return TT_OK;
}

int tt_policy_finish(struct tt_policy *p, struct tt_error *err)
{
	uint32_t first = 0, last = 0;
	TT_TRY(check_head(p, err));
	TT_TRY(check_gate(p, err));
	for (uint32_t l = 0; l < p->n_layers; l++) {
		TT_TRY(check_layer(p, l, err));
		if (tt_operation_of(p->op)->orthonormal && tt_policy_has_direction(p, l))
			TT_TRY(orthonormalise_layer(p, l, err));
		double sum = 0;
		for (size_t i = 0; i < (size_t)p->n_directions * p->hidden_size; i++)
			sum += (double)layer_rows(p, l)[i] * layer_rows(p, l)[i];
		p->norms[l] = (float)sqrt(sum);
		if (!isfinite(p->norms[l]))
			return tt_fail(err, TT_ERR_FORMAT, "policy: direction.%u is too large", l);
	}
	if (!tt_policy_band(p, &first, &last))
		return tt_fail(err, TT_ERR_FORMAT, "policy: every weight is 0, so that no layer would be steered");
	return TT_OK;
}

int tt_policy_digest(const struct tt_policy *p, uint8_t digest[32], struct tt_error *err)
{
	const struct tt_policy_row *row = &tt_operation_of(p->op)->row;
	struct {
		uint32_t op, form, n_directions, n_tensors;
		uint8_t tensors[TT_MAX_ROW_TENSORS][32];
	} content = {.op = p->op, .form = p->form, .n_directions = p->n_directions, .n_tensors = row->n_tensors};
	for (uint32_t i = 0; i < row->n_tensors; i++)
		TT_TRY(tt_sha256_bytes(content.tensors[i], tt_tensor_values(p, &row->tensors[i]),
			tt_tensor_size(p, row->tensors[i].shape) * sizeof(float), err));
	return tt_sha256_bytes(digest, &content, sizeof content, err);
}

static const char *form_word(const struct tt_policy_row *row, uint32_t form)
{
	return tt_form_is_written(row, form) ? row->form.words[form] : "";
}

static const char *form_sentence(const struct tt_policy_row *row, uint32_t form)
{
	return row->form.sentences[form] ? row->form.sentences[form] : "";
}

void tt_policy_describe(const struct tt_policy *p, struct tt_policy_info *info)
{
	if (!info)
		return;
	*info = (struct tt_policy_info){0};
	if (!p)
		return;
	const struct tt_operation *op = tt_operation_of(p->op);
	const struct tt_gate *gate = tt_gate_of(p->gate);
	*info = (struct tt_policy_info){
		.name = p->name,
		.op = p->op,
		.op_word = op->row.word,
		.op_sentence = op->row.sentence,
		.op_form = form_word(&op->row, p->form),
		.op_form_sentence = form_sentence(&op->row, p->form),
		.change = p->form ? TT_CHANGE_OTHER : op->change,
		.when = p->when,
		.gate = p->gate,
		.gate_word = gate->row.word,
		.gate_sentence = gate->row.sentence,
		.gate_form = form_word(&gate->row, p->gate_form),
		.n_layers = p->n_layers,
		.hidden_size = p->hidden_size,
		.n_directions = p->n_directions,
		.weights = p->weights,
		.norms = p->norms,
		.observed = p->observed,
		.n_observed = p->n_observed,
		.gate_pool = p->pool,
		.alpha = p->alpha,
		.has_threshold = gate->threshold,
		.opens_below = tt_gate_opens_below(p->gate, p->gate_form),
		.learns_layers = tt_gate_learns_layers(p->gate, p->gate_form),
		.threshold = p->threshold,
		.n_units = p->n_units,
		.n_conditions = p->rule.n,
		.rule = p->rule.text,
		.fingerprint = p->fingerprint,
		.weights_digest = p->weights_digest,
		.fitted_on = p->fitted_on,
		.created = p->created,
		.version = p->version,
	};
	for (uint32_t k = 0; k < p->rule.n; k++) {
		info->conditions[k] = p->rule.names[k];
		info->condition_below[k] = p->rule.below >> k & 1;
		info->condition_thresholds[k] = p->thresholds[k];
	}
}

const char *tt_when_word(enum tt_policy_when when)
{
	static const char *const words[] = {"generation", "last", "all"};
	return when >= TT_WHEN_GENERATION && when <= TT_WHEN_ALL ? words[when] : "policy";
}
