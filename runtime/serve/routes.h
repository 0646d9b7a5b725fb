/* What is served: methods and paths, matched byte for byte. What is not in the table is not there. */
#ifndef RUNTIME_SERVE_ROUTES_H
#define RUNTIME_SERVE_ROUTES_H

#include "runtime/serve/connection.h"

/* Refuses the connection's request if its header is reason enough, and says whether it did. */
bool tt_route_refuse(struct tt_connection *c);
/* Answers the connection's request, now or later. */
void tt_route(struct tt_connection *c);

/* What its path takes, as the field Allow has it. */
const char *tt_route_methods(const struct tt_connection *c);

#endif
