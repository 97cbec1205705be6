# The smallest guest: prints one line on the SCLP console and stops its CPU, which powers the machine off.
#
#   qemu-system-s390x -M s390-ccw-virtio -nographic -kernel hello.bin

        .include "macros.inc"

        .equ STACK, 0xff60
        .equ SCCB, 0xc000
        .equ SIGP_STOP, 5

        guest_image
        j       code
        .org    image + 0x10008
        .ascii  "S390EP"                  # "this is a Linux kernel image": entry at 0x10000

        .org    image + 0x11000           # behind the parameter area, into which loaders write
code:
        llill   %r15, STACK
        brasl   %r14, console_open
        say     text_hello
        brasl   %r14, console_flush
        aghi    %r15, -16
        stap    0(%r15)                   # the address of this CPU
        llgh    %r3, 0(%r15)
1:      sigp    %r1, %r3, SIGP_STOP
        j       1b

        .include "console.inc"

text_hello:
        .asciz  "Hello from s390x\r\n"; .balign 2, 0
        .balign 8, 0
