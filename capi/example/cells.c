/* Second part: a cell with memory, a device and its interrupt, carved out of the root cell in one change; then what each reaches. */
#include "kernel.h"

#define CELL_MEMORY (GUEST_FIRST + 16 * MIB)
#define CELL_BYTES (2 * MIB)

static struct cofferdam_fault last;
static struct cofferdam_fault_log fault_log;
static volatile unsigned faults_read;

static uint64_t word(uint64_t physical)
{
	return *(volatile uint64_t *)direct(physical);
}

static void set_word(uint64_t physical, uint64_t value)
{
	*(volatile uint64_t *)direct(physical) = value;
}

static void take(void *context, const struct cofferdam_fault *fault)
{
	(void)context;
	last = *fault;
	faults_read++;
}

struct counted {
	cofferdam_device device;
	uint64_t faults;
};

static void count_of(void *context, cofferdam_device device, uint64_t faults)
{
	struct counted *counted = context;
	if (device == counted->device)
		counted->faults = faults;
}

/* Runs in the NMI, whatever that interrupted, and prints nothing there. */
static void in_nmi(void)
{
	cofferdam_faults(take, NULL, &fault_log, NULL);
}

static void route_is_taken(const struct edu *device)
{
	check_call(cofferdam_program_msi(device->device, &error), &error, "the cell's device is programmed by MSI");
	edu_interrupt(device);
	check(interrupts_seen == 1, "its interrupt arrives, once");
}

void carve(const struct edu *root_device, const struct edu *device)
{
	static struct cofferdam_cell_config config;
	config.cpu_ranges = 1; /* CPU 0 */
	config.first_vector = DEVICE_VECTOR;
	config.last_vector = DEVICE_VECTOR;
	check_call(cofferdam_create_cell(&config, &carved_cell, &error), &error, "there is another cell");
	static struct cofferdam_edit edits[3];
	edits[0] = (struct cofferdam_edit){.kind = COFFERDAM_EDIT_MAP, .cell = carved_cell, .input = 0,
		.output = CELL_MEMORY, .bytes = CELL_BYTES, .rights = COFFERDAM_READ | COFFERDAM_WRITE};
	edits[1] = (struct cofferdam_edit){.kind = COFFERDAM_EDIT_ASSIGN, .cell = carved_cell, .device = device->device,
		.messages = 1};
	edits[2] = (struct cofferdam_edit){.kind = COFFERDAM_EDIT_ROUTE, .cell = carved_cell,
		.source = {.kind = COFFERDAM_SOURCE_MESSAGE, .device = device->device},
		.route = {.vector = DEVICE_VECTOR}};
	edits[1].kind = 99;
	check(cofferdam_commit(edits, 3, &error) == COFFERDAM_ERROR_ARGUMENT && error.value == 1,
	      "an edit of no kind is refused by its index");
	edits[1].kind = COFFERDAM_EDIT_ASSIGN;
	check_call(cofferdam_commit(edits, 3, &error), &error, "it has memory, a device and an interrupt by one change");

	set_bus_master(device->device);
	set_word(CELL_MEMORY + 8, 0xcafe);
	set_word(CELL_MEMORY + PAGE, 0);
	edu_read(device, 8, 8);
	edu_write(device, PAGE, 8);
	check(word(CELL_MEMORY + PAGE) == 0xcafe, "its device reads and writes its memory, from address 0 on");
	cofferdam_faults(take, NULL, &fault_log, NULL);
	check(faults_read == 0, "no fault until here");
	set_word(GUEST_FIRST, 0x1234);
	edu_write(device, GUEST_FIRST, 8);
	check(word(GUEST_FIRST) == 0x1234, "it does not reach the root cell's");
	edu_write(root_device, CELL_MEMORY + 16, 8);
	check(word(CELL_MEMORY + 16) != 0x1122334455667788, "the root cell's device does not reach the cell's");
	while (cofferdam_faults(take, NULL, &fault_log, NULL) == 0 && fault_log.records)
		;
	check(faults_read >= 1, "what was blocked left a fault");
	route_is_taken(device);
}

void read_faults(const struct edu *device)
{
	unsigned before = faults_read;
	edu_write(device, 64 * MIB, 8);
	raise_nmi(in_nmi);
	bool is_it = faults_read == before + 1 && last.device == device->device && last.address == 64 * MIB &&
		     last.access == COFFERDAM_ACCESS_WRITE;
	check(is_it, "a fault is read in an NMI: who, what and where");
	struct counted counted = {.device = device->device};
	check_call(cofferdam_faults_by_device(count_of, &counted, &error), &error, "devices with faults are listed");
	check(counted.faults >= 2, "the cell's device is among them, with each that was read");
	print("fault: ");
	cofferdam_fault_words(&last, print_bytes, NULL);
	print("\n");
}
