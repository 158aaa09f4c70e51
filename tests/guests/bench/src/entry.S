/* vCPU 0 begins here, at real address 0x10000, little-endian, translation off; r3 = device tree, which is not needed. */
    .section .text.start, "ax", @progbits
    .globl  _start
_start:
    bcl     20, 31, 1f
1:  mflr    30
    addis   2, 30, .TOC. - 1b@ha
    addi    2, 2, .TOC. - 1b@l
    ld      1, 3f - 1b(30)
    li      0, 0
    stdu    0, -112(1)
    bl      guest_main
    nop
2:  b       2b
    .balign 8
3:  .quad   __stack_top

/* hypercall(number, argument, argument, argument, argument) */
    .text
    .balign 16
    .globl  hypercall
hypercall:
    sc      1
    blr

/*
 * The measured sequences, in assembly so that nothing else lies between the two readings of the timebase.
 * Each returns the ticks.
 */
    .balign 32
    .globl  time_nothing
time_nothing:
    mftb    9
    mftb    3
    subf    3, 9, 3
    blr

    .balign 32
    .globl  time_hypercall          /* r3 = number */
time_hypercall:
    mftb    9
    sc      1
    mftb    3
    subf    3, 9, 3
    blr

    .balign 32
    .globl  time_store              /* r3 = address */
time_store:
    li      4, 1
    mftb    9
    stb     4, 0(3)
    mftb    3
    subf    3, 9, 3
    blr
