/* What stands for Open MPI in trimtab, which is not trimtab-mpi. */
#include "base/fail.h"
#include "runtime/batch/distribute_mpi.h"

bool tt_mpi_is_built(void)
{
	return false;
}

static int refuse(struct tt_error *err)
{
	return tt_fail(err, TT_ERR_UNSUPPORTED, "this is for trimtab-mpi, which is built where Open MPI is found");
}

int tt_mpi_open(struct tt_mpi *mpi, struct tt_error *err)
{
	*mpi = (struct tt_mpi){.n_ranks = 1, .n_local = 1, .is_first = true, .before = -1, .after = -1};
	return refuse(err);
}

int tt_mpi_stage(const struct tt_mpi *mpi, const char *model, const char *folder, char **staged, struct tt_error *err)
{
	(void)mpi, (void)model, (void)folder, (void)staged;
	return refuse(err);
}

int tt_mpi_batch(const struct tt_mpi *mpi, struct tt_engine *engine, const struct tt_batch_options *options,
	struct tt_batch_report *report, struct tt_mpi_report *ranks, struct tt_error *err)
{
	(void)mpi, (void)engine, (void)options, (void)report, (void)ranks;
	return refuse(err);
}

void tt_mpi_close(void)
{
}

void tt_mpi_abort(int status)
{
	(void)status;
}
