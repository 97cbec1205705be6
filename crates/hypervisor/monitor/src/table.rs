//! The one table of commands and events. Each row says everything about a command once: dispatch, `query-commands`,
//! `query-qmp-schema` and `docs/qmp.md` all read it.
//!
//! A mechanism adds its commands as a slice of rows in a module of its own and a line in [`FAMILIES`].

use crate::call::Call;
use crate::commands::{
    block, catalogue, cpu_model, devices, fds, human, machine, memory, migration, objects, qom, run, session,
    sev,
};
use crate::types::{Member, Type, check_members, member, optional};
use cloister_control::{ControlError, ErrorClass, Operator};
use cloister_options::{Catalogue, Target};
use serde_json::{Map, Value};

/// All rows.
const FAMILIES: &[&[Command]] = &[
    session::ROWS,
    run::ROWS,
    catalogue::ROWS,
    machine::ROWS,
    devices::ROWS,
    block::ROWS,
    qom::ROWS,
    objects::ROWS,
    cpu_model::ROWS,
    memory::ROWS,
    migration::ROWS,
    fds::ROWS,
    human::ROWS,
    sev::ROWS,
];

/// What a handler answers.
pub type Reply = Result<Value, ControlError>;

/// Carries a command out. It runs on a thread of the monitor's and may wait; its arguments have been checked.
pub type Handler = fn(&Call<'_>) -> Reply;

/// A command.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a line or two.
    pub doc: &'static str,
    /// What it takes.
    pub arguments: Arguments,
    /// What it returns; `None` is the empty object.
    pub returns: Option<Type>,
    /// It may overtake others with `exec-oob`. Its handler must not wait.
    pub allow_oob: bool,
    /// It works before the machine exists (`-preconfig`).
    pub allow_preconfig: bool,
    /// Targets that have it; empty means all. Elsewhere it is not listed and not found.
    pub targets: &'static [Target],
    /// What must be so for it to work.
    pub requires: Requires,
    pub(crate) handler: Handler,
}

/// What a command takes.
#[derive(Clone, Copy, Debug)]
pub enum Arguments {
    /// These.
    Members(&'static [Member]),
    /// These and others; its handler checks them all.
    Open(&'static [Member]),
    /// Those of `object-add`.
    ObjectOptions,
}

/// What must be so for a command to work. The command is listed in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requires {
    /// Nothing.
    Nothing,
    /// A guest: not `-machine none`.
    Guest,
    /// This mechanism protects the guest.
    Mechanism {
        /// Its object type.
        object: &'static str,
        /// The refusal.
        otherwise: &'static str,
    },
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub struct EventSpec {
    /// Its name.
    pub name: &'static str,
    /// When it comes.
    pub doc: &'static str,
    /// Its data.
    pub data: &'static [Member],
    /// At most one in a second, the last one wins.
    pub limited: bool,
}

impl Command {
    /// A command without arguments and result.
    pub const fn new(name: &'static str, doc: &'static str, handler: Handler) -> Self {
        Self {
            name,
            doc,
            arguments: Arguments::Members(&[]),
            returns: None,
            allow_oob: false,
            allow_preconfig: false,
            targets: &[],
            requires: Requires::Nothing,
            handler,
        }
    }

    /// It takes these.
    #[must_use]
    pub const fn takes(mut self, members: &'static [Member]) -> Self {
        self.arguments = Arguments::Members(members);
        self
    }

    /// It takes these and others; its handler checks them all.
    #[must_use]
    pub const fn takes_any(mut self, members: &'static [Member]) -> Self {
        self.arguments = Arguments::Open(members);
        self
    }

    /// It takes what `object-add` takes.
    #[must_use]
    pub const fn takes_object(mut self) -> Self {
        self.arguments = Arguments::ObjectOptions;
        self
    }

    /// It returns this.
    #[must_use]
    pub const fn returns(mut self, kind: Type) -> Self {
        self.returns = Some(kind);
        self
    }

    /// It may overtake others.
    #[must_use]
    pub const fn oob(mut self) -> Self {
        self.allow_oob = true;
        self
    }

    /// It works before the machine exists.
    #[must_use]
    pub const fn preconfig(mut self) -> Self {
        self.allow_preconfig = true;
        self
    }

    /// Only these targets have it.
    #[must_use]
    pub const fn only_for(mut self, targets: &'static [Target]) -> Self {
        self.targets = targets;
        self
    }

    /// It needs this.
    #[must_use]
    pub const fn requires(mut self, requires: Requires) -> Self {
        self.requires = requires;
        self
    }

    /// Whether a target has it.
    pub fn is_for(&self, target: Target) -> bool {
        self.targets.is_empty() || self.targets.contains(&target)
    }

    /// Checks the arguments and whether it can work now, then carries it out.
    pub(crate) fn run(&self, call: &Call<'_>) -> Reply {
        self.check(&call.operator().catalogue, call.arguments()).map_err(ControlError::new)?;
        self.requires.check(call.operator())?;
        (self.handler)(call)
    }

    fn check(&self, catalogue: &Catalogue, arguments: &Map<String, Value>) -> Result<(), String> {
        match self.arguments {
            Arguments::Members(members) => check_members(members, false, catalogue, "", arguments),
            Arguments::Open(_) => Ok(()),
            Arguments::ObjectOptions => {
                Type::ObjectOptions.check(catalogue, "", &Value::Object(arguments.clone()))
            }
        }
    }
}

impl Requires {
    fn check(self, operator: &Operator) -> Result<(), ControlError> {
        match self {
            Self::Nothing => Ok(()),
            Self::Guest if operator.machine.facts().machine == "none" => {
                Err(ControlError::new("the machine 'none' has no CPUs and no memory; start one that has"))
            }
            Self::Guest => Ok(()),
            Self::Mechanism { object, otherwise } => {
                match operator.machine.confidential().is_some_and(|guest| guest.qom_type == object) {
                    true => Ok(()),
                    false => Err(ControlError::new(otherwise)),
                }
            }
        }
    }
}

/// Every command of a target.
pub fn commands(target: Target) -> impl Iterator<Item = &'static Command> {
    FAMILIES.iter().copied().flatten().filter(move |command| command.is_for(target))
}

/// The command with this name.
pub(crate) fn find(target: Target, name: &str) -> Result<&'static Command, ControlError> {
    commands(target).find(|command| command.name == name).ok_or_else(|| ControlError {
        class: ErrorClass::CommandNotFound,
        text: format!("The command {name} has not been found"),
    })
}

const CAUSE: &[Member] = &[member("guest", Type::Bool), member("reason", Type::Enum(&run::SHUTDOWN_CAUSE))];

/// Every event.
pub const EVENTS: &[EventSpec] = &[
    EventSpec {
        name: "SHUTDOWN",
        doc: "The machine ends, or the guest powered itself off.",
        data: CAUSE,
        limited: false,
    },
    EventSpec { name: "RESET", doc: "The machine was reset.", data: CAUSE, limited: false },
    EventSpec {
        name: "POWERDOWN",
        doc: "The guest was asked to power itself off.",
        data: &[],
        limited: false,
    },
    EventSpec { name: "STOP", doc: "CPUs stopped.", data: &[], limited: false },
    EventSpec { name: "RESUME", doc: "CPUs run.", data: &[], limited: false },
    EventSpec {
        name: "DEVICE_DELETED",
        doc: "A device is gone; its id can be used again.",
        data: &[optional("device", Type::Str), member("path", Type::Str)],
        limited: false,
    },
    EventSpec {
        name: "GUEST_PANICKED",
        doc: "The guest crashed with a disabled wait. A confidential guest's PSW is not told.",
        data: &[
            member("action", Type::Enum(&run::PANIC_ACTION)),
            optional("info", Type::Union(&run::PANIC_INFORMATION)),
        ],
        limited: false,
    },
    EventSpec {
        name: "BALLOON_CHANGE",
        doc: "The guest keeps another amount of memory: bytes.",
        data: &[member("actual", Type::Int)],
        limited: true,
    },
    EventSpec {
        name: "VSERPORT_CHANGE",
        doc: "The guest opened or closed a port of a virtio-serial device.",
        data: &[member("id", Type::Str), member("open", Type::Bool)],
        limited: true,
    },
    EventSpec {
        name: "WATCHDOG",
        doc: "The guest's watchdog expired.",
        data: &[member("action", Type::Enum(&devices::WATCHDOG_ACTION))],
        limited: true,
    },
];
