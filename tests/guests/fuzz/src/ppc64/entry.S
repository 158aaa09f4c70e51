/* Whatever an access raises: the instruction is skipped, with interrupts off. Copied to every vector; no longer than 0x80 bytes.
   Counted, without care for the other vCPU, at REFUSED, which is reached with translation off. */
    .text
    .balign 16
    .globl  vector, vector_end
vector:
    mtsprg  2, 3
    ld      3, 0x48(0)
    addi    3, 3, 1
    std     3, 0x48(0)
    mfsrr0  3
    addi    3, 3, 4
    mtsrr0  3
    mfsrr1  3
    rldicl  3, 3, 48, 1             /* EE off */
    rotldi  3, 3, 16
    mtsrr1  3
    mfsprg  3, 2
    rfid
vector_end:

/* call_all(r3 = ten doublewords): a hypervisor call with them in r3 to r12, and afterwards as they are then. */
    .balign 16
    .globl  call_all
call_all:
    std     3, -8(1)
    ld      4, 8(3)
    ld      5, 16(3)
    ld      6, 24(3)
    ld      7, 32(3)
    ld      8, 40(3)
    ld      9, 48(3)
    ld      10, 56(3)
    ld      11, 64(3)
    ld      12, 72(3)
    ld      3, 0(3)
    sc      1
    ld      0, -8(1)
    mr      12, 3
    mr      3, 0
    std     12, 0(3)
    std     4, 8(3)
    std     5, 16(3)
    std     6, 24(3)
    std     7, 32(3)
    std     8, 40(3)
    std     9, 48(3)
    std     10, 56(3)
    std     11, 64(3)
    blr

/* translated(r3 = address, r4 = value, r5 = what is called): with data translation on. */
    .balign 16
    .globl  translated
translated:
    mflr    0
    mtctr   5
    mfmsr   6
    ori     7, 6, 0x10
    mtmsrd  7
    isync
    bctrl
    mtmsrd  6
    isync
    mtlr    0
    blr

    .macro  single instruction:vararg
    \instruction
    blr
    .endm

/* Single accesses to the address in r3, of eight bytes each. */
    .balign 8
    .globl  accesses, accesses_end
accesses:
    single  ld 4, 0(3)
    single  std 4, 0(3)
    single  lbz 4, 0(3)
    single  stb 4, 0(3)
    single  lhz 4, 0(3)
    single  stw 4, 0(3)
    single  lwarx 4, 0, 3
    single  ldbrx 4, 0, 3
    single  stdbrx 4, 0, 3
    single  dcbz 0, 3
    single  dcbst 0, 3
    single  dcbt 0, 3
accesses_end:

/* set_segment(r3 = VSID doubleword, r4 = ESID doubleword): an entry of the segment buffer. */
    .balign 16
    .globl  set_segment
set_segment:
    isync
    slbmte  3, 4
    isync
    blr

/* publish(r3 = first byte, r4 = bytes): instructions that were written can be executed. */
    .balign 16
    .globl  publish
publish:
    add     4, 3, 4
1:  dcbst   0, 3
    sync
    icbi    0, 3
    addi    3, 3, 0x20
    cmpld   3, 4
    blt     1b
    sync
    isync
    blr
