/* Where a second vCPU begins, with the linker script's second stack, in second_main: in real mode and big-endian, as firmware starts a processor. Were it little-endian, the
   first word would be a trap that never traps, and the second a branch over the switch. */
    .text
    .balign 16
    .globl  __trivet_big_endian_second
__trivet_big_endian_second:
    tdi     0, 0, 0x48
    b       second_vcpu
    .byte   0x7d, 0x60, 0x00, 0xa6  /* mfmsr   r11 */
    .byte   0x61, 0x6b, 0x00, 0x01  /* ori     r11, r11, MSR_LE */
    .byte   0x7d, 0x7b, 0x03, 0xa6  /* mtsrr1  r11 */
    .byte   0x42, 0x9f, 0x00, 0x05  /* bcl     20, 31, .+4 */
    .byte   0x7d, 0x68, 0x02, 0xa6  /* mflr    r11 */
    .byte   0x39, 0x6b, 0x00, 0x10  /* addi    r11, r11, 16 */
    .byte   0x7d, 0x7a, 0x03, 0xa6  /* mtsrr0  r11 */
    .byte   0x4c, 0x00, 0x00, 0x24  /* rfid */
second_vcpu:
    bcl     20, 31, 2f
2:  mflr    30
    addis   2, 30, .TOC. - 2b@ha
    addi    2, 2, .TOC. - 2b@l
    ld      1, 4f - 2b(30)
    li      0, 0
    stdu    0, -112(1)
    bl      second_main
    nop
3:  b       3b
    .balign 8
4:  .quad   __second_stack_top
