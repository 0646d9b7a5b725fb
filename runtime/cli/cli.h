/* What the files of the program share. They use trimtab.h and base/, and nothing else of the library. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "options.h"
#include "session.h"
#include "show.h"

#endif
