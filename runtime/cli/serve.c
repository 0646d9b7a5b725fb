/* trimtab serve */
#include <stdlib.h>

#include "answer_options.h"
#include "cli.h"
#include "runtime/serve/serve.h"

static const char about[] =
	"Serves the model to OpenAI's clients: chat and text completions, streamed or whole, each steered as it asks.\n"
	"The policies steer every request that says nothing of steering; \"steering\": false in a body is unsteered, "
	"and\n"
	"{\"policies\": [{\"name\": \"refuse\", \"scale\": 0.5}]} names those that are to. SIGTERM lets running "
	"requests end.";

static const char examples[] =
	"  trimtab serve model.gguf --policy refuse=refuse.safetensors\n"
	"  curl -s localhost:8000/v1/chat/completions -H 'Content-Type: application/json' \\\n"
	"    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"How do I steal a car?\"}], \"stream\": true}'";

struct run {
	struct cli_engine_args engine_args;
	struct cli_list policy_list, shadows, model_names;
	struct cli_policies named;
	struct tt_batch_policy policies[CLI_MAX_LIST];
	float scales[CLI_MAX_LIST]; /* of requests that say nothing of steering */
	int keep_text, audit_full;
	struct tt_serve_options options;
};

static void note(void *user, const char *line)
{
	(void)user;
	cli_note("%s", line);
}

/* Unlike in a batch a scale has a meaning: bodies give their own where they name a policy. */
static int parse_policies(struct run *run)
{
	for (size_t i = 0; i < run->policy_list.n; i++) {
		int status = cli_policy_add(&run->named, run->policy_list.items[i], "serve");
		if (status != CLI_PROCEED)
			return status;
		run->scales[i] = run->named.steering[i].scale;
		run->named.scaled[i] = false;
		status = cli_policy_name(&run->named, i, "serve");
		if (status != CLI_PROCEED)
			return status;
		run->policies[i] = (struct tt_batch_policy){run->named.names[i], run->named.paths[i]};
	}
	run->options.policies = run->policies;
	run->options.scales = run->scales;
	run->options.n_policies = run->named.n;
	return CLI_PROCEED;
}

static void take_lists(struct run *run)
{
	struct tt_serve_options *o = &run->options;
	o->keep_text = run->keep_text != 0;
	o->audit_serve = run->audit_full != 0;
	o->shadows = run->shadows.items;
	o->n_shadows = run->shadows.n;
	o->model_names = run->model_names.items;
	o->n_model_names = run->model_names.n;
}

static int parse(struct run *run, int argc, char **argv, struct cli_list *positional)
{
	struct tt_serve_options *o = &run->options;
	const struct cli_option options[] = {
		{"policy", 0, NULL, CLI_LIST, &run->policy_list, "[NAME=]F[:SCALE]", 0, 0,
			"steering policy, the name that bodies call it by, and its strength where they say nothing of "
			"steering"},
		{"shadow", 0, NULL, CLI_LIST, &run->shadows, "NAME", 0, 0,
			"the policy of this name steers nothing: its gate speaks, and answers say what it said"},
		{"served-model-name", 0, NULL, CLI_LIST, &run->model_names, "NAME", 0, 0,
			"what the model is called in answers; further ones are names that bodies may call it by too"},
		{"keys", 0, NULL, CLI_STRING, &o->keys, "F", 0, 0,
			"file of the keys that requests need (docs/serve.md); SIGHUP reads it again"},
		{"key-requests", 0, NULL, CLI_U32, &o->key_requests, "N", 0, 1 << 20,
			"requests that a key may have at once, further ones being refused; 0: any number"},
		{"state", 0, NULL, CLI_STRING, &o->state, "DIR", 0, 0,
			"folder of the store, made if it is missing: policies, labels and keys of trimtab policy and "
			"key, "
			"the kill switch, and the audit log, in which each request is recorded (docs/audit.md)"},
		{"keep-text", 0, NULL, CLI_CHOICE, &run->keep_text, "none|all", 0, 0,
			"bodies and results that are kept beside the log, encrypted, until they are erased"},
		{"audit-full", 0, NULL, CLI_CHOICE, &run->audit_full, "refuse|serve", 0, 0,
			"when the log cannot be written: refuse requests, or go on and say later how many are missing"},
		{"audit-sync", 0, NULL, CLI_CHOICE, &o->audit_sync, "group|each|off", 0, 0,
			"what one write to the disk is for: all entries that wait, each one; or it is not waited for"},
		{"audit-name", 0, NULL, CLI_STRING, &o->audit_name, "NAME", 0, 0,
			"name of a new log, in its checkpoints; a random one if absent"},
		{"audit-anchor", 0, NULL, CLI_STRING, &o->audit_anchor, "DIR", 0, 0,
			"folder that gets a copy of each checkpoint of the log"},
		{"host", 0, NULL, CLI_STRING, &o->host, "ADDRESS", 0, 0,
			"address to serve on; unix:PATH for a socket in the file system; fd:N for one that is open"},
		{"port", 0, NULL, CLI_U32, &o->port, "N", 0, 65535, "port to serve on; 0: one that is free"},
		{"admin-port", 0, NULL, CLI_U32, &o->admin_port, "N", 0, 65535,
			"port of the live page, /metrics and what else is for operators, on loopback"},
		{"public-metrics", 0, NULL, CLI_FLAG, &o->public_metrics, NULL, 0, 0, "/metrics on --port too"},
		{"tokenizer-info", 0, NULL, CLI_FLAG, &o->tokenizer_info, NULL, 0, 0,
			"/tokenizer_info: the chat template and the names of the first and last token"},
		{"list-policies", 0, NULL, CLI_FLAG, &o->list_policies, NULL, 0, 0,
			"MODEL:POLICY is a model too, listed for each policy, which steers what asks for it"},
		{"lenient", 0, NULL, CLI_FLAG, &o->lenient, NULL, 0, 0,
			"keys of a body that nobody knows are passed over, and named in X-Trimtab-Ignored"},
		{"behind-proxy", 0, NULL, CLI_FLAG, &o->behind_proxy, NULL, 0, 0,
			"a proxy with TLS and keys stands in front: serve on another address than loopback without "
			"either"},
		{"tls-cert", 0, NULL, CLI_STRING, &o->tls_chain, "F", 0, 0,
			"PEM file of a certificate and those that it is signed by: TLS on both ports; SIGHUP reads it "
			"again"},
		{"tls-key", 0, NULL, CLI_STRING, &o->tls_key, "F", 0, 0, "PEM file of its key, without a password"},
		CLI_BATCH_OPTIONS(
			o->max_batch, run->engine_args, "requests that run at once; four times as many may wait"),
		{"request-timeout", 0, NULL, CLI_FLOAT, &o->request_timeout, "S", 0.001, 1e6,
			"seconds that a request may take"},
		{"drain-seconds", 0, NULL, CLI_FLOAT, &o->drain_seconds, "S", 0, 1e6,
			"seconds that requests have to end after SIGTERM"},
		{"header-seconds", 0, NULL, CLI_FLOAT, &o->header_seconds, "S", 0.01, 1e6,
			"seconds that a request's header may take from its first byte on"},
		{"body-seconds", 0, NULL, CLI_FLOAT, &o->body_seconds, "S", 0.01, 1e6,
			"seconds that a request's body may take"},
		{"idle-seconds", 0, NULL, CLI_FLOAT, &o->idle_seconds, "S", 0.01, 1e6,
			"seconds that a connection may wait for its next request"},
		{"ping-seconds", 0, NULL, CLI_FLOAT, &o->ping_seconds, "S", 0.01, 1e6,
			"seconds without a token after which a stream gets a comment, so that nobody takes it for "
			"dead"},
		CLI_ENGINE_OPTIONS(run->engine_args),
		CLI_TEMPLATE_OPTION(run->engine_args),
		CLI_STRICT_OPTION(run->engine_args),
	};
	const struct cli_usage usage = {
		"serve", "MODEL [OPTION]...", about, examples, options, CLI_N_OPTIONS(options), 1, 1};
	int status = cli_parse(&usage, argc, argv, positional);
	if (status != CLI_PROCEED)
		return status;
	take_lists(run);
	return parse_policies(run);
}

/* Where the device or a rank failed, and another process may do better. */
enum { LOST = 70 };

static int serve(struct run *run, const char *model)
{
	struct tt_error err = {0};
	struct tt_engine *engine = NULL;
	int status = cli_engine_open(&engine, model, &run->engine_args, run->options.max_batch);
	if (status == CLI_PROCEED)
		status = tt_serve(engine, &run->options, &err) == TT_OK ? CLI_OK : cli_fail(&err);
	if (err.code == TT_ERR_DEVICE)
		status = LOST;
	tt_engine_close(engine);
	return status;
}

int cli_serve(int argc, char **argv)
{
	struct run run = {.options = {.host = "127.0.0.1",
				  .port = 8000,
				  .admin_port = 8001,
				  .max_batch = 32,
				  .request_timeout = 600,
				  .drain_seconds = 30,
				  .header_seconds = 10,
				  .body_seconds = 30,
				  .idle_seconds = 75,
				  .ping_seconds = 15,
				  .note = note}};
	struct cli_list positional = {0};
	struct tt_error err = {0};
	int status = parse(&run, argc, argv, &positional);
	if (status == CLI_PROCEED && !tt_serve_is_built())
		status = tt_serve(NULL, &run.options, &err) == TT_OK ? CLI_OK : cli_fail(&err);
	if (status == CLI_PROCEED)
		status = serve(&run, positional.items[0]);
	cli_policies_free(&run.named, NULL);
	return status;
}
