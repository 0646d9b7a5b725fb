/* A rank other than the first: a process that carries out rank 0's commands (ring.h). */
#ifndef RUNTIME_ENGINE_FOLLOWER_H
#define RUNTIME_ENGINE_FOLLOWER_H

#include "base/tt_error.h"

/* Is greeted by socket (rank_messages.h), loads its part of the model, and runs until it is told to stop, rank 0 ends
 * or some rank fails. The process ends with the thread of rank 0's that started it. */
int tt_follower_run(int socket, struct tt_error *err);

#endif
