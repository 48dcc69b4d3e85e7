/* Physical memory: the kernel's own, of which the library has frames, and where the CPU sees what. */
#include "kernel.h"

extern char image_end[];
extern uint64_t device_pages[512];

/* Bits of a page's entry: present, writable, write-through, uncached. */
#define UNCACHED 0x1b

/* Frames that came back, a list for each order; the first word of each leads to the next. */
static uint64_t free_lists[9];
static uint64_t never_used;
static unsigned devices_mapped;

void *memset(void *to, int value, size_t bytes)
{
	void *result = to;
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
	return result;
}

void *memcpy(void *to, const void *from, size_t bytes)
{
	void *result = to;
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
	return result;
}

void memory_init(void)
{
	never_used = (uint64_t)image_end - KERNEL_BASE;
}

void *direct(uint64_t physical)
{
	return (void *)(DIRECT_MAP + physical);
}

/* The library calls this under its lock, so that no other is needed here. */
uint64_t cofferdam_platform_allocate(uint8_t order)
{
	uint64_t bytes = (uint64_t)PAGE << order;
	if (order >= sizeof(free_lists) / sizeof(free_lists[0]))
		return UINT64_MAX;
	uint64_t frames = free_lists[order];
	if (frames) {
		free_lists[order] = *(uint64_t *)direct(frames);
	} else {
		frames = (never_used + bytes - 1) & ~(bytes - 1);
		if (frames + bytes > OWN_END)
			return UINT64_MAX;
		never_used = frames + bytes;
	}
	memset(direct(frames), 0, bytes);
	return frames;
}

void cofferdam_platform_free(uint64_t frames, uint8_t order)
{
	*(uint64_t *)direct(frames) = free_lists[order];
	free_lists[order] = frames;
}

int32_t cofferdam_platform_own_memory(uint64_t first, uint64_t last, struct cofferdam_range *own)
{
	if (last < OWN_FIRST || first >= OWN_END)
		return 0;
	own->first = first > OWN_FIRST ? first : OWN_FIRST;
	own->last = last < OWN_END - 1 ? last : OWN_END - 1;
	return 1;
}

void *cofferdam_platform_phys_to_virt(uint64_t frame)
{
	return direct(frame);
}

int32_t cofferdam_platform_word_at(uint64_t address, uint64_t *word)
{
	if (address < OWN_FIRST || address > OWN_END - sizeof(*word))
		return 0;
	*word = *(volatile uint64_t *)direct(address);
	return 1;
}

volatile void *map_device(uint64_t base, uint64_t bytes)
{
	unsigned pages = (unsigned)((bytes + PAGE - 1) / PAGE);
	if (pages > 512 - devices_mapped)
		return NULL;
	uint64_t seen = DEVICE_MAP + (uint64_t)devices_mapped * PAGE;
	for (unsigned i = 0; i < pages; i++)
		device_pages[devices_mapped++] = (base + (uint64_t)i * PAGE) | UNCACHED;
	return (volatile void *)seen; /* nothing was mapped there before, so the CPU has cached nothing */
}

void *cofferdam_platform_map_registers(uint64_t base, uint32_t bytes)
{
	return (void *)map_device(base, bytes);
}
