//! Instructions per second of three endless loops: arithmetic, storage, branches; then with a debugger that has set a
//! breakpoint, a watchpoint and both elsewhere. `loops [SECONDS]`
//!
//! Upper bounds, not the speed of a kernel; for that there is the `boot` example.

mod bare;

use cloister_arch::s390x::{GuestDebug, WatchKind, Watchpoint};
use std::time::Duration;

const LOOPS: [(&str, &str); 3] = [
    (
        "arithmetic",
        "0: agr %r2,%r3; xgr %r4,%r2; sllg %r5,%r4,3; aghi %r3,7; ogr %r6,%r5; lgr %r7,%r6; sgr %r7,%r2; j 0b",
    ),
    (
        "storage",
        "llilf %r1,0x8000; 0: lg %r2,0(%r1); ag %r2,8(%r1); stg %r2,16(%r1); l %r3,24(%r1); st %r3,28(%r1)
         llgc %r4,33(%r1); mvc 64(16,%r1),0(%r1); j 0b",
    ),
    (
        "branches",
        "0: aghi %r2,1; cgij %r2,0,8,1f; tmll %r2,1; je 1f; ltgr %r3,%r2; jne 2f; 1: aghi %r4,1
         2: clgr %r4,%r2; jh 3f; aghi %r5,1; 3: j 0b",
    ),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(1), |word| word.parse())?;
    for (name, program) in LOOPS {
        let object = cloister_asm_s390x::assemble(&format!(".origin 0x2000\n{program}"), "loops.s")?;
        let system = bare::machine("loops", 1 << 20, &object.bytes, |_| {})?;
        let breakpoint = GuestDebug { breakpoints: vec![0x2003, 0x9000], ..GuestDebug::default() };
        let watch = |address| vec![Watchpoint { address, len: 8, kind: WatchKind::Write }];
        let elsewhere = GuestDebug { watchpoints: watch(0xf000), ..GuestDebug::default() };
        let same_page = GuestDebug { watchpoints: watch(0x8800), ..GuestDebug::default() };
        for (setting, debug) in [
            ("", GuestDebug::default()),
            (", breakpoint", breakpoint),
            (", watchpoint", elsewhere),
            (", watchpoint in the page", same_page),
        ] {
            system.set_guest_debug(0, &debug)?;
            let best = bare::fastest(&system, 5_000_000, Duration::from_secs(seconds))?;
            let label = format!("{name}{setting}");
            println!("{label:<36} {:6.0} million instructions a second", 5.0 / best);
        }
    }
    Ok(())
}
