// The way into a guest and out of it.
//
// A guest's general registers are in its Context while Trivet runs, and the other way round: Trivet's callee-saved ones are on
// its stack while the guest runs, and SP_EL2 points at the Context. So an exit needs no scratch register to find where to save,
// and the guest's registers go to memory once.
//
//   Context (enter.rs): x0 to x30 at 0, stack pointer of the host at 248, pc at 256, pstate at 264
//
// Who takes an exception while SP_EL2 points at a Context would push into it: nothing in here can raise one (the Context is
// mapped, aligned and ours; interrupts and SErrors are masked at EL2).

.section .text.trivet_enter, "ax"
.balign 64

// u64 trivet_enter(Context *): runs the guest; returns ESR_EL2, or a class that has no syndrome (exits.rs, ec).
.globl trivet_enter
.type trivet_enter, %function
trivet_enter:
    stp     x29, x30, [sp, #-96]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    mov     x9, sp
    str     x9, [x0, #248]
    ldp     x10, x11, [x0, #256]
    msr     elr_el2, x10
    msr     spsr_el2, x11
    mov     sp, x0
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldr     x30, [sp, #240]
    ldp     x0, x1, [sp]
    // A context synchronization event: what was written to system registers holds for the guest's first instruction.
    eret
    // Processors may speculate past an eret.
    dsb     nsh
    isb
.size trivet_enter, . - trivet_enter

// Saves the guest's registers and goes back to who called trivet_enter, with x0 as the given instruction sets it.
.macro leave instruction:vararg
    stp     x0, x1, [sp]
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
    str     x30, [sp, #240]
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    stp     x2, x3, [sp, #256]
    \instruction
    ldr     x4, [sp, #248]
    mov     sp, x4
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp], #96
    ret
.endm

// The vectors for exceptions from a lower level that runs AArch64 lead here, with no register changed. (Those for a lower level
// that runs AArch32 are never taken: it is EL1 that decides, and EL1 is AArch64 whatever EL0 runs.)

.globl trivet_exit_sync
.type trivet_exit_sync, %function
trivet_exit_sync:
    leave   mrs x0, esr_el2
.size trivet_exit_sync, . - trivet_exit_sync

.globl trivet_exit_interrupt
.type trivet_exit_interrupt, %function
trivet_exit_interrupt:
    leave   mov x0, #0xfc000000
.size trivet_exit_interrupt, . - trivet_exit_interrupt

.globl trivet_exit_serror
.type trivet_exit_serror, %function
trivet_exit_serror:
    leave   mov x0, #0xf8000000
.size trivet_exit_serror, . - trivet_exit_serror
