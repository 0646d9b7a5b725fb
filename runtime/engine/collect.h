/* 4. Collect: what a step gave goes to the requests it was for. */
#ifndef RUNTIME_ENGINE_COLLECT_H
#define RUNTIME_ENGINE_COLLECT_H

#include "runtime/engine/engine.h"

/* The scheduler's hooks. */
struct tt_scheduler_hooks tt_collect_hooks(struct tt_engine *engine);

#endif
