/*
 * The first instructions of every CPU.
 *
 * How we are entered (platforms differ, so the state is recognised, not assumed):
 *   MSR[HV] = 1            powernv: r3 = tree, r8/r9 = OPAL base and entry
 *   MSR[HV] = 0, r5 != 0   pseries: r5 = client interface, r3/r4 = bundle's address and size
 *   MSR[HV] = 0, r5 == 0   a flattened tree in r3 (kexec style; how Trivet enters its own guests)
 * Firmware jumps to the load address, in big-endian mode, with MSR[SF] unknown and r2 garbage.
 *
 * The image is linked at 0, position independent, and loaded anywhere: this code finds where, clears .bss, applies
 * the relative relocations, and calls Rust.
 */

/* One big-endian instruction word in a little-endian section. */
.macro be32 word
    .long (((\word) & 0xff) << 24) | (((\word) & 0xff00) << 8) | (((\word) >> 8) & 0xff00) | (((\word) >> 24) & 0xff)
.endm

/* Symbols around words that are no little-endian code, for the check of the finished image. */
.macro big_endian_from name
__trivet_big_endian_\name:
.endm
.macro big_endian_to name
__trivet_little_endian_\name:
.endm

/* Leaves the CPU little-endian, whichever way it comes in. Clobbers r10 and LR. */
.macro enter_little_endian
    tdi     0, 0, 0x48              /* never traps; the same bytes read big-endian say "b .+8" */
    b       .Lle_\@
    big_endian_from \@
    be32    0x7d4000a6              /* mfmsr   r10 */
    be32    0x614a0001              /* ori     r10, r10, MSR_LE */
    be32    0x7d5b03a6              /* mtsrr1  r10 */
    be32    0x429f0005              /* bcl     20, 31, .+4 */
    be32    0x7d4802a6              /* mflr    r10 */
    be32    0x394a0010              /* addi    r10, r10, 16 */
    be32    0x7d5a03a6              /* mtsrr0  r10 */
    be32    0x4c000024              /* rfid */
    big_endian_to \@
.Lle_\@:
.endm

/* 64-bit, machine checks enabled, recoverable; no translation, no interrupts, no floating point. */
.macro set_plain_msr
    li      10, 1
    sldi    10, 10, 63              /* SF */
    ori     10, 10, 0x1003          /* ME | RI | LE */
    mtmsrd  10
.endm

/*
 * The head: byte 0 of the image, and all of it below 0x100. The linker leaves the next 16 KiB free, because an image that
 * is loaded at real address 0 (as Trivet loads its own guests) has the interrupt vectors inside itself.
 */
    .section .text.start, "ax", @progbits
    .globl  _start
_start:
    enter_little_endian
    b       boot_cpu

/* r30 = where _start is. Keeps LR's value in r11. */
find_image:
    mflr    11
    bcl     20, 31, 1f
1:  mflr    30
    addi    30, 30, _start - 1b
    mtlr    11
    blr

/* Link-time distances from _start, so that no instruction needs a relocation of its own. */
    .balign 8
.Lrows_toc:         .quad .TOC. - _start
.Lrows_bss:         .quad __bss_start - _start
.Lrows_bss_end:     .quad __bss_end - _start
.Lrows_relr:        .quad __relr_start - _start
.Lrows_relr_end:    .quad __relr_end - _start
.Lrows_stack:       .quad __boot_stack_top - _start

    .section .text.boot, "ax", @progbits
boot_cpu:
    set_plain_msr
    mr      26, 3
    mr      27, 4
    mr      28, 5
    mr      24, 8
    mr      25, 9
    bl      find_image
    ld      2, (.Lrows_toc - _start)(30)
    add     2, 2, 30

    ld      4, (.Lrows_bss - _start)(30)
    ld      5, (.Lrows_bss_end - _start)(30)
    add     4, 4, 30
    add     5, 5, 30
    li      0, 0
2:  cmpld   4, 5
    bge     3f
    std     0, 0(4)
    addi    4, 4, 8
    b       2b

    /* Relative relocations, packed (ELF gABI, "RELR"; the linker script admits no others): an even word is where a word
       to be relocated is, an odd one has a bit for each of the 63 words behind the last. Addends are in place. */
3:  ld      4, (.Lrows_relr - _start)(30)
    ld      5, (.Lrows_relr_end - _start)(30)
    add     4, 4, 30
    add     5, 5, 30
4:  cmpld   4, 5
    bge     5f
    ld      6, 0(4)
    addi    4, 4, 8
    andi.   7, 6, 1
    bne     6f
    add     8, 6, 30
    ld      7, 0(8)
    add     7, 7, 30
    std     7, 0(8)
    addi    8, 8, 8
    b       4b
6:  mr      9, 8
    addi    8, 8, 63 * 8
7:  srdi.   6, 6, 1
    beq     4b
    andi.   7, 6, 1
    beq     8f
    ld      7, 0(9)
    add     7, 7, 30
    std     7, 0(9)
8:  addi    9, 9, 8
    b       7b

5:  ld      1, (.Lrows_stack - _start)(30)
    add     1, 1, 30
    li      0, 0
    stdu    0, -112(1)              /* the back chain ends here */
    mr      3, 26
    mr      4, 27
    mr      5, 28
    mr      6, 30
    mfmsr   11
    srdi    11, 11, 60
    andi.   7, 11, 1                /* MSR[HV] */
    mr      8, 24
    mr      9, 25
    bl      trivet_boot
    nop
6:  b       6b

/* A further CPU, started with r3 = its start block: stack top, argument. */
    .balign 16
    .globl  trivet_secondary
trivet_secondary:
    enter_little_endian
    set_plain_msr
    mr      26, 3
    bl      find_image
    ld      2, (.Lrows_toc - _start)(30)
    add     2, 2, 30
    ld      1, 0(26)
    li      0, 0
    stdu    0, -112(1)
    ld      3, 8(26)
    bl      trivet_secondary_main
    nop
2:  b       2b

/*
 * trivet_call_be(r3 = argument, r4 = entry): calls big-endian 32-bit real-mode code (the client interface) and comes
 * back. Firmware keeps r1 and r13-r31; everything else is lost, and the MSR is ours again on return.
 */
    .balign 16
    .globl  trivet_call_be
trivet_call_be:
    mflr    0
    std     0, 16(1)
    mfcr    0
    stw     0, 8(1)
    stdu    1, -320(1)
    std     2, 24(1)
    .set    slot, 48
    .irp    r, 13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std     \r, slot(1)
    .set    slot, slot + 8
    .endr
    bcl     20, 31, 1f
1:  mflr    10
    addi    10, 10, 2f - 1b
    mtlr    10
    mtsrr0  4
    li      11, 0x1002              /* ME | RI: 32-bit, big-endian */
    mtsrr1  11
    rfid
    big_endian_from client
2:  be32    0x39401003              /* li      r10, ME | RI | LE */
    be32    0x39600001              /* li      r11, 1 */
    be32    0x796bf806              /* sldi    r11, r11, 63 */
    be32    0x7d4a5b78              /* or      r10, r10, r11 */
    be32    0x7d5b03a6              /* mtsrr1  r10 */
    be32    0x429f0005              /* bcl     20, 31, .+4 */
    be32    0x7d4802a6              /* mflr    r10 */
    be32    0x394a0010              /* addi    r10, r10, 16 */
    be32    0x7d5a03a6              /* mtsrr0  r10 */
    be32    0x4c000024              /* rfid */
    big_endian_to client
    ld      2, 24(1)
    .set    slot, 48
    .irp    r, 13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld      \r, slot(1)
    .set    slot, slot + 8
    .endr
    addi    1, 1, 320
    lwz     0, 8(1)
    mtcr    0
    ld      0, 16(1)
    mtlr    0
    blr
