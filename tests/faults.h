/* Failures on purpose: the n-th allocation, or the n-th call about a file (open, stat, map, read, write and so on). The
 * program is linked so that the library's calls to these functions come here (linker --wrap); jansson and libcrypto are
 * set up to come here as well, and PCRE2 allocates through base/memory.h. */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/tt_error.h"

enum fault { FAULT_ALLOCATION, FAULT_FILE, N_FAULTS };

/* The n-th call of that kind fails, from 1; 0: none does. on: all that follow it do too. Starts the counts anew. */
void fault_set(enum fault fault, size_t n, bool on);
/* Whether one has failed since. */
bool fault_hit(void);
/* Allocations made here and not freed: a call that failed leaves none. */
size_t faults_live(void);

typedef int operation(struct tt_error *err);

/* Runs it again and again, the n-th call failing, until no failure is met; gives how many there are. *spared: after how
 * many of them it went on all the same. */
size_t inject(const char *name, operation *run, enum fault fault, bool on, size_t *spared);

/* Of both kinds, one failure and lasting ones. spares: how many failures need not end the call, each for a reason:
 * where stat fails, opening the file says why, and libcrypto and PCRE2 do without some of their allocations (PCRE2
 * without compiled code). A reply loses text rather than its token (stop_strings.h), and pages are not shared where
 * there is no SHA-256. */
void inject_all(const char *name, operation *run, size_t spares);

/* Whether tt_mlp_train trains, or does nothing. It does at first. */
void networks_learn(bool on);

#endif
