/*
 * The probe of tests/conformance/src/probe.rs for POWER: single accesses on command, in real mode, little-endian.
 *
 * The text between the two symbols is loaded at guest real address 0, where the architecture wants interrupt vectors,
 * and begins at the reset vector with r3 = its mailbox. Registers while it runs:
 *   r14 mailbox: no call changes it
 *   r4 number of the command at work, or last done   r7 address   r8 value   r9 result   r10 status
 * Offsets and operations are probe.rs's `Field` and `Op`. It needs no stack and no memory but the mailbox.
 */
    .pushsection .rodata.trivet_probe, "a", @progbits
    .balign 16
    .globl  trivet_probe
trivet_probe:
    .skip   0x100

/* Reset: the first instruction. */
    mr      14, 3
    li      4, 0
.Lprobe_poll:
    ld      5, 0(14)                /* number */
    cmpld   5, 4
    bne     .Lprobe_command
    sc      1
    b       .Lprobe_poll

.Lprobe_command:
    lwsync                          /* the host wrote the number after the rest */
    mr      4, 5
    ld      6, 8(14)                /* op */
    ld      7, 16(14)               /* address */
    ld      8, 24(14)               /* value */
    li      9, 0
    li      10, 1                   /* STATUS_DONE */
    cmpldi  6, 1
    beq     .Lprobe_read
    cmpldi  6, 2
    beq     .Lprobe_write
    cmpldi  6, 4
    beq     .Lprobe_fetch
    cmpldi  6, 3
    bne     .Lprobe_finish

.Lprobe_spin:
    add     11, 8, 9
    std     11, 0(7)
    addi    9, 9, 1
    ld      11, 56(14)              /* stop */
    std     9, 40(14)               /* result */
    cmpld   11, 4
    bne     .Lprobe_spin
    b       .Lprobe_finish

.Lprobe_read:
    ld      9, 0(7)
    b       .Lprobe_finish

.Lprobe_write:
    std     8, 0(7)
    b       .Lprobe_finish

.Lprobe_fetch:
    mtctr   7
    isync                           /* the host wrote it */
    bctrl

.Lprobe_finish:
    std     10, 48(14)              /* status */
    std     9, 40(14)               /* result */
    lwsync                          /* whoever sees the number sees the rest */
    std     4, 32(14)               /* done */
    sc      1
    b       .Lprobe_poll

    .skip   0x300 - (. - trivet_probe)
/*
 * Data storage interrupt: the access raised an exception, so the command is given up. Which byte order interrupts are
 * taken in is the hypervisor's choice until a guest asks for one, so both are understood: the first word never traps,
 * and the same bytes read big-endian say "b .+8".
 */
    tdi     0, 0, 0x48
    b       .Lprobe_exception
    .byte   0x7d, 0x60, 0x00, 0xa6  /* mfmsr   r11 */
    .byte   0x61, 0x6b, 0x00, 0x01  /* ori     r11, r11, MSR_LE */
    .byte   0x7d, 0x7b, 0x03, 0xa6  /* mtsrr1  r11 */
    .byte   0x39, 0x60, 0x03, 0x20  /* li      r11, 0x320 */
    .byte   0x7d, 0x7a, 0x03, 0xa6  /* mtsrr0  r11 */
    .byte   0x4c, 0x00, 0x00, 0x24  /* rfid */
    .skip   0x320 - (. - trivet_probe)
.Lprobe_exception:
    li      10, 2                   /* STATUS_EXCEPTION */
    b       .Lprobe_finish

    .skip   0x400 - (. - trivet_probe)
/* Instruction storage interrupt: so did a fetch. */
    tdi     0, 0, 0x48
    b       .Lprobe_exception
    .byte   0x7d, 0x60, 0x00, 0xa6  /* mfmsr   r11 */
    .byte   0x61, 0x6b, 0x00, 0x01  /* ori     r11, r11, MSR_LE */
    .byte   0x7d, 0x7b, 0x03, 0xa6  /* mtsrr1  r11 */
    .byte   0x39, 0x60, 0x03, 0x20  /* li      r11, 0x320 */
    .byte   0x7d, 0x7a, 0x03, 0xa6  /* mtsrr0  r11 */
    .byte   0x4c, 0x00, 0x00, 0x24  /* rfid */
    .globl  trivet_probe_end
trivet_probe_end:
    .popsection
