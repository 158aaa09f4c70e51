# The way into a guest and out of it (Intel SDM vol. 3C, chapters "VM Entries" and "VM Exits").
#
# The stack while the guest runs: the guest's register block, then what the C ABI has callees save. HOST_RSP points at it, and is
# written only if it changed. Registers by their numbers, 8 bytes each; number 4, RSP, is in the VMCS.

    .section .text.trivet_vmx, "ax", @progbits
    .globl trivet_vmx_enter
    .globl trivet_vmx_exit

trivet_vmx_enter:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    push rdi
    cmp [rsi], rsp
    je 1f
    mov [rsi], rsp
    mov eax, 0x6c14             # HOST_RSP
    vmwrite rax, rsp
1:
    cmp rdx, 0                  # Loads leave the flags alone.
    mov rax, [rdi]
    mov rcx, [rdi + 8]
    mov rdx, [rdi + 16]
    mov rbx, [rdi + 24]
    mov rbp, [rdi + 40]
    mov rsi, [rdi + 48]
    mov r8, [rdi + 64]
    mov r9, [rdi + 72]
    mov r10, [rdi + 80]
    mov r11, [rdi + 88]
    mov r12, [rdi + 96]
    mov r13, [rdi + 104]
    mov r14, [rdi + 112]
    mov r15, [rdi + 120]
    mov rdi, [rdi + 56]
    je 2f
    vmresume
    jmp 3f
2:  vmlaunch
3:  pop rdi                     # It failed: the guest's registers are as they were.
    mov eax, 1
    jmp 4f

trivet_vmx_exit:
    xchg rdi, [rsp]
    mov [rdi], rax
    mov [rdi + 8], rcx
    mov [rdi + 16], rdx
    mov [rdi + 24], rbx
    mov [rdi + 40], rbp
    mov [rdi + 48], rsi
    mov [rdi + 64], r8
    mov [rdi + 72], r9
    mov [rdi + 80], r10
    mov [rdi + 88], r11
    mov [rdi + 96], r12
    mov [rdi + 104], r13
    mov [rdi + 112], r14
    mov [rdi + 120], r15
    pop rax                     # The guest's RDI.
    mov [rdi + 56], rax
    xor eax, eax
4:  pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
