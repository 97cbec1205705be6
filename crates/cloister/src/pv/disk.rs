//! `cloister pv disk`: disks that the machine's boot loader starts from.

use crate::out;
use anyhow::Context;
use clap::{Args, Subcommand};
use cloister_owner::disk::{DiskOptions, DiskReport, Source, create};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Disk {
    /// Make a disk that boots encrypted images, a kernel, or both; `-machine loadparm=NUMBER` chooses one
    Create(Create),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Encrypted image of `cloister pv image create` (several times: numbers 1, 2, ...)
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Kernel in the clear; its number comes after the images
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The kernel's initial ramdisk
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The kernel's command line
    #[arg(long, value_name = "TEXT", requires = "kernel")]
    append: Option<String>,
    /// Number of the program to boot if nobody chooses
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    default: usize,
    /// File with a file system, for example of ext4: becomes the second partition (/dev/vda2)
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Size of the disk (bytes, or with k, M, G), if it is to be larger than needed
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: Option<u64>,
    /// The disk to write, raw; it appears complete or not at all
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace an existing output
    #[arg(long)]
    overwrite: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Disk {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(create) => create.run(),
        }
    }
}

impl Create {
    fn run(self) -> anyhow::Result<ExitCode> {
        let as_json = self.json;
        let output = self.output.display().to_string();
        let report = create(&self.options()).with_context(|| format!("no disk {output} was made"))?;
        if as_json {
            let data = report.data.map(|(block, blocks)| json!({"block": block, "blocks": blocks}));
            let shown =
                json!({"disk": output, "bytes": report.size, "programs": report.programs, "data": data});
            out::line(&format!("{shown:#}"));
        } else {
            out::line(&format!("{output}: {}", words(&report)));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn options(self) -> DiskOptions {
        let kernel =
            self.kernel.map(|kernel| Source::Kernel { kernel, initrd: self.initrd, append: self.append });
        DiskOptions {
            programs: self.images.into_iter().map(Source::Image).chain(kernel).collect(),
            default: self.default,
            data: self.data,
            size: self.size,
            output: self.output,
            overwrite: self.overwrite,
        }
    }
}

fn words(report: &DiskReport) -> String {
    let programs = match report.programs {
        1 => "1 program".to_owned(),
        count => format!("{count} programs"),
    };
    let data = report.data.map(|(block, _)| format!(", data from block {block} (partition 2)"));
    format!("{} bytes, {programs}{}", report.size, data.unwrap_or_default())
}

fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.ok_or_else(|| "write a number of bytes, or one with k, M or G".to_owned())
}
