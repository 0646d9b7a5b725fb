/* Operations of a whole warp: the lanes meet, and the last to arrive does the work for all. */
#include <string.h>

#include "kernels/emu/internal.h"

void warp_meet(warp_operation *operation, void *payload, SITE)
{
	struct fiber *self = emu.running;
	struct warp *warp = self->warp;
	if (warp->alive != warp->present)
		FAIL("lanes 0x%x of the warp have exited", warp->present & ~warp->alive);
	if (!warp->here) {
		warp->operation = operation;
		warp->site = (struct site){SITE_ARGS};
	} else if (warp->operation != operation || warp->site.line != line) {
		FAIL("divergent warp: other lanes are in %s at line %d", warp->site.primitive, warp->site.line);
	}
	self->payload = payload;
	warp->here |= 1u << self->lane;
	if (warp->here != warp->present) {
		fiber_wait(AT_WARP, SITE_ARGS);
		return;
	}
	warp->here = 0;
	operation(warp);
	for (uint32_t lanes = warp->present; lanes; lanes &= lanes - 1)
		warp->fibers[__builtin_ctz(lanes)].state = RUNNABLE;
	warp->runnable = warp->present;
	traffic_flush(warp);
}

/* The only one of these operations that orders memory. */
void warp_order(struct warp *warp)
{
	uint32_t clock[MAX_WARPS] = {0}, now = ++emu.clock;
	bool waited = false;
	for (uint32_t i = 0; i < WARP; i++) {
		struct fiber *f = &warp->fibers[i];
		if (!(warp->present >> i & 1))
			continue;
		f->seen_warp = now;
		waited |= f->grid_waited;
		for (uint32_t w = 0; emu.clocks_used && w < emu.n_warps; w++)
			clock[w] = f->clock[w] > clock[w] ? f->clock[w] : clock[w];
	}
	for (uint32_t i = 0; i < WARP; i++)
		if (warp->present >> i & 1)
			order_take(&warp->fibers[i], clock, waited);
}

void tt_emu_sync_warp(SITE);
void tt_emu_sync_warp(SITE)
{
	warp_meet(warp_order, NULL, SITE_ARGS);
}

enum shuffle { SHUFFLE_XOR, SHUFFLE_INDEX, BALLOT };
struct shuffled {
	enum shuffle op;
	uint32_t v, lanes, out;
};

static void shuffle(struct warp *warp)
{
	uint32_t ballot = 0;
	for (uint32_t i = 0; i < WARP; i++)
		if (warp->present >> i & 1)
			ballot |= (uint32_t)(((struct shuffled *)warp->fibers[i].payload)->v != 0) << i;
	for (uint32_t i = 0; i < WARP; i++) {
		if (!(warp->present >> i & 1))
			continue;
		struct shuffled *own = warp->fibers[i].payload;
		uint32_t from = own->op == SHUFFLE_XOR ? i ^ own->lanes : own->lanes % WARP;
		if (from >= WARP)
			from = i;
		if (own->op == BALLOT)
			own->out = ballot;
		else if (warp->present >> from & 1)
			own->out = ((struct shuffled *)warp->fibers[from].payload)->v;
		else
			own->out = 0xffffffffu; /* undefined: the lane does not exist */
	}
}

uint32_t tt_emu_shuffle(int op, uint32_t v, uint32_t lanes, SITE);
uint32_t tt_emu_shuffle(int op, uint32_t v, uint32_t lanes, SITE)
{
	struct shuffled own = {(enum shuffle)op, v, lanes, 0};
	warp_meet(shuffle, &own, SITE_ARGS);
	return own.out;
}

uint32_t tt_emu_ballot(bool predicate, SITE);
uint32_t tt_emu_ballot(bool predicate, SITE)
{
	struct shuffled own = {BALLOT, predicate, 0, 0};
	warp_meet(shuffle, &own, SITE_ARGS);
	return own.out;
}

struct loaded {
	uint32_t *out;
	const unsigned char *row;
	bool transposed;
};

static void ldmatrix(struct warp *warp)
{
	const struct loaded *first = warp->fibers[0].payload;
	bool transposed = first->transposed;
	uint16_t m[4][8][8];
	for (unsigned i = 0; i < WARP; i++)
		memcpy(m[i / 8][i % 8], ((const struct loaded *)warp->fibers[i].payload)->row, sizeof m[0][0]);
	for (unsigned i = 0; i < WARP; i++) {
		const struct loaded *own = warp->fibers[i].payload;
		unsigned row = i / 4, column = 2 * (i % 4);
		for (unsigned j = 0; j < 4; j++) {
			uint16_t low = transposed ? m[j][column][row] : m[j][row][column];
			uint16_t high = transposed ? m[j][column + 1][row] : m[j][row][column + 1];
			own->out[j] = (uint32_t)low | (uint32_t)high << 16;
		}
	}
}

void tt_emu_ldmatrix(uint32_t *out, const void *row, bool transposed, SITE);
void tt_emu_ldmatrix(uint32_t *out, const void *row, bool transposed, SITE)
{
	struct loaded own = {out, shared_check(row, 16, SITE_ARGS), transposed};
	shared_touch(emu.running, row, 16, false, SITE_ARGS);
	warp_meet(ldmatrix, &own, SITE_ARGS);
}

struct multiplied {
	float *d;
	const uint32_t *a, *b;
};

static float half_of(uint32_t pair, unsigned which)
{
	uint32_t bits = which ? pair & 0xffff0000u : pair << 16;
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

static void mma(struct warp *warp)
{
	float a[16][16], b[16][8], d[16][8];
	for (unsigned i = 0; i < WARP; i++) {
		const struct multiplied *own = warp->fibers[i].payload;
		unsigned g = i / 4, t = i % 4;
		for (unsigned h = 0; h < 2; h++) {
			a[g][2 * t + h] = half_of(own->a[0], h);
			a[g + 8][2 * t + h] = half_of(own->a[1], h);
			a[g][2 * t + 8 + h] = half_of(own->a[2], h);
			a[g + 8][2 * t + 8 + h] = half_of(own->a[3], h);
			b[2 * t + h][g] = half_of(own->b[0], h);
			b[2 * t + 8 + h][g] = half_of(own->b[1], h);
			d[g][2 * t + h] = own->d[h];
			d[g + 8][2 * t + h] = own->d[2 + h];
		}
	}
	for (unsigned row = 0; row < 16; row++)
		for (unsigned k = 0; k < 16; k++)
			for (unsigned n = 0; n < 8; n++)
				d[row][n] += a[row][k] * b[k][n]; /* the product of two bf16 is exact in f32 */
	for (unsigned i = 0; i < WARP; i++) {
		const struct multiplied *own = warp->fibers[i].payload;
		unsigned g = i / 4, t = i % 4;
		for (unsigned h = 0; h < 2; h++) {
			own->d[h] = d[g][2 * t + h];
			own->d[2 + h] = d[g + 8][2 * t + h];
		}
	}
	emu.run.products++;
}

bool tt_emu_mma_ascends(void)
{
	return true;
}

void tt_emu_mma(float d[4], const uint32_t a[4], const uint32_t b[2], SITE);
void tt_emu_mma(float d[4], const uint32_t a[4], const uint32_t b[2], SITE)
{
	struct multiplied own = {d, a, b};
	warp_meet(mma, &own, SITE_ARGS);
}
