/* How a bare-metal guest begins: vCPU 0 at real address 0x10000, little-endian, translation off; r3 = device tree, passed
   on to guest_main with the timebase at the very first instruction. The linker script says where the stack ends. */
    .section .text.start, "ax", @progbits
    .globl  _start
_start:
    mftb    4
    bcl     20, 31, 1f
1:  mflr    30
    addis   2, 30, .TOC. - 1b@ha
    addi    2, 2, .TOC. - 1b@l
    ld      1, 3f - 1b(30)
    li      0, 0
    stdu    0, -112(1)
    bl      guest_main
    nop
2:  b       2b
    .balign 8
3:  .quad   __stack_top
