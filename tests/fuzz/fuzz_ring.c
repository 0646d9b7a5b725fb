/* A command of rank 0's, as another rank takes it from the ring: steps that an engine has made, with words of the
 * command and of its plan changed. What the ring and the plan's checks let through is run, on that engine's rank.
 *
 * An input is the number of a step, and then changes of six bytes: which word (little endian, the command's three
 * first), and what stands there instead. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "controller/policy/policy.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/forward.h"
#include "runtime/engine/plan_check.h"
#include "runtime/engine/ring.h"
#include "target.h"

enum { MAX_STEPS = 32, COMMAND_WORDS = sizeof(struct tt_command) / sizeof(uint32_t) };

static struct tt_engine *engine;
static struct tt_ring here, there; /* rank 0's and the other's view of one memory */
static struct tt_step_plan *steps[MAX_STEPS];
static uint32_t n_steps, before[MAX_STEPS]; /* samples of the step before */
static int (*real_begin)(struct tt_backend *, const struct tt_step_plan *, bool *, struct tt_error *);

static void must(int status)
{
	if (status != TT_OK)
		abort();
}

static int keep_step(struct tt_backend *backend, const struct tt_step_plan *step, bool *recorded, struct tt_error *err)
{
	static uint32_t n_samples;
	if (n_steps < MAX_STEPS) {
		steps[n_steps] = malloc(step->n_bytes);
		memcpy(steps[n_steps], step, step->n_bytes);
		before[n_steps++] = n_samples;
	}
	n_samples = step->n_samples;
	return real_begin(backend, step, recorded, err);
}

/* Behind a gate that reads the mean and the last token of two layers. */
static struct tt_policy *add_policy(void)
{
	static const uint32_t observed[] = {0, 1};
	const struct tt_model_info *info = tt_engine_info(engine);
	const struct tt_gate_choice choice = {
		.gate = TT_GATE_MLP, .pool = TT_POOL_LAST_MEAN, .observed = observed, .n_observed = 2, .n_units = 5};
	struct tt_policy *p = NULL;
	must(tt_policy_new(&p, info->n_layers, info->hidden_size, 1, NULL));
	must(tt_policy_set_gate(p, &choice, NULL));
	for (uint32_t l = 0; l < info->n_layers; l++)
		p->weights[l] = p->directions[l * info->hidden_size] = 1;
	p->when = TT_WHEN_ALL;
	must(tt_policy_finish(p, NULL));
	free(p->fingerprint);
	free(p->weights_digest);
	p->fingerprint = strdup(info->fingerprint);
	p->weights_digest = strdup(info->weights_digest);
	must(tt_engine_add_policy(engine, p, NULL, NULL));
	return p;
}

/* Prompts in chunks, decoding, penalties, captures, gates and means. */
static void make_steps(struct tt_policy *policy)
{
	struct tt_backend *backend = engine->rank.backend;
	real_begin = backend->begin;
	backend->begin = keep_step;
	for (int i = 0; i < 4; i++) {
		struct tt_request *request;
		struct tt_request_options options;
		int32_t ids[40];
		for (int k = 0; k < 40; k++)
			ids[k] = 5 + k;
		tt_request_options_default(&options);
		options.ids = ids;
		options.n_ids = 7 + 11 * (size_t)i;
		options.max_tokens = 3;
		options.ignore_eos = true;
		options.repetition_penalty = i % 2 ? 1.5f : 1;
		options.n_top = 2;
		options.n_steering = i > 0;
		options.steering[0] = (struct tt_steering){policy, 1};
		must(tt_request_submit(&request, engine, &options, NULL));
		must(tt_request_wait(request, NULL));
		tt_request_free(request);
	}
	backend->begin = real_begin;
}

static void open_ring(void)
{
	const struct tt_limits *limits = &engine->rank.state.limits;
	uint32_t n_layers = tt_engine_info(engine)->n_layers;
	int file;
	must(tt_ring_open(&here, &file, 1, limits, n_layers, 0, NULL));
	must(tt_ring_map(&there, file, limits, n_layers, 0, NULL));
}

/* The tests' model, by way of files in memory. */
static void open_all(void)
{
	static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json"};
	static struct tt_buffer files[sizeof names / sizeof *names];
	struct tt_engine_options options;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char path[512];
		snprintf(path, sizeof path, TT_TEST_DATA "/tiny-llama/%s", names[i]);
		must(tt_file_read(&files[i], path, 1 << 24, NULL));
		fuzz_file_set(names[i], files[i].data, files[i].len);
	}
	tt_engine_options_default(&options);
	options.device = "cpu";
	options.n_threads = 1;
	options.max_batch = 4;
	options.max_step_tokens = 24;
	options.context = 64;
	options.kv_tokens = 192;
	must(tt_engine_open(&engine, "directory", &options, NULL));
	make_steps(add_policy());
	open_ring();
}

/* Rank 0: the step, changed, in the place of the next command. */
static void publish(const uint8_t *data, size_t size, uint32_t k)
{
	struct tt_command command = {TT_COMMAND_STEP, 0, (uint32_t)steps[k]->n_bytes};
	uint32_t *room, words[COMMAND_WORDS];
	if (!tt_ring_reserve(&here, &room))
		abort();
	memset(room, 0xff, here.capacity);
	memcpy(room, steps[k], steps[k]->n_bytes);
	memcpy(words, &command, sizeof words);
	for (; size >= 6; data += 6, size -= 6) {
		size_t at = (size_t)(data[0] | data[1] << 8) % (COMMAND_WORDS + steps[k]->n_bytes / sizeof *room);
		memcpy(at < COMMAND_WORDS ? &words[at] : &room[at - COMMAND_WORDS], data + 2, sizeof *room);
	}
	memcpy(&command, words, sizeof words);
	tt_ring_publish(&here, command);
}

/* The other rank, with room of just that size, so that what is read behind it is told. */
static void carry_out(const struct tt_command *command, const void *copy, uint32_t k)
{
	struct tt_rank *rank = &engine->rank;
	const struct tt_plan_bounds bounds = {.limits = &rank->state.limits,
		.config = &engine->model->config,
		.n_pages = rank->kv.pages.n_pages,
		.n_sampled = before[k],
		.slots = rank->slots,
		.has_sums = rank->kv.pages.sums != NULL};
	struct tt_step_plan *step = malloc(command->n_bytes ? command->n_bytes : 1);
	struct tt_results results = {0};
	struct tt_error err;
	memcpy(step, copy, command->n_bytes);
	if (tt_plan_check(step, command->n_bytes, &bounds, &err) == TT_OK) {
		must(tt_rank_grow(rank, step->n_captures, &err));
		must(tt_forward_submit(&rank->state, &rank->kv.pages, step, &err));
		must(tt_forward_wait(&rank->state, &results, &err));
	}
	free(step);
}

void fuzz_one(const uint8_t *data, size_t size)
{
	struct tt_command command;
	static char *copy;
	if (!engine)
		open_all();
	if (!copy)
		copy = malloc(there.capacity);
	uint32_t k = size ? data[0] % n_steps : 0;
	publish(size ? data + 1 : data, size ? size - 1 : 0, k);
	if (tt_ring_take(&there, &command, copy) && command.kind == TT_COMMAND_STEP)
		carry_out(&command, copy, k);
	atomic_store(&here.meeting->ranks[0].n_done, there.n_taken);
}
