/* Launches and what they need, dependent launches, streams, events and graphs. */
#include "kernels/cuda/cuda.h"
#include "tests/emu/checks.h"

enum { THREADS = 64, N = 2 * THREADS, COUNTER = 600 };

/* -- Programmatic dependent launch: first reads in[0..N), writes out[0..N); second takes that on. -- */

enum {
	READ_EARLY = 1,   /* what first writes */
	WRITE_OVER_READ,  /* what first reads */
	WRITE_OVER_WRITE, /* what first writes */
	NO_WAIT,          /* a block exits before the wait */
	WAIT_UNORDERED,   /* one thread waits, the others go on without a barrier */
	ARRIVE_EARLY,     /* an atomic is a write too */
};

static void first(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = blockIdx.x * THREADS + threadIdx.x;
	(void)planted;
	tt_grid_launch_dependents(); /* stores after it are still seen by the dependent's wait */
	tt_grid_wait();
	tt_store_4(out + t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION) + 1, TT_TRAFFIC_ACTIVATION);
	if (t == 0)
		tt_store_4(out + COUNTER, 0, TT_TRAFFIC_SCRATCH);
}

static void second(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = blockIdx.x * THREADS + threadIdx.x;
	uint4 weights = tt_load_weight(in + 2048); /* nobody writes them: allowed */
	tt_prefetch(out);
	if (planted == READ_EARLY)
		tt_load_4(out + t, TT_TRAFFIC_ACTIVATION);
	if (planted == WRITE_OVER_READ)
		tt_store_4((uint32_t *)in + t, 0, TT_TRAFFIC_ACTIVATION);
	if (planted == WRITE_OVER_WRITE)
		tt_store_4(out + t, 0, TT_TRAFFIC_ACTIVATION);
	if (planted == ARRIVE_EARLY && threadIdx.x == 0)
		tt_arrive_last(out + COUNTER, 2);
	if (planted == NO_WAIT && blockIdx.x == 1)
		return;
	if (threadIdx.x == 40)
		tt_grid_wait();
	if (planted != WAIT_UNORDERED)
		tt_sync_block();
	tt_store_4(out + N + t, tt_load_4(out + t, TT_TRAFFIC_ACTIVATION) + weights.x, TT_TRAFFIC_ACTIVATION);
}

static const struct word_case first_case = {first, "first", 2, THREADS, 0, 0, NULL, ""};
static const struct word_case second_case = {second, "second", 2, THREADS, 0, 0, NULL, ""};

static void run_pair(int planted, bool dependent, bool between, const char *report)
{
	static uint32_t result[WORDS];
	const uint32_t *in = counting_words();
	uint32_t *out = device_words(WORDS);
	cudaMemset(out, 0, sizeof result);
	words_launch(&first_case, out, in, 0, false, NULL);
	if (between)
		words_launch(&first_case, out + 1024, in, 0, true, NULL);
	words_launch(&second_case, out, in, planted, dependent, NULL);
	cudaError_t error = cudaMemcpy(result, out, sizeof result, cudaMemcpyDeviceToHost);
	if (report) {
		cr_assert_eq(error, cudaErrorLaunchFailure, "fault %d was not caught", planted);
		cr_assert(strstr(tt_emu_report(), report), "fault %d: %s", planted, tt_emu_report());
		cr_assert_eq(strncmp(tt_emu_report(), "second: block ", 14), 0, "%s", tt_emu_report());
		return;
	}
	cr_assert_eq(error, cudaSuccess, "%s", tt_emu_report());
	for (uint32_t i = 0; i < N && !planted; i++)
		cr_assert_eq(result[N + i], i + 1 + 2048);
}

static void plant(int fault, const char *report)
{
	for (int order = 0; order < TT_EMU_ORDERS; order++) {
		for (int between = 0; between < 2; between++) {
			tt_emu_reset((enum tt_emu_order)order, 7);
			run_pair(0, true, between, NULL);
			tt_emu_reset((enum tt_emu_order)order, 7);
			run_pair(fault, true, between, report);
		}
	}
}
Test(emu_launch, read_before_grid_wait)
{
	plant(READ_EARLY, "tt_load_4 at test_emu_launch.cu:");
	plant(READ_EARLY, "read before tt_grid_wait of what first writes");
}
Test(emu_launch, write_before_grid_wait_of_what_is_read)
{
	plant(WRITE_OVER_READ, "write before tt_grid_wait of what first reads");
}
Test(emu_launch, write_before_grid_wait_of_what_is_written)
{
	plant(WRITE_OVER_WRITE, "write before tt_grid_wait of what first writes");
}
Test(emu_launch, exit_before_grid_wait)
{
	plant(NO_WAIT, "exit before tt_grid_wait");
}
Test(emu_launch, wait_of_one_thread_without_a_barrier)
{
	plant(WAIT_UNORDERED, "read before tt_grid_wait of what first writes");
}
Test(emu_launch, arrival_before_grid_wait)
{
	plant(ARRIVE_EARLY, "write before tt_grid_wait of what first writes");
}

/* Without the attribute a kernel waits for everything before it, whatever it does. */
Test(emu_launch, independent_kernels_need_no_wait)
{
	for (int fault = READ_EARLY; fault <= WAIT_UNORDERED; fault++) {
		tt_emu_reset(TT_EMU_RANDOM, 7);
		run_pair(fault, false, false, NULL);
	}
}

/* -- Streams -- */

static void add_one(uint32_t *out, const uint32_t *in, int planted)
{
	uint32_t t = blockIdx.x * THREADS + threadIdx.x;
	(void)planted;
	tt_grid_wait();
	tt_store_4(out + t, tt_load_4(in + t, TT_TRAFFIC_ACTIVATION) + 1, TT_TRAFFIC_ACTIVATION);
}
static const struct word_case add_case = {add_one, "add_one", 2, THREADS, 0, 0, NULL, ""};

static uint32_t *pinned_words(uint32_t n)
{
	void *p;
	cr_assert_eq(cudaMallocHost(&p, n * sizeof(uint32_t)), cudaSuccess);
	return (uint32_t *)p;
}

Test(emu_launch, copies_happen_late)
{
	tt_emu_reset(TT_EMU_FORWARD, 1);
	struct tt_device_counters counters = {};
	struct tt_error err = {0, ""};
	cudaStream_t stream;
	cr_assert_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
	uint32_t *in = pinned_words(N), *out = pinned_words(N), *a = device_words(N), *b = device_words(N);
	memset(in, 0, N * 4);
	memset(out, 0, N * 4);
	cr_assert_eq(tt_copy_in(&counters, a, in, N * 4, stream, &err), TT_OK);
	words_launch(&add_case, b, a, 0, false, stream);
	cr_assert_eq(tt_copy_out(&counters, out, b, N * 4, stream, &err), TT_OK);
	cr_assert_eq(cudaStreamQuery(stream), cudaErrorNotReady);
	cr_assert_eq(out[0], 0xffffffffu); /* the result is not there */
	in[3] = 50;                        /* and the source is still being read */
	cr_assert_eq(tt_wait(&counters, stream, &err), TT_OK);
	cr_assert_eq(cudaStreamQuery(stream), cudaSuccess);
	cr_assert_eq(out[3], 51);
	cr_assert_eq(out[4], 1);
	cr_assert_eq(tt_emu_counted()->copies_in, 1);
	cr_assert_eq(tt_emu_counted()->bytes_in, N * 4);
	cr_assert_eq(tt_emu_counted()->copies_out, 1);
	cr_assert_eq(tt_emu_counted()->waits, 1);
	cr_assert_eq(counters.copies_in, 1);
	cr_assert_eq(counters.copies_out, 1);
	cr_assert_eq(counters.waits, 1);
	cr_assert_eq(counters.bytes_out, N * 4);
}

Test(emu_launch, an_event_orders_streams)
{
	for (int wait = 0; wait < 2; wait++) {
		tt_emu_reset(TT_EMU_FORWARD, 1);
		cudaStream_t one, two;
		cudaEvent_t event;
		cudaStreamCreate(&one);
		cudaStreamCreate(&two);
		cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
		uint32_t *a = device_words(N), *b = device_words(N), result[N];
		cudaMemset(a, 0, N * 4);
		words_launch(&add_case, b, a, 0, false, one);
		cr_assert_eq(cudaEventRecord(event, one), cudaSuccess);
		cr_assert_eq(cudaEventQuery(event), cudaErrorNotReady);
		if (wait)
			cr_assert_eq(cudaStreamWaitEvent(two, event, 0), cudaSuccess);
		words_launch(&add_case, a, b, 0, false, two);
		cr_assert_eq(cudaStreamSynchronize(two), cudaSuccess);
		cr_assert_eq(cudaMemcpy(result, a, N * 4, cudaMemcpyDeviceToHost), cudaSuccess);
		cr_assert_eq(result[5], wait ? 2 : 0); /* 0: it read the poison, and added 1 */
	}
}

/* A step as the design has it: one copy in, one graph launch, one copy out, one wait. */
Test(emu_launch, graph)
{
	tt_emu_reset(TT_EMU_RANDOM, 5);
	struct tt_device_counters counters = {};
	struct tt_error err = {0, ""};
	cudaStream_t stream;
	cudaGraph_t graph;
	cudaGraphExec_t step;
	size_t n_nodes;
	cudaStreamCreate(&stream);
	uint32_t *in = pinned_words(N), *out = pinned_words(N), *a = device_words(N), *b = device_words(N);
	cr_assert_eq(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
	words_launch(&add_case, b, a, 0, true, stream);
	words_launch(&add_case, a, b, 0, true, stream);
	words_launch(&add_case, b, a, 0, true, stream);
	cr_assert_eq(cudaStreamEndCapture(stream, &graph), cudaSuccess);
	cr_assert_eq(cudaGraphGetNodes(graph, NULL, &n_nodes), cudaSuccess);
	cr_assert_eq(n_nodes, 3);
	cr_assert_eq(cudaGraphInstantiate(&step, graph, 0), cudaSuccess);
	cr_assert_eq(cudaGraphDestroy(graph), cudaSuccess);
	cr_assert_eq(tt_emu_counted()->launches, 0); /* capture runs nothing */
	for (uint32_t i = 0; i < 4; i++) {
		tt_emu_clear_counters();
		memset(in, 0, N * 4);
		in[7] = i;
		cr_assert_eq(tt_copy_in(&counters, a, in, N * 4, stream, &err), TT_OK);
		cr_assert_eq(tt_graph_launch(&counters, step, stream, &err), TT_OK);
		cr_assert_eq(tt_copy_out(&counters, out, b, N * 4, stream, &err), TT_OK);
		cr_assert_eq(tt_wait(&counters, stream, &err), TT_OK, "%s", err.message);
		cr_assert_eq(out[7], i + 3);
		const struct tt_emu_counters *c = tt_emu_counted();
		cr_assert_eq(c->copies_in + c->graph_launches + c->copies_out + c->waits, 4);
		cr_assert_eq(c->host_launches, 0);
		cr_assert_eq(c->launches, 3);
		cr_assert_eq(c->dependent_launches, 2); /* the first in a graph depends on nothing in it */
	}
	cr_assert_eq(counters.graph_launches, 4);
	cr_assert_eq(cudaGraphExecDestroy(step), cudaSuccess);
}

/* An error stays, as on a GPU, and reaches the message of whoever waits. */
Test(emu_launch, errors_stay)
{
	tt_emu_reset(TT_EMU_FORWARD, 1);
	struct tt_device_counters counters = {};
	struct tt_error err = {0, ""};
	words_launch(&add_case, device_words(N), device_words(N - 4), 0, false, NULL);
	cr_assert_eq(tt_wait(&counters, NULL, &err), TT_ERR_DEVICE);
	cr_assert(strstr(err.message, "waiting for the device: add_one: block 1,0,0 thread "), "%s", err.message);
	cr_assert(strstr(err.message, "(cudaErrorLaunchFailure)"), "%s", err.message);
	void *p;
	cr_assert_eq(cudaMalloc(&p, 16), cudaErrorLaunchFailure);
	tt_emu_reset(TT_EMU_FORWARD, 1);
	cr_assert_eq(cudaMalloc(&p, 16), cudaSuccess);
	cr_assert_str_empty(tt_emu_report());
}

Test(emu_launch, copies_are_checked)
{
	tt_emu_reset(TT_EMU_FORWARD, 1);
	uint32_t host[8] = {0}, *a = device_words(8);
	cr_assert_eq(cudaMemcpy(a, host, 32, cudaMemcpyHostToDevice), cudaSuccess);
	cr_assert_eq(cudaMemcpy(a + 1, host, 32, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
	cr_assert_eq(cudaMemcpy(a, host, 32, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
	cr_assert_eq(cudaMemset(a + 4, 0, 17), cudaErrorInvalidValue);
	cr_assert_eq(cudaFree(a + 1), cudaErrorInvalidValue);
	cr_assert_eq(cudaFree(a), cudaSuccess);
}

/* -- Shared memory beyond what every kernel has: asked for once a kernel and backend -- */

static int launch_with(struct tt_cuda *cuda, const void *kernel, uint32_t shared_bytes, struct tt_error *err)
{
	uint32_t *out = device_words(N);
	const uint32_t *in = counting_words();
	int planted = 0;
	void *args[] = {&out, &in, &planted};
	struct tt_launch launch = {"add_one", dim3(2), dim3(THREADS), shared_bytes, NULL, 0, 0, false, &cuda->counters};
	return tt_cuda_launch(cuda, &launch, kernel, args, err);
}

Test(emu_launch, kernels_are_prepared_once)
{
	tt_emu_reset(TT_EMU_FORWARD, 1);
	static struct tt_cuda one, other;
	struct tt_error err = {0, ""};
	const void *kernel = word_kernel_address(&add_case);
	cr_assert_eq(launch_with(&one, kernel, TT_FREE_SHARED, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_emu_counted()->attributes, 0);
	for (uint32_t kib = 200; kib >= 50; kib -= 50)
		cr_assert_eq(launch_with(&one, kernel, kib * 1024, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_emu_counted()->attributes, 1);
	/* Another backend that needs less takes nothing away. */
	cr_assert_eq(launch_with(&other, kernel, 50 * 1024, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_emu_counted()->attributes, 2);
	cr_assert_eq(launch_with(&one, kernel, 227 * 1024, &err), TT_OK, "%s", err.message);
	cr_assert_eq(tt_emu_counted()->attributes, 2);
	cr_assert_eq(tt_emu_counted()->host_launches, 7);
	cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess, "%s", tt_emu_report());
}

Test(emu_launch, what_a_kernel_cannot_have_is_an_error)
{
	tt_emu_reset(TT_EMU_FORWARD, 1);
	static struct tt_cuda cuda, absent;
	struct tt_error err = {0, ""};
	const void *kernel = word_kernel_address(&add_case);
	cr_assert_eq(launch_with(&cuda, kernel, 228 * 1024, &err), TT_ERR_UNSUPPORTED);
	cr_assert_str_eq(
		err.message, "add_one: a block needs 233472 bytes of shared memory where the device has 232448");
	/* An error is not taken for done: it comes again. */
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(launch_with(&cuda, &cuda, 64 * 1024, &err), TT_ERR_DEVICE);
		cr_assert(strstr(err.message, "shared memory of a kernel: "), "%s", err.message);
	}
	absent.device = 1;
	cr_assert_eq(launch_with(&absent, kernel, 64 * 1024, &err), TT_ERR_DEVICE);
	cr_assert(strstr(err.message, "the device: "), "%s", err.message);
	cr_assert_eq(tt_emu_counted()->host_launches, 0);
}
