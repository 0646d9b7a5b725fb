/* The map of a request of the log, layer by token. It is made by running the request again, so that nothing heavy is
 * logged, and shows text, so that it is for those alone who may see that. */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "runtime/page/push.h"
#include "runtime/serve/live.h"
#include "runtime/serve/replay.h"
#include "runtime/serve/server.h"
#include "runtime/serve/task.h"
#include "runtime/text/text.h"

enum {
	MAX_CHOICES = 16,
	MAX_POSITIONS = 1024, /* that are told, the last ones of the prompt before the answer's first */
	MAX_SECONDS = 30,
};

/* ---- On a thread of the pool */

/* Runs on the engine's thread: a server that ends does not wait for a map. */
static void notify(void *user, struct tt_request *request)
{
	struct tt_server *server = user;
	if (atomic_load(&server->stops))
		tt_request_cancel(request);
}

/* Why a request has no map; NULL: it has. */
static const char *obstacle(const struct tt_replay *r, const struct tt_catalog *catalog)
{
	if (tt_api_n_choices(&r->body) > MAX_CHOICES)
		return "it has too many choices";
	for (uint32_t i = 0; i < r->body.options.n_steering; i++)
		for (size_t k = 0; k < catalog->policies.n; k++)
			if (catalog->policies.list[k].killed &&
				strcmp(catalog->policies.list[k].name, r->body.policies[i]->name) == 0)
				return "steering by a policy of it was ended";
	return NULL;
}

struct map {
	const struct tt_request *request;
	const struct tt_api_request *body;
	const int32_t *ids; // [n_prompt]
	size_t n_prompt, n_positions, from;
	uint32_t n_layers;
	float *push; // [n_positions][n_layers]
};

static json_t *tokens_json(const struct map *map, const struct tt_text *text)
{
	json_t *list = json_array();
	for (size_t p = map->from; p < map->n_positions; p++) {
		size_t n;
		int32_t id = p < map->n_prompt ? map->ids[p] : tt_request_generated(map->request)[p - map->n_prompt];
		const char *piece = tt_text_piece(text, id, &n);
		json_array_append_new(list, tt_piece_json(piece, n));
	}
	return list;
}

/* Layers that were pushed or read. */
static json_t *layers_json(const struct map *map)
{
	json_t *list = json_array();
	for (uint32_t l = 0; l < map->n_layers; l++) {
		bool read = tt_push_is_read(map->body->options.steering, map->body->options.n_steering, l), any = read;
		for (size_t p = 0; p < map->n_positions; p++)
			any = any || map->push[p * map->n_layers + l] > 0;
		if (!any)
			continue;
		json_t *push = json_array();
		for (size_t p = map->from; p < map->n_positions; p++)
			json_array_append_new(push, tt_json_number((double)map->push[p * map->n_layers + l]));
		json_array_append_new(
			list, json_pack("{s:i, s:b, s:o}", "layer", (int)l, "read", (int)read, "push", push));
	}
	return list;
}

static int map_json(json_t *answer, const struct tt_replay *r, struct tt_engine *engine, struct tt_error *err)
{
	const struct tt_api_prompt *prompt = tt_api_prompt_of(&r->body, 0);
	struct map map = {
		.request = r->choices[0].request,
		.body = &r->body,
		.ids = prompt->ids,
		.n_prompt = prompt->n_ids,
		.n_layers = tt_engine_info(engine)->n_layers,
	};
	const size_t n_generated = tt_request_n_generated(map.request);
	size_t n_cells;
	/* The last token generated was never fed, so nothing was pushed there. */
	map.n_positions = map.n_prompt + (n_generated ? n_generated - 1 : 0);
	map.from = map.n_positions > MAX_POSITIONS ? map.n_positions - MAX_POSITIONS : 0;
	if (!tt_mul_size(map.n_positions, map.n_layers, &n_cells))
		return tt_fail(err, TT_ERR_MEMORY, "out of memory");
	TT_TRY(tt_alloc(&map.push, n_cells, sizeof *map.push, err));
	float most = tt_push_fill(map.push, map.n_positions, map.request, r->body.options.steering,
		r->body.options.n_steering, map.n_layers);
	int status = tt_json_add(answer,
		json_pack("{s:I, s:I, s:I, s:i, s:f, s:o, s:o}", "from", (json_int_t)map.from, "n_prompt",
			(json_int_t)map.n_prompt, "positions", (json_int_t)map.n_positions, "n_layers",
			(int)map.n_layers, "most", (double)most, "tokens", tokens_json(&map, tt_engine_text(engine)),
			"layers", layers_json(&map)),
		err);
	free(map.push);
	return status;
}

static bool all_ended(const struct tt_replay *r)
{
	for (uint32_t i = 0; i < r->n_choices; i++)
		if (tt_request_finish(r->choices[i].request) > TT_FINISH_CONTEXT)
			return false;
	return true;
}

/* Runs what was read again. What is no map has a reason. */
static int run(
	json_t *answer, struct tt_replay *r, struct tt_replays *with, struct tt_server *server, struct tt_error *err)
{
	r->body.options.timeout = MAX_SECONDS;
	r->body.options.notify = notify;
	r->body.options.user = server;
	TT_TRY(tt_replay_submit(r, with, true, err));
	TT_TRY(tt_replay_compare(r, with, err));
	if (!all_ended(r))
		return tt_fail(err, TT_ERR_LIMIT, "it took too long to run it again");
	return map_json(answer, r, with->engine, err);
}

static int make_map(json_t *answer, struct tt_task *task, struct tt_replays *with, struct tt_error *err)
{
	struct tt_replay r = {.seq = task->number};
	struct tt_tree tree;
	TT_TRY(tt_log_tree(&with->log, &tree, err));
	if (task->number >= tree.size) {
		task->http = 404;
		return tt_fail(err, TT_ERR_ARGUMENT, "there is no such entry");
	}
	int status = tt_replay_read(&r, with, err);
	const char *why = status == TT_OK && r.parsed ? obstacle(&r, task->catalog) : NULL;
	task->http = status == TT_OK ? 409 : 500;
	if (status == TT_OK && r.outcome != TT_REPLAY_EQUAL)
		status = tt_fail(err, TT_ERR_ARGUMENT, "%s", r.why);
	else if (status == TT_OK && why)
		status = tt_fail(err, TT_ERR_ARGUMENT, "%s", why);
	else if (status == TT_OK)
		status = run(answer, &r, with, task->server, err);
	if (status == TT_OK)
		status = tt_json_add(answer,
			json_pack("{s:I, s:s, s:s}", "seq", (json_int_t)r.seq, "outcome", tt_replay_words[r.outcome],
				"why", r.why),
			err);
	tt_replay_free(&r);
	return status;
}

static int answer_map(struct tt_task *task, const json_t *body, json_t **answer, struct tt_error *err)
{
	struct tt_replays with = {
		.engine = task->server->engine,
		.state = task->server->options->state,
		.policies = &task->catalog->policies,
	};
	(void)body;
	task->http = 500;
	*answer = json_object();
	int status = tt_replays_open(&with, err);
	if (status == TT_OK)
		status = make_map(*answer, task, &with, err);
	tt_replays_close(&with);
	if (status != TT_OK) {
		json_decref(*answer);
		*answer = NULL;
	}
	return status;
}

/* ---- On the loop */

static void after(struct tt_task *task)
{
	task->server->maps = false;
	tt_catalog_give(task->catalog);
}

/* Why there is no map; NULL: it can be tried. */
static const struct tt_problem *problem_of(const struct tt_connection *c)
{
	static const struct tt_problem none = {404, "there is no audit log (--state)", NULL, "not_found"},
				       no_right = {403,
					       "this shows text, which takes a key with the role reviewer or auditor",
					       NULL, "no_right"},
				       busy = {429, "a map is being made", NULL, "map_busy"},
				       killed = {409, "steering is stopped, so nothing can be run again as it was",
					       NULL, NULL};
	const struct tt_key *key = tt_server_key(c->server, &c->http);
	if (!c->server->recorder)
		return &none;
	if (!key || !tt_roles_allow(key->roles, TT_RIGHT_TEXT))
		return &no_right;
	if (c->server->maps)
		return &busy;
	return tt_engine_is_killed(c->server->engine) ? &killed : NULL;
}

void tt_live_map(struct tt_connection *c)
{
	static const char prefix[] = "/v1/admin/map/";
	static const struct tt_problem unknown = {404, "there is no such entry", NULL, "not_found"};
	const struct tt_problem *problem = problem_of(c);
	uint64_t number;
	if (!problem && !tt_path_number(c, sizeof prefix - 1, &number))
		problem = &unknown;
	if (problem) {
		tt_reply_problem(c, problem);
		return;
	}
	struct tt_task *task = tt_task_new(c, answer_map);
	if (!task)
		return;
	task->number = number;
	task->catalog = tt_catalog_take(c->server->catalog);
	task->after = after;
	c->server->maps = true;
	tt_task_start(task);
}
