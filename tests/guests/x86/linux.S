/* How a program of Linux begins, without a C library: rsp points at the count of its arguments, and their addresses follow.
   That place is passed on to program_main. */
    .section .text.start, "ax", @progbits
    .globl  _start
_start:
    mov     rdi, rsp
    and     rsp, -16
    call    program_main
1:  jmp     1b

/* syscall(number, six arguments): its value, or the negative of the error's number. */
    .text
    .balign 16
    .globl  syscall
syscall:
    mov     rax, rdi
    mov     rdi, rsi
    mov     rsi, rdx
    mov     rdx, rcx
    mov     r10, r8
    mov     r8, r9
    mov     r9, [rsp + 8]
    syscall
    ret
