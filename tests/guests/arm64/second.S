/* Where a second vCPU begins: as the first one did, with the linker script's second stack, in second_main. */
    .text
    .globl  second_start
second_start:
    adrp    x2, __second_stack_top
    add     x2, x2, :lo12:__second_stack_top
    mov     sp, x2
    bl      second_main
1:  wfi
    b       1b
