/* Where the CPU enters for faults, the NMI and the device's interrupt. The library leaves vector registers alone, and so do these. */

.macro save
	push %rax; push %rcx; push %rdx; push %rsi; push %rdi; push %r8; push %r9; push %r10; push %r11
	cld
.endm
.macro restore
	pop %r11; pop %r10; pop %r9; pop %r8; pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rax
.endm

.section .text.handlers, "ax", @progbits

/* Nine registers and five words of the CPU: the stack is aligned to 16 bytes as a call needs it. */
.global nmi_entry
nmi_entry:
	save
	call on_nmi
	restore
	iretq

.global device_entry
device_entry:
	save
	call on_device
	restore
	iretq

/* One entry for each exception, 16 bytes apart: its number, then on to one place. The kernel does not come back from there. */
.global exception_entries
.balign 16
exception_entries:
	.set vector, 0
	.rept 32
	.balign 16
	mov $vector, %edi
	jmp exception
	.set vector, vector + 1
	.endr

exception:
	mov (%rsp), %rsi            /* the error code or the address, by the exception */
	mov 8(%rsp), %rdx
	mov %cr2, %rcx
	and $-16, %rsp
	call on_exception
	hlt
.section .note.GNU-stack, "", @progbits
