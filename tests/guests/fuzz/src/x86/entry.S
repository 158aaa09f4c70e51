/*
 * What lets the program go on whatever its accesses raise: they are functions of one instruction that leave the stack alone,
 * so an exception's handler returns to the function's caller. Counted in `refused`. NMIs are returned from.
 */
    .text
    .balign 16
    .globl  vectors
vectors:
    .set    n, 0
    .rept   32
    .balign 16
    .if     n == 2
    iretq
    .else
    .if     !(n == 8 || n == 17 || n == 21 || n == 29 || n == 30 || (n >= 10 && n <= 14))
    push    0
    .endif
    jmp     skip
    .endif
    .set    n, n + 1
    .endr

    .balign 16
skip:
    add     rsp, 8
    lock inc qword ptr [rip + refused]
    lea     rax, [rip + back]
    mov     [rsp], rax
    iretq

/* one(rdi = value, rsi = address, rdx = third, rcx = fourth, r8 = what is called): rax afterwards. The value is in rax, the
   address in rbx, rsi and rdi, the third in rdx, the fourth in rcx. */
    .balign 16
    .globl  one
one:
    push    rbx
    push    rbp
    push    r12
    push    r13
    push    r14
    push    r15
    mov     rax, rdi
    mov     rbx, rsi
    mov     rdi, rsi
    mov     r9, rax
    call    r8
    cld
    pop     r15
    pop     r14
    pop     r13
    pop     r12
    pop     rbp
    pop     rbx
    ret

    .macro  single instruction:vararg
    .balign 16
    \instruction
    ret
    .endm

    .balign 16
back:
    ret

/* Stores and loads that change no more than they say: for registers that must not be given any value. */
    .balign 16
    .globl  plain, plain_end
plain:
    single  mov [rbx], al
    single  mov [rbx], ax
    single  mov [rbx], eax
    single  mov [rbx], rax
    single  mov al, [rbx]
    single  mov ax, [rbx]
    single  mov eax, [rbx]
    single  mov rax, [rbx]
    single  stosd
    single  lodsd
    .balign 16
plain_end:

/* Accesses of every kind. The name is the one under which an image may touch vector registers. */
    .globl  __trivet_state_switch_accesses, accesses_end
__trivet_state_switch_accesses:
    /* What devices are for. */
    single  mov [rbx], eax
    single  mov eax, [rbx]
    single  mov [rbx], eax
    single  mov eax, [rbx]
    single  mov dword ptr [rbx], 0x5a0000a5
    single  mov [rbx], al
    single  mov [rbx], ah
    single  mov [rbx], r9w
    single  mov [rbx], r9
    single  mov cl, [rbx]
    single  mov ch, [rbx]
    single  mov r10w, [rbx]
    single  mov r10, [rbx]
    single  mov byte ptr [rbx], 0x81
    single  mov word ptr [rbx], 0x8001
    single  mov qword ptr [rbx], -2
    single  movzx eax, byte ptr [rbx]
    single  movzx r11, word ptr [rbx]
    single  movsx eax, byte ptr [rbx]
    single  movsx r11, word ptr [rbx]
    single  movsxd r11, dword ptr [rbx]
    single  mov eax, [rbx + rcx * 4 - 64]
    single  mov eax, gs:[rbx]
    single  mov eax, [ebx]
    single  add [rbx], eax
    single  or [rbx], rax
    single  adc [rbx], al
    single  sbb eax, [rbx]
    single  and ax, [rbx]
    single  sub qword ptr [rbx], 1
    single  xor dword ptr [rbx], 0x10000
    single  cmp [rbx], eax
    single  test [rbx], eax
    single  test byte ptr [rbx], 1
    single  xchg [rbx], eax
    single  lock add [rbx], eax
    single  lock or dword ptr [rbx], 1
    single  lock xchg [rbx], rax
    single  stosb
    single  stosq
    single  lodsw
    single  lodsq
    single  movsd
    single  movsb
    single  rep stosd
    single  rep lodsd
    single  rep movsd
    single  rep movsb
    /* What drivers do not use on devices. */
    single  inc dword ptr [rbx]
    single  dec qword ptr [rbx]
    single  not dword ptr [rbx]
    single  neg word ptr [rbx]
    single  lock inc dword ptr [rbx]
    single  bt [rbx], eax
    single  bts dword ptr [rbx], 3
    single  lock btr [rbx], ecx
    single  btc qword ptr [rbx], 63
    single  shl dword ptr [rbx], 1
    single  sar qword ptr [rbx], cl
    single  rol word ptr [rbx], 5
    single  shld [rbx], eax, 7
    single  xadd [rbx], eax
    single  lock xadd [rbx], rax
    single  cmpxchg [rbx], ecx
    single  lock cmpxchg [rbx], rcx
    single  cmpxchg8b [rbx]
    single  lock cmpxchg16b [rbx]
    single  mul dword ptr [rbx]
    single  imul eax, [rbx]
    single  imul eax, [rbx], 77
    single  div dword ptr [rbx]
    single  idiv qword ptr [rbx]
    single  cmove eax, [rbx]
    single  sete [rbx]
    single  bsf eax, [rbx]
    single  popcnt eax, [rbx]
    single  movbe eax, [rbx]
    single  movbe [rbx], rax
    single  crc32 eax, dword ptr [rbx]
    single  adcx eax, [rbx]
    single  movnti [rbx], rax
    single  scasd
    single  cmpsd
    single  repne scasb
    single  repe cmpsq
    single  mov es, [rbx]
    single  mov [rbx], ds
    single  lar eax, [rbx]
    single  lsl eax, [rbx]
    single  verr word ptr [rbx]
    single  sgdt [rbx]
    single  sidt [rbx]
    single  sldt [rbx]
    single  smsw [rbx]
    single  invlpg [rbx]
    single  clflush [rbx]
    single  prefetcht0 [rbx]
    single  movups xmm0, [rbx]
    single  movaps [rbx], xmm0
    single  movq mm0, [rbx]
    single  movntq [rbx], mm0
    single  maskmovq mm0, mm1
    single  fld qword ptr [rbx]
    single  fstp tbyte ptr [rbx]
    single  fild word ptr [rbx]
    single  fnstcw [rbx]
    single  fldenv [rbx]
    single  fnstenv [rbx]
    single  fnsave [rbx]
    single  fxsave [rbx]
    single  fxrstor [rbx]
    single  xsave [rbx]
    single  xrstor [rbx]
    single  vmovups ymm0, [rbx]
    .balign 16
accesses_end:

/* What is for system software, and what there is no use for. */
    .globl  privileged, privileged_end
privileged:
    single  rdmsr
    single  cpuid
    single  vmmcall
    single  vmcall
    single  vmrun
    single  vmload
    single  vmsave
    single  stgi
    single  clgi
    single  invlpga
    single  skinit
    single  vmxoff
    single  vmlaunch
    single  vmresume
    single  vmread rax, rcx
    single  vmwrite rax, rcx
    single  vmptrst [rsp - 64]
    single  vmclear [rsp - 64]
    single  vmxon [rsp - 64]
    single  invept rax, [rsp - 64]
    single  invvpid rax, [rsp - 64]
    single  invpcid rax, [rsp - 64]
    single  vmfunc
    single  getsec
    single  rsm
    single  rdtsc
    single  rdtscp
    single  rdpmc
    single  rdrand rax
    single  rdseed rax
    single  rdpid rax
    single  xgetbv
    single  xsetbv
    single  monitor
    single  mwait
    single  wbinvd
    single  invd
    single  wbnoinvd
    single  clts
    single  swapgs
    single  rdfsbase rax
    single  wrgsbase rax
    single  encls
    single  ud2
    single  pause
    single  mov rax, cr0
    single  mov rax, cr2
    single  mov cr2, rax
    single  mov rax, cr4
    single  mov rax, cr8
    single  mov cr8, rax
    single  mov cr8, rax
    /* The same, for those that have it. */
    single  .byte 0xf0, 0x0f, 0x22, 0xc0
    single  mov rax, dr0
    single  mov dr1, rax
    single  mov rax, dr6
    single  mov dr6, rax
    single  mov rax, dr7
    single  smsw eax
    single  str eax
    .balign 16
privileged_end:

/* A port in dx, with the value in al to rax. */
    .globl  inputs, inputs_end, outputs, outputs_end
    .balign 16
inputs:
    single  in al, dx
    single  in ax, dx
    single  in eax, dx
    single  insb
    single  insw
    single  insd
    single  rep insb
    single  rep insd
    .balign 16
inputs_end:
outputs:
    single  out dx, al
    single  out dx, ax
    single  out dx, eax
    single  outsb
    single  outsw
    single  outsd
    single  rep outsb
    single  rep outsd
    .balign 16
outputs_end:

/* A place without instructions. */
    .balign 16
    .globl  go_there
go_there:
    jmp     rbx

/* A model-specific register in ecx, its value in rax. */
    .balign 16
    .globl  write_any_msr
write_any_msr:
    mov     rdx, rax
    shr     rdx, 32
    wrmsr
    ret

    .bss
    .balign 8
    .globl  refused
refused:
    .space  8
    .text
