// The way into a guest and out of it under SVM.
//
// VMRUN switches rAX, rSP, rIP and rFLAGS, and what else is in the block's save area; the other general registers are moved
// here. Where they are while Trivet runs: sixteen words by number (vcpu/hardware.rs, General), of which rSP's is not used and
// rAX's is exchanged with the block's.
//
// Physical interrupts end the guest's run if rFLAGS.IF is set at VMRUN (V_INTR_MASKING; AMD APM vol. 2, 15.21.1); GIF holds
// them back until the guest is in, and once it is out. Trivet itself runs with IF clear and GIF set.

.section .text.trivet_svm_run, "ax"
.balign 64

// void trivet_svm_run(General *rdi, Vmcb *rsi)
.globl trivet_svm_run
.type trivet_svm_run, @function
trivet_svm_run:
    push    rbp
    push    rbx
    push    r12
    push    r13
    push    r14
    push    r15
    push    rsi
    push    rdi
    mov     rax, [rdi]
    mov     [rsi + 0x5f8], rax
    mov     rax, rsi
    mov     rcx, [rdi + 8 * 1]
    mov     rdx, [rdi + 8 * 2]
    mov     rbx, [rdi + 8 * 3]
    mov     rbp, [rdi + 8 * 5]
    mov     rsi, [rdi + 8 * 6]
    mov     r8, [rdi + 8 * 8]
    mov     r9, [rdi + 8 * 9]
    mov     r10, [rdi + 8 * 10]
    mov     r11, [rdi + 8 * 11]
    mov     r12, [rdi + 8 * 12]
    mov     r13, [rdi + 8 * 13]
    mov     r14, [rdi + 8 * 14]
    mov     r15, [rdi + 8 * 15]
    mov     rdi, [rdi + 8 * 7]
    clgi
    sti
    // STI's shadow ends here, and not after the guest's first instruction, where QEMU would have it end: that may be a CLI.
    nop
    vmrun   rax
    cli
    stgi
    // rAX is Trivet's again, and the only register that is.
    mov     rax, [rsp]
    mov     [rax + 8 * 1], rcx
    mov     [rax + 8 * 2], rdx
    mov     [rax + 8 * 3], rbx
    mov     [rax + 8 * 5], rbp
    mov     [rax + 8 * 6], rsi
    mov     [rax + 8 * 7], rdi
    mov     [rax + 8 * 8], r8
    mov     [rax + 8 * 9], r9
    mov     [rax + 8 * 10], r10
    mov     [rax + 8 * 11], r11
    mov     [rax + 8 * 12], r12
    mov     [rax + 8 * 13], r13
    mov     [rax + 8 * 14], r14
    mov     [rax + 8 * 15], r15
    mov     rsi, [rsp + 8]
    mov     rcx, [rsi + 0x5f8]
    mov     [rax], rcx
    add     rsp, 16
    pop     r15
    pop     r14
    pop     r13
    pop     r12
    pop     rbx
    pop     rbp
    ret
.size trivet_svm_run, . - trivet_svm_run
