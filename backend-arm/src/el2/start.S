/*
 * The first instructions of every CPU.
 *
 * The image has the header of an arm64 Linux kernel, so whatever boots one boots Trivet: entered at its first byte with x0 =
 * the device tree, MMU and data caches off, the image itself cleaned to the point of coherency, at EL2 if there is one.
 * It is linked at 0, position independent, and loaded anywhere below 512 GiB.
 *
 *   boot CPU    EL2's registers; a map of 1 GiB blocks, device memory but for where image and tree are; MMU on; .bss
 *               cleared; relative relocations applied; trivet_boot(tree, exception level)
 *   the others  EL2's registers; the map that the boot CPU has made since (mmu.rs); MMU on; trivet_secondary_main(orders)
 *
 * Trivet has no use for EL1: entered there, it skips all that and runs as far as to say so.
 */

.equ SCTLR, 0x30c5183d              /* RES1; I, SA, C, M */
.equ MAIR, 0xff04                   /* 0: device, nGnRE; 1: memory, write-back */
.equ TCR, 0x80803519                /* RES1; 39 bits, 4 KiB, inner shareable and write-back walks; PS is added */
.equ HCR, 0x80000038                /* EL1 is AArch64; interrupts and SErrors belong to EL2, so that they end a wfi there */
.equ CPTR, 0x33ff                   /* RES1; nothing is trapped */
.equ BLOCK_DEVICE, 0x441            /* valid, EL2's, used (map.rs) */
.equ BLOCK_MEMORY, 0x745            /* the same, MAIR 1, inner shareable */

    .section .text.start, "ax", @progbits
    .globl  _start
_start:
    b       boot_cpu
    .long   0
    .quad   0                       /* offset from a multiple of 2 MiB */
    .quad   __image_end - _start
    .quad   0xa                     /* little-endian, 4 KiB pages, anywhere in memory */
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

/* EL2 as Trivet uses it, MMU still off. Clobbers x0 and x1. */
.macro set_el2
    msr     daifset, #15
    msr     spsel, #1
    ldr     x0, =HCR
    msr     hcr_el2, x0
    mov     x0, #CPTR
    msr     cptr_el2, x0
    msr     hstr_el2, xzr
    msr     vttbr_el2, xzr
    msr     cnthp_ctl_el2, xzr
    adrp    x0, trivet_vectors
    add     x0, x0, :lo12:trivet_vectors
    msr     vbar_el2, x0
    mov     x0, #MAIR
    msr     mair_el2, x0
    ldr     x0, =TCR
    mrs     x1, id_aa64mmfr0_el1
    and     x1, x1, #15             /* PARange; more than 48 bits take another format */
    cmp     x1, #5
    b.ls    1f
    mov     x1, #5
1:  orr     x0, x0, x1, lsl #16
    msr     tcr_el2, x0
.endm

/* Goes on under the map at x0. Clobbers x1. */
.macro mmu_on
    msr     ttbr0_el2, x0
    isb
    ic      iallu
    tlbi    alle2
    dsb     nsh
    isb
    ldr     x1, =SCTLR
    msr     sctlr_el2, x1
    isb
.endm

    .section .text.boot, "ax", @progbits
boot_cpu:
    mov     x20, x0
    mrs     x21, currentel
    lsr     x21, x21, #2
    cmp     x21, #2
    b.ne    clear
    set_el2

    /* A map in memory that no cache may hold an opinion on, before or after. */
    adrp    x0, boot_map
    bl      invalidate_page
    mov     x1, xzr
    mov     x2, #BLOCK_DEVICE
2:  orr     x3, x2, x1, lsl #30
    str     x3, [x0, x1, lsl #3]
    add     x1, x1, #1
    cmp     x1, #512
    b.ne    2b
    mov     x2, #BLOCK_MEMORY
    adrp    x4, _start
    adrp    x5, __image_end
    mov     x6, x20
    add     x7, x20, #0x200000      /* as large as a tree may be */
    .irp    address, x4, x5, x6, x7
    ubfx    x1, \address, #30, #9
    orr     x3, x2, x1, lsl #30
    str     x3, [x0, x1, lsl #3]
    .endr
    dsb     sy
    bl      invalidate_page
    mmu_on

clear:
    adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
3:  cmp     x0, x1
    b.hs    4f
    stp     xzr, xzr, [x0], #16
    b       3b

    /* Relative relocations, packed (ELF gABI, "RELR"; the linker script admits no others): an even word is where a word to be
       relocated is, an odd one has a bit for each of the 63 words behind the last. Addends are in place. */
4:  adrp    x10, _start
    adrp    x0, __relr_start
    add     x0, x0, :lo12:__relr_start
    adrp    x1, __relr_end
    add     x1, x1, :lo12:__relr_end
5:  cmp     x0, x1
    b.hs    8f
    ldr     x2, [x0], #8
    tbnz    x2, #0, 6f
    add     x3, x2, x10
    ldr     x4, [x3]
    add     x4, x4, x10
    str     x4, [x3], #8
    b       5b
6:  mov     x5, x3
    add     x3, x3, #63 * 8
7:  lsr     x2, x2, #1
    cbz     x2, 5b
    tbz     x2, #0, 9f
    ldr     x4, [x5]
    add     x4, x4, x10
    str     x4, [x5]
9:  add     x5, x5, #8
    b       7b

8:  adrp    x0, __boot_stack_top
    add     sp, x0, :lo12:__boot_stack_top
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x20
    mov     x1, x21
    b       trivet_boot

/* Drops what caches hold of the page at x0. Clobbers x1 to x3. */
invalidate_page:
    mrs     x1, ctr_el0
    ubfx    x1, x1, #16, #4
    mov     x2, #4
    lsl     x2, x2, x1
    mov     x1, x0
    add     x3, x0, #4096
1:  dc      ivac, x1
    add     x1, x1, x2
    cmp     x1, x3
    b.lo    1b
    dsb     sy
    ret

/* A further CPU, started with x0 = its start block: stack top, argument. */
    .globl  trivet_secondary
trivet_secondary:
    mov     x20, x0
    set_el2
    adrp    x0, TRIVET_MAP
    add     x0, x0, :lo12:TRIVET_MAP
    mmu_on
    ldp     x1, x0, [x20]
    mov     sp, x1
    mov     x29, xzr
    mov     x30, xzr
    b       trivet_secondary_main

/*
 * trivet_switch_map(x0 = root): goes on under another map that has everything Trivet uses where it was. By way of no map at
 * all: entries that differ in size or kind may not be changed while they are in use. In between nothing is loaded or
 * stored. Tables written through caches are read through caches, so they need no cleaning.
 */
    .globl  trivet_switch_map
trivet_switch_map:
    dsb     ish
    mrs     x1, sctlr_el2
    bic     x2, x1, #1
    msr     sctlr_el2, x2
    isb
    msr     ttbr0_el2, x0
    isb
    tlbi    alle2
    dsb     nsh
    isb
    msr     sctlr_el2, x1
    isb
    ret

    .section .bss.boot_map, "aw", @nobits
    .balign 4096
boot_map:
    .skip   4096
