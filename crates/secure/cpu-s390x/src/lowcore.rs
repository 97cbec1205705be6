//! Assigned storage locations (SA22-7832, chapter 3, "Assigned Storage Locations"), as offsets from the prefix.

/// External-interruption parameter.
pub(crate) const EXTERNAL_PARAMETER: u64 = 0x80;
/// CPU address of an external interruption.
pub(crate) const EXTERNAL_CPU: u64 = 0x84;
/// External-interruption code.
pub(crate) const EXTERNAL_CODE: u64 = 0x86;
/// SVC: instruction-length code and interruption code.
pub(crate) const SVC: u64 = 0x88;
/// Program: instruction-length code and interruption code.
pub(crate) const PROGRAM: u64 = 0x8c;
/// Data-exception code or vector-exception code (a word).
pub(crate) const DATA_EXCEPTION: u64 = 0x90;
/// Monitor-class number.
pub(crate) const MONITOR_CLASS: u64 = 0x94;
/// Exception access identification.
pub(crate) const EXCEPTION_ACCESS: u64 = 0xa0;
/// Translation-exception identification.
pub(crate) const TRANSLATION_EXCEPTION: u64 = 0xa8;
/// Monitor code.
pub(crate) const MONITOR_CODE: u64 = 0xb0;
/// Subsystem identification, interruption parameter and identification word.
pub(crate) const IO: u64 = 0xb8;
/// Facility list of STFL.
pub(crate) const STFL: u64 = 0xc8;
/// Machine-check interruption code.
pub(crate) const MACHINE_CHECK_CODE: u64 = 0xe8;
/// Breaking-event address of a program interruption.
pub(crate) const BREAKING_EVENT: u64 = 0x110;
/// Old PSWs.
pub(crate) const RESTART_OLD: u64 = 0x120;
/// External old PSW.
pub(crate) const EXTERNAL_OLD: u64 = 0x130;
/// SVC old PSW.
pub(crate) const SVC_OLD: u64 = 0x140;
/// Program old PSW.
pub(crate) const PROGRAM_OLD: u64 = 0x150;
/// Machine-check old PSW.
pub(crate) const MACHINE_CHECK_OLD: u64 = 0x160;
/// I/O old PSW.
pub(crate) const IO_OLD: u64 = 0x170;
/// Every new PSW lies this far behind its old PSW.
pub(crate) const NEW_PSW: u64 = 0x80;
/// Machine-check extended-save-area address, with its length characteristic.
pub(crate) const EXTENDED_SAVE_AREA: u64 = 0x11b0;
/// Store-status save areas.
pub(crate) const SAVE: u64 = 0x1200;
