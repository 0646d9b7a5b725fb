/* Memory that runs out and files that cannot be read, at every place once: each parser is called again and again, the
 * n-th allocation or read failing, n = 1, 2, .. until a call gets through. Every other one must say what was wrong and
 * leave nothing over. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/sha256.h"
#include "controller/measure/attack.h"
#include "controller/measure/choices.h"
#include "controller/measure/contrast.h"
#include "controller/measure/judgements.h"
#include "controller/measure/metrics.h"
#include "controller/measure/prompts.h"
#include "controller/measure/review.h"
#include "controller/measure/variants.h"
#include "controller/policy/control_vector.h"
#include "controller/train/activation_file.h"
#include "controller/train/fit_affine.h"
#include "controller/train/fit_mean.h"
#include "controller/train/fit_pca.h"
#include "controller/numerics/mlp.h"
#include "controller/train/fit_embedding.h"
#include "controller/train/fit_mlp.h"
#include "controller/numerics/ridge.h"
#include "faults.h"
#include "runtime/batch/row.h"
#include "runtime/engine/engine.h"
#include "runtime/text/chat.h"
#include "runtime/text/tokenizer/tokenizer.h"
#include "weights/gguf.h"
#include "weights/model.h"
#include "weights/safetensors.h"

#define GOLDEN(name) TT_TEST_DATA "/" name
#define ROWS TT_SOURCE_DIR "/tests/fuzz/corpus/batch/seed_lines"

static int open_gguf(struct tt_error *err)
{
	struct tt_gguf *file = NULL;
	int status = tt_gguf_open(&file, GOLDEN("weights/tiny.gguf"), err);
	tt_gguf_close(file);
	return status;
}

static int open_safetensors(struct tt_error *err)
{
	struct tt_safetensors *file = NULL;
	int status = tt_safetensors_open(&file, GOLDEN("weights/tiny/model.safetensors"), err);
	tt_safetensors_close(file);
	return status;
}

static int read_config(struct tt_error *err)
{
	struct tt_config config;
	return tt_config_from_directory(&config, GOLDEN("weights/tiny"), err);
}

Test(faults, weights)
{
	inject_all("GGUF", open_gguf, 0);
	inject_all("safetensors", open_safetensors, 0);
	inject_all("config.json", read_config, 2);
}

static int open_model(const char *path, struct tt_error *err)
{
	struct tt_model *model = NULL;
	int status = tt_model_open(&model, path, err);
	tt_model_close(model);
	return status;
}

static int open_gguf_model(struct tt_error *err)
{
	return open_model(GOLDEN("weights/tiny.gguf"), err);
}

static int open_directory(struct tt_error *err)
{
	return open_model(GOLDEN("weights/tiny"), err);
}

static int open_shards(struct tt_error *err)
{
	return open_model(GOLDEN("tiny-llama3"), err);
}

static int open_fp8(struct tt_error *err)
{
	return open_model(GOLDEN("tiny-fp8-tensor"), err);
}

Test(faults, models)
{
	inject_all("GGUF model", open_gguf_model, 2);
	inject_all("model in a directory", open_directory, 4);
	inject_all("model in shards", open_shards, 3);
	inject_all("model of eight bits", open_fp8, 3);
}

static const char words[] = "Hello <|im_start|> w\xc3\xb6rld, it's e\xcc\x81 1234\n";

static int use_tokenizer(struct tt_tokenizer *tokenizer, int status, struct tt_error *err)
{
	struct tt_ids ids = {0};
	char *text = NULL;
	if (status == TT_OK)
		status = tt_tokenizer_encode(tokenizer, words, sizeof words - 1, NULL, TT_ENCODE_SPECIAL, &ids, err);
	if (status == TT_OK)
		status = tt_tokenizer_decode(tokenizer, ids.data, ids.len, &text, err);
	free(text);
	tt_ids_free(&ids);
	tt_tokenizer_free(tokenizer);
	return status;
}

static int read_tokenizer(const char *directory, struct tt_error *err)
{
	struct tt_tokenizer *tokenizer = NULL;
	int status = tt_tokenizer_from_directory(&tokenizer, directory, err);
	return use_tokenizer(tokenizer, status, err);
}

static int read_qwen2(struct tt_error *err)
{
	return read_tokenizer(GOLDEN("tokenizer/qwen2"), err);
}

static int read_llama2(struct tt_error *err)
{
	return read_tokenizer(GOLDEN("tokenizer/families/llama-2"), err);
}

static int read_vocabulary(const char *path, struct tt_error *err)
{
	struct tt_gguf *file = NULL;
	struct tt_tokenizer *tokenizer = NULL;
	int status = tt_gguf_open(&file, path, err);
	if (status == TT_OK)
		status = tt_tokenizer_from_gguf(&tokenizer, file, err);
	tt_gguf_close(file);
	return use_tokenizer(tokenizer, status, err);
}

static int read_gpt2_vocabulary(struct tt_error *err)
{
	return read_vocabulary(GOLDEN("tokenizer/families/qwen35/vocabulary.gguf"), err);
}

static int read_llama_vocabulary(struct tt_error *err)
{
	return read_vocabulary(GOLDEN("tokenizer/families/llama-2/vocabulary.gguf"), err);
}

Test(faults, tokenizers)
{
	inject_all("tokenizer.json", read_qwen2, 16);
	inject_all("tokenizer.json of characters", read_llama2, 3);
	inject_all("GGUF vocabulary", read_gpt2_vocabulary, 15);
	inject_all("GGUF vocabulary with scores", read_llama_vocabulary, 3);
}

static const char conversation[] =
	"[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\"Hello\"},"
	"{\"role\":\"assistant\",\"content\":\"<b>\"},{\"role\":\"user\",\"content\":\"again\"}]";

static int render(const char *path, struct tt_error *err)
{
	struct tt_text *text = NULL;
	char *prompt = NULL;
	const struct tt_chat_options chat = {.size = sizeof chat, .now = 1700000000};
	int status = tt_text_open(&text, path, err);
	if (status == TT_OK)
		status = tt_text_render(text, conversation, &chat, &prompt, err);
	tt_free(prompt);
	tt_text_close(text);
	return status;
}

static int render_llama3(struct tt_error *err)
{
	return render(GOLDEN("templates/llama3.jinja"), err);
}

static int render_qwen(struct tt_error *err)
{
	return render(GOLDEN("templates/qwen2.5.jinja"), err);
}

static int read_chat(struct tt_error *err)
{
	struct tt_chat_template chat;
	int status = tt_chat_from_directory(&chat, GOLDEN("tiny-llama"), err);
	if (status == TT_OK)
		tt_chat_free(&chat);
	return status;
}

Test(faults, templates)
{
	inject_all("Llama 3's template", render_llama3, 1);
	inject_all("Qwen's template", render_qwen, 1);
	inject_all("tokenizer_config.json", read_chat, 1);
}

/* A control vector, made a policy of a model with more layers, and written. */
static int adopt_vector(struct tt_error *err)
{
	const struct tt_model_info info = {
		.n_layers = 5, .hidden_size = 64, .fingerprint = "llama", .weights_digest = "ab"};
	struct tt_policy *policy = NULL;
	int status = tt_policy_load(&policy, GOLDEN("vectors/repeng.gguf"), err);
	if (status == TT_OK)
		status = tt_control_vector_adopt(policy, &info, err);
	if (status == TT_OK)
		status = tt_policy_export(policy, "vector.gguf", err);
	tt_policy_free(policy);
	unlink("vector.gguf");
	return status;
}

static int load_policy(const char *path, struct tt_error *err)
{
	struct tt_policy *policy = NULL;
	int status = tt_policy_load(&policy, path, err);
	tt_policy_free(policy);
	return status;
}

static int load_mlp(struct tt_error *err)
{
	return load_policy(GOLDEN("policy/mlp.safetensors"), err);
}

static int load_rule(struct tt_error *err)
{
	return load_policy(GOLDEN("policy/rule_pooled.safetensors"), err);
}

static int load_probe_mlp(struct tt_error *err)
{
	return load_policy(GOLDEN("policy/probe_mlp_learned_pooled.safetensors"), err);
}

static int load_affine(struct tt_error *err)
{
	return load_policy(GOLDEN("policy/affine.safetensors"), err);
}

static int load_clamp(struct tt_error *err)
{
	return load_policy(GOLDEN("policy/clamp.safetensors"), err);
}

Test(faults, policies)
{
	inject_all("rule policy", load_rule, 0);
	inject_all("mlp policy", load_mlp, 0);
	inject_all("probe_mlp policy", load_probe_mlp, 0);
	inject_all("affine policy", load_affine, 0);
	inject_all("clamp policy", load_clamp, 0);
	inject_all("control vector", adopt_vector, 1);
}

static char written[64];

/* To a file that is there in full or as it was. */
static int write_policy(struct tt_error *err)
{
	struct tt_policy *policy = NULL;
	char sha256[65];
	uint64_t size = 0;
	int status = tt_policy_load(&policy, GOLDEN("policy/probe.safetensors"), err);
	if (status == TT_OK)
		status = tt_policy_save(policy, written, err);
	if (status == TT_OK)
		status = tt_sha256_file(sha256, written, &size, err);
	tt_policy_free(policy);
	return status;
}

Test(faults, writing)
{
	char directory[] = "test-faults-XXXXXX";
	size_t n = 0;
	cr_assert_not_null(mkdtemp(directory));
	snprintf(written, sizeof written, "%s/policy.safetensors", directory);
	inject_all("policy written", write_policy, 4);
	DIR *folder = opendir(directory);
	cr_assert_not_null(folder);
	for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
		n += entry->d_name[0] != '.';
	closedir(folder);
	cr_expect_eq(n, 1, "%zu files: a temporary one was left", n);
	unlink(written);
	rmdir(directory);
}

/* A file of activations that is made, closed and opened again. */
static int keep_activations(struct tt_error *err)
{
	enum { WIDTH = 4, N = 3 };
	struct tt_activation_file file = {0};
	uint8_t record[128], run[TT_ACTIVATION_DIGEST], key[TT_ACTIVATION_KEY];
	const int32_t ids[] = {1, 2, 3};
	const float h[WIDTH] = {1, 2, 3, 4};
	json_t *numerics = json_pack("{s:s}", "kv", "f32");
	int status = numerics ? TT_OK : tt_fail(err, TT_ERR_MEMORY, "numerics");
	unlink(written);
	if (status == TT_OK)
		status = tt_activation_file_open(&file, written, numerics, WIDTH, err);
	for (size_t i = 0; status == TT_OK && i < N; i++) {
		status = tt_activation_run(run, ids, N, i, N, err);
		tt_activation_key(key, run, 5);
		if (status == TT_OK)
			status = tt_activation_seal(record, key, h, WIDTH, err);
		if (status == TT_OK)
			status = tt_activation_file_add(&file, record, err);
	}
	tt_activation_file_close(&file);
	if (status == TT_OK)
		status = tt_activation_file_open(&file, written, numerics, WIDTH, err);
	if (status == TT_OK)
		status = tt_activation_file_read(&file, key, record, err);
	tt_activation_file_close(&file);
	json_decref(numerics);
	return status;
}

/* Spared: forcing the folder to disk (opening it, and fsync), the file when it is closed, and an allocation of
 * libcrypto in each of ten digests. */
Test(faults, activations)
{
	char directory[] = "test-faults-XXXXXX";
	cr_assert_not_null(mkdtemp(directory));
	snprintf(written, sizeof written, "%s/activations", directory);
	inject_all("activations", keep_activations, 13);
	unlink(written);
	rmdir(directory);
}

static int read_prompts(struct tt_error *err)
{
	static const char *const paths[] = {GOLDEN("policy/rows.jsonl")};
	struct tt_prompts prompts;
	int status = tt_prompts_read(&prompts, paths, 1, NULL, NULL, err);
	if (status != TT_OK)
		return status;
	for (int i = 0; status == TT_OK && i < TT_N_VARIANTS; i++) {
		char *text;
		status = tt_variant_make(&text, (enum tt_variant)i, prompts.rows[0].text, 1, err);
		free(text);
	}
	/* The row as an attack writes it. */
	const struct tt_attack_options options = {.seed = 1};
	struct tt_attacked attacked = {
		.prompt = &prompts.rows[0], .flagged = true, .suffix = {.words = {1, 2}, .n = 2}};
	const struct tt_attack attack = {.options = &options, .rows = &attacked, .n = 1};
	char *lines = NULL;
	if (status == TT_OK)
		status = tt_attack_rows(&attack, &lines, err);
	free(lines);
	tt_prompts_free(&prompts);
	return status;
}

static int read_contrast(struct tt_error *err)
{
	struct tt_contrast contrast;
	int status = tt_contrast_read(&contrast, GOLDEN("policy/style.jsonl"), err);
	if (status == TT_OK)
		tt_contrast_free(&contrast);
	return status;
}

static int read_judgements(struct tt_error *err)
{
	struct tt_judgements judgements;
	enum tt_verdict verdict;
	int status = tt_judgements_read(&judgements, written, err);
	if (status == TT_OK)
		status = tt_judgements_find(&judgements, "b", "steered", &verdict, err);
	tt_judgements_free(&judgements);
	return status;
}

static int read_reviewed(struct tt_error *err)
{
	static const char *const replay[] = {GOLDEN("policy/rows.jsonl")};
	const char *const reviewed[] = {written};
	const struct tt_prompt_form form = {0};
	struct tt_prompts prompts;
	size_t n_replaced;
	int status = tt_prompts_read_reviewed(&prompts, reviewed, 1, replay, 1, &form, &n_replaced, err);
	if (status == TT_OK)
		tt_prompts_free(&prompts);
	static const struct tt_review_case cases[] = {{1, true, true, false}, {0, true, false, false}};
	struct tt_review_choice chosen[2];
	size_t n;
	return status == TT_OK ? tt_review_choose(cases, 2, 2, chosen, &n, err) : status;
}

Test(faults, evaluations)
{
	char directory[] = "test-faults-XXXXXX";
	cr_assert_not_null(mkdtemp(directory));
	snprintf(written, sizeof written, "%s/said.jsonl", directory);
	FILE *file = fopen(written, "w");
	cr_assert_not_null(file);
	fputs("{\"custom_id\": \"a#steered\"}\n\n{\"custom_id\": \"b#steered\", \"response\": null}\n", file);
	fclose(file);
	inject_all("prompts", read_prompts, 2);
	inject_all("contrast", read_contrast, 2);
	inject_all("judgements", read_judgements, 2);
	file = fopen(written, "w");
	cr_assert_not_null(file);
	fputs("{\"id\": \"x\", \"prompt\": \"the rat number 0 bites\", \"verdict\": \"benign\"}\n", file);
	fclose(file);
	inject_all("reviewed", read_reviewed, 2);
	unlink(written);
	rmdir(directory);
}

/* Every line of a batch's input, as far as the engine's options. */
static int read_batch(struct tt_error *err)
{
	struct tt_batch_policy given[] = {{"a", "a"}, {"b.c", "b"}};
	struct tt_named_policy named[] = {{.name = "a"}, {.name = "b.c"}};
	struct tt_batch_options options;
	tt_batch_options_default(&options);
	options.policies = given;
	options.n_policies = 2;
	options.sweep = "a,b.c@0,0.5";
	options.system = "Be brief.";
	struct tt_batch_job job = {.options = &options, .policies = {named, 2}};
	struct tt_api_context context = {
		.policies = &job.policies, .max_tokens = 4, .sampling.top_p = 1, .now = 1700000000};
	struct tt_text *text = NULL;
	struct tt_lines lines = {0};
	struct tt_ids_seen ids = {0};
	struct stat file = {0};
	bool found = true;
	stat(ROWS, &file);
	int status = tt_batch_sweep(&job.sweep, &options, err);
	if (status == TT_OK)
		status = tt_text_open(&text, GOLDEN("tiny-llama"), err);
	context.text = text;
	if (status == TT_OK)
		status = tt_lines_open(&lines, ROWS, (uint64_t)file.st_size, err);
	while (status == TT_OK && found) {
		struct tt_input input = {0};
		struct tt_api_request body = {0};
		status = tt_lines_next(&lines, &found, err);
		if (status == TT_OK && found)
			status = tt_input_read(&input, &job, &lines, &ids, err);
		if (status == TT_OK && found && !input.code)
			status = tt_api_request_parse(&body, input.body, input.endpoint, &context, err);
		tt_api_request_free(&body);
		tt_input_free(&input);
	}
	tt_ids_seen_free(&ids);
	tt_lines_close(&lines);
	tt_text_close(text);
	tt_sweep_free(&job.sweep);
	return status;
}

/* A prompt through an engine, each rank of which has one thread. */
static int answer_by(uint32_t n_ranks, struct tt_error *err)
{
	static const int32_t ids[] = {5, 6, 7};
	struct tt_engine *engine = NULL;
	struct tt_request *request = NULL;
	struct tt_engine_options options;
	struct tt_request_options o;
	const char *stop[] = {"never"};
	tt_engine_options_default(&options);
	tt_request_options_default(&o);
	options.device = "cpu";
	options.n_threads = 1;
	options.context = 64;
	options.max_batch = 2;
	options.n_ranks = n_ranks;
	o.ids = ids;
	o.n_ids = 3;
	o.max_tokens = 3;
	o.stop = stop;
	o.n_stop = 1;
	int status = tt_engine_open(&engine, GOLDEN("tiny-llama3"), &options, err);
	if (status == TT_OK)
		status = tt_request_submit(&request, engine, &o, err);
	if (status == TT_OK)
		status = tt_request_wait(request, err);
	tt_request_free(request);
	tt_engine_close(engine);
	return status;
}

static int answer(struct tt_error *err)
{
	return answer_by(1, err);
}

/* Where rank 0 fails, nobody is left waiting. It looks at ranks that are slow; a look that fails has seen nothing. */
static int answer_by_ranks(struct tt_error *err)
{
	return answer_by(2, err);
}

Test(faults, batches_and_engines)
{
	inject_all("batch", read_batch, 27);
	inject_all("engine", answer, 18);
	inject_all("ranks", answer_by_ranks, 60);
}

static struct tt_engine *shared_engine;
static char capture_data[64], capture_partial[80], capture_journal[80];

static int stop_after_one(void *user, const char *stage, uint64_t done, uint64_t total)
{
	(void)user;
	(void)total;
	return strcmp(stage, "rows") == 0 && done > 0;
}

/* Two rows, of which the second is made by another call. */
static int capture_rows(struct tt_error *err)
{
	struct tt_capture_data_options options = {.size = sizeof options, .data = capture_data, .layers = "1"};
	unlink(written);
	unlink(capture_partial);
	unlink(capture_journal);
	options.progress = stop_after_one;
	int status = tt_capture_data(shared_engine, &options, written, NULL, err);
	if (status != TT_ERR_LIMIT)
		return status;
	options.progress = NULL;
	return tt_capture_data(shared_engine, &options, written, NULL, err);
}

/* Spared: where the outputs are compared with what is read, any stat (169 of a model's directory in two calls), since
 * opening the file then says why; forcing the folder to disk; and an allocation of libcrypto in each digest. */
Test(faults, captures)
{
	static const char rows[] = "{\"prompt\": [5, 6]}\n{\"prompt\": [7]}\n";
	char directory[] = "test-faults-XXXXXX";
	struct tt_engine_options options;
	struct tt_error err = {0};
	cr_assert_not_null(mkdtemp(directory));
	snprintf(written, sizeof written, "%s/x", directory);
	snprintf(capture_data, sizeof capture_data, "%s/rows", directory);
	snprintf(capture_partial, sizeof capture_partial, "%s.partial", written);
	snprintf(capture_journal, sizeof capture_journal, "%s.journal", written);
	tt_engine_options_default(&options);
	options.device = "cpu";
	options.n_threads = 1;
	options.context = 64;
	options.max_batch = 2;
	cr_assert_eq(tt_engine_open(&shared_engine, GOLDEN("tiny-llama3"), &options, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_file_write(capture_data, rows, strlen(rows), &err), TT_OK);
	inject_all("captures", capture_rows, 195);
	tt_engine_close(shared_engine);
	unlink(written);
	unlink(capture_data);
	cr_expect_eq(rmdir(directory), 0);
}

enum { TRAIN_ROWS = 12, TRAIN_FEATURES = 5 };

/* A regression and a perceptron on principal components, over a few rows. */
static int train_on(const struct tt_rows *rows, const bool *label, struct tt_error *err)
{
	struct tt_gram *gram = NULL;
	struct tt_ridge *ridge = NULL;
	struct tt_pca *pca = NULL;
	struct tt_mlp *mlp = NULL, *raw = NULL;
	struct tt_mlp_options options;
	const uint8_t fold[TRAIN_ROWS] = {0, 0, 0, 1, 1, 1};
	double held[TRAIN_ROWS], figure;
	float w[TRAIN_FEATURES], b, z[TRAIN_ROWS], target[TRAIN_ROWS] = {1, 0, 1};
	const struct tt_rows few = {rows->x, NULL, TRAIN_ROWS, 2, TRAIN_FEATURES};
	const struct tt_mlp_data data = {few, target};
	tt_mlp_options_default(&options);
	int status = tt_gram_open(&gram, rows, err);
	if (status == TT_OK)
		status = tt_ridge_open(&ridge, gram, label, err);
	if (status == TT_OK)
		status = tt_ridge_held(ridge, fold, 2, 1, held, err);
	if (status == TT_OK)
		status = tt_auc(held, label, TRAIN_ROWS, &figure, err);
	if (status == TT_OK)
		status = tt_tpr_at_fpr(held, label, TRAIN_ROWS, 0.5, &figure, NULL, err);
	if (status == TT_OK)
		status = tt_ridge_fit(ridge, 1, w, &b, err);
	if (status == TT_OK)
		status = tt_pca_fit(&pca, gram, 2, err);
	if (status == TT_OK)
		status = tt_mlp_open(&mlp, 2, 3, 1, err);
	if (status == TT_OK)
		status = tt_mlp_train(mlp, &data, &options, NULL, err);
	if (status == TT_OK)
		status = tt_mlp_unproject(&raw, mlp, pca, err);
	if (status == TT_OK)
		status = tt_mlp_run(raw, rows, z, err);
	tt_mlp_close(raw);
	tt_mlp_close(mlp);
	tt_pca_free(pca);
	tt_ridge_close(ridge);
	tt_gram_close(gram);
	return status;
}

static int train(struct tt_error *err)
{
	float x[TRAIN_ROWS * TRAIN_FEATURES];
	bool label[TRAIN_ROWS];
	for (int i = 0; i < TRAIN_ROWS * TRAIN_FEATURES; i++) {
		x[i] = (float)(i * i % 17);
		label[i / TRAIN_FEATURES] = i % 2;
	}
	const struct tt_rows rows = {x, NULL, TRAIN_ROWS, TRAIN_FEATURES, TRAIN_FEATURES};
	return train_on(&rows, label, err);
}

Test(faults, training)
{
	size_t spared = 0;
	for (int on = 0; on < 2; on++)
		cr_expect_gt(inject("train", train, FAULT_ALLOCATION, on, &spared), 40);
	cr_expect_eq(spared, 0);
}

/* Open for all calls, since how it opens is tested above. */
static struct tt_engine *fit_engine;

static int read_choices(struct tt_error *err)
{
	const struct tt_choices_form form = {.letters = true};
	struct tt_choices choices;
	int status = tt_choices_read(&choices, fit_engine, GOLDEN("score/letters.jsonl"), &form, 0, err);
	if (status == TT_OK)
		tt_choices_free(&choices);
	return status;
}

/* The paper's controller as a mode of fit makes it: rows, directions, gate, and a policy with both. */
static int make_controller(struct tt_error *err)
{
	static const char *const data[] = {GOLDEN("policy/rows.jsonl")};
	struct tt_fit_options options;
	struct tt_progress progress = {0};
	struct tt_fit_rows rows = {0};
	struct tt_fit_directions directions = {0};
	struct tt_fit_gate gate = {0};
	struct tt_policy *policy = NULL;
	const struct tt_model_info *info = tt_engine_info(fit_engine);
	tt_fit_options_default(&options);
	options.mode = TT_FIT_RELEASED;
	options.data = data;
	options.n_data = 1;
	options.n_gate_prompts = 4;
	options.n_direction_prompts = options.n_judge_prompts = 1;
	int status = tt_fit_rows_read(&rows, fit_engine, &options, err);
	if (status == TT_OK)
		status = tt_fit_embedding_make(&directions, fit_engine, &fit_engine->model->embedding, err);
	if (status == TT_OK)
		status = tt_fit_mlp_make(&gate, fit_engine, &rows, &options, NULL, &progress, err);
	if (status == TT_OK)
		status = tt_policy_new(&policy, info->n_layers, info->hidden_size, 1, err);
	if (status == TT_OK)
		status = gate.fill(&gate, policy, err);
	tt_policy_free(policy);
	tt_fit_gate_free(&gate);
	tt_fit_directions_free(&directions);
	tt_fit_rows_free(&rows);
	return status;
}

Test(faults, fitting)
{
	struct tt_engine_options options;
	struct tt_error err = {0};
	tt_engine_options_default(&options);
	options.device = "cpu";
	options.n_threads = 1;
	options.context = 256;
	options.max_batch = 2;
	options.no_prefix_sharing = true;
	cr_assert_eq(tt_engine_open(&fit_engine, GOLDEN("tiny-llama"), &options, &err), TT_OK, "%s", err.message);
	networks_learn(false); /* their failures are tested above, and they were nine tenths of a fit's time */
	/* Two of each of the 32 texts that are encoded, one of each of the 8 requests, and one of libcrypto's for the
	 * files and for each digest: two of each of the 8 rows' 3 states, and one of the states together, twice. */
	inject_all("controller", make_controller, 73 + 50);
	/* Two of each of the 11 texts that are encoded, and one of libcrypto's for the file. */
	inject_all("choices", read_choices, 2 * 11 + 1);
	tt_engine_close(fit_engine);
}

/* Components of made-up pairs, and a map between them. */
static int direct(struct tt_error *err)
{
	enum { PAIRS = 8, WIDTH = 5 };
	struct tt_fit_directions d = {.n_layers = 1, .hidden_size = WIDTH, .n_prompts = PAIRS};
	int status = tt_alloc(&d.response, WIDTH, sizeof *d.response, err);
	if (status == TT_OK)
		status = tt_alloc(&d.norms, 1, sizeof *d.norms, err);
	if (status == TT_OK)
		status = tt_alloc(&d.refusing, PAIRS * WIDTH, sizeof *d.refusing, err);
	if (status == TT_OK)
		status = tt_alloc(&d.answering, PAIRS * WIDTH, sizeof *d.answering, err);
	for (int i = 0; status == TT_OK && i < PAIRS * WIDTH; i++) {
		d.refusing[i] = (float)(i * i % 17);
		d.answering[i] = (float)(i % 7);
	}
	if (status == TT_OK)
		status = tt_fit_pca(&d, err);
	if (status == TT_OK)
		status = tt_fit_affine(&d, 2, err);
	tt_fit_directions_free(&d);
	return status;
}

static struct {
	struct tt_engine *engine;
	struct tt_fit_rows rows;
	struct tt_fit_options options;
} fitted;

/* The selection of a difference of means, among one. */
static int select_mean(struct tt_error *err)
{
	struct tt_fit_mean mean;
	struct tt_fit_directions directions = {0};
	struct tt_progress progress = {0};
	int status = tt_fit_mean_make(&mean, &directions, fitted.engine, &fitted.rows, &fitted.options, &progress, err);
	tt_fit_directions_free(&directions);
	tt_fit_mean_free(&mean);
	return status;
}

Test(faults, directions)
{
	static const char *const data[] = {GOLDEN("policy/rows.jsonl")};
	struct tt_error err;
	struct tt_engine_options o;
	size_t spared = 0, shared = 0;
	tt_engine_options_default(&o);
	o.device = "cpu";
	o.n_threads = 1;
	cr_assert_eq(tt_engine_open(&fitted.engine, GOLDEN("tiny-llama"), &o, &err), TT_OK);
	tt_fit_options_default(&fitted.options);
	fitted.options.data = data;
	fitted.options.n_data = 1;
	fitted.options.n_direction_prompts = fitted.options.n_judge_prompts = fitted.options.max_candidates = 1;
	cr_assert_eq(tt_fit_rows_read(&fitted.rows, fitted.engine, &fitted.options, &err), TT_OK);
	for (int on = 0; on < 2; on++) {
		cr_expect_gt(inject("direct", direct, FAULT_ALLOCATION, on, &spared), 30);
		cr_expect_gt(inject("select", select_mean, FAULT_ALLOCATION, on, &shared), 60);
	}
	cr_expect_eq(spared, 0);
	/* Where libcrypto has no memory, pages have no key and are not shared. */
	cr_expect_leq(shared, 80, "%zu", shared);
	tt_fit_rows_free(&fitted.rows);
	tt_engine_close(fitted.engine);
}
