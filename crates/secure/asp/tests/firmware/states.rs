//! Every pair of a state and a command, against the table of the formats crate (`sev/commands.txt`), which was written
//! by hand from the specification. The model does not use it.

use std::collections::BTreeMap;

use cloister_formats::sev::states::{AsidRule, CommandRow, GuestRule, command_rows};

use crate::rig::*;
use crate::valid::valid;

pub(crate) struct Row {
    pub(crate) id: u16,
    pub(crate) platform: String,
    /// From a guest's state to the state after and a status; `None` if the command concerns no guest.
    pub(crate) guest: Option<BTreeMap<String, (String, u32)>>,
    pub(crate) status: u32,
}

pub(crate) fn table() -> Vec<Row> {
    command_rows().iter().filter(|row| row.name != "RING_BUFFER").map(Row::new).collect()
}

impl Row {
    fn new(row: &CommandRow) -> Self {
        let platform = row.platform.iter().map(|state| ['U', 'I', 'W'][state.0 as usize]).collect();
        let states: Option<Vec<u8>> = match &row.guest {
            GuestRule::None | GuestRule::New | GuestRule::All => None,
            GuestRule::AnyHandle => Some((0..=6).collect()),
            GuestRule::In(states) => Some(states.iter().map(|state| state.0).collect()),
        };
        let name = |state: u8| GUEST_STATES[state as usize].to_owned();
        let of_state = |state: u8| {
            // An ASID is pending until launch or transport are finished. What comes in is for such a guest.
            let pending = matches!(name(state).as_str(), "lu" | "ls" | "rx");
            if row.asid == AsidRule::Active && pending && !row.name.starts_with("RECEIVE") {
                (name(state), (name(state), INACTIVE))
            } else {
                (name(state), (name(row.guest_next.map_or(state, |next| next.0)), OK))
            }
        };
        Self {
            id: row.command.0,
            platform,
            guest: states.map(|states| states.into_iter().map(of_state).collect()),
            // The model has no firmware to replace.
            status: if row.name == "DOWNLOAD_FIRMWARE" { UNSUPPORTED } else { OK },
        }
    }
}

pub(crate) const GUEST_STATES: [&str; 7] = ["inv", "lu", "ls", "ru", "su", "rx", "se"];

pub(crate) fn number(state: &str) -> u8 {
    match state {
        "inv" => 0,
        "lu" => 1,
        "ls" => 2,
        "ru" => 3,
        "su" => 4,
        "rx" => 5,
        "se" => 6,
        other => panic!("no state {other}"),
    }
}

/// The platform state after a command that succeeded.
fn platform_after(id: u16, before: char) -> u8 {
    match (id, before) {
        (0x01 | 0x0d, _) => 1,
        (0x02, _) => 0,
        (0x30 | 0x50, _) => 2,
        // The only guest went.
        (0x20, _) => 1,
        (_, 'U') => 0,
        (_, 'I') => 1,
        _ => 2,
    }
}

#[test]
fn platform_states_allow_what_the_table_says() {
    for row in table() {
        for state in ['U', 'I', 'W'] {
            if row.guest.is_some() && state == 'W' {
                continue; // The next test.
            }
            let mut rig = Rig::new("platform states");
            if state != 'U' {
                rig.init(true);
            }
            if state == 'W' {
                rig.null_guest(0);
            }
            rig.asp.wbinvd_on_all_cores();
            let mut buf = valid(&mut rig, row.id, 1, 150, 0);
            let status = rig.cmd(row.id, &mut buf);
            let what = format!("command {:#04x} in platform state {state}", row.id);
            if row.platform.contains(state) {
                assert_eq!(status, row.status, "{what}");
                if status == OK {
                    assert_eq!(rig.state(), platform_after(row.id, state), "{what}");
                }
            } else {
                assert_eq!(status, PLATFORM_STATE, "{what}");
                assert_eq!(
                    rig.state(),
                    if state == 'U' {
                        0
                    } else if state == 'I' {
                        1
                    } else {
                        2
                    },
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn guest_states_allow_what_the_table_says() {
    for row in table() {
        let Some(guest) = &row.guest else { continue };
        for state in GUEST_STATES {
            let vmsa = matches!(row.id, 0x32 | 0x42 | 0x52);
            let (policy, asid) = if vmsa { (ES, 5) } else { (0, 150) };
            let mut rig = Rig::ready("guest states", true);
            if state == "inv" {
                rig.null_guest(0);
            }
            let handle = rig.guest_in(state, policy, asid);
            if matches!(row.id, 0x20 | 0x21 | 0x25) && state != "inv" {
                rig.run(0x22, Buf::new(4).u32(0, handle));
            }
            let mut buf = valid(&mut rig, row.id, handle, asid, policy);
            let status = rig.cmd(row.id, &mut buf);
            let what = format!("command {:#04x} in guest state {state}", row.id);
            let after = match guest.get(state) {
                Some((to, code)) => {
                    assert_eq!(status, *code, "{what}");
                    number(to)
                }
                None if state == "inv" => {
                    assert_eq!(status, GUEST, "{what}");
                    0
                }
                None => {
                    assert_eq!(status, GUEST_STATE, "{what}");
                    number(state)
                }
            };
            assert_eq!(rig.guest_state(handle), after, "{what}");
            if status == OK {
                let before = if row.id == 0x20 { 'I' } else { 'W' };
                assert_eq!(rig.state(), platform_after(row.id, before), "{what}");
            }
        }
    }
}

#[test]
fn a_number_without_a_command_is_invalid() {
    let known: Vec<u16> = table().iter().map(|row| row.id).collect();
    let mut rig = Rig::new("unknown");
    rig.init(true);
    for id in (0..=0x200).chain([0x7fff, 0xffff]).filter(|id| !known.contains(id)) {
        let expected = if id == 0x0f { UNSUPPORTED } else { COMMAND };
        assert_eq!(rig.cmd(id, &mut Buf::new(64)), expected, "command {id:#x}");
    }
}
