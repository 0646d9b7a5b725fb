/* The engine and its requests, as the files of runtime/ share them. */
#ifndef RUNTIME_ENGINE_H
#define RUNTIME_ENGINE_H

#include "controller/policy.h"
#include "runtime/forward.h"
#include "runtime/kv.h"
#include "runtime/text/tokenizer.h"
#include "runtime/trimtab.h"

/* A policy that was added. Its index is its slot in the kernels' table. */
struct tt_loaded_policy {
	struct tt_policy *policy;  /* NULL: the slot is free */
	uint32_t n_users;          /* requests not finished */
	struct tt_steer_slot slot; /* what the kernels' table holds: pointers to the backend's copies */
};

struct tt_plan;

struct tt_engine {
	struct tt_engine_options options;
	struct tt_model *model;
	struct tt_text *text;
	struct tt_backend *backend;
	struct tt_error device_note; /* why "auto" is not a GPU */
	struct tt_model_info info;
	char *name, *fingerprint;
	int32_t eos[TT_MAX_EOS + 1]; /* the configuration's and the tokenizer's */
	uint32_t n_eos;

	struct tt_state state;
	struct tt_kv_pool kv;
	struct tt_loaded_policy *policies; // [TT_MAX_SLOTS]
	uint16_t *free_rows;               // [state.limits.n_rows - 1] coefficient rows that nobody owns
	uint32_t n_free_rows;
	uint16_t *row_slots; // [state.limits.n_rows]

	struct tt_request *waiting, *waiting_last; /* first come, first served */
	struct tt_request **running;               // [max_batch] in order of admission
	uint32_t n_running;
	struct tt_plan *plan;
	struct tt_results results; /* of the last step, in host memory */
	struct tt_engine_stats stats;
};

/* One sequence. tokens holds the given ids and, behind them, what was generated. */
struct tt_request {
	struct tt_engine *engine;
	struct tt_request *next;           /* in the waiting list */
	struct tt_request_options options; /* its pointers are NULLed; what they held is below */
	int32_t *tokens;
	size_t n_tokens;
	size_t n_prompt;      /* the decision is made at position n_prompt - 1 */
	size_t last_position; /* no token is generated at or behind it */
	enum tt_finish finish;
	bool live;    /* waiting or running: it holds its policies */
	bool running; /* it holds pages and rows */

	size_t n_fed;   /* positions whose KV is written, in the present pass */
	int32_t *pages; // [n_pages]
	uint32_t n_pages;

	uint16_t slots[TT_MAX_STACK], rows[TT_MAX_STACK];
	enum tt_policy_when when[TT_MAX_STACK];
	int32_t observe_last;   /* the deepest layer that any of its gates reads, -1 for none */
	uint32_t first_steered; /* the first layer that steers prompt tokens */
	bool decided;           /* the gates have run */
	struct tt_decision decisions[TT_MAX_STACK];
	float *coef; // [n_steering][L] what decisions[].coef points to

	uint64_t *keep_layers;
	float *scores, *norms, *logits; /* see trimtab.h; NULL when not asked for */
	float *hidden;                  // [n_kept layers][n_ids - keep_from][d]
	float *logprobs;                // [max_tokens]
	int32_t *top_ids;               // [max_tokens][n_top]
	float *top_logprobs;
	uint32_t *n_top; // [max_tokens]

	size_t n_taken; /* generated tokens handed out */
	struct tt_utf8_stream stream;
	char *text; /* what the last token completed */
	size_t text_capacity;
};

/* tt_engine_open on an opened backend, which the engine takes over, also where it fails; NULL: the
 * options' device. */
int tt_engine_open_on(struct tt_engine **out, struct tt_backend *backend, const char *model_path,
	const struct tt_engine_options *options, struct tt_error *err);

/* The tokenizer behind a text (NULL for a template alone). */
const struct tt_tokenizer *tt_text_tokenizer(const struct tt_text *text);
/* From an open model, sharing nothing with it. */
int tt_text_from_model(struct tt_text **out, const struct tt_model *model, struct tt_error *err);

/* policies.c: false when the policy was not added. */
bool tt_policy_slot(const struct tt_engine *engine, const struct tt_policy *policy, uint16_t *slot);
void tt_policies_close(struct tt_engine *engine);

/* scheduler.c: queues a request; takes one out of wherever it is and gives back what it holds. */
void tt_scheduler_add(struct tt_engine *engine, struct tt_request *request);
void tt_scheduler_drop(struct tt_engine *engine, struct tt_request *request);

/* request.c: notes a generated token, and whether the request is finished by it. */
void tt_request_append(struct tt_request *request, const struct tt_sample_result *sample);
bool tt_request_is_eos(const struct tt_engine *engine, int32_t id);

#endif
