/* Keeps a command from overwriting files that the engine reads. */
#ifndef RUNTIME_ENGINE_OUTPUTS_H
#define RUNTIME_ENGINE_OUTPUTS_H

#include "base/outputs.h"
#include "runtime/engine/engine.h"

/* tt_check_outputs, but the files of the model and of every added policy count as read too. */
int tt_engine_check_outputs(struct tt_engine *engine, const struct tt_file_use *reads, size_t n_reads,
	const struct tt_file_use *writes, size_t n_writes, struct tt_error *err);

#endif
