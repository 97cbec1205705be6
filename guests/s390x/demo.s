# The demo guest: a small "kernel" that shows from the inside what protection means.
#
# It says whether it runs protected, keeps a marker in a private page, uses a virtio-rng device through one page that
# it shares for the purpose, and powers off. The same image runs in the clear (`-kernel`) and as the kernel of a Secure
# Execution image; then the host finds the marker in the first run and does not find it in the second.
#
#   qemu-system-s390x -M s390-ccw-virtio -nographic -kernel demo.bin -device virtio-rng-ccw
#
# A command line that begins with "hold" makes it pause for ten seconds before the last check, for a look at its
# memory from outside.
#
# Everything that the device touches (channel programs, their data, the ring, the buffer) lies in the shared page.
# Control blocks of instructions (SCCB, ORB, SCHIB, IRB, UVCB) stay private: the Ultravisor copies them.
#
# References: z/Architecture Principles of Operation (SA22-7832), chapters 13 to 16 for channel I/O; virtio 1.2,
# section 2.7 "Split Virtqueues", 4.3 "Virtio Over Channel I/O" and 5.4 "Entropy Device"; Ultravisor calls as the
# Linux kernel makes them (arch/s390 "uv" interface).

        .include "macros.inc"

        .equ STACK, 0xff60
        .equ SCCB, 0x8000
        .equ WORK, 0x9000                 # private page: ORB, SCHIB, IRB, UVCB
        .equ PRIVATE, 0x40000             # private page: the marker
        .equ SHARED, 0x50000              # shared page: everything of the device

        .equ ORB, 0x000                   # in WORK
        .equ SCHIB, 0x040
        .equ IRB, 0x080
        .equ TIME, 0x0e0
        .equ FACILITIES, 0x100
        .equ UVCB, 0x200

        .equ CCW, 0x000                   # in SHARED
        .equ DATA, 0x010                  # data of the channel program
        .equ DESCRIPTORS, 0x200
        .equ AVAILABLE, 0x280
        .equ USED, 0x300
        .equ BUFFER, 0x400

        .equ QUEUE_SIZE, 4
        .equ BUFFER_SIZE, 16

        .equ SIGP_STOP, 5
        .equ DIAG_YIELD, 0x44
        .equ DIAG_VIRTIO, 0x500
        .equ VIRTIO_NOTIFY, 3

        .equ UVC_QUERY, 0x0001
        .equ UVC_QUERY_LENGTH, 0xa8
        .equ UVC_SHARE, 0x1000
        .equ UVC_UNSHARE, 0x1001
        .equ UVC_SHARE_LENGTH, 0x30

        # Channel commands, virtio 1.2, 4.3.1.1 and 4.3.2.
        .equ CCW_SENSE_ID, 0xe4
        .equ CCW_SET_REVISION, 0x83
        .equ CCW_RESET, 0x33
        .equ CCW_WRITE_FEATURES, 0x11
        .equ CCW_READ_FEATURES, 0x12
        .equ CCW_WRITE_STATUS, 0x31
        .equ CCW_READ_STATUS, 0x72
        .equ CCW_READ_QUEUE, 0x32
        .equ CCW_SET_QUEUE, 0x13

        .equ STATUS_ACKNOWLEDGE, 1
        .equ STATUS_DRIVER, 2
        .equ STATUS_DRIVER_OK, 4
        .equ STATUS_FEATURES_OK, 8

        .equ VIRTIO_CONTROL_UNIT, 0x3832
        .equ VIRTIO_ENTROPY, 4

        .equ LC_PROGRAM_CODE, 0x8e
        .equ LC_PROGRAM_OLD_PSW, 0x150
        .equ LC_PROGRAM_NEW_PSW, 0x1d0
        .equ WAIT_PROGRAM_CHECK, 0x0bad

        .equ TEN_SECONDS, 10 * 1000000 << 12      # TOD clock units: bit 51 is a microsecond

image:
        .long   0x00080000, 0x80010000    # short PSW for loaders that look at address 0

        .org    image + 0x10000
start:
        j       code
        .org    image + 0x10008
        .ascii  "S390EP"                  # "this is a Linux kernel image": entry at 0x10000
        .org    image + 0x10430
        .quad   0x1000                    # room for the command line at 0x10480
        .org    image + 0x10480
command_line:
        .org    image + 0x12000
code:
        llill   %r15, STACK
        llilf   %r11, WORK
        larl    %r1, program_check_psw
        mvc     LC_PROGRAM_NEW_PSW(8), 0(%r1)
        larl    %r1, program_check
        stg     %r1, LC_PROGRAM_NEW_PSW + 8
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
        brasl   %r14, use_device
        brasl   %r14, console_flush

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

# Tells in words whether this guest is protected: %r2 = 1 if so.
find_protection:
        stmg    %r6, %r15, 48(%r15)
        aghi    %r15, -160
        xc      FACILITIES(32,%r11), FACILITIES(%r11)
        lghi    %r0, 3
        stfle   FACILITIES(%r11)
        # Facility 158 (Ultravisor call): byte 19, bit 6.
        larl    %r6, text_no_uv
        tm      FACILITIES + 19(%r11), 0x02
        jz      no_protection
        xc      UVCB(256,%r11), UVCB(%r11)
        mvhhi   UVCB(%r11), UVC_QUERY_LENGTH
        mvhhi   UVCB + 2(%r11), UVC_QUERY
        brasl   %r14, ultravisor_call
        larl    %r6, text_uv_refused
        cghi    %r2, 1
        je      1f
        cghi    %r2, 0x100                # "more data exist": a success
        jne     no_protection
        # A guest has calls 8 and 9 (share, unshare); a host has others.
1:      larl    %r6, text_uv_host
        tm      UVCB + 0x11(%r11), 0xc0
        jno     no_protection
        say     text_protected
        lghi    %r2, 1
        j       2f
no_protection:
        lgr     %r2, %r6
        brasl   %r14, console_puts
        lghi    %r2, 0
2:      aghi    %r15, 160
        lmg     %r6, %r15, 48(%r15)
        br      %r14

# Executes the call in UVCB: %r2 = its rc.
ultravisor_call:
        la      %r2, UVCB(%r11)
1:      uvc     %r0, %r2
        jnle    1b                        # busy or partial: again
        llgh    %r2, UVCB + 4(%r11)
        br      %r14

# Shares or unshares the device's page: %r2 = call, %r10 = what to say then.
change_sharing:
        stmg    %r6, %r15, 48(%r15)
        aghi    %r15, -160
        xc      UVCB(UVC_SHARE_LENGTH,%r11), UVCB(%r11)
        mvhhi   UVCB(%r11), UVC_SHARE_LENGTH
        sth     %r2, UVCB + 2(%r11)
        llilf   %r1, SHARED
        stg     %r1, UVCB + 0x20(%r11)
        brasl   %r14, ultravisor_call
        cghi    %r2, 1
        je      1f
        lgr     %r6, %r2
        say     text_call_failed
        lgr     %r2, %r6
        brasl   %r14, console_hex
        larl    %r10, text_line
1:      lgr     %r2, %r10
        brasl   %r14, console_puts
        brasl   %r14, console_flush
        aghi    %r15, 160
        lmg     %r6, %r15, 48(%r15)
        br      %r14

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

start_clock:
        stck    TIME(%r11)
        br      %r14

# Not zero (condition code) when ten seconds have passed since start_clock.
ten_seconds_over:
        stck    TIME + 8(%r11)
        lg      %r0, TIME + 8(%r11)
        slg     %r0, TIME(%r11)
        larl    %r1, ten_seconds
        lghi    %r2, 0
        clg     %r0, 0(%r1)
        jl      1f
        lghi    %r2, 1
1:      ltgr    %r2, %r2
        br      %r14

# Finds a virtio entropy device, gets 16 random bytes from it and prints them.
use_device:
        stmg    %r6, %r15, 48(%r15)
        aghi    %r15, -160
        llilf   %r7, SHARED
        lgr     %r2, %r7                  # a defined start, whatever the page held
        lghi    %r4, 0x1000 / 256
1:      xc      0(256,%r2), 0(%r2)
        aghi    %r2, 256
        brctg   %r4, 1b
        brasl   %r14, find_device
        larl    %r6, text_no_device
        ltgr    %r2, %r2
        jz      device_failed
        say     text_device
        llghr   %r2, %r12
        lghi    %r3, 12
        brasl   %r14, console_digits
        say     text_line

        # virtio 1.2, 4.3.3.1 "Device Initialization" over channel I/O.
        larl    %r6, text_revision
        mvhhi   DATA(%r7), 1              # revision 1, no further data
        mvhhi   DATA + 2(%r7), 0
        lghi    %r2, CCW_SET_REVISION
        lghi    %r3, 4
        brasl   %r14, channel_program
        jnz     device_failed
        larl    %r6, text_reset
        lghi    %r2, CCW_RESET
        lghi    %r3, 0
        brasl   %r14, channel_program
        jnz     device_failed
        lghi    %r2, STATUS_ACKNOWLEDGE | STATUS_DRIVER
        brasl   %r14, set_status
        jnz     device_failed

        # Features 0-31: none is wanted. 32-63: VERSION_1 is needed, ACCESS_PLATFORM taken if offered.
        larl    %r6, text_features
        mvi     DATA + 4(%r7), 1
        lghi    %r2, CCW_READ_FEATURES
        lghi    %r3, 5
        brasl   %r14, channel_program
        jnz     device_failed
        ni      DATA(%r7), 3              # little-endian: bits 32 and 33 are in the first byte
        xc      DATA + 1(3,%r7), DATA + 1(%r7)
        tm      DATA(%r7), 1
        jz      device_failed
        # A protected guest refuses a device that does not promise to stay within shared memory.
        ltgr    %r13, %r13
        jz      2f
        tm      DATA(%r7), 2
        jz      device_failed
2:      lghi    %r2, CCW_WRITE_FEATURES
        lghi    %r3, 5
        brasl   %r14, channel_program
        jnz     device_failed
        xc      DATA(5,%r7), DATA(%r7)
        lghi    %r2, CCW_WRITE_FEATURES
        lghi    %r3, 5
        brasl   %r14, channel_program
        jnz     device_failed
        lghi    %r2, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK
        brasl   %r14, set_status
        jnz     device_failed
        lghi    %r2, CCW_READ_STATUS
        lghi    %r3, 1
        brasl   %r14, channel_program
        jnz     device_failed
        tm      DATA(%r7), STATUS_FEATURES_OK
        jz      device_failed

        # Queue 0: four entries, all parts in the shared page.
        larl    %r6, text_queue
        mvhhi   DATA(%r7), 0
        lghi    %r2, CCW_READ_QUEUE
        lghi    %r3, 4
        brasl   %r14, channel_program
        jnz     device_failed
        llgh    %r1, DATA + 2(%r7)        # its largest size
        cghi    %r1, QUEUE_SIZE
        jl      device_failed
        xc      DATA(32,%r7), DATA(%r7)
        la      %r1, DESCRIPTORS(%r7)
        stg     %r1, DATA(%r7)
        mvhhi   DATA + 14(%r7), QUEUE_SIZE
        la      %r1, AVAILABLE(%r7)
        stg     %r1, DATA + 16(%r7)
        la      %r1, USED(%r7)
        stg     %r1, DATA + 24(%r7)
        lghi    %r2, CCW_SET_QUEUE
        lghi    %r3, 32
        brasl   %r14, channel_program
        jnz     device_failed
        lghi    %r2, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK
        brasl   %r14, set_status
        jnz     device_failed

        # One buffer for the device to write (virtio 1.2, 2.7.5 and 2.7.6; all little-endian).
        la      %r1, BUFFER(%r7)
        strvg   %r1, DESCRIPTORS(%r7)
        lghi    %r1, BUFFER_SIZE
        strv    %r1, DESCRIPTORS + 8(%r7)
        lghi    %r1, 2                    # VIRTQ_DESC_F_WRITE
        strvh   %r1, DESCRIPTORS + 12(%r7)
        lghi    %r1, 1
        strvh   %r1, AVAILABLE(%r7)       # VIRTQ_AVAIL_F_NO_INTERRUPT: this program polls
        bcr     15, %r0                   # the descriptor is visible before the index
        strvh   %r1, AVAILABLE + 2(%r7)
        bcr     15, %r0
        lghi    %r1, VIRTIO_NOTIFY        # virtio 1.2, 4.3.3.2 "Notification"
        lgr     %r2, %r12
        lghi    %r3, 0
        lghi    %r4, 0
        diag    %r2, %r4, DIAG_VIRTIO
        larl    %r6, text_notify
        ltgr    %r2, %r2
        jm      device_failed

        brasl   %r14, start_clock
        larl    %r6, text_silent
3:      lh      %r1, USED + 2(%r7)
        ltr     %r1, %r1
        jnz     4f
        diag    %r0, %r0, DIAG_YIELD
        brasl   %r14, ten_seconds_over
        jnz     device_failed
        j       3b

4:      say     text_random
        lrv     %r8, USED + 8(%r7)        # length of the first used element
        llgfr   %r8, %r8
        ltgr    %r8, %r8
        jz      device_failed
        cghi    %r8, BUFFER_SIZE          # never believe a device
        jle     5f
        lghi    %r8, BUFFER_SIZE
5:      la      %r9, BUFFER(%r7)
6:      llgc    %r2, 0(%r9)
        lghi    %r3, 4
        brasl   %r14, console_digits
        aghi    %r9, 1
        brctg   %r8, 6b
        say     text_line
        # The device must not write to the page any more when it becomes private again.
        larl    %r6, text_reset
        lghi    %r2, CCW_RESET
        lghi    %r3, 0
        brasl   %r14, channel_program
        jz      7f
device_failed:                            # %r6 = text
        lgr     %r2, %r6
        brasl   %r14, console_puts
7:      aghi    %r15, 160
        lmg     %r6, %r15, 48(%r15)
        br      %r14

# Device status %r2, with a text for the case that it fails.
set_status:
        stc     %r2, DATA(%r7)
        larl    %r6, text_status
        lghi    %r2, CCW_WRITE_STATUS
        lghi    %r3, 1
        # Falls through.

# Executes the channel command %r2 with %r3 bytes at DATA on subchannel %r12 and polls for its end. Zero (condition
# code) if it ended well. %r7 = shared page, %r11 = private page.
channel_program:
        stc     %r2, CCW(%r7)
        mvi     CCW + 1(%r7), 0x20        # suppress length indication
        sth     %r3, CCW + 2(%r7)
        la      %r1, DATA(%r7)
        st      %r1, CCW + 4(%r7)
        xc      ORB(32,%r11), ORB(%r11)
        llilf   %r1, 0x0080ff00           # format-1 CCWs, any path
        st      %r1, ORB + 4(%r11)
        la      %r1, CCW(%r7)
        st      %r1, ORB + 8(%r11)
        lgr     %r1, %r12
1:      ssch    ORB(%r11)
        jz      2f
        jo      3f                        # no such subchannel
        jh      1b                        # busy
        tsch    IRB(%r11)                 # an old status: take it away
        j       1b
2:      diag    %r0, %r0, DIAG_YIELD
        tsch    IRB(%r11)
        jo      3f
        jnz     2b                        # no status yet
        cli     IRB + 9(%r11), 0          # subchannel status
        jne     3f
        tm      IRB + 8(%r11), 0x02       # unit check
        jnz     3f
        tm      IRB + 8(%r11), 0x04       # device end
        jz      2b
        lghi    %r2, 0
        ltgr    %r2, %r2
        br      %r14
3:      lghi    %r2, 1
        ltgr    %r2, %r2
        br      %r14

# Looks at all subchannels: %r2 = 1 and %r12 = identification of the first entropy device, enabled; else %r2 = 0.
find_device:
        stmg    %r14, %r15, 112(%r15)
        aghi    %r15, -160
        llilf   %r12, 0x00010000
1:      lgr     %r1, %r12
        stsch   SCHIB(%r11)
        lghi    %r2, 0
        jo      3f                        # no more subchannels
        tm      SCHIB + 5(%r11), 0x01     # device number valid
        jz      2f
        oi      SCHIB + 5(%r11), 0x80     # enable
        msch    SCHIB(%r11)
        jnz     2f
        lghi    %r2, CCW_SENSE_ID
        lghi    %r3, 7
        brasl   %r14, channel_program
        jnz     2f
        # SENSE ID: 0xff, u16 control unit type, u8 model; the model is the virtio device type (4.3.1.1).
        llgh    %r1, DATA + 1(%r7)
        llill   %r2, VIRTIO_CONTROL_UNIT
        cgr     %r1, %r2
        jne     2f
        lghi    %r2, 1
        cli     DATA + 3(%r7), VIRTIO_ENTROPY
        je      3f
2:      aghi    %r12, 1
        tmll    %r12, 0xffff
        jnz     1b
        lghi    %r2, 0
3:      aghi    %r15, 160
        lmg     %r14, %r15, 112(%r15)
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

        .balign 8, 0
program_check_psw:                        # 64-bit mode, disabled; the address is set at run time
        .quad   0x0000000180000000
ten_seconds:
        .quad   TEN_SECONDS

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
text_protected:
        .asciz  "protected: yes, the Ultravisor answers as to a protected guest\r\n"; .balign 2, 0
text_no_uv:
        .asciz  "protected: no (facility 158, Ultravisor call, is not installed)\r\n"; .balign 2, 0
text_uv_refused:
        .asciz  "protected: no (the Ultravisor refuses a query)\r\n"; .balign 2, 0
text_uv_host:
        .asciz  "protected: no (the Ultravisor offers no sharing of pages)\r\n"; .balign 2, 0
text_marker_at:
        .asciz  "marker written to private page 0x"; .balign 2, 0
text_shared:
        .asciz  "one page shared with the host\r\n"; .balign 2, 0
text_unshared:
        .asciz  "page is private again\r\n"; .balign 2, 0
text_call_failed:
        .asciz  "Ultravisor call for the page failed: rc 0x"; .balign 2, 0
text_device:
        .asciz  "virtio-rng on subchannel 0.0."; .balign 2, 0
text_random:
        .asciz  "random bytes: "; .balign 2, 0
text_no_device:
        .asciz  "no virtio-rng device found\r\n"; .balign 2, 0
text_revision:
        .asciz  "virtio-rng: revision 1 is refused\r\n"; .balign 2, 0
text_reset:
        .asciz  "virtio-rng: reset failed\r\n"; .balign 2, 0
text_status:
        .asciz  "virtio-rng: a device status is refused\r\n"; .balign 2, 0
text_features:
        .asciz  "virtio-rng: features do not fit (VERSION_1, and ACCESS_PLATFORM for a protected guest)\r\n"; .balign 2, 0
text_queue:
        .asciz  "virtio-rng: the queue cannot be set up\r\n"; .balign 2, 0
text_notify:
        .asciz  "virtio-rng: the notification is refused\r\n"; .balign 2, 0
text_silent:
        .asciz  "virtio-rng: no answer within ten seconds\r\n"; .balign 2, 0
text_holding:
        .asciz  "holding for ten seconds\r\n"; .balign 2, 0
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
