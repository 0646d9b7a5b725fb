#include "runtime/serve/live.h"

#include <stdlib.h>
#include <string.h>

#include "base/embedded.h"
#include "base/json.h"
#include "runtime/page/style.h"
#include "runtime/serve/job.h"
#include "runtime/serve/server.h"

enum { MAX_ROWS = 20 }; /* of what runs: they are written on the loop */

/* ---- Files */

extern const struct tt_file tt_file_live_html, tt_file_live_css, tt_file_live_js, tt_file_charts_js;

/* Nothing but this server's own files, no markup made of strings, and no frame of another page. */
static const char fields[] =
	"Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
	"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
	"require-trusted-types-for 'script'; trusted-types 'none'\r\n"
	"Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n";

void tt_live_file(struct tt_connection *c)
{
	static const struct {
		const char *path, *type;
		const struct tt_file *file;
	} files[] = {
		{"/", "text/html; charset=utf-8", &tt_file_live_html},
		{"/dashboard/style.css", "text/css; charset=utf-8", &tt_file_style_css},
		{"/dashboard/live.css", "text/css; charset=utf-8", &tt_file_live_css},
		{"/dashboard/live.js", "text/javascript; charset=utf-8", &tt_file_live_js},
		{"/dashboard/charts.js", "text/javascript; charset=utf-8", &tt_file_charts_js},
	};
	static const struct tt_problem unknown = {404, "there is nothing here", NULL, "not_found"};
	const struct tt_span path = tt_http_path(&c->http);
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		const size_t n = strlen(files[i].path);
		if (path.len != n || memcmp(path.data, files[i].path, n) != 0)
			continue;
		tt_connection_answer(c, 200, files[i].type, fields, files[i].file->data, files[i].file->n);
		return;
	}
	tt_reply_problem(c, &unknown);
}

/* ---- Who may ask */

/* Where requests need no key, this needs none either: it has no text. */
const struct tt_problem *tt_live_objection(const struct tt_connection *c)
{
	const struct tt_key *key = c->key;
	if (!key)
		return tt_server_needs_key(c->server) ? &tt_no_key : NULL;
	return tt_roles_allow(key->roles, TT_RIGHT_SEE) ? NULL : &tt_no_right;
}

/* ---- What runs */

static json_t *person_json(const struct tt_key *key)
{
	char kill[TT_ROLES_BYTES], resume[TT_ROLES_BYTES], text[TT_ROLES_BYTES];
	const uint32_t roles = key ? key->roles : 0;
	tt_right_text(kill, TT_RIGHT_KILL);
	tt_right_text(resume, TT_RIGHT_RESUME);
	tt_right_text(text, TT_RIGHT_TEXT);
	return json_pack("{s:s*, s:b, s:b, s:b, s:{s:s, s:s, s:s}}", "person", key ? key->person : NULL, "kill",
		(int)tt_roles_allow(roles, TT_RIGHT_KILL), "resume", (int)tt_roles_allow(roles, TT_RIGHT_RESUME),
		"text", (int)tt_roles_allow(roles, TT_RIGHT_TEXT), "roles", "kill", kill, "resume", resume, "text",
		text);
}

/* What a job says of itself while a thread of the pool does not have it. The engine's lock is held. */
static void add_course(json_t *row, const struct tt_job *job)
{
	const uint32_t n_layers = tt_engine_info(job->server->engine)->n_layers;
	const struct tt_request *request = job->n_submitted ? job->choices[0].request : NULL;
	size_t n_tokens = 0;
	for (uint32_t i = 0; i < job->n_submitted; i++)
		n_tokens += job->news[i].n_tokens;
	json_object_set_new(row, "stream", json_boolean(job->body.stream));
	json_object_set_new(row, "choices", json_integer((json_int_t)job->n_choices));
	json_object_set_new(row, "prompt_tokens", json_integer((json_int_t)tt_api_n_prompt_tokens(&job->body)));
	json_object_set_new(row, "tokens", json_integer((json_int_t)n_tokens));
	if (!request)
		return;
	json_object_set_new(row, "steering", tt_decisions_json(request, &job->body, n_layers));
	json_object_set_new(row, "shadow", tt_shadows_json(request, &job->body, n_layers));
}

static json_t *running_json(struct tt_server *server)
{
	static const char *const stages[] = {"reading", "running", "finishing"};
	json_t *list = json_array();
	uint32_t n = 0;
	tt_lock(server->engine);
	for (const struct tt_job *job = server->jobs; job && n < MAX_ROWS; job = job->next, n++) {
		json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:f}", "id", job->id, "key", job->key, "route",
			job->endpoint == TT_COMPLETIONS ? "text" : "chat", "stage", stages[job->stage], "seconds",
			1e-9 * (double)(uv_hrtime() - job->arrived));
		if (row && job->stage == TT_JOB_RUNNING && job->choices)
			add_course(row, job);
		json_array_append_new(list, row);
	}
	tt_unlock(server->engine);
	return list;
}

/* ---- What steers */

static json_t *policy_json(const struct tt_catalog *catalog, size_t i)
{
	static const char *const outcomes[TT_N_OUTCOMES] = {"acted", "closed", "off", "killed_requests"};
	const struct tt_named_policy *policy = &catalog->policies.list[i];
	const struct tt_policy_metrics *metrics = &catalog->loaded[i]->metrics;
	struct tt_policy_info info;
	tt_policy_describe(policy->policy, &info);
	json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:I, s:I, s:I, s:o, s:o}", "policy", policy->name,
		"version", policy->sha256, "label", policy->label ? policy->label : "", "operation", info.op_word,
		"gate_kind", info.gate_word, "killed", (int)policy->killed, "opens_below", (int)info.opens_below,
		"tokens", (json_int_t)metrics->n_tokens, "shadow_open", (json_int_t)metrics->shadow_open,
		"shadow_closed", (json_int_t)metrics->shadow_closed, "threshold",
		info.has_threshold ? tt_json_number((double)info.threshold) : json_null(), "gate",
		tt_metrics_gate(metrics));
	for (int k = 0; row && k < TT_N_OUTCOMES; k++)
		json_object_set_new(row, outcomes[k], json_integer((json_int_t)metrics->outcomes[k]));
	for (uint32_t k = 0; row && k < catalog->context.n_standing; k++)
		if (catalog->context.standing[k].policy == policy)
			json_object_set_new(row, "scale", tt_json_number((double)catalog->context.standing[k].scale));
	for (uint32_t k = 0; row && k < catalog->context.n_mandatory; k++)
		if (catalog->context.mandatory[k].policy == policy) /* this scale acts, whatever the stack's is */
			json_object_update_new(
				row, json_pack("{s:b, s:o}", "mandatory", 1, "scale",
					     tt_json_number((double)catalog->context.mandatory[k].scale)));
	for (uint32_t k = 0; row && k < catalog->context.n_shadows; k++)
		if (catalog->context.shadows[k].policy == policy)
			json_object_set_new(row, "is_shadow", json_true());
	return row;
}

static json_t *policies_json(const struct tt_catalog *catalog)
{
	json_t *list = json_array();
	for (size_t i = 0; i < catalog->policies.n; i++)
		json_array_append_new(list, policy_json(catalog, i));
	return list;
}

/* ---- What was counted */

static json_t *engine_json(struct tt_server *server)
{
	const struct tt_metrics *m = &server->metrics;
	struct tt_engine_load load;
	tt_engine_load(server->engine, &load);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "running",
		(json_int_t)load.n_running, "waiting", (json_int_t)load.n_waiting, "pages", (json_int_t)load.n_pages,
		"used_pages", (json_int_t)load.n_used_pages, "tokens", (json_int_t)atomic_load(&m->n_tokens),
		"prompt_tokens", (json_int_t)m->n_prompt_tokens, "ended",
		(json_int_t)(m->n_ends[TT_END_STOP] + m->n_ends[TT_END_LENGTH]), "failed",
		(json_int_t)m->n_ends[TT_END_ERROR], "abandoned", (json_int_t)m->n_ends[TT_END_ABORT], "refused",
		(json_int_t)(m->n_refused[429] + m->n_refused[503]), "first_token",
		tt_metrics_histogram(m, TT_FIRST_TOKEN), "between", tt_metrics_histogram(m, TT_BETWEEN));
}

static json_t *audit_json(struct tt_server *server)
{
	struct tt_recorder_stats stats;
	if (!server->recorder)
		return json_null();
	tt_recorder_stats(server->recorder, &stats);
	return json_pack("{s:I, s:I, s:I, s:f, s:b, s:b}", "entries",
		(json_int_t)(stats.n_begin + stats.n_end + stats.n_interrupted + stats.n_other), "lost",
		(json_int_t)stats.n_lost, "queued", (json_int_t)stats.n_queued, "checkpoint_age", stats.checkpoint_age,
		"takes", (int)tt_recorder_takes(server->recorder), "keeps_text", (int)server->options->keep_text);
}

void tt_live_answer(struct tt_connection *c)
{
	struct tt_server *server = c->server;
	const struct tt_model_info *info = tt_engine_info(server->engine);
	json_t *model = json_pack("{s:s, s:i, s:s, s:s, s:s}", "name", server->model, "n_layers", (int)info->n_layers,
		"mode", info->mode, "backend", info->backend, "version", tt_version());
	tt_reply_json(c, 200,
		json_pack("{s:I, s:o, s:b, s:b, s:o, s:o, s:o, s:I, s:o, s:o}", "started", (json_int_t)server->started,
			"model", model, "killed", (int)tt_engine_is_killed(server->engine), "store",
			(int)(server->governor.server != NULL), "you", person_json(c->key), "policies",
			policies_json(server->catalog), "running", running_json(server), "running_of",
			(json_int_t)server->n_jobs, "engine", engine_json(server), "audit", audit_json(server)));
}
