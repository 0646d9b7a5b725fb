/* Cases: how they are registered, checked and freed. */
#include "bench/harness/harness_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/memory.h"

enum { MAX_ENTRIES = 10000, MAX_ROUNDS = 1000000, MAX_WARMUP = 1000 };

void tt_bench_options_default(struct tt_bench_options *options)
{
	*options = (struct tt_bench_options){
		.program = "bench",
		.seed = 1,
		.confidence = 0.95,
		.n_warmup = 1,
		.min_rounds = 15,
		.max_rounds = 1000,
		.min_seconds = 1,
		.min_sample_seconds = 0.005,
	};
}

/* Replaces *text by a copy that lives as long as the bench. NULL stays NULL. */
static int keep_string(struct tt_bench *bench, const char **text, struct tt_error *err)
{
	char *copy = NULL;
	if (!*text)
		return TT_OK;
	TT_TRY(tt_grow(&bench->strings, &bench->strings_capacity, bench->n_strings + 1, sizeof *bench->strings, err));
	TT_TRY(tt_copy_string(&copy, *text, strlen(*text), err));
	bench->strings[bench->n_strings++] = copy;
	*text = copy;
	return TT_OK;
}

static int check_options(const struct tt_bench_options *o, struct tt_error *err)
{
	if (!o->program || (o->n_arguments && !o->arguments))
		return tt_fail(err, TT_ERR_ARGUMENT, "the program or its arguments are missing");
	if (o->order != TT_BENCH_SHUFFLED && o->order != TT_BENCH_ABBA)
		return tt_fail(err, TT_ERR_ARGUMENT, "order %d is not one of shuffled and abba", (int)o->order);
	if (!(o->confidence > 0 && o->confidence < 1))
		return tt_fail(err, TT_ERR_ARGUMENT, "confidence must be above 0 and below 1");
	if (o->min_rounds < 1 || o->min_rounds > o->max_rounds || o->max_rounds > MAX_ROUNDS)
		return tt_fail(err, TT_ERR_ARGUMENT, "rounds must be 1 <= min_rounds <= max_rounds <= %d", MAX_ROUNDS);
	if (o->n_warmup > MAX_WARMUP)
		return tt_fail(err, TT_ERR_ARGUMENT, "at most %d rounds of warm-up", MAX_WARMUP);
	if (!(o->min_seconds >= 0 && o->min_seconds <= 1e6) ||
		!(o->min_sample_seconds >= 0 && o->min_sample_seconds <= 1e3))
		return tt_fail(err, TT_ERR_ARGUMENT, "min_seconds or min_sample_seconds is out of range");
	return TT_OK;
}

static int prepare(struct tt_bench *bench, const struct tt_bench_options *given, struct tt_error *err)
{
	struct tt_bench_options *o = &bench->options;
	if (!tt_date_now(bench->date))
		return tt_fail(err, TT_ERR_UNSUPPORTED, "the clock shows no date");
	TT_TRY(tt_bench_machine(&bench->machine, o->n_threads, err));
	bench->subject = json_object();
	if (!bench->subject)
		return tt_bench_json_failed(err);
	TT_TRY(keep_string(bench, &o->program, err));
	TT_TRY(tt_alloc(&bench->arguments, o->n_arguments, sizeof *bench->arguments, err));
	for (size_t i = 0; i < o->n_arguments; i++) {
		bench->arguments[i] = given->arguments[i];
		TT_TRY(keep_string(bench, &bench->arguments[i], err));
	}
	o->arguments = bench->arguments;
	return TT_OK;
}

int tt_bench_open(struct tt_bench **out, const struct tt_bench_options *options, struct tt_error *err)
{
	struct tt_bench *bench = NULL;
	TT_TRY(check_options(options, err));
	TT_TRY(tt_alloc(&bench, 1, sizeof *bench, err));
	bench->options = *options;
	int status = prepare(bench, options, err);
	if (status != TT_OK) {
		tt_bench_close(bench);
		return status;
	}
	*out = bench;
	return TT_OK;
}

void tt_bench_close(struct tt_bench *bench)
{
	if (!bench)
		return;
	for (size_t i = 0; i < bench->n_entries; i++)
		free(bench->entries[i].samples);
	for (size_t i = 0; i < bench->n_strings; i++)
		free(bench->strings[i]);
	free(bench->arguments);
	free(bench->strings);
	free(bench->entries);
	json_decref(bench->subject);
	json_decref(bench->machine);
	free(bench);
}

static int32_t find(const struct tt_bench *bench, const char *group, const char *name)
{
	for (size_t i = 0; i < bench->n_entries; i++)
		if (!strcmp(bench->entries[i].spec.group, group) && !strcmp(bench->entries[i].spec.name, name))
			return (int32_t)i;
	return TT_BENCH_NONE;
}

static int check_case(const struct tt_bench *bench, const struct tt_bench_case *one, struct tt_error *err)
{
	if (!one->group || !one->name || !one->run)
		return tt_fail(err, TT_ERR_ARGUMENT, "a case needs a group, a name and a function");
	if (find(bench, one->group, one->name) != TT_BENCH_NONE)
		return tt_fail(err, TT_ERR_ARGUMENT, "%s: %s is registered already", one->group, one->name);
	for (size_t i = 0; i < bench->n_entries; i++)
		if (bench->entries[i].ran && !strcmp(bench->entries[i].spec.group, one->group))
			return tt_fail(err, TT_ERR_ARGUMENT, "%s: the group has run; %s would share no round with it",
				one->group, one->name);
	if (bench->n_entries == MAX_ENTRIES)
		return tt_fail(err, TT_ERR_LIMIT, "more than %d cases", MAX_ENTRIES);
	for (uint32_t w = 0; w < TT_BENCH_MAX_WORK && one->work[w].unit; w++)
		if (!(one->work[w].amount > 0 && isfinite(one->work[w].amount)))
			return tt_fail(err, TT_ERR_ARGUMENT, "%s: %s: the amount of %s must be above 0", one->group,
				one->name, one->work[w].unit);
	return TT_OK;
}

int tt_bench_add(struct tt_bench *bench, const struct tt_bench_case *one, struct tt_error *err)
{
	TT_TRY(check_case(bench, one, err));
	struct tt_bench_entry entry = {.spec = *one, .baseline = TT_BENCH_NONE};
	struct tt_bench_case *spec = &entry.spec;
	TT_TRY(keep_string(bench, &spec->group, err));
	TT_TRY(keep_string(bench, &spec->name, err));
	TT_TRY(keep_string(bench, &spec->note, err));
	TT_TRY(keep_string(bench, &spec->baseline, err));
	while (entry.n_work < TT_BENCH_MAX_WORK && one->work[entry.n_work].unit) {
		struct tt_bench_work *work = &spec->work[entry.n_work];
		TT_TRY(keep_string(bench, &work->unit, err));
		TT_TRY(keep_string(bench, &work->ceiling, err));
		entry.ceiling[entry.n_work++] = TT_BENCH_NONE;
	}
	TT_TRY(tt_grow(&bench->entries, &bench->entries_capacity, bench->n_entries + 1, sizeof entry, err));
	bench->entries[bench->n_entries++] = entry;
	return TT_OK;
}

int tt_bench_subject(struct tt_bench *bench, const char *key, json_t *value, struct tt_error *err)
{
	return json_object_set_new(bench->subject, key, value) ? tt_bench_json_failed(err) : TT_OK;
}

size_t tt_bench_n_cases(const struct tt_bench *bench)
{
	return bench->n_entries;
}

size_t tt_bench_n_failed(const struct tt_bench *bench)
{
	size_t n = 0;
	for (size_t i = 0; i < bench->n_entries; i++)
		n += bench->entries[i].failed;
	return n;
}

static int resolve_baseline(struct tt_bench *bench, struct tt_bench_entry *e, struct tt_error *err)
{
	const char *unit = e->n_work ? e->spec.work[0].unit : "";
	if (!e->spec.baseline)
		return TT_OK;
	e->baseline = find(bench, e->spec.group, e->spec.baseline);
	if (e->baseline == TT_BENCH_NONE)
		return tt_fail(err, TT_ERR_ARGUMENT, "%s: %s: there is no case %s to compare with", e->spec.group,
			e->spec.name, e->spec.baseline);
	const struct tt_bench_entry *baseline = &bench->entries[e->baseline];
	const char *other = baseline->n_work ? baseline->spec.work[0].unit : "";
	if (strcmp(unit, other))
		return tt_fail(err, TT_ERR_ARGUMENT, "%s: %s counts \"%s\", but its baseline %s counts \"%s\"",
			e->spec.group, e->spec.name, unit, e->spec.baseline, other);
	return TT_OK;
}

uint32_t tt_bench_find_work(const struct tt_bench_entry *e, const char *unit)
{
	for (uint32_t w = 0; w < e->n_work; w++)
		if (!strcmp(e->spec.work[w].unit, unit))
			return w;
	return TT_BENCH_MAX_WORK;
}

static int resolve_ceilings(struct tt_bench *bench, struct tt_bench_entry *e, struct tt_error *err)
{
	for (uint32_t w = 0; w < e->n_work; w++) {
		const struct tt_bench_work *work = &e->spec.work[w];
		if (!work->ceiling)
			continue;
		e->ceiling[w] = find(bench, e->spec.group, work->ceiling);
		if (e->ceiling[w] == TT_BENCH_NONE ||
			tt_bench_find_work(&bench->entries[e->ceiling[w]], work->unit) == TT_BENCH_MAX_WORK)
			return tt_fail(err, TT_ERR_ARGUMENT, "%s: %s: there is no case %s that counts %s",
				e->spec.group, e->spec.name, work->ceiling, work->unit);
	}
	return TT_OK;
}

int tt_bench_resolve(struct tt_bench *bench, struct tt_error *err)
{
	for (size_t i = 0; i < bench->n_entries; i++) {
		TT_TRY(resolve_baseline(bench, &bench->entries[i], err));
		TT_TRY(resolve_ceilings(bench, &bench->entries[i], err));
	}
	return TT_OK;
}

int tt_bench_json_failed(struct tt_error *err)
{
	return tt_fail(err, TT_ERR_MEMORY, "a value of the report could not be made");
}
