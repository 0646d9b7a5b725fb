/* probe: questions about a GPU that decide how the kernels are made, one process, one line of JSON each. The questions
 * about bits are here, those about times in probe_rates.cu. On the emulator it is a rehearsal.
 *
 *     probe [--after NAME]      "begin NAME", then the answer or "FAIL NAME: why"
 *
 * Exit 0: all answered; 1: it came to its end, and one failed; 3: the device's error stays (--after NAME goes on); 77:
 * there is no device. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/gpu/probe.h"

/* ---- Does an early trigger hold? ----
 *
 * Every kernel lets its dependents start first thing, and waits before it touches what others write. Three kernels in a
 * chain: the first sleeps and then stores; the second copies that; the third looks at both. Seen wrong elsewhere with
 * this very pattern (TensorRT-LLM's issues 14537 and 15729), with no cause given. */

enum { CHAIN_THREADS = 128, CHAIN_NS = 100000 };
enum { CHAIN_ROUNDS = PROBE_TINY ? 3 : 1000, CHAIN_IN_GRAPH = PROBE_TINY ? 3 : 50 };

struct chain {
	uint32_t *round, *a, *b, *wrong; // device [1], [n], [n], [n]
	uint32_t n;
};

TT_DEVICE uint32_t chain_value(uint32_t round, uint32_t i)
{
	return (round + 1) * 2654435761u ^ i;
}

TT_DEVICE uint32_t chain_index(void)
{
	return blockIdx.x * CHAIN_THREADS + threadIdx.x;
}

/* Everything that a kernel of a step does first. */
TT_DEVICE uint32_t chain_begin(const struct chain &c)
{
	tt_grid_launch_dependents();
	tt_grid_wait();
	return tt_load_4(c.round, TT_TRAFFIC_PLAN);
}

static __global__ void chain_first(const __grid_constant__ struct chain c)
{
	uint32_t round = chain_begin(c);
#ifndef TT_EMU
	__nanosleep(CHAIN_NS);
#endif
	tt_store_4(c.a + chain_index(), chain_value(round, chain_index()), TT_TRAFFIC_SCRATCH);
}

/* Another block's word. */
static __global__ void chain_second(const __grid_constant__ struct chain c)
{
	chain_begin(c);
	uint32_t other = (chain_index() + c.n / 2) % c.n;
	tt_store_4(c.b + chain_index(), tt_load_4(c.a + other, TT_TRAFFIC_SCRATCH) + 1, TT_TRAFFIC_SCRATCH);
}

static __global__ void chain_third(const __grid_constant__ struct chain c)
{
	uint32_t round = chain_begin(c), i = chain_index(), other = (i + c.n / 2) % c.n;
	uint32_t wrong = tt_load_4(c.a + i, TT_TRAFFIC_SCRATCH) != chain_value(round, i);
	wrong += tt_load_4(c.b + i, TT_TRAFFIC_SCRATCH) != chain_value(round, other) + 1;
	tt_store_4(c.wrong + i, tt_load_4(c.wrong + i, TT_TRAFFIC_SCRATCH) + wrong, TT_TRAFFIC_SCRATCH);
}

static __global__ void chain_next(const __grid_constant__ struct chain c)
{
	uint32_t round = chain_begin(c);
	if (threadIdx.x == 0)
		tt_store_4(c.round, round + 1, TT_TRAFFIC_PLAN);
}

static int chain_run(const struct probe_device *device, void *context, struct tt_error *err)
{
	struct chain *c = (struct chain *)context;
	const void *const kernels[] = {
		TT_KERNEL(chain_first), TT_KERNEL(chain_second), TT_KERNEL(chain_third), TT_KERNEL(chain_next)};
	void *args[] = {c};
	for (uint32_t round = 0; round < CHAIN_IN_GRAPH; round++)
		for (uint32_t k = 0; k < 4; k++) {
			struct tt_launch how = {"a chain", dim3(k < 3 ? c->n / CHAIN_THREADS : 1), dim3(CHAIN_THREADS),
				0, device->stream, 0, 0, device->sm90, NULL};
			TT_TRY(tt_launch_kernel(&how, kernels[k], args, err));
		}
	return TT_OK;
}

static int chain_wrong(const struct chain *c, uint64_t *out, struct tt_error *err)
{
	uint32_t round = 0, *wrong = (uint32_t *)calloc(c->n, sizeof *wrong);
	if (!wrong)
		return tt_fail(err, TT_ERR_MEMORY, "%u words", c->n);
	cudaError_t error = cudaMemcpy(wrong, c->wrong, c->n * sizeof *wrong, cudaMemcpyDeviceToHost);
	if (error == cudaSuccess)
		error = cudaMemcpy(&round, c->round, sizeof round, cudaMemcpyDeviceToHost);
	*out = 0;
	for (uint32_t i = 0; i < c->n; i++)
		*out += wrong[i];
	free(wrong);
	TT_TRY_CUDA(error, "a chain");
	*out += round % CHAIN_ROUNDS != 0; /* both ways run all rounds */
	return TT_OK;
}

int probe_dependents(const struct probe_device *device, struct tt_error *err)
{
	struct chain c = {NULL, NULL, NULL, NULL, device->n_sms * CHAIN_THREADS};
	uint64_t eager = 0, graphed = 0;
	cudaGraphExec_t graph = NULL;
	TT_TRY(probe_memory(device, &c.round, 1, 0, err));
	TT_TRY(probe_memory(device, &c.a, c.n, 0, err));
	TT_TRY(probe_memory(device, &c.b, c.n, 0, err));
	TT_TRY(probe_memory(device, &c.wrong, c.n, 0, err));
	for (uint32_t i = 0; i < CHAIN_ROUNDS / CHAIN_IN_GRAPH; i++)
		TT_TRY(chain_run(device, &c, err));
	TT_TRY_CUDA(cudaStreamSynchronize(device->stream), "a chain");
	TT_TRY(chain_wrong(&c, &eager, err));
	TT_TRY(probe_capture(device, chain_run, &c, &graph, err));
	for (uint32_t i = 0; i < CHAIN_ROUNDS / CHAIN_IN_GRAPH; i++)
		TT_TRY_CUDA(cudaGraphLaunch(graph, device->stream), "a graph");
	TT_TRY_CUDA(cudaStreamSynchronize(device->stream), "a graph");
	TT_TRY(chain_wrong(&c, &graphed, err));
	graphed -= eager;
	printf("{\"probe\": \"dependents\", \"rounds\": %u, \"words\": %u, \"dependent\": %s, \"wrong_eager\": %llu, "
	       "\"wrong_in_graphs\": %llu}\n",
		(uint32_t)CHAIN_ROUNDS, c.n, device->sm90 ? "true" : "false", (unsigned long long)eager,
		(unsigned long long)graphed);
	if (eager || graphed)
		return tt_fail(err, TT_ERR_MISMATCH, "a kernel saw what the one before it had not written yet");
	return TT_OK;
}

/* ---- Do wgmma and mma.sync give the same bits? ---- */

enum { BITS_THREADS = 128, BITS_COLUMNS = 128, BITS_BLOCKS = PROBE_TINY ? 2 : 64, BITS_STEPS = PROBE_TINY ? 8 : 64 };
enum { BITS_A = BITS_THREADS * 4, BITS_B = BITS_COLUMNS * 8, BITS_OUT = BITS_THREADS * BITS_COLUMNS / 2 }; /* words */

struct bits_args {
	const uint32_t *a; // [blocks][steps][threads][4] as tt_mma's a
	const uint32_t *b; // [blocks][steps][BITS_B] as tt_wgmma_offset says
	float *out;        // [blocks][threads][columns / 2]
	uint32_t steps;
};

enum bits_body { BY_MMA, BY_WGMMA_8, BY_WGMMA_128, BITS_BODIES };

/* d over steps of k, by one of the three. */
template <int body> static __global__ void bits_kernel(const __grid_constant__ struct bits_args args)
{
	TT_DYNAMIC_SHARED(b);
	uint32_t t = threadIdx.x;
	float d[BITS_COLUMNS / 2] = {};
	for (uint32_t step = 0; step < args.steps; step++) {
		size_t at = (size_t)blockIdx.x * args.steps + step;
		uint4 v = tt_load_16(args.a + at * BITS_A + 4 * t, TT_TRAFFIC_ACTIVATION);
		const uint32_t a[4] = {v.x, v.y, v.z, v.w};
		tt_sync_block();
		for (uint32_t i = 0; i < BITS_B; i += BITS_THREADS)
			tt_shared_store_4(
				b + 4 * (i + t), tt_load_4(args.b + at * BITS_B + i + t, TT_TRAFFIC_ACTIVATION));
#if TT_HAS_WGMMA
		tt_fence_async();
#endif
		tt_sync_block();
#if TT_HAS_WGMMA
		if constexpr (body == BY_WGMMA_128)
			tt_wgmma<BITS_COLUMNS>(d, a, b);
		if constexpr (body == BY_WGMMA_8) {
			TT_UNROLL
			for (uint32_t j = 0; j < BITS_COLUMNS / 8; j++) {
				float part[4] = {d[4 * j], d[4 * j + 1], d[4 * j + 2], d[4 * j + 3]};
				tt_wgmma<8>(part, a, b + tt_wgmma_offset(8 * j, 0));
				TT_UNROLL
				for (uint32_t i = 0; i < 4; i++)
					d[4 * j + i] = part[i];
			}
		}
#endif
		if constexpr (body == BY_MMA)
			tt_wgmma_by_mma<BITS_COLUMNS>(d, a, b);
	}
	TT_UNROLL
	for (uint32_t i = 0; i < BITS_COLUMNS / 2; i++)
		tt_store_f32(args.out + ((size_t)blockIdx.x * BITS_THREADS + t) * (BITS_COLUMNS / 2) + i, d[i],
			TT_TRAFFIC_RESULT);
}

static int bits_run(const struct probe_device *device, enum bits_body body, const struct bits_args *args,
	uint32_t blocks, float *out, struct tt_error *err)
{
	const void *const kernels[] = {TT_KERNEL(bits_kernel<BY_MMA>), TT_KERNEL(bits_kernel<BY_WGMMA_8>),
		TT_KERNEL(bits_kernel<BY_WGMMA_128>)};
	struct bits_args own = *args;
	size_t n = (size_t)blocks * BITS_OUT;
	TT_TRY(probe_memory(device, &own.out, n, 0xff, err));
	void *kernel_args[] = {&own};
	struct tt_launch how = {
		"products", dim3(blocks), dim3(BITS_THREADS), BITS_B * 4, device->stream, 0, 0, false, NULL};
	TT_TRY(tt_launch_kernel(&how, kernels[body], kernel_args, err));
	TT_TRY_CUDA(cudaStreamSynchronize(device->stream), "products");
	TT_TRY_CUDA(cudaMemcpy(out, own.out, n * sizeof *out, cudaMemcpyDeviceToHost), "products");
	TT_TRY_CUDA(cudaFree(own.out), "products");
	return TT_OK;
}

static uint64_t count_other_bits(const float *x, const float *y, size_t n)
{
	uint64_t other = 0;
	for (size_t i = 0; i < n; i++)
		other += memcmp(x + i, y + i, sizeof *x) != 0;
	return other;
}

/* A bf16 of any sign, with 7 random bits and one of 16 exponents around 1. */
static uint32_t random_pair(uint64_t *state)
{
	uint32_t pair = 0;
	for (int i = 0; i < 2; i++) {
		*state = *state * 6364136223846793005u + 1442695040888963407u;
		uint32_t bits = (uint32_t)(*state >> 33);
		pair = pair << 16 | (bits & 0x807f) | (119 + (bits >> 16 & 15)) << 7;
	}
	return pair;
}

static int bits_compare(const struct probe_device *device, uint32_t steps, const struct bits_args *args, float *out[3],
	struct tt_error *err)
{
	struct bits_args own = *args;
	size_t n = (size_t)BITS_BLOCKS * BITS_OUT;
	own.steps = steps;
	for (int body = 0; body < BITS_BODIES; body++)
		TT_TRY(bits_run(device, (enum bits_body)body, &own, BITS_BLOCKS, out[body], err));
	double largest = 0, apart = 0;
	for (size_t i = 0; i < n; i++) {
		largest = fmax(largest, fabs((double)out[BY_MMA][i]));
		apart = fmax(apart, fabs((double)out[BY_MMA][i] - (double)out[BY_WGMMA_128][i]));
	}
	printf(", \"k_%u\": {\"numbers\": %zu, \"wgmma_8_differs\": %llu, \"wgmma_128_differs\": %llu", steps * 16, n,
		(unsigned long long)count_other_bits(out[BY_MMA], out[BY_WGMMA_8], n),
		(unsigned long long)count_other_bits(out[BY_MMA], out[BY_WGMMA_128], n));
	probe_print("most_apart_of_largest", apart / largest);
	printf("}");
	return TT_OK;
}

int probe_wgmma(const struct probe_device *device, struct tt_error *err)
{
	size_t n_a = (size_t)BITS_BLOCKS * BITS_STEPS * BITS_A, n_b = (size_t)BITS_BLOCKS * BITS_STEPS * BITS_B;
	uint32_t *words = (uint32_t *)malloc((n_a + n_b) * sizeof *words), *device_words = NULL;
	float *out[BITS_BODIES];
	uint64_t state = 5;
	if (!device->sm90) {
		free(words);
		printf("{\"probe\": \"wgmma\", \"there_is\": false}\n");
		return TT_OK;
	}
	for (int i = 0; i < BITS_BODIES; i++)
		out[i] = (float *)malloc((size_t)BITS_BLOCKS * BITS_OUT * sizeof(float));
	if (!words || !out[0] || !out[1] || !out[2])
		return tt_fail(err, TT_ERR_MEMORY, "products");
	for (size_t i = 0; i < n_a + n_b; i++)
		words[i] = random_pair(&state);
	TT_TRY(probe_memory(device, &device_words, n_a + n_b, 0, err));
	TT_TRY_CUDA(cudaMemcpy(device_words, words, (n_a + n_b) * sizeof *words, cudaMemcpyHostToDevice), "products");
	struct bits_args args = {device_words, device_words + n_a, NULL, 0};
	printf("{\"probe\": \"wgmma\", \"there_is\": true");
	TT_TRY(bits_compare(device, 1, &args, out, err));
	TT_TRY(bits_compare(device, 4, &args, out, err));
	TT_TRY(bits_compare(device, BITS_STEPS, &args, out, err));
	printf("}\n");
	for (int i = 0; i < BITS_BODIES; i++)
		free(out[i]);
	free(words);
	TT_TRY_CUDA(cudaFree(device_words), "products");
	return TT_OK;
}

/* ---- How does a tensor core round a sum? ----
 *
 * 64 sums of 16 products and what was there before: row r is case r, b is all ones. Rows 0 on: 1 + 2^-(20 + i). Rows 16
 * on: the same with 1 as what was there before. Rows 32 on: 1 and fifteen times 2^-(20 + i). Rows 48 on: 1 - 1 +
 * 2^-30, the small one at place 2 + i (0 from place 16 on): it stays where it is added after the ones, or in a group
 * without them. */

static float bits_case(uint32_t row, uint32_t k, float *before)
{
	uint32_t i = row % 16;
	float small = ldexpf(1, -(int)(20 + i));
	*before = row / 16 == 1 ? 1.0f : 0.0f;
	switch (row / 16) {
	case 0:
		return k == 0 ? 1.0f : k == 1 ? small : 0.0f;
	case 1:
		return k == 1 ? small : 0.0f;
	case 2:
		return k == 0 ? 1.0f : small;
	default:
		return k == 0 ? 1.0f : k == 1 ? -1.0f : k == 2 + i ? 0x1p-30f : 0.0f;
	}
}

static uint32_t bf16_bits(float x) /* of a power of two, or 0 */
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return bits >> 16;
}

/* In two steps: the first puts down what is there before, the second adds the case. */
static void rounding_words(uint32_t *a, uint32_t *b)
{
	for (uint32_t step = 0; step < 2; step++)
		for (uint32_t t = 0; t < BITS_THREADS; t++)
			for (uint32_t i = 0; i < 4; i++) {
				uint32_t row = t / 32 * 16 + t % 32 / 4 + i % 2 * 8, k = t % 4 * 2 + i / 2 * 8;
				float before, low = bits_case(row, k, &before), high = bits_case(row, k + 1, &before);
				if (step == 0) {
					low = k == 0 ? before : 0;
					high = 0;
				}
				a[(step * BITS_THREADS + t) * 4 + i] = bf16_bits(low) | bf16_bits(high) << 16;
			}
	for (uint32_t i = 0; i < 2 * BITS_B; i++)
		b[i] = 0x3f803f80u;
}

int probe_rounding(const struct probe_device *device, struct tt_error *err)
{
	static uint32_t words[2 * (BITS_A + BITS_B)];
	static float out[BITS_BODIES][BITS_OUT];
	uint32_t *device_words = NULL;
	rounding_words(words, words + 2 * BITS_A);
	TT_TRY(probe_memory(device, &device_words, sizeof words / sizeof *words, 0, err));
	TT_TRY_CUDA(cudaMemcpy(device_words, words, sizeof words, cudaMemcpyHostToDevice), "sums");
	struct bits_args args = {device_words, device_words + 2 * BITS_A, NULL, 2};
	for (int body = 0; body < (device->sm90 ? BITS_BODIES : 1); body++)
		TT_TRY(bits_run(device, (enum bits_body)body, &args, 1, out[body], err));
	printf("{\"probe\": \"rounding\", \"sums\": [");
	for (uint32_t row = 0; row < 64; row++) {
		uint32_t t = row / 16 * 32 + row % 8 * 4, bits; /* column 0 is in the lanes that 4 divides */
		memcpy(&bits, &out[BY_MMA][t * (BITS_COLUMNS / 2) + row % 16 / 8 * 2], sizeof bits);
		printf("%s\"%08x\"", row ? ", " : "", bits);
	}
	printf("]");
	if (device->sm90)
		printf(", \"wgmma_8_differs\": %llu, \"wgmma_128_differs\": %llu",
			(unsigned long long)count_other_bits(out[BY_MMA], out[BY_WGMMA_8], BITS_OUT),
			(unsigned long long)count_other_bits(out[BY_MMA], out[BY_WGMMA_128], BITS_OUT));
	printf("}\n");
	TT_TRY_CUDA(cudaFree(device_words), "sums");
	return TT_OK;
}

/* ---- All of them ---- */

static const struct {
	const char *name;
	int (*run)(const struct probe_device *, struct tt_error *);
} probes[] = {
	{"dependents", probe_dependents},
	{"wgmma", probe_wgmma},
	{"rounding", probe_rounding},
	{"reads", probe_reads},
	{"gaps", probe_gaps},
	{"carveout", probe_carveout},
	{"layouts", probe_layouts},
};
enum { N_PROBES = sizeof probes / sizeof *probes, EXIT_DEVICE = 3, EXIT_NONE = 77 };

static int open_device(struct probe_device *device, struct tt_error *err)
{
	int n_sms = 0, major = 0;
	TT_TRY_CUDA(cudaDeviceGetAttribute(&n_sms, cudaDevAttrMultiProcessorCount, 0), "the device");
	TT_TRY_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "the device");
	TT_TRY_CUDA(cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking), "a stream");
	device->n_sms = PROBE_TINY ? 4 : (uint32_t)n_sms;
	device->sm90 = major == 9; /* newer ones run the PTX of compute_80 */
	return TT_OK;
}

int main(int argc, char **argv)
{
	struct probe_device device;
	struct tt_error err = {0, ""};
	int devices = 0, failed = 0, i = 0;
	if (argc == 3 && !strcmp(argv[1], "--after")) {
		while (i < N_PROBES && strcmp(probes[i].name, argv[2]))
			i++;
		i++;
	} else if (argc > 1) {
		fprintf(stderr, "usage: probe [--after NAME]\n");
		return 2;
	}
	cudaError_t error = cudaGetDeviceCount(&devices);
	if (error != cudaSuccess || !devices) {
		printf("no CUDA device: %s\n", cudaGetErrorString(error));
		return EXIT_NONE;
	}
	if (open_device(&device, &err)) {
		printf("FAIL the device: %s\n", err.message);
		return EXIT_DEVICE;
	}
	for (; i < N_PROBES; i++) {
		printf("begin %s\n", probes[i].name);
		fflush(stdout);
		if (probes[i].run(&device, &err)) {
			printf("\nFAIL %s: %s\n", probes[i].name, err.message);
			failed = 1;
		}
		fflush(stdout);
		if (cudaDeviceSynchronize() != cudaSuccess)
			return EXIT_DEVICE;
		cudaGetLastError();
	}
	return failed;
}
