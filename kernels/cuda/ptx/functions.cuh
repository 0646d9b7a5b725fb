/* Arithmetic, written with explicit fused multiply-adds: the same code on a GPU and in the emulator, and for exp the
 * same as the CPU twin's (kernels/cpu/simd.h). So the bits agree everywhere; those of expf, logf and the .approx forms
 * do not. */
#ifndef KERNELS_CUDA_PTX_FUNCTIONS_CUH
#define KERNELS_CUDA_PTX_FUNCTIONS_CUH

#include "kernels/cuda/ptx/numbers.cuh"

/* 1 / sqrt(x), both steps rounded to nearest. Used once a row, so its speed does not matter. */
TT_DEVICE float tt_rsqrt(float x)
{
#ifdef TT_EMU
	return 1.0f / sqrtf(x);
#else
	return __fdiv_rn(1.0f, __fsqrt_rn(x));
#endif
}

/* a / b rounded to nearest, whatever -prec-div says. */
TT_DEVICE float tt_div(float a, float b)
{
#ifdef TT_EMU
	return a / b;
#else
	return __fdiv_rn(a, b);
#endif
}

/* e^x within 2 units in the last place; 0 below -104, infinite above 88.73, NaN for NaN. */
TT_DEVICE float tt_exp(float x)
{
	const float round = 0x1.8p23f; /* adding it leaves a whole number in the low bits */
	x = x < -104.0f ? -104.0f : x;
	x = x > 89.0f ? 89.0f : x;
	float n = fmaf(x, 0x1.715476p+0f, round) - round;
	float r = fmaf(n, -0x1.62e4p-1f, x); /* 15 bits of ln 2: n * them is exact */
	r = fmaf(n, -0x1.7f7d1cp-20f, r);
	float p = 0x1.a01a02p-13f;
	p = fmaf(p, r, 0x1.6c16c2p-10f);
	p = fmaf(p, r, 0x1.111112p-7f);
	p = fmaf(p, r, 0x1.555556p-5f);
	p = fmaf(p, r, 0x1.555556p-3f);
	p = fmaf(p, r, 0.5f);
	p = fmaf(p, r, 1.0f);
	p = fmaf(p, r, 1.0f);
	/* Times 2^n in two steps, so that subnormal and infinite results come out right. */
	int whole = n == n ? (int)n : 0, half = whole >> 1;
	p *= tt_f32_from_bits((uint32_t)(half + 127) << 23);
	return p * tt_f32_from_bits((uint32_t)(whole - half + 127) << 23);
}

/* Natural logarithm of a positive normal double, with a relative error within 1e-15. Used once a sampled row. */
TT_DEVICE double tt_log(double x)
{
	uint64_t bits;
#ifdef TT_EMU
	bits = tt_emu_bits_from_f64(x);
#else
	bits = (uint64_t)__double_as_longlong(x);
#endif
	int exponent = (int)(bits >> 52) - 1023;
	uint64_t mantissa = (bits & 0xfffffffffffffull) | 0x3ff0000000000000ull;
	if ((bits & 0xfffffffffffffull) > 0x6a09e667f3bcdull) { /* above sqrt(2): keep the argument near 1 */
		mantissa -= 0x10000000000000ull;
		exponent++;
	}
#ifdef TT_EMU
	double m = tt_emu_f64_from_bits(mantissa);
#else
	double m = __longlong_as_double((long long)mantissa);
#endif
	double s = (m - 1.0) / (m + 1.0), q = s * s, sum = 1.0 / 23.0; /* 2 atanh(s), |s| <= 0.172 */
	for (int k = 21; k >= 1; k -= 2)
		sum = fma(sum, q, 1.0 / (double)k);
	return fma((double)exponent, 0.69314718055994530942, 2.0 * s * sum);
}

/* Cosine and sine of an angle of at most 1e6, within 1e-15 before they are rounded, so that rotary positions have the
 * CPU twin's bits. In double: an f32 reduction would lose the low bits of a large angle. */
TT_DEVICE void tt_cos_sin(float angle, float *cosine, float *sine)
{
	const double round = 0x1.8p52;
	double turns = fma((double)angle, 0.63661977236758134308, round) - round;
	double r = fma(turns, -1.57079632679489655800, (double)angle);
	r = fma(turns, -6.12323399573676603587e-17, r);
	double q = r * r, c = 4.779477332387385297e-14, s = 2.811457254345520763e-15;
	c = fma(c, q, -1.147074559772972471e-11);
	c = fma(c, q, 2.087675698786809898e-9);
	c = fma(c, q, -2.755731922398589065e-7);
	c = fma(c, q, 2.480158730158730159e-5);
	c = fma(c, q, -1.388888888888888889e-3);
	c = fma(c, q, 4.166666666666666667e-2);
	c = fma(c, q, -0.5);
	c = fma(c, q, 1.0);
	s = fma(s, q, -7.647163731819816476e-13);
	s = fma(s, q, 1.605904383682161460e-10);
	s = fma(s, q, -2.505210838544171878e-8);
	s = fma(s, q, 2.755731922398589065e-6);
	s = fma(s, q, -1.984126984126984127e-4);
	s = fma(s, q, 8.333333333333333333e-3);
	s = fma(s, q, -1.666666666666666667e-1);
	s = fma(s * q, r, r);
	int quarter = (int)turns & 3;
	double even = quarter & 1 ? s : c, odd = quarter & 1 ? c : s;
	*cosine = (float)(quarter == 1 || quarter == 2 ? -even : even);
	*sine = (float)(quarter >= 2 ? -odd : odd);
}

#endif
