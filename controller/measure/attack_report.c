/* What an attack found: its report, and rows that train the next gate. */
#include <stdio.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/memory.h"
#include "controller/measure/attack.h"
#include "controller/measure/attack_words.h"
#include "controller/measure/curves.h"
#include "runtime/engine/numerics.h"

static json_t *suffix_json(const struct tt_suffix *suffix)
{
	json_t *words = json_array();
	for (size_t i = 0; i < suffix->n; i++)
		json_array_append_new(words, json_string(tt_attack_words[suffix->words[i]]));
	return words;
}

/* A number of rows of n, its share and interval. */
static void put_count(json_t *object, const char *key, size_t count, size_t n)
{
	char name[64];
	snprintf(name, sizeof name, "n_%s", key);
	json_object_set_new(object, name, json_integer((json_int_t)count));
	tt_put_share(object, key, count, n);
}

/* The rows of a label: what is flagged as they are, and with a suffix. */
static json_t *label_report(const struct tt_attack *a, enum tt_label label)
{
	size_t n = 0, n_flagged = 0, n_after = 0, n_with = 0;
	for (size_t i = 0; i < a->n; i++) {
		const struct tt_attacked *row = &a->rows[i];
		if (row->prompt->label != label)
			continue;
		n++;
		n_flagged += row->flagged;
		n_after += row->flagged_after;
		n_with += row->suffix.n > 0;
	}
	json_t *object = json_pack("{s:s, s:I, s:I}", "label", tt_label_name(label), "n", (json_int_t)n,
		"n_with_suffix", (json_int_t)n_with);
	put_count(object, "flagged", n_flagged, n);
	put_count(object, "flagged_after", n_after, n);
	return object;
}

static int compare_counts(const void *a, const void *b)
{
	const size_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* How many of the flagged harmful rows got past the gate, and what that took. */
static int evasion_report(const struct tt_attack *a, json_t **out, struct tt_error *err)
{
	size_t *queries = NULL; // [n_evaded]
	size_t n_targets = 0, n_evaded = 0, n_queries = 0;
	TT_TRY(tt_alloc(&queries, a->n, sizeof *queries, err));
	for (size_t i = 0; i < a->n; i++) {
		const struct tt_attacked *row = &a->rows[i];
		n_targets += row->prompt->label == TT_HARMFUL && row->flagged;
		n_queries += row->n_queries;
		if (tt_attack_evaded(row))
			queries[n_evaded++] = row->n_queries;
	}
	qsort(queries, n_evaded, sizeof *queries, compare_counts);
	*out = json_pack("{s:I, s:I, s:o}", "n", (json_int_t)n_targets, "queries", (json_int_t)n_queries,
		"median_queries", n_evaded ? json_integer((json_int_t)queries[(n_evaded - 1) / 2]) : json_null());
	put_count(*out, "evaded", n_evaded, n_targets);
	free(queries);
	return TT_OK;
}

static json_t *rows_report(const struct tt_attack *a)
{
	const double sign = a->opens_below ? -1 : 1;
	json_t *list = json_array();
	for (size_t i = 0; i < a->n; i++) {
		const struct tt_attacked *row = &a->rows[i];
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:b, s:f, s:b, s:f, s:I, s:o}", "id", row->prompt->id, "label",
				      tt_label_name(row->prompt->label), "flagged", (int)row->flagged, "gate",
				      sign * row->gate, "flagged_after", (int)row->flagged_after, "gate_after",
				      sign * row->gate_after, "queries", (json_int_t)row->n_queries, "suffix",
				      suffix_json(&row->suffix)));
	}
	return list;
}

static json_t *labels_report(const struct tt_attack *a)
{
	json_t *list = json_array();
	for (int label = 0; label < TT_N_LABELS; label++) {
		json_t *object = label_report(a, (enum tt_label)label);
		if (json_integer_value(json_object_get(object, "n")) > 0)
			json_array_append(list, object);
		json_decref(object);
	}
	return list;
}

int tt_attack_report(const struct tt_attack *a, char **out, struct tt_error *err)
{
	const struct tt_attack_options *o = a->options;
	struct tt_policy_info info;
	json_t *evasion;
	tt_policy_describe(o->policy, &info);
	TT_TRY(evasion_report(a, &evasion, err));
	json_t *report = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:i, s:i, s:i, s:I, s:o, s:o, s:o, s:o}", "model",
		tt_engine_info(a->engine)->name, "compute", tt_engine_compute(a->engine), "policy", info.name, "gate",
		info.gate_word, "opens", info.opens_below ? "below" : "above", "threshold",
		info.has_threshold ? json_real((double)info.threshold) : json_null(), "budget", (int)o->budget, "words",
		(int)o->n_words, "pool", TT_N_ATTACK_WORDS, "seed", (json_int_t)o->seed, "split",
		o->split ? json_string(o->split) : json_null(), "evasion", evasion, "labels", labels_report(a), "rows",
		rows_report(a));
	return tt_engine_report(out, report, a->engine, err);
}

/* The word that the data have for a label, so that a fit that reads them reads what is written too. */
static const char *word_of(const struct tt_attack *a, enum tt_label label)
{
	const char *own = label == TT_HARMFUL  ? a->options->positive_label
			  : label == TT_BENIGN ? a->options->negative_label
					       : NULL;
	return own ? own : tt_label_name(label);
}

static int put_row(
	struct tt_buffer *lines, const struct tt_attack *a, const struct tt_attacked *row, struct tt_error *err)
{
	const char *split = row->prompt->split_name;
	/* Not "s:s*", which forgets the split where there is no memory: a test row would be fitted on. */
	const char *form = split ? "{s:s, s:s, s:s}" : "{s:s, s:s}";
	char *text, *line = NULL;
	TT_TRY(tt_attack_text(&text, row->prompt->text, &row->suffix, err));
	json_t *object = json_pack(
		"{s:o}", "id", json_sprintf("%s+attack-%llu", row->prompt->id, (unsigned long long)a->options->seed));
	int status = tt_prompt_put(object, row->prompt, text, err);
	if (status == TT_OK)
		status = tt_json_add(object,
			json_pack(form, "label", word_of(a, row->prompt->label), "source", "attack", "split", split),
			err);
	free(text);
	if (status != TT_OK) {
		json_decref(object);
		return tt_fail(err, TT_ERR_MEMORY, "out of memory: a row"); /* its texts came out of JSON */
	}
	TT_TRY(tt_json_dump(&line, object, JSON_COMPACT, err));
	status = tt_buffer_print(lines, err, "%s\n", line);
	free(line);
	return status;
}

int tt_attack_rows(const struct tt_attack *a, char **out, struct tt_error *err)
{
	struct tt_buffer lines = {0};
	int status = tt_buffer_print(&lines, err, "%s", "");
	for (size_t i = 0; status == TT_OK && i < a->n; i++)
		if (a->rows[i].suffix.n && (a->rows[i].prompt->label != TT_HARMFUL || tt_attack_evaded(&a->rows[i])))
			status = put_row(&lines, a, &a->rows[i], err);
	if (status != TT_OK)
		tt_buffer_free(&lines);
	*out = lines.data;
	return status;
}
