#include "runtime/engine/numerics.h"

#include "base/fail.h"
#include "base/json.h"
#include "base/sha256.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/request.h"

/* A digest of the log-probabilities that the model gives 16 fixed tokens. It differs if the weights, the cache type or
 * the rounding of the processor do; with any of these the answers would not continue the earlier ones. */
static int probe(char out[65], struct tt_engine *engine, struct tt_error *err)
{
	int32_t ids[16];
	struct tt_request *request = NULL;
	struct tt_request_options options;
	const struct tt_model_info *info = tt_engine_info(engine);
	uint32_t n = info->context < 16 ? info->context : 16;
	tt_request_options_default(&options);
	for (uint32_t i = 0; i < n; i++)
		ids[i] = (int32_t)((i * 131 + 17) % info->vocab_size);
	options.ids = ids;
	options.n_ids = n;
	options.score = true;
	TT_TRY(tt_request_submit_own(&request, engine, &options, err));
	int status = tt_request_wait(request, err);
	if (status == TT_OK)
		status = tt_sha256(out, tt_request_scores(request), n * sizeof(float), err);
	tt_request_free(request);
	return status;
}

const char *tt_engine_compute(const struct tt_engine *engine)
{
	return engine->options.compute == TT_COMPUTE_Q8 ? "q8" : "f32";
}

enum tt_kv_type tt_engine_kv_type(const struct tt_engine *engine)
{
	bool half = engine->options.kv == TT_KV_DEFAULT && engine->options.kv_f16;
	return half ? TT_KV_F16 : engine->options.kv;
}

const char *tt_kv_name(enum tt_kv_type type)
{
	static const char *const names[] = {[TT_KV_DEFAULT] = "f32",
		[TT_KV_F32] = "f32",
		[TT_KV_F16] = "f16",
		[TT_KV_BF16] = "bf16",
		[TT_KV_Q8] = "q8",
		[TT_KV_FP8] = "fp8"};
	return names[type];
}

int tt_engine_numerics(json_t *object, struct tt_engine *engine, struct tt_error *err)
{
	const struct tt_model_info *info = tt_engine_info(engine);
	char answer[65];
	TT_TRY(probe(answer, engine, err));
	TT_TRY(tt_json_set(object, "fingerprint", json_string(info->fingerprint), err));
	TT_TRY(tt_json_set(object, "weights_digest", json_string(info->weights_digest), err));
	TT_TRY(tt_json_set(object, "backend", json_string(info->backend), err));
	TT_TRY(tt_json_set(object, "mode", json_string(info->mode), err));
	TT_TRY(tt_json_set(object, "kv", json_string(tt_kv_name(tt_engine_kv_type(engine))), err));
	if (engine->options.compute != TT_COMPUTE_F32)
		TT_TRY(tt_json_set(object, "compute", json_string(tt_engine_compute(engine)), err));
	if (info->chat_template_sha256)
		TT_TRY(tt_json_set(object, "chat_template", json_string(info->chat_template_sha256), err));
	return tt_json_set(object, "probe", json_string(answer), err);
}

int tt_engine_report(char **out, json_t *report, const struct tt_engine *engine, struct tt_error *err)
{
	const char *template = engine->info.chat_template_sha256;
	if (report && template && tt_json_set(report, "chat_template", json_string(template), err) != TT_OK) {
		json_decref(report);
		return tt_fail(err, TT_ERR_MEMORY, "out of memory: the report");
	}
	return tt_json_dump(out, report, JSON_INDENT(1) | JSON_REAL_PRECISION(6), err);
}
