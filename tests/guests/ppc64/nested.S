/* Where a guest of a guest begins: in r12 a function, in r3 its argument, in r1 a stack. It ends with a call: r3 = END of
   nested.rs, r4 = the function's value. */
    .text
    .balign 16
    .globl  l2_start
l2_start:
    mtctr   12
    bctrl
    mr      4, 3
    li      3, 4
    sc      1
    trap
