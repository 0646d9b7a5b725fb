/* Shared memory and its shadow. For every word of 4 bytes the shadow holds who wrote and read it last and when, so that
 * an unwritten read, a read before a copy's wait and a missing barrier are reported whatever the order of threads.
 * Stamps from before the block's start mean never, so nothing is cleared between blocks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/cluster.h"

enum {
	MAX_STATIC = 256 * 1024, /* of all kernels together */
	THREAD = 0x3ff,
	IN_FLIGHT = 0x400,  /* a copy that has not been waited for */
	PART = 0x800,       /* the last store was of less than the word */
	MANY_LANES = 0x400, /* readers: several lanes of one warp */
	MANY_WARPS = 0x800,
	OTHER_BLOCK = 0x1000, /* of the cluster */
};
struct shared_word {
	uint32_t written, read; /* clock */
	uint16_t writer, reader;
};

static unsigned char dynamic_shared[MAX_SHARED] __attribute__((aligned(1024)));
static struct shared_word dynamic_words[MAX_SHARED / 4], static_words[MAX_STATIC / 4];
extern unsigned char static_shared[] __asm__("__start_tt_emu_shared") __attribute__((weak));
extern unsigned char static_shared_end[] __asm__("__stop_tt_emu_shared") __attribute__((weak));

static size_t static_bytes(void)
{
	return static_shared ? (size_t)(static_shared_end - static_shared) : 0;
}

void shared_start(size_t dynamic_bytes)
{
	memset(dynamic_shared, 0xff, dynamic_bytes);
	if (static_bytes())
		memset(static_shared, 0xff, static_bytes());
}

unsigned char *tt_emu_dynamic_shared(void)
{
	return (unsigned char *)((uintptr_t)dynamic_shared | SHARED_TAG);
}

static struct shared_word *find(const void *p, size_t size, size_t *offset)
{
	uintptr_t at = (uintptr_t)p, dynamic = (uintptr_t)dynamic_shared | SHARED_TAG, fixed = (uintptr_t)static_shared;
	if (at >= dynamic && at - dynamic + size <= emu.launch->shared_bytes) {
		*offset = at - dynamic;
		return dynamic_words + *offset / 4;
	}
	if (fixed && at >= fixed && at - fixed + size <= static_bytes() && at - fixed + size <= MAX_STATIC) {
		*offset = at - fixed;
		return static_words + *offset / 4;
	}
	return NULL;
}

uint32_t tt_emu_shared_offset(const void *p);
uint32_t tt_emu_shared_offset(const void *p)
{
	size_t offset;
	return find(p, 1, &offset) ? (uint32_t)offset : 0;
}

unsigned char *shared_check(const void *p, size_t size, SITE)
{
	size_t offset;
	size_t alignment = size > 16 ? 16 : size;
	if ((uintptr_t)p % alignment)
		FAIL("misaligned: a shared address that is not a multiple of %zu", alignment);
	if (!find(p, size, &offset)) {
		intptr_t from = (intptr_t)((uintptr_t)p - ((uintptr_t)dynamic_shared | SHARED_TAG));
		if (from >= -MAX_SHARED && from < 2 * MAX_SHARED)
			FAIL("out of bounds: %zu bytes at offset %jd of %zu bytes of dynamic shared memory", size,
				(intmax_t)from, emu.launch->shared_bytes);
		else
			FAIL("out of bounds: %p is not shared memory", p);
	}
	return host_address(p);
}

/* Whether what thread other did at that clock is ordered before what this thread does now. */
static bool ordered(const struct fiber *fiber, uint32_t other, uint32_t clock)
{
	if (clock < emu.block_seen || other == fiber->id)
		return true;
	if (other / WARP == fiber->id / WARP && clock < fiber->seen_warp)
		return true;
	return emu.clocks_used && clock < fiber->clock[other / WARP];
}

static bool readers_ordered(const struct fiber *fiber, const struct shared_word *word)
{
	if (word->reader & OTHER_BLOCK)
		return word->read < emu.cluster_seen;
	if (word->read < emu.block_seen)
		return true;
	if (word->reader & MANY_WARPS)
		/* which warps is not recorded; they are checked only against the block's barrier */
		return emu.clocks_used;
	if (!(word->reader & MANY_LANES))
		return ordered(fiber, word->reader & THREAD, word->read);
	uint32_t warp = (word->reader & THREAD) / WARP;
	return (warp == fiber->id / WARP && word->read < fiber->seen_warp) ||
	       (emu.clocks_used && word->read < fiber->clock[warp]);
}

static void note_reader(const struct fiber *fiber, struct shared_word *word)
{
	uint16_t id = (uint16_t)fiber->id, before = word->reader;
	if (readers_ordered(fiber, word))
		word->reader = id; /* a thread that is ordered after this one is ordered after those too */
	else if (before & OTHER_BLOCK)
		; /* that one is the harder to be ordered after */
	else if ((before & THREAD) / WARP != id / WARP)
		word->reader = (uint16_t)(before | MANY_WARPS);
	else if ((before & THREAD) != id)
		word->reader = (uint16_t)(before | MANY_LANES);
	word->read = emu.clock;
}

static const char *what_is_missing(const struct fiber *fiber, uint32_t other)
{
	return other / WARP == fiber->id / WARP ? "tt_sync_warp" : "tt_sync_block";
}

static void check_read(struct fiber *fiber, struct shared_word *word, SITE)
{
	uint32_t writer = word->writer & THREAD;
	if (word->written < emu.block_start)
		FAIL("read of unwritten shared memory");
	else if (word->writer & IN_FLIGHT)
		FAIL("read before its wait: thread %u's asynchronous copy is under way", writer);
	else if (!ordered(fiber, writer, word->written))
		FAIL("missing %s: thread %u wrote here since the last one", what_is_missing(fiber, writer), writer);
	note_reader(fiber, word);
}

static void check_write(struct fiber *fiber, struct shared_word *word, bool part, SITE)
{
	uint32_t writer = word->writer & THREAD, reader = word->reader & THREAD;
	if (word->written >= emu.block_start) {
		if (word->writer & IN_FLIGHT)
			FAIL("store into memory that thread %u's asynchronous copy fills", writer);
		else if (!(part && word->writer & PART) && !ordered(fiber, writer, word->written))
			FAIL("missing %s: thread %u wrote here since the last one", what_is_missing(fiber, writer),
				writer);
	}
	if (word->read >= emu.block_start && !readers_ordered(fiber, word))
		FAIL("missing %s: thread %u read here since the last one",
			word->reader & OTHER_BLOCK  ? "tt_sync_cluster"
			: word->reader & MANY_WARPS ? "tt_sync_block"
						    : what_is_missing(fiber, reader),
			reader);
	word->writer = (uint16_t)(fiber->id | (part ? PART : 0));
	word->written = emu.clock;
}

void shared_touch(struct fiber *fiber, const void *p, size_t size, bool store, SITE)
{
	size_t offset;
	struct shared_word *word = find(p, size, &offset);
	for (size_t i = 0; word && i < (offset % 4 + size + 3) / 4; i++) {
		if (store)
			check_write(fiber, word + i, size < 4, SITE_ARGS);
		else
			check_read(fiber, word + i, SITE_ARGS);
	}
	traffic_record(SPACE_SHARED, 0, p, (unsigned)size, SITE_ARGS);
}

/* Called when a copy is issued: until it lands, the memory holds nothing. */
void shared_in_flight(const void *p, size_t size, SITE)
{
	size_t offset;
	struct shared_word *word = find(p, size, &offset);
	for (size_t i = 0; word && i < size / 4; i++) {
		check_write(emu.running, word + i, false, SITE_ARGS);
		word[i].writer |= IN_FLIGHT;
	}
	memset(host_address(p), 0xff, size);
}

void shared_landed(const void *p, size_t size)
{
	size_t offset;
	struct shared_word *word = find(p, size, &offset);
	for (size_t i = 0; word && i < size / 4; i++) {
		word[i].writer &= (uint16_t)~IN_FLIGHT;
		word[i].written = emu.clock;
	}
}

void tt_emu_shared_load(void *out, const void *p, unsigned size, SITE);
void tt_emu_shared_load(void *out, const void *p, unsigned size, SITE)
{
	memcpy(out, shared_check(p, size, SITE_ARGS), size);
	shared_touch(emu.running, p, size, false, SITE_ARGS);
}

void tt_emu_shared_store(void *p, const void *v, unsigned size, SITE);
void tt_emu_shared_store(void *p, const void *v, unsigned size, SITE)
{
	unsigned char *to = shared_check(p, size, SITE_ARGS);
	shared_touch(emu.running, p, size, true, SITE_ARGS);
	memcpy(to, v, size);
}

static void *allocated(void *before, size_t n_bytes)
{
	void *p = before ? before : malloc(n_bytes);
	if (!p) {
		perror("emulator");
		exit(1);
	}
	return p;
}

void shared_keep(struct shared_kept *to)
{
	size_t n_bytes = emu.launch->shared_bytes;
	to->bytes = allocated(to->bytes, sizeof dynamic_shared);
	to->words = allocated(to->words, sizeof dynamic_words);
	memcpy(to->bytes, dynamic_shared, n_bytes);
	memcpy(to->words, dynamic_words, (n_bytes + 3) / 4 * sizeof *to->words);
}

void shared_put_back(const struct shared_kept *from)
{
	size_t n_bytes = emu.launch->shared_bytes;
	memcpy(dynamic_shared, from->bytes, n_bytes);
	memcpy(dynamic_words, from->words, (n_bytes + 3) / 4 * sizeof *from->words);
}

const unsigned char *shared_kept_check(
	const struct shared_kept *kept, const void *p, size_t size, uint32_t block_start, SITE)
{
	size_t offset;
	shared_check(p, size, SITE_ARGS);
	find(p, size, &offset);
	for (size_t i = 0; i < (offset % 4 + size + 3) / 4; i++) {
		struct shared_word *word = &kept->words[offset / 4 + i];
		if (word->written < block_start)
			FAIL("read of unwritten shared memory of another block, or missing tt_sync_cluster before it");
		else if (word->writer & IN_FLIGHT)
			FAIL("read of another block's shared memory before an asynchronous copy's wait");
		else if (word->written >= emu.cluster_seen)
			FAIL("missing tt_sync_cluster: the other block wrote here since the last one");
		word->reader = OTHER_BLOCK;
		word->read = emu.clock;
	}
	traffic_record(SPACE_SHARED, 0, p, (unsigned)size, SITE_ARGS);
	return kept->bytes + offset;
}
