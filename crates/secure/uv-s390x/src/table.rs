//! Which call fits which state, as data.
//!
//! Two state machines: the machine's (has the Ultravisor been initialised?) and a configuration's. Both
//! tables have an entry for every pair, so that nothing is decided by omission.

use cloister_formats::s390x::uvcb::UvCommand;

/// State of the Ultravisor itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MachineState {
    /// No storage has been donated yet.
    Uninitialised = 0,
    /// Configurations can be created.
    Initialised = 1,
}

/// State of a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ConfigurationState {
    /// It exists and has no image.
    Created = 0,
    /// The SE header was opened.
    ParametersSet = 1,
    /// At least one page was unpacked.
    Unpacking = 2,
    /// The image is the one that the header describes; a CPU may load the header's PSW. A prepared
    /// reset leads here again.
    Verified = 3,
    /// A CPU has been started.
    Running = 4,
    /// A dump was begun and not completed: no CPU runs.
    Dumping = 5,
}

impl ConfigurationState {
    /// All states in the order of the table's columns.
    pub const ALL: [Self; 6] =
        [Self::Created, Self::ParametersSet, Self::Unpacking, Self::Verified, Self::Running, Self::Dumping];
}

/// What may be done to a configuration: the calls, with "set CPU state" split by what it asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A call other than "set CPU state".
    Call(UvCommand),
    /// CPU state "stopped" or "check-stop".
    CpuStop,
    /// CPU state "operating".
    CpuStart,
    /// CPU state "operating after loading the PSW".
    CpuLoad,
}

/// What the table says about a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict<S: 'static> {
    /// Allowed; the state stays.
    Stay,
    /// Allowed; if the call succeeds this is the next state.
    To(S),
    /// Allowed; if the call succeeds the configuration is gone.
    End,
    /// Refused with this rc.
    Refuse(u16),
}

/// Calls that name no configuration. Columns: uninitialised, initialised.
pub const MACHINE_TABLE: &[(UvCommand, [Verdict<MachineState>; 2])] = {
    use MachineState::Initialised;
    use Verdict::{Refuse, Stay, To};
    &[
        (UvCommand::QUI, [Stay, Stay]),
        (UvCommand::QUERY_KEYS, [Refuse(3), Stay]),
        (UvCommand::INIT, [To(Initialised), Refuse(0x101)]),
        (UvCommand::CREATE_SEC_CONF, [Refuse(3), Stay]),
    ]
};

/// Actions on a configuration. Columns: created, parameters set, unpacking, verified, running, dumping.
pub const CONFIGURATION_TABLE: &[(Action, [Verdict<ConfigurationState>; 6])] = {
    use Action::{Call, CpuLoad, CpuStart, CpuStop};
    use ConfigurationState::{Dumping, ParametersSet, Running, Unpacking, Verified};
    use UvCommand as C;
    use Verdict::{End, Refuse, Stay, To};
    const NO: Verdict<ConfigurationState> = Refuse(3);
    &[
        (Call(C::DESTROY_SEC_CONF), [End, End, End, End, End, End]),
        (Call(C::DESTROY_SEC_CONF_FAST), [End, End, End, End, End, End]),
        (Call(C::CREATE_SEC_CPU), [Stay, Stay, Stay, Stay, Stay, NO]),
        (Call(C::DESTROY_SEC_CPU), [Stay, Stay, Stay, Stay, Stay, Stay]),
        (Call(C::SET_SEC_CONF_PARAMS), [To(ParametersSet), NO, NO, NO, NO, NO]),
        (Call(C::UNPACK), [NO, To(Unpacking), Stay, NO, NO, NO]),
        (Call(C::VERIFY), [NO, To(Verified), To(Verified), NO, NO, NO]),
        (CpuStop, [Stay, Stay, Stay, Stay, Stay, Stay]),
        (CpuStart, [NO, NO, NO, NO, Stay, NO]),
        (CpuLoad, [NO, NO, NO, To(Running), NO, NO]),
        (Call(C::CPU_RESET), [Stay, Stay, Stay, Stay, Stay, NO]),
        (Call(C::CPU_INITIAL_RESET), [Stay, Stay, Stay, Stay, Stay, NO]),
        (Call(C::CPU_CLEAR_RESET), [Stay, Stay, Stay, Stay, Stay, NO]),
        (Call(C::UNSHARE_ALL), [NO, NO, NO, Stay, Stay, NO]),
        (Call(C::PREPARE_RESET), [NO, NO, NO, Stay, To(Verified), NO]),
        (Call(C::CONV_TO_SEC), [NO, NO, Stay, Stay, Stay, Stay]),
        (Call(C::CONV_FROM_SEC), [Stay, Stay, Stay, Stay, Stay, Stay]),
        (Call(C::DESTR_SEC_STOR), [Stay, Stay, Stay, Stay, Stay, Stay]),
        (Call(C::PIN_PAGE_SHARED), [Stay, Stay, Stay, Stay, Stay, Stay]),
        (Call(C::UNPIN_PAGE_SHARED), [Stay, Stay, Stay, Stay, Stay, Stay]),
        (Call(C::DUMP_INIT), [NO, NO, NO, To(Dumping), To(Dumping), NO]),
        (Call(C::DUMP_CONF_STOR_STATE), [NO, NO, NO, NO, NO, Stay]),
        (Call(C::DUMP_CPU), [NO, NO, NO, NO, NO, Stay]),
        // The state before the dump comes back.
        (Call(C::DUMP_COMPLETE), [NO, NO, NO, NO, NO, To(Running)]),
        (Call(C::RETR_ATTEST), [NO, NO, NO, NO, Stay, NO]),
        (Call(C::ADD_SECRET), [NO, NO, NO, NO, Stay, Refuse(0x10d)]),
        (Call(C::LIST_SECRETS), [NO, NO, NO, NO, Stay, NO]),
        (Call(C::LOCK_SECRETS), [NO, NO, NO, NO, Stay, NO]),
        (Call(C::RETR_SECRET), [NO, NO, NO, NO, Stay, NO]),
        (Call(C::SET_SHARED_ACCESS), [NO, NO, NO, NO, Stay, NO]),
        (Call(C::REMOVE_SHARED_ACCESS), [NO, NO, NO, NO, Stay, NO]),
    ]
};

/// The calls that a host may issue.
pub(crate) const HOST_CALLS: &[UvCommand] = {
    use UvCommand as C;
    &[
        C::QUI,
        C::QUERY_KEYS,
        C::INIT,
        C::CREATE_SEC_CONF,
        C::DESTROY_SEC_CONF,
        C::DESTROY_SEC_CONF_FAST,
        C::CREATE_SEC_CPU,
        C::DESTROY_SEC_CPU,
        C::CONV_TO_SEC,
        C::CONV_FROM_SEC,
        C::DESTR_SEC_STOR,
        C::SET_SEC_CONF_PARAMS,
        C::UNPACK,
        C::VERIFY,
        C::CPU_RESET,
        C::CPU_INITIAL_RESET,
        C::CPU_CLEAR_RESET,
        C::CPU_SET_STATE,
        C::PREPARE_RESET,
        C::UNSHARE_ALL,
        C::PIN_PAGE_SHARED,
        C::UNPIN_PAGE_SHARED,
        C::DUMP_INIT,
        C::DUMP_CONF_STOR_STATE,
        C::DUMP_CPU,
        C::DUMP_COMPLETE,
    ]
};

/// The calls that a guest may issue.
pub(crate) const GUEST_CALLS: &[UvCommand] = {
    use UvCommand as C;
    &[
        C::QUI,
        C::QUERY_KEYS,
        C::SET_SHARED_ACCESS,
        C::REMOVE_SHARED_ACCESS,
        C::RETR_ATTEST,
        C::ADD_SECRET,
        C::LIST_SECRETS,
        C::LOCK_SECRETS,
        C::RETR_SECRET,
    ]
};

/// The verdict on a call that names no configuration.
pub(crate) fn machine_verdict(state: MachineState, command: UvCommand) -> Verdict<MachineState> {
    MACHINE_TABLE
        .iter()
        .find(|(row, _)| *row == command)
        .map_or(Verdict::Refuse(2), |(_, columns)| columns[state as usize])
}

/// The verdict on an action on a configuration.
pub(crate) fn configuration_verdict(
    state: ConfigurationState,
    action: Action,
) -> Verdict<ConfigurationState> {
    CONFIGURATION_TABLE
        .iter()
        .find(|(row, _)| *row == action)
        .map_or(Verdict::Refuse(2), |(_, columns)| columns[state as usize])
}
