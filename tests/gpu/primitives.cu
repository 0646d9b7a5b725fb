/* Each primitive's two bodies against each other. The same source is built twice: with the emulator it runs the C
 * bodies and writes what they gave; by nvcc it runs the PTX bodies on a GPU and compares, bit for bit.
 *
 *     primitives --write FILE             (the emulator's build)
 *     primitives [--after NAME] FILE      (nvcc's): "begin NAME" and a line with the result for each primitive
 *
 * Exit 0: all equal; 1: it came to its end, and one differs; 3: the device's error stays, so that the primitives after
 * the last begun need another process (--after NAME); 77: there is no device.
 *
 * Inputs are made from a counter, with every special value among them where a rounding is tested; matrix products get
 * small integers, whose sums are exact in any order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/kv_fp8.cuh"
#include "kernels/cuda/ptx/ptx.cuh"

enum { CLUSTER = 2, THREADS = 128, BLOCKS = 4, PER_THREAD = 16, WORDS = THREADS * BLOCKS * PER_THREAD };

/* Every kernel: thread t of the grid owns the 16 words of in and out from 16 * t on. */
typedef void primitive_kernel(uint32_t *out, const uint32_t *in);
#define PRIMITIVE(name) static __global__ void name(uint32_t *out, const uint32_t *in)
#define OWN ((blockIdx.x * THREADS + threadIdx.x) * PER_THREAD)
#define GET(i) tt_load_4(in + OWN + (i), TT_TRAFFIC_ACTIVATION)
#define PUT(i, v) tt_store_4(out + OWN + (i), (v), TT_TRAFFIC_RESULT)

PRIMITIVE(loads_and_stores)
{
	uint32_t at = OWN;
	tt_prefetch(in + at);
	tt_store_16(out + at, tt_load_weight(in + at), TT_TRAFFIC_RESULT);
	tt_store_16(out + at + 4, tt_load_16(in + at + 4, TT_TRAFFIC_KV), TT_TRAFFIC_RESULT);
	tt_store_8(out + at + 8, tt_load_8(in + at + 8, TT_TRAFFIC_PLAN), TT_TRAFFIC_RESULT);
	tt_store_4_to_host(out + at + 10, tt_load_4(in + at + 10, TT_TRAFFIC_PLAN), TT_TRAFFIC_RESULT);
	uint32_t low = tt_load_2(in + at + 11, TT_TRAFFIC_PLAN), high = tt_load_2(in + at, TT_TRAFFIC_PLAN);
	tt_store_4(out + at + 11, low | high << 16, TT_TRAFFIC_RESULT);
	float4 v = tt_load_f32x4((const float *)in + at + 12, TT_TRAFFIC_DIRECTION);
	tt_store_f32x4((float *)out + at + 12, v, TT_TRAFFIC_RESULT);
}

PRIMITIVE(shared_memory)
{
	TT_DYNAMIC_SHARED(shared);
	unsigned char *own = shared + 64 * threadIdx.x, *other = shared + 64 * (THREADS - 1 - threadIdx.x);
	tt_shared_store_16(own, make_uint4(GET(0), GET(1), GET(2), GET(3)));
	tt_shared_store_8(own + 16, make_uint2(GET(4), GET(5)));
	tt_shared_store_4(own + 24, GET(6));
	tt_shared_store_f32((float *)(own + 28), tt_f32_from_bits(GET(7)));
	tt_sync_block();
	uint4 a = tt_shared_load_16(other);
	uint2 b = tt_shared_load_8(other + 16);
	PUT(0, a.x), PUT(1, a.y), PUT(2, a.z), PUT(3, a.w), PUT(4, b.x), PUT(5, b.y);
	PUT(6, tt_shared_load_4(other + 24));
	PUT(7, tt_bits_from_f32(tt_shared_load_f32((const float *)(other + 28))));
}

PRIMITIVE(copies)
{
	TT_DYNAMIC_SHARED(shared);
	unsigned char *own = shared + 64 * threadIdx.x, *other = shared + 64 * (threadIdx.x ^ 33);
	for (uint32_t i = 0; i < 4; i++) {
		tt_copy_async_or_zero(own + 16 * i, in + OWN + 4 * i, (threadIdx.x + i) % 3 != 0, TT_TRAFFIC_KV);
		tt_copy_async_commit();
	}
	tt_copy_async_wait<1>();
	tt_sync_block();
	for (uint32_t i = 0; i < 12; i++)
		PUT(i, tt_shared_load_4(other + 4 * i));
	tt_copy_async_wait<0>();
	tt_sync_block();
	for (uint32_t i = 12; i < 16; i++)
		PUT(i, tt_shared_load_4(other + 4 * i));
	tt_sync_block();
	tt_copy_async_or_zero(own, in + OWN, true, TT_TRAFFIC_WEIGHT);
	tt_copy_async_commit();
	tt_copy_async_wait<0>();
	PUT(0, tt_shared_load_4(own) ^ tt_shared_load_4(own + 12));
}

PRIMITIVE(shuffles)
{
	uint32_t v = GET(0), lane = GET(1) % 64;
	PUT(0, tt_shuffle_xor(v, 1));
	PUT(1, tt_shuffle_xor(v, 16));
	PUT(2, tt_shuffle(v, lane));
	PUT(3, tt_ballot(v & 1));
	float f = (float)(int)(v % 2048) - 1024.0f; /* sums are exact */
	PUT(4, tt_bits_from_f32(tt_warp_sum(f, 32)));
	PUT(5, tt_bits_from_f32(tt_warp_sum(f, 4)));
	PUT(6, tt_bits_from_f32(tt_warp_max(f, 32)));
	PUT(7, tt_bits_from_f32(tt_warp_sum(tt_f32_from_bits(GET(2) & 0x3fffffffu), 32))); /* one order of rounding */
	PUT(8, tt_warp() * 100 + tt_lane());
}

PRIMITIVE(barriers)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x, half = t / 64;
	tt_shared_store_4(shared + 4 * t, GET(0));
	tt_sync_warp();
	PUT(0, tt_shared_load_4(shared + 4 * (t ^ 5)));
	tt_sync_some(1 + half, 64);
	PUT(1, tt_shared_load_4(shared + 4 * (t ^ 32)));
	tt_sync_block();
	PUT(2, tt_shared_load_4(shared + 4 * (t ^ 64)));
}

/* Every half but NaN, which has more than one form. */
PRIMITIVE(halves_and_bytes)
{
	for (uint32_t i = 0; i < 8; i++) {
		uint32_t half = (OWN * 8 + GET(i) % 128 + 128 * i) & 0xffff;
		half = (half & 0x7fff) > 0x7c00 ? half & 0x83ff : half;
		PUT(2 * i, tt_bits_from_f32(tt_f32_from_f16((uint16_t)half)));
		PUT(2 * i + 1, tt_permute(GET(i), GET(15 - i), GET(i + 3) & 0x7777));
	}
}

/* Weights of every size. */
PRIMITIVE(weights)
{
	const uint32_t *at = in + OWN;
	uint4 v = tt_load_weight(at);
	uint2 two = tt_load_weight_8(at + 6);
	PUT(0, v.x ^ v.y), PUT(1, v.z ^ v.w), PUT(2, two.x), PUT(3, two.y);
	PUT(4, tt_load_weight_4(at + 9));
	PUT(5, tt_load_weight_2(at + 10) | (uint32_t)tt_load_weight_2((const uint16_t *)(at + 11) + 1) << 16);
}

PRIMITIVE(conversions)
{
	for (uint32_t i = 0; i < 8; i++) {
		float low = tt_f32_from_bits(GET(2 * i)), high = tt_f32_from_bits(GET(2 * i + 1));
		uint32_t pair = tt_bf16x2_from_f32(low, high);
		PUT(2 * i, pair);
		PUT(2 * i + 1, tt_bits_from_f32(tt_bf16x2_low(pair)) ^ tt_bits_from_f32(tt_bf16x2_high(pair)));
	}
}

/* Products of pairs of bf16, codes of eight bits to bf16 and back, and halves stored. */
PRIMITIVE(eight_bit_floats)
{
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t a = GET(2 * i), b = GET(2 * i + 1), scale = fp8_scale(a & 0x7fffffff);
		float moderate = (float)(int)a * 0x1p-22f, x = tt_f32_from_bits(b & 0xc3ffffffu);
		PUT(5 * i, tt_mul_bf16x2(a, b));
		PUT(5 * i + 1, fp8_pair(a, false, fp8_unit(scale)) ^ fp8_pair(b, true, fp8_unit(127 << 7)));
		PUT(5 * i + 2, fp8_codes(make_float4(moderate, x, -x, 0), 1));
		PUT(5 * i + 3, scale);
		PUT(5 * i + 4, tt_bits_from_f32(fp8_inverse(scale)));
	}
	uint16_t *halves = (uint16_t *)(out + OWN + 15);
	tt_store_2(halves, (uint16_t)GET(6), TT_TRAFFIC_RESULT);
	tt_store_2(halves + 1, (uint16_t)(GET(7) >> 16), TT_TRAFFIC_RESULT);
}

/* Reciprocal roots, quotients, exponentials, logarithms and rotations of moderate and of arbitrary bits. NaN has more
 * than one form; it is put down as one. */
TT_DEVICE uint32_t number(float x)
{
	return x == x ? tt_bits_from_f32(x) : 0x7fc00000u;
}

PRIMITIVE(functions)
{
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t bits = GET(i);
		float any = tt_f32_from_bits(bits), moderate = (float)(int)bits * 0x1p-25f, cosine, sine;
		PUT(8 * i, number(tt_exp(moderate)));
		PUT(8 * i + 1, number(tt_exp(any)));
		PUT(8 * i + 2, number(tt_rsqrt(tt_f32_from_bits(bits & 0x7fffffffu))));
		PUT(8 * i + 3, number(tt_div(any, moderate)));
		PUT(8 * i + 4, number((float)(tt_log((double)bits + 1.0) * 0x1p20)));
		tt_cos_sin((float)(bits % 131072u), &cosine, &sine);
		PUT(8 * i + 5, number(cosine));
		PUT(8 * i + 6, number(sine));
		PUT(8 * i + 7, number(fmaf(any, moderate, moderate)));
	}
}

/* A row of eight halves a thread; each lane's address is another lane's row, so that the map shows. */
PRIMITIVE(matrix_loads)
{
	TT_DYNAMIC_SHARED(shared);
	unsigned char *warp = shared + tt_warp() * 1024;
	uint32_t r[4], lane = tt_lane();
	tt_shared_store_16(warp + 16 * lane, make_uint4(GET(0), GET(1), GET(2), GET(3)));
	tt_sync_warp();
	const unsigned char *row = warp + 16 * (lane * 5 % 32);
	tt_ldmatrix_x4(r, row);
	PUT(0, r[0]), PUT(1, r[1]), PUT(2, r[2]), PUT(3, r[3]);
	tt_ldmatrix_x4_trans(r, row);
	PUT(4, r[0]), PUT(5, r[1]), PUT(6, r[2]), PUT(7, r[3]);
}

TT_DEVICE uint32_t small_pair(uint32_t bits)
{
	return tt_bf16x2_from_f32((float)(int)(bits % 17) - 8.0f, (float)(int)(bits / 17 % 17) - 8.0f);
}

PRIMITIVE(products)
{
	uint32_t a[4], b[2];
	float d[4];
	for (uint32_t i = 0; i < 4; i++) {
		a[i] = small_pair(GET(i));
		d[i] = (float)(int)(GET(i + 6) % 1001) - 500.0f;
	}
	b[0] = small_pair(GET(4));
	b[1] = small_pair(GET(5));
	tt_mma(d, a, b);
	for (uint32_t i = 0; i < 4; i++)
		PUT(i, tt_bits_from_f32(d[i]));
}

/* A block is a warpgroup. Of 128 columns, a word is of some of them together. Below sm_90a the same by tt_mma. */
PRIMITIVE(warpgroup_products)
{
	TT_DYNAMIC_SHARED(b);
	uint32_t a[4];
	float d[4], wide[64];
	for (uint32_t i = 0; i < 4; i++) {
		a[i] = small_pair(GET(i));
		d[i] = (float)(int)(GET(i + 12) % 1001) - 500.0f;
	}
	for (uint32_t i = 0; i < 64; i++)
		wide[i] = d[i % 4];
	for (uint32_t i = 0; i < 8; i++) /* column threadIdx.x, two values of k at a time */
		tt_shared_store_4(b + tt_wgmma_offset(threadIdx.x, 2 * i), small_pair(GET(i + 4)));
#if TT_HAS_BULK
	tt_fence_async();
#endif
	tt_sync_block();
#if TT_HAS_WGMMA
	tt_wgmma<8>(d, a, b);
	tt_wgmma<128>(wide, a, b);
#else
	tt_wgmma_by_mma<8>(d, a, b);
	tt_wgmma_by_mma<128>(wide, a, b);
#endif
	uint32_t some[12] = {};
	for (uint32_t i = 0; i < 64; i++)
		some[i % 12] ^= tt_bits_from_f32(wide[i]) + i;
	for (uint32_t i = 0; i < 4; i++)
		PUT(i, tt_bits_from_f32(d[i]));
	for (uint32_t i = 0; i < 12; i++)
		PUT(i + 4, some[i]);
}

/* Blocks put down their sums; the last to arrive adds them up. The counter and the sums are words that no thread
 * owns. */
PRIMITIVE(arrivals)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x, *counter = out + WORDS, *partial = out + WORDS + 4;
	tt_grid_wait();
	tt_store_4(partial + blockIdx.x * THREADS + t, GET(0), TT_TRAFFIC_SCRATCH);
	tt_grid_launch_dependents();
	tt_sync_block();
	if (t == 0)
		tt_shared_store_4(shared, tt_arrive_last(counter, gridDim.x));
	tt_sync_block();
	if (!tt_shared_load_4(shared))
		return;
	uint32_t sum = 0;
	for (uint32_t i = 0; i < gridDim.x; i++)
		sum += tt_load_4(partial + i * THREADS + t, TT_TRAFFIC_SCRATCH);
	tt_store_4(out + t * PER_THREAD, sum, TT_TRAFFIC_RESULT);
}

/* Each thread takes what the one at its place in the other block of its cluster left. Where there are no clusters, from
 * where that had it. */
PRIMITIVE(clusters)
{
#if TT_HAS_CLUSTERS
	TT_DYNAMIC_SHARED(shared);
	unsigned char *own = shared + 64 * threadIdx.x;
#endif
	uint4 v[2];
	for (uint32_t i = 0; i < 2; i++) {
#if TT_HAS_CLUSTERS
		tt_shared_store_16(own + 16 * i, tt_load_16(in + OWN + 4 * i, TT_TRAFFIC_WEIGHT));
		tt_sync_cluster();
		v[i] = tt_cluster_load_16(own + 16 * i, (blockIdx.x + 1) % CLUSTER);
#else
		uint32_t other = ((blockIdx.x ^ 1) * THREADS + threadIdx.x) * PER_THREAD;
		v[i] = tt_load_16(in + other + 4 * i, TT_TRAFFIC_WEIGHT);
#endif
		PUT(4 * i, v[i].x);
		PUT(4 * i + 1, v[i].y);
		PUT(4 * i + 2, v[i].z);
		PUT(4 * i + 3, v[i].w);
	}
#if TT_HAS_CLUSTERS
	tt_sync_cluster();
#endif
}

/* Thread 0 fetches two stages of 1024 bytes for the block, four times. Below sm_90 the same by cp.async. */
PRIMITIVE(bulk_copies)
{
	TT_DYNAMIC_SHARED(shared);
	uint32_t t = threadIdx.x;
	const uint32_t *from = in + blockIdx.x * THREADS * PER_THREAD;
#if TT_HAS_BULK
	tt_mbarrier *full = (tt_mbarrier *)(shared + 2048), *empty = full + 2;
	if (t == 0) {
		for (uint32_t s = 0; s < 2; s++) {
			tt_mbarrier_init(full + s, 1);
			tt_mbarrier_init(empty + s, THREADS);
		}
		tt_mbarrier_init_fence();
	}
	tt_sync_block();
#endif
	for (uint32_t i = 0; i < 8; i++) {
		uint32_t s = i % 2;
#if TT_HAS_BULK
		if (t == 0) {
			if (i >= 2)
				tt_mbarrier_wait(empty + s, (i / 2 - 1) & 1);
			tt_fence_async();
			tt_mbarrier_arrive_expect(full + s, 1024);
			tt_copy_bulk(shared + s * 1024, from + i * 256, 1024, full + s, TT_TRAFFIC_WEIGHT);
		}
		tt_mbarrier_wait(full + s, i / 2 & 1);
#else
		for (uint32_t c = t; c < 64; c += THREADS)
			tt_copy_async_or_zero(
				shared + s * 1024 + 16 * c, from + i * 256 + 4 * c, true, TT_TRAFFIC_WEIGHT);
		tt_copy_async_commit();
		tt_copy_async_wait<0>();
		tt_sync_block();
#endif
		PUT(2 * i, tt_shared_load_4(shared + s * 1024 + 8 * t));
		PUT(2 * i + 1, tt_shared_load_4(shared + s * 1024 + 8 * t + 4));
#if TT_HAS_BULK
		tt_mbarrier_arrive(empty + s);
#else
		tt_sync_block();
#endif
	}
}

static const struct primitive {
	const char *name;
	const void *(*kernel)(void);
	bool dependent;
} primitives[] = {
#define ROW(name, dependent)                                                                                           \
	{                                                                                                              \
#name, [] { return (const void *)TT_KERNEL(name); }, dependent                                         \
	}
	ROW(loads_and_stores, false),
	ROW(weights, false),
	ROW(halves_and_bytes, false),
	ROW(shared_memory, false),
	ROW(copies, false),
	ROW(shuffles, false),
	ROW(barriers, false),
	ROW(conversions, false),
	ROW(eight_bit_floats, false),
	ROW(functions, false),
	ROW(matrix_loads, false),
	ROW(products, false),
	ROW(arrivals, true),
	ROW(clusters, false),
	ROW(bulk_copies, false),
	ROW(warpgroup_products, false),
#undef ROW
};
enum { MOST_SHOWN = 64, EXIT_DEVICE = 3, EXIT_NONE = 77 };
enum { N_PRIMITIVES = sizeof primitives / sizeof *primitives, OUT_WORDS = WORDS + 4 + THREADS * BLOCKS };

/* Mixed bits, and among them the values at which roundings turn. */
static void make_input(uint32_t *words)
{
	static const uint32_t special[] = {0, 0x80000000u, 1, 0x80000001u, 0x3f808000u, 0x3f818000u, 0x3f808001u,
		0x7f7fffffu, 0x7f800000u, 0xff800000u, 0x7f800001u, 0xffc12345u, 0x007fffffu, 0x42b17218u, 0xc2ce8ed0u};
	const uint32_t n_special = sizeof special / sizeof *special;
	for (uint32_t i = 0; i < WORDS; i++) {
		uint32_t v = i * 2654435761u;
		v = (v ^ v >> 15) * 2246822519u;
		words[i] = i % 7 == 3 ? special[i / 7 % n_special] : v ^ v >> 13;
	}
}

static int run(const struct primitive *p, uint32_t *result, bool sm90, struct tt_error *err)
{
	static uint32_t words[WORDS];
	void *in = NULL, *out = NULL;
	make_input(words);
	TT_TRY_CUDA(cudaMalloc(&in, sizeof words), p->name);
	TT_TRY_CUDA(cudaMalloc(&out, OUT_WORDS * 4), p->name);
	TT_TRY_CUDA(cudaMemcpy(in, words, sizeof words, cudaMemcpyHostToDevice), p->name);
	TT_TRY_CUDA(cudaMemset(out, 0, OUT_WORDS * 4), p->name);
	void *args[] = {&out, &in};
	struct tt_launch launch = {p->name, dim3(BLOCKS), dim3(THREADS), 64 * THREADS, NULL, 0, 0, false, NULL};
	launch.cluster = sm90 && !strcmp(p->name, "clusters") ? CLUSTER : 0;
	/* Twice: a dependent launch needs one before it, and a counter must be 0 again. */
	for (int i = 0; i < 2; i++) {
		TT_TRY(tt_launch_kernel(&launch, p->kernel(), args, err));
		launch.dependent = p->dependent && sm90;
	}
	TT_TRY_CUDA(cudaMemcpy(result, out, OUT_WORDS * 4, cudaMemcpyDeviceToHost), p->name);
	TT_TRY_CUDA(cudaFree(in), p->name);
	TT_TRY_CUDA(cudaFree(out), p->name);
	return TT_OK;
}

/* Beside the first difference, how the words of the 16 that a thread owns are concerned: where the fault lies in a
 * kernel shows there. */
static bool is_equal(const char *name, const uint32_t *a, const uint32_t *b)
{
	uint32_t n = 0, by_word[PER_THREAD] = {0}, shown = 0;
	for (uint32_t i = 0; i < OUT_WORDS; i++) {
		n += a[i] != b[i];
		by_word[i % PER_THREAD] += a[i] != b[i];
	}
	if (!n) {
		printf("%-18s pass\n", name);
		return true;
	}
	printf("%-18s FAIL: %u of %u words differ\n", name, n, (uint32_t)OUT_WORDS);
	for (uint32_t i = 0; i < PER_THREAD; i++)
		if (by_word[i])
			printf("    word %u of a thread: %u differ\n", i, by_word[i]);
	for (uint32_t i = 0; i < OUT_WORDS && shown < MOST_SHOWN; i++)
		if (a[i] != b[i]) {
			printf("    word %u: %08x, the C body gives %08x\n", i, a[i], b[i]);
			shown++;
		}
	return false;
}

struct arguments {
	const char *file, *after;
	bool write;
};

static bool read_arguments(int argc, char **argv, struct arguments *out)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--write"))
			out->write = true;
		else if (!strcmp(argv[i], "--after") && i + 1 < argc)
			out->after = argv[++i];
		else if (!out->file)
			out->file = argv[i];
		else
			return false;
	}
	return out->file && !(out->write && out->after);
}

/* One primitive, and its part of the file. */
static int check(const struct primitive *p, FILE *file, const struct arguments *how, bool sm90)
{
	static uint32_t result[OUT_WORDS], golden[OUT_WORDS];
	struct tt_error err = {0, ""};
	printf("begin %s\n", p->name);
	fflush(stdout);
	if (run(p, result, sm90, &err)) {
		printf("%-18s FAIL: %s\n", p->name, err.message);
		return cudaDeviceSynchronize() == cudaSuccess ? 1 : EXIT_DEVICE;
	}
	if (how->write)
		return fwrite(result, sizeof result, 1, file) != 1;
	if (fread(golden, sizeof golden, 1, file) != 1) {
		printf("%-18s FAIL: %s is too short\n", p->name, how->file);
		return 1;
	}
	return !is_equal(p->name, result, golden);
}

int main(int argc, char **argv)
{
	struct arguments how = {NULL, NULL, false};
	int devices = 0, major = 0, failed = 0, first = 0;
	if (!read_arguments(argc, argv, &how)) {
		fprintf(stderr, "usage: primitives [--write | --after NAME] FILE\n");
		return 2;
	}
	cudaError_t error = cudaGetDeviceCount(&devices);
	if (error != cudaSuccess || !devices) {
		printf("no CUDA device: %s\n", cudaGetErrorString(error));
		return EXIT_NONE;
	}
	/* Later devices than sm_90 run the PTX of compute_80, which does not wait. */
	cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
	while (how.after && first < N_PRIMITIVES && strcmp(primitives[first].name, how.after))
		first++;
	first += how.after != NULL;
	FILE *file = fopen(how.file, how.write ? "wb" : "rb");
	if (!file || fseek(file, first * (long)(OUT_WORDS * 4), SEEK_SET)) {
		perror(how.file);
		return 1;
	}
	for (int i = first; i < N_PRIMITIVES && failed != EXIT_DEVICE; i++) {
		int status = check(&primitives[i], file, &how, major == 9);
		failed = status ? status : failed;
	}
	if (fclose(file) && !failed)
		failed = 1;
	printf("%s\n", failed ? "fail" : how.write ? "written" : "pass");
	return failed;
}
