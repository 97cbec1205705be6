# The demo guest: a small "kernel" that shows from the inside what protection means.
#
# It says whether it runs protected, keeps a marker in a private page, uses a virtio-rng device through one page that
# it shares for the purpose, and powers off. The same image runs in the clear (`-kernel`) and as the kernel of a Secure
# Execution image; then the host finds the marker in the first run and does not find it in the second.
#
#   qemu-system-s390x -M s390-ccw-virtio -nographic -kernel demo.bin -device virtio-rng-ccw
#
# For a look at its memory from outside, a command line that begins with "hold" makes it pause for ten seconds before
# the last check. With "watch" it waits before, while the page is still shared, until the host writes a byte to
# SHARED + HOST_LOOKED, for ten seconds at most: 1 to go on, 2 for an attestation and 3 for a secret, whose requests
# then stand at the start of the page.
#
# The device, the Ultravisor and the owner's requests are in virtio-rng.inc, ultravisor.inc and owner.inc.

        .include "macros.inc"

        .equ STACK, 0xff60
        .equ SCCB, 0x8000
        .equ WORK, 0x9000                 # private page: ORB, SCHIB, IRB, UVCB
        .equ PRIVATE, 0x40000             # private page: the marker
        .equ REQUEST, 0x42000             # private pages for the owner's requests
        .equ ANSWER, 0x43000
        .equ CALL, 0x44000
        .equ SHARED, 0x50000              # shared page: everything of the device, then the owner's messages

        .equ HOST_LOOKED, 0xff0           # in SHARED: what the host wants done
        .equ HOST_GO_ON, 1
        .equ HOST_ATTEST, 2
        .equ HOST_SECRET, 3

        .equ SIGP_STOP, 5
        .equ LC_PROGRAM_CODE, 0x8e
        .equ LC_PROGRAM_OLD_PSW, 0x150
        .equ LC_PROGRAM_NEW_PSW, 0x1d0
        .equ WAIT_PROGRAM_CHECK, 0x0bad

        kernel_image 0x1000
        .org    image + 0x10480
command_line:
        .org    image + 0x12000
code:
        llill   %r15, STACK
        llilf   %r11, WORK
        on_program_check program_check
        brasl   %r14, console_open

        say     text_hello
        brasl   %r14, console_flush
        brasl   %r14, find_protection
        lgr     %r13, %r2                 # 1 if protected, for the rest of the program
        brasl   %r14, console_flush

        brasl   %r14, write_marker
        say     text_marker_at
        llilf   %r2, PRIVATE
        brasl   %r14, console_hex
        say     text_line
        brasl   %r14, console_flush

        ltgr    %r13, %r13
        jz      1f
        lghi    %r2, UVC_SHARE
        larl    %r10, text_shared
        brasl   %r14, change_sharing
1:
        llilf   %r2, SHARED + BUFFER
        brasl   %r14, use_device
        brasl   %r14, console_flush
        brasl   %r14, wait_for_host

        ltgr    %r13, %r13
        jz      2f
        lghi    %r2, UVC_UNSHARE
        larl    %r10, text_unshared
        brasl   %r14, change_sharing
2:
        brasl   %r14, hold
        brasl   %r14, check_marker
        brasl   %r14, console_flush

        say     text_off
        brasl   %r14, console_flush
        stap    TIME(%r11)                # the address of this CPU
        llgh    %r3, TIME(%r11)
3:      sigp    %r1, %r3, SIGP_STOP       # the last CPU that stops powers the machine off
        j       3b

# Builds the marker in the private page. It is not in the image as it is, so whoever finds it found this page.
write_marker:
        llilf   %r1, PRIVATE
        larl    %r2, marker
        lghi    %r3, marker_end - marker
        lghi    %r5, KEY
1:      llgc    %r4, 0(%r2)
        xr      %r4, %r5
        stc     %r4, 0(%r1)
        aghi    %r1, 1
        aghi    %r2, 1
        brctg   %r3, 1b
        br      %r14

check_marker:
        llilf   %r1, PRIVATE
        larl    %r2, marker
        lghi    %r3, marker_end - marker
        lghi    %r5, KEY
1:      llgc    %r4, 0(%r2)
        xr      %r4, %r5
        llgc    %r0, 0(%r1)
        cr      %r0, %r4
        larl    %r6, text_damaged
        jne     2f
        aghi    %r1, 1
        aghi    %r2, 1
        brctg   %r3, 1b
        larl    %r6, text_intact
2:      lgr     %r2, %r6
        jg      console_puts

# Waits until the host says through the shared page that it has looked, if the command line says so.
wait_for_host:
        larl    %r1, command_line
        larl    %r2, text_watch
        clc     0(5,%r1), 0(%r2)
        bnzr    %r14
        lgr     %r10, %r14
        llilf   %r7, SHARED
        mvi     HOST_LOOKED(%r7), 0
        say     text_waiting
        brasl   %r14, console_flush
        brasl   %r14, start_clock
1:      cli     HOST_LOOKED(%r7), 0
        jne     2f
        diag    %r0, %r0, DIAG_YIELD
        brasl   %r14, ten_seconds_over
        jz      1b
        br      %r10
2:      llgc    %r1, HOST_LOOKED(%r7)
        mvi     HOST_LOOKED(%r7), 0
        cghi    %r1, HOST_ATTEST
        je      3f
        cghi    %r1, HOST_SECRET
        je      4f
        say     text_looked
        brasl   %r14, console_flush
        br      %r10
3:      brasl   %r14, give_attestation
        brasl   %r14, start_clock
        j       1b
4:      brasl   %r14, take_secret
        brasl   %r14, start_clock
        j       1b

# Waits for ten seconds if the command line says so.
hold:
        larl    %r1, command_line
        larl    %r2, text_hold
        clc     0(4,%r1), 0(%r2)
        bnzr    %r14
        lgr     %r10, %r14
        say     text_holding
        brasl   %r14, console_flush
        brasl   %r14, start_clock
1:      diag    %r0, %r0, DIAG_YIELD
        brasl   %r14, ten_seconds_over
        jz      1b
        br      %r10

# A program check is a defect or a message from the machine: name it and stop.
program_check:
        llill   %r15, STACK
        say     text_program_check
        llgh    %r2, LC_PROGRAM_CODE
        brasl   %r14, console_hex
        say     text_at
        lg      %r2, LC_PROGRAM_OLD_PSW + 8
        brasl   %r14, console_hex
        say     text_line
        brasl   %r14, console_flush
        lghi    %r2, WAIT_PROGRAM_CHECK
        jg      disabled_wait

        .include "console.inc"
        .include "ultravisor.inc"
        .include "virtio-rng.inc"
        .include "owner.inc"

        .balign 8, 0
program_check_psw:                        # 64-bit mode, disabled; the address is set at run time
        .quad   0x0000000180000000

# The marker, not readable as it stands.
        .equ KEY, 0x5a
marker:
        .byte   'C' ^ KEY, 'L' ^ KEY, 'O' ^ KEY, 'I' ^ KEY, 'S' ^ KEY, 'T' ^ KEY, 'E' ^ KEY, 'R' ^ KEY
        .byte   '-' ^ KEY, 'G' ^ KEY, 'U' ^ KEY, 'E' ^ KEY, 'S' ^ KEY, 'T' ^ KEY, '-' ^ KEY, 'S' ^ KEY
        .byte   'E' ^ KEY, 'C' ^ KEY, 'R' ^ KEY, 'E' ^ KEY, 'T' ^ KEY, '-' ^ KEY, 's' ^ KEY, '3' ^ KEY
        .byte   '9' ^ KEY, '0' ^ KEY, 'x' ^ KEY, '-' ^ KEY, '0' ^ KEY, '0' ^ KEY, '0' ^ KEY, '1' ^ KEY
marker_end:
        .balign 2, 0

text_hello:
        .asciz  "Cloister demo guest for s390x\r\n"; .balign 2, 0
text_marker_at:
        .asciz  "marker written to private page 0x"; .balign 2, 0
text_shared:
        .asciz  "one page shared with the host\r\n"; .balign 2, 0
text_unshared:
        .asciz  "page is private again\r\n"; .balign 2, 0
text_holding:
        .asciz  "holding for ten seconds\r\n"; .balign 2, 0
text_watch:
        .ascii  "watch"; .balign 2, 0
text_waiting:
        .asciz  "waiting until the host has looked\r\n"; .balign 2, 0
text_looked:
        .asciz  "the host has looked\r\n"; .balign 2, 0
text_hold:
        .ascii  "hold"
text_intact:
        .asciz  "marker intact\r\n"; .balign 2, 0
text_damaged:
        .asciz  "MARKER DAMAGED\r\n"; .balign 2, 0
text_off:
        .asciz  "powering off\r\n"; .balign 2, 0
text_program_check:
        .asciz  "program check 0x"; .balign 2, 0
text_at:
        .asciz  " before 0x"; .balign 2, 0
text_line:
        .asciz  "\r\n"
        .balign 8, 0
