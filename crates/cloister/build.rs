//! Assembles the demo guest from `guests/s390x/demo.s`.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let source = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../guests/s390x/demo.s");
    let guest = cloister_asm_s390x::assemble_file(source)?;
    for source in &guest.sources {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    // Where the host says that it has looked (the demo's part of the handshake).
    let symbol = |name| guest.symbol(name).ok_or(format!("demo.s defines no {name}"));
    println!("cargo:rustc-env=DEMO_HOST_LOOKED={}", symbol("SHARED")? + symbol("HOST_LOOKED")?);
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("demo.bin"), &guest.bytes)?;
    println!("cargo:rerun-if-changed=build.rs");
    Ok(())
}
