#include "bench/harness/matrix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "bench/harness/noise.h"
#include "controller/policy/gates.h"
#include "controller/policy/operations.h"

/* Ways of many policies share none with each other: 1, 2, 4 and so on to a policy a row are less than two a row. */
enum { MAX_POLICIES = 2 * TT_MAX_TOKEN_ROWS + TT_MAX_TOKEN_WAYS };

struct tt_matrix {
	struct tt_engine *engines[2]; /* without policies, and with them */
	struct tt_policy *policies[MAX_POLICIES];
	size_t n_policies;
	struct tt_token_way ways[TT_MAX_TOKEN_WAYS];
	char names[TT_MAX_TOKEN_WAYS][48];
	struct tt_policy *by_row[TT_MAX_TOKEN_WAYS][TT_MAX_TOKEN_ROWS];
	struct tt_token_lab lab;
};

/* The next way; its name is copied, with what follows a comma if that is not NULL. */
static struct tt_token_way *add_way(struct tt_matrix *m, const char *name, const char *more)
{
	struct tt_token_way *way = &m->ways[m->lab.n_ways];
	char *text = m->names[m->lab.n_ways++];
	snprintf(text, sizeof *m->names, "%s%s%s", name, more ? ", " : "", more ? more : "");
	*way = (struct tt_token_way){.name = text, .engine = m->engines[1]};
	return way;
}

static int add_policy(struct tt_matrix *m, struct tt_noise noise, struct tt_policy **out, struct tt_error *err)
{
	noise.seed = m->n_policies + 1;
	TT_TRY(tt_noise_policy(out, tt_engine_info(m->engines[1]), &noise, err));
	m->policies[m->n_policies++] = *out;
	return tt_engine_add_policy(m->engines[1], *out, NULL, err);
}

/* A way that steers by one new policy. */
static int add_steered(
	struct tt_matrix *m, const char *name, const char *more, struct tt_noise noise, struct tt_error *err)
{
	struct tt_token_way *way = add_way(m, name, more);
	way->has_gate = noise.gate != TT_GATE_ALWAYS;
	way->n_steering = 1;
	way->steering[0].scale = 1;
	return add_policy(m, noise, &way->steering[0].policy, err);
}

static int add_operations(struct tt_matrix *m, struct tt_error *err)
{
	for (uint32_t op = 0; op < tt_n_operations(); op++) {
		const struct tt_policy_row *row = &tt_operation_of((enum tt_policy_op)op)->row;
		uint32_t n_forms = row->form.key ? TT_MAX_ROW_FORMS : 1;
		for (uint32_t form = 0; form < n_forms; form++)
			TT_TRY(add_steered(m, row->word, form ? row->form.words[form] : NULL,
				(struct tt_noise){.op = (enum tt_policy_op)op, .form = form}, err));
	}
	return TT_OK;
}

static int add_gates(struct tt_matrix *m, struct tt_error *err)
{
	for (uint32_t gate = TT_GATE_ALWAYS + 1; gate < tt_n_gates(); gate++)
		TT_TRY(add_steered(m, "add", tt_gate_of((enum tt_policy_gate)gate)->row.word,
			(struct tt_noise){.gate = (enum tt_policy_gate)gate, .behind_gate = true}, err));
	TT_TRY(add_steered(m, "add", "probe, prompts run again", (struct tt_noise){.gate = TT_GATE_PROBE}, err));
	m->ways[m->lab.n_ways - 1].runs_again = true;
	return TT_OK;
}

static int add_stack(struct tt_matrix *m, uint32_t n, struct tt_error *err)
{
	char name[32];
	snprintf(name, sizeof name, "add, %u stacked", n);
	struct tt_token_way *way = add_way(m, name, NULL);
	way->size = n;
	for (; way->n_steering < n; way->n_steering++) {
		struct tt_steering *steering = &way->steering[way->n_steering];
		steering->scale = 1;
		TT_TRY(add_policy(m, (struct tt_noise){0}, &steering->policy, err));
	}
	return TT_OK;
}

/* Rows under n policies in turn. */
static int add_distinct(struct tt_matrix *m, uint32_t n, struct tt_error *err)
{
	char name[32];
	snprintf(name, sizeof name, "add, %u policies", n);
	struct tt_policy **by_row = m->by_row[m->lab.n_ways];
	struct tt_token_way *way = add_way(m, name, NULL);
	for (uint32_t row = 0; row < m->lab.n_rows; row++) {
		if (row < n)
			TT_TRY(add_policy(m, (struct tt_noise){0}, &by_row[row], err));
		else
			by_row[row] = by_row[row % n];
	}
	way->size = n;
	way->n_steering = 1;
	way->steering[0] = (struct tt_steering){by_row[0], 1};
	way->by_row = by_row;
	return TT_OK;
}

static int add_all(struct tt_matrix *m, struct tt_error *err)
{
	static const uint32_t distinct[] = {4, 16, 32};
	add_way(m, "idle", NULL);
	uint32_t middle = tt_engine_info(m->engines[0])->n_layers / 2;
	TT_TRY(add_steered(m, "add", "one layer", (struct tt_noise){.first_layer = middle, .n_layers = 1}, err));
	TT_TRY(add_operations(m, err));
	TT_TRY(add_gates(m, err));
	TT_TRY(add_stack(m, TT_MAX_STACK, err));
	for (size_t i = 0; i < sizeof distinct / sizeof *distinct; i++)
		if (m->lab.n_rows >= distinct[i])
			TT_TRY(add_distinct(m, distinct[i], err));
	add_way(m, "capture of all layers", NULL)->captures = true;
	add_way(m, "telemetry", NULL)->telemetry = true;
	TT_TRY(add_steered(m, "add", "telemetry", (struct tt_noise){0}, err));
	m->ways[m->lab.n_ways - 1].telemetry = true;
	return TT_OK;
}

static int add_layers(struct tt_matrix *m, uint32_t n, struct tt_error *err)
{
	char more[32];
	snprintf(more, sizeof more, "%u layers", n);
	TT_TRY(add_steered(m, "add", more, (struct tt_noise){.n_layers = n}, err));
	m->ways[m->lab.n_ways - 1].size = n;
	return TT_OK;
}

static int add_ways(struct tt_matrix *m, enum tt_matrix_ways ways, struct tt_error *err)
{
	uint32_t n_layers = tt_engine_info(m->engines[0])->n_layers, n_rows = m->lab.n_rows;
	add_way(m, "off", NULL)->engine = m->engines[0];
	switch (ways) {
	case TT_WAYS_ADD:
		return add_steered(m, "add", NULL, (struct tt_noise){0}, err);
	case TT_WAYS_LAYERS:
		for (uint32_t n = 1; n > 0; n = tt_matrix_next_size(n, n_layers))
			TT_TRY(add_layers(m, n, err));
		return TT_OK;
	case TT_WAYS_STACK:
		for (uint32_t n = 1; n <= TT_MAX_STACK; n++)
			TT_TRY(add_stack(m, n, err));
		return TT_OK;
	case TT_WAYS_POLICIES:
		for (uint32_t n = 1; n > 0; n = tt_matrix_next_size(n, n_rows))
			TT_TRY(add_distinct(m, n, err));
		return TT_OK;
	default:
		return add_all(m, err);
	}
}

int tt_matrix_open(struct tt_matrix **out, const char *model, const struct tt_engine_options *options,
	enum tt_matrix_ways ways, uint32_t n_rows, struct tt_error *err)
{
	struct tt_matrix *m = NULL;
	*out = NULL;
	if (n_rows < 1 || n_rows > TT_MAX_TOKEN_ROWS)
		return tt_fail(err, TT_ERR_ARGUMENT, "rows must be 1 to %d", TT_MAX_TOKEN_ROWS);
	TT_TRY(tt_alloc(&m, 1, sizeof *m, err));
	int status = TT_OK;
	for (int i = 0; i < 2 && status == TT_OK; i++)
		status = tt_engine_open(&m->engines[i], model, options, err);
	m->lab = (struct tt_token_lab){.engine = m->engines[0], .ways = m->ways, .n_rows = n_rows};
	if (status == TT_OK)
		m->lab.n_batch = tt_engine_info(m->engines[0])->max_step_tokens;
	if (status == TT_OK)
		status = add_ways(m, ways, err);
	if (status == TT_OK)
		*out = m;
	else
		tt_matrix_close(m);
	return status;
}

void tt_matrix_close(struct tt_matrix *m)
{
	if (!m)
		return;
	for (int i = 0; i < 2; i++)
		tt_engine_close(m->engines[i]);
	for (size_t i = 0; i < m->n_policies; i++)
		tt_policy_free(m->policies[i]);
	free(m);
}

struct tt_token_lab *tt_matrix_lab(struct tt_matrix *m)
{
	return &m->lab;
}

static bool is_one_of(const char *name, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

int tt_matrix_keep(struct tt_matrix *m, const char *const *names, size_t n, struct tt_error *err)
{
	for (size_t i = 0; i < n; i++) {
		bool known = false;
		for (size_t k = 1; k < m->lab.n_ways; k++)
			known |= strcmp(names[i], m->ways[k].name) == 0;
		if (!known)
			return tt_fail(err, TT_ERR_ARGUMENT, "the matrix has no way '%s'", names[i]);
	}
	size_t n_kept = 1;
	for (size_t k = 1; k < m->lab.n_ways; k++)
		if (is_one_of(m->ways[k].name, names, n))
			m->ways[n_kept++] = m->ways[k];
	m->lab.n_ways = n_kept;
	return TT_OK;
}

uint32_t tt_matrix_next_size(uint32_t n, uint32_t last)
{
	if (n == last)
		return 0;
	return n <= last / 2 ? 2 * n : last;
}
