/* How a bare-metal guest begins: vCPU 0 in long mode at guest physical address 0x10000, the first 4 GiB mapped to themselves,
   interrupts off; rsi = zero page, passed on to guest_main with the time-stamp counter at the very first instruction. The
   linker script says where the stack ends. */
    .section .text.start, "ax", @progbits
    .globl  _start
_start:
    rdtsc
    shl     rdx, 32
    or      rax, rdx
    mov     rdi, rsi
    mov     rsi, rax
    lea     rsp, [rip + __stack_top]
    call    guest_main
1:  hlt
    jmp     1b
