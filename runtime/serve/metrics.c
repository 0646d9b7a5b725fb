#include "runtime/serve/metrics.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "runtime/engine/request.h"
#include "runtime/serve/job.h"

/* vLLM's, so that its boards can be read. Ends in 0. */
static const double first_token[] = {
	.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560, 0};
static const double between[] = {.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 0};
static const double latency[] = {
	.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680, 0};
static const double tokens[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 0};
static const double choices[] = {1, 2, 5, 10, 20, 0};
static const double step_tokens[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 0};
/* Own. */
static const double lag[] = {.001, .002, .005, .01, .02, .05, .1, .5, 1, 0};
static const double first_steps[] = {
	1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384, 65536, 0};
static const double first_work[] = {64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384,
	24576, 32768, 65536, 131072, 262144, 524288, 1048576, 0};
static const double gates[] = {.01, .05, .1, .2, .3, .4, .5, .6, .7, .8, .9, .95, .99, 0};

static const struct {
	const char *name, *older, *help; /* older: a name that boards may still read, or NULL */
	const double *bounds;
	double unit; /* of a value */
} families[TT_N_HISTOGRAMS] = {
	[TT_FIRST_TOKEN] = {"vllm:time_to_first_token_seconds", NULL, "From a request's arrival to its first token.",
		first_token, 1e-9},
	[TT_BETWEEN] = {"vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds",
		"From one token of a request to the next.", between, 1e-9},
	[TT_TIME_A_TOKEN] = {"vllm:request_time_per_output_token_seconds", NULL,
		"The same, averaged over each request.", between, 1e-9},
	[TT_WHOLE_TIME] = {"vllm:e2e_request_latency_seconds", NULL, "From a request's arrival to its end.", latency,
		1e-9},
	[TT_QUEUE_TIME] = {"vllm:request_queue_time_seconds", NULL, "Before the engine ran it.", latency, 1e-9},
	[TT_PREFILL_TIME] = {"vllm:request_prefill_time_seconds", NULL, "From then to the first token.", latency, 1e-9},
	[TT_DECODE_TIME] = {"vllm:request_decode_time_seconds", NULL, "From the first token to the last.", latency,
		1e-9},
	[TT_RUN_TIME] = {"vllm:request_inference_time_seconds", NULL, "While the engine ran it.", latency, 1e-9},
	[TT_LOOP_LAG] = {"trimtab_loop_lag_seconds", NULL, "How long a turn of the event loop took.", lag, 1e-9},
	[TT_PROMPT_TOKENS] = {"vllm:request_prompt_tokens", NULL, "Tokens of prompts.", tokens, 1},
	[TT_ANSWER_TOKENS] = {"vllm:request_generation_tokens", NULL, "Tokens of answers.", tokens, 1},
	[TT_MOST_TOKENS] = {"vllm:request_params_max_tokens", "vllm:request_max_num_generation_tokens",
		"Tokens that were asked for at most.", tokens, 1},
	[TT_CHOICES] = {"vllm:request_params_n", NULL, "Choices that were asked for.", choices, 1},
	[TT_STEP_TOKENS] = {"vllm:iteration_tokens_total", NULL, "Tokens of a step.", step_tokens, 1},
	[TT_FIRST_STEPS] = {"trimtab_first_token_steps", NULL,
		"Steps of the engine from a request's arrival to its first token.", first_steps, 1},
	[TT_FIRST_WORK] = {"trimtab_first_token_work", NULL, "Tokens that it computed meanwhile, of all requests.",
		first_work, 1},
};

/* ---- Counting */

static void add(struct tt_histogram *h, const double *bounds, double unit, uint64_t value)
{
	size_t i = 0;
	while (bounds[i] != 0 && (double)value * unit > bounds[i])
		i++;
	atomic_fetch_add_explicit(&h->counts[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum, value, memory_order_relaxed);
}

void tt_metrics_add(struct tt_metrics *metrics, enum tt_histogram_name name, uint64_t value)
{
	add(&metrics->histograms[name], families[name].bounds, families[name].unit, value);
}

/* How long the first token took in what the engine did, which a busy machine does not change. */
static void count_first(const struct tt_job *job)
{
	struct tt_metrics *m = &job->server->metrics;
	struct tt_engine_stats stats;
	tt_engine_stats(job->server->engine, &stats);
	tt_metrics_add(m, TT_FIRST_STEPS, stats.n_steps - job->steps_before);
	tt_metrics_add(m, TT_FIRST_WORK, stats.n_prefill_tokens + stats.n_decode_tokens - job->work_before);
}

void tt_metrics_token(struct tt_job_choice *choice)
{
	struct tt_metrics *m = &choice->job->server->metrics;
	uint64_t now = uv_hrtime();
	if (choice->first_at == 0) {
		tt_metrics_add(m, TT_FIRST_TOKEN, now - choice->job->arrived);
		count_first(choice->job);
		choice->first_at = now;
	} else {
		tt_metrics_add(m, TT_BETWEEN, now - choice->last_at);
	}
	choice->last_at = now;
	choice->n_tokens++;
	atomic_fetch_add_explicit(&m->n_tokens, 1, memory_order_relaxed);
}

static enum tt_outcome outcome_of(const struct tt_decision *d, float scale, uint32_t n_layers)
{
	if (d->killed)
		return TT_KILLED;
	if (scale == 0)
		return TT_OFF;
	for (uint32_t l = 0; l < n_layers; l++)
		if (d->coef[l] != 0)
			return TT_ACTED;
	return TT_CLOSED;
}

/* What each policy decided for a request. */
static void count_decisions(struct tt_job *job, const struct tt_job_choice *choice)
{
	struct tt_server *server = job->server;
	const struct tt_api_request *body = &job->body;
	for (uint32_t i = 0; i < body->options.n_steering; i++) {
		struct tt_decision d;
		size_t k = (size_t)(body->policies[i] - job->catalog->policies.list);
		struct tt_policy_metrics *m = &job->catalog->loaded[k]->metrics;
		if (!tt_request_decision(job->choices[choice->index].request, i, &d))
			continue;
		if (d.gate >= 0)
			add(&m->gate, gates, 1e-6, (uint64_t)(1e6 * (double)d.gate));
		if (i >= body->n_acting) {
			m->shadow_open += d.s != 0;
			m->shadow_closed += d.s == 0;
			continue;
		}
		d.killed = d.killed || body->policies[i]->killed;
		enum tt_outcome outcome =
			outcome_of(&d, body->options.steering[i].scale, tt_engine_info(server->engine)->n_layers);
		m->outcomes[outcome]++;
		m->n_tokens += outcome == TT_ACTED ? choice->n_tokens : 0;
	}
}

void tt_metrics_end(struct tt_job *job, struct tt_job_choice *choice, bool abandoned)
{
	struct tt_metrics *m = &job->server->metrics;
	struct tt_request *request = job->choices[choice->index].request;
	enum tt_finish reason = tt_request_finish(request);
	uint64_t now = uv_hrtime(), started = (uint64_t)(1e9 * tt_request_started(request));
	uint64_t first = choice->first_at, last = choice->last_at, arrived = job->arrived;
	size_t n_prompt = tt_api_prompt_of(&job->body, choice->index)->n_ids;
	count_decisions(job, choice);
	m->n_prompt_tokens += started ? n_prompt : 0;
	if (abandoned || reason > TT_FINISH_CONTEXT) {
		m->n_ends[abandoned ? TT_END_ABORT : TT_END_ERROR]++;
		return;
	}
	m->n_ends[reason == TT_FINISH_STOP ? TT_END_STOP : TT_END_LENGTH]++;
	tt_metrics_add(m, TT_WHOLE_TIME, now - arrived);
	tt_metrics_add(m, TT_QUEUE_TIME, started > arrived ? started - arrived : 0);
	tt_metrics_add(m, TT_PROMPT_TOKENS, n_prompt);
	tt_metrics_add(m, TT_ANSWER_TOKENS, choice->n_tokens);
	if (job->body.options.max_tokens < tt_engine_info(job->server->engine)->context)
		tt_metrics_add(m, TT_MOST_TOKENS, job->body.options.max_tokens);
	if (!first)
		return;
	tt_metrics_add(m, TT_PREFILL_TIME, first > started ? first - started : 0);
	tt_metrics_add(m, TT_DECODE_TIME, last - first);
	tt_metrics_add(m, TT_RUN_TIME, last > started ? last - started : 0);
	if (choice->n_tokens > 1)
		tt_metrics_add(m, TT_TIME_A_TOKEN, (last - first) / (choice->n_tokens - 1));
}

void tt_metrics_look(struct tt_server *server)
{
	struct tt_metrics *m = &server->metrics;
	struct tt_engine_stats stats;
	tt_engine_stats(server->engine, &stats);
	uint64_t n_tokens = stats.n_prefill_tokens + stats.n_decode_tokens, n = stats.n_steps - m->n_steps;
	for (uint64_t i = 0; i < n; i++)
		tt_metrics_add(m, TT_STEP_TOKENS, (n_tokens - m->n_step_tokens) / n);
	m->n_steps = stats.n_steps;
	m->n_step_tokens = n_tokens;
}

/* ---- Writing */

/* A text as the value of a label; model names come from files. */
static void write_label(char *out, size_t size, const char *text)
{
	size_t n = 0;
	for (; *text && n + 3 < size; text++) {
		if (*text == '"' || *text == '\\')
			out[n++] = '\\';
		out[n++] = *text == '\n' ? ' ' : *text;
	}
	out[n] = 0;
}

struct page {
	struct tt_buffer text;
	char labels[300]; /* model_name and engine */
	int status;
};

static void head(struct page *p, const char *name, const char *kind, const char *help)
{
	p->status |= tt_buffer_print(&p->text, NULL, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

/* Of vLLM's, which have the model's labels; more: further ones, or "". */
static void line(struct page *p, const char *name, const char *more, double value)
{
	bool own = strncmp(name, "vllm:", 5) != 0;
	const char *mine = own ? "" : p->labels, *comma = !own && *more ? "," : "";
	bool bare = own && !*more;
	p->status |= tt_buffer_print(&p->text, NULL, "%s%s%s%s%s%s %.15g\n", name, bare ? "" : "{", mine, comma, more,
		bare ? "" : "}", value);
}

static void one(struct page *p, const char *name, const char *kind, const char *help, double value)
{
	head(p, name, kind, help);
	line(p, name, "", value);
}

static uint64_t load(const _Atomic uint64_t *value)
{
	return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)value, memory_order_relaxed);
}

static json_t *histogram_json(const struct tt_histogram *h, const double *bounds)
{
	json_t *ends = json_array(), *counts = json_array();
	size_t i = 0;
	for (; bounds[i] != 0; i++) {
		json_array_append_new(ends, json_real(bounds[i]));
		json_array_append_new(counts, json_integer((json_int_t)load(&h->counts[i])));
	}
	json_array_append_new(counts, json_integer((json_int_t)load(&h->counts[i])));
	return json_pack("{s:o, s:o}", "bounds", ends, "counts", counts);
}

json_t *tt_metrics_histogram(const struct tt_metrics *metrics, enum tt_histogram_name name)
{
	return histogram_json(&metrics->histograms[name], families[name].bounds);
}

json_t *tt_metrics_gate(const struct tt_policy_metrics *metrics)
{
	return histogram_json(&metrics->gate, gates);
}

static void write_histogram(struct page *p, const char *name, const char *labels, const struct tt_histogram *h,
	const double *bounds, double unit)
{
	char full[128], more[400];
	const char *comma = *labels ? "," : "";
	uint64_t n = 0;
	snprintf(full, sizeof full, "%s_bucket", name);
	for (size_t i = 0; bounds[i] != 0; i++) {
		n += load(&h->counts[i]);
		snprintf(more, sizeof more, "%s%sle=\"%g\"", labels, comma, bounds[i]);
		line(p, full, more, (double)n);
		if (bounds[i + 1] == 0)
			n += load(&h->counts[i + 1]);
	}
	snprintf(more, sizeof more, "%s%sle=\"+Inf\"", labels, comma);
	line(p, full, more, (double)n);
	snprintf(full, sizeof full, "%s_sum", name);
	line(p, full, labels, (double)load(&h->sum) * unit);
	snprintf(full, sizeof full, "%s_count", name);
	line(p, full, labels, (double)n);
}

static void write_histograms(struct page *p, const struct tt_metrics *m)
{
	for (int i = 0; i < TT_N_HISTOGRAMS; i++) {
		const char *const names[] = {families[i].name, families[i].older};
		for (int k = 0; k < 2 && names[k]; k++) {
			head(p, names[k], "histogram", families[i].help);
			write_histogram(p, names[k], "", &m->histograms[i], families[i].bounds, families[i].unit);
		}
	}
}

static void write_engine(struct page *p, struct tt_server *server)
{
	const struct tt_metrics *m = &server->metrics;
	static const char *const ends[] = {"stop", "length", "abort", "error"};
	struct tt_engine_load engine;
	struct tt_engine_stats stats;
	char labels[48];
	tt_engine_load(server->engine, &engine);
	tt_engine_stats(server->engine, &stats);
	double usage = (double)engine.n_used_pages / engine.n_pages;
	one(p, "vllm:num_requests_running", "gauge", "Requests that the engine runs.", engine.n_running);
	one(p, "vllm:num_requests_waiting", "gauge", "Requests that wait for it.", engine.n_waiting);
	one(p, "vllm:kv_cache_usage_perc", "gauge", "The share of KV pages in use, 1 for all.", usage);
	one(p, "vllm:gpu_cache_usage_perc", "gauge", "The same, by its older name.", usage);
	one(p, "vllm:prompt_tokens_total", "counter", "Tokens of prompts.", (double)m->n_prompt_tokens);
	one(p, "vllm:generation_tokens_total", "counter", "Tokens generated.", (double)load(&m->n_tokens));
	one(p, "vllm:num_preemptions_total", "counter", "Requests that lost their pages to older ones.",
		(double)stats.n_preemptions);
	one(p, "vllm:prefix_cache_queries_total", "counter", "Tokens of prompts that pages were looked up for.",
		(double)(m->n_prompt_tokens));
	one(p, "vllm:prefix_cache_hits_total", "counter", "Tokens of prompts that pages were found for.",
		(double)stats.n_shared);
	head(p, "vllm:request_success_total", "counter", "Requests that have ended.");
	for (int i = 0; i < TT_N_ENDS; i++) {
		snprintf(labels, sizeof labels, "finished_reason=\"%s\"", ends[i]);
		line(p, "vllm:request_success_total", labels, (double)m->n_ends[i]);
	}
	one(p, "trimtab_steer_reruns_total", "counter", "Prompts that ran again because a gate opened.",
		(double)stats.n_reruns);
}

static void policy_labels(char *out, size_t size, const struct tt_loaded *loaded)
{
	snprintf(out, size, "policy=\"%.100s\",version=\"%.12s\",label=\"%s\"", loaded->named.name,
		loaded->named.sha256, loaded->label);
}

static void write_policies(struct page *p, const struct tt_server *server)
{
	static const char *const outcomes[] = {"acted", "closed", "off", "killed"};
	const struct tt_loaded *loaded;
	char labels[300], more[340];
	head(p, "trimtab_policy_info", "gauge", "A policy that is loaded.");
	for (loaded = server->loaded; loaded; loaded = loaded->next) {
		policy_labels(labels, sizeof labels, loaded);
		line(p, "trimtab_policy_info", labels, 1);
	}
	head(p, "trimtab_steer_requests_total", "counter", "Requests by what became of a policy on them.");
	for (loaded = server->loaded; loaded; loaded = loaded->next)
		for (int k = 0; k < TT_N_OUTCOMES; k++) {
			policy_labels(labels, sizeof labels, loaded);
			snprintf(more, sizeof more, "%s,outcome=\"%s\"", labels, outcomes[k]);
			line(p, "trimtab_steer_requests_total", more, (double)loaded->metrics.outcomes[k]);
		}
	head(p, "trimtab_steer_tokens_total", "counter", "Tokens generated where a policy acted.");
	for (loaded = server->loaded; loaded; loaded = loaded->next) {
		policy_labels(labels, sizeof labels, loaded);
		line(p, "trimtab_steer_tokens_total", labels, (double)loaded->metrics.n_tokens);
	}
	head(p, "trimtab_steer_shadow_total", "counter", "What the gates of shadows would have done.");
	for (loaded = server->loaded; loaded; loaded = loaded->next) {
		policy_labels(labels, sizeof labels, loaded);
		snprintf(more, sizeof more, "%s,gate=\"open\"", labels);
		line(p, "trimtab_steer_shadow_total", more, (double)loaded->metrics.shadow_open);
		snprintf(more, sizeof more, "%s,gate=\"closed\"", labels);
		line(p, "trimtab_steer_shadow_total", more, (double)loaded->metrics.shadow_closed);
	}
	head(p, "trimtab_steer_gate", "histogram", "What gates said.");
	for (loaded = server->loaded; loaded; loaded = loaded->next) {
		policy_labels(labels, sizeof labels, loaded);
		write_histogram(p, "trimtab_steer_gate", labels, &loaded->metrics.gate, gates, 1e-6);
	}
	head(p, "trimtab_kill_switch", "gauge", "1 where nothing is steered.");
	line(p, "trimtab_kill_switch", "", tt_engine_is_killed(server->engine));
}

/* What routers read that know vLLM: how pages are cut, and which adapters there are, which are policies here. All of
 * them are on the engine, so each counts as one that runs. And what else replicas of one service must agree in. */
static void write_facts(struct page *p, struct tt_server *server)
{
	const struct tt_catalog *catalog = server->catalog;
	struct tt_engine_load engine;
	struct tt_buffer names = {0};
	char labels[120];
	size_t n = 0;
	tt_engine_load(server->engine, &engine);
	snprintf(labels, sizeof labels, "block_size=\"%d\",num_gpu_blocks=\"%u\"", TT_PAGE_TOKENS, engine.n_pages);
	head(p, "vllm:cache_config_info", "gauge", "Tokens of a KV page, and how many pages there are.");
	line(p, "vllm:cache_config_info", labels, 1);
	for (size_t i = 0; i < catalog->policies.n; i++) {
		const struct tt_named_policy *policy = &catalog->policies.list[i];
		if (tt_named_policies_find(&catalog->policies, policy->name) == policy) /* not one more label of it */
			p->status |= tt_buffer_print(&names, NULL, "%s%s", n++ ? "," : "", policy->name);
	}
	head(p, "vllm:lora_requests_info", "gauge", "Policies, as adapters; the value is when this was asked for.");
	p->status |= tt_buffer_print(&p->text, NULL,
		"vllm:lora_requests_info{%s,max_lora=\"%zu\",running_lora_adapters=\"%s\",waiting_lora_adapters=\"\"} "
		"%lld\n",
		p->labels, n, names.data ? names.data : "", (long long)time(NULL));
	tt_buffer_free(&names);
	head(p, "trimtab_policy_set_info", "gauge",
		"A digest of all policies and of what steers where nobody chooses.");
	snprintf(labels, sizeof labels, "sha256=\"%s\"", catalog->set);
	line(p, "trimtab_policy_set_info", labels, 1);
	one(p, "trimtab_ranks", "gauge", "Ranks that share the model.", tt_engine_info(server->engine)->n_ranks);
}

static void write_http(struct page *p, const struct tt_server *server)
{
	uint64_t states[TT_CONNECTION_CLOSED] = {0};
	static const char *const names[] = {"reading", "answering", "leaving"};
	char labels[48];
	for (const struct tt_connection *c = server->connections; c; c = c->next)
		states[c->state]++;
	head(p, "trimtab_http_connections", "gauge", "Connections by what they do.");
	for (int i = 0; i < TT_CONNECTION_CLOSED; i++) {
		snprintf(labels, sizeof labels, "state=\"%s\"", names[i]);
		line(p, "trimtab_http_connections", labels, (double)states[i]);
	}
	head(p, "trimtab_http_refused_total", "counter", "Answers that were errors, by their status.");
	for (int i = 400; i < 600; i++) {
		bool usual = i == 400 || i == 429 || i == 500 || i == 503;
		snprintf(labels, sizeof labels, "reason=\"%d\"", i);
		if (usual || server->metrics.n_refused[i])
			line(p, "trimtab_http_refused_total", labels, (double)server->metrics.n_refused[i]);
	}
	one(p, "trimtab_http_slow_clients_total", "counter", "Clients that were cut off because they were too slow.",
		(double)server->metrics.n_slow);
	head(p, "trimtab_quota_refused_total", "counter", "Requests that were beyond their key's tokens.");
	line(p, "trimtab_quota_refused_total", "window=\"minute\"", (double)server->metrics.n_over_quota[TT_A_MINUTE]);
	line(p, "trimtab_quota_refused_total", "window=\"day\"", (double)server->metrics.n_over_quota[TT_A_DAY]);
	one(p, "trimtab_quota_tokens_total", "counter", "Tokens that were counted against a key's limits.",
		(double)server->metrics.n_quota_tokens);
	one(p, "trimtab_tls_refused_total", "counter", "Clients that did not speak TLS as it is spoken here.",
		(double)server->metrics.n_tls_refused);
}

static void write_audit(struct page *p, struct tt_server *server)
{
	struct tt_recorder_stats stats = {0};
	char more[48];
	uint64_t n = 0;
	if (server->recorder)
		tt_recorder_stats(server->recorder, &stats);
	const struct {
		const char *kind;
		uint64_t n;
	} kinds[] = {{"begin", stats.n_begin}, {"end", stats.n_end}, {"interrupted", stats.n_interrupted},
		{"other", stats.n_other}};
	head(p, "trimtab_audit_entries_total", "counter", "Entries of the audit log.");
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		snprintf(more, sizeof more, "kind=\"%s\"", kinds[i].kind);
		line(p, "trimtab_audit_entries_total", more, (double)kinds[i].n);
	}
	one(p, "trimtab_audit_lost_total", "counter", "Entries that could not be written.", (double)stats.n_lost);
	one(p, "trimtab_audit_queue", "gauge", "Entries that wait to be written.", (double)stats.n_queued);
	one(p, "trimtab_audit_checkpoint_age_seconds", "gauge", "How old the log's last checkpoint is.",
		stats.checkpoint_age);
	head(p, "trimtab_audit_commit_seconds", "histogram", "How long the log's transactions took.");
	for (size_t i = 0; i < TT_COMMIT_BUCKETS; i++) {
		n += stats.commits[i];
		snprintf(more, sizeof more, "le=\"%g\"", tt_commit_bounds[i]);
		line(p, "trimtab_audit_commit_seconds_bucket", more, (double)n);
	}
	n += stats.commits[TT_COMMIT_BUCKETS];
	line(p, "trimtab_audit_commit_seconds_bucket", "le=\"+Inf\"", (double)n);
	line(p, "trimtab_audit_commit_seconds_sum", "", stats.commit_seconds);
	line(p, "trimtab_audit_commit_seconds_count", "", (double)n);
}

static void write_process(struct page *p, const struct tt_server *server)
{
	uv_rusage_t usage;
	struct rlimit files;
	size_t resident = 0;
	double n_open = -1; /* the folder itself, while it is read */
	if (uv_getrusage(&usage) == 0)
		one(p, "process_cpu_seconds_total", "counter", "Processor time.",
			(double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
				1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec));
	if (uv_resident_set_memory(&resident) == 0)
		one(p, "process_resident_memory_bytes", "gauge", "Resident memory.", (double)resident);
	DIR *folder = opendir("/proc/self/fd");
	for (struct dirent *entry; folder && (entry = readdir(folder));)
		n_open += entry->d_name[0] != '.';
	if (folder) {
		closedir(folder);
		one(p, "process_open_fds", "gauge", "Files that are open.", n_open);
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		one(p, "process_max_fds", "gauge", "Files that may be open.", (double)files.rlim_cur);
	one(p, "process_start_time_seconds", "gauge", "When the server started.", (double)server->started);
}

void tt_metrics_answer(struct tt_connection *c)
{
	struct tt_server *server = c->server;
	struct page p = {0};
	char name[200];
	write_label(name, sizeof name, tt_engine_info(server->engine)->name);
	snprintf(p.labels, sizeof p.labels, "model_name=\"%s\",engine=\"0\"", name);
	write_engine(&p, server);
	write_histograms(&p, &server->metrics);
	write_policies(&p, server);
	write_facts(&p, server);
	write_http(&p, server);
	write_audit(&p, server);
	write_process(&p, server);
	if (p.status)
		tt_connection_break(c);
	else
		tt_connection_answer(c, 200, "text/plain; version=0.0.4; charset=utf-8", "", p.text.data, p.text.len);
	tt_buffer_free(&p.text);
}
