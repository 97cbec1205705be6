# The bench: /init of an initramfs, a static program without a C library. It runs each of the parts below a few times and
# prints for each a line
#
#   BENCH name count ticks          both in hexadecimal; a tick is 1/4096 microsecond of guest time (STCKF)
#   BENCH name absent               the machine does not offer it
#   BENCH name wrong                it gave another result than the standard's example
#
# then powers the machine off. benches/engine knows how much a count is and makes ratios of it.
#
#   s390x-linux-gnu-as -march=z13 -o init.o init.s && s390x-linux-gnu-ld -static -o init init.o

        .equ ROUNDS, 3

        .equ SYS_EXIT, 1
        .equ SYS_FORK, 2
        .equ SYS_READ, 3
        .equ SYS_WRITE, 4
        .equ SYS_CLOSE, 6
        .equ SYS_PIPE, 42
        .equ SYS_GETPPID, 64
        .equ SYS_REBOOT, 88
        .equ SYS_WAIT4, 114
        .equ SYS_SCHED_SETAFFINITY, 239

        .equ KM_AES_128, 18
        .equ KIMD_SHA_256, 2
        .equ KIMD_SHA_512, 3
        .equ CHUNK, 4096                  # bytes for one count of the crypto parts
        .equ MEMORY, 0x100000             # bytes that the memory loop walks over

        .equ ABSENT, 1                    # answers of a part; 0: done
        .equ WRONG, 2

# A part: its function gets the count in %r2 and answers in %r2; %r6-%r13 and %r15 are kept.
        .macro  part name, function, count
        .quad   \function, \count, 9f
        .section .rodata
9:      .asciz  "\name"
        .data
        .endm

        .macro  enter
        stmg    %r6, %r15, 48(%r15)
        aghi    %r15, -160
        .endm

        .macro  leave answer
        lghi    %r2, \answer
        aghi    %r15, 160
        lmg     %r6, %r15, 48(%r15)
        br      %r14
        .endm

        .macro  say text
        larl    %r2, \text
        brasl   %r14, print
        .endm

        .data
        .balign 8
parts:
        part    int, integer_loop, 8000000
        part    memory, memory_loop, 4000000
        part    near, near_loop, 4000000
        part    move, move_loop, 500000
        part    aes, aes_software, 400
        part    km, aes_km, 2000
        part    sha256, sha256_software, 400
        part    sha512, sha512_software, 400
        part    kimd256, sha256_kimd, 2000
        part    kimd512, sha512_kimd, 2000
        part    syscall, system_calls, 50000
        part    switch, context_switches, 4000
        part    two, two_workers, 8000000
        .quad   0

        .text
        .globl  _start
_start:
        aghi    %r15, -320
        brasl   %r14, aes_tables
        brasl   %r14, sha_constants
        say     text_begin
        lghi    %r10, ROUNDS
1:      larl    %r11, parts
2:      ltg     %r1, 0(%r11)
        jz      6f
        lg      %r2, 8(%r11)
        stckf   160(%r15)
        basr    %r14, %r1
        stckf   168(%r15)
        lgr     %r12, %r2
        say     text_bench
        lg      %r2, 16(%r11)
        brasl   %r14, print
        cghi    %r12, ABSENT
        je      3f
        cghi    %r12, WRONG
        je      4f
        lg      %r2, 8(%r11)
        brasl   %r14, print_hex
        lg      %r2, 168(%r15)
        sg      %r2, 160(%r15)
        brasl   %r14, print_hex
        say     text_line
        j       5f
3:      say     text_absent
        j       5f
4:      say     text_wrong
5:      brasl   %r14, flush
        aghi    %r11, 24
        j       2b
6:      brctg   %r10, 1b
        say     text_end
        brasl   %r14, flush
        llilf   %r2, 0xfee1dead
        llilf   %r3, 672274793
        llilf   %r4, 0x4321fedc           # power off
        svc     SYS_REBOOT
7:      j       7b

# --- Loops -------------------------------------------------------------------------------------------------------------

# 8 instructions for each count.
integer_loop:
        stmg    %r6, %r9, 48(%r15)
1:      agr     %r4, %r5
        xgr     %r6, %r4
        sllg    %r7, %r6, 3
        aghi    %r5, 7
        ogr     %r8, %r7
        lgr     %r9, %r8
        sgr     %r9, %r4
        brctg   %r2, 1b
        lmg     %r6, %r9, 48(%r15)
        lghi    %r2, 0
        br      %r14

# 9 instructions for each count.
        .macro  walk and, mask
        stg     %r6, 48(%r15)
        larl    %r1, buffer
        lghi    %r3, 0
1:      lg      %r4, 0(%r3,%r1)
        ag      %r4, 8(%r3,%r1)
        stg     %r4, 16(%r3,%r1)
        l       %r5, 24(%r3,%r1)
        st      %r5, 28(%r3,%r1)
        llgc    %r6, 33(%r3,%r1)
        aghi    %r3, 64
        \and    %r3, \mask
        brctg   %r2, 1b
        lg      %r6, 48(%r15)
        lghi    %r2, 0
        br      %r14
        .endm

memory_loop:
        walk    nilh, ((MEMORY - 1) >> 16)

# The same in 16 KiB, which every translation buffer holds.
near_loop:
        walk    nill, 0x3fff

# 6 instructions for each count.
move_loop:
        larl    %r1, buffer
        lghi    %r3, 0
1:      la      %r5, 0(%r3,%r1)
        mvc     64(16,%r5), 0(%r5)
        mvc     80(40,%r5), 16(%r5)
        aghi    %r3, 64
        nilh    %r3, (MEMORY - 1) >> 16
        brctg   %r2, 1b
        lghi    %r2, 0
        br      %r14

# --- AES-128 -----------------------------------------------------------------------------------------------------------

# The table of MixColumns and SubBytes together, and the round keys.
aes_tables:
        enter
        larl    %r1, sbox
        larl    %r2, aes_t
        lghi    %r3, 256
1:      llgc    %r4, 0(%r1)
        sllk    %r5, %r4, 1               # times 2
        tmll    %r5, 0x100
        jz      2f
        xilf    %r5, 0x11b
2:      xrk     %r6, %r5, %r4             # times 3
        sllk    %r7, %r5, 24
        sllk    %r8, %r4, 16
        or      %r7, %r8
        sllk    %r8, %r4, 8
        or      %r7, %r8
        or      %r7, %r6
        st      %r7, 0(%r2)
        la      %r1, 1(%r1)
        la      %r2, 4(%r2)
        brctg   %r3, 1b

        larl    %r1, sbox
        larl    %r2, round_keys
        larl    %r3, aes_key
        mvc     0(16,%r2), 0(%r3)
        lghi    %r3, 10
        llilh   %r4, 0x0100               # round constant
3:      l       %r5, 12(%r2)
        rll     %r5, %r5, 8
        lghi    %r7, 4
4:      rll     %r5, %r5, 8
        llgcr   %r6, %r5
        ic      %r5, 0(%r6,%r1)
        brctg   %r7, 4b
        xr      %r5, %r4
        .irp    column, 0, 4, 8, 12
        x       %r5, \column(%r2)
        st      %r5, \column+16(%r2)
        .endr
        la      %r2, 16(%r2)
        sllk    %r4, %r4, 1
        ltr     %r4, %r4                  # behind 0x80 nothing is left
        jnz     5f
        llilh   %r4, 0x1b00
5:      brctg   %r3, 3b
        aghi    %r15, 160
        lmg     %r6, %r15, 48(%r15)
        br      %r14

# One column of a round from columns \a..\d, into \t.
        .macro  column t, a, b, c, d, key
        risbg   %r3, \a, 54, 128+61, 42
        l       \t, 0(%r3,%r1)
        risbg   %r3, \b, 54, 128+61, 50
        l       %r4, 0(%r3,%r1)
        rll     %r4, %r4, 24
        xr      \t, %r4
        risbg   %r3, \c, 54, 128+61, 58
        l       %r4, 0(%r3,%r1)
        rll     %r4, %r4, 16
        xr      \t, %r4
        risbg   %r3, \d, 54, 128+61, 2
        l       %r4, 0(%r3,%r1)
        rll     %r4, %r4, 8
        xr      \t, %r4
        x       \t, \key(%r2)
        .endm

# The same of the last round.
        .macro  last t, a, b, c, d, key
        risbg   %r3, \a, 56, 128+63, 40
        llgc    \t, 0(%r3,%r1)
        .irp    next, "\b, 48", "\c, 56", "\d, 0"
        final   \t, \next
        .endr
        x       \t, \key(%r2)
        .endm
        .macro  final t, from, rotate
        risbg   %r3, \from, 56, 128+63, \rotate
        sll     \t, 8
        ic      \t, 0(%r3,%r1)
        .endm

# Encrypts the block at %r5 in place; keeps %r0 and %r5.
aes_block:
        stmg    %r6, %r14, 48(%r15)
        larl    %r1, aes_t
        larl    %r2, round_keys
        lm      %r6, %r9, 0(%r5)
        x       %r6, 0(%r2)
        x       %r7, 4(%r2)
        x       %r8, 8(%r2)
        x       %r9, 12(%r2)
        lghi    %r14, 9
1:      la      %r2, 16(%r2)
        column  %r10, %r6, %r7, %r8, %r9, 0
        column  %r11, %r7, %r8, %r9, %r6, 4
        column  %r12, %r8, %r9, %r6, %r7, 8
        column  %r13, %r9, %r6, %r7, %r8, 12
        lgr     %r6, %r10
        lgr     %r7, %r11
        lgr     %r8, %r12
        lgr     %r9, %r13
        brctg   %r14, 1b
        la      %r2, 16(%r2)
        larl    %r1, sbox
        last    %r10, %r6, %r7, %r8, %r9, 0
        last    %r11, %r7, %r8, %r9, %r6, 4
        last    %r12, %r8, %r9, %r6, %r7, 8
        last    %r13, %r9, %r6, %r7, %r8, 12
        stm     %r10, %r13, 0(%r5)
        lmg     %r6, %r14, 48(%r15)
        br      %r14

aes_software:
        enter
        lgr     %r10, %r2
        larl    %r5, buffer
        larl    %r1, aes_plain
        mvc     0(16,%r5), 0(%r1)
        brasl   %r14, aes_block
        larl    %r1, aes_cipher
        clc     0(16,%r5), 0(%r1)
        jne     9f
1:      larl    %r5, buffer
        lghi    %r11, CHUNK / 16
2:      brasl   %r14, aes_block
        la      %r5, 16(%r5)
        brctg   %r11, 2b
        brctg   %r10, 1b
        leave   0
9:      leave   WRONG

# Prepares the query function of the message-security assist with its parameter block in the caller's frame. Condition
# code 0: the facility is not there.
prepare_query:
        la      %r1, 160-16(%r15)
        xc      0(16,%r1), 0(%r1)
        lghi    %r0, 0
        stfle   0(%r1)
        llgc    %r3, 2(%r1)               # facilities 16-23
        xc      0(16,%r1), 0(%r1)
        lghi    %r0, 0
        tmll    %r3, 0x40
        br      %r14

# CIPHER MESSAGE with AES-128: %r4 to %r2 bytes in place at the buffer.
        .macro  cipher length
        larl    %r1, aes_key
        larl    %r2, buffer
        lgr     %r4, %r2
        lghi    %r3, \length
7:      lghi    %r0, KM_AES_128
        km      %r4, %r2
        jo      7b                        # not finished yet
        .endm

aes_km:
        enter
        lgr     %r10, %r2
        brasl   %r14, prepare_query
        jz      8f
        km      %r2, %r4
        tm      160-16+KM_AES_128/8(%r15), 0x80 >> (KM_AES_128 & 7)
        jz      8f
        larl    %r5, buffer
        larl    %r1, aes_plain
        mvc     0(16,%r5), 0(%r1)
        cipher  16
        larl    %r5, buffer
        larl    %r1, aes_cipher
        clc     0(16,%r5), 0(%r1)
        jne     9f
1:      cipher  CHUNK
        brctg   %r10, 1b
        leave   0
8:      leave   ABSENT
9:      leave   WRONG

# --- SHA-2 -------------------------------------------------------------------------------------------------------------

# SHA-256's constants are the high halves of SHA-512's.
sha_constants:
        larl    %r1, sha_k
        larl    %r2, sha256_k
        lghi    %r3, 64 + 8               # those of the digest are at the end
1:      cghi    %r3, 8
        jne     2f
        larl    %r1, sha_h
        larl    %r2, sha256_h
2:      mvc     0(4,%r2), 0(%r1)
        la      %r1, 8(%r1)
        la      %r2, 4(%r2)
        brctg   %r3, 1b
        br      %r14

# Both hashes: instructions by the suffix g for 64 bits, the rotations by distance to the right.
        .macro  sha name, g, word, rounds, shift, bits, k, S0a, S0b, S0c, S1a, S1b, S1c, s0a, s0b, s0c, s1a, s1b, s1c

        .macro  rotations_\name r, a, b, c
        rll\g   %r4, \r, \bits - \a
        rll\g   %r5, \r, \bits - \b
        x\g\()r %r4, %r5
        rll\g   %r5, \r, \bits - \c
        x\g\()r %r4, %r5
        .endm
        .macro  schedule_\name at, a, b, c
        l\g     %r0, (\at)*\word(%r1)
        lgr     %r3, %r0
        rll\g   %r4, %r3, \bits - \a
        rll\g   %r5, %r3, \bits - \b
        x\g\()r %r4, %r5
        \shift  %r5, %r3, \c
        x\g\()r %r4, %r5
        al\g\()r %r2, %r4
        .endm

# Adds the block at %r2 to the digest at %r3.
block_\name:
        stmg    %r6, %r14, 48(%r15)
        lgr     %r14, %r3
        larl    %r1, schedule
        mvc     0(16*\word,%r1), 0(%r2)
        lghi    %r6, \rounds - 16
1:      l\g     %r2, 0(%r1)
        al\g    %r2, 9*\word(%r1)
        schedule_\name 1, \s0a, \s0b, \s0c
        schedule_\name 14, \s1a, \s1b, \s1c
        st\g    %r2, 16*\word(%r1)
        la      %r1, \word(%r1)
        brctg   %r6, 1b

        larl    %r1, schedule
        larl    %r2, \k
        lm\g    %r6, %r13, 0(%r14)
        lghi    %r3, \rounds
2:      rotations_\name %r10, \S1a, \S1b, \S1c
        al\g\()r %r13, %r4
        lgr     %r4, %r11                 # choose
        x\g\()r %r4, %r12
        n\g\()r %r4, %r10
        x\g\()r %r4, %r12
        al\g\()r %r13, %r4
        al\g    %r13, 0(%r1)
        al\g    %r13, 0(%r2)
        al\g\()r %r9, %r13
        rotations_\name %r6, \S0a, \S0b, \S0c
        al\g\()r %r13, %r4
        lgr     %r4, %r6                  # majority
        o\g\()r %r4, %r7
        n\g\()r %r4, %r8
        lgr     %r5, %r6
        n\g\()r %r5, %r7
        o\g\()r %r4, %r5
        al\g\()r %r13, %r4
        lgr     %r4, %r13
        lgr     %r13, %r12
        lgr     %r12, %r11
        lgr     %r11, %r10
        lgr     %r10, %r9
        lgr     %r9, %r8
        lgr     %r8, %r7
        lgr     %r7, %r6
        lgr     %r6, %r4
        la      %r1, \word(%r1)
        la      %r2, \word(%r2)
        brctg   %r3, 2b
        .irp    n, 6, 7, 8, 9, 10, 11, 12, 13
        al\g    %r\n, (\n-6)*\word(%r14)
        .endr
        stm\g   %r6, %r13, 0(%r14)
        lmg     %r6, %r14, 48(%r15)
        br      %r14
        .endm

        sha     sha256, , 4, 64, srlk, 32, sha256_k, 2, 13, 22, 6, 11, 25, 7, 18, 3, 17, 19, 10
        sha     sha512, g, 8, 80, srlg, 64, sha_k, 28, 34, 39, 14, 18, 41, 1, 8, 7, 19, 61, 6

# Begins the digest at %r3 with \start and makes the padded block of "abc" at the buffer, \size bytes long.
        .macro  prepare start, size
        larl    %r3, digest
        larl    %r1, \start
        mvc     0(\size/2,%r3), 0(%r1)
        larl    %r2, buffer
        xc      0(\size,%r2), 0(%r2)
        larl    %r1, text_abc
        mvc     0(4,%r2), 0(%r1)
        mvi     \size-1(%r2), 24          # bits
        .endm

        .macro  check_digest expected, size
        larl    %r3, digest
        larl    %r1, \expected
        clc     0(\size/2,%r3), 0(%r1)
        jne     9f
        .endm

        .macro  software name, start, expected, size
\name\()_software:
        enter
        lgr     %r10, %r2
        prepare \start, \size
        brasl   %r14, block_\name
        check_digest \expected, \size
1:      larl    %r12, buffer
        lghi    %r11, CHUNK / \size
2:      lgr     %r2, %r12
        larl    %r3, digest
        brasl   %r14, block_\name
        la      %r12, \size(%r12)
        brctg   %r11, 2b
        brctg   %r10, 1b
        leave   0
9:      leave   WRONG
        .endm

        software sha256, sha256_h, sha256_abc, 64
        software sha512, sha_h, sha512_abc, 128

# COMPUTE INTERMEDIATE MESSAGE DIGEST over \length bytes of the buffer.
        .macro  intermediate function, length
        larl    %r1, digest
        larl    %r2, buffer
        lghi    %r3, \length
7:      lghi    %r0, \function
        kimd    %r4, %r2
        jo      7b
        .endm

        .macro  hardware name, function, start, expected, size
\name\()_kimd:
        enter
        lgr     %r10, %r2
        brasl   %r14, prepare_query
        jz      8f
        kimd    %r4, %r2
        tm      160-16(%r15), 0x80 >> \function
        jz      8f
        prepare \start, \size
        intermediate \function, \size
        check_digest \expected, \size
1:      intermediate \function, CHUNK
        brctg   %r10, 1b
        leave   0
8:      leave   ABSENT
9:      leave   WRONG
        .endm

        hardware sha256, KIMD_SHA_256, sha256_h, sha256_abc, 64
        hardware sha512, KIMD_SHA_512, sha_h, sha512_abc, 128

# --- The kernel --------------------------------------------------------------------------------------------------------

system_calls:
        lgr     %r1, %r2
1:      svc     SYS_GETPPID
        brctg   %r1, 1b
        lghi    %r2, 0
        br      %r14

# One byte there and back through two pipes between two processes on one CPU: two switches for each count.
context_switches:
        enter
        lgr     %r10, %r2
        lghi    %r2, 1
        brasl   %r14, allow_cpus
        la      %r2, 152-8(%r15)          # to the child
        svc     SYS_PIPE
        la      %r2, 160-8(%r15)          # and back
        svc     SYS_PIPE
        lgf     %r6, 144(%r15)
        lgf     %r7, 148(%r15)
        lgf     %r8, 152(%r15)
        lgf     %r9, 156(%r15)
        svc     SYS_FORK
        ltgr    %r11, %r2
        jz      child
        lgr     %r2, %r6
        svc     SYS_CLOSE
        lgr     %r2, %r9
        svc     SYS_CLOSE
1:      lgr     %r2, %r7
        brasl   %r14, send_byte
        lgr     %r2, %r8
        brasl   %r14, receive_byte
        brctg   %r10, 1b
        lgr     %r2, %r7
        svc     SYS_CLOSE
        lgr     %r2, %r8
        svc     SYS_CLOSE
        lgr     %r2, %r11
        brasl   %r14, await
        lghi    %r2, -1
        brasl   %r14, allow_cpus
        leave   0
child:
        lgr     %r2, %r7
        svc     SYS_CLOSE
1:      lgr     %r2, %r6
        brasl   %r14, receive_byte
        cghi    %r2, 1
        jne     2f
        lgr     %r2, %r9
        brasl   %r14, send_byte
        j       1b
2:      lghi    %r2, 0
        svc     SYS_EXIT

send_byte:
        larl    %r3, byte
        lghi    %r4, 1
        svc     SYS_WRITE
        br      %r14
receive_byte:
        larl    %r3, byte
        lghi    %r4, 1
        svc     SYS_READ
        br      %r14

# This process may use the CPUs in the mask %r2.
allow_cpus:
        larl    %r4, cpu_mask
        stg     %r2, 0(%r4)
        lghi    %r2, 0
        lghi    %r3, 8
        svc     SYS_SCHED_SETAFFINITY
        br      %r14

# Waits for the end of the process %r2.
await:
        lghi    %r3, 0
        lghi    %r4, 0
        lghi    %r5, 0
        svc     SYS_WAIT4
        br      %r14

# The integer loop in two processes at once, each with the whole count.
two_workers:
        enter
        lgr     %r10, %r2
        svc     SYS_FORK
        ltgr    %r11, %r2
        lgr     %r2, %r10
        brasl   %r14, integer_loop
        ltgr    %r2, %r11
        jnz     1f
        svc     SYS_EXIT
1:      brasl   %r14, await
        leave   0

# --- Output: collected, then written at once --------------------------------------------------------------------------

print:
        larl    %r1, line
        larl    %r3, line_end
        lg      %r4, 0(%r3)
1:      llgc    %r0, 0(%r2)
        ltgr    %r0, %r0
        jz      2f
        stc     %r0, 0(%r4,%r1)
        aghi    %r4, 1
        aghi    %r2, 1
        j       1b
2:      stg     %r4, 0(%r3)
        br      %r14

print_hex:
        larl    %r1, line
        larl    %r3, line_end
        lg      %r4, 0(%r3)
        la      %r1, 0(%r4,%r1)
        mvi     0(%r1), ' '
        aghi    %r1, 1
        lghi    %r5, 16
1:      rllg    %r2, %r2, 4
        lghi    %r0, 15
        ngr     %r0, %r2
        aghi    %r0, '0'
        cghi    %r0, '9'
        jle     2f
        aghi    %r0, 'a' - '0' - 10
2:      stc     %r0, 0(%r1)
        aghi    %r1, 1
        brctg   %r5, 1b
        aghi    %r4, 17
        stg     %r4, 0(%r3)
        br      %r14

flush:
        lghi    %r2, 1
        larl    %r3, line
        larl    %r1, line_end
        lg      %r4, 0(%r1)
        xc      0(8,%r1), 0(%r1)
        svc     SYS_WRITE
        br      %r14

        .section .rodata
        # LARL reaches even addresses only.
        .macro  text label, words
        .balign 2
\label: .asciz  "\words"
        .endm
        text    text_begin, "BENCH begin\n"
        text    text_end, "BENCH end\n"
        text    text_bench, "BENCH "
        text    text_absent, " absent\n"
        text    text_wrong, " wrong\n"
        text    text_line, "\n"
        text    text_abc, "abc\x80"
        .balign 8
        .include "tables.inc"

        .bss
        .balign 8
line_end:       .skip 8
cpu_mask:       .skip 8
digest:         .skip 64
sha256_k:       .skip 256
sha256_h:       .skip 32
schedule:       .skip 640
round_keys:     .skip 176
aes_t:          .skip 1024
byte:           .skip 8
line:           .skip 4096
        .balign 4096
buffer:         .skip MEMORY + 128
