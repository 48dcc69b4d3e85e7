/* The firmware's tables: where the loader says that they are. */
#include "kernel.h"

/* What a PVH loader hands over (Xen, xen/include/public/arch-x86/hvm/start_info.h), as far as it is used here. */
struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t module_list, command_line, rsdp;
};

struct header {
	char signature[4];
	uint32_t length;
	uint8_t rest[28];
} __attribute__((packed));

struct rsdp {
	char signature[8];
	uint8_t checksum, oem[6], revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
} __attribute__((packed));

static bool same(const char *one, const char *other, size_t bytes)
{
	while (bytes--)
		if (one[bytes] != other[bytes])
			return false;
	return true;
}

const uint8_t *find_table(const struct start_info *info, const char *signature, size_t *bytes)
{
	const struct rsdp *rsdp = direct(info->rsdp);
	if (info->rsdp == 0 || !same(rsdp->signature, "RSD PTR ", 8))
		return NULL;
	bool wide = rsdp->revision >= 2 && rsdp->xsdt != 0;
	size_t width = wide ? 8 : 4;
	const struct header *root = direct(wide ? rsdp->xsdt : rsdp->rsdt);
	const uint8_t *entries = (const uint8_t *)(root + 1);
	for (size_t i = 0; i < (root->length - sizeof(*root)) / width; i++) {
		uint64_t at = 0;
		for (size_t byte = 0; byte < width; byte++)
			at |= (uint64_t)entries[i * width + byte] << (8 * byte);
		const struct header *table = direct(at);
		if (same(table->signature, signature, 4)) {
			*bytes = table->length;
			return (const uint8_t *)table;
		}
	}
	return NULL;
}

/* The ids of the IOAPICs, which the MADT lists behind 44 bytes: structures of type 1. */
size_t io_apics(const struct start_info *info, uint8_t *ids, size_t most)
{
	size_t bytes, found = 0;
	const uint8_t *madt = find_table(info, "APIC", &bytes);
	for (size_t at = 44; madt && at + 2 <= bytes && madt[at + 1] >= 2; at += madt[at + 1])
		if (madt[at] == 1 && at + 2 < bytes && found < most)
			ids[found++] = madt[at + 2];
	return found;
}
