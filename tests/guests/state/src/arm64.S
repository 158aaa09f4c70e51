/*
 * What the two functions know alike. Vector register n holds seed + n in both halves. Of the others not every bit can be
 * written, and not every processor has the same ones, so what they hold is read back where they are written, and kept in
 * `kept`. Translation is off and no exception comes, so none of them means anything to this program.
 */
    .macro  every what
    .irp    register, tpidr_el0, tpidrro_el0, tpidr_el1, sp_el0, elr_el1, spsr_el1, far_el1, esr_el1, afsr0_el1, afsr1_el1, par_el1, vbar_el1, ttbr0_el1, ttbr1_el1, mair_el1, amair_el1, contextidr_el1, cntkctl_el1, csselr_el1, cntv_cval_el0, cntp_cval_el0, fpsr, fpcr
    \what   \register
    .endr
    .endm

    .macro  fill_one register
    add     x3, x3, #257
    msr     \register, x3
    mrs     x4, \register
    str     x4, [x1], #8
    .endm

    .macro  compare_one register
    mrs     x4, \register
    ldr     x5, [x1], #8
    cmp     x4, x5
    cinc    x2, x2, ne
    .endm

/* __trivet_state_switch_fill(seed). The name is the one under which an image may touch these registers at all. */
    .arch_extension fp
    .arch_extension simd
    .text
    .balign 16
    .globl  __trivet_state_switch_fill
__trivet_state_switch_fill:
    mrs     x4, cpacr_el1
    orr     x4, x4, #0x300000       /* FPEN */
    msr     cpacr_el1, x4
    isb
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    add     x4, x0, #\n
    dup     v\n\().2d, x4
    .endr
    adrp    x1, kept
    add     x1, x1, :lo12:kept
    mov     x3, x0
    every   fill_one
    ret

/* __trivet_state_switch_lost(seed): how many of them hold something else. */
    .balign 16
    .globl  __trivet_state_switch_lost
__trivet_state_switch_lost:
    mov     x2, #0
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    add     x4, x0, #\n
    mov     x5, v\n\().d[0]
    cmp     x4, x5
    cinc    x2, x2, ne
    mov     x5, v\n\().d[1]
    cmp     x4, x5
    cinc    x2, x2, ne
    .endr
    adrp    x1, kept
    add     x1, x1, :lo12:kept
    every   compare_one
    mov     x0, x2
    ret

    .bss
    .balign 8
kept:
    .space  8 * 32
    .text
