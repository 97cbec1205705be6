//! Taking in one option each: its own form is checked here, its references to others in [`super::finish`].

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{Builder, Given};
use crate::blockdev::{DetectZeroes, parse_blockdev_text};
use crate::command_line::{
    AccelSpec, Display, Drive, DriveFormat, DriveInterface, DriveMedia, ErrorAction, Icount, IcountShift,
    RtcBase, RtcClock,
};
use crate::error::Problem;
use crate::flat::parse_flat;
use crate::help::{self, Topic};
use crate::invocation::Target;
use crate::items::{self, Read, Source};
use crate::keyval::parse_keyval;
use crate::schema::{Schema, Words};
use crate::value::parse_number;
use crate::version::version_text;

type Taken = Result<(), Problem>;

pub(crate) fn help(b: &mut Builder<'_>, _: &Given<'_>) -> Taken {
    b.print_now = Some(help::usage(b.program));
    Ok(())
}

pub(crate) fn version(b: &mut Builder<'_>, _: &Given<'_>) -> Taken {
    b.print_now = Some(version_text());
    Ok(())
}

pub(crate) fn not_available(_: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    Err(Problem::NotAvailable(format!("-{}", given.name), String::new()))
}

// Machine, CPUs, memory.

pub(crate) fn machine(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let parsed = parse_keyval(given.value, Some("type"))?;
    if parsed.help {
        b.ask(match parsed.tree.get("type") {
            None => Topic::Machines,
            Some(_) => Topic::MachineProperties,
        });
    }
    merge(&mut b.machine, parsed.tree, "")
}

pub(crate) fn smp(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let parsed = parse_keyval(given.value, given.spec.implied)?;
    if parsed.help {
        b.ask(Topic::Option("smp"));
    }
    merge(&mut b.smp, parsed.tree, "smp")
}

pub(crate) fn boot(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let parsed = parse_keyval(given.value, given.spec.implied)?;
    if parsed.help {
        b.ask(Topic::Option("boot"));
    }
    merge(&mut b.boot, parsed.tree, "boot")
}

pub(crate) fn cpu(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    if given.value.split(',').any(|word| word == "help" || word == "?") {
        b.ask(Topic::Cpus);
    }
    b.cpu = Some(given.value.to_owned());
    Ok(())
}

pub(crate) fn accel(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let flat = given.flat(true)?;
    b.warn(given, flat.warnings.clone());
    let name = flat.get("accel").unwrap_or_default().to_owned();
    if flat.help || name.is_empty() {
        b.ask(Topic::Accelerators);
        return Ok(());
    }
    // One that this build lacks is skipped if another follows, its properties unread.
    if !b.catalogue.accelerators().contains(&name.as_str()) {
        b.accel.push((AccelSpec::named(&name), given.location.clone()));
        return Ok(());
    }
    let class = format!("{name}-accel");
    let properties =
        Schema { class: &class, keys: given.spec.keys, words: Words::Device }.read_flat(&flat, &[])?;
    let multi_threaded = match properties.text("thread") {
        None => None,
        Some("single") => Some(false),
        Some("multi") => Some(true),
        Some(other) => return Err(Problem::AccelThread(other.to_owned())),
    };
    if let Some(other) = properties.text("door").filter(|door| !matches!(*door, "direct" | "loopback")) {
        return Err(Problem::DoesNotAccept { name: "door".into(), value: other.to_owned() });
    }
    b.accel.push((AccelSpec { name, multi_threaded, properties }, given.location.clone()));
    Ok(())
}

pub(crate) fn memory(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let mut flat = given.flat(true)?;
    b.warn(given, std::mem::take(&mut flat.warnings));
    // QEMU takes an unknown word for a size here, help included.
    if flat.help {
        return Err(Problem::NotASize("size".to_owned()));
    }
    // maxmem is a size with the words of a size in MiB.
    let properties = given.keys(&flat, &[]).map_err(|problem| match problem {
        Problem::Expects { name, what: "a size value" } => Problem::NotASize(name),
        other => other,
    })?;
    b.memory.merge(properties);
    Ok(())
}

/// As `-machine accel=kvm`.
pub(crate) fn enable_kvm(b: &mut Builder<'_>, _: &Given<'_>) -> Taken {
    b.machine.insert("accel".to_owned(), Value::String("kvm".to_owned()));
    Ok(())
}

pub(crate) fn mem_path(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    b.line.memory_path = Some(given.value.to_owned());
    Ok(())
}

pub(crate) fn mem_prealloc(b: &mut Builder<'_>, _: &Given<'_>) -> Taken {
    b.line.memory_preallocate = true;
    Ok(())
}

pub(crate) fn platform(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    b.line.platform = Some(given.value.to_owned());
    Ok(())
}

// Objects, devices, drives.

pub(crate) fn object(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let json = json_members(given.value)?;
    let source = source(json.as_ref(), given.value, "qom-type")?;
    b.warnings.extend(source.warnings(&given.location));
    match items::object(b.catalogue, &source, &given.location)? {
        Read::Help(topic) => b.ask(topic),
        Read::Item(object) => b.objects.push(object),
    }
    Ok(())
}

pub(crate) fn device(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let json = json_members(given.value)?;
    let source = source(json.as_ref(), given.value, "driver")?;
    b.warnings.extend(source.warnings(&given.location));
    match items::device(b.catalogue, &source, &given.location)? {
        Read::Help(topic) => b.ask(topic),
        Read::Item(device) => b.devices.push(device),
    }
    Ok(())
}

fn source<'a>(
    json: Option<&'a Map<String, Value>>,
    text: &str,
    implied: &str,
) -> Result<Source<'a>, Problem> {
    match json {
        Some(members) => Ok(Source::Json(members)),
        None => Ok(Source::Flat(parse_flat(text, Some(implied), true)?)),
    }
}

pub(crate) fn drive(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let mut flat = given.flat(true)?;
    b.warn(given, std::mem::take(&mut flat.warnings));
    let format_name = flat.get("format").or(flat.get("driver")).unwrap_or("raw").to_owned();
    if format_name == "help" || format_name == "?" {
        b.ask(Topic::DriveFormats);
        return Ok(());
    }
    let properties = given.keys(&flat, &[]).map_err(|problem| match problem {
        Problem::InvalidParameter(_) if flat.get("file").is_none() => Problem::DriveWithoutFile,
        Problem::InvalidParameter(name) => Problem::BlockOption { format: format_name.clone(), name },
        // QEMU knows both spellings and reports the newer one.
        Problem::Expects { name, what } if name == "readonly" => {
            Problem::Expects { name: "read-only".to_owned(), what }
        }
        other => other,
    })?;
    let small = |name| properties.number(name).map(|index| u32::try_from(index).unwrap_or(u32::MAX));
    let index = match (small("index"), small("unit")) {
        (Some(_), Some(_)) => return Err(Problem::DriveIndexAndUnit),
        (index, unit) => index.or(unit),
    };
    let interface = match properties.text("if").unwrap_or("virtio") {
        "virtio" => DriveInterface::Virtio,
        "none" => DriveInterface::None,
        "pflash" if b.catalogue.target() == Target::X86_64 => DriveInterface::Pflash,
        bus @ ("ide" | "scsi" | "floppy" | "pflash" | "mtd" | "sd" | "xen") => {
            return Err(Problem::DriveBusHere { bus: bus.to_owned(), unit: index.unwrap_or(0) });
        }
        other => return Err(Problem::DriveBus(other.to_owned())),
    };
    if properties.text("format").is_some() && properties.text("driver").is_some() {
        return Err(Problem::DriveDriverAndFormat);
    }
    let format = match properties.text("format").or(properties.text("driver")) {
        None => None,
        Some("raw") => Some(DriveFormat::Raw),
        Some("qcow2") => Some(DriveFormat::Qcow2),
        Some(other) => return Err(Problem::UnknownDriver(other.to_owned())),
    };
    let media = match properties.text("media").unwrap_or("disk") {
        "disk" => DriveMedia::Disk,
        "cdrom" => DriveMedia::Cdrom,
        other => return Err(Problem::Media(other.to_owned())),
    };
    let cache = properties.text("cache").map(str::to_owned);
    if let Some(mode) = &cache
        && !["none", "off", "writeback", "writethrough", "directsync", "unsafe"].contains(&mode.as_str())
    {
        return Err(Problem::CacheMode);
    }
    let action = |name, reads: bool| match properties.text(name) {
        None => Ok(None),
        Some(word) => match ErrorAction::from_name(word) {
            Some(ErrorAction::Enospc) if reads => Err(Problem::ReadErrorAction(word.to_owned())),
            Some(action) => Ok(Some(action)),
            None if reads => Err(Problem::ReadErrorAction(word.to_owned())),
            None => Err(Problem::WriteErrorAction(word.to_owned())),
        },
    };
    let (write_error, read_error) = (action("werror", false)?, action("rerror", true)?);
    let discard = matches!(properties.text("discard"), Some("unmap" | "on"));
    let detect_zeroes = match properties.text("detect-zeroes") {
        Some("on") => DetectZeroes::On,
        Some("unmap") if !discard => return Err(Problem::DetectZeroesUnmap),
        Some("unmap") => DetectZeroes::Unmap,
        _ => DetectZeroes::Off,
    };
    let file = properties.text("file").map(PathBuf::from);
    if file.is_none() && interface != DriveInterface::None {
        return Err(Problem::DriveEmpty);
    }
    b.drives.push(Drive {
        id: flat.id,
        file,
        interface,
        format,
        media,
        read_only: properties
            .bool("readonly")
            .or(properties.bool("read-only"))
            .unwrap_or(media == DriveMedia::Cdrom),
        snapshot: properties.bool("snapshot").unwrap_or(false),
        cache,
        index,
        node_name: properties.text("node-name").map(str::to_owned),
        discard,
        detect_zeroes,
        write_error,
        read_error,
        node: None,
        location: given.location.clone(),
    });
    Ok(())
}

pub(crate) fn blockdev(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let blockdev = parse_blockdev_text(given.value, &given.location)?;
    b.blockdevs.push((blockdev, given.location.clone()));
    Ok(())
}

/// As `-drive if=pflash,file=FILE`.
pub(crate) fn pflash(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    if b.catalogue.target() != Target::X86_64 {
        return Err(Problem::DriveBusHere { bus: "pflash".to_owned(), unit: 0 });
    }
    b.drives.push(image(DriveInterface::Pflash, None, given));
    Ok(())
}

fn image(interface: DriveInterface, index: Option<u32>, given: &Given<'_>) -> Drive {
    Drive {
        id: None,
        file: Some(PathBuf::from(given.value)),
        interface,
        format: None,
        media: DriveMedia::Disk,
        read_only: false,
        snapshot: false,
        cache: None,
        index,
        node_name: None,
        discard: false,
        detect_zeroes: DetectZeroes::Off,
        write_error: None,
        read_error: None,
        node: None,
        location: given.location.clone(),
    }
}

pub(crate) fn disk_image(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let index = match given.name {
        "hdb" => 1,
        "hdc" => 2,
        "hdd" => 3,
        _ => 0,
    };
    b.drives.push(image(DriveInterface::Virtio, Some(index), given));
    Ok(())
}

pub(crate) fn snapshot(b: &mut Builder<'_>, _: &Given<'_>) -> Taken {
    b.snapshot = true;
    Ok(())
}

// Display.

pub(crate) fn nographic(b: &mut Builder<'_>, _: &Given<'_>) -> Taken {
    b.line.display = Display::Nographic;
    Ok(())
}

pub(crate) fn display(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let parsed = parse_keyval(given.value, Some("type"))?;
    let kind = parsed.tree.get("type").and_then(Value::as_str);
    match kind {
        _ if parsed.help => {
            b.print_now = Some("Available display backend types:\nnone\n".to_owned());
            Ok(())
        }
        Some("none") => {
            if let Some(name) = parsed.tree.keys().find(|name| *name != "type") {
                return Err(Problem::Unexpected(name.clone()));
            }
            if b.line.display == Display::Default {
                b.line.display = Display::None;
            }
            Ok(())
        }
        Some(
            name @ ("default" | "gtk" | "sdl" | "egl-headless" | "curses" | "cocoa" | "spice-app" | "dbus"
            | "vnc"),
        ) => Err(Problem::NotAvailable(
            format!("display '{name}'"),
            "; use -display none or -nographic".to_owned(),
        )),
        Some(other) => Err(Problem::DoesNotAccept { name: "type".to_owned(), value: other.to_owned() }),
        None => Err(Problem::Missing("type".to_owned())),
    }
}

pub(crate) fn vga(_: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    match given.value {
        "none" => Ok(()),
        other => Err(Problem::NotAvailable(format!("graphics card '{other}'"), "; use -vga none".to_owned())),
    }
}

// Boot image.

pub(crate) fn kernel(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    b.line.kernel = Some(given.value.to_owned());
    Ok(())
}

pub(crate) fn initrd(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    b.line.initrd = Some(given.value.to_owned());
    Ok(())
}

pub(crate) fn append(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    b.line.append = Some(given.value.to_owned());
    Ok(())
}

pub(crate) fn bios(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    b.line.bios = Some(given.value.to_owned());
    Ok(())
}

pub(crate) fn firmware_folder(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    b.line.firmware_folders.push(given.value.to_owned());
    Ok(())
}

// The rest.

pub(crate) fn name(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let properties = simple(b, given)?;
    if let Some(guest) = properties.text("guest") {
        b.line.name = Some(guest.to_owned());
    }
    if let Some(process) = properties.text("process") {
        b.line.process_name = Some(process.to_owned());
    }
    b.line.debug_threads = properties.bool("debug-threads").unwrap_or(b.line.debug_threads);
    Ok(())
}

pub(crate) fn uuid(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    b.line.uuid = Some(parse_uuid(given.value).ok_or(Problem::Uuid)?);
    Ok(())
}

pub(crate) fn rtc(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let properties = simple(b, given)?;
    match properties.text("base") {
        None => {}
        Some("utc") => b.rtc.base = RtcBase::Utc,
        Some("localtime") => b.rtc.base = RtcBase::LocalTime,
        Some(date) => {
            b.rtc.base = RtcBase::Seconds(parse_date(date).ok_or(Problem::DateTime)?);
        }
    }
    match properties.text("clock") {
        None => {}
        Some("host") => b.rtc.clock = RtcClock::Host,
        Some("rt") => b.rtc.clock = RtcClock::Rt,
        Some("vm") => b.rtc.clock = RtcClock::Vm,
        Some(other) => return Err(Problem::InvalidValue(other.to_owned())),
    }
    match properties.text("driftfix") {
        None | Some("none" | "slew") => Ok(()),
        Some(other) => Err(Problem::InvalidValue(other.to_owned())),
    }
}

pub(crate) fn msg(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let properties = simple(b, given)?;
    b.line.message_timestamps = properties.bool("timestamp").unwrap_or(b.line.message_timestamps);
    b.line.message_guest_name = properties.bool("guest-name").unwrap_or(b.line.message_guest_name);
    Ok(())
}

pub(crate) fn overcommit(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    simple(b, given).map(|_| ())
}

pub(crate) fn icount(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let properties = simple(b, given)?;
    if ["rr", "rrfile", "rrsnapshot"].iter().any(|key| properties.text(key).is_some()) {
        return Err(Problem::NotAvailable(
            "recording and replaying".to_owned(),
            "; -icount with sleep=off and -seed make a run reproducible".to_owned(),
        ));
    }
    let sleep = properties.bool("sleep").unwrap_or(true);
    let align = properties.bool("align").unwrap_or(false);
    let shift = match properties.text("shift") {
        None if align => return Err(Problem::IcountAlign),
        None => return Ok(()),
        Some("auto") => IcountShift::Auto,
        Some(text) => {
            IcountShift::Fixed(text.parse().ok().filter(|shift| *shift <= 10).ok_or(Problem::IcountShift)?)
        }
    };
    if align && !sleep {
        return Err(Problem::IcountAlignSleep);
    }
    b.icount = Some(Icount { shift, sleep, align });
    Ok(())
}

pub(crate) fn seed(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    let seed = parse_number(given.value).ok_or_else(|| Problem::Seed(given.value.to_owned()))?;
    b.line.seed = Some(seed);
    Ok(())
}

pub(crate) fn inject(b: &mut Builder<'_>, given: &Given<'_>) -> Taken {
    b.line.injections.push(crate::inject::Injection::parse(given.value)?);
    Ok(())
}

pub(crate) fn nodefaults(b: &mut Builder<'_>, _: &Given<'_>) -> Taken {
    b.line.no_defaults = true;
    Ok(())
}

pub(crate) fn no_user_config(b: &mut Builder<'_>, _: &Given<'_>) -> Taken {
    b.line.no_user_config = true;
    Ok(())
}

pub(crate) fn stopped(b: &mut Builder<'_>, _: &Given<'_>) -> Taken {
    b.line.stopped = true;
    Ok(())
}

pub(crate) fn only_migratable(b: &mut Builder<'_>, _: &Given<'_>) -> Taken {
    b.line.only_migratable = true;
    Ok(())
}

/// An option with nothing but the keys of the table.
pub(super) fn simple(b: &mut Builder<'_>, given: &Given<'_>) -> Result<crate::schema::Properties, Problem> {
    let mut flat = given.flat(true)?;
    b.warn(given, std::mem::take(&mut flat.warnings));
    if flat.help {
        b.ask(Topic::Option(given.spec.name));
    }
    given.keys(&flat, &[])
}

/// Merge a later occurrence of an option into the earlier ones.
fn merge(into: &mut Map<String, Value>, later: Map<String, Value>, path: &str) -> Taken {
    for (key, value) in later {
        let below = match path {
            "" => key.clone(),
            _ => format!("{path}.{key}"),
        };
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new, &below)?,
            (Some(Value::Object(_)), _) | (Some(_), Value::Object(_)) => {
                return Err(Problem::Inconsistent(below));
            }
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
    Ok(())
}

/// The members of an argument in JSON form, if it is one.
pub(crate) fn json_members(text: &str) -> Result<Option<Map<String, Value>>, Problem> {
    if !text.starts_with('{') {
        return Ok(None);
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        Some(Ok(Value::Object(members))) => {
            // Anything but white space after the value is one value too many.
            match text[values.byte_offset()..].trim().is_empty() {
                true => Ok(Some(members)),
                false => Err(Problem::TrailingJson),
            }
        }
        Some(Err(error)) => Err(Problem::Json(error.to_string())),
        Some(Ok(_)) | None => Err(Problem::Json("expecting an object".to_owned())),
    }
}

pub(crate) fn json_text(members: &Map<String, Value>, name: &str) -> Result<Option<String>, Problem> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Problem::WrongType { name: name.to_owned(), expected: "string" }),
    }
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    if text.len() != 36 || !text.is_ascii() {
        return None;
    }
    let mut out = [0; 16];
    let mut digits = 0;
    for (index, character) in text.chars().enumerate() {
        if DASHES.contains(&index) {
            if character != '-' {
                return None;
            }
            continue;
        }
        let digit = u8::try_from(character.to_digit(16)?).ok()?;
        let byte: &mut u8 = out.get_mut(digits / 2)?;
        *byte = *byte << 4 | digit;
        digits += 1;
    }
    Some(out)
}

/// Seconds since 1970 of `2006-06-17T16:01:21` or `2006-06-17`.
fn parse_date(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let three = |text: &str, separator| -> Option<[i64; 3]> {
        let mut parts = text
            .split(separator)
            .map(|part| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i64>().ok()).flatten());
        let out = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(out)
    };
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(time, ':')?;
    let in_range = (1900..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return None;
    }
    // Days of the proleptic Gregorian calendar, counted in years that begin with March.
    let (y, m) = match month > 2 {
        true => (year, month - 3),
        false => (year - 1, month + 9),
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_1970() {
        assert_eq!(parse_date("1970-01-01"), Some(0));
        assert_eq!(parse_date("2000-02-29"), Some(951_782_400));
        assert_eq!(parse_date("2006-06-17T16:01:21"), Some(1_150_560_081));
        for bad in ["foo", "2006-13-01", "2006-06", "2006-06-17T25:00:00", "-1-1-1"] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn uuids_have_the_usual_form() {
        let bytes = parse_uuid("4be30d9d-1f1f-49f0-aa27-f38fc66f594c").unwrap();
        assert_eq!((bytes[0], bytes[15]), (0x4b, 0x4c));
        assert_eq!(parse_uuid("foo"), None);
        assert_eq!(parse_uuid("4be30d9d-1f1f-49f0-aa27-f38fc66f594é"), None);
    }
}
