//! Instructions per second of three endless loops: arithmetic, storage, branches; then with a debugger that has set a
//! breakpoint, a watchpoint and both elsewhere. `loops [SECONDS]`
//!
//! Upper bounds, not the speed of a kernel; for that there is the `boot` example.

use cloister_arch::s390x::{GuestDebug, Psw, RunState, TimeMode, VmConfig, WatchKind, Watchpoint, facility};
use cloister_cpu_s390x::{FACILITIES, RunLimit, System};
use cloister_memory::Storage;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
        let storage = Arc::new(Storage::new(1 << 20)?);
        storage.ram().copy_in(object.origin as usize, &object.bytes);
        let mut facilities = [0; 4];
        FACILITIES.iter().for_each(|&bit| facility::set(&mut facilities, bit, true));
        let config = VmConfig {
            memory_bytes: storage.size(),
            max_cpus: 1,
            facilities,
            cpu_id: 0,
            time: TimeMode::Real,
            tod_start: None,
            name: "loops".into(),
            uuid: [0; 16],
        };
        let system = System::new(config, storage)?;
        let mut state = system.state(0)?;
        state.psw = Psw { mask: Psw::EA | Psw::BA, addr: 0x2000 };
        state.run_state = RunState::Operating;
        system.set_state(0, &state)?;
        let limit = RunLimit { instructions: Some(5_000_000), block: false };
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
            let mut best = f64::MAX;
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(seconds) {
                let begin = Instant::now();
                system.run(0, limit, None)?;
                best = best.min(begin.elapsed().as_secs_f64());
            }
            let label = format!("{name}{setting}");
            println!("{label:<36} {:6.0} million instructions a second", 5.0 / best);
        }
    }
    Ok(())
}
