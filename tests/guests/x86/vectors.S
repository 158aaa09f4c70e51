/* Interrupt vectors of a bare-metal guest (SDM volume 3A, "Interrupt 64-Bit Mode"), 16 bytes each. An interrupt stores the
   time-stamp counter in `arrived` and its number in `vector`, and returns with interrupts off, since it has not ended yet. An
   exception is `unexpected`'s, with its number, its error code, and where it was. */
    .text
    .balign 16
    .globl  vectors
vectors:
    .set    n, 0
    .rept   256
    .balign 16
    .if     n < 32
    .if     !(n == 8 || n == 17 || n == 21 || n == 29 || n == 30 || (n >= 10 && n <= 14))
    push    0                       /* what has no error code gets one */
    .endif
    push    n
    jmp     exception
    .else
    push    rax
    mov     eax, n
    jmp     interrupt
    .endif
    .set    n, n + 1
    .endr

    .balign 16
exception:
    pop     rdi
    pop     rsi
    mov     rdx, [rsp]
    and     rsp, -16
    call    unexpected
1:  hlt
    jmp     1b

    .balign 16
interrupt:
    mov     [rip + vector], al
    push    rdx
    rdtsc
    shl     rdx, 32
    or      rax, rdx
    mov     [rip + arrived], rax
    pop     rdx
    pop     rax
    and     dword ptr [rsp + 16], ~0x200
    iretq

    .bss
    .balign 8
    .globl  arrived, vector
arrived:
    .space  8
vector:
    .space  8
    .text
