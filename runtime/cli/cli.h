/* What the files of the program share. It uses trimtab.h and nothing else of the library. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "options.h"
#include "session.h"
#include "show.h"

#endif
