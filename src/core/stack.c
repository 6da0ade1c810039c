/* stack.c: going on on another stack. */
#include "stack.h"

#include <stdint.h>
#include <string.h>

#if MB__SWITCHES_ITSELF

/* clang-format off */
__asm__(
    ".text\n"
    ".globl mb__stack_switch\n"
    ".hidden mb__stack_switch\n"
    ".type mb__stack_switch, @function\n"
    "mb__stack_switch:\n"
    "  pushq %rbp\n"
    "  pushq %rbx\n"
    "  pushq %r12\n"
    "  pushq %r13\n"
    "  pushq %r14\n"
    "  pushq %r15\n"
    "  subq $8, %rsp\n"
    "  stmxcsr (%rsp)\n"
    "  fnstcw 4(%rsp)\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  ldmxcsr (%rsp)\n"
    "  fldcw 4(%rsp)\n"
    "  addq $8, %rsp\n"
    "  popq %r15\n"
    "  popq %r14\n"
    "  popq %r13\n"
    "  popq %r12\n"
    "  popq %rbx\n"
    "  popq %rbp\n"
    "  ret\n"
    ".size mb__stack_switch, . - mb__stack_switch\n");
/* clang-format on */

void *mb__stack_prepare(void *memory, size_t size, void (*entry)(void))
{
  /* As a call finds it: the address to go back to, of nobody, stands behind a
   * multiple of 16. */
  uint64_t *top = (uint64_t *)((char *)memory + size) - 2;
  *--top = 0;
  *--top = (uint64_t)(uintptr_t)entry;
  for (int preserved = 0; preserved < 6; preserved++)
    *--top = 0;
  uint32_t words[2] = {0};
  uint16_t control;
  __asm__ volatile("stmxcsr %0" : "=m"(words[0]));
  __asm__ volatile("fnstcw %0" : "=m"(control));
  words[1] = control;
  memcpy(--top, words, sizeof words);
  return top;
}

#endif
