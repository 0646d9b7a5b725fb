/* What a thread does between two looks at a word that another is about to change. */
#ifndef BASE_PAUSE_H
#define BASE_PAUSE_H

/* Leaves the core to its other thread, and the word's cache line to its writer, for a moment. */
static inline void tt_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

#endif
