/* The end of a listener. Who the kernel has let in while the loop looked elsewhere would be cut off without a word if
 * the listener was just closed. So it is closed in two steps: first nobody new is let in, but who is at the door comes
 * in; when there was time for that, those that wait are taken, and it is closed. */
#ifndef RUNTIME_SERVE_LISTENER_H
#define RUNTIME_SERVE_LISTENER_H

#include <uv.h>

struct tt_server;

/* Lets nobody new in, as far as this system can do that. Handles that do not listen are passed over, here and below. */
void tt_listener_stop(const uv_stream_t *listener);
/* Takes all that wait, and closes it. */
void tt_listener_close(struct tt_server *server, uv_stream_t *listener);

#endif
