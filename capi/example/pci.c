/* Configuration space, by the ports of the PC: the first 256 bytes of each function of segment 0. */
#include "kernel.h"

void (*at_each_read)(void);

/* Two steps make one access. One CPU runs this kernel; a kernel of several has a lock here, for its own accesses as well. */
static bool choose(cofferdam_device device, uint16_t offset)
{
	if (device >> 16 || offset > 252)
		return false;
	out32(0xcf8, 0x80000000u | device << 8 | offset);
	return true;
}

uint32_t cofferdam_platform_config_read(cofferdam_device device, uint16_t offset)
{
	if (at_each_read)
		at_each_read();
	return choose(device, offset) ? in32(0xcfc) : UINT32_MAX;
}

void cofferdam_platform_config_write(cofferdam_device device, uint16_t offset, uint32_t value)
{
	if (choose(device, offset))
		out32(0xcfc, value);
}

cofferdam_device find_device(uint32_t vendor_device, unsigned nth)
{
	for (cofferdam_device device = 0; device < 256; device++)
		if (cofferdam_platform_config_read(device, 0) == vendor_device && nth-- == 0)
			return device;
	return UINT32_MAX;
}

uint64_t device_base(cofferdam_device device)
{
	return cofferdam_platform_config_read(device, 0x10) & ~(uint64_t)0xf;
}

/* Memory space and bus mastering on. */
void set_bus_master(cofferdam_device device)
{
	uint32_t command = cofferdam_platform_config_read(device, 4) & 0xffff;
	cofferdam_platform_config_write(device, 4, command | 6);
}
