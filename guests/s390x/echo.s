# A guest that answers what is typed on the SCLP console: each character comes back between angle brackets. "q" powers
# off, "s" spins for good with all interruptions disabled; without input it waits for the next service signal.
#
#   qemu-system-s390x -M s390-ccw-virtio -nographic -kernel echo.bin

        .include "macros.inc"

        .equ STACK, 0xff60
        .equ SCCB, 0xc000
        .equ SCCB_IN, 0xd000
        .equ SIGP_STOP, 5

        .equ SCLP_READ_EVENT_DATA, 0x00770005
        .equ EVENT_TEXT, 15               # header 8, event header 6, one byte that says ASCII

        guest_image
        j       code
        .org    image + 0x10008
        .ascii  "S390EP"                  # "this is a Linux kernel image": entry at 0x10000

        .org    image + 0x11000           # behind the parameter area, into which loaders write
code:
        llill   %r15, STACK
        brasl   %r14, console_open
        # The same mask again, now with ASCII input (0x1a, bit 25) among the events to receive.
        llilf   %r3, SCCB
        mvhhi   0(%r3), 28
        mvhhi   10(%r3), 4
        lghi    %r0, 0x40
        st      %r0, 12(%r3)
        llilf   %r2, SCLP_WRITE_EVENT_MASK
        brasl   %r14, sclp_call
        lctlg   %c0, %c0, service_signals
        say     text_ready
        brasl   %r14, console_flush

next:
        llilf   %r3, SCCB_IN
        xc      0(64,%r3), 0(%r3)
        lghi    %r0, 0x1000
        sth     %r0, 0(%r3)
        llilf   %r2, SCLP_READ_EVENT_DATA
        brasl   %r14, sclp_call
        llilf   %r7, SCCB_IN
        llgh    %r0, 6(%r7)               # response code
        cghi    %r0, 0x20
        je      input
        # No event. The signal just taken may have said that there is one by now; then nobody says it again.
        llgf    %r0, LC_EXT_PARAMETER
        lghi    %r1, 1
        ngr     %r0, %r1
        jnz     next
        larl    %r1, next
        stg     %r1, LC_EXT_NEW_PSW + 8
        larl    %r1, sclp_wait_psw
        lpswe   0(%r1)

input:
        llgh    %r8, 8(%r7)               # length of the event
        aghi    %r8, 8 - EVENT_TEXT
        la      %r7, EVENT_TEXT(%r7)
1:      llgc    %r9, 0(%r7)
        cghi    %r9, 'q'
        je      power_off
        cghi    %r9, 's'
        je      spin
        larl    %r6, text_answer
        stc     %r9, 1(%r6)
        say     text_answer
        aghi    %r7, 1
        brctg   %r8, 1b
        brasl   %r14, console_flush
        j       next

spin:
        say     text_spinning
        brasl   %r14, console_flush
1:      j       1b

power_off:
        say     text_off
        brasl   %r14, console_flush
        aghi    %r15, -16
        stap    0(%r15)                   # the address of this CPU
        llgh    %r3, 0(%r15)
1:      sigp    %r1, %r3, SIGP_STOP
        j       1b

        .include "console.inc"

text_ready:
        .asciz  "ready\r\n"; .balign 2, 0
text_answer:
        .asciz  "<?>"; .balign 2, 0
text_spinning:
        .asciz  "spinning\r\n"; .balign 2, 0
text_off:
        .asciz  "powering off\r\n"; .balign 8, 0
service_signals:
        .quad   0x200                     # external interruptions: service signals alone
