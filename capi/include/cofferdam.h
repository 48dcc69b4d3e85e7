/*
 * cofferdam: an IOMMU driver (Intel VT-d) for partitioning hypervisors.
 *
 * It decides which memory each PCI device can reach and which interrupts it can raise. A partition (a cell) gets exactly what
 * its configuration grants; everything else is blocked, and what was blocked can be read. The guide has more, in docs/guide;
 * its page "from C" has an example.
 *
 * Link the static library that `cargo xtask c` builds, and define the functions whose names begin with cofferdam_platform_.
 * One front an image, in the library's .bss. x86-64 with the System V calling convention. The library uses no vector, x87 or
 * MMX register and no red zone, and runs at any address of the kernel code model or below 2 GiB.
 *
 * Every call that can fail returns 0, or a number above 0 that says why (COFFERDAM_ERROR_...), and fills the error that it is
 * handed unless that is null. Numbers keep their meaning. What a call gives is written only if it succeeds, unless it says so.
 * Structs that a call reads are all zero by default; reserved fields stay zero.
 */
#ifndef COFFERDAM_H
#define COFFERDAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Names ------------------------------------------------------------------------------------------------------------ */

/* A PCI function: its segment in bits 31:16, bus in 15:8, device in 7:3, function in 2:0. */
typedef uint32_t cofferdam_device;

#define COFFERDAM_DEVICE(segment, bus, device, function) \
	((cofferdam_device)(segment) << 16 | (cofferdam_device)(bus) << 8 | (cofferdam_device)(device) << 3 | \
	 (cofferdam_device)(function))

/* A cell: 0 is none. The handle of a cell that was destroyed never names another. */
typedef uint64_t cofferdam_cell;

/* A text of the library's that stays where it is. It does not end with a zero: print it with "%.*s". */
struct cofferdam_name {
	const char *text;
	size_t bytes;
};

/* Addresses from the first to the last, both of them included. */
struct cofferdam_range {
	uint64_t first;
	uint64_t last;
};

/* Takes a text, or the next part of one, of so many bytes without a zero behind them. */
typedef void (*cofferdam_text)(void *context, const char *text, size_t bytes);

/* ---- The platform: functions that the client defines ------------------------------------------------------------------ */

/*
 * Each runs on the CPU that made a call, within that call. None may make a call of the library, and none may sleep: most run
 * under a spin lock that other CPUs wait for. The library works on any number of CPUs at a time.
 */

/*
 * Allocates 2^order contiguous frames of 4 KiB, and gives their physical address; UINT64_MAX if there are none. They are
 * aligned to their total size, filled with zeros, used by nobody else until they come back, part of the platform's own memory,
 * and below the machine's host address width. order is 0, but for the queues (7 at most) and tables of interrupts (8 at most)
 * of units, by cofferdam_prepare and cofferdam_enable. By one CPU at a time; never in an NMI.
 */
uint64_t cofferdam_platform_allocate(uint8_t order);

/* Takes frames back that it gave with this order. By one CPU at a time; never in an NMI. */
void cofferdam_platform_free(uint64_t frames, uint8_t order);

/*
 * Says which memory no cell is ever granted: all that frames come from, and best also the hypervisor's code, data and stacks.
 * Writes the lowest part of it from first to last to own and gives 1; gives 0 if there is none. For a hypervisor that lives in
 * one range this is the intersection of two ranges. By one CPU at a time; never in an NMI.
 */
int32_t cofferdam_platform_own_memory(uint64_t first, uint64_t last, struct cofferdam_range *own);

/*
 * Where the CPU sees a frame that was allocated, and those that follow it in the same allocation: mapped write-back, valid for
 * reads and writes on every CPU until it is freed, never null. Called often. By one CPU at a time; never in an NMI.
 */
void *cofferdam_platform_phys_to_virt(uint64_t frame);

/*
 * Maps the registers of a unit, uncached, and gives where the CPU sees them from then on, on every CPU; null if it cannot or will
 * not, so that the unit has failed (COFFERDAM_UNIT_ERROR_NOT_MAPPED). Called once for each unit by cofferdam_probe, and again by
 * one that is repeated. base and what it gives are aligned to 4 KiB, and bytes is a multiple of that. The library reads and
 * writes registers there itself, in an NMI as well if cofferdam_faults is called in one.
 */
void *cofferdam_platform_map_registers(uint64_t base, uint32_t bytes);

/*
 * Reads a 32-bit register of a function's configuration space at a multiple of 4 below 4096; all ones if there is no such
 * function, or no way to reach it. On several CPUs at a time; never in an NMI. Where an access takes two steps, as by the ports
 * 0xCF8 and 0xCFC, they have to be one for all CPUs.
 */
uint32_t cofferdam_platform_config_read(cofferdam_device device, uint16_t offset);

/* Writes one; nothing happens if there is no such function. By one CPU at a time; never in an NMI. */
void cofferdam_platform_config_write(cofferdam_device device, uint16_t offset, uint32_t value);

/*
 * Nanoseconds from a fixed moment on. Never goes back on any CPU, and does not stand still: count the rounds of a counter of 32
 * bits, which wraps. Never in an NMI.
 */
uint64_t cofferdam_platform_now_ns(void);

/* What to do between two looks at something that a CPU waits for: the PAUSE instruction. Never in an NMI. */
void cofferdam_platform_pause(void);

/*
 * Reads a 64-bit word of physical memory, writes it to word and gives 1; gives 0 if that address is not in memory that frames
 * are allocated from. Reading does nothing else. For audits, and for units that firmware left remapping interrupts; a client
 * that has neither may give 0 always. By one CPU at a time; never in an NMI.
 */
int32_t cofferdam_platform_word_at(uint64_t address, uint64_t *word);

/* ---- Errors ----------------------------------------------------------------------------------------------------------- */

/* Why a call failed: its result, and the code of its error. docs/guide/failures.md says what is left and what to do. */
enum {
	COFFERDAM_OK = 0,
	COFFERDAM_ERROR_FIRMWARE = 1,        /* the firmware's table cannot be used; detail: COFFERDAM_TABLE_ERROR_ */
	COFFERDAM_ERROR_UNIT = 2,            /* a unit failed, or cannot be used; detail: COFFERDAM_UNIT_ERROR_ */
	COFFERDAM_ERROR_UNKNOWN_UNIT = 3,    /* the unit at address is of a kind that is not driven */
	COFFERDAM_ERROR_MAP = 4,             /* the region cannot be mapped; detail: COFFERDAM_MAP_ERROR_ */
	COFFERDAM_ERROR_FULL = 5,            /* the capacity that name says is used up; it is value */
	COFFERDAM_ERROR_NO_FRAME = 6,        /* no frames for tables; detail: COFFERDAM_NO_FRAME_ */
	COFFERDAM_ERROR_PROBED = 7,          /* the units are known already */
	COFFERDAM_ERROR_NOT_PROBED = 8,      /* no unit is known yet */
	COFFERDAM_ERROR_UNBLOCKED = 9,       /* all units are on, but devices are left that nothing blocks */
	COFFERDAM_ERROR_NOT_ENABLED = 10,    /* the units are not on */
	COFFERDAM_ERROR_IN_SERVICE = 11,
	COFFERDAM_ERROR_UNREADABLE = 12,     /* cofferdam_platform_word_at does not give a table that is needed */
	COFFERDAM_ERROR_NO_SUCH_CELL = 13,
	COFFERDAM_ERROR_NO_SUCH_DEVICE = 14, /* no unit serves the device */
	COFFERDAM_ERROR_NOT_ASSIGNED = 15,
	COFFERDAM_ERROR_BUSY = 16,           /* the device has a cell */
	COFFERDAM_ERROR_REFUSED = 17,        /* the device is not given to this cell; detail: COFFERDAM_REFUSAL_ */
	COFFERDAM_ERROR_NOT_IDLE = 18,       /* the device was blocked, but did not come to rest: it stays in its cell */
	COFFERDAM_ERROR_NOT_RESET = 19,      /* the device was blocked, but not reset: it stays in its cell */
	COFFERDAM_ERROR_IN_CHANGE = 20,      /* another change did not end in time: repeat */
	COFFERDAM_ERROR_INCOMPATIBLE = 21,   /* the device does not fit this cell; detail: COFFERDAM_INCOMPATIBILITY_ */
	COFFERDAM_ERROR_NOT_ONE_TO_ONE = 22, /* the root cell's memory is */
	COFFERDAM_ERROR_ROOT_EXISTS = 23,
	COFFERDAM_ERROR_MISALIGNED = 24,     /* no whole pages of 4 KiB */
	COFFERDAM_ERROR_OVERLAP = 25,        /* the cell has memory there already */
	COFFERDAM_ERROR_OWNED = 26,          /* another has the memory; detail: COFFERDAM_OWNER_ */
	COFFERDAM_ERROR_RESERVED = 27,       /* firmware reserves the memory for one of the cell's devices */
	COFFERDAM_ERROR_WINDOW = 28,         /* one of the cell's devices cannot reach memory there */
	COFFERDAM_ERROR_NOT_GRANTED = 29,    /* the cell has nothing there */
	COFFERDAM_ERROR_VECTOR = 30,         /* vectors below 16 are of the CPU's exceptions */
	COFFERDAM_ERROR_ROUTE = 31,          /* an interrupt is not routed; detail: COFFERDAM_UNROUTABLE_ */
	COFFERDAM_ERROR_NOT_REMAPPED = 32,   /* interrupts are not remapped; detail: COFFERDAM_NOT_REMAPPED_ */
	COFFERDAM_ERROR_ASLEEP = 33,         /* cofferdam_resume comes first */
	COFFERDAM_ERROR_NULL = 256,          /* the argument that name says is null or not aligned */
	COFFERDAM_ERROR_ARGUMENT = 257       /* the argument that name says has no such value; of edits, that with index value */
};

enum {
	COFFERDAM_UNIT_ERROR_TIMEOUT = 1,      /* register and bit (name, bit) did not change within value nanoseconds */
	COFFERDAM_UNIT_ERROR_DEAD = 2,         /* the register reads value, as none of a unit does */
	COFFERDAM_UNIT_ERROR_RESET = 3,        /* it was reset since it was on: cofferdam_enable programs it again */
	COFFERDAM_UNIT_ERROR_UNSUPPORTED = 4,  /* it lacks what the driver needs */
	COFFERDAM_UNIT_ERROR_QUEUE = 5,        /* it refused the command with index value */
	COFFERDAM_UNIT_ERROR_INVALIDATION = 6, /* it refused an invalidation */
	COFFERDAM_UNIT_ERROR_DEVICE = 7,       /* device value (16 bits) did not answer for its device-TLB */
	COFFERDAM_UNIT_ERROR_NO_ROOM = 8,      /* its queue was full */
	COFFERDAM_UNIT_ERROR_FAILED = 9,       /* it was out of service before */
	COFFERDAM_UNIT_ERROR_NO_FRAME = 10,    /* no frame for its own tables; value: COFFERDAM_NO_FRAME_ */
	COFFERDAM_UNIT_ERROR_NOT_MAPPED = 11,  /* cofferdam_platform_map_registers gave null */
	COFFERDAM_UNIT_ERROR_FOUND_ON = 12,    /* somebody else has it on, and it is not to be taken over; nothing was done to it */
	COFFERDAM_UNIT_ERROR_FOUND_QUEUE = 13  /* cofferdam_options.found_memory does not give the queue that it was found with */
};

enum {
	COFFERDAM_TABLE_ERROR_TOO_SHORT = 1,
	COFFERDAM_TABLE_ERROR_WRONG_SIGNATURE = 2,
	COFFERDAM_TABLE_ERROR_BAD_LENGTH = 3,
	COFFERDAM_TABLE_ERROR_NO_UNIT = 4,
	COFFERDAM_TABLE_ERROR_FULL = 5
};

enum {
	COFFERDAM_MAP_ERROR_MISALIGNED = 1,
	COFFERDAM_MAP_ERROR_NO_RIGHTS = 2,
	COFFERDAM_MAP_ERROR_INPUT_TOO_HIGH = 3,  /* value: bits that an input address may have */
	COFFERDAM_MAP_ERROR_OUTPUT_TOO_HIGH = 4, /* value: bits that a physical address may have */
	COFFERDAM_MAP_ERROR_INPUT_HOLE = 5,
	COFFERDAM_MAP_ERROR_OUTPUT_INTERRUPTS = 6,
	COFFERDAM_MAP_ERROR_OCCUPIED = 7,
	COFFERDAM_MAP_ERROR_NO_FRAME = 8
};

enum { COFFERDAM_NO_FRAME_NONE_LEFT = 1, COFFERDAM_NO_FRAME_TOO_HIGH = 2, COFFERDAM_NO_FRAME_NOT_OWN = 3 };

enum {
	COFFERDAM_REFUSAL_UNSAFE_INTERRUPTS = 1,
	COFFERDAM_REFUSAL_RESERVED_MEMORY = 2,
	COFFERDAM_REFUSAL_OWNED = 3, /* value: COFFERDAM_OWNER_ */
	COFFERDAM_REFUSAL_LOST_RESERVED = 4,
	COFFERDAM_REFUSAL_UNCERTAIN_UNIT = 5,
	COFFERDAM_REFUSAL_NEEDS_DEVICE_TLB = 6,
	COFFERDAM_REFUSAL_NO_DEVICE_TLB = 7,    /* value: COFFERDAM_NO_DEVICE_TLB_ */
	COFFERDAM_REFUSAL_SHARES_REQUESTER = 8, /* value: the other device; so for those that follow */
	COFFERDAM_REFUSAL_SHARES_GROUP = 9,
	COFFERDAM_REFUSAL_SHARES_RESERVED = 10,
	COFFERDAM_REFUSAL_NO_RESET = 11,
	COFFERDAM_REFUSAL_UNKNOWN_ISOLATION = 12,
	COFFERDAM_REFUSAL_WINDOW = 13,
	COFFERDAM_REFUSAL_SEVERAL_UNITS = 14,
	COFFERDAM_REFUSAL_SHARES_INTERRUPTS = 15,
	COFFERDAM_REFUSAL_NO_MESSAGES = 16
};

enum {
	COFFERDAM_NO_DEVICE_TLB_UNIT = 1,
	COFFERDAM_NO_DEVICE_TLB_FIRMWARE = 2,
	COFFERDAM_NO_DEVICE_TLB_CAPABILITY = 3,
	COFFERDAM_NO_DEVICE_TLB_PAGE_SIZE = 4,
	COFFERDAM_NO_DEVICE_TLB_SOURCE_ID = 5
};

enum { COFFERDAM_INCOMPATIBILITY_SNOOP = 1, COFFERDAM_INCOMPATIBILITY_MAP = 2 };

enum {
	COFFERDAM_OWNER_CELL = 1,
	COFFERDAM_OWNER_RESERVED = 2,
	COFFERDAM_OWNER_WITHHELD = 3,
	COFFERDAM_OWNER_REGISTERS = 4,
	COFFERDAM_OWNER_PLATFORM = 5
};

enum {
	COFFERDAM_UNROUTABLE_VECTOR = 1,
	COFFERDAM_UNROUTABLE_CPUS = 2,
	COFFERDAM_UNROUTABLE_LEVEL = 3,
	COFFERDAM_UNROUTABLE_NOT_POSTED = 4,
	COFFERDAM_UNROUTABLE_POSTED_PIN = 5,
	COFFERDAM_UNROUTABLE_DESCRIPTOR = 6,
	COFFERDAM_UNROUTABLE_DESCRIPTOR_TAKEN = 7,
	COFFERDAM_UNROUTABLE_NOT_HELD = 8,
	COFFERDAM_UNROUTABLE_NOT_ROUTED = 9,
	COFFERDAM_UNROUTABLE_TAKEN = 10,
	COFFERDAM_UNROUTABLE_ENTRY_TAKEN = 11,
	COFFERDAM_UNROUTABLE_HAS_ENTRY = 12,
	COFFERDAM_UNROUTABLE_NOT_FOUND = 13,
	COFFERDAM_UNROUTABLE_GOES_ON = 14,
	COFFERDAM_UNROUTABLE_NO_MSI = 15,
	COFFERDAM_UNROUTABLE_NO_MSI_X = 16,
	COFFERDAM_UNROUTABLE_NO_UNIT = 17,
	COFFERDAM_UNROUTABLE_NOT_REMAPPED = 18,
	COFFERDAM_UNROUTABLE_FORGED = 19
};

enum {
	COFFERDAM_NOT_REMAPPED_LATE = 1,
	COFFERDAM_NOT_REMAPPED_NO_ROOM = 2,
	COFFERDAM_NOT_REMAPPED_FIRMWARE = 3,
	COFFERDAM_NOT_REMAPPED_IO_APIC = 4, /* value: its id */
	COFFERDAM_NOT_REMAPPED_NO_PAIR_STORE = 5,
	COFFERDAM_NOT_REMAPPED_NO_UNIT = 6,
	COFFERDAM_NOT_REMAPPED_OPT_OUT = 7,
	COFFERDAM_NOT_REMAPPED_NOT_EXTENDED = 8,
	COFFERDAM_NOT_REMAPPED_EXTENDED_ONLY = 9
};

/* Which fields of an error say something. */
enum {
	COFFERDAM_HAS_DEVICE = 1,
	COFFERDAM_HAS_CELL = 2,
	COFFERDAM_HAS_ADDRESS = 4,
	COFFERDAM_HAS_BYTES = 8,
	COFFERDAM_HAS_VALUE = 16
};

/* What a failure is copied to; cofferdam_error_words makes words of it. */
#define COFFERDAM_FAILURE_WORDS 11

/* Why a call failed, in numbers. All zero, with code 0, after one that succeeded. */
struct cofferdam_error {
	int32_t code;
	uint32_t detail;             /* the kind of the reason within its code, or 0 */
	uint32_t has;                /* COFFERDAM_HAS_: which of the next fields say something */
	cofferdam_device device;
	cofferdam_cell cell;
	uint64_t address;            /* of memory, or of a unit's registers */
	uint64_t bytes;
	uint64_t value;              /* what the comment of the code or of the detail says */
	struct cofferdam_name name;  /* of a register, of a capacity, of an argument; or empty */
	struct cofferdam_name bit;   /* of the register; or empty */
	uint64_t filled;             /* the library's; leave it as it is */
	uint64_t failure[COFFERDAM_FAILURE_WORDS];
};

/*
 * Writes an error in words to a buffer, with a zero behind them, and gives how many bytes they are without it. What does not
 * fit is left out, and with a buffer of null or of 0 bytes nothing is written. error is as a call has filled it. An image has
 * the words only if it makes this call. In any context.
 */
size_t cofferdam_error_words(const struct cofferdam_error *error, char *buffer, size_t bytes);

/* ---- From the firmware's table to units that are on, and back --------------------------------------------------------- */

/* How much there can be of each: docs/guide/capacities.md says what that takes. */
struct cofferdam_limits {
	size_t units;
	size_t scopes;
	size_t reserved;     /* at most 64 */
	size_t cells;        /* at most 64 */
	size_t regions;      /* of one cell that is not the root cell */
	size_t root_regions;
	size_t domains;      /* page tables of one cell */
	size_t devices;      /* in all cells together */
	size_t device_tlbs;  /* at most 48 */
	size_t windows;      /* at most 64 */
	size_t interrupts;   /* in all cells together: a power of two from 64 to 65,536, or 0 for none */
	size_t lines;        /* pins of IOAPICs and timers of HPETs */
	size_t changes;      /* that wait for units at a time, 1 at least */
	size_t edits;        /* of one change: 48 bytes each, for each of the changes; 64 by default */
};

/* How the front goes about its work. What is wanted is set in what cofferdam_default_options gives. */
struct cofferdam_options {
	uint64_t timeout_ns;
	uint64_t device_timeout_ns;
	uint64_t low_memory_end;    /* where main memory below 4 GiB ends; 0 if that is not known */
	uint64_t high_memory_end;   /* where main memory above 4 GiB ends */
	/*
	 * Where the CPU sees physical memory of who had a unit before: the queue that it was found with, as far as that was used.
	 * Aligned to 4 KiB, mapped write-back, valid for writes until cofferdam_hand_back returns, which alone calls this, by one CPU
	 * at a time. It gives null for what may not be written, and is null itself if there is no such function: then no unit with
	 * such a queue is handed back.
	 */
	void *(*found_memory)(uint64_t first, uint64_t last);
	uint16_t queue_slots;
	uint8_t max_leaf_level;     /* 1: pages of 4 KiB; 2: of 2 MiB, too; 3: of 1 GiB, too */
	uint8_t require_all_units;  /* 1: a unit that cannot be used fails cofferdam_probe */
	uint8_t take_over;          /* 1: units that somebody else has on are no error of cofferdam_enable, which takes them over */
	uint8_t accept_unblocked;   /* 1: devices that nothing blocks are no error of cofferdam_enable */
};

enum { COFFERDAM_SEVERITY_NOTE = 1, COFFERDAM_SEVERITY_WARNING = 2, COFFERDAM_SEVERITY_ERROR = 3 };

/* Something that is wrong with the firmware's table. */
struct cofferdam_finding {
	uint32_t offset;     /* in the table, in bytes */
	uint32_t severity;   /* COFFERDAM_SEVERITY_ERROR: something is lost */
	const void *finding; /* for cofferdam_finding_words, until the function returns that it was handed to */
};

/* What cofferdam_probe takes. */
struct cofferdam_probe {
	const uint8_t *table;  /* the firmware's DMAR, as bytes; not needed any more after the call */
	size_t table_bytes;
	uint64_t *memory;      /* for all that the library knows: its own from then on, unless the call fails */
	size_t memory_words;   /* at least cofferdam_words of the limits */
	const struct cofferdam_limits *limits;
	const struct cofferdam_options *options; /* null: the defaults */
	void (*finding)(void *context, const struct cofferdam_finding *finding); /* null: nobody hears of findings */
	void *context;
};

/* What nothing blocks: it may reach all memory. */
struct cofferdam_unblocked {
	uint32_t functions;         /* how many functions of configuration space */
	cofferdam_device first[4];  /* the first of them */
	uint16_t units;             /* how many units do not block what they serve */
	uint8_t is_segment_open;    /* 1: in open_segment nobody blocks what the firmware's table does not list */
	uint8_t is_table_incomplete;
	uint16_t open_segment;
};

/* The version of the library: numbers with points, and a zero behind them. In any context. */
const char *cofferdam_version(void);

/* The defaults: enough for a server of four sockets, and a second for each wait. In any context. */
void cofferdam_default_limits(struct cofferdam_limits *limits);
void cofferdam_default_options(struct cofferdam_options *options);

/* How many words of 64 bits cofferdam_probe needs; SIZE_MAX for limits that cannot be. In any context. */
size_t cofferdam_words(const struct cofferdam_limits *limits);

/*
 * Any CPU may make any call at any time. Those that switch units on or off wait for the changes that are under way, and others
 * wait for them; who waits too long fails with COFFERDAM_ERROR_IN_CHANGE. None runs in a handler that may interrupt a call, nor
 * in an NMI.
 */

/*
 * Reads the firmware's table and looks at the units; writes nothing to them. Once; one that fails may be repeated, with the same
 * memory. Until one has succeeded, calls of the front fail with COFFERDAM_ERROR_NOT_PROBED.
 */
int32_t cofferdam_probe(const struct cofferdam_probe *probe, struct cofferdam_error *error);

enum {
	COFFERDAM_ENTRY_UNIT = 1,
	COFFERDAM_ENTRY_RESERVED = 2, /* memory that devices go on using */
	COFFERDAM_ENTRY_PORTS = 3,    /* root ports below which devices may have a device-TLB */
	COFFERDAM_ENTRY_FUNCTION = 4,
	COFFERDAM_ENTRY_BRIDGE = 5,   /* with all that is behind it */
	COFFERDAM_ENTRY_IO_APIC = 6,
	COFFERDAM_ENTRY_HPET = 7
};

/* A part of a table. What the first three kinds are about is what stands behind them, up to the next of these three. */
struct cofferdam_entry {
	uint8_t kind;
	uint8_t all;             /* 1: a unit for all that no other names, and all ports */
	uint8_t id;              /* of the IOAPIC; the HPET's number */
	uint16_t segment;        /* of the first three kinds */
	cofferdam_device device; /* of the others */
	uint64_t first;          /* a unit's registers; the first byte of reserved memory */
	uint64_t last;           /* of reserved memory */
};

struct cofferdam_table {
	const struct cofferdam_entry *entries;
	size_t count;
	uint8_t host_address_width; /* in bits */
	uint8_t remaps_interrupts;  /* 1: it can */
};

/*
 * Writes the table that cofferdam_probe takes, of a machine whose units are known from a configuration instead of ACPI. needed, if
 * it is not null, is how many bytes it has, also where size is less. On an error bytes hold no table. In any context.
 */
int32_t cofferdam_write_table(const struct cofferdam_table *table, uint8_t *bytes, size_t size, size_t *needed,
			      struct cofferdam_error *error);

/*
 * Has interrupts remapped from cofferdam_prepare or cofferdam_enable on: what is not routed is blocked then, the hypervisor's
 * own interrupts among it. io_apics are the ids in the MADT; x2apic is 1 if the CPUs are in that mode.
 */
int32_t cofferdam_remap_interrupts(const uint8_t *io_apics, size_t count, int32_t x2apic, struct cofferdam_error *error);

/* Takes in that requests of a device may carry this id as well. Before the device is assigned. */
int32_t cofferdam_add_alias(cofferdam_device device, uint16_t alias, struct cofferdam_error *error);

/* Gets ready for devices to be assigned before cofferdam_enable, which they keep their memory over without a gap. */
int32_t cofferdam_prepare(struct cofferdam_error *error);

/*
 * Switches all units on: every device is blocked from then on, except those that were assigned after cofferdam_prepare, and
 * what unblocked says, which is written with COFFERDAM_ERROR_UNBLOCKED as well, and may be null. May be repeated: a unit
 * that was reset unforeseen is programmed again. A unit that somebody else has on is an error before anything is touched, unless
 * cofferdam_options.take_over says otherwise; cofferdam_units says what each was found doing.
 */
int32_t cofferdam_enable(struct cofferdam_unblocked *unblocked, struct cofferdam_error *error);

/* Switches all units off, once no cell has a device, a pin or a timer: every device reaches all memory from then on. */
int32_t cofferdam_disable(struct cofferdam_error *error);

/*
 * Gives all units back as they were found, while the devices of the root cell work on: every device reaches all memory from then
 * on, or what the tables of who had them before let it reach. What was kept of the root cell's interrupts goes on, and what was
 * routed otherwise ends. No other cell may have a device, a pin or a timer. docs/guide/integrate.md has more.
 */
int32_t cofferdam_hand_back(struct cofferdam_error *error);

/*
 * Gets ready for a sleep state: no change begins from then on, and units send no fault event. No device may be a bus master from
 * when units lose power until cofferdam_resume returns.
 */
int32_t cofferdam_suspend(struct cofferdam_error *error);

/*
 * Has everything be as it was before the machine slept. Each device in whose place another one answers now is blocked in its cell,
 * and `each` is called with it; it must not call the front.
 */
int32_t cofferdam_resume(void (*each)(void *context, const cofferdam_device *device), void *context, struct cofferdam_error *error);

/* Switches Access Control Services on again, after the machine slept, a port was reset or a device came. */
int32_t cofferdam_isolate(struct cofferdam_error *error);

/* Calls each with every function that nothing blocks. unblocked may be null. */
int32_t cofferdam_unblocked(void (*each)(void *context, const cofferdam_device *device), void *context,
			    struct cofferdam_unblocked *unblocked, struct cofferdam_error *error);

/* A finding in words. An image has the words only if it makes this call. In the function that was handed the finding. */
void cofferdam_finding_words(const struct cofferdam_finding *finding, cofferdam_text text, void *context);

/* ---- Cells ------------------------------------------------------------------------------------------------------------ */

enum {
	COFFERDAM_COHERENCY_PER_DEVICE = 0,  /* each device that can be made to snoop is */
	COFFERDAM_COHERENCY_ENFORCED = 1,    /* a device that cannot be made to snoop is refused */
	COFFERDAM_COHERENCY_NOT_ENFORCED = 2
};
enum { COFFERDAM_SHARING_BY_ATTRIBUTES = 0, COFFERDAM_SHARING_FEWEST_TABLES = 1 };
enum { COFFERDAM_RESET_IF_POSSIBLE = 0, COFFERDAM_RESET_REQUIRED = 1, COFFERDAM_RESET_NEVER = 2 };

/* Flags of a cell. */
enum {
	COFFERDAM_ALLOW_UNSAFE_INTERRUPTS = 1, /* its devices' interrupts need not be remapped */
	COFFERDAM_ALLOW_UNKNOWN_ISOLATION = 2,
	COFFERDAM_ALLOW_IDENTICAL_RESERVED = 4,
	COFFERDAM_ALLOW_SHARED_RESERVED = 8,
	COFFERDAM_LEAVE_OUT_RELAXABLE = 16,
	COFFERDAM_ALLOW_SHARED_GROUP = 32 /* others of a device's group may be of other cells that allow this: nothing keeps them apart */
};

/* CPUs by their APIC ids, the first and the last included. */
struct cofferdam_cpus {
	uint32_t first;
	uint32_t last;
};

/* What a cell is made with. All zero: the driver's defaults, and interrupts that go nowhere. */
struct cofferdam_cell_config {
	uint32_t flags;
	uint8_t coherency;
	uint8_t sharing;
	uint8_t reset;
	uint8_t flat_ids;    /* in xAPIC mode: the logical ids that its CPUs have in the flat model */
	uint32_t cpu_ranges; /* how many of the next its interrupts may go to */
	struct cofferdam_cpus cpus[8];
	uint8_t first_vector; /* vectors that its interrupts may have; 0 and 0: none; 16 and 255: all */
	uint8_t last_vector;
	uint16_t tag; /* a number of your own, in the texts that name the cell; 0: none */
};

/* Makes a cell without memory or devices. Touches no unit. */
int32_t cofferdam_create_cell(const struct cofferdam_cell_config *config, cofferdam_cell *cell,
			      struct cofferdam_error *error);

/* Makes the root cell, which loses what other cells get and has it again when they lose it; all its memory is one to one. */
int32_t cofferdam_create_root_cell(const struct cofferdam_cell_config *config, cofferdam_cell *cell,
				   struct cofferdam_error *error);

/* ---- Interrupts, as edits have them ----------------------------------------------------------------------------------- */

enum { COFFERDAM_SOURCE_MESSAGE = 1, COFFERDAM_SOURCE_PIN = 2, COFFERDAM_SOURCE_TIMER = 3 };

/* What sends an interrupt: a message of a device, a pin of an IOAPIC, a timer of an HPET. */
struct cofferdam_source {
	uint8_t kind;
	uint8_t id;     /* of the IOAPIC or the HPET */
	uint16_t index; /* of the message, the pin or the timer */
	cofferdam_device device;
};

enum { COFFERDAM_DELIVERY_FIXED = 0, COFFERDAM_DELIVERY_LOWEST_PRIORITY = 1 };
enum { COFFERDAM_TRIGGER_EDGE = 0, COFFERDAM_TRIGGER_LEVEL = 1 };
enum { COFFERDAM_CPUS_PHYSICAL = 0, COFFERDAM_CPUS_LOGICAL = 1 };

/* Where an interrupt goes. */
struct cofferdam_route {
	uint8_t vector;
	uint8_t delivery;
	uint8_t trigger;
	uint8_t kind;  /* of cpus: an APIC id, or a logical set */
	uint32_t cpus;
};

/*
 * A descriptor in which interrupts are recorded: 64 aligned bytes of the platform's own memory, which units write to. It stays
 * one until a change has succeeded after which nothing is posted there, or its unit is off.
 */
struct cofferdam_posting {
	uint64_t descriptor;
	uint8_t vector;
	uint8_t urgent;
};

/* ---- Changes ---------------------------------------------------------------------------------------------------------- */

enum {
	COFFERDAM_EDIT_MAP = 1,        /* cell, input, output, bytes, rights: memory for itself */
	COFFERDAM_EDIT_MAP_SHARED = 2, /* the same, and others may have it */
	COFFERDAM_EDIT_UNMAP = 3,      /* cell, input, bytes */
	COFFERDAM_EDIT_PROTECT = 4,    /* cell, input, bytes, rights */
	COFFERDAM_EDIT_ASSIGN = 5,     /* cell, device, messages, device_tlb */
	COFFERDAM_EDIT_RELEASE = 6,    /* device */
	COFFERDAM_EDIT_ROUTE = 7,      /* cell, source, route */
	COFFERDAM_EDIT_POST = 8,       /* cell, source, posting */
	COFFERDAM_EDIT_KEEP = 9,       /* cell, source, entry */
	COFFERDAM_EDIT_UNROUTE = 10,   /* cell, source */
	COFFERDAM_EDIT_DESTROY = 11,   /* cell */
	COFFERDAM_EDIT_UNMAP_ANY = 12  /* cell, input, bytes: whatever of that the cell has */
};

enum { COFFERDAM_READ = 1, COFFERDAM_WRITE = 2 };

/* One edit. Each kind has the fields that its comment names; nobody looks at the others. */
struct cofferdam_edit {
	uint32_t kind;
	uint32_t rights;          /* COFFERDAM_READ, COFFERDAM_WRITE, or both */
	cofferdam_cell cell;
	uint64_t input;           /* the address that devices use */
	uint64_t output;          /* the physical address */
	uint64_t bytes;           /* whole pages of 4 KiB */
	cofferdam_device device;
	uint16_t messages;        /* how many interrupts the device may send by MSI or MSI-X */
	uint8_t device_tlb;       /* 1: the device may cache translations, and is trusted with all memory */
	uint8_t reserved;
	struct cofferdam_source source;
	struct cofferdam_route route;
	struct cofferdam_posting posting;
	uint32_t entry;
};

/*
 * Makes all edits take effect, as if one came after the other, or none of them. When it returns 0, no device reaches what was
 * taken from it, no request to that is under way, and all that was granted is reached. A device that leaves its cell is
 * blocked and reset.
 *
 * At most as many edits as cofferdam_limits.edits says. They are copied first: how many there are takes no stack. Several CPUs
 * may make changes at a time; those of the same cell come one after the other. A change may take 100 ms, for resets. Not in a
 * handler that may interrupt a call.
 *
 * With no edits it asks all units for what they did not confirm in a change before.
 *
 * Errors that a unit or a device is the reason of (UNIT, NOT_IDLE, NOT_RESET) leave less than before, never more:
 * docs/guide/failures.md. All others leave everything as it was.
 */
int32_t cofferdam_commit(const struct cofferdam_edit *edits, size_t count, struct cofferdam_error *error);

enum { COFFERDAM_REMAINS_WITHHELD = 1, COFFERDAM_REMAINS_QUARANTINED = 2, COFFERDAM_REMAINS_COHERENCY = 3 };

/* One thing that a change has left that failed. */
struct cofferdam_remains {
	uint32_t kind;
	cofferdam_device device;       /* QUARANTINED: it could not be released, and is blocked */
	cofferdam_cell cell;
	struct cofferdam_range memory; /* WITHHELD: devices of the cell may still reach it; give it to nobody */
	uint32_t shared;
	uint32_t enforced;             /* COHERENCY: what that of the cell is now; 1: its DMA snoops */
};

#define COFFERDAM_COMMITTED_WORDS 3

/* What a change did beside what was asked for, for cofferdam_coherency_change. */
struct cofferdam_committed {
	uint32_t changes_coherency; /* 1: that of some cell is another than before */
	uint32_t filled;            /* the library's; leave it as it is */
	uint64_t committed[COFFERDAM_COMMITTED_WORDS];
};

/*
 * The same. If a change fails, remains is called with what is left of it, under a lock: it must not make a call but
 * cofferdam_faults. remains and committed may be null.
 */
int32_t cofferdam_commit_reporting(const struct cofferdam_edit *edits, size_t count,
				   void (*remains)(void *context, const struct cofferdam_remains *remains), void *context,
				   struct cofferdam_committed *committed, struct cofferdam_error *error);

/*
 * Whether DMA of a cell's devices snoops the CPU's caches (1), whatever a device asks for. If not (0), the hypervisor honours
 * WBINVD and guest memory types in that cell.
 */
int32_t cofferdam_coherency(cofferdam_cell cell, int32_t *enforced, struct cofferdam_error *error);

/* Whether a change made the coherency of a cell another one (changed), and which. */
int32_t cofferdam_coherency_change(const struct cofferdam_committed *committed, cofferdam_cell cell, int32_t *changed,
				   int32_t *enforced, struct cofferdam_error *error);

/* Calls each with every cell whose coherency differs from what was reported of it last. each must not make a call. */
int32_t cofferdam_coherency_changes(void (*each)(void *context, cofferdam_cell cell, int32_t enforced), void *context,
				    struct cofferdam_error *error);

/* ---- Devices ---------------------------------------------------------------------------------------------------------- */

enum {
	COFFERDAM_ISOLATION_ROOT_COMPLEX = 1,
	COFFERDAM_ISOLATION_ACCESS_CONTROL = 2,
	COFFERDAM_ISOLATION_SHARED = 3,
	COFFERDAM_ISOLATION_UNKNOWN = 4
};

enum {
	COFFERDAM_DEVICE_SNOOP_ENFORCEABLE = 1,
	COFFERDAM_DEVICE_RELAXABLE = 2,
	COFFERDAM_DEVICE_RESETTABLE = 4,
	COFFERDAM_DEVICE_NEEDS_DEVICE_TLB = 8,
	COFFERDAM_DEVICE_CAN_HAVE_DEVICE_TLB = 16
};

/* What a device can do, and what stands in its way whatever cell it is to have. */
struct cofferdam_device_info {
	uint64_t unit;          /* the registers of the unit that serves it */
	cofferdam_cell cell;    /* that has it; 0 if none has */
	uint64_t largest_page;  /* that its table can have, in bytes */
	uint32_t flags;         /* COFFERDAM_DEVICE_ */
	uint8_t input_bits;     /* of the addresses that it can be translated for */
	uint8_t isolation;
	uint8_t refusal;        /* why no cell is given it: COFFERDAM_REFUSAL_; or 0 */
	uint8_t no_device_tlb;  /* why it cannot have a device-TLB: COFFERDAM_NO_DEVICE_TLB_; or 0 */
	uint16_t reserved_with; /* how many others use memory that firmware reserves for it */
	uint16_t source_ids;    /* how many source-ids its requests may carry */
	cofferdam_device source_id[8]; /* the first of them */
};

int32_t cofferdam_device_info(cofferdam_device device, struct cofferdam_device_info *info, struct cofferdam_error *error);

/* Has no faults of a device recorded any more (1), or has them recorded again (0). What it may reach stays as it is. */
int32_t cofferdam_mute(cofferdam_device device, int32_t muted, struct cofferdam_error *error);

/* ---- What is programmed into sources of interrupts -------------------------------------------------------------------- */

struct cofferdam_message {
	uint64_t address;
	uint32_t data;
};

/* What a device or a timer has to send so that its interrupt is taken. */
int32_t cofferdam_message(const struct cofferdam_source *source, struct cofferdam_message *message,
			  struct cofferdam_error *error);

/* What the redirection entry of a pin has to be, unmasked and active high. */
int32_t cofferdam_redirection(uint8_t io_apic, uint8_t pin, uint64_t *entry, struct cofferdam_error *error);

/* Has a device send its interrupts by MSI as its cell has them. */
int32_t cofferdam_program_msi(cofferdam_device device, struct cofferdam_error *error);

struct cofferdam_msi_x_table {
	uint64_t address;
	uint32_t entries; /* of 16 bytes each */
};

/* Where a device has its table of MSI-X. */
int32_t cofferdam_msi_x_table(cofferdam_device device, struct cofferdam_msi_x_table *table, struct cofferdam_error *error);

/* Has a device send its interrupts by MSI-X. table is where the CPU sees its table, uncached, and nobody else writes there. */
int32_t cofferdam_program_msi_x(cofferdam_device device, uint32_t *table, struct cofferdam_error *error);

/* An interrupt that is routed, or posted if that is 1. */
struct cofferdam_routed_interrupt {
	cofferdam_cell cell;
	struct cofferdam_source source;
	struct cofferdam_route route;
	struct cofferdam_posting posting;
	uint8_t posted;
};

/* Calls each with every interrupt that is routed or posted. each must not make a call. */
int32_t cofferdam_routes(void (*each)(void *context, const struct cofferdam_routed_interrupt *routed), void *context,
			 struct cofferdam_error *error);

/* ---- Faults ----------------------------------------------------------------------------------------------------------- */

enum {
	COFFERDAM_ACCESS_READ = 1,
	COFFERDAM_ACCESS_WRITE = 2,
	COFFERDAM_ACCESS_ATOMIC = 3,
	COFFERDAM_ACCESS_PAGE_REQUEST = 4,
	COFFERDAM_ACCESS_INTERRUPT = 5
};

enum {
	COFFERDAM_CAUSE_BLOCKED = 1,          /* the device has no cell, or is blocked in it */
	COFFERDAM_CAUSE_NOT_MAPPED = 2,       /* nothing is mapped there, or not with this right */
	COFFERDAM_CAUSE_ADDRESS_TOO_HIGH = 3,
	COFFERDAM_CAUSE_NOT_ALLOWED = 4,
	COFFERDAM_CAUSE_TABLE = 5,            /* the unit met a table that no driver writes: run an audit */
	COFFERDAM_CAUSE_INTERRUPT = 6,
	COFFERDAM_CAUSE_OTHER = 7
};

enum { COFFERDAM_FAULT_HAS_ADDRESS = 1, COFFERDAM_FAULT_HAS_INDEX = 2, COFFERDAM_FAULT_HAS_PASID = 4 };

/* A request that a unit blocked. */
struct cofferdam_fault {
	uint64_t unit;            /* its registers */
	uint64_t address;         /* bits 63:12 of it, if has says so */
	cofferdam_device device;  /* who sent the request */
	uint32_t pasid;
	uint16_t interrupt_index;
	uint16_t code;            /* the unit's own reason */
	uint8_t access;
	uint8_t cause;
	uint8_t has;
};

struct cofferdam_fault_log {
	uint32_t records;     /* that were read */
	uint8_t overflowed;   /* faults were lost */
	uint8_t busy;         /* another CPU is reading, or a unit is being switched on or off: some are left */
	uint8_t pending;      /* faults are left for the next call, and until then their unit sends no event */
	uint8_t unresponsive; /* a unit does not answer */
};

/*
 * Reads and clears what the units recorded, and calls each with it. Waits for nobody, so that a handler and **an NMI may call
 * it**, if each may run there, whatever they interrupted. each must not make a call. log may be null.
 */
int32_t cofferdam_faults(void (*each)(void *context, const struct cofferdam_fault *fault), void *context,
			 struct cofferdam_fault_log *log, struct cofferdam_error *error);

/*
 * Calls each with every device that had requests blocked since its unit was switched on, and how many of its faults were read.
 * Those that a unit has no place for are counted together (cofferdam_statistics.other_faults). Waits for nobody, and leaves out
 * the devices of a unit that is being switched on or off. each must not make a call but cofferdam_faults.
 */
int32_t cofferdam_faults_by_device(void (*each)(void *context, cofferdam_device device, uint64_t faults), void *context,
				   struct cofferdam_error *error);

/* The unit's own reason in words. An image has the words only if it makes this call. In any context. */
void cofferdam_fault_words(const struct cofferdam_fault *fault, cofferdam_text text, void *context);

#define COFFERDAM_NMI 2

/* Which CPU, and by which vector: 16 to 255, or COFFERDAM_NMI. */
struct cofferdam_fault_event {
	uint32_t apic_id;
	uint8_t vector;
};

/* Has every unit interrupt a CPU when it records a fault; none does if to is null. The handler calls cofferdam_faults. A unit that
 * cannot send an NMI refuses it, and sends what it sent before. */
int32_t cofferdam_set_fault_event(const struct cofferdam_fault_event *to, struct cofferdam_error *error);

/* ---- What there is ---------------------------------------------------------------------------------------------------- */

enum { COFFERDAM_UNIT_OFF = 0, COFFERDAM_UNIT_ON = 1, COFFERDAM_UNIT_FAILED = 2 };

enum {
	COFFERDAM_UNIT_IS_BLOCKING = 1, /* its devices reach what their cells were granted, and nothing else */
	COFFERDAM_UNIT_NEEDS_FLUSH = 2,
	COFFERDAM_UNIT_WAS_ON = 4,      /* somebody else had it translating when it was looked at, or was last switched on */
	COFFERDAM_UNIT_HAD_GAP = 8,     /* its devices could reach all memory for a moment when it was taken over */
	COFFERDAM_UNIT_CAN_SNOOP = 16,
	COFFERDAM_UNIT_WALKS_COHERENTLY = 32,
	COFFERDAM_UNIT_CACHES_ABSENT = 64,
	COFFERDAM_UNIT_HAS_DEVICE_TLBS = 128,
	COFFERDAM_UNIT_REMAPS_INTERRUPTS = 256, /* it can */
	COFFERDAM_UNIT_POSTS_INTERRUPTS = 512,  /* it can */
	COFFERDAM_UNIT_HAD_QUEUE = 1024,        /* found with its queue on */
	COFFERDAM_UNIT_HAD_FAULT_EVENT = 2048,  /* found sending faults to somebody */
	COFFERDAM_UNIT_HAD_INTERRUPTS = 4096    /* found remapping interrupts, by a table that is not the driver's */
};

/* A remapping unit, by its registers as they are now. */
struct cofferdam_unit {
	uint64_t base;
	uint64_t largest_page;
	uint32_t flags;
	uint32_t domain_ids;
	uint16_t segment;
	uint8_t state;
	uint8_t error;      /* why it failed: COFFERDAM_UNIT_ERROR_; or 0 */
	uint8_t input_bits;
};

int32_t cofferdam_units(void (*each)(void *context, const struct cofferdam_unit *unit), void *context,
			struct cofferdam_error *error);

struct cofferdam_statistics {
	uint64_t descriptors;
	uint64_t waits;
	uint64_t doorbells;
	uint64_t completion_errors;
	uint64_t flushes_avoided;
	uint64_t longest_wait_ns;
	uint64_t other_faults;
	uint64_t table_frames;
};

int32_t cofferdam_statistics(struct cofferdam_statistics *statistics, struct cofferdam_error *error);

struct cofferdam_region {
	uint64_t input;
	uint64_t output;
	uint64_t bytes;
	uint32_t rights;
};

/* The functions of these are called under a lock, and must not make a call but cofferdam_faults. */

/* Calls each with the memory that a cell has, ascending. */
int32_t cofferdam_regions(cofferdam_cell cell, void (*each)(void *context, const struct cofferdam_region *region),
			  void *context, struct cofferdam_error *error);

/* Calls each with the input addresses that a cell can map for the devices that it has now. */
int32_t cofferdam_input_ranges(cofferdam_cell cell, void (*each)(void *context, const struct cofferdam_range *range),
			       void *context, struct cofferdam_error *error);

struct cofferdam_assigned {
	cofferdam_cell cell;
	cofferdam_device device;
	uint32_t quarantined; /* 1: a change could not release it; it is blocked, and stays until a release succeeds */
};

/* Calls each with every device that a cell has. */
int32_t cofferdam_assigned(void (*each)(void *context, const struct cofferdam_assigned *assigned), void *context,
			   struct cofferdam_error *error);

/* Calls each with the devices that cells have whose requests carry this source-id, as a fault names it. */
int32_t cofferdam_senders(cofferdam_device source, void (*each)(void *context, const struct cofferdam_assigned *assigned),
			  void *context, struct cofferdam_error *error);

struct cofferdam_withheld {
	cofferdam_cell cell;
	struct cofferdam_range memory;
	uint32_t shared;
};

/* Calls each with memory that devices of a cell may still reach although a change that failed took it. Give it to nobody. */
int32_t cofferdam_withheld(void (*each)(void *context, const struct cofferdam_withheld *withheld), void *context,
			   struct cofferdam_error *error);

/* ---- Audit ------------------------------------------------------------------------------------------------------------ */

struct cofferdam_audit {
	uint64_t differences; /* 0: what each device reaches is what is granted */
	uint64_t functions;
	uint64_t device_tlbs;
	uint64_t ranges;
	uint64_t unremapped;
	uint64_t shared_groups; /* devices that nothing keeps apart from those of other cells, which allow that */
	uint64_t interrupts;
	uint64_t tables;
	uint64_t withheld;
	uint64_t quarantined_frames;
};

/*
 * Compares what each source-id reaches by the live tables with what is granted, and hands a line of text to text for every
 * difference. Under a lock: text must not make a call. An image has the audit only if it makes this call.
 */
int32_t cofferdam_audit(cofferdam_text text, void *context, struct cofferdam_audit *audit, struct cofferdam_error *error);

#ifdef __cplusplus
}
#endif

#endif
