# The probing guest: it asks for what a protected guest must not get, and prints what the machine answers.
#
# Run it as the kernel of a Secure Execution image, with a virtio-rng device. Each line names the attempt and ends
# with `rc 0x...` (the Ultravisor's or DIAGNOSE's answer), `cc 0x...` (a condition code) or `program check 0x...`. The
# last attempt lets the device write into a private page and looks whether the page changed. In the clear most
# attempts end in a program check (or are granted, for the device), which is the expected contrast.
#
#   qemu-system-s390x -M s390-ccw-virtio -nographic -kernel probe.bin -device virtio-rng-ccw
#
# References: as in demo.s; DIAGNOSE 0x308 and the return codes of Ultravisor calls as public consumers define them.

        .include "macros.inc"

        .equ STACK, 0xff60
        .equ SCCB, 0x8000
        .equ WORK, 0x9000                 # private page: ORB, SCHIB, IRB, UVCB
        .equ SYSTEM_INFORMATION, 0xa000   # private page: STSI
        .equ PRIVATE, 0x40000             # private page that the device shall write to
        .equ SHARED, 0x50000              # shared page: channel programs and ring

        .equ SIGP_STOP, 5
        .equ DIAG_IPL, 0x308
        .equ PATTERN, 0xa5

        .equ LC_PROGRAM_CODE, 0x8e
        .equ LC_PROGRAM_NEW_PSW, 0x1d0

        kernel_image 0x1000
        .org    image + 0x12000
code:
        llill   %r15, STACK
        llilf   %r11, WORK
        on_program_check unexpected
        brasl   %r14, console_open
        brasl   %r14, find_protection
        lgr     %r13, %r2
        brasl   %r14, console_flush

        # Ultravisor calls, from the table.
        larl    %r9, calls
1:      lgf     %r2, 0(%r9)
        ltgr    %r2, %r2
        jz      2f
        larl    %r3, calls
        agr     %r2, %r3
        brasl   %r14, console_puts
        xc      UVCB(256,%r11), UVCB(%r11)
        mvc     UVCB(4,%r11), 4(%r9)
        mvc     UVCB + 0x20(8,%r11), 8(%r9)
        larl    %r1, checked
        stg     %r1, LC_PROGRAM_NEW_PSW + 8
        brasl   %r14, attempt_call
        aghi    %r9, 16
        j       1b
2:
        # DIAGNOSE 0x308: 8 and 10 (setting up and entering protection) do not exist inside.
        lghi    %r9, 8
        say     text_diag_8
        brasl   %r14, attempt_ipl
        lghi    %r9, 10
        say     text_diag_10
        brasl   %r14, attempt_ipl

        # STSI 15.1.2, the topology.
        say     text_stsi
        brasl   %r14, attempt_stsi

        # A device that is told to write to a private page.
        llilf   %r2, PRIVATE
        mvi     0(%r2), PATTERN
        mvc     1(15,%r2), 0(%r2)
        larl    %r1, unexpected
        stg     %r1, LC_PROGRAM_NEW_PSW + 8
        ltgr    %r13, %r13
        jz      3f
        lghi    %r2, UVC_SHARE
        larl    %r10, text_shared
        brasl   %r14, change_sharing
3:      llilf   %r2, PRIVATE
        brasl   %r14, use_device
        llilf   %r2, PRIVATE
        larl    %r6, text_written
        cli     0(%r2), PATTERN
        jne     4f
        clc     1(15,%r2), 0(%r2)
        jne     4f
        larl    %r6, text_untouched
4:      lgr     %r2, %r6
        brasl   %r14, console_puts
        brasl   %r14, console_flush

        stap    TIME(%r11)
        llgh    %r3, TIME(%r11)
5:      sigp    %r1, %r3, SIGP_STOP
        j       5b

# One attempt each. A program check continues at `checked`, so they return to %r10 and not through a stack.
attempt_call:
        lgr     %r10, %r14
        la      %r2, UVCB(%r11)
1:      uvc     %r0, %r2
        jnle    1b                        # busy or partial: again
        say     text_rc
        llgh    %r2, UVCB + 4(%r11)
        j       answered

attempt_ipl:                              # subcode %r9
        lgr     %r10, %r14
        lghi    %r2, 0
        lghi    %r3, 0
        diag    %r2, %r9, DIAG_IPL
        lgr     %r8, %r3
        say     text_rc
        lgr     %r2, %r8
        j       answered

attempt_stsi:
        lgr     %r10, %r14
        llilf   %r8, SYSTEM_INFORMATION
        llilf   %r0, 0xf0000001           # function code 15, selector 1
        lghi    %r1, 2                    # selector 2
        stsi    0(%r8)
        ipm     %r8
        srl     %r8, 28
        say     text_cc
        llgfr   %r2, %r8
        j       answered

checked:
        say     text_check
        llgh    %r2, LC_PROGRAM_CODE
answered:
        brasl   %r14, console_hex
        say     text_line
        brasl   %r14, console_flush
        br      %r10

unexpected:
        llill   %r15, STACK
        say     text_unexpected
        larl    %r10, 1f
        j       checked
1:      lghi    %r2, 0x0bad
        jg      disabled_wait

        .include "console.inc"
        .include "ultravisor.inc"
        .include "virtio-rng.inc"

        .balign 8, 0
program_check_psw:                        # 64-bit mode, disabled; the address is set at run time
        .quad   0x0000000180000000

# { s32 distance of the text from here, u16 length, u16 command, u64 at 0x20 }, ended by 0.
calls:
        .long   text_unknown - calls
        .short  0x30, 0x7777
        .quad   0
        .long   text_host - calls
        .short  0x50, 0x0300
        .quad   0
        .long   text_export - calls
        .short  0x20, 0x0201
        .quad   PRIVATE
        .long   text_length - calls
        .short  0x28, UVC_SHARE
        .quad   SHARED
        .long   text_outside - calls
        .short  0x30, UVC_SHARE
        .quad   0x7ffffffffffff000
        .quad   0

text_unknown:
        .asciz  "Ultravisor call that does not exist:"; .balign 2, 0
text_host:
        .asciz  "set secure parameters (a host's call):"; .balign 2, 0
text_export:
        .asciz  "export a private page (a host's call):"; .balign 2, 0
text_length:
        .asciz  "share with a short control block:"; .balign 2, 0
text_outside:
        .asciz  "share an address beyond memory:"; .balign 2, 0
text_diag_8:
        .asciz  "DIAGNOSE 308 subcode 8:"; .balign 2, 0
text_diag_10:
        .asciz  "DIAGNOSE 308 subcode 10:"; .balign 2, 0
text_stsi:
        .asciz  "STSI 15.1.2:"; .balign 2, 0
text_rc:
        .asciz  " rc 0x"; .balign 2, 0
text_cc:
        .asciz  " cc 0x"; .balign 2, 0
text_check:
        .asciz  " program check 0x"; .balign 2, 0
text_unexpected:
        .asciz  "unexpected"; .balign 2, 0
text_shared:
        .asciz  "one page shared with the host\r\n"; .balign 2, 0
text_written:
        .asciz  "device write to a private page: THE PAGE WAS WRITTEN\r\n"; .balign 2, 0
text_untouched:
        .asciz  "device write to a private page: untouched\r\n"; .balign 2, 0
text_line:
        .asciz  "\r\n"
        .balign 8, 0
