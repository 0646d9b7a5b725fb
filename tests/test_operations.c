/* The tables of operations and gates: what all rows promise is checked for each row, and so for every new one. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "controller/policy/policy.h"

enum { LAYERS = 3, WIDTH = 8, UNITS = 5 };

static void must(int status, const struct tt_error *err)
{
	cr_assert_eq(status, TT_OK, "%s", err->message);
}

/* Fills each tensor with numbers of its own: no two are equal, and rows are independent of each other. */
static void fill(struct tt_policy *p, const struct tt_policy_row *row)
{
	for (uint32_t i = 0; i < row->n_tensors; i++) {
		float *values = tt_tensor_values(p, &row->tensors[i]);
		for (size_t k = 0; k < tt_tensor_size(p, row->tensors[i].shape); k++)
			values[k] = 0.25f + (float)((k * k * 7 + i * 13 + k) % 31) / 16;
	}
}

static struct tt_policy *make_gated(uint32_t op, uint32_t gate, uint32_t form, enum tt_gate_pool pool)
{
	const struct tt_gate *row = tt_gate_of(gate);
	const uint32_t observed[] = {0, 2};
	struct tt_policy *p = NULL;
	struct tt_error err = {0};
	uint32_t rows = tt_operation_of(op)->max_rows < 2 ? 1 : 2;
	must(tt_policy_new(&p, LAYERS, WIDTH, rows, &err), &err);
	must(tt_policy_set_operation(p, op, &err), &err);
	const struct tt_gate_choice choice = {.gate = gate,
		.form = form,
		.pool = pool,
		.observed = observed,
		.n_observed = row->observes ? 2 : 0,
		.n_units = row->units ? UNITS : 0,
		.conditions = row->rule ? "a,b below" : NULL,
		.rule = row->rule ? "a and not b" : NULL};
	must(tt_policy_set_gate(p, &choice, &err), &err);
	fill(p, &tt_operation_of(op)->row);
	fill(p, &row->row);
	for (uint32_t k = 0; k < p->rule.n; k++)
		p->thresholds[k] = 0.25f - (float)k;
	for (uint32_t l = 0; l < LAYERS; l++)
		p->weights[l] = 1;
	must(tt_policy_set_text(&p->name, "test", &err), &err);
	must(tt_policy_set_text(&p->fingerprint, "none", &err), &err);
	must(tt_policy_finish(p, &err), &err);
	return p;
}

static struct tt_policy *make(uint32_t op)
{
	return make_gated(op, TT_GATE_ALWAYS, 0, TT_POOL_LAST);
}

static bool same_digest(const struct tt_policy *a, const struct tt_policy *b)
{
	uint8_t of_a[32], of_b[32];
	struct tt_error err = {0};
	must(tt_policy_digest(a, of_a, &err), &err);
	must(tt_policy_digest(b, of_b, &err), &err);
	return memcmp(of_a, of_b, 32) == 0;
}

/* Pages are shared between policies with the same digest, so leaving a tensor out would give a request another policy's
 * pages. */
Test(operations, every_number_of_every_tensor_is_in_the_digest)
{
	for (uint32_t op = 0; op < tt_n_operations(); op++) {
		const struct tt_policy_row *row = &tt_operation_of(op)->row;
		struct tt_policy *p = make(op), *same = make(op);
		cr_assert(same_digest(p, same), "%s", row->word);
		for (uint32_t i = 0; i < row->n_tensors; i++) {
			float *values = tt_tensor_values(p, &row->tensors[i]);
			size_t n = tt_tensor_size(p, row->tensors[i].shape), spots[] = {0, n / 2, n - 1};
			for (size_t k = 0; k < 3; k++) {
				float kept = values[spots[k]];
				values[spots[k]] += 1;
				cr_expect(!same_digest(p, same), "%s: %s[%zu]", row->word, row->tensors[i].name,
					spots[k]);
				values[spots[k]] = kept;
			}
		}
		for (uint32_t form = 1; row->form.key && form < TT_MAX_ROW_FORMS && row->form.words[form]; form++) {
			p->form = form;
			cr_expect(!same_digest(p, same), "%s: form %u", row->word, form);
			p->form = 0;
		}
		tt_policy_free(p);
		tt_policy_free(same);
	}
}

Test(operations, equal_tensors_under_another_operation_are_another_policy)
{
	struct tt_policy *p = make(TT_OP_ABLATE), *q = make(TT_OP_ABLATE);
	p->op = TT_OP_ONE_SIDED;
	cr_expect(!same_digest(p, q));
	tt_policy_free(p);
	tt_policy_free(q);
}

/* A policy has pointers to the tensors of the rows and the few below, and no others: a tensor in no row would not be
 * copied, digested, saved or freed. */
Test(operations, every_pointer_to_numbers_is_in_some_row)
{
	struct tt_policy *p = make(TT_OP_ADD);
	const size_t others[] = {offsetof(struct tt_policy, name), offsetof(struct tt_policy, weights),
		offsetof(struct tt_policy, norms), offsetof(struct tt_policy, observed),
		offsetof(struct tt_policy, fingerprint), offsetof(struct tt_policy, weights_digest),
		offsetof(struct tt_policy, fitted_on), offsetof(struct tt_policy, created),
		offsetof(struct tt_policy, version), offsetof(struct tt_policy, path),
		offsetof(struct tt_policy, model_hint)};
	size_t members[64], n = sizeof others / sizeof *others, n_scalars = 0;
	memcpy(members, others, sizeof others);
	for (uint32_t i = 0; i < tt_n_operations() + tt_n_gates(); i++) {
		const struct tt_policy_row *row =
			i < tt_n_operations() ? &tt_operation_of(i)->row : &tt_gate_of(i - tt_n_operations())->row;
		for (uint32_t k = 0; k < row->n_tensors; k++) {
			bool known = false;
			for (size_t m = 0; m < n; m++)
				known |= members[m] == row->tensors[k].member;
			if (!known && row->tensors[k].shape != TT_SHAPE_NUMBER)
				members[n++] = row->tensors[k].member;
		}
	}
	/* op, form, when, n_layers, hidden_size, n_directions, alpha, gate, pool, n_observed, gate_form, threshold,
	 * gate_bias, n_units */
	n_scalars = 14;
	cr_expect_eq(sizeof *p, (n * sizeof(void *) + n_scalars * sizeof(uint32_t) + sizeof p->rule + 7) / 8 * 8,
		"struct tt_policy has a member that is in no row");
	tt_policy_free(p);
}

Test(operations, directions_taken_together_fit_every_number_of_directions)
{
	for (uint32_t op = 0; op < tt_n_operations(); op++) {
		const struct tt_operation *row = tt_operation_of(op);
		uint32_t together = tt_steer_together(op);
		cr_expect(together <= TT_MAX_TOGETHER);
		for (uint32_t n = row->min_rows; n <= row->max_rows; n++)
			cr_expect_eq(n % together, 0, "%s: %u directions", row->row.word, n);
	}
}

/* The epilogue of down_proj adds c * d and reads nothing more, so no operation that has another tensor may pass for
 * add, nor a form that has more arithmetic. */
Test(operations, what_is_more_than_a_plain_add_takes_a_whole_row)
{
	for (uint32_t op = 0; op < tt_n_operations(); op++) {
		const struct tt_policy_row *row = &tt_operation_of(op)->row;
		uint32_t n_forms = row->form.key ? TT_MAX_ROW_FORMS : 1;
		for (uint32_t form = 0; form < n_forms; form++) {
			bool plain = !tt_steer_reads(op) && row->n_tensors == 1 && form == 0;
			cr_expect_eq(tt_steer_whole_row(op, form), !plain, "%s, form %u", row->word, form);
		}
	}
}

static void check_saved(const struct tt_policy *p, const char *path)
{
	struct tt_policy *q = NULL;
	struct tt_error err = {0};
	must(tt_policy_save(p, path, &err), &err);
	must(tt_policy_load(&q, path, &err), &err);
	cr_assert(q->op == p->op && q->form == p->form && q->gate == p->gate && q->gate_form == p->gate_form);
	cr_assert(q->pool == p->pool && q->n_units == p->n_units && q->n_observed == p->n_observed &&
		  q->threshold == p->threshold);
	cr_assert_eq(memcmp(&q->rule, &p->rule, sizeof p->rule), 0);
	const struct tt_policy_row *rows[] = {&tt_operation_of(p->op)->row, &tt_gate_of(p->gate)->row};
	for (int i = 0; i < 2; i++)
		for (uint32_t k = 0; k < rows[i]->n_tensors; k++)
			cr_expect_eq(memcmp(tt_tensor_values(p, &rows[i]->tensors[k]),
					     tt_tensor_values(q, &rows[i]->tensors[k]),
					     tt_tensor_size(p, rows[i]->tensors[k].shape) * sizeof(float)),
				0, "%s %s", rows[i]->word, rows[i]->tensors[k].name);
	tt_policy_free(q);
}

Test(operations, every_operation_behind_every_gate_is_read_as_it_was_written)
{
	char path[] = "test-operations-XXXXXX";
	int file = mkstemp(path);
	cr_assert(file >= 0);
	close(file);
	for (uint32_t op = 0; op < tt_n_operations(); op++)
		for (uint32_t gate = 0; gate < tt_n_gates(); gate++) {
			const struct tt_gate *row = tt_gate_of(gate);
			uint32_t n_forms = tt_operation_of(op)->row.form.key ? TT_MAX_ROW_FORMS : 1;
			uint32_t n_gate_forms = row->row.form.key ? TT_MAX_ROW_FORMS : 1;
			uint32_t n_pools = row->observes ? 3 : 1;
			for (uint32_t i = 0; i < n_gate_forms * n_pools; i++) {
				struct tt_policy *p = make_gated(op, gate, i / n_pools, i % n_pools);
				for (p->form = 0; p->form < n_forms; p->form++)
					check_saved(p, path);
				tt_policy_free(p);
			}
		}
	unlink(path);
}
