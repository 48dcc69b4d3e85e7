/* How much of each stack was used: entry.S has painted them, one page each. */
#include "kernel.h"

#define PAINT 0x5a5a5a5a5a5a5a5aull

/* The n-th stack lies above its guard, which is not mapped. */
static unsigned used(unsigned nth)
{
	const volatile uint64_t *bottom = (const volatile uint64_t *)(STACKS + (2 * nth + 1) * (uint64_t)PAGE);
	unsigned words = PAGE / sizeof(*bottom), untouched = 0;
	while (untouched < words && bottom[untouched] == PAINT)
		untouched++;
	return (words - untouched) * (unsigned)sizeof(*bottom);
}

unsigned boot_stack_used(void)
{
	return used(0);
}

unsigned nmi_stack_used(void)
{
	return used(1);
}
