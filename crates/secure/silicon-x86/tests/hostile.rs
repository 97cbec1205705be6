//! A host kernel that means ill: whatever comes through the lower door, the machine answers and stays as it was.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use cloister_arch::s390x::{CpuRequest, RunLimit};
use cloister_arch::x86_64::{Slot, VmConfig};
use cloister_crypto::SeededEntropy;
use cloister_firmware_api::{Door, HostBuffer, MAX_HOST_BYTES, Request, Response};
use cloister_formats::sev::command::{
    Activate, Command, DebugCopy, Init, LaunchMeasure, LaunchStart, LaunchUpdate,
};
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::status::Status;
use cloister_platform_store::{Sev, SevPlatform};
use cloister_silicon_x86::{GUEST_ORIGIN, Silicon};
use proptest::prelude::*;

const SIZE: u64 = 1 << 20;
const TMR: (u64, u32) = (0x4000_0000, 1 << 20);

fn silicon() -> Silicon {
    let platform = SevPlatform::ephemeral(Sev::default(), &mut SeededEntropy::new(b"hostile"));
    let silicon = Silicon::with_entropy(platform, Box::new(SeededEntropy::new(b"hostile")));
    let slots = vec![Slot { guest_physical: 0, size: SIZE, offset: 0, read_only: false }];
    let config = VmConfig { vcpus: 1, memory_bytes: SIZE, slots, ..VmConfig::default() };
    assert!(matches!(silicon.call(Request::CreateX86Guest(Box::new(config))), Response::Guest(_)));
    silicon
}

fn ask(silicon: &Silicon, command: Command, buffer: &[u8], host: Vec<(u64, Vec<u8>)>) -> Response {
    let host_pages = host.into_iter().map(|(paddr, bytes)| HostBuffer { paddr, bytes }).collect();
    silicon.call(Request::Asp { command: command.0, buffer: buffer.to_vec(), host_pages })
}

fn status(silicon: &Silicon, command: Command, buffer: &[u8]) -> Status {
    match ask(silicon, command, buffer, vec![]) {
        Response::Asp { status, .. } => Status(status),
        other => panic!("{other:?}"),
    }
}

fn refused(response: Response) -> String {
    match response {
        Response::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

/// A guest without SEV-ES, active, in launch.
fn launched(policy: u32) -> (Silicon, u32) {
    let silicon = silicon();
    let init = Init { flags: Init::ES, tmr_paddr: TMR.0, tmr_len: TMR.1, ..Init::default() };
    assert_eq!(status(&silicon, Command::INIT, &init.encode()), Status::SUCCESS);
    assert!(matches!(silicon.call(Request::Wbinvd), Response::Done));
    assert_eq!(status(&silicon, Command::DF_FLUSH, &[]), Status::SUCCESS);
    let start = LaunchStart { policy: Policy(policy), ..LaunchStart::default() };
    let Response::Asp { status: 0, buffer, .. } =
        ask(&silicon, Command::LAUNCH_START, &start.encode(), vec![])
    else {
        panic!("no launch")
    };
    let handle = LaunchStart::parse(&buffer).unwrap().handle;
    assert_eq!(
        status(&silicon, Command::ACTIVATE, &Activate { handle, asid: 100 }.encode()),
        Status::SUCCESS
    );
    (silicon, handle)
}

fn bytes(silicon: &Silicon) -> Vec<u8> {
    let mut bytes = vec![0; SIZE as usize];
    silicon.storage().unwrap().ram().copy_out(0, &mut bytes);
    bytes
}

#[test]
fn an_asid_without_wbinvd_and_df_flush_is_not_given() {
    let silicon = silicon();
    assert_eq!(status(&silicon, Command::INIT, &Init::default().encode()), Status::SUCCESS);
    let start = LaunchStart { policy: Policy(1), ..LaunchStart::default() };
    assert_eq!(status(&silicon, Command::LAUNCH_START, &start.encode()), Status::SUCCESS);
    let activate = Activate { handle: 1, asid: 100 }.encode();
    assert_eq!(status(&silicon, Command::ACTIVATE, &activate), Status::DFFLUSH_REQUIRED);
    assert_eq!(status(&silicon, Command::DF_FLUSH, &[]), Status::WBINVD_REQUIRED);
    silicon.call(Request::Wbinvd);
    assert_eq!(status(&silicon, Command::DF_FLUSH, &[]), Status::SUCCESS);
    assert_eq!(status(&silicon, Command::ACTIVATE, &activate), Status::SUCCESS);
}

#[test]
fn addresses_without_memory_are_refused_and_nothing_changes() {
    let (silicon, handle) = launched(1);
    let before = bytes(&silicon);
    let end = GUEST_ORIGIN + SIZE;
    for (paddr, len) in [
        (0, 16),
        (GUEST_ORIGIN - 16, 32),
        (end - 16, 32),
        (end, 16),
        (u64::MAX - 15, 16),
        (u64::MAX - 15, 32),
        // The firmware's own.
        (TMR.0, 4096),
        (GUEST_ORIGIN, !15),
    ] {
        let update = LaunchUpdate { handle, paddr, len }.encode();
        let found = status(&silicon, Command::LAUNCH_UPDATE_DATA, &update);
        assert_eq!(found, Status::INVALID_ADDRESS, "{paddr:#x}+{len:#x}");
    }
    assert!(bytes(&silicon) == before);
}

#[test]
fn host_memory_is_the_hosts_and_came_once() {
    let (silicon, handle) = launched(1);
    let measure = LaunchMeasure { handle, paddr: 0x1000, len: 48 }.encode();
    let ask = |host| ask(&silicon, Command::LAUNCH_MEASURE, &measure, host);
    assert!(refused(ask(vec![(GUEST_ORIGIN, vec![0; 16])])).contains("not the host's"));
    assert!(refused(ask(vec![(GUEST_ORIGIN - 8, vec![0; 16])])).contains("not the host's"));
    assert!(refused(ask(vec![(u64::MAX, vec![0; 16])])).contains("not the host's"));
    assert!(refused(ask(vec![(0x1000, vec![0; 64]), (0x1030, vec![0; 8])])).contains("twice"));
    assert!(refused(ask(vec![(0x1000, vec![0; MAX_HOST_BYTES + 1])])).contains("bytes of host memory"));
    // A buffer that is not all there.
    let Response::Asp { status, .. } = ask(vec![(0x1000, vec![0; 47])]) else { panic!() };
    assert_eq!(Status(status), Status::INVALID_ADDRESS);
    let Response::Asp { status, host_pages, .. } = ask(vec![(0xff0, vec![7; 80])]) else { panic!() };
    assert_eq!(Status(status), Status::SUCCESS);
    assert_eq!((&host_pages[0].bytes[..16], &host_pages[0].bytes[64..]), (&[7; 16][..], &[7; 16][..]));
    assert_ne!(host_pages[0].bytes[16..64], [7; 48]);
}

#[test]
fn a_guest_is_not_decrypted_into_the_hosts_reach() {
    let (silicon, handle) = launched(1);
    let secret = [0x53; 64];
    silicon.storage().unwrap().ram().copy_in(0, &secret);
    let update = LaunchUpdate { handle, paddr: GUEST_ORIGIN, len: 64 }.encode();
    assert_eq!(status(&silicon, Command::LAUNCH_UPDATE_DATA, &update), Status::SUCCESS);
    let copy = |dst_paddr| DebugCopy { handle, src_paddr: GUEST_ORIGIN, dst_paddr, len: 64 }.encode();
    let Response::Asp { status, host_pages, .. } =
        ask(&silicon, Command::DBG_DECRYPT, &copy(0x1000), vec![(0x1000, vec![0; 64])])
    else {
        panic!()
    };
    assert_eq!((Status(status), &host_pages[0].bytes), (Status::POLICY_FAILURE, &vec![0; 64]));
    assert_eq!(
        self::status(&silicon, Command::DBG_DECRYPT, &copy(GUEST_ORIGIN + 4096)),
        Status::POLICY_FAILURE
    );
    assert!(!bytes(&silicon).windows(16).any(|window| window == &secret[..16]));
    // With the guest gone its handle opens nothing.
    for command in [Command::DEACTIVATE, Command::DECOMMISSION] {
        assert_eq!(self::status(&silicon, command, &handle.to_le_bytes()), Status::SUCCESS);
    }
    assert_eq!(self::status(&silicon, Command::DBG_DECRYPT, &copy(0x1000)), Status::INVALID_PLATFORM_STATE);
}

#[test]
fn what_this_machine_has_not_is_refused_in_words() {
    let silicon = silicon();
    let limit = RunLimit { instructions: None, block: false };
    let enter = Request::Enter { cpu: 0, limit, completion: None };
    for request in [enter, Request::Cpu(CpuRequest::Kick { cpu: 0 })] {
        assert!(refused(silicon.call(request)).contains("no CPU back end can run x86-64 guests"));
    }
    let uvc = Request::Uvc { block: vec![0; 8], data: vec![] };
    assert!(refused(silicon.call(uvc)).contains("z/Architecture"));
    let config = VmConfig { vcpus: 1, memory_bytes: SIZE, ..VmConfig::default() };
    assert!(refused(silicon.call(Request::CreateX86Guest(Box::new(config)))).contains("guest already"));
    assert!(refused(ask(&silicon, Command::NOP, &[0; 4097], vec![])).contains("4096"));
    let platform = SevPlatform::ephemeral(Sev::default(), &mut SeededEntropy::new(b"x"));
    let empty = Silicon::new(platform);
    assert!(refused(empty.call(Request::PageCounts)).contains("no guest yet"));
    for memory_bytes in [0, 4097, !4095] {
        let config = VmConfig { vcpus: 1, memory_bytes, ..VmConfig::default() };
        refused(empty.call(Request::CreateX86Guest(Box::new(config))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Nothing that a host can send makes the machine panic, and guest memory that was encrypted never shows its
    /// plaintext again while the policy forbids it.
    #[test]
    fn no_sequence_of_messages_shows_plaintext(messages in prop::collection::vec(
        (prop_oneof![prop::sample::select(Command::ALL.to_vec()).prop_map(|command| command.0), any::<u16>()],
         prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(16), any::<u8>()], 0..72),
         prop::collection::vec((prop_oneof![Just(0x1000u64), any::<u64>()], 0usize..200), 0..3),
         prop::collection::vec((0usize..64, 0u64..SIZE / 16), 0..3)),
        1..24)) {
        let (silicon, handle) = launched(1);
        let secret = *b"plain as the day";
        for at in (0..8192).step_by(16) {
            silicon.storage().unwrap().ram().copy_in(at, &secret);
        }
        let update = LaunchUpdate { handle, paddr: GUEST_ORIGIN, len: 8192 }.encode();
        prop_assert_eq!(status(&silicon, Command::LAUNCH_UPDATE_DATA, &update), Status::SUCCESS);
        for (command, mut buffer, host, addresses) in messages {
            // Some fields become addresses of the guest's storage, and the first often its handle.
            for (at, block) in addresses {
                if let Some(field) = buffer.get_mut(at / 8 * 8..at / 8 * 8 + 8) {
                    field.copy_from_slice(&(GUEST_ORIGIN + block * 16).to_le_bytes());
                }
            }
            let host_pages: Vec<_> = host
                .into_iter()
                .map(|(paddr, len)| HostBuffer { paddr, bytes: vec![0; len] })
                .collect();
            let answer = silicon.call(Request::Asp { command, buffer, host_pages });
            if let Response::Asp { host_pages, .. } = answer {
                for page in host_pages {
                    prop_assert!(!page.bytes.windows(16).any(|window| window == secret));
                }
            }
            prop_assert!(!bytes(&silicon)[..8192].chunks(16).any(|block| block == secret));
        }
    }
}
