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

/*
 * Puts an entry into a group of the table and takes it out again: H_ENTER, H_REMOVE.
 */
    .balign 32
    .globl  time_enter_remove       /* r3 = group's first entry, r4 = v, r5 = r */
time_enter_remove:
    mr      6, 4
    mr      7, 5
    mr      5, 3
    li      4, 0                    /* anywhere in the group */
    mftb    12
    li      3, 0x08                 /* H_ENTER: flags, entry, v, r; the entry comes back in r4 */
    sc      1
    mr      8, 3
    mr      5, 4
    li      4, 0                    /* whatever it is */
    li      3, 0x04                 /* H_REMOVE: flags, entry */
    sc      1
    mftb    9
    or.     8, 8, 3
    bne     1f
    subf    3, 12, 9
    blr
1:  li      3, -1                   /* refused */
    blr
