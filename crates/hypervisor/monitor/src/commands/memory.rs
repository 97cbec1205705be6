//! Guest memory as the host sees it: of a protected guest's private pages, ciphertext or nothing. Looking converts no
//! page.

use crate::call::Call;
use crate::save;
use crate::table::{Command, Reply, Requires};
use crate::types::{Enum, Struct, Type, member, optional};
use cloister_control::ControlError;
use cloister_memory_map::MemoryMap;
use serde_json::{Value, json};

/// Ranges that `query-confidential-memory` names unless it is asked for more.
const RANGES: i64 = 1024;

/// Bytes of a page of the architecture.
const PAGE: u64 = 4096;

/// Most ranges that it names.
const MOST_RANGES: i64 = 1 << 16;

const STATE: Enum =
    Enum { name: "PageState", values: &["private", "exported", "shared", "lost", "untouched"] };

const RANGE: Struct = Struct::new(
    "ConfidentialMemoryRange",
    &[
        member("start", Type::Unsigned(64)),
        member("length", Type::Unsigned(64)),
        member("state", Type::Enum(&STATE)),
    ],
);

const HOST_VIEW: Struct = Struct::new(
    "ConfidentialMemoryHostView",
    &[
        member("state", Type::Enum(&STATE)),
        member("sampled", Type::Unsigned(64)),
        member("entropy", Type::Number),
    ],
);

const CONVERSIONS: Struct = Struct::new(
    "ConfidentialMemoryConversions",
    &[
        member("unpacked", Type::Unsigned(64)),
        member("cleared", Type::Unsigned(64)),
        member("imported", Type::Unsigned(64)),
        member("exported", Type::Unsigned(64)),
        member("shared", Type::Unsigned(64)),
        member("unshared", Type::Unsigned(64)),
        member("destroyed", Type::Unsigned(64)),
    ],
);

const MEMORY: Struct = Struct::new(
    "ConfidentialMemory",
    &[
        member("platform", Type::Str),
        member("model", Type::Bool),
        member("size", Type::Unsigned(64)),
        member("page-size", Type::Unsigned(64)),
        member("private", Type::Unsigned(64)),
        member("exported", Type::Unsigned(64)),
        member("shared", Type::Unsigned(64)),
        member("lost", Type::Unsigned(64)),
        member("untouched", Type::Unsigned(64)),
        member("conversions", Type::Struct(&CONVERSIONS)),
        member("host-view", Type::List(&Type::Struct(&HOST_VIEW))),
        member("ranges", Type::List(&Type::Struct(&RANGE))),
        member("more-ranges", Type::Unsigned(64)),
    ],
);

const GUEST: Struct = Struct::new(
    "ConfidentialGuest",
    &[
        optional("mechanism", Type::Str),
        optional("id", Type::Str),
        optional("secure", Type::Bool),
        member("platform", Type::Str),
        member("model", Type::Bool),
    ],
);

pub(crate) const ROWS: &[Command] = &[
    Command::new(
        "memsave",
        "Writes guest memory from a logical address of a CPU to a file, as the host sees it. The file is written \
         completely or not at all.",
        memsave,
    )
    .takes(&[
        member("val", Type::Int),
        member("size", Type::Int),
        member("filename", Type::Str),
        optional("cpu-index", Type::Int),
    ]),
    Command::new(
        "pmemsave",
        "Writes guest memory from an absolute address to a file, as the host sees it. The file is written completely \
         or not at all.",
        pmemsave,
    )
    .takes(&[member("val", Type::Int), member("size", Type::Int), member("filename", Type::Str)]),
    Command::new(
        "query-confidential-guest",
        "Ours: how the guest is protected (`mechanism` is absent if nothing protects it), whether it is now (absent if \
         the platform cannot tell), and on what platform; `model` is true if that protects nobody.",
        query_guest,
    )
    .returns(Type::Struct(&GUEST))
    .oob(),
    Command::new(
        "query-confidential-memory",
        "Ours: who owns each page, conversions so far, and what the host finds in pages of each state (mean entropy in \
         bits per byte). `max-ranges` bounds the list of ranges; 1024 without it.",
        query_memory,
    )
    .takes(&[optional("max-ranges", Type::Int)])
    .returns(Type::Struct(&MEMORY))
    .requires(Requires::Guest),
];

fn memsave(call: &Call<'_>) -> Reply {
    let cpu = call.int("cpu-index").unwrap_or(0);
    let known = call.machine().cpus().into_iter().find(|known| i64::from(known.index) == cpu);
    let cpu = known.ok_or_else(|| ControlError::new("Parameter 'cpu-index' expects a CPU number"))?.index;
    let vm = call.vm()?;
    let address = call.int("val").unwrap_or_default().cast_unsigned();
    let size = size(call)?;
    let invalid = || ControlError::new(format!("Invalid addr 0x{address:016x}/size {size} specified"));
    // Before a byte is written, so that nothing is left behind by a refusal.
    address.checked_add(size).ok_or_else(invalid)?;
    if size > vm.memory().size() {
        return Err(too_much(size, vm.memory().size()));
    }
    // Translated while no CPU runs, read afterwards: the guest does not wait for the file.
    let translate = || -> Result<Vec<u64>, ControlError> {
        let first = address / PAGE;
        let end = if size == 0 { first } else { (address + size).div_ceil(PAGE) };
        (first..end).map(|page| Ok(vm.translate(cpu, page * PAGE)?.ok_or_else(invalid)?.absolute)).collect()
    };
    let mut pages = Ok(Vec::new());
    call.machine().at_rest(&mut || pages = translate())?;
    let pages = pages?;
    save::write_file(call.required("filename"), address, size, |at, chunk| {
        let page = usize::try_from(at / PAGE - address / PAGE).ok().and_then(|index| pages.get(index));
        let absolute = page.ok_or_else(invalid)? + at % PAGE;
        vm.memory().peek(absolute, chunk).map_err(|_| invalid())
    })
}

fn pmemsave(call: &Call<'_>) -> Reply {
    let vm = call.vm()?;
    let address = call.int("val").unwrap_or_default().cast_unsigned();
    let size = size(call)?;
    let memory = vm.memory().size();
    if address.checked_add(size).is_none_or(|end| end > memory) {
        return Err(ControlError::new(format!(
            "Invalid addr 0x{address:016x}/size {size} specified: guest memory ends at 0x{memory:x}"
        )));
    }
    save::write_file(call.required("filename"), address, size, |at, chunk| {
        let refused = |error| ControlError::new(format!("Could not read guest memory at 0x{at:x}: {error}"));
        vm.memory().peek(at, chunk).map_err(refused)
    })
}

fn size(call: &Call<'_>) -> Result<u64, ControlError> {
    let size = call.int("size").unwrap_or_default();
    u64::try_from(size).map_err(|_| ControlError::new(format!("Parameter 'size' expects a size, not {size}")))
}

fn too_much(size: u64, memory: u64) -> ControlError {
    ControlError::new(format!("Parameter 'size' expects at most the guest's {memory} bytes, not {size}"))
}

fn query_guest(call: &Call<'_>) -> Reply {
    let facts = call.machine().facts();
    let mut out = json!({ "platform": facts.platform, "model": facts.model });
    if let (Some(guest), Value::Object(members)) = (call.machine().confidential(), &mut out) {
        members.insert("mechanism".into(), json!(guest.qom_type));
        if let Some(id) = guest.id {
            members.insert("id".into(), json!(id));
        }
        if let Some(secure) = guest.secure {
            members.insert("secure".into(), json!(secure));
        }
    }
    Ok(out)
}

fn query_memory(call: &Call<'_>) -> Reply {
    let limit = call.int("max-ranges").unwrap_or(RANGES).clamp(0, MOST_RANGES);
    let map = MemoryMap::observe(call.vm()?).map_err(|error| ControlError::new(error.to_string()))?;
    let report = map.report(usize::try_from(limit).unwrap_or_default());
    serde_json::to_value(report)
        .map_err(|error| ControlError::new(format!("the report cannot be written: {error}")))
}
