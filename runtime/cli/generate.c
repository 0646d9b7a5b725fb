/* trimtab generate: answers one prompt, unsteered, steered or both. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "answer_options.h"
#include "cli.h"

struct args {
	struct cli_engine_args engine;
	struct cli_list policies;
	const char *layers;
	struct cli_prompt_args prompt;
	struct tt_request_options request;
	struct cli_list stops;
	int when;
	bool compare, show_steering, json;
};

struct token {
	int32_t id;
	float logprob;
	uint32_t n_top;
	int32_t top_ids[TT_MAX_TOP];
	float top_logprobs[TT_MAX_TOP];
};

/* A request and its output so far. */
struct generation {
	struct tt_request *request;
	FILE *writer; /* writes text */
	char *text;
	size_t n_text;
	struct token *tokens; // [n_tokens]
	size_t n_tokens, capacity;
};

struct run {
	const struct args *args;
	struct tt_engine *engine;
	const struct tt_text *text;
	struct cli_policies policies;
	char *prompt;
	size_t n_prompt;
	int32_t *ids; // [n_ids]
	size_t n_ids, span[2];
	struct generation unsteered, steered;
	bool terminal, has_unsteered, has_steered;
	double seconds;
};

static const char about[] =
	"Generates the answer to a prompt and writes it as it comes. The prompt is sent as one message of a chat "
	"through\n"
	"the model's template; with --raw it is the text itself. Without --prompt and --file it is read from standard "
	"input.\n"
	"A policy watches the prompt, decides how much to steer, and adds its directions to the residual stream.\n"
	"Generation is greedy unless --temperature is given.";

static const char examples[] =
	"  trimtab generate model.gguf -p 'Name three uses of a rudder.'\n"
	"  trimtab generate model.gguf --policy refuse.safetensors --compare --show-steering < prompt.txt\n"
	"  trimtab generate model.gguf --policy refuse.safetensors:0.5 --temp 0.8 --seed 7 -n 64 -p 'Hello' --json";

static int parse(struct args *a, int argc, char **argv, const char **model)
{
	struct tt_request_options *r = &a->request;
	tt_request_options_default(r);
	r->max_tokens = 256;
	const struct cli_option options[] = {
		{"prompt", 'p', NULL, CLI_STRING, &a->prompt.text, "TEXT", 0, 0, "the prompt"},
		{"file", 'f', NULL, CLI_STRING, &a->prompt.file, "FILE", 0, 0,
			"read the prompt from a file, without the newline at its end; - for standard input"},
		{"system", 0, NULL, CLI_STRING, &a->prompt.system, "TEXT", 0, 0,
			"system message, instead of the template's own"},
		{"raw", 0, NULL, CLI_FLAG, &a->prompt.raw, NULL, 0, 0,
			"no chat template; text that spells a special token becomes that token"},
		{"no-special", 0, NULL, CLI_FLAG, &a->prompt.no_special, NULL, 0, 0,
			"with --raw: text that spells a special token stays text"},
		CLI_POLICY_OPTION(a->policies),
		{"when", 0, NULL, CLI_CHOICE, &a->when, CLI_WHEN_CHOICES, 0, 0,
			"which tokens are steered: generated ones, those from the last of the prompt on, or all"},
		{"compare", 0, NULL, CLI_FLAG, &a->compare, NULL, 0, 0,
			"generate unsteered too and print both side by side"},
		{"show-steering", 0, NULL, CLI_FLAG, &a->show_steering, NULL, 0, 0,
			"print what the gate decided and how hard each layer was pushed"},
		{"max-tokens", 'n', "n-predict", CLI_TOKENS, &r->max_tokens, "N", 1, 1 << 24,
			"most tokens to generate; -1: until the context is full"},
		{"ignore-eos", 0, NULL, CLI_FLAG, &r->ignore_eos, NULL, 0, 0, "go on after the model's end tokens"},
		{"temperature", 0, "temp", CLI_FLOAT, &r->sampling.temperature, "T", 0, 100, "0: greedy"},
		{"top-k", 0, NULL, CLI_U32, &r->sampling.top_k, "N", 0, TT_MAX_TOP_K,
			"sample from the N likeliest; 0: off"},
		{"top-p", 0, NULL, CLI_FLOAT, &r->sampling.top_p, "P", 0, 1,
			"sample from the likeliest that make up P; 1: off"},
		{"min-p", 0, NULL, CLI_FLOAT, &r->sampling.min_p, "P", 0, 1,
			"leave out tokens less likely than P times the likeliest; 0: off"},
		{"seed", 's', NULL, CLI_U64, &r->sampling.seed, "N", 0, 0, "seed of the sampler"},
		CLI_ANSWER_OPTIONS(a->stops, r),
		{"logprobs", 0, NULL, CLI_U32, &r->n_top, "N", 0, TT_MAX_TOP,
			"report the N likeliest tokens at every step, with log-probabilities"},
		{"json", 0, NULL, CLI_FLAG, &a->json, NULL, 0, 0, "print one JSON object instead of text"},
		CLI_ENGINE_OPTIONS(a->engine),
		CLI_TEMPLATE_OPTION(a->engine),
		CLI_STRICT_OPTION(a->engine),
		CLI_LAYERS_OPTION(a->layers),
		CLI_MESSAGES_OPTION(a->prompt),
	};
	const struct cli_usage usage = {
		"generate", "MODEL [OPTION]...", about, examples, options, CLI_N_OPTIONS(options), 1, 1};
	struct cli_list positional = {0};
	int status = cli_parse(&usage, argc, argv, &positional);
	if (status != CLI_PROCEED)
		return status;
	*model = positional.items[0];
	r->stop = a->stops.items;
	r->n_stop = a->stops.n;
	if (a->policies.n == 0 && (a->compare || a->show_steering || a->when || a->layers))
		return cli_usage_error("generate", "%s needs a --policy",
			a->compare         ? "--compare"
			: a->show_steering ? "--show-steering"
			: a->when          ? "--when"
					   : "--layers");
	if (a->prompt.raw && a->prompt.system)
		return cli_usage_error("generate", "--raw has no --system message");
	return CLI_PROCEED;
}

/* Takes the new tokens; with stream, writes their text to stdout at once. */
static void collect(struct run *run, struct generation *g, bool stream)
{
	struct tt_token token;
	while (tt_request_next(g->request, &token)) {
		if (g->n_tokens == g->capacity) {
			size_t capacity = g->capacity ? 2 * g->capacity : 256;
			struct token *tokens = cli_alloc(capacity, sizeof *tokens);
			if (g->n_tokens)
				memcpy(tokens, g->tokens, g->n_tokens * sizeof *tokens);
			free(g->tokens);
			g->tokens = tokens;
			g->capacity = capacity;
		}
		struct token *kept = &g->tokens[g->n_tokens++];
		*kept = (struct token){.id = token.id, .logprob = token.logprob};
		kept->n_top = token.n_top < TT_MAX_TOP ? token.n_top : TT_MAX_TOP;
		for (uint32_t i = 0; i < kept->n_top; i++) {
			kept->top_ids[i] = token.top_ids[i];
			kept->top_logprobs[i] = token.top_logprobs[i];
		}
		if (token.n_text == 0)
			continue;
		fwrite(token.text, 1, token.n_text, g->writer);
		if (stream) {
			cli_write_text(stdout, run->terminal, token.text, token.n_text);
			fflush(stdout);
		}
	}
}

static int submit(struct run *run, struct generation *g, bool steered)
{
	struct tt_error err = {0};
	struct tt_request_options options = run->args->request;
	options.ids = run->ids;
	options.n_ids = run->n_ids;
	options.mean_from = run->span[0];
	options.mean_to = run->span[1];
	options.n_steering = steered ? run->policies.n : 0;
	for (uint32_t i = 0; i < options.n_steering; i++)
		options.steering[i] = run->policies.steering[i];
	options.when = steered ? CLI_WHEN(run->args->when) : TT_WHEN_POLICY;
	g->writer = cli_memory_file(&g->text, &g->n_text);
	return tt_request_submit(&g->request, run->engine, &options, &err) ? cli_fail(&err) : CLI_PROCEED;
}

static int step_until_done(struct run *run)
{
	struct tt_error err = {0};
	struct cli_progress progress;
	bool stream = !run->args->compare && !run->args->json;
	uint64_t most = run->args->request.max_tokens, room = tt_engine_info(run->engine)->context - run->n_ids;
	uint64_t total = (most < room ? most : room) * (run->has_unsteered + run->has_steered);
	double begun = tt_now();
	cli_progress_begin(&progress);
	progress.quiet = true;
	int status = CLI_PROCEED;
	while (status == CLI_PROCEED && tt_engine_pending(run->engine) > 0) {
		if (tt_engine_step(run->engine, &err) != TT_OK)
			status = cli_fail(&err);
		if (run->has_unsteered)
			collect(run, &run->unsteered, stream);
		if (run->has_steered)
			collect(run, &run->steered, stream);
		if (!stream)
			cli_progress_step(&progress, "tokens", run->unsteered.n_tokens + run->steered.n_tokens, total);
		if (status == CLI_PROCEED && cli_interrupted())
			status = CLI_INTERRUPTED;
		if (stream && ferror(stdout))
			status = cli_failf("standard output: cannot be written");
	}
	cli_progress_end(&progress);
	run->seconds = tt_now() - begun;
	fflush(run->has_unsteered ? run->unsteered.writer : run->steered.writer);
	fflush(run->has_steered ? run->steered.writer : run->unsteered.writer);
	return status;
}

/* ---- JSON */

static json_t *logprobs_json(const struct run *run, const struct generation *g)
{
	json_t *list = json_array();
	for (size_t i = 0; i < g->n_tokens; i++) {
		const struct token *token = &g->tokens[i];
		json_t *top = json_array();
		for (uint32_t k = 0; k < token->n_top; k++)
			json_array_append_new(top, json_pack("{s:i,s:o,s:o}", "id", (int)token->top_ids[k], "token",
							   cli_piece_json(run->text, token->top_ids[k]), "logprob",
							   tt_json_number(token->top_logprobs[k])));
		json_array_append_new(list, json_pack("{s:i,s:o,s:o,s:o}", "id", (int)token->id, "token",
						    cli_piece_json(run->text, token->id), "logprob",
						    tt_json_number(token->logprob), "top", top));
	}
	return list;
}

static const char *finish_name(const struct generation *g)
{
	switch (tt_request_finish(g->request)) {
	case TT_FINISH_STOP:
		return "stop";
	case TT_FINISH_LENGTH:
		return "length";
	case TT_FINISH_CONTEXT:
		return "context";
	case TT_RUNNING:
	case TT_FINISH_CANCELLED:
	case TT_FINISH_DEADLINE:
	case TT_FINISH_FAILED:
		break;
	}
	return "interrupted";
}

static json_t *generation_json(const struct run *run, const struct generation *g, bool steered)
{
	json_t *ids = json_array(), *logprobs = json_array();
	for (size_t i = 0; i < g->n_tokens; i++) {
		json_array_append_new(ids, json_integer(g->tokens[i].id));
		json_array_append_new(logprobs, tt_json_number(g->tokens[i].logprob));
	}
	json_t *json = json_pack("{s:s%,s:o,s:o,s:s}", "text", g->text, g->n_text, "ids", ids, "logprobs", logprobs,
		"finish", finish_name(g));
	if (run->args->request.n_top)
		json_object_set_new(json, "top_logprobs", logprobs_json(run, g));
	if (steered)
		json_object_set_new(json, "decision",
			cli_decision_json(g->request, &run->policies, tt_engine_info(run->engine)->n_layers));
	else
		json_object_set_new(json, "decision", json_null());
	return json;
}

static int print_json(const struct run *run)
{
	json_t *ids = json_array(), *json = json_object();
	for (size_t i = 0; i < run->n_ids; i++)
		json_array_append_new(ids, json_integer(run->ids[i]));
	json_object_set_new(json, "model", json_string(tt_engine_info(run->engine)->name));
	json_object_set_new(json, "compute", json_string(run->args->engine.compute ? "q8" : "f32"));
	if (tt_engine_info(run->engine)->chat_template_sha256)
		json_object_set_new(
			json, "chat_template", json_string(tt_engine_info(run->engine)->chat_template_sha256));
	if (run->args->prompt.messages)
		json_object_set_new(json, "messages", json_loadb(run->prompt, run->n_prompt, 0, NULL));
	else
		json_object_set_new(json, "prompt", json_stringn(run->prompt, run->n_prompt));
	json_object_set_new(json, "prompt_ids", ids);
	if (run->args->compare) {
		json_object_set_new(json, "unsteered", generation_json(run, &run->unsteered, false));
		json_object_set_new(json, "steered", generation_json(run, &run->steered, true));
	} else {
		json_t *one = run->has_steered ? generation_json(run, &run->steered, true)
					       : generation_json(run, &run->unsteered, false);
		json_object_update(json, one);
		json_decref(one);
	}
	json_object_set_new(json, "seconds", json_real(run->seconds));
	return cli_print_json(json, JSON_COMPACT | JSON_REAL_PRECISION(9));
}

/* ---- Text */

static void print_columns(const struct run *run)
{
	const struct generation *both[2] = {&run->unsteered, &run->steered};
	const char *titles[2] = {"unsteered", "steered"};
	size_t width = cli_terminal_width();
	if (width > 180)
		width = 180;
	if (width < 60) {
		for (int i = 0; i < 2; i++) {
			struct cli_lines lines = {0};
			cli_wrap(&lines, both[i]->text, both[i]->n_text, width);
			printf("%s--- %s\n", i ? "\n" : "", titles[i]);
			for (size_t k = 0; k < lines.n; k++)
				puts(lines.lines[k]);
			cli_lines_free(&lines);
		}
		return;
	}
	size_t column = (width - 3) / 2;
	struct cli_lines left = {0}, right = {0};
	cli_wrap(&left, both[0]->text, both[0]->n_text, column);
	cli_wrap(&right, both[1]->text, both[1]->n_text, column);
	printf("%-*s │ %s\n", (int)column, titles[0], titles[1]);
	for (size_t i = 0; i < width; i++)
		fputs(i == column + 1 ? "┼" : "─", stdout);
	putchar('\n');
	for (size_t i = 0; i < left.n || i < right.n; i++) {
		const char *text = i < left.n ? left.lines[i] : "";
		const char *other = i < right.n ? right.lines[i] : "";
		size_t used = cli_text_width(text);
		printf("%s%*s │%s%s\n", text, used < column ? (int)(column - used) : 0, "", *other ? " " : "", other);
	}
	cli_lines_free(&left);
	cli_lines_free(&right);
}

static void print_logprobs(const struct run *run, const struct generation *g, const char *title)
{
	struct cli_table table;
	cli_table_begin(&table, "rllrl");
	const char *headings[] = {"#", "token", "", "logprob", title};
	for (int i = 0; i < 5; i++)
		cli_table_cell(&table, "%s", headings[i]);
	for (size_t i = 0; i < g->n_tokens; i++) {
		const struct token *token = &g->tokens[i];
		size_t n, n_list;
		const char *piece = tt_text_piece(run->text, token->id, &n);
		cli_table_cell(&table, "%zu", i);
		cli_table_cell(&table, "'%.*s'", (int)n, piece);
		cli_table_cell(&table, "%d", token->id);
		cli_table_cell(&table, "%.3f", (double)token->logprob);
		char *list = NULL;
		FILE *file = cli_memory_file(&list, &n_list);
		for (uint32_t k = 0; k < token->n_top; k++) {
			piece = tt_text_piece(run->text, token->top_ids[k], &n);
			fprintf(file, "%s'%.*s' %.3f", k ? "  " : "", (int)n, piece, (double)token->top_logprobs[k]);
		}
		fclose(file);
		cli_table_cell(&table, "%s", list);
		free(list);
	}
	putchar('\n');
	cli_table_print(&table, stdout);
}

static void print_rest(const struct run *run)
{
	const struct args *args = run->args;
	const struct generation *shown = run->has_steered ? &run->steered : &run->unsteered;
	if (args->compare)
		print_columns(run);
	else
		putchar('\n');
	if (args->request.n_top && run->has_unsteered)
		print_logprobs(run, &run->unsteered, args->compare ? "likeliest, unsteered" : "likeliest");
	if (args->request.n_top && run->has_steered)
		print_logprobs(run, &run->steered, args->compare ? "likeliest, steered" : "likeliest");
	if (args->show_steering) {
		putchar('\n');
		cli_show_steering(stdout, run->steered.request, &run->policies, tt_engine_info(run->engine)->n_layers,
			run->terminal);
	}
	if (tt_request_finish(shown->request) == TT_FINISH_CONTEXT)
		cli_note("stopped: the context of %u tokens is full", tt_engine_info(run->engine)->context);
	if (isatty(STDERR_FILENO) && run->seconds > 0) {
		size_t generated = run->unsteered.n_tokens + run->steered.n_tokens;
		cli_note("%zu prompt and %zu generated tokens in %.1f s (%.1f a second)", run->n_ids, generated,
			run->seconds, (double)generated / run->seconds);
	}
}

static void release(struct run *run)
{
	struct generation *both[2] = {&run->unsteered, &run->steered};
	for (int i = 0; i < 2; i++) {
		tt_request_free(both[i]->request);
		if (both[i]->writer)
			fclose(both[i]->writer);
		free(both[i]->text);
		free(both[i]->tokens);
	}
	cli_policies_free(&run->policies, run->engine);
	tt_engine_close(run->engine);
	tt_free(run->ids);
	free(run->prompt);
}

static int generate(struct run *run, const char *model)
{
	const struct args *args = run->args;
	run->policies.layers = args->layers;
	int status = cli_policies_parse(&run->policies, &args->policies, "generate");
	if (status == CLI_PROCEED)
		status = cli_prompt_read(&run->prompt, &run->n_prompt, &args->prompt, "generate");
	if (status == CLI_PROCEED)
		status = cli_engine_open(&run->engine, model, &args->engine, args->compare ? 2 : 1);
	if (status == CLI_PROCEED)
		status = cli_policies_load(&run->policies, run->engine);
	if (status != CLI_PROCEED)
		return status;
	run->text = tt_engine_text(run->engine);
	status = cli_prompt_encode(
		&run->ids, &run->n_ids, run->span, run->text, run->prompt, run->n_prompt, &args->prompt);
	run->has_steered = run->policies.n > 0;
	run->has_unsteered = !run->has_steered || args->compare;
	if (status == CLI_PROCEED && run->has_unsteered)
		status = submit(run, &run->unsteered, false);
	if (status == CLI_PROCEED && run->has_steered)
		status = submit(run, &run->steered, true);
	if (status != CLI_PROCEED)
		return status;
	cli_catch_interrupt();
	status = step_until_done(run);
	if (status == CLI_FAILED)
		return status;
	if (args->json && print_json(run) != CLI_OK)
		return CLI_FAILED;
	if (!args->json)
		print_rest(run);
	return status == CLI_INTERRUPTED ? CLI_INTERRUPTED : CLI_OK;
}

int cli_generate(int argc, char **argv)
{
	struct args args = {0};
	const char *model = NULL;
	int status = parse(&args, argc, argv, &model);
	if (status != CLI_PROCEED)
		return status;
	struct run run = {.args = &args, .terminal = isatty(STDOUT_FILENO)};
	status = generate(&run, model);
	release(&run);
	return status;
}
