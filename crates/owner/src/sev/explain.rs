//! Why a measurement differs: the differences that people really make are tried, and the one that fits is named.
//!
//! A fit is proof: the MAC of 256 bits agrees only if every input under it does. Nothing found means that something
//! differs that is not tried here, such as an altered file or another session.

use std::collections::HashMap;

use cloister_crypto::{Secret, ct_eq, sha256};
use cloister_formats::sev::kernel_hashes::{KernelHashes, cmdline_bytes};
use cloister_formats::sev::measurement::Measurement;
use cloister_formats::sev::policy::Policy;
use cloister_formats::sev::vmsa::{Vmsa, VmsaForm, cpu_signature};

use super::measure::{Api, CPU_MODELS, Firmware, form_name, measurement};

/// What was expected, with everything that may stand in for a part of it.
#[derive(Debug)]
pub struct Case<'a> {
    /// The integrity key.
    pub tik: &'a Secret<16>,
    /// The encryption key, in case the two were swapped.
    pub tek: Option<&'a Secret<16>>,
    /// The policy.
    pub policy: Policy,
    /// The platform's firmware.
    pub api: Api,
    /// What was launched.
    pub contents: Contents<'a>,
}

/// What was launched.
#[derive(Debug)]
pub enum Contents<'a> {
    /// Only its digest is known.
    Digest([u8; 32]),
    /// Its parts.
    Parts {
        /// The firmware image, and others that may have been used instead.
        firmwares: Vec<&'a Firmware>,
        /// The kernel, if there is one.
        kernel: Option<Kernel>,
        /// How many CPUs there are.
        count: u32,
        /// Their save areas.
        areas: SaveAreas,
    },
}

/// A kernel and what goes with it, each with others that may have been used instead.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Names and hashes of kernels.
    pub kernels: Vec<(String, [u8; 32])>,
    /// Names and hashes of ramdisks; the first is the given one, or that of nothing.
    pub initrds: Vec<(String, [u8; 32])>,
    /// The command line.
    pub cmdline: Vec<u8>,
}

/// Save areas under SEV-ES.
#[derive(Debug, Clone)]
pub enum SaveAreas {
    /// Built for a CPU with this signature.
    Built(VmsaForm, u32),
    /// Read from files: that of the first CPU, that of each other.
    Files(Box<Vmsa>, Box<Vmsa>),
    /// Not given.
    Unknown,
}

/// One input that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The input.
    pub input: &'static str,
    /// What was given.
    pub given: String,
    /// What fits.
    pub fits: String,
    /// What it means or what to do.
    pub advice: String,
}

/// Whether the measurement fits as it is.
pub fn fits(case: &Case<'_>, measured: &Measurement) -> bool {
    let space = Space::new(case);
    Search { case, space: &space, measured, digests: HashMap::new() }.fits(&[0; DIMENSIONS])
}

/// The smallest sets of changes that make the measurement fit; an empty set says that it fits as it is, no set that
/// nothing was found.
pub fn explain(case: &Case<'_>, measured: &Measurement) -> Vec<Vec<Change>> {
    let space = Space::new(case);
    let mut search = Search { case, space: &space, measured, digests: HashMap::new() };
    let given = [0; DIMENSIONS];
    if search.fits(&given) {
        return vec![Vec::new()];
    }
    let sizes: Vec<usize> = space.values.iter().map(Vec::len).collect();
    let single: Vec<_> = (0..DIMENSIONS)
        .flat_map(|dimension| (1..sizes[dimension]).map(move |value| with(given, &[(dimension, value)])))
        .collect();
    let found = search.all(single);
    if !found.is_empty() {
        return found;
    }
    if let Some(change) = search.other_api(&given, u8::MAX) {
        return vec![vec![change]];
    }
    let mut pairs = Vec::new();
    for first in 0..DIMENSIONS {
        for second in first + 1..DIMENSIONS {
            for (a, b) in (1..sizes[first]).flat_map(|a| (1..sizes[second]).map(move |b| (a, b))) {
                pairs.push(with(given, &[(first, a), (second, b)]));
            }
        }
    }
    let found = search.all(pairs);
    if !found.is_empty() {
        return found;
    }
    // SEV-ES that was left out altogether: the policy's bit, the CPU and how many of them.
    let es = Policy(case.policy.0 ^ Policy::ES);
    if let Some(es) = space.policies.iter().position(|policy| *policy == es) {
        let triples = (1..sizes[AREAS])
            .flat_map(|areas| (1..sizes[COUNT]).map(move |count| (areas, count)))
            .map(|(areas, count)| with(given, &[(POLICY, es), (AREAS, areas), (COUNT, count)]));
        let found = search.all(triples.collect());
        if !found.is_empty() {
            return found;
        }
    }
    // Another version and one more difference; of policies, those that differ in one flag.
    for point in (0..DIMENSIONS).filter(|dimension| *dimension != COUNT).flat_map(|dimension| {
        let most = if dimension == POLICY { sizes[POLICY].min(7) } else { sizes[dimension] };
        (1..most).map(move |value| with(given, &[(dimension, value)]))
    }) {
        if let Some(change) = search.other_api(&point, USUAL_MINOR) {
            let mut changes = search.changes(&point);
            changes.push(change);
            return vec![changes];
        }
    }
    Vec::new()
}

/// A choice of one value per dimension; 0 is what was given.
type Point = [usize; DIMENSIONS];

const DIMENSIONS: usize = 9;
const KEY: usize = 0;
const POLICY: usize = 1;
const CMDLINE: usize = 2;
const INITRD: usize = 3;
const HASHES: usize = 4;
const AREAS: usize = 5;
const COUNT: usize = 6;
const FIRMWARE: usize = 7;
const KERNEL: usize = 8;

const INPUTS: [&str; DIMENSIONS] = [
    "key",
    "policy",
    "command line",
    "initrd",
    "kernel-hashes",
    "VMSA",
    "number of vCPUs",
    "firmware",
    "kernel",
];

fn with(mut point: Point, changes: &[(usize, usize)]) -> Point {
    changes.iter().for_each(|&(dimension, value)| point[dimension] = value);
    point
}

/// What each value of a dimension is called, and what to do if it is the one.
type Value = (String, String);

/// All values.
struct Space<'a> {
    values: [Vec<Value>; DIMENSIONS],
    keys: Vec<Secret<16>>,
    policies: Vec<Policy>,
    cmdlines: Vec<[u8; 32]>,
    areas: Vec<SaveAreas>,
    counts: Vec<u32>,
    firmwares: Vec<&'a Firmware>,
    kernel: Option<&'a Kernel>,
    /// Whether the table of hashes is measured.
    hashes: Vec<bool>,
}

impl<'a> Space<'a> {
    fn new(case: &'a Case<'a>) -> Self {
        let mut space = Self {
            values: Default::default(),
            keys: Vec::new(),
            policies: Vec::new(),
            cmdlines: Vec::new(),
            areas: Vec::new(),
            counts: Vec::new(),
            firmwares: Vec::new(),
            kernel: None,
            hashes: Vec::new(),
        };
        space.keys(case);
        space.policies(case.policy);
        if let Contents::Parts { firmwares, kernel, count, areas } = &case.contents {
            for (index, firmware) in firmwares.iter().enumerate() {
                let advice = if index == 0 { "" } else { "the guest was started with this firmware image" };
                space.add(FIRMWARE, firmware.file(), advice);
                space.firmwares.push(firmware);
            }
            space.kernel(kernel.as_ref());
            space.areas(areas);
            space.counts(*count);
        }
        space
    }

    fn add(&mut self, dimension: usize, name: impl Into<String>, advice: impl Into<String>) {
        self.values[dimension].push((name.into(), advice.into()));
    }

    fn keys(&mut self, case: &Case<'_>) {
        self.add(KEY, "the given TIK", "");
        self.keys.push(case.tik.clone());
        if let Some(tek) = case.tek.filter(|tek| *tek != case.tik) {
            self.add(
                KEY,
                "the given TEK",
                "TIK and TEK are swapped: give the file of the one for the other (sev-tool's tmp_tk.bin has TEK first)",
            );
            self.keys.push(tek.clone());
        }
        if *case.tik != Secret::default() {
            self.add(
                KEY,
                "all zeros",
                "the guest was started without dh-cert-file and session-file, so anybody can compute this measurement \
                 and the host chose the policy: DO NOT TRUST it, start the guest with the session",
            );
            self.keys.push(Secret::default());
        }
    }

    fn policies(&mut self, given: Policy) {
        self.policies.push(given);
        self.add(POLICY, given.to_string(), "");
        let mut others: Vec<Policy> = [given.0 & 0xffff_0000, 0]
            .into_iter()
            .flat_map(|api| (0..64).map(move |flags| Policy(api | flags)))
            .filter(|policy| *policy != given)
            .collect();
        // What differs least comes first.
        others.sort_by_key(|policy| ((policy.0 ^ given.0).count_ones(), policy.0));
        others.dedup();
        for policy in others {
            let advice = if policy.has(Policy::ES) != given.has(Policy::ES) {
                "the ES bit (0x4) differs: with it, each CPU's save area is measured too"
            } else {
                "the guest was started with this policy; with a session, the session was made for it too"
            };
            self.add(POLICY, policy.to_string(), advice);
            self.policies.push(policy);
        }
    }

    fn kernel(&mut self, kernel: Option<&'a Kernel>) {
        let Some(kernel) = kernel else { return };
        self.kernel = Some(kernel);
        self.hashes = vec![true, false];
        self.add(HASHES, "on", "");
        self.add(
            HASHES,
            "off",
            "the guest was started without kernel-hashes=on: the host can boot any kernel, and the measurement says \
             nothing about it",
        );
        for (index, (name, _)) in kernel.kernels.iter().enumerate() {
            let advice = if index == 0 { "" } else { "the guest was started with this kernel" };
            self.add(KERNEL, name, advice);
        }
        for (index, (name, _)) in kernel.initrds.iter().enumerate() {
            let advice = if index == 0 { "" } else { "the guest was started with this ramdisk" };
            self.add(INITRD, name, advice);
        }
        self.cmdlines(&kernel.cmdline);
    }

    fn cmdlines(&mut self, given: &[u8]) {
        let trimmed = given.trim_ascii();
        let words: Vec<&[u8]> =
            given.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
        let without_nul = given.to_vec();
        let forms = [
            ("as given, with a NUL at its end", cmdline_bytes(given), ""),
            (
                "without the NUL at its end",
                without_nul,
                "whoever launched hashed the command line without its trailing NUL; QEMU hashes it with one",
            ),
            (
                "with a second NUL at its end",
                cmdline_bytes(&cmdline_bytes(given)),
                "remove the NUL from the command line",
            ),
            (
                "without white space at its ends",
                cmdline_bytes(trimmed),
                "white space at the ends was removed, as some tools do; QEMU keeps it",
            ),
            (
                "with a newline at its end",
                cmdline_bytes(&[given, b"\n"].concat()),
                "it was read from a file with a newline at its end; QEMU keeps it",
            ),
            (
                "with a space at its end",
                cmdline_bytes(&[given, b" "].concat()),
                "QEMU keeps white space at the end",
            ),
            (
                "with single spaces between its words",
                cmdline_bytes(&words.join(&b' ')),
                "somebody has collapsed white space; QEMU keeps it",
            ),
            ("empty", cmdline_bytes(&[]), "the guest was started without a command line"),
        ];
        for (name, bytes, advice) in forms {
            let hash = sha256(&bytes);
            if !self.cmdlines.contains(&hash) {
                self.cmdlines.push(hash);
                self.add(CMDLINE, name, advice);
            }
        }
    }

    fn areas(&mut self, given: &SaveAreas) {
        let name = match given {
            SaveAreas::Built(form, signature) => built_name(*form, *signature),
            SaveAreas::Files(..) => "the given files".to_owned(),
            SaveAreas::Unknown => "not given".to_owned(),
        };
        self.add(AREAS, name, "");
        self.areas.push(given.clone());
        let same = match given {
            SaveAreas::Built(form, signature) => Some((*form, *signature)),
            _ => None,
        };
        let forms = [VmsaForm::Legacy, VmsaForm::Init2];
        let models =
            CPU_MODELS.iter().map(|(_, [family, model, stepping])| cpu_signature(*family, *model, *stepping));
        let signatures: Vec<u32> = same.map(|(_, signature)| signature).into_iter().chain(models).collect();
        let mut tried: Vec<_> = same.into_iter().collect();
        for (signature, form) in signatures.iter().flat_map(|signature| forms.map(|form| (*signature, form)))
        {
            if tried.contains(&(form, signature)) {
                continue;
            }
            tried.push((form, signature));
            let advice = match same {
                Some((other, same)) if same == signature && other != form => match form {
                    VmsaForm::Init2 => {
                        "the VMM set the guest up with KVM_SEV_INIT2 (legacy-vm-type=off): use --vmsa init2"
                    }
                    VmsaForm::Legacy => {
                        "the VMM set the guest up as a legacy VM type (legacy-vm-type=on or auto): use --vmsa legacy"
                    }
                },
                Some((other, _)) if other == form => "the guest has another CPU model",
                _ => "the guest has this CPU model and this form of save area",
            };
            self.add(AREAS, built_name(form, signature), advice);
            self.areas.push(SaveAreas::Built(form, signature));
        }
    }

    fn counts(&mut self, given: u32) {
        self.counts = std::iter::once(given).chain((1..=MAX_CPUS).filter(|count| *count != given)).collect();
        for index in 0..self.counts.len() {
            let advice =
                if index == 0 { "" } else { "the guest has another number of CPUs (maxcpus counts, too)" };
            self.add(COUNT, self.counts[index].to_string(), advice);
        }
    }
}

struct Search<'a> {
    case: &'a Case<'a>,
    space: &'a Space<'a>,
    measured: &'a Measurement,
    /// Digests by the number of CPUs, of everything else that goes into them.
    digests: HashMap<(Point, bool), Vec<[u8; 32]>>,
}

impl Search<'_> {
    fn all(&mut self, points: Vec<Point>) -> Vec<Vec<Change>> {
        let mut found: Vec<Vec<Change>> = Vec::new();
        for point in points {
            if found.len() < MOST && self.fits(&point) {
                found.push(self.changes(&point));
            }
        }
        found
    }

    fn fits(&mut self, point: &Point) -> bool {
        let policy = self.space.policies[point[POLICY]];
        let Some(digest) = self.digest(point, policy) else { return false };
        self.agrees(&self.space.keys[point[KEY]], self.case.api, policy, digest)
    }

    fn agrees(&self, tik: &Secret<16>, api: Api, policy: Policy, digest: [u8; 32]) -> bool {
        let computed = measurement(tik, api, policy, digest, self.measured.mnonce);
        ct_eq(&computed.mac, &self.measured.mac)
    }

    /// Every build of every version up to a minor one.
    fn other_api(&mut self, point: &Point, minor: u8) -> Option<Change> {
        let policy = self.space.policies[point[POLICY]];
        let digest = self.digest(point, policy)?;
        let tik = &self.space.keys[point[KEY]];
        let given = self.case.api;
        let versions = (0..=MAX_MAJOR).flat_map(|major| (0..=minor).map(move |minor| (major, minor)));
        let mut all =
            versions.flat_map(|(major, minor)| (0..=u8::MAX).map(move |build| Api { major, minor, build }));
        let fits = all.find(|api| self.agrees(tik, *api, policy, digest))?;
        Some(Change {
            input: "API version and build",
            given: api_name(given),
            fits: api_name(fits),
            advice: "the platform that launched runs this firmware: take api-major, api-minor and build-id from query-sev \
                     of the launch, and decide whether you accept that version"
                .to_owned(),
        })
    }

    fn digest(&mut self, point: &Point, policy: Policy) -> Option<[u8; 32]> {
        let space = self.space;
        if let Contents::Digest(digest) = self.case.contents {
            return Some(digest);
        }
        let es = policy.has(Policy::ES);
        let count = space.counts[point[COUNT]];
        // Values that do not go into the digest share one entry.
        let mut place = with(*point, &[(KEY, 0), (POLICY, 0), (COUNT, 0)]);
        if !es {
            place[AREAS] = 0;
        }
        let known = self.digests.entry((place, es)).or_default();
        let wanted = if es { count as usize } else { 0 };
        if known.is_empty() {
            let most = space.counts.iter().max().copied().unwrap_or(0);
            *known = digests(space, point, es, most);
        }
        known.get(wanted).copied()
    }

    fn changes(&self, point: &Point) -> Vec<Change> {
        (0..DIMENSIONS)
            .filter(|&dimension| point[dimension] != 0)
            .map(|dimension| {
                let values = &self.space.values[dimension];
                let (fits, advice) = values[point[dimension]].clone();
                Change { input: INPUTS[dimension], given: values[0].0.clone(), fits, advice }
            })
            .collect()
    }
}

/// The digests with 0, 1, 2, ... CPUs.
fn digests(space: &Space<'_>, point: &Point, es: bool, most: u32) -> Vec<[u8; 32]> {
    let firmware = space.firmwares[point[FIRMWARE]];
    let mut hash = firmware.state();
    if let (Some(kernel), Some(true)) = (space.kernel, space.hashes.get(point[HASHES])) {
        let table = KernelHashes {
            cmdline: space.cmdlines[point[CMDLINE]],
            initrd: kernel.initrds[point[INITRD]].1,
            kernel: kernel.kernels[point[KERNEL]].1,
        };
        hash.update(&table.encode());
    }
    let mut out = vec![hash.clone().finish()];
    if !es {
        return out;
    }
    let (boot, application) = match &space.areas[point[AREAS]] {
        SaveAreas::Files(boot, application) => (boot.as_ref().clone(), Some(application.as_ref().clone())),
        SaveAreas::Built(form, signature) => {
            let address = firmware.reset_address().ok();
            let application = address.map(|address| Vmsa::application(*form, *signature, address));
            (Vmsa::boot(*form, *signature), application)
        }
        SaveAreas::Unknown => return out,
    };
    hash.update(boot.as_bytes());
    out.push(hash.clone().finish());
    if let Some(application) = application {
        for _ in 1..most {
            hash.update(application.as_bytes());
            out.push(hash.clone().finish());
        }
    }
    out
}

fn built_name(form: VmsaForm, signature: u32) -> String {
    let model = CPU_MODELS
        .iter()
        .find(|(_, [family, model, stepping])| cpu_signature(*family, *model, *stepping) == signature)
        .map_or_else(|| format!("CPU {signature:#x}"), |(name, _)| format!("{name} ({signature:#x})"));
    format!("{} form for {model}", form_name(form))
}

fn api_name(api: Api) -> String {
    format!("API {}.{}, build {}", api.major, api.minor, api.build)
}

/// The most CPUs that are tried.
const MAX_CPUS: u32 = 256;
/// The highest major version that is tried; there have been 0 and 1.
const MAX_MAJOR: u8 = 1;
/// The highest minor version that is tried together with another difference.
const USUAL_MINOR: u8 = 63;
/// The most explanations: several can only be different names for the same bytes.
const MOST: usize = 4;
