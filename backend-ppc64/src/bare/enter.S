/*
 * Into a guest, and out of it again.
 *
 * trivet_guest_enter(r3 = vcpu::layout::HvGuestState, r4 = vcpu::layout::Registers) returns in r3 the vector by which the
 * guest left. HSPRG0 holds the address of its stack frame while the guest runs, with the top bits of an address that is
 * good with translation on and off.
 */
    .set    FRAME, 256
    .set    F_TOC, 24
    .set    F_R13, 48                       /* r13 to r31 */
    .set    F_STATE, 200
    .set    F_REGISTERS, 208
    .set    F_R12, 216                      /* the guest's, from here on; bare::vectors knows them */
    .set    F_R11, 224
    .set    F_R10, 232
    .set    F_CTR, 240

    .set    H_SRR0, 160                     /* of HvGuestState; bare::enter asserts all of these */
    .set    H_SRR1, 168
    .set    R_NIP, 256                      /* of Registers */
    .set    R_MSR, 264
    .set    R_CTR, 280
    .set    R_LINK, 288
    .set    R_XER, 296
    .set    R_CCR, 304

    .section .text.trivet_guest_enter, "ax", @progbits
    .balign 16
    .globl  trivet_guest_enter
trivet_guest_enter:
    mflr    0
    std     0, 16(1)
    mfcr    0
    stw     0, 8(1)
    stdu    1, -FRAME(1)
    std     2, F_TOC(1)
    .set    slot, F_R13
    .irp    r, 13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std     \r, slot(1)
    .set    slot, slot + 8
    .endr
    std     3, F_STATE(1)
    std     4, F_REGISTERS(1)
    li      5, 3
    sldi    5, 5, 62
    or      5, 5, 1
    mtspr   304, 5                          /* HSPRG0 */
    ld      5, H_SRR0(3)
    mtsrr0  5
    ld      5, H_SRR1(3)
    mtsrr1  5
    ld      5, R_NIP(4)
    mtspr   314, 5                          /* HSRR0 */
    ld      5, R_MSR(4)
    mtspr   315, 5                          /* HSRR1 */
    ld      5, R_CTR(4)
    mtctr   5
    ld      5, R_LINK(4)
    mtlr    5
    ld      5, R_XER(4)
    mtxer   5
    ld      5, R_CCR(4)
    mtcr    5
    .irp    r, 0,1,2,3,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld      \r, (\r * 8)(4)
    .endr
    ld      4, 32(4)
    hrfid

/* From bare::vectors, in real mode: r13 = the frame, r12 = vector; HSPRG1 = the guest's r13, its r10 to r12 and CTR are in the
   frame. */
    .balign 16
    .globl  trivet_guest_exit
trivet_guest_exit:
    ld      11, F_REGISTERS(13)
    .irp    r, 0,1,2,3,4,5,6,7,8,9,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std     \r, (\r * 8)(11)
    .endr
    ld      0, F_R10(13)
    std     0, 80(11)
    ld      0, F_R11(13)
    std     0, 88(11)
    ld      0, F_R12(13)
    std     0, 96(11)
    mfspr   0, 305                          /* HSPRG1 */
    std     0, 104(11)
    ld      0, F_CTR(13)
    std     0, R_CTR(11)
    mflr    0
    std     0, R_LINK(11)
    mfxer   0
    std     0, R_XER(11)
    mfcr    0
    std     0, R_CCR(11)
    ld      10, F_STATE(13)
    mfsrr0  3
    mfsrr1  4
    std     3, H_SRR0(10)
    std     4, H_SRR1(10)
    cmpwi   12, 0xc00                       /* the one exit that uses the guest's own pair */
    beq     1f
    mfspr   3, 314
    mfspr   4, 315
1:  std     3, R_NIP(11)
    std     4, R_MSR(11)
    rldicl. 0, 4, 4, 63                     /* MSR[HV]: it was not the guest that was interrupted */
    bne     2f
    mr      1, 13
    mr      3, 12
    ld      2, F_TOC(1)
    .set    slot, F_R13
    .irp    r, 13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld      \r, slot(1)
    .set    slot, slot + 8
    .endr
    addi    1, 1, FRAME
    lwz     0, 8(1)
    mtcr    0
    ld      0, 16(1)
    mtlr    0
    blr
    /* What follows reports a trap that came by SRR0 and SRR1: SPRG0 = old r3, SPRG1 = old LR, r3 = vector. */
2:  mtsrr0  3
    mtsrr1  4
    ld      0, 24(11)
    mtsprg  0, 0
    ld      0, R_LINK(11)
    mtsprg  1, 0
    mr      3, 12
    .irp    r, 0,4,10,12,13,11
    ld      \r, (\r * 8)(11)
    .endr
    b       trivet_trap_entry
