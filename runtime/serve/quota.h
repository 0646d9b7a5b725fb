/* The tokens a minute and a day of keys that have such limits, on the loop's thread. */
#ifndef RUNTIME_SERVE_QUOTA_H
#define RUNTIME_SERVE_QUOTA_H

#include "runtime/serve/rate_limit.h"

struct tt_key;
struct tt_job;
struct tt_server;

/* Of a key that has asked, whatever catalog it is in. A server that starts begins anew. */
struct tt_quota {
	char *key; /* its id */
	struct tt_rate_limit rate;
	struct tt_quota *next;
};

/* Of the job's key, before anything else of it. The memory may not be there. */
int tt_quota_find(struct tt_job *job, const struct tt_key *key);
/* Milliseconds until what comes to n tokens may begin; 0: it may now. Counts it as refused otherwise. */
uint64_t tt_quota_wait(struct tt_job *job, uint64_t n);
/* Reserves what the job may come to, and gives it back for what it came to. */
void tt_quota_begin(struct tt_job *job);
void tt_quota_end(struct tt_job *job);
void tt_quotas_free(struct tt_server *server);

#endif
