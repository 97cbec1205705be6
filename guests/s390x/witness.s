# The witness: a guest that fills private pages, lets the host do its worst, and says whether its data are still its own.
#
# It is a guest of the tests with a hostile host (tests/end-to-end). After `ready` it does what the first letter of its
# command line says, then checks every byte and prints `page N intact` or `page N WRONG`:
#
#   c   nothing: the host acts while `ready` is printed
#   s   writes the marker to a page and shares it on purpose, then withdraws that
#   d   points channel programs of a device at private pages and prints the subchannel's status
#   0 1 3   DIAGNOSE 0x308 with that subcode: resets stay protected and find the pages again; 3 leaves protection
#
# The marker is not in the image as it is. It runs in the clear too, where everything is there for the host to see.

        .include "macros.inc"

        .equ STACK, 0xff60
        .equ SCCB, 0x8000
        .equ WORK, 0x9000                 # private page: ORB, SCHIB, IRB, UVCB, one record
        .equ SHARED, 0x50000              # the page that is shared
        .equ BOOTS, 0x60000               # private page: how often the guest has started
        .equ PAGES, 0x100000              # private pages full of records
        .equ PAGE_COUNT, 8

        .equ RECORD, 0x300                # in WORK
        .equ RECORD_SIZE, 32
        .equ RECORDS, 0x1000 / RECORD_SIZE

        .equ SIGP_STOP, 5
        .equ DIAG_IPL, 0x308
        .equ LC_PROGRAM_CODE, 0x8e
        .equ LC_PROGRAM_OLD_PSW, 0x150
        .equ LC_PROGRAM_NEW_PSW, 0x1d0
        .equ WAIT_PROGRAM_CHECK, 0x0bad

        kernel_image 0x100
        .org    image + 0x10480
command_line:
        .org    image + 0x10600
code:
        llill   %r15, STACK
        llilf   %r11, WORK
        on_program_check program_check
        brasl   %r14, console_open
        say     text_hello
        brasl   %r14, find_protection
        lgr     %r13, %r2                 # 1 if protected, for the rest of the program
        brasl   %r14, console_flush

        brasl   %r14, build_record
        llilf   %r1, BOOTS
        lg      %r2, 0(%r1)
        aghi    %r2, 1
        stg     %r2, 0(%r1)
        cghi    %r2, 1
        je      1f
        say     text_again
        j       finish

1:      brasl   %r14, fill
        say     text_ready
        brasl   %r14, console_flush

        larl    %r1, command_line
        cli     0(%r1), 's'
        je      share_on_purpose
        cli     0(%r1), 'd'
        je      misuse_device
        llgc    %r9, 0(%r1)
        aghi    %r9, -'0'
        jl      finish
        cghi    %r9, 3
        jh      finish
        diag    %r2, %r9, DIAG_IPL
        say     text_came_back

finish:
        brasl   %r14, check
        say     text_off
        brasl   %r14, console_flush
        stap    TIME(%r11)                # the address of this CPU
        llgh    %r3, TIME(%r11)
2:      sigp    %r1, %r3, SIGP_STOP       # the last CPU that stops powers the machine off
        j       2b

share_on_purpose:
        llilf   %r1, SHARED
        llilf   %r2, PAGES
        lghi    %r3, 0x1000 / 256
1:      mvc     0(256,%r1), 0(%r2)
        aghi    %r1, 256
        aghi    %r2, 256
        brctg   %r3, 1b
        lghi    %r2, UVC_SHARE
        larl    %r10, text_shared
        brasl   %r14, change_sharing
        lghi    %r2, UVC_UNSHARE
        larl    %r10, text_unshared
        brasl   %r14, change_sharing
        j       finish

# Three channel programs: data go to a private page, data come from one, the program itself lies in one.
misuse_device:
        ltgr    %r13, %r13
        jz      1f
        lghi    %r2, UVC_SHARE
        larl    %r10, text_shared
        brasl   %r14, change_sharing
1:      llilf   %r7, SHARED
        brasl   %r14, find_device
        ltgr    %r2, %r2
        jz      finish
        say     text_to
        lghi    %r2, CCW_SENSE_ID
        lghi    %r3, 7
        llilf   %r8, PAGES + 0x3000
        llilf   %r9, SHARED
        brasl   %r14, misuse
        say     text_from
        lghi    %r2, CCW_WRITE_FEATURES
        lghi    %r3, 5
        llilf   %r8, PAGES + 0x4000
        llilf   %r9, SHARED
        brasl   %r14, misuse
        say     text_in
        lghi    %r2, CCW_SENSE_ID
        lghi    %r3, 7
        llilf   %r8, SHARED + DATA
        llilf   %r9, PAGES + 0x5000
        brasl   %r14, misuse
        brasl   %r14, build_record
        j       finish

# Starts the program at %r9 on subchannel %r12 (it is built there unless the page is one to be checked): command %r2,
# %r3 bytes at %r8. Prints the subchannel status.
misuse:
        stmg    %r6, %r15, 48(%r15)
        aghi    %r15, -160
        clfi    %r9, PAGES
        jhe     1f
        stc     %r2, 0(%r9)
        mvi     1(%r9), 0x20              # suppress length indication
        sth     %r3, 2(%r9)
        st      %r8, 4(%r9)
1:      xc      ORB(32,%r11), ORB(%r11)
        llilf   %r1, 0x0080ff00           # format-1 CCWs, any path
        st      %r1, ORB + 4(%r11)
        st      %r9, ORB + 8(%r11)
        lgr     %r1, %r12
2:      ssch    ORB(%r11)
        jz      3f
        tsch    IRB(%r11)
        j       2b
3:      diag    %r0, %r0, DIAG_YIELD
        tsch    IRB(%r11)
        jnz     3b
        llgc    %r2, IRB + 9(%r11)
        brasl   %r14, console_hex
        say     text_line
        brasl   %r14, console_flush
        aghi    %r15, 160
        lmg     %r6, %r15, 48(%r15)
        br      %r14

# The record that all pages are made of; its last byte is the number of the page.
build_record:
        la      %r1, RECORD(%r11)
        larl    %r2, marker
        lghi    %r3, RECORD_SIZE
        lghi    %r5, KEY
1:      llgc    %r4, 0(%r2)
        xr      %r4, %r5
        stc     %r4, 0(%r1)
        aghi    %r1, 1
        aghi    %r2, 1
        brctg   %r3, 1b
        br      %r14

fill:
        llilf   %r1, PAGES
        lghi    %r2, '0'
1:      stc     %r2, RECORD + RECORD_SIZE - 1(%r11)
        lghi    %r3, RECORDS
2:      mvc     0(RECORD_SIZE,%r1), RECORD(%r11)
        aghi    %r1, RECORD_SIZE
        brctg   %r3, 2b
        aghi    %r2, 1
        cghi    %r2, '0' + PAGE_COUNT
        jl      1b
        br      %r14

check:
        stmg    %r6, %r15, 48(%r15)
        aghi    %r15, -160
        llilf   %r7, PAGES
        lghi    %r8, '0'
1:      stc     %r8, RECORD + RECORD_SIZE - 1(%r11)
        larl    %r6, text_intact
        lghi    %r9, RECORDS
2:      clc     0(RECORD_SIZE,%r7), RECORD(%r11)
        je      3f
        larl    %r6, text_wrong
3:      aghi    %r7, RECORD_SIZE
        brctg   %r9, 2b
        say     text_page
        lgr     %r2, %r8
        aghi    %r2, -'0'
        brasl   %r14, console_hex
        lgr     %r2, %r6
        brasl   %r14, console_puts
        brasl   %r14, console_flush
        aghi    %r8, 1
        cghi    %r8, '0' + PAGE_COUNT
        jl      1b
        aghi    %r15, 160
        lmg     %r6, %r15, 48(%r15)
        br      %r14

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

        .balign 8, 0
program_check_psw:                        # 64-bit mode, disabled; the address is set at run time
        .quad   0x0000000180000000

# "CLOISTER-WITNESS-PRIVATE-MARK-0" and the number of the page, not readable as it stands.
        .equ KEY, 0x5a
marker:
        .byte   'C' ^ KEY, 'L' ^ KEY, 'O' ^ KEY, 'I' ^ KEY, 'S' ^ KEY, 'T' ^ KEY, 'E' ^ KEY, 'R' ^ KEY
        .byte   '-' ^ KEY, 'W' ^ KEY, 'I' ^ KEY, 'T' ^ KEY, 'N' ^ KEY, 'E' ^ KEY, 'S' ^ KEY, 'S' ^ KEY
        .byte   '-' ^ KEY, 'P' ^ KEY, 'R' ^ KEY, 'I' ^ KEY, 'V' ^ KEY, 'A' ^ KEY, 'T' ^ KEY, 'E' ^ KEY
        .byte   '-' ^ KEY, 'M' ^ KEY, 'A' ^ KEY, 'R' ^ KEY, 'K' ^ KEY, '-' ^ KEY, '0' ^ KEY, '0' ^ KEY

text_hello:
        .asciz  "witness\r\n"; .balign 2, 0
text_ready:
        .asciz  "ready\r\n"; .balign 2, 0
text_again:
        .asciz  "started again\r\n"; .balign 2, 0
text_came_back:
        .asciz  "DIAGNOSE 308 CAME BACK\r\n"; .balign 2, 0
text_shared:
        .asciz  "one page shared with the host\r\n"; .balign 2, 0
text_unshared:
        .asciz  "page is private again\r\n"; .balign 2, 0
text_to:
        .asciz  "data to a private page: status 0x"; .balign 2, 0
text_from:
        .asciz  "data from a private page: status 0x"; .balign 2, 0
text_in:
        .asciz  "program in a private page: status 0x"; .balign 2, 0
text_page:
        .asciz  "page "; .balign 2, 0
text_intact:
        .asciz  " intact\r\n"; .balign 2, 0
text_wrong:
        .asciz  " WRONG\r\n"; .balign 2, 0
text_off:
        .asciz  "powering off\r\n"; .balign 2, 0
text_program_check:
        .asciz  "program check 0x"; .balign 2, 0
text_at:
        .asciz  " before 0x"; .balign 2, 0
text_line:
        .asciz  "\r\n"
        .balign 8, 0
