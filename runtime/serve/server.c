#include "runtime/serve/server.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/sweep.h"
#include "runtime/engine/thread.h"
#include "runtime/serve/audit.h"
#include "runtime/serve/job.h"
#include "runtime/serve/listener.h"

enum { TICK = 250, END_TIME = 1000, BACKLOG = 1024, MAX_STANDING = TT_MAX_STACK };

bool tt_serve_is_built(void)
{
	return true;
}

void tt_server_note(const struct tt_server *server, const char *format, ...)
{
	char line[256];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	if (server->options->note)
		server->options->note(server->options->user, line);
}

const struct tt_key *tt_server_key(const struct tt_server *server, const struct tt_http *http)
{
	const struct tt_keys *keys = server->options->keys ? &server->keys : &server->catalog->keys;
	return tt_keys_find(keys, tt_http_field(http, "authorization"));
}

bool tt_server_needs_key(const struct tt_server *server)
{
	return server->options->keys || (server->catalog && server->catalog->has_keys);
}

enum tt_api_right tt_server_right(const struct tt_key *key)
{
	static const enum tt_api_right rights[TT_N_STEER] = {
		[TT_STEER_DEFAULT] = TT_API_CHOOSES_NOTHING,
		[TT_STEER_NAMES] = TT_API_CHOOSES_NAMES,
		[TT_STEER_ANY] = TT_API_CHOOSES_ANY,
	};
	return key ? rights[key->steer] : TT_API_CHOOSES_ANY;
}

json_t *tt_server_steering_by(const char *policy)
{
	return json_pack("{s:[{s:s}]}", "policies", "name", policy);
}

/* The model's name at i: its file's, and behind it those that the options give. */
static const char *model_name(const struct tt_server *server, size_t i)
{
	return i ? server->options->model_names[i - 1] : tt_engine_info(server->engine)->name;
}

bool tt_server_is_model(const struct tt_server *server, const char *name, const char **policy)
{
	size_t n_names = server->options->n_model_names + 1;
	*policy = NULL;
	/* Whole names first: they may hold a colon themselves. */
	for (size_t i = 0; i < n_names; i++)
		if (!strcmp(name, model_name(server, i)))
			return true;
	for (size_t i = 0; server->options->list_policies && i < n_names && !*policy; i++) {
		size_t n = strlen(model_name(server, i));
		if (!strncmp(name, model_name(server, i), n) && name[n] == ':')
			*policy = name + n + 1;
	}
	return *policy != NULL;
}

/* ---- Turns of the loop */

void tt_server_mark(struct tt_server *server, struct tt_connection *c)
{
	if (c->dirty || c->state == TT_CONNECTION_CLOSED)
		return;
	c->dirty = true;
	c->next_dirty = server->dirty;
	server->dirty = c;
}

static void flush(struct tt_server *server)
{
	while (server->dirty) {
		struct tt_connection *c = server->dirty;
		server->dirty = c->next_dirty;
		c->dirty = false;
		tt_connection_flush(c);
	}
}

static void before_poll(uv_prepare_t *handle)
{
	struct tt_server *server = handle->data;
	flush(server);
	uint64_t now = uv_hrtime(), begun = 1000000 * uv_now(&server->loop);
	tt_metrics_add(&server->metrics, TT_LOOP_LAG, now > begun ? now - begun : 0);
}

static void after_poll(uv_check_t *handle)
{
	flush(handle->data);
}

static void on_wake(uv_async_t *handle)
{
	tt_job_take_news(handle->data);
}

static void on_connection(uv_stream_t *listener, int status)
{
	struct tt_server *server = listener->data;
	if (status == 0)
		tt_connection_take(server, listener, -1);
}

/* ---- The end */

/* Ends all work: connections are dropped, requests cancelled, handles closed. The loop then runs until the pool is
 * done too. */
static void end(struct tt_server *server)
{
	if (server->ending)
		return;
	server->ending = true;
	flush(server);
	while (server->connections)
		tt_connection_drop(server->connections);
	tt_governor_end(&server->governor);
	tt_job_take_news(server); /* frees what the list of news has kept */
	uv_handle_t *const handles[] = {(uv_handle_t *)&server->listener, (uv_handle_t *)&server->admin,
		(uv_handle_t *)&server->socket, (uv_handle_t *)&server->wake, (uv_handle_t *)&server->tick,
		(uv_handle_t *)&server->before_poll, (uv_handle_t *)&server->after_poll,
		(uv_handle_t *)&server->signals[0], (uv_handle_t *)&server->signals[1],
		(uv_handle_t *)&server->signals[2]};
	for (size_t i = 0; i < sizeof handles / sizeof *handles; i++)
		if (!uv_is_closing(handles[i]))
			uv_close(handles[i], NULL);
	if (server->recorded.type == UV_ASYNC) /* it was made */
		uv_close((uv_handle_t *)&server->recorded, NULL);
}

/* Whether nobody waits for anything: neither an answer, nor to have one taken, nor to send a first request. */
static bool is_quiet(const struct tt_server *server)
{
	for (const struct tt_connection *c = server->connections; c; c = c->next)
		if (c->state != TT_CONNECTION_READING || !c->served || c->http.block.len)
			return false;
	return server->n_jobs == 0;
}

/* Who still comes would only be told to go elsewhere, and one after another they would keep the server from its end.
 * The first time nobody new is let in, the second time who was is taken. */
static void close_listeners(struct tt_server *server)
{
	uv_stream_t *const listeners[] = {(uv_stream_t *)&server->listener, (uv_stream_t *)&server->socket};
	for (size_t i = 0; i < 2; i++) {
		if (server->stopped)
			tt_listener_close(server, listeners[i]);
		else
			tt_listener_stop(listeners[i]);
	}
	server->stopped = true;
}

static void drain(struct tt_server *server)
{
	struct tt_connection *next;
	server->draining = true;
	/* Another process takes what comes from now on; what came before is still served. */
	if (server->inherited)
		uv_close((uv_handle_t *)&server->listener, NULL);
	server->drain_until = uv_now(&server->loop) + (uint64_t)(1000 * (double)server->options->drain_seconds);
	for (struct tt_connection *c = server->connections; c; c = next) {
		next = c->next;
		tt_connection_drop_idle(c);
	}
	if (server->n_jobs)
		tt_server_note(server, "%u requests are being answered; a second signal ends them", server->n_jobs);
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct tt_server *server = handle->data;
	(void)number;
	if (server->draining)
		end(server);
	else
		drain(server);
}

/* ---- SIGHUP: the files of keys and of the certificate are read again, by a thread of the pool, since they are on a
 * disk. One that is wrong changes nothing. Connections keep the certificate that they began with. */

static void reload(uv_work_t *work)
{
	struct tt_server *server = work->data;
	const struct tt_serve_options *o = server->options;
	if (o->keys)
		tt_keys_load(&server->new_keys, o->keys, &server->keys_error);
	if (o->tls_chain)
		tt_certificate_load(&server->new_certificate, o->tls_chain, o->tls_key, &server->certificate_error);
}

static void take_keys(struct tt_server *server)
{
	if (server->keys_error.code != TT_OK) {
		tt_server_note(server, "the keys stay as they are: %s", server->keys_error.message);
		return;
	}
	tt_keys_free(&server->keys);
	server->keys = server->new_keys;
	tt_server_note(server, "%zu keys", server->keys.n);
}

static void take_certificate(struct tt_server *server)
{
	if (server->certificate_error.code != TT_OK) {
		tt_server_note(server, "the certificate stays as it is: %s", server->certificate_error.message);
		return;
	}
	tt_certificate_free(server->certificate);
	server->certificate = server->new_certificate;
	tt_server_note(server, "a new certificate");
}

static void start_reload(struct tt_server *server);

static void reloaded(uv_work_t *work, int status)
{
	struct tt_server *server = work->data;
	(void)status;
	server->reloading = false;
	if (server->options->keys)
		take_keys(server);
	if (server->options->tls_chain)
		take_certificate(server);
	if (server->reload_again && !server->ending)
		start_reload(server);
}

static void start_reload(struct tt_server *server)
{
	server->reload.data = server;
	server->keys_error = server->certificate_error = (struct tt_error){0};
	server->reload_again = false;
	server->reloading = uv_queue_work(&server->loop, &server->reload, reload, reloaded) == 0;
}

static void on_reload(uv_signal_t *handle, int number)
{
	struct tt_server *server = handle->data;
	(void)number;
	if (server->reloading)
		server->reload_again = true;
	else if (server->options->keys || server->options->tls_chain)
		start_reload(server);
}

/* Takes what there was no memory for, if libuv still has it. */
static void take_owed(struct tt_server *server)
{
	uv_stream_t *const listeners[] = {
		(uv_stream_t *)&server->listener, (uv_stream_t *)&server->admin, (uv_stream_t *)&server->socket};
	bool owes = server->owes;
	server->owes = false;
	for (size_t i = 0; owes && i < sizeof listeners / sizeof *listeners; i++)
		if (!uv_is_closing((uv_handle_t *)listeners[i]))
			tt_connection_take(server, listeners[i], -1);
}

static void tick(uv_timer_t *timer)
{
	struct tt_server *server = timer->data;
	uint64_t now = uv_now(&server->loop);
	struct tt_connection *next;
	struct tt_job *next_job;
	take_owed(server);
	tt_governor_look(&server->governor);
	if (!server->draining && tt_engine_is_lost(server->engine)) {
		tt_server_note(server, "a rank has ended, and so does the server");
		drain(server);
	}
	for (struct tt_connection *c = server->connections; c; c = next) {
		next = c->next;
		tt_connection_tick(c, now);
	}
	for (struct tt_job *job = server->jobs; job; job = next_job) {
		next_job = job->next;
		if (server->draining && now >= server->drain_until)
			tt_job_fail(job, 503, "draining", "the server ends");
		else
			tt_job_tick(job, now);
	}
	if (server->draining && server->n_jobs == 0)
		close_listeners(server);
	bool closed = uv_is_closing((uv_handle_t *)&server->listener);
	if (server->draining && ((closed && is_quiet(server)) || now >= server->drain_until + END_TIME))
		end(server);
}

/* ---- The beginning */

static int fail_uv(struct tt_error *err, const char *what, int code)
{
	return tt_fail(err, TT_ERR_IO, "%s: %s", what, uv_strerror(code));
}

/* The address of a host and a port. */
static int read_host(struct sockaddr_storage *out, const char *host, int port, struct tt_error *err)
{
	const char *name = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
	if (uv_ip4_addr(name, port, (struct sockaddr_in *)out) == 0 ||
		uv_ip6_addr(name, port, (struct sockaddr_in6 *)out) == 0)
		return TT_OK;
	return tt_fail(err, TT_ERR_ARGUMENT, "%.100s is no address; it takes one such as 127.0.0.1 or ::1", host);
}

static bool is_loopback(const struct sockaddr_storage *address)
{
	static const unsigned char one[16] = {[15] = 1};
	if (address->ss_family == AF_INET6)
		return memcmp(&((const struct sockaddr_in6 *)address)->sin6_addr, one, 16) == 0;
	return *(const unsigned char *)&((const struct sockaddr_in *)address)->sin_addr == 127;
}

/* What others can reach is served to holders of keys, by TLS; or a proxy sees to both. */
static int check_outside(const struct tt_server *server, const struct sockaddr_storage *address, struct tt_error *err)
{
	const struct tt_serve_options *o = server->options;
	if (is_loopback(address) || o->behind_proxy || (server->certificate && tt_server_needs_key(server)))
		return TT_OK;
	return tt_fail(err, TT_ERR_UNSUPPORTED,
		"%.100s can be reached from outside, and %s: serve on loopback, or with --tls-cert and keys, or behind "
		"a "
		"proxy that has both (--behind-proxy)",
		o->host, server->certificate ? "no request needs a key" : "there is no TLS");
}

static void note_address(
	struct tt_server *server, const struct sockaddr_storage *address, const char *what, const char *path)
{
	char name[64] = "";
	bool six = address->ss_family == AF_INET6;
	uv_ip_name((const struct sockaddr *)address, name, sizeof name);
	tt_server_note(server, "%s http%s://%s%s%s:%u%s", what, server->certificate ? "s" : "", six ? "[" : "", name,
		six ? "]" : "", ntohs(((const struct sockaddr_in *)address)->sin_port), path);
}

/* what and path: for the note */
static int listen_at(struct tt_server *server, uv_tcp_t *listener, struct sockaddr_storage *address, const char *what,
	const char *path, struct tt_error *err)
{
	char name[64] = "";
	int n = sizeof *address;
	unsigned port = ntohs(((struct sockaddr_in *)address)->sin_port);
	uv_ip_name((struct sockaddr *)address, name, sizeof name);
	int status = uv_tcp_bind(listener, (struct sockaddr *)address, 0);
	if (status == 0)
		status = uv_listen((uv_stream_t *)listener, BACKLOG, on_connection);
	if (status == 0)
		status = uv_tcp_getsockname(listener, (struct sockaddr *)address, &n);
	if (status < 0)
		return tt_fail(err, TT_ERR_IO, "%s port %u: %s", name, port, uv_strerror(status));
	note_address(server, address, what, path);
	return TT_OK;
}

/* Whether a socket lies there that nobody serves any more. */
static bool is_left_over(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat status;
	if (lstat(path, &status) < 0 || !S_ISSOCK(status.st_mode))
		return false;
	int file = socket(AF_UNIX, SOCK_STREAM, 0);
	if (file < 0)
		return false;
	memcpy(address.sun_path, path, strlen(path));
	bool refused = connect(file, (struct sockaddr *)&address, sizeof address) < 0 && errno == ECONNREFUSED;
	close(file);
	return refused;
}

static int listen_on_path(struct tt_server *server, const char *path, struct tt_error *err)
{
	if (!*path || strlen(path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
		return tt_fail(err, TT_ERR_ARGUMENT, "--host unix:PATH: the path is empty or too long");
	int status = uv_pipe_bind(&server->socket, path);
	if (status == UV_EADDRINUSE && is_left_over(path) && unlink(path) == 0)
		status = uv_pipe_bind(&server->socket, path);
	if (status == 0)
		status = uv_listen((uv_stream_t *)&server->socket, BACKLOG, on_connection);
	if (status < 0)
		return tt_fail(err, TT_ERR_IO, "%.200s: %s", path, uv_strerror(status));
	tt_server_note(server, "serving unix:%s", path);
	return TT_OK;
}

static bool is_number(const char *text, long least, long most, long *out)
{
	char *end;
	*out = strtol(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && *out >= least && *out <= most;
}

/* A listener that was opened by who started this program, and may be another process's too: a server that takes over
 * from this one loses no connection. */
static int listen_on_file(struct tt_server *server, const char *number, struct tt_error *err)
{
	struct sockaddr_storage address = {0};
	int n = sizeof address;
	long file;
	if (!is_number(number, 3, INT_MAX, &file))
		return tt_fail(err, TT_ERR_ARGUMENT, "--host fd:N takes the number of an open file from 3 on");
	int status = uv_tcp_open(&server->listener, (int)file);
	if (status == 0)
		status = uv_tcp_getsockname(&server->listener, (struct sockaddr *)&address, &n);
	if (status == 0)
		TT_TRY(check_outside(server, &address, err));
	if (status == 0)
		status = uv_listen((uv_stream_t *)&server->listener, BACKLOG, on_connection);
	if (status < 0)
		return tt_fail(err, TT_ERR_IO, "--host fd:%ld: %s", file, uv_strerror(status));
	server->inherited = true;
	note_address(server, &address, "serving", "/v1");
	return TT_OK;
}

static int listen_all(struct tt_server *server, struct tt_error *err)
{
	const struct tt_serve_options *o = server->options;
	struct sockaddr_storage clients = {0}, admin = {0};
	TT_TRY(read_host(&admin, "127.0.0.1", (int)o->admin_port, err));
	TT_TRY(listen_at(server, &server->admin, &admin, "operators:", "/metrics", err));
	note_address(server, &admin, "live page:", "/");
	if (strncmp(o->host, "unix:", 5) == 0)
		return listen_on_path(server, o->host + 5, err);
	if (strncmp(o->host, "fd:", 3) == 0)
		return listen_on_file(server, o->host + 3, err);
	TT_TRY(read_host(&clients, o->host, (int)o->port, err));
	TT_TRY(check_outside(server, &clients, err));
	return listen_at(server, &server->listener, &clients, "serving", "/v1", err);
}

static int open_handles(struct tt_server *server, struct tt_error *err)
{
	uv_loop_t *loop = &server->loop;
	int status = uv_tcp_init(loop, &server->listener);
	status = status ? status : uv_tcp_init(loop, &server->admin);
	status = status ? status : uv_pipe_init(loop, &server->socket, 0);
	server->listener.data = server->admin.data = server->socket.data = server->wake.data = server->tick.data =
		server->before_poll.data = server->after_poll.data = server->signals[0].data = server->signals[1].data =
			server->signals[2].data = server;
	status = status ? status : uv_async_init(loop, &server->wake, on_wake);
	status = status ? status : uv_timer_init(loop, &server->tick);
	status = status ? status : uv_prepare_init(loop, &server->before_poll);
	status = status ? status : uv_check_init(loop, &server->after_poll);
	status = status ? status : uv_signal_init(loop, &server->signals[0]);
	status = status ? status : uv_signal_init(loop, &server->signals[1]);
	status = status ? status : uv_signal_init(loop, &server->signals[2]);
	status = status ? status : uv_timer_start(&server->tick, tick, TICK, TICK);
	status = status ? status : uv_prepare_start(&server->before_poll, before_poll);
	status = status ? status : uv_check_start(&server->after_poll, after_poll);
	status = status ? status : uv_signal_start(&server->signals[0], on_signal, SIGTERM);
	status = status ? status : uv_signal_start(&server->signals[1], on_signal, SIGINT);
	status = status ? status : uv_signal_start(&server->signals[2], on_reload, SIGHUP);
	return status ? fail_uv(err, "the event loop", status) : TT_OK;
}

/* Names must be what a body can name, and no two the same. */
static int check_names(const struct tt_serve_options *o, struct tt_error *err)
{
	const char *names[MAX_STANDING];
	struct tt_sweep sweep;
	if (o->n_policies > MAX_STANDING)
		return tt_fail(err, TT_ERR_ARGUMENT, "at most %d policies", MAX_STANDING);
	for (size_t i = 0; i < o->n_policies; i++)
		names[i] = o->policies[i].name;
	TT_TRY(tt_sweep_parse(&sweep, names, o->n_policies, NULL, err));
	tt_sweep_free(&sweep);
	for (size_t i = 0; i < o->n_shadows; i++) {
		size_t k = 0;
		while (k < o->n_policies && strcmp(o->shadows[i], names[k]) != 0)
			k++;
		if (k == o->n_policies)
			return tt_fail(err, TT_ERR_ARGUMENT, "--shadow %.100s: there is no --policy of this name",
				o->shadows[i]);
	}
	return TT_OK;
}

static int open_policies(struct tt_server *server, struct tt_error *err)
{
	const struct tt_serve_options *o = server->options;
	if (!o->state || o->n_policies) {
		struct tt_catalog *catalog = NULL;
		int status = tt_catalog_of_files(&catalog, server, err);
		if (catalog)
			server->catalog = tt_catalog_take(catalog);
		TT_TRY(status);
	}
	if (!o->state)
		return TT_OK;
	TT_TRY(tt_governor_open(&server->governor, server, o->state, err));
	if (server->catalog->is_broken)
		return tt_fail(err, TT_ERR_MISMATCH, "the default stack cannot be loaded");
	if (o->keys && server->catalog->has_keys)
		return tt_fail(err, TT_ERR_ARGUMENT, "--keys: the store of --state has keys of its own");
	return TT_OK;
}

static int run(struct tt_server *server, struct tt_error *err)
{
	const struct tt_serve_options *o = server->options;
	TT_TRY(check_names(o, err));
	server->model = o->n_model_names ? o->model_names[0] : tt_engine_info(server->engine)->name;
	if (!o->tls_chain != !o->tls_key)
		return tt_fail(err, TT_ERR_ARGUMENT, "--tls-cert and --tls-key go together");
	if (o->tls_chain)
		TT_TRY(tt_certificate_load(&server->certificate, o->tls_chain, o->tls_key, err));
	if (o->keys)
		TT_TRY(tt_keys_load(&server->keys, o->keys, err));
	TT_TRY(open_policies(server, err));
	if (!tt_server_needs_key(server))
		tt_server_note(server, "no keys: whoever reaches the port may use it");
	TT_TRY(open_handles(server, err));
	int status = tt_audit_open(server, err);
	if (status == TT_OK)
		status = tt_governor_start(&server->governor, err);
	if (status == TT_OK)
		status = tt_engine_start(server->engine, err);
	if (status == TT_OK)
		status = listen_all(server, err);
	if (status != TT_OK)
		end(server);
	uv_run(&server->loop, UV_RUN_DEFAULT);
	int stopped = tt_engine_stop(server->engine, status == TT_OK ? err : NULL);
	status = status == TT_OK ? stopped : status;
	if (status == TT_OK) /* a rank that ended while no request ran */
		status = tt_engine_check(server->engine, err);
	int closed = tt_audit_close(server, status == TT_OK ? err : NULL);
	return status == TT_OK ? closed : status;
}

/* Each connection is a file, and many systems begin with 1,024 of them. */
static void allow_files(void)
{
	const rlim_t wanted = TT_MAX_CONNECTIONS + 64;
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int tt_serve(struct tt_engine *engine, const struct tt_serve_options *options, struct tt_error *err)
{
	struct tt_server *server;
	TT_TRY(tt_alloc(&server, 1, sizeof *server, err));
	server->engine = engine;
	server->options = options;
	server->started = (int64_t)time(NULL);
	int status = uv_loop_init(&server->loop);
	if (status < 0) {
		free(server);
		return fail_uv(err, "the event loop", status);
	}
	/* A client that goes away while it is written to is no reason to end. */
	signal(SIGPIPE, SIG_IGN);
	/* Nor is a file that may not grow: whoever writes it is told by the write. */
	signal(SIGXFSZ, SIG_IGN);
	allow_files();
	status = run(server, err);
	uv_loop_close(&server->loop);
	tt_buffer_free(&server->events);
	tt_keys_free(&server->keys);
	tt_certificate_free(server->certificate);
	tt_quotas_free(server);
	tt_catalog_give(server->catalog);
	server->catalog = NULL;
	tt_governor_close(&server->governor);
	while (server->loaded) { /* of files */
		struct tt_loaded *next = server->loaded->next;
		tt_loaded_free(server->loaded, server);
		server->loaded = next;
	}
	free(server);
	return status;
}
