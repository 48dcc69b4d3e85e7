/* QEMU's edu device (docs/specs/edu.rst): copies between memory and a buffer of its own, at any address. */
#include "kernel.h"

#define VENDOR_DEVICE 0x11e81234u
#define BUFFER 0x40000u /* its own 4 KiB, as it names them */

enum { RAISE = 0x60, ACKNOWLEDGE = 0x64, SOURCE = 0x80, DESTINATION = 0x88, COUNT = 0x90, COMMAND = 0x98 };
enum { START = 1, TO_MEMORY = 2 };

static volatile uint64_t *wide(const struct edu *edu, unsigned offset)
{
	return (volatile uint64_t *)(edu->registers + offset);
}

bool edu_find(struct edu *edu, unsigned nth)
{
	edu->device = find_device(VENDOR_DEVICE, nth);
	if (edu->device == UINT32_MAX)
		return false;
	set_bus_master(edu->device);
	edu->registers = map_device(device_base(edu->device), PAGE);
	return edu->registers != NULL;
}

bool edu_is_busy(const struct edu *edu)
{
	return *wide(edu, COMMAND) & START;
}

static void begin(const struct edu *edu, uint64_t source, uint64_t destination, uint64_t bytes, uint64_t command)
{
	*wide(edu, SOURCE) = source;
	*wide(edu, DESTINATION) = destination;
	*wide(edu, COUNT) = bytes;
	*wide(edu, COMMAND) = command;
}

/* It does not say whether a transfer got through, only when it is over, which takes 100 ms. */
static bool is_over(const struct edu *edu)
{
	for (unsigned ms = 0; edu_is_busy(edu); ms++) {
		if (ms == 5000)
			return false;
		wait_ns(1000000);
	}
	return true;
}

void edu_begin_write(const struct edu *edu, uint64_t to, uint64_t bytes)
{
	begin(edu, BUFFER, to, bytes, START | TO_MEMORY);
}

bool edu_write(const struct edu *edu, uint64_t to, uint64_t bytes)
{
	edu_begin_write(edu, to, bytes);
	return is_over(edu);
}

bool edu_read(const struct edu *edu, uint64_t from, uint64_t bytes)
{
	begin(edu, from, BUFFER, bytes, START);
	return is_over(edu);
}

void edu_interrupt(const struct edu *edu)
{
	*(volatile uint32_t *)(edu->registers + RAISE) = 1;
	wait_ns(2000000);
	*(volatile uint32_t *)(edu->registers + ACKNOWLEDGE) = 1;
}
