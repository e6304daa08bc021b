/*
 * A Cortex-M4 without anything else: vectors, start, words through semihosting, SysTick as a counter.
 *
 * Instructions are counted by qemu-system-arm -M mps2-an386 -icount shift=0, where each takes a nanosecond of the
 * emulated time, in which SysTick counts at the board's 25 MHz: 40 instructions to a tick. On silicon the same
 * program would count time, not instructions.
 */
#include "board.h"

#define INSTRUCTIONS_PER_TICK 40u
#define SYSTICK_CONTROL (*(volatile uint32_t *)0xE000E010u)
#define SYSTICK_RELOAD (*(volatile uint32_t *)0xE000E014u)
#define SYSTICK_CURRENT (*(volatile uint32_t *)0xE000E018u)
#define TICKS 0x00FFFFFFu

#define PAINT 0xA5A5A5A5u
#define PAINTED 4096u /* words */

extern uint32_t stack_top, stack_bottom, data_start, data_end, data_load, bss_start, bss_end;
extern int main(void);

static uint32_t *painted_to;

static uint32_t semihosting(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void board_say(const char *text)
{
    (void)semihosting(0x04, text); /* SYS_WRITE0 */
}

/* The stack grows down from here to what is painted. */
static uint32_t *here(void)
{
    uint32_t *sp;
    __asm__ volatile("mov %0, sp" : "=r"(sp));
    return sp;
}

void board_begin(void)
{
    painted_to = here();
    for (volatile uint32_t *word = painted_to - PAINTED; word < painted_to; word++) {
        *word = PAINT;
    }
    SYSTICK_CONTROL = 0;
    SYSTICK_RELOAD = TICKS;
    SYSTICK_CURRENT = 0;
    SYSTICK_CONTROL = 5; /* the processor's clock, no interrupt */
    while (SYSTICK_CURRENT == 0) {
        /* the first tick loads it */
    }
}

void board_end(uint32_t *instructions, uint32_t *stack)
{
    const uint32_t now = SYSTICK_CURRENT;
    const volatile uint32_t *word = painted_to - PAINTED;
    *instructions = (TICKS - now) * INSTRUCTIONS_PER_TICK;
    while (word < painted_to && *word == PAINT) {
        word++;
    }
    *stack = (uint32_t)((uintptr_t)instructions - (uintptr_t)word); /* from the caller's variables down */
}

__attribute__((noreturn)) static void stop(uint32_t status)
{
    const uint32_t reason[2] = {0x20026u, status}; /* ADP_Stopped_ApplicationExit */
    (void)semihosting(0x20, reason);               /* SYS_EXIT_EXTENDED */
    for (;;) {
    }
}

__attribute__((noreturn)) void board_fault(void);
void board_fault(void)
{
    board_say("FAIL: a fault of the processor\n");
    stop(2);
}

__attribute__((noreturn)) void board_reset(void);
void board_reset(void)
{
    volatile uint32_t *to = &data_start;
    for (const volatile uint32_t *from = &data_load; to < &data_end; from++, to++) {
        *to = *from;
    }
    for (to = &bss_start; to < &bss_end; to++) {
        *to = 0;
    }
    stop((uint32_t)main());
}

/* The processor's table: the stack, then what a reset and each fault run. */
static const struct {
    const void *stack;
    void (*run[15])(void);
} vectors __attribute__((section(".vectors"), used)) = {
    &stack_top,
    {board_reset, board_fault, board_fault, board_fault, board_fault, board_fault},
};
