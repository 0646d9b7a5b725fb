/* What a suffix is made of. */
#ifndef CONTROLLER_MEASURE_ATTACK_WORDS_H
#define CONTROLLER_MEASURE_ATTACK_WORDS_H

#include <stddef.h>

enum { TT_N_ATTACK_WORDS = 240 };

/* Everyday words and turns of phrase, none of which asks for anything harmful. */
extern const char *const tt_attack_words[TT_N_ATTACK_WORDS];

#endif
