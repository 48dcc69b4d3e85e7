/* From the loader to main: 32-bit protected mode without paging, then 64-bit mode at the kernel's own addresses. */

#define PHYSICAL(symbol) ((symbol) - 0xffffffff80000000)

/* How a PVH loader finds the entry (Xen, docs/misc/pvh.pandoc). */
.section .note.pvh, "a", @note
.balign 4
	.long 4, 8, 18              /* bytes of the name, bytes of the value, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.quad PHYSICAL(entry32)

.section .text.entry, "ax", @progbits
.code32
.global entry32
entry32:
	cli
	cld
	/* Four directories of pages of 2 MiB, for the first 4 GiB: present, writable, large. */
	mov $PHYSICAL(directories), %edi
	mov $0x83, %eax
	mov $2048, %ecx
1:	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 1b
	mov $PHYSICAL(low_pointers), %edi
	mov $(PHYSICAL(directories) + 3), %eax
	mov $4, %ecx
2:	mov %eax, (%edi)
	add $0x1000, %eax
	add $8, %edi
	loop 2b
	/* The image at the last GiB but one, devices and stacks in the last. */
	movl $(PHYSICAL(directories) + 3), PHYSICAL(high_pointers) + 510 * 8
	movl $(PHYSICAL(last_directory) + 3), PHYSICAL(high_pointers) + 511 * 8
	movl $(PHYSICAL(device_pages) + 3), PHYSICAL(last_directory)
	movl $(PHYSICAL(stack_pages) + 3), PHYSICAL(last_directory) + 8
	/* One to one until the jump, the direct map, and the last 512 GiB. */
	movl $(PHYSICAL(low_pointers) + 3), PHYSICAL(root_table)
	movl $(PHYSICAL(low_pointers) + 3), PHYSICAL(root_table) + 256 * 8
	movl $(PHYSICAL(high_pointers) + 3), PHYSICAL(root_table) + 511 * 8
	/* The stack of main: page 1, above the guard that page 0 is. And so on. */
	mov $(PHYSICAL(stacks) + 3), %eax
	mov $PHYSICAL(stack_pages), %edi
	mov $3, %ecx
3:	mov %eax, 8(%edi)
	add $0x1000, %eax
	add $16, %edi
	loop 3b

	mov $PHYSICAL(root_table), %eax
	mov %eax, %cr3
	mov %cr4, %eax
	or $0x20, %eax              /* PAE */
	mov %eax, %cr4
	mov $0xc0000080, %ecx       /* EFER.LME */
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80010001, %eax        /* PG, WP, PE */
	and $0x9fffffff, %eax       /* caches on */
	mov %eax, %cr0
	lgdt PHYSICAL(early_gdt)
	ljmp $8, $PHYSICAL(entry64)

.code64
entry64:
	movabs $high, %rax
	jmp *%rax
high:	movq $0, root_table(%rip)   /* nothing is one to one from here on */
	mov %cr3, %rax
	mov %rax, %cr3
	xor %eax, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	/* Each stack is painted before it is used. */
	movabs $0xffffffffc0201000, %rdi
	mov $3, %ecx
4:	mov %ecx, %edx
	mov $512, %ecx
	movabs $0x5a5a5a5a5a5a5a5a, %rax
	rep stosq
	add $0x1000, %rdi           /* the guard of the next */
	mov %edx, %ecx
	loop 4b
	movabs $0xffffffffc0202000, %rsp
	mov %ebx, %edi              /* the physical address of the start info */
	xor %ebp, %ebp
	call main
5:	hlt
	jmp 5b

.section .rodata.entry, "a", @progbits
.balign 8
gdt:	.quad 0
	.quad 0x00af9b000000ffff    /* code of 64 bits, ring 0 */
early_gdt:
	.word . - gdt - 1
	.long PHYSICAL(gdt)

.section .bss.entry, "aw", @nobits
.balign 4096
.global device_pages
root_table:	.skip 4096
low_pointers:	.skip 4096
high_pointers:	.skip 4096
last_directory:	.skip 4096
device_pages:	.skip 4096
stack_pages:	.skip 4096
directories:	.skip 4 * 4096
stacks:		.skip 3 * 4096
.section .note.GNU-stack, "", @progbits
