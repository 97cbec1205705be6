# Stage A: the plain loader at the front of a Secure Execution image.
#
# It runs in the clear. It tells the machine where the header and the list of encrypted components are and asks for
# protected mode; on success it never sees the answer, because the machine then starts stage B inside. Everything
# else in this file is for the day on which that does not work.
#
# The contract with the image tool stands in README.md. References: z/Architecture Principles of Operation
# (SA22-7832) for instructions and PSW; DIAGNOSE 0x308 subcodes 8 and 10 and the type-5 IPL parameter block as the
# public consumers (Linux, QEMU) define them.

        .origin 0x10000

        .include "macros.inc"

        .equ STACK, 0xff60                # one frame of 160 bytes below 0x10000
        .equ SCCB, 0xc000                 # scratch; the image's metadata there is needed in the file only
        .equ FACILITIES, 0xcf00           # scratch: 4 doublewords of STFLE

        .equ SIGP_SET_ARCHITECTURE, 0x12
        .equ DIAG_IPL, 0x308
        .equ SUBCODE_SET_PV, 8
        .equ SUBCODE_ENTER_PV, 10
        .equ DIAG_OK, 1

        .equ IPIB_HEADER_ADDRESS, 0x78    # type-5 block: u64 pv_hdr_addr
        .equ IPIB_HEADER_LENGTH, 0x80     # type-5 block: u64 pv_hdr_len

        .equ WAIT_NO_UNPACK, 0x4607
        .equ WAIT_FAILED, 0x4608

# A boot loader executes 0x10000. Loaders write Linux boot parameters to 0x10400-0x10fff of anything that they load
# there, so only this trampoline lies below. The bytes at 0x10008 must not read "S390EP", or a loader would take the
# image for a Linux kernel.
trampoline:
        lhi     %r1, 1                    # z/Architecture
        sigp    %r1, %r0, SIGP_SET_ARCHITECTURE
        sam64
        jg      entry

        .org    trampoline + 0x1000
# `-kernel` and list-directed IPL enter here, through the short PSW at 0. Registers are undefined.
entry:
        lhi     %r1, 1
        sigp    %r1, %r0, SIGP_SET_ARCHITECTURE
        sam64
        llill   %r15, STACK

        # Facility 161 (unpack): byte 20, bit 1 of the list.
        llilf   %r6, FACILITIES
        xc      0(32,%r6), 0(%r6)
        lghi    %r0, 3                    # doublewords to store, minus 1
        stfle   0(%r6)
        tm      20(%r6), 0x40
        jz      no_unpack

        # The tool knows distances only; the header's address is told to the machine now.
        larl    %r6, arguments
        lg      %r7, 16(%r6)
        agr     %r7, %r6                  # IPL parameter block
        lg      %r1, 0(%r6)
        agr     %r1, %r6
        stg     %r1, IPIB_HEADER_ADDRESS(%r7)
        lg      %r1, 8(%r6)
        stg     %r1, IPIB_HEADER_LENGTH(%r7)

        lgr     %r2, %r7
        lghi    %r4, SUBCODE_SET_PV
        diag    %r2, %r4, DIAG_IPL
        cghi    %r3, DIAG_OK
        jne     set_failed

        lghi    %r2, 0
        lghi    %r4, SUBCODE_ENTER_PV
        diag    %r2, %r4, DIAG_IPL        # does not return if it succeeds
        j       enter_failed

no_unpack:
        brasl   %r14, console_open
        say     text_no_unpack
        brasl   %r14, console_flush
        lghi    %r2, WAIT_NO_UNPACK
        jg      disabled_wait

set_failed:                               # %r3 = result of subcode 8
        lgr     %r8, %r3
        brasl   %r14, console_open
        say     text_set_failed
        lgr     %r2, %r8
        brasl   %r14, console_hex
        j       stop

# %r3 = result of subcode 10: u16 command that failed, u16 rrc, u16 rc, u16 0x0a02. Older machines leave the first
# three 0.
enter_failed:
        lgr     %r8, %r3
        brasl   %r14, console_open
        say     text_enter_failed
        llghr   %r2, %r8
        brasl   %r14, console_hex
        srlg    %r9, %r8, 16
        ltgr    %r9, %r9                  # command, rrc and rc
        jz      stop
        say     text_comma
        srlg    %r2, %r8, 48
        brasl   %r14, print_command
        say     text_rc
        llghr   %r2, %r9
        brasl   %r14, console_hex
        say     text_rrc
        srlg    %r2, %r9, 16
        llghr   %r2, %r2
        brasl   %r14, console_hex
        brasl   %r14, print_reason
stop:
        say     text_end
        brasl   %r14, console_flush
        lghi    %r2, WAIT_FAILED
        jg      disabled_wait

# The name of command %r2.
print_command:
        larl    %r3, text_set_parameters
        cghi    %r2, 2
        je      1f
        larl    %r3, text_unpack
        cghi    %r2, 3
        je      1f
        larl    %r3, text_verify
        cghi    %r2, 4
        je      1f
        larl    %r3, text_other
1:      lgr     %r2, %r3
        jg      console_puts

# A line with the meaning of %r9 = u32 { rrc, rc } in its low word, if it is known.
print_reason:
        larl    %r1, reasons
1:      llgf    %r2, 4(%r1)
        ltgr    %r2, %r2
        bzr     %r14                      # end of the table
        cl      %r9, 0(%r1)
        je      2f
        aghi    %r1, 8
        j       1b
2:      larl    %r3, reasons
        la      %r6, 0(%r2,%r3)
        lgr     %r10, %r14
        say     text_end
        lgr     %r2, %r6
        lgr     %r14, %r10
        jg      console_puts

        .include "console.inc"

# { u16 rrc, u16 rc, u32 distance of the text from here }
        .balign 4, 0
reasons:
        .short  0x1a, 0x102
        .long   reason_ald - reasons
        .short  0x1b, 0x102
        .long   reason_pld - reasons
        .short  0x1c, 0x102
        .long   reason_tld - reasons
        .short  0x1d, 0x102
        .long   reason_pages - reasons
        .short  0x01, 0x104
        .long   reason_version - reasons
        .short  0x30, 0x106
        .long   reason_pcf - reasons
        .short  0x05, 0x108
        .long   reason_key - reasons
        .short  0x0b, 0x108
        .long   reason_ecdh - reasons
        .short  0x34, 0x108
        .long   reason_backup - reasons
        .short  0x00, 0x109
        .long   reason_scf - reasons
        .short  0x31, 0x10a
        .long   reason_header - reasons
        .short  0x39, 0x10a
        .long   reason_area - reasons
        .short  0x40, 0x10a
        .long   reason_slots - reasons
        .quad   0

reason_ald:     .asciz "Address digest list (ALD) mismatch: the image was changed or damaged."
reason_pld:     .asciz "Page digest list (PLD) mismatch: the image was changed or damaged."
reason_tld:     .asciz "Tweak digest list (TLD) mismatch: the image was changed or damaged."
reason_pages:   .asciz "Mismatch in number of encrypted pages: the image is incomplete."
reason_version: .asciz "The version of the Secure Execution header is not supported."
reason_pcf:     .asciz "An unsupported plaintext control flag is set."
reason_key:     .asciz "Host key hash does not match: the image was not encrypted for this host."
reason_ecdh:    .asciz "Customer ECDH key not valid."
reason_backup:  .asciz "Backup host key hash mismatch."
reason_scf:     .asciz "Unsupported secret control flag."
reason_header:  .asciz "Secure Execution header size mismatch."
reason_area:    .asciz "Size of the encrypted area invalid."
reason_slots:   .asciz "No host keys in the image."

text_no_unpack:      .asciz "Secure unpack facility is not available\r\n"; .balign 2, 0
text_set_failed:     .asciz "Protected boot setup has failed: 0x"; .balign 2, 0
text_enter_failed:   .asciz "Protected boot failed: 0x"; .balign 2, 0
text_comma:          .asciz ", "; .balign 2, 0
text_set_parameters: .asciz "KVM_PV_SET_SEC_PARMS"; .balign 2, 0
text_unpack:         .asciz "KVM_PV_UNPACK"; .balign 2, 0
text_verify:         .asciz "KVM_PV_VERIFY"; .balign 2, 0
text_other:          .asciz "KVM_PV_COMMAND"; .balign 2, 0
text_rc:             .asciz " - RC: 0x"; .balign 2, 0
text_rrc:            .asciz ", RRC: 0x"; .balign 2, 0
text_end:            .asciz "\r\n"; .balign 2, 0

# The tool fills these: u64 hdr_offs, u64 hdr_size, u64 ipib_offs, distances from here. They are the last 24 bytes.
        .balign 8, 0
arguments:
        .quad   0, 0, 0
