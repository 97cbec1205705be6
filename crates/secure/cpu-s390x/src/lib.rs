//! A z/Architecture core: decodes once into blocks, executes by a tight loop, takes interruptions precisely.
//!
//! The core owns what hardware owns: translation, storage keys, timers, SIGP, interruption queues and the
//! lowcore. It knows nothing of devices, SCLP or the machine: those instructions leave as
//! [`cloister_arch::s390x::Exit`].
#![forbid(unsafe_code)]

mod access;
mod control;
mod cpu;
mod dat;
mod decode;
mod facility;
mod insn;
mod interrupt;
mod lowcore;
mod lower;
mod op;
mod profile;
mod run;
mod sigp;
mod state;
mod system;
mod time;
mod translate;

pub use cloister_jit::Statistics;
pub use decode::decode_any;
pub use facility::{ABSENT, FACILITIES};
pub use system::{
    CoreExit, Error, OperandFault, PageView, RunLimit, SecureGuest, System, UvcAnswer, UvcOperands,
};
pub use translate::Tiering;
