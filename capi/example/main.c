/*
 * A kernel that links cofferdam, as a small hypervisor does: one page of stack, its own page tables, nothing mapped one to one.
 * QEMU boots it: `cargo xtask run c`. The platform's functions are in memory.c, pci.c and clock.c.
 */
#include "kernel.h"

static struct edu root_device, cell_device;

static void show_unit(void *context, const struct cofferdam_unit *unit)
{
	(void)context;
	print("unit at ");
	print_hex(unit->base);
	print(", input bits ");
	print_number(unit->input_bits);
	print(unit->flags & COFFERDAM_UNIT_IS_BLOCKING ? ", blocking\n" : ", not blocking\n");
}

/* The live tables beside the configuration. */
static void audit(void)
{
	static struct cofferdam_audit found;
	check_call(cofferdam_audit(print_bytes, NULL, &found, &error), &error, "the live tables are audited");
	check(found.differences == 0 && found.functions == 2 && found.ranges >= 3, "each device reaches what is granted");
}

/* A stack of 4 KiB is enough: what is left is what nobody wrote to. */
static void stacks(void)
{
	unsigned boot = boot_stack_used(), nmi = nmi_stack_used();
	print("stack: ");
	print_number(boot);
	print(" of 4096 bytes, and ");
	print_number(nmi);
	print(" in the NMI\n");
	check(boot < PAGE && nmi < PAGE, "no stack is full");
}

static void ask_of_a_device(void)
{
	static struct cofferdam_device_info info;
	check_call(cofferdam_device_info(cell_device.device, &info, &error), &error, "what the cell's device can do is known");
	check(info.cell == carved_cell && info.refusal == 0 && info.source_ids == 1, "it has its cell, and a name of its own");
	check_call(cofferdam_mute(cell_device.device, 1, &error), &error, "its faults are muted");
}

static void say_an_error(void)
{
	char words[100];
	static struct cofferdam_device_info info;
	check(cofferdam_device_info(COFFERDAM_DEVICE(7, 0, 0, 0), &info, &error) == COFFERDAM_ERROR_NO_SUCH_DEVICE,
	      "a device that no unit serves is an error");
	size_t bytes = cofferdam_error_words(&error, words, sizeof(words));
	print("error: ");
	print(words);
	print("\n");
	check(bytes == 37 && error.device == COFFERDAM_DEVICE(7, 0, 0, 0), "it has words and numbers");
}

_Noreturn void main(uint32_t start_info);

_Noreturn void main(uint32_t start_info)
{
	const struct start_info *info = direct(start_info);
	console_init();
	print("started: a kernel in C with cofferdam ");
	print(cofferdam_version());
	print("\n");
	memory_init();
	clock_init();
	interrupts_init();
	if (!check(edu_find(&root_device, 0) && edu_find(&cell_device, 1), "there are two devices"))
		finish();
	take_over(info, &root_device);
	cofferdam_units(show_unit, NULL, NULL);
	carve(&root_device, &cell_device);
	read_faults(&cell_device);
	audit();
	ask_of_a_device();
	say_an_error();
	hand_back(&root_device, &cell_device);
	stacks();
	finish();
}
