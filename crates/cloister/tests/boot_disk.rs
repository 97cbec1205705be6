//! Booting from disks through the boot loader that QEMU brings (`s390-ccw.img`): small guests, Debian's kernel, and a
//! Secure Execution image that enters protection again after a reboot.
//!
//! Without the loader or the kernels these tests print a notice and pass, unless `CI` is set.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod common;

use cloister_owner::disk::{DiskOptions, Source, create};
use common::{Run, cloister, platform, verified};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const LOADER: [&str; 2] = ["/usr/share/qemu/s390-ccw.img", "/usr/local/share/qemu/s390-ccw.img"];

#[test]
fn the_device_with_the_lowest_boot_index_is_booted_and_a_guest_may_load_from_another() {
    let Some(rig) = Rig::new() else { return };
    for subcode in ['<', '>'] {
        let first = rig.disk(&[&format!("first{subcode}0002")], 1);
        let second = rig.disk(&["second"], 1);
        let run = rig.run(&[(&first, "devno=fe.0.0001,bootindex=1"), (&second, "devno=fe.0.0002")], &[]);
        run.succeeds();
        let guests: Vec<&str> = run.out.lines().filter(|line| line.contains(": device ")).collect();
        let told = [format!("first{subcode}0002: device 0.1"), "second: device 0.2".to_owned()]
            .map(|text| text + " loadparm 4040404040404040");
        assert_eq!(guests, told);
        let run = rig
            .run(&[(&first, "devno=fe.0.0001,bootindex=2"), (&second, "devno=fe.0.0002,bootindex=1")], &[]);
        assert!(!run.succeeds().contains("first"), "{}", run.out);
    }
}

#[test]
fn without_a_boot_index_the_loader_finds_a_disk_itself_and_there_is_no_block() {
    let Some(rig) = Rig::new() else { return };
    let disk = rig.disk(&["found"], 1);
    let run = rig.run(&[(&disk, "devno=fe.0.0007")], &[]);
    assert!(run.succeeds().contains("found: no block"), "{}", run.out);
}

#[test]
fn the_load_parameter_chooses_the_program() {
    let Some(rig) = Rig::new() else { return };
    let disk = rig.disk(&["one", "two", "three"], 3);
    for (option, guest) in [("", "three"), (",loadparm=1", "one"), (",loadparm=2", "two")] {
        let run = rig.run_machine(&format!("s390-ccw-virtio{option}"), &[(&disk, "bootindex=1")], &[]);
        assert!(run.succeeds().contains(&format!("{guest}: device 0.0")), "{option}: {}", run.out);
    }
}

#[test]
fn the_same_bytes_boot_by_kernel_and_from_a_disk() {
    let Some(rig) = Rig::new() else { return };
    let disk = rig.disk(&["name"], 1);
    let run = rig.run(&[(&disk, "bootindex=1")], &["-kernel", "ipl.bin", "-append", "kernel"]);
    assert!(run.succeeds().contains("kernel: no block"), "-kernel goes before disks: {}", run.out);
    let run = rig.run(&[(&disk, "devno=fe.0.0001")], &["-kernel", "ipl.bin", "-append", "kernel>0001"]);
    run.succeeds();
    assert!(run.out.contains("kernel>0001: no block"), "{}", run.out);
    assert!(run.out.contains("name: device 0.1"), "the guest's choice goes before -kernel: {}", run.out);
}

#[test]
fn nothing_to_boot_and_damaged_maps_end_with_the_loader_s_words_and_status_1() {
    let Some(rig) = Rig::new() else { return };
    rig.run(&[], &[]).fails_with("Could not find a suitable boot device");
    for (block, words) in
        [(0, "Cannot read block 2"), (1, "No zIPL magic in PT"), (2, "No zIPL magic in header")]
    {
        let disk = rig.disk(&["damaged"], 1);
        // Magics of the boot record, the program table and the component table.
        let file = File::options().write(true).open(rig.folder.path().join(&disk)).unwrap();
        file.write_all_at(b"XXXX", block * 512).unwrap();
        let run = rig.run(&[(&disk, "bootindex=1")], &[]);
        assert!(!run.out.contains("damaged: "), "block {block}: {}", run.out);
        run.fails_with(words);
    }
}

#[test]
fn a_loader_that_is_none_or_is_not_there_is_refused_in_words() {
    let Some(rig) = Rig::new() else { return };
    rig.run(&[], &["-bios", "nosuch"]).refuses(&["could not find stage1 bootloader 'nosuch'"]);
    rig.run(&[], &["-bios", "ipl.bin"]).refuses(&["could not load bootloader", "s390x firmware"]);
    rig.run(&[], &["-m", "2"]).refuses(&["could not load bootloader", "give more with -m"]);
}

#[test]
fn debian_boots_from_a_disk_in_the_clear() {
    let Some(rig) = Rig::new() else { return };
    let Some(cache) = cache() else { return };
    let disk = rig.make(&DiskOptions {
        programs: vec![Source::Kernel {
            kernel: cache.join("vmlinuz-6.12"),
            initrd: Some(cache.join("initramfs-basic.gz")),
            append: Some("console=ttysclp0 panic=-1".into()),
        }],
        ..rig.options()
    });
    let run = rig.run(&[(&disk, "bootindex=1")], &["-m", "512"]);
    run.succeeds();
    for words in ["Using virtio-blk.", "Using SCSI scheme.", "INIT-REACHED", "prot_virt_guest absent"] {
        assert!(run.out.contains(words), "{words}: {}", run.out);
    }
}

#[test]
fn a_protected_guest_from_a_disk_enters_protection_again_after_a_reboot() {
    let Some(rig) = Rig::new() else { return };
    let Some(cache) = cache() else { return };
    let folder = rig.folder.path();
    platform(folder, "platform");
    std::fs::write(folder.join("parmfile"), "console=ttysclp0 panic=-1 cloister.test=reboot-once").unwrap();
    let mut args: Vec<String> = ["pv", "image", "create", "--offline"].map(str::to_owned).into();
    args.extend(verified("platform"));
    let (kernel, ramdisk) = (cache.join("vmlinuz-6.12"), cache.join("initramfs-full.gz"));
    for (option, file) in [("-i", kernel), ("-r", ramdisk), ("-p", "parmfile".into()), ("-o", "image".into())]
    {
        args.extend([option.to_owned(), file.display().to_string()]);
    }
    cloister(folder, args).succeeds();
    let boot =
        rig.make(&DiskOptions { programs: vec![Source::Image(folder.join("image"))], ..rig.options() });

    // The guest keeps its state in a file system on /dev/vda: the same disk, behind whose file system the map lies.
    let disk = merge(folder, &cache.join("disk.ext4"), &folder.join(boot));
    let machine = "s390-ccw-virtio,confidential-guest-support=pv0";
    let run = rig.run_machine(
        machine,
        &[(&disk, "bootindex=1")],
        &["-object", "s390-pv-guest,id=pv0", "-platform", "platform", "-m", "512"],
    );
    run.succeeds();
    assert!(run.out.contains("REBOOTING") && run.out.contains("TEST reboot ok"), "{}", run.out);
    for (words, times) in [("prot_virt_guest 1", 2), ("Using SCSI scheme.", 2)] {
        assert_eq!(run.out.matches(words).count(), times, "{words}: {}", run.out);
    }
}

/// A folder with the small guest in it.
struct Rig {
    folder: tempfile::TempDir,
    made: std::cell::Cell<u32>,
}

impl Rig {
    fn new() -> Option<Self> {
        if !LOADER.iter().any(|file| Path::new(file).exists()) {
            let notice = "SKIPPED: no s390-ccw.img; install qemu-system-data";
            assert!(std::env::var_os("CI").is_none(), "{notice}");
            eprintln!("{notice}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/s390x/ipl.s");
        let guest = cloister_asm_s390x::assemble_file(source).unwrap().bytes;
        std::fs::write(folder.path().join("ipl.bin"), guest).unwrap();
        Some(Self { folder, made: std::cell::Cell::new(0) })
    }

    fn options(&self) -> DiskOptions {
        self.made.set(self.made.get() + 1);
        DiskOptions {
            programs: Vec::new(),
            default: 1,
            data: None,
            size: None,
            output: self.folder.path().join(format!("disk{}", self.made.get())),
            overwrite: false,
        }
    }

    fn make(&self, options: &DiskOptions) -> String {
        create(options).unwrap();
        options.output.file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// A disk with the small guest under these names.
    fn disk(&self, names: &[&str], default: usize) -> String {
        let kernel = self.folder.path().join("ipl.bin");
        let program = |name: &&str| Source::Kernel {
            kernel: kernel.clone(),
            initrd: None,
            append: Some((*name).to_owned()),
        };
        let programs = names.iter().map(program).collect();
        self.make(&DiskOptions { programs, default, ..self.options() })
    }

    fn run(&self, disks: &[(&String, &str)], options: &[&str]) -> Run {
        self.run_machine("s390-ccw-virtio", disks, options)
    }

    fn run_machine(&self, machine: &str, disks: &[(&String, &str)], options: &[&str]) -> Run {
        let mut args: Vec<String> = ["-machine", machine, "-nographic"].map(str::to_owned).into();
        for (number, (disk, properties)) in disks.iter().enumerate() {
            args.extend(["-drive".into(), format!("if=none,id=d{number},format=raw,file={disk}")]);
            args.extend(["-device".into(), format!("virtio-blk-ccw,drive=d{number},{properties}")]);
        }
        args.extend(options.iter().map(|option| (*option).to_owned()));
        cloister(self.folder.path(), args)
    }
}

impl Run {
    /// The loader's words on the console, and the disabled wait with status 1.
    #[track_caller]
    fn fails_with(&self, words: &str) {
        self.refuses(&["entered a disabled wait, PSW 0002000180000000 0000000000000000"]);
        assert!(self.out.contains(words), "'{words}' is missing in:\n{}", self.out);
    }
}

fn cache() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache =
        std::env::var_os("CLOISTER_CACHE").map_or_else(|| root.join("cache"), PathBuf::from).join("s390x");
    if cache.join("vmlinuz-6.12").exists() {
        return cache.canonicalize().ok();
    }
    let notice = "SKIPPED: no kernels; run scripts/fetch-s390x-guests";
    assert!(std::env::var_os("CI").is_none(), "{notice}");
    eprintln!("{notice}");
    None
}

/// A disk that is a file system and boots: ext4 leaves its first two blocks of 512 bytes to boot records.
fn merge(folder: &Path, file_system: &Path, boot: &Path) -> String {
    use cloister_formats::s390x::boot_map::{BLOCK_SIZE, Part, Program, build, read};
    let bytes = std::fs::read(boot).unwrap();
    let block = |block: u64| bytes[block as usize * BLOCK_SIZE..][..BLOCK_SIZE].try_into().unwrap();
    let (address, segments) = read(|number| Ok(block(number))).unwrap()[0].parts[0].clone();
    let start = segments[0].block as usize * BLOCK_SIZE;
    let length = segments.iter().map(|segment| segment.count as usize * BLOCK_SIZE).sum::<usize>();
    let part = Part { address, bytes: &bytes[start..start + length] };
    let mut disk = std::fs::read(file_system).unwrap();
    let program = Program { parts: vec![part], entry: address };
    let layout = build(&[program], 1, (disk.len() / BLOCK_SIZE) as u64).unwrap();
    disk[..BLOCK_SIZE].copy_from_slice(&layout.record.encode());
    disk.resize(layout.end as usize * BLOCK_SIZE, 0);
    for (block, bytes) in &layout.pieces {
        disk[*block as usize * BLOCK_SIZE..][..bytes.len()].copy_from_slice(bytes);
    }
    std::fs::write(folder.join("both"), disk).unwrap();
    "both".into()
}
