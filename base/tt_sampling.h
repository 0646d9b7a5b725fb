/* How a token is drawn from the model's distribution. Installed beside trimtab.h, whose request options contain it; the
 * kernels' step plan contains it too. */
#ifndef TT_SAMPLING_H
#define TT_SAMPLING_H

#include <stdint.h>

enum {
	TT_MAX_TOP = 20, /* alternatives that may be reported with a token, OpenAI's limit */
	TT_MAX_TOP_K = 1 << 24,
};

struct tt_sampling {
	uint64_t seed;      /* together with the token's index the only source of randomness */
	float temperature;  /* 0: greedy, the lowest id among equals; at most 100 */
	float top_p, min_p; /* 1 and 0: off */
	uint32_t top_k;     /* 0: off; at most TT_MAX_TOP_K */
};

#endif
