//! The state tables, and random walks through them by a hostile host.

use crate::common::*;
use crate::owner;
use cloister_formats::s390x::uvcb::*;
use cloister_uv_s390x::*;
use proptest::prelude::*;

#[test]
fn tables_have_every_call_once() {
    let mut calls: Vec<UvCommand> = MACHINE_TABLE.iter().map(|(command, _)| *command).collect();
    for (action, _) in CONFIGURATION_TABLE {
        if let Action::Call(command) = action {
            calls.push(*command);
        }
    }
    calls.push(UvCommand::CPU_SET_STATE);
    let count = calls.len();
    calls.sort_unstable();
    calls.dedup();
    assert_eq!(calls.len(), count, "no call twice");
    let absent: Vec<_> = UvCommand::ALL.iter().filter(|command| !calls.contains(command)).collect();
    let expected = [];
    assert!(absent.iter().all(|command| expected.contains(command)), "{absent:?}");
}

#[test]
fn only_verify_leads_to_verified_and_only_load_to_running() {
    use ConfigurationState::{Dumping, Running, Verified};
    for (action, columns) in CONFIGURATION_TABLE {
        for (state, verdict) in ConfigurationState::ALL.iter().zip(columns) {
            match verdict {
                Verdict::To(Verified) => assert!(
                    *action == Action::Call(UvCommand::VERIFY)
                        || (*action == Action::Call(UvCommand::PREPARE_RESET) && *state == Running)
                ),
                Verdict::To(Running) => {
                    assert!(
                        (*action == Action::CpuLoad && *state == Verified)
                            || (*action == Action::Call(UvCommand::DUMP_COMPLETE) && *state == Dumping)
                    );
                }
                Verdict::To(_) | Verdict::Stay | Verdict::End | Verdict::Refuse(_) => {}
            }
        }
    }
}

/// Brings a configuration with a stopped CPU into a state.
fn in_state(state: ConfigurationState) -> (Machine, u64, u64) {
    use ConfigurationState as S;
    let (machine, guest) = Machine::created();
    let cpu = machine.cpu(guest, 0);
    let image = Image::golden();
    machine.load(&image);
    if state != S::Created {
        machine.set_header(guest, &image.header).ok();
    }
    match state {
        S::Created | S::ParametersSet => {}
        S::Unpacking => {
            machine.unpack(guest, 0x15000, [image.block.components[0].tweak_pref.0, 0]).ok();
        }
        S::Verified | S::Running | S::Dumping => {
            machine.unpack_all(guest, &image.block);
            machine.named(UvCommand::VERIFY, guest).ok();
        }
    }
    if matches!(state, S::Running | S::Dumping) {
        machine.set_state(cpu, 5).ok();
        machine.set_state(cpu, 2).ok();
    }
    if state == S::Dumping {
        machine.named(UvCommand::DUMP_INIT, guest).ok();
    }
    assert_eq!(machine.uv.configuration_state(guest), Some(state));
    (machine, guest, cpu)
}

/// Does an action with good arguments and says whether the state let it pass.
fn act(machine: &Machine, guest: u64, cpu: u64, action: Action) -> (bool, u16) {
    use UvCommand as C;
    let image = Image::golden();
    let answer = match action {
        Action::CpuStop => machine.set_state(cpu, 2),
        Action::CpuStart => machine.set_state(cpu, 1),
        Action::CpuLoad => machine.set_state(cpu, 5),
        Action::Call(command) => match command {
            C::CREATE_SEC_CPU => {
                let block = CreateSecCpu {
                    guest_handle: guest,
                    stor_origin: 0x40000,
                    num: 1,
                    state_origin: 0x50000,
                    ..CreateSecCpu::default()
                };
                machine.host(block.encode())
            }
            C::SET_SEC_CONF_PARAMS => machine.set_header(guest, &image.header),
            C::UNPACK => machine.unpack(guest, 0x16000, [image.block.components[0].tweak_pref.0, 0x1000]),
            C::CONV_TO_SEC => machine.import(guest, 2),
            C::CONV_FROM_SEC => machine.export(2),
            C::DESTR_SEC_STOR => machine.destroy_page(2),
            C::PIN_PAGE_SHARED => machine.pin(2),
            C::UNPIN_PAGE_SHARED => machine.unpin(guest, 2),
            C::SET_SHARED_ACCESS | C::REMOVE_SHARED_ACCESS => {
                let mut block = SetSharedAccess { paddr: 0x2000 }.encode();
                UvHeader { len: 0x30, command, rc: Default::default(), rrc: Default::default() }
                    .store(&mut block);
                let (outcome, rc, _) = machine.guest(cpu, block);
                return (outcome.cc == Cc::Done, rc.0);
            }
            C::RETR_ATTEST | C::ADD_SECRET | C::LIST_SECRETS | C::LOCK_SECRETS | C::RETR_SECRET => {
                let (outcome, rc, _) = machine.guest(cpu, owner::good_call(machine, command));
                return (outcome.cc == Cc::Done, rc.0);
            }
            C::DESTROY_SEC_CONF | C::DESTROY_SEC_CONF_FAST => {
                machine.named(C::DESTROY_SEC_CPU, cpu).ok();
                machine.named(command, guest)
            }
            C::DUMP_CPU => machine.host(DumpCpu { cpu_handle: cpu, dump_area: 0 }.encode()),
            C::DUMP_CONF_STOR_STATE => {
                machine.host(DumpConfStorState { guest_handle: guest, dump_area: 0, gaddr: 0 }.encode())
            }
            C::DUMP_COMPLETE => machine.host(DumpComplete { guest_handle: guest, dump_area: 0 }.encode()),
            C::DESTROY_SEC_CPU | C::CPU_RESET | C::CPU_INITIAL_RESET | C::CPU_CLEAR_RESET => {
                machine.named(command, cpu)
            }
            _ => machine.named(command, guest),
        },
    };
    (answer.cc == Cc::Done, answer.rc.0)
}

#[test]
fn every_pair_of_state_and_action_does_what_the_table_says() {
    for state in ConfigurationState::ALL {
        for (action, columns) in CONFIGURATION_TABLE {
            let (machine, guest, cpu) = in_state(state);
            let (done, rc) = act(&machine, guest, cpu, *action);
            let now = machine.uv.configuration_state(guest);
            let context = format!("{action:?} in {state:?}: rc {rc:#x}");
            match columns[state as usize] {
                Verdict::Refuse(expected) => {
                    assert!(!done && rc == expected, "{context}");
                    assert_eq!(now, Some(state), "{context}");
                }
                Verdict::End => assert!(done && now.is_none(), "{context}"),
                Verdict::To(next) if done => assert_eq!(now, Some(next), "{context}"),
                Verdict::To(_) | Verdict::Stay => {
                    // An incomplete image is not verified, only shared pages are pinned, the store is empty.
                    use UvCommand as C;
                    let own = matches!(action, Action::Call(C::VERIFY | C::PIN_PAGE_SHARED | C::RETR_SECRET));
                    assert!(done || (own && rc != 3), "{context}");
                    assert_eq!(now, Some(state), "{context}");
                }
            }
        }
    }
}

#[test]
fn calls_before_initialisation_answer_3_and_init_has_its_codes() {
    let machine = Machine::new();
    for command in UvCommand::ALL {
        let mut block = vec![0; 0x200];
        let len = command.block_len().unwrap();
        UvHeader { len, command: *command, rc: Default::default(), rrc: Default::default() }
            .store(&mut block);
        let answer = machine.host(block);
        let expected = match *command {
            UvCommand::QUI => 0x100,
            UvCommand::INIT => 0x103,
            _ if answer.rc.0 == 2 => continue,
            _ => 3,
        };
        assert_eq!(answer.rc.0, expected, "{command:?}");
    }
    let init = |stor_origin, stor_len| machine.host(Init { stor_origin, stor_len }.encode());
    init(2 << 30, 4096).refused(0x103, 0);
    init((2 << 30) + 4096, 1 << 20).refused(0x104, 0);
    init(!0xf_ffff, 1 << 20).refused(0x105, 0);
    init(1 << 30, 1 << 20).refused(0x108, 0);
    init(2 << 30, 1 << 20).ok();
    init(2 << 30, 1 << 20).refused(0x101, 0);
}

#[test]
fn create_calls_have_their_codes() {
    let machine = Machine::new();
    machine.init();
    let create = |change: fn(&mut CreateSecConf)| {
        let mut block = CreateSecConf::parse(&Machine::create_block()).unwrap();
        change(&mut block);
        machine.host(block.encode())
    };
    create(|block| block.mso = u64::MAX).refused(0x101, 0);
    create(|block| block.guest_len = !0xfff).refused(0x102, 0);
    create(|block| block.guest_len = 0).refused(0x102, 0);
    create(|block| block.asce = 1).refused(0x105, 0);
    create(|block| block.guest_len += 4096).refused(0x105, 0);
    create(|block| block.base_origin = u64::MAX).refused(0x108, 0);
    create(|block| block.base_origin = 0x1000).refused(0x109, 0);
    create(|block| block.sca = 0).refused(0x10c, 0);
    create(|block| block.sca = u64::MAX).refused(0x10d, 0);
    let guest = machine.create();
    create(|_| {}).refused(0x104, 0);
    let cpu = |guest_handle, num, stor_origin, state_origin| {
        let block = CreateSecCpu { guest_handle, num, stor_origin, state_origin, ..CreateSecCpu::default() };
        machine.host(block.encode())
    };
    cpu(guest + 1, 0, 0x40000, 0x50000).refused(0x20, 0);
    cpu(guest, 257, 0x40000, 0x50000).refused(0x103, 0);
    cpu(guest, 0, u64::MAX, 0x50000).refused(0x105, 0);
    cpu(guest, 0, 0, 0x50000).refused(0x106, 0);
    cpu(guest, 0, 0x40000, 0).refused(0x107, 0);
    cpu(guest, 0, 0x40000, 0x50000).ok();
    cpu(guest, 0, 0x40000, 0x50000).refused(0x104, 0);
    let mut block = Machine::create_block();
    block[1] = 0x70;
    machine.host(block).refused(5, 0);
    machine.host(vec![0, 0x40, 0x03, 0x02, 0, 0, 0, 0]).refused(5, 0);
    let mut none = [0u8; 3];
    assert_eq!(machine.uv.host_call(&mut none, &[], &machine).cc, Cc::Refused);
}

#[test]
fn cpu_states_and_resets_follow_their_order() {
    let (machine, guest, first) = Machine::running();
    let second = machine.cpu(guest, 1);
    machine.set_state(second, 1).ok();
    machine.set_state(second, 4).refused(0x101, 0);
    machine.named(UvCommand::CPU_RESET, second).refused(3, 0);
    machine.named(UvCommand::UNSHARE_ALL, guest).refused(3, 0);
    machine.named(UvCommand::PREPARE_RESET, guest).refused(3, 0);
    machine.share(first, 2);
    machine.pin(2).ok();
    machine.set_state(first, 2).ok();
    machine.set_state(second, 3).ok();
    machine.set_state(second, 1).refused(3, 0);
    let text = machine.named(UvCommand::PREPARE_RESET, guest).refused(3, 0).text;
    assert!(text.contains("still shared"), "{text}");
    machine.named(UvCommand::UNSHARE_ALL, guest).ok();
    assert_eq!(machine.kind(guest, 2), PageKind::Secure);
    machine.set_state(first, 5).refused(3, 0);
    machine.named(UvCommand::PREPARE_RESET, guest).ok();
    let text = machine.set_state(first, 5).refused(3, 0).text;
    assert!(text.contains("must be reset"), "{text}");
    machine.set_state(first, 1).refused(3, 0);
    let effect = machine.named(UvCommand::CPU_CLEAR_RESET, first).ok().effect;
    assert_eq!(effect, Effect::CpuReset { cpu: first, kind: CpuResetKind::Clear });
    machine.named(UvCommand::CPU_INITIAL_RESET, second).ok();
    let effect = machine.set_state(first, 5).ok().effect;
    let Effect::CpuState { cpu, state: CpuRunState::Load, psw: Some(psw) } = effect else {
        panic!("{effect:?}")
    };
    assert_eq!((cpu, psw.addr), (first, 0x19000));
    machine.set_state(first, 5).refused(3, 0);
    machine.set_state(second, 1).ok();
}

#[test]
fn host_reset_ends_everything() {
    let (machine, guest, cpu) = Machine::running();
    machine.uv.host_reset(&machine);
    assert_eq!(machine.uv.machine_state(), MachineState::Uninitialised);
    assert!(machine.uv.guest_pages(guest).is_none() && machine.uv.cpu_run_state(cpu).is_none());
    assert!((0..machine.storage.count()).all(|page| !machine.storage.page(page).private));
    machine.named(UvCommand::VERIFY, guest).refused(3, 0);
}

/// What the guest writes into its private pages: no other byte string of a run is like it.
const MARKER: u8 = 0xc7;

#[derive(Clone, Debug)]
enum Step {
    Action(u8),
    Header,
    UnpackNext,
    UnpackAny(u8, u8),
    Import(u8),
    Export(u8),
    Destroy(u8),
    Pin(u8),
    Unpin(u8),
    Share(u8),
    Unshare(u8),
    GuestWrite(u8),
    HostWrite(u8, u16),
    HostCopy(u8, u8),
    CpuState(u8, u8),
    Reset(u8, u8),
    Random(u16, Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    // Mostly the same few pages, so that steps meet.
    let page = prop_oneof![6 => 2u8..4, 1 => 0u8..PAGES as u8].boxed();
    prop_oneof![
        2 => any::<u8>().prop_map(Step::Action),
        2 => Just(Step::Header),
        8 => Just(Step::UnpackNext),
        1 => (page.clone(), any::<u8>()).prop_map(|(page, tweak)| Step::UnpackAny(page, tweak)),
        4 => page.clone().prop_map(Step::Import),
        4 => page.clone().prop_map(Step::Export),
        1 => page.clone().prop_map(Step::Destroy),
        1 => page.clone().prop_map(Step::Pin),
        1 => page.clone().prop_map(Step::Unpin),
        2 => page.clone().prop_map(Step::Share),
        2 => page.clone().prop_map(Step::Unshare),
        4 => page.clone().prop_map(Step::GuestWrite),
        2 => (page.clone(), any::<u16>()).prop_map(|(page, at)| Step::HostWrite(page, at)),
        1 => (page.clone(), page).prop_map(|(from, to)| Step::HostCopy(from, to)),
        1 => (0u8..2, prop::sample::select(vec![1u8, 2, 2, 3, 5])).prop_map(|(cpu, to)| Step::CpuState(cpu, to)),
        1 => (0u8..2, 0u8..3).prop_map(|(cpu, kind)| Step::Reset(cpu, kind)),
        1 => (any::<u16>(), prop::collection::vec(any::<u8>(), 8..0x90))
            .prop_map(|(command, bytes)| Step::Random(command, bytes)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever a host does in whatever order: the host's copy of a page that is not shared never holds
    /// what the guest wrote, the guest never reads what it did not write, and nothing runs unverified.
    #[test]
    fn random_walks_keep_secrets_and_integrity(start in 0u8..3, steps in prop::collection::vec(step(), 1..240)) {
        let image = Image::golden();
        let (machine, mut guest, cpu) = match start {
            0 => in_state(ConfigurationState::Created),
            1 => in_state(ConfigurationState::Verified),
            _ => Machine::running(),
        };
        let mut cpus = vec![cpu, machine.cpu(guest, 1)];
        let mut verified = start > 0;
        let mut next_page = if start == 0 { 0 } else { image.pages.len() };
        let tweaks: Vec<[u64; 2]> = image.block.components.iter()
            .flat_map(|one| (0..one.size).step_by(4096).map(|offset| [one.tweak_pref.0, offset]))
            .collect();
        // What the guest knows to be in each page: set by its own writes to private pages.
        let mut known: Vec<Option<u8>> = vec![None; PAGES];
        for step in steps {
            match step {
                Step::Action(index) => {
                    let (action, _) = CONFIGURATION_TABLE[usize::from(index) % CONFIGURATION_TABLE.len()];
                    let Action::Call(command) = action else { continue };
                    match command {
                        UvCommand::DESTROY_SEC_CONF | UvCommand::DESTROY_SEC_CONF_FAST => {
                            for cpu in cpus.drain(..) {
                                machine.named(UvCommand::DESTROY_SEC_CPU, cpu).ok();
                            }
                            machine.named(command, guest).ok();
                            guest = machine.create();
                            cpus = vec![machine.cpu(guest, 0), machine.cpu(guest, 1)];
                            (verified, next_page) = (false, 0);
                            known.fill(None);
                        }
                        UvCommand::VERIFY => {
                            let done = machine.named(command, guest).cc == Cc::Done;
                            prop_assert!(!done || next_page == image.pages.len());
                            verified |= done;
                        }
                        UvCommand::UNSHARE_ALL | UvCommand::PREPARE_RESET => {
                            machine.named(command, guest);
                        }
                        _ => {}
                    }
                }
                Step::Header => {
                    if machine.set_header(guest, &image.header).cc == Cc::Done {
                        machine.load(&image);
                    }
                }
                Step::UnpackNext => if let Some((address, bytes)) = image.pages.get(next_page) {
                    let mut page = machine.storage.page(address / 4096);
                    if !page.private {
                        page.raw = bytes.clone();
                    }
                    drop(page);
                    if machine.unpack(guest, *address, tweaks[next_page]).cc == Cc::Done {
                        next_page += 1;
                    }
                },
                Step::UnpackAny(page, tweak) => {
                    let pick = tweaks[usize::from(tweak) % tweaks.len()];
                    if machine.unpack(guest, u64::from(page) * 4096, pick).cc == Cc::Done {
                        next_page = usize::MAX; // The digests can no longer fit.
                    }
                }
                Step::Import(page) => { machine.import(guest, page.into()); }
                Step::Export(page) => { machine.export(page.into()); }
                Step::Destroy(page) => { machine.destroy_page(page.into()); }
                Step::Pin(page) => { machine.pin(page.into()); }
                Step::Unpin(page) => { machine.unpin(guest, page.into()); }
                Step::Share(page) => if machine.share(cpus[0], page.into()).0.cc == Cc::Done {
                    known[usize::from(page)] = None;
                    // The guest puts into a shared page what it wants to show.
                    machine.guest_write(guest, page.into(), 0x01);
                },
                Step::Unshare(page) => { machine.unshare(cpus[0], page.into()); }
                Step::GuestWrite(page) => {
                    let running = machine.uv.configuration_state(guest) == Some(ConfigurationState::Running);
                    if running && machine.resolve(guest, page.into()) == Resolved::NeedsImport {
                        machine.import(guest, page.into());
                    }
                    if running && machine.resolve(guest, page.into()) == Resolved::Private {
                        prop_assert!(verified);
                        machine.guest_write(guest, page.into(), MARKER);
                        known[usize::from(page)] = Some(MARKER);
                    }
                }
                Step::HostWrite(page, at) => {
                    machine.storage.page(page.into()).raw[usize::from(at) % 4096] ^= 0x40;
                }
                Step::HostCopy(from, to) => {
                    let bytes = machine.storage.page(from.into()).raw.clone();
                    machine.storage.page(to.into()).raw = bytes;
                }
                Step::CpuState(cpu, to) => { machine.set_state(cpus[usize::from(cpu)], to); }
                Step::Reset(cpu, kind) => {
                    let command = [
                        UvCommand::CPU_RESET, UvCommand::CPU_INITIAL_RESET, UvCommand::CPU_CLEAR_RESET,
                    ][usize::from(kind)];
                    machine.named(command, cpus[usize::from(cpu)]);
                }
                Step::Random(command, mut bytes) => {
                    bytes[2..4].copy_from_slice(&command.to_be_bytes());
                    machine.host(bytes.clone());
                    machine.guest(cpus[0], bytes);
                }
            }

            let state = machine.uv.configuration_state(guest).unwrap();
            if matches!(state, ConfigurationState::Verified | ConfigurationState::Running) {
                prop_assert!(verified, "{:?} without verification", state);
            }
            for number in 0..PAGES as u64 {
                let resolved = machine.resolve(guest, number);
                let page = machine.storage.page(number);
                prop_assert_eq!(page.private, resolved == Resolved::Private, "page {:#x}", number);
                if resolved == Resolved::Shared {
                    continue;
                }
                prop_assert!(
                    !page.raw.windows(8).step_by(8).any(|part| part == [MARKER; 8]),
                    "the host sees what the guest wrote to page {:#x}", number
                );
                if page.private
                    && let Some(byte) = known[number as usize]
                {
                    prop_assert!(page.plain.iter().all(|&is| is == byte), "page {:#x} changed", number);
                }
            }
        }
    }

    /// No block, however wrong, makes the Ultravisor panic.
    #[test]
    fn any_block_is_answered(mut block in prop::collection::vec(any::<u8>(), 0..0x220), pick: u8, fix_length: bool) {
        let (machine, guest, cpu) = Machine::running();
        if block.len() >= 0x30 {
            let command = UvCommand::ALL[usize::from(pick) % UvCommand::ALL.len()];
            block[2..4].copy_from_slice(&command.0.to_be_bytes());
            if fix_length {
                let len = command.block_len().unwrap();
                block.resize(len.into(), 0);
                block[..2].copy_from_slice(&len.to_be_bytes());
                block[0x18..0x20].copy_from_slice(&(if pick & 1 == 0 { guest } else { cpu }).to_be_bytes());
            }
        }
        machine.uv.host_call(&mut block.clone(), &[0; 0x280], &machine);
        machine.uv.guest_call(cpu, &mut block, &machine, &mut *machine.memory.lock().unwrap());
    }
}
