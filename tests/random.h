/* Random numbers of the tests: the same in every run. The state is a seed to begin with. */
#ifndef TESTS_RANDOM_H
#define TESTS_RANDOM_H

#include <stdint.h>

/* Knuth's MMIX generator: its high bits are the good ones. */
static inline uint64_t random_step(uint64_t *state)
{
	return *state = *state * 6364136223846793005u + 1442695040888963407u;
}

/* Cheap: 31 bits. */
static inline uint32_t next_random(uint64_t *state)
{
	return (uint32_t)(random_step(state) >> 33);
}

/* 32 bits, mixed once more. */
static inline uint32_t random_bits(uint64_t *state)
{
	uint64_t x = random_step(state);
	x ^= x >> 29;
	return (uint32_t)(x * 0xbf58476d1ce4e5b9u >> 32);
}

#endif
