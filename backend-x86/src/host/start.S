/* How a CPU gets from whoever starts it to Rust, in long mode on an identity map.

   Two kinds of loader start the boot CPU, and both enter the first instruction in 32-bit protected mode, flat segments,
   paging off:
   - by the PVH note (QEMU): EBX = start info;
   - by the multiboot2 header (GRUB): EAX = its magic number, EBX = information.
   The checker of the image's instructions (xtask) knows by these symbols' names where 16-bit and 32-bit code is.
   Other CPUs start in real mode in a copy of `__trivet_32_bit_trampoline` below 1 MiB (SIPI), one at a time. */

.set START_MAGIC, 0xe85250d6
.set START_CR0, 0x80010033          /* PG, WP, NE, ET, MP, PE: caches on */
.set START_CR4, 0x660               /* OSXMMEXCPT, OSFXSR, MCE, PAE */
.set START_EFER, 0xc0000080
.set START_EFER_LME, 1 << 8
.set START_EFER_NXE, 1 << 11
.set START_CODE, 0x08
.set START_DATA, 0x10
.set START_COM1, 0x3f8
.set START_LONG_AND_NX, 1 << 29 | 1 << 20

/* Multiboot2 specification, 3.1: i386 (32-bit protected mode), no tags but the last. In the file's first 32 KiB. */
.section .head.multiboot2, "a"
    .balign 8
1:  .long START_MAGIC, 0, 2f - 1b, -(START_MAGIC + (2f - 1b))
    .short 0, 0
    .long 8
2:

/* XEN_ELFNOTE_PHYS32_ENTRY (Xen: include/public/elfnote.h). */
.section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long __trivet_32_bit_start

.section .text.start, "ax"
.code32
.globl __trivet_32_bit_start
__trivet_32_bit_start:
    cli
    cld
    movl %eax, %ebp
    movl %ebx, %esi
    movl $__boot_stack_top, %esp
    /* Long mode and the execute-disable bit, without which there is no way on. */
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb .Lstart_refuse
    movl $0x80000001, %eax
    cpuid
    andl $(START_LONG_AND_NX), %edx
    cmpl $(START_LONG_AND_NX), %edx
    jne .Lstart_refuse
    /* The first map: 4 GiB in pages of 2 MiB. One table of four entries and more, four of 512, side by side. */
    movl $trivet_first_map, %edi
    xorl %eax, %eax
    movl $(6 * 1024), %ecx
    rep stosl
    movl $(trivet_first_map + 0x1003), trivet_first_map
    movl $(trivet_first_map + 0x1000), %edi
    movl $(trivet_first_map + 0x2003), %eax
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    loop 1b
    movl $(trivet_first_map + 0x2000), %edi
    movl $0x83, %eax
    movl $2048, %ecx
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 1b
    movl $START_CR4, %eax
    movl %eax, %cr4
    movl $trivet_first_map, %eax
    movl %eax, %cr3
    movl $START_EFER, %ecx
    xorl %edx, %edx
    movl $(START_EFER_LME | START_EFER_NXE), %eax
    wrmsr
    movl $START_CR0, %eax
    movl %eax, %cr0
    lgdtl .Lstart_pointer
    ljmpl $START_CODE, $trivet_start_long

/* There is no Rust here to say it. */
.Lstart_refuse:
    movl $.Lstart_words, %esi
1:  movw $(START_COM1 + 5), %dx
2:  inb %dx, %al
    testb $0x20, %al
    jz 2b
    lodsb
    testb %al, %al
    jz 3f
    movw $START_COM1, %dx
    outb %al, %dx
    jmp 1b
3:  movb $0x11, %al
    outb %al, $0xf4
4:  hlt
    jmp 4b
.code64
trivet_start_long:
    movl $START_DATA, %eax
    movl %eax, %ss
    movl %eax, %ds
    movl %eax, %es
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl %ebp, %r12d
    movl %esi, %r13d
    movl $__bss_start, %edi
    movl $__bss_end, %ecx
    subl %edi, %ecx
    rep stosb
    movl $__boot_stack_top, %esp
    xorl %ebp, %ebp
    movl %r12d, %edi
    movl %r13d, %esi
    call trivet_boot
    ud2

/* Other CPUs: straight from real mode to long mode (AMD APM vol. 2, 14.6), on the map that the boot CPU uses. */
.globl __trivet_32_bit_trampoline
.globl trivet_trampoline_end
.code16
__trivet_32_bit_trampoline:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    movl $START_CR4, %eax
    movl %eax, %cr4
    movl $TRIVET_MAP, %eax
    movl %eax, %cr3
    movl $START_EFER, %ecx
    xorl %edx, %edx
    movl $(START_EFER_LME | START_EFER_NXE), %eax
    wrmsr
    lgdtl (1f - __trivet_32_bit_trampoline)
    movl $START_CR0, %eax
    movl %eax, %cr0
    ljmpl $START_CODE, $trivet_start_other
1:  .short 23
    .long trivet_segments
trivet_trampoline_end:

.code64
trivet_start_other:
    movl $START_DATA, %eax
    movl %eax, %ss
    movl %eax, %ds
    movl %eax, %es
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    /* Takes the start block, so that whoever left it sees that it was found. Nobody starts twice. */
    xchgq %rax, TRIVET_START_BLOCK(%rip)
    testq %rax, %rax
    jz 1f
    movq (%rax), %rsp
    movq 8(%rax), %rdi
    xorl %ebp, %ebp
    call trivet_secondary_main
    ud2
1:  hlt
    jmp 1b

/* Null, 64-bit code, data. Marked as used: the processor need not write to them. */
.section .rodata.trivet_segments, "a"
    .balign 8
.globl trivet_segments
trivet_segments:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
.Lstart_pointer:
    .short 23
    .quad trivet_segments

.section .rodata.trivet_start_words, "a"
.Lstart_words:
    .ascii "\r\nTRIVET REFUSES: the processor has no long mode, or its page tables cannot forbid execution\r\n"
    .asciz "\r\nTRIVET ENDS: failure\r\n"

.section .bss.boot_map, "aw", @nobits
    .balign 4096
trivet_first_map:
    .skip 6 * 4096
