#include "runtime/openai/policy_names.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/sha256.h"

static int load(struct tt_named_policies *out, struct tt_engine *engine, const struct tt_policy_files *files,
	struct tt_error *err)
{
	uint64_t size;
	TT_TRY(tt_alloc(&out->list, files->n, sizeof *out->list, err));
	for (size_t i = 0; i < files->n; i++) {
		struct tt_named_policy *named = &out->list[out->n++];
		const char *warning = NULL;
		named->name = files->list[i].name;
		TT_TRY(tt_sha256_file(named->sha256, files->list[i].path, &size, err));
		TT_TRY(tt_policy_load(&named->policy, files->list[i].path, err));
		if (files->layers)
			TT_TRY(tt_policy_keep_layers(named->policy, files->layers, err));
		int status = tt_engine_add_policy(engine, named->policy, &warning, err);
		TT_TRY(tt_within(status, err, files->list[i].path));
		if (warning && files->note)
			files->note(files->user, warning);
	}
	return TT_OK;
}

int tt_named_policies_load(struct tt_named_policies *out, struct tt_engine *engine, const struct tt_policy_files *files,
	struct tt_error *err)
{
	*out = (struct tt_named_policies){0};
	int status = load(out, engine, files, err);
	if (status != TT_OK)
		tt_named_policies_free(out, engine);
	return status;
}

void tt_named_policies_free(struct tt_named_policies *policies, struct tt_engine *engine)
{
	for (size_t i = 0; i < policies->n; i++) {
		if (policies->list[i].policy)
			tt_engine_remove_policy(engine, policies->list[i].policy, NULL);
		tt_policy_free(policies->list[i].policy);
	}
	free(policies->list);
	*policies = (struct tt_named_policies){0};
}

const struct tt_named_policy *tt_named_policies_find(const struct tt_named_policies *policies, const char *name)
{
	for (size_t i = 0; policies && i < policies->n; i++)
		if (!strcmp(policies->list[i].name, name))
			return &policies->list[i];
	return NULL;
}
