#include "runtime/engine/follower.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "base/start_thread.h"
#include "runtime/engine/plan_check.h"
#include "runtime/engine/policy_pack.h"
#include "runtime/engine/rank_messages.h"
#include "runtime/engine/rank_policies.h"
#include "runtime/engine/ring.h"

struct follower {
	int socket, file;
	struct tt_rank_hello hello;
	struct tt_backend *backend; /* until it is the rank's */
	struct tt_model *model;
	struct tt_ring ring;
	void *room; /* a copy of what follows a command */
	struct tt_rank rank;
	uint32_t n_sampled; /* rows of the step before */
};

/* ---- Opening */

/* Rank 0 may have ended before the kernel was asked to end this process with it. */
static int stay_with(int32_t parent, struct tt_error *err)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		return tt_fail(err, TT_ERR_IO, "rank 0 is not the parent of this process");
	return TT_OK;
}

/* Ends the process with rank 0's, where the kernel did not. */
static void *watch(void *argument)
{
	struct pollfd socket = {.fd = (int)(intptr_t)argument};
	while (poll(&socket, 1, -1) < 0 && errno == EINTR)
		;
	_exit(1);
}

static int start_watch(struct follower *f, struct tt_error *err)
{
	pthread_t thread;
	TT_TRY(tt_start_thread(&thread, watch, (void *)(intptr_t)f->socket, err));
	pthread_detach(thread);
	return TT_OK;
}

static int check_hello(struct tt_rank_hello *h, struct tt_error *err)
{
	char build[sizeof h->build];
	h->build[sizeof h->build - 1] = h->backend[sizeof h->backend - 1] = h->path[sizeof h->path - 1] = 0;
	h->weights_digest[sizeof h->weights_digest - 1] = 0;
	tt_rank_build(build);
	if (strcmp(build, h->build))
		return tt_fail(
			err, TT_ERR_MISMATCH, "trimtab-rank is another build: %s there, %s here", build, h->build);
	return h->rank < h->n_ranks && h->n_ranks <= TT_MAX_RANKS
		       ? TT_OK
		       : tt_fail(err, TT_ERR_FORMAT, "there is no rank %u of %u", h->rank, h->n_ranks);
}

static int load(struct follower *f, struct tt_error *err)
{
	const struct tt_rank_hello *h = &f->hello;
	TT_TRY(tt_device_open_rank(&f->backend, h->backend, h->variant, h->rank, h->n_threads, err));
	TT_TRY(tt_model_open(&f->model, h->path, err));
	const struct tt_config *config = &f->model->config;
	if (strcmp(f->model->weights_digest, h->weights_digest))
		return tt_fail(err, TT_ERR_MISMATCH, "%s: not the weights that rank 0 has", h->path);
	TT_TRY(tt_ring_map(&f->ring, f->file, &h->limits, config->n_layers, f->backend->shared_bytes(config), err));
	TT_TRY(tt_alloc_aligned(&f->room, f->ring.capacity, 1, err));
	TT_TRY(f->backend->join(f->backend, f->ring.meeting, f->ring.shared, h->rank, h->n_threads, err));
	f->rank.backend = f->backend;
	f->backend = NULL;
	return tt_rank_open(&f->rank, h->rank, h->n_ranks, f->model, &h->limits, h->kv_tokens, h->kv_type, err);
}

static int greet(struct follower *f, struct tt_error *err)
{
	TT_TRY(tt_rank_receive(f->socket, &f->hello, sizeof f->hello, &f->file, err));
	TT_TRY(stay_with(f->hello.parent, err));
	TT_TRY(start_watch(f, err));
	struct tt_rank_reply reply = {0};
	int status = check_hello(&f->hello, &reply.error);
	if (status == TT_OK)
		status = load(f, &reply.error);
	if (status == TT_OK) {
		reply.kv_bytes = f->rank.kv.n_bytes;
		reply.weight_bytes = f->rank.backend->weight_bytes;
		reply.rounded_bytes = f->rank.backend->rounded_bytes;
	}
	TT_TRY(tt_rank_send(f->socket, &reply, sizeof reply, -1, err));
	if (status == TT_OK)
		return TT_OK;
	/* Rank 0 reads that before it hears of an end, and ends all. */
	for (;;)
		pause();
}

/* ---- Commands */

static int run_step(struct follower *f, const struct tt_command *command, struct tt_error *err)
{
	const struct tt_step_plan *step = f->room;
	struct tt_results results = {0};
	const struct tt_plan_bounds bounds = {
		.limits = &f->hello.limits,
		.config = &f->model->config,
		.n_pages = f->rank.kv.pages.n_pages,
		.n_sampled = f->n_sampled,
		.slots = f->rank.slots,
		.has_sums = f->rank.kv.pages.sums != NULL,
	};
	TT_TRY(tt_plan_check(step, command->n_bytes, &bounds, err));
	TT_TRY(tt_rank_grow(&f->rank, step->n_captures, err));
	TT_TRY(tt_forward_submit(&f->rank.state, &f->rank.kv.pages, step, err));
	TT_TRY(tt_forward_wait(&f->rank.state, &results, err));
	f->n_sampled = step->n_samples;
	atomic_store(&f->ring.meeting->ranks[f->hello.rank].words[command->argument % TT_MEETING_WORDS], results.word);
	return TT_OK;
}

static int restore(struct follower *f, const struct tt_command *command, struct tt_error *err)
{
	uint32_t n = command->argument, n_rows = f->hello.limits.n_rows;
	size_t n_layers = f->model->config.n_layers;
	const uint32_t *rows = f->room;
	if (n > n_rows || command->n_bytes != n * (sizeof *rows + n_layers * sizeof(float)))
		return tt_fail(err, TT_ERR_FORMAT, "a command restores %u rows", n);
	const float *coef = (const float *)(const void *)(rows + n);
	for (uint32_t i = 0; i < n; i++) {
		if (rows[i] == 0 || rows[i] >= n_rows)
			return tt_fail(err, TT_ERR_FORMAT, "a command restores row %u", rows[i]);
		TT_TRY(tt_rank_restore(&f->rank, rows[i], coef + i * n_layers, err));
	}
	return TT_OK;
}

static int take_policy(
	struct follower *f, uint32_t slot, const void *block, const struct tt_rank_policy *said, struct tt_error *err)
{
	const struct tt_config *config = &f->model->config;
	uint8_t digest[32];
	struct tt_policy policy;
	TT_TRY(tt_sha256_bytes(digest, block, said->n_bytes, err));
	if (!tt_sha256_equal(digest, said->digest))
		return tt_fail(err, TT_ERR_FORMAT, "a policy came with another digest than its own");
	TT_TRY(tt_policy_unpack(&policy, block, said->n_bytes, config, err));
	return tt_rank_add_policy(&f->rank, slot, &policy, config, err);
}

static bool is_slot(const struct follower *f, uint32_t slot, bool loaded)
{
	return slot < TT_MAX_SLOTS && (f->rank.slots[slot].weights != NULL) == loaded;
}

static int add_policy(struct follower *f, uint32_t slot, struct tt_error *err)
{
	struct tt_rank_policy said;
	struct tt_rank_reply reply = {0};
	int file = -1;
	if (!is_slot(f, slot, false))
		return tt_fail(err, TT_ERR_FORMAT, "a command adds a policy to slot %u", slot);
	TT_TRY(tt_rank_receive(f->socket, &said, sizeof said, &file, err));
	void *block = said.n_bytes && said.n_bytes < SIZE_MAX / 2
			      ? mmap(NULL, said.n_bytes, PROT_READ, MAP_SHARED, file, 0)
			      : MAP_FAILED;
	if (block == MAP_FAILED) {
		tt_fail(&reply.error, TT_ERR_MEMORY, "a policy of %llu bytes cannot be mapped",
			(unsigned long long)said.n_bytes);
	} else {
		take_policy(f, slot, block, &said, &reply.error);
		munmap(block, said.n_bytes);
	}
	if (file >= 0)
		close(file);
	return tt_rank_send(f->socket, &reply, sizeof reply, -1, err);
}

/* After a policy that some rank refused, those that took it forget it. */
static int remove_policy(struct follower *f, uint32_t slot, struct tt_error *err)
{
	if (slot >= TT_MAX_SLOTS)
		return tt_fail(err, TT_ERR_FORMAT, "a command removes slot %u", slot);
	tt_rank_remove_policy(&f->rank, slot);
	return TT_OK;
}

static int carry_out(struct follower *f, const struct tt_command *command, struct tt_error *err)
{
	switch ((enum tt_command_kind)command->kind) {
	case TT_COMMAND_STEP:
		return run_step(f, command, err);
	case TT_COMMAND_RESTORE:
		return restore(f, command, err);
	case TT_COMMAND_ADD_POLICY:
		return add_policy(f, command->argument, err);
	case TT_COMMAND_REMOVE_POLICY:
		return remove_policy(f, command->argument, err);
	case TT_COMMAND_CONNECT:
		return f->rank.backend->connect ? f->rank.backend->connect(f->rank.backend, err)
						: tt_fail(err, TT_ERR_FORMAT, "there is nothing to connect");
	case TT_COMMAND_STOP:
		return TT_OK;
	}
	return tt_fail(err, TT_ERR_FORMAT, "%u is no command", command->kind);
}

static int run(struct follower *f, struct tt_error *err)
{
	struct tt_command command = {.kind = TT_COMMAND_STEP};
	while (command.kind != TT_COMMAND_STOP) {
		if (!tt_ring_take(&f->ring, &command, f->room))
			return tt_fail(err, TT_ERR_DEVICE, "another rank has failed, or a command is too long");
		TT_TRY(carry_out(f, &command, err));
		tt_ring_done(&f->ring, f->hello.rank);
	}
	return TT_OK;
}

static void close_all(struct follower *f)
{
	for (uint32_t i = 0; f->rank.slots && i < TT_MAX_SLOTS; i++)
		tt_rank_remove_policy(&f->rank, i);
	tt_rank_close(&f->rank);
	if (f->backend)
		f->backend->close(f->backend);
	free(f->room);
	tt_ring_close(&f->ring);
	tt_model_close(f->model);
}

int tt_follower_run(int socket, struct tt_error *err)
{
	struct tt_error why = {0};
	struct follower *f;
	TT_TRY(tt_alloc(&f, 1, sizeof *f, err));
	f->socket = socket;
	f->file = -1;
	int status = greet(f, &why);
	if (status == TT_OK) {
		close(f->file);
		status = run(f, &why);
		if (status != TT_OK)
			tt_meeting_fail(f->ring.meeting, f->hello.rank, &why);
	}
	close_all(f);
	free(f);
	return status == TT_OK ? TT_OK : tt_fail(err, status, "%s", why.message);
}
