//! The monitor for people: one line in, text out, with the names and layouts of QEMU's.
//!
//! It decides nothing about the machine, which is behind [`Operator`], and speaks no QMP; that crate calls
//! [`command`] for `human-monitor-command`.
#![forbid(unsafe_code)]

use cloister_control::Operator;

/// Runs one line and gives its output, with CRLF line ends as QEMU has them through QMP. Errors are text as well.
pub fn command(operator: &Operator, line: &str, cpu: Option<u16>) -> String {
    let _ = (operator, cpu);
    match line.split_whitespace().next() {
        None => String::new(),
        Some("help" | "?") => "help|? [cmd] -- show the help\r\n".to_owned(),
        Some(other) => format!("unknown command: '{other}'\r\n"),
    }
}
