#include "controller/policy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
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
	TT_TRY(tt_alloc_aligned(
		&p->directions, (size_t)p->n_layers * p->n_directions * p->hidden_size, sizeof *p->directions, err));
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
	p->op = TT_STEER_ADD;
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
	void *owned[] = {p->name, p->directions, p->targets, p->affine, p->weights, p->norms, p->observed,
		p->gate_weight, p->fc1_weight, p->fc1_bias, p->fc2_weight, p->fc2_bias, p->fingerprint,
		p->weights_digest, p->fitted_on, p->created, p->version, p->path, p->warning};
	for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
		free(owned[i]);
	free(p);
}

int tt_policy_set_clamp(struct tt_policy *p, struct tt_error *err)
{
	if (!p->targets)
		TT_TRY(tt_alloc(&p->targets, (size_t)p->n_layers * p->n_directions, sizeof *p->targets, err));
	p->op = TT_STEER_CLAMP;
	return TT_OK;
}

int tt_policy_set_affine(struct tt_policy *p, struct tt_error *err)
{
	size_t rows = (size_t)p->n_layers * p->n_directions;
	if (!p->affine)
		TT_TRY(tt_alloc_aligned(&p->affine, rows * p->hidden_size, sizeof *p->affine, err));
	if (!p->targets)
		TT_TRY(tt_alloc(&p->targets, rows, sizeof *p->targets, err));
	p->op = TT_STEER_AFFINE;
	return TT_OK;
}

/* A gate of no kind over these layers: what the former one held is gone. */
static int set_observed(
	struct tt_policy *p, const uint32_t *observed, uint32_t n_observed, const char *gate, struct tt_error *err)
{
	float **tensors[] = {&p->gate_weight, &p->fc1_weight, &p->fc1_bias, &p->fc2_weight, &p->fc2_bias};
	uint32_t *layers = NULL;
	if (n_observed < 1 || n_observed > p->n_layers)
		return tt_fail(err, TT_ERR_FORMAT, "policy: a gate of kind %s observes 1 to %u layers, not %u", gate,
			p->n_layers, n_observed);
	TT_TRY(tt_alloc(&layers, n_observed, sizeof *layers, err));
	memcpy(layers, observed, n_observed * sizeof *layers);
	free(p->observed);
	for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
		free(*tensors[i]);
		*tensors[i] = NULL;
	}
	p->gate = TT_GATE_ALWAYS;
	p->observed = layers;
	p->n_observed = n_observed;
	p->n_units = 0;
	return TT_OK;
}

int tt_policy_set_probe(struct tt_policy *p, const uint32_t *observed, uint32_t n_observed, struct tt_error *err)
{
	TT_TRY(set_observed(p, observed, n_observed, "probe", err));
	TT_TRY(tt_alloc_aligned(&p->gate_weight, (size_t)n_observed * p->hidden_size, sizeof *p->gate_weight, err));
	p->gate = TT_GATE_PROBE;
	p->gate_bias = 0;
	p->threshold = 0.5f;
	return TT_OK;
}

int tt_policy_set_mlp(
	struct tt_policy *p, const uint32_t *observed, uint32_t n_observed, uint32_t n_units, struct tt_error *err)
{
	size_t n_outputs = 1 + (size_t)p->n_layers, n_weights = 0;
	TT_TRY(set_observed(p, observed, n_observed, "mlp", err));
	if (n_units < 1 || n_units > TT_MAX_UNITS)
		return tt_fail(err, TT_ERR_FORMAT, "policy: %u hidden units of an mlp, must be 1 to %d", n_units,
			TT_MAX_UNITS);
	if (!tt_mul_size((size_t)n_observed * p->hidden_size, n_units, &n_weights) || n_weights > TT_MAX_POLICY_FLOATS)
		return tt_fail(err, TT_ERR_LIMIT, "policy: an mlp of %u units on %u layers of width %u is too large",
			n_units, n_observed, p->hidden_size);
	TT_TRY(tt_alloc_aligned(&p->fc1_weight, n_weights, sizeof *p->fc1_weight, err));
	TT_TRY(tt_alloc(&p->fc1_bias, n_units, sizeof *p->fc1_bias, err));
	TT_TRY(tt_alloc_aligned(&p->fc2_weight, n_outputs * n_units, sizeof *p->fc2_weight, err));
	TT_TRY(tt_alloc(&p->fc2_bias, n_outputs, sizeof *p->fc2_bias, err));
	p->gate = TT_GATE_MLP;
	p->n_units = n_units;
	p->unbounded = false;
	return TT_OK;
}

static bool all_finite(const float *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isfinite(values[i]))
			return false;
	return true;
}

static const float *layer_rows(const struct tt_policy *p, uint32_t layer)
{
	return p->directions + (size_t)layer * p->n_directions * p->hidden_size;
}

bool tt_policy_has_direction(const struct tt_policy *p, uint32_t layer)
{
	const float *rows = layer_rows(p, layer);
	for (size_t i = 0; i < (size_t)p->n_directions * p->hidden_size; i++)
		if (rows[i] != 0)
			return true;
	return false;
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

static double dot(const double *a, const double *b, size_t n)
{
	double sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

/* Rows that come from a file of ours are orthonormal up to the rounding to f32, about 1e-7. */
static bool rows_are_orthonormal(const double *rows, uint32_t n_rows, uint32_t d)
{
	for (uint32_t i = 0; i < n_rows; i++)
		for (uint32_t k = 0; k <= i; k++)
			if (fabs(dot(rows + (size_t)i * d, rows + (size_t)k * d, d) - (i == k)) > 1e-6)
				return false;
	return true;
}

/* Takes from row k its part along each earlier row, adding what it takes of the unit row to along[j]. */
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

/* Gram-Schmidt, every projection twice: once leaves an error of the rows' condition number times the rounding. rows
 * [n_rows][d] in place. A target follows its row: given row k is along[j] of unit j and left of unit k, so asking for
 * t_k on it is asking unit k for (t_k - sum_j along[j] target_j) / left. */
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
		/* Below this the row is the earlier ones plus rounding noise of its f32 numbers. */
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
		float *targets = p->op == TT_STEER_CLAMP ? p->targets + (size_t)layer * p->n_directions : NULL;
		status = orthonormalise(exact, targets, p->n_directions, p->hidden_size, layer, err);
		for (size_t i = 0; status == TT_OK && i < n; i++)
			rows[i] = (float)exact[i];
	}
	free(exact);
	return status;
}

static int check_probe(const struct tt_policy *p, struct tt_error *err)
{
	if (!p->gate_weight)
		return tt_fail(err, TT_ERR_FORMAT, "policy: the probe has no gate.w");
	if (!all_finite(p->gate_weight, (size_t)p->n_observed * p->hidden_size))
		return tt_fail(err, TT_ERR_FORMAT, "policy: gate.w holds a number that is not finite");
	if (!isfinite(p->gate_bias))
		return tt_fail(err, TT_ERR_FORMAT, "policy: gate.b is not finite");
	if (!(p->threshold >= 0 && p->threshold <= 1))
		return tt_fail(err, TT_ERR_FORMAT, "policy: threshold must be 0 to 1");
	return TT_OK;
}

static int check_mlp(const struct tt_policy *p, struct tt_error *err)
{
	size_t n_outputs = 1 + (size_t)p->n_layers;
	const struct {
		const char *name;
		const float *values;
		size_t n;
	} tensors[] = {
		{"gate.fc1.weight", p->fc1_weight, (size_t)p->n_observed * p->hidden_size * p->n_units},
		{"gate.fc1.bias", p->fc1_bias, p->n_units},
		{"gate.fc2.weight", p->fc2_weight, n_outputs * p->n_units},
		{"gate.fc2.bias", p->fc2_bias, n_outputs},
	};
	for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
		if (!tensors[i].values)
			return tt_fail(err, TT_ERR_FORMAT, "policy: the mlp has no %s", tensors[i].name);
		if (!all_finite(tensors[i].values, tensors[i].n))
			return tt_fail(
				err, TT_ERR_FORMAT, "policy: %s holds a number that is not finite", tensors[i].name);
	}
	return TT_OK;
}

static int check_gate(const struct tt_policy *p, struct tt_error *err)
{
	if (p->gate == TT_GATE_ALWAYS)
		return TT_OK;
	if (p->gate != TT_GATE_PROBE && p->gate != TT_GATE_MLP)
		return tt_fail(
			err, TT_ERR_UNSUPPORTED, "policy: gate %d is not one of always, probe, mlp", (int)p->gate);
	if (!p->observed || p->n_observed < 1)
		return tt_fail(err, TT_ERR_FORMAT, "policy: the gate observes no layer");
	for (uint32_t i = 0; i < p->n_observed; i++)
		if (p->observed[i] >= p->n_layers || (i && p->observed[i] <= p->observed[i - 1]))
			return tt_fail(err, TT_ERR_FORMAT, "policy: observe must name ascending layers 0 to %u, not %u",
				p->n_layers - 1, p->observed[i]);
	return p->gate == TT_GATE_PROBE ? check_probe(p, err) : check_mlp(p, err);
}

static int check_layer(const struct tt_policy *p, uint32_t l, struct tt_error *err)
{
	if (!all_finite(layer_rows(p, l), (size_t)p->n_directions * p->hidden_size))
		return tt_fail(err, TT_ERR_FORMAT, "policy: direction.%u holds a number that is not finite", l);
	if (!(p->weights[l] >= 0 && p->weights[l] <= 1))
		return tt_fail(err, TT_ERR_FORMAT, "policy: weight[%u] must be 0 to 1", l);
	if (p->weights[l] > 0 && !tt_policy_has_direction(p, l))
		return tt_fail(err, TT_ERR_FORMAT, "policy: weight[%u] is not 0 but the layer has no direction", l);
	if (p->targets && !all_finite(p->targets + (size_t)l * p->n_directions, p->n_directions))
		return tt_fail(err, TT_ERR_FORMAT, "policy: %s.%u%s holds a number that is not finite",
			p->affine ? "affine" : "target", l, p->affine ? ".b" : "");
	const float *w = p->affine ? p->affine + (layer_rows(p, l) - p->directions) : NULL;
	for (size_t i = 0; w && i < (size_t)p->n_directions * p->hidden_size; i++)
		if (!isfinite(w[i] - layer_rows(p, l)[i])) /* what h is read with */
			return tt_fail(err, TT_ERR_FORMAT,
				"policy: affine.%u.W holds a number that is not finite, or too large", l);
	return TT_OK;
}

static int check_head(const struct tt_policy *p, struct tt_error *err)
{
	bool affine = p->op == TT_STEER_AFFINE, one_row = p->op == TT_STEER_ADD || p->op == TT_STEER_ONE_SIDED;
	if (p->op < TT_STEER_ADD || p->op > TT_STEER_ONE_SIDED)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"policy: op %d is not one of add, ablate, clamp, affine, one_sided", (int)p->op);
	if (p->when < TT_WHEN_GENERATION || p->when > TT_WHEN_ALL)
		return tt_fail(err, TT_ERR_FORMAT, "policy: when must be generation, last or all");
	if (one_row && p->n_directions != 1)
		return tt_fail(err, TT_ERR_FORMAT, "policy: op %s takes one direction a layer, not %u",
			tt_policy_op_name(p->op), p->n_directions);
	if ((affine || p->op == TT_STEER_CLAMP) != (p->targets != NULL))
		return tt_fail(err, TT_ERR_FORMAT, "policy: targets belong to op clamp or affine, and to no other");
	if (affine != (p->affine != NULL))
		return tt_fail(err, TT_ERR_FORMAT, "policy: W belongs to op affine, and to no other");
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
		if (p->op != TT_STEER_ADD && p->op != TT_STEER_AFFINE && tt_policy_has_direction(p, l))
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

void tt_policy_describe(const struct tt_policy *p, struct tt_policy_info *info)
{
	static const enum tt_policy_op ops[] = {
		[TT_STEER_ADD] = TT_OP_ADD,
		[TT_STEER_ABLATE] = TT_OP_ABLATE,
		[TT_STEER_CLAMP] = TT_OP_CLAMP,
		[TT_STEER_AFFINE] = TT_OP_AFFINE,
		[TT_STEER_ONE_SIDED] = TT_OP_ONE_SIDED,
	};
	static const enum tt_policy_gate gates[] = {
		[TT_GATE_ALWAYS] = TT_POLICY_ALWAYS, [TT_GATE_PROBE] = TT_POLICY_PROBE, [TT_GATE_MLP] = TT_POLICY_MLP};
	if (!info)
		return;
	*info = (struct tt_policy_info){0};
	if (!p)
		return;
	*info = (struct tt_policy_info){
		.name = p->name,
		.op = ops[p->op],
		.when = p->when,
		.gate = gates[p->gate],
		.n_layers = p->n_layers,
		.hidden_size = p->hidden_size,
		.n_directions = p->n_directions,
		.weights = p->weights,
		.norms = p->norms,
		.observed = p->observed,
		.n_observed = p->n_observed,
		.alpha = p->alpha,
		.threshold = p->threshold,
		.n_units = p->n_units,
		.unbounded = p->unbounded,
		.fingerprint = p->fingerprint,
		.weights_digest = p->weights_digest,
		.fitted_on = p->fitted_on,
		.created = p->created,
		.version = p->version,
	};
}

const char *tt_policy_op_name(enum tt_steer_op op)
{
	static const char *const names[] = {
		[TT_STEER_ADD] = "add",
		[TT_STEER_ABLATE] = "ablate",
		[TT_STEER_CLAMP] = "clamp",
		[TT_STEER_AFFINE] = "affine",
		[TT_STEER_ONE_SIDED] = "one_sided",
	};
	return names[op];
}

const char *tt_policy_when_name(enum tt_policy_when when)
{
	return when == TT_WHEN_ALL ? "all" : when == TT_WHEN_LAST ? "last" : "generation";
}

const char *tt_policy_gate_name(enum tt_gate gate)
{
	return gate == TT_GATE_MLP ? "mlp" : gate == TT_GATE_PROBE ? "probe" : "always";
}
