/* What is served: methods and paths, matched byte for byte. What is not in the table is not there. */
#ifndef RUNTIME_SERVE_ROUTES_H
#define RUNTIME_SERVE_ROUTES_H

#include "runtime/serve/connection.h"

/* Answers the connection's request, now or later. */
void tt_route(struct tt_connection *c);

#endif
