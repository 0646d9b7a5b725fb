/* Ranks that fail. Whatever ends or stops a rank's process, and whatever it is made to do, requests end by the name of
 * that rank, and no process and no file is left. The program of the ranks is the one of planted_rank.c. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "golden.h"
#include "random.h"
#ifdef TT_TEST_CUDA
#include "kernels/emu/emu.h"
#endif

enum { N_LONG = 12 };
static const int32_t IDS[N_LONG] = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static uint32_t n_prompt = 4, step_tokens; /* of a request; 0: the engine's */

/* GPUs cut no other tiny model into four; and their ranks have one command more, by which they are connected. */
#ifdef TT_TEST_CUDA
#define MODEL GOLDEN("tiny-k/tiny-k.q4_k.gguf")
enum { EARLIER_COMMANDS = 1, KILLS = 4 };
#else
#define MODEL GOLDEN("tiny-llama")
enum { EARLIER_COMMANDS = 0, KILLS = 10 };
#endif

static int open_ranks(struct tt_engine **engine, uint32_t n_ranks, struct tt_error *err)
{
	struct tt_engine_options options;
	tt_engine_options_default(&options);
	setenv("TT_EMU_DEVICES", "16", 1);
	options.device = TEST_DEVICE;
	options.n_threads = n_ranks;
	options.max_batch = 4;
	options.max_step_tokens = step_tokens;
	options.context = 100;
	options.kv_tokens = 400;
	options.n_ranks = n_ranks;
	return tt_engine_open(engine, MODEL, &options, err);
}

/* Adds a direction on every layer to every token. */
static struct tt_policy *make_policy(const struct tt_engine *engine)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	struct tt_policy *p = NULL;
	uint64_t state = 1;
	must(tt_policy_new(&p, info->n_layers, info->hidden_size, 1, err));
	for (size_t i = 0; i < (size_t)info->n_layers * info->hidden_size; i++)
		p->directions[i] = (float)(next_random(&state) % 1000) / 500 - 1;
	for (uint32_t l = 0; l < info->n_layers; l++)
		p->weights[l] = 1;
	p->when = TT_WHEN_ALL;
	must(tt_policy_set_text(&p->fingerprint, info->fingerprint, err));
	must(tt_policy_set_text(&p->weights_digest, info->weights_digest, err));
	return p;
}

static int try_to_ask(struct tt_request **out, struct tt_engine *engine, const struct tt_policy *policy,
	uint32_t max_tokens, struct tt_error *error)
{
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.ids = IDS;
	options.n_ids = n_prompt;
	options.max_tokens = max_tokens;
	options.ignore_eos = true;
	options.n_steering = policy != NULL;
	options.steering[0] = (struct tt_steering){(struct tt_policy *)(uintptr_t)policy, 1};
	return tt_request_submit(out, engine, &options, error);
}

static void ask(struct tt_request **out, struct tt_engine *engine, const struct tt_policy *policy, uint32_t max_tokens)
{
	must(try_to_ask(out, engine, policy, max_tokens, err));
}

static uint32_t n_files(void)
{
	DIR *folder = opendir("/proc/self/fd");
	uint32_t n = 0;
	while (readdir(folder))
		n++;
	closedir(folder);
	return n;
}

/* The processes that threads of the process have started. */
static uint32_t children(int process, int *out, uint32_t most)
{
	char path[80];
	uint32_t n = 0;
	snprintf(path, sizeof path, "/proc/%d/task", process);
	DIR *folder = opendir(path);
	for (struct dirent *entry; folder && (entry = readdir(folder));) {
		snprintf(path, sizeof path, "/proc/%d/task/%.20s/children", process, entry->d_name);
		FILE *file = fopen(path, "r");
		while (file && n < most && fscanf(file, "%d", &out[n]) == 1)
			n++;
		if (file)
			fclose(file);
	}
	if (folder)
		closedir(folder);
	return n;
}

static void check_nothing_left(uint32_t files)
{
	int child;
	cr_expect_eq(children(getpid(), &child, 1), 0, "a process is left");
	cr_expect(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD, "a process is left");
	cr_expect_eq(n_files(), files, "%u files are open, %u were", n_files(), files);
#ifdef TT_TEST_CUDA
	tt_emu_reset(TT_EMU_FORWARD, 5); /* what failed on a stream stays with the process, as on a GPU */
#endif
}

static void plant(uint32_t rank, uint32_t command, const char *what)
{
	char text[60];
	snprintf(text, sizeof text, "%u %u %s", rank, command, what);
	setenv("TT_PLANT", text, 1);
}

/* ---- What a rank does at a command ---- */

/* Commands: the policy, then steps. How the request, and each later one, ends. */
static void check_end(uint32_t n_ranks, uint32_t rank, uint32_t command, const char *what, const char *want)
{
	uint32_t files = n_files();
	struct tt_engine *engine = NULL;
	struct tt_policy *policy = NULL;
	struct tt_request *requests[2], *late;
	struct tt_error error = {0}, again = {0};
	plant(rank, command ? command + EARLIER_COMMANDS : 0, what);
	int status = open_ranks(&engine, n_ranks, &error);
	if (status == TT_OK) {
		policy = make_policy(engine);
		must(tt_engine_add_policy(engine, policy, NULL, err));
		for (int i = 0; i < 2; i++)
			ask(&requests[i], engine, policy, 20);
		status = tt_request_wait(requests[0], &error);
		cr_expect_neq(tt_request_wait(requests[1], &again), TT_OK);
		cr_expect_str_eq(again.message, error.message);
		ask(&late, engine, NULL, 3);
		cr_expect_neq(tt_request_wait(late, &again), TT_OK);
		cr_expect_str_eq(again.message, error.message);
		for (int i = 0; i < 2; i++)
			tt_request_free(requests[i]);
		tt_request_free(late);
	}
	cr_expect(status != TT_OK && strstr(error.message, want), "%s of rank %u at %u: %d, \"%s\", not \"%s\"", what,
		rank, command, status, error.message, want);
	tt_engine_close(engine);
	tt_policy_free(policy);
	check_nothing_left(files);
}

Test(ranks_failures, a_rank_that_ends_is_named, .timeout = 120)
{
	check_end(4, 1, 2, "kill", "rank 1 was ended by signal 9");
	check_end(2, 1, 5, "exit", "rank 1 has ended");
	check_end(4, 3, 9, "kill", "rank 3 was ended by signal 9");
}

Test(ranks_failures, a_rank_that_ends_while_it_loads_is_named, .timeout = 120)
{
	check_end(4, 2, 0, "kill", "rank 2 was ended by signal 9");
	check_end(2, 1, 0, "exit", "rank 1 has ended");
	check_end(4, 1, 0, "fail", "rank 1: planted");
}

Test(ranks_failures, a_rank_that_stands_still_is_named, .timeout = 120)
{
	check_end(4, 2, 3, "stop", "rank 2 stood still for 5 s");
}

Test(ranks_failures, a_rank_stopped_while_it_loads_is_named, .timeout = 120)
{
	check_end(2, 1, 0, "stop", "rank 1 stood still for 5 s");
}

#ifdef TT_TEST_CUDA
/* NCCL waits for it. */
Test(ranks_failures, a_rank_that_ends_before_it_is_connected_is_named, .timeout = 120)
{
	struct tt_engine *engine = NULL;
	struct tt_error error = {0};
	plant(1, 1, "kill");
	cr_assert_eq(open_ranks(&engine, 2, &error), TT_ERR_DEVICE);
	cr_expect_not_null(strstr(error.message, "rank 1 was ended by signal 9"), "%s", error.message);
}

/* ---- Exchanges that do not end: on a GPU they spin, which looks like work ---- */

static struct tt_engine *open_planted(uint32_t n_ranks, const char *what)
{
	struct tt_engine *engine = NULL;
	unsetenv("TT_PLANT");
	setenv("TT_EMU_NCCL", what, 1);
	must(open_ranks(&engine, n_ranks, err));
	unsetenv("TT_EMU_NCCL");
	return engine;
}

/* The request ends, the engine closes, and no rank is left, whatever hangs. */
static void check_exchange(uint32_t n_ranks, const char *what, const char *want)
{
	uint32_t files = n_files();
	struct tt_engine *engine = open_planted(n_ranks, what);
	struct tt_request *request;
	struct tt_error error = {0};
	ask(&request, engine, NULL, 40);
	cr_expect_eq(tt_request_wait(request, &error), TT_ERR_DEVICE);
	cr_expect_str_eq(error.message, want, "%s: %s", what, error.message);
	tt_request_free(request);
	tt_engine_close(engine);
	check_nothing_left(files);
}

#define NONE_ENDS "rank 0: waited 5 s for an exchange between ranks that none of them ends"

/* Its prompt's step has the first exchanges; by the hundredth, steps are graphs. */
Test(ranks_failures, an_exchange_that_a_rank_does_not_come_to_is_named, .timeout = 240)
{
	check_exchange(4, "2 3 absent", NONE_ENDS);
	check_exchange(2, "0 100 absent", NONE_ENDS);
}

/* The last of a layer: rank 1 is a mark behind. */
Test(ranks_failures, an_exchange_that_does_not_end_is_named, .timeout = 240)
{
	check_exchange(4, "-1 102 spin", NONE_ENDS);
	check_exchange(2, "1 104 spin", "rank 0: waited 5 s for an exchange that rank 1 does not end");
}

/* NCCL's last call too, on rank 0, whose process stays. */
Test(ranks_failures, an_abort_that_hangs_is_left_behind, .timeout = 240)
{
	check_exchange(2, "0 100 abort", "rank 0: waited 5 s for an exchange that rank 0 does not end");
}

/* An engine with a policy, after a step of it that was begun and not waited for. */
static struct tt_engine *begin_planted(const char *plant, struct tt_policy **policy)
{
	struct tt_engine *engine = open_planted(2, plant);
	struct tt_request *request;
	*policy = make_policy(engine);
	must(tt_engine_add_policy(engine, *policy, NULL, err));
	ask(&request, engine, *policy, 40);
	tt_engine_step(engine, NULL);
	tt_request_free(request);
	return engine;
}

/* Nothing ends what is on the device: memory that is given back is left to it. */
Test(ranks_failures, a_policy_is_taken_from_a_device_that_is_stuck, .timeout = 240)
{
	uint32_t files = n_files();
	struct tt_policy *policy;
	struct tt_engine *engine = begin_planted("-1 3 stuck", &policy);
	tt_engine_remove_policy(engine, policy, NULL);
	struct tt_error error = {0};
	cr_expect_eq(tt_engine_step(engine, NULL), TT_ERR_DEVICE);
	cr_expect_eq(tt_engine_add_policy(engine, policy, NULL, &error), TT_ERR_DEVICE);
	cr_expect_not_null(strstr(error.message, "waited 5 s"), "%s", error.message);
	tt_engine_close(engine);
	tt_policy_free(policy);
	check_nothing_left(files);
}

Test(ranks_failures, an_engine_closes_whose_exchange_does_not_end, .timeout = 240)
{
	uint32_t files = n_files();
	struct tt_policy *policy;
	struct tt_engine *engine = begin_planted("-1 3 spin", &policy);
	tt_engine_close(engine);
	tt_policy_free(policy);
	check_nothing_left(files);
}

/* Rank 1 would take cuda:1. */
Test(ranks_failures, a_rank_without_a_device_is_named, .timeout = 120)
{
	struct tt_engine_options options;
	struct tt_engine *engine = NULL;
	struct tt_error error = {0};
	unsetenv("TT_PLANT");
	unsetenv("TT_EMU_DEVICES");
	tt_engine_options_default(&options);
	options.device = "cuda";
	options.n_ranks = 2;
	cr_assert_eq(tt_engine_open(&engine, MODEL, &options, &error), TT_ERR_DEVICE);
	cr_expect_str_eq(error.message, "rank 1: there is no cuda:1, CUDA finds 1");
}
#endif

/* What a rank would not survive to carry out. */
Test(ranks_failures, a_rank_trusts_no_command, .timeout = 120)
{
	check_end(2, 1, 3, "kind", "rank 1: 99 is no command");
	check_end(4, 2, 2, "plan", "rank 2: a step plan's token is out of range");
}

/* The coefficient steers the step in which it is flipped, the third: one command before was the policy. */
Test(ranks_failures, a_rank_with_a_flipped_coefficient_is_named_with_the_step, .timeout = 120)
{
	check_end(4, 2, 4, "flip", "rank 2 parted from rank 0 at step 3");
	check_end(4, 1, 9, "flip", "rank 1 parted from rank 0 at step 8");
}

#ifdef TT_TEST_CUDA
/* Steps of the first tokens of a prompt, as the third is, have no sample to compare. */
Test(ranks_failures, a_rank_that_parts_in_a_step_without_samples_is_named_with_the_step, .timeout = 120)
{
	step_tokens = 4;
	n_prompt = N_LONG;
	check_end(4, 2, 4, "flip", "rank 2 parted from rank 0 at step 3");
}
#endif

/* ---- Policies ---- */

Test(ranks_failures, a_policy_that_a_rank_refuses_is_on_none, .timeout = 120)
{
	uint32_t files = n_files();
	struct tt_engine *engine = NULL;
	struct tt_policy *policy = NULL;
	struct tt_request *request;
	struct tt_error error = {0};
	plant(2, 99, "digest");
	must(open_ranks(&engine, 4, err));
	policy = make_policy(engine);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(tt_engine_add_policy(engine, policy, NULL, &error), TT_ERR_FORMAT, "%s", error.message);
		cr_expect_str_eq(error.message, "rank 2: a policy came with another digest than its own");
	}
	ask(&request, engine, NULL, 5);
	must(tt_request_wait(request, err));
	tt_request_free(request);
	tt_engine_close(engine);
	tt_policy_free(policy);
	check_nothing_left(files);
}

/* ---- Kills from outside ---- */

static void nap(long microseconds)
{
	nanosleep(&(struct timespec){.tv_nsec = microseconds * 1000}, NULL);
}

/* The engine has its own thread, or each waits for itself; an idle rank's end is told to the next request. */
Test(ranks_failures, kills_at_random_moments_end_every_request_by_name, .timeout = 120)
{
	uint64_t seed = 20;
	unsetenv("TT_PLANT");
	for (int round = 0; round < KILLS; round++) {
		uint32_t files = n_files(), n_ranks = round % 2 ? 4 : 2;
		int pids[4] = {0};
		struct tt_engine *engine = NULL;
		struct tt_request *requests[3];
		must(open_ranks(&engine, n_ranks, err));
		cr_assert_eq(children(getpid(), pids, 4), n_ranks - 1);
		if (round % 3)
			must(tt_engine_start(engine, err));
		for (int i = 0; i < 3; i++)
			ask(&requests[i], engine, NULL, 90);
		nap((long)(next_random(&seed) % 3000));
		kill(pids[next_random(&seed) % (n_ranks - 1)], SIGKILL);
		for (int i = 0; i < 3; i++) {
			struct tt_error error = {0};
			int status = tt_request_wait(requests[i], &error);
			if (status == TT_OK) { /* it was faster than the kill, which the next one is told of */
				tt_request_free(requests[i]);
				requests[i] = NULL;
				status = try_to_ask(&requests[i], engine, NULL, 90, &error);
				if (status == TT_OK)
					status = tt_request_wait(requests[i], &error);
			}
			cr_expect(status == TT_ERR_DEVICE && !strncmp(error.message, "rank ", 5) &&
					  strstr(error.message, "signal 9"),
				"round %d: %d, %s", round, status, error.message);
			tt_request_free(requests[i]);
		}
		tt_engine_close(engine);
		check_nothing_left(files);
	}
}

static bool is_gone(int pid)
{
	char path[40], state = 0;
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *file = fopen(path, "r");
	if (file && fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	if (file)
		fclose(file);
	return !file || state == 'Z'; /* nobody may wait for orphans here */
}

/* Rank 0 cannot end them then; one of them cannot either, being stopped. */
Test(ranks_failures, ranks_end_with_rank_0, .timeout = 120)
{
	unsetenv("TT_PLANT");
	int pids[4], ready[2];
	char byte;
	cr_assert(!pipe(ready));
	pid_t host = fork();
	if (host == 0) {
		struct tt_engine *engine = NULL;
		if (open_ranks(&engine, 4, NULL) == TT_OK && write(ready[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	cr_assert_eq(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	cr_assert_eq(children(host, pids, 4), 3);
	kill(pids[0], SIGSTOP);
	kill(host, SIGKILL);
	waitpid(host, NULL, 0);
	for (int i = 0; i < 3; i++)
		while (!is_gone(pids[i]))
			nap(1000);
}
