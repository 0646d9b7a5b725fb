/* trimtab: run a frozen language model and steer it. The public C API; the command-line program runs on it alone.
 *
 * An engine is a loaded model with its KV pages. A request is one sequence: a prompt, what to generate, which policies
 * steer it and what to report. Requests are batched: submit any number, then call tt_engine_step until they are done. A
 * policy is a small controller: directions by which the residual stream is changed, layer weights, and a gate that
 * reads the stream at the last prompt token, or its mean over the last user message, and decides whether and how
 * strongly to steer.
 *
 * The usual order of calls (examples/minimal.c is a whole program):
 *
 *     tt_engine_open                                   the model
 *     tt_policy_load, tt_engine_add_policy             policies, if any
 *     tt_text_user_message, tt_text_encode_chat_span   a prompt's ids, with tt_engine_text(engine)
 *     tt_request_options_default, tt_request_submit    set ids, n_ids, max_tokens, steering ...
 *     tt_engine_step, tt_request_next                  until tt_request_finish says that the request has ended
 *     tt_request_free, tt_engine_close, tt_policy_free in this order
 *
 * Threads: an engine and everything made from it may be used by one thread at a time, unless tt_engine_start gave the
 * engine a thread of its own. The kill switch may be called from any thread at any time.
 *
 * Memory: "borrowed" means that the caller must not free a pointer. Borrowed from a request or a policy, it is valid
 * until that is freed, from an engine until that is closed, unless the comment names another end. Strings are
 * terminated UTF-8.
 *
 * Notation, as in docs/design.md: L blocks of width d; h[l] the residual stream after block l (0-based, before the
 * final norm); the coefficient of layer l is c[l] = scale * alpha * s * w[l].
 *
 * Errors: every function that can fail returns 0 or a negative enum tt_status and fills err (which may be NULL). A NULL
 * argument that has no meaning is refused by name (TT_ERR_ARGUMENT); functions that return no status then return 0,
 * false or NULL, or do nothing. Functions that free, close or cancel accept NULL. Initialise options structs by their
 * _default function, so that new members have defaults.
 *
 * Versions: a program and the library that it runs with may have been made with headers of different versions that
 * share a soname (libtrimtab.so.0). An options struct begins with its size; new members come at its end. A program
 * that does not know them gets their defaults. One that sets a member which the library does not know is refused
 * (TT_ERR_UNSUPPORTED), unless that member is 0. All other structs, and those inside of options, stay as they are while
 * the soname does. */
#ifndef TRIMTAB_H
#define TRIMTAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tt_enums.h"
#include "tt_error.h"
#include "tt_sampling.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TT_VERSION "0.1.0"

/* Marks what libtrimtab.so exports. Define it as nothing for a parser of C that knows no attributes. */
#if !defined(TT_API) && defined(__GNUC__)
#define TT_API __attribute__((visibility("default")))
#elif !defined(TT_API)
#define TT_API
#endif

/* The version of the library that is linked, which may be newer than the header's TT_VERSION. */
TT_API const char *tt_version(void);

enum {
	TT_MAX_STACK = 4,        /* policies on one request */
	TT_MAX_ARMS = 64,        /* ways of steering that one evaluation compares */
	TT_MAX_ARM_NAME = 200,   /* bytes */
	TT_MAX_STOPS = 16,       /* stop strings on one request, and as many stop ids */
	TT_MAX_STOP_BYTES = 256, /* bytes of one stop string */
};

struct tt_text;    /* a tokenizer and a chat template */
struct tt_engine;  /* a loaded model */
struct tt_policy;  /* a steering policy, independent of any engine until it is added to one */
struct tt_request; /* one sequence in flight, or finished */

/* Long functions report progress through this: done of total units of the named stage. If it returns non-zero, the
 * function stops with TT_ERR_LIMIT. */
typedef int (*tt_progress_fn)(void *user, const char *stage, uint64_t done, uint64_t total);

/* Releases memory that a function of this header handed out (strings, id lists). */
TT_API void tt_free(void *memory);

/* *report gets JSON (tt_free) about the library that is linked: version, commit ("unknown" where it was not built from
 * a git checkout), compiler, cpu (the body of the kernels that this machine takes) and cuda (what its kernels were
 * built for; null: it has none). */
TT_API int tt_describe_build(char **report, struct tt_error *err);

/* Model files are mapped, not read: if one becomes shorter while it is open, or its disk fails, the kernel raises
 * SIGBUS at the next use of the missing part. The library installs no handler. A handler of the caller's may call this
 * with the faulting address (it is safe in a handler) and must not return. Returns the path of the model or policy file
 * that is mapped there, or NULL; borrowed, cut to 255 bytes. */
TT_API const char *tt_mapped_file(const void *address);

/* ---- Text ---- */

enum tt_text_flags {
	TT_TEXT_SPECIAL = 1, /* text that spells a special token becomes that token */
	TT_TEXT_BOS = 2,     /* begin with the token that the tokenizer itself puts before a text (none, or bos) */
};

/* Opens a tokenizer and chat template without a model. (That of an open model is tt_engine_text.) path: a GGUF file,
 * which need hold no more than the vocabulary; a Hugging Face directory; or a .jinja file or a name of chat_template's
 * (a template without a tokenizer). Errors: TT_ERR_IO, TT_ERR_FORMAT, or TT_ERR_UNSUPPORTED, naming what is not. */
TT_API int tt_text_open(struct tt_text **out, const char *path, struct tt_error *err);
TT_API void tt_text_close(struct tt_text *text);
/* Without a tokenizer, functions that need one return TT_ERR_UNSUPPORTED; the same for a template. */
TT_API bool tt_text_has_tokenizer(const struct tt_text *text);
TT_API bool tt_text_has_template(const struct tt_text *text);

/* Encodes n bytes of UTF-8 into a new list *ids (tt_free). flags: of enum tt_text_flags. TT_ERR_FORMAT for invalid
 * UTF-8. */
TT_API int tt_text_encode(const struct tt_text *text, const char *string, size_t n, unsigned flags, int32_t **ids,
	size_t *n_ids, struct tt_error *err);

/* Zero-initialise for the defaults, but for size. */
struct tt_chat_options {
	size_t size;               /* of the struct */
	bool no_generation_prompt; /* leave out the marker after which the model answers */
	const char *bos, *eos;     /* used instead of the model's; NULL: the model's */
	int64_t now;               /* Unix time that the template sees as the date; 0: the present */
};

/* Renders a conversation into *prompt (tt_free). messages_json: a JSON array of {"role": ..., "content": ...}, or an
 * object with such "messages" and perhaps "tools" and "documents". options may be NULL. */
TT_API int tt_text_render(const struct tt_text *text, const char *messages_json, const struct tt_chat_options *options,
	char **prompt, struct tt_error *err);

/* Renders and encodes a conversation into a new list *ids (tt_free). The template's own markers become special tokens;
 * the same characters inside a message's content never do. */
TT_API int tt_text_encode_chat(const struct tt_text *text, const char *messages_json,
	const struct tt_chat_options *options, int32_t **ids, size_t *n_ids, struct tt_error *err);

/* tt_text_encode_chat, and where the last user message is: ids[*from, *to) hold its content, white space around it
 * apart if the template strips that. They are the mean_from and mean_to of a request. Both are 0, which stands for the
 * whole prompt, if there is no user message or the template shows nothing of it. */
TT_API int tt_text_encode_chat_span(const struct tt_text *text, const char *messages_json,
	const struct tt_chat_options *options, int32_t **ids, size_t *n_ids, size_t *from, size_t *to,
	struct tt_error *err);

/* Makes the messages_json (tt_free) of a conversation with one user message of n bytes. system: the system message;
 * NULL: none, so that the template uses its own, if it has one. */
TT_API int tt_text_user_message(
	const char *prompt, size_t n, const char *system, char **messages_json, struct tt_error *err);

/* The bytes of one token, borrowed, not terminated, perhaps part of a code point; *n is 0 if id is out of range. */
TT_API const char *tt_text_piece(const struct tt_text *text, int32_t id, size_t *n);

/* Decodes a list of ids into *string (tt_free), without special tokens; invalid bytes become U+FFFD. */
TT_API int tt_text_decode(
	const struct tt_text *text, const int32_t *ids, size_t n_ids, char **string, struct tt_error *err);

/* ---- Engine ---- */

struct tt_engine_options {
	size_t size;              /* of the struct */
	const char *device;       /* "cpu", "cuda", "cuda:N", or "auto" (or NULL): the first GPU, else the CPU */
	uint32_t n_threads;       /* of the CPU; 0: one a core, within a container's share */
	uint32_t max_batch;       /* requests that run at the same time; the others wait. Default 32 */
	uint32_t max_step_tokens; /* tokens of a step; >= max_batch. 0: 2048 on a GPU, else 512 or max_batch */
	uint32_t context;         /* longest sequence in tokens; 0: the model's own, at most 8192 */
	uint32_t kv_tokens;       /* positions that all KV pages hold together; 0: max_batch * 512, at least context */
	bool no_prefix_sharing; /* compute every prompt in full. Else equal prefixes under equal steering share pages */
	bool kv_f16;            /* the same as TT_KV_F16 for kv */
	bool fast; /* CUDA: large prefill products by cuBLASLt; a request's bits may depend on its batch mates */
	bool strict_model; /* refuse a policy fitted on other weights of the same architecture, instead of a warning */
	/* TT_COMPUTE_Q8: products of quantised matrices with the inputs as eight-bit integers. Faster and less precise;
	 * a request's bits still depend on nothing else. CPU only: "auto" is then "cpu", and another device is
	 * TT_ERR_UNSUPPORTED. */
	enum tt_compute compute;
	/* Smaller types take less memory, and the bits are no longer those of f32. A type that the device does not have
	 * is TT_ERR_UNSUPPORTED. */
	enum tt_kv_type kv;
	/* Ranks, 16 at most, that share matrices and KV pages, with the bits of one; docs/cluster.md says how many a
	 * model takes, else TT_ERR_UNSUPPORTED. CPU only, sharing n_threads. When one fails, no request is answered. */
	uint32_t n_ranks;
	const char *chat_template; /* NULL: the model's; a file with Jinja, or chatml, gemma, llama2, llama3, phi3 */
};
TT_API void tt_engine_options_default_sized(struct tt_engine_options *options, size_t size);
#define tt_engine_options_default(options) tt_engine_options_default_sized((options), sizeof(struct tt_engine_options))

/* Loads a model. model_path: a GGUF file or a Hugging Face directory. options may be NULL. */
TT_API int tt_engine_open(
	struct tt_engine **out, const char *model_path, const struct tt_engine_options *options, struct tt_error *err);
/* Every request must be freed before. Policies need not be removed. */
TT_API void tt_engine_close(struct tt_engine *engine);

struct tt_model_info {
	const char *architecture, *name; /* name: of the file or directory */
	const char *backend;             /* "cpu" or "cuda" */
	const char *mode;                /* "fast" if that was asked for and changes anything, else "strict" */
	const char *device_note;         /* why "auto" did not take a GPU, or "" */
	uint32_t n_layers, hidden_size, n_heads, n_kv_heads, head_dim, ffn_size, vocab_size;
	uint32_t context;       /* longest sequence that this engine takes, in tokens */
	uint32_t model_context; /* longest sequence that the model was made for */
	uint32_t n_threads;
	uint64_t n_parameters, n_weight_bytes;
	size_t kv_bytes;            /* of all KV pages */
	const char *fingerprint;    /* architecture, dimensions and vocabulary hash: a policy must have the same */
	const char *weights_digest; /* 64 hexadecimal digits */
	uint32_t n_ranks, max_step_tokens;
	/* Of matrices in a GPU's memory (a CPU reads the file's), and of those that are quantised in the file alone. */
	uint64_t device_weight_bytes, rounded_weight_bytes;
	const char *chat_template_sha256; /* of the option's template; NULL: the model's own is taken */
};
/* Both are borrowed until the engine is closed. */
TT_API const struct tt_model_info *tt_engine_info(const struct tt_engine *engine);
TT_API const struct tt_text *tt_engine_text(const struct tt_engine *engine);

/* Counters since the engine was opened. */
struct tt_engine_stats {
	uint64_t n_steps, n_prefill_tokens, n_decode_tokens;
	uint64_t n_reruns;      /* prompts that ran again, steered, for when = all or last */
	uint64_t n_shared;      /* tokens that were not computed, because pages of another request held them */
	uint64_t n_preemptions; /* requests that lost their pages to older ones and ran again */
	uint64_t n_wasted;      /* results that were dropped, because their request ended while the step ran */
	double seconds;         /* spent inside steps */
	/* Operations of the device; 0 on a CPU. A decode step is one copy in, one graph launch, one copy out, one
	 * wait. */
	uint64_t n_launches;       /* of kernels, outside of graphs or while a graph was captured */
	uint64_t n_graph_launches; /* of graphs */
	uint64_t n_copies_in, n_copies_out, n_waits;
	uint64_t n_drains; /* copies out of logits, or of captured rows that did not fit beside the other results */
	uint64_t n_bytes_in, n_bytes_out;
};
/* Fills *stats. */
TT_API void tt_engine_stats(const struct tt_engine *engine, struct tt_engine_stats *stats);

/* ---- Policies ---- */

struct tt_policy_info {
	const char *name;
	enum tt_policy_op op;
	const char *op_word;          /* the operation's name in files and reports, such as "add" */
	const char *op_sentence;      /* what it does to the residual stream */
	const char *op_form;          /* the operation's form; "" where a file need not name it */
	const char *op_form_sentence; /* what the form adds to op_sentence; "" for nothing */
	enum tt_change change;        /* how far it moves h */
	enum tt_policy_when when;
	enum tt_policy_gate gate;
	const char *gate_word, *gate_form; /* as op_word and op_form */
	const char *gate_sentence;         /* when it opens; NULL for a gate that reads nothing */
	uint32_t n_layers, hidden_size;
	uint32_t n_directions;    /* rows in each layer's direction */
	const float *weights;     // [n_layers] w
	const float *norms;       // [n_layers] L2 norm over all rows of the layer's direction
	const uint32_t *observed; // [n_observed] layers that the gate reads, ascending
	uint32_t n_observed;
	enum tt_gate_pool gate_pool; /* which of their states */
	float alpha;
	bool has_threshold; /* the gate opens at a threshold: above it, or below */
	bool opens_below;
	bool learns_layers; /* the gate has a part in each layer's weight */
	float threshold;
	uint32_t n_units; /* hidden units of the gate; 0 if it has none */
	/* Of a gate that joins conditions by a rule, which is empty for other gates. A decision's gate is the sum of
	 * 2^k over the conditions k that held. */
	const char *rule;
	uint32_t n_conditions;
	const char *conditions[TT_MAX_CONDITIONS]; // [n_conditions] their names
	float condition_thresholds[TT_MAX_CONDITIONS];
	bool condition_below[TT_MAX_CONDITIONS];  /* whether it holds below the threshold */
	const char *fingerprint, *weights_digest; /* of the model it was fitted on */
	const char *fitted_on;                    /* JSON: [{"file", "sha256", "rows"}], or "" */
	const char *created, *version;            /* when, in ISO 8601, and by which version of trimtab */
};

/* Loads a safetensors file as docs/formats.md describes it, or a GGUF control vector. Anything unknown, missing, out of
 * range or non-finite is refused with a message that names the field. A control vector names no model: the first engine
 * that it is added to makes it a policy of its model. */
TT_API int tt_policy_load(struct tt_policy **out, const char *path, struct tt_error *err);
TT_API int tt_policy_save(const struct tt_policy *policy, const char *path, struct tt_error *err);
/* Writes a GGUF control vector, for llama.cpp and others. TT_ERR_UNSUPPORTED for what such a file cannot say: a gate,
 * an operation other than add, a when other than all, layer 0. */
TT_API int tt_policy_export(const struct tt_policy *policy, const char *path, struct tt_error *err);
/* Steers no other layers than these of the policy's ("9-14", "8,9"), by a weight of 0. Call it before the policy is
 * added to an engine. TT_ERR_ARGUMENT if no layer is left. */
TT_API int tt_policy_keep_layers(struct tt_policy *policy, const char *layers, struct tt_error *err);
/* Must have been removed from every engine that is still open. */
TT_API void tt_policy_free(struct tt_policy *policy);
/* Fills *info; its pointers are borrowed from the policy. */
TT_API void tt_policy_describe(const struct tt_policy *policy, struct tt_policy_info *info);
/* The word of files, options and reports: "generation", "last", "all" or "policy". */
TT_API const char *tt_when_word(enum tt_policy_when when);

/* Makes a policy available to requests. TT_ERR_MISMATCH if it does not fit the model (architecture, dimensions,
 * vocabulary; with strict_model the weights too). *warning (may be NULL) is set to NULL or, if the policy was fitted on
 * other weights of the same architecture or under another chat template, to a line that says so, which is the engine's
 * until the policy is removed. The engine makes a copy for its device, but the policy itself must stay until
 * tt_engine_remove_policy or tt_engine_close. Adding it twice is no error. The first policy whose gate reads a mean
 * takes 16 * d bytes for each 16 positions of kv_tokens, until the engine is closed. */
TT_API int tt_engine_add_policy(
	struct tt_engine *engine, struct tt_policy *policy, const char **warning, struct tt_error *err);
/* Requests that were submitted before go on with the engine's copy; later requests cannot name the policy. */
TT_API int tt_engine_remove_policy(struct tt_engine *engine, struct tt_policy *policy, struct tt_error *err);

/* The kill switch, from any thread: no step that is launched after it returns is steered (it waits for a launch under
 * way). Requests that run then go on unsteered to their end, even after tt_engine_resume_steering, and their decisions
 * say so. Requests submitted after tt_engine_resume_steering are steered again. */
TT_API void tt_engine_kill_steering(struct tt_engine *engine);
TT_API void tt_engine_resume_steering(struct tt_engine *engine);
/* The same of policies[n] that were added: requests that name one at another scale than 0, whether they run or wait, go
 * on to their end without any steering; so do requests that name it so later, until killed is false again. */
TT_API void tt_engine_kill_policies(struct tt_engine *engine, struct tt_policy *const *policies, size_t n, bool killed);

/* ---- Requests ---- */

struct tt_steering {
	struct tt_policy *policy; /* must have been added to the engine */
	float scale;              /* of the coefficient; 0 steers nothing, bit for bit */
};

/* What steered one token. Its pointers are valid until the callback returns. */
struct tt_telemetry {
	size_t position; /* counted over ids and then the generated tokens */
	int32_t token;
	uint32_t n_steering;                 /* policies of the request */
	const struct tt_decision *decisions; // [n_steering]
	const float *coef;                   // [n_steering][L] the coefficients that acted on this token; 0: none did
	const float *norms; // [L][2] of h before and after steering; 0 if no coefficient is other than 0
};

/* Callbacks of a request. telemetry is called for each token that ran, once and in order (not for the last generated
 * one, which never runs). notify is called when there are new tokens, and when the request has finished.
 *
 * They run on the thread that steps; a notify that the request was cancelled runs on the thread that cancels. They may
 * submit, cancel and read requests and use the kill switch. They must not wait for another thread or for a request
 * (functions of the engine that would wait return TT_ERR_ARGUMENT), must not step, and must not free the request. */
typedef void (*tt_telemetry_fn)(void *user, struct tt_request *request, const struct tt_telemetry *telemetry);
typedef void (*tt_notify_fn)(void *user, struct tt_request *request);

/* n samples of one prompt are n requests with n seeds: they share the prompt's pages, which are computed once. */
struct tt_request_options {
	size_t size;        /* of the struct */
	const int32_t *ids; // [n_ids] the prompt, copied
	size_t n_ids;
	size_t n_prompt; /* ids from here on count as generated tokens, given instead of sampled; 0: all are prompt */
	/* Gates that read a mean take it over ids[mean_from, mean_to), which are part of the prompt: those of the last
	 * user message, as tt_text_encode_chat_span finds them. Both 0: all of the prompt but its first token. */
	size_t mean_from, mean_to;
	/* At most so many are generated. 0: only run the ids, and where nothing but gates and hidden states is read of
	 * them, no layer after the last of these; then their KV pages serve requests that end at the same layer. */
	uint32_t max_tokens;
	bool ignore_eos; /* do not stop at the model's end tokens */

	const int32_t *stop_ids; // [n_stop_ids] more end tokens, copied
	size_t n_stop_ids;       /* at most TT_MAX_STOPS */
	/* [n_stop] stop strings, copied: the request ends when its text contains one, and the text handed out ends
	 * before it. At most TT_MAX_STOPS, each of at most TT_MAX_STOP_BYTES. */
	const char *const *stop;
	size_t n_stop;
	double timeout; /* seconds after which the request ends with TT_FINISH_DEADLINE; 0: none */
	struct tt_sampling sampling;
	uint32_t n_top; /* alternatives to report for every generated token, at most TT_MAX_TOP */

	struct tt_steering steering[TT_MAX_STACK]; // [n_steering]
	uint32_t n_steering;
	enum tt_policy_when when; /* which tokens all its policies steer; TT_WHEN_POLICY: as each policy says */

	/* Reports, which the functions below return. */
	bool score;         /* the log-probability of every id after the first ... */
	size_t score_from;  /* ... from this index on; 0 before it, where pages of other requests may be shared */
	uint32_t score_top; /* alternatives to report for each of these ids, at most TT_MAX_TOP */
	bool trace; /* the norms of h before and after steering, by token and layer; 0 if no policy acts on the token */
	bool keep_logits;            /* the logits of every position of ids ... */
	size_t logits_from;          /* ... from this index on; pages before it may be shared, as with score_from */
	size_t keep_from;            /* the hidden states of ids from this index on ... */
	const uint64_t *keep_layers; /* ... of the layers whose bit is set, [(L + 63) / 64], copied; NULL: none */
	tt_telemetry_fn telemetry;   /* or NULL */
	tt_notify_fn notify;         /* or NULL */
	void *user;                  /* passed to both */
	/* Make tokens that the sequence has already less likely, before temperature and cuts; log-probabilities are the
	 * model's own. On a CPU alone: elsewhere TT_ERR_UNSUPPORTED. */
	float repetition_penalty; /* above 0, at most 100; 1: off. Of all ids: x / p, or x * p for a logit below 0 */
	float presence_penalty, frequency_penalty; /* -2 to 2, 0: off. x - c * frequency - presence, c > 0 times that
						    * the id was generated */
};
TT_API void tt_request_options_default_sized(struct tt_request_options *options, size_t size);
#define tt_request_options_default(options)                                                                            \
	tt_request_options_default_sized((options), sizeof(struct tt_request_options))

/* Checks everything that can be checked, and queues the request. *out must be freed before the engine is closed. */
TT_API int tt_request_submit(struct tt_request **out, struct tt_engine *engine,
	const struct tt_request_options *options, struct tt_error *err);
/* Ends the request with TT_FINISH_CANCELLED, unless it has finished; what was generated stays readable. */
TT_API void tt_request_cancel(struct tt_request *request);
/* Cancels the request if it has not finished, and frees it. */
TT_API void tt_request_free(struct tt_request *request);

/* Runs one step: admits waiting requests, runs one forward pass over a batch of them, and samples. On a device that
 * takes two steps at a time, the results of a step come with the next call. An error is the engine's: no request made
 * progress, and all that were running start again. */
TT_API int tt_engine_step(struct tt_engine *engine, struct tt_error *err);
/* The number of requests that have not finished. */
TT_API size_t tt_engine_pending(const struct tt_engine *engine);
/* Steps until the request has finished; others in flight advance too. */
TT_API int tt_request_wait(struct tt_request *request, struct tt_error *err);
/* Steps until a request has finished, and returns each finished request once, in the order in which they finish; the
 * caller frees it. *out is NULL if none is pending, or after timeout seconds (finite; negative: no limit). Requests
 * that tt_fit, tt_eval, tt_batch and tt_capture submit on other threads are not returned. */
TT_API int tt_engine_next(struct tt_engine *engine, struct tt_request **out, double timeout, struct tt_error *err);

/* Gives the engine a thread of its own, which steps whenever there is something to run. From then on every function of
 * the engine, its requests and its policies may be called from any thread; tt_request_wait and tt_engine_next wait
 * instead of stepping; tt_engine_step is refused; several tt_fit, tt_eval and tt_batch may run at once. If a step
 * fails, the requests in flight end with TT_FINISH_FAILED. */
TT_API int tt_engine_start(struct tt_engine *engine, struct tt_error *err);
/* Ends the thread after the present step. Requests that have not finished stay, and tt_engine_step may go on with them;
 * calls on other threads that wait for them step by themselves. If a step has failed since tt_engine_start, its error
 * is returned. */
TT_API int tt_engine_stop(struct tt_engine *engine, struct tt_error *err);

/* Why the request ended; TT_RUNNING if it has not, TT_FINISH_FAILED for NULL. */
TT_API enum tt_finish tt_request_finish(const struct tt_request *request);

struct tt_token {
	int32_t id;
	float logprob;    /* under the model's own distribution, at temperature 1 */
	const char *text; /* the whole code points that this token completed; valid until the next tt_request_next */
	size_t n_text;    /* bytes of text */
	uint32_t n_top;
	const int32_t *top_ids;    // [n_top] the likeliest tokens, likeliest first
	const float *top_logprobs; // [n_top]
};
/* Hands out the next generated token that was not handed out yet, and returns true; false if there is none so far. An
 * end token is handed out too, without text. Text that may be the beginning of a stop string comes with a later
 * token. */
TT_API bool tt_request_next(struct tt_request *request, struct tt_token *token);

/* All tokens generated so far, borrowed. */
TT_API size_t tt_request_n_generated(const struct tt_request *request);
TT_API const int32_t *tt_request_generated(const struct tt_request *request); // [n_generated]

/* What a policy's gate decided, and what came of it. */
struct tt_decision {
	float s, gate;     /* the scalar s; and what it was made from: a probe's probability, an mlp's output, a sum of
	                    * 2^k over the conditions k of a rule that held */
	const float *coef; // [L] borrowed; zeros if the kill switch came before the policy could act
	enum tt_policy_when when;
	bool killed;        /* the kill switch came, so from some token on (perhaps the first) nothing steered */
	size_t killed_from; /* position of that token, over ids and then generated ones; SIZE_MAX: it did not come */
	const float *w;     // [L] borrowed: the layer weights
};
/* index: into the request's steering list. Returns false until the gate has run. */
TT_API bool tt_request_decision(const struct tt_request *request, uint32_t index, struct tt_decision *decision);

/* The coefficients [L] with which a policy (by index) acted on the token at a position that has run, or NULL if it did
 * not act there; borrowed. */
TT_API const float *tt_request_coefficients(const struct tt_request *request, uint32_t index, size_t position);

/* Reports, borrowed; NULL if they were not asked for. Positions count ids and then the generated tokens that were fed.
 * The values depend on the request alone, and on when the kill switch came: the norms of a position are 0, 0 if
 * tt_request_coefficients is NULL there for all policies. */
TT_API const float *tt_request_scores(const struct tt_request *request); // [n_ids]; [0] is 0
/* The likeliest ids in the place of ids[index], likeliest first, as many as score_top says; returns how many, which is
 * 0 where ids[index] is not scored. The log-probability of an id is the same float here, in tt_request_scores and,
 * where it was generated, in struct tt_token. */
TT_API uint32_t tt_request_score_top(
	const struct tt_request *request, size_t index, const int32_t **ids, const float **logprobs);
TT_API const float *tt_request_norms(const struct tt_request *request, size_t *n_positions); // [n_positions][L][2]
TT_API const float *tt_request_logits(const struct tt_request *request);                 // [n_ids - logits_from][vocab]
TT_API const float *tt_request_hidden(const struct tt_request *request, uint32_t layer); // [n_ids - keep_from][d]

/* Zero-initialise for the defaults, but for size. */
struct tt_capture_options {
	size_t size;        /* of the struct */
	const int32_t *ids; // [n_ids]
	size_t n_ids;
	size_t mean_from, mean_to; /* as in struct tt_request_options */
	bool mean;                 /* write the mean of h[l] over these ids, too */
	uint32_t n_steering;
	const struct tt_steering *steering; // [n_steering]
};

/* Runs ids and writes a safetensors file with ids, logits, hidden.<l> of every layer l (with mean, mean.<l> too), and
 * coef, as docs/formats.md says. TT_ERR_ARGUMENT if path is a file of the model or of an added policy, which tt_eval
 * and tt_batch refuse too. */
TT_API int tt_capture(
	struct tt_engine *engine, const struct tt_capture_options *options, const char *path, struct tt_error *err);

enum tt_capture_positions {
	TT_CAPTURE_LAST,     /* the prompt's last token; responses are not run */
	TT_CAPTURE_ALL,      /* every token of the prompt, and of the response where there is one */
	TT_CAPTURE_RESPONSE, /* every token of the response, which each row must have */
};

/* Zero-initialise for the defaults, but for size. */
struct tt_capture_data_options {
	size_t size;        /* of the struct */
	const char *data;   /* JSON lines with a prompt or messages, and perhaps id and response (docs/formats.md) */
	const char *layers; /* of which h is kept: "8-14", "3,5,9-11"; NULL: all */
	enum tt_capture_positions positions;       /* at which it is kept */
	bool logits;                               /* and the logits there */
	const char *system;                        /* system message for prompts; NULL: the template's own */
	bool raw;                                  /* a prompt is the text itself, without a chat template */
	struct tt_steering steering[TT_MAX_STACK]; // [n_steering]
	uint32_t n_steering;
	bool restart;            /* throw away what another run captured to path, and nothing else */
	tt_progress_fn progress; /* or NULL; stage "rows" counts rows. Those that are done stay if it stops the run */
	void (*note)(void *user, const char *line); /* says from where a run goes on; or NULL */
	void *user;                                 /* passed to both */
};

struct tt_capture_data_report {
	uint64_t n_rows, n_kept;    /* rows of the data, and positions that are kept of all of them */
	uint64_t n_done, n_earlier; /* rows that are captured now, and that earlier runs had captured */
	uint64_t n_tokens,
		n_shared; /* tokens that this run ran, and that it did not since another row's pages held them */
	uint64_t n_bytes; /* of the file */
	double seconds;   /* of this run */
};

/* Runs every row of a file and writes what was asked for to one safetensors file, as docs/formats.md says, with memory
 * that does not grow with the number of rows. Until the file is complete it is PATH.partial, with PATH.journal beside
 * it; if the run is killed and called again with the same options, it goes on, and PATH becomes the same bytes. report
 * may be NULL. Errors:
 *   TT_ERR_ARGUMENT  a file that is read would be written
 *   TT_ERR_FORMAT    a row that cannot be run, with its line; nothing was run yet
 *   TT_ERR_MISMATCH  data, model, policies or options are not those of the rows that are there
 *   TT_ERR_IO        a file cannot be written; call again when it can
 *   TT_ERR_LIMIT     progress asked to stop */
TT_API int tt_capture_data(struct tt_engine *engine, const struct tt_capture_data_options *options, const char *path,
	struct tt_capture_data_report *report, struct tt_error *err);

/* ---- Fit and eval ---- */

struct tt_fit_options {
	size_t size;             /* of the struct */
	const char *const *data; // [n_data] JSON-lines files: id, prompt, label, optional split
	size_t n_data;
	/* The labels of data's rows to steer and of those to leave alone; NULL: "harmful", "benign". */
	const char *positive_label, *negative_label;
	const char *contrast; /* TT_FIT_STYLE: file of responses (docs/formats.md). No data is needed then */
	const char *name;     /* of the policy; NULL: "policy" */
	/* Default TT_FIT_CONTRAST. TT_FIT_PAPER and TT_FIT_RELEASED make the controller of arXiv 2505.20309, as the
	 * paper describes it and as its authors' code does (docs/cli.md). Their layers, strength and tokens are fixed:
	 * of the members below they read n_gate_prompts, what is about the judge, seed and progress. */
	enum tt_fit_mode mode;
	enum tt_policy_op op; /* along the directions; not affine. Default TT_OP_ADD. docs/cli.md has what each does */
	uint32_t rank;        /* of the map of TT_FIT_AFFINE, at most 64. Default 4 */
	uint32_t n_direction_prompts; /* prompts of each label from which the directions are made. Default 24 */
	uint32_t n_gate_prompts;      /* at most so many prompts of each label train the gate. Default 8000 */
	uint32_t n_judge_prompts;     /* validation prompts of each label by which candidates are judged. Default 32 */
	uint32_t judge_tokens;        /* tokens generated for each of these. Default 24 */
	uint32_t max_candidates;      /* combinations of site, direction and strength that are tried. Default 28 */
	/* Default TT_WEIGHTS_SITE: the same weight in each layer of the best site. From there on TT_WEIGHTS_SEARCH
	 * searches a weight for each layer, which takes as long again, and TT_WEIGHTS_PROMPT trains a network that
	 * gives them by the prompt. */
	enum tt_fit_layer_weights layer_weights;
	float max_false_positives;      /* the share of benign prompts that the gate may flag, held out. Default 0.05 */
	float max_borderline_positives; /* the same of borderline prompts. Default 0.1 */
	enum tt_gate_pool pool;         /* what the gate reads: h at the last token, its mean, or (default) both */
	/* Of TT_FIT_CAST (published with TT_POOL_MEAN): conditions joined by and, or, not and brackets. A name is a
	 * label, source or kind, and its condition finds the rows that have it. Default NULL: harmful. */
	const char *rule;
	bool linear_gate;             /* without the network beside the linear term */
	enum tt_fit_gate_choice gate; /* Default TT_FIT_GATE_OF_MODE; of TT_FIT_STYLE that is none */
	/* What the unsteered model's loss on a steered text may be, over that on its own. 0, the default: 1.3 over
	 * refusals, 1.6 over all completions, 2 for TT_FIT_STYLE */
	float max_loss_ratio;
	enum tt_policy_when when; /* which tokens are steered. Default TT_WHEN_ALL */
	/* A policy file whose detector is trained again, or NULL. data are then reviewed files, whose rows have
	 * verdicts (docs/formats.md), and replay is what it must not forget: files that it was fitted on, of which
	 * n_gate_prompts of each label train it too. What the gate reads, and all else of the policy, stays: of the
	 * other members, those of its network, bounds, labels, activations, name and seed are read. */
	const char *continued;
	const char *const *replay; // [n_replay]
	size_t n_replay;
	/* A file that keeps what a gate reads, so that a later fit runs only new rows; or NULL. */
	const char *activations;
	/* A folder, new or empty, for the push of every candidate as a policy of its own whose gate is open, so that an
	 * evaluation can compare them on other prompts; the report names them. Or NULL. */
	const char *candidates;
	uint64_t seed;           /* of the shuffling of rows */
	tt_progress_fn progress; /* or NULL */
	void *user;              /* passed to progress */
};
TT_API void tt_fit_options_default_sized(struct tt_fit_options *options, size_t size);
#define tt_fit_options_default(options) tt_fit_options_default_sized((options), sizeof(struct tt_fit_options))

/* Fits a policy for the engine's model: directions, a gate and the layers to steer. *report (report may be NULL) gets
 * JSON (tt_free): every candidate with its figures, those of the gate, what was chosen and why. If no
 * candidate met the bars, the best of them is made, and the report's within_bars is false.
 *
 * The file of activations is made if it is not there, and locked until the gate is trained; one that was stopped goes
 * on, and the policy is the same whatever the file holds. TT_ERR_MISMATCH if it is of another model, device, mode or KV
 * type; TT_ERR_FORMAT if it is another kind of file, or damaged; TT_ERR_IO if another fit uses it. Then it stays as it
 * is. TT_ERR_ARGUMENT if it is one of the data, or of the model's or an added policy's files.
 *
 * A policy that is continued must be of this model and its weights, TT_ERR_MISMATCH, and have a detector with fixed
 * layer weights as its gate, TT_ERR_UNSUPPORTED. The report has the errors before and after. */
TT_API int tt_fit(struct tt_policy **out, struct tt_engine *engine, const struct tt_fit_options *options, char **report,
	struct tt_error *err);

/* A way of steering that an evaluation compares with others. */
struct tt_eval_arm {
	const char *name; /* in the report and the completions; at most TT_MAX_ARM_NAME bytes, and not "unsteered" */
	struct tt_steering steering[TT_MAX_STACK]; // [n_steering]
	uint32_t n_steering;
};

struct tt_eval_options {
	size_t size;             /* of the struct */
	const char *const *data; // [n_data] files as for tt_fit
	size_t n_data;
	const char *split;   /* only rows of this split; NULL: all */
	uint32_t limit;      /* at most so many rows of each label and file; 0: all */
	uint32_t max_tokens; /* generated for each row; 0: only the gates run, once a row and arm. Default 32 */
	/* Names of variants of the rows (docs/cli.md) with commas between them, or "all": each is evaluated as the rows
	 * are, and has figures of its own. NULL: none */
	const char *variants;
	/* The same for every side. Default greedy; the seed is mixed with the row's line, as by tt_batch. */
	struct tt_sampling sampling;
	struct tt_steering steering[TT_MAX_STACK]; // [n_steering]
	uint32_t n_steering;
	/* Instead of steering: ways of steering that are compared, each on the same rows, beside one unsteered run. */
	const struct tt_eval_arm *arms; // [n_arms] at most TT_MAX_ARMS
	size_t n_arms;
	/* What it costs that the gate flags a prompt that is not harmful, and that it does not flag a harmful one: the
	 * report then has costs by threshold. 0: it has none */
	float price_false_refusal, price_miss;
	enum tt_policy_when when; /* as in struct tt_request_options */
	const char *completions;  /* file to write every completion to, as JSON lines, or NULL; no file that is read */
	/* Refusals by another model: a file to write a batch's requests to, one for each completion; and, in a later
	 * run of the same evaluation, the answers of that batch. Or NULL. */
	const char *judge_requests, *judgements;
	/* A file to write the rows to that a person should look at, or NULL: those that came out wrong and those next
	 * to the threshold of the one policy's gate, n_review_rows at most (default 100). When their verdicts are
	 * filled in, tt_fit learns from them (continued). */
	const char *review;
	uint32_t n_review_rows;
	tt_progress_fn progress;                     /* or NULL */
	void *user;                                  /* passed to progress */
	const char *positive_label, *negative_label; /* as for tt_fit */
};
TT_API void tt_eval_options_default_sized(struct tt_eval_options *options, size_t size);
#define tt_eval_options_default(options) tt_eval_options_default_sized((options), sizeof(struct tt_eval_options))

/* Completes every row unsteered and steered, or under each of the arms, and measures the difference. *report gets JSON
 * (tt_free) as docs/cli.md describes it. The speed in it is the engine's, with other requests that ran meanwhile. */
TT_API int tt_eval(
	struct tt_engine *engine, const struct tt_eval_options *options, char **report, struct tt_error *err);

struct tt_attack_options {
	size_t size;             /* of the struct */
	const char *const *data; // [n_data] labelled prompts, as for tt_eval, of which ...
	size_t n_data;
	const char *split;        /* ... only this split (NULL: all), ... */
	uint32_t limit;           /* ... and at most so many of each label and file (0: all) are attacked */
	struct tt_policy *policy; /* whose gate; must have been added to the engine */
	uint32_t n_words;         /* in a suffix at most. Default 8, at most 32 */
	uint32_t budget;          /* evaluations of the gate for each prompt. Default 128 */
	uint64_t seed;
	const char *out;         /* file to write the rows with suffixes to, which tt_fit reads; or NULL */
	tt_progress_fn progress; /* or NULL */
	void *user;              /* passed to progress */
	const char *positive_label, *negative_label; /* as for tt_fit */
};
TT_API void tt_attack_options_default_sized(struct tt_attack_options *options, size_t size);
#define tt_attack_options_default(options) tt_attack_options_default_sized((options), sizeof(struct tt_attack_options))

/* Searches everyday words to put behind each harmful prompt that the policy's gate flags, until it does not, knowing
 * nothing but the figure that the gate gives; then puts what was found behind the prompts that are not harmful. *report
 * gets JSON (tt_free) as docs/cli.md describes it. The same options give the same result. TT_ERR_UNSUPPORTED for a
 * policy whose gate gives no one figure. */
TT_API int tt_attack(
	struct tt_engine *engine, const struct tt_attack_options *options, char **report, struct tt_error *err);

struct tt_score_options {
	size_t size;            /* of the struct */
	const char *choices;    /* questions with choices (docs/formats.md); or NULL, and then ... */
	const char *perplexity; /* ... a text, of which each token is scored */
	bool letters, chat;     /* of questions: "A. ..", "B. .." and the letter as choice; as a user message */
	bool no_bos;            /* nothing is put in front of a text, even if the tokenizer does that itself */
	bool no_special;        /* text that spells a special token stays text */
	uint32_t limit;         /* the first so many questions, or windows; 0: all */
	/* Of a text: tokens of a window, what the tokenizer puts in front included (0: the engine's context, at most
	 * 2048), and from where one begins to where the next does (0: half of it). */
	uint32_t window, stride;
	struct tt_steering steering[TT_MAX_STACK]; // [n_steering] 0: only the model alone is measured
	uint32_t n_steering;
	enum tt_policy_when when; /* as in struct tt_request_options. */
	const char *rows; /* file to write a line to for each question or window, or NULL; no file that is read */
	tt_progress_fn progress; /* or NULL */
	void *user;              /* passed to progress */
};
TT_API void tt_score_options_default_sized(struct tt_score_options *options, size_t size);
#define tt_score_options_default(options) tt_score_options_default_sized((options), sizeof(struct tt_score_options))

/* Measures the log-probabilities of given text, unsteered and steered: *report gets JSON (tt_free) as docs/cli.md
 * describes it. What is scored counts as generated after the text before it: gates read that text, and policies steer
 * from where they say. */
TT_API int tt_score(
	struct tt_engine *engine, const struct tt_score_options *options, char **report, struct tt_error *err);

/* Zero-initialise for the defaults, but for size. */
struct tt_stack_options {
	size_t size;                               /* of the struct */
	struct tt_steering steering[TT_MAX_STACK]; // [n_steering] at least two
	uint32_t n_steering;
	const float *scales; // [n_scales] that each policy's scale is multiplied by, in every combination. Default 0, 1
	size_t n_scales;
	const char *const *data; // [n_data] labelled prompts, as for tt_eval, of which ...
	size_t n_data;
	const char *split;                  /* ... only this split (NULL: all), ... */
	uint32_t limit;                     /* ... and at most so many of each label and file (0: all) are completed */
	const char *contrast[TT_MAX_STACK]; // [n_contrast] contrast files, whose effect is measured
	size_t n_contrast;
	const char *choices;     /* questions with choices (docs/formats.md), or NULL; the first `limit` of them */
	uint32_t max_tokens;     /* generated for each prompt. Default 32 */
	tt_progress_fn progress; /* or NULL */
	void *user;              /* passed to progress */
	const char *positive_label, *negative_label; /* as for tt_fit */
};

/* Measures policies on one request, alone and together: *report gets JSON (tt_free) as docs/cli.md describes it. Where
 * both of two act, the cosines of their directions; and of each combination of scales what it refuses, changes and
 * repeats, its loss, its effects and its accuracy, and whether it is Pareto-optimal. */
TT_API int tt_stack(
	struct tt_engine *engine, const struct tt_stack_options *options, char **report, struct tt_error *err);

/* Describes a model, policy or safetensors file: *report gets JSON (tt_free). With model_path (may be NULL) it also
 * says whether a policy fits that model, and how it would act on it. */
TT_API int tt_inspect(const char *path, const char *model_path, char **report, struct tt_error *err);

/* ---- Batches: a file of requests to a file of answers, over any number of runs */

struct tt_batch_policy {
	const char *name; /* by which rows and the sweep name it: letters, digits, '.', '_' and '-' */
	const char *path; /* of the policy file */
};

struct tt_batch_options {
	size_t size;           /* of the struct */
	const char *input;     /* JSON lines: OpenAI's batch format, or id and prompt (docs/formats.md) */
	const char *output;    /* file with a line for every request, in the order of the input; also OUTPUT.journal */
	const char *telemetry; /* file with a line for every token, or NULL */
	const struct tt_batch_policy *policies; // [n_policies]
	size_t n_policies;
	const char *sweep; /* "NAME,..@SCALE,..": every row under each policy at each scale; NULL: as the row says */
	bool restart;      /* throw away what an earlier run wrote to these files, and nothing else */

	uint32_t max_tokens; /* for rows that do not say. Default 256 */
	float temperature;   /* for rows of id and prompt; OpenAI's rows have OpenAI's default, 1. Default 0 */
	uint64_t seed;       /* for rows that do not say, mixed with the row's own bytes. Default 0 */
	const char *system;  /* system message for rows of id and prompt; NULL: the template's own */
	bool raw;            /* the prompt of such rows is the text itself, without a chat template */
	uint32_t max_batch;  /* the max_batch with which the engine was opened. Default 32 */

	tt_progress_fn progress; /* or NULL; stage "rows" counts rows. Rows that are done stay if it stops the run */
	void (*note)(void *user, const char *line); /* gets warnings, and from where a run goes on; or NULL */
	void *user;                                 /* passed to both */
	const char *layers; /* the layers that all policies keep, as tt_policy_keep_layers; NULL: their own */
	/* Several processes may share a job, each of which answers every n_shards-th 256 lines: shard is its number,
	 * from 0. They write to OUTPUT.parts, of which tt_batch_merge makes the output. 0: no shards */
	uint32_t shard, n_shards;
	bool telemetry_dense; /* telemetry's lines list every layer and w, not only the layers that were steered */
};
TT_API void tt_batch_options_default_sized(struct tt_batch_options *options, size_t size);
#define tt_batch_options_default(options) tt_batch_options_default_sized((options), sizeof(struct tt_batch_options))

struct tt_batch_report {
	uint64_t n_rows, n_errors; /* lines of the whole output, or rows of a shard, and lines that are errors (of a
				    * shard, among those of this run) */
	uint64_t n_earlier;        /* rows that earlier runs had written */
	uint64_t n_prompt_tokens, n_generated_tokens; /* of this run */
	double seconds;                               /* of this run */
};

/* Checks the options as far as that is possible without a model. */
TT_API int tt_batch_check(const struct tt_batch_options *options, struct tt_error *err);

/* Answers every row. If it is killed at any moment and called again with the same options, it goes on, and the files
 * become the same, byte for byte, as those of a run that was never stopped. A row that cannot be answered gets a line
 * that says why. report may be NULL. Errors:
 *   TT_ERR_ARGUMENT  a file that is read would be written, or one file would be written in two roles
 *   TT_ERR_MISMATCH  input, model, policies or options are not the earlier run's, or a file is not that run's
 *   TT_ERR_FORMAT    the journal is damaged
 *   TT_ERR_IO        a file cannot be written; call again when it can
 *   TT_ERR_LIMIT     progress asked to stop */
TT_API int tt_batch(struct tt_engine *engine, const struct tt_batch_options *options, struct tt_batch_report *report,
	struct tt_error *err);

/* Makes the output of what shards have written, and removes that: the same bytes as those of a job that one process
 * answered, with its journal. Options as for the shards, whose numbers do not matter; the model, policies and all else
 * are what the shards said, which was the same. report may be NULL. Errors as those of tt_batch; TT_ERR_MISMATCH too
 * where rows are missing. */
TT_API int tt_batch_merge(const struct tt_batch_options *options, struct tt_batch_report *report, struct tt_error *err);
/* Calls missing for each range of rows that no shard has written yet, counted from 0 over the whole job; unit u, of 256
 * lines, is for shard u % n_shards. A value that is not 0 stops it (TT_ERR_LIMIT). */
typedef int (*tt_batch_missing_fn)(void *user, uint64_t unit, uint64_t first_row, uint64_t n_rows);
TT_API int tt_batch_missing(
	const struct tt_batch_options *options, tt_batch_missing_fn missing, void *user, struct tt_error *err);

#ifdef __cplusplus
}
#endif

#endif
