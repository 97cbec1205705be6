//! What a half-typed line could become: commands, subcommands of `info`, ids, types, file names.
//!
//! It follows the parameters in the table of commands, and looks at nothing but the machine's lists and, for a file
//! name, one folder.

use crate::arguments::{Completes, Kind, split_word};
use crate::table::{self, COMMANDS, INFO};
use crate::{MOST_LINE, Monitor};
use cloister_control::Operator;
use std::path::Path;

/// Most proposals at once.
const MOST: usize = 256;

/// Most entries of a folder that are looked at.
const MOST_ENTRIES: usize = 4096;

/// Proposals for the last word of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completions {
    /// Where in the line the word begins, in bytes.
    pub start: usize,
    /// What it can become, sorted.
    pub words: Vec<String>,
    /// Whether more follows a word (a folder, a device with properties), so that no blank does.
    pub open: bool,
}

impl Monitor {
    /// Proposals for the end of `line`.
    pub fn complete(&self, line: &str) -> Completions {
        if line.len() > MOST_LINE {
            return Completions::default();
        }
        let (before, last) = line.split_at(last_word(line));
        let mut words = before.split_ascii_whitespace();
        let Some(name) = words.next() else { return proposals(before, last, names(COMMANDS)) };
        let given = words.count();
        if matches!(name, "help" | "?" | "info") {
            let in_info = name == "info" || before.split_ascii_whitespace().nth(1) == Some("info");
            let allowed = if name == "info" || !in_info { 0 } else { 1 };
            if given == allowed {
                return proposals(before, last, names(if in_info { INFO } else { COMMANDS }));
            }
            if name != "info" {
                return Completions::default();
            }
        }
        let (parameters, given) = if name == "info" {
            let sub = split_word(before.trim_ascii_start()).1.trim_ascii_start();
            let Some(known) = table::find(INFO, split_word(sub).0) else { return Completions::default() };
            (known.parameters, given.saturating_sub(1))
        } else {
            let Some(known) = table::find(COMMANDS, name.split('/').next().unwrap_or_default()) else {
                return Completions::default();
            };
            (known.parameters, given)
        };
        let flags = before.split_ascii_whitespace().skip(1).filter(|word| word.starts_with('-')).count();
        let mut wanted = parameters.iter().filter(|p| !matches!(p.kind, Kind::Flag(_) | Kind::Format));
        match wanted.nth(given.saturating_sub(flags)).map(|parameter| parameter.kind) {
            Some(Kind::File | Kind::Filename) => files(before, last),
            Some(Kind::Word(completes) | Kind::Rest(completes)) => {
                proposals(before, last, self.proposals_for(completes))
            }
            _ => Completions::default(),
        }
    }

    fn proposals_for(&self, completes: Completes) -> Vec<String> {
        let Operator { machine, catalogue, .. } = &self.operator;
        match completes {
            Completes::Nothing | Completes::Command | Completes::Info => Vec::new(),
            Completes::DeviceId => machine.devices().into_iter().filter_map(|device| device.id).collect(),
            Completes::ObjectId => machine.objects().into_iter().map(|object| object.id).collect(),
            Completes::DeviceType => {
                catalogue.devices().iter().map(|device| device.name.to_owned()).collect()
            }
            Completes::ObjectType => catalogue.objects().map(|object| object.name.to_owned()).collect(),
            Completes::Block => machine.blocks().into_iter().map(|block| block.device).collect(),
            Completes::Migration => ["tcp:", "unix:", "exec:", "fd:"].map(str::to_owned).to_vec(),
        }
    }
}

fn names(table: &'static [table::Command]) -> Vec<String> {
    table.iter().flat_map(table::Command::names).map(str::to_owned).collect()
}

fn proposals(before: &str, last: &str, mut words: Vec<String>) -> Completions {
    words.retain(|word| word.starts_with(last));
    finish(before.len(), words)
}

fn files(before: &str, last: &str) -> Completions {
    let (folder, name) =
        last.rsplit_once('/').map_or(("", last), |_| last.split_at(last.rfind('/').unwrap_or(0) + 1));
    let place = if folder.is_empty() { Path::new(".") } else { Path::new(folder) };
    let Ok(entries) = std::fs::read_dir(place) else { return Completions::default() };
    let mut words = Vec::new();
    for entry in entries.take(MOST_ENTRIES).flatten() {
        // A name that is not plain text cannot be typed here.
        let Ok(found) = entry.file_name().into_string() else { continue };
        if found.starts_with(name) && !found.contains(|c: char| c.is_control() || c == ' ' || c == '"') {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            words.push(format!("{folder}{found}{slash}"));
        }
    }
    finish(before.len(), words)
}

fn finish(start: usize, mut words: Vec<String>) -> Completions {
    words.sort();
    words.dedup();
    words.truncate(MOST);
    let open = words.len() == 1 && words[0].ends_with(['/', ':']);
    Completions { start, words, open }
}

/// Where the last word begins; the line's end if it ends with a blank.
fn last_word(line: &str) -> usize {
    line.rfind(|c: char| c.is_ascii_whitespace()).map_or(0, |at| at + 1)
}
