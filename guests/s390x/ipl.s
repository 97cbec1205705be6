# A guest that tells what it was loaded from, as DIAGNOSE 0x308 says it, and loads from elsewhere if told so. Its command
# line is its name; ">" or "<" and the four decimal digits of a device number behind it make it set that device and load
# from it, with subcode 4 or 3. Otherwise it powers off.
#
#   cloister pv disk create -o ipl.disk --kernel ipl.bin --append 'first>0002'
#
# References: DIAGNOSE 0x308 and the IPL parameter block as public consumers define them (Linux, arch/s390).

        .include "macros.inc"

        .equ STACK, 0xff60
        .equ SCCB, 0xc000
        .equ BLOCK, 0xe000                # the IPL parameter block
        .equ BLOCK_LOADPARM, 0x10
        .equ BLOCK_SSID, 0x6d
        .equ BLOCK_DEVNO, 0x6e
        .equ COMMAND_LINE, 0x10480

        .equ SIGP_STOP, 5
        .equ DIAG_IPL, 0x308
        .equ IPL_OK, 1

        kernel_image 0x800

        .org    image + 0x11000           # behind the parameter area, into which loaders write
code:
        sam64                             # a loader may come with 31-bit addresses
        llill   %r15, STACK
        brasl   %r14, console_open
        llilf   %r2, COMMAND_LINE
        brasl   %r14, console_puts
        llilf   %r8, BLOCK
        lgr     %r2, %r8
        lghi    %r4, 6
        diag    %r2, %r4, DIAG_IPL
        cghi    %r3, IPL_OK
        je      1f
        say     text_no_block
        mvhi    0(%r8), 200               # the empty block of a channel-attached device, to fill below
        mvi     7(%r8), 1
        mvhi    8(%r8), 192
        mvi     12(%r8), 2
        j       2f
1:      say     text_device
        llgc    %r2, BLOCK_SSID(%r8)
        brasl   %r14, console_hex
        say     text_dot
        llgh    %r2, BLOCK_DEVNO(%r8)
        brasl   %r14, console_hex
        say     text_loadparm
        lg      %r2, BLOCK_LOADPARM(%r8)
        brasl   %r14, console_hex
2:      say     text_end
        brasl   %r14, console_flush

        llilf   %r2, COMMAND_LINE
3:      llgc    %r1, 0(%r2)
        aghi    %r2, 1
        lghi    %r9, 4
        cghi    %r1, '>'
        je      4f
        lghi    %r9, 3
        cghi    %r1, '<'
        je      4f
        ltgr    %r1, %r1
        jnz     3b

        aghi    %r15, -16
        stap    0(%r15)                   # the address of this CPU
        llgh    %r3, 0(%r15)
1:      sigp    %r1, %r3, SIGP_STOP
        j       1b

4:      lghi    %r5, 4                    # digits
        lghi    %r6, 0
5:      llgc    %r1, 0(%r2)
        aghi    %r1, -'0'
        sllg    %r6, %r6, 4(%r0)
        agr     %r6, %r1
        aghi    %r2, 1
        brctg   %r5, 5b
        sth     %r6, BLOCK_DEVNO(%r8)
        mvi     BLOCK_SSID(%r8), 0
        lgr     %r2, %r8
        lghi    %r4, 5
        diag    %r2, %r4, DIAG_IPL
        cghi    %r3, IPL_OK
        jne     6f
        diag    %r2, %r9, DIAG_IPL
6:      lghi    %r2, 0xbad                # nobody comes here if all is well
        jg      disabled_wait

        .include "console.inc"

text_no_block:
        .asciz  ": no block"; .balign 2, 0
text_device:
        .asciz  ": device "; .balign 2, 0
text_dot:
        .asciz  "."; .balign 2, 0
text_loadparm:
        .asciz  " loadparm "; .balign 2, 0
text_end:
        .asciz  "\r\n"; .balign 8, 0
