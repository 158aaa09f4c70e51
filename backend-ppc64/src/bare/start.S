/* A further CPU of a bare machine, as OPAL starts it: r3 = its number, which is no use; the start block's address is in
   trivet_next_cpu, because one is started at a time. It is taken out, and so the next can be started. */
    .section .text.trivet_secondary_bare, "ax", @progbits
    .balign 16
    .globl  trivet_secondary_bare
trivet_secondary_bare:
    enter_little_endian
    set_plain_msr
    bcl     20, 31, 1f
1:  mflr    4
    ld      5, 2f - 1b(4)
    add     5, 5, 4
    ld      3, 0(5)
    li      0, 0
    sync
    std     0, 0(5)
    b       trivet_secondary
    .balign 8
2:  .quad   trivet_next_cpu - 1b
