/* Last part: the machine is handed back while the root cell's device goes on working. Every device reaches all memory again. */
#include "kernel.h"

static unsigned assigned;

static void count(void *context, const struct cofferdam_assigned *device)
{
	(void)context;
	(void)device;
	assigned++;
}

static void release_cell(void)
{
	static struct cofferdam_edit edit;
	check(cofferdam_disable(&error) == COFFERDAM_ERROR_BUSY, "units stay on while a cell has a device");
	check(cofferdam_hand_back(&error) == COFFERDAM_ERROR_BUSY && error.cell == carved_cell,
	      "the machine is not handed back while another than the root cell has a device");
	edit = (struct cofferdam_edit){.kind = COFFERDAM_EDIT_DESTROY, .cell = carved_cell};
	check_call(cofferdam_commit(&edit, 1, &error), &error, "the cell is gone, and the root cell has its memory again");
}

/* One write has begun before the units are handed back and ends after that. */
static void hand_over(const struct edu *root_device)
{
	check(writer_begin(root_device), "the root cell's device writes");
	writer_go_on(200000000);
	unsigned before = writer_written();
	int32_t code = cofferdam_hand_back(&error);
	bool across = edu_is_busy(root_device) && writer_written() == before;
	check_call(code, &error, "the machine is handed back");
	writer_go_on(400000000);
	bool all = writer_end();
	print("the device wrote ");
	print_number(before);
	print(" times before, and ");
	print_number(writer_written() - before);
	print(" times after\n");
	check(before != 0 && across && all, "the device wrote across that, and nothing was lost");
}

void hand_back(const struct edu *root_device, const struct edu *cell_device)
{
	static struct cofferdam_statistics statistics;
	release_cell();
	hand_over(root_device);
	cofferdam_assigned(count, NULL, NULL);
	cofferdam_statistics(&statistics, NULL);
	check(assigned == 0 && statistics.table_frames == 0, "no cell has a device, and all frames are back");
	volatile uint64_t *at = direct(GUEST_FIRST);
	*at = 0;
	set_bus_master(cell_device->device);
	edu_write(cell_device, GUEST_FIRST, 8);
	check(*at != 0, "a device reaches all memory again");
	check_call(cofferdam_disable(&error), &error, "units that are off are switched off once more");
}
