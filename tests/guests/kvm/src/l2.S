/*
 * What runs as a guest of the guest, from the first instruction on: translation off, interrupts off, little-endian.
 * Calls go by PAPR's numbers of the console's, which Linux's KVM leaves to the program. r4 of an answer and onwards are its
 * values, as in PAPR.
 */
    .section .rodata.l2, "a", @progbits
    .balign 8
    .globl  l2_start
l2_start:
    li      3, 0x54
    sc      1                       /* r4: how many pages, r5: the first, r6: from one to the next */
    mtctr   4
    mr      7, 5
1:  std     7, 0(7)
    add     7, 7, 6
    bdnz    1b
    mtctr   4
    mr      7, 5
    li      8, 0
2:  ld      9, 0(7)
    cmpd    9, 7
    bne     3f
    addi    8, 8, 1
3:  add     7, 7, 6
    bdnz    2b
    li      3, 0x58
    mr      4, 8
    sc      1                       /* r4: where a device is */
    mfmsr   9
    ori     9, 9, 0x30              /* IR | DR */
    mtmsrd  9
    isync
    lwz     5, 0(4)
    li      3, 0x58
    mr      4, 5
    sc      1
    b       .
    .globl  l2_end
l2_end:
/* Stands at every vector: no interrupt is expected. */
    .globl  l2_vector
l2_vector:
    li      3, 0
    sc      1
    b       .
    .globl  l2_vector_end
l2_vector_end:
    .previous
