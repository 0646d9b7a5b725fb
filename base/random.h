/* splitmix64: every seed, 0 included, gives a good stream. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdint.h>

/* The state is a seed to begin with. */
static inline uint64_t tt_random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* From 0 to below 1, in steps of 2^-53. */
static inline double tt_random_unit(uint64_t *state)
{
	return (double)(tt_random_next(state) >> 11) * 0x1p-53;
}

#endif
