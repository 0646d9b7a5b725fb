#define _GNU_SOURCE /* memfd_create */
#include "runtime/engine/ranks.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/sha256.h"
#include "runtime/engine/followers.h"
#include "runtime/engine/policy_pack.h"
#include "runtime/engine/rank_policies.h"
#include "runtime/engine/ring.h"
#include "runtime/engine/thread.h"

/* Of an engine of several ranks. */
struct tt_group {
	struct tt_ring ring;
	struct tt_followers *followers;
	struct tt_rank_hello hello;
	/* of all others, as they say */
	uint64_t kv_bytes, weight_bytes, rounded_bytes;
	uint32_t commands[TT_MEETING_WORDS]; /* the numbers of the steps' commands, by the steps' */
};

/* ---- Opening */

static int fill_hello(struct tt_engine *engine, const char *path, const struct tt_limits *limits,
	enum tt_kv_type kv_type, struct tt_error *err)
{
	const struct tt_backend *first = engine->rank.backend;
	struct tt_rank_hello *hello = &engine->group->hello;
	uint32_t n_ranks = engine->n_ranks;
	tt_rank_build(hello->build);
	hello->parent = getpid();
	hello->n_ranks = n_ranks;
	hello->variant = first->variant;
	hello->n_threads = first->n_threads > n_ranks ? first->n_threads / n_ranks : 1;
	hello->limits = *limits;
	hello->kv_tokens = engine->options.kv_tokens;
	hello->kv_type = kv_type;
	if (strlen(first->name) >= sizeof hello->backend || strlen(path) >= sizeof hello->path)
		return tt_fail(err, TT_ERR_LIMIT, "%.60s...: a path that is too long for ranks", path);
	memcpy(hello->backend, first->name, strlen(first->name) + 1);
	memcpy(hello->path, path, strlen(path) + 1);
	memcpy(hello->weights_digest, engine->model->weights_digest, sizeof hello->weights_digest);
	return TT_OK;
}

static bool send_command(struct tt_group *g, enum tt_command_kind kind, uint32_t argument)
{
	void *room;
	if (!tt_ring_reserve(&g->ring, &room))
		return false;
	tt_ring_publish(&g->ring, (struct tt_command){.kind = kind, .argument = argument});
	return true;
}

static int connect_all(struct tt_engine *engine, struct tt_error *err)
{
	struct tt_group *g = engine->group;
	struct tt_backend *backend = engine->rank.backend;
	if (!send_command(g, TT_COMMAND_CONNECT, 0))
		return tt_followers_fail(g->followers, err);
	int status = backend->connect(backend, err);
	if (status == TT_OK && tt_ring_wait(&g->ring, tt_ring_last(&g->ring)))
		return TT_OK;
	return tt_followers_fail(g->followers, err);
}

/* The others load while this one does. */
static int open_together(struct tt_engine *engine, struct tt_error *err)
{
	struct tt_group *g = engine->group;
	const struct tt_rank_hello *h = &g->hello;
	struct tt_backend *backend = engine->rank.backend;
	TT_TRY(backend->join(backend, g->ring.meeting, g->ring.shared, 0, h->n_threads, err));
	TT_TRY(tt_rank_open(&engine->rank, 0, h->n_ranks, engine->model, &h->limits, h->kv_tokens, h->kv_type, err));
	for (uint32_t rank = 1; rank < h->n_ranks; rank++) {
		struct tt_rank_reply reply;
		TT_TRY(tt_followers_receive(g->followers, rank, &reply, err));
		g->kv_bytes += reply.kv_bytes;
		g->weight_bytes += reply.weight_bytes;
		g->rounded_bytes += reply.rounded_bytes;
	}
	return backend->connect ? connect_all(engine, err) : TT_OK;
}

static int open_group(struct tt_engine *engine, const char *path, const struct tt_limits *limits,
	enum tt_kv_type kv_type, struct tt_error *err)
{
	const struct tt_config *config = &engine->model->config;
	const struct tt_backend *first = engine->rank.backend;
	int file = -1;
	if (!first->join)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "%s runs on one rank (--tp)", first->name);
	TT_TRY(tt_shard_check(config, engine->n_ranks, first->cut_granule, err));
	TT_TRY(tt_alloc(&engine->group, 1, sizeof *engine->group, err));
	struct tt_group *g = engine->group;
	TT_TRY(fill_hello(engine, path, limits, kv_type, err));
	int status = tt_ring_open(
		&g->ring, &file, engine->n_ranks, limits, config->n_layers, first->shared_bytes(config), err);
	if (status == TT_OK)
		status = tt_followers_open(&g->followers, &g->ring, file, &g->hello, err);
	if (file >= 0)
		close(file);
	return status == TT_OK ? open_together(engine, err) : status;
}

int tt_ranks_open(struct tt_engine *engine, const char *path, const struct tt_limits *limits, enum tt_kv_type kv_type,
	struct tt_error *err)
{
	const struct tt_engine_options *o = &engine->options;
	engine->n_ranks = o->n_ranks;
	return o->n_ranks > 1 ? open_group(engine, path, limits, kv_type, err)
			      : tt_rank_open(&engine->rank, 0, 1, engine->model, limits, o->kv_tokens, kv_type, err);
}

void tt_ranks_describe(const struct tt_engine *engine, struct tt_model_info *info)
{
	info->kv_bytes = engine->rank.kv.n_bytes;
	info->device_weight_bytes = engine->rank.backend->weight_bytes;
	info->rounded_weight_bytes = engine->rank.backend->rounded_bytes;
	if (engine->group) {
		info->kv_bytes += engine->group->kv_bytes;
		info->device_weight_bytes += engine->group->weight_bytes;
		info->rounded_weight_bytes += engine->group->rounded_bytes;
	}
}

/* Others wait for what rank 0's device is yet to do. */
void tt_ranks_settle(struct tt_engine *engine)
{
	if (engine->group && engine->group->followers && engine->rank.state.backend)
		tt_ranks_drop(engine);
}

void tt_ranks_close(struct tt_engine *engine)
{
	struct tt_group *g = engine->group;
	if (g && g->followers)
		send_command(g, TT_COMMAND_STOP, 0);
	if (g)
		tt_followers_close(g->followers);
	tt_rank_close(&engine->rank);
	if (g)
		tt_ring_close(&g->ring);
	free(g);
	engine->group = NULL;
}

/* ---- Policies */

/* A file without a name that holds the policy, and what is said of it. */
static int write_policy(int *file, struct tt_rank_policy *said, const struct tt_policy *policy, struct tt_error *err)
{
	struct tt_buffer block = {0};
	int status = tt_policy_pack(&block, policy, err);
	*file = -1;
	if (status == TT_OK) {
		said->n_bytes = block.len;
		status = tt_sha256_bytes(said->digest, block.data, block.len, err);
	}
	if (status == TT_OK) {
		*file = memfd_create("trimtab-policy", MFD_CLOEXEC);
		if (*file < 0 || tt_file_write_all(*file, block.data, block.len))
			status = tt_fail_io(err, "a policy for ranks", "write");
	}
	tt_buffer_free(&block);
	return status;
}

/* All are told before the command is given, and all answer, whatever one says. */
static int add_to_others(struct tt_engine *engine, uint32_t slot, const struct tt_policy *policy, struct tt_error *err)
{
	struct tt_group *g = engine->group;
	struct tt_rank_policy said;
	int file, status = write_policy(&file, &said, policy, err);
	for (uint32_t rank = 1; rank < engine->n_ranks && status == TT_OK; rank++)
		status = tt_followers_send(g->followers, rank, &said, sizeof said, file, err);
	if (file >= 0)
		close(file);
	TT_TRY(status);
	if (!send_command(g, TT_COMMAND_ADD_POLICY, slot))
		return tt_followers_fail(g->followers, err);
	for (uint32_t rank = 1; rank < engine->n_ranks; rank++) {
		struct tt_rank_reply reply;
		int answer = tt_followers_receive(g->followers, rank, &reply, status == TT_OK ? err : NULL);
		status = status == TT_OK ? answer : status;
	}
	return status;
}

int tt_ranks_add_policy(struct tt_engine *engine, uint32_t slot, const struct tt_policy *policy, struct tt_error *err)
{
	const struct tt_error *failure = tt_ranks_failure(engine);
	if (failure) /* a device that is stuck would take the copy, and never end it */
		return tt_fail(err, failure->code, "%s", failure->message);
	TT_TRY(tt_rank_add_policy(&engine->rank, slot, policy, &engine->model->config, err));
	return engine->group ? add_to_others(engine, slot, policy, err) : TT_OK;
}

void tt_ranks_remove_policy(struct tt_engine *engine, uint32_t slot)
{
	tt_rank_remove_policy(&engine->rank, slot);
	if (engine->group && engine->group->followers)
		send_command(engine->group, TT_COMMAND_REMOVE_POLICY, slot);
}

/* ---- Steps */

static int restore(struct tt_engine *engine, const struct tt_scheduled_step *plan, struct tt_error *err)
{
	struct tt_group *g = engine->group;
	size_t row = engine->model->config.n_layers * sizeof(float);
	uint32_t n = plan->n_restores, *rows;
	for (uint32_t i = 0; i < n; i++)
		TT_TRY(tt_rank_restore(&engine->rank, plan->restores[i].row, plan->restores[i].coef, err));
	if (!g || n == 0)
		return TT_OK;
	if (!tt_ring_reserve(&g->ring, &rows))
		return tt_fail(err, TT_ERR_DEVICE, "another rank has failed");
	for (uint32_t i = 0; i < n; i++) {
		rows[i] = plan->restores[i].row;
		memcpy((char *)(rows + n) + i * row, plan->restores[i].coef, row);
	}
	tt_ring_publish(&g->ring,
		(struct tt_command){
			.kind = TT_COMMAND_RESTORE, .argument = n, .n_bytes = (uint32_t)(n * (sizeof *rows + row))});
	return TT_OK;
}

/* Returns status, with own in err where it is an error: of several ranks, that is the end of all. */
static int end_by(struct tt_engine *engine, int status, struct tt_error *own, struct tt_error *err)
{
	if (status != TT_OK && engine->group)
		status = tt_followers_fail(engine->group->followers, own);
	if (status != TT_OK && err)
		*err = *own;
	return status;
}

int tt_ranks_prepare(struct tt_engine *engine, const struct tt_scheduled_step *plan, struct tt_error *err)
{
	struct tt_error own = {0};
	int status = tt_rank_grow(&engine->rank, plan->step->n_captures, &own);
	if (status == TT_OK)
		status = restore(engine, plan, &own);
	return end_by(engine, status, &own, err);
}

static int publish_step(struct tt_engine *engine, const struct tt_step_plan *step, struct tt_error *err)
{
	struct tt_group *g = engine->group;
	uint32_t number = (uint32_t)engine->scheduler.n_planned;
	void *room;
	if (!tt_ring_reserve(&g->ring, &room))
		return tt_fail(err, TT_ERR_DEVICE, "another rank has failed");
	memcpy(room, step, step->n_bytes);
	tt_ring_publish(
		&g->ring, (struct tt_command){.kind = TT_COMMAND_STEP, .argument = number, .n_bytes = step->n_bytes});
	g->commands[number % TT_MEETING_WORDS] = tt_ring_last(&g->ring);
	return TT_OK;
}

int tt_ranks_submit(struct tt_engine *engine, const struct tt_step_plan *step, struct tt_error *err)
{
	struct tt_error own = {0};
	int status = engine->group ? publish_step(engine, step, &own) : TT_OK;
	if (status == TT_OK)
		status = tt_forward_submit(&engine->rank.state, &engine->rank.kv.pages, step, &own);
	return end_by(engine, status, &own, err);
}

/* Whether all ranks have made of a step what rank 0 has, which is own. */
static int compare(struct tt_engine *engine, uint64_t own, struct tt_error *err)
{
	struct tt_group *g = engine->group;
	uint64_t number = engine->scheduler.n_collected + 1, at = number % TT_MEETING_WORDS;
	const struct tt_meeting_rank *ranks = g->ring.meeting->ranks;
	if (!tt_ring_wait(&g->ring, g->commands[at]))
		return tt_followers_fail(g->followers, err);
	for (uint32_t rank = 1; rank < engine->n_ranks; rank++) {
		struct tt_error why = {0};
		if (atomic_load(&ranks[rank].words[at]) == own)
			continue;
		tt_fail(&why, TT_ERR_DEVICE, "rank %u parted from rank 0 at step %llu", rank,
			(unsigned long long)number);
		return tt_followers_blame(g->followers, rank, &why, err);
	}
	return TT_OK;
}

int tt_ranks_wait(struct tt_engine *engine, struct tt_results *results, struct tt_error *err)
{
	struct tt_error own = {0};
	int status = tt_forward_wait(&engine->rank.state, results, &own);
	return status == TT_OK && engine->group ? compare(engine, results->word, err)
						: end_by(engine, status, &own, err);
}

void tt_ranks_drop(struct tt_engine *engine)
{
	struct tt_results dropped;
	while (tt_forward_wait(&engine->rank.state, &dropped, NULL) == TT_OK)
		;
}

const struct tt_error *tt_ranks_failure(const struct tt_engine *engine)
{
	return engine->group ? tt_followers_failure(engine->group->followers) : NULL;
}

bool tt_engine_is_lost(const struct tt_engine *engine)
{
	return engine->group && atomic_load(&engine->group->ring.meeting->ended) != 0;
}

int tt_engine_check(struct tt_engine *engine, struct tt_error *err)
{
	return tt_engine_is_lost(engine) ? tt_followers_fail(engine->group->followers, err) : TT_OK;
}
