/* The program on the CPU body that TT_TEST_BODY names: what one body has answered, others replay
 * (scripts/measure/measure_audit.py). */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "kernels/cpu/cpu.h"

int __wrap_tt_cpu_open(struct tt_backend **out, uint32_t n_threads, struct tt_error *err);
int __wrap_tt_cpu_open(struct tt_backend **out, uint32_t n_threads, struct tt_error *err)
{
	static const struct {
		const char *name;
		enum tt_cpu_body_choice choice;
	} bodies[] = {{"avx512", TT_CPU_BODY_AVX512}, {"avx2", TT_CPU_BODY_AVX2}, {"neon", TT_CPU_BODY_NEON},
		{"portable", TT_CPU_BODY_PORTABLE}};
	const char *name = getenv("TT_TEST_BODY");
	for (size_t i = 0; name && i < sizeof bodies / sizeof *bodies; i++)
		if (strcmp(bodies[i].name, name) == 0)
			return tt_cpu_open_body(out, n_threads, bodies[i].choice, err);
	return tt_fail(err, TT_ERR_ARGUMENT, "TT_TEST_BODY names no body");
}
