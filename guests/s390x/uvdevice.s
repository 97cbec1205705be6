# uvdevice: a protected Linux guest's user of /dev/uv, for guests without other tools.
#
#   uvdevice attest REQUEST ANSWER [USERDATA]   measure this guest; REQUEST and ANSWER are exchange files
#   uvdevice add REQUEST                        add the secret of a request
#   uvdevice list FILE                          write the Ultravisor's list of secrets, one page
#   uvdevice lock                               lock the secret store
#   uvdevice retrieve INDEX FILE                fetch the secret with this index
#
# Exit status: 0 done, 1 wrong call, file or system, 2 refused by the Ultravisor (its codes are printed).
#
# It is a static Linux program without a library: system calls only (Linux, arch/s390: number in the instruction,
# arguments in %r2-%r6, result or negative error number in %r2). `cloister pv guest-tool` puts an ELF header before
# this code. The header maps DATA as zeroed memory; nothing else is writable.
#
# References: Linux, arch/s390/include/uapi/asm/uvdevice.h (numbers and layouts of /dev/uv), and the exchange file of
# pvattest (s390-tools). Calling convention: arguments in %r2-%r5, result in %r2, return address in %r14, %r6-%r13
# and %r15 kept. %r12 points to DATA throughout.

        .equ DATA, 0x2000000
        .equ DATA_SIZE, 0x400000
        .equ CODE, 0x10000b0              # behind the ELF header and two program headers
        .origin CODE

        # Offsets in DATA.
        .equ CB, 0x1000                   # struct uvio_ioctl_cb
        .equ CB_RC, CB + 4
        .equ CB_RRC, CB + 6
        .equ CB_ARGUMENT, CB + 8
        .equ CB_SIZE, CB + 16
        .equ ARG, 0x200                   # struct uvio_attest
        .equ ARG_USER_DATA, ARG + 0x18
        .equ ARG_CONFIG_UID, ARG + 0x118
        .equ ARG_ARCB_SIZE, ARG + 0x128
        .equ ARG_MEASUREMENT_SIZE, ARG + 0x12c
        .equ ARG_ADDITIONAL_SIZE, ARG + 0x130
        .equ ARG_USER_DATA_SIZE, ARG + 0x134
        .equ ARG_SIZE, 0x138
        .equ USER, 0x400                  # user data, 256 bytes and one more
        .equ TEXT, 0x600                  # digits
        .equ PAGE, 0x8000                 # list of secrets
        .equ IN, 0x10000                  # a file that was read
        .equ IN_SIZE, 0x1e0000
        .equ OUT, 0x200000                # the answer

        # The exchange file.
        .equ EX_SIZE, 0x0c
        .equ EX_ARCB, 0x18
        .equ EX_MEASUREMENT, 0x20
        .equ EX_ADDITIONAL, 0x28
        .equ EX_USER_DATA, 0x30
        .equ EX_CONFIG_UID, 0x38
        .equ EX_HEAD, 0x40

        .equ MAX_REQUEST, 0x100000
        .equ MAX_ANSWER, 0x8000
        .equ MAX_SECRET, 0x2000
        .equ MAX_LISTED, 85

        .equ SYS_READ, 3
        .equ SYS_WRITE, 4
        .equ SYS_OPEN, 5
        .equ SYS_CLOSE, 6
        .equ SYS_IOCTL, 54
        .equ SYS_EXIT_GROUP, 248
        .equ O_RDWR, 2
        .equ O_CREATE, 0x241              # write only, create, truncate

        .equ UV_IOCTL, 0xc0407500
        .equ UV_ATTEST, 1
        .equ UV_ADD, 2
        .equ UV_LIST, 3
        .equ UV_LOCK, 4
        .equ UV_RETRIEVE, 5
        .equ RC_EXECUTED, 1
        .equ RC_MORE_DATA, 0x100

        # Ends with a message if the condition holds.
        .macro  fail_if condition, text
        larl    %r2, \text
        \condition fail
        .endm

start:
        lg      %r11, 0(%r15)             # argc
        la      %r13, 8(%r15)             # argv
        aghi    %r15, -160
        llilf   %r12, DATA
        cghi    %r11, 2
        jl      usage
        larl    %r10, commands
1:      llgc    %r1, 0(%r10)
        ltgr    %r1, %r1
        jz      usage
        lg      %r2, 8(%r13)
        la      %r3, 8(%r10)
        brasl   %r14, same
        ltgr    %r2, %r2
        jnz     2f
        aghi    %r10, 32
        j       1b
2:      llgc    %r1, 1(%r10)              # the fewest and the most arguments
        clgr    %r11, %r1
        jl      usage
        llgc    %r1, 2(%r10)
        clgr    %r11, %r1
        jh      usage
        lg      %r1, 24(%r10)
        br      %r1
usage:
        larl    %r2, text_usage
        brasl   %r14, put
        lghi    %r2, 1
        svc     SYS_EXIT_GROUP

# --- the commands: %r11 = argc, %r13 = argv, %r12 = DATA --------------------------------------------------------------

lock:
        lghi    %r2, UV_LOCK
        lghi    %r3, 0
        lghi    %r4, 0
        brasl   %r14, uv_call
        j       done

add:
        lg      %r2, 16(%r13)
        llilf   %r3, DATA + IN
        llilf   %r4, MAX_REQUEST
        brasl   %r14, read_file
        lgr     %r4, %r2
        lghi    %r2, UV_ADD
        llilf   %r3, DATA + IN
        brasl   %r14, uv_call
        j       done

list:
        brasl   %r14, read_list
        lg      %r2, 16(%r13)
        llilf   %r3, DATA + PAGE
        llill   %r4, 0x1000
        lghi    %r5, 0x1a4                # mode 0644
        brasl   %r14, write_file
        j       done

retrieve:
        lg      %r2, 16(%r13)
        brasl   %r14, number
        lgr     %r9, %r2
        brasl   %r14, read_list
        llilf   %r7, DATA + PAGE
        llgh    %r8, 0(%r7)
        cghi    %r8, MAX_LISTED
        fail_if jh, text_list
        la      %r7, 16(%r7)
1:      ltgr    %r8, %r8
        fail_if jz, text_index
        llgh    %r1, 0(%r7)
        clgr    %r1, %r9
        je      2f
        aghi    %r7, 0x30
        aghi    %r8, -1
        j       1b
2:      llgf    %r8, 4(%r7)               # its length
        clgfi   %r8, MAX_SECRET
        fail_if jh, text_list
        llgh    %r10, 2(%r7)              # its type
        llilf   %r3, DATA + IN
        sth     %r9, 0(%r3)               # the index goes where the secret comes back
        lgr     %r4, %r8
        cghi    %r4, 2
        jhe     3f
        lghi    %r4, 2
3:      lghi    %r2, UV_RETRIEVE
        brasl   %r14, uv_call
        llilf   %r3, DATA + IN
        lgr     %r4, %r8
        cghi    %r10, 3                   # plain text: a length, then the text, then zeros
        jne     4f
        llgh    %r4, 0(%r3)
        aghi    %r8, -2
        clgr    %r4, %r8
        fail_if jh, text_list
        la      %r3, 2(%r3)
4:      lg      %r2, 24(%r13)
        lghi    %r5, 0x180                # mode 0600
        brasl   %r14, write_file
        j       done

attest:
        # User data, if there are any.
        lghi    %r10, 0
        cghi    %r11, 5
        jne     1f
        lg      %r2, 32(%r13)
        llilf   %r3, DATA + USER
        lghi    %r4, 0x100
        brasl   %r14, read_file
        lgr     %r10, %r2                 # their size
        llilf   %r3, DATA + USER
        mvc     ARG_USER_DATA(256,%r12), 0(%r3)
1:      sth     %r10, ARG_USER_DATA_SIZE(%r12)

        # The request.
        lg      %r2, 16(%r13)
        llilf   %r3, DATA + IN
        llilf   %r4, IN_SIZE
        brasl   %r14, read_file
        lgr     %r8, %r2
        llilf   %r7, DATA + IN
        cghi    %r8, EX_HEAD
        fail_if jl, text_exchange
        larl    %r1, magic
        clc     0(12,%r7), 0(%r1)
        fail_if jne, text_exchange
        llgf    %r6, EX_ARCB(%r7)
        clgfi   %r6, MAX_REQUEST
        fail_if jh, text_exchange
        ltgr    %r6, %r6
        fail_if jz, text_exchange
        llgf    %r5, EX_ARCB + 4(%r7)
        clgfi   %r5, EX_HEAD
        fail_if jl, text_exchange
        lgr     %r1, %r5
        agr     %r1, %r6
        clgr    %r1, %r8
        fail_if jh, text_exchange
        llgf    %r8, EX_MEASUREMENT(%r7)
        clgfi   %r8, MAX_ANSWER
        fail_if jh, text_exchange
        llgf    %r9, EX_ADDITIONAL(%r7)
        clgfi   %r9, MAX_ANSWER
        fail_if jh, text_exchange

        # The answer is laid out in its place: head, request, measurement, additional data.
        llilf   %r1, DATA + OUT
        mvc     0(12,%r1), 0(%r7)
        st      %r6, EX_ARCB(%r1)
        mvhi    EX_ARCB + 4(%r1), EX_HEAD
        st      %r8, EX_MEASUREMENT(%r1)
        la      %r2, EX_HEAD(%r6)
        st      %r2, EX_MEASUREMENT + 4(%r1)
        la      %r2, EX_HEAD(%r1)         # copy the request there
        lgr     %r3, %r6
        lgr     %r4, %r7
        agr     %r4, %r5
        lgr     %r5, %r6
        stg     %r2, ARG(%r12)
2:      mvcle   %r2, %r4, 0
        jo      2b
        stg     %r2, ARG + 8(%r12)        # behind it, the measurement
        agr     %r2, %r8
        lghi    %r3, 0
        ltgr    %r9, %r9
        jz      3f
        lgr     %r3, %r2                  # and the additional data
3:      stg     %r3, ARG + 16(%r12)
        st      %r6, ARG_ARCB_SIZE(%r12)
        st      %r8, ARG_MEASUREMENT_SIZE(%r12)
        st      %r9, ARG_ADDITIONAL_SIZE(%r12)
        lgr     %r7, %r2                  # where additional data begin

        lghi    %r2, UV_ATTEST
        llilf   %r3, DATA + ARG
        lghi    %r4, ARG_SIZE
        brasl   %r14, uv_call

        # What there is of additional data, the user data, the configuration's identity.
        llilf   %r1, DATA + OUT
        llgf    %r2, ARG_ADDITIONAL_SIZE(%r12)
        clgr    %r2, %r9
        jh      4f
        lgr     %r9, %r2
4:      ltgr    %r9, %r9
        jz      5f
        st      %r9, EX_ADDITIONAL(%r1)
        lgr     %r2, %r7
        sgr     %r2, %r1
        st      %r2, EX_ADDITIONAL + 4(%r1)
        agr     %r7, %r9
5:      ltgr    %r10, %r10
        jz      6f
        st      %r10, EX_USER_DATA(%r1)
        lgr     %r2, %r7
        sgr     %r2, %r1
        st      %r2, EX_USER_DATA + 4(%r1)
        mvc     0(256,%r7), ARG_USER_DATA(%r12)
        agr     %r7, %r10
6:      mvhi    EX_CONFIG_UID(%r1), 16
        lgr     %r2, %r7
        sgr     %r2, %r1
        st      %r2, EX_CONFIG_UID + 4(%r1)
        mvc     0(16,%r7), ARG_CONFIG_UID(%r12)
        aghi    %r2, 16
        st      %r2, EX_SIZE(%r1)
        lgr     %r4, %r2
        lgr     %r3, %r1
        lg      %r2, 24(%r13)
        lghi    %r5, 0x1a4                # mode 0644
        brasl   %r14, write_file

done:
        lghi    %r2, 0
        svc     SYS_EXIT_GROUP

# --- the Ultravisor ----------------------------------------------------------------------------------------------------

# Reads the list of secrets into PAGE.
read_list:
        lghi    %r2, UV_LIST
        llilf   %r3, DATA + PAGE
        llill   %r4, 0x1000
        # and on to uv_call

# Call %r2 with an argument of %r4 bytes at %r3. Returns if the Ultravisor has done it.
uv_call:
        stmg    %r6, %r15, 48(%r15)
        aghi    %r15, -160
        lgr     %r6, %r2
        stg     %r3, CB_HOME_ARGUMENT(%r12)
        stg     %r4, CB_HOME_SIZE(%r12)
        larl    %r2, device
        lghi    %r3, O_RDWR
        lghi    %r4, 0
        svc     SYS_OPEN
        larl    %r7, text_device
        ltgr    %r2, %r2
        jl      fail_number
        lgr     %r8, %r2
        llilf   %r9, DATA + CB
        xc      0(0x40,%r9), 0(%r9)
        lg      %r1, CB_HOME_ARGUMENT(%r12)
        stg     %r1, 8(%r9)
        lg      %r1, CB_HOME_SIZE(%r12)
        st      %r1, 16(%r9)
        llilf   %r3, UV_IOCTL
        ogr     %r3, %r6
        lgr     %r4, %r9
        svc     SYS_IOCTL
        larl    %r7, text_ioctl
        ltgr    %r2, %r2
        jl      fail_number
        lgr     %r2, %r8
        svc     SYS_CLOSE
        llgh    %r2, 4(%r9)
        cghi    %r2, RC_EXECUTED
        je      1f
        cghi    %r6, UV_LIST              # more secrets than the page has room for
        jne     refused
        cghi    %r2, RC_MORE_DATA
        jne     refused
1:      aghi    %r15, 160
        lmg     %r6, %r15, 48(%r15)
        br      %r14
refused:
        brasl   %r14, name_it
        larl    %r2, text_refused
        brasl   %r14, put
        llgh    %r2, 4(%r9)
        brasl   %r14, put_hex
        larl    %r2, text_rrc
        brasl   %r14, put
        llgh    %r2, 6(%r9)
        brasl   %r14, put_hex
        larl    %r2, newline
        brasl   %r14, put
        lghi    %r2, 2
        svc     SYS_EXIT_GROUP

        .equ CB_HOME_ARGUMENT, 0x700
        .equ CB_HOME_SIZE, 0x708

# --- files -------------------------------------------------------------------------------------------------------------

# Reads the file named %r2 into %r4 bytes at %r3: %r2 = its size. A larger file is refused.
read_file:
        stmg    %r6, %r15, 48(%r15)
        aghi    %r15, -160
        lgr     %r6, %r3
        lgr     %r7, %r4
        lgr     %r10, %r2                 # for messages
        lghi    %r3, 0
        lghi    %r4, 0
        svc     SYS_OPEN
        ltgr    %r2, %r2
        jl      cannot_read
        lgr     %r8, %r2
        lghi    %r9, 0
        aghi    %r7, 1                    # one more byte tells a larger file
1:      lgr     %r2, %r8
        lgr     %r3, %r6
        agr     %r3, %r9
        lgr     %r4, %r7
        sgr     %r4, %r9
        jz      too_large
        svc     SYS_READ
        ltgr    %r2, %r2
        jl      cannot_read
        jz      2f
        agr     %r9, %r2
        j       1b
2:      lgr     %r2, %r8
        svc     SYS_CLOSE
        lgr     %r2, %r9
        aghi    %r15, 160
        lmg     %r6, %r15, 48(%r15)
        br      %r14
too_large:
        brasl   %r14, name_it
        lgr     %r2, %r10
        brasl   %r14, put
        larl    %r2, text_large
        brasl   %r14, put
        lghi    %r2, 1
        svc     SYS_EXIT_GROUP
cannot_read:
        larl    %r7, text_read
        j       fail_file

# Writes %r4 bytes at %r3 to the file named %r2, made with mode %r5.
write_file:
        stmg    %r6, %r15, 48(%r15)
        aghi    %r15, -160
        lgr     %r6, %r3
        lgr     %r9, %r4
        lgr     %r10, %r2
        lghi    %r3, O_CREATE
        lgr     %r4, %r5
        svc     SYS_OPEN
        larl    %r7, text_write
        ltgr    %r2, %r2
        jl      fail_file
        lgr     %r8, %r2
1:      ltgr    %r9, %r9
        jz      2f
        lgr     %r2, %r8
        lgr     %r3, %r6
        lgr     %r4, %r9
        svc     SYS_WRITE
        ltgr    %r2, %r2
        jl      fail_file
        agr     %r6, %r2
        sgr     %r9, %r2
        j       1b
2:      lgr     %r2, %r8
        svc     SYS_CLOSE
        ltgr    %r2, %r2
        jl      fail_file
        aghi    %r15, 160
        lmg     %r6, %r15, 48(%r15)
        br      %r14

# --- words -------------------------------------------------------------------------------------------------------------

# %r2 = 1 if the strings at %r2 and %r3 are the same, else 0.
same:
1:      llgc    %r0, 0(%r2)
        llgc    %r1, 0(%r3)
        clgr    %r0, %r1
        jne     2f
        aghi    %r2, 1
        aghi    %r3, 1
        ltgr    %r0, %r0
        jnz     1b
        lghi    %r2, 1
        br      %r14
2:      lghi    %r2, 0
        br      %r14

# %r2 = the decimal number at %r2, below 65536.
number:
        lgr     %r3, %r2
        lghi    %r2, 0
        llgc    %r1, 0(%r3)
        j       2f
1:      aghi    %r1, -48
        clgfi   %r1, 9
        jh      bad_number
        mghi    %r2, 10
        agr     %r2, %r1
        clgfi   %r2, 0xffff
        jh      bad_number
        aghi    %r3, 1
        llgc    %r1, 0(%r3)
        ltgr    %r1, %r1
        bzr     %r14
2:      ltgr    %r1, %r1
        jnz     1b
bad_number:
        larl    %r2, text_number
        # and on to fail

# Prints the message at %r2 and ends.
fail:
        lgr     %r6, %r2
        brasl   %r14, name_it
        lgr     %r2, %r6
        brasl   %r14, put
        lghi    %r2, 1
        svc     SYS_EXIT_GROUP

# Prints the file's name at %r10 after the message at %r7, and the error -%r2; ends.
fail_file:
        lgr     %r6, %r2
        brasl   %r14, name_it
        lgr     %r2, %r7
        brasl   %r14, put
        lgr     %r2, %r10
        brasl   %r14, put
        larl    %r7, text_error
        j       fail_tail

# Prints the message at %r7 and the error -%r2; ends.
fail_number:
        lgr     %r6, %r2
        brasl   %r14, name_it
fail_tail:
        lgr     %r2, %r7
        brasl   %r14, put
        lcgr    %r2, %r6
        brasl   %r14, put_decimal
        larl    %r2, text_close
        brasl   %r14, put
        lghi    %r2, 1
        svc     SYS_EXIT_GROUP

# Prints "uvdevice COMMAND: ".
name_it:
        stmg    %r6, %r15, 48(%r15)
        aghi    %r15, -160
        larl    %r2, text_name
        brasl   %r14, put
        lg      %r2, 8(%r13)
        brasl   %r14, put
        larl    %r2, text_colon
        brasl   %r14, put
        aghi    %r15, 160
        lmg     %r6, %r15, 48(%r15)
        br      %r14

# Prints %r2, four digits in hexadecimal.
put_hex:
        llilf   %r3, DATA + TEXT
        lghi    %r4, 12
1:      srlg    %r5, %r2, 0(%r4)
        lghi    %r0, 15
        ngr     %r5, %r0
        larl    %r1, digits
        agr     %r1, %r5
        mvc     0(1,%r3), 0(%r1)
        aghi    %r3, 1
        aghi    %r4, -4
        jnm     1b
        mvi     0(%r3), 0
        llilf   %r2, DATA + TEXT
        j       put

# Prints %r2, below 10000, in decimal.
put_decimal:
        lgr     %r1, %r2
        llilf   %r3, DATA + TEXT + 8
        mvi     0(%r3), 0
        lghi    %r4, 10
1:      lghi    %r0, 0
        dlgr    %r0, %r4                  # %r0 = rest, %r1 = quotient
        aghi    %r0, 48
        aghi    %r3, -1
        stc     %r0, 0(%r3)
        ltgr    %r1, %r1
        jnz     1b
        lgr     %r2, %r3
        # and on to put

# Prints the string at %r2 to standard error.
put:
        lgr     %r3, %r2
        lghi    %r4, -1
1:      aghi    %r4, 1
        llgc    %r0, 0(%r4,%r3)
        ltgr    %r0, %r0
        jnz     1b
        lghi    %r2, 2
        svc     SYS_WRITE                 # if nobody reads there is nobody to tell
        br      %r14

# Per command: 1, the fewest and the most arguments (with the program's name), name, code.
        .balign 8, 0
commands:
        .byte   1, 4, 5, 0, 0, 0, 0, 0
        .ascii  "attest\0\0\0\0\0\0\0\0\0\0"
        .quad   attest
        .byte   1, 3, 3, 0, 0, 0, 0, 0
        .ascii  "add\0\0\0\0\0\0\0\0\0\0\0\0\0"
        .quad   add
        .byte   1, 3, 3, 0, 0, 0, 0, 0
        .ascii  "list\0\0\0\0\0\0\0\0\0\0\0\0"
        .quad   list
        .byte   1, 2, 2, 0, 0, 0, 0, 0
        .ascii  "lock\0\0\0\0\0\0\0\0\0\0\0\0"
        .quad   lock
        .byte   1, 4, 4, 0, 0, 0, 0, 0
        .ascii  "retrieve\0\0\0\0\0\0\0\0"
        .quad   retrieve
        .quad   0

magic:  .ascii  "pvattest"
        .byte   0, 0, 1, 0
device: .asciz  "/dev/uv"; .balign 2, 0
digits: .ascii  "0123456789abcdef"
text_usage:
        .ascii  "usage: uvdevice attest REQUEST ANSWER [USERDATA] | add REQUEST | list FILE | lock | retrieve INDEX FILE\n"
        .asciz  "It works in a Secure Execution guest with Linux's module uvdevice loaded.\n"; .balign 2, 0
text_name:
        .asciz  "uvdevice "; .balign 2, 0
text_colon:
        .asciz  ": "; .balign 2, 0
text_device:
        .asciz  "/dev/uv cannot be opened; this must be a Secure Execution guest with the module uvdevice (error "; .balign 2, 0
text_ioctl:
        .asciz  "Linux did not pass the call on (error "; .balign 2, 0
text_refused:
        .asciz  "the Ultravisor refused: rc 0x"; .balign 2, 0
text_rrc:
        .asciz  " rrc 0x"; .balign 2, 0
text_read:
        .asciz  "cannot read "; .balign 2, 0
text_write:
        .asciz  "cannot write "; .balign 2, 0
text_error:
        .asciz  " (error "; .balign 2, 0
text_close:
        .asciz  ")\n"; .balign 2, 0
newline:
        .asciz  "\n"; .balign 2, 0
text_large:
        .asciz  " is larger than anything of its kind\n"; .balign 2, 0
text_exchange:
        .asciz  "the request is no exchange file of an attestation, or a damaged one\n"; .balign 2, 0
text_list:
        .asciz  "the Ultravisor's list of secrets is malformed\n"; .balign 2, 0
text_index:
        .asciz  "there is no secret with this index\n"; .balign 2, 0
text_number:
        .asciz  "the index is no number\n"; .balign 8, 0
