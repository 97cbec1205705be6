//! Commands that look at guest memory: `x`, `xp`, `memsave`, `pmemsave`, and `print`.
//!
//! All reading is by [`HostMemory::peek`](cloister_platform::HostMemory::peek): the bytes of the host's mapping as
//! they stand. No page is converted, so a protected guest does not notice that somebody looked.

use crate::arguments::Arguments;
use crate::registers::{is_protected, quiet, translate};
use crate::{Answer, Monitor, Refusal};
use cloister_platform::{Vm, VmError};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;

/// Bytes in a page of the guest.
const PAGE: u64 = 4096;

/// Bytes copied to a file at once.
const CHUNK: u64 = 64 * 1024;

const NO_LOGICAL: &str = "the guest is protected: its logical addresses are its own, and private memory has no plaintext for the host; xp \
     shows the host's view of absolute addresses";

const HOSTS_VIEW: &str = "# host's view of a protected guest: ciphertext or nothing where pages are private; no page was converted";

/// `print`.
pub(crate) fn print(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    monitor.format = arguments.format();
    Ok(arguments.format().value(arguments.number(0).unwrap_or(0)) + "\n")
}

/// `x`: logical addresses.
pub(crate) fn x(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    if is_protected(monitor) {
        return Err(Refusal::words(NO_LOGICAL));
    }
    monitor.format = arguments.format();
    let vm = monitor.operator.machine.vm().ok_or_else(|| Refusal::words("Can not dump without CPU"))?;
    quiet(monitor, || dump_values(arguments, |address, to| read_logical(monitor, vm, address, to)))?
}

/// `xp`: absolute addresses, as the host sees them.
pub(crate) fn xp(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    monitor.format = arguments.format();
    let vm = monitor.operator.machine.vm();
    let values =
        dump_values(arguments, |address, to| Ok(vm.is_some_and(|vm| vm.memory().peek(address, to).is_ok())))?;
    match is_protected(monitor) {
        true => Ok(format!("{HOSTS_VIEW}\n{values}")),
        false => Ok(values),
    }
}

/// `memsave`.
pub(crate) fn memsave(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    if is_protected(monitor) {
        return Err(Refusal::words(NO_LOGICAL));
    }
    let vm = monitor
        .operator
        .machine
        .vm()
        .ok_or_else(|| Refusal::error("there is no CPU to translate addresses"))?;
    quiet(monitor, || save(vm, arguments, |address, to| read_logical(monitor, vm, address, to)))?
}

/// `pmemsave`.
pub(crate) fn pmemsave(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let vm = monitor.operator.machine.vm().ok_or_else(|| Refusal::error("the machine has no memory"))?;
    save(vm, arguments, |address, to| Ok(vm.memory().peek(address, to).is_ok()))?;
    match is_protected(monitor) {
        true => Ok(format!("{HOSTS_VIEW}\n")),
        false => Ok(String::new()),
    }
}

/// False: there is no such memory.
type Read<'a> = dyn Fn(u64, &mut [u8]) -> Result<bool, VmError> + 'a;

fn dump_values(arguments: &Arguments, read: impl Fn(u64, &mut [u8]) -> Result<bool, VmError>) -> Answer {
    let format = arguments.format();
    let mut out = String::new();
    let mut address = arguments.number(0).unwrap_or(0);
    // A format is bounded, and so fits.
    let mut left = usize::try_from(format.bytes()).unwrap_or(0);
    let mut buffer = [0; 16];
    while left > 0 {
        let line = &mut buffer[..left.min(format.line())];
        let text = match read(address, line)? {
            true => format.values(line),
            false => " Cannot access memory".to_owned(),
        };
        writeln!(out, "{address:016x}:{text}").expect("a String takes everything");
        if text.ends_with("memory") {
            break;
        }
        left -= line.len();
        address = address.wrapping_add(line.len() as u64);
    }
    Ok(out)
}

/// Across pages, each of which may be elsewhere.
fn read_logical(monitor: &Monitor, vm: &Vm, address: u64, to: &mut [u8]) -> Result<bool, VmError> {
    let mut done = 0;
    while done < to.len() {
        let here = address.wrapping_add(done as u64);
        let in_page = usize::try_from(PAGE - here % PAGE).unwrap_or(1);
        let part = in_page.min(to.len() - done);
        let Some(absolute) = translate(monitor, vm, here)? else { return Ok(false) };
        if vm.memory().peek(absolute, &mut to[done..done + part]).is_err() {
            return Ok(false);
        }
        done += part;
    }
    Ok(true)
}

fn save(vm: &Vm, arguments: &Arguments, read: impl Fn(u64, &mut [u8]) -> Result<bool, VmError>) -> Answer {
    let read: &Read<'_> = &read;
    let (address, size) = (arguments.number(0).unwrap_or(0), arguments.number(1).unwrap_or(0));
    let invalid = || Refusal::error(format!("Invalid addr {address:#018x}/size {size} specified"));
    // More than there is cannot be meant, and would fill the disk.
    if size > vm.memory().size() {
        return Err(invalid());
    }
    let name = arguments.text();
    let fail = |what: &str, error: std::io::Error| {
        Refusal::error(format!("Could not {what} '{name}': {}", reason(&error)))
    };
    let mut buffer = vec![0; usize::try_from(CHUNK.min(size)).unwrap_or(0)];
    // The first bytes are read before the file is touched: a wrong address leaves an older file alone.
    let first = buffer.len();
    if !read(address, &mut buffer[..first])? {
        return Err(invalid());
    }
    let mut file = File::create(name).map_err(|error| fail("open", error))?;
    let mut done = 0;
    while done < size {
        let part = usize::try_from((size - done).min(CHUNK)).unwrap_or(0);
        if done > 0 && !read(address.wrapping_add(done), &mut buffer[..part])? {
            return Err(invalid());
        }
        file.write_all(&buffer[..part]).map_err(|error| fail("write", error))?;
        done += part as u64;
    }
    Ok(String::new())
}

/// Without "(os error N)".
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
