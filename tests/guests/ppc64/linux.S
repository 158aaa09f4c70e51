/* How a program of Linux begins, without a C library: r1 points at the count of its arguments, and their addresses follow.
   That place is passed on to program_main. */
    .section .text.start, "ax", @progbits
    .globl  _start
_start:
    mr      3, 1
    bcl     20, 31, 1f
1:  mflr    30
    addis   2, 30, .TOC. - 1b@ha
    addi    2, 2, .TOC. - 1b@l
    clrrdi  1, 1, 4
    li      0, 0
    stdu    0, -112(1)
    bl      program_main
    nop
2:  b       2b

/* syscall(number, six arguments): its value, or the negative of the error's number. */
    .text
    .balign 16
    .globl  syscall
syscall:
    mr      0, 3
    mr      3, 4
    mr      4, 5
    mr      5, 6
    mr      6, 7
    mr      7, 8
    mr      8, 9
    sc
    bnslr
    neg     3, 3
    blr
