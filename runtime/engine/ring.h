/* The memory that the processes of an engine's ranks share, and in it the ring of rank 0's commands, which every rank
 * carries out in the same order. Rank 0 writes commands; the others, which trust nothing of them, read copies. */
#ifndef RUNTIME_ENGINE_RING_H
#define RUNTIME_ENGINE_RING_H

#include "kernels/meeting.h"
#include "kernels/results.h"

/* What follows a command, in at most the ring's capacity of bytes. */
enum tt_command_kind {
	TT_COMMAND_STEP,       /* argument is its number; a step plan */
	TT_COMMAND_RESTORE,    /* argument coefficient rows: their numbers, uint32, then the rows, float [n_layers] */
	TT_COMMAND_ADD_POLICY, /* argument is its slot; the policy comes by the socket (policy_pack.h) */
	TT_COMMAND_REMOVE_POLICY, /* argument is the slot */
	TT_COMMAND_CONNECT,       /* the backends, once, after all have loaded */
	TT_COMMAND_STOP,
};

struct tt_command {
	uint32_t kind, argument, n_bytes;
};

/* A process's view of the memory. */
struct tt_ring {
	void *memory; /* of n_bytes bytes */
	size_t n_bytes;
	struct tt_meeting *meeting;
	void *shared;    /* the backends' part */
	char *slots;     /* commands, by their number */
	size_t capacity; /* of one command */
	uint32_t n_taken;
};

/* Makes the memory, all zeros, with room for the commands of such limits and n_shared bytes of the backends, and maps
 * it. *file: what tt_ring_map takes in another process; it has no name, and goes when the last process closes it. */
int tt_ring_open(struct tt_ring *out, int *file, uint32_t n_ranks, const struct tt_limits *limits, uint32_t n_layers,
	size_t n_shared, struct tt_error *err);
/* TT_ERR_FORMAT where the file has not the size that this asks for. */
int tt_ring_map(struct tt_ring *out, int file, const struct tt_limits *limits, uint32_t n_layers, size_t n_shared,
	struct tt_error *err);
void tt_ring_close(struct tt_ring *ring);

/* Rank 0: waits until the next command's place is free, and gives room of capacity bytes for what follows it; then
 * hands the command out. False where the meeting has ended. */
bool tt_ring_reserve(struct tt_ring *ring, void *out_room);
void tt_ring_publish(struct tt_ring *ring, struct tt_command command);
/* Rank 0: waits until all have carried out that command, and those before it. */
bool tt_ring_wait(struct tt_ring *ring, uint32_t command);
/* The number of the last command that was handed out. */
uint32_t tt_ring_last(const struct tt_ring *ring);

/* Another rank: waits for the next command, and copies what follows it to room. False where the meeting has ended, or
 * the command is longer than it may be. done says that it is carried out. */
bool tt_ring_take(struct tt_ring *ring, struct tt_command *command, void *room);
void tt_ring_done(struct tt_ring *ring, uint32_t rank);

#endif
