/* Time: the time-stamp counter, measured once by the interval timer. */
#include "kernel.h"

#define TIMER_HZ 1193182u
#define MEASURED (TIMER_HZ / 50) /* 20 ms */

static uint64_t per_ms, start;

static uint64_t counter(void)
{
	uint32_t low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

void clock_init(void)
{
	out8(0x61, (in8(0x61) & ~2u) | 1); /* channel 2 counts, and is not heard */
	out8(0x43, 0xb0);                  /* once, from what follows to 0 */
	out8(0x42, MEASURED & 0xff);
	out8(0x42, MEASURED >> 8);
	uint64_t before = counter();
	while (!(in8(0x61) & 0x20))
		;
	per_ms = (counter() - before) / 20;
	start = counter();
}

uint64_t cofferdam_platform_now_ns(void)
{
	uint64_t ticks = counter() - start;
	return ticks / per_ms * 1000000 + ticks % per_ms * 1000000 / per_ms;
}

void cofferdam_platform_pause(void)
{
	__asm__ volatile("pause");
}

void wait_ns(uint64_t ns)
{
	uint64_t begin = cofferdam_platform_now_ns();
	while (cofferdam_platform_now_ns() - begin < ns)
		cofferdam_platform_pause();
}
