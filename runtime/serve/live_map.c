/* The map of a request of the log, layer by token. It is made by running the request again, so that nothing heavy is
 * logged, and shows text, so that it is for those alone who may see that. */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "controller/govern/query.h"
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
	MAX_BYTES = 64 << 20, /* of what is noted of every layer at every token */
};

/* ---- On a thread of the pool */

static bool is_steered_by(const struct tt_replay *r, const char *policy)
{
	for (uint32_t i = 0; i < r->body.options.n_steering; i++)
		if (strcmp(r->body.policies[i]->name, policy) == 0)
			return true;
	return false;
}

/* Whether steering by a policy of the request was ended, which the store knows of all versions. */
static int find_kill(bool *killed, const struct tt_replay *r, struct tt_replays *with, const struct tt_catalog *catalog,
	struct tt_error *err)
{
	*killed = false;
	for (size_t k = 0; k < catalog->policies.n; k++) /* also what could not be written */
		*killed = *killed ||
			  (catalog->policies.list[k].killed && is_steered_by(r, catalog->policies.list[k].name));
	for (uint32_t i = 0; i < r->body.options.n_steering && !*killed; i++) {
		int64_t n;
		TT_TRY(tt_sql_integer(&with->db, "SELECT count(*) FROM kill WHERE policy IN ('', ?)",
			TT_SQL(tt_text(r->body.policies[i]->name)), &n, err));
		*killed = n > 0;
	}
	return TT_OK;
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
	const size_t told = (size_t)json_integer_value(
		json_object_get(json_array_get(json_object_get(r->end, "choices"), 0), "tokens"));
	size_t n_generated = tt_request_n_generated(map.request), n_cells;
	n_generated = n_generated < told ? n_generated : told; /* of one that was abandoned */
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

/* Why a request is not run again as a map; NULL: it is. */
static const char *obstacle(const struct tt_replay *r, uint32_t n_layers)
{
	const size_t cell = 3 * sizeof(float); /* two norms and a push */
	const size_t n = (size_t)tt_api_prompt_of(&r->body, 0)->n_ids + r->body.options.max_tokens;
	if (tt_api_n_choices(&r->body) > MAX_CHOICES)
		return "it has too many choices";
	return n > MAX_BYTES / cell / n_layers ? "it is too long" : NULL;
}

/* Between the lists of this server, and what the store says of all: from here on it can be stopped. */
static int submit(struct tt_replay *r, struct tt_replays *with, const struct tt_task *task, struct tt_error *err)
{
	struct tt_server *server = task->server;
	bool killed;
	TT_TRY(find_kill(&killed, r, with, task->catalog, err));
	if (killed)
		return tt_fail(err, TT_ERR_ARGUMENT, "steering by a policy of it was stopped");
	tt_lock(server->engine);
	int status = server->map_stops ? tt_fail(err, TT_ERR_ARGUMENT, "it was stopped")
				       : tt_replay_submit(r, with, true, err);
	tt_unlock(server->engine);
	return status;
}

/* Runs what was read again. What is no map has a reason. */
static int run(
	json_t *answer, struct tt_replay *r, struct tt_replays *with, const struct tt_task *task, struct tt_error *err)
{
	struct tt_server *server = task->server;
	r->body.options.timeout = MAX_SECONDS;
	tt_lock(server->engine);
	server->map = r; /* before it is asked whether it may, so that no kill comes between */
	tt_unlock(server->engine);
	int status = submit(r, with, task, err);
	if (status == TT_OK)
		status = tt_replay_compare(r, with, err);
	tt_lock(server->engine);
	server->map = NULL;
	bool stopped = server->map_stops;
	tt_unlock(server->engine);
	TT_TRY(status);
	if (stopped)
		return tt_fail(err, TT_ERR_ARGUMENT, "it was stopped while it ran again, as what steers it was");
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
	const char *why = status == TT_OK && r.parsed ? obstacle(&r, tt_engine_info(with->engine)->n_layers) : NULL;
	if (status == TT_OK && r.outcome != TT_REPLAY_EQUAL)
		status = tt_fail(err, TT_ERR_ARGUMENT, "%s", r.why);
	else if (status == TT_OK && why)
		status = tt_fail(err, TT_ERR_ARGUMENT, "%s", why);
	else if (status == TT_OK)
		status = run(answer, &r, with, task, err);
	task->http = status == TT_ERR_ARGUMENT || status == TT_ERR_LIMIT ? 409 : 500;
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

void tt_live_map_stop(struct tt_server *server, const char *policy)
{
	tt_lock(server->engine);
	struct tt_replay *r = server->map;
	if (!policy || (r && is_steered_by(r, policy))) {
		server->map_stops = true;
		for (uint32_t i = 0; r && i < r->n_choices; i++)
			tt_request_cancel(r->choices[i].request);
	}
	tt_unlock(server->engine);
}

static void left(struct tt_task *task)
{
	tt_live_map_stop(task->server, NULL);
}

static void after(struct tt_task *task)
{
	task->server->maps = false;
	tt_catalog_give(task->catalog);
}

/* Why there is no map; NULL: it can be tried. */
static const struct tt_problem *problem_of(const struct tt_connection *c)
{
	static const struct tt_problem none = {404, "there is no audit log (--state)", NULL, "not_found"},
				       busy = {429, "a map is being made", NULL, "map_busy"},
				       draining = {503, "the server ends", NULL, "draining"},
				       killed = {409, "steering is stopped, so nothing can be run again as it was",
					       NULL, NULL};
	const struct tt_key *key = c->key;
	if (!c->server->recorder)
		return &none;
	if (!key || !tt_roles_allow(key->roles, TT_RIGHT_TEXT))
		return &tt_no_right;
	if (c->server->draining)
		return &draining;
	if (c->server->maps)
		return &busy;
	return tt_engine_is_killed(c->server->engine) ? &killed : NULL;
}

void tt_live_map(struct tt_connection *c)
{
	static const char prefix[] = "/v1/admin/map/";
	static const struct tt_problem unknown = {404, "there is no such entry", NULL, "not_found"},
				       head = {405, "a map is not made for nothing: GET", NULL, "method_not_allowed"};
	const struct tt_problem *problem = problem_of(c);
	uint64_t number;
	if (!problem && !tt_path_number(c, sizeof prefix - 1, &number))
		problem = &unknown;
	if (!problem && tt_span_is(tt_http_method(&c->http), "HEAD"))
		problem = &head;
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
	task->left = left;
	c->server->maps = true;
	tt_lock(c->server->engine);
	c->server->map_stops = false;
	tt_unlock(c->server->engine);
	tt_task_start(task);
}
