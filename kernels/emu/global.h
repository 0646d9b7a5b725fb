/* Global memory: what global.c and the copies of a stream share. */
#ifndef KERNELS_EMU_GLOBAL_H
#define KERNELS_EMU_GLOBAL_H

#include "kernels/emu/internal.h"

struct word { /* 4 bytes of global memory: the launch and the block that wrote and read them last */
	/* writer_before: the launch that wrote before that one; writer_block may be ANY_BLOCK */
	uint32_t writer, writer_before, writer_block;
	uint32_t reader, reader_before, reader_block;
};
enum { ANY_BLOCK = -1 };

struct allocation {
	char *base; /* includes its tag */
	size_t size;
	char *host;
	struct word *words;    // [size / 4 + 1]
	bool touched;          /* words are not all 0 */
	uint32_t weights_read; /* the last launch that loaded weights from it */
};

/* Device memory by its tagged address. global_allocate returns NULL without memory; global_free returns false for an
 * address that it did not give. */
void *global_allocate(size_t n_bytes);
bool global_free(void *memory);
void global_free_all(void);
/* The allocation that holds the address, or NULL. */
struct allocation *global_find(const void *p);
/* Checks one access of the running thread, and records it. Of pinned host memory, which kernels may use too, only its
 * bounds are known. */
void global_check(const void *p, size_t size, size_t alignment, bool store, enum tt_traffic kind, SITE);
/* Notes that the running thread stores, for the order of stores and arrivals. */
void global_note_store(SITE);
/* Checks and records that the running thread's block arrives at a counter that goes from 0 to bound and back; returns
 * the host's address. */
uint32_t *global_arrival(uint32_t *counter, uint32_t bound, SITE);
void global_host_wrote(void *p, size_t size); /* reports a copy or a set, which no launch overlaps */
/* runtime.c: whether so many bytes from p are pinned host memory. */
bool pinned_holds(const void *p, size_t size);
/* The name of a launch's kernel, for a report. */
const char *launch_name(uint32_t id);

#endif
