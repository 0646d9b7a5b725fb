/* trimtab-rank with a fault in it, for test_ranks_failures: TT_PLANT is "RANK COMMAND WHAT", and that rank does WHAT
 * when it has taken its command of that number, from 1 on; 0 is while it loads. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/sha256.h"
#include "runtime/engine/rank.h"
#include "runtime/engine/ring.h"

static unsigned planted_rank, planted_command;
static char what[20];
static struct tt_rank *own;
static unsigned own_index, n_taken;

static bool is(const char *word)
{
	return own_index == planted_rank && !strcmp(what, word);
}

/* The last layer's coefficient of each row. */
static void flip(void)
{
	const float other = -3.25f;
	uint32_t n = own->state.model->config.n_layers;
	for (uint32_t row = 1; row < own->state.limits.n_rows; row++)
		own->backend->upload(own->backend, own->state.coef + row * n + n - 1, &other, sizeof other, NULL);
}

static void act(void)
{
	if (is("kill"))
		raise(SIGKILL);
	if (is("stop"))
		raise(SIGSTOP);
	if (is("exit"))
		_exit(3);
	if (is("flip"))
		flip();
}

int __real_tt_rank_open(struct tt_rank *, uint32_t, uint32_t, struct tt_model *, const struct tt_limits *, uint32_t,
	enum tt_kv_type, struct tt_error *);
int __wrap_tt_rank_open(struct tt_rank *rank, uint32_t index, uint32_t n_ranks, struct tt_model *host,
	const struct tt_limits *limits, uint32_t kv_tokens, enum tt_kv_type kv_type, struct tt_error *err);

int __wrap_tt_rank_open(struct tt_rank *rank, uint32_t index, uint32_t n_ranks, struct tt_model *host,
	const struct tt_limits *limits, uint32_t kv_tokens, enum tt_kv_type kv_type, struct tt_error *err)
{
	const char *plant = getenv("TT_PLANT");
	own = rank;
	own_index = index;
	if (plant && sscanf(plant, "%u %u %19s", &planted_rank, &planted_command, what) == 3 && planted_command == 0) {
		act();
		if (is("fail"))
			return tt_fail(err, TT_ERR_MEMORY, "planted");
	}
	return __real_tt_rank_open(rank, index, n_ranks, host, limits, kv_tokens, kv_type, err);
}

bool __real_tt_ring_take(struct tt_ring *, struct tt_command *, void *);
bool __wrap_tt_ring_take(struct tt_ring *ring, struct tt_command *command, void *room);

bool __wrap_tt_ring_take(struct tt_ring *ring, struct tt_command *command, void *room)
{
	bool good = __real_tt_ring_take(ring, command, room);
	if (++n_taken != planted_command)
		return good;
	act();
	if (is("kind"))
		command->kind = 99;
	if (is("plan") && command->kind == TT_COMMAND_STEP)
		tt_step_tokens(room)[0] = INT32_MAX;
	return good;
}

bool __real_tt_sha256_equal(const uint8_t a[32], const uint8_t b[32]);
bool __wrap_tt_sha256_equal(const uint8_t a[32], const uint8_t b[32]);

bool __wrap_tt_sha256_equal(const uint8_t a[32], const uint8_t b[32])
{
	return __real_tt_sha256_equal(a, b) && !is("digest");
}
