/* What the bits of an answer depend on beside the request, in words: a file that must not mix two numerics holds it. */
#ifndef RUNTIME_ENGINE_NUMERICS_H
#define RUNTIME_ENGINE_NUMERICS_H

#include <jansson.h>

#include "runtime/trimtab.h"

/* Sets fingerprint, weights_digest, backend, mode, kv and probe, all of them strings; compute where that is not f32:
 * files from before there was a choice are in f32 and say nothing; and chat_template, the SHA-256 of one that is not
 * the model's own. Runs the model on 16 tokens. */
int tt_engine_numerics(json_t *object, struct tt_engine *engine, struct tt_error *err);

/* What an engine's products are computed in: "f32" or "q8". */
const char *tt_engine_compute(const struct tt_engine *engine);

/* Takes over the report of a measurement and writes it into a new text (free()), with the SHA-256 of the chat template
 * as chat_template where the engine has not the model's own. NULL is TT_ERR_MEMORY, as of tt_json_dump. */
int tt_engine_report(char **out, json_t *report, const struct tt_engine *engine, struct tt_error *err);

/* What its options ask the KV cache to be, TT_KV_DEFAULT where they ask for nothing, and a type's word; that of
 * TT_KV_DEFAULT is f32. */
enum tt_kv_type tt_engine_kv_type(const struct tt_engine *engine);
const char *tt_kv_name(enum tt_kv_type type);

#endif
