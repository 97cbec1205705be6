//! Dumps of the guest.

use crate::arguments::Arguments;
use crate::{Answer, Monitor, Refusal};
use cloister_control::{DumpProgress, DumpStatus};
use cloister_dump::{Command, Target};

/// `dump-guest-memory`.
pub(crate) fn dump(monitor: &mut Monitor, arguments: &Arguments) -> Answer {
    let formats = [('z', "kdump-zlib"), ('l', "kdump-lzo"), ('s', "kdump-snappy"), ('w', "win-dmp")];
    let mut given = formats.iter().filter(|(flag, _)| arguments.has(*flag));
    let format = given.next().map(|(_, name)| (*name).to_owned());
    if given.next().is_some() {
        return Err(Refusal::error("only one of '-z|-l|-s|-w' can be set"));
    }
    let number = |index| arguments.number(index).map(u64::cast_signed);
    let asked = Command {
        paging: arguments.has('p'),
        detach: arguments.has('d'),
        begin: number(0),
        length: number(1),
        format,
    };
    let open = || Ok(Target::File(arguments.text().into()));
    cloister_dump::command(&monitor.operator.machine, &asked, open)?;
    Ok(String::new())
}

/// `info dump`.
pub(crate) fn info(monitor: &mut Monitor, _: &Arguments) -> Answer {
    let DumpProgress { status, completed, total } = monitor.operator.machine.dump_progress();
    let mut out = format!("Status: {}\n", status.name());
    if status == DumpStatus::Active {
        let percent = 100.0 * completed as f64 / total as f64;
        out.push_str(&format!("Finished: {percent:.2} %\n"));
    }
    Ok(out)
}
