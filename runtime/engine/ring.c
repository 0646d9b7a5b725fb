#define _GNU_SOURCE /* memfd_create, seals */
#include "runtime/engine/ring.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/memory.h"

enum { N_SLOTS = 4, HEAD = 64, PAGE = 4096 };

static size_t whole_pages(size_t n)
{
	return (n + PAGE - 1) / PAGE * PAGE;
}

/* The layout: the meeting, the commands, the backends' part. */
static int lay_out(
	struct tt_ring *ring, const struct tt_limits *limits, uint32_t n_layers, size_t n_shared, struct tt_error *err)
{
	size_t rows = limits->n_rows * (sizeof(uint32_t) + n_layers * sizeof(float)), slots, n;
	ring->capacity = limits->plan_bytes > rows ? limits->plan_bytes : rows;
	if (n_shared > SIZE_MAX / 4 || ring->capacity > SIZE_MAX / (2 * N_SLOTS) - 2 * PAGE)
		return tt_fail(err, TT_ERR_MEMORY, "steps of %zu bytes do not fit", ring->capacity);
	slots = N_SLOTS * whole_pages(HEAD + ring->capacity);
	if (!tt_add_size(whole_pages(sizeof *ring->meeting) + slots, whole_pages(n_shared), &n))
		return tt_fail(err, TT_ERR_MEMORY, "steps of %zu bytes do not fit", ring->capacity);
	ring->n_bytes = n;
	return TT_OK;
}

static int map(struct tt_ring *ring, int file, struct tt_error *err)
{
	char *memory = mmap(NULL, ring->n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (memory == MAP_FAILED)
		return tt_fail_io(err, "the memory that ranks share", "map");
	ring->memory = memory;
	ring->meeting = (struct tt_meeting *)(void *)memory;
	ring->slots = memory + whole_pages(sizeof *ring->meeting);
	ring->shared = ring->slots + N_SLOTS * whole_pages(HEAD + ring->capacity);
	return TT_OK;
}

int tt_ring_open(struct tt_ring *out, int *file, uint32_t n_ranks, const struct tt_limits *limits, uint32_t n_layers,
	size_t n_shared, struct tt_error *err)
{
	*out = (struct tt_ring){0};
	TT_TRY(lay_out(out, limits, n_layers, n_shared, err));
	*file = memfd_create("trimtab-ranks", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	/* Nobody can cut it: a process that reads what is no longer there would be ended by a signal. */
	if (*file < 0 || ftruncate(*file, (off_t)out->n_bytes) ||
		fcntl(*file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return tt_fail_io(err, "the memory that ranks share", "make");
	TT_TRY(map(out, *file, err));
	out->meeting->n_ranks = n_ranks;
	return TT_OK;
}

int tt_ring_map(struct tt_ring *out, int file, const struct tt_limits *limits, uint32_t n_layers, size_t n_shared,
	struct tt_error *err)
{
	struct stat info;
	*out = (struct tt_ring){0};
	TT_TRY(lay_out(out, limits, n_layers, n_shared, err));
	if (fstat(file, &info))
		return tt_fail_io(err, "the memory that ranks share", "look at");
	if (info.st_size < 0 || (size_t)info.st_size != out->n_bytes)
		return tt_fail(err, TT_ERR_FORMAT, "ranks share %lld bytes, where %zu are wanted",
			(long long)info.st_size, out->n_bytes);
	return map(out, file, err);
}

void tt_ring_close(struct tt_ring *ring)
{
	if (ring->memory)
		munmap(ring->memory, ring->n_bytes);
	*ring = (struct tt_ring){0};
}

static char *slot(const struct tt_ring *ring, uint32_t command)
{
	return ring->slots + command % N_SLOTS * whole_pages(HEAD + ring->capacity);
}

uint32_t tt_ring_last(const struct tt_ring *ring)
{
	return atomic_load(&ring->meeting->n_published) - 1;
}

/* Waits until each of the others has carried out n commands. Rank 0's own count says that it waits for so many. */
static bool wait_for_others(struct tt_ring *ring, uint32_t n)
{
	struct tt_meeting *m = ring->meeting;
	bool good = !atomic_load(&m->ended);
	atomic_store(&m->ranks[0].n_done, n);
	for (uint32_t rank = 1; rank < m->n_ranks && good; rank++) {
		uint32_t done = atomic_load(&m->ranks[rank].n_done);
		while (good && (int32_t)(n - done) > 0) {
			good = tt_meeting_wait(m, &m->ranks[rank].n_done, done);
			done = atomic_load(&m->ranks[rank].n_done);
		}
	}
	return good;
}

bool tt_ring_reserve(struct tt_ring *ring, void *out_room)
{
	char *room = slot(ring, atomic_load(&ring->meeting->n_published)) + HEAD;
	memcpy(out_room, &room, sizeof room);
	return wait_for_others(ring, tt_ring_last(ring) + 2 - N_SLOTS);
}

void tt_ring_publish(struct tt_ring *ring, struct tt_command command)
{
	memcpy(slot(ring, atomic_load(&ring->meeting->n_published)), &command, sizeof command);
	tt_meeting_count(&ring->meeting->n_published);
}

bool tt_ring_wait(struct tt_ring *ring, uint32_t command)
{
	return wait_for_others(ring, command + 1);
}

bool tt_ring_take(struct tt_ring *ring, struct tt_command *command, void *room)
{
	const char *from = slot(ring, ring->n_taken);
	if (!tt_meeting_wait(ring->meeting, &ring->meeting->n_published, ring->n_taken))
		return false;
	ring->n_taken++;
	memcpy(command, from, sizeof *command);
	if (command->n_bytes > ring->capacity)
		return false;
	memcpy(room, from + HEAD, command->n_bytes);
	return true;
}

void tt_ring_done(struct tt_ring *ring, uint32_t rank)
{
	tt_meeting_count(&ring->meeting->ranks[rank].n_done);
}
