/* Global memory: a table of allocations, and for every word who wrote and read it last. With that, a dependent kernel's
 * accesses before its wait are checked against all kernels that may still run, and blocks of one launch against each
 * other. A device address is the host's with a bit set that no address has: whoever uses it without a primitive, kernel
 * or host, faults. So every access is checked. */
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/global.h"

enum { POISON = 0xff, N_NAMES = 4096 };

static struct allocation **allocations; // [n_allocations], ascending
static size_t n_allocations, capacity;
static struct allocation *last[TT_TRAFFIC_KINDS]; /* the last that was found for each kind */
static const char *names[N_NAMES];                /* of the newest launches */

const char *launch_name(uint32_t id)
{
	return id + N_NAMES > emu.launch_id && names[id % N_NAMES] ? names[id % N_NAMES] : "an earlier kernel";
}

static bool inside(const struct allocation *a, const void *p, size_t size)
{
	uintptr_t at = (uintptr_t)p, base = (uintptr_t)a->base;
	return at >= base && at - base <= a->size && size <= a->size - (at - base);
}

/* How many allocations begin at or before p. */
static size_t position(const void *p)
{
	size_t low = 0, high = n_allocations;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if ((uintptr_t)allocations[middle]->base <= (uintptr_t)p)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct allocation *global_find(const void *p)
{
	size_t i = position(p);
	return i && inside(allocations[i - 1], p, 1) ? allocations[i - 1] : NULL;
}

void *global_allocate(size_t n_bytes)
{
	struct allocation *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	a->size = n_bytes;
	a->host = aligned_alloc(256, (n_bytes + 255) / 256 * 256);
	a->words = calloc(n_bytes / 4 + 1, sizeof *a->words);
	if (!a->host || !a->words) {
		free(a->host);
		free(a->words);
		free(a);
		return NULL;
	}
	a->base = (char *)((uintptr_t)a->host | GLOBAL_TAG);
	memset(a->host, POISON, n_bytes);
	emu_grow(&allocations, &capacity, n_allocations + 1, sizeof *allocations);
	size_t at = position(a->base);
	memmove(allocations + at + 1, allocations + at, (n_allocations - at) * sizeof *allocations);
	allocations[at] = a;
	n_allocations++;
	return a->base;
}

static void release(struct allocation *a)
{
	free(a->host);
	free(a->words);
	free(a);
}

bool global_free(void *memory)
{
	size_t i = position(memory);
	if (!i || allocations[i - 1]->base != memory)
		return false;
	release(allocations[i - 1]);
	memmove(allocations + i - 1, allocations + i, (n_allocations - i) * sizeof *allocations);
	n_allocations--;
	memset(last, 0, sizeof last);
	return true;
}

void global_free_all(void)
{
	for (size_t i = 0; i < n_allocations; i++)
		release(allocations[i]);
	n_allocations = 0;
	memset(last, 0, sizeof last);
}

void global_host_wrote(void *p, size_t size)
{
	struct allocation *a = global_find(p);
	if (!a || !a->touched || !size)
		return;
	size_t first = (size_t)((char *)p - a->base) / 4, end = ((size_t)((char *)p - a->base) + size + 3) / 4;
	memset(a->words + first, 0, (end - first) * sizeof *a->words);
}

static struct allocation *bounds(const void *p, size_t size, size_t alignment, enum tt_traffic kind, SITE)
{
	struct allocation *a = last[kind];
	if ((uintptr_t)p % alignment)
		FAIL("misaligned: a global address that is not a multiple of %zu", alignment);
	if (a && inside(a, p, size))
		return a;
	a = global_find(p);
	if (a && inside(a, p, size))
		return last[kind] = a;
	size_t i = position(p);
	const struct allocation *before = i ? allocations[i - 1] : NULL;
	const struct allocation *after = i < n_allocations ? allocations[i] : NULL;
	if (before && (uintptr_t)p - (uintptr_t)before->base < before->size + (1u << 20))
		FAIL("out of bounds: %zu bytes at offset %td of an allocation of %zu bytes", size,
			(const char *)p - before->base, before->size);
	else if (after && (uintptr_t)after->base - (uintptr_t)p < (1u << 20))
		FAIL("out of bounds: %zu bytes at offset %td of an allocation of %zu bytes", size,
			(const char *)p - after->base, after->size);
	else
		FAIL("out of bounds: %p is not device memory", p);
	return NULL;
}

/* Whether launch id may still run while this one has not waited. */
static bool unfinished(uint32_t id)
{
	return id >= emu.chain_start && id < emu.launch_id;
}

static uint32_t unfinished_of(uint32_t id, uint32_t before)
{
	return unfinished(id) ? id : unfinished(before) ? before : 0;
}

static bool other_block(uint32_t launch, uint32_t block)
{
	return launch == emu.launch_id && block != emu.block_id;
}

static void check_before_wait(const struct allocation *a, const struct word *word, bool store, SITE)
{
	uint32_t writer = unfinished_of(word->writer, word->writer_before);
	uint32_t reader = unfinished_of(word->reader, word->reader_before);
	if (writer)
		FAIL("%s before tt_grid_wait of what %s writes", store ? "write" : "read", launch_name(writer));
	else if (store && reader)
		FAIL("write before tt_grid_wait of what %s reads", launch_name(reader));
	else if (store && unfinished(a->weights_read))
		FAIL("write before tt_grid_wait of weights that %s reads", launch_name(a->weights_read));
	else if (other_block(word->writer, word->writer_block))
		FAIL("%s before tt_grid_wait of what another block of this launch writes", store ? "write" : "read");
}

static void check_blocks(const struct word *word, bool store, SITE)
{
	if (other_block(word->writer, word->writer_block) && word->writer_block != (uint32_t)ANY_BLOCK)
		FAIL(store ? "blocks %u and %u write the same word without tt_arrive_last"
			   : "read of what block %u wrote, without tt_arrive_last, by block %u",
			word->writer_block, emu.block_id);
	else if (store && other_block(word->reader, word->reader_block))
		FAIL("write of what another block of this launch reads, without tt_arrive_last");
}

static void note(struct word *word, bool store)
{
	if (store) {
		if (word->writer != emu.launch_id)
			word->writer_before = word->writer;
		word->writer = emu.launch_id;
		word->writer_block = emu.block_id;
		return;
	}
	if (word->reader != emu.launch_id) {
		word->reader_before = word->reader;
		word->reader_block = emu.block_id;
	} else if (word->reader_block != emu.block_id) {
		word->reader_block = (uint32_t)ANY_BLOCK;
	}
	word->reader = emu.launch_id;
}

void global_check(const void *p, size_t size, size_t alignment, bool store, enum tt_traffic kind, SITE)
{
	if (!((uintptr_t)p & GLOBAL_TAG) && pinned_holds(p, size)) {
		if (store)
			FAIL("a plain store to memory of the host, which may read it while the kernel runs");
		return;
	}
	struct allocation *a = bounds(p, size, alignment, kind, SITE_ARGS);
	if (!a)
		return;
	size_t offset = (size_t)((const char *)p - a->base), end = (offset + size + 3) / 4;
	bool before_wait = emu.launch->dependent && !emu.running->grid_waited;
	if (names[emu.launch_id % N_NAMES] != emu.launch->kernel->name)
		names[emu.launch_id % N_NAMES] = emu.launch->kernel->name;
	if (kind == TT_TRAFFIC_WEIGHT && !store) {
		/* Weights are too many to note one by one; nothing may write them while a kernel that reads them
		 * runs. */
		a->weights_read = emu.launch_id;
		if (!a->touched)
			return;
	}
	a->touched = true;
	for (size_t i = offset / 4; i < end; i++) {
		struct word *word = a->words + i;
		if (before_wait)
			check_before_wait(a, word, store, SITE_ARGS);
		if (!emu.arrived)
			check_blocks(word, store, SITE_ARGS);
		note(word, store);
	}
}

void tt_emu_load(void *out, const void *p, unsigned size, enum tt_traffic kind, SITE);
void tt_emu_load(void *out, const void *p, unsigned size, enum tt_traffic kind, SITE)
{
	global_check(p, size, size, false, kind, SITE_ARGS);
	traffic_record(SPACE_LOAD, kind, p, size, SITE_ARGS);
	memcpy(out, host_address(p), size);
}

/* The last block to arrive may read what a block stored before the barrier that precedes its arrival. What another
 * thread stores between the same two barriers as the arrival may come too late. */
static void check_arrival(SITE)
{
	bool stored = emu.stores.since == emu.block_seen, arrived = emu.arrival.since == emu.block_seen;
	if (stored && arrived && emu.stores.by != emu.arrival.by)
		FAIL("no barrier of the block between another thread's store and tt_arrive_last");
}

static void note_between(struct between *what)
{
	bool first = what->since != emu.block_seen;
	*what = (struct between){emu.block_seen, first || what->by == emu.running ? emu.running : NULL};
}

void global_note_store(SITE)
{
	note_between(&emu.stores);
	check_arrival(SITE_ARGS);
}

void tt_emu_store(void *p, const void *v, unsigned size, enum tt_traffic kind, SITE);
void tt_emu_store(void *p, const void *v, unsigned size, enum tt_traffic kind, SITE)
{
	global_check(p, size, size, true, kind, SITE_ARGS);
	global_note_store(SITE_ARGS);
	traffic_record(SPACE_STORE, kind, p, size, SITE_ARGS);
	memcpy(host_address(p), v, size);
}

void tt_emu_store_to_host(void *p, const void *v, unsigned size, enum tt_traffic kind, SITE)
{
	if (((uintptr_t)p & GLOBAL_TAG) || !pinned_holds(p, size)) {
		tt_emu_store(p, v, size, kind, SITE_ARGS);
		return;
	}
	traffic_record(SPACE_STORE, kind, p, size, SITE_ARGS);
	memcpy(p, v, size);
}

void tt_emu_prefetch(const void *p, SITE)
{
	bounds(p, 1, 1, TT_TRAFFIC_WEIGHT, SITE_ARGS);
	emu.run.prefetches++;
}

uint32_t *global_arrival(uint32_t *counter, uint32_t bound, SITE)
{
	struct allocation *a = bounds(counter, 4, 4, TT_TRAFFIC_SCRATCH, SITE_ARGS);
	if (!a)
		return NULL;
	struct word *word = a->words + ((char *)counter - a->base) / 4;
	if (emu.launch->dependent && !emu.running->grid_waited && unfinished_of(word->writer, word->writer_before))
		FAIL("write before tt_grid_wait of what %s writes",
			launch_name(unfinished_of(word->writer, word->writer_before)));
	uint32_t *at = host_address(counter);
	if (*at > bound)
		FAIL("the counter holds %u before the arrival of one of %u blocks: it was not 0", *at, bound + 1);
	a->touched = true;
	note(word, true);
	word->writer_block = (uint32_t)ANY_BLOCK;
	emu.arrived = true;
	note_between(&emu.arrival);
	check_arrival(SITE_ARGS);
	return at;
}

uint32_t tt_emu_arrive(uint32_t *counter, uint32_t n_blocks, SITE);
uint32_t tt_emu_arrive(uint32_t *counter, uint32_t n_blocks, SITE)
{
	uint32_t *at = global_arrival(counter, n_blocks - 1, SITE_ARGS);
	if (!at)
		return 0;
	uint32_t before = *at;
	*at = before == n_blocks - 1 ? 0 : before + 1;
	return before;
}
