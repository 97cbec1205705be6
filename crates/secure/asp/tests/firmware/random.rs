//! Random sequences of commands with good, odd and hostile arguments.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use crate::rig::*;
use crate::states::{GUEST_STATES, number, table};
use crate::valid::valid;

#[derive(Debug, Clone)]
enum Step {
    /// A command with arguments that would do for some guest.
    Good { row: usize, guest: usize, asid: u32, policy: u32 },
    /// The same with bytes of its buffer changed.
    Changed { row: usize, guest: usize, at: usize, to: u8 },
    /// Any number with any bytes.
    Any { id: u16, bytes: Vec<u8> },
    /// All cores execute WBINVD, and a core runs a guest.
    Cores { asid: u32 },
}

/// A page that only a guest should know.
const MARK: [u8; 16] = *b"only the guest's";

fn step(rows: usize) -> impl Strategy<Value = Step> {
    let policy =
        prop_oneof![4 => Just(0), 1 => Just(ES), 1 => Just(NODBG), 1 => Just(NOKS), 1 => Just(NOSEND)];
    let asid = prop_oneof![1 => 1u32..5, 3 => 100u32..105];
    prop_oneof![
        12 => (0..rows, 0usize..4, asid, policy)
            .prop_map(|(row, guest, asid, policy)| Step::Good { row, guest, asid, policy }),
        3 => (0..rows, 0usize..4, 0usize..72, any::<u8>())
            .prop_map(|(row, guest, at, to)| Step::Changed { row, guest, at, to }),
        1 => (prop_oneof![0u16..0x80, any::<u16>()], proptest::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(id, bytes)| Step::Any { id, bytes }),
        2 => prop_oneof![Just(3u32), 100u32..105].prop_map(|asid| Step::Cores { asid }),
    ]
}

/// The states of all guests.
fn guests(rig: &Rig) -> BTreeMap<u32, u8> {
    (1..=1024).map(|handle| (handle, rig.guest_state(handle))).filter(|&(_, state)| state != 0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaves_the_table_and_nothing_of_a_guest_shows(
        mut steps in proptest::collection::vec(step(table().len()), 1..60), ready in any::<bool>()
    ) {
        let rows = table();
        let mut rig = if ready { Rig::ready("random", true) } else { Rig::new("random") };
        // Which birth of a guest made a ciphertext of MARK at PAGE, in which boot.
        let mut births: BTreeMap<u32, u64> = BTreeMap::new();
        let (mut count, mut boot) = (0u64, 0u64);
        let mut seen: HashMap<(u64, Vec<u8>), u64> = HashMap::new();
        for step in steps.drain(..) {
            let before = guests(&rig);
            let platform = rig.state();
            let handle = |index: usize| before.keys().nth(index).copied().unwrap_or(1);
            let (id, mut buf, shares) = match step {
                Step::Cores { asid } => {
                    rig.asp.wbinvd_on_all_cores();
                    rig.asp.ran(asid, 0);
                    continue;
                }
                Step::Any { id, bytes } => (id, Buf(bytes), true),
                Step::Good { row, guest, asid, policy } => {
                    let id = rows[row].id;
                    let buf = valid(&mut rig, id, handle(guest), asid, policy);
                    (id, buf, false)
                }
                Step::Changed { row, guest, at, to } => {
                    let id = rows[row].id;
                    let mut buf = valid(&mut rig, id, handle(guest), 101, 0);
                    if let Some(byte) = buf.0.get_mut(at) {
                        *byte = to;
                    }
                    (id, buf, true)
                }
            };
            // `valid` may swap a page out, which changes no state.
            let plain = id == 0x31 && !shares;
            if plain {
                rig.write(PAGE, &MARK.repeat(256));
            }
            let status = rig.cmd(id, &mut buf);
            let after = guests(&rig);

            if plain && status == OK {
                let view = rig.read(PAGE, 4096);
                prop_assert!(!view.windows(16).any(|window| window == MARK), "plaintext in the host's view");
                let birth = births[&buf.get(0)];
                if let Some(other) = seen.insert((boot, view[..16].to_vec()), birth) {
                    prop_assert_eq!(other, birth, "two guests have one key");
                }
            }
            if status != OK {
                prop_assert_eq!(&before, &after, "{:#x} failed with {:#x} and changed a guest", id, status);
                prop_assert_eq!(platform, rig.state());
            }
            for handle in before.keys().chain(after.keys()) {
                let (was, is) = (before.get(handle).copied().unwrap_or(0), after.get(handle).copied().unwrap_or(0));
                if was == is {
                    continue;
                }
                let allowed = match id {
                    0x02 => is == 0,
                    0x30 => (was, is) == (0, 1),
                    0x50 => (was, is) == (0, 5),
                    _ => rows.iter().find(|row| row.id == id).and_then(|row| row.guest.as_ref()).is_some_and(|guest| {
                        let from = GUEST_STATES[was as usize];
                        guest.get(from).is_some_and(|(to, _)| number(to) == is)
                    }),
                };
                prop_assert!(allowed, "{:#x} took guest {} from {} to {}", id, handle, was, is);
                if was == 0 {
                    prop_assert_eq!(buf.get(0), *handle, "the new handle is the one that was given back");
                    count += 1;
                    births.insert(*handle, count);
                }
            }
            match rig.state() {
                0 => prop_assert!(after.is_empty()),
                1 => prop_assert!(after.is_empty()),
                2 => prop_assert!(!after.is_empty()),
                other => prop_assert!(false, "platform state {}", other),
            }
            if matches!(id, 0x01 | 0x0d) && status == OK {
                boot += 1;
            }
            // A guest of the table's states only, and one ASID for one guest.
            prop_assert!(after.values().all(|&state| (1..=6).contains(&state)));
            let mut asids: Vec<u32> = Vec::new();
            for &handle in after.keys() {
                let asid = rig.run(0x23, Buf::new(13).u32(0, handle)).get(8);
                prop_assert!(asid == 0 || !asids.contains(&asid), "ASID {} twice", asid);
                asids.push(asid);
            }
        }
    }

    #[test]
    fn no_buffer_is_too_odd(id in 0u16..0x80, bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut rig = Rig::ready("odd", true);
        rig.null_guest(0);
        let mut buf = Buf(bytes.clone());
        rig.cmd(id, &mut buf);
        prop_assert_eq!(buf.0.len(), bytes.len());
    }
}
