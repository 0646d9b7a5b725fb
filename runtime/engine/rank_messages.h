/* What rank 0 and another rank's process say to each other by their socket, whole structs of one build: at the start,
 * and when a policy is added. Commands go by the ring (ring.h). */
#ifndef RUNTIME_ENGINE_RANK_MESSAGES_H
#define RUNTIME_ENGINE_RANK_MESSAGES_H

#include "base/tt_error.h"
#include "kernels/results.h"

/* Of rank 0, with the file of the ring. */
struct tt_rank_hello {
	char build[100]; /* both are of the same */
	int32_t parent;  /* rank 0's process */
	uint32_t rank, n_ranks;
	char backend[16];
	uint32_t variant, n_threads;
	struct tt_limits limits;
	uint32_t kv_tokens;
	enum tt_kv_type kv_type;
	char weights_digest[65];
	char path[4096]; /* of the model */
};

/* Of rank 0, with a file that holds the policy. */
struct tt_rank_policy {
	uint64_t n_bytes;
	uint8_t digest[32]; /* SHA-256 */
};

/* The answer to either. */
struct tt_rank_reply {
	struct tt_error error;
	uint64_t kv_bytes, weight_bytes, rounded_bytes; /* to a hello: what it has of the model's */
};

/* Sends n bytes, and a file where that is not -1. */
int tt_rank_send(int socket, const void *message, size_t n, int file, struct tt_error *err);
/* Waits for a message of just n bytes; *file: the file that came with it, which is then the caller's, or -1. file may
 * be NULL. TT_ERR_IO where the other process has ended. */
int tt_rank_receive(int socket, void *message, size_t n, int *file, struct tt_error *err);

/* The name of this build. */
void tt_rank_build(char build[100]);

#endif
