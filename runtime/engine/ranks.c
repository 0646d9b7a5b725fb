#include "runtime/engine/ranks.h"

#include <stdatomic.h>
#include <string.h>

#include "base/fail.h"
#include "kernels/cpu/threads.h"

/* ---- Opening */

static int split(struct tt_engine *engine, uint32_t n_ranks, struct tt_error *err)
{
	struct tt_backend *first = engine->ranks[0].backend, *others[TT_MAX_RANKS] = {NULL};
	struct tt_shard any;
	if (n_ranks == 1)
		return TT_OK;
	if (!first->split)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"%s runs on one rank (--tp): so far only the device cpu has more", first->name);
	TT_TRY(tt_shard_open(&any, &engine->model->config, 0, n_ranks, err));
	int status = first->split(first, n_ranks, others, err);
	for (uint32_t i = 1; i < n_ranks; i++)
		engine->ranks[i].backend = others[i - 1];
	TT_TRY(status);
	return tt_threads_open(&engine->rank_threads, n_ranks, err);
}

int tt_ranks_open(struct tt_engine *engine, uint32_t n_ranks, const struct tt_limits *limits, enum tt_kv_type kv_type,
	struct tt_error *err)
{
	TT_TRY(split(engine, n_ranks, err));
	engine->n_ranks = n_ranks;
	for (uint32_t i = 0; i < n_ranks; i++)
		TT_TRY(tt_rank_open(
			&engine->ranks[i], i, n_ranks, engine->model, limits, engine->options.kv_tokens, kv_type, err));
	return TT_OK;
}

void tt_ranks_close(struct tt_engine *engine)
{
	tt_threads_close(engine->rank_threads);
	for (uint32_t i = 0; i < TT_MAX_RANKS; i++)
		tt_rank_close(&engine->ranks[i]);
}

/* ---- Steps */

int tt_ranks_prepare(struct tt_engine *engine, const struct tt_scheduled_step *plan, struct tt_error *err)
{
	for (uint32_t i = 0; i < engine->n_ranks; i++)
		TT_TRY(tt_rank_prepare(&engine->ranks[i], plan, err));
	return TT_OK;
}

struct submission {
	struct tt_engine *engine;
	const struct tt_step_plan *step;
	atomic_flag failed; /* the first rank that fails has told err; others fail because it did */
	int status;
	struct tt_error *err;
};

static void submit_rank(void *context, uint32_t index, uint32_t thread)
{
	struct submission *all = context;
	struct tt_rank *rank = &all->engine->ranks[index];
	struct tt_error err = {0};
	(void)thread;
	int status = tt_forward_submit(&rank->state, &rank->kv.pages, all->step, &err);
	if (status == TT_OK || atomic_flag_test_and_set(&all->failed))
		return;
	all->status = tt_fail(all->err, status, "rank %u: %s", index, err.message);
	rank->backend->give_up(rank->backend);
}

/* Every rank has its thread, because each waits for the others in the midst of its step. */
int tt_ranks_submit(struct tt_engine *engine, const struct tt_step_plan *step, struct tt_error *err)
{
	struct tt_rank *first = &engine->ranks[0];
	if (engine->n_ranks == 1)
		return tt_forward_submit(&first->state, &first->kv.pages, step, err);
	struct submission all = {.engine = engine, .step = step, .failed = ATOMIC_FLAG_INIT, .err = err};
	tt_threads_run(engine->rank_threads, engine->n_ranks, submit_rank, &all);
	if (all.status != TT_OK)
		first->backend->resume(first->backend);
	return all.status;
}

/* Whether two ranks' results are the same where what follows depends on them: sampled tokens, decided rows. */
static bool agree(
	const struct tt_step_plan *step, uint32_t n_layers, const struct tt_results *a, const struct tt_results *b)
{
	for (uint32_t i = 0; i < step->n_samples; i++)
		if (a->samples[i].token != b->samples[i].token)
			return false;
	return !memcmp(a->decided, b->decided, step->n_decisions * n_layers * sizeof *a->decided);
}

int tt_ranks_wait(struct tt_engine *engine, struct tt_results *results, struct tt_error *err)
{
	const struct tt_scheduler *s = &engine->scheduler;
	const struct tt_step_plan *step = s->plans[(s->n_collected + 1) % TT_MAX_IN_FLIGHT].step;
	TT_TRY(tt_forward_wait(&engine->ranks[0].state, results, err));
	for (uint32_t i = 1; i < engine->n_ranks; i++) {
		struct tt_results other = {0};
		TT_TRY(tt_forward_wait(&engine->ranks[i].state, &other, err));
		if (!agree(step, engine->model->config.n_layers, results, &other))
			return tt_fail(err, TT_ERR_DEVICE, "rank %u parted from rank 0 at step %llu", i,
				(unsigned long long)s->n_collected + 1);
	}
	return TT_OK;
}

void tt_ranks_drop(struct tt_engine *engine)
{
	struct tt_results dropped;
	for (uint32_t i = 0; i < engine->n_ranks; i++)
		while (tt_forward_wait(&engine->ranks[i].state, &dropped, NULL) == TT_OK)
			;
}
