/* Exception vectors of a bare-metal guest (DDI 0487, D1.3.1). What is taken at EL1 with its own stack is told apart: an
   interrupt stores the virtual counter in `arrived` and returns with interrupts masked, since its line stays up until it is
   acknowledged; anything else is `unexpected`'s, with what kind of exception it was (0 synchronous, 1 interrupt, 2 fast
   interrupt, 3 system error). The interrupt's handler needs no stack. */
    .text
    .balign 2048
    .globl  vectors
vectors:
    .rept   4
    b       .
    .balign 128
    .endr

    mov     x0, #0
    b       unexpected
    .balign 128

    msr     tpidr_el1, x0
    mrs     x0, cntvct_el0
    msr     tpidr_el0, x1
    adrp    x1, arrived
    str     x0, [x1, :lo12:arrived]
    mrs     x0, spsr_el1
    orr     x0, x0, #0x80
    msr     spsr_el1, x0
    mrs     x0, tpidr_el1
    mrs     x1, tpidr_el0
    eret
    .balign 128

    mov     x0, #2
    b       unexpected
    .balign 128

    mov     x0, #3
    b       unexpected
    .balign 128

    .rept   8
    b       .
    .balign 128
    .endr

/* Virtual counter at which an interrupt's vector was entered; 0 until then. */
    .bss
    .balign 8
    .globl  arrived
arrived:
    .space  8
    .text
