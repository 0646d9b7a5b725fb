/* Fibers: one for each CUDA thread, switched by hand. A switch saves the registers that a function must keep and
 * changes the stack pointer. On machines other than x86-64, ucontext does it, at about a tenth of the speed. */
#define _GNU_SOURCE /* REG_RIP, MAP_ANONYMOUS */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "kernels/emu/internal.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif

#if WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

enum { STACK_BYTES = 128 * 1024, PAGE_BYTES = 4096 };

const void *tt_emu_self;
static void *scheduler_fake_stack;
#if WITH_ASAN
static const void *scheduler_bottom;
static size_t scheduler_size;
#endif

#if defined(__x86_64__) && !defined(TT_EMU_UCONTEXT)
#define OWN_SWITCH 1
#else
#define OWN_SWITCH 0
#endif

#if OWN_SWITCH
void tt_emu_switch(void **save, void *load);
__asm__(".text\n"
	".globl tt_emu_switch\n"
	".type tt_emu_switch, @function\n"
	"tt_emu_switch:\n"
	"	push %rbp\n"
	"	push %rbx\n"
	"	push %r12\n"
	"	push %r13\n"
	"	push %r14\n"
	"	push %r15\n"
	"	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	pop %r15\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	pop %rbx\n"
	"	pop %rbp\n"
	"	ret\n"
	".size tt_emu_switch, .-tt_emu_switch\n");
#else
static ucontext_t contexts[MAX_CLUSTER * MAX_THREADS + 1];
static void tt_emu_switch(void **save, void *load)
{
	swapcontext(*save, load);
}
#endif

static void landed(void *fake_stack)
{
#if WITH_ASAN
	const void *bottom;
	size_t size;
	__sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
	if (!scheduler_bottom) {
		scheduler_bottom = bottom;
		scheduler_size = size;
	}
#else
	(void)fake_stack;
#endif
}

static void switch_to(void **save, void **fake, struct fiber *to)
{
#if WITH_ASAN
	const void *bottom = to ? to->stack : scheduler_bottom;
	__sanitizer_start_switch_fiber(fake, bottom, to ? STACK_BYTES : scheduler_size);
#endif
	emu.running = to;
	tt_emu_self = to;
	emu.run.switches++;
	tt_emu_switch(save, to ? to->stack_pointer : emu.scheduler);
	landed(*fake);
}

static void fiber_main(void)
{
	landed(NULL);
	emu.launch->kernel->call(emu.launch->kernel->address, emu.launch->args);
	fiber_wait(EXITED, "the end", emu.launch->kernel->name, 0);
	abort(); /* nothing wakes an exited fiber */
}

void fiber_start(struct fiber *fiber)
{
	if (!fiber->stack) {
		char *memory = mmap(
			NULL, STACK_BYTES + PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED || mprotect(memory, PAGE_BYTES, PROT_NONE)) {
			perror("emulator: no memory for a fiber");
			exit(1);
		}
		fiber->stack = memory + PAGE_BYTES;
	}
#if WITH_ASAN
	__asan_unpoison_memory_region(fiber->stack, STACK_BYTES); /* a thread that was abandoned left its frames */
#endif
	fiber->fake_stack = NULL;
#if OWN_SWITCH
	void **top = (void **)(fiber->stack + STACK_BYTES);
	*--top = NULL; /* the address fiber_main would return to; it also aligns the stack as after a call */
	*--top = (void *)(uintptr_t)fiber_main;
	for (int i = 0; i < 6; i++)
		*--top = NULL;
	fiber->stack_pointer = top;
#else
	ucontext_t *context = &contexts[fiber - emu_fibers];
	getcontext(context);
	context->uc_stack.ss_sp = fiber->stack;
	context->uc_stack.ss_size = STACK_BYTES;
	context->uc_link = NULL;
	makecontext(context, fiber_main, 0);
	fiber->stack_pointer = context;
	emu.scheduler = &contexts[MAX_CLUSTER * MAX_THREADS];
#endif
}

void fiber_enter(struct fiber *fiber)
{
	switch_to(&emu.scheduler, &scheduler_fake_stack, fiber);
}

void fiber_leave(void)
{
	struct fiber *self = emu.running;
	switch_to(&self->stack_pointer, &self->fake_stack, NULL);
}

/* The next runnable lane of a warp in the current order; never the running one. */
static struct fiber *next_lane(const struct warp *warp)
{
	uint32_t lanes = warp->runnable;
	if (!lanes)
		return NULL;
	if (emu.order == TT_EMU_FORWARD)
		return &warp->fibers[__builtin_ctz(lanes)];
	if (emu.order == TT_EMU_BACKWARD)
		return &warp->fibers[31 - __builtin_clz(lanes)];
	uint32_t turn = (uint32_t)emu_random() & 31;
	uint32_t turned = turn ? lanes >> turn | lanes << (WARP - turn) : lanes;
	return &warp->fibers[((uint32_t)__builtin_ctz(turned) + turn) & 31];
}

void fiber_yield(void)
{
	struct fiber *self = emu.running, *next = next_lane(self->warp);
	/* In random order another warp gets its turn now and then, even where this one could go on. */
	if (!next || (emu.order == TT_EMU_RANDOM && !(emu_random() & 7)))
		fiber_leave();
	else
		switch_to(&self->stack_pointer, &self->fake_stack, next);
}

static void bad_access(void)
{
	struct site site = {"plain access", emu.running->site.file, emu.running->site.line};
	emu_fail(&site, "memory was touched without a primitive; the place named is the thread's last wait");
	abort();
}

/* Continues in bad_access, on the stack of the thread that faulted. A fault outside a kernel ends the program as
 * usual. */
static void on_fault(int signal_number, siginfo_t *info, void *context)
{
	(void)info;
#ifdef __x86_64__
	if (emu.in_kernel && emu.running) {
		greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
		registers[REG_RSP] = ((registers[REG_RSP] - 256) & ~(greg_t)15) - 8; /* below the red zone */
		registers[REG_RIP] = (greg_t)(uintptr_t)bad_access;
		return;
	}
#else
	(void)context;
#endif
	signal(signal_number, SIG_DFL);
}

void fiber_guard(void)
{
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_sigaction = on_fault;
	action.sa_flags = SA_SIGINFO;
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}
