/* What ranks pass to each other: NCCL's all-gather, on the stream, in graphs too. It adds nothing up, so no order of
 * NCCL's is in any bit. */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "kernels/cuda/exchange.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/start_thread.h"
#include "kernels/cuda/graphs.h"
#include "kernels/cuda/nccl_abi.h"
#include "kernels/meeting.h"
#include "kernels/still.h"

/* What is not over by then is left behind: no call waits for ever for a device or a library that hangs. */
enum {
	GUARD_MS = 20,    /* between two looks at whether another rank has failed */
	LEAVE_MS = 1000,  /* for a call of NCCL that is under way when one has */
	END_MS = 3000,    /* for a device to end its step then, whose exchanges are aborted */
	SETTLE_MS = 2000, /* for what is on the stream when a backend is closed: every step has been waited for */
	ABORT_MS = 5000,  /* for ncclCommAbort, once the graphs are gone that it waits for */
};

/* What ranks share before NCCL connects them; rank 0 writes it. */
struct shared {
	struct tt_nccl_id id;
	int32_t nccl, major, minor; /* versions of NCCL and of the device */
	char device[sizeof((struct cudaDeviceProp *)0)->name];
	struct tt_still_rank ranks[TT_MAX_RANKS]; /* each writes its own */
};

struct tt_cuda_ranks {
	struct tt_meeting *meeting;
	struct shared *shared;
	struct tt_nccl nccl;
	tt_nccl_comm comm;
	uint32_t rank;
	unsigned char *arena;
	size_t arena_bytes;
	uint32_t *marks;            /* on the device: how many marks it came to, */
	volatile uint32_t *reached; /* and on the host, pinned, which the device writes as it goes */
	int64_t run_ms;             /* of the process, when it last said so */
	uint32_t n_captured;        /* marks of the graph that is being captured */
	/* A thread that ends what waits for a rank that has failed, or for an exchange that does not end. It alone
	 * aborts. */
	pthread_t guard;
	bool has_guard, closing, guard_over; /* the last two with mutex */
	/* the device does not end what it was given, and its memory is left to it */
	bool stuck;
	_Atomic int n_waiting; /* calls of this rank's that may wait for the device */
	/* ncclCommAbort frees what a call uses: from lost on none is begun, and those under way are counted. */
	_Atomic bool lost;
	_Atomic int n_inside;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
};

/* ---- NCCL */

/* A program that is linked with NCCL uses that one. It has threads of its own, so it stays loaded. */
static int open_library(struct tt_cuda_ranks *r, struct tt_error *err)
{
	bool linked = dlsym(RTLD_DEFAULT, "ncclAllGather") != NULL;
	int version = 0;
	void *from = linked ? RTLD_DEFAULT : dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
	if (!linked && !from)
		return tt_fail(err, TT_ERR_UNSUPPORTED,
			"--tp on GPUs needs NCCL 2.19 or newer, and there is no libnccl.so.2 that can be loaded "
			"(NVIDIA's package libnccl2, or nvidia-nccl-cu13 from PyPI with its lib in LD_LIBRARY_PATH): "
			"%.200s",
			dlerror());
#define LOOK_UP(name)                                                                                                  \
	*(void **)&r->nccl.name = dlsym(from, #name);                                                                  \
	if (!r->nccl.name)                                                                                             \
		return tt_fail(err, TT_ERR_UNSUPPORTED, "this NCCL has no " #name);
	TT_NCCL_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
	if (r->nccl.ncclGetVersion(&version) != TT_NCCL_SUCCESS || version < TT_NCCL_LEAST)
		return tt_fail(err, TT_ERR_UNSUPPORTED, "--tp on GPUs needs NCCL 2.19 or newer, this one is version %d",
			version);
	return TT_OK;
}

/* These choose how a collective is done, and may leave no way that does this one; or that a call returns before it is
 * done. */
static const char *set_by_user(void)
{
	return getenv("NCCL_ALGO")            ? "; NCCL_ALGO is set"
	       : getenv("NCCL_PROTO")         ? "; NCCL_PROTO is set"
	       : getenv("NCCL_COMM_BLOCKING") ? "; NCCL_COMM_BLOCKING is set"
					      : "";
}

static int check(const struct tt_cuda_ranks *r, int result, const char *what, struct tt_error *err)
{
	if (result == TT_NCCL_SUCCESS)
		return TT_OK;
	const char *more = r->nccl.ncclGetLastError(r->comm);
	return tt_fail(err, TT_ERR_DEVICE, "%s: NCCL: %s%s%.200s%s", what, r->nccl.ncclGetErrorString(result),
		more && *more ? ": " : "", more ? more : "", set_by_user());
}

/* ---- Joining */

size_t tt_cuda_shared_bytes(const struct tt_config *config)
{
	(void)config;
	return sizeof(struct shared);
}

static int describe(const struct tt_cuda *cuda, struct shared *said, struct tt_error *err)
{
	struct cudaDeviceProp device;
	TT_TRY_CUDA(cudaGetDeviceProperties(&device, cuda->device), "the device");
	said->major = device.major;
	said->minor = device.minor;
	memcpy(said->device, device.name, sizeof said->device);
	int version = 0;
	TT_TRY(check(cuda->ranks, cuda->ranks->nccl.ncclGetVersion(&version), "its version", err));
	said->nccl = version;
	return TT_OK;
}

int tt_cuda_join(struct tt_backend *backend, struct tt_meeting *meeting, void *shared, uint32_t rank,
	uint32_t n_threads, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	struct tt_cuda_ranks *r;
	(void)n_threads;
	TT_TRY(tt_alloc(&r, 1, sizeof *r, err));
	cuda->ranks = r;
	cuda->shard = (struct tt_shard){.rank = rank, .n_ranks = meeting->n_ranks};
	r->meeting = meeting;
	r->shared = shared;
	r->rank = rank;
	pthread_mutex_init(&r->mutex, NULL);
	TT_TRY(tt_steady_condition(&r->changed, err));
	backend->attention = tt_cuda_ranks_attention;
	backend->gate_up = tt_cuda_ranks_gate_up;
	backend->logits = tt_cuda_ranks_logits;
	return open_library(r, err);
}

/* Sums of tensor cores differ between architectures, and so would the bits of what each rank computes. */
static int compare(const struct tt_cuda *cuda, struct tt_error *err)
{
	struct shared own = {0};
	const struct shared *first = cuda->ranks->shared;
	TT_TRY(describe(cuda, &own, err));
	if (own.nccl != first->nccl)
		return tt_fail(err, TT_ERR_MISMATCH, "it has NCCL %d, where rank 0 has %d", own.nccl, first->nccl);
	if (own.major != first->major || own.minor != first->minor || strcmp(own.device, first->device))
		return tt_fail(err, TT_ERR_MISMATCH, "cuda:%d is a %.60s (%d.%d), where rank 0 has a %.60s (%d.%d)",
			cuda->device, own.device, own.major, own.minor, first->device, first->major, first->minor);
	return TT_OK;
}

static int64_t ms_of(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t now_ms(void)
{
	return ms_of(CLOCK_MONOTONIC);
}

/* ---- The guard */

/* NCCL tells its kernels to end, and then waits for the graphs that have captured any to be destroyed, which is the
 * engine's thread to do: so this may take until the backend is closed. ncclCommDestroy would wait for the other ranks
 * too, which wait to be closed in turn. */
static void abandon(struct tt_cuda_ranks *r)
{
	atomic_store(&r->lost, true);
	for (int i = 0; i < LEAVE_MS && atomic_load(&r->n_inside); i++)
		tt_sleep(1e-3);
	r->nccl.ncclCommAbort(r->comm);
}

/* What the device has come to, and whether the process runs, for rank 0 to read. */
static void say(struct tt_cuda_ranks *r)
{
	struct tt_still_rank *own = &r->shared->ranks[r->rank];
	int64_t run = ms_of(CLOCK_PROCESS_CPUTIME_ID);
	atomic_store(&own->reached, *r->reached);
	if (run - r->run_ms < TT_STILL_RUN_MS)
		return;
	r->run_ms = run;
	atomic_fetch_add(&own->run, 1);
}

/* Rank 0 looks at all, while it waits itself. True where their devices stand still, which ends the meeting. */
static bool look(struct tt_cuda_ranks *r, struct tt_still *still)
{
	struct tt_error why = {0};
	uint32_t behind;
	if (!atomic_load(&r->n_waiting))
		still->n_looks = 0;
	if (!tt_still_look(still, r->shared->ranks, r->meeting->n_ranks, &behind))
		return false;
	int seconds = TT_STILL_LOOK_MS * TT_STILL_LOOKS / 1000;
	if (behind < TT_MAX_RANKS)
		tt_fail(&why, TT_ERR_DEVICE, "waited %d s for an exchange that rank %u does not end", seconds, behind);
	else
		tt_fail(&why, TT_ERR_DEVICE, "waited %d s for an exchange between ranks that none of them ends",
			seconds);
	tt_meeting_fail(r->meeting, 0, &why);
	return true;
}

/* Waits for a change until that time; false where it has come. With mutex. */
static bool wait_until(struct tt_cuda_ranks *r, int64_t time_ms)
{
	struct timespec until = {.tv_sec = time_ms / 1000, .tv_nsec = time_ms % 1000 * 1000000};
	return pthread_cond_timedwait(&r->changed, &r->mutex, &until) != ETIMEDOUT;
}

/* Nothing else ends a kernel that waits for a rank that is gone. */
static void *guard(void *argument)
{
	struct tt_cuda_ranks *r = argument;
	struct tt_still still = {0};
	bool over = false;
	int64_t next_look = now_ms();
	pthread_mutex_lock(&r->mutex);
	while (!r->closing && !over) {
		wait_until(r, now_ms() + GUARD_MS);
		say(r);
		over = atomic_load(&r->meeting->ended) != 0;
		if (over || r->rank != 0 || now_ms() < next_look)
			continue;
		next_look = now_ms() + TT_STILL_LOOK_MS;
		over = look(r, &still);
	}
	pthread_mutex_unlock(&r->mutex);
	abandon(r);
	pthread_mutex_lock(&r->mutex);
	r->guard_over = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mutex);
	return NULL;
}

/* ---- Connecting */

/* NCCL waits for all ranks, for ever where one has ended before it came, and nothing ends that wait: so it is another
 * thread's, which is left behind then. */
struct start {
	int (*init)(tt_nccl_comm *, int, struct tt_nccl_id, int);
	int (*abort)(tt_nccl_comm);
	struct tt_nccl_id id;
	int device, rank, n_ranks, result;
	tt_nccl_comm comm;
	_Atomic int state; /* STARTING, then of both threads the first says what it is */
};
enum { STARTING, STARTED, LEFT };

static void *run_init(void *argument)
{
	struct start *s = argument;
	int starting = STARTING;
	cudaSetDevice(s->device);
	s->result = s->init(&s->comm, s->n_ranks, s->id, s->rank);
	if (!atomic_compare_exchange_strong(&s->state, &starting, STARTED)) {
		if (s->result == TT_NCCL_SUCCESS && s->comm)
			s->abort(s->comm);
		free(s);
	}
	return NULL;
}

static int init(struct tt_cuda *cuda, struct tt_error *err)
{
	struct tt_cuda_ranks *r = cuda->ranks;
	struct start *s;
	pthread_t thread;
	int starting = STARTING;
	TT_TRY(tt_alloc(&s, 1, sizeof *s, err));
	*s = (struct start){.init = r->nccl.ncclCommInitRank,
		.abort = r->nccl.ncclCommAbort,
		.id = r->shared->id,
		.device = cuda->device,
		.rank = (int)cuda->shard.rank,
		.n_ranks = (int)cuda->shard.n_ranks};
	int status = tt_start_thread(&thread, run_init, s, err);
	if (status != TT_OK) {
		free(s);
		return status;
	}
	pthread_detach(thread);
	while (atomic_load(&s->state) == STARTING && !atomic_load(&r->meeting->ended))
		tt_sleep(1e-3);
	if (atomic_compare_exchange_strong(&s->state, &starting, LEFT))
		return tt_fail(err, TT_ERR_DEVICE, "another rank has failed");
	r->comm = s->comm;
	int result = s->result;
	free(s);
	return check(r, result, "connecting the ranks", err);
}

int tt_cuda_connect(struct tt_backend *backend, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	struct tt_cuda_ranks *r = cuda->ranks;
	if (r->comm)
		return tt_fail(err, TT_ERR_ARGUMENT, "the ranks are connected");
	TT_TRY_CUDA(cudaSetDevice(cuda->device), "choosing the device");
	if (cuda->shard.rank == 0) {
		TT_TRY(describe(cuda, r->shared, err));
		TT_TRY(check(r, r->nccl.ncclGetUniqueId(&r->shared->id), "a group of ranks", err));
	}
	if (!tt_meeting_meet(r->meeting, cuda->shard.rank)) /* rank 0 has written what the others read */
		return tt_fail(err, TT_ERR_DEVICE, "another rank has failed");
	TT_TRY(compare(cuda, err));
	TT_TRY(init(cuda, err));
	int status = tt_start_thread(&r->guard, guard, r, err);
	r->has_guard = status == TT_OK;
	if (!r->has_guard)
		r->nccl.ncclCommAbort(r->comm);
	return status;
}

/* ---- Memory */

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

int tt_cuda_ranks_open(struct tt_cuda *cuda, struct tt_error *err)
{
	struct tt_cuda_ranks *r = cuda->ranks;
	const struct tt_shard *s = &cuda->shard;
	if (!r)
		return TT_OK;
	size_t attention = (size_t)s->heads.count * cuda->config.head_dim * sizeof(uint16_t);
	size_t row = larger(attention, larger(s->ffn.count * sizeof(uint16_t), s->hidden.count * sizeof(float)));
	size_t logits = tt_cuda_logits_stride(cuda, 0) * sizeof(float);
	r->arena_bytes = s->n_ranks * larger(cuda->limits.max_tokens * row, cuda->limits.max_samples * logits);
	TT_TRY(cuda->base.allocate(&cuda->base, &r->arena, r->arena_bytes, 1, err));
	TT_TRY(cuda->base.allocate(&cuda->base, &r->marks, 1, sizeof *r->marks, err));
	TT_TRY_CUDA(cudaMallocHost((void **)(uintptr_t)&r->reached, sizeof *r->reached), "pinned host memory");
	*r->reached = 0;
	return TT_OK;
}

/* Waits for what is on the stream. Where that does not end, nothing of the device's is touched any more. */
void tt_cuda_ranks_settle(struct tt_cuda *cuda)
{
	struct tt_cuda_ranks *r = cuda->ranks;
	int64_t until = now_ms() + SETTLE_MS;
	while (!r->stuck && cudaStreamQuery(cuda->stream) == cudaErrorNotReady)
		r->stuck = now_ms() > until;
	cudaGetLastError(); /* that it was not ready is one */
}

/* Ends the guard, which aborts. False where that hangs: then the thread, and what it uses, is left behind. */
static bool end_guard(struct tt_cuda_ranks *r)
{
	int64_t until = now_ms() + ABORT_MS;
	if (!r->has_guard)
		return true;
	pthread_mutex_lock(&r->mutex);
	r->closing = true;
	pthread_cond_broadcast(&r->changed);
	while (!r->guard_over && wait_until(r, until))
		;
	bool over = r->guard_over;
	pthread_mutex_unlock(&r->mutex);
	if (over)
		pthread_join(r->guard, NULL);
	else
		pthread_detach(r->guard);
	return over;
}

bool tt_cuda_ranks_close(struct tt_cuda *cuda)
{
	struct tt_cuda_ranks *r = cuda->ranks;
	if (!r)
		return true;
	bool over = end_guard(r), stuck = r->stuck;
	cuda->base.release(&cuda->base, r->arena);
	cuda->base.release(&cuda->base, r->marks);
	cuda->ranks = NULL;
	if (!over)
		return !stuck;
	if (!stuck)
		cudaFreeHost((void *)(uintptr_t)r->reached);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->mutex);
	free(r);
	return !stuck;
}

/* ---- A step */

/* Each rank comes twice to a step, and rank 0 the second time before it waits: so a rank that rank 0 waits for has come
 * less often, which followers.c looks at. */
static void arrive(struct tt_cuda *cuda)
{
	atomic_fetch_add(&cuda->ranks->meeting->ranks[cuda->shard.rank].n_arrived, 1);
}

void tt_cuda_ranks_waiting(struct tt_cuda *cuda, bool waiting)
{
	if (cuda->ranks)
		atomic_fetch_add(&cuda->ranks->n_waiting, waiting ? 1 : -1);
}

void tt_cuda_ranks_begin(struct tt_cuda *cuda)
{
	if (!cuda->ranks)
		return;
	arrive(cuda);
	tt_cuda_ranks_waiting(cuda, true); /* a launch waits too, where many are under way */
}

void tt_cuda_ranks_end(struct tt_cuda *cuda)
{
	tt_cuda_ranks_waiting(cuda, false);
}

static int is_lost(struct tt_error *err)
{
	return tt_fail(err, TT_ERR_DEVICE, "another rank has failed");
}

/* Waits for a step, or with done NULL for all that is on the stream. cudaEventSynchronize asks in a loop too, and for
 * ever; still.h counts on the loop. False where it does not end. */
static bool wait_for(struct tt_cuda *cuda, cudaEvent_t done)
{
	struct tt_cuda_ranks *r = cuda->ranks;
	int64_t until = 0;
	tt_cuda_ranks_waiting(cuda, true);
	while (!r->stuck && (done ? cudaEventQuery(done) : cudaStreamQuery(cuda->stream)) == cudaErrorNotReady) {
		tt_pause();
		if (!atomic_load(&r->meeting->ended))
			continue;
		until = until ? until : now_ms() + END_MS;
		r->stuck = now_ms() > until;
	}
	tt_cuda_ranks_waiting(cuda, false);
	cudaGetLastError(); /* that it was not ready is one */
	return !r->stuck;
}

bool tt_cuda_ranks_idle(struct tt_cuda *cuda)
{
	return !cuda->ranks || wait_for(cuda, NULL);
}

int tt_cuda_ranks_finish(struct tt_cuda *cuda, cudaEvent_t done, struct tt_error *err)
{
	bool first = cuda->shard.rank == 0;
	if (!cuda->ranks)
		return tt_wait_event(&cuda->counters, done, err);
	if (first)
		arrive(cuda);
	if (!wait_for(cuda, done))
		return is_lost(err);
	TT_TRY(tt_wait_event(&cuda->counters, done, err));
	if (!first)
		arrive(cuda);
	return atomic_load(&cuda->ranks->meeting->ended) ? is_lost(err) : TT_OK;
}

/* ---- How far the device has come */

struct tt_cuda_mark tt_cuda_ranks_mark(const struct tt_cuda *cuda)
{
	struct tt_cuda_mark mark = {NULL, NULL};
	if (cuda->ranks) {
		mark.count = cuda->ranks->marks;
		mark.reached = (uint32_t *)(uintptr_t)cuda->ranks->reached;
	}
	return mark;
}

static void give(struct tt_cuda_ranks *r, uint32_t n)
{
	atomic_fetch_add(&r->shared->ranks[r->rank].given, n);
}

void tt_cuda_ranks_marked(struct tt_cuda *cuda)
{
	if (!cuda->ranks)
		return;
	if (tt_cuda_graphs_capturing(cuda))
		cuda->ranks->n_captured++;
	else
		give(cuda->ranks, 1);
}

uint32_t tt_cuda_ranks_captured(struct tt_cuda *cuda)
{
	uint32_t n = cuda->ranks ? cuda->ranks->n_captured : 0;
	if (cuda->ranks)
		cuda->ranks->n_captured = 0;
	return n;
}

/* ---- Calls of NCCL */

int tt_cuda_ranks_enter(struct tt_cuda *cuda, struct tt_error *err)
{
	if (!cuda->ranks)
		return TT_OK;
	atomic_fetch_add(&cuda->ranks->n_inside, 1);
	if (!atomic_load(&cuda->ranks->lost))
		return TT_OK;
	atomic_fetch_sub(&cuda->ranks->n_inside, 1);
	return is_lost(err);
}

void tt_cuda_ranks_leave(struct tt_cuda *cuda, uint32_t n_marks)
{
	if (!cuda->ranks)
		return;
	atomic_fetch_sub(&cuda->ranks->n_inside, 1);
	give(cuda->ranks, n_marks);
}

void *tt_cuda_own_block(const struct tt_cuda *cuda, uint32_t n_rows, size_t row_bytes)
{
	return cuda->ranks->arena + cuda->shard.rank * n_rows * row_bytes;
}

static int gather(struct tt_cuda *cuda, unsigned char *blocks, uint32_t n_rows, size_t row_bytes, struct tt_error *err)
{
	struct tt_cuda_ranks *r = cuda->ranks;
	size_t n_bytes = n_rows * row_bytes;
	if (n_bytes * cuda->shard.n_ranks > r->arena_bytes)
		return tt_fail(err, TT_ERR_LIMIT, "an exchange of %u rows of %zu bytes", n_rows, row_bytes);
	if (!n_bytes)
		return TT_OK;
	TT_TRY(tt_cuda_ranks_enter(cuda, err));
	int status = check(r,
		r->nccl.ncclAllGather(
			blocks + cuda->shard.rank * n_bytes, blocks, n_bytes, TT_NCCL_UINT8, r->comm, cuda->stream),
		"an exchange between ranks", err);
	tt_cuda_ranks_leave(cuda, 0);
	cuda->counters.exchanges += status == TT_OK;
	return status;
}

int tt_cuda_gather(struct tt_cuda *cuda, uint32_t n_rows, size_t row_bytes, const void **arena, struct tt_error *err)
{
	*arena = cuda->ranks->arena;
	return gather(cuda, cuda->ranks->arena, n_rows, row_bytes, err);
}

/* What the op of a rank gives the others: n_rows of row_bytes each, which are to be the rows `to` of whole_bytes. */
struct passed {
	void *to;
	uint32_t n_rows;
	size_t row_bytes, whole_bytes;
};

/* Where the blocks of all ranks come together: in the arena; or at once in their places, since those of a single row
 * are the row. */
static unsigned char *blocks_of(const struct tt_cuda *cuda, const struct passed *p)
{
	bool in_place = p->n_rows == 1 && p->row_bytes * cuda->shard.n_ranks == p->whole_bytes;
	return in_place ? p->to : cuda->ranks->arena;
}

static void *own_of(const struct tt_cuda *cuda, const struct passed *p)
{
	return blocks_of(cuda, p) + cuda->shard.rank * p->n_rows * p->row_bytes;
}

/* Each row gets the columns of all ranks in turn; what the last blocks have beyond whole_bytes is left out. */
static int exchange(struct tt_cuda *cuda, const struct passed *p, struct tt_error *err)
{
	unsigned char *blocks = blocks_of(cuda, p);
	TT_TRY(gather(cuda, blocks, p->n_rows, p->row_bytes, err));
	return blocks == p->to ? TT_OK
			       : tt_cuda_place(cuda, p->to, blocks, p->n_rows, p->row_bytes, p->whole_bytes, err);
}

/* ---- Ops */

uint32_t tt_cuda_logits_stride(const struct tt_cuda *cuda, uint32_t n_out)
{
	return cuda->ranks ? tt_shard_cut(cuda->config.vocab_size, TT_VOCAB_TILE, 0, cuda->shard.n_ranks).count : n_out;
}

int tt_cuda_ranks_attention(struct tt_backend *backend, const struct tt_attention_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	size_t row = (size_t)args->config->n_heads * args->config->head_dim * sizeof(uint16_t);
	const struct passed passed = {args->attention, cuda->grid_tokens, row, row * cuda->shard.n_ranks};
	struct tt_attention_args own = *args;
	own.attention = own_of(cuda, &passed);
	TT_TRY(tt_cuda_attention(backend, &own, err));
	return exchange(cuda, &passed, err);
}

int tt_cuda_ranks_gate_up(struct tt_backend *backend, const struct tt_gate_up_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	size_t row = args->layer->w_gate.n_out * sizeof(uint16_t);
	const struct passed passed = {args->ffn, cuda->grid_tokens, row, row * cuda->shard.n_ranks};
	struct tt_gate_up_args own = *args;
	own.ffn = own_of(cuda, &passed);
	TT_TRY(tt_cuda_gate_up(backend, &own, err));
	return exchange(cuda, &passed, err);
}

/* The last ranks have fewer rows of a small vocabulary, or none. A graph's bucket may have more rows than there is room
 * for, which nobody reads. */
int tt_cuda_ranks_logits(struct tt_backend *backend, const struct tt_logits_args *args, struct tt_error *err)
{
	struct tt_cuda *cuda = (struct tt_cuda *)backend;
	uint32_t n = cuda->grid_samples < cuda->limits.max_samples ? cuda->grid_samples : cuda->limits.max_samples;
	const struct passed passed = {args->logits, n, tt_cuda_logits_stride(cuda, 0) * sizeof(float),
		args->config->vocab_size * sizeof(float)};
	struct tt_logits_args own = *args;
	own.logits = own_of(cuda, &passed);
	if (args->output->n_out)
		TT_TRY(tt_cuda_logits(backend, &own, err));
	return exchange(cuda, &passed, err);
}
