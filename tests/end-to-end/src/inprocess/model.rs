//! A model machine's identity, images for it, and our guest programs.

use cloister_crypto::SeededEntropy;
use cloister_owner::image::{BootStages, Input, Keys, Settings, build};
use cloister_platform_store::{CreateOptions, Platform, create_s390x};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tempfile::TempDir;

/// A machine identity in a folder of its own. It goes with this value.
pub struct Model {
    folder: TempDir,
}

impl Model {
    /// A new machine; the same seed gives the same host key.
    pub fn new(seed: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut entropy = SeededEntropy::new(seed.as_bytes());
        let options = CreateOptions::default();
        create_s390x(&folder.path().join(PLATFORM), &options, &mut entropy, SystemTime::now())
            .expect("a model machine");
        Self { folder }
    }

    /// A place for files of the test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of the test.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, bytes).expect("the temporary folder has room");
        path
    }

    /// The folder of the platform.
    pub fn platform_folder(&self) -> PathBuf {
        self.file(PLATFORM)
    }

    /// The machine, in use. Every user gets a copy of the folder, so that several may run at a time.
    pub fn platform(&self) -> Platform {
        let copy = self.copy();
        // The identity is in memory once it is open.
        Platform::open(copy.path()).expect("the copy is whole")
    }

    /// A copy of the platform's folder, for a test that runs many machines one after the other.
    pub fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir_in(self.folder.path()).expect("a temporary folder");
        for entry in std::fs::read_dir(self.platform_folder()).expect("the folder is there").flatten() {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("a copy of a file");
        }
        copy
    }

    /// The machine with other switches in its `platform.toml`.
    pub fn platform_with(&self, present: bool, prot_virt: bool) -> Platform {
        let copy = self.copy();
        let config = copy.path().join("platform.toml");
        let text = std::fs::read_to_string(&config).expect("the file is there");
        let text = text.replace("present = true", &format!("present = {present}"));
        let text = text.replace("prot_virt = true", &format!("prot_virt = {prot_virt}"));
        std::fs::write(&config, text).expect("the temporary folder has room");
        Platform::open(copy.path()).expect("the copy is whole")
    }

    /// An image for this machine.
    pub fn image(
        &self,
        kernel: &[u8],
        ramdisk: Option<&[u8]>,
        cmdline: &str,
        settings: &Settings,
    ) -> Vec<u8> {
        let key = self.platform().s390x().host.secret.public();
        let input = Input { kernel, ramdisk, cmdline: Some(cmdline.as_bytes()) };
        let mut entropy = SeededEntropy::new(b"image");
        build(&input, &[key], settings, &Keys::default(), &BootStages::BUILT_IN, &mut entropy)
            .expect("the image can be made")
            .0
    }

    /// An image of the witness with this command line, in a file.
    pub fn witness(&self, cmdline: &str) -> PathBuf {
        let kernel = guest_program("witness");
        let image = self.image(&kernel, None, cmdline, &Settings::default());
        self.write(&format!("witness-{cmdline}.img"), &image)
    }
}

/// Assembles a guest of `guests/s390x`.
pub fn guest_program(name: &str) -> Vec<u8> {
    let source = repository().join("guests/s390x").join(name).with_extension("s");
    match cloister_asm_s390x::assemble_file(source) {
        Ok(object) => object.bytes,
        Err(error) => panic!("{error}"),
    }
}

/// The root of the project.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

const PLATFORM: &str = "platform";
