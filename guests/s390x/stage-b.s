# Stage B: the loader inside the protected guest.
#
# It is the last of the encrypted components, and the PSW in the Secure Execution header points at its first byte.
# The components lie one after another above 0x14000, encrypted as they were packed and now in the clear for this
# guest only. Stage B puts them where a Linux kernel expects them and starts it.
#
# Where stage B is loaded is not known when it is assembled, and the kernel will cover the place: so it first moves
# itself below 0x10000. All references are relative. The contract with the image tool stands in README.md.
# References: z/Architecture Principles of Operation (SA22-7832); the parameter area of a Linux s390 kernel image
# (u64 at 0x10408 and 0x10410 the ramdisk, 0x10430 the command line's size, 0x10480 the command line).

        .equ HOME, 0xa000                 # where the body runs; it must end at or below 0xf000
        .equ STACK, 0xff60                # one frame of 160 bytes below 0x10000
        .equ SCCB, 0x2000                 # scratch page

        .equ SIGP_SET_ARCHITECTURE, 0x12
        .equ KERNEL, 0x10000              # also the part of a kernel image that is not needed in memory
        .equ DEFAULT_COMMAND_LINE_SIZE, 896
        .equ WAIT_FAILED, 0x4511

mover:
        lhi     %r1, 1                    # z/Architecture
        sigp    %r1, %r0, SIGP_SET_ARCHITECTURE
        sam64
        larl    %r4, body
        larl    %r5, body_end
        sgr     %r5, %r4
        llill   %r2, HOME
        lgr     %r3, %r5
1:      mvcle   %r2, %r4, 0
        jo      1b                        # the machine moved a part only
        llill   %r1, HOME
        br      %r1

        .balign 8, 0
body:
        llill   %r15, STACK
        larl    %r6, arguments
        llilf   %r7, KERNEL

        # Kernel: everything from 0x10000 of the image goes to 0x10000. This moves downwards, so that source and
        # target may overlap.
        lg      %r4, 0(%r6)
        lg      %r5, 8(%r6)
        larl    %r8, text_kernel
        clgr    %r5, %r7
        jl      failed
        sgr     %r5, %r7
        agr     %r4, %r7
        lgr     %r2, %r7
        lgr     %r3, %r5
1:      mvcle   %r2, %r4, 0
        jo      1b

        # Command line: not longer than the kernel says, and terminated.
        lg      %r4, 16(%r6)
        lg      %r5, 24(%r6)
        ltgr    %r5, %r5
        jz      no_command_line
        lg      %r9, 0x430(%r7)
        ltgr    %r9, %r9
        jnz     1f
        lghi    %r9, DEFAULT_COMMAND_LINE_SIZE
1:      larl    %r8, text_too_large
        clgr    %r5, %r9
        jh      failed
        larl    %r8, text_terminate
        lgr     %r1, %r4
        agr     %r1, %r5
        aghi    %r1, -1
        cli     0(%r1), 0
        jne     failed
        la      %r2, 0x480(%r7)
        lgr     %r3, %r5
1:      mvcle   %r2, %r4, 0
        jo      1b
no_command_line:

        # Ramdisk: it stays where it is.
        lg      %r1, 32(%r6)
        lg      %r2, 40(%r6)
        ltgr    %r2, %r2
        jz      start
        stg     %r1, 0x408(%r7)
        stg     %r2, 0x410(%r7)
start:
        lpswe   48(%r6)

failed:                                   # %r8 = text
        brasl   %r14, console_open
        lgr     %r2, %r8
        brasl   %r14, console_puts
        brasl   %r14, console_flush
        lghi    %r2, WAIT_FAILED
        jg      disabled_wait

        .include "console.inc"

text_kernel:    .asciz "Invalid kernel\r\n"; .balign 2, 0
text_too_large: .asciz "Command line is too large\r\n"; .balign 2, 0
text_terminate: .asciz "Command line needs to be null-terminated\r\n"; .balign 2, 0

# The tool fills these; they are the last 64 bytes: { u64 address, u64 size } of kernel, command line and ramdisk,
# then the PSW of the kernel.
        .balign 8, 0
arguments:
        .quad   0, 0, 0, 0, 0, 0
        .quad   0, 0
body_end:
