/* An NCCL of processes that share a file without a name. A collective runs when the stream comes to it, and takes part
 * in the call of that number of every other rank: what differs between ranks is reported there. Until it is done, the
 * other ranks' parts of what it gives are NaN. */
#define _GNU_SOURCE /* memfd_create */
#include "kernels/emu/nccl.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernels/emu/global.h"
#include "kernels/emu/stream.h"

enum {
	VERSION = 22800,
	MOST_RANKS = 16,
	SLOT = 64 << 20, /* bytes of a rank's part of a collective; the file has no more pages than are written */
	GROUP = 64,      /* collectives between a group's start and its end */
	CHUNK = 64,      /* numbers that a sum has one order for */
	START_SECONDS = 60,
};

/* ncclResult_t */
enum { SUCCESS, UNHANDLED, SYSTEM, INTERNAL, INVALID_ARGUMENT, INVALID_USAGE, REMOTE };

struct rank {
	_Alignas(64) _Atomic uint64_t n_posted, n_read; /* calls */
	_Atomic uint32_t here, left;
	int device;
	struct collective call; /* its pointers are the rank's own */
};

struct segment {
	_Atomic uint32_t n_ranks, n_here, ended;
	struct rank ranks[MOST_RANKS];
};

/* TT_EMU_NCCL is "RANK CALL WHAT": what goes wrong on that rank, or on all where it is -1, in its collective of that
 * number, from 1 on. */
enum plant {
	NO_PLANT,
	ABSENT, /* it never comes to the collective */
	SPIN,   /* it takes part, and never ends it */
	ABORT,  /* the same, and ncclCommAbort ends it and does not return */
	STUCK,  /* nothing ends it, nor what is on any stream behind it */
};

struct ncclComm {
	struct segment *segment;
	unsigned char *slots; // [n_ranks][SLOT]
	uint32_t rank, n_ranks;
	uint64_t n_calls;
	_Atomic bool aborted;
	_Atomic int n_kept; /* collectives that graphs hold */
	enum plant plant;
	unsigned long long planted_call;
};

struct pending {
	struct collective collective;
	cudaStream_t stream;
};

static char last_error[300];
static struct pending group[GROUP];
static unsigned group_depth, n_group;
static const size_t header = (sizeof(struct segment) + 4095) / 4096 * 4096;

static int fail(int result, const char *text)
{
	snprintf(last_error, sizeof last_error, "%s", text);
	return result;
}

const char *ncclGetErrorString(int result)
{
	static const char *const names[] = {"no error", "unhandled cuda error", "unhandled system error",
		"internal error", "invalid argument", "invalid usage",
		"remote process exited or there was a network error"};
	return result >= 0 && result <= REMOTE ? names[result] : "unknown";
}

const char *ncclGetLastError(tt_nccl_comm comm)
{
	(void)comm;
	return last_error;
}

int ncclGetVersion(int *version)
{
	*version = VERSION;
	return SUCCESS;
}

/* ---- A group */

/* The id is the name of the file, which is there as long as this process keeps it open. */
int ncclGetUniqueId(struct tt_nccl_id *out)
{
	int file = memfd_create("emulated-nccl", MFD_CLOEXEC);
	memset(out, 0, sizeof *out);
	if (file < 0 || ftruncate(file, (off_t)(header + (size_t)MOST_RANKS * SLOT)))
		return fail(SYSTEM, "no memory to share");
	snprintf(out->bytes, sizeof out->bytes, "/proc/%d/fd/%d", (int)getpid(), file);
	return SUCCESS;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* All ranks come, or one says that it cannot. */
static int meet(struct ncclComm *comm)
{
	struct segment *s = comm->segment;
	double until = now() + START_SECONDS;
	while (atomic_load(&s->n_here) < comm->n_ranks) {
		if (atomic_load(&s->ended))
			return fail(REMOTE, "another rank has ended the group");
		if (now() > until)
			return fail(REMOTE, "a rank has not come");
		sched_yield();
	}
	for (uint32_t i = 0; i < comm->n_ranks; i++)
		for (uint32_t j = 0; j < i; j++)
			if (s->ranks[i].device == s->ranks[j].device)
				return fail(INVALID_USAGE, "Duplicate GPU detected");
	return SUCCESS;
}

static int join(struct ncclComm *comm)
{
	struct segment *s = comm->segment;
	uint32_t none = 0;
	if (!atomic_compare_exchange_strong(&s->n_ranks, &none, comm->n_ranks) && none != comm->n_ranks) {
		atomic_store(&s->ended, 1);
		return fail(INVALID_ARGUMENT, "another rank counts other ranks");
	}
	if (atomic_exchange(&s->ranks[comm->rank].here, 1)) {
		atomic_store(&s->ended, 1);
		return fail(INVALID_ARGUMENT, "a rank is there twice");
	}
	cudaGetDevice(&s->ranks[comm->rank].device);
	atomic_fetch_add(&s->n_here, 1);
	return meet(comm);
}

static void set_plant(struct ncclComm *comm)
{
	static const char *const names[] = {"", "absent", "spin", "abort", "stuck"};
	const char *set = getenv("TT_EMU_NCCL");
	char what[20];
	int rank;
	if (!set || sscanf(set, "%d %llu %19s", &rank, &comm->planted_call, what) != 3 ||
		(rank >= 0 && rank != (int)comm->rank))
		return;
	for (enum plant i = ABSENT; i <= STUCK; i++)
		if (!strcmp(what, names[i]))
			comm->plant = i;
}

static void comm_free(struct ncclComm *comm)
{
	munmap(comm->segment, header + (size_t)MOST_RANKS * SLOT);
	free(comm);
}

int ncclCommInitRank(tt_nccl_comm *out, int n_ranks, struct tt_nccl_id id, int rank)
{
	*out = NULL;
	if (n_ranks < 1 || n_ranks > MOST_RANKS || rank < 0 || rank >= n_ranks)
		return fail(INVALID_ARGUMENT, "there is no such rank");
	int file = open(id.bytes, O_RDWR | O_CLOEXEC);
	struct ncclComm *comm = calloc(1, sizeof *comm);
	void *memory = file < 0 ? MAP_FAILED
				: mmap(NULL, header + (size_t)MOST_RANKS * SLOT, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_NORESERVE, file, 0);
	if (file >= 0)
		close(file);
	if (!comm || memory == MAP_FAILED) {
		free(comm);
		return fail(SYSTEM, "the group's memory cannot be mapped");
	}
	comm->segment = memory;
	comm->slots = (unsigned char *)memory + header;
	comm->rank = (uint32_t)rank;
	comm->n_ranks = (uint32_t)n_ranks;
	set_plant(comm);
	int result = join(comm);
	int pid = 0, own = -1;
	if (sscanf(id.bytes, "/proc/%d/fd/%d", &pid, &own) == 2 && pid == getpid())
		close(own); /* all have mapped it, or will not */
	if (result == SUCCESS)
		*out = comm;
	else
		comm_free(comm);
	return result;
}

/* From any thread: the collective that runs ends, and others that wait for a call that this rank did not come to are
 * told that it never will. Then it waits, as NCCL does, for the graphs that have captured collectives to be destroyed.
 * The memory stays, since a collective may read it still; a call on it is a fault. */
int ncclCommAbort(tt_nccl_comm comm)
{
	atomic_store(&comm->segment->ranks[comm->rank].left, 1);
	atomic_store(&comm->aborted, true);
	while (atomic_load(&comm->n_kept) || comm->plant == ABORT)
		tt_sleep(1e-3);
	return SUCCESS;
}

void collective_kept(const struct collective *c, bool kept)
{
	atomic_fetch_add(&c->comm->n_kept, kept ? 1 : -1);
}

/* What NCCL has freed is used no more. */
static void check_alive(const struct ncclComm *comm)
{
	if (!atomic_load(&comm->aborted))
		return;
	fprintf(stderr, "a collective on a communicator that was aborted\n");
	abort();
}

void collective_launched(const struct collective *c)
{
	check_alive(c->comm);
}

/* ---- Collectives: the calls */

static size_t size_of(int type)
{
	return type == TT_NCCL_UINT8 ? 1 : type == TT_EMU_NCCL_FLOAT32 ? 4 : 0;
}

static bool on_device(const void *p, size_t n_bytes)
{
	const struct allocation *a = global_find(p);
	return a && n_bytes <= a->size - (size_t)((const char *)p - a->base);
}

static int submit(const struct collective *c, cudaStream_t stream)
{
	struct operation op = {.type = OP_COLLECTIVE, .collective = *c};
	return api_result(stream_add(stream, &op)) == cudaSuccess ? SUCCESS : fail(UNHANDLED, "the stream refused it");
}

static int call(const struct collective *c, size_t n_received, cudaStream_t stream)
{
	size_t size = size_of(c->type);
	if (!c->comm || !size || c->n * size > SLOT)
		return fail(INVALID_ARGUMENT, "no such collective");
	check_alive(c->comm);
	if (!on_device(c->from, c->n * size) || !on_device(c->to, n_received * size))
		return fail(INVALID_ARGUMENT, "a buffer is not all on the device");
	if (!group_depth)
		return submit(c, stream);
	if (n_group == GROUP)
		return fail(INTERNAL, "a group is too long");
	group[n_group++] = (struct pending){*c, stream};
	return SUCCESS;
}

int ncclAllGather(const void *from, void *to, size_t n, int type, tt_nccl_comm comm, cudaStream_t stream)
{
	const struct collective c = {ALL_GATHER, comm, from, to, n, type};
	return call(&c, comm ? n * comm->n_ranks : n, stream);
}

int ncclAllReduce(const void *from, void *to, size_t n, int type, int op, tt_nccl_comm comm, cudaStream_t stream)
{
	const struct collective c = {ALL_REDUCE, comm, from, to, n, type};
	if (type != TT_EMU_NCCL_FLOAT32 || op != TT_EMU_NCCL_SUM)
		return fail(INVALID_ARGUMENT, "only sums of f32");
	return call(&c, n, stream);
}

int ncclGroupStart(void)
{
	group_depth++;
	return SUCCESS;
}

int ncclGroupEnd(void)
{
	int result = SUCCESS;
	if (!group_depth)
		return fail(INVALID_USAGE, "no group was begun");
	if (--group_depth)
		return SUCCESS;
	for (unsigned i = 0; i < n_group && result == SUCCESS; i++)
		result = submit(&group[i].collective, group[i].stream);
	n_group = 0;
	return result;
}

bool collective_is_open(void)
{
	if (group_depth && !*emu.report)
		snprintf(emu.report, sizeof emu.report, "ncclGroupStart without its ncclGroupEnd");
	return group_depth != 0;
}

/* ---- Collectives: what they do */

enum waited { THERE, ABORTED, GONE };

/* Waits until another rank has posted, or read, so many calls. */
static enum waited wait_for(struct ncclComm *comm, const struct rank *other, const _Atomic uint64_t *n, uint64_t least)
{
	while (atomic_load(n) < least) {
		if (comm->aborted || atomic_load(&comm->segment->ended))
			return ABORTED;
		if (atomic_load(&other->left) && atomic_load(n) < least)
			return GONE;
		sched_yield();
	}
	return THERE;
}

/* What is planted spins, as a kernel does. */
static void wait_for_abort(const struct ncclComm *comm)
{
	while (!comm->aborted)
		sched_yield();
}

static const char *name_of(const struct collective *c)
{
	return c->kind == ALL_GATHER ? "ncclAllGather" : "ncclAllReduce";
}

/* All are told, and fail. */
static cudaError_t report(
	struct ncclComm *comm, uint32_t other, const struct collective *own, const struct collective *its)
{
	if (!*emu.report && its)
		snprintf(emu.report, sizeof emu.report,
			"call %llu: rank %u has %s of %zu (type %d) where rank %u has %s of %zu (type %d)",
			(unsigned long long)comm->n_calls, other, name_of(its), its->n, its->type, comm->rank,
			name_of(own), own->n, own->type);
	else if (!*emu.report)
		snprintf(emu.report, sizeof emu.report, "call %llu: %s: rank %u has left the group",
			(unsigned long long)comm->n_calls, name_of(own), other);
	return cudaErrorLaunchFailure;
}

static void reduce(const struct ncclComm *comm, const struct collective *c)
{
	float *to = host_address(c->to);
	for (size_t i = 0; i < c->n; i++) {
		uint32_t first = (uint32_t)((comm->n_calls * 7 + i / CHUNK) % comm->n_ranks);
		float sum = 0;
		for (uint32_t k = 0; k < comm->n_ranks; k++) {
			float v;
			memcpy(&v, comm->slots + (first + k) % comm->n_ranks * (size_t)SLOT + i * sizeof v, sizeof v);
			sum = k ? sum + v : v;
		}
		to[i] = sum;
	}
}

static void take(const struct ncclComm *comm, const struct collective *c, size_t n_bytes)
{
	unsigned char *to = host_address(c->to);
	if (c->kind == ALL_REDUCE) {
		reduce(comm, c);
		return;
	}
	for (uint32_t i = 0; i < comm->n_ranks; i++)
		memcpy(to + i * n_bytes, comm->slots + i * (size_t)SLOT, n_bytes);
}

/* Puts the rank's part into its slot, which all have read the last call from, and NaN where the others' will be. */
static void post(const struct ncclComm *comm, const struct collective *c, size_t n_bytes)
{
	struct rank *own = &comm->segment->ranks[comm->rank];
	size_t received = c->kind == ALL_GATHER ? n_bytes * comm->n_ranks : n_bytes;
	memcpy(comm->slots + comm->rank * (size_t)SLOT, host_address(c->from), n_bytes);
	memset(host_address(c->to), 0xff, received);
	global_host_wrote(c->to, received);
	own->call = *c;
	atomic_store(&own->n_posted, comm->n_calls);
}

cudaError_t collective_run(const struct collective *c)
{
	struct ncclComm *comm = c->comm;
	struct rank *ranks = comm->segment->ranks;
	size_t n_bytes = c->n * size_of(c->type);
	enum waited waited = THERE;
	for (uint32_t i = 0; i < comm->n_ranks && waited == THERE; i++)
		waited = wait_for(comm, &ranks[i], &ranks[i].n_read, comm->n_calls);
	comm->n_calls++;
	emu.counters.collectives++;
	bool planted = comm->plant != NO_PLANT && comm->n_calls == comm->planted_call;
	if (planted && comm->plant == ABSENT) {
		wait_for_abort(comm);
		return cudaSuccess;
	}
	if (planted && comm->plant == STUCK) {
		stream_stick();
		return cudaSuccess;
	}
	if (waited == THERE)
		post(comm, c, n_bytes);
	for (uint32_t i = 0; i < comm->n_ranks && waited == THERE; i++) {
		const struct collective *its = &ranks[i].call;
		waited = wait_for(comm, &ranks[i], &ranks[i].n_posted, comm->n_calls);
		if (waited == GONE)
			return report(comm, i, c, NULL);
		if (waited == THERE && (its->kind != c->kind || its->n != c->n || its->type != c->type))
			return report(comm, i, c, its);
	}
	if (planted)
		wait_for_abort(comm);
	if (waited != THERE)
		return cudaSuccess; /* as on a GPU, the stream goes on */
	take(comm, c, n_bytes);
	atomic_store(&ranks[comm->rank].n_read, comm->n_calls);
	return cudaSuccess;
}
