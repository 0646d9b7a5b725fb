/* Failures on purpose: the n-th allocation, or the n-th call about a file (open, stat, map, read, write and so on). The
 * program is linked so that the library's calls to these functions come here (linker --wrap); jansson and libcrypto are
 * set up to come here as well, and PCRE2 allocates through base/memory.h. */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include <stdbool.h>
#include <stddef.h>

enum fault { FAULT_ALLOCATION, FAULT_FILE, N_FAULTS };

/* The n-th call of that kind fails, from 1; 0: none does. on: all that follow it do too. Starts the counts anew. */
void fault_set(enum fault fault, size_t n, bool on);
/* Whether one has failed since. */
bool fault_hit(void);
/* Allocations made here and not freed: a call that failed leaves none. */
size_t faults_live(void);

/* Whether tt_mlp_train trains, or does nothing. It does at first. */
void networks_learn(bool on);

#endif
