/* What a running test says, and what was said of it: said.c, for runner.c. */
#ifndef TESTS_GPU_SAID_H
#define TESTS_GPU_SAID_H

#include <stdbool.h>

#define TT_SAID_NOTE "note: " /* begins a line that is shown of a test that passed, too */

void tt_said_begin(void);  /* before a test: nothing was said of it */
void tt_said_end(void);    /* after it: its notes */
bool tt_said_failed(void); /* a check of it did not hold */

#endif
