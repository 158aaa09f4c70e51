/*
 * What the two functions know alike. XMM register n holds seed + n in its lower half and seed + 256 + n in its upper one. The
 * x87 registers hold seed + n as MMX registers, and both control words how the seed says that is rounded. Of the others not
 * every bit can be written, so what they hold is kept in `kept`. Debug registers 0 to 3 hold addresses that DR7 has no use
 * for; no exception comes, and nobody makes a system call, so none of them means anything to this program.
 *
 * All the while an interrupt waits, which the program never takes: where one does, a write to CR8 may be the hypervisor's.
 */
    .macro  every_msr what
    .irp    register, 0x174, 0x175, 0x176, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103
    \what   \register
    .endr
    .endm

    .macro  every_other what
    .irp    register, dr0, dr1, dr2, dr3, cr2
    \what   \register
    .endr
    .endm

/* In all of them r8 is what is written, r9 where it is kept, r10 how many are lost. */
    .macro  fill_msr register
    add     r8, 257
    mov     ecx, \register
    mov     eax, r8d
    and     eax, 0x7fffffff
    xor     edx, edx
    wrmsr
    rdmsr
    shl     rdx, 32
    or      rax, rdx
    mov     [r9], rax
    add     r9, 8
    .endm

    .macro  compare_msr register
    mov     ecx, \register
    rdmsr
    shl     rdx, 32
    or      rax, rdx
    cmp     rax, [r9]
    setne   al
    movzx   eax, al
    add     r10, rax
    add     r9, 8
    .endm

    .macro  fill_other register, mask=0x7fffffff
    add     r8, 257
    mov     eax, r8d
    and     eax, \mask
    mov     \register, rax
    mov     rax, \register
    mov     [r9], rax
    add     r9, 8
    .endm

    .macro  compare_other register
    mov     rax, \register
    cmp     rax, [r9]
    setne   al
    movzx   eax, al
    add     r10, rax
    add     r9, 8
    .endm

/* __trivet_state_switch_fill(seed). The name is the one under which an image may touch these registers at all. */
    .text
    .balign 16
    .globl  __trivet_state_switch_fill
__trivet_state_switch_fill:
    mov     rax, cr4
    or      rax, 0x600              /* OSFXSR, OSXMMEXCPT */
    mov     cr4, rax
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    lea     rax, [rdi + \n]
    movq    xmm\n, rax
    add     rax, 256
    push    rax
    movhps  xmm\n, [rsp]
    pop     rax
    .endr
    .irp    n, 0,1,2,3,4,5,6,7
    lea     rax, [rdi + \n]
    movq    mm\n, rax
    .endr
    mov     eax, edi
    and     eax, 3
    mov     edx, eax
    shl     eax, 13
    shl     edx, 10
    or      eax, 0x1f80
    or      edx, 0x37f
    push    rax
    ldmxcsr [rsp]
    mov     [rsp], rdx
    fldcw   word ptr [rsp]
    pop     rax
    mov     r8, rdi
    lea     r9, [rip + kept]
    every_msr fill_msr
    every_other fill_other
    /* The local APIC by its registers, on; an interrupt to itself. */
    mov     ecx, 0x1b
    rdmsr
    or      eax, 1 << 10
    wrmsr
    xor     edx, edx
    mov     ecx, 0x80f
    mov     eax, 0x1ff
    wrmsr
    mov     ecx, 0x83f
    mov     eax, 0x41
    wrmsr
    fill_other cr8, 0xf
    ret

/* __trivet_state_switch_lost(seed): how many of them hold something else. */
    .balign 16
    .globl  __trivet_state_switch_lost
__trivet_state_switch_lost:
    xor     r10d, r10d
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movq    rax, xmm\n
    lea     rdx, [rdi + \n]
    xor     rax, rdx
    add     rdx, 256
    push    rdx
    movhps  [rsp - 8], xmm\n
    pop     rdx
    xor     rdx, [rsp - 16]
    or      rax, rdx
    setne   al
    movzx   eax, al
    add     r10, rax
    .endr
    .irp    n, 0,1,2,3,4,5,6,7
    movq    rax, mm\n
    lea     rdx, [rdi + \n]
    cmp     rax, rdx
    setne   al
    movzx   eax, al
    add     r10, rax
    .endr
    push    0
    stmxcsr [rsp]
    fnstcw  word ptr [rsp + 4]
    mov     eax, edi
    and     eax, 3
    mov     edx, eax
    shl     eax, 13
    shl     edx, 10
    or      eax, 0x1f80
    or      edx, 0x37f
    shl     rdx, 32
    or      rax, rdx
    pop     rdx
    cmp     rax, rdx
    setne   al
    movzx   eax, al
    add     r10, rax
    lea     r9, [rip + kept]
    every_msr compare_msr
    every_other compare_other
    compare_other cr8
    mov     rax, r10
    ret

    .bss
    .balign 8
kept:
    .space  8 * 32
    .text
