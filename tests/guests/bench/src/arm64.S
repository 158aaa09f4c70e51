/*
 * The measured sequences, in assembly so that nothing else lies between the two readings of the counter, each behind an
 * isb. Each returns the ticks; so do two readings of the counter with nothing in between.
 */
    .macro  read_counter register
    isb
    mrs     \register, cntvct_el0
    .endm

    .text
    .balign 64
    .globl  time_nothing
time_nothing:
    read_counter x9
    read_counter x10
    sub     x0, x10, x9
    ret

    .balign 64
    .globl  time_hypercall          /* x0 = number */
time_hypercall:
    read_counter x9
    hvc     #0
    read_counter x10
    sub     x0, x10, x9
    ret

    .balign 64
    .globl  time_store              /* x0 = address */
time_store:
    mov     w1, #1
    read_counter x9
    strb    w1, [x0]
    read_counter x10
    sub     x0, x10, x9
    ret

    .balign 64
    .globl  time_load               /* x0 = address */
time_load:
    read_counter x9
    ldrb    w1, [x0]
    read_counter x10
    sub     x0, x10, x9
    ret

    .balign 64
    .globl  time_id_register
time_id_register:
    read_counter x9
    mrs     x1, id_aa64pfr0_el1
    read_counter x10
    sub     x0, x10, x9
    ret

/* x0 = ICC_SGI1R_EL1's value, which sends an interrupt to this vCPU. Returns the counter before it; the vector stores the one
   at its beginning. */
    .balign 64
    .globl  send_to_self
send_to_self:
    adrp    x1, arrived
    str     xzr, [x1, :lo12:arrived]
    msr     daifclr, #2
    read_counter x9
    msr     S3_0_C12_C11_5, x0
    isb
1:  ldr     x2, [x1, :lo12:arrived]
    cbz     x2, 1b
    msr     daifset, #2
    mov     x0, x9
    ret
