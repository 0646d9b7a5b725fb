/* Instructions that the lanes of a warp run together: shuffles, votes, matrices. They are run once all lanes are there;
 * mask is who came. Fragments are those of the manual: with g = lane / 4 and t = lane % 4, a register holds two
 * neighbours of a row of a (or of a column of b), the lower one in its lower half. */
#include "kernels/emu/ptx/lanes.h"

enum shuffle { UP, DOWN, BUTTERFLY, INDEX };

static void shuffle(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask, enum shuffle mode)
{
	const uint32_t *value = ptx_lanes(w, i, 2), *b = ptx_lanes(w, i, 3), *c = ptx_lanes(w, i, 4);
	uint32_t results[PTX_LANES] = {0}, inside = 0;
	for (uint32_t lane = 0; lane < PTX_LANES; lane++) {
		uint32_t move = b[lane] & 31, clamp = c[lane] & 31, segment = c[lane] >> 8 & 31;
		uint32_t least = lane & segment, most = least | (clamp & ~segment);
		int from = (int)lane;
		if (mode == UP)
			from = (int)lane - (int)move;
		else if (mode == DOWN)
			from = (int)(lane + move);
		else if (mode == BUTTERFLY)
			from = (int)(lane ^ move);
		else
			from = (int)(least | (move & ~segment));
		bool there = mode == UP ? from >= (int)most : from <= (int)most;
		from = there ? from : (int)lane;
		inside |= (uint32_t)there << lane;
		/* what a lane has that did not come is not defined */
		results[lane] = mask >> from & 1 ? value[from] : UINT32_MAX;
	}
	ptx_put(w, i, 0, results, sizeof *results, mask);
	ptx_put_predicate(w, i, 1, inside, mask);
}

static void shuffle_up(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	shuffle(w, i, mask, UP);
}

static void shuffle_down(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	shuffle(w, i, mask, DOWN);
}

static void shuffle_butterfly(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	shuffle(w, i, mask, BUTTERFLY);
}

static void shuffle_index(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	shuffle(w, i, mask, INDEX);
}

static void ballot(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	uint32_t results[PTX_LANES], votes = ptx_predicate(w, i, 1) & mask;
	for (uint32_t lane = 0; lane < PTX_LANES; lane++)
		results[lane] = votes;
	ptx_put(w, i, 0, results, sizeof *results, mask);
}

/* Orders memory among the lanes. */
static void sync_warp(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	(void)i, (void)mask;
	warp_order(w->of);
}

/* Four matrices of 8 rows of 8 halves. Lane k gives the address of row k % 8 of matrix k / 8, and gets two neighbours
 * of row lane / 4 of each; transposed, of column lane / 4. */
static void load_matrices(struct ptx_warp *w, const struct ptx_instruction *i, bool transposed)
{
	uint16_t halves[PTX_LANES][8];
	PTX_EACH(w, UINT32_MAX, lane)
	{
		const unsigned char *row = ptx_shared(ptx_address_32(w, i, 4, lane));
		memcpy(halves[lane], shared_check(row, sizeof halves[lane], PTX_SITE(w, i)), sizeof halves[lane]);
		shared_touch(emu.running, row, sizeof halves[lane], false, PTX_SITE(w, i));
	}
	for (unsigned m = 0; m < 4; m++) {
		uint32_t *out = ptx_lanes(w, i, m);
		for (unsigned lane = 0; lane < PTX_LANES; lane++) {
			unsigned row = lane / 4, column = 2 * (lane % 4);
			uint32_t low = transposed ? halves[8 * m + column][row] : halves[8 * m + row][column];
			uint32_t high = transposed ? halves[8 * m + column + 1][row] : halves[8 * m + row][column + 1];
			out[lane] = low | high << 16;
		}
	}
}

static void ldmatrix(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	(void)mask;
	load_matrices(w, i, false);
}

static void ldmatrix_trans(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	(void)mask;
	load_matrices(w, i, true);
}

static float number(uint32_t bits)
{
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

/* An f32 of the lower or the upper half. */
static float half(uint32_t pair, unsigned upper)
{
	return number(upper ? pair & 0xffff0000u : pair << 16);
}

/* a[16][16] out of four registers of bf16 pairs. */
static void gather_a(struct ptx_warp *w, const struct ptx_instruction *i, unsigned first, float a[16][16])
{
	for (unsigned r = 0; r < 4; r++) {
		const uint32_t *pairs = ptx_lanes(w, i, first + r);
		unsigned down = r % 2 * 8, right = r / 2 * 8;
		for (unsigned lane = 0; lane < PTX_LANES; lane++)
			for (unsigned h = 0; h < 2; h++)
				a[lane / 4 + down][2 * (lane % 4) + right + h] = half(pairs[lane], h);
	}
}

/* d[16][8] in four registers of f32. */
static void gather_d(struct ptx_warp *w, const struct ptx_instruction *i, unsigned first, float d[16][8])
{
	for (unsigned r = 0; r < 4; r++) {
		const float *values = ptx_lanes(w, i, first + r);
		for (unsigned lane = 0; lane < PTX_LANES; lane++)
			d[lane / 4 + r / 2 * 8][2 * (lane % 4) + r % 2] = values[lane];
	}
}

static void scatter_d(struct ptx_warp *w, const struct ptx_instruction *i, unsigned first, float d[16][8])
{
	for (unsigned r = 0; r < 4; r++) {
		float *values = ptx_lanes(w, i, first + r);
		for (unsigned lane = 0; lane < PTX_LANES; lane++)
			values[lane] = d[lane / 4 + r / 2 * 8][2 * (lane % 4) + r % 2];
	}
}

/* d += a b, b as [k][n]. The manual leaves the order of the sums open; here it is that of the emulator, so that results
 * can be compared. */
static void multiply(float d[16][8], float a[16][16], float b[16][8])
{
	for (unsigned row = 0; row < 16; row++)
		for (unsigned k = 0; k < 16; k++)
			for (unsigned n = 0; n < 8; n++)
				d[row][n] += a[row][k] * b[k][n];
}

static void mma(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	float a[16][16], b[16][8], d[16][8];
	(void)mask;
	gather_a(w, i, 4, a);
	for (unsigned r = 0; r < 2; r++) {
		const uint32_t *pairs = ptx_lanes(w, i, 8 + r);
		for (unsigned lane = 0; lane < PTX_LANES; lane++)
			for (unsigned h = 0; h < 2; h++)
				b[2 * (lane % 4) + 8 * r + h][lane / 4] = half(pairs[lane], h);
	}
	gather_d(w, i, 10, d);
	multiply(d, a, b);
	scatter_d(w, i, 0, d);
	emu.run.products++;
}

/* An element of b in shared memory, by a descriptor without swizzle: cores of 8 columns by 8 values of k, each 128
 * bytes in one piece, from one to the next along k by the leading offset, along n by the stride. */
static float described(struct ptx_warp *w, const struct ptx_instruction *i, uint64_t where, unsigned n, unsigned k)
{
	uint32_t start = (uint32_t)(where & 0x3fff) << 4, leading = (uint32_t)(where >> 16 & 0x3fff) << 4,
		 stride = (uint32_t)(where >> 32 & 0x3fff) << 4;
	const unsigned char *p = ptx_shared(start + n / 8 * stride + k / 8 * leading + n % 8 * 16 + k % 8 * 2);
	uint16_t bits;
	memcpy(&bits, shared_check(p, sizeof bits, PTX_SITE(w, i)), sizeof bits);
	shared_touch(emu.running, p, sizeof bits, false, PTX_SITE(w, i));
	return number((uint32_t)bits << 16);
}

/* The warp's 16 of a warpgroup's 64 rows. Results are there at once; the manual has them at the wait. */
static void warpgroup_mma(struct ptx_warp *w, const struct ptx_instruction *i, unsigned columns)
{
	unsigned n_d = columns / 2;
	const int32_t *o = i->operands;
	const uint64_t *where = ptx_lanes(w, i, n_d + 4);
	float a[16][16], b[16][8], d[16][8];
	bool add = ptx_predicate(w, i, n_d + 5) & 1;
	if (o[n_d + 6] != 1 || o[n_d + 7] != 1 || o[n_d + 8] != 0 || where[0] >> 62)
		ptx_fail(i, "only factors of 1, b by columns and no swizzle are known");
	gather_a(w, i, n_d, a);
	for (unsigned j = 0; j < columns / 8; j++) {
		ptx_run_as(w, 0);
		for (unsigned k = 0; k < 16; k++)
			for (unsigned n = 0; n < 8; n++)
				b[k][n] = described(w, i, where[0], 8 * j + n, k);
		memset(d, 0, sizeof d);
		if (add)
			gather_d(w, i, 4 * j, d);
		multiply(d, a, b);
		scatter_d(w, i, 4 * j, d);
	}
}

static void warpgroup_mma_8(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	(void)mask;
	warpgroup_mma(w, i, 8);
}

static void warpgroup_mma_128(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	(void)mask;
	warpgroup_mma(w, i, 128);
}

static void nothing(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t mask)
{
	(void)w, (void)i, (void)mask;
}

#define FOUR_TIMES(x) x x x x
#define WIDE_D FOUR_TIMES(FOUR_TIMES("WWWW"))
const struct ptx_row ptx_rows_warp[] = {
	{"shfl.sync.up.b32", "WPwwww", shuffle_up, PTX_MEET, 0},
	{"shfl.sync.down.b32", "WPwwww", shuffle_down, PTX_MEET, 0},
	{"shfl.sync.bfly.b32", "WPwwww", shuffle_butterfly, PTX_MEET, 0},
	{"shfl.sync.idx.b32", "WPwwww", shuffle_index, PTX_MEET, 0},
	{"vote.sync.ballot.b32", "Wpw", ballot, PTX_MEET, 0},
	{"bar.warp.sync", "w", sync_warp, PTX_MEET, 0},
	{"ldmatrix.sync.aligned.m8n8.x4.shared.b16", "WWWWs", ldmatrix, PTX_MEET_ALL, 0},
	{"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16", "WWWWs", ldmatrix_trans, PTX_MEET_ALL, 0},
	{"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "WWWWwwwwwwwwww", mma, PTX_MEET_ALL, 0},
	{"wgmma.fence.sync.aligned", "", nothing, PTX_MEET_ALL, 0},
	{"wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16", "WWWWwwwwqpnnn", warpgroup_mma_8, PTX_MEET_ALL, 0},
	{"wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16", WIDE_D "wwwwqpnnn", warpgroup_mma_128, PTX_MEET_ALL,
		0},
	{"wgmma.commit_group.sync.aligned", "", nothing, PTX_MEET_ALL, 0},
	{"wgmma.wait_group.sync.aligned", "n", nothing, PTX_MEET_ALL, 0},
	{NULL, NULL, NULL, 0, 0},
};
