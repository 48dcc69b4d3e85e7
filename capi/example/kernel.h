/* What the files of this kernel have in common. Each of them has one job, which its first line says. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cofferdam.h"

/* Where things are seen. Nothing is seen where it is: no address is mapped one to one. */
#define KERNEL_BASE 0xffffffff80000000u /* the image: physical address 0 and the first GiB */
#define DIRECT_MAP 0xffff800000000000u  /* physical memory below 4 GiB, write-back */
#define DEVICE_MAP 0xffffffffc0000000u  /* registers of devices, uncached, where map_device puts them */
#define STACKS 0xffffffffc0200000u      /* stacks of one page, each above a page that is not mapped */

#define PAGE 4096u
#define MIB (1024u * 1024u)

/* Physical memory: what the kernel keeps for itself, what guests may have. */
#define OWN_FIRST (2 * MIB)
#define OWN_END (16 * MIB)
#define GUEST_FIRST (16 * MIB)
#define GUEST_BYTES (48u * MIB)

/* console.c */
void console_init(void);
void print_bytes(void *context, const char *text, size_t bytes);
void print(const char *text);
void print_number(uint64_t number);
void print_hex(uint64_t number);
/* One line: `ok     what` or `FAILED what`. Gives whether it held. */
bool check(bool holds, const char *what);
/* The same of a call of the library: 0 is what holds; otherwise the error is said in words. */
bool check_call(int32_t code, const struct cofferdam_error *error, const char *what);
_Noreturn void finish(void);
_Noreturn void crash(const char *what, uint64_t at);

/* memory.c */
void *memset(void *to, int value, size_t bytes);
void *memcpy(void *to, const void *from, size_t bytes);
void memory_init(void);
void *direct(uint64_t physical);
volatile void *map_device(uint64_t base, uint64_t bytes);

/* stack.c */
void stacks_init(void);
unsigned boot_stack_used(void);
unsigned nmi_stack_used(void);

/* interrupts.c */
void interrupts_init(void);
void raise_nmi(void (*handler)(void));
extern volatile unsigned interrupts_seen;
#define DEVICE_VECTOR 0x40

/* clock.c */
void clock_init(void);
void wait_ns(uint64_t ns);

/* acpi.c */
struct start_info;
const uint8_t *find_table(const struct start_info *info, const char *signature, size_t *bytes);
size_t io_apics(const struct start_info *info, uint8_t *ids, size_t most);

/* pci.c */
cofferdam_device find_device(uint32_t vendor_device, unsigned nth);
uint64_t device_base(cofferdam_device device);
void set_bus_master(cofferdam_device device);
/* Called at each read of configuration space, which the library makes many of while it switches units on. */
extern void (*at_each_read)(void);

/* edu.c */
struct edu {
	cofferdam_device device;
	volatile uint8_t *registers;
};
bool edu_find(struct edu *edu, unsigned nth);
void edu_begin_write(const struct edu *edu, uint64_t to, uint64_t bytes);
bool edu_is_busy(const struct edu *edu);
bool edu_read(const struct edu *edu, uint64_t from, uint64_t bytes);
bool edu_write(const struct edu *edu, uint64_t to, uint64_t bytes);
void edu_interrupt(const struct edu *edu);

/* writer.c */
bool writer_begin(const struct edu *device);
void writer_go_on(uint64_t ns);
unsigned writer_written(void);
/* Whether nothing that it wrote was lost. */
bool writer_end(void);

/* The parts of the job. */
void take_over(const struct start_info *info, const struct edu *root_device);
void carve(const struct edu *root_device, const struct edu *cell_device);
void read_faults(const struct edu *cell_device);
void hand_back(const struct edu *root_device, const struct edu *cell_device);
extern cofferdam_cell root_cell, carved_cell;
extern struct cofferdam_error error;

/* Ports of the PC. */
static inline void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out32(uint16_t port, uint32_t value) { __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
static inline uint8_t in8(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}
static inline uint32_t in32(uint16_t port)
{
	uint32_t value;
	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

#endif
