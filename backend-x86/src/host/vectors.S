/* Trivet's own interrupts and exceptions.

   Interrupts are enabled for one instruction at a time (vectors.rs: `take`, `wait`), which lends the handlers RAX, RCX and RDX
   and finds in ESI what was taken. Exceptions are bugs: all that is known is collected for the board's report. */

.section .text.vectors, "ax"

.macro taken name, bit
    .balign 16
\name:
    or esi, \bit
    jmp 9f
.endm

.globl trivet_taken_kick
.globl trivet_taken_timer
.globl trivet_taken_console
.globl trivet_taken_stray
.globl trivet_taken_spurious
.globl trivet_exceptions

    taken trivet_taken_kick, 1
    taken trivet_taken_timer, 2
    taken trivet_taken_console, 4
    taken trivet_taken_stray, 8
9:  /* The end of interrupt. */
    cmp byte ptr [rip + TRIVET_X2APIC], 0
    je 1f
    mov ecx, 0x80b
    xor eax, eax
    xor edx, edx
    wrmsr
    iretq
1:  mov eax, 0xfee000b0
    mov dword ptr [rax], 0
    iretq

    /* There was none after all: nothing to end. */
    .balign 16
trivet_taken_spurious:
    iretq

/* Vectors 0 to 31, 16 bytes each. Those without an error code get 0. */
    .balign 16
trivet_exceptions:
    .set n, 0
    .rept 32
    .balign 16
    .if (0x60227d00 >> n) & 1
    .else
    push 0
    .endif
    push n
    jmp 2f
    .set n, n + 1
    .endr

/* Makes a `Trap` on the stack. */
2:  push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    mov rax, cr2
    push rax
    mov rdi, rsp
    cld
    and rsp, -16
    call trivet_trap
    ud2
