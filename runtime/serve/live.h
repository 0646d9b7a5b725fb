/* The operators' page: its files, and what it asks for. The page is runtime/serve/dashboard/; docs/serve.md says what
 * it shows to whom. */
#ifndef RUNTIME_SERVE_LIVE_H
#define RUNTIME_SERVE_LIVE_H

#include "runtime/serve/reply.h"

/* GET / and what lies in /dashboard/. */
void tt_live_file(struct tt_connection *c);
/* GET /v1/admin/live: what runs at this moment, what steers, and what was counted. */
void tt_live_answer(struct tt_connection *c);
/* GET /v1/admin/log: the head of the audit log, the requests that ended last, and the last changes of the store. */
void tt_live_log(struct tt_connection *c);
/* GET /v1/admin/map/SEQ: a request of the log, run again: how hard each layer was pushed at each token. */
void tt_live_map(struct tt_connection *c);
/* From any thread: ends the map that is being made, if the policy steers its request; NULL: whatever steers it. */
void tt_live_map_stop(struct tt_server *server, const char *policy);
/* Why such a request is not answered, as far as its header tells; NULL: it is. */
const struct tt_problem *tt_live_objection(const struct tt_connection *c);

#endif
