/* How likely llama.cpp finds given tokens, for scripts/measure/compare_perplexity.py: windows of token ids on standard
 * input, a line each; of each window the sum of -log p of every token but its first, a line each. Over its public
 * header alone; scripts/setup/build_llama_cpp.sh builds it. */
#include <llama.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_WINDOW = 4096 };

struct run {
	struct llama_model *model;
	struct llama_context *context;
	int32_t n_vocab;
	llama_token ids[MAX_WINDOW];
};

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
	(void)user;
	if (level == GGML_LOG_LEVEL_ERROR)
		fputs(text, stderr);
}

static bool open_run(struct run *run, const char *path, int n_threads)
{
	struct llama_context_params context = llama_context_default_params();
	llama_backend_init();
	run->model = llama_model_load_from_file(path, llama_model_default_params());
	if (!run->model)
		return false;
	run->n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(run->model));
	context.n_ctx = context.n_batch = MAX_WINDOW;
	context.n_threads = context.n_threads_batch = n_threads;
	run->context = llama_init_from_model(run->model, context);
	return run->context;
}

/* The ids of the next line; 0 at the end of input, -1 for what is no window of this vocabulary. */
static int read_window(struct run *run)
{
	int n = 0, c;
	long id;
	while (scanf("%ld", &id) == 1) {
		if (n == MAX_WINDOW || id < 0 || id >= run->n_vocab)
			return -1;
		run->ids[n++] = (llama_token)id;
		while ((c = getchar()) == ' ')
			continue;
		if (c == '\n' || c == EOF)
			return n;
		ungetc(c, stdin);
	}
	return feof(stdin) ? n : -1;
}

static double nll_of(const float *logits, int32_t n, llama_token id)
{
	double most = -INFINITY, sum = 0;
	for (int32_t i = 0; i < n; i++)
		most = logits[i] > most ? logits[i] : most;
	for (int32_t i = 0; i < n; i++)
		sum += exp(logits[i] - most);
	return most + log(sum) - logits[id];
}

static bool run_window(struct run *run, int n, double *nll)
{
	struct llama_batch batch = llama_batch_init(n, 0, 1);
	for (int i = 0; i < n; i++) {
		batch.token[i] = run->ids[i];
		batch.pos[i] = i;
		batch.n_seq_id[i] = 1;
		batch.seq_id[i][0] = 0;
		batch.logits[i] = i + 1 < n;
	}
	batch.n_tokens = n;
	llama_memory_clear(llama_get_memory(run->context), false);
	bool done = llama_decode(run->context, batch) == 0;
	*nll = 0;
	for (int i = 0; done && i + 1 < n; i++)
		*nll += nll_of(llama_get_logits_ith(run->context, i), run->n_vocab, run->ids[i + 1]);
	llama_batch_free(batch);
	return done;
}

int main(int argc, char **argv)
{
	static struct run run;
	llama_log_set(quiet, NULL);
	if (argc != 3 || !open_run(&run, argv[1], atoi(argv[2]))) {
		fputs("usage: llama-perplexity-of-ids MODEL THREADS < WINDOWS\n", stderr);
		return 2;
	}
	int n;
	while ((n = read_window(&run)) > 0) {
		double nll;
		if (!run_window(&run, n, &nll))
			return 1;
		printf("%.9g\n", nll);
		fflush(stdout);
	}
	if (n < 0)
		fputs("llama-perplexity-of-ids: no window of ids of this model\n", stderr);
	return n < 0 ? 2 : 0;
}
