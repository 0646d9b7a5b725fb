/* Where the program of the other ranks is. */
#ifndef RUNTIME_ENGINE_RANK_PROGRAM_H
#define RUNTIME_ENGINE_RANK_PROGRAM_H

#include "base/memory.h"

/* Its path, from where this library or program is installed or was built. TT_ERR_IO says where it was looked for. */
int tt_rank_program(struct tt_buffer *path, struct tt_error *err);

#endif
