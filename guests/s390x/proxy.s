# The proxy: a guest that makes Ultravisor calls for whoever writes into the pages that it shares.
#
# It is to a test what /dev/uv is to a program (tests/end-to-end): after `ready` it looks into the mailbox, does what
# stands there, prints the answer's codes as `rc 0x... rrc 0x...` and says `ready` again.
#
#   MAILBOX            u64: 0 power off, 1 make a call, 2 make a call and give the output, 3 only give the output
#   MAILBOX + 0x100    control block, 0x200 bytes; the block that came back is put there
#   MAILBOX + 0x1000   input, three pages; copied to INPUT in private storage before a call
#   MAILBOX + 0x4000   output, two pages; copied from OUTPUT in private storage
#
# Addresses in the control block are private ones. The guest does not touch OUTPUT before the first call does, so
# that the Ultravisor has the pages imported. What it is given stays private until it is told to give it.
#
#   qemu-system-s390x -M s390-ccw-virtio -nographic -kernel proxy.bin     (in the clear it says so and ends)

        .include "macros.inc"

        .equ STACK, 0xff60
        .equ SCCB, 0x8000
        .equ WORK, 0x9000                 # private page: control blocks of the guest's own
        .equ SHARED, 0x50000              # the mailbox
        .equ SHARED_END, 0x56000
        .equ BLOCK, 0x60100               # private from here on
        .equ BLOCK_SIZE, 0x200
        .equ INPUT, 0x61000
        .equ INPUT_SIZE, 0x3000
        .equ OUTPUT, 0x64000
        .equ OUTPUT_SIZE, 0x2000

        .equ SIGP_STOP, 5
        .equ LC_PROGRAM_CODE, 0x8e
        .equ LC_PROGRAM_NEW_PSW, 0x1d0

        kernel_image 0x100
        .org    image + 0x10600
code:
        llill   %r15, STACK
        llilf   %r11, WORK
        on_program_check program_check
        brasl   %r14, console_open
        brasl   %r14, find_protection
        lgr     %r13, %r2
        brasl   %r14, console_flush
        ltgr    %r13, %r13
        jz      power_off

        # The mailbox, page by page.
        llilf   %r8, SHARED
1:      xc      UVCB(UVC_SHARE_LENGTH,%r11), UVCB(%r11)
        mvhhi   UVCB(%r11), UVC_SHARE_LENGTH
        mvhhi   UVCB + 2(%r11), UVC_SHARE
        stg     %r8, UVCB + 0x20(%r11)
        brasl   %r14, ultravisor_call
        cghi    %r2, 1
        jne     power_off
        aghi    %r8, 0x1000
        clgfi   %r8, SHARED_END
        jl      1b

next:
        say     text_ready
        brasl   %r14, console_flush
        llilf   %r8, SHARED
        lg      %r9, 0(%r8)               # what to do
        ltgr    %r9, %r9
        jz      power_off
        cghi    %r9, 3
        je      give

        la      %r3, 0x100(%r8)
        llilf   %r2, BLOCK
        lghi    %r4, BLOCK_SIZE / 256
        brasl   %r14, copy
        llilf   %r3, SHARED + 0x1000
        llilf   %r2, INPUT
        lghi    %r4, INPUT_SIZE / 256
        brasl   %r14, copy
        llilf   %r10, BLOCK
2:      uvc     %r0, %r10
        jnle    2b                        # busy or partial: again
        lgr     %r3, %r10
        la      %r2, 0x100(%r8)
        lghi    %r4, BLOCK_SIZE / 256
        brasl   %r14, copy
        say     text_rc
        llgh    %r2, 4(%r10)
        brasl   %r14, console_hex
        say     text_rrc
        llgh    %r2, 6(%r10)
        brasl   %r14, console_hex
        say     text_line
        cghi    %r9, 2
        jne     next

give:
        llilf   %r2, SHARED + 0x4000
        llilf   %r3, OUTPUT
        lghi    %r4, OUTPUT_SIZE / 256
        brasl   %r14, copy
        j       next

# Copies %r4 times 256 bytes from %r3 to %r2.
copy:
        mvc     0(256,%r2), 0(%r3)
        la      %r2, 256(%r2)
        la      %r3, 256(%r3)
        brctg   %r4, copy
        br      %r14

program_check:
        llill   %r15, STACK
        say     text_check
        llgh    %r2, LC_PROGRAM_CODE
        brasl   %r14, console_hex
        say     text_line
        brasl   %r14, console_flush
        lghi    %r2, 0x0bad
        jg      disabled_wait

power_off:
        brasl   %r14, console_flush
        stap    UVCB(%r11)
        llgh    %r3, UVCB(%r11)
3:      sigp    %r1, %r3, SIGP_STOP
        j       3b

        .include "console.inc"
        .include "ultravisor.inc"

        .balign 8, 0
program_check_psw:                        # 64-bit mode, disabled; the address is set at run time
        .quad   0x0000000180000000

text_ready:
        .asciz  "ready\r\n"; .balign 2, 0
text_rc:
        .asciz  "rc 0x"; .balign 2, 0
text_rrc:
        .asciz  " rrc 0x"; .balign 2, 0
text_check:
        .asciz  "program check 0x"; .balign 2, 0
text_line:
        .asciz  "\r\n"
        .balign 8, 0
