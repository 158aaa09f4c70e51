/*
 * Exception vectors that let the program go on whatever its accesses raise: the instruction is skipped, or, if it is a place
 * without instructions that was called, its caller returned to. Anything but a synchronous exception comes back with
 * everything masked. Counted in `refused`, by one vCPU's word each; no stack is needed.
 */
    .text
    .balign 2048
    .globl  vectors
vectors:
    .rept   4
    b       .
    .balign 128
    .endr

    msr     tpidr_el1, x0
    msr     tpidr_el0, x1
    b       skip
    .balign 128

    .rept   3
    msr     tpidr_el1, x0
    mrs     x0, spsr_el1
    orr     x0, x0, #0x3c0
    msr     spsr_el1, x0
    mrs     x0, tpidr_el1
    eret
    .balign 128
    .endr

    .rept   8
    b       .
    .balign 128
    .endr

skip:
    mrs     x0, mpidr_el1
    and     x0, x0, #1
    adrp    x1, refused
    add     x1, x1, :lo12:refused
    add     x1, x1, x0, lsl #3
    ldr     x0, [x1]
    add     x0, x0, #1
    str     x0, [x1]
    mrs     x0, esr_el1
    lsr     x0, x0, #26
    cmp     x0, #0x21               /* an instruction abort in EL1 */
    mrs     x1, elr_el1
    add     x1, x1, #4
    csel    x1, x30, x1, eq
    msr     elr_el1, x1
    mrs     x0, tpidr_el1
    mrs     x1, tpidr_el0
    eret

/*
 * Single instructions to be called, with a value in x0 and an address in x1; x0 to x3 may change. Eight bytes each. The
 * name is the one under which an image may touch vector registers.
 */
    .macro  single instruction:vararg
    \instruction
    ret
    .endm

    .arch   armv8.1-a+fp+simd+lse
    .balign 8
    .globl  __trivet_state_switch_accesses, accesses_end, calls, calls_end
__trivet_state_switch_accesses:
    single  ldrb w0, [x1]
    single  ldrh w0, [x1]
    single  ldr w0, [x1]
    single  ldr x0, [x1]
    single  strb w0, [x1]
    single  strh w0, [x1]
    single  str w0, [x1]
    single  str x0, [x1]
    /* Once more, for these are what the devices are for. */
    single  ldr w0, [x1]
    single  str w0, [x1]
    single  str w0, [x1]
    single  str x0, [x1]
    single  ldrsb x0, [x1]
    single  ldrsh x0, [x1]
    single  ldrsb w0, [x1]
    single  ldrsw x0, [x1]
    single  str wzr, [x1]
    single  ldr xzr, [x1]
    /* Without a syndrome that says all of it. */
    single  ldp x0, x2, [x1]
    single  stp x0, x2, [x1]
    single  ldr x0, [x1], #8
    single  str x0, [x1, #8]!
    single  ldr q0, [x1]
    single  str q0, [x1]
    single  ldar x0, [x1]
    single  stlr x0, [x1]
    single  ldxr x0, [x1]
    single  stxr w2, x0, [x1]
    single  ldadd x0, x2, [x1]
    single  swp x0, x2, [x1]
    single  cas x0, x2, [x1]
    /* No access at all, or one that is not allowed. */
    single  prfm pldl1keep, [x1]
    single  dc zva, x1
    single  dc civac, x1
    single  dc ivac, x1
    single  ic ivau, x1
    single  at s1e1r, x1
    single  at s1e0w, x1
    single  br x1
accesses_end:

/* A call, with x0 to x3 as they are. */
calls:
    single  hvc #0
    single  smc #0
    single  hvc #1
    single  hvc #0xffff
    single  smc #0x1234
calls_end:

/* one(x0 = value, x1 = address, x2, x3, x4 = what is called): x0 afterwards. */
    .globl  one
one:
    stp     x29, x30, [sp, #-16]!
    blr     x4
    ldp     x29, x30, [sp], #16
    ret

/* publish(x0 = address of an instruction that was written): it can be executed. */
    .globl  publish
publish:
    dc      cvau, x0
    dsb     ish
    ic      ivau, x0
    dsb     ish
    isb
    ret

    .bss
    .balign 8
    .globl  refused
refused:
    .space  16
    .text
