/* A device that writes all the time, as one of a running system does, while units are switched on and off around it. */
#include "kernel.h"

#define SLOT (GUEST_FIRST + MIB)
#define BYTES 64
#define PATTERN 0x1122334455667788

static const struct edu *writer;
static volatile uint64_t *slot;
static unsigned written, lost;

/* Looks whether it is done, which it is after 100 ms, and has it begin again. */
static void go_on(void)
{
	if (edu_is_busy(writer))
		return;
	written++;
	for (unsigned i = 0; i < BYTES / 8; i++)
		lost += slot[i] != PATTERN;
	memset((void *)slot, 0, BYTES);
	edu_begin_write(writer, SLOT, BYTES);
}

bool writer_begin(const struct edu *device)
{
	writer = device;
	slot = direct(SLOT);
	written = lost = 0;
	for (unsigned i = 0; i < BYTES / 8; i++)
		slot[i] = PATTERN;
	if (!edu_read(device, SLOT, BYTES))
		return false;
	memset((void *)slot, 0, BYTES);
	edu_begin_write(device, SLOT, BYTES);
	at_each_read = go_on;
	return true;
}

void writer_go_on(uint64_t ns)
{
	for (uint64_t ms = 0; ms < ns / 1000000; ms++) {
		wait_ns(1000000);
		go_on();
	}
}

unsigned writer_written(void)
{
	return written;
}

bool writer_end(void)
{
	at_each_read = NULL;
	while (edu_is_busy(writer))
		wait_ns(1000000);
	go_on();
	while (edu_is_busy(writer))
		wait_ns(1000000);
	return lost == 0;
}
