/* What the library is, and what it was built with. */
#include <stdio.h>

#include "base/compiler.h"
#include "base/fail.h"
#include "base/json.h"
#include "kernels/backend.h"
#include "runtime/engine/rank_messages.h"
#include "runtime/trimtab.h"
#include "tt_commit.h"

const char *tt_version(void)
{
	return TT_VERSION;
}

int tt_describe_build(char **report, struct tt_error *err)
{
	TT_TRY(tt_need(report, "report", err));
	*report = NULL;
	return tt_json_dump(report,
		json_pack("{s:s, s:s, s:s, s:s, s:s?}", "version", TT_VERSION, "commit", TT_COMMIT, "compiler",
			TT_COMPILER, "cpu", tt_cpu_body_name(), "cuda", tt_cuda_built()),
		JSON_COMPACT, err);
}

void tt_rank_build(char build[100])
{
	snprintf(build, 100, "%s, %s, %s", TT_VERSION, TT_COMMIT, TT_COMPILER);
}
