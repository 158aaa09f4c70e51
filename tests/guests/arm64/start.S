/* How a bare-metal guest begins: vCPU 0 at EL1 at guest physical address 0x10000, translation off, exceptions masked;
   x0 = device tree, passed on to guest_main with the physical counter at the very first instruction. The linker script says
   where the stack ends. Memory is of device type while translation is off, so nothing may be accessed unaligned. */
    .section .text.start, "ax", @progbits
    .globl  _start
_start:
    mrs     x1, cntpct_el0
    adrp    x2, __stack_top
    add     x2, x2, :lo12:__stack_top
    mov     sp, x2
    bl      guest_main
1:  wfi
    b       1b
