/* Collect, the last phase of a step (docs/design.md): its results go to the requests that were in it. */
#ifndef RUNTIME_ENGINE_COLLECT_H
#define RUNTIME_ENGINE_COLLECT_H

#include "runtime/engine/engine.h"

/* The hooks by which the scheduler reports to the engine. */
struct tt_scheduler_hooks tt_collect_hooks(struct tt_engine *engine);

#endif
