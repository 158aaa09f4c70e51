/*
 * The probe of tests/conformance/src/probe.rs for Arm: single accesses on command, at EL1 with translation off.
 *
 * The text between the two symbols is loaded at guest physical address 0 and begins with its first instruction, which finds
 * its mailbox in x0. Registers while it runs:
 *   x12 mailbox: no call changes it
 *   x4 number of the command at work, or last done   x7 address   x8 value   x9 result   x10 status
 * Offsets and operations are probe.rs's `Field` and `Op`. It needs no stack and no memory but the mailbox.
 */
    .pushsection .rodata.trivet_probe, "a", @progbits
    .balign 2048
    .globl  trivet_probe
trivet_probe:
    adr     x1, .Lprobe_vectors
    msr     vbar_el1, x1
    isb
    mov     x12, x0
    mov     x4, #0
.Lprobe_poll:
    ldr     x5, [x12]               /* number */
    cmp     x5, x4
    b.ne    .Lprobe_command
    hvc     #0
    b       .Lprobe_poll

.Lprobe_command:
    dmb     ish                     /* the host wrote the number after the rest */
    mov     x4, x5
    ldr     x6, [x12, #8]           /* op */
    ldr     x7, [x12, #16]          /* address */
    ldr     x8, [x12, #24]          /* value */
    mov     x9, #0
    mov     x10, #1                 /* STATUS_DONE */
    cmp     x6, #1
    b.eq    .Lprobe_read
    cmp     x6, #2
    b.eq    .Lprobe_write
    cmp     x6, #4
    b.eq    .Lprobe_fetch
    cmp     x6, #3
    b.ne    .Lprobe_finish

.Lprobe_spin:
    add     x11, x8, x9
    str     x11, [x7]
    add     x9, x9, #1
    ldr     x11, [x12, #56]         /* stop */
    str     x9, [x12, #40]          /* result */
    cmp     x11, x4
    b.ne    .Lprobe_spin
    b       .Lprobe_finish

.Lprobe_read:
    ldr     x9, [x7]
    b       .Lprobe_finish

.Lprobe_write:
    str     x8, [x7]
    b       .Lprobe_finish

.Lprobe_fetch:
    ic      iallu                   /* the host wrote it */
    dsb     ish
    isb
    blr     x7

.Lprobe_finish:
    dsb     sy                      /* an access that is refused late is refused by now */
    str     x10, [x12, #48]         /* status */
    str     x9, [x12, #40]          /* result */
    dmb     ish                     /* whoever sees the number sees the rest */
    str     x4, [x12, #32]          /* done */
    hvc     #0
    b       .Lprobe_poll

/*
 * Exception vectors: the access raised one, so the command is given up. Nothing is returned to, for what comes next runs as
 * well where the exception was taken.
 */
    .balign 2048
.Lprobe_vectors:
    .rept   16
    mov     x10, #2                 /* STATUS_EXCEPTION */
    b       .Lprobe_finish
    .balign 128
    .endr
    .globl  trivet_probe_end
trivet_probe_end:
    .popsection
