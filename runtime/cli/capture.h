/* Shared by the two files of trimtab capture. */
#ifndef CLI_CAPTURE_H
#define CLI_CAPTURE_H

#include "cli.h"

struct cli_capture {
	struct cli_engine_args engine_args;
	struct cli_list policy_list;
	struct tt_capture_data_options options; /* data is NULL where one prompt is captured */
	int positions;                          /* index of the choice, and the enum's value */
	const char *output;
	struct tt_engine *engine;
	struct cli_policies policies;
	struct cli_progress progress;
};

/* trimtab capture --data. The caller frees the policies and closes the engine. */
int cli_capture_data(struct cli_capture *c, const char *model);

#endif
