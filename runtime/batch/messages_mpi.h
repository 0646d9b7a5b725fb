/* What ranks send one another, and how they wait. */
#ifndef RUNTIME_BATCH_MESSAGES_MPI_H
#define RUNTIME_BATCH_MESSAGES_MPI_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

enum tt_mpi_tag { TT_MPI_PLACE, TT_MPI_START, TT_MPI_CLAIM, TT_MPI_RANGE, TT_MPI_FINISHED, TT_MPI_FILE, TT_MPI_PIECE };

/* Takes a message of size bytes, if one of this tag has come: *from is its sender, MPI_ANY_SOURCE before for any. */
bool tt_mpi_receive(int *from, int tag, void *data, size_t size);
void tt_mpi_send(int to, int tag, const void *data, size_t size);

/* A message that never waits for its receiver, who may be in the middle of a long step. Zero-initialise it; it carries
 * another one once the receiver has shown that it has got this. */
struct tt_mpi_letter {
	char data[64];
	MPI_Request sent;
	bool is_out;
};
void tt_mpi_post(struct tt_mpi_letter *letter, int to, int tag, const void *data, size_t size);
/* Waits until it has been received, if it was posted. */
void tt_mpi_settle(struct tt_mpi_letter *letter);

/* Sleeps for a millisecond: a rank that waits in MPI itself would take a whole core. */
void tt_mpi_nap(void);
/* Waits for a message, or for an operation that was begun. */
void tt_mpi_await(int from, int tag, void *data, size_t size);
void tt_mpi_finish(MPI_Request *request);

#endif
