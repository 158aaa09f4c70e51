/* Floating-point and vector state of a vCPU. The hypervisor itself is built without either, so these registers hold
   the last guest's values until another one's are loaded; only these two routines touch them.
   r3 = the area: VSR 0..63 (16 bytes each), FPSCR at 1024, VSCR at 1040, VRSAVE at 1056. 16-byte aligned. */
    .text
    .balign 16
    .globl  __trivet_state_switch_save
__trivet_state_switch_save:
    mfmsr   6
    ori     7, 6, 0x2000            /* FP */
    oris    7, 7, 0x0280            /* VEC | VSX */
    mtmsrd  7
    isync
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    li      5, \n * 16
    stxvd2x \n, 3, 5
    .endr
    .irp    n, 32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63
    li      5, \n * 16
    stxvd2x \n, 3, 5
    .endr
    mffs    0
    stfd    0, 1024(3)
    mfvscr  0
    li      5, 1040
    stvx    0, 3, 5
    mfspr   7, 256
    std     7, 1056(3)
    mtmsrd  6
    isync
    blr

    .balign 16
    .globl  __trivet_state_switch_load
__trivet_state_switch_load:
    mfmsr   6
    ori     7, 6, 0x2000
    oris    7, 7, 0x0280
    mtmsrd  7
    isync
    ld      7, 1056(3)
    mtspr   256, 7
    li      5, 1040
    lvx     0, 3, 5
    mtvscr  0
    lfd     0, 1024(3)
    mtfsf   0xff, 0, 1, 0
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    li      5, \n * 16
    lxvd2x  \n, 3, 5
    .endr
    .irp    n, 32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63
    li      5, \n * 16
    lxvd2x  \n, 3, 5
    .endr
    mtmsrd  6
    isync
    blr
    .globl  __trivet_state_switch_end
__trivet_state_switch_end:
