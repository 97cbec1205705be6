//! The program with a QMP client on its standard streams, an owner, and a folder for both.

use cloister_cgs::{decode_base64, encode_base64};
use cloister_crypto::{SeededEntropy, SystemEntropy, sha256};
use cloister_formats::sev::certificate::Certificate;
use cloister_formats::sev::kernel_hashes::{KernelHashes, cmdline_bytes};
use cloister_formats::sev::measurement::Measurement;
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::secret_table::{DISK_PASSWORD, SecretTable};
use cloister_formats::sev::vmsa::VmsaForm;
use cloister_owner::sev::measure::{Api, Cpus, Firmware, Launch, measurement};
use cloister_owner::sev::{Keys, secret, session};
use cloister_platform_store::{SevCreateOptions, create_sev};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A folder with a platform, a firmware image with the tables of SEV, a kernel and a ramdisk.
pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let options = SevCreateOptions { small_roots: true, ..SevCreateOptions::default() };
        create_sev(&place.path("platform"), &options, &mut SystemEntropy).unwrap();
        std::fs::write(place.path("ovmf.fd"), firmware()).unwrap();
        std::fs::write(place.path("kernel"), kernel()).unwrap();
        std::fs::write(place.path("initrd"), b"a ramdisk").unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes an owner's session for the platform as libvirt and QEMU take it.
    pub(crate) fn owner(&self, pdh: &str, policy: u32) -> Keys {
        let pdh = Certificate::parse(&decode_base64(pdh.as_bytes())).unwrap();
        let random = session::Random::draw(&mut SeededEntropy::new(b"owner"));
        let launch = session::start("pdh", &pdh, Policy(policy), random).unwrap();
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(self.path(name), encode_base64(bytes) + "\n").unwrap();
        };
        write("godh.b64", &launch.godh.encode());
        write("session.b64", &launch.session.encode());
        launch.keys
    }

    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
        // The name decides the target of a machine that all have.
        command.arg0("qemu-system-x86_64").current_dir(self.0.path()).env("HOME", self.0.path());
        command.env_remove("XDG_DATA_HOME").env_remove("CLOISTER_PLATFORM");
        command
    }

    /// The program with these options besides its platform, and QMP.
    pub(crate) fn start(&self, options: &str) -> Qmp {
        let mut command = self.program();
        command.args("-platform platform -nodefaults -display none -qmp stdio".split(' '));
        Qmp::new(command.args(options.split_whitespace()))
    }

    /// The platform's PDH certificate in base64.
    pub(crate) fn pdh(&self) -> String {
        let mut qmp = self.start("-M none");
        let found = qmp.execute("query-sev-capabilities", json!({}));
        qmp.quit();
        found["pdh"].as_str().unwrap().to_owned()
    }
}

/// What the owner expects of a launch.
pub(crate) struct Expected<'a> {
    pub(crate) firmware: &'a Path,
    pub(crate) cmdline: Option<&'a str>,
    pub(crate) cpus: Option<(u32, VmsaForm, u32)>,
    pub(crate) policy: u32,
}

impl Expected<'_> {
    /// The measurement with the nonce of the one that came.
    pub(crate) fn measurement(
        &self,
        place: &Place,
        keys: &Keys,
        sev: &Value,
        came: &Measurement,
    ) -> Measurement {
        let firmware = Firmware::read("ovmf", std::fs::File::open(self.firmware).unwrap()).unwrap();
        let hashes = self.cmdline.map(|cmdline| KernelHashes {
            cmdline: sha256(&cmdline_bytes(cmdline.as_bytes())),
            initrd: sha256(b"a ramdisk"),
            kernel: sha256(&std::fs::read(place.path("kernel")).unwrap()),
        });
        let cpus =
            self.cpus.map(|(count, form, signature)| Cpus::build(&firmware, count, form, signature).unwrap());
        let byte = |name: &str| u8::try_from(sev[name].as_u64().unwrap()).unwrap();
        let api = Api { major: byte("api-major"), minor: byte("api-minor"), build: byte("build-id") };
        let digest = Launch { firmware, hashes, cpus }.digest();
        measurement(&keys.tik, api, Policy(self.policy), digest, came.mnonce)
    }
}

/// The owner's secret for a measured guest: header and payload in base64.
pub(crate) fn sealed(keys: &Keys, measured: &Measurement) -> (String, String) {
    let mut table = SecretTable::default();
    table.push(DISK_PASSWORD, b"open sesame".to_vec().into());
    let packet = secret::seal(&table, keys, measured, [7; 16]).unwrap();
    (encode_base64(&packet.header.encode()), encode_base64(&packet.payload))
}

/// A client on the program's standard streams.
pub(crate) struct Qmp {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Qmp {
    fn new(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut qmp = Self { child, to, from };
        assert!(qmp.message().is_some_and(|greeting| greeting.get("QMP").is_some()), "{}", qmp.words());
        qmp.execute("qmp_capabilities", json!({}));
        qmp
    }

    fn message(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).ok()
    }

    fn words(&mut self) -> String {
        let mut words = String::new();
        let _ = self.child.kill();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut words).unwrap();
        words
    }

    /// The answer to a command.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let request = json!({ "execute": command, "arguments": arguments }).to_string();
        self.to.write_all(request.as_bytes()).unwrap();
        loop {
            match self.message() {
                Some(event) if event.get("event").is_some() => {}
                Some(answer) => return answer,
                None => panic!("{command}: the program ended: {}", self.words()),
            }
        }
    }

    /// What a command returns.
    #[track_caller]
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Value {
        let answer = self.ask(command, arguments);
        assert!(answer.get("return").is_some(), "{command}: {answer}");
        answer["return"].clone()
    }

    /// The words of a refusal of no special class.
    #[track_caller]
    pub(crate) fn refuses(&mut self, command: &str, arguments: Value) -> String {
        let answer = self.ask(command, arguments);
        assert_eq!(answer["error"]["class"], "GenericError", "{command}: {answer}");
        answer["error"]["desc"].as_str().unwrap().to_owned()
    }

    /// Waits for the end after a command that brings it about: the status.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Ends the program, which must end well.
    #[track_caller]
    pub(crate) fn quit(mut self) {
        self.execute("quit", json!({}));
        assert_eq!(self.ended(), Some(0));
    }

    /// The launch's measurement.
    #[track_caller]
    pub(crate) fn measurement(&mut self) -> Measurement {
        let answer = self.execute("query-sev-launch-measure", json!({}));
        Measurement::parse(&decode_base64(answer["data"].as_str().unwrap().as_bytes())).unwrap()
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// 128 KiB with the tables of a SEV firmware, other than the program's stand-in.
fn firmware() -> Vec<u8> {
    let mut image = vec![0x90; 0x10000];
    image.extend(cloister_machines::q35::stand_in_firmware());
    image
}

/// A kernel with a setup part of two sectors.
fn kernel() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..9000u32).map(|n| (n * 7 + n / 256) as u8).collect();
    bytes[0x1f1] = 1;
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
    bytes
}
