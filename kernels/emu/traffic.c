/* What memory accesses cost a GPU. A warp's lanes run one after the other here, so what they do at one source line is
 * gathered into a request until the warp meets; then its sectors and bank conflicts are counted. */
#include <string.h>

#include "kernels/emu/internal.h"

enum { SECTOR = 32, BANKS = 32, LOOK_BACK = 16 };

static bool matches(const struct request *r, const struct request_key *want, uint32_t lane)
{
	const struct request_key *key = &r->key;
	return key->line == want->line && key->space == want->space && key->kind == want->kind &&
	       key->size == want->size && !(r->lanes & lane) && key->file == want->file;
}

/* Lanes that took the same path find their request at the cursor; one that took a longer path finds it a little
 * before. */
static struct request *request_find(struct warp *warp, struct fiber *self, const struct request_key *want)
{
	uint32_t lane = 1u << self->lane;
	size_t cursor = self->cursor, low = cursor > LOOK_BACK ? cursor - LOOK_BACK : 0;
	for (size_t i = cursor; i < warp->n_requests; i++) {
		if (matches(&warp->requests[i], want, lane)) {
			self->cursor = i + 1;
			return &warp->requests[i];
		}
	}
	for (size_t i = low; i < cursor; i++)
		if (matches(&warp->requests[i], want, lane))
			return &warp->requests[i];
	emu_grow(&warp->requests, &warp->request_capacity, warp->n_requests + 1, sizeof *warp->requests);
	self->cursor = warp->n_requests + 1;
	struct request *r = &warp->requests[warp->n_requests++];
	r->key = *want;
	r->lanes = 0;
	return r;
}

void traffic_record(unsigned space, unsigned kind, const void *p, unsigned size, SITE)
{
	struct fiber *self = emu.running;
	if (emu.launch->code) /* PTX does not say what kind of data it moves */
		return;
	const struct request_key want = {file, line, (uint8_t)space, (uint8_t)kind, (uint8_t)size};
	struct request *r = request_find(self->warp, self, &want);
	(void)primitive;
	r->lanes |= 1u << self->lane;
	r->at[self->lane] = (uintptr_t)p;
}

static void count_global(const struct request *r)
{
	struct tt_emu_traffic *t =
		r->key.space == SPACE_STORE ? &emu.run.stores[r->key.kind] : &emu.run.loads[r->key.kind];
	uint64_t seen[WARP];
	unsigned n = 0;
	for (uint32_t lanes = r->lanes; lanes; lanes &= lanes - 1) {
		/* An access is aligned to its size, at most 16, so it lies in one sector. */
		uint64_t sector = r->at[__builtin_ctz(lanes)] / SECTOR;
		unsigned i = n;
		while (i && seen[i - 1] != sector)
			i--;
		if (!i)
			seen[n++] = sector;
	}
	unsigned accesses = (unsigned)__builtin_popcount(r->lanes);
	t->requests++;
	t->accesses += accesses;
	t->bytes += (uint64_t)accesses * r->key.size;
	t->sectors += n;
}

/* A bank serves one word a cycle; lanes that read the same word share it. 16-byte accesses go in quarter warps, 8-byte
 * ones in half warps. */
static void count_shared(const struct request *r)
{
	unsigned group = r->key.size == 16  ? 8
			 : r->key.size == 8 ? 16
					    : 32,
		 words = r->key.size < 4 ? 1 : r->key.size / 4;
	emu.run.shared_requests++;
	for (unsigned first = 0; first < WARP; first += group) {
		uint64_t seen[BANKS][WARP];
		uint8_t n[BANKS] = {0};
		unsigned most = 0;
		for (unsigned lane = first; lane < first + group; lane++) {
			if (!(r->lanes >> lane & 1))
				continue;
			for (unsigned w = 0; w < words; w++) {
				uint64_t word = r->at[lane] / 4 + w;
				unsigned bank = word % BANKS, i = n[bank];
				while (i && seen[bank][i - 1] != word)
					i--;
				if (i)
					continue;
				seen[bank][n[bank]++] = word;
				most = n[bank] > most ? n[bank] : most;
			}
		}
		emu.run.shared_wavefronts += most;
		emu.run.shared_ideal += most > 0;
	}
}

void traffic_flush(struct warp *warp)
{
	for (size_t i = 0; i < warp->n_requests; i++) {
		if (warp->requests[i].key.space == SPACE_SHARED)
			count_shared(&warp->requests[i]);
		else
			count_global(&warp->requests[i]);
	}
	warp->n_requests = 0;
	for (uint32_t i = 0; i < WARP; i++)
		warp->fibers[i].cursor = 0;
}

void traffic_add(struct tt_emu_counters *sum, const struct tt_emu_counters *more)
{
	/* The struct is nothing but 64-bit counts. */
	uint64_t *to = (uint64_t *)sum;
	const uint64_t *from = (const uint64_t *)more;
	for (size_t i = 0; i < sizeof *sum / sizeof *to; i++)
		to[i] += from[i];
}
