//! Assembles the demo guest from `guests/s390x/demo.s`.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let source = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../guests/s390x/demo.s");
    let guest = cloister_asm_s390x::assemble_file(source)?;
    for source in &guest.sources {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("demo.bin"), &guest.bytes)?;
    println!("cargo:rerun-if-changed=build.rs");
    Ok(())
}
