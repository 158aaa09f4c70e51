/*
 * The probe of tests/conformance/src/probe.rs for x86: single accesses on command, in long mode.
 *
 * The text between the two symbols is loaded at guest physical address 0 and begins with its first instruction, in real mode,
 * with its mailbox in edi. An access is to be one of 64 bits and to reach everywhere, so it goes to long mode, with tables of
 * its own that map to themselves, by leaves of 2 MiB, the first 128 MiB and what begins at 4 GiB; whoever walks them has
 * nothing to note in them. Registers while it runs:
 *   rbx mailbox: no call changes it   ebp 0 if the hypervisor is called by VMMCALL, as on AMD's processors
 *   r12 number of the command at work, or last done   r13 address   r14 value   rsi result   rdi status
 * Offsets and operations are probe.rs's `Field` and `Op`. It needs no memory but the mailbox, where the processor notes what
 * an exception has interrupted: a mailbox is longer than its fields.
 */
    .pushsection .rodata.trivet_probe, "a", @progbits
    .balign 4096
    .globl  trivet_probe
trivet_probe:
    .code16
    mov     ebx, edi
    mov     eax, 0x1000             /* the root, below */
    mov     cr3, eax
    mov     eax, 0x20               /* PAE */
    mov     cr4, eax
    mov     ecx, 0xc0000080         /* EFER: LME */
    mov     eax, 0x100
    xor     edx, edx
    wrmsr
    .byte   0x66                    /* a base of 32 bits */
    lgdt    cs:[0x100]
    mov     eax, 0x80000031         /* PG, NE, ET, PE */
    mov     cr0, eax
    .byte   0x66, 0xea              /* to code of 64 bits */
    .long   .Lprobe_long - trivet_probe
    .word   0x08

/* 0x100 bytes into the text: what the descriptor tables' registers are loaded from. */
    .balign 256
    .word   2 * 8 - 1
    .long   .Lprobe_gdt - trivet_probe
    .balign 8
.Lprobe_idtr:
    .word   32 * 16 - 1
    .quad   .Lprobe_idt - trivet_probe
    .balign 8
.Lprobe_gdt:
    .quad   0
    .quad   0x00af9b000000ffff

    .code64
    .balign 16
.Lprobe_long:
    xor     eax, eax
    mov     ss, eax
    mov     ds, eax
    mov     es, eax
    lidt    [rip + .Lprobe_idtr]
    mov     r8d, ebx
    cpuid
    xor     ebp, ebp
    cmp     ebx, 0x756e6547         /* "Genu": Intel's */
    sete    bpl
    mov     ebx, r8d
    lea     rsp, [rbx + 128]
    xor     r12d, r12d
.Lprobe_poll:
    mov     rax, [rbx]              /* number */
    cmp     rax, r12
    jne     .Lprobe_command
.Lprobe_call:
    mov     eax, -1
    test    ebp, ebp
    jnz     1f
    vmmcall
    jmp     .Lprobe_poll
1:  vmcall
    jmp     .Lprobe_poll

.Lprobe_command:
    mov     r12, rax                /* the host wrote the number after the rest, and loads keep their order */
    mov     rax, [rbx + 8]          /* op */
    mov     r13, [rbx + 16]         /* address */
    mov     r14, [rbx + 24]         /* value */
    xor     esi, esi
    mov     edi, 1                  /* STATUS_DONE */
    cmp     rax, 1
    je      .Lprobe_read
    cmp     rax, 2
    je      .Lprobe_write
    cmp     rax, 4
    je      .Lprobe_fetch
    cmp     rax, 3
    jne     .Lprobe_finish

.Lprobe_spin:
    lea     rax, [r14 + rsi]
    mov     [r13], rax
    inc     rsi
    mov     rax, [rbx + 56]         /* stop */
    mov     [rbx + 40], rsi         /* result */
    cmp     rax, r12
    jne     .Lprobe_spin
    jmp     .Lprobe_finish

.Lprobe_read:
    mov     rsi, [r13]
    jmp     .Lprobe_finish

.Lprobe_write:
    mov     [r13], r14
    jmp     .Lprobe_finish

.Lprobe_fetch:
    call    r13                     /* what is behind the mailbox has room for where it returns */

.Lprobe_finish:
    mov     [rbx + 48], rdi         /* status */
    mov     [rbx + 40], rsi         /* result */
    mov     [rbx + 32], r12         /* done: whoever sees it sees the rest */
    jmp     .Lprobe_call

/* The access raised an exception, so the command is given up. Nothing is returned to, for what comes next runs as well with
   the stack as it was. */
.Lprobe_exception:
    lea     rsp, [rbx + 128]
    mov     edi, 2                  /* STATUS_EXCEPTION */
    jmp     .Lprobe_finish

    .balign 16
.Lprobe_idt:
    .rept   32
    .word   .Lprobe_exception - trivet_probe, 0x08, 0x8e00, 0
    .quad   0
    .endr

/* Page tables: present, writable, accessed; leaves are dirty, too. */
    .balign 4096, 0
    .quad   0x2023
    .balign 4096, 0
    .quad   0x3023, 0, 0, 0, 0x4023
    .balign 4096, 0
    .set    probe_leaf, 0xe3
    .rept   64
    .quad   probe_leaf
    .set    probe_leaf, probe_leaf + (1 << 21)
    .endr
    .balign 4096, 0
    .quad   (1 << 32) + 0xe3
    .balign 4096, 0
    .globl  trivet_probe_end
trivet_probe_end:
    .popsection
