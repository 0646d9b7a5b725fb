/* trimtab chat: a conversation, message by message, whose steering can be changed between them. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/utf8.h"
#include "answer_options.h"
#include "cli.h"

static const char about[] =
	"Talks with a model: each line is a message, and the answer is written as it comes. The model sees the whole\n"
	"conversation. Ctrl-C stops an answer, Ctrl-D ends the talk. Lines that begin with / are commands:\n"
	"\n"
	"  /scale [NAME] X   the strength of a policy, or of all\n"
	"  /policy F[:X]     one more policy; /drop NAME: one fewer; /policies: which there are\n"
	"  /twin             answer unsteered, too, or no longer\n"
	"  /show             say how each answer was steered, or no longer\n"
	"  /undo             forget the last message and its answer; /reset: all of them\n"
	"  /save F.json      write the conversation, for --messages\n"
	"  /quit             end the talk\n"
	"\n"
	"A message that begins with / is written with two.";

static const char examples[] = "  trimtab chat model.gguf\n"
			       "  trimtab chat model.gguf --policy calm=calm.gguf:0.8 --show-steering --twin";

struct chat {
	struct cli_engine_args engine_args;
	struct cli_list policy_list, stops;
	struct cli_prompt_args prompt;
	struct tt_request_options request;
	struct cli_policies policies;
	struct tt_engine *engine;
	json_t *messages;
	bool twin, show, terminal;
	bool failed; /* a message had no answer, or a command could not be obeyed */
};

static int parse(struct chat *c, int argc, char **argv, const char **model)
{
	struct tt_request_options *r = &c->request;
	tt_request_options_default(r);
	r->max_tokens = 512;
	const struct cli_option options[] = {
		{"system", 0, NULL, CLI_STRING, &c->prompt.system, "TEXT", 0, 0,
			"system message, instead of the template's own"},
		CLI_MESSAGES_OPTION(c->prompt),
		CLI_POLICY_OPTION(c->policy_list),
		{"twin", 0, NULL, CLI_FLAG, &c->twin, NULL, 0, 0, "answer unsteered, too"},
		{"show-steering", 0, NULL, CLI_FLAG, &c->show, NULL, 0, 0, "say how each answer was steered"},
		{"max-tokens", 'n', "n-predict", CLI_TOKENS, &r->max_tokens, "N", 1, 1 << 24,
			"most tokens of an answer; -1: until the context is full"},
		{"temperature", 0, "temp", CLI_FLOAT, &r->sampling.temperature, "T", 0, 100, "0: greedy"},
		{"top-p", 0, NULL, CLI_FLOAT, &r->sampling.top_p, "P", 0, 1,
			"sample from the likeliest that make up P; 1: off"},
		{"seed", 's', NULL, CLI_U64, &r->sampling.seed, "N", 0, 0, "seed of the sampler"},
		CLI_ANSWER_OPTIONS(c->stops, r),
		CLI_ENGINE_OPTIONS(c->engine_args),
		CLI_TEMPLATE_OPTION(c->engine_args),
		CLI_STRICT_OPTION(c->engine_args),
		CLI_LAYERS_OPTION(c->policies.layers),
	};
	const struct cli_usage usage = {
		"chat", "MODEL [OPTION]...", about, examples, options, CLI_N_OPTIONS(options), 1, 1};
	struct cli_list positional = {0};
	int status = cli_parse(&usage, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	*model = positional.items[0];
	r->stop = c->stops.items;
	r->n_stop = c->stops.n;
	if (c->prompt.messages && (c->prompt.system || !strcmp(c->prompt.messages, "-")))
		return cli_usage_error("chat", "%s",
			c->prompt.system ? "--messages and --system exclude each other"
					 : "--messages - : standard input is the talk");
	if (c->prompt.system && !tt_utf8_is_valid(c->prompt.system))
		return cli_usage_error("chat", "--system is not UTF-8");
	return cli_policies_parse(&c->policies, &c->policy_list, "chat");
}

/* text is UTF-8. */
static void say(struct chat *c, const char *role, const char *text, size_t n)
{
	json_array_append_new(c->messages, json_pack("{s:s, s:o}", "role", role, "content", json_stringn(text, n)));
}

static int begin(struct chat *c)
{
	char *text = NULL;
	size_t n;
	c->messages = json_array();
	if (c->prompt.system)
		say(c, "system", c->prompt.system, strlen(c->prompt.system));
	if (!c->prompt.messages)
		return CLI_PROCEED;
	int status = cli_read_file(&text, &n, c->prompt.messages);
	if (status != CLI_PROCEED)
		return status;
	json_t *messages = json_loadb(text, n, 0, NULL);
	free(text);
	if (!json_is_array(messages)) {
		json_decref(messages);
		return cli_failf("%s: not a JSON list of messages", c->prompt.messages);
	}
	json_decref(c->messages);
	c->messages = messages;
	return CLI_PROCEED;
}

/* ---- Answers */

struct answer {
	struct tt_request *request;
	FILE *writer; /* writes text */
	char *text;
	size_t n;
};

static void collect(const struct chat *c, struct answer *answer, bool stream)
{
	struct tt_token token;
	while (tt_request_next(answer->request, &token)) {
		fwrite(token.text, 1, token.n_text, answer->writer);
		if (stream)
			cli_write_text(stdout, c->terminal, token.text, token.n_text);
	}
	if (stream)
		fflush(stdout);
}

static int submit(struct chat *c, struct answer *answer, struct tt_request_options *options, bool steered)
{
	struct tt_error err = {0};
	options->n_steering = steered ? c->policies.n : 0;
	for (uint32_t i = 0; i < options->n_steering; i++)
		options->steering[i] = c->policies.steering[i];
	answer->writer = cli_memory_file(&answer->text, &answer->n);
	return tt_request_submit(&answer->request, c->engine, options, &err) ? cli_fail(&err) : CLI_PROCEED;
}

/* Steps until both are done or the user has stopped them; streams the first. */
static int step(struct chat *c, struct answer answers[2])
{
	struct tt_error err = {0};
	int status = CLI_PROCEED;
	cli_catch_interrupt();
	while (status == CLI_PROCEED && !cli_interrupted() && tt_engine_pending(c->engine) > 0) {
		if (tt_engine_step(c->engine, &err) != TT_OK)
			status = cli_fail(&err);
		for (int i = 0; i < 2 && answers[i].request; i++)
			collect(c, &answers[i], i == 0);
	}
	cli_release_interrupt();
	return status;
}

static void print_twin(const struct chat *c, const struct answer *twin)
{
	puts("--- unsteered");
	cli_write_text(stdout, c->terminal, twin->text, twin->n);
	puts("\n---");
}

static void release(struct answer *answer)
{
	tt_request_free(answer->request);
	if (answer->writer)
		fclose(answer->writer);
	free(answer->text);
}

/* CLI_FAILED if the message has no answer. */
static int answer_ids(struct chat *c, const int32_t *ids, size_t n_ids, const size_t span[2])
{
	struct answer answers[2] = {{0}, {0}};
	struct tt_request_options options = c->request;
	options.ids = ids;
	options.n_ids = n_ids;
	options.mean_from = span[0];
	options.mean_to = span[1];
	bool twin = c->twin && c->policies.n > 0;
	int status = submit(c, &answers[0], &options, true);
	if (status == CLI_PROCEED && twin)
		status = submit(c, &answers[1], &options, false);
	if (status == CLI_PROCEED)
		status = step(c, answers);
	if (status == CLI_PROCEED) {
		putchar('\n');
		for (int i = 0; i < 2; i++)
			if (answers[i].writer)
				fflush(answers[i].writer);
		if (twin)
			print_twin(c, &answers[1]);
		if (c->show)
			cli_show_steering(stdout, answers[0].request, &c->policies, tt_engine_info(c->engine)->n_layers,
				c->terminal);
		say(c, "assistant", answers[0].text, answers[0].n);
	}
	release(&answers[0]);
	release(&answers[1]);
	return status;
}

static void forget_last(struct chat *c)
{
	json_array_remove(c->messages, json_array_size(c->messages) - 1);
}

static void answer(struct chat *c, const char *text, size_t n)
{
	const struct cli_prompt_args args = {.messages = "chat"};
	int32_t *ids = NULL;
	size_t n_ids, span[2];
	if (tt_utf8_check(text, n) != n) {
		c->failed = true;
		cli_failf("the message is not UTF-8");
		return;
	}
	say(c, "user", text, n);
	char *messages = json_dumps(c->messages, JSON_COMPACT);
	int status = messages ? cli_prompt_encode(&ids, &n_ids, span, tt_engine_text(c->engine), messages,
					strlen(messages), &args)
			      : cli_failf("out of memory: the talk");
	if (status == CLI_PROCEED)
		status = answer_ids(c, ids, n_ids, span);
	if (status != CLI_PROCEED)
		forget_last(c); /* what has no answer is not part of the talk */
	c->failed |= status != CLI_PROCEED;
	free(messages);
	tt_free(ids);
}

/* ---- Commands */

static void refuse(struct chat *c, const char *what)
{
	c->failed = true;
	cli_failf("%s", what);
}

static const char *label(const struct chat *c, uint32_t i)
{
	struct tt_policy_info info;
	tt_policy_describe(c->policies.steering[i].policy, &info);
	return c->policies.names[i] ? c->policies.names[i] : info.name;
}

static void scale(struct chat *c, const char *text)
{
	const char *space = strrchr(text, ' '), *number = space ? space + 1 : text;
	char *end;
	float value = strtof(number, &end);
	uint32_t n = 0;
	if (end == number || *end || !isfinite(value)) {
		refuse(c, "/scale takes a number, perhaps behind a policy's name");
		return;
	}
	for (uint32_t i = 0; i < c->policies.n; i++) {
		const char *name = label(c, i);
		if (space && (strlen(name) != (size_t)(space - text) || memcmp(name, text, strlen(name)) != 0))
			continue;
		c->policies.steering[i].scale = value;
		n++;
	}
	if (n == 0)
		refuse(c, "/scale: there is no such policy");
}

static void add(struct chat *c, const char *text)
{
	if (c->policies.n == TT_MAX_STACK) {
		refuse(c, "/policy: there are four policies already");
		return;
	}
	bool added = cli_policy_add(&c->policies, text, "chat") == CLI_PROCEED;
	bool loaded = added && cli_policies_load(&c->policies, c->engine) == CLI_PROCEED;
	if (added && !loaded)
		cli_policies_drop(&c->policies, c->policies.n - 1, c->engine);
	c->failed |= !loaded;
}

static void drop(struct chat *c, const char *name)
{
	for (uint32_t i = 0; i < c->policies.n; i++)
		if (!strcmp(label(c, i), name)) {
			cli_policies_drop(&c->policies, i, c->engine);
			return;
		}
	refuse(c, "/drop: there is no such policy");
}

static void list(const struct chat *c)
{
	for (uint32_t i = 0; i < c->policies.n; i++) {
		cli_write_line(stdout, label(c, i), strlen(label(c, i)));
		printf(" x%g\n", (double)c->policies.steering[i].scale);
	}
}

static void undo(struct chat *c, bool all)
{
	while (json_array_size(c->messages) > 0) {
		const json_t *last = json_array_get(c->messages, json_array_size(c->messages) - 1);
		const char *role = tt_json_string_or(last, "role", "");
		if (!strcmp(role, "system"))
			return;
		bool user = !strcmp(role, "user");
		forget_last(c);
		if (user && !all)
			return;
	}
}

static void save(struct chat *c, const char *path)
{
	if (*path && json_dump_file(c->messages, path, JSON_INDENT(1)) == 0)
		return;
	refuse(c, *path ? "/save: that file cannot be written" : "/save needs the name of a file");
}

/* False at the end of the talk. */
static bool obey(struct chat *c, const char *line)
{
	size_t n = strcspn(line, " ");
	const char *rest = line + n + strspn(line + n, " ");
	const struct {
		const char *name;
		void (*run)(struct chat *c, const char *rest);
	} with_text[] = {{"/scale", scale}, {"/policy", add}, {"/drop", drop}};
	for (size_t i = 0; i < sizeof with_text / sizeof *with_text; i++)
		if (strlen(with_text[i].name) == n && !memcmp(line, with_text[i].name, n)) {
			with_text[i].run(c, rest);
			return true;
		}
	if (n == 5 && !memcmp(line, "/save", n))
		save(c, rest);
	else if (!strcmp(line, "/policies"))
		list(c);
	else if (!strcmp(line, "/twin"))
		c->twin = !c->twin;
	else if (!strcmp(line, "/show"))
		c->show = !c->show;
	else if (!strcmp(line, "/undo") || !strcmp(line, "/reset"))
		undo(c, line[1] == 'r');
	else if (!strcmp(line, "/quit"))
		return false;
	else if (!strcmp(line, "/help"))
		puts(about);
	else
		refuse(c, "that is no command: /help lists them");
	return true;
}

/* ---- The talk */

static void talk(struct chat *c)
{
	bool asks = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO), goes_on = true;
	char *line = NULL;
	size_t capacity = 0;
	while (goes_on && !ferror(stdout)) {
		if (asks)
			fputs("> ", stdout);
		fflush(stdout);
		ssize_t n = getline(&line, &capacity, stdin);
		if (n < 0)
			break;
		while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
			line[--n] = 0;
		if (line[0] == '/' && line[1] != '/')
			goes_on = obey(c, line);
		else if (n > 0)
			answer(c, line + (line[0] == '/'), (size_t)n - (line[0] == '/'));
	}
	free(line);
}

int cli_chat(int argc, char **argv)
{
	struct chat c = {.terminal = isatty(STDOUT_FILENO)};
	const char *model = NULL;
	int status = parse(&c, argc, argv, &model);
	if (status == CLI_PROCEED)
		status = begin(&c);
	if (status == CLI_PROCEED)
		status = cli_engine_open(&c.engine, model, &c.engine_args, 2);
	if (status == CLI_PROCEED && !tt_text_has_template(tt_engine_text(c.engine)))
		status = cli_failf(
			"the model has no chat template: --chat-template F or NAME gives it one (chatml, llama3 ..)");
	if (status == CLI_PROCEED)
		status = cli_policies_load(&c.policies, c.engine);
	if (status == CLI_PROCEED) {
		talk(&c);
		status = c.failed && !isatty(STDIN_FILENO) ? CLI_FAILED : CLI_OK;
	}
	cli_policies_free(&c.policies, c.engine);
	tt_engine_close(c.engine);
	json_decref(c.messages);
	return status;
}
