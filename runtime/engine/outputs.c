/* Keeps a command from overwriting files that the engine reads. */
#include "runtime/engine/outputs.h"

#include <stdlib.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/outputs.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/thread.h"
#include "runtime/text/text.h"

int tt_engine_check_outputs(struct tt_engine *engine, const struct tt_file_use *reads, size_t n_reads,
	const struct tt_file_use *writes, size_t n_writes, struct tt_error *err)
{
	struct tt_file_use *all = NULL; // [n_reads + 2 + TT_MAX_SLOTS]
	size_t n = 0;
	TT_TRY(tt_alloc(&all, n_reads + 2 + TT_MAX_SLOTS, sizeof *all, err));
	for (size_t i = 0; i < n_reads; i++)
		all[n++] = reads[i];
	all[n++] = (struct tt_file_use){engine->path, "the model"};
	all[n++] = (struct tt_file_use){tt_text_template_path(engine->text), "the chat template"};
	tt_lock(engine); /* otherwise a policy might be removed and freed meanwhile */
	for (size_t i = 0; i < TT_MAX_SLOTS; i++)
		if (engine->policies[i].policy && engine->policies[i].policy->path)
			all[n++] = (struct tt_file_use){engine->policies[i].policy->path, "a policy"};
	int status = tt_check_outputs(all, n, writes, n_writes, err);
	tt_unlock(engine);
	/* The shards of a model need no check by name: an index may name them anything, but they are all mapped. */
	for (size_t i = 0; i < n_writes && status == TT_OK; i++)
		if (writes[i].path && tt_file_is_mapped(writes[i].path))
			status = tt_fail(err, TT_ERR_ARGUMENT, "%s would be both the model and %s", writes[i].path,
				writes[i].role);
	free(all);
	return status;
}
