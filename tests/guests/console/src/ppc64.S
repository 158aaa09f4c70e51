    .text

/* spin_closed(ticks): interrupts stay off, and nothing is called. */
    .balign 16
    .globl  spin_closed
spin_closed:
    mftb    4
1:  mftb    5
    subf    5, 4, 5
    cmpld   5, 3
    blt     1b
    blr

/*
 * spin_open(ticks): interrupts on until the external one was taken or the ticks have passed, then off.
 * Returns the ticks from before interrupts went on until the vector's first instructions, or -1.
 */
    .balign 16
    .globl  spin_open
spin_open:
    lis     5, arrived@h
    ori     5, 5, arrived@l
    li      0, 0
    std     0, 0(5)
    ori     6, 0, 0x8002            /* EE and RI, all that mtmsrd with 1 changes */
    mftb    7
    mtmsrd  6, 1
1:  ld      8, 0(5)
    cmpdi   8, 0
    bne     2f
    mftb    9
    subf    9, 7, 9
    cmpld   9, 3
    blt     1b
    li      6, 2
    mtmsrd  6, 1
    li      3, -1
    blr
2:  subf    3, 7, 8
    blr

/* cede(): H_CEDE, then interrupts off. Returns 1 if the external interrupt was taken meanwhile, or 0. */
    .balign 16
    .globl  cede
cede:
    lis     5, arrived@h
    ori     5, 5, arrived@l
    std     5, -8(1)
    li      0, 0
    std     0, 0(5)
    li      3, 0xe0
    sc      1
    li      6, 2
    mtmsrd  6, 1
    ld      5, -8(1)
    ld      8, 0(5)
    li      3, 0
    cmpdi   8, 0
    beqlr
    li      3, 1
    blr

/* publish_code(start, end): what was written there can be executed. */
    .balign 16
    .globl  publish_code
publish_code:
    mr      5, 3
1:  dcbst   0, 5
    addi    5, 5, 128
    cmpld   5, 4
    blt     1b
    sync
2:  icbi    0, 3
    addi    3, 3, 128
    cmpld   3, 4
    blt     2b
    sync
    isync
    blr

/*
 * What is copied to the vectors, at most 0x80 bytes each. None of it needs a stack or changes a register that the
 * interrupted code uses.
 */
    .balign 16
    .globl  vector_external, vector_external_end
vector_external:
    mtsprg  1, 3
    mtsprg  2, 4
    mftb    4
    lis     3, arrived@h
    ori     3, 3, arrived@l
    std     4, 0(3)
    /* The line stays up until the interrupt is accepted: return with interrupts off. */
    mfspr   4, 27
    rldicl  4, 4, 48, 1
    rotldi  4, 4, 16
    mtspr   27, 4
    mfsprg  3, 1
    mfsprg  4, 2
    rfid
vector_external_end:

    .globl  vector_decrementer, vector_decrementer_end
vector_decrementer:
    mtsprg  1, 3
    lis     3, 0x7fff
    mtdec   3
    mfsprg  3, 1
    rfid
vector_decrementer_end:

    .globl  vector_other, vector_other_end
vector_other:
    bcl     20, 31, 1f
1:  mflr    4
    mfspr   3, 26
    lis     12, unexpected@h
    ori     12, 12, unexpected@l
    mtctr   12
    bctr
vector_other_end:

/* Timebase at which the external interrupt's vector was entered; 0 until then. */
    .bss
    .balign 8
arrived:
    .space  8
