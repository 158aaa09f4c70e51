/* A trap of the hypervisor: SPRG0 = old r3, SPRG1 = old LR, r3 = vector. Fills boot::vectors::Trap on an emergency
   stack of its own and calls trivet_trap, which does not return. A second CPU that traps meanwhile waits. */
    .text
    .balign 16
    .globl  trivet_trap_entry
trivet_trap_entry:
    mtsprg  2, 1
    mtsprg  3, 2
    bcl     20, 31, 1f
1:  mflr    2
    addi    2, 2, 3f - 1b
    addi    1, 2, 16
    mtlr    3                       /* the vector, while r3 takes the lock */
4:  lwarx   3, 0, 1
    cmpwi   3, 0
    bne     4b                      /* another CPU is ending the run already */
    stwcx.  1, 0, 1
    bne-    4b
    mflr    3
    ld      1, 0(2)
    add     1, 1, 2                 /* the emergency stack's top */
    subi    1, 1, 512
    std     0, 112(1)
    mfsprg  0, 2
    std     0, 120(1)
    mfsprg  0, 3
    std     0, 128(1)
    mfsprg  0, 0
    std     0, 136(1)
    .set    slot, 144
    .irp    r, 4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std     \r, slot(1)
    .set    slot, slot + 8
    .endr
    mfsrr0  4
    std     4, 368(1)
    mfsrr1  4
    std     4, 376(1)
    mfsprg  4, 1
    std     4, 384(1)
    mfdar   4
    std     4, 392(1)
    mfdsisr 4
    std     4, 400(1)
    std     3, 408(1)
    ld      4, 8(2)
    add     2, 4, 2                 /* the image's TOC */
    addi    3, 1, 112
    li      0, 0
    std     0, 0(1)
    bl      trivet_trap
    nop
2:  b       2b
    .balign 8
3:  .quad   trivet_emergency_stack_top - 3b
    .quad   .TOC. - 3b
    .long   0                       /* the lock */

    .section .bss
    .balign 16
trivet_emergency_stack:
    .skip   16384
trivet_emergency_stack_top:
