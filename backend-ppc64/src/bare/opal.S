/* trivet_call_opal(token, a, b, c, base, entry): OPAL wants r0 = token, r2 = base, arguments from r3, big-endian real
   mode with HV; it returns to LR big-endian and keeps r1, r13-r31 and CR. */
    .section .text.trivet_call_opal, "ax", @progbits
    .balign 16
    .globl  trivet_call_opal
trivet_call_opal:
    mflr    0
    std     0, 16(1)
    stdu    1, -48(1)
    std     2, 24(1)
    mr      0, 3
    mr      3, 4
    mr      4, 5
    mr      5, 6
    mr      2, 7
    bcl     20, 31, 1f
1:  mflr    10
    addi    10, 10, 2f - 1b
    mtlr    10
    mfmsr   11
    li      10, 0x31
    andc    11, 11, 10              /* the same state, big-endian, and without the translation that a bug may leave on */
    mtspr   314, 8                  /* HSRR0 */
    mtspr   315, 11                 /* HSRR1 */
    hrfid
    big_endian_from opal
2:  be32    0x7d6000a6              /* mfmsr   r11 */
    be32    0x616b0001              /* ori     r11, r11, MSR_LE */
    be32    0x7d7b4ba6              /* mthsrr1 r11 */
    be32    0x429f0005              /* bcl     20, 31, .+4 */
    be32    0x7d4802a6              /* mflr    r10 */
    be32    0x394a0010              /* addi    r10, r10, 16 */
    be32    0x7d5a4ba6              /* mthsrr0 r10 */
    be32    0x4c000224              /* hrfid */
    big_endian_to opal
    ld      2, 24(1)
    addi    1, 1, 48
    ld      0, 16(1)
    mtlr    0
    blr
