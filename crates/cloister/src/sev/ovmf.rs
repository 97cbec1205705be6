//! `cloister sev ovmf`.

use super::files::{name, read};
use super::hex;
use crate::out;
use clap::{Args, Subcommand};
use cloister_crypto::sha256;
use cloister_formats::sev::guid::Guid;
use cloister_formats::sev::ovmf::{
    Area, HASHES_AREA, METADATA, MetadataSection, RESET_BLOCK, SECRET_AREA, SVSM_INFO, TDX_METADATA, Table,
    reset_address,
};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Ovmf {
    /// Show what a firmware image offers to SEV guests: reset address, secret area, area for kernel hashes
    Show(Show),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The firmware image
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Ovmf {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Show(show) = self;
        show.run()
    }
}

impl Show {
    fn run(self) -> anyhow::Result<ExitCode> {
        let image = read(&self.file, MAX_IMAGE)?;
        let table = Table::find(&image).map_err(|error| anyhow::anyhow!("{}: {error}", name(&self.file)))?;
        let reset = reset_address(&image);
        let secret = table.as_ref().and_then(Table::secret_area);
        let hashes = table.as_ref().and_then(|table| table.area(HASHES_AREA));
        let usable = table.as_ref().map(Table::hashes_area);
        let metadata = table.as_ref().and_then(|table| table.metadata(&image));
        let entries: Vec<(Guid, usize)> =
            table.iter().flat_map(Table::entries).map(|(guid, data)| (guid, data.len())).collect();
        if self.json {
            let area = |area: Option<Area>| area.map(|area| json!({"base": area.base, "size": area.size}));
            let section = |section: &MetadataSection| json!({"base": section.base, "size": section.size, "type": section.kind, "name": kind_name(section.kind)});
            let shown = json!({
                "file": name(&self.file),
                "bytes": image.len(),
                "sha256": hex(&sha256(&image)),
                "table": table.is_some(),
                "reset_address": reset.ok(),
                "secret_area": area(secret),
                "hashes_area": area(hashes),
                "kernel_hashes_possible": matches!(usable, Some(Ok(_))),
                "metadata": metadata.map(|sections| sections.iter().map(section).collect::<Value>()),
                "entries": entries
                    .iter()
                    .map(|(guid, size)| json!({"guid": guid.to_string(), "name": entry_name(*guid), "bytes": size}))
                    .collect::<Vec<_>>(),
            });
            out::line(&format!("{shown:#}"));
            return Ok(ExitCode::SUCCESS);
        }
        out::line(&format!("{}: {} bytes, sha256 {}", name(&self.file), image.len(), hex(&sha256(&image))));
        if table.is_none() {
            out::line("no table of GUIDs: this is not an OVMF image, or a part without the reset code");
        }
        match reset {
            Ok(address) => out::line(&format!("SEV-ES reset address   {address:#x}")),
            Err(error) => {
                out::line(&format!("SEV-ES reset address   none ({error}): one CPU at most under SEV-ES"))
            }
        }
        match secret {
            Some(Area { base: 0, size: 0 }) => out::line(
                "secret area            0, 0 bytes: a secret without an explicit gpa goes to address 0 (not AmdSev's build)",
            ),
            Some(area) => out::line(&format!("secret area            {:#x}, {} bytes", area.base, area.size)),
            None => out::line("secret area            none: a secret needs an explicit gpa"),
        }
        match usable {
            Some(Ok(area)) => {
                out::line(&format!("area for kernel hashes {:#x}, {} bytes", area.base, area.size))
            }
            Some(Err(error)) => {
                out::line(&format!("area for kernel hashes none: kernel-hashes=on fails ({error})"))
            }
            None => out::line("area for kernel hashes none: kernel-hashes=on fails"),
        }
        for section in metadata.iter().flatten() {
            let MetadataSection { base, size, kind } = section;
            out::line(&format!("metadata               {base:#x}, {size} bytes, {}", kind_name(*kind)));
        }
        for (guid, size) in &entries {
            out::line(&format!("entry                  {guid}, {size} bytes, {}", entry_name(*guid)));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn entry_name(guid: Guid) -> &'static str {
    match guid {
        RESET_BLOCK => "SEV-ES reset block",
        SECRET_AREA => "SEV secret area",
        HASHES_AREA => "SEV kernel hashes area",
        METADATA => "SEV metadata",
        TDX_METADATA => "TDX metadata",
        SVSM_INFO => "SVSM information",
        _ => "unknown",
    }
}

const fn kind_name(kind: u32) -> &'static str {
    match kind {
        1 => "SNP memory",
        2 => "SNP secrets",
        3 => "CPUID",
        4 => "SVSM calling area",
        0x10 => "SNP kernel hashes",
        _ => "unknown",
    }
}

/// Larger than any firmware that QEMU takes.
const MAX_IMAGE: u64 = 256 << 20;
