/* Generates text, steered if a policy is given: minimal MODEL PROMPT [POLICY]
 *     cc minimal.c -o minimal $(pkg-config --cflags --libs trimtab) */
#include <stdio.h>
#include <string.h>
#include <trimtab.h>

/* Encodes the prompt as a chat if the model has a chat template, else as plain text. */
static int encode(const struct tt_text *text, const char *prompt, struct tt_request_options *o, int32_t **ids,
	struct tt_error *err)
{
	char *messages = NULL;
	if (!tt_text_has_template(text))
		return tt_text_encode(text, prompt, strlen(prompt), TT_TEXT_BOS, ids, &o->n_ids, err);
	int status = tt_text_user_message(prompt, strlen(prompt), NULL, &messages, err);
	if (status == TT_OK)
		status =
			tt_text_encode_chat_span(text, messages, NULL, ids, &o->n_ids, &o->mean_from, &o->mean_to, err);
	tt_free(messages);
	return status;
}

int main(int argc, char **argv)
{
	struct tt_error err = {0};
	struct tt_engine *engine = NULL;
	struct tt_policy *policy = NULL;
	struct tt_request *request = NULL;
	struct tt_request_options options;
	int32_t *ids = NULL;
	if (argc < 3)
		return fprintf(stderr, "usage: minimal MODEL PROMPT [POLICY]\n"), 2;
	tt_request_options_default(&options);
	options.max_tokens = 64;

	int status = tt_engine_open(&engine, argv[1], NULL, &err);
	if (status == TT_OK && argc > 3) {
		status = tt_policy_load(&policy, argv[3], &err);
		options.steering[options.n_steering++] = (struct tt_steering){policy, 1};
	}
	if (status == TT_OK && policy)
		status = tt_engine_add_policy(engine, policy, NULL, &err);
	if (status == TT_OK)
		status = encode(tt_engine_text(engine), argv[2], &options, &ids, &err);
	options.ids = ids;
	if (status == TT_OK)
		status = tt_request_submit(&request, engine, &options, &err);
	while (status == TT_OK && tt_request_finish(request) == TT_RUNNING) {
		struct tt_token token;
		status = tt_engine_step(engine, &err);
		while (status == TT_OK && tt_request_next(request, &token))
			fwrite(token.text, 1, token.n_text, stdout);
	}
	status == TT_OK ? puts("") : fprintf(stderr, "minimal: %s\n", err.message);
	tt_request_free(request);
	tt_engine_close(engine);
	tt_policy_free(policy);
	tt_free(ids);
	return status == TT_OK ? 0 : 1;
}
