/* The engine: a model, a backend, and the memory that a step works in. */
#include "runtime/engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/outputs.h"
#include "runtime/engine/collect.h"
#include "runtime/engine/numerics.h"
#include "runtime/engine/policy_slots.h"
#include "runtime/engine/ranks.h"
#include "runtime/engine/request.h"
#include "runtime/engine/thread.h"
#include "runtime/text/text.h"
#include "weights/model.h"

/* A request may have as many policies as a token of a step. */
_Static_assert((int)TT_MAX_STACK == (int)TT_STACK, "policies on one request");

enum {
	DEFAULT_CONTEXT = 8192, /* at most, even if the model allows more, since KV pages take memory */
	MAX_BATCH = 4096,
	MAX_STEP_TOKENS = 1 << 16,
	SEEN_OF_A_STEP = 1 << 16, /* ids that penalties apply to, half a MiB; more wait for the next step */
	MAX_THREADS = 1024,
	STEP_TOKENS = 512, /* by default, where the backend names no other number */
	MIN_SAMPLES = 64,  /* logits rows of a step, at least, so that scoring a prompt takes few steps */
};

void tt_free(void *memory)
{
	free(memory);
}

const char *tt_mapped_file(const void *address)
{
	return tt_file_mapped(address);
}

static const struct tt_engine_options DEFAULTS = {.device = "auto", .max_batch = 32};

void tt_engine_options_default_sized(struct tt_engine_options *options, size_t size)
{
	tt_options_default(options, size, &DEFAULTS, sizeof DEFAULTS);
}

/* A model with longrope gets the context that its short factors are made for: these serve short texts better, and
 * transformers uses them there. */
static uint32_t default_context(const struct tt_config *config)
{
	uint32_t n = config->context_length < DEFAULT_CONTEXT ? config->context_length : DEFAULT_CONTEXT;
	return config->rope_scaling == TT_ROPE_LONGROPE && config->rope_original_context < n
		       ? config->rope_original_context
		       : n;
}

static int check_options(struct tt_engine_options *o, const struct tt_config *config, struct tt_error *err)
{
	if (o->max_batch < 1 || o->max_batch > MAX_BATCH)
		return tt_fail(err, TT_ERR_ARGUMENT, "max_batch must be from 1 to %d", MAX_BATCH);
	if (o->max_step_tokens && (o->max_step_tokens < o->max_batch || o->max_step_tokens > MAX_STEP_TOKENS))
		return tt_fail(err, TT_ERR_ARGUMENT, "max_step_tokens must be from max_batch (%u) to %d", o->max_batch,
			MAX_STEP_TOKENS);
	if (o->n_threads > MAX_THREADS)
		return tt_fail(err, TT_ERR_ARGUMENT, "n_threads must be at most %d", MAX_THREADS);
	if (o->context > config->context_length)
		return tt_fail(err, TT_ERR_ARGUMENT, "a context of %u tokens is more than the model's %u", o->context,
			config->context_length);
	if (!o->context)
		o->context = default_context(config);
	if (!o->kv_tokens)
		o->kv_tokens = o->max_batch * 512 > o->context ? o->max_batch * 512 : o->context;
	if (o->n_ranks > TT_MAX_RANKS)
		return tt_fail(err, TT_ERR_ARGUMENT, "n_ranks must be at most %d", TT_MAX_RANKS);
	if (!o->n_ranks)
		o->n_ranks = 1;
	if (o->kv_tokens > TT_MAX_CONTEXT)
		return tt_fail(err, TT_ERR_ARGUMENT, "kv_tokens must be at most %d", TT_MAX_CONTEXT);
	return TT_OK;
}

static int set_limits(struct tt_engine *e, struct tt_limits *limits, struct tt_error *err)
{
	struct tt_engine_options *o = &e->options;
	uint32_t step_tokens = e->rank.backend->step_tokens;
	if (!o->max_step_tokens)
		o->max_step_tokens = step_tokens ? step_tokens : STEP_TOKENS;
	if (o->max_step_tokens < o->max_batch) /* the default */
		o->max_step_tokens = o->max_batch;
	*limits = (struct tt_limits){
		.max_tokens = o->max_step_tokens,
		.max_seqs = o->max_batch,
		.max_samples = o->max_batch > MIN_SAMPLES ? o->max_batch : MIN_SAMPLES,
		.n_rows = 1 + o->max_batch * TT_MAX_STACK,
		.context = o->context,
		.n_ranks = o->n_ranks,
		.max_seen = e->rank.backend->has_penalties ? SEEN_OF_A_STEP + o->context : 0,
		.n_inline_captures = tt_limits_inline_captures(&e->model->config),
		.fast = o->fast,
		.compute = o->compute,
	};
	struct tt_step_plan largest = {
		.n_tokens = limits->max_tokens,
		.n_seqs = limits->max_seqs,
		.n_samples = limits->max_samples,
		.n_decisions = limits->n_rows,
		.n_pools = limits->max_seqs,
		.n_seen = limits->max_seen,
		.n_rows = limits->n_rows,
		.max_pages = tt_pages_for(limits->context),
	};
	TT_TRY(tt_step_layout(&largest, UINT32_MAX, err));
	limits->plan_bytes = largest.n_bytes;
	return TT_OK;
}

/* A policy can steer this model if it was made for the same fingerprint, which covers everything that shapes the
 * residual stream and the tokens. The architecture has its GGUF name here, since a GGUF file knows no other. */
static int make_fingerprint(struct tt_engine *e, struct tt_error *err)
{
	const struct tt_config *c = &e->model->config;
	const struct tt_tokenizer *tokenizer = tt_text_tokenizer(e->text);
	struct tt_buffer text = {0};
	TT_TRY(tt_buffer_print(&text, err, "%s L=%u d=%u heads=%u/%u head_dim=%u ffn=%u vocab=%u tokens=%.16s",
		TT_ARCHS[c->arch].gguf, c->n_layers, c->hidden_size, c->n_heads, c->n_kv_heads, c->head_dim,
		c->ffn_size, c->vocab_size, tokenizer ? tt_tokenizer_digest(tokenizer) : "none"));
	e->fingerprint = text.data;
	return TT_OK;
}

static void add_eos(struct tt_engine *e, int32_t id)
{
	if (id >= 0 && !tt_request_is_eos(e, id) && e->n_eos < TT_MAX_EOS + 1)
		e->eos[e->n_eos++] = id;
}

static void collect_eos(struct tt_engine *e)
{
	const struct tt_config *c = &e->model->config;
	const struct tt_tokenizer *tokenizer = tt_text_tokenizer(e->text);
	for (uint32_t i = 0; i < c->n_eos; i++)
		add_eos(e, c->eos[i]);
	if (tokenizer)
		add_eos(e, tt_tokenizer_eos(tokenizer));
}

/* Sets name, the last part of the path without slashes after it, and path. */
static int set_names(struct tt_engine *e, const char *path, struct tt_error *err)
{
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		n--;
	const char *start = path + n;
	while (start > path && start[-1] != '/')
		start--;
	TT_TRY(tt_copy_string(&e->name, start, (size_t)(path + n - start), err));
	return tt_file_resolve(&e->path, path, err);
}

/* Must be last: it points to the name and the fingerprint. */
static void fill_info(struct tt_engine *e)
{
	const struct tt_config *c = &e->model->config;
	const struct tt_backend *first = e->rank.backend;
	e->info = (struct tt_model_info){
		.architecture = tt_arch_name(c->arch),
		.name = e->name,
		.backend = first->name,
		.mode = first->fast ? "fast" : "strict",
		.device_note = e->device_note.message,
		.n_layers = c->n_layers,
		.hidden_size = c->hidden_size,
		.n_heads = c->n_heads,
		.n_kv_heads = c->n_kv_heads,
		.head_dim = c->head_dim,
		.ffn_size = c->ffn_size,
		.vocab_size = c->vocab_size,
		.context = e->options.context,
		.model_context = c->context_length,
		.n_threads = e->n_ranks * first->n_threads,
		.n_parameters = e->model->n_parameters,
		.n_weight_bytes = e->model->n_weight_bytes,
		.fingerprint = e->fingerprint,
		.weights_digest = e->model->weights_digest,
		.n_ranks = e->n_ranks,
		.chat_template_sha256 = tt_text_template_sha256(e->text),
		.max_step_tokens = e->options.max_step_tokens,
	};
	tt_ranks_describe(e, &e->info);
}

static int open_scheduler(struct tt_engine *e, const struct tt_limits *limits, struct tt_error *err)
{
	struct tt_scheduler_hooks hooks = tt_collect_hooks(e);
	TT_TRY(tt_alloc(&e->policies, TT_MAX_SLOTS, sizeof *e->policies, err));
	return tt_scheduler_open(&e->scheduler, limits, e->rank.kv.pages.n_pages, e->model->config.n_layers,
		!e->options.no_prefix_sharing, &hooks, err);
}

/* The types of pages that the backend has, in words: "f32, f16, q8 or fp8". */
static void kv_names(const struct tt_backend *backend, char *out, size_t n)
{
	uint32_t left = backend->kv_types | 1u << backend->kv_type;
	size_t at = 0;
	*out = 0;
	for (enum tt_kv_type type = TT_KV_F32; type <= TT_KV_FP8; type++)
		if (left >> type & 1) {
			left &= ~(1u << type);
			at += (size_t)snprintf(out + at, n - at, "%s%s",
				at == 0 ? ""
				: left  ? ", "
					: " or ",
				tt_kv_name(type));
		}
}

static int choose_kv_type(const struct tt_engine *e, enum tt_kv_type *type, struct tt_error *err)
{
	const struct tt_backend *backend = e->rank.backend;
	enum tt_kv_type own = backend->kv_type, asked = tt_engine_kv_type(e);
	if ((unsigned)asked > TT_KV_FP8)
		return tt_fail(err, TT_ERR_ARGUMENT, "kv is %d, which is no enum tt_kv_type", (int)asked);
	*type = asked == TT_KV_DEFAULT ? own : asked;
	if (*type != own && !(backend->kv_types >> *type & 1)) {
		char names[64];
		kv_names(backend, names, sizeof names);
		return tt_fail(err, TT_ERR_UNSUPPORTED, "KV pages are %s on %s, not %s (--kv)", names, backend->name,
			tt_kv_name(*type));
	}
	if (*type == TT_KV_Q8 && e->model->config.head_dim % 32)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"KV pages in q8 (--kv) need heads of a multiple of 32 numbers, and this model's have %u",
			e->model->config.head_dim);
	return TT_OK;
}

/* "auto" is the CPU for what only the CPU computes. */
static const char *device_of(const struct tt_engine_options *o)
{
	bool any = !o->device || strcmp(o->device, "auto") == 0;
	return any && o->compute == TT_COMPUTE_Q8 ? "cpu" : o->device;
}

static int check_compute(const struct tt_engine *e, struct tt_error *err)
{
	if (e->options.compute != TT_COMPUTE_F32 && e->options.compute != TT_COMPUTE_Q8)
		return tt_fail(
			err, TT_ERR_ARGUMENT, "compute is %d, which is no enum tt_compute", (int)e->options.compute);
	if (e->options.compute == TT_COMPUTE_Q8 && !e->rank.backend->has_q8)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"q8 (--compute) is computed by the CPU alone, not by %s: take the device cpu",
			e->rank.backend->name);
	return TT_OK;
}

static int open_engine(struct tt_engine *e, const char *path, struct tt_error *err)
{
	struct tt_backend **backend = &e->rank.backend;
	enum tt_kv_type kv_type = TT_KV_DEFAULT;
	struct tt_limits limits;
	TT_TRY(tt_thread_open(e, err));
	TT_TRY(tt_model_open(&e->model, path, err));
	const struct tt_config *config = &e->model->config;
	TT_TRY(check_options(&e->options, config, err));
	TT_TRY(tt_text_from_model(&e->text, e->model, err));
	if (e->options.chat_template)
		TT_TRY(tt_text_take_template(e->text, e->options.chat_template, err));
	if (!*backend)
		TT_TRY(tt_device_open(
			backend, device_of(&e->options), e->options.n_threads, config, &e->device_note, err));
	TT_TRY(choose_kv_type(e, &kv_type, err));
	TT_TRY(check_compute(e, err));
	TT_TRY(set_limits(e, &limits, err));
	TT_TRY(tt_ranks_open(e, path, &limits, kv_type, err));
	TT_TRY(open_scheduler(e, &limits, err));
	TT_TRY(set_names(e, path, err));
	TT_TRY(make_fingerprint(e, err));
	collect_eos(e);
	fill_info(e);
	return TT_OK;
}

int tt_engine_open_on(struct tt_engine **out, struct tt_backend *backend, const char *model_path,
	const struct tt_engine_options *options, struct tt_error *err)
{
	struct tt_engine *e = NULL;
	int status = tt_need(out, "out", err);
	if (status == TT_OK) {
		*out = NULL;
		status = tt_need(model_path, "model_path", err);
	}
	if (status == TT_OK)
		status = tt_alloc(&e, 1, sizeof *e, err);
	if (status != TT_OK && backend)
		backend->close(backend);
	TT_TRY(status);
	e->rank.backend = backend;
	e->options = DEFAULTS;
	if (options)
		status = tt_options_take(&e->options, sizeof e->options, options, "tt_engine_options", err);
	if (status == TT_OK)
		status = open_engine(e, model_path, err);
	if (status != TT_OK) {
		tt_engine_close(e);
		return status;
	}
	*out = e;
	return TT_OK;
}

int tt_engine_open(
	struct tt_engine **out, const char *model_path, const struct tt_engine_options *options, struct tt_error *err)
{
	return tt_engine_open_on(out, NULL, model_path, options, err);
}

void tt_engine_close(struct tt_engine *e)
{
	if (!e)
		return;
	tt_thread_close(e);
	tt_scheduler_close(&e->scheduler);
	tt_ranks_settle(e);
	tt_policy_slots_close(e);
	tt_ranks_close(e);
	tt_text_close(e->text);
	tt_model_close(e->model);
	free(e->name);
	free(e->path);
	free(e->fingerprint);
	free(e);
}

const struct tt_model_info *tt_engine_info(const struct tt_engine *engine)
{
	return engine ? &engine->info : NULL;
}

const struct tt_text *tt_engine_text(const struct tt_engine *engine)
{
	return engine ? engine->text : NULL;
}
