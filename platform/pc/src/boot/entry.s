# A loader starts the CPU in 32-bit protected mode, paging off, interrupts off, flat segments, with the physical address of
# what it tells in EBX: by PVH at pvh_start (Xen, docs/misc/pvh.pandoc, "x86/HVM direct boot ABI"), by multiboot2 at
# multiboot2_start (Multiboot2 specification, 3.3).

.section .note.Xen, "a", @note
.balign 4
    .long 4                     # bytes of the name
    .long 8                     # bytes of the value
    .long 18                    # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .balign 4
    .quad pvh_start

# How a multiboot2 loader finds the entry (Multiboot2 specification, 3.1): within the first 32 KiB of the file.
.section .multiboot2, "a", @progbits
.balign 8
multiboot2_header:
    .long 0xe85250d6
    .long 0                     # 32-bit protected mode
    .long multiboot2_end - multiboot2_header
    .long -(0xe85250d6 + (multiboot2_end - multiboot2_header))
    # The entry (3.1.6), instead of the one that the ELF file names.
    .short 3, 0
    .long 12
    .long multiboot2_start
    .balign 8
    # A screen (3.1.10), if there is one: so many pixels of 32 bits.
    .short 5, 1
    .long 20
    .long 1024, 768, 32
    .balign 8
    .short 0, 0
    .long 8
multiboot2_end:

.section .text.pvh_start, "ax", @progbits
.code32
.global multiboot2_start
multiboot2_start:
    mov $1, %esi
    jmp 1f

.global pvh_start
pvh_start:
    xor %esi, %esi
    # ESI says by which protocol, EBX what was told.
1:  cli
    cld

    # The first 4 GiB one to one, in pages of 2 MiB: present, writable, PS.
    mov $boot_directories, %edi
    mov $0x83, %eax
    mov $2048, %ecx
1:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 1b
    # But for the first of the image: the stack grows down towards it, and what runs over faults.
    movl $0, boot_guard

    # One directory of 4 KiB for each GiB: present, writable.
    mov $boot_pointers, %edi
    mov $(boot_directories + 3), %eax
    mov $4, %ecx
2:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $0x1000, %eax
    add $8, %edi
    loop 2b
    movl $(boot_pointers + 3), boot_root
    movl $0, boot_root + 4

    mov $boot_root, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x20, %eax              # PAE
    mov %eax, %cr4
    mov $0xc0000080, %ecx       # EFER
    rdmsr
    or $0x100, %eax             # LME
    wrmsr
    mov %cr0, %eax
    or $0x80010001, %eax        # PG, WP, PE
    and $0x9fffffff, %eax       # caches on: CD, NW off
    mov %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $8, $3f

.code64
3:  xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss
    mov $stack_top, %esp
    mov %ebx, %edi
    xor %ebp, %ebp
    call pc_start
4:  hlt
    jmp 4b

.section .rodata.boot, "a", @progbits
.balign 8
.global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # 64-bit code, ring 0
boot_gdt_pointer:
    .word . - boot_gdt - 1
    .long boot_gdt

.section .bss.boot, "aw", @nobits
.balign 4096
.global boot_root
boot_root:
    .skip 0x1000
boot_pointers:
    .skip 0x1000
.global boot_directories
boot_directories:
    .skip 0x4000
.text
