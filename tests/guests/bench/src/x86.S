/*
 * The measured sequences, in assembly so that nothing else lies between the two readings of the counter. Each returns the
 * ticks; so do two readings of the counter with nothing in between. r8 and r9 are the readings.
 */
    .macro  read_counter register
    lfence
    rdtsc
    shl     rdx, 32
    or      rax, rdx
    mov     \register, rax
    .endm

    .macro  ticks
    read_counter r9
    mov     rax, r9
    sub     rax, r8
    ret
    .endm

    .text
    .balign 64
    .globl  time_nothing
time_nothing:
    read_counter r8
    ticks

    .balign 64
    .globl  time_hypercall          /* rdi = number */
time_hypercall:
    push    rbx
    xor     eax, eax
    cpuid
    mov     esi, ebx
    pop     rbx
    cmp     esi, 0x756e6547         /* "Genu": each vendor has an instruction of its own */
    je      1f
    read_counter r8
    mov     rax, rdi
    vmmcall
    ticks
1:  read_counter r8
    mov     rax, rdi
    vmcall
    ticks

    .balign 64
    .globl  time_store              /* rdi = address */
time_store:
    read_counter r8
    mov     byte ptr [rdi], 1
    ticks

    .balign 64
    .globl  time_load               /* rdi = address */
time_load:
    read_counter r8
    mov     al, [rdi]
    ticks

    .balign 64
    .globl  time_cpuid
time_cpuid:
    push    rbx
    read_counter r8
    xor     eax, eax
    cpuid
    read_counter r9
    mov     rax, r9
    sub     rax, r8
    pop     rbx
    ret

/* edi = the interrupt command register, rsi = the message, which comes back to this vCPU. Returns the counter before it; the
   vector stores the one at its beginning. */
    .balign 64
    .globl  send_to_self
send_to_self:
    sti
    read_counter r8
    mov     ecx, edi
    mov     eax, esi
    xor     edx, edx
    wrmsr
1:  cmp     qword ptr [rip + arrived], 0
    je      1b
    cli
    mov     rax, r8
    ret
