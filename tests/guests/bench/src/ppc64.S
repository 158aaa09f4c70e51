    .text

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

    .balign 32
    .globl  time_load               /* r3 = address */
time_load:
    mftb    9
    lbz     4, 0(3)
    twi     0, 4, 0                 /* never traps, and waits for the load */
    isync
    mftb    3
    subf    3, 9, 3
    blr
