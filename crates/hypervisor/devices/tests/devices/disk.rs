//! Disk images: raw, snapshot overlays, locks, formats.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use cloister_devices::virtio::{DiskBackend, DiskOptions, open_disk};
use proptest::prelude::*;

fn image(size: u64) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..size).map(|n| (n / 512) as u8).collect();
    file.write_all(&bytes).unwrap();
    file
}

fn open(path: &Path, snapshot: bool) -> Box<dyn DiskBackend> {
    open_disk(path, &DiskOptions { snapshot, ..DiskOptions::default() }).unwrap()
}

#[test]
fn raw_reads_and_writes() {
    let file = image(8192 + 100);
    let mut disk = open(file.path(), false);
    assert_eq!(disk.size(), 8292);
    let mut buf = [0xee; 512];
    disk.read_at(8192, &mut buf).unwrap();
    assert!(
        buf[..100].iter().all(|&b| b == 16) && buf[100..].iter().all(|&b| b == 0),
        "zeros beyond the end"
    );
    disk.write_at(512, &[7; 512]).unwrap();
    disk.write_zeroes(1024, 512, false).unwrap();
    disk.discard(4096, 4096).unwrap();
    disk.flush().unwrap();
    let mut on_disk = [0; 1024];
    file.as_file().read_exact_at(&mut on_disk, 512).unwrap();
    assert!(on_disk[..512].iter().all(|&b| b == 7) && on_disk[512..].iter().all(|&b| b == 0));
}

#[test]
fn snapshot_leaves_the_image_alone() {
    let file = image(64 * 1024);
    let before = std::fs::read(file.path()).unwrap();
    let mut disk = open(file.path(), true);
    disk.write_at(1000, &[9; 9000]).unwrap();
    let mut buf = [0; 9002];
    disk.read_at(999, &mut buf).unwrap();
    assert_eq!((buf[0], buf[1], buf[9000], buf[9001]), (1, 9, 9, 19));
    assert_eq!(std::fs::read(file.path()).unwrap(), before);
}

#[test]
fn an_image_in_use_is_refused() {
    let file = image(4096);
    let _first = open(file.path(), false);
    let second = open_disk(file.path(), &DiskOptions::default()).err().unwrap();
    let words = format!(
        "Failed to get \"write\" lock\nIs another process using the image [{}]?",
        file.path().display()
    );
    assert_eq!(second.to_string(), words);
}

#[test]
fn readers_share_an_image() {
    let file = image(4096);
    let _first = open(file.path(), true);
    let options = DiskOptions { read_only: true, ..DiskOptions::default() };
    let second = open_disk(file.path(), &options).unwrap();
    assert!(second.read_only());
}

#[test]
fn errors_say_what_to_do() {
    let missing = open_disk(Path::new("/nonexistent/disk.img"), &DiskOptions::default()).err().unwrap();
    assert!(missing.to_string().contains("/nonexistent/disk.img"));
    let folder = open_disk(Path::new("/"), &DiskOptions { read_only: true, ..DiskOptions::default() });
    assert!(folder.is_err());
    let mut vmdk = tempfile::NamedTempFile::new().unwrap();
    vmdk.write_all(b"KDMV----").unwrap();
    let refused = open_disk(vmdk.path(), &DiskOptions::default()).err().unwrap();
    assert!(
        refused.to_string().contains("vmdk") && refused.to_string().contains("qemu-img convert"),
        "{refused}"
    );
    let mut broken = tempfile::NamedTempFile::new().unwrap();
    broken.write_all(b"QFI\xfb\0\0\0\x03").unwrap();
    assert!(open_disk(broken.path(), &DiskOptions::default()).is_err());
}

/// The smallest qcow2 image of version 2, by its specification: header, one refcount block, an empty L1 table.
pub(crate) fn qcow2(size: u64) -> Vec<u8> {
    let mut image = vec![0; 4 * 65536];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &2_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &size.to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &(3 * 65536_u64).to_be_bytes());
    put(48, &65536_u64.to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(65536, &(2 * 65536_u64).to_be_bytes());
    for cluster in 0..4 {
        put(2 * 65536 + 2 * cluster, &1_u16.to_be_bytes());
    }
    image
}

#[test]
fn qcow2_keeps_what_was_written() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&qcow2(1 << 20)).unwrap();
    {
        let mut disk = open(file.path(), false);
        assert_eq!(disk.size(), 1 << 20);
        disk.write_at(70_000 / 512 * 512, &[0x5a; 1024]).unwrap();
        disk.flush().unwrap();
    }
    let mut disk = open(file.path(), true);
    let mut buf = [0; 2048];
    disk.read_at(70_000 / 512 * 512 - 512, &mut buf).unwrap();
    assert!(buf[..512].iter().all(|&b| b == 0) && buf[512..1536].iter().all(|&b| b == 0x5a));
    assert!(buf[1536..].iter().all(|&b| b == 0));
}

#[test]
fn a_probed_image_reaches_no_other_file() {
    let base = image(1 << 20);
    let mut bytes = qcow2(1 << 20);
    let name = base.path().to_str().unwrap().as_bytes();
    bytes[8..16].copy_from_slice(&128_u64.to_be_bytes());
    bytes[16..20].copy_from_slice(&(name.len() as u32).to_be_bytes());
    // The end of the header extensions, then the backing format "raw" would follow; the name stands at 128.
    bytes[128..128 + name.len()].copy_from_slice(name);
    bytes[72..80].copy_from_slice(&[0xe2, 0x79, 0x2a, 0xca, 0, 0, 0, 3]);
    bytes[80..83].copy_from_slice(b"raw");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let refused = open_disk(file.path(), &DiskOptions::default()).err().unwrap();
    assert!(refused.to_string().contains("format=qcow2"), "{refused}");
    let named = DiskOptions { format: Some("qcow2".into()), snapshot: true, ..DiskOptions::default() };
    let mut disk = open_disk(file.path(), &named).unwrap();
    let mut buf = [0; 512];
    disk.read_at(3 * 512, &mut buf).unwrap();
    assert_eq!(buf, [3; 512], "from the backing file");
}

proptest! {
    #[test]
    fn an_overlay_behaves_as_the_disk(
        writes in prop::collection::vec((0_u64..60_000, 1_usize..5000, any::<u8>()), 1..20),
    ) {
        let file = image(64 * 1024);
        let mut model = std::fs::read(file.path()).unwrap();
        let mut disk = open(file.path(), true);
        for (offset, len, byte) in writes {
            let len = len.min(model.len() - offset as usize);
            disk.write_at(offset, &vec![byte; len]).unwrap();
            model[offset as usize..offset as usize + len].fill(byte);
        }
        let mut all = vec![0; model.len()];
        disk.read_at(0, &mut all).unwrap();
        prop_assert_eq!(all, model);
    }
}
