/* Last part: the machine is handed back. Every device reaches all memory again. */
#include "kernel.h"

void hand_back(const struct edu *root_device, const struct edu *cell_device)
{
	static struct cofferdam_edit edits[2];
	static struct cofferdam_statistics statistics;
	check(cofferdam_disable(&error) == COFFERDAM_ERROR_BUSY, "units stay on while cells have devices");
	edits[0] = (struct cofferdam_edit){.kind = COFFERDAM_EDIT_DESTROY, .cell = carved_cell};
	edits[1] = (struct cofferdam_edit){.kind = COFFERDAM_EDIT_RELEASE, .device = root_device->device};
	check_call(cofferdam_commit(edits, 2, &error), &error, "the cell is gone, and so is the root cell's device");
	check_call(cofferdam_disable(&error), &error, "the units are switched off");
	cofferdam_statistics(&statistics, NULL);
	check(statistics.table_frames == 0, "all frames are back");
	volatile uint64_t *at = direct(GUEST_FIRST);
	*at = 0;
	set_bus_master(cell_device->device);
	edu_write(cell_device, GUEST_FIRST, 8);
	check(*at != 0, "a device reaches all memory again");
}
