/* Tensor-core primitives against a plain product, conversions and functions against the C library, and a small whole
 * kernel against float64. */
#include <math.h>

#include "tests/emu/checks.h"
#include "tests/emu/skinny.h"
#include "tests/twin.h"

/* -- mma and ldmatrix. Small integers: every partial sum is exact, so the bits must agree. -- */

struct product_args {
	const tt_bf16 *a; // [16][16]
	const tt_bf16 *b; // [8][16]: n, k
	const tt_bf16 *v; // [16][8]: k, n
	float *d;         // in and out [16][8]
	float *transposed;
};

static void store_tile(float *d, const float part[4])
{
	uint32_t g = tt_lane() / 4, t = tt_lane() % 4;
	for (uint32_t i = 0; i < 4; i++)
		tt_store_f32(d + (g + i / 2 * 8) * 8 + 2 * t + i % 2, part[i], TT_TRAFFIC_RESULT);
}

static void product_kernel(struct product_args args)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t lane = tt_lane(), g = lane / 4, t = lane % 4, a[4], b[4], v[4];
	unsigned char *sa = shared, *sb = shared + 512, *sv = shared + 768;
	tt_shared_store_16(sa + 16 * lane, tt_load_16(args.a + 8 * lane, TT_TRAFFIC_ACTIVATION));
	if (lane < 16) {
		tt_shared_store_16(sb + 16 * lane, tt_load_16(args.b + 8 * lane, TT_TRAFFIC_ACTIVATION));
		tt_shared_store_16(sv + 16 * lane, tt_load_16(args.v + 8 * lane, TT_TRAFFIC_ACTIVATION));
	}
	tt_sync_warp();
	float d[4], e[4];
	for (uint32_t i = 0; i < 4; i++)
		e[i] = d[i] = tt_load_f32(args.d + (g + i / 2 * 8) * 8 + 2 * t + i % 2, TT_TRAFFIC_ACTIVATION);
	tt_ldmatrix_x4(a, sa + (lane % 16) * 32 + lane / 16 * 16);
	tt_ldmatrix_x4(b, sb + (lane % 8) * 32 + lane / 8 % 2 * 16);
	tt_mma(d, a, b);
	store_tile(args.d, d);
	/* b from a matrix that has k along its rows, as the values of attention have. */
	tt_ldmatrix_x4_trans(v, sv + (lane % 16) * 16);
	tt_mma(e, a, v);
	store_tile(args.transposed, e);
}

static tt_bf16 small_integer(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return tt_emu_bf16((float)((int)(*state >> 24) % 17 - 8));
}

template <typename type> static type *upload(const type *host, size_t n)
{
	void *p;
	cr_assert_eq(cudaMalloc(&p, n * sizeof *host), cudaSuccess);
	cr_assert_eq(cudaMemcpy(p, host, n * sizeof *host, cudaMemcpyHostToDevice), cudaSuccess);
	return (type *)p;
}

static void check_product(uint32_t seed)
{
	tt_bf16 a[16][16], b[8][16], v[16][8];
	float d[16][8], expected[16][8], got[16][8], transposed[16][8];
	uint32_t state = seed;
	for (uint32_t i = 0; i < 256; i++)
		a[i / 16][i % 16] = small_integer(&state);
	for (uint32_t i = 0; i < 128; i++) {
		b[i / 16][i % 16] = v[i % 16][i / 16] = small_integer(&state);
		d[i / 8][i % 8] = twin_bf16_value(small_integer(&state));
	}
	for (uint32_t i = 0; i < 16; i++) {
		for (uint32_t n = 0; n < 8; n++) {
			double sum = d[i][n];
			for (uint32_t k = 0; k < 16; k++)
				sum += (double)twin_bf16_value(a[i][k]) * twin_bf16_value(b[n][k]);
			expected[i][n] = (float)sum;
		}
	}
	struct product_args args = {
		upload(a[0], 256), upload(b[0], 128), upload(v[0], 128), upload(d[0], 128), upload(d[0], 128)};
	void *array[] = {&args};
	struct tt_launch launch = {"product", dim3(1), dim3(32), 1024, NULL, 0, 0, false, NULL};
	struct tt_error err = {0, ""};
	cr_assert_eq(tt_launch_kernel(&launch, TT_KERNEL(product_kernel), array, &err), TT_OK, "%s", err.message);
	cr_assert_eq(cudaMemcpy(got, args.d, sizeof got, cudaMemcpyDeviceToHost), cudaSuccess, "%s", tt_emu_report());
	cudaMemcpy(transposed, args.transposed, sizeof got, cudaMemcpyDeviceToHost);
	cr_assert_eq(memcmp(got, expected, sizeof got), 0);
	cr_assert_eq(memcmp(transposed, expected, sizeof got), 0);
}

Test(emu_tensor, product_is_exact_on_small_integers)
{
	for (uint32_t seed = 0; seed < 30; seed++) {
		tt_emu_reset((enum tt_emu_order)(seed % 3), seed);
		check_product(seed);
	}
}

/* -- Numbers. These run outside a kernel: they touch no memory. -- */

static double units(double got, double expected)
{
	int exponent;
	frexp(expected, &exponent);
	return fabs(got - expected) / ldexp(1.0, (exponent < -125 ? -125 : exponent) - 24);
}

Test(emu_tensor, exp_within_2_units)
{
	double worst = 0;
	for (float x = -103.0f; x < 88.7f; x += 0.00137f) {
		double u = units(tt_exp(x), exp((double)x));
		worst = u > worst ? u : worst;
	}
	cr_assert_lt(worst, 2.0, "%g", worst);
	cr_assert_eq(tt_exp(-INFINITY), 0.0f);
	cr_assert_eq(tt_exp(0.0f), 1.0f);
	cr_assert_eq(tt_exp(INFINITY), INFINITY);
	cr_assert(isnan(tt_exp(NAN)));
}

Test(emu_tensor, log_and_rotation)
{
	for (double x = 1e-300; x < 1e300; x *= 1.37)
		cr_assert_lt(fabs(tt_log(x) - log(x)), 1e-15 * fmax(1.0, fabs(log(x))), "log %g", x);
	uint64_t rounded = 0, all = 0;
	for (double at = 0; at < 1e6; at = at * 1.001 + 0.01) {
		float angle = (float)at, c, s;
		tt_cos_sin(angle, &c, &s);
		rounded += c != (float)cos((double)angle) || s != (float)sin((double)angle);
		all++;
	}
	cr_assert_gt(all, 10000);
	cr_assert_eq(rounded, 0, "%llu of %llu differ from the C library's", (unsigned long long)rounded,
		(unsigned long long)all);
}

static tt_bf16 rounded(float x)
{
	return (tt_bf16)tt_bf16x2_from_f32(x, 0.0f);
}

Test(emu_tensor, bf16_rounds_to_nearest_even)
{
	cr_assert_eq(rounded(1.0f), 0x3f80);
	cr_assert_eq(rounded(tt_f32_from_bits(0x3f808000)), 0x3f80); /* halfway: to even */
	cr_assert_eq(rounded(tt_f32_from_bits(0x3f818000)), 0x3f82);
	cr_assert_eq(rounded(tt_f32_from_bits(0x3f808001)), 0x3f81);
	cr_assert_eq(rounded(tt_f32_from_bits(0x7f7fffff)), 0x7f80); /* overflows to infinity */
	cr_assert_eq(rounded(tt_f32_from_bits(0x80000001)), 0x8000);
	cr_assert_eq(rounded(-INFINITY), 0xff80);
	cr_assert_eq(rounded(tt_f32_from_bits(0xff812345)), 0x7fff);
	uint32_t pair = tt_bf16x2_from_f32(2.0f, -3.0f);
	cr_assert_eq(tt_bf16x2_low(pair), 2.0f);
	cr_assert_eq(tt_bf16x2_high(pair), -3.0f);
}

static void reductions(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = threadIdx.x;
	float v = (float)tt_load_4(in + t, TT_TRAFFIC_ACTIVATION);
	float sum = tt_warp_sum(v, planted ? 16 : 32), max = tt_warp_max(v, 32), quad = tt_warp_sum(v, 4);
	uint32_t from = tt_shuffle(t, 9), odd = tt_ballot(t % 2);
	uint32_t first = t / 32 * 32;
	bool right = sum == 32.0f * (float)first + 496.0f && max == (float)(first + 31) &&
		     quad == 4.0f * (float)(t / 4 * 4) + 6.0f && from == first + 9 && odd == 0xaaaaaaaau;
	tt_store_4(out + t, right, TT_TRAFFIC_RESULT);
}
Test(emu_tensor, shuffles)
{
	static const struct word_case c = {reductions, "reductions", 1, 64, 0, 0, NULL, ""};
	for (int order = 0; order < TT_EMU_ORDERS; order++) {
		tt_emu_reset((enum tt_emu_order)order, 1);
		uint32_t result[64], *out = device_words(64);
		const uint32_t *in = counting_words();
		words_launch(&c, out, in, 0, false, NULL);
		cr_assert_eq(cudaMemcpy(result, out, sizeof result, cudaMemcpyDeviceToHost), cudaSuccess, "%s",
			tt_emu_report());
		for (uint32_t i = 0; i < 64; i++)
			cr_assert_eq(result[i], 1, "thread %u", i);
		words_launch(&c, out, in, 1, false, NULL);
		cudaMemcpy(result, out, sizeof result, cudaMemcpyDeviceToHost);
		cr_assert_eq(result[0], 0);
	}
}

/* -- A whole kernel -- */

enum { SKINNY_N = 256, SKINNY_K = 1024, SKINNY_TOKENS = 5 };

/* Relative Frobenius error; NaN gives infinity. */
static double skinny_error(const tt_bf16 *w, const tt_bf16 *x, const float *y)
{
	double difference = 0, norm = 0;
	for (uint32_t t = 0; t < SKINNY_TOKENS; t++) {
		for (uint32_t n = 0; n < SKINNY_N; n++) {
			double sum = 0, got = y[t * SKINNY_N + n];
			for (uint32_t k = 0; k < SKINNY_K; k++)
				sum += (double)twin_bf16_value(w[n * SKINNY_K + k]) *
				       twin_bf16_value(x[t * SKINNY_K + k]);
			difference += (sum - got) * (sum - got);
			norm += sum * sum;
		}
	}
	double error = sqrt(difference / norm);
	return error == error ? error : INFINITY;
}

Test(emu_tensor, skinny_product)
{
	static tt_bf16 w[SKINNY_N * SKINNY_K], x[SKINNY_TOKENS * SKINNY_K];
	static float y[TT_EMU_ORDERS][SKINNY_TOKENS * SKINNY_N];
	uint32_t state = 1;
	for (uint32_t i = 0; i < SKINNY_N * SKINNY_K; i++)
		w[i] = tt_emu_bf16((float)((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-24f - 0.5f);
	for (uint32_t i = 0; i < SKINNY_TOKENS * SKINNY_K; i++)
		x[i] = tt_emu_bf16((float)((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-24f - 0.5f);
	for (int order = 0; order < TT_EMU_ORDERS; order++) {
		tt_emu_reset((enum tt_emu_order)order, 11);
		struct tt_error err = {0, ""};
		void *out;
		cudaMalloc(&out, sizeof y[0]);
		struct skinny_args args = {upload(w, SKINNY_N * SKINNY_K), upload(x, SKINNY_TOKENS * SKINNY_K),
			(float *)out, SKINNY_N, SKINNY_K, SKINNY_TOKENS};
		cr_assert_eq(skinny_launch(&args, NULL, false, &err), TT_OK, "%s", err.message);
		cr_assert_eq(skinny_launch(&args, NULL, true, &err), TT_OK, "%s", err.message);
		cr_assert_eq(cudaMemcpy(y[order], out, sizeof y[0], cudaMemcpyDeviceToHost), cudaSuccess, "%s",
			tt_emu_report());
		/* f32 sums of 1024 products: about sqrt(1024) roundings of 2^-24. */
		cr_assert_lt(skinny_error(w, x, y[order]), 1e-6);
		cr_assert_eq(memcmp(y[order], y[0], sizeof y[0]), 0);
		const struct tt_emu_traffic *weights = &tt_emu_counted()->loads[TT_TRAFFIC_WEIGHT];
		cr_assert_eq(weights->bytes, 2 * sizeof w); /* each weight once a launch */
		cr_assert_eq(weights->sectors * 32, weights->bytes);
		cr_assert_eq(tt_emu_counted()->shared_wavefronts, tt_emu_counted()->shared_ideal);
	}
	y[0][7] = NAN;
	cr_assert_gt(skinny_error(w, x, y[0]), 1.0); /* the comparison sees it */
}
