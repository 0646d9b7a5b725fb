/* The emulated NCCL: ranks are processes; a collective runs in stream order, in graphs too; and what ranks do otherwise
 * than each other is reported. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/emu/emu.h"
#include "kernels/emu/nccl.h"

enum { MOST = 4, N = 48, REPLAYS = 100, CALLS = 3, K = 960 };

enum plant {
	NOTHING,
	COUNT,       /* rank 1 gives fewer numbers */
	TYPE,        /* of another size */
	KIND,        /* to another collective */
	ORDER,       /* in another order */
	FEWER,       /* once less */
	NO_END,      /* in a group that it does not end */
	N_RANKS,     /* it counts one rank more */
	SAME_DEVICE, /* it has rank 0's device */
	READ_EARLY,  /* it reads on another stream, without waiting */
};

/* What a rank has to say; shared with the process of the test. */
struct said {
	char text[300];
};
static struct said *said; // [MOST]

struct rank {
	int index, n_ranks;
	enum plant plant; /* of rank 1; others have none */
	struct said *said;
	tt_nccl_comm comm;
	cudaStream_t stream, other;
	float *buffer; // device [n_ranks][N]
};

#define SAY(...)                                                                                                       \
	do {                                                                                                           \
		snprintf(r->said->text, sizeof r->said->text, __VA_ARGS__);                                            \
		return;                                                                                                \
	} while (0)

static float number(int rank, int i, int call)
{
	return (float)(1000 * rank + 10 * i + call);
}

static void fill(struct rank *r, int call)
{
	float own[N];
	for (int i = 0; i < N; i++)
		own[i] = number(r->index, i, call);
	cudaMemcpy(r->buffer + r->index * N, own, sizeof own, cudaMemcpyHostToDevice);
}

/* Whether the buffer holds what all ranks gave. */
static bool is_gathered(struct rank *r, cudaStream_t stream, int call)
{
	float all[MOST * N];
	cudaMemcpyAsync(all, r->buffer, sizeof(float) * N * r->n_ranks, cudaMemcpyDeviceToHost, stream);
	if (cudaStreamSynchronize(stream) != cudaSuccess)
		return false;
	for (int i = 0; i < N * r->n_ranks; i++)
		if (all[i] != number(i / N, i % N, call))
			return false;
	return true;
}

static int gather(struct rank *r, size_t n)
{
	return ncclAllGather(r->buffer + r->index * N, r->buffer, n, TT_EMU_NCCL_FLOAT32, r->comm, r->stream);
}

/* What rank 1 does in the place of a call. */
static int planted_call(struct rank *r)
{
	switch (r->plant) {
	case COUNT:
		return gather(r, N - 1);
	case TYPE:
		return ncclAllGather(r->buffer + r->index * N, r->buffer, N, TT_NCCL_UINT8, r->comm, r->stream);
	case KIND:
		return ncclAllReduce(r->buffer, r->buffer, N, TT_EMU_NCCL_FLOAT32, TT_EMU_NCCL_SUM, r->comm, r->stream);
	case FEWER:
		return 0;
	case NO_END:
		ncclGroupStart();
		return gather(r, N);
	default:
		return gather(r, N);
	}
}

static void run_calls(struct rank *r)
{
	for (int call = 0; call < CALLS; call++) {
		bool last = call == CALLS - 1;
		fill(r, call);
		if ((last ? planted_call(r) : gather(r, N)) != 0)
			SAY("%s", ncclGetLastError(r->comm));
		if (last && r->plant == READ_EARLY && is_gathered(r, r->other, call))
			SAY("it was there before its stream ran");
		if (last && r->plant == FEWER)
			return;
		if (!is_gathered(r, r->stream, call))
			SAY("call %d: %s", call, *tt_emu_report() ? tt_emu_report() : "other numbers");
	}
}

/* Two collectives, of two sizes. */
static void run_order(struct rank *r)
{
	for (int i = 0; i < 2; i++)
		gather(r, (i == 0) == (r->plant != ORDER) ? N : N / 2);
	if (cudaStreamSynchronize(r->stream) != cudaSuccess)
		SAY("%s", tt_emu_report());
}

static void run_graph(struct rank *r)
{
	cudaGraph_t graph = NULL;
	cudaGraphExec_t exec = NULL;
	cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeThreadLocal);
	gather(r, N);
	gather(r, N);
	cudaStreamEndCapture(r->stream, &graph);
	cudaGraphInstantiate(&exec, graph, 0);
	for (int i = 0; i < REPLAYS; i++) {
		fill(r, i);
		cudaGraphLaunch(exec, r->stream);
		if (!is_gathered(r, r->stream, i))
			SAY("replay %d: other numbers %s", i, tt_emu_report());
	}
	cudaGraphExecDestroy(exec);
	cudaGraphDestroy(graph);
}

/* A product whose K is cut, and summed by ncclAllReduce: close to the sum of one rank, but not its bits. */
static void run_k_cut(struct rank *r)
{
	float part[N], whole[N], got[2][N];
	int own = K / r->n_ranks, n_same = 0;
	for (int i = 0; i < N; i++) {
		part[i] = whole[i] = 0;
		for (int k = 0; k < K; k++) {
			float product = sinf((float)(k * 7 + i)) * cosf((float)(k * i + 3));
			whole[i] += product;
			if (k / own == r->index)
				part[i] += product;
		}
	}
	for (int call = 0; call < 2; call++) {
		cudaMemcpy(r->buffer, part, sizeof part, cudaMemcpyHostToDevice);
		ncclAllReduce(r->buffer, r->buffer, N, TT_EMU_NCCL_FLOAT32, TT_EMU_NCCL_SUM, r->comm, r->stream);
		cudaMemcpyAsync(got[call], r->buffer, sizeof part, cudaMemcpyDeviceToHost, r->stream);
		cudaStreamSynchronize(r->stream);
	}
	for (int i = 0; i < N; i++) {
		if (!(fabsf(got[0][i] - whole[i]) < 1e-3f))
			SAY("%g is not near %g", (double)got[0][i], (double)whole[i]);
		n_same += got[0][i] == whole[i];
	}
	if (n_same == N)
		SAY("the bits of one rank");
	if (r->n_ranks > 2 && !memcmp(got[0], got[1], sizeof got[0]))
		SAY("every call sums in one order");
}

static void run_rank(struct rank *r, const struct tt_nccl_id *id, void (*body)(struct rank *))
{
	bool plants = r->index == 1;
	int device = plants && r->plant == SAME_DEVICE ? 0 : r->index;
	int n_ranks = r->n_ranks + (plants && r->plant == N_RANKS);
	r->plant = plants ? r->plant : NOTHING;
	tt_emu_reset(TT_EMU_FORWARD, 1);
	cudaSetDevice(device);
	cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking);
	cudaStreamCreateWithFlags(&r->other, cudaStreamNonBlocking);
	cudaMalloc((void **)&r->buffer, sizeof(float) * N * r->n_ranks);
	if (ncclCommInitRank(&r->comm, n_ranks, *id, r->index) != 0)
		SAY("%s", ncclGetLastError(NULL));
	body(r);
	cudaDeviceSynchronize();
	ncclCommAbort(r->comm);
}

/* Runs body on so many ranks; rank 1 with the planted fault. */
static void run(int n_ranks, enum plant plant, void (*body)(struct rank *))
{
	struct tt_nccl_id id;
	pid_t children[MOST];
	int status = 0;
	setenv("TT_EMU_DEVICES", "16", 1);
	said = (struct said *)mmap(
		NULL, MOST * sizeof *said, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert(said != MAP_FAILED);
	cr_assert_eq(ncclGetUniqueId(&id), 0);
	for (int i = 0; i < n_ranks; i++) {
		if ((children[i] = fork()))
			continue;
		struct rank r = {i, n_ranks, plant, &said[i], NULL, NULL, NULL, NULL};
		run_rank(&r, &id, body);
		_exit(0);
	}
	for (int i = 0; i < n_ranks; i++) {
		cr_assert_eq(waitpid(children[i], &status, 0), children[i]);
		cr_assert_eq(status, 0, "rank %d", i);
	}
}

static void check_clean(void (*body)(struct rank *))
{
	for (int n_ranks = 1; n_ranks <= MOST; n_ranks++) {
		run(n_ranks, NOTHING, body);
		for (int i = 0; i < n_ranks; i++)
			cr_assert_str_empty(said[i].text, "rank %d of %d: %s", i, n_ranks, said[i].text);
	}
}

Test(emu_nccl, gathers_in_stream_order)
{
	check_clean(run_calls);
}

Test(emu_nccl, gathers_in_graphs)
{
	check_clean(run_graph);
}

Test(emu_nccl, a_cut_by_k_has_other_bits)
{
	for (int n_ranks = 2; n_ranks <= MOST; n_ranks++) {
		run(n_ranks, NOTHING, run_k_cut);
		for (int i = 0; i < n_ranks; i++)
			cr_assert_str_empty(said[i].text, "rank %d of %d: %s", i, n_ranks, said[i].text);
	}
}

Test(emu_nccl, a_read_before_the_stream_has_run_finds_nothing)
{
	run(2, READ_EARLY, run_calls);
	for (int i = 0; i < 2; i++)
		cr_assert_str_empty(said[i].text, "rank %d: %s", i, said[i].text);
}

/* What either rank says, or both, of a fault in rank 1. */
static void check_caught(enum plant plant, void (*body)(struct rank *), const char *first, const char *second)
{
	run(2, plant, body);
	cr_expect(strstr(said[0].text, first) != NULL && (*first || !*said[0].text), "rank 0 says: %s", said[0].text);
	cr_expect(strstr(said[1].text, second) != NULL && (*second || !*said[1].text), "rank 1 says: %s", said[1].text);
}

Test(emu_nccl, catches_another_count)
{
	check_caught(COUNT, run_calls, "call 3: rank 1 has ncclAllGather of 47 (type 7) where rank 0 has",
		"call 3: rank 0 has ncclAllGather of 48 (type 7)");
}

Test(emu_nccl, catches_another_type)
{
	check_caught(TYPE, run_calls, "rank 1 has ncclAllGather of 48 (type 1) where rank 0 has", "(type 1)");
}

Test(emu_nccl, catches_another_collective)
{
	check_caught(KIND, run_calls, "rank 1 has ncclAllReduce", "rank 0 has ncclAllGather");
}

Test(emu_nccl, catches_another_order)
{
	check_caught(ORDER, run_order, "call 1: rank 1 has ncclAllGather of 24 (type 7) where", "call 1: rank 0 has");
}

Test(emu_nccl, catches_a_call_that_a_rank_does_not_make)
{
	check_caught(FEWER, run_calls, "call 3: ncclAllGather: rank 1 has left the group", "");
}

Test(emu_nccl, catches_a_group_without_an_end)
{
	check_caught(NO_END, run_calls, "rank 1 has left the group", "ncclGroupStart without its ncclGroupEnd");
}

/* Whichever comes second sees it first. */
Test(emu_nccl, catches_another_number_of_ranks)
{
	run(2, N_RANKS, run_calls);
	for (int i = 0; i < 2; i++)
		cr_expect(strstr(said[i].text, "another rank counts other ranks") ||
				  strstr(said[i].text, "another rank has ended the group"),
			"rank %d says: %s", i, said[i].text);
	cr_expect(strstr(said[0].text, "counts other") || strstr(said[1].text, "counts other"));
}

Test(emu_nccl, refuses_a_device_twice)
{
	check_caught(SAME_DEVICE, run_calls, "Duplicate GPU detected", "Duplicate GPU detected");
}
