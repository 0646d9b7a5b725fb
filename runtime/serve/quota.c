#include "runtime/serve/quota.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "runtime/serve/job.h"

static uint64_t now_of(const struct tt_job *job)
{
	return uv_now(&job->server->loop);
}

int tt_quota_find(struct tt_job *job, const struct tt_key *key)
{
	struct tt_server *server = job->server;
	struct tt_quota *quota = server->quotas;
	job->token_limits[TT_A_MINUTE] = key ? key->minute_tokens : 0;
	job->token_limits[TT_A_DAY] = key ? key->day_tokens : 0;
	if (!job->token_limits[TT_A_MINUTE] && !job->token_limits[TT_A_DAY])
		return TT_OK;
	while (quota && strcmp(quota->key, key->id) != 0)
		quota = quota->next;
	if (!quota) {
		if (tt_alloc(&quota, 1, sizeof *quota, NULL) != TT_OK)
			return TT_ERR_MEMORY;
		if (tt_copy_string(&quota->key, key->id, strlen(key->id), NULL) != TT_OK) {
			free(quota);
			return TT_ERR_MEMORY;
		}
		quota->next = server->quotas;
		server->quotas = quota;
	}
	job->quota = quota;
	return TT_OK;
}

uint64_t tt_quota_wait(struct tt_job *job, uint64_t n)
{
	enum tt_rate_window window;
	uint64_t wait = job->quota ? tt_rate_wait(&job->quota->rate, job->token_limits, n, now_of(job), &window) : 0;
	if (wait)
		job->server->metrics.n_over_quota[window]++;
	return wait;
}

void tt_quota_begin(struct tt_job *job)
{
	if (!job->quota)
		return;
	job->reserves = true;
	tt_rate_reserve(&job->quota->rate, job->longest);
}

void tt_quota_end(struct tt_job *job)
{
	uint64_t used = job->n_submitted ? tt_api_n_prompt_tokens(&job->body) : 0;
	if (!job->reserves)
		return;
	for (uint32_t i = 0; i < job->n_submitted; i++)
		used += job->news[i].n_tokens;
	tt_rate_charge(&job->quota->rate, job->longest, used, now_of(job));
	job->server->metrics.n_quota_tokens += used;
	job->reserves = false;
}

void tt_quotas_free(struct tt_server *server)
{
	while (server->quotas) {
		struct tt_quota *next = server->quotas->next;
		free(server->quotas->key);
		free(server->quotas);
		server->quotas = next;
	}
}
