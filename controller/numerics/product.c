#include "controller/numerics/product.h"

#include <string.h>

enum { ROWS = 4 };

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

#define NUMBER float
#define PRODUCT struct tt_product_f32
#define TARGET
#define VECTOR_BYTES 16
#define NAME(x) x##_f32
#include "controller/numerics/product.inc"
#if defined(__x86_64__)
#undef TARGET
#undef VECTOR_BYTES
#undef NAME
#define TARGET __attribute__((target("avx2")))
#define VECTOR_BYTES 32
#define NAME(x) x##_avx2_f32
#include "controller/numerics/product.inc"
#endif

#undef NUMBER
#undef PRODUCT
#undef TARGET
#undef VECTOR_BYTES
#undef NAME
#define NUMBER double
#define PRODUCT struct tt_product_f64
#define TARGET
#define VECTOR_BYTES 16
#define NAME(x) x##_f64
#include "controller/numerics/product.inc"
#if defined(__x86_64__)
#undef TARGET
#undef VECTOR_BYTES
#undef NAME
#define TARGET __attribute__((target("avx2")))
#define VECTOR_BYTES 32
#define NAME(x) x##_avx2_f64
#include "controller/numerics/product.inc"
#endif

void tt_product_f32(const struct tt_product_f32 *p, float *panel)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2")) {
		product_avx2_f32(p, panel);
		return;
	}
#endif
	product_f32(p, panel);
}

void tt_product_f64(const struct tt_product_f64 *p, double *panel)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2")) {
		product_avx2_f64(p, panel);
		return;
	}
#endif
	product_f64(p, panel);
}

void tt_product_plain_f32(const struct tt_product_f32 *p, float *panel)
{
	product_f32(p, panel);
}

void tt_product_plain_f64(const struct tt_product_f64 *p, double *panel)
{
	product_f64(p, panel);
}
