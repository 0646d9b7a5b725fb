/* The angles of rotary position embedding: the f32 product position * inverse frequency, as in Hugging Face, and its
 * cosine and sine, computed in double so that they are right to the last bit on every machine. */
#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "base/memory.h"
#include "kernels/cpu/cpu.h"

struct angles {
	const int32_t *positions;         // [n_tokens]
	const float *inverse_frequencies; // [n_pairs]
	uint32_t n_tokens, n_pairs;
	float *out; // [n_tokens][2][n_pairs]
};

static void make_angles(void *context, uint32_t job, uint32_t thread)
{
	const struct angles *a = context;
	uint32_t first = job * TT_CPU_ROWS_A_JOB, left = a->n_tokens - first;
	uint32_t end = first + (left < TT_CPU_ROWS_A_JOB ? left : TT_CPU_ROWS_A_JOB);
	(void)thread;
	for (uint32_t t = first; t < end; t++) {
		float *row = a->out + (size_t)t * a->n_pairs * 2;
		for (uint32_t i = 0; i < a->n_pairs; i++) {
			float angle = (float)a->positions[t] * a->inverse_frequencies[i];
			row[i] = (float)cos((double)angle);
			row[a->n_pairs + i] = (float)sin((double)angle);
		}
	}
}

int tt_cpu_rotation(struct tt_cpu *cpu, const struct tt_step_plan *step, const float *inverse_frequencies,
	uint32_t n_pairs, const float **out, struct tt_error *err)
{
	const int32_t *positions = tt_step_positions(step);
	uint32_t n_tokens = step->n_tokens;
	size_t n_angles, floats;
	float *memory;
	if (!tt_mul_size(n_tokens, n_pairs, &n_angles) || !tt_mul_size(n_angles, 2, &floats) ||
		!tt_add_size(floats, (size_t)n_tokens + n_pairs, &floats))
		return tt_fail(err, TT_ERR_MEMORY, "rotations of %u tokens do not fit", n_tokens);
	/* Each list of frequencies has a place of its own, so that layers that alternate between two do not evict each
	 * other's. */
	int place = cpu->rotation[0].from && cpu->rotation[0].from != inverse_frequencies;
	enum tt_cpu_scratch scratch = place ? TT_CPU_SCRATCH_ROTATION_SECOND : TT_CPU_SCRATCH_ROTATION;
	bool enough = floats * sizeof *memory <= cpu->scratch[scratch].bytes;
	TT_TRY(tt_cpu_scratch(cpu, scratch, floats, sizeof *memory, &memory, err));
	/* After the angles come the positions and frequencies that they were made from. */
	float *kept_frequencies = memory + 2 * n_angles;
	float *kept_positions = kept_frequencies + n_pairs;
	*out = memory;
	if (enough && cpu->rotation[place].n_tokens == n_tokens && cpu->rotation[place].n_pairs == n_pairs &&
		!memcmp(kept_positions, positions, n_tokens * sizeof *positions) &&
		!memcmp(kept_frequencies, inverse_frequencies, n_pairs * sizeof *inverse_frequencies))
		return TT_OK;
	struct angles angles = {positions, inverse_frequencies, n_tokens, n_pairs, memory};
	tt_threads_run(cpu->threads, (n_tokens + TT_CPU_ROWS_A_JOB - 1) / TT_CPU_ROWS_A_JOB, make_angles, &angles);
	memcpy(kept_positions, positions, n_tokens * sizeof *positions);
	memcpy(kept_frequencies, inverse_frequencies, n_pairs * sizeof *inverse_frequencies);
	cpu->rotation[place].from = inverse_frequencies;
	cpu->rotation[place].n_tokens = n_tokens;
	cpu->rotation[place].n_pairs = n_pairs;
	return TT_OK;
}
