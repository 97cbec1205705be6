//! Every pair of a state and a command, against the table in `tests/data/states.txt`, which was written from the
//! specification and shares nothing with the model.

use std::collections::BTreeMap;

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
    let text = include_str!("../data/states.txt");
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            let id = u16::from_str_radix(words.next().unwrap(), 16).unwrap();
            let (_name, platform) = (words.next().unwrap(), words.next().unwrap().to_owned());
            let (mut guest, mut status) = (BTreeMap::new(), OK);
            let mut concerns_guest = true;
            for word in words {
                if word == "-" {
                    concerns_guest = false;
                } else if let Some(code) = word.strip_prefix('!') {
                    status = u32::from_str_radix(code, 16).unwrap();
                } else {
                    let (from, to) = word.split_once('>').unwrap();
                    let (to, code) = to.split_once('!').unwrap_or((to, "0"));
                    let code = u32::from_str_radix(code, 16).unwrap();
                    guest.insert(from.to_owned(), (to.to_owned(), code));
                }
            }
            Row { id, platform, guest: concerns_guest.then_some(guest), status }
        })
        .collect()
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
