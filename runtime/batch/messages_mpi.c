#include "runtime/batch/messages_mpi.h"

#include <string.h>

#include "base/clock.h"

bool tt_mpi_receive(int *from, int tag, void *data, size_t size)
{
	MPI_Message message;
	MPI_Status status;
	int arrived = 0;
	MPI_Improbe(*from, tag, MPI_COMM_WORLD, &arrived, &message, &status);
	if (!arrived)
		return false;
	*from = status.MPI_SOURCE;
	MPI_Mrecv(data, (int)size, MPI_BYTE, &message, MPI_STATUS_IGNORE);
	return true;
}

void tt_mpi_send(int to, int tag, const void *data, size_t size)
{
	MPI_Send(data, (int)size, MPI_BYTE, to, tag, MPI_COMM_WORLD);
}

void tt_mpi_nap(void)
{
	tt_sleep(1e-3);
}

void tt_mpi_await(int from, int tag, void *data, size_t size)
{
	while (!tt_mpi_receive(&from, tag, data, size))
		tt_mpi_nap();
}

void tt_mpi_finish(MPI_Request *request)
{
	for (int done = 0;; tt_mpi_nap()) {
		MPI_Test(request, &done, MPI_STATUS_IGNORE);
		if (done)
			return;
	}
}

void tt_mpi_post(struct tt_mpi_letter *letter, int to, int tag, const void *data, size_t size)
{
	tt_mpi_settle(letter);
	memcpy(letter->data, data, size);
	MPI_Isend(letter->data, (int)size, MPI_BYTE, to, tag, MPI_COMM_WORLD, &letter->sent);
	letter->is_out = true;
}

void tt_mpi_settle(struct tt_mpi_letter *letter)
{
	if (letter->is_out)
		tt_mpi_finish(&letter->sent);
	letter->is_out = false;
}
