//! Making an image: checks, then layout, payload, header, in this order.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use cloister_crypto::{Aes256Xts, Entropy, P521Public, P521Secret, sha256};
use cloister_formats::s390x::se_header::Pcf;
use cloister_formats::s390x::se_image::{
    ComponentKind, DEFAULT_CMDLINE_SIZE, KERNEL_CMDLINE_LIMIT_ADDR, KERNEL_MAGIC, KERNEL_MAGIC_ADDR,
    METADATA_ADDR, Metadata, PSW_MASK_64BIT,
};

use super::header::{Material, Statement, seal_header};
use super::layout::{Layout, MAX_SLOTS, Placed, stage_sizes};
use super::payload::{Process, Source};
use super::{BootStages, CreateOptions, Damage, Keys, Progress, Report, Settings};
use crate::files::{self, AtomicFile};
use crate::host_key;
use crate::{ImageError, OwnerError};

/// The components of an image in memory.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The kernel, raw.
    pub kernel: &'a [u8],
    /// The initial ramdisk.
    pub ramdisk: Option<&'a [u8]>,
    /// The kernel's command line, without a terminating zero.
    pub cmdline: Option<&'a [u8]>,
}

/// Makes an image file as the options say. The output appears complete or not at all.
pub fn create(
    options: &CreateOptions,
    stages: &BootStages<'_>,
    entropy: &mut dyn Entropy,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, OwnerError> {
    files::refuse_existing(&options.output, options.overwrite)?;
    let mut warnings = Vec::new();
    let keys = Keys {
        cck: files::read_key(options.cck.as_deref(), &mut warnings)?,
        header_key: files::read_key(options.header_key.as_deref(), &mut warnings)?,
        image_key: files::read_key(options.image_key.as_deref(), &mut warnings)?,
    };
    let documents = host_key::load(&options.host_key_documents, &options.verification, &mut warnings)?;
    let kernel = Part::open(&options.kernel)?;
    let ramdisk = options.ramdisk.as_deref().map(Part::open).transpose()?;
    let cmdline = match &options.parmfile {
        Some(file) => Some(Part {
            name: file.display().to_string(),
            data: Data::Memory(files::read_limited(file, MAX_PARMFILE, "kernel command line")?),
        }),
        None => None,
    };
    let host_keys: Vec<_> = documents.iter().map(|document| *document.key()).collect();
    let job = Job::prepare(
        [Some(kernel), ramdisk, cmdline],
        &host_keys,
        &options.settings,
        &keys,
        stages,
        entropy,
    )?;
    let mut output = AtomicFile::create(&options.output, 0o644)?;
    let write_error = |source| files::io("write", &options.output)(source);
    let mut report = output.stream(&options.output, |stream| job.write(stream, &write_error, progress))?;
    output.finish(&options.output, options.overwrite)?;
    report.warnings = warnings;
    Ok(report)
}

/// Makes an image in memory. The host keys are the caller's to verify.
pub fn build(
    input: &Input<'_>,
    host_keys: &[P521Public],
    settings: &Settings,
    keys: &Keys,
    stages: &BootStages<'_>,
    entropy: &mut dyn Entropy,
) -> Result<(Vec<u8>, Report), OwnerError> {
    let part = |name: &str, bytes: &[u8]| Part { name: name.into(), data: Data::Memory(bytes.to_vec()) };
    let parts = [
        Some(part("the kernel", input.kernel)),
        input.ramdisk.map(|bytes| part("the ramdisk", bytes)),
        input.cmdline.map(|bytes| part("the command line", bytes)),
    ];
    let job = Job::prepare(parts, host_keys, settings, keys, stages, entropy)?;
    let mut image = Cursor::new(Vec::new());
    let write_error = |source| OwnerError::Io { action: "write", file: "memory".into(), source };
    let report = job.write(&mut image, &write_error, &mut |_| {})?;
    Ok((image.into_inner(), report))
}

/// A component that is to be packed.
struct Part {
    name: String,
    data: Data,
}

enum Data {
    File(File, u64),
    Memory(Vec<u8>),
}

impl Part {
    /// Regular files are read while packing; what has no size (a pipe) is read at once.
    fn open(path: &Path) -> Result<Self, OwnerError> {
        let name = path.display().to_string();
        let mut file = File::open(path).map_err(files::io("open", path))?;
        let metadata = file.metadata().map_err(files::io("read", path))?;
        if metadata.is_dir() {
            return Err(files::io("read", path)(std::io::ErrorKind::IsADirectory.into()));
        }
        if metadata.is_file() {
            return Ok(Self { name, data: Data::File(file, metadata.len()) });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(files::io("read", path))?;
        Ok(Self { name, data: Data::Memory(bytes) })
    }

    fn size(&self) -> u64 {
        match &self.data {
            Data::File(_, size) => *size,
            Data::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Bytes at `at`, or `None` beyond the end.
    fn peek<const N: usize>(&self, at: u64) -> Result<Option<[u8; N]>, OwnerError> {
        let mut bytes = [0; N];
        if self.size() < at.saturating_add(N as u64) {
            return Ok(None);
        }
        match &self.data {
            Data::File(file, _) => {
                file.read_exact_at(&mut bytes, at).map_err(files::io("read", Path::new(&self.name)))?;
            }
            // The range is inside, as the size was checked.
            Data::Memory(all) => bytes.copy_from_slice(&all[at as usize..at as usize + N]),
        }
        Ok(Some(bytes))
    }

    fn into_source<'a>(self) -> Source<'a> {
        let reader: Box<dyn Read> = match self.data {
            Data::File(file, _) => Box::new(file),
            Data::Memory(bytes) => Box::new(Cursor::new(bytes)),
        };
        Source { name: self.name, reader }
    }
}

/// An image of which everything is decided and nothing written.
pub(super) struct Job<'a> {
    components: Vec<(Placed, Source<'a>)>,
    layout: Layout,
    stage_a: Vec<u8>,
    host_keys: Vec<P521Public>,
    settings: &'a Settings,
    material: Material,
    psw_addr: u64,
}

impl<'a> Job<'a> {
    fn prepare(
        parts: [Option<Part>; 3],
        host_keys: &[P521Public],
        settings: &'a Settings,
        keys: &Keys,
        stages: &BootStages<'_>,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, OwnerError> {
        check_settings(settings, keys)?;
        match host_keys.len() {
            0 => return Err(ImageError::NoHostKey.into()),
            count if count > MAX_SLOTS => {
                return Err(ImageError::TooManyHostKeys { count, limit: MAX_SLOTS }.into());
            }
            _ => {}
        }
        let [kernel, ramdisk, mut cmdline] = parts;
        if let Some(Part { name, data: Data::Memory(text) }) = &mut cmdline {
            if text.contains(&0) {
                return Err(ImageError::CmdlineZero { file: name.clone() }.into());
            }
            text.push(0);
        }
        if let Some(kernel) = kernel.as_ref().filter(|_| settings.component_check) {
            check_kernel(kernel)?;
            check_cmdline(kernel, cmdline.as_ref())?;
        }
        let (size_a, size_b) = stage_sizes(stages)?;
        let mut parts: Vec<(ComponentKind, Part)> = [
            (ComponentKind::KERNEL, kernel),
            (ComponentKind::RAMDISK, ramdisk),
            (ComponentKind::CMDLINE, cmdline),
        ]
        .into_iter()
        .filter_map(|(kind, part)| part.map(|part| (kind, part)))
        .collect();
        let mut sizes: Vec<_> = parts.iter().map(|(kind, part)| (*kind, part.size())).collect();
        sizes.push((ComponentKind::STAGE_B, size_b));
        let material = Material::draw(keys, entropy);
        let tweaked: Vec<_> = sizes
            .into_iter()
            .map(|(kind, size)| {
                let mut random = [0; 6];
                entropy.fill(&mut random);
                (kind, random, size)
            })
            .collect();
        let layout = Layout::plan(size_a, host_keys.len(), &tweaked)?;
        let stage_a = layout.stage_a(stages);
        let stage_b =
            Part { name: "the protected loader".into(), data: Data::Memory(layout.stage_b(stages)) };
        parts.push((ComponentKind::STAGE_B, stage_b));
        let sources = parts.into_iter().map(|(_, part)| part.into_source());
        let components: Vec<_> = layout.components.iter().copied().zip(sources).collect();
        // The protected loader is always the last component.
        let psw_addr = layout.components.last().map_or(0, |placed| placed.addr);
        let host_keys = match settings.damage {
            Some(Damage::ForeignKey) => {
                host_keys.iter().map(|_| P521Secret::generate(entropy).public()).collect()
            }
            _ => host_keys.to_vec(),
        };
        Ok(Self { components, layout, stage_a, host_keys, settings, material, psw_addr })
    }

    fn write<W: Write + Seek>(
        self,
        output: &mut W,
        write_error: &dyn Fn(std::io::Error) -> OwnerError,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Report, OwnerError> {
        let settings = self.settings;
        let pcf = settings.pcf();
        let pages = self.layout.pages();
        let cipher = Aes256Xts::new(&self.material.image_key);
        let encrypted = !pcf.has(Pcf::NO_COMPONENT_ENCRYPTION);
        let process = Process {
            cipher: encrypted.then_some(&cipher),
            threads: settings.threads,
            flip: match settings.damage {
                Some(Damage::FlippedPage(page)) => Some(page % pages),
                _ => None,
            },
        };
        let first = self.layout.components.first().map_or(self.layout.ipib_addr, |placed| placed.addr);
        output.seek(SeekFrom::Start(first)).map_err(write_error)?;
        let mut digests = process.run(self.components, output, write_error, progress)?;
        let ipib = self.layout.ipib();
        output.write_all(&ipib).map_err(write_error)?;

        let mut counted = pages;
        match settings.damage {
            Some(Damage::WrongAld) => digests.ald[0] ^= 1,
            Some(Damage::WrongTld) => digests.tld[0] ^= 1,
            Some(Damage::WrongPageCount) => counted += 1,
            Some(Damage::FlippedPage(_) | Damage::ForeignKey | Damage::FlippedHeaderBit(_)) | None => {}
        }
        let statement = Statement {
            digests,
            pages: counted,
            pcf,
            scf: settings.scf().0,
            psw_mask: PSW_MASK_64BIT,
            psw_addr: settings.x_psw.unwrap_or(self.psw_addr),
        };
        let header = seal_header(&self.material, &self.host_keys, &statement)?;
        let mut encoded = header.encode();
        if let Some(Damage::FlippedHeaderBit(bit)) = settings.damage {
            // The header has at most 65536 bits.
            let bit = (bit % (encoded.len() as u64 * 8)) as usize;
            encoded[bit / 8] ^= 0x80 >> (bit % 8);
        }
        output.seek(SeekFrom::Start(0)).map_err(write_error)?;
        output.write_all(&self.layout.head(&self.stage_a, &encoded)).map_err(write_error)?;
        output.flush().map_err(write_error)?;
        Ok(Report {
            warnings: Vec::new(),
            size: self.layout.ipib_addr + ipib.len() as u64,
            pages,
            host_keys: self.host_keys.iter().map(|key| sha256(&key.to_padded_xy())).collect(),
            pcf,
            scf: settings.scf(),
            header_tag: header.tag,
        })
    }
}

fn check_settings(settings: &Settings, keys: &Keys) -> Result<(), ImageError> {
    if settings.dump && keys.cck.is_none() && !settings.cck_update {
        return Err(ImageError::Options(
            "--enable-dump needs --cck (or --enable-cck-update): without a known key nobody could read the dump",
        ));
    }
    if settings.cck_extension_secret && settings.cck_update {
        return Err(ImageError::Options(
            "--enable-cck-extension-secret and --enable-cck-update exclude each other",
        ));
    }
    if settings.cck_extension_secret && keys.cck.is_none() {
        return Err(ImageError::Options(
            "--enable-cck-extension-secret needs --cck: without a known key nobody could add a secret",
        ));
    }
    if settings.x_psw.is_some_and(|addr| addr & 1 != 0) {
        return Err(ImageError::Options("--x-psw must be an even address"));
    }
    Ok(())
}

fn check_kernel(kernel: &Part) -> Result<(), OwnerError> {
    let file = || kernel.name.clone();
    if kernel.peek(0)? == Some(*b"\x7fELF") {
        return Err(ImageError::KernelIsElf { file: file() }.into());
    }
    if kernel.peek(METADATA_ADDR)? == Some(*Metadata::MAGIC) {
        return Err(ImageError::KernelIsImage { file: file() }.into());
    }
    if kernel.peek(KERNEL_MAGIC_ADDR)? != Some(*KERNEL_MAGIC) {
        return Err(ImageError::NotAKernel { file: file() }.into());
    }
    Ok(())
}

fn check_cmdline(kernel: &Part, cmdline: Option<&Part>) -> Result<(), OwnerError> {
    let Some(cmdline) = cmdline else { return Ok(()) };
    let stated = kernel.peek(KERNEL_CMDLINE_LIMIT_ADDR)?.map_or(0, u64::from_be_bytes);
    let limit = if stated == 0 { DEFAULT_CMDLINE_SIZE } else { stated };
    match cmdline.size() > limit {
        true => Err(ImageError::CmdlineTooLong {
            file: cmdline.name.clone(),
            size: cmdline.size() - 1,
            limit: limit - 1,
        }
        .into()),
        false => Ok(()),
    }
}

/// Far above every kernel's limit; the kernel's own is checked later.
const MAX_PARMFILE: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use cloister_crypto::{Secret, sha512};
    use cloister_formats::s390x::se_header::SeHeader;

    use super::*;

    /// The golden vectors; `tests/data/README.md` says where they come from.
    struct Golden(serde_json::Value);

    impl Golden {
        fn load() -> Self {
            Self(serde_json::from_str(include_str!("../../tests/data/se-vectors.json")).unwrap())
        }

        fn hex(&self, section: &str, name: &str) -> Vec<u8> {
            hex::decode(self.0[section][name].as_str().unwrap()).unwrap()
        }

        fn secret(&self, section: &str, name: &str) -> P521Secret {
            P521Secret::from_scalar(&self.hex(section, name).try_into().unwrap()).unwrap()
        }

        fn material(&self) -> Material {
            Material {
                customer: self.secret("kek", "cust_private_scalar_hex"),
                header_key: Secret::from_slice(&self.hex("key_slot", "header_key_hex")).unwrap(),
                header_iv: self.hex("se_header", "iv_hex").try_into().unwrap(),
                image_key: Secret::from_slice(&self.hex("se_header", "xts_key_hex")).unwrap(),
                cck: Secret::from_slice(&self.hex("se_header", "cck_hex")).unwrap(),
            }
        }

        /// The components as the vectors' `payload_rule` describes them.
        fn components(&self) -> [(ComponentKind, Vec<u8>); 4] {
            [
                (ComponentKind::KERNEL, (0..4196u32).map(|i| (7 * i + 3) as u8).collect()),
                (ComponentKind::RAMDISK, b"own tiny ramdisk payload\n".repeat(3)),
                (ComponentKind::CMDLINE, b"console=ttysclp0 panic=-1\0".to_vec()),
                (ComponentKind::STAGE_B, hex::decode("0dd0a7f4000007fe").unwrap()),
            ]
        }

        /// The vectors' image has no plain loader and a filler for the protected one, so it is put
        /// together below the public functions.
        fn build(&self, settings: &Settings) -> (Vec<u8>, Report) {
            let components = self.components();
            let tweaked: Vec<_> = components
                .iter()
                .zip(self.0["image"]["components"].as_array().unwrap())
                .map(|((kind, bytes), listed)| {
                    let pref = hex::decode(listed["tweak_pref"].as_str().unwrap()).unwrap();
                    assert_eq!(pref[..2], kind.0.to_be_bytes());
                    (*kind, pref[2..].try_into().unwrap(), bytes.len() as u64)
                })
                .collect();
            let layout = Layout::plan(0, 1, &tweaked).unwrap();
            let psw_addr = layout.components[3].addr;
            let sources = components.into_iter().map(|(kind, bytes)| {
                Part { name: kind.name().into(), data: Data::Memory(bytes) }.into_source()
            });
            let job = Job {
                components: layout.components.iter().copied().zip(sources).collect(),
                layout,
                stage_a: Vec::new(),
                host_keys: vec![self.secret("host_key", "private_scalar_hex").public()],
                settings,
                material: self.material(),
                psw_addr,
            };
            let mut image = Cursor::new(Vec::new());
            let fail = |source| OwnerError::Io { action: "write", file: "memory".into(), source };
            let report = job.write(&mut image, &fail, &mut |_| {}).unwrap();
            (image.into_inner(), report)
        }
    }

    #[test]
    fn the_golden_image_is_rebuilt_byte_for_byte_with_one_and_two_threads() {
        let golden = Golden::load();
        for threads in [1, 2] {
            let (image, report) = golden.build(&Settings { dump: true, threads, ..Default::default() });
            let at = 0x14000;
            let header = golden.hex("se_header", "header_hex");
            assert_eq!(hex::encode(&image[at..at + header.len()]), hex::encode(&header));
            let ipib = golden.hex("image", "ipib_hex");
            assert_eq!(image[0x1a000..], ipib);
            let listed = golden.0["image"]["sha256_of_whole_image"].as_str().unwrap();
            assert_eq!(hex::encode(sha256(&image)), listed);
            assert_eq!(report.size, image.len() as u64);
            assert_eq!(report.pages, 5);
            assert_eq!(report.host_keys[0], *golden.hex("host_key", "phkh_hex"));
        }
    }

    #[test]
    fn the_golden_digests_without_component_encryption_are_rebuilt() {
        let golden = Golden::load();
        let settings = Settings { dump: true, image_encryption: false, ..Default::default() };
        let (image, report) = golden.build(&settings);
        let header = SeHeader::parse(&image[0x14000..0x14280]).unwrap();
        assert_eq!(header.pld, *golden.hex("digests_unencrypted", "pld_hex"));
        assert_eq!(header.ald, *golden.hex("digests", "ald_hex"));
        assert_eq!(header.tld, *golden.hex("digests", "tld_hex"));
        assert_eq!(report.pcf.0, 0x3000_00e0);
        assert_eq!(sha512(&image[0x15000..0x1a000]), header.pld);
    }

    /// An input that grows or shrinks after its size was taken is an error, not a torn image.
    #[test]
    fn an_input_that_changes_its_size_is_refused() {
        for size in [7, 9] {
            let placed = Layout::plan(0, 1, &[(ComponentKind::KERNEL, [0; 6], size)]).unwrap().components;
            let source = Part { name: "kernel".into(), data: Data::Memory(vec![0; 8]) }.into_source();
            let process = Process { cipher: None, threads: 2, flip: None };
            let fail = |source| OwnerError::Io { action: "write", file: "memory".into(), source };
            let components = vec![(placed[0], source)];
            let result = process.run(components, &mut Vec::new(), &fail, &mut |_| {});
            assert!(matches!(result, Err(OwnerError::Image(ImageError::Changed { .. }))), "{size}");
        }
    }
}
