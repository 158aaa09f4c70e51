/* How a program of Linux begins, without a C library: sp points at the count of its arguments, and their addresses follow.
   That place is passed on to program_main. */
    .section .text.start, "ax", @progbits
    .globl  _start
_start:
    mov     x0, sp
    bl      program_main
1:  b       1b

/* syscall(number, six arguments): its value, or the negative of the error's number. */
    .text
    .balign 16
    .globl  syscall
syscall:
    mov     x8, x0
    mov     x0, x1
    mov     x1, x2
    mov     x2, x3
    mov     x3, x4
    mov     x4, x5
    mov     x5, x6
    svc     #0
    ret
