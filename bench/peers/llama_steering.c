/* llama-bench's tests with and without llama.cpp's control vector, in turn, for bench/peers/steering.py: a prompt, and
 * generation token by token, each from an empty cache. Prints a line of JSON with the seconds of every repetition. Over
 * its public header alone; scripts/setup/build_llama_cpp.sh builds it. */
#include <llama.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_ROUNDS = 1000 };

struct run {
	struct llama_model *model;
	struct llama_context *contexts[2]; /* unsteered, and with the vector at every layer */
	int32_t n_embd, n_layers, n_vocab;
	llama_token *tokens; // [n_prompt]
	int n_prompt, n_gen, n_rounds, n_threads;
	double samples[2][2][MAX_ROUNDS]; /* of the prompt and of generation, by side */
	float last[2];                    /* a logit of the last prompt of each side, which must differ */
};

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
	(void)user;
	if (level == GGML_LOG_LEVEL_ERROR)
		fputs(text, stderr);
}

/* The vector has unit length at every layer, as the one that the others are steered by. llama.cpp counts layers from 1
 * and adds none at the first. */
static bool steer(const struct run *run)
{
	size_t n = (size_t)run->n_embd * (size_t)run->n_layers;
	float *vector = calloc(n, sizeof *vector);
	for (size_t i = 0; vector && i < n; i++)
		vector[i] = (rand() % 2 ? 1.0f : -1.0f) / sqrtf((float)run->n_embd);
	bool done = vector && llama_set_adapter_cvec(run->contexts[1], vector, n, run->n_embd, 1, run->n_layers) == 0;
	free(vector);
	return done;
}

static bool open_run(struct run *run, const char *path)
{
	struct llama_model_params model = llama_model_default_params();
	struct llama_context_params context = llama_context_default_params();
	llama_backend_init();
	run->model = llama_model_load_from_file(path, model);
	if (!run->model)
		return false;
	run->n_embd = llama_model_n_embd(run->model);
	run->n_layers = llama_model_n_layer(run->model);
	run->n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(run->model));
	context.n_ctx = (uint32_t)(run->n_prompt > run->n_gen ? run->n_prompt : run->n_gen) + 8;
	context.n_batch = 2048;
	context.n_threads = context.n_threads_batch = run->n_threads;
	for (int side = 0; side < 2; side++)
		if (!(run->contexts[side] = llama_init_from_model(run->model, context)))
			return false;
	run->tokens = calloc((size_t)run->n_prompt + 1, sizeof *run->tokens);
	return run->tokens && steer(run);
}

static bool prompt(struct run *run, int side)
{
	for (int i = 0; i < run->n_prompt; i++)
		run->tokens[i] = rand() % run->n_vocab;
	if (llama_decode(run->contexts[side], llama_batch_get_one(run->tokens, run->n_prompt)) != 0)
		return false;
	llama_synchronize(run->contexts[side]);
	return true;
}

static bool generate(struct run *run, int side)
{
	for (int i = 0; i < run->n_gen; i++) {
		llama_token token = rand() % run->n_vocab;
		if (llama_decode(run->contexts[side], llama_batch_get_one(&token, 1)) != 0)
			return false;
		llama_synchronize(run->contexts[side]);
	}
	return true;
}

static bool time_one(struct run *run, int test, int side, double *seconds)
{
	llama_memory_clear(llama_get_memory(run->contexts[side]), false);
	double begun = now();
	bool done = test ? generate(run, side) : prompt(run, side);
	*seconds = now() - begun;
	return done;
}

/* The same prompt on both sides: the vector must change what comes of it. */
static bool is_steered(struct run *run)
{
	for (int side = 0; side < 2; side++) {
		double seconds;
		srand(7);
		if (!time_one(run, 0, side, &seconds))
			return false;
		run->last[side] = llama_get_logits_ith(run->contexts[side], -1)[0];
	}
	return run->last[0] != run->last[1];
}

/* Round 0 is not counted. */
static bool time_all(struct run *run)
{
	for (int round = 0; round <= run->n_rounds; round++)
		for (int i = 0; i < 4; i++) {
			int test = i / 2, side = (i + round) % 2;
			double seconds;
			if (!time_one(run, test, side, &seconds))
				return false;
			if (round)
				run->samples[test][side][round - 1] = seconds;
		}
	return true;
}

static void print(const struct run *run)
{
	static const char *const sides[] = {"off", "steered"};
	for (int test = 0; test < 2; test++) {
		printf("%s\"%s%d\": {", test ? ", " : "{", test ? "tg" : "pp", test ? run->n_gen : run->n_prompt);
		for (int side = 0; side < 2; side++) {
			printf("%s\"%s\": [", side ? ", " : "", sides[side]);
			for (int i = 0; i < run->n_rounds; i++)
				printf("%s%.9f", i ? ", " : "", run->samples[test][side][i]);
			putchar(']');
		}
		putchar('}');
	}
	puts("}");
}

int main(int argc, char **argv)
{
	static struct run run;
	if (argc != 6 || (run.n_prompt = atoi(argv[2])) < 1 || (run.n_gen = atoi(argv[3])) < 1 ||
		(run.n_rounds = atoi(argv[4])) < 1 || run.n_rounds > MAX_ROUNDS ||
		(run.n_threads = atoi(argv[5])) < 1) {
		fputs("usage: llama-steering MODEL PROMPT GENERATE ROUNDS THREADS\n", stderr);
		return 2;
	}
	llama_log_set(quiet, NULL);
	if (!open_run(&run, argv[1]) || !is_steered(&run) || !time_all(&run)) {
		fputs("llama-steering: the model could not be run, or the vector changed nothing\n", stderr);
		return 1;
	}
	print(&run);
	for (int side = 0; side < 2; side++)
		llama_free(run.contexts[side]);
	llama_model_free(run.model);
	free(run.tokens);
	return 0;
}
