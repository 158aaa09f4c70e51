/* Where a second vCPU begins: in real mode, at the page that a start-up message names. It takes over the first one's page
   tables, which second_root names, has the same segments, and goes on with the linker script's second stack, in second_main.
   The jump that changes the mode is written as bytes: operand of 32 bits, the instruction, where to, code segment. What is
   not code of 64 bits has names that say so. */
    .text
    .balign 4096
    .globl  second_start
__trivet_32_bit_second:
second_start:
    .code16
    cli
    mov     eax, cs:[0x100]         /* second_root */
    mov     cr3, eax
    mov     eax, 0x20               /* PAE */
    mov     cr4, eax
    mov     ecx, 0xc0000080         /* EFER: LME */
    mov     eax, 0x100
    xor     edx, edx
    wrmsr
    .byte   0x66                    /* a base of 32 bits */
    lgdt    cs:[0x108]
    mov     eax, 0x80000031         /* PG, NE, ET, PE */
    mov     cr0, eax
    .byte   0x66, 0xea
    .long   second_long
    .word   0x10

/* 0x100 bytes into the page. */
    .balign 256
    .globl  second_root
__trivet_32_bit_tables:
second_root:
    .quad   0
    .word   4 * 8 - 1
    .long   .Lsecond_gdt
    .balign 8
/* Code of 64 bits, data. */
.Lsecond_gdt:
    .quad   0
    .quad   0
    .quad   0x00af9b000000ffff
    .quad   0x00cf93000000ffff

    .code64
second_long:
    mov     eax, 0x18
    mov     ds, eax
    mov     es, eax
    mov     ss, eax
    lea     rsp, [rip + __second_stack_top]
    call    second_main
1:  hlt
    jmp     1b
