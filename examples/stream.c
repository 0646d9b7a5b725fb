/* Answers prompts side by side, each token when it comes, and says which of them the policy steered:
 * stream MODEL POLICY PROMPT... The engine steps on a thread of its own, so that a server's threads need only submit.
 *     cc stream.c -o stream $(pkg-config --cflags --libs trimtab) */
#include <stdio.h>
#include <string.h>
#include <trimtab.h>

struct answer {
	struct tt_request *request;
	size_t number, n_layers;
	size_t n_run, n_steered; /* tokens, those of the prompt included */
};

/* On the engine's thread, as all callbacks: a server would hand the text on to the connection's thread. */
static void on_tokens(void *user, struct tt_request *request)
{
	const struct answer *answer = user;
	struct tt_token token;
	while (tt_request_next(request, &token))
		printf("[%zu] %.*s\n", answer->number, (int)token.n_text, token.text);
	fflush(stdout);
}

static void on_telemetry(void *user, struct tt_request *request, const struct tt_telemetry *telemetry)
{
	struct answer *answer = user;
	bool steered = false;
	(void)request;
	for (size_t i = 0; i < telemetry->n_steering * answer->n_layers; i++)
		steered |= telemetry->coef[i] != 0;
	answer->n_run++;
	answer->n_steered += steered;
}

static int submit(struct tt_engine *engine, struct tt_policy *policy, const char *prompt, struct answer *answer,
	struct tt_error *err)
{
	struct tt_request_options options;
	char *messages = NULL;
	int32_t *ids = NULL;
	tt_request_options_default(&options);
	options.max_tokens = 32;
	options.steering[options.n_steering++] = (struct tt_steering){policy, 1};
	options.notify = on_tokens;
	options.telemetry = on_telemetry;
	options.user = answer;
	int status = tt_text_user_message(prompt, strlen(prompt), NULL, &messages, err);
	if (status == TT_OK)
		status = tt_text_encode_chat_span(tt_engine_text(engine), messages, NULL, &ids, &options.n_ids,
			&options.mean_from, &options.mean_to, err);
	options.ids = ids;
	if (status == TT_OK)
		status = tt_request_submit(&answer->request, engine, &options, err);
	tt_free(ids);
	tt_free(messages);
	return status;
}

int main(int argc, char **argv)
{
	struct tt_error err = {0};
	struct tt_engine *engine = NULL;
	struct tt_policy *policy = NULL;
	struct tt_request *done = NULL;
	struct answer answers[16] = {0};
	if (argc < 4 || argc > 3 + 16)
		return fprintf(stderr, "usage: stream MODEL POLICY PROMPT... (at most 16)\n"), 2;

	int status = tt_engine_open(&engine, argv[1], NULL, &err);
	if (status == TT_OK)
		status = tt_policy_load(&policy, argv[2], &err);
	if (status == TT_OK)
		status = tt_engine_add_policy(engine, policy, NULL, &err);
	if (status == TT_OK)
		status = tt_engine_start(engine, &err);
	for (int i = 3; status == TT_OK && i < argc; i++) {
		struct answer *answer = &answers[i - 3];
		answer->number = (size_t)i - 3;
		answer->n_layers = tt_engine_info(engine)->n_layers;
		status = submit(engine, policy, argv[i], answer, &err);
	}
	while (status == TT_OK && (status = tt_engine_next(engine, &done, -1, &err)) == TT_OK && done)
		for (struct answer *answer = answers; answer < answers + 16; answer++)
			if (answer->request == done)
				printf("[%zu] done: %zu tokens ran, %zu of them steered\n", answer->number,
					answer->n_run, answer->n_steered);
	if (status != TT_OK)
		fprintf(stderr, "stream: %s\n", err.message);
	for (size_t i = 0; i < 16; i++)
		tt_request_free(answers[i].request); /* all, before the engine is closed */
	tt_engine_close(engine);
	tt_policy_free(policy);
	return status == TT_OK ? 0 : 1;
}
