#include "runtime/serve/routes.h"

#include <stdio.h>
#include <string.h>

#include "runtime/openai/api_steering.h"
#include "runtime/serve/audit.h"
#include "runtime/serve/job.h"
#include "runtime/serve/live.h"
#include "runtime/serve/reply.h"
#include "runtime/serve/server.h"
#include "runtime/serve/task.h"
#include "runtime/text/text.h"

static void chat_completions(struct tt_connection *c)
{
	tt_job_start(c, TT_CHAT_COMPLETIONS);
}

static void completions(struct tt_connection *c)
{
	tt_job_start(c, TT_COMPLETIONS);
}

/* Whether the key may name the policy in a body, by some label. */
static bool may_name(
	const struct tt_key *key, const struct tt_api_context *context, const struct tt_named_policy *policy)
{
	enum tt_api_right right = tt_server_right(key);
	for (uint32_t k = 0; k < context->n_shadows; k++)
		if (context->shadows[k].policy == policy)
			return false;
	return right == TT_API_CHOOSES_ANY ||
	       (right == TT_API_CHOOSES_NAMES && (!policy->label || strcmp(policy->label, TT_STANDARD_LABEL) == 0));
}

/* Whether a body with this key may have the policy for its model: what reads such a body says so. */
static bool may_ask_by(const struct tt_server *server, const struct tt_key *key, const char *policy)
{
	struct tt_api_context context = server->catalog->context;
	struct tt_api_request request = {.serves = context.serves};
	json_t *body = json_pack("{s:o}", "steering", tt_server_steering_by(policy));
	context.right = tt_server_right(key);
	bool may = body && tt_api_read_steering(&request, body, &context, NULL) == TT_OK;
	json_decref(body);
	return may;
}

/* policy: NULL, or of a model that it steers. */
static json_t *model_json(const struct tt_server *server, const struct tt_named_policy *policy)
{
	const struct tt_model_info *info = tt_engine_info(server->engine);
	char id[TT_MAX_TARGET];
	snprintf(id, sizeof id, "%s%s%s", server->model, policy ? ":" : "", policy ? policy->name : "");
	json_t *model = json_pack("{s:s, s:s, s:I, s:s, s:i, s:s#}", "id", id, "object", "model", "created",
		(json_int_t)server->started, "owned_by", "trimtab", "max_model_len", (int)info->context, "root",
		info->weights_digest, 16);
	if (model && policy)
		json_object_set_new(model, "parent", json_string(server->model));
	return model;
}

static void models(struct tt_connection *c)
{
	const struct tt_server *server = c->server;
	const struct tt_named_policies *policies = &server->catalog->policies;
	const struct tt_key *key = c->key;
	json_t *list = json_array();
	json_array_append_new(list, model_json(server, NULL));
	for (size_t i = 0; server->options->list_policies && i < policies->n; i++) {
		const struct tt_named_policy *policy = &policies->list[i];
		if (tt_named_policies_find(policies, policy->name) == policy && may_ask_by(server, key, policy->name))
			json_array_append_new(list, model_json(server, policy));
	}
	tt_reply_json(c, 200, json_pack("{s:s, s:o}", "object", "list", "data", list));
}

/* /v1/models/NAME */
static void model(struct tt_connection *c)
{
	static const char prefix[] = "/v1/models/";
	static const struct tt_problem unknown = {404, "there is no such model here", "model", "model_not_found"};
	struct tt_span path = tt_http_path(&c->http);
	const struct tt_named_policy *policy = NULL;
	const char *policy_name = NULL;
	size_t n = path.len - (sizeof prefix - 1);
	char name[TT_MAX_TARGET + 1];
	memcpy(name, path.data + (sizeof prefix - 1), n);
	name[n] = 0;
	bool is = tt_server_is_model(c->server, name, &policy_name);
	if (is && policy_name) {
		policy = tt_named_policies_find(&c->server->catalog->policies, policy_name);
		is = policy && may_ask_by(c->server, c->key, policy_name);
	}
	if (is)
		tt_reply_json(c, 200, model_json(c->server, policy));
	else
		tt_reply_problem(c, &unknown);
}

static json_t *policy_json(const struct tt_api_context *context, const struct tt_named_policy *policy)
{
	struct tt_policy_info info;
	tt_policy_describe(policy->policy, &info);
	json_t *entry = json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", policy->name, "version", policy->sha256,
		"operation", info.op_word, "gate", info.gate_word, "when", tt_when_word(info.when));
	if (!entry || !policy->label)
		return entry;
	float least = policy->least;
	bool mandatory = false;
	for (uint32_t k = 0; k < context->n_mandatory; k++) {
		if (context->mandatory[k].policy == policy) {
			mandatory = true;
			least = context->mandatory[k].floor;
		}
	}
	json_object_update_new(
		entry, json_pack("{s:s, s:f, s:f, s:b, s:b}", "label", policy->label, "least", (double)least, "most",
			       (double)policy->most, "mandatory", mandatory, "killed", policy->killed));
	return entry;
}

static void steering(struct tt_connection *c)
{
	const struct tt_catalog *catalog = c->server->catalog;
	const struct tt_key *key = c->key;
	json_t *list = json_array(), *standing = json_array();
	for (size_t i = 0; i < catalog->policies.n; i++)
		if (may_name(key, &catalog->context, &catalog->policies.list[i]))
			json_array_append_new(list, policy_json(&catalog->context, &catalog->policies.list[i]));
	for (uint32_t i = 0; i < catalog->context.n_standing; i++)
		json_array_append_new(
			standing, json_pack("{s:s, s:f}", "name", catalog->context.standing[i].policy->name, "scale",
					  (double)catalog->context.standing[i].scale));
	tt_reply_json(c, 200,
		json_pack("{s:o, s:o, s:b}", "policies", list, "default", standing, "killed",
			tt_engine_is_killed(c->server->engine)));
}

static json_t *string_or_null(const char *text)
{
	return text && *text ? json_string(text) : json_null();
}

/* As lm-eval's remote tokenizer reads it. */
static void tokenizer_info(struct tt_connection *c)
{
	const struct tt_chat_template *chat = tt_text_template(tt_engine_text(c->server->engine));
	tt_reply_json(c, 200,
		json_pack("{s:o, s:o, s:o}", "eos_token", string_or_null(chat->eos_token), "bos_token",
			string_or_null(chat->bos_token), "chat_template", string_or_null(chat->source)));
}

static void health(struct tt_connection *c)
{
	const char *status = tt_engine_is_lost(c->server->engine) ? "a rank has failed"
			     : c->server->draining                ? "draining"
								  : "ok";
	tt_reply_json(c, strcmp(status, "ok") ? 503 : 200, json_pack("{s:s}", "status", status));
}

/* A step of many tokens of a large model takes minutes on a few cores, and who is told of a server that does not live
 * ends it, with all that it answers. */
enum { QUIET_SECONDS = 600 };

/* Whether the model's thread lives: this one does. A rank that stands still ends the server by itself. */
static void live(struct tt_connection *c)
{
	struct tt_engine_load load;
	tt_engine_load(c->server->engine, &load);
	if (load.quiet < QUIET_SECONDS)
		tt_reply_json(c, 200, json_pack("{s:s}", "status", "ok"));
	else
		tt_reply_json(c, 503,
			json_pack("{s:s, s:f}", "status", "the model stands still", "quiet_seconds", load.quiet));
}

static void version(struct tt_connection *c)
{
	tt_reply_json(c, 200, json_pack("{s:s}", "version", tt_version()));
}

enum method { GET, POST };
enum place { CLIENTS = 1, ADMIN = 2, BOTH = 3 }; /* what is on both needs no key */

static const struct route {
	enum method method;
	enum place place;
	const char *path;
	bool is_prefix;
	void (*answer)(struct tt_connection *c);
	const struct tt_problem *(*refuses)(const struct tt_connection *c); /* whom it does not answer; NULL: none */
	const struct tt_problem *(*delays)(const struct tt_connection *c); /* whom it does not answer now; NULL: none */
} routes[] = {
	{POST, CLIENTS, "/v1/chat/completions", false, chat_completions, NULL, tt_job_objection},
	{POST, CLIENTS, "/v1/completions", false, completions, NULL, tt_job_objection},
	{POST, CLIENTS, "/tokenize", false, tt_tokenize, NULL, tt_text_objection},
	{POST, CLIENTS, "/detokenize", false, tt_detokenize, NULL, tt_text_objection},
	{GET, CLIENTS, "/tokenizer_info", false, tokenizer_info, NULL, NULL},
	{GET, CLIENTS, "/v1/models", false, models, NULL, NULL},
	{GET, CLIENTS, "/v1/models/", true, model, NULL, NULL},
	{GET, CLIENTS, "/v1/steering", false, steering, NULL, NULL},
	{GET, CLIENTS, "/v1/audit/", true, tt_audit_answer, NULL, NULL},
	{GET, BOTH, "/health", false, health, NULL, NULL},
	{GET, BOTH, "/health/live", false, live, NULL, NULL},
	{GET, BOTH, "/live", false, live, NULL, NULL},
	{GET, BOTH, "/health/ready", false, health, NULL, NULL},
	{GET, BOTH, "/ready", false, health, NULL, NULL},
	{GET, BOTH, "/version", false, version, NULL, NULL},
	{GET, ADMIN, "/metrics", false, tt_metrics_answer, NULL, NULL},
	{GET, ADMIN, "/", false, tt_live_file, NULL, NULL},
	{GET, ADMIN, "/dashboard/", true, tt_live_file, NULL, NULL},
	{GET, ADMIN, "/v1/admin/live", false, tt_live_answer, tt_live_objection, NULL},
	{GET, ADMIN, "/v1/admin/log", false, tt_live_log, tt_live_objection, NULL},
	{GET, ADMIN, "/v1/admin/map/", true, tt_live_map, tt_live_objection, NULL},
	{POST, ADMIN, "/v1/admin/", true, tt_admin, tt_admin_objection, NULL},
};

static bool is_here(const struct route *route, const struct tt_connection *c)
{
	const struct tt_serve_options *o = c->server->options;
	enum place place = c->is_admin ? ADMIN : CLIENTS;
	if (route->answer == tokenizer_info && !o->tokenizer_info)
		return false;
	return (route->place & place) || (route->answer == tt_metrics_answer && o->public_metrics);
}

static const struct route *find(const struct tt_connection *c)
{
	struct tt_span path = tt_http_path(&c->http);
	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
		size_t n = strlen(routes[i].path);
		bool fits = routes[i].is_prefix ? path.len > n : path.len == n;
		if (fits && memcmp(path.data, routes[i].path, n) == 0)
			return is_here(&routes[i], c) ? &routes[i] : NULL;
	}
	return NULL;
}

/* Host without its port. */
static struct tt_span host_of(const struct tt_http *http)
{
	struct tt_span host = tt_http_field(http, "host");
	const char *end = memchr(host.data, host.data[0] == '[' ? ']' : ':', host.len);
	if (end)
		host.len = (size_t)(end - host.data) + (host.data[0] == '[');
	return host;
}

/* Whether Host is an address, or a name that nobody else can give to this machine. A page of another site that has its
 * own name lead here is told by that. */
static bool is_address(const struct tt_http *http)
{
	struct tt_span host = host_of(http);
	size_t n = 0;
	while (n < host.len && strchr("0123456789.", host.data[n]))
		n++;
	return n == host.len || host.data[0] == '[' || tt_span_is(host, "localhost");
}

static bool is_loopback(const struct tt_http *http)
{
	struct tt_span host = host_of(http);
	return tt_span_is(host, "localhost") || tt_span_is(host, "127.0.0.1") || tt_span_is(host, "[::1]");
}

/* Whether the body says that it is JSON; what browsers send without asking does not. */
static bool is_json(const struct tt_http *http)
{
	static const char json[] = "application/json";
	struct tt_span type = tt_http_field(http, "content-type");
	const size_t n = sizeof json - 1;
	if (type.len < n || (type.len > n && !strchr("; \t", type.data[n])))
		return false;
	type.len = n;
	return tt_span_is(type, json);
}

static bool is_method(struct tt_span given, enum method method)
{
	const char *const words[] = {"GET", "POST"};
	const char *word = words[method];
	if (method == GET && given.len == 4 && memcmp(given.data, "HEAD", 4) == 0)
		return true;
	return given.len == strlen(word) && memcmp(given.data, word, given.len) == 0;
}

/* Without a key nobody learns which paths there are. */
static bool may_ask(const struct tt_connection *c, const struct route *route)
{
	bool is_open = route && (route->place == BOTH || route->place == ADMIN);
	return is_open || !tt_server_needs_key(c->server) || c->key;
}

/* Why the request is not answered, as far as its header tells; NULL: it is. */
static const struct tt_problem *objection(const struct tt_connection *c, const struct route *route)
{
	static const struct tt_problem
		unknown = {404,
			"there is nothing here; what is: /v1/chat/completions, /v1/completions, /v1/models, "
			"/v1/steering, /v1/audit/SEQ, /tokenize, /detokenize, /health",
			NULL, "not_found"},
		nothing = {404, "there is nothing here", NULL, "not_found"},
		get = {405, "this is asked for by GET", NULL, "method_not_allowed"},
		post = {405, "this is asked for by POST", NULL, "method_not_allowed"},
		foreign = {403, "Host must be this machine by its address", NULL, "wrong_host"},
		no_key = {401, "a key is needed, as Authorization: Bearer KEY", NULL, "invalid_api_key"},
		no_json = {415, "Content-Type must be application/json", NULL, NULL};
	const struct tt_serve_options *o = c->server->options;
	if (c->is_admin ? !is_loopback(&c->http)
			: !tt_server_needs_key(c->server) && !o->behind_proxy && !c->is_local && !is_address(&c->http))
		return &foreign;
	if (!c->is_admin && !may_ask(c, route))
		return &no_key;
	if (!route)
		return c->is_admin ? &nothing : &unknown;
	const struct tt_problem *refusal = route->refuses ? route->refuses(c) : NULL;
	if (refusal)
		return refusal;
	if (!is_method(tt_http_method(&c->http), route->method))
		return route->method == GET ? &get : &post;
	if (route->method == POST && !is_json(&c->http))
		return &no_json;
	return route->delays ? route->delays(c) : NULL;
}

const char *tt_route_methods(const struct tt_connection *c)
{
	const struct route *route = find(c);
	if (!route || route->method != GET)
		return route ? "POST" : "";
	return route->answer == tt_live_map ? "GET" : "GET, HEAD";
}

/* From here on the connection has the key of its request. */
static bool refuse(struct tt_connection *c)
{
	c->key = tt_server_key(c->server, &c->http);
	const struct tt_problem *problem = objection(c, find(c));
	if (problem)
		tt_reply_problem(c, problem);
	return problem != NULL;
}

bool tt_route_refuse(struct tt_connection *c)
{
	bool refused = refuse(c);
	c->key = NULL;
	return refused;
}

void tt_route(struct tt_connection *c)
{
	if (!refuse(c))
		find(c)->answer(c);
	c->key = NULL;
}
