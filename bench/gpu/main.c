/* gpu-bench: what gpu-check times a GPU with, and asks about it.
 *
 *     gpu-bench --machine               describes the device; exit 77: there is none
 *     gpu-bench --alive                 whether it still does what it is told
 *     gpu-bench --hold                  keeps the driver ready until its standard input ends
 *     gpu-bench --kernels | --quants | --decode [--ranks N] | --once [--model NAME]... [--tokens N] [--after GROUP] ...
 *
 * Exit 0: all right; 1: it came to its end, and something failed; 3: the device's error stays, so that what follows the
 * last "begin GROUP" has to be run by another process (--after GROUP). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "bench/gpu/gpu.h"

enum { MAX_MODELS = 8, EXIT_DEVICE = 3, EXIT_NONE = 77 };

struct settings {
	bool machine, alive, hold, kernels, quants, models, once, tiny, every_arm;
	const char *names[MAX_MODELS];
	size_t n_names;
	const char *after;
	double seconds; /* after which no group is begun */
	uint32_t rounds, tokens, ranks;
};

static int usage(void)
{
	fprintf(stderr, "usage: gpu-bench --machine | --alive | --hold | --kernels | --quants | --decode | --once\n"
			"                 [--model NAME]... [--tokens N] [--after GROUP] [--rounds N] [--seconds N] "
			"[--every-arm] [--ranks N] "
			"[--tiny]\n");
	return 2;
}

static bool read_arguments(int argc, char **argv, struct settings *s)
{
	const struct {
		const char *name;
		bool *flag;
	} flags[] = {{"--machine", &s->machine}, {"--alive", &s->alive}, {"--hold", &s->hold},
		{"--kernels", &s->kernels}, {"--quants", &s->quants}, {"--decode", &s->models}, {"--once", &s->once},
		{"--tiny", &s->tiny}, {"--every-arm", &s->every_arm}};
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;
		size_t f = 0;
		while (f < sizeof flags / sizeof *flags && strcmp(argv[i], flags[f].name))
			f++;
		if (f < sizeof flags / sizeof *flags)
			*flags[f].flag = true;
		else if (!strcmp(argv[i], "--after") && value)
			s->after = argv[++i];
		else if (!strcmp(argv[i], "--rounds") && value && atoi(value) > 0)
			s->rounds = (uint32_t)atoi(argv[++i]);
		else if (!strcmp(argv[i], "--tokens") && value && atoi(value) > 0)
			s->tokens = (uint32_t)atoi(argv[++i]);
		else if (!strcmp(argv[i], "--ranks") && value && atoi(value) > 0)
			s->ranks = (uint32_t)atoi(argv[++i]);
		else if (!strcmp(argv[i], "--seconds") && value && atof(value) > 0)
			s->seconds = atof(argv[++i]);
		else if (!strcmp(argv[i], "--model") && value && s->n_names < MAX_MODELS)
			s->names[s->n_names++] = argv[++i];
		else
			return false;
	}
	return s->machine + s->alive + s->hold + s->kernels + s->quants + s->models + s->once == 1;
}

static int print_machine(struct tt_error *err)
{
	json_t *machine = NULL;
	TT_TRY(tt_gpu_machine(&machine, err));
	json_dumpf(machine, stdout, JSON_INDENT(1));
	printf("\n");
	json_decref(machine);
	return TT_OK;
}

static int hold(struct tt_error *err)
{
	char byte;
	TT_TRY(tt_gpu_hold(err));
	printf("held\n");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return TT_OK;
}

/* Models one after the other, because all at once may not fit. One that cannot be opened leaves the others. */
static int time_all(const struct settings *s, struct tt_gpu_groups *groups, struct tt_error *err)
{
	struct tt_gpu *gpu = NULL;
	struct tt_error check;
	int status = s->models ? TT_OK : tt_gpu_open(&gpu, s->tiny, err);
	for (size_t i = 0; i < s->n_names && status == TT_OK; i++) {
		status = s->models   ? tt_model_bench_run(groups, s->names[i], s->every_arm, err)
			 : s->quants ? tt_quants_bench_run(groups, gpu, s->names[i], err)
				     : tt_kernel_bench_run(groups, gpu, s->names[i], s->once, err);
		if (status != TT_OK && tt_gpu_check(&check) == TT_OK) {
			printf("FAIL %s: %s\n", s->names[i], err->message);
			groups->n_failed++;
			status = TT_OK;
		}
	}
	tt_gpu_close(gpu);
	return status;
}

/* So that gpu-check, which ends what is silent, hears that a long group goes on. */
static void say_round(void *user, const char *group, uint32_t round, uint32_t min_rounds)
{
	(void)user;
	(void)group;
	printf("  round %u of %u\n", round, min_rounds);
	fflush(stdout);
}

static int run_groups(const struct settings *s, int argc, char **argv, struct tt_error *err)
{
	struct tt_gpu_groups groups = {.after = s->after,
		.tokens = s->tokens,
		.n_ranks = s->ranks,
		.until = tt_now() + s->seconds,
		.tiny = s->tiny};
	struct tt_bench_options *o = &groups.options;
	tt_bench_options_default(o);
	o->program = "gpu-bench";
	o->arguments = (const char *const *)argv;
	o->n_arguments = (size_t)argc;
	o->n_threads = 1;
	o->n_warmup = 1;
	o->progress = say_round;
	o->min_rounds = o->max_rounds = s->rounds;
	o->min_seconds = 0;
	o->min_sample_seconds = s->tiny ? 1e-6 : 1e-3;
	int status = time_all(s, &groups, err);
	if (status != TT_OK) {
		fprintf(stderr, "gpu-bench: %s\n", err->message);
		return EXIT_DEVICE;
	}
	if (groups.after) {
		fprintf(stderr, "gpu-bench: there is no group %s\n", groups.after);
		return 2;
	}
	printf("%u groups failed, %u were left out\n", groups.n_failed, groups.n_left_out);
	return groups.n_failed > 0;
}

int main(int argc, char **argv)
{
	struct settings s = {.seconds = 1e6};
	struct tt_error err = {0};
	int status = TT_OK;
	if (!read_arguments(argc, argv, &s))
		return usage();
	if (!s.n_names && s.tiny)
		s.names[s.n_names++] = "tiny";
	if (!s.n_names) {
		s.names[s.n_names++] = "llama-3.1-8b";
		s.names[s.n_names++] = "llama-3.2-1b";
		s.names[s.n_names++] = "smollm2-135m";
	}
	if (!s.rounds)
		s.rounds = s.tiny ? 2 : s.kernels ? 9 : 6; /* 6 still give an interval of 95% */
	if (s.kernels || s.quants || s.models || s.once)
		return run_groups(&s, argc, argv, &err);
	status = s.machine ? print_machine(&err) : s.alive ? tt_gpu_alive(&err) : hold(&err);
	if (status != TT_OK)
		fprintf(stderr, "gpu-bench: %s\n", err.message);
	else if (s.alive)
		printf("alive\n");
	return status == TT_OK ? 0 : status == TT_ERR_UNSUPPORTED ? EXIT_NONE : 1;
}
