/* trimtab audit */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "runtime/serve/audit_command.h"
#include "runtime/serve/serve.h"

static const char about[] =
	"The audit log that a server with --state keeps (docs/audit.md).\n"
	"\n"
	"  head               sign the log as it stands, and print the checkpoint\n"
	"  verify             is every entry what it was? --from F: also since that checkpoint\n"
	"  prove N            print a proof that entry N is in the log; verify --proof F checks one\n"
	"  show N...          print entries, what ended them, and what is kept of the request\n"
	"  replay MODEL N...  run requests again: the same tokens, log-probabilities and coefficients, bit for bit?\n"
	"  seal               move full bundles of 256 entries into files\n"
	"  erase N...         forget the keys and texts of requests; the log and its proofs stay as they are\n"
	"  export             write the log as plain files, which verify reads too\n"
	"\n"
	"All but replay work beside a server that runs.";

static const char examples[] =
	"  trimtab audit verify --state state --from checkpoint-of-last-week\n"
	"  trimtab audit replay model.gguf --state state --policy refuse=refuse.safetensors --sample 100\n"
	"  trimtab audit erase --state state --older-than 30";

struct run {
	struct cli_engine_args engine_args;
	struct cli_list policy_list;
	struct cli_policies named;
	struct tt_batch_policy policies[CLI_MAX_LIST];
	uint64_t entries[CLI_MAX_LIST];
	const char *range;
	struct tt_audit_options options;
};

typedef int (*audit_fn)(const struct tt_audit_options *options, char **text, struct tt_error *err);

static const struct verb {
	const char *name;
	audit_fn run;
	size_t least, most; /* entries that it takes */
} verbs[] = {
	{"head", tt_audit_head, 0, 0},
	{"verify", tt_audit_verify, 0, 0},
	{"prove", tt_audit_prove, 1, 1},
	{"show", tt_audit_show, 1, CLI_MAX_LIST},
	{"replay", tt_audit_replay, 0, CLI_MAX_LIST},
	{"seal", tt_audit_seal, 0, 0},
	{"erase", tt_audit_erase, 0, CLI_MAX_LIST},
	{"export", tt_audit_export, 0, 0},
};

static void note(void *user, const char *line)
{
	(void)user;
	cli_note("%s", line);
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

static bool read_number(const char *text, const char **end, uint64_t *out)
{
	char *stop;
	errno = 0;
	*out = strtoull(text, &stop, 10);
	*end = stop;
	return *text >= '0' && *text <= '9' && errno == 0 && *out < UINT64_C(1) << 48;
}

static int read_entries(struct run *run, const struct cli_list *words, size_t from)
{
	const char *end;
	for (size_t i = from; i < words->n; i++)
		if (!read_number(words->items[i], &end, &run->entries[i - from]) || *end)
			return cli_usage_error("audit", "%s is no number of an entry", words->items[i]);
	run->options.entries = run->entries;
	run->options.n_entries = words->n - from;
	return CLI_PROCEED;
}

static int read_range(struct run *run)
{
	const char *end;
	struct tt_audit_options *o = &run->options;
	if (!run->range)
		return CLI_PROCEED;
	if (!read_number(run->range, &end, &o->range_from) || *end != '-' ||
		!read_number(end + 1, &end, &o->range_to) || *end || o->range_to < o->range_from || o->range_to == 0)
		return cli_usage_error("audit", "--range takes two numbers of entries, such as 100-200");
	return CLI_PROCEED;
}

static int read_policies(struct run *run)
{
	for (size_t i = 0; i < run->policy_list.n; i++) {
		int status = cli_policy_add(&run->named, run->policy_list.items[i], "audit");
		if (status == CLI_PROCEED)
			status = cli_policy_name(&run->named, i, "audit");
		if (status != CLI_PROCEED)
			return status;
		run->policies[i] = (struct tt_batch_policy){run->named.names[i], run->named.paths[i]};
	}
	run->options.policies = run->policies;
	run->options.n_policies = run->named.n;
	return CLI_PROCEED;
}

/* The words after the verb: of replay a model first. */
static int read_words(struct run *run, const struct verb *verb, const struct cli_list *words)
{
	const struct tt_audit_options *o = &run->options;
	const size_t from = verb->run == tt_audit_replay ? 2 : 1;
	int status =
		words->n < from ? cli_usage_error("audit", "replay takes a model") : read_entries(run, words, from);
	if (status != CLI_PROCEED)
		return status;
	if (o->n_entries < verb->least || o->n_entries > verb->most)
		return cli_usage_error(
			"audit", verb->most ? "%s takes numbers of entries" : "%s takes no entries", verb->name);
	if (!o->state && !(o->proof && o->log_key))
		return cli_usage_error("audit", "--state is needed, the folder that the server has");
	if (verb->run == tt_audit_export && !o->out)
		return cli_usage_error("audit", "export takes --out, a folder");
	if (verb->run == tt_audit_erase && !o->n_entries && !o->owner && !o->older_than)
		return cli_usage_error("audit", "erase takes numbers of entries, --key or --older-than");
	if (o->body && o->n_entries != 1)
		return cli_usage_error("audit", "--body is of one request, which must be named");
	if (verb->run == tt_audit_replay && !o->n_entries && !o->sample && !run->range)
		return cli_usage_error("audit", "replay takes numbers of entries, --sample or --range");
	status = read_range(run);
	return status == CLI_PROCEED ? read_policies(run) : status;
}

static int parse(struct run *run, int argc, char **argv, struct cli_list *words)
{
	struct tt_audit_options *o = &run->options;
	const struct cli_option options[] = {
		{"state", 0, NULL, CLI_STRING, &o->state, "DIR", 0, 0,
			"the server's folder; for verify, or an export's"},
		{"log-key", 0, NULL, CLI_STRING, &o->log_key, "KEY", 0, 0,
			"the log's public key, as you know it; without it the folder's own is believed"},
		{"from", 0, NULL, CLI_STRING, &o->from, "F", 0, 0, "verify: a checkpoint that you have kept"},
		{"proof", 0, NULL, CLI_STRING, &o->proof, "F", 0, 0, "verify: a proof that prove has printed"},
		{"out", 'o', NULL, CLI_STRING, &o->out, "DIR", 0, 0, "export: a folder, new or an earlier export's"},
		{"key", 0, NULL, CLI_STRING, &o->owner, "ID", 0, 0, "erase: all that was asked with this key"},
		{"older-than", 0, NULL, CLI_U32, &o->older_than, "DAYS", 0, 36500, "erase: all that is older"},
		{"policy", 0, NULL, CLI_LIST, &run->policy_list, "NAME=F", 0, 0,
			"replay: a policy of the log by its name; its version is checked"},
		{"sample", 0, NULL, CLI_U32, &o->sample, "N", 0, 1 << 30, "replay: so many requests, drawn by --seed"},
		{"seed", 0, NULL, CLI_U64, &o->seed, "N", 0, 0, "replay: of the sample"},
		{"range", 0, NULL, CLI_STRING, &run->range, "A-B", 0, 0,
			"replay: requests that begin in these entries"},
		{"body", 0, NULL, CLI_STRING, &o->body, "F", 0, 0,
			"replay: the body of the one request that is named, where its text was not kept"},
		{"max-batch", 0, NULL, CLI_U32, &o->max_batch, "N", 1, 4096, "replay: requests that run at once"},
		{"json", 0, NULL, CLI_FLAG, &o->json, NULL, 0, 0, "print verify's and replay's findings as JSON"},
		CLI_ENGINE_OPTIONS(run->engine_args),
		CLI_TEMPLATE_OPTION(run->engine_args),
		CLI_STRICT_OPTION(run->engine_args),
	};
	const struct cli_usage usage = {"audit", "VERB --state DIR [OPTION]...", about, examples, options,
		CLI_N_OPTIONS(options), 1, CLI_MAX_LIST};
	return cli_parse(&usage, argc, argv, words);
}

static int act(struct run *run, const struct verb *verb, const char *model)
{
	struct tt_error err = {0};
	char *text = NULL;
	int status = CLI_PROCEED;
	if (verb->run == tt_audit_replay)
		status = cli_engine_open(&run->options.engine, model, &run->engine_args, run->options.max_batch);
	if (status == CLI_PROCEED) {
		bool good = verb->run(&run->options, &text, &err) == TT_OK;
		if (text)
			fputs(text, stdout);
		status = good ? CLI_OK : cli_fail(&err);
	}
	tt_free(text);
	tt_engine_close(run->options.engine);
	return status;
}

int cli_audit(int argc, char **argv)
{
	struct run run = {.options = {.max_batch = 32, .note = note}};
	struct cli_list words = {0};
	const struct verb *verb = NULL;
	int status = parse(&run, argc, argv, &words);
	if (status == CLI_PROCEED) {
		verb = find_verb(words.items[0]);
		status = verb ? read_words(&run, verb, &words)
			      : cli_usage_error("audit", "%s is none of what it does", words.items[0]);
	}
	if (status == CLI_PROCEED)
		status = act(&run, verb, words.n > 1 ? words.items[1] : NULL);
	cli_policies_free(&run.named, NULL);
	return status;
}
