/* What ranks pass to each other: NCCL's all-gather, on the stream, in graphs too. It adds nothing up, so no order of
 * NCCL's is in any bit. */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "kernels/cuda/exchange.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/memory.h"
#include "kernels/cuda/nccl_abi.h"
#include "kernels/meeting.h"

enum {
	GUARD_MS = 20,  /* between two looks at whether another rank has failed */
	LEAVE_MS = 1000 /* for a call of NCCL that is under way then; one that hangs is not waited for longer */
};

/* What ranks share before NCCL connects them; rank 0 writes it. */
struct shared {
	struct tt_nccl_id id;
	int32_t nccl, major, minor; /* versions of NCCL and of the device */
	char device[sizeof((struct cudaDeviceProp *)0)->name];
};

struct tt_cuda_ranks {
	struct tt_meeting *meeting;
	struct shared *shared;
	struct tt_nccl nccl;
	tt_nccl_comm comm;
	unsigned char *arena;
	size_t arena_bytes;
	uint32_t *word;                   /* on the device: what this rank made of a step */
	uint32_t *words[TT_CUDA_FLIGHTS]; /* and on the host, pinned */
	/* A thread that ends what waits for a rank that has failed. */
	pthread_t guard;
	bool has_guard, closing; /* closing: with mutex */
	bool abandoned;          /* by the guard, or after its end */
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
	pthread_mutex_init(&r->mutex, NULL);
	pthread_cond_init(&r->changed, NULL);
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

/* NCCL's threads are made by ours and have their mask: signals are for the host's. */
static int start_thread(pthread_t *thread, void *(*run)(void *), void *argument, struct tt_error *err)
{
	sigset_t every, before;
	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &before);
	int error = pthread_create(thread, NULL, run, argument);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error ? tt_fail(err, TT_ERR_LIMIT, "a thread could not be started") : TT_OK;
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* At the end too: ncclCommDestroy waits for the other ranks, which wait to be closed in turn. */
static void abandon(struct tt_cuda_ranks *r)
{
	atomic_store(&r->lost, true);
	for (int i = 0; i < LEAVE_MS && atomic_load(&r->n_inside); i++)
		nap();
	if (r->comm && !r->abandoned)
		r->nccl.ncclCommAbort(r->comm);
	r->abandoned = true;
}

/* Nothing else ends a kernel that waits for a rank that is gone. */
static void *guard(void *argument)
{
	struct tt_cuda_ranks *r = argument;
	bool over = false;
	pthread_mutex_lock(&r->mutex);
	while (!r->closing && !over) {
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += GUARD_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		pthread_cond_timedwait(&r->changed, &r->mutex, &until);
		over = atomic_load(&r->meeting->ended) != 0;
	}
	pthread_mutex_unlock(&r->mutex);
	if (over)
		abandon(r);
	return NULL;
}

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
	int status = start_thread(&thread, run_init, s, err);
	if (status != TT_OK) {
		free(s);
		return status;
	}
	pthread_detach(thread);
	while (atomic_load(&s->state) == STARTING && !atomic_load(&r->meeting->ended))
		nap();
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
	TT_TRY(start_thread(&r->guard, guard, r, err));
	r->has_guard = true;
	return TT_OK;
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
	TT_TRY(cuda->base.allocate(&cuda->base, &r->word, 1, sizeof *r->word, err));
	for (int i = 0; i < TT_CUDA_FLIGHTS; i++)
		TT_TRY_CUDA(cudaMallocHost((void **)&r->words[i], sizeof *r->words[i]), "pinned host memory");
	return TT_OK;
}

static void end_guard(struct tt_cuda_ranks *r)
{
	pthread_mutex_lock(&r->mutex);
	r->closing = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mutex);
	if (r->has_guard)
		pthread_join(r->guard, NULL);
	r->has_guard = false;
}

void tt_cuda_ranks_end_guard(struct tt_cuda *cuda)
{
	if (cuda->ranks)
		end_guard(cuda->ranks);
}

void tt_cuda_ranks_close(struct tt_cuda *cuda)
{
	struct tt_cuda_ranks *r = cuda->ranks;
	if (!r)
		return;
	end_guard(r);
	abandon(r);
	cuda->base.release(&cuda->base, r->arena);
	cuda->base.release(&cuda->base, r->word);
	for (int i = 0; i < TT_CUDA_FLIGHTS; i++)
		cudaFreeHost(r->words[i]);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->mutex);
	free(r);
	cuda->ranks = NULL;
}

/* ---- A step */

/* Each rank comes twice to a step, and rank 0 the second time before it waits: so a rank that rank 0 waits for has come
 * less often, which followers.c looks at. */
static void arrive(struct tt_cuda *cuda)
{
	atomic_fetch_add(&cuda->ranks->meeting->ranks[cuda->shard.rank].n_arrived, 1);
}

void tt_cuda_ranks_begin(struct tt_cuda *cuda)
{
	if (cuda->ranks)
		arrive(cuda);
}

int tt_cuda_ranks_finish(struct tt_cuda *cuda, cudaEvent_t done, struct tt_error *err)
{
	bool first = cuda->shard.rank == 0;
	if (cuda->ranks && first)
		arrive(cuda);
	TT_TRY(tt_wait_event(&cuda->counters, done, err));
	if (cuda->ranks && !first)
		arrive(cuda);
	if (cuda->ranks && atomic_load(&cuda->ranks->meeting->ended))
		return tt_fail(err, TT_ERR_DEVICE, "another rank has failed");
	return TT_OK;
}

int tt_cuda_ranks_send_word(struct tt_cuda *cuda, uint64_t flight, struct tt_error *err)
{
	struct tt_cuda_ranks *r = cuda->ranks;
	return tt_copy_out(&cuda->counters, r->words[flight], r->word, sizeof *r->word, cuda->stream, err);
}

uint32_t tt_cuda_ranks_word(const struct tt_cuda *cuda, uint64_t flight)
{
	return *cuda->ranks->words[flight];
}

int tt_cuda_ranks_agree(struct tt_cuda *cuda, const struct tt_results *outputs, struct tt_error *err)
{
	return tt_cuda_agree(cuda, outputs, cuda->ranks->word, err);
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
	int status;
	atomic_fetch_add(&r->n_inside, 1);
	if (atomic_load(&r->lost))
		status = tt_fail(err, TT_ERR_DEVICE, "another rank has failed");
	else
		status = check(r,
			r->nccl.ncclAllGather(blocks + cuda->shard.rank * n_bytes, blocks, n_bytes, TT_NCCL_UINT8,
				r->comm, cuda->stream),
			"an exchange between ranks", err);
	atomic_fetch_sub(&r->n_inside, 1);
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
