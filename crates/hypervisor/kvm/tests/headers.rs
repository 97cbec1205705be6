//! Our numbers and structures against the kernel's own headers, through the host's C compiler.
//!
//! Debian's packages: linux-libc-dev for the host, linux-libc-dev-ppc64el-cross and linux-libc-dev-s390x-cross
//! for the encodings of the other two mechanisms' architectures. `CLOISTER_CROSS_HEADERS` names another folder
//! than /usr for the latter. Without compiler or headers the tests say so and pass, except in CI. What is newer
//! than the installed headers is checked against kvm-bindings.

#![expect(clippy::unwrap_used, reason = "a failure of a helper is a failure of the test")]

use cloister_kvm::{Capability, Encoding, LAYOUTS, Layout, REQUESTS, VmType};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn numbers_and_structures_are_those_of_the_installed_headers() {
    let checked = compare(&[], Encoding::Generic, Path::new("/usr/include"));
    if let Some(checked) = checked {
        // Debian 12 (Linux 6.1) lacks INIT2 and the asynchronous cleanup, and nothing else.
        assert!(checked > 180, "only {checked} values are in the headers");
    }
}

#[test]
fn numbers_are_those_of_power() {
    cross("powerpc64le-linux-gnu", Encoding::Power);
}

#[test]
fn numbers_are_those_of_s390x() {
    cross("s390x-linux-gnu", Encoding::Generic);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn what_is_newer_than_the_headers_is_as_in_kvm_bindings() {
    use kvm_bindings as kernel;
    let command = |name| REQUESTS.iter().find(|request| request.name() == name).unwrap().command();
    let layout = |name| LAYOUTS.iter().find(|layout| layout.name == name).unwrap();
    assert_eq!(command("KVM_SEV_INIT2"), Some(kernel::sev_cmd_id_KVM_SEV_INIT2));
    let init = layout("struct kvm_sev_init");
    assert_eq!(init.size, size_of::<kernel::kvm_sev_init>());
    assert_eq!(init.fields[2], ("ghcb_version", std::mem::offset_of!(kernel::kvm_sev_init, ghcb_version)));
    assert_eq!(Capability::VM_TYPES.0, kernel::KVM_CAP_VM_TYPES);
    assert_eq!(Capability::GUEST_MEMFD.0, kernel::KVM_CAP_GUEST_MEMFD);
    assert_eq!(Capability::MEMORY_ATTRIBUTES.0, kernel::KVM_CAP_MEMORY_ATTRIBUTES);
    assert_eq!(Capability::S390_PROTECTED_ASYNC_DISABLE.0, kernel::KVM_CAP_S390_PROTECTED_ASYNC_DISABLE);
    assert_eq!(VmType::SEV.0, kernel::KVM_X86_SEV_VM);
    assert_eq!(VmType::SEV_ES.0, kernel::KVM_X86_SEV_ES_VM);
    assert_eq!(VmType::SNP.0, kernel::KVM_X86_SNP_VM);
}

fn cross(triplet: &str, encoding: Encoding) {
    let base = std::env::var_os("CLOISTER_CROSS_HEADERS").map_or_else(|| "/usr".into(), PathBuf::from);
    let folder = base.join(triplet).join("include");
    let include = folder.display().to_string();
    // The compiler's own headers are for the host; those of the kernel need nothing of them.
    if let Some(checked) = compare(&["-nostdinc", "-isystem", &include], encoding, &folder) {
        assert!(checked > 100, "only {checked} values are in the headers");
    }
}

/// How many of our values the headers have. Panics when one of them differs.
fn compare(flags: &[&str], encoding: Encoding, folder: &Path) -> Option<usize> {
    if !folder.join("linux/kvm.h").exists() {
        return missing(&format!(
            "{} is not there (package linux-libc-dev...)",
            folder.join("linux/kvm.h").display()
        ));
    }
    let mut ours = ours(encoding);
    if !flags.is_empty() || !cfg!(target_arch = "x86_64") {
        // Registers have these names everywhere; ours are those of x86.
        ours.retain(|expression, _| {
            !["regs", "REGS", "kvm_segment", "kvm_dtable"].iter().any(|name| expression.contains(name))
        });
    }
    let theirs = match theirs(flags, folder, &ours) {
        Ok(theirs) => theirs,
        Err(reason) => return missing(&reason),
    };
    let different: Vec<_> = theirs
        .iter()
        .filter(|(expression, value)| ours[*expression] != **value)
        .map(|(expression, value)| format!("{expression}: theirs {value:#x}, ours {:#x}", ours[expression]))
        .collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
    let absent: Vec<_> = ours.keys().filter(|expression| !theirs.contains_key(*expression)).collect();
    println!("{}: {} values agree; not in these headers: {absent:?}", folder.display(), theirs.len());
    Some(theirs.len())
}

fn missing(reason: &str) -> Option<usize> {
    assert!(std::env::var_os("CI").is_none(), "not checked, but must be in CI: {reason}");
    println!("not checked: {reason}");
    None
}

/// Our values by the C expression that has them.
fn ours(encoding: Encoding) -> BTreeMap<String, u64> {
    let mut values = BTreeMap::new();
    for request in REQUESTS {
        let carrier = match request.name() {
            name if name.starts_with("KVM_SEV_") => "KVM_MEMORY_ENCRYPT_OP",
            name if name.starts_with("SEV_") => "SEV_ISSUE_CMD",
            // The two have the same commands.
            name if name.starts_with("KVM_PV_") && request.ioctl().number(encoding) & 0xff == 0xd0 => {
                "KVM_S390_PV_CPU_COMMAND"
            }
            name if name.starts_with("KVM_PV_") => "KVM_S390_PV_COMMAND",
            name => name,
        };
        values.insert(carrier.to_owned(), request.ioctl().number(encoding).into());
        if let Some(command) = request.command() {
            values.insert(request.name().to_owned(), command.into());
        }
    }
    for (capability, name) in Capability::ALL.iter().chain(Capability::MAKING) {
        values.insert((*name).to_owned(), capability.0.into());
    }
    for Layout { name, size, fields, .. } in LAYOUTS {
        values.insert(format!("sizeof({name})"), *size as u64);
        for (field, offset) in fields.iter().filter(|(field, _)| !field.starts_with("pad")) {
            values.insert(format!("__builtin_offsetof({name}, {field})"), *offset as u64);
        }
    }
    values
}

/// The headers' values of those expressions that they know. The compiler answers by the sizes of arrays in an
/// object file's listing: nothing is run, so that headers of another architecture serve as well.
fn theirs(
    flags: &[&str],
    folder: &Path,
    ours: &BTreeMap<String, u64>,
) -> Result<BTreeMap<String, u64>, String> {
    let scratch = tempfile::tempdir().unwrap();
    let mut known: Vec<&str> = ours.keys().map(String::as_str).collect();
    // Whatever the compiler does not know is left out, by the line it complains of.
    for _ in 0..2 {
        let mut source = String::from("#include <linux/kvm.h>\n");
        if folder.join("linux/psp-sev.h").exists() {
            source.push_str("#include <linux/psp-sev.h>\n");
        }
        for (index, expression) in known.iter().enumerate() {
            writeln!(
                source,
                "#line {} \"ours\"\nunsigned long long value_{index} = {expression};",
                index + 1
            )
            .unwrap();
        }
        let file = scratch.path().join("values.c");
        std::fs::write(&file, source).unwrap();
        let output = Command::new("cc")
            .args(["-S", "-O1", "-fno-common", "-fmax-errors=0", "-o", "-", "-x", "c"])
            .args(flags)
            .arg(&file)
            .env("LC_ALL", "C")
            .output()
            .map_err(|error| format!("there is no C compiler (cc): {error}"))?;
        if output.status.success() {
            return Ok(values(&String::from_utf8_lossy(&output.stdout), &known));
        }
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        let unknown: Vec<usize> = complaints
            .lines()
            .filter(|line| line.contains("error:"))
            .filter_map(|line| line.strip_prefix("ours:")?.split(':').next()?.parse().ok())
            .collect();
        if unknown.is_empty() {
            return Err(format!("the C compiler cannot read these headers: {complaints}"));
        }
        known = known
            .into_iter()
            .enumerate()
            .filter(|(index, _)| !unknown.contains(&(index + 1)))
            .map(|(_, expression)| expression)
            .collect();
    }
    Err("the C compiler complains again and again".to_owned())
}

/// Values out of an assembly listing: `value_N:` and then `.quad NUMBER`, or `.zero 8`.
fn values(listing: &str, known: &[&str]) -> BTreeMap<String, u64> {
    let mut values = BTreeMap::new();
    let mut current = None;
    for line in listing.lines().map(str::trim) {
        if let Some(index) = line.strip_prefix("value_").and_then(|rest| rest.strip_suffix(':')) {
            current = Some(index.parse::<usize>().unwrap());
        } else if let (Some(index), Some(value)) = (current, number(line)) {
            values.insert(known[index].to_owned(), value);
            current = None;
        }
    }
    assert_eq!(values.len(), known.len(), "the compiler's listing has another form");
    values
}

fn number(line: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    let directive = words.next()?;
    let value = words.next()?;
    match directive {
        ".zero" | ".skip" | ".space" => Some(0),
        ".quad" | ".xword" | ".8byte" | ".dword" => value.parse::<i128>().ok().map(|value| value as u64),
        _ => None,
    }
}
