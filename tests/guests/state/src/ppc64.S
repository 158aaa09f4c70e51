/*
 * __trivet_state_switch_fill(seed): VSR n holds seed + n in both halves, and the special registers parts of the seed.
 * The name is the one under which an image may touch these registers at all.
 */
    .text
    .balign 16
    .globl  __trivet_state_switch_fill
__trivet_state_switch_fill:
    mfmsr   6
    ori     6, 6, 0x2000            /* FP */
    oris    6, 6, 0x0280            /* VEC | VSX */
    mtmsrd  6
    isync
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63
    addi    4, 3, \n
    mtvsrdd \n, 4, 4
    .endr
    clrldi  4, 3, 32
    mtspr   256, 4                  /* VRSAVE */
    mtspr   815, 3                  /* TAR */
    mtspr   29, 3                   /* AMR */
    clrldi  4, 3, 61
    mtspr   17, 4                   /* DSCR */
    blr

/* __trivet_state_switch_lost(seed): how many of them hold something else. */
    .balign 16
    .globl  __trivet_state_switch_lost
__trivet_state_switch_lost:
    li      7, 0
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63
    addi    4, 3, \n
    mfvsrd  5, \n
    mfvsrld 6, \n
    xor     5, 5, 4
    xor     6, 6, 4
    or      5, 5, 6
    cmpdi   5, 0
    beq     1f
    addi    7, 7, 1
1:
    .endr
    clrldi  4, 3, 32
    mfspr   5, 256
    cmpd    4, 5
    beq     1f
    addi    7, 7, 1
1:  mfspr   5, 815
    cmpd    3, 5
    beq     1f
    addi    7, 7, 1
1:  mfspr   5, 29
    cmpd    3, 5
    beq     1f
    addi    7, 7, 1
1:  clrldi  4, 3, 61
    mfspr   5, 17
    cmpd    4, 5
    beq     1f
    addi    7, 7, 1
1:  mr      3, 7
    blr
    .globl  guest_state_end
guest_state_end:
