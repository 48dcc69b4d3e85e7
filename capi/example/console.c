/* What the kernel says, on the first serial port, and how it ends. */
#include "kernel.h"

#define SERIAL 0x3f8
#define DEBUG_EXIT 0xf4 /* -device isa-debug-exit,iobase=0xf4,iosize=4 */

enum { EXIT_HELD = 0x10, EXIT_FAILED = 0x11, EXIT_CRASHED = 0x12 };

static unsigned checks, failed;

void console_init(void)
{
	out8(SERIAL + 1, 0);    /* no interrupts */
	out8(SERIAL + 3, 0x80); /* 115200 baud */
	out8(SERIAL, 1);
	out8(SERIAL + 1, 0);
	out8(SERIAL + 3, 3);    /* 8 bits */
	out8(SERIAL + 2, 7);    /* FIFOs on and empty */
}

void print_bytes(void *context, const char *text, size_t bytes)
{
	(void)context;
	for (size_t i = 0; i < bytes; i++) {
		while (!(in8(SERIAL + 5) & 0x20))
			;
		out8(SERIAL, (uint8_t)text[i]);
	}
}

void print(const char *text)
{
	size_t bytes = 0;
	while (text[bytes])
		bytes++;
	print_bytes(NULL, text, bytes);
}

static void print_in(uint64_t number, unsigned base)
{
	char digits[20];
	unsigned at = sizeof(digits);
	do {
		digits[--at] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
	print_bytes(NULL, digits + at, sizeof(digits) - at);
}

void print_number(uint64_t number)
{
	print_in(number, 10);
}

void print_hex(uint64_t number)
{
	print("0x");
	print_in(number, 16);
}

bool check(bool holds, const char *what)
{
	checks++;
	failed += !holds;
	print(holds ? "ok     " : "FAILED ");
	print(what);
	print("\n");
	return holds;
}

bool check_call(int32_t code, const struct cofferdam_error *error, const char *what)
{
	char words[160];
	if (code != COFFERDAM_OK) {
		cofferdam_error_words(error, words, sizeof(words));
		print("error: ");
		print(words);
		print("\n");
	}
	return check(code == COFFERDAM_OK, what);
}

static _Noreturn void leave(uint32_t status)
{
	out32(DEBUG_EXIT, status);
	for (;;)
		__asm__ volatile("cli; hlt");
}

_Noreturn void finish(void)
{
	print("finished: ");
	print_number(checks);
	print(" checks, ");
	print_number(failed);
	print(" failed\n");
	leave(failed == 0 && checks != 0 ? EXIT_HELD : EXIT_FAILED);
}

_Noreturn void crash(const char *what, uint64_t at)
{
	print("FAILED ");
	print(what);
	print(" at ");
	print_hex(at);
	print("\n");
	leave(EXIT_CRASHED);
}
