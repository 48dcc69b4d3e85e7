/* Descriptor tables, the local APIC, and what comes in: exceptions, the NMI, the device's interrupt. */
#include "kernel.h"

#define LOCAL_APIC 0xfee00000u
enum { APIC_ID = 0x20, APIC_EOI = 0xb0, APIC_SPURIOUS = 0xf0, APIC_ICR = 0x300, APIC_ICR_HIGH = 0x310 };

enum { CODE = 8, TSS = 16, NMI_STACK = 1, FAULT_STACK = 2, NMI = 2 };

struct gate {
	uint16_t offset_low, selector;
	uint8_t stack, kind;
	uint16_t offset_middle;
	uint32_t offset_high, reserved;
};

struct task {
	uint32_t reserved;
	uint64_t stacks[3], reserved_too, interrupt_stacks[7], more;
	uint16_t end, io_map;
} __attribute__((packed));

struct pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

extern char nmi_entry[], device_entry[], exception_entries[];

static struct gate gates[256];
static struct task task;
static uint64_t gdt[4] = {0, 0x00af9b000000ffff};
static volatile uint8_t *apic;
static void (*volatile nmi_handler)(void);
volatile unsigned interrupts_seen;

static volatile uint32_t *local(unsigned offset)
{
	return (volatile uint32_t *)(apic + offset);
}

static void set(unsigned vector, const char *entry, uint8_t stack)
{
	uint64_t at = (uint64_t)entry;
	gates[vector] = (struct gate){(uint16_t)at, CODE, stack, 0x8e, (uint16_t)(at >> 16), (uint32_t)(at >> 32), 0};
}

void interrupts_init(void)
{
	/* Page 3 and page 5 above STACKS: the second and the third stack grow down from their ends. */
	task.interrupt_stacks[NMI_STACK - 1] = STACKS + 4 * (uint64_t)PAGE;
	task.interrupt_stacks[FAULT_STACK - 1] = STACKS + 6 * (uint64_t)PAGE;
	uint64_t base = (uint64_t)&task;
	gdt[2] = (sizeof(task) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
	gdt[3] = base >> 32;
	for (unsigned vector = 0; vector < 32; vector++)
		set(vector, exception_entries + 16 * vector, FAULT_STACK);
	set(NMI, nmi_entry, NMI_STACK);
	set(DEVICE_VECTOR, device_entry, 0);
	struct pointer gdt_pointer = {sizeof(gdt) - 1, (uint64_t)gdt}, idt_pointer = {sizeof(gates) - 1, (uint64_t)gates};
	__asm__ volatile("lgdt %0; lidt %1; ltr %w2" ::"m"(gdt_pointer), "m"(idt_pointer), "r"(TSS));
	out8(0x21, 0xff); /* the legacy controllers send nothing */
	out8(0xa1, 0xff);
	apic = map_device(LOCAL_APIC, PAGE);
	*local(APIC_SPURIOUS) = 0x1ff; /* on */
	__asm__ volatile("sti");
}

void raise_nmi(void (*handler)(void))
{
	nmi_handler = handler;
	*local(APIC_ICR_HIGH) = *local(APIC_ID) & 0xff000000u;
	*local(APIC_ICR) = 0x4400; /* NMI, asserted, to the CPU with this id */
	for (unsigned i = 0; i < 1000 && nmi_handler; i++)
		wait_ns(1000);
}

void on_nmi(void)
{
	void (*handler)(void) = nmi_handler;
	if (handler)
		handler();
	nmi_handler = NULL;
}

void on_device(void)
{
	interrupts_seen++;
	*local(APIC_EOI) = 0;
}

_Noreturn void on_exception(uint64_t vector, uint64_t first, uint64_t second, uint64_t address)
{
	print("exception ");
	print_number(vector);
	print(", on its stack ");
	print_hex(first);
	print(" and ");
	print_hex(second);
	print("\n");
	bool is_guard = vector == 14 && address >= STACKS && address < STACKS + 6 * (uint64_t)PAGE;
	crash(is_guard ? "a stack is full" : "the kernel has an exception", address);
}
