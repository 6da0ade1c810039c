/*
 * stack.h: going on on another stack.
 *
 * Where this is known of the processor it takes a few instructions; elsewhere
 * fiber.c has ucontext.h do it, which asks the system for the mask of signals
 * each time: that takes longer than a read of one row.
 */
#ifndef MB_CORE_STACK_H
#define MB_CORE_STACK_H

#if defined(__x86_64__) && defined(__ELF__) && !defined(__ILP32__)
#  define MB__SWITCHES_ITSELF 1
#  include <stddef.h>

/* Saves what a function has to preserve on the stack that it is called on, and
 * goes on at what another such call, or mb__stack_prepare, has left. */
void mb__stack_switch(void **from, void *to);
/* A stack on which the first switch calls entry. */
void *mb__stack_prepare(void *memory, size_t size, void (*entry)(void));
#else
#  define MB__SWITCHES_ITSELF 0
#  include <ucontext.h>
#endif

#endif
