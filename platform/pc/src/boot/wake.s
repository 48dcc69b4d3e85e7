# Suspend to RAM, and the way back. What was loaded where it is linked is loaded again when the machine wakes, stack and page
# tables with it, so a copy of all that is made before, and put back first of all.

.section .text.sleep_now, "ax", @progbits
.code64
# sleep_now(copy: RDI, port: ESI, value: EDX): copies the image, and writes the value to the port.
.global sleep_now
sleep_now:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, sleep_stack
    mov %edx, %eax
    mov %esi, %edx
    mov $stack_bottom, %esi
    mov $image_end, %ecx
    sub %esi, %ecx
    shr $2, %ecx
    cld
    rep movsl
    out %ax, %dx
1:  hlt
    jmp 1b

# The other end of it.
wake_long:
    xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss
    mov sleep_stack, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

# Firmware jumps here in real mode (ACPI 6.5, section 5.2.10), at {page}: what stands here runs in a copy there.
.section .rodata.wake, "a", @progbits
.global wake_start
.global wake_end
.code16
wake_start:
    cli
    cld
    xor %ax, %ax
    mov %ax, %ds
    lgdtl 3f - wake_start + {page}
    mov %cr0, %eax
    or $1, %eax                 # PE
    mov %eax, %cr0
    ljmpl $16, $1f - wake_start + {page}
.code32
1:  mov $24, %eax
    mov %eax, %ds
    mov %eax, %es
    mov 4f - wake_start + {page}, %esi
    mov $stack_bottom, %edi
    mov $image_end, %ecx
    sub %edi, %ecx
    shr $2, %ecx
    rep movsl
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
    ljmpl $8, $wake_long
.balign 8
2:  .quad 0
    .quad 0x00af9b000000ffff    # 64-bit code, ring 0
    .quad 0x00cf9b000000ffff    # 32-bit code
    .quad 0x00cf93000000ffff    # data
3:  .word 31
    .long 2b - wake_start + {page}
    .balign 4
4:  .long 0                     # where the copy of the image is
wake_end:

.section .bss.sleep, "aw", @nobits
.balign 8
sleep_stack:
    .skip 8
.code64
.text
