/* The life of a hypervisor, first part: the machine is taken over while one of its devices goes on working. */
#include "kernel.h"

cofferdam_cell root_cell, carved_cell;
struct cofferdam_error error;

static uint64_t memory[200 * 1024 / 8];
static struct cofferdam_limits limits;
static struct cofferdam_probe probe;

static void finding(void *context, const struct cofferdam_finding *finding)
{
	(void)context;
	print("firmware: ");
	cofferdam_finding_words(finding, print_bytes, NULL);
	print("\n");
}

/* What the configuration of this machine says: a unit for all devices, and the source-id of its IOAPIC. */
static const struct cofferdam_entry units[] = {
	{.kind = COFFERDAM_ENTRY_UNIT, .all = 1, .first = 0xfed90000},
	{.kind = COFFERDAM_ENTRY_IO_APIC, .id = 0, .device = 0xff00},
};

static void write_table(void)
{
	static uint8_t table[128];
	const struct cofferdam_table described = {units, 2, .host_address_width = 39, .remaps_interrupts = 1};
	int32_t code = cofferdam_write_table(&described, table, 16, &probe.table_bytes, &error);
	check(code == COFFERDAM_ERROR_ARGUMENT && probe.table_bytes <= sizeof(table), "a table that does not fit says its size");
	code = cofferdam_write_table(&described, table, sizeof(table), &probe.table_bytes, &error);
	check_call(code, &error, "a table is written from the configuration");
	probe.table = table;
}

static void find_units(const struct start_info *info)
{
	uint8_t ids[8];
	size_t count = io_apics(info, ids, sizeof(ids));
	cofferdam_default_limits(&limits);
	limits.units = 2;
	limits.cells = 3;
	limits.devices = 8;
	limits.device_tlbs = 0;
	limits.scopes = 64;
	limits.changes = 2;
	limits.edits = 8;
	write_table();
	probe.memory = memory;
	probe.memory_words = sizeof(memory) / sizeof(memory[0]);
	probe.limits = &limits;
	probe.finding = finding;
	check(cofferdam_prepare(&error) == COFFERDAM_ERROR_NOT_PROBED, "a call before the units are known has its code");
	if (!check(cofferdam_words(&limits) <= probe.memory_words, "the memory that is handed over is enough"))
		finish();
	if (!check_call(cofferdam_probe(&probe, &error), &error, "the table is read"))
		finish();
	check(cofferdam_probe(&probe, &error) == COFFERDAM_ERROR_PROBED, "it is read once");
	check_call(cofferdam_remap_interrupts(ids, count, 0, &error), &error, "interrupts are to be remapped");
}

void take_over(const struct start_info *info, const struct edu *device)
{
	struct cofferdam_cell_config config = {0};
	find_units(info);
	check_call(cofferdam_prepare(&error), &error, "devices can be assigned before the units are on");
	check_call(cofferdam_create_root_cell(&config, &root_cell, &error), &error, "there is a root cell");
	static struct cofferdam_edit edits[2];
	edits[0] = (struct cofferdam_edit){.kind = COFFERDAM_EDIT_MAP, .cell = root_cell, .input = GUEST_FIRST,
		.output = GUEST_FIRST, .bytes = GUEST_BYTES, .rights = COFFERDAM_READ | COFFERDAM_WRITE};
	edits[1] = (struct cofferdam_edit){.kind = COFFERDAM_EDIT_ASSIGN, .cell = root_cell, .device = device->device};
	check_call(cofferdam_commit(edits, 2, &error), &error, "it has guests' memory, and its device");

	static struct cofferdam_unblocked unblocked;
	check(writer_begin(device), "the root cell's device takes a pattern before any unit is on");
	unsigned before = writer_written();
	int32_t code = cofferdam_enable(&unblocked, &error);
	unsigned during = writer_written() - before;
	check_call(code, &error, "the units are switched on");
	writer_go_on(400000000);
	bool all = writer_end();
	print("the device wrote ");
	print_number(writer_written());
	print(" times, ");
	print_number(during);
	print(" of them while units were switched on\n");
	check(during != 0 && all, "its device wrote all the while, and nothing was lost");
	check(unblocked.units == 0 && unblocked.functions == 0, "everything else is blocked");
}
