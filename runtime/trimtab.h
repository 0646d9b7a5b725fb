/* trimtab: run a frozen language model and steer it. The public C API; the command-line program runs on it alone.
 *
 * An engine is a loaded model with its KV pages. A request is one sequence: a prompt, what to generate, which policies
 * steer it and what to report. Requests are batched: submit any number, then call tt_engine_step until they are done.
 * A policy is a small controller: directions to add to the residual stream, layer weights, and a gate that reads the
 * stream at the last prompt token and decides. An engine and everything made from it belong to one thread at a time,
 * unless tt_engine_start gave the model a thread of its own.
 *
 * Notation, as in docs/design.md: L blocks of width d; h[l] the residual stream after block l (0-based, before the
 * final norm); the coefficient of layer l is c[l] = scale * alpha * s * w[l].
 *
 * Every function that can fail returns 0 or a negative enum tt_status and fills err (which may be NULL). A NULL that
 * has no meaning is refused by name (TT_ERR_ARGUMENT); functions that return no status answer it with nothing: 0, false
 * or NULL. Functions that free, close or cancel take NULL. Options structs are initialised by their _default function,
 * so that new fields have defaults. */
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

enum {
	TT_MAX_STACK = 4,        /* policies on one request */
	TT_MAX_STOPS = 16,       /* stop strings, and stop ids, of one request */
	TT_MAX_STOP_BYTES = 256, /* of one stop string */
};

struct tt_text;    /* a tokenizer and a chat template */
struct tt_engine;  /* a loaded model */
struct tt_policy;  /* a steering policy, independent of any engine until it is added to one */
struct tt_request; /* one sequence in flight, or finished */

/* Long work reports through this: done of total units of the named stage. Return non-zero to stop with TT_ERR_LIMIT. */
typedef int (*tt_progress_fn)(void *user, const char *stage, uint64_t done, uint64_t total);

/* Releases memory that a function of this header handed out (strings, id lists). */
void tt_free(void *memory);

/* The path of the model or policy file whose mapping address lies in, or NULL; borrowed, at most 255 bytes. Models are mapped, not
 * read: where one becomes shorter while it is open, or its disk fails, the kernel raises SIGBUS at the next use of what is
 * gone. The library installs no handler; one of the caller's may ask here which file it was (it is safe in a handler) and
 * must not return. */
const char *tt_mapped_file(const void *address);

/* ---- Text ---- */

enum tt_text_flags {
	TT_TEXT_SPECIAL = 1, /* text that spells a special token becomes that token */
	TT_TEXT_BOS = 2,     /* put in front what the tokenizer itself puts there (none, or bos) */
};

/* path: a GGUF file (vocabulary alone is enough), a Hugging Face directory, or a .jinja file (a template without a
 * tokenizer). Errors: TT_ERR_IO, TT_ERR_FORMAT, TT_ERR_UNSUPPORTED naming what is not supported. */
int tt_text_open(struct tt_text **out, const char *path, struct tt_error *err);
void tt_text_close(struct tt_text *text);
bool tt_text_has_tokenizer(const struct tt_text *text);
bool tt_text_has_template(const struct tt_text *text);

/* Token ids of n bytes of UTF-8: a new list in *ids (tt_free). TT_ERR_FORMAT for invalid UTF-8. */
int tt_text_encode(const struct tt_text *text, const char *string, size_t n, unsigned flags, int32_t **ids,
	size_t *n_ids, struct tt_error *err);

struct tt_chat_options {
	bool no_generation_prompt;
	const char *bos, *eos; /* override the model's; NULL keeps them */
	int64_t now;           /* Unix time that the template sees as the date; 0 for the present */
};

/* Renders messages, a JSON array of {"role": ..., "content": ...}, or an object that holds such "messages" and perhaps
 * "tools" and "documents", into *prompt (tt_free). options may be NULL. */
int tt_text_render(const struct tt_text *text, const char *messages_json, const struct tt_chat_options *options,
	char **prompt, struct tt_error *err);

/* Renders and encodes. The template's own markers become special tokens; the same characters inside a message's
 * content never do. */
int tt_text_encode_chat(const struct tt_text *text, const char *messages_json, const struct tt_chat_options *options,
	int32_t **ids, size_t *n_ids, struct tt_error *err);

/* One user message: the messages_json for the two functions above (tt_free). system may be NULL: the template's own. */
int tt_text_user_message(const char *prompt, size_t n, const char *system, char **messages_json, struct tt_error *err);

/* The bytes of one token (not terminated, perhaps part of a code point), borrowed; *n is 0 for an id out of range. */
const char *tt_text_piece(const struct tt_text *text, int32_t id, size_t *n);

/* The text of a list of ids (tt_free): special tokens left out, invalid bytes as U+FFFD. */
int tt_text_decode(const struct tt_text *text, const int32_t *ids, size_t n_ids, char **string, struct tt_error *err);

/* ---- Engine ---- */

struct tt_engine_options {
	const char *device;       /* "cpu", "cuda", "cuda:N", or "auto" (or NULL): the first GPU, else the CPU */
	uint32_t n_threads;       /* 0: one a core */
	uint32_t max_batch;       /* requests in flight at once; the others wait their turn. Default 32 */
	uint32_t max_step_tokens; /* tokens of one step, decode and prefill together. Default 512 */
	uint32_t context;         /* longest sequence in tokens; 0: the model's own, at most 8192 */
	uint32_t kv_tokens;       /* positions that the KV pages hold in all; 0: max_batch * 512, at least context */
	bool no_prefix_sharing; /* compute every prompt in full; else pages of the same tokens under the same steering serve all */
	bool kv_f16;            /* KV in half precision: half the memory, no longer comparable bit for bit with f32 */
	bool fast; /* on CUDA: large prefill products by cuBLASLt; a request's bits may then depend on its batch mates */
	bool strict_model; /* refuse a policy fitted on other weights of the same architecture, not just warn */
};
void tt_engine_options_default(struct tt_engine_options *options);

/* model_path: a GGUF file or a Hugging Face directory. options may be NULL. */
int tt_engine_open(
	struct tt_engine **out, const char *model_path, const struct tt_engine_options *options, struct tt_error *err);
/* Every request must be freed before. */
void tt_engine_close(struct tt_engine *engine);

struct tt_model_info {
	const char *architecture, *name; /* name: file or directory name */
	const char *backend;             /* "cpu" or "cuda" */
	const char *mode;                /* "strict", or "fast" where that changes anything */
	const char *device_note;         /* why "auto" did not take a GPU; "" without such a reason */
	uint32_t n_layers, hidden_size, n_heads, n_kv_heads, head_dim, ffn_size, vocab_size;
	uint32_t context;       /* longest sequence this engine takes */
	uint32_t model_context; /* what the model was made for */
	uint32_t n_threads;
	uint64_t n_parameters, n_weight_bytes;
	size_t kv_bytes;            /* of all pages */
	const char *fingerprint;    /* architecture, dimensions, vocabulary hash */
	const char *weights_digest; /* 64 hexadecimal digits */
};
/* Borrowed until the engine is closed. */
const struct tt_model_info *tt_engine_info(const struct tt_engine *engine);
const struct tt_text *tt_engine_text(const struct tt_engine *engine);

/* Counters since the engine was opened. */
struct tt_engine_stats {
	uint64_t n_steps, n_prefill_tokens, n_decode_tokens;
	uint64_t n_reruns;      /* prompts run again for when = all or last */
	uint64_t n_shared;      /* tokens that were not computed, because pages of another request held them */
	uint64_t n_preemptions; /* requests that lost their pages to older ones and ran again */
	uint64_t n_wasted;      /* rows of a step begun before it was known that their request had ended */
	double seconds;         /* inside tt_engine_step */
	/* What was asked of the device; 0 on a CPU. A decode step is one copy in, one graph launch, one copy out, one wait. */
	uint64_t n_launches, n_graph_launches; /* kernels outside of graphs, or while one was captured; graphs */
	uint64_t n_copies_in, n_copies_out, n_waits;
	uint64_t n_drains; /* of the copies out: logits or captured rows too many to come with the other results */
	uint64_t n_bytes_in, n_bytes_out;
};
void tt_engine_stats(const struct tt_engine *engine, struct tt_engine_stats *stats);

/* ---- Policies ---- */

struct tt_policy_info {
	const char *name;
	enum tt_policy_op op;
	const char *op_word;     /* "add": of the file and of every report */
	const char *op_sentence; /* what it does to the residual stream */
	const char *op_form;     /* which form of it, "" where there is one */
	enum tt_change change;   /* how far it moves h */
	enum tt_policy_when when;
	enum tt_policy_gate gate;
	const char *gate_word, *gate_form; /* the same of the gate */
	const char *gate_sentence;         /* NULL for a gate that reads nothing */
	uint32_t n_layers, hidden_size;
	uint32_t n_directions;    /* rows a layer */
	const float *weights;     // [n_layers] w
	const float *norms;       // [n_layers] L2 norm of the layer's directions together
	const uint32_t *observed; // [n_observed] layers that the gate reads
	uint32_t n_observed;
	float alpha;
	bool has_threshold; /* the gate opens at a threshold */
	float threshold;
	uint32_t n_units;                         /* hidden units of the gate, 0 where it has none */
	const char *fingerprint, *weights_digest; /* of the model it was fitted on */
	const char *fitted_on;                    /* JSON: [{"file", "sha256", "rows"}], or "" */
	const char *created, *version;            /* ISO 8601 time; the trimtab that made it */
};

/* A safetensors file as docs/formats.md describes it. Anything unknown, missing, out of range or non-finite is refused
 * with a message that names the field. */
int tt_policy_load(struct tt_policy **out, const char *path, struct tt_error *err);
int tt_policy_save(const struct tt_policy *policy, const char *path, struct tt_error *err);
void tt_policy_free(struct tt_policy *policy);
void tt_policy_describe(const struct tt_policy *policy, struct tt_policy_info *info); /* borrowed from the policy */
/* "generation", "last", "all", or "policy": the word of files, options and reports. */
const char *tt_when_word(enum tt_policy_when when);

/* Makes a policy available to requests. TT_ERR_MISMATCH when it does not fit the model (architecture, dimensions,
 * vocabulary; with strict_model the weights too). *warning (may be NULL) gets a line, or NULL: fitted on other weights of
 * the same architecture. The line is the engine's, until the policy is removed. The engine keeps its own copy of the
 * policy; the caller's may be freed after tt_engine_remove_policy. Adding twice is no error. */
int tt_engine_add_policy(
	struct tt_engine *engine, struct tt_policy *policy, const char **warning, struct tt_error *err);
/* Requests submitted before go on under the version they were submitted with; later ones cannot name it. */
int tt_engine_remove_policy(struct tt_engine *engine, struct tt_policy *policy, struct tt_error *err);

/* The kill switch, from any thread: no step launched after it returns is steered (it waits for a launch under way).
 * A request that then runs goes on unsteered to its end, even after tt_engine_resume_steering; its decisions say so. */
void tt_engine_kill_steering(struct tt_engine *engine);
void tt_engine_resume_steering(struct tt_engine *engine);

/* ---- Requests ---- */

struct tt_steering {
	struct tt_policy *policy; /* added to the engine */
	float scale;              /* SCALE of the coefficient; 0 steers nothing, bit for bit */
};

/* What steered one token. Pointers last until the callback returns. */
struct tt_telemetry {
	size_t position; /* over ids and then the generated tokens */
	int32_t token;
	uint32_t n_steering;                 /* policies of the request */
	const struct tt_decision *decisions; // [n_steering] s, gate, w
	const float *coef;                   // [n_steering][L] what acted on this token: 0 where nothing did
	const float *norms;                  // [L][2] of h before and after; 0 where coef is 0 throughout
};

/* Callbacks run on the thread that steps, must not wait for another thread, nor free the request. telemetry: each token
 * that ran, once, in order (not the last generated one, which is never run). notify: there are new tokens, or the
 * request is finished. */
typedef void (*tt_telemetry_fn)(void *user, struct tt_request *request, const struct tt_telemetry *telemetry);
typedef void (*tt_notify_fn)(void *user, struct tt_request *request);

/* n samples of one prompt are n requests with n seeds: they share the prompt's pages, which are computed once. */
struct tt_request_options {
	const int32_t *ids; /* [n_ids], copied */
	size_t n_ids;
	size_t n_prompt;     /* ids from here on count as generated (given, not sampled); 0: all are prompt */
	uint32_t max_tokens; /* to generate at most; 0: only run the ids */
	bool ignore_eos;     /* go on behind the model's end tokens */

	const int32_t *stop_ids; // [n_stop_ids], copied: end tokens of this request
	size_t n_stop_ids;       /* at most TT_MAX_STOPS */
	const char *const
		*stop;  // [n_stop], copied: it ends where its text holds one; the text handed out ends before it
	size_t n_stop;  /* at most TT_MAX_STOPS, each of at most TT_MAX_STOP_BYTES */
	double timeout; /* seconds after which it ends with TT_FINISH_DEADLINE; 0: none */

	struct tt_sampling sampling;
	uint32_t n_top; /* alternatives to report for every generated token, at most TT_MAX_TOP */

	struct tt_steering steering[TT_MAX_STACK];
	uint32_t n_steering;
	enum tt_policy_when when; /* TT_WHEN_POLICY, or the same for all its policies */

	bool score; /* report the log-probability of every id after the first */
	bool trace; /* report norms before and after steering, by token and layer; 0 on tokens that no policy acts on */
	bool keep_logits;            /* keep the logits of every position of ids: n_ids * vocab floats */
	size_t keep_from;            /* keep hidden states of ids from this index on ... */
	const uint64_t *keep_layers; /* ... of the layers whose bit is set, [(L + 63) / 64], copied; NULL: none */

	tt_telemetry_fn telemetry; /* or NULL */
	tt_notify_fn notify;       /* or NULL */
	void *user;                /* given to both */
};
void tt_request_options_default(struct tt_request_options *options);

/* Checks everything that can be checked and queues the request. */
int tt_request_submit(struct tt_request **out, struct tt_engine *engine, const struct tt_request_options *options,
	struct tt_error *err);
/* Ends it with TT_FINISH_CANCELLED unless it is finished; what was generated stays readable. */
void tt_request_cancel(struct tt_request *request);
/* Also cancels one that is not finished. */
void tt_request_free(struct tt_request *request);

/* Runs one step: admits waiting requests, one forward pass over a batch of them, samples. On a device that takes two steps
 * at a time, the results of a step come with the call behind the one that began it. An error is the engine's: no request
 * made progress, and all that were running start again. */
int tt_engine_step(struct tt_engine *engine, struct tt_error *err);
/* Requests that are not finished. */
size_t tt_engine_pending(const struct tt_engine *engine);
/* Steps until the request is finished (others in flight advance too). */
int tt_request_wait(struct tt_request *request, struct tt_error *err);
/* Steps until some request is finished that no call gave out yet, in the order in which they finish. *out is NULL when
 * none is pending, or after timeout seconds (finite; negative: no limit). Requests of tt_fit, tt_eval, tt_batch and
 * tt_capture on other threads are not given out. */
int tt_engine_next(struct tt_engine *engine, struct tt_request **out, double timeout, struct tt_error *err);

/* Gives the model a thread of its own that steps whenever there is something to run. From then on every function of an
 * engine, its requests and its policies may be called from any thread; tt_request_wait and tt_engine_next wait
 * instead of stepping, tt_engine_step is refused; several tt_fit, tt_eval and tt_batch may run at once. A step that fails
 * ends the requests in flight with TT_FINISH_FAILED. */
int tt_engine_start(struct tt_engine *engine, struct tt_error *err);
/* Ends the thread after the step under way; requests that are not finished stay, and tt_engine_step may go on with them.
 * Calls on other threads that wait for them do so by themselves. The error that failed a step, if one did. */
int tt_engine_stop(struct tt_engine *engine, struct tt_error *err);

enum tt_finish tt_request_finish(const struct tt_request *request); /* TT_FINISH_FAILED for NULL */

struct tt_token {
	int32_t id;
	float logprob;    /* under the model's own distribution, temperature 1 */
	const char *text; /* the whole code points that this token completed, terminated; until the next call */
	size_t n_text;
	uint32_t n_top;
	const int32_t *top_ids; // [n_top] likeliest first
	const float *top_logprobs;
};
/* The next generated token that was not handed out yet: true, or false when there is none so far. An end token is
 * handed out too, with no text. Text that might begin a stop string comes with a later token. */
bool tt_request_next(struct tt_request *request, struct tt_token *token);

size_t tt_request_n_generated(const struct tt_request *request);
const int32_t *tt_request_generated(const struct tt_request *request); // [n_generated]

/* What steered the request, by index into its steering list. Valid once its gate has run: false before. */
struct tt_decision {
	float s, gate;     /* the scalar; what it was made of: a probe's probability, an mlp's output */
	const float *coef; // [L]; zeros where the kill switch came before it could act
	enum tt_policy_when when;
	bool killed;        /* the kill switch came: from some token on, or from the first, nothing steered */
	size_t killed_from; /* that token's position over ids and then the generated tokens; SIZE_MAX: it did not come */
	const float *w;     // [L] the layer weights
};
bool tt_request_decision(const struct tt_request *request, uint32_t index, struct tt_decision *decision);

/* The coefficients of a policy (by index) that acted on the token at a position, [L], or NULL: it did nothing there. Of
 * positions that ran; valid as long as the request. */
const float *tt_request_coefficients(const struct tt_request *request, uint32_t index, size_t position);

/* Reports, NULL when they were not asked for. Positions run over ids and then the generated tokens that were fed. They depend
 * on the request alone, and on when the kill switch came: norms are 0, 0 where tt_request_coefficients is NULL for all. */
const float *tt_request_scores(const struct tt_request *request);                     // [n_ids]; [0] is 0
const float *tt_request_norms(const struct tt_request *request, size_t *n_positions); // [n_positions][L][2]
const float *tt_request_logits(const struct tt_request *request);                     // [n_ids][vocab]
const float *tt_request_hidden(const struct tt_request *request, uint32_t layer);     // [n_ids - keep_from][d]

/* Runs ids and writes ids, logits, hidden.<l> of every layer and coef as docs/formats.md says. TT_ERR_ARGUMENT where path is
 * the model's or an added policy's, as in tt_eval and tt_batch. */
int tt_capture(struct tt_engine *engine, const int32_t *ids, size_t n_ids, const struct tt_steering *steering,
	uint32_t n_steering, const char *path, struct tt_error *err);

/* ---- Fit and eval ---- */

struct tt_fit_options {
	const char *const *data; // [n_data] JSON-lines files: id, prompt, label, optional split
	size_t n_data;
	const char *name;             /* of the policy */
	uint32_t n_direction_prompts; /* prompts of each label that the directions are made of. Default 48 */
	uint32_t n_probe_prompts;     /* of each label that the probe is trained on. Default 400 */
	uint32_t n_judge_prompts;     /* validation prompts of each label that a candidate is judged by. Default 32 */
	uint32_t judge_tokens;        /* tokens generated for each. Default 24 */
	uint32_t max_candidates;      /* bands, strengths and whens tried. Default 40 */
	float max_false_positives;    /* benign validation prompts the gate may flag, as a share. Default 0.03 */
	enum tt_policy_when when;     /* TT_WHEN_POLICY: search; else only this */
	uint64_t seed;
	tt_progress_fn progress;
	void *user;
};
void tt_fit_options_default(struct tt_fit_options *options);

/* Fits directions, a probe and a band of layers. report (may be NULL) gets JSON (tt_free): every candidate with its
 * figures, the probe's accuracy by layer, what was chosen and why. */
int tt_fit(struct tt_policy **out, struct tt_engine *engine, const struct tt_fit_options *options, char **report,
	struct tt_error *err);

struct tt_eval_options {
	const char *const *data; // [n_data]
	size_t n_data;
	const char *split;   /* only rows of this split; NULL: all */
	uint32_t limit;      /* rows of each label and file; 0: all */
	uint32_t max_tokens; /* Default 32 */
	struct tt_steering steering[TT_MAX_STACK];
	uint32_t n_steering;
	enum tt_policy_when when;
	const char *completions; /* JSON-lines file for every completion, or NULL; none that is read */
	tt_progress_fn progress;
	void *user;
};
void tt_eval_options_default(struct tt_eval_options *options);

/* Generates every row unsteered and steered, greedy, and measures. *report: JSON (tt_free), laid out as docs/cli.md says; its speed
 * is the engine's, whatever else ran on it meanwhile. */
int tt_eval(struct tt_engine *engine, const struct tt_eval_options *options, char **report, struct tt_error *err);

/* JSON (tt_free) about a model, policy or safetensors file; with model_path (may be NULL) also whether and how a policy
 * would act on that model. */
int tt_inspect(const char *path, const char *model_path, char **report, struct tt_error *err);

/* ---- Batches: a file of requests to a file of answers, over any number of runs */

struct tt_batch_policy {
	const char *name; /* that rows and the sweep call it by: letters, digits, '.', '_' and '-' */
	const char *path; /* policy file */
};

struct tt_batch_options {
	const char *input;     /* JSON lines: OpenAI's batch format, or id and prompt (docs/formats.md) */
	const char *output;    /* a line for every request, in the order of the input; beside it OUTPUT.journal */
	const char *telemetry; /* a line for every token, or NULL */
	const struct tt_batch_policy *policies; // [n_policies]
	size_t n_policies;
	const char *sweep; /* "NAME,..@SCALE,..": every request under each of these; NULL: as its row says */
	bool restart;      /* throw away what an earlier run wrote there, and nothing else */

	uint32_t max_tokens; /* of rows that do not say. Default 256 */
	float temperature;   /* the same, of rows of id and prompt; OpenAI's rows have OpenAI's default. Default 0 */
	uint64_t seed;       /* the same, mixed with the row's own bytes. Default 0 */
	const char *system;  /* system message of rows of id and prompt; NULL: the template's own */
	bool raw;            /* their prompt is the text itself, without a chat template */
	uint32_t max_batch;  /* the engine's: how many requests it works on at once */

	tt_progress_fn progress; /* stage "rows" counts rows; stopping keeps what is done for the next run */
	void (*note)(void *user, const char *line); /* a warning, or where a run goes on; may be NULL */
	void *user;
};
void tt_batch_options_default(struct tt_batch_options *options);

struct tt_batch_report {
	uint64_t n_rows, n_errors;                    /* of the whole output: lines, and lines that hold an error */
	uint64_t n_earlier;                           /* rows that earlier runs had written */
	uint64_t n_prompt_tokens, n_generated_tokens; /* of this run */
	double seconds;
};

/* What can be said against the options without a model. */
int tt_batch_check(const struct tt_batch_options *options, struct tt_error *err);

/* Answers every row. Killed at any moment and called again with the same options, it goes on, and the files become the
 * same, byte for byte, as those of a run that was never stopped. A row that cannot be answered gets a line that says why.
 * Errors: TT_ERR_ARGUMENT when a file would be written that is read, or two would be one, TT_ERR_MISMATCH when the input,
 * model, policies or options are not those of the run to go on with, or a file there is not that run's, TT_ERR_FORMAT when
 * the journal is damaged, TT_ERR_IO when a file cannot be written (call again when it can), TT_ERR_LIMIT when progress
 * asked to stop. report may be NULL. */
int tt_batch(struct tt_engine *engine, const struct tt_batch_options *options, struct tt_batch_report *report,
	struct tt_error *err);

#ifdef __cplusplus
}
#endif

#endif
