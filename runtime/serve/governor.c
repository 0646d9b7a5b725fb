#include "runtime/serve/governor.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "base/start_thread.h"
#include "controller/govern/label.h"
#include "runtime/serve/live.h"
#include "runtime/serve/server.h"

enum { PREFIX = sizeof "/v1/admin/" - 1 }; /* of the path, before a command's name */

/* ---- On its thread */

static void add_loaded(struct tt_governor *governor, struct tt_loaded *loaded)
{
	loaded->next = governor->loaded;
	governor->loaded = loaded;
}

/* A call that ends steering waits for a step, so it is made once. */
static void tell_engine_all(struct tt_governor *governor, bool ends)
{
	if (ends && !governor->ended)
		tt_engine_kill_steering(governor->server->engine);
	else if (!ends)
		tt_engine_resume_steering(governor->server->engine);
	governor->ended = ends;
}

/* Ends or resumes steering as the store says. */
static void set_switches(struct tt_governor *governor, const struct tt_in_force *force)
{
	/* What a map runs may be a version that is in no list of this server's. */
	for (size_t i = 0; i < force->n_killed; i++)
		tt_live_map_stop(governor->server, force->killed[i]);
	tell_engine_all(governor, force->all_killed || governor->holds);
}

/* Whether steering by the policy, or NULL: all, was ended, but that could not be written. */
static bool is_held(const struct tt_governor *governor, const char *policy)
{
	const struct tt_loaded *loaded = policy ? governor->server->loaded : NULL;
	while (loaded && !(loaded->holds && strcmp(loaded->name, policy) == 0))
		loaded = loaded->next;
	return policy ? loaded != NULL : governor->holds;
}

static void set_held(struct tt_governor *governor, const char *policy, bool holds)
{
	if (!policy)
		governor->holds = holds;
	for (struct tt_loaded *loaded = policy ? governor->server->loaded : NULL; loaded; loaded = loaded->next)
		if (strcmp(loaded->name, policy) == 0)
			loaded->holds = holds;
}

/* Tells the engine of those of a list whose kill switch is to be another than the engine has: by one call for those
 * that end and one for those that resume, since each call waits for a step. */
static void tell_engine(struct tt_governor *governor, struct tt_loaded *list)
{
	enum { MOST = 64 }; /* of a call */
	for (int killed = 0; killed < 2; killed++) {
		struct tt_policy *changed[MOST];
		size_t n = 0;
		for (struct tt_loaded *loaded = list; loaded; loaded = loaded->next) {
			if (loaded->ends != (killed == 1) || loaded->ended == loaded->ends)
				continue;
			loaded->ended = loaded->ends;
			changed[n++] = loaded->named.policy;
			if (n < MOST)
				continue;
			tt_engine_kill_policies(governor->server->engine, changed, n, killed == 1);
			n = 0;
		}
		tt_engine_kill_policies(governor->server->engine, changed, n, killed == 1);
	}
}

/* Ends steering by policies that are killed, whatever their version or label: older ones may still be on requests. */
static void set_policy_switches(struct tt_governor *governor, struct tt_loaded *list, const struct tt_in_force *force)
{
	for (struct tt_loaded *loaded = list; loaded; loaded = loaded->next) {
		loaded->holds = is_held(governor, loaded->name);
		loaded->ends = loaded->holds || tt_in_force_is_killed(force, loaded->name);
	}
	tell_engine(governor, list);
}

/* Makes a catalog of what is in force, if that has changed. */
static int look(struct tt_governor *governor, struct tt_error *err)
{
	struct tt_in_force force;
	int64_t change;
	TT_TRY(tt_last_change(&change, &governor->store, err));
	governor->repeats = change == governor->change;
	if (governor->repeats && !governor->is_late)
		return TT_OK;
	TT_TRY(tt_in_force_read(&force, &governor->store, err));
	set_switches(governor, &force);
	set_policy_switches(governor, governor->server->loaded, &force);
	int status = tt_catalog_of_store(&governor->made, &governor->loaded, governor->server, &governor->store, &force,
		governor->server->catalog, err);
	set_policy_switches(governor, governor->loaded, &force);
	if (status == TT_OK) {
		governor->change = force.change;
		governor->is_late = governor->made->is_late;
	}
	tt_in_force_free(&force);
	return status;
}

/* A version is on the engine before a label moves to it: no request waits for that, and one that does not fit the model
 * is refused before anything has changed. */
static int load_first(struct tt_governor *governor, const json_t *arguments, struct tt_error *err)
{
	const char *policy = json_string_value(json_object_get(arguments, "name"));
	const char *label = json_string_value(json_object_get(arguments, "label"));
	const char *digits = json_string_value(json_object_get(arguments, "version"));
	struct tt_version v;
	struct tt_loaded *loaded;
	if (!policy || !label || !digits || !tt_name_is_valid(policy) || !tt_name_is_valid(label) ||
		tt_version_find(&v, &governor->store, policy, digits, NULL) != TT_OK || v.state != TT_APPROVED)
		return TT_OK; /* the command says what is wrong */
	for (loaded = governor->server->loaded; loaded; loaded = loaded->next)
		if (!strcmp(loaded->name, policy) && !strcmp(loaded->label, label) &&
			!strcmp(loaded->named.sha256, v.sha256))
			return TT_OK;
	TT_TRY(tt_loaded_make(&loaded, governor->server, &governor->store, policy, label, v.sha256, err));
	add_loaded(governor, loaded);
	return TT_OK;
}

static int status_of(const struct tt_store *store, int status)
{
	static const int refusals[] = {400, 403, 404, 409};
	if (status == TT_OK)
		return 200;
	if (status == TT_ERR_MEMORY || status == TT_ERR_DEVICE)
		return 500;
	return status == TT_ERR_IO ? 503 : refusals[store->refusal];
}

/* Whether the store, and not what was asked for, is why a command of texts failed. */
static bool store_failed(int status, const json_t *arguments)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)arguments, name, value) if (!json_is_string(value)) return false;
	return status == TT_ERR_IO || status == TT_ERR_MEMORY || status == TT_ERR_FORMAT;
}

/* policy/kill: a disk that is full or damaged is no reason to go on steering. */
static int run_kill(struct tt_governor *governor, struct tt_order *order, const json_t *arguments, json_t **answer,
	struct tt_error *err)
{
	const char *policy = json_string_value(json_object_get(arguments, "name"));
	int status = tt_command_run(order->command, &governor->store, &order->actor, arguments, answer, err);
	if (status != TT_OK && !store_failed(status, arguments))
		return status;
	set_held(governor, policy, status != TT_OK);
	governor->is_late = governor->is_late || status != TT_OK; /* other policies go on by a catalog that knows it */
	tt_live_map_stop(governor->server, policy);
	if (!policy)
		tell_engine_all(governor, true);
	for (struct tt_loaded *loaded = policy ? governor->server->loaded : NULL; loaded; loaded = loaded->next)
		loaded->ends = loaded->ends || strcmp(loaded->name, policy) == 0;
	tell_engine(governor, governor->server->loaded);
	return status;
}

/* policy/resume. A kill that could not be written is written first, so that there is what to resume. */
static int run_resume(struct tt_governor *governor, struct tt_order *order, const json_t *arguments, json_t **answer,
	struct tt_error *err)
{
	const char *policy = json_string_value(json_object_get(arguments, "name"));
	if (is_held(governor, policy)) {
		TT_TRY(tt_command_run(
			tt_command_find("policy/kill"), &governor->store, &order->actor, arguments, answer, err));
		json_decref(*answer);
		*answer = NULL;
	}
	TT_TRY(tt_command_run(order->command, &governor->store, &order->actor, arguments, answer, err));
	set_held(governor, policy, false);
	return TT_OK;
}

static int run_order(struct tt_governor *governor, struct tt_order *order, const json_t *arguments, json_t **answer,
	struct tt_error *err)
{
	struct tt_store *store = &governor->store;
	const char *name = order->command->name;
	store->refusal = TT_REFUSED_INPUT;
	if (strcmp(name, "policy/label") == 0) {
		int status = load_first(governor, arguments, err);
		store->refusal = TT_REFUSED_STATE;
		TT_TRY(status);
	}
	if (strcmp(name, "policy/kill") == 0)
		return run_kill(governor, order, arguments, answer, err);
	if (strcmp(name, "policy/resume") == 0)
		return run_resume(governor, order, arguments, answer, err);
	return tt_command_run(order->command, store, &order->actor, arguments, answer, err);
}

/* What goes wrong within the store names its files: that is for who runs the server, not for who asks it. */
static void hide_files(struct tt_governor *governor, struct tt_order *order)
{
	char *message = order->task.error.message;
	if (order->http == 200 || (order->http < 500 && !strstr(message, governor->store.db.path)))
		return;
	tt_server_note(governor->server, "%s: %s", order->command->name, message);
	order->http = order->http < 500 ? 500 : order->http;
	snprintf(message, sizeof order->task.error.message, "%s",
		order->http == 503 ? "the store cannot be read or written" : "the server could not do that");
}

static void carry_out(struct tt_governor *governor, struct tt_order *order)
{
	struct tt_task *task = &order->task;
	json_t *arguments = NULL, *answer = NULL;
	task->status = tt_body_parse(&arguments, &task->text, &task->error);
	if (task->status == TT_OK)
		task->status = run_order(governor, order, arguments, &answer, &task->error);
	else
		governor->store.refusal = TT_REFUSED_INPUT;
	order->http = status_of(&governor->store, task->status);
	if (task->status == TT_OK && tt_json_dump(&task->answer, answer, JSON_COMPACT, &task->error) != TT_OK)
		order->http = 500;
	hide_files(governor, order);
	json_decref(arguments);
}

static void free_unused(struct tt_governor *governor)
{
	while (governor->unused) {
		struct tt_loaded *next = governor->unused->next;
		tt_loaded_free(governor->unused, governor->server);
		governor->unused = next;
	}
}

static void work(struct tt_governor *governor)
{
	struct tt_error err = {0};
	/* Each of them waits for a step, which a kill does not. */
	if (!governor->order || governor->order->command->right != TT_RIGHT_KILL)
		free_unused(governor);
	if (governor->order)
		carry_out(governor, governor->order);
	if (look(governor, &err) != TT_OK && strcmp(err.message, governor->error.message) != 0)
		tt_server_note(governor->server, "the store's news is not in force: %s", err.message);
	governor->error = err;
}

static void *run(void *user)
{
	struct tt_governor *governor = user;
	for (;;) {
		pthread_mutex_lock(&governor->lock);
		while (!governor->due && !governor->closing)
			pthread_cond_wait(&governor->news, &governor->lock);
		bool due = governor->due;
		governor->due = false;
		pthread_mutex_unlock(&governor->lock);
		if (!due)
			return NULL;
		work(governor);
		pthread_mutex_lock(&governor->lock);
		governor->finished = true;
		pthread_mutex_unlock(&governor->lock);
		uv_async_send(&governor->done);
	}
}

static void wake(struct tt_governor *governor, bool due)
{
	pthread_mutex_lock(&governor->lock);
	governor->due = due;
	governor->closing = !due;
	pthread_cond_signal(&governor->news);
	pthread_mutex_unlock(&governor->lock);
}

/* ---- On the loop */

static void free_order(struct tt_order *order)
{
	tt_buffer_free(&order->task.text);
	free(order->task.answer);
	free(order);
}

static void answer(struct tt_order *order)
{
	static const char fields[] = "Cache-Control: no-store\r\n"; /* a new key is in it */
	struct tt_task *task = &order->task;
	struct tt_connection *c = task->connection;
	if (!c)
		return;
	c->task = NULL;
	if (order->http == 200) {
		tt_connection_answer(c, 200, "application/json", fields, task->answer, strlen(task->answer));
	} else {
		const struct tt_problem problem = {
			.status = order->http,
			.message = task->error.message,
			.code = order->http == 503 ? "store_unavailable" : NULL,
		};
		tt_reply_problem(c, &problem);
	}
}

/* Puts the new catalog in force, and finds what nobody uses any more. */
static void install(struct tt_governor *governor)
{
	struct tt_server *server = governor->server;
	struct tt_loaded **at = &server->loaded;
	while (*at)
		at = &(*at)->next;
	*at = governor->loaded;
	governor->loaded = NULL;
	if (governor->made) {
		tt_catalog_take(governor->made);
		tt_catalog_give(server->catalog);
		server->catalog = governor->made;
		governor->made = NULL;
	}
	for (at = &server->loaded; *at;) {
		struct tt_loaded *loaded = *at;
		if (loaded->n_users) {
			at = &loaded->next;
			continue;
		}
		*at = loaded->next;
		loaded->next = governor->unused;
		governor->unused = loaded;
	}
}

static void begin(struct tt_governor *governor);

static void done(uv_async_t *handle)
{
	struct tt_governor *governor = handle->data;
	struct tt_order *order = governor->order;
	pthread_mutex_lock(&governor->lock);
	bool finished = governor->finished;
	governor->finished = false;
	pthread_mutex_unlock(&governor->lock);
	if (!finished)
		return;
	governor->works = false;
	governor->order = NULL;
	install(governor);
	if (order) {
		answer(order);
		free_order(order);
	}
	if (governor->server->ending)
		uv_close((uv_handle_t *)handle, NULL);
	begin(governor);
}

static void begin(struct tt_governor *governor)
{
	if (governor->works || governor->server->ending || (!governor->first && !governor->looks))
		return;
	governor->order = governor->first;
	governor->looks = false;
	if (governor->order)
		governor->first = governor->order->next;
	governor->works = true;
	wake(governor, true);
}

void tt_governor_look(struct tt_governor *governor)
{
	if (!governor->server || governor->works)
		return;
	governor->looks = true;
	begin(governor);
}

int tt_governor_open(
	struct tt_governor *governor, struct tt_server *server, const char *directory, struct tt_error *err)
{
	governor->change = -1;
	TT_TRY(tt_store_open(&governor->store, directory, TT_DATABASE_CREATE, err));
	governor->server = server;
	TT_TRY(look(governor, err));
	install(governor);
	return TT_OK;
}

int tt_governor_start(struct tt_governor *governor, struct tt_error *err)
{
	if (!governor->server)
		return TT_OK;
	int status = uv_async_init(&governor->server->loop, &governor->done, done);
	if (status < 0)
		return tt_fail(err, TT_ERR_IO, "the store's thread: %s", uv_strerror(status));
	governor->done.data = governor;
	pthread_mutex_init(&governor->lock, NULL);
	pthread_cond_init(&governor->news, NULL);
	status = tt_start_thread(&governor->thread, run, governor, err);
	governor->runs = status == TT_OK;
	if (!governor->runs)
		uv_close((uv_handle_t *)&governor->done, NULL);
	return status;
}

void tt_governor_end(struct tt_governor *governor)
{
	if (governor->runs && !governor->works)
		uv_close((uv_handle_t *)&governor->done, NULL);
}

void tt_governor_close(struct tt_governor *governor)
{
	if (!governor->server)
		return;
	if (governor->runs) {
		wake(governor, false);
		pthread_join(governor->thread, NULL);
		pthread_mutex_destroy(&governor->lock);
		pthread_cond_destroy(&governor->news);
	}
	install(governor);
	free_unused(governor);
	while (governor->first) {
		struct tt_order *next = governor->first->next;
		free_order(governor->first);
		governor->first = next;
	}
	tt_store_close(&governor->store);
}

/* ---- Routes */

static const struct tt_command *command_of(const struct tt_connection *c)
{
	struct tt_span path = tt_http_path(&c->http);
	char name[64] = "";
	size_t n = path.len - PREFIX;
	if (n >= sizeof name)
		return NULL;
	memcpy(name, path.data + PREFIX, n);
	return tt_command_find(name);
}

const struct tt_problem *tt_admin_objection(const struct tt_connection *c)
{
	static const struct tt_problem unknown = {404, "there is nothing here", NULL, "not_found"};
	const struct tt_command *command = command_of(c);
	const struct tt_key *key = tt_keys_find(&c->server->catalog->keys, tt_http_field(&c->http, "authorization"));
	if (!c->server->governor.server)
		return &unknown;
	if (!key)
		return &tt_no_key;
	if (!command)
		return &unknown;
	return tt_roles_allow(key->roles, command->right) ? NULL : &tt_no_right;
}

/* Where the order goes among those that wait: at their end, but a kill as far to the front as nothing that ends or
 * resumes steering was asked for before it. A resume that came later than what it is about would undo that. */
static struct tt_order **place_of(struct tt_governor *governor, const struct tt_order *order)
{
	struct tt_order **place = &governor->first;
	for (struct tt_order *other = governor->first; other; other = other->next) {
		enum tt_right right = other->command->right;
		if (order->command->right != TT_RIGHT_KILL || right == TT_RIGHT_KILL || right == TT_RIGHT_RESUME)
			place = &other->next;
	}
	return place;
}

void tt_admin(struct tt_connection *c)
{
	static const struct tt_problem lacking = {500, "out of memory", NULL, NULL};
	struct tt_governor *governor = &c->server->governor;
	const struct tt_key *key = tt_keys_find(&c->server->catalog->keys, tt_http_field(&c->http, "authorization"));
	struct tt_order *order;
	if (!key || tt_alloc(&order, 1, sizeof *order, NULL) != TT_OK) {
		tt_reply_problem(c, &lacking);
		return;
	}
	order->command = command_of(c);
	memcpy(order->actor.key, key->id, sizeof order->actor.key);
	memcpy(order->actor.person, key->person, sizeof order->actor.person);
	order->actor.roles = key->roles;
	order->task.server = c->server;
	order->task.connection = c;
	order->task.text = c->http.body;
	c->http.body = (struct tt_buffer){0}; /* the order's now */
	c->task = &order->task;
	struct tt_order **place = place_of(governor, order);
	order->next = *place;
	*place = order;
	begin(governor);
}
