/* A batch on the ranks of Open MPI, for the program trimtab-mpi: rank 0 hands out rows as the others ask for them, and
 * merges what all have written. The library and trimtab have no_mpi.c in its place, and never link libmpi. */
#ifndef RUNTIME_BATCH_DISTRIBUTE_MPI_H
#define RUNTIME_BATCH_DISTRIBUTE_MPI_H

#include "runtime/trimtab.h"

bool tt_mpi_is_built(void);

/* This process among those that mpirun started; one of one, where it was started without. */
struct tt_mpi {
	int rank, n_ranks;
	int local_rank, n_local; /* among those on the same machine */
	int before, after;       /* of the ranks that are the first on their machine, the ones next to this; -1: none */
	bool is_first;           /* on its machine */
};
/* Called once, before all else here. */
int tt_mpi_open(struct tt_mpi *mpi, struct tt_error *err);

/* Copies a model, a file or a folder of files, from where rank 0 reads it to a folder that every machine has for
 * itself. *staged is its path there, for free(). Called by all ranks; after an error tt_mpi_abort ends them. */
int tt_mpi_stage(const struct tt_mpi *mpi, const char *model, const char *folder, char **staged, struct tt_error *err);

/* What a rank has done. */
struct tt_mpi_report {
	uint64_t n_rows, n_errors, n_prompt_tokens, n_generated_tokens;
	double seconds; /* since it first asked for rows */
};
/* Answers the rows of options that are not there yet, on all ranks, and merges. On rank 0 report is of the whole
 * output, but for the tokens, which are this run's, and ranks gets what each rank has done; on others report is of that
 * rank, and so is ranks[0]. After an error the caller ends with tt_mpi_abort, since other ranks wait. */
int tt_mpi_batch(const struct tt_mpi *mpi, struct tt_engine *engine, const struct tt_batch_options *options,
	struct tt_batch_report *report, struct tt_mpi_report *ranks, struct tt_error *err);

/* Ends this rank in good order, when all do. */
void tt_mpi_close(void);
/* Ends all ranks, with the exit status. */
void tt_mpi_abort(int status);

#endif
