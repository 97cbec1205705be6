//! `cloister demo sev`: both sides of a SEV launch in one run.
//!
//! The host works as a VMM does, over the doors: host kernel and modelled silicon. The owner works with files' contents
//! alone: certificates, a session, a measurement, a packet. The guest does not execute: no core runs x86-64 guests in
//! this version, and the text says so.

mod image;

use super::view::{dump, entropy};
use super::{Stage, Verdict, new_folder, write};
use crate::out;
use anyhow::Context;
use cloister_arch::x86_64::{Slot, VmConfig, VmType};
use cloister_crypto::{Entropy, SystemEntropy};
use cloister_formats::sev::chain::Chain;
use cloister_formats::sev::command::GuestState;
use cloister_formats::sev::measurement::Measurement;
use cloister_formats::sev::ovmf::Table;
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::secret_table::{DISK_PASSWORD, SecretTable};
use cloister_formats::sev::status::Status;
use cloister_host_kernel::HostKernel;
use cloister_owner::sev::certs::{Outcome, Trust, verify};
use cloister_owner::sev::explain::{Case, Contents, SaveAreas, explain, fits};
use cloister_owner::sev::input::to_base64;
use cloister_owner::sev::measure::{Api, Firmware, Launch as Measured};
use cloister_owner::sev::secret::{Packet, seal};
use cloister_owner::sev::session::{Launch as Session, Random, start};
use cloister_platform::{Door, SevError, SevHost, Vm};
use cloister_platform_store::{SevCreateOptions, SevPlatform, create_sev};
use cloister_silicon_x86::Silicon;
use image::{MARK, SECRET_AT, SIZE, TEXT_AT, TWINS};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use zeroize::Zeroizing;

/// Tells the story. With `keep` everything that has a file form stays in that folder.
pub(super) fn run(keep: Option<&Path>, as_json: bool) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let stage = Stage { quiet: as_json };
    // The temporary folder goes with this value.
    let (_temporary, folder) = match keep {
        Some(folder) => (None, new_folder(folder)?),
        None => {
            let temporary = tempfile::Builder::new().prefix("cloister-demo-").tempdir();
            let temporary = temporary.context("cannot make a temporary folder; name one with --keep")?;
            let folder = temporary.path().to_owned();
            (Some(temporary), folder)
        }
    };
    stage.title("A guest under AMD SEV: its launch, as its owner and as its host see it");
    stage.say("platform: MODEL of an AMD machine in software; it protects nobody from this machine's");
    stage.say("administrator. The cryptography and every byte between the two sides are real");

    let platform = folder.join("platform");
    let ca = make_platform(&platform, &stage)?;
    let firmware = image::image();

    stage.title("2. The owner verifies whose platform it is, and makes a session for it");
    let machine = Machine::start(&platform)?;
    let exported = machine.export()?;
    stage.say(&format!("host  | exports {} bytes: PDH, PEK, OCA, CEK", exported.len()));
    let (chain, trusted) = verify_chain(&exported, &ca, &stage)?;
    let pdh = chain.pdh.as_ref().context("the chain has no PDH")?;
    let session = start("the platform's chain", pdh, POLICY, Random::draw(&mut SystemEntropy))?;
    stage.say(&format!(
        "owner | policy {:#x} (no debugging by the host), and two fresh keys (TIK, TEK) that only",
        POLICY.0
    ));
    stage.say("owner |   this platform's firmware can unwrap; the host carries them and cannot read them");

    stage.title("3. The host launches the firmware image");
    let launch = launch(&machine, &session, &firmware, &stage)?;

    stage.title("4. The owner compares the measurement");
    let api = machine.api()?;
    let genuine = Firmware::read("firmware.fd", &firmware[..])?;
    let expected = Measured { firmware: genuine.clone(), hashes: None, cpus: None };
    let measured = launch.measurement;
    let same = fits(&case(&session, api, vec![&genuine]), &measured);
    stage.say(&format!("owner | launch digest  {}", hex(&expected.digest()[..])));
    stage.say(&format!(
        "owner | with that, firmware {}.{} build {}, policy {:#x}, the measurement's nonce and my TIK",
        api.major, api.minor, api.build, POLICY.0
    ));
    stage.say(&format!(
        "owner |   {}",
        if same { "the MAC fits: this is my firmware, on this platform" } else { "the MAC does NOT fit" }
    ));

    stage.title("5. The owner sends a secret");
    let secret = inject(&launch, &session, &machine, &stage)?;

    stage.title("6. What does not happen yet");
    stage.say("LAUNCH_FINISH is not called: no core runs x86-64 guests in this version, so nothing in the");
    stage.say(&format!("guest executes. It stays in the state {}, as a machine under -S does", secret.state));
    let Launch { vm, before, after, twins_differ, .. } = launch;
    drop(vm);
    drop(machine);

    stage.title("7. The same with one byte of the firmware changed by the host");
    let altered = altered(&platform, &session, &firmware, api, &genuine, &stage)?;

    if keep.is_some() {
        keep_files(&folder, &firmware, &exported, &session, &measured)?;
    }
    let verdicts = [
        verdict(
            trusted,
            "the platform's chain is whole up to the model's root",
            "the chain should have been trusted",
        ),
        verdict(
            before.mark && !after.mark && after.entropy > NOISE && twins_differ,
            "after LAUNCH_UPDATE_DATA the host reads ciphertext, and equal pages differ",
            "the host should have found noise",
        ),
        verdict(
            same,
            "the measurement is that of the owner's own computation",
            "the measurement should have fitted",
        ),
        Verdict {
            holds: secret.refused == Some(Status::BAD_MEASUREMENT) && secret.taken && secret.hidden,
            good: format!(
                "a secret with one flipped bit is refused ({}), the owner's is taken and unreadable",
                Status::BAD_MEASUREMENT
            ),
            bad: format!("the secrets did not fare as they should ({:?})", secret.refused),
        },
        Verdict {
            holds: altered.is_some(),
            good: format!(
                "one changed byte of firmware: the measurement differs, and the cause is named ({})",
                altered.clone().unwrap_or_default()
            ),
            bad: "the altered firmware should have been noticed and named".into(),
        },
    ];
    let good = verdicts.iter().all(|verdict| verdict.holds);
    let seconds = begin.elapsed().as_secs_f64();
    if as_json {
        let view = |look: &Look| json!({"entropy": look.entropy, "mark_found": look.mark, "start": hex(&look.start)});
        let report: Value = json!({
            "ok": good,
            "model": true,
            "seconds": seconds,
            "policy": POLICY.0,
            "api_major": api.major,
            "api_minor": api.minor,
            "build_id": api.build,
            "launch_digest": hex(&expected.digest()[..]),
            "measurement": to_base64(&measured.encode()),
            "host_view": {"before": view(&before), "after": view(&after)},
            "wrong_secret": secret.refused.map(|status| status.to_string()),
            "secret_visible_to_host": !secret.hidden,
            "altered_firmware": altered,
            "guest_state": secret.state,
            "executed": false,
            "verdicts": verdicts.iter().map(|verdict| {
                json!({"holds": verdict.holds, "what": verdict.text()})
            }).collect::<Vec<_>>(),
            "folder": keep.map(|folder| folder.display().to_string()),
        });
        out::line(&format!("{report:#}"));
    } else {
        out::line(&format!("\nSummary ({seconds:.1} s)"));
        for verdict in &verdicts {
            let mark = if verdict.holds { "ok" } else { "FAILED" };
            out::line(&format!("  {mark:<6} {}", verdict.text()));
        }
        out::line(
            "  note   the platform is a MODEL in software, and no x86-64 core is there yet: the launch is",
        );
        out::line("         complete and real, the guest does not execute");
        if let Some(folder) = keep {
            out::line(&format!("\nEverything is in {}. The owner's comparison again:", folder.display()));
            out::line(&format!(
                "  cd {} && cloister sev verify --measurement $(cat measurement.b64) --firmware firmware.fd \\",
                folder.display()
            ));
            out::line(&format!(
                "      --policy {} --tik vm_tik.bin --api-major {} --api-minor {} --build-id {}",
                POLICY.0, api.major, api.minor, api.build
            ));
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes the platform; its maker's certificates.
fn make_platform(folder: &Path, stage: &Stage) -> anyhow::Result<Chain> {
    stage.title("1. A model platform");
    // Keys of 2048 bits, as the first generation had: they are drawn while one watches.
    create_sev(folder, &SevCreateOptions { small_roots: true, ..Default::default() }, &mut SystemEntropy)?;
    let file = folder.join("ask_ark-2048.cert");
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    stage.say("its maker: model ASK and ARK (2048 bits), key id CLOISTER-MODEL-A, which is none of AMD's");
    Chain::parse(&bytes).context("the maker's certificates")
}

/// A machine with its host kernel. It has room for one guest, and the platform's lock.
struct Machine {
    door: Arc<dyn Door>,
    host: SevHost,
    cek: cloister_formats::sev::certificate::Certificate,
}

impl Machine {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let platform = SevPlatform::open(folder)?;
        let root = platform.identity().roots().first().context("the platform has no root")?;
        let cek = root.cek.clone();
        let door: Arc<dyn Door> = Arc::new(HostKernel::new(Arc::new(Silicon::new(platform))));
        Ok(Self { host: SevHost::new(Arc::clone(&door)), door, cek })
    }

    /// The chain as hosts publish it: with the CEK that the maker signed.
    fn export(&self) -> anyhow::Result<Vec<u8>> {
        let (pdh, chain) = self.host.pdh_cert_export()?;
        let mut chain = Chain::parse(&[pdh, chain].concat())?;
        chain.cek = Some(self.cek.clone());
        Ok(chain.encode_platform())
    }

    fn api(&self) -> anyhow::Result<Api> {
        let status = self.host.status()?;
        Ok(Api { major: status.api_major, minor: status.api_minor, build: status.build })
    }
}

fn verify_chain(exported: &[u8], ca: &Chain, stage: &Stage) -> anyhow::Result<(Chain, bool)> {
    let chain = Chain::parse(exported)?;
    let verification = verify(&chain, Trust { ca: Some(("ask_ark.cert", ca)), allow_model_root: false });
    for link in &verification.links {
        stage.say(&format!(
            "owner | {} signed by {}: {}",
            link.certificate,
            link.signer,
            outcome(&link.outcome)
        ));
    }
    match verification.refusal() {
        None => stage.say("owner | the chain ends at the root that I named: the MODEL's"),
        Some(reason) => stage.say(&format!("owner | not to be trusted: {reason}")),
    }
    Ok((chain, verification.refusal().is_none()))
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Good => "good".into(),
        Outcome::Bad(reason) => format!("BAD: {reason}"),
        Outcome::Absent(reason) => format!("missing: {reason}"),
    }
}

/// A launched guest, measured and waiting for secrets.
struct Launch {
    vm: Vm,
    measurement: Measurement,
    before: Look,
    after: Look,
    twins_differ: bool,
}

fn launch(machine: &Machine, session: &Session, firmware: &[u8], stage: &Stage) -> anyhow::Result<Launch> {
    let vm = Vm::create_x86(Arc::clone(&machine.door), config(firmware.len() as u64))?;
    vm.memory().load(FIRMWARE, firmware)?;
    let before = Look::at(&vm, TEXT)?;
    stage.say("host  | the firmware in guest memory, before:");
    before.show(stage);
    vm.sev_init(false)?;
    let handle =
        vm.sev_launch_start(POLICY.0, 0, session.godh.encode(), session.session.encode().to_vec())?;
    stage.say(&format!("host  | LAUNCH_START: the firmware opens the session; guest handle {handle}"));
    vm.sev_launch_update_data(FIRMWARE, firmware.len() as u64)?;
    stage.say(&format!(
        "host  | LAUNCH_UPDATE_DATA: {} bytes measured and encrypted in place; after:",
        firmware.len()
    ));
    let after = Look::at(&vm, TEXT)?;
    after.show(stage);
    let [one, other] = TWINS.map(|at| page(&vm, FIRMWARE + at as u64));
    let twins_differ = one? != other?;
    stage.say(&format!(
        "host  | two pages that were equal now {}: the address goes into the cipher",
        if twins_differ { "differ" } else { "are still equal" }
    ));
    let blob = vm.sev_launch_measure()?;
    let measurement = Measurement::parse(&blob)?;
    stage.say(&format!("host  | LAUNCH_MEASURE: {}", to_base64(&blob)));
    Ok(Launch { vm, measurement, before, after, twins_differ })
}

/// How the secrets fared.
struct Secrets {
    refused: Option<Status>,
    taken: bool,
    hidden: bool,
    state: &'static str,
}

fn inject(launch: &Launch, session: &Session, machine: &Machine, stage: &Stage) -> anyhow::Result<Secrets> {
    let mut iv = [0; 16];
    SystemEntropy.fill(&mut iv);
    let mut table = SecretTable::new();
    table.push(DISK_PASSWORD, Zeroizing::new(PASSWORD.to_vec()));
    let Packet { header, payload } = seal(&table, &session.keys, &launch.measurement, iv)?;
    let header = header.encode().to_vec();
    stage.say(&format!("owner | a disk password, sealed for this measurement: {} bytes", payload.len()));
    let address = u64::from(SECRET_AT);
    let mut flipped = payload.clone();
    flipped[0] ^= 1;
    stage.say("host  | changes one bit of it on the way, and asks the firmware to take it:");
    let refused = match launch.vm.sev_launch_secret(header.clone(), address, flipped) {
        Err(SevError::Refused { fw_error, .. }) => Some(Status(fw_error)),
        _ => None,
    };
    if let Some(status) = refused {
        stage.say(&format!("fw    | LAUNCH_SECRET refused: {status}"));
    }
    let taken = launch.vm.sev_launch_secret(header, address, payload).is_ok();
    stage.say(&format!(
        "host  | carries the owner's own: {}. In its view:",
        if taken { "taken" } else { "refused as well, which is wrong" }
    ));
    let look = Look::at(&launch.vm, address)?;
    look.show(stage);
    let hidden = !look.finds(PASSWORD) && look.start.iter().any(|&byte| byte != 0);
    let status = launch.vm.sev_guest_status()?;
    let state = GuestState(status.state as u8).name().unwrap_or("unknown");
    let guests = machine.host.status()?.guest_count;
    stage.say(&format!(
        "fw    | guest {}: policy {:#x}, state {state}; {guests} guest on the platform",
        status.handle, status.policy
    ));
    Ok(Secrets { refused, taken, hidden, state })
}

/// The host changes the firmware; the owner finds out. What differs, if the owner could name it.
fn altered(
    platform: &Path,
    session: &Session,
    firmware: &[u8],
    api: Api,
    genuine: &Firmware,
    stage: &Stage,
) -> anyhow::Result<Option<String>> {
    let mut bytes = firmware.to_vec();
    bytes[TEXT_AT] ^= 0x20;
    let machine = Machine::start(platform)?;
    let quiet = Stage { quiet: true };
    let launch = launch(&machine, session, &bytes, &quiet)?;
    stage.say(&format!(
        "host  | launches with byte {TEXT_AT:#x} changed; {}",
        to_base64(&launch.measurement.encode())
    ));
    let given = case(session, api, vec![genuine]);
    if fits(&given, &launch.measurement) {
        stage.say("owner | the MAC fits, which it must not");
        return Ok(None);
    }
    stage.say(
        "owner | the MAC does not fit. What if the policy, the keys, the version, the CPUs were others?",
    );
    if explain(&given, &launch.measurement).is_empty() {
        stage.say("owner |   nothing of that explains it; so I try the other image that this host has:");
    }
    let other = Firmware::read("firmware-altered.fd", &bytes[..])?;
    let found = explain(&case(session, api, vec![genuine, &other]), &launch.measurement);
    let change = found.first().and_then(|changes| changes.first());
    let words = change.map(|change| format!("{}: {} instead of {}", change.input, change.fits, change.given));
    match &words {
        Some(words) => stage.say(&format!("owner |   {words}: no secret for this guest")),
        None => stage.say("owner |   nothing found"),
    }
    Ok(words)
}

/// What the owner expects.
fn case<'a>(session: &'a Session, api: Api, firmwares: Vec<&'a Firmware>) -> Case<'a> {
    let contents = Contents::Parts { firmwares, kernel: None, count: 1, areas: SaveAreas::Unknown };
    Case { tik: &session.keys.tik, tek: Some(&session.keys.tek), policy: POLICY, api, contents }
}

/// What the host finds in a page.
struct Look {
    address: u64,
    page: Vec<u8>,
    start: Vec<u8>,
    entropy: f64,
    mark: bool,
}

impl Look {
    fn at(vm: &Vm, address: u64) -> anyhow::Result<Self> {
        let page = page(vm, address)?;
        let mut look =
            Self { address, start: page[..48].to_vec(), entropy: entropy(&page), mark: false, page };
        look.mark = look.finds(MARK);
        Ok(look)
    }

    fn finds(&self, text: &[u8]) -> bool {
        self.page.windows(text.len()).any(|part| part == text)
    }

    fn show(&self, stage: &Stage) {
        let mut text = String::new();
        // A String takes everything.
        let _ = dump(&mut text, self.address, &self.page);
        for line in text.lines() {
            stage.say(&format!("host  | {line}"));
        }
    }
}

fn page(vm: &Vm, address: u64) -> anyhow::Result<Vec<u8>> {
    let mut page = vec![0; 4096];
    vm.memory().peek(address, &mut page)?;
    Ok(page)
}

fn config(firmware: u64) -> VmConfig {
    let slot = |guest_physical, size, offset, read_only| Slot { guest_physical, size, offset, read_only };
    VmConfig {
        vcpus: 1,
        memory_bytes: RAM + firmware,
        slots: vec![slot(0, RAM, 0, false), slot(FIRMWARE, firmware, RAM, true)],
        vm_type: VmType::Default,
        cpu_signature: 0xa0_0f11,
    }
}

fn keep_files(
    folder: &Path,
    firmware: &[u8],
    exported: &[u8],
    session: &Session,
    measured: &Measurement,
) -> anyhow::Result<()> {
    let file = |name: &str| -> PathBuf { folder.join(name) };
    let area = Table::find(firmware)?.and_then(|table| table.secret_area());
    area.context("the image has no area for secrets")?;
    write(&file("firmware.fd"), firmware)?;
    write(&file("chain.cert"), exported)?;
    write(&file("measurement.b64"), to_base64(&measured.encode()).as_bytes())?;
    let keys = &session.keys;
    let outputs = [("vm_tik.bin", keys.tik.expose()), ("vm_tek.bin", keys.tek.expose())]
        .map(|(name, key)| cloister_owner::sev::save::Output { file: file(name), bytes: key, private: true });
    Ok(cloister_owner::sev::save::save(&outputs, false)?)
}

fn verdict(holds: bool, good: &str, bad: &str) -> Verdict {
    Verdict { holds, good: good.into(), bad: bad.into() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// No debugging by the host.
const POLICY: Policy = Policy(Policy::NODBG);
/// Bytes of memory below the firmware.
const RAM: u64 = 16 << 20;
/// The firmware ends at 4 GiB.
const FIRMWARE: u64 = (1 << 32) - SIZE as u64;
const TEXT: u64 = FIRMWARE + TEXT_AT as u64;
const PASSWORD: &[u8] = b"CLOISTER-DEMO-DISK-PASSWORD";
/// Bits per byte: 4096 random bytes stay below this once in far more than a lifetime.
const NOISE: f64 = 7.9;
