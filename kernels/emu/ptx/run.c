/* Runs warps. Lanes that are at the same instruction run it together. Of lanes that are not, those that are least far
 * in the text go first, so that the others are caught up with: that is one of the orders that the hardware may choose.
 * Whoever waits for lanes, for the block or for a copy stays behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/emu/ptx/lanes.h"
#include "kernels/emu/ptx/ptx.h"

enum { MOST_EXECUTED = 1 << 30 }; /* instructions of a block's warps: then it is taken to hang */

static jmp_buf left;
static uint64_t limit;

void ptx_stop(void)
{
	longjmp(left, 1);
}

void ptx_fail(const struct ptx_instruction *i, const char *format, ...)
{
	char message[PTX_ANY_LENGTH * 2];
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	emu_fail(&(struct site){i->row->name, emu.launch->code->file, (int)i->line}, "%s", message);
	ptx_stop();
}

/* -- What a launch begins with -- */

static void fill(struct ptx_warp *w, uint32_t at, unsigned size, uint64_t value)
{
	unsigned char *to = w->registers + at;
	uint32_t all = value ? UINT32_MAX : 0;
	if (!size)
		memcpy(to, &all, sizeof all);
	for (unsigned lane = 0; lane < PTX_LANES; lane++)
		memcpy(to + lane * size, &value, size); /* the lower bytes */
}

static void *allocate(size_t n_bytes)
{
	void *p = aligned_alloc(PTX_REGISTER, (n_bytes / PTX_REGISTER + 1) * PTX_REGISTER);
	if (!p) {
		perror("emulator");
		exit(1);
	}
	return memset(p, 0xff, n_bytes);
}

static void special(struct ptx_warp *w, enum ptx_special which, uint32_t value)
{
	if (w->code->specials[which] >= 0)
		fill(w, (uint32_t)w->code->specials[which], 4, value);
}

static void warp_open(struct ptx_code *code, uint32_t index)
{
	struct ptx_warp *w = &code->warps[index];
	w->code = code;
	w->registers = allocate(code->register_bytes);
	w->local = allocate((size_t)code->local_bytes * PTX_LANES);
	w->parameters = code->arguments;
	w->of = &emu_warps[index];
	for (size_t i = 0; i < code->n_constants; i++)
		fill(w, code->constants[i].at, code->constants[i].size, code->constants[i].value);
	special(w, PTX_ZERO, 0);
	special(w, PTX_ONE, 1);
	for (uint32_t lane = 0; lane < PTX_LANES; lane++) {
		if (code->specials[PTX_TID_X] >= 0)
			((uint32_t *)(void *)(w->registers + code->specials[PTX_TID_X]))[lane] =
				index % MAX_WARPS * WARP + lane;
		if (code->specials[PTX_LANEID] >= 0)
			((uint32_t *)(void *)(w->registers + code->specials[PTX_LANEID]))[lane] = lane;
	}
}

void ptx_launch_start(struct ptx_code *code, const struct launch *launch)
{
	if (!code->warps) {
		code->warps = allocate(MAX_CLUSTER * MAX_WARPS * sizeof *code->warps);
		memset(code->warps, 0, MAX_CLUSTER * MAX_WARPS * sizeof *code->warps);
		code->arguments = allocate(code->parameter_bytes);
	}
	for (size_t i = 0; i < code->n_parameters; i++)
		memcpy(code->arguments + code->parameters[2 * i], launch->args[i], code->parameters[2 * i + 1]);
	code->executed = 0;
	for (uint32_t i = 0; i < launch->cluster * MAX_WARPS; i++) {
		struct ptx_warp *w = &code->warps[i];
		if (i % MAX_WARPS >= emu.n_threads / WARP)
			continue;
		if (!w->registers)
			warp_open(code, i);
		special(w, PTX_NTID_X, launch->block.x);
		special(w, PTX_NCTAID_X, launch->grid.x);
		special(w, PTX_NCTAID_Y, launch->grid.y);
		special(w, PTX_NCTAID_Z, launch->grid.z);
	}
}

void ptx_block_start(struct ptx_code *code)
{
	const uint3 *block = &emu.fibers[0].self.block;
	limit = code->executed + MOST_EXECUTED;
	for (uint32_t i = 0; i < emu.n_warps; i++) {
		struct ptx_warp *w = &code->warps[emu.warps - emu_warps + i];
		memset(w->at, 0, sizeof w->at);
		memset(w->local, 0xff, (size_t)code->local_bytes * PTX_LANES);
		special(w, PTX_CTAID_X, block->x);
		special(w, PTX_CTAID_Y, block->y);
		special(w, PTX_CTAID_Z, block->z);
	}
}

/* -- Lanes -- */

/* Some lanes of a warp that run together. */
struct group {
	uint32_t lanes, at;
	uint32_t until; /* where lanes that are further on begin */
};

static void send(struct ptx_warp *w, uint32_t lanes, uint32_t to)
{
	for (; lanes; lanes &= lanes - 1)
		w->at[__builtin_ctz(lanes)] = to;
}

static bool choose(const struct ptx_warp *w, struct group *out)
{
	*out = (struct group){0, UINT32_MAX, UINT32_MAX};
	for (uint32_t lanes = w->of->runnable; lanes; lanes &= lanes - 1) {
		uint32_t lane = (uint32_t)__builtin_ctz(lanes), at = w->at[lane];
		if (at < out->at) {
			out->until = out->at;
			out->at = at;
			out->lanes = 0;
		} else if (at > out->at && at < out->until) {
			out->until = at;
		}
		if (at == out->at)
			out->lanes |= 1u << lane;
	}
	return out->lanes != 0;
}

static uint32_t guarded(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t lanes)
{
	if (i->guard < 0)
		return lanes;
	uint32_t holds = *(const uint32_t *)(const void *)(w->registers + i->guard);
	return lanes & (i->unless ? ~holds : holds);
}

static void park(struct ptx_warp *w, const struct ptx_instruction *i, uint32_t lanes, enum fiber_state state)
{
	PTX_EACH(w, lanes, lane)
	fiber_park(state, PTX_SITE(w, i));
}

/* The lanes that have to come together, or 0 while some are missing: those of the group then wait. */
static uint32_t meet(struct ptx_warp *w, const struct ptx_instruction *i, const struct group *group)
{
	uint32_t needed = w->of->present, came = group->lanes;
	ptx_run_as(w, (uint32_t)__builtin_ctz(came));
	if (i->flow == PTX_MEET) {
		const uint32_t *named = ptx_lanes(w, i, (unsigned)strlen(i->row->operands) - 1);
		needed = named[__builtin_ctz(came)];
		for (uint32_t lanes = came; lanes; lanes &= lanes - 1)
			if (named[__builtin_ctz(lanes)] != needed || !(needed & (lanes & -lanes)))
				ptx_fail(i, "lane %d names the lanes 0x%x, another 0x%x", __builtin_ctz(lanes),
					named[__builtin_ctz(lanes)], needed);
	}
	if (needed & ~w->of->alive)
		ptx_fail(i, "lanes 0x%x have exited", needed & ~w->of->alive);
	for (uint32_t lanes = needed & ~w->of->runnable; lanes; lanes &= lanes - 1) {
		uint32_t lane = (uint32_t)__builtin_ctz(lanes);
		if (w->of->fibers[lane].state == AT_WARP && w->at[lane] == group->at)
			came |= 1u << lane;
	}
	if (needed & ~came) {
		park(w, i, group->lanes, AT_WARP);
		return 0;
	}
	for (uint32_t lanes = needed & ~w->of->runnable; lanes; lanes &= lanes - 1)
		fiber_wake(&w->of->fibers[__builtin_ctz(lanes)]);
	return needed;
}

/* An instruction that is not plain. False when the group is no longer one. */
static bool special_flow(struct ptx_warp *w, const struct ptx_instruction *i, struct group *g, uint32_t active)
{
	uint32_t together = active;
	if (!active) {
		g->at++;
		return true;
	}
	if (active != g->lanes && i->flow != PTX_BRANCH && i->flow != PTX_END) {
		send(w, g->lanes & ~active, g->at + 1); /* these come after it, and the others again */
		send(w, active, g->at);
		return false;
	}
	switch (i->flow) {
	case PTX_BRANCH:
		send(w, g->lanes, g->at + 1);
		send(w, active, (uint32_t)i->operands[0]);
		if (active != g->lanes)
			return false;
		g->at = (uint32_t)i->operands[0];
		/* In random order another warp has its turn now and then. */
		return emu.order != TT_EMU_RANDOM || (emu_random() & 15);
	case PTX_END:
		send(w, g->lanes, g->at + 1);
		park(w, i, active, EXITED);
		return false;
	case PTX_MEET:
	case PTX_MEET_ALL:
	case PTX_MEET_WAIT:
		send(w, g->lanes, g->at);
		if (!(together = meet(w, i, g)))
			return false;
		break;
	case PTX_AGAIN:
		send(w, active, g->at);
		i->run(w, i, active);
		send(w, active & w->of->runnable, g->at + 1);
		g->at++;
		return (active & ~w->of->runnable) == 0;
	}
	send(w, together, g->at + 1);
	i->run(w, i, together);
	g->at++;
	return together == g->lanes && !(together & ~w->of->runnable);
}

static void group_run(struct ptx_warp *w, struct group g)
{
	struct ptx_code *code = w->code;
	while (g.at < g.until) {
		const struct ptx_instruction *i = &code->instructions[g.at];
		uint32_t active = guarded(w, i, g.lanes);
		code->executed++;
		if (i->flow == PTX_PLAIN) {
			if (active)
				i->run(w, i, active);
			g.at++;
			continue;
		}
		if (code->executed > limit) {
			ptx_run_as(w, (uint32_t)__builtin_ctz(g.lanes));
			ptx_fail(i, "more than %d instructions of a block: it may not end", MOST_EXECUTED);
		}
		if (!special_flow(w, i, &g, active))
			return;
	}
	send(w, g.lanes, g.at);
}

void ptx_warp_run(struct ptx_code *code, struct warp *warp)
{
	struct ptx_warp *w = &code->warps[warp - emu_warps];
	struct group group;
	if (!setjmp(left)) {
		while (choose(w, &group)) {
			group_run(w, group);
			if (emu.order == TT_EMU_RANDOM && !(emu_random() & 7))
				break;
		}
	}
	emu.running = NULL;
}
