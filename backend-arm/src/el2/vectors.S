/*
 * EL2's vectors (DDI 0487, D1.3.1: 16 of 128 bytes each). Those for exceptions from EL1 belong to vcpu/enter.S, which finds
 * every register as the guest left it. All others are Trivet's own bugs and end in trivet_trap(Trap *); interrupts are masked
 * at EL2 and never come here.
 */

/* Struct Trap of vectors.rs begins at sp. */
.macro trap vector
    .balign 128
    sub     sp, sp, #304
    stp     x0, x1, [sp]
    mov     x0, #\vector
    b       trap
.endm

.macro guest where
    .balign 128
    b       \where
.endm

    .section .text.vectors, "ax", @progbits
    .balign 2048
    .globl  trivet_vectors
trivet_vectors:
    trap    0                       /* EL2 with SP_EL0: never used */
    trap    1
    trap    2
    trap    3
    trap    4                       /* EL2 */
    trap    5
    trap    6
    trap    7
    guest   trivet_exit_sync        /* EL1 or EL0 under an AArch64 EL1 */
    guest   trivet_exit_interrupt
    guest   trivet_exit_interrupt   /* FIQ: group 0, of which we enable none */
    guest   trivet_exit_serror
    trap    12                      /* an AArch32 EL1: HCR_EL2.RW forbids it */
    trap    13
    trap    14
    trap    15

    .balign 128
trap:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    add     x1, sp, #304
    stp     x30, x1, [sp, #240]
    mrs     x1, elr_el2
    mrs     x2, spsr_el2
    stp     x1, x2, [sp, #256]
    mrs     x1, esr_el2
    mrs     x2, far_el2
    stp     x1, x2, [sp, #272]
    str     x0, [sp, #288]
    mov     x0, sp
    bl      trivet_trap
1:  wfe
    b       1b
