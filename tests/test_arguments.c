/* Every function of trimtab.h, given what has no meaning: a NULL where something must be, a NULL list with entries, a
 * number that is none. Each is refused by name or answered with nothing, and the engine goes on. A row a case. */
#include <ctype.h>

#include "base/fail.h"
#include "base/utf8.h"
#include "bench/harness/noise.h"
#include "golden.h"
#include "runtime/engine/request.h"

#define MODEL GOLDEN("tiny-llama/tiny-llama.q8_0.gguf")
#define MESSAGES "[{\"role\": \"user\", \"content\": \"Hi\"}]"

static const int32_t IDS[4] = {5, 90, 17, 200};

/* A row: the call is refused with TT_ERR_ARGUMENT, and the message begins with what was wrong. */
static void refused(int status, const struct tt_error *error, const char *word, int line)
{
	cr_expect(status == TT_ERR_ARGUMENT && error->code == status, "line %d: status %d", line, status);
	cr_expect_eq(strncmp(error->message, word, strlen(word)), 0, "line %d: \"%s\" does not begin with %s", line,
		error->message, word);
}
#define REFUSED(word, call)                                                                                            \
	do {                                                                                                           \
		struct tt_error error = {0}, *err = &error;                                                            \
		refused(call, err, word, __LINE__);                                                                    \
	} while (0)
/* A row: an answer that holds nothing. */
#define NOTHING(condition) cr_expect(condition)

Test(arguments, text)
{
	struct tt_text *text = NULL;
	int32_t *ids = NULL;
	char *string = NULL;
	size_t n = 7;
	must(tt_text_open(&text, MODEL, err));
	REFUSED("out ", tt_text_open(NULL, MODEL, err));
	REFUSED("path ", tt_text_open(&(struct tt_text *){NULL}, NULL, err));
	REFUSED("text ", tt_text_encode(NULL, "x", 1, 0, &ids, &n, err));
	REFUSED("string ", tt_text_encode(text, NULL, 1, 0, &ids, &n, err));
	REFUSED("ids ", tt_text_encode(text, "x", 1, 0, NULL, &n, err));
	REFUSED("n_ids ", tt_text_encode(text, "x", 1, 0, &ids, NULL, err));
	REFUSED("text ", tt_text_render(NULL, MESSAGES, NULL, &string, err));
	REFUSED("messages_json ", tt_text_render(text, NULL, NULL, &string, err));
	REFUSED("prompt ", tt_text_render(text, MESSAGES, NULL, NULL, err));
	REFUSED("text ", tt_text_encode_chat(NULL, MESSAGES, NULL, &ids, &n, err));
	REFUSED("messages_json ", tt_text_encode_chat(text, NULL, NULL, &ids, &n, err));
	REFUSED("ids ", tt_text_encode_chat(text, MESSAGES, NULL, NULL, &n, err));
	REFUSED("n_ids ", tt_text_encode_chat(text, MESSAGES, NULL, &ids, NULL, err));
	REFUSED("from ", tt_text_encode_chat_span(text, MESSAGES, NULL, &ids, &n, NULL, &n, err));
	REFUSED("to ", tt_text_encode_chat_span(text, MESSAGES, NULL, &ids, &n, &n, NULL, err));
	REFUSED("prompt ", tt_text_user_message(NULL, 1, NULL, &string, err));
	REFUSED("messages_json ", tt_text_user_message("x", 1, NULL, NULL, err));
	REFUSED("text ", tt_text_decode(NULL, IDS, 4, &string, err));
	REFUSED("ids ", tt_text_decode(text, NULL, 4, &string, err));
	REFUSED("string ", tt_text_decode(text, IDS, 4, NULL, err));
	REFUSED("report ", tt_describe_build(NULL, err));
	NOTHING(!strcmp(tt_version(), TT_VERSION));
	NOTHING(!tt_text_has_tokenizer(NULL) && !tt_text_has_template(NULL));
	NOTHING(!*tt_text_piece(NULL, 5, &n) && n == 0);
	NOTHING(tt_text_piece(text, 5, NULL) != NULL);
	cr_expect(!ids && !string, "what is refused gives nothing out");

	/* No entries need no list. */
	must(tt_text_encode(text, NULL, 0, 0, &ids, &n, err));
	cr_expect_eq(n, 0);
	tt_free(ids);
	must(tt_text_decode(text, NULL, 0, &string, err));
	cr_expect_str_empty(string);
	tt_free(string);
	must(tt_text_user_message(NULL, 0, NULL, &string, err));
	cr_expect_str_eq(string, "[{\"role\":\"user\",\"content\":\"\"}]");
	tt_free(string);
	tt_text_close(text);
	tt_text_close(NULL);
	tt_free(NULL);
	NOTHING(!tt_mapped_file(NULL));
}

Test(arguments, engine)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_engine_stats stats;
	struct tt_policy *policy = NULL;
	struct tt_policy_info info;
	memset(&stats, 1, sizeof stats);
	memset(&info, 1, sizeof info);
	must(tt_bench_synthetic_policy(&policy, tt_engine_info(engine), TT_BENCH_ALL_LAYERS, 1, err));
	REFUSED("out ", tt_engine_open(NULL, MODEL, NULL, err));
	REFUSED("model_path ", tt_engine_open(&(struct tt_engine *){NULL}, NULL, NULL, err));
	REFUSED("engine ", tt_engine_step(NULL, err));
	REFUSED("engine ", tt_engine_start(NULL, err));
	REFUSED("engine ", tt_engine_stop(NULL, err));
	REFUSED("request ", tt_request_wait(NULL, err));
	REFUSED("engine ", tt_engine_next(NULL, &(struct tt_request *){NULL}, 0, err));
	REFUSED("out ", tt_engine_next(engine, NULL, 0, err));
	REFUSED("timeout ", tt_engine_next(engine, &(struct tt_request *){NULL}, NAN, err));
	REFUSED("timeout ", tt_engine_next(engine, &(struct tt_request *){NULL}, INFINITY, err));
	REFUSED("out ", tt_policy_load(NULL, "x", err));
	REFUSED("path ", tt_policy_load(&(struct tt_policy *){NULL}, NULL, err));
	REFUSED("policy ", tt_policy_save(NULL, "x", err));
	REFUSED("path ", tt_policy_save(policy, NULL, err));
	REFUSED("policy ", tt_policy_export(NULL, "x", err));
	REFUSED("path ", tt_policy_export(policy, NULL, err));
	REFUSED("policy ", tt_policy_keep_layers(NULL, "0", err));
	REFUSED("layers ", tt_policy_keep_layers(policy, NULL, err));
	REFUSED("engine ", tt_engine_add_policy(NULL, policy, NULL, err));
	REFUSED("policy ", tt_engine_add_policy(engine, NULL, NULL, err));
	REFUSED("engine ", tt_engine_remove_policy(NULL, policy, err));
	REFUSED("policy ", tt_engine_remove_policy(engine, NULL, err));
	REFUSED("that policy was not added", tt_engine_remove_policy(engine, policy, err));
	NOTHING(!tt_engine_info(NULL) && !tt_engine_text(NULL) && tt_engine_pending(NULL) == 0);
	tt_engine_stats(NULL, &stats);
	NOTHING(stats.n_steps == 0 && stats.n_bytes_out == 0);
	tt_engine_stats(engine, NULL);
	cr_expect_str_eq(tt_when_word((enum tt_policy_when)99), "policy");
	tt_policy_describe(NULL, &info);
	NOTHING(!info.name && info.n_layers == 0 && !info.version);
	tt_policy_describe(policy, NULL);
	tt_engine_kill_steering(NULL);
	tt_engine_resume_steering(NULL);
	tt_engine_kill_policies(NULL, &policy, 1, true);
	tt_engine_kill_policies(engine, NULL, 1, true);
	tt_engine_kill_policies(engine, (struct tt_policy *[]){NULL}, 1, true);
	tt_engine_kill_policies(engine, &policy, 1, true);
	tt_engine_options_default(NULL);
	tt_engine_options_default_sized(NULL, sizeof(size_t));
	tt_policy_free(policy);
	tt_policy_free(NULL);
	tt_engine_close(engine);
	tt_engine_close(NULL);
}

static struct tt_request_options good(void)
{
	struct tt_request_options options;
	tt_request_options_default(&options);
	options.ids = IDS;
	options.n_ids = 4;
	options.max_tokens = 2;
	return options;
}

/* A row: one field of the options of a request. */
#define FIELD(word, assignment)                                                                                        \
	do {                                                                                                           \
		struct tt_request_options o = good();                                                                  \
		struct tt_request *none = NULL;                                                                        \
		assignment;                                                                                            \
		REFUSED(word, tt_request_submit(&none, engine, &o, err));                                              \
		cr_expect_null(none);                                                                                  \
	} while (0)

Test(arguments, request_options)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_policy *policy = NULL, *stranger = NULL;
	static const char *const holes[2] = {"x", NULL};
	static const int32_t strange[1] = {288}, negative[1] = {-1};
	uint64_t layers[1] = {1};
	must(tt_bench_synthetic_policy(&policy, tt_engine_info(engine), TT_BENCH_ALL_LAYERS, 1, err));
	must(tt_bench_synthetic_policy(&stranger, tt_engine_info(engine), TT_BENCH_ALL_LAYERS, 2, err));
	must(tt_engine_add_policy(engine, policy, NULL, err));
	FIELD("the prompt is empty", o.n_ids = 0);
	FIELD("ids ", o.ids = NULL);
	FIELD("id -1 ", o.ids = negative; o.n_ids = 1);
	FIELD("id 288 ", o.ids = strange; o.n_ids = 1);
	FIELD("n_prompt ", o.n_prompt = 5);
	FIELD("stop_ids ", o.n_stop_ids = 1);
	FIELD("stop id 288 ", o.stop_ids = strange; o.n_stop_ids = 1);
	FIELD("stop id -1 ", o.stop_ids = negative; o.n_stop_ids = 1);
	FIELD("at most 16 stop", o.n_stop_ids = TT_MAX_STOPS + 1);
	FIELD("at most 16 stop", o.n_stop = TT_MAX_STOPS + 1);
	FIELD("stop is NULL", o.n_stop = 2);
	FIELD("stop[1] ", o.stop = holes; o.n_stop = 2);
	FIELD("timeout ", o.timeout = NAN);
	FIELD("timeout ", o.timeout = INFINITY);
	FIELD("timeout ", o.timeout = -1);
	FIELD("temperature ", o.sampling.temperature = NAN);
	FIELD("temperature ", o.sampling.temperature = INFINITY);
	FIELD("temperature ", o.sampling.temperature = -1);
	FIELD("top_p ", o.sampling.top_p = NAN);
	FIELD("top_p ", o.sampling.top_p = INFINITY);
	FIELD("top_p ", o.sampling.top_p = 0);
	FIELD("min_p ", o.sampling.min_p = NAN);
	FIELD("min_p ", o.sampling.min_p = -INFINITY);
	FIELD("at most 20 alternatives", o.n_top = TT_MAX_TOP + 1);
	FIELD("at most 4 policies", o.n_steering = TT_MAX_STACK + 1);
	FIELD("steering[0].policy ", o.n_steering = 1);
	FIELD("steering[1].policy ", o.n_steering = 2; o.steering[0].policy = policy);
	FIELD("policy 0 was not added", o.n_steering = 1; o.steering[0].policy = stranger);
	FIELD("the scale of policy 0 ", o.n_steering = 1; o.steering[0].policy = policy; o.steering[0].scale = NAN);
	FIELD("the scale of policy 0 ", o.n_steering = 1; o.steering[0].policy = policy;
		o.steering[0].scale = INFINITY);
	FIELD("when ", o.when = (enum tt_policy_when)3);
	FIELD("when ", o.when = (enum tt_policy_when) - 2);
	FIELD("keep_from ", o.keep_layers = layers; o.keep_from = 4);
	FIELD("logits_from ", o.keep_logits = true; o.logits_from = 4);
	FIELD("score_from ", o.score = true; o.score_from = 5);
	struct tt_request_options o = good();
	REFUSED("out ", tt_request_submit(NULL, engine, &o, err));
	REFUSED("engine ", tt_request_submit(&(struct tt_request *){NULL}, NULL, &o, err));
	REFUSED("options ", tt_request_submit(&(struct tt_request *){NULL}, engine, NULL, err));
	tt_request_options_default_sized(NULL, sizeof(size_t));

	/* None of this is left over. */
	cr_expect_eq(tt_engine_pending(engine), 0);
	struct tt_request *request = request_run(engine, &o);
	cr_expect_eq(tt_request_n_generated(request), 2);
	tt_request_free(request);
	tt_engine_close(engine);
	tt_policy_free(policy);
	tt_policy_free(stranger);
}

Test(arguments, request)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_request_options o = good();
	struct tt_decision decision;
	struct tt_token token;
	size_t n = 7;
	tt_request_cancel(NULL);
	tt_request_free(NULL);
	NOTHING(tt_request_finish(NULL) == TT_FINISH_FAILED);
	NOTHING(tt_request_n_generated(NULL) == 0 && !tt_request_generated(NULL));
	NOTHING(!tt_request_next(NULL, &token) && !tt_request_decision(NULL, 0, &decision));
	NOTHING(tt_request_score_top(NULL, 1, NULL, NULL) == 0);
	NOTHING(!tt_request_scores(NULL) && !tt_request_logits(NULL) && !tt_request_hidden(NULL, 0));
	NOTHING(!tt_request_norms(NULL, &n) && n == 0);
	struct tt_request *request = request_run(engine, &o);
	NOTHING(!tt_request_norms(request, NULL) && !tt_request_hidden(request, UINT32_MAX));
	NOTHING(!tt_request_coefficients(NULL, 0, 0) && !tt_request_coefficients(request, UINT32_MAX, 0));
	NOTHING(!tt_request_decision(request, 0, NULL) && !tt_request_decision(request, UINT32_MAX, &decision));
	NOTHING(!tt_request_next(request, NULL));
	cr_expect(tt_request_next(request, &token), "a call without a token takes none");
	cr_expect_eq(token.id, tt_request_generated(request)[0]);
	tt_request_free(request);
	tt_engine_close(engine);
}

/* ---- Jobs */

#define FIT(word, assignment)                                                                                          \
	do {                                                                                                           \
		struct tt_fit_options o;                                                                               \
		struct tt_policy *none = NULL;                                                                         \
		tt_fit_options_default(&o);                                                                            \
		o.data = data;                                                                                         \
		o.n_data = 1;                                                                                          \
		assignment;                                                                                            \
		REFUSED(word, tt_fit(&none, engine, &o, NULL, err));                                                   \
		cr_expect_null(none);                                                                                  \
	} while (0)

Test(arguments, fit)
{
	struct tt_engine *engine = engine_open(GOLDEN("tiny-llama"), 2, 64);
	static const char *const data[2] = {TT_SOURCE_DIR "/data/prompts.jsonl", NULL};
	FIT("no prompt files", o.n_data = 0);
	FIT("data is NULL", o.data = NULL);
	FIT("data[1] ", o.n_data = 2);
	FIT("the name ", o.name = "");
	FIT("direction prompts ", o.n_direction_prompts = 0);
	FIT("gate prompts ", o.n_gate_prompts = 0);
	FIT("judge prompts ", o.n_judge_prompts = 0);
	FIT("judge tokens ", o.judge_tokens = 0);
	FIT("candidates ", o.max_candidates = 0);
	FIT("max_false_positives ", o.max_false_positives = NAN);
	FIT("max_false_positives ", o.max_false_positives = INFINITY);
	FIT("op ", o.op = TT_OP_AFFINE);
	FIT("op ", o.op = (enum tt_policy_op)6);
	FIT("op ", o.op = (enum tt_policy_op) - 1);
	FIT("mode ", o.mode = (enum tt_fit_mode)99);
	FIT("rank ", o.rank = 0);
	FIT("rank ", o.rank = 65);
	FIT("op cannot be chosen with mode affine", o.mode = TT_FIT_AFFINE; o.op = TT_OP_CLAMP);
	FIT("mode affine ", o.mode = TT_FIT_AFFINE; o.layer_weights = TT_WEIGHTS_SEARCH);
	FIT("mode mean ", o.mode = TT_FIT_MEAN; o.layer_weights = TT_WEIGHTS_SEARCH);
	FIT("layer weights ", o.op = TT_OP_CLAMP; o.layer_weights = TT_WEIGHTS_SEARCH);
	FIT("layer weights by the prompt ", o.gate = TT_FIT_GATE_NONE; o.layer_weights = TT_WEIGHTS_PROMPT);
	FIT("layer weights by the prompt ", o.mode = TT_FIT_CAST; o.layer_weights = TT_WEIGHTS_PROMPT);
	FIT("mode paper ", o.mode = TT_FIT_PAPER; o.layer_weights = TT_WEIGHTS_SEARCH);
	FIT("mode released ", o.mode = TT_FIT_RELEASED; o.gate = TT_FIT_GATE_DETECTOR);
	FIT("a rule ", o.mode = TT_FIT_CAST; o.rule = "harmful"; o.gate = TT_FIT_GATE_DETECTOR);
	FIT("when ", o.when = (enum tt_policy_when)3);
	FIT("gate ", o.gate = (enum tt_fit_gate_choice)3);
	FIT("max_loss_ratio ", o.max_loss_ratio = NAN);
	FIT("mode style ", o.mode = TT_FIT_STYLE);
	FIT("layer_weights ", o.layer_weights = (enum tt_fit_layer_weights)3);
	FIT("replay ", o.n_replay = 1);
	FIT("a policy that is continued keeps ", o.continued = "p"; o.mode = TT_FIT_PCA);
	FIT("a policy that is continued keeps ", o.continued = "p"; o.layer_weights = TT_WEIGHTS_SEARCH);
	struct tt_fit_options o;
	tt_fit_options_default(&o);
	REFUSED("out ", tt_fit(NULL, engine, &o, NULL, err));
	REFUSED("engine ", tt_fit(&(struct tt_policy *){NULL}, NULL, &o, NULL, err));
	REFUSED("options ", tt_fit(&(struct tt_policy *){NULL}, engine, NULL, NULL, err));
	tt_fit_options_default_sized(NULL, sizeof(size_t));
	tt_engine_close(engine);
}

#define EVAL(word, assignment)                                                                                         \
	do {                                                                                                           \
		struct tt_eval_options o;                                                                              \
		char *none = NULL;                                                                                     \
		tt_eval_options_default(&o);                                                                           \
		o.data = data;                                                                                         \
		o.n_data = 1;                                                                                          \
		o.limit = o.max_tokens = 1;                                                                            \
		assignment;                                                                                            \
		REFUSED(word, tt_eval(engine, &o, &none, err));                                                        \
		cr_expect_null(none);                                                                                  \
	} while (0)

Test(arguments, eval)
{
	struct tt_engine *engine = engine_open(GOLDEN("tiny-llama"), 2, 64);
	static const char *const data[2] = {TT_SOURCE_DIR "/data/prompts.jsonl", NULL};
	char *report = NULL;
	EVAL("no prompt files", o.n_data = 0);
	EVAL("data is NULL", o.data = NULL);
	EVAL("data[1] ", o.n_data = 2);
	EVAL("no row to run in split all", o.split = "all");
	EVAL("without tokens there is nothing to judge", o.max_tokens = 0; o.judge_requests = "x");
	EVAL("\"rot13\" is no variant", o.variants = "rot13");
	EVAL("a review needs at least one row", o.review = "r.jsonl"; o.n_review_rows = 0);
	EVAL("a review is of one policy", o.review = "r.jsonl");
	EVAL("prices must be two positive", o.price_miss = 1);
	EVAL("prices must be two positive", o.price_false_refusal = 1);
	EVAL("prices must be two positive", o.price_false_refusal = 1; o.price_miss = NAN);
	EVAL("prices must be two positive", o.price_false_refusal = 1; o.price_miss = -1);
	EVAL("prices must be two positive", o.price_false_refusal = INFINITY; o.price_miss = 1);
	EVAL("temperature ", o.sampling.temperature = NAN);
	EVAL("top_p ", o.sampling.top_p = 0);
	EVAL("at most 4 policies", o.n_steering = TT_MAX_STACK + 1);
	EVAL("steering[0].policy ", o.n_steering = 1);
	EVAL("when ", o.when = (enum tt_policy_when)3);
	struct tt_eval_options o;
	tt_eval_options_default(&o);
	REFUSED("engine ", tt_eval(NULL, &o, &report, err));
	REFUSED("options ", tt_eval(engine, NULL, &report, err));
	REFUSED("report ", tt_eval(engine, &o, NULL, err));
	tt_eval_options_default_sized(NULL, sizeof(size_t));
	cr_expect_null(report);
	tt_engine_close(engine);
}

Test(arguments, attack_score_stack)
{
	struct tt_engine *engine = engine_open(GOLDEN("tiny-llama"), 2, 64);
	char *report = NULL;
	struct tt_attack_options attack;
	tt_attack_options_default(&attack);
	tt_attack_options_default_sized(NULL, sizeof(size_t));
	REFUSED("engine ", tt_attack(NULL, &attack, &report, err));
	REFUSED("options ", tt_attack(engine, NULL, &report, err));
	REFUSED("report ", tt_attack(engine, &attack, NULL, err));
	REFUSED("steering[0].policy ", tt_attack(engine, &attack, &report, err));
	struct tt_score_options score;
	tt_score_options_default(&score);
	tt_score_options_default_sized(NULL, sizeof(size_t));
	REFUSED("engine ", tt_score(NULL, &score, &report, err));
	REFUSED("options ", tt_score(engine, NULL, &report, err));
	REFUSED("report ", tt_score(engine, &score, NULL, err));
	REFUSED("either choices or a text ", tt_score(engine, &score, &report, err));
	score.choices = "missing.jsonl";
	score.n_steering = 1;
	REFUSED("steering[0].policy ", tt_score(engine, &score, &report, err));
	struct tt_stack_options stack = {.size = sizeof stack, .n_steering = 2};
	REFUSED("engine ", tt_stack(NULL, &stack, &report, err));
	REFUSED("options ", tt_stack(engine, NULL, &report, err));
	REFUSED("report ", tt_stack(engine, &stack, NULL, err));
	REFUSED("neither data nor ", tt_stack(engine, &stack, &report, err));
	stack.n_contrast = 1;
	REFUSED("contrast ", tt_stack(engine, &stack, &report, err));
	stack.n_scales = 1;
	REFUSED("scales ", tt_stack(engine, &stack, &report, err));
	cr_expect_null(report);
	tt_engine_close(engine);
}

static int capture_with(struct tt_engine *engine, const int32_t *ids, size_t n_ids, const struct tt_steering *steering,
	uint32_t n_steering, const char *path, struct tt_error *err)
{
	const struct tt_capture_options options = {
		.size = sizeof options,
		.ids = ids,
		.n_ids = n_ids,
		.steering = steering,
		.n_steering = n_steering,
	};
	return tt_capture(engine, &options, path, err);
}

Test(arguments, capture_inspect)
{
	struct tt_engine *engine = engine_open(GOLDEN("tiny-llama"), 2, 64);
	const struct tt_steering steering = {NULL, 1};
	char *report = NULL;
	REFUSED("engine ", capture_with(NULL, IDS, 4, NULL, 0, "x", err));
	REFUSED("ids ", capture_with(engine, NULL, 4, NULL, 0, "x", err));
	REFUSED("the prompt is empty", capture_with(engine, IDS, 0, NULL, 0, "x", err));
	REFUSED("steering is NULL", capture_with(engine, IDS, 4, NULL, 1, "x", err));
	REFUSED("steering[0].policy ", capture_with(engine, IDS, 4, &steering, 1, "x", err));
	REFUSED("options ", tt_capture(engine, NULL, "x", err));
	REFUSED("path ", capture_with(engine, IDS, 4, NULL, 0, NULL, err));
	struct tt_capture_data_options all = {.size = sizeof all, .data = "x", .n_steering = 1};
	REFUSED("engine ", tt_capture_data(NULL, &all, "x", NULL, err));
	REFUSED("options ", tt_capture_data(engine, NULL, "x", NULL, err));
	REFUSED("path ", tt_capture_data(engine, &all, NULL, NULL, err));
	REFUSED("steering[0].policy ", tt_capture_data(engine, &all, "x", NULL, err));
	all.data = NULL;
	REFUSED("data ", tt_capture_data(engine, &all, "x", NULL, err));

	REFUSED("path ", tt_inspect(NULL, NULL, &report, err));
	REFUSED("report ", tt_inspect(MODEL, NULL, NULL, err));
	cr_expect_null(report);
	tt_engine_close(engine);
}

static int count_missing(void *user, uint64_t unit, uint64_t first_row, uint64_t n_rows)
{
	(void)user, (void)unit, (void)first_row, (void)n_rows;
	return 0;
}

#define BATCH(word, assignment)                                                                                        \
	do {                                                                                                           \
		struct tt_batch_options o;                                                                             \
		tt_batch_options_default(&o);                                                                          \
		o.input = "in.jsonl";                                                                                  \
		o.output = "out.jsonl";                                                                                \
		o.policies = policies;                                                                                 \
		assignment;                                                                                            \
		REFUSED(word, tt_batch_check(&o, err));                                                                \
		REFUSED(word, tt_batch(engine, &o, NULL, err));                                                        \
	} while (0)

Test(arguments, batch)
{
	struct tt_engine *engine = engine_open(MODEL, 2, 64);
	struct tt_batch_policy policies[1] = {{"a", "a.safetensors"}};
	struct tt_batch_options good_batch;
	BATCH("input ", o.input = NULL);
	BATCH("output ", o.output = NULL);
	BATCH("policies is NULL", o.policies = NULL; o.n_policies = 1);
	BATCH("the name of a policy ", o.n_policies = 1; policies[0].name = NULL);
	policies[0].name = "a";
	BATCH("the path of a policy ", o.n_policies = 1; policies[0].path = NULL);
	policies[0].path = "a.safetensors";
	BATCH("'' is no name ", o.n_policies = 1; policies[0].name = "");
	BATCH("the sweep ", o.sweep = "");
	BATCH("a batch needs ", o.max_tokens = 0);
	BATCH("a batch needs ", o.max_batch = 0);
	BATCH("temperature ", o.temperature = NAN);
	BATCH("temperature ", o.temperature = INFINITY);
	tt_batch_options_default(&good_batch);
	good_batch.input = "in.jsonl";
	good_batch.output = "out.jsonl";
	must(tt_batch_check(&good_batch, err));
	BATCH("there is no shard ", o.n_shards = 2; o.shard = 2);
	BATCH("there is no shard ", o.shard = 1);
	BATCH("a shard cannot start over", o.n_shards = 2; o.restart = true);
	REFUSED("options ", tt_batch_merge(NULL, NULL, err));
	REFUSED("missing ", tt_batch_missing(&good_batch, NULL, NULL, err));
	REFUSED("options ", tt_batch_missing(NULL, count_missing, NULL, err));
	REFUSED("options ", tt_batch_check(NULL, err));
	REFUSED("options ", tt_batch(engine, NULL, NULL, err));
	REFUSED("engine ", tt_batch(NULL, &good_batch, NULL, err));
	tt_batch_options_default_sized(NULL, sizeof(size_t));
	tt_engine_close(engine);
}

/* ---- Messages */

/* Unicode's Cc, Zl, Zp and Bidi_Control (from its PropList), below U+3000. */
static bool tamed(uint32_t c)
{
	static const uint32_t ranges[][2] = {{0x1, 0x1f}, {0x7f, 0x9f}, {0x61c, 0x61c}, {0x200e, 0x200f},
		{0x2028, 0x2029}, {0x202a, 0x202e}, {0x2066, 0x2069}};
	for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
		if (c >= ranges[i][0] && c <= ranges[i][1])
			return true;
	return false;
}

/* A library's message goes to a terminal, too, and may hold any name. */
Test(arguments, messages_hold_nothing_that_a_terminal_obeys)
{
	struct tt_error error;
	for (uint32_t c = 1; c < 0x3000; c++) {
		char text[8] = {0};
		size_t n = tt_utf8_encode(c, text);
		tt_fail(&error, TT_ERR_IO, "<%s>", text);
		cr_expect_eq(strlen(error.message), n + 2);
		if (tamed(c))
			cr_expect_eq(strspn(error.message + 1, "?"), n, "U+%04X stays", (unsigned)c);
		else
			cr_expect_eq(memcmp(error.message + 1, text, n), 0, "U+%04X is changed", (unsigned)c);
	}
	/* Text that is no UTF-8, as a terminal without UTF-8 would take it; also a text cut within a character. */
	tt_fail(&error, TT_ERR_IO, "a\x9bz \xe9 \xe2\x80");
	cr_expect_str_eq(error.message, "a?z \xe9 \xe2?");
}

/* ---- Nothing is forgotten */

static char *read_source(const char *path)
{
	char *text = calloc(1, 1 << 20);
	FILE *file = fopen(path, "r");
	cr_assert(file && fread(text, 1, (1 << 20) - 1, file) > 0, "%s cannot be read", path);
	fclose(file);
	return text;
}

/* A function that trimtab.h declares and that no row above calls. */
Test(arguments, every_function_has_a_row)
{
	char *header = read_source(TT_SOURCE_DIR "/runtime/trimtab.h"), name[64];
	char *rows = read_source(TT_SOURCE_DIR "/tests/test_arguments.c");
	size_t n_functions = 0;
	for (const char *at = header; (at = strstr(at, "tt_")); at++) {
		size_t n = 0;
		while (islower((unsigned char)at[n]) || at[n] == '_')
			n++;
		if (at[n] != '(' || isalnum((unsigned char)at[-1]) || at[-1] == '_')
			continue;
		snprintf(name, sizeof name, "%.*s(", (int)n, at);
		cr_expect_not_null(strstr(rows, name), "no row for %s)", name);
		n_functions++;
	}
	cr_expect_gt(n_functions, 50, "%zu functions were found", n_functions);
	free(header);
	free(rows);
}
