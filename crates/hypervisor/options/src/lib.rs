//! QEMU's command-line grammar: one description of every option, object, device, machine and CPU model serves the
//! parser and the help texts, and the result is a typed [`CommandLine`] that needs no further checks of form.
//!
//! This crate reads text and nothing else: it opens no file, creates no device and knows no mechanism of
//! confidential guests. What an object or a device *does* belongs to the crates that make them.
#![forbid(unsafe_code)]

mod blockdev;
mod catalogue;
mod chardev;
mod command_line;
mod devno;
mod error;
mod flat;
mod help;
mod inject;
mod introspection;
mod invocation;
mod items;
mod keyval;
mod netdev;
mod parser;
mod process;
mod schema;
mod smp;
mod table;
mod tables;
mod value;
mod version;

pub use blockdev::{
    Backing, BlockNode, Blockdev, DetectZeroes, NodeDriver, parse_blockdev_json, parse_blockdev_text,
};
pub use catalogue::{
    Catalogue, CpuModel, DeviceType, MachineCapabilities, MachineType, ObjectRole, ObjectType,
};
pub use chardev::{
    CharBackend, Chardev, FdName, SocketAddress, SocketSpec, parse_chardev_json, parse_chardev_short,
    parse_chardev_text,
};
pub use command_line::{
    AccelSpec, Boot, CommandLine, ConfidentialGuestRef, CpuSpec, DeviceSpec, Display, Drive, DriveFormat,
    DriveInterface, DriveMedia, ErrorAction, Icount, IcountShift, LogOptions, MachineOptions, MemoryOptions,
    Monitor, MonitorMode, ObjectSpec, Rtc, RtcBase, RtcClock, Smp,
};
pub use devno::DeviceNumber;
pub use error::{Location, OptionError, Problem, Warning};
pub use flat::{FlatOptions, parse_flat, print_flat};
pub use inject::Injection;
pub use introspection::{
    OptionInfo, ParameterInfo, ParameterKind, command_line_options, command_line_options_json,
};
pub use invocation::{Command, Invocation, Target, classify};
pub use items::{
    Present, check_device, parse_device_json, parse_device_text, parse_object_json, parse_object_text,
};
pub use keyval::{Keyval, parse_keyval, print_keyval};
pub use netdev::{
    DgramNet, Forward, NetBackend, Netdev, StreamNet, TapNet, UserNet, parse_netdev_json, parse_netdev_text,
};
pub use parser::{Outcome, parse};
pub use process::{
    Actions, AddFd, MemoryMap, PanicAction, PictureFormat, Privileges, RebootAction, Sandbox, ShutdownAction,
    WatchdogAction,
};
pub use schema::{Key, Kind, OnOffAuto, Properties, PropertyValue};
pub use table::{Argument, OptionSpec, Section, options};
pub use tables::cpus::feature_names as s390x_feature_names;
pub use tables::cpus_x86::{X86_DEFAULT_CPU, x86_cpu_signature, x86_feature_names};
pub use value::{SizeError, parse_bool, parse_identifier, parse_mac, parse_number, parse_size};
pub use version::{EMULATED_QEMU_VERSION, version_text};
