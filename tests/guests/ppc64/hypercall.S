/* hypercall(number, argument, argument, argument, argument, values): status; r4 to r6 to the three values. */
    .text
    .balign 16
    .globl  hypercall
hypercall:
    std     8, -8(1)
    sc      1
    ld      8, -8(1)
    std     4, 0(8)
    std     5, 8(8)
    std     6, 16(8)
    blr
