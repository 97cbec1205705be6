//! The rules of states and of the order of tests, as data for tests of a firmware model.
//!
//! The two text files beside this module are derived from the specification by hand. A firmware model does not use
//! them: its own tables are checked against them.

use super::command::{Command, GuestState, PlatformState};
use super::status::Status;

/// The file of commands and states.
pub const COMMANDS: &str = include_str!("commands.txt");
/// The file of tests in their order.
pub const CHECKS: &str = include_str!("checks.txt");

/// What a command does to the platform's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformNext {
    /// Nothing.
    Same,
    /// It becomes this.
    To(PlatformState),
    /// It becomes INIT if no guest is left.
    InitIfLast,
}

/// Which guest a command needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestRule {
    /// None.
    None,
    /// One that it makes.
    New,
    /// It acts on all guests.
    All,
    /// Any handle, even one without a guest.
    AnyHandle,
    /// A guest in one of these states.
    In(Vec<GuestState>),
}

/// Which ASID a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsidRule {
    /// None.
    None,
    /// One that may be pending.
    Has,
    /// One in use.
    Active,
}

/// A row of [`COMMANDS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRow {
    /// The command.
    pub command: Command,
    /// Its name.
    pub name: &'static str,
    /// States of the platform in which it is accepted.
    pub platform: Vec<PlatformState>,
    /// The platform after success.
    pub platform_next: PlatformNext,
    /// The guest it needs.
    pub guest: GuestRule,
    /// State of the guest after success, if it changes.
    pub guest_next: Option<GuestState>,
    /// The ASID it needs.
    pub asid: AsidRule,
}

/// A row of [`CHECKS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckRow {
    /// The command.
    pub command: Command,
    /// The status if the test fails.
    pub status: Status,
    /// Whether the required length is written back then.
    pub writes_length: bool,
    /// The test, in words.
    pub test: &'static str,
}

/// The rows of [`COMMANDS`].
pub fn command_rows() -> Vec<CommandRow> {
    lines(COMMANDS)
        .map(|line| command_row(line).expect("the table is well-formed, as its test shows"))
        .collect()
}

/// The rows of [`CHECKS`], in order.
pub fn check_rows() -> Vec<CheckRow> {
    lines(CHECKS).map(|line| check_row(line).expect("the table is well-formed, as its test shows")).collect()
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

fn command_row(line: &'static str) -> Option<CommandRow> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let [id, name, platform, platform_next, guest, guest_next, asid] = columns[..] else { return None };
    Some(CommandRow {
        command: Command(u16::from_str_radix(id, 16).ok()?),
        name,
        platform: match platform {
            "any" => vec![PlatformState::UNINIT, PlatformState::INIT, PlatformState::WORKING],
            list => list.split(',').map(platform_state).collect::<Option<_>>()?,
        },
        platform_next: match platform_next {
            "=" => PlatformNext::Same,
            "INIT-if-last" => PlatformNext::InitIfLast,
            state => PlatformNext::To(platform_state(state)?),
        },
        guest: match guest {
            "-" => GuestRule::None,
            "new" => GuestRule::New,
            "all" => GuestRule::All,
            "any" => GuestRule::AnyHandle,
            "valid" => GuestRule::In((1..=6).map(GuestState).collect()),
            list => GuestRule::In(list.split(',').map(guest_state).collect::<Option<_>>()?),
        },
        guest_next: match guest_next {
            "=" | "-" => None,
            state => Some(guest_state(state)?),
        },
        asid: match asid {
            "-" => AsidRule::None,
            "has" => AsidRule::Has,
            "active" => AsidRule::Active,
            _ => return None,
        },
    })
}

fn check_row(line: &'static str) -> Option<CheckRow> {
    let (command, rest) = line.split_once(' ')?;
    let (status, test) = rest.trim_start().split_once(' ')?;
    let name = status.strip_suffix("+len");
    Some(CheckRow {
        command: Command::from_name(command)?,
        status: Status::from_name(name.unwrap_or(status))?,
        writes_length: name.is_some(),
        test: test.trim_start(),
    })
}

fn platform_state(name: &str) -> Option<PlatformState> {
    (0..=2).map(PlatformState).find(|state| state.name() == Some(name))
}

fn guest_state(name: &str) -> Option<GuestState> {
    (0..=6).map(GuestState).find(|state| state.name() == Some(name))
}
