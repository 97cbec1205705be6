//! What a guest was told to be on the disk is there after the process was killed, on raw and on qcow2 images.
//!
//! The process is killed, not the host: that the host's kernel keeps its own promises about fdatasync is not tested.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use cloister_devices::Waker;
use cloister_devices::virtio::{Block, BlockOptions, DiskOptions, open_disk};

use crate::blk::{Driver, FLUSH};
use crate::disk::qcow2;

const IMAGE: &str = "CLOISTER_TEST_CRASH_IMAGE";
const RECORD: u64 = 8;
const RECORDS: u64 = 2000;

/// Not a test of its own: the process that is killed. It writes numbered records, flushes, and says each number once the
/// flush was answered.
#[test]
fn writer() {
    let Some(image) = std::env::var_os(IMAGE) else { return };
    let image = Path::new(&image);
    let format = image.extension().map(|format| format.to_string_lossy().into_owned());
    let disk = open_disk(image, &DiskOptions { format, ..DiskOptions::default() }).unwrap();
    let mut block = Block::new(disk, BlockOptions { queue_size: 16, ..BlockOptions::default() }).unwrap();
    let (rung, waker) = (Arc::new((Mutex::new(false), Condvar::new())), Waker::new());
    let bell = Arc::clone(&rung);
    waker.connect(move || {
        *bell.0.lock().unwrap() = true;
        bell.1.notify_all();
    });
    block.work_aside(waker.clone()).unwrap();
    let mut driver = Driver::new(block, 1, FLUSH);
    let mut out = std::io::stdout().lock();
    for number in 0..RECORDS {
        driver.fill(0, 0, &number_bytes(number));
        driver.offer(0, 0, 1, number * RECORD, 4096, false);
        driver.ring(0);
        wait(&mut driver, 0, &rung, &waker);
        driver.offer(0, 1, 4, 0, 0, false);
        driver.ring(0);
        wait(&mut driver, 1, &rung, &waker);
        writeln!(out, "record {number}").unwrap();
        out.flush().unwrap();
    }
}

fn wait(driver: &mut Driver, slot: u16, rung: &(Mutex<bool>, Condvar), waker: &Waker) {
    while driver.status(0, slot) == 0xff {
        let mut told = rung.0.lock().unwrap();
        while !*told {
            told = rung.1.wait(told).unwrap();
        }
        *told = false;
        drop(told);
        waker.clear();
        driver.event();
    }
    assert_eq!(driver.status(0, slot), 0);
}

fn number_bytes(number: u64) -> Vec<u8> {
    (number + 1).to_be_bytes().repeat(512)
}

#[test]
fn what_was_flushed_survives_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    for (round, kill_after) in [0, 1, 7, 40, 150, 333].into_iter().enumerate() {
        for format in ["raw", "qcow2"] {
            let path = folder.path().join(format!("{round}.{format}"));
            let file = File::create(&path).unwrap();
            match format {
                "qcow2" => file.write_all_at(&qcow2(16 << 20), 0).unwrap(),
                _ => file.set_len(16 << 20).unwrap(),
            }
            drop(file);
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["crash::writer", "--exact", "--nocapture"])
                .env(IMAGE, &path)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            let numbers =
                |line: String| line.strip_prefix("record ").map(|number| number.parse::<u64>().unwrap());
            let mut last = None;
            for number in lines.by_ref().filter_map(numbers) {
                last = Some(number);
                if number >= kill_after {
                    break;
                }
            }
            child.kill().unwrap();
            // Whatever it had said by then counts.
            last = lines.filter_map(numbers).last().or(last);
            child.wait().unwrap();
            let last = last.expect("it said something before it was killed");
            let options = DiskOptions { format: Some(format.into()), read_only: true, snapshot: false };
            let mut disk = open_disk(&path, &options).unwrap();
            for number in 0..=last {
                let mut record = vec![0; 4096];
                disk.read_at(number * RECORD * 512, &mut record).unwrap();
                assert_eq!(record, number_bytes(number), "{format}: record {number} of {last}");
            }
            drop(disk);
            check(&path, format);
        }
    }
}

/// Leaks are what a killed program may leave; errors are not.
fn check(path: &Path, format: &str) {
    if format != "qcow2" {
        return;
    }
    match Command::new("qemu-img").args(["check", "-f", "qcow2"]).arg(path).output() {
        Ok(output) => assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}"),
        Err(_) => eprintln!("notice: qemu-img is not installed, the image's tables are not checked"),
    }
}
