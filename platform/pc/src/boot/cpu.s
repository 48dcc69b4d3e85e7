# Another CPU starts here: in real mode, at the page that its start-up message names (SDM 3A, section 9.4). What stands here
# runs in a copy at {page}, below 1 MiB; all beyond is where it was linked.

.section .rodata.cpu_start, "a", @progbits
.global cpu_start
.global cpu_start_end
.code16
cpu_start:
    cli
    cld
    xor %ax, %ax
    mov %ax, %ds
    lgdtl 1f - cpu_start + {page}
    mov %cr4, %eax
    or $0x20, %eax              # PAE
    mov %eax, %cr4
    mov $boot_root, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx       # EFER
    rdmsr
    or $0x100, %eax             # LME
    wrmsr
    mov %cr0, %eax
    or $0x80010001, %eax        # PG, WP, PE
    and $0x9fffffff, %eax       # caches on: CD, NW off
    mov %eax, %cr0
    ljmpl $8, $cpu_long
1:  .word 15
    .long boot_gdt
cpu_start_end:

.section .text.cpu_long, "ax", @progbits
.code64
cpu_long:
    xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss
    mov {stack}, %rsp
    xor %ebp, %ebp
    call {run}
1:  hlt
    jmp 1b
.text
